//! One node: the loop that feeds OmniPaxos, applies what it decides, and answers.
//!
//! Owns: the order of things within a turn. Does not own: the log and its configurations
//! (`replica`), sockets (`net`), the state machine (`kv`).
//!
//! A turn: take what has arrived; apply what is decided and answer the clients who wait for it;
//! take the outgoing messages, which makes everything written in this turn durable with one sync;
//! only then send them. Whatever else tells the outside about promises (the status) leaves after
//! the sync as well.

mod moving;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use indelible::omnipaxos::AppendError;
use omnipaxos::ballot_leader_election::Ballot;
use omnipaxos::util::{LogEntry, NodeId};

use crate::failure::{Failure, Outcome, Why};
use crate::fitness::{Deputy, Room};
use crate::kv::{Command, Machine};
use crate::members::Place;
use crate::mend;
use crate::net::{Event, Events, Link, Replies};
use crate::protocol::{Dump, Oath, PeerFrame, Recovered, Reply, Request, Status};
use crate::replica::{Replica, SEGMENT_BYTES, StoreChoices};
use crate::wire::Paxos;

/// Length of a tick of OmniPaxos' logical clock.
const TICK: Duration = Duration::from_millis(10);
/// Most events taken in one turn, and the time after which no more are taken: heartbeats must not
/// wait for a long queue of writes.
const TURN_EVENTS: usize = 2048;
const TURN_TIME: Duration = Duration::from_millis(10);
/// How long a node that was asked to lead has to do so.
const HAND_OVER_EVERY: Duration = Duration::from_millis(300);
/// What a node is started with.
#[derive(Debug, Clone)]
pub(crate) struct NodeChoices {
    pub(crate) id: NodeId,
    pub(crate) dir: PathBuf,
    pub(crate) address: String,
    pub(crate) store: StoreChoices,
    /// Entries between two snapshots, at least.
    pub(crate) snapshot_every: usize,
    /// It may be disturbed on demand.
    pub(crate) supervised: bool,
    #[cfg(feature = "prometheus")]
    pub(crate) export: crate::export::Export,
}

/// A client that waits for a command, and the key it wants to read, if any.
struct Waiter {
    client: u64,
    key: Option<String>,
}

pub(crate) struct Node {
    choices: NodeChoices,
    place: Place,
    /// The place's configuration, for the greetings of new connections.
    config: Arc<AtomicU32>,
    /// None while joining, and after having been removed from the cluster.
    replica: Option<Replica>,
    recovered: Recovered,
    machine: Machine,
    inbox: Receiver<Event>,
    events: Events,
    links: HashMap<NodeId, Arc<Link>>,
    /// Newest incoming connection of each peer.
    epochs: HashMap<NodeId, u64>,
    clients: HashMap<u64, Replies>,
    /// Who waits for which command.
    waiting: HashMap<u64, Waiter>,
    /// Peers to which the network is cut, as far as a run wants that.
    isolated: BTreeSet<NodeId>,
    deputy: Arc<Deputy>,
    room: Room,
    /// When this node last asked another one to lead because of its disk.
    handed_over: Option<Instant>,
    /// The round in which this node last had a leader.
    round: Ballot,
    /// Answers that must not leave before the sync.
    held: Vec<(u64, Request)>,
    seen: HashMap<NodeId, Oath>,
    outgoing: Vec<Paxos>,
    compacted: usize,
    snapshots: u64,
    /// Syncs of the logs this process has closed.
    syncs: u64,
    started: Instant,
    wanted: Option<Instant>,
}

impl Node {
    /// Opens the log, or prepares to be given one by the others.
    pub(crate) fn start(
        choices: NodeChoices,
        place: Place,
        fresh: bool,
        events: Events,
        inbox: Receiver<Event>,
    ) -> Outcome<Self> {
        let mut node = Self {
            config: Arc::new(AtomicU32::new(place.members.config)),
            replica: None,
            recovered: Recovered::default(),
            machine: Machine::default(),
            inbox,
            events,
            links: HashMap::new(),
            deputy: Arc::default(),
            room: Room::new(),
            handed_over: None,
            epochs: HashMap::new(),
            clients: HashMap::new(),
            waiting: HashMap::new(),
            isolated: BTreeSet::new(),
            round: Ballot::default(),
            held: Vec::new(),
            seen: HashMap::new(),
            outgoing: Vec::new(),
            compacted: 0,
            snapshots: 0,
            syncs: 0,
            started: Instant::now(),
            wanted: None,
            choices,
            place,
        };
        if node.is_member() && !node.place.joining {
            let log = node.choices.dir.join("log");
            let choices = &node.choices;
            let (members, deputy) = (&node.place.members, &node.deputy);
            let opened = Replica::open(&log, choices.id, members, choices.store, fresh, deputy)?;
            node.recovered = opened.0.recovered().clone();
            node.compacted = opened.1.len();
            #[cfg(feature = "prometheus")]
            node.choices.export.show(Some(opened.0.handle().log()));
            (node.replica, node.machine) = (Some(opened.0), opened.1);
        }
        node.connect();
        Ok(node)
    }

    fn is_member(&self) -> bool {
        self.place.members.contains(self.choices.id)
    }

    /// Runs until the process is killed or something fails.
    pub(crate) fn run(mut self) -> Outcome<()> {
        let mut next_tick = Instant::now() + TICK;
        loop {
            let left = next_tick.saturating_duration_since(Instant::now());
            let received = self.inbox.recv_timeout(left);
            // Before anything is written, however long this process slept.
            self.mind_the_disk();
            match received {
                Ok(event) => self.handle(event)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            let turn = Instant::now();
            for _ in 0..TURN_EVENTS {
                let Ok(event) = self.inbox.try_recv() else {
                    break;
                };
                self.handle(event)?;
                if turn.elapsed() > TURN_TIME {
                    break;
                }
            }
            if Instant::now() >= next_tick {
                // One tick however late: time that this process slept says nothing about its peers.
                next_tick = Instant::now() + TICK;
                if let Some(replica) = &mut self.replica {
                    replica.paxos().tick();
                }
            }
            self.apply()?;
            self.refuse_after_election();
            self.compact();
            self.send()?;
            self.answer_held();
            self.change_configuration()?;
        }
    }

    fn handle(&mut self, event: Event) -> Outcome<()> {
        match event {
            Event::Up(peer) => self.reconnected(peer),
            Event::Hello { from, epoch, config, address } => {
                let newest = self.epochs.entry(from).or_default();
                *newest = epoch.max(*newest);
                if config > self.place.members.config {
                    self.links.entry(from).or_insert_with(|| {
                        Arc::new(link(&self.choices, &self.config, &self.events, from, address))
                    });
                    self.want(from);
                }
                self.reconnected(from);
            }
            Event::Frame { from, epoch, frame } => {
                if self.epochs.get(&from) == Some(&epoch) && !self.isolated.contains(&from) {
                    self.handle_frame(from, *frame)?;
                }
            }
            Event::Client { client, replies } => {
                self.clients.insert(client, replies);
            }
            Event::Request { client, request } => self.handle_request(client, request),
            Event::Gone { client } => {
                self.clients.remove(&client);
                self.waiting.retain(|_, waiter| waiter.client != client);
            }
        }
        Ok(())
    }

    /// Messages may have been lost in either direction.
    fn reconnected(&mut self, peer: NodeId) {
        if let Some(replica) = &mut self.replica
            && self.place.members.contains(peer)
        {
            replica.paxos().reconnected(peer);
        }
    }

    fn handle_frame(&mut self, from: NodeId, frame: PeerFrame) -> Outcome<()> {
        let ours = self.place.members.config;
        match frame {
            PeerFrame::Hello { .. } => Ok(()),
            PeerFrame::Lead => {
                self.lead();
                Ok(())
            }
            PeerFrame::Paxos { config, .. } if config > ours || self.place.joining => {
                self.want(from);
                Ok(())
            }
            PeerFrame::Paxos { config, .. } if config < ours => {
                if !self.place.members.contains(from) {
                    self.transfer_to(from);
                }
                Ok(())
            }
            PeerFrame::Paxos { message, .. } => self.handle_message(from, message),
            PeerFrame::Want => {
                self.transfer_to(from);
                Ok(())
            }
            PeerFrame::Transfer { members, snapshot } => self.install(members, snapshot),
        }
    }

    fn handle_message(&mut self, from: NodeId, mut message: Paxos) -> Outcome<()> {
        self.seen.entry(from).or_default().witness(&message);
        if mend::has_snapshot(&mut message) {
            self.apply()?;
        }
        let Some(replica) = &mut self.replica else {
            return Ok(());
        };
        // The stop sign is the end of this configuration: nothing after it concerns this replica.
        if replica.paxos().is_reconfigured().is_some() {
            return Ok(());
        }
        if !self.room.admits(&message, SEGMENT_BYTES) {
            // Lost on the way, as far as OmniPaxos knows.
            return Ok(());
        }
        if mend::incoming(&mut message, &self.machine) {
            replica.paxos().handle_incoming(message);
        } else {
            replica.paxos().reconnected(from);
        }
        Ok(())
    }

    fn handle_request(&mut self, client: u64, request: Request) {
        let Request::Submit(command) = request else {
            self.held.push((client, request));
            return;
        };
        let id = command.id();
        let key = match &command {
            Command::Put { .. } => None,
            Command::Look { key, .. } => Some(key.clone()),
        };
        if let Some(index) = self.machine.index_of(id) {
            // A read that was decided before may as well see what is there now.
            let value = self.read(key.as_deref());
            self.reply(client, Reply::Done { id, index, value });
            return;
        }
        let refused = match &mut self.replica {
            None if self.place.joining => Some("this node is still joining the cluster"),
            None => Some("this node has been removed from the cluster"),
            Some(replica) if self.room.is_full() && replica.leads() => {
                Some("the disk of this node is full")
            }
            Some(replica) => match replica.paxos().append(command) {
                Ok(()) => None,
                Err(AppendError::Unwritable { .. }) => Some("the command is too large"),
                Err(_) => Some("the cluster is changing its configuration"),
            },
        };
        match refused {
            None => {
                self.waiting.insert(id, Waiter { client, key });
            }
            Some(reason) => self.reply(client, Reply::Refused { id, reason: reason.to_owned() }),
        }
    }

    fn reply(&mut self, client: u64, reply: Reply) {
        let full = |replies: &Replies| replies.try_send(reply).is_err();
        if self.clients.get(&client).is_some_and(full) {
            self.clients.remove(&client);
        }
    }

    /// Looks whether entries can be written. A node without room for them does not lead, and once there
    /// is room again it asks for what it missed.
    fn mind_the_disk(&mut self) {
        let Some(replica) = &mut self.replica else { return };
        let log = self.choices.dir.join("log");
        let spares = || replica.handle().stats().log.spares * SEGMENT_BYTES;
        let room_again = self.room.look(&log, spares, SEGMENT_BYTES);
        let leader = replica.paxos().get_current_leader().map(|(leader, _)| leader);
        if let Some(leader) = leader
            && room_again
        {
            replica.paxos().reconnected(leader);
        }
        let leads = leader == Some(self.choices.id);
        let deputy = self.links.iter().filter(|(peer, link)| {
            self.place.members.contains(**peer) && link.is_up() && !self.isolated.contains(*peer)
        });
        self.deputy.name(deputy.map(|(_, link)| link).next().filter(|_| leads));
        let waited = self.handed_over.is_none_or(|at| at.elapsed() >= HAND_OVER_EVERY);
        if leads && self.room.is_full() && waited {
            self.deputy.ask();
            self.handed_over = Some(Instant::now());
        }
    }

    /// Applies everything decided since the last time.
    fn apply(&mut self) -> Outcome<()> {
        let Some(replica) = &mut self.replica else {
            return Ok(());
        };
        let Some(entries) = replica.paxos().read_decided_suffix(self.machine.len()) else {
            return Ok(());
        };
        for entry in entries {
            match entry {
                LogEntry::Decided(command) => {
                    self.machine.apply(&command);
                    self.answer(command.id());
                }
                LogEntry::Snapshotted(entry) => {
                    let machine = entry.snapshot.into_machine();
                    if machine.len() != entry.trimmed_idx {
                        return Err(Failure::new(format!(
                            "the snapshot covers {} entries, not the {} before the log",
                            machine.len(),
                            entry.trimmed_idx
                        )));
                    }
                    self.machine = machine;
                    self.answer_from_snapshot();
                }
                LogEntry::StopSign(_, true) => {}
                LogEntry::Trimmed(_) | LogEntry::Undecided(_) | LogEntry::StopSign(_, false) => {
                    return Err(Failure::new("the decided log has a gap"));
                }
            }
        }
        Ok(())
    }

    fn read(&self, key: Option<&str>) -> Option<String> {
        Some(self.machine.get(key?)?.value.clone())
    }

    fn answer(&mut self, id: u64) {
        if let Some(index) = self.machine.index_of(id)
            && let Some(Waiter { client, key }) = self.waiting.remove(&id)
        {
            let value = self.read(key.as_deref());
            self.reply(client, Reply::Done { id, index, value });
        }
    }

    /// A read that was decided in what a snapshot covers sees what is there at the end of it: no less
    /// than it asked for.
    fn answer_from_snapshot(&mut self) {
        let waiting: Vec<u64> = self.waiting.keys().copied().collect();
        for id in waiting {
            self.answer(id);
        }
    }

    /// Commands on their way to a former leader may have died with it: whoever waits for one is told to
    /// send it again. Should it be decided after all, it acts once.
    fn refuse_after_election(&mut self) {
        let Some(replica) = &mut self.replica else { return };
        let paxos = replica.paxos();
        let round = paxos.get_promise();
        if round == self.round || !matches!(paxos.get_current_leader(), Some((_, true))) {
            return;
        }
        self.round = round;
        for (id, Waiter { client, .. }) in std::mem::take(&mut self.waiting) {
            self.reply(client, Reply::Refused { id, reason: "there is a new leader".to_owned() });
        }
    }

    /// Takes a snapshot now and then, which trims the log up to it. The leader asks everyone for
    /// it; a node that missed the request goes ahead alone a little later.
    fn compact(&mut self) {
        let Some(replica) = &mut self.replica else {
            return;
        };
        let every = self.choices.snapshot_every.max(self.machine.len() / 8);
        let leads = replica.leads();
        let paxos = replica.paxos();
        let compacted = paxos.get_compacted_idx();
        if compacted != self.compacted {
            self.snapshots += 1;
            self.compacted = compacted;
        }
        let target = compacted + every;
        let (due, alone) = if leads { (target + every / 4, false) } else { (target + every, true) };
        if self.machine.len() >= due && paxos.is_reconfigured().is_none() {
            // Refused only if the index is trimmed already or not decided yet: then later.
            let _later = paxos.snapshot(Some(target), alone);
        }
    }

    /// Makes this turn durable, then sends its messages.
    fn send(&mut self) -> Outcome<()> {
        let Some(replica) = &mut self.replica else {
            return Ok(());
        };
        // Makes every promise and every accepted entry of this turn durable. A crash just before
        // loses only what nobody has been told.
        replica.paxos().take_outgoing_messages(&mut self.outgoing).why(|| "cannot sync the log")?;
        let accepted = replica.paxos().get_accepted_idx();
        let config = self.place.members.config;
        for mut message in self.outgoing.drain(..) {
            mend::outgoing(&mut message, accepted);
            let receiver = message.get_receiver();
            if let Some(link) = self.links.get(&receiver)
                && !self.isolated.contains(&receiver)
            {
                link.send(PeerFrame::Paxos { config, message }.to_bytes());
            }
        }
        Ok(())
    }

    fn answer_held(&mut self) {
        for (client, request) in std::mem::take(&mut self.held) {
            let reply = match request {
                Request::Submit(_) => continue,
                Request::Status => Reply::Status(Box::new(self.status())),
                Request::Dump => Reply::Dump(Dump {
                    digest: self.machine.digest(),
                    map_digest: self.machine.map_digest(),
                    keys: self.machine.keys(),
                    history: self.machine.history().to_vec(),
                }),
                Request::Replace { old, new, address } => {
                    let proposed = self.propose_replacement(old, new, &address);
                    Reply::Said(proposed.unwrap_or_else(|failure| failure.to_string()))
                }
                Request::Isolate(peers) => Reply::Said(self.isolate(peers).to_owned()),
                Request::Lead => Reply::Said(self.lead().to_owned()),
                Request::Trim => Reply::Said(self.trim().to_owned()),
            };
            self.reply(client, reply);
        }
    }

    /// Tries to become the leader.
    fn lead(&mut self) -> &'static str {
        match &mut self.replica {
            Some(_) if self.room.is_full() => "the disk of this node is full",
            Some(replica) => {
                replica.paxos().try_become_leader();
                "done"
            }
            None => "this node is not in the cluster",
        }
    }

    fn trim(&mut self) -> &'static str {
        let decided = self.machine.len();
        let trimmed = self.replica.as_mut().map(|it| it.paxos().snapshot(Some(decided), true));
        if matches!(trimmed, Some(Ok(()))) { "done" } else { "there is nothing to trim" }
    }

    fn isolate(&mut self, peers: Vec<NodeId>) -> &'static str {
        if !self.choices.supervised {
            return "this node is not part of a run";
        }
        let before = std::mem::replace(&mut self.isolated, peers.into_iter().collect());
        let reached: Vec<NodeId> = before.difference(&self.isolated).copied().collect();
        for peer in reached {
            self.reconnected(peer);
        }
        "done"
    }

    fn status(&mut self) -> Status {
        let mut status = Status {
            id: self.choices.id,
            members: self.place.members.clone(),
            applied: self.machine.len(),
            snapshots: self.snapshots,
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            recovered: self.recovered.clone(),
            full: self.room.is_full(),
            handed_over: self.deputy.asked(),
            seen: self.seen.iter().map(|(peer, oath)| (*peer, *oath)).collect(),
            ..Status::default()
        };
        let gone = if self.place.joining { "joining" } else { "removed" };
        gone.clone_into(&mut status.role);
        if let Some(replica) = &mut self.replica {
            let log = replica.handle().stats().log;
            (status.syncs, status.segments) = (self.syncs + log.syncs, log.segments);
            let role = if replica.leads() { "leader" } else { "follower" };
            role.clone_into(&mut status.role);
            let paxos = replica.paxos();
            status.leader = paxos.get_current_leader().map_or(0, |(leader, _)| leader);
            status.oath.promise = paxos.get_promise();
            status.decided = paxos.get_decided_idx();
            status.compacted = paxos.get_compacted_idx();
        }
        status
    }

    fn connect(&mut self) {
        for (peer, address) in &self.place.members.nodes {
            let known = self.links.get(peer).is_some_and(|link| link.address == *address);
            if *peer != self.choices.id && !known {
                let address = address.clone();
                let link = link(&self.choices, &self.config, &self.events, *peer, address);
                self.links.insert(*peer, Arc::new(link));
            }
        }
    }
}

fn link(
    choices: &NodeChoices,
    config: &Arc<AtomicU32>,
    events: &Events,
    peer: NodeId,
    address: String,
) -> Link {
    let (from, own, config) = (choices.id, choices.address.clone(), Arc::clone(config));
    let hello = move || {
        let config = config.load(Ordering::Relaxed);
        PeerFrame::Hello { from, config, address: own.clone() }.to_bytes()
    };
    Link::start(peer, address, hello, events.clone())
}
