//! One node: all shards on one log.
//!
//! Owns: the order of things within a turn. Does not own: a shard (`shard`), nor who hears what.
//!
//! A turn: take what has arrived; apply what is decided; make everything that all shards have written
//! durable, with one sync; only then send.

use std::io::{BufReader, BufWriter, Write as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use indelible::{Durability, Options};
use indelible_groups::{Groups, GroupsOptions};

use crate::frames::{self, Body, Counts, Frame};
use crate::shard::{self, Shard};
use crate::{Outcome, SHARDS};

/// Length of a tick of OmniPaxos' logical clock.
const TICK: Duration = Duration::from_millis(20);
/// Most frames taken in one turn.
const TURN_FRAMES: usize = 1024;
/// Small segments, so that a run of some seconds fills and trims some.
const SEGMENT_BYTES: u64 = 256 * 1024;
/// The shard that nobody compacts, because one node lags.
pub(crate) const LAGGING: u64 = 7;

struct Node {
    groups: Groups,
    shards: Vec<Shard>,
    turns: u64,
    /// What leaves after the sync.
    outgoing: Vec<Frame>,
}

/// Runs a node until its input ends or the process is killed.
pub(crate) fn serve(id: u64, dir: &Path, new: bool) -> Outcome<()> {
    let log = Options::new().durability(Durability::Barrier).segment_bytes(SEGMENT_BYTES);
    let options = GroupsOptions::new().log(log);
    // A node that has lost its log must not pretend to be itself.
    let groups = if new { Groups::create(dir, &options)? } else { Groups::open(dir, &options)? };
    if new {
        shard::create_all(&groups)?;
        groups.sync()?;
    }
    let shards = shard::open_all(&groups, id)?;
    let node = Node { groups, shards, turns: 0, outgoing: Vec::new() };
    let (arrived, inbox) = channel();
    std::thread::spawn(move || {
        let mut input = BufReader::new(std::io::stdin().lock());
        while let Ok(frame) = frames::read(&mut input) {
            if arrived.send(frame).is_err() {
                return;
            }
        }
    });
    node.run(&inbox)
}

impl Node {
    fn run(mut self, inbox: &Receiver<Vec<u8>>) -> Outcome<()> {
        let mut output = BufWriter::new(std::io::stdout().lock());
        self.outgoing.push(self.counts());
        let mut next_tick = Instant::now() + TICK;
        loop {
            match inbox.recv_timeout(next_tick.saturating_duration_since(Instant::now())) {
                Ok(frame) => self.handle(&frame)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            for frame in inbox.try_iter().take(TURN_FRAMES) {
                self.handle(&frame)?;
            }
            if Instant::now() >= next_tick {
                // One tick however late: time that this process slept says nothing about its peers.
                next_tick = Instant::now() + TICK;
                self.shards.iter_mut().for_each(Shard::tick);
            }
            for shard in &mut self.shards {
                shard.apply(&mut self.outgoing)?;
                if shard.group() % SHARDS != LAGGING {
                    shard.compact();
                }
            }
            self.turns += 1;
            // Makes every promise and every accepted entry of all shards durable. A crash just before
            // loses only what nobody has been told.
            self.groups.sync()?;
            for shard in &mut self.shards {
                self.outgoing.extend(shard.messages());
            }
            for frame in self.outgoing.drain(..) {
                frames::write(&mut output, &frame.to_bytes())?;
            }
            output.flush()?;
            for shard in &mut self.shards {
                if shard.follow()? {
                    let group = shard.group() % SHARDS;
                    self.outgoing.push(Frame { to: 0, group, body: Body::Moved });
                }
            }
        }
    }

    fn handle(&mut self, frame: &[u8]) -> Outcome<()> {
        let Frame { group, body, .. } = Frame::decode(frame)?;
        let nth = usize::try_from(group % SHARDS)?;
        let shard = self.shards.get_mut(nth).ok_or("there is no such shard")?;
        match body {
            Body::Paxos(message) => self.outgoing.extend(shard.receive(group, message)?),
            Body::Transfer(snapshot) => shard.transferred(group, snapshot)?,
            Body::Reconnected(peer) => {
                self.shards.iter_mut().for_each(|shard| shard.reconnected(peer));
            }
            Body::Submit(command) => shard.submit(command),
            Body::Move if shard.group() >= SHARDS => {
                self.outgoing.push(Frame { to: 0, group, body: Body::Moved });
            }
            Body::Move => shard.propose_move(),
            Body::Dump => {
                self.outgoing.extend(self.shards.iter().map(Shard::held));
                self.outgoing.push(self.counts());
            }
            Body::Done { .. } | Body::Moved | Body::Held(_) | Body::Counts(_) => {
                return Err("a frame that only nodes send".into());
            }
        }
        Ok(())
    }

    fn counts(&self) -> Frame {
        let stats = self.groups.stats();
        let counts = Counts {
            turns: self.turns,
            syncs: stats.log.syncs,
            carried: stats.carried_records,
            trimmed: self.groups.log().first(),
        };
        Frame { to: 0, group: 0, body: Body::Counts(counts) }
    }
}
