//! A run: the load, what happens to the nodes meanwhile, and the end.
//!
//! Owns: when what happens. Does not own: the processes (`cluster`), the verdict (`check`).

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::check::{Dump, check};
use crate::cluster::Cluster;
use crate::frames::{Body, Counts};
use crate::kv::Command;
use crate::node::LAGGING;
use crate::{Choices, NODES, Outcome, SHARDS};

/// Commands of one shard in flight.
const WINDOW: usize = 8;
/// After this long a command is sent again, to another node.
const RESEND: Duration = Duration::from_millis(700);
/// How long a node that was killed stays down.
const DOWN: Duration = Duration::from_millis(300);
/// A run that does not get on for so long has failed.
const STUCK: Duration = Duration::from_secs(120);
/// The shard that moves.
const MOVING: u64 = 5;

/// The command with this id. Every fourth reads.
fn command(id: u64) -> Command {
    let key = format!("key {}", id % 997);
    if id % 4 == 3 {
        Command::Look { id, key }
    } else {
        Command::Put {
            id,
            key,
            value: format!("value {id} {}", "=".repeat(usize::from(id.is_multiple_of(5)) * 90)),
        }
    }
}

fn shard_of(id: u64) -> u64 {
    id % SHARDS
}

/// A command that was not acknowledged.
struct InFlight {
    node: u64,
    since: Instant,
}

struct Run<'c> {
    choices: &'c Choices,
    cluster: Cluster,
    in_flight: BTreeMap<u64, InFlight>,
    /// The next command of each shard.
    next: Vec<u64>,
    /// Shard, id, index.
    acknowledged: Vec<(u64, u64, u64)>,
    progress: Instant,
    random: u64,
    killed: u64,
    /// A node that is down, and since when.
    down: Option<(u64, Instant)>,
    /// When the move was last asked for; nothing before half of the run is over, or once it is done.
    moving: Option<Instant>,
    moved: bool,
    counts: BTreeMap<u64, Counts>,
}

/// Returns whether nothing was lost.
pub(crate) fn run(choices: &Choices) -> Outcome<bool> {
    let temporary;
    let dir: &Path = if let Some(dir) = &choices.dir {
        dir
    } else {
        temporary = tempfile::tempdir()?;
        temporary.path()
    };
    let mut run = Run {
        choices,
        cluster: Cluster::new(dir.to_owned()),
        in_flight: BTreeMap::new(),
        next: (0..SHARDS).map(|shard| if shard == 0 { SHARDS } else { shard }).collect(),
        acknowledged: Vec::new(),
        progress: Instant::now(),
        random: choices.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        killed: 0,
        down: None,
        moving: None,
        moved: false,
        counts: BTreeMap::new(),
    };
    run.start_all(true)?;
    println!("{SHARDS} groups on each of three nodes, one log each, in {}", dir.display());
    run.load()?;
    let carried: u64 = run.counts.values().map(|counts| counts.carried).sum();
    run.end(carried)
}

impl Run<'_> {
    fn number(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn start_all(&mut self, new: bool) -> Outcome<()> {
        for node in NODES {
            self.cluster.start(node, new)?;
        }
        self.counts.clear();
        self.progress = Instant::now();
        while self.counts.len() < NODES.len() {
            self.take()?;
        }
        Ok(())
    }

    /// Takes what a node says to us, if one does soon.
    fn take(&mut self) -> Outcome<Option<(u64, u64, crate::frames::Held)>> {
        if self.progress.elapsed() > STUCK {
            return Err("the cluster does not get on".into());
        }
        let Some((node, frame)) = self.cluster.next(Duration::from_millis(5))? else {
            return Ok(None);
        };
        match frame.body {
            Body::Done { id, index } => {
                if self.in_flight.remove(&id).is_some() {
                    self.acknowledged.push((frame.group, id, index));
                    self.progress = Instant::now();
                }
            }
            Body::Moved => self.moved = true,
            Body::Counts(counts) => drop(self.counts.insert(node, counts)),
            Body::Held(held) => return Ok(Some((node, frame.group, held))),
            other => return Err(format!("node {node} says {other:?}").into()),
        }
        Ok(None)
    }

    fn done(&self) -> u64 {
        u64::try_from(self.acknowledged.len()).unwrap_or(u64::MAX)
    }

    fn load(&mut self) -> Outcome<()> {
        let entries = self.choices.entries;
        let started = Instant::now();
        while self.done() < entries || self.down.is_some() || !self.moved {
            self.take()?;
            self.submit();
            self.disturb()?;
        }
        self.cluster.heal();
        println!(
            "{entries} commands in {:.1} s, {} kills",
            started.elapsed().as_secs_f64(),
            self.killed
        );
        for node in NODES {
            self.cluster.tell(node, 0, Body::Dump);
        }
        self.counts.clear();
        while self.counts.len() < NODES.len() {
            self.take()?;
        }
        for (node, counts) in &self.counts {
            println!(
                "node {node}: {} turns of all shards and {} syncs since its last start; \
                 {} records carried forward, log trimmed to {}",
                counts.turns, counts.syncs, counts.carried, counts.trimmed
            );
        }
        Ok(())
    }

    /// Fills the windows, and sends again what was not answered.
    fn submit(&mut self) {
        let entries = self.choices.entries;
        for shard in 0..SHARDS {
            let nth = usize::try_from(shard).unwrap_or(0);
            let mut flying = self.in_flight.keys().filter(|id| shard_of(**id) == shard).count();
            while let Some(next) = self.next.get_mut(nth)
                && flying < WINDOW
                && *next <= entries
            {
                let id = *next;
                *next += SHARDS;
                flying += 1;
                self.send(id, 0);
            }
        }
        let late = self.in_flight.iter().filter(|(_, flight)| flight.since.elapsed() > RESEND);
        let late: Vec<(u64, u64)> = late.map(|(id, flight)| (*id, flight.node)).collect();
        for (id, node) in late {
            self.send(id, node);
        }
    }

    /// Sends a command to a node that is up, another one than the last.
    fn send(&mut self, id: u64, last: u64) {
        let up: Vec<u64> = NODES.into_iter().filter(|node| self.cluster.is_up(*node)).collect();
        let others: Vec<u64> = up.into_iter().filter(|node| *node != last).collect();
        let below = u64::try_from(others.len()).unwrap_or(1).max(1);
        let nth = usize::try_from(self.number(below)).unwrap_or(0);
        let node = others.get(nth).copied().unwrap_or(last);
        self.cluster.tell(node, shard_of(id), Body::Submit(command(id)));
        self.in_flight.insert(id, InFlight { node, since: Instant::now() });
    }

    fn disturb(&mut self) -> Outcome<()> {
        let (entries, kills, done) = (self.choices.entries, self.choices.kills, self.done());
        if let Some((node, since)) = self.down {
            if since.elapsed() > DOWN {
                self.cluster.start(node, false)?;
                self.down = None;
            }
        } else if self.killed < kills && done > entries * (self.killed + 1) / (kills + 1) {
            let nth = usize::try_from(self.number(3))?;
            let node = NODES.get(nth).copied().unwrap_or(1);
            self.cluster.kill(node)?;
            println!("node {node} is killed at {done} commands");
            (self.killed, self.down) = (self.killed + 1, Some((node, Instant::now())));
        }
        if done > entries / 4 && done < entries * 3 / 4 {
            if self.cluster.lags.is_none() {
                println!("node 3 is cut off from shard {LAGGING} at {done} commands");
                self.cluster.lags = Some(3);
            }
        } else if self.cluster.lags.is_some() {
            println!("node 3 reaches shard {LAGGING} again at {done} commands");
            self.cluster.heal();
        }
        let ask = self.moving.map_or(done > entries / 2, |asked| asked.elapsed() > RESEND);
        if ask && !self.moved {
            let first = self.moving.replace(Instant::now()).is_none();
            if first {
                println!("shard {MOVING} is to move at {done} commands");
            }
            for node in NODES {
                self.cluster.tell(node, MOVING, Body::Move);
            }
        }
        Ok(())
    }

    /// Kills everything once more, and looks at what the logs hold.
    fn end(mut self, carried: u64) -> Outcome<bool> {
        for node in NODES {
            self.cluster.kill(node)?;
        }
        self.start_all(false)?;
        let started = Instant::now();
        let verdict = loop {
            let dumps = self.dump()?;
            let verdict = check(&dumps, &self.acknowledged, command);
            if verdict.lost + verdict.diverged == 0 || started.elapsed() > STUCK / 2 {
                let moved =
                    |dump: &Dump| dump.get(&MOVING).is_some_and(|(group, _)| *group >= SHARDS);
                if !dumps.values().all(moved) {
                    return Err(format!("shard {MOVING} has not moved everywhere").into());
                }
                break verdict;
            }
            self.progress = Instant::now();
        };
        verdict.notes.iter().take(10).for_each(|note| println!("{note}"));
        println!("shard {MOVING} has moved on every node, {carried} records were carried forward");
        println!(
            "acknowledged {}, lost {}, diverged {}",
            verdict.acknowledged, verdict.lost, verdict.diverged
        );
        Ok(verdict.lost + verdict.diverged == 0 && verdict.acknowledged == self.choices.entries)
    }

    fn dump(&mut self) -> Outcome<BTreeMap<u64, Dump>> {
        let mut dumps: BTreeMap<u64, Dump> = BTreeMap::new();
        self.counts.clear();
        for node in NODES {
            self.cluster.tell(node, 0, Body::Dump);
        }
        while self.counts.len() < NODES.len() {
            if let Some((node, group, held)) = self.take()? {
                dumps.entry(node).or_default().insert(group % SHARDS, (group, held));
            }
        }
        Ok(dumps)
    }
}
