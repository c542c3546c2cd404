//! The Ready loop of the `raft` crate (tikv) on a log: nodes in one thread, messages as function
//! calls, syncs in the background. Two nodes begin, compact their logs and take in a third, which gets
//! a snapshot; then all of them restart.
//!
//! What a `Ready` holds is one batch, submitted without waiting ([`LogStore::save`]);
//! `advance_append_async` lets the host go on; when the batch is durable its ticket calls back,
//! `on_persist_ready` tells the host, and the messages that promise something leave. A leader's other
//! messages leave at once, so followers write while the leader syncs.
//!
//! `cargo run -p indelible-raft --example tikv_raft`

#![expect(clippy::disallowed_methods, reason = "a host reads the clock; the log does not")]

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use indelible::{Log, Options, Verdict};
use indelible_raft::LogStore;
use prost::Message as _;
use raft::prelude::{ConfChange, ConfChangeType, ConfState, EntryType, Message};
use raft::{Config, RawNode, StateRole};
use slog::{Discard, Logger, o};

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// The nodes that begin, and the one that is added to them.
const FIRST: [u64; 2] = [1, 2];
const ADDED: u64 = 3;
const COMMANDS: u64 = 500;
const TICK: Duration = Duration::from_millis(20);

/// Opens a node's log. A new one knows the members that begin; one that is added learns them. The
/// example starts its nodes the first time and every time; a service would `create` its log once, and
/// `open` it from then on.
fn open(directory: &Path, id: u64) -> Result<LogStore, Failed> {
    let options = Options::new().segment_bytes(1024 * 1024);
    let (log, report) = Log::open_or_create(directory.join(id.to_string()), &options)?;
    if report.verdict != Verdict::Created {
        return Ok(LogStore::open(log)?);
    }
    let voters = if FIRST.contains(&id) { FIRST.to_vec() } else { Vec::new() };
    let members = ConfState { voters, ..ConfState::default() };
    Ok(LogStore::create(log, &members)?)
}

/// A state of commands in the bytes of a snapshot, and back.
fn packed(commands: &[Vec<u8>]) -> Vec<u8> {
    commands.join(&b'\n')
}

fn unpacked(bytes: &[u8]) -> Vec<Vec<u8>> {
    let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec);
    lines.filter(|line| !line.is_empty()).collect()
}

/// A batch of some node became durable, or never will.
struct Persisted {
    node: u64,
    ready: u64,
    result: indelible::Result<()>,
}

/// A node, its state machine (the commands it was given), and what waits for a sync.
struct Node {
    raw: RawNode<LogStore>,
    commands: Vec<Vec<u8>>,
    /// The last entry it has.
    applied: u64,
    /// Messages that may leave when the `Ready` of that number is durable.
    promises: BTreeMap<u64, Vec<Message>>,
    persisted: Sender<Persisted>,
}

impl Node {
    fn start(directory: &Path, id: u64, persisted: Sender<Persisted>) -> Result<Self, Failed> {
        let store = open(directory, id)?;
        let snapshot = store.current_snapshot()?;
        let applied = snapshot.metadata.unwrap_or_default().index;
        let config =
            Config { id, applied, election_tick: 10, heartbeat_tick: 2, ..Config::default() };
        let raw = RawNode::new(&config, store, &Logger::root(Discard, o!()))?;
        let commands = unpacked(&snapshot.data);
        Ok(Self { raw, commands, applied, promises: BTreeMap::new(), persisted })
    }

    fn log(&self) -> Log {
        self.raw.store().log().clone()
    }

    fn has_members(&self, count: usize) -> bool {
        self.raw.raft.prs().conf().to_conf_state().voters.len() == count
    }

    /// Replaces the entries that were applied by a snapshot.
    fn compact(&self) -> Result<(), Failed> {
        Ok(self.raw.store().compact(self.applied, packed(&self.commands))?)
    }

    /// Handles one `Ready`, if there is one. Returns the messages that may leave now.
    fn handle_ready(&mut self) -> Result<Vec<Message>, Failed> {
        if !self.raw.has_ready() {
            return Ok(Vec::new());
        }
        let mut ready = self.raw.ready();
        let mut messages = ready.take_messages();
        let installs = !ready.snapshot().is_empty();
        if installs {
            self.commands = unpacked(&ready.snapshot().data);
            self.applied = ready.snapshot().metadata.clone().unwrap_or_default().index;
        }
        // Readable at once, which the host asks for; durable later.
        let ticket = self.raw.store().save(&ready)?;
        for entry in ready.take_committed_entries() {
            self.applied = entry.index;
            match entry.entry_type() {
                EntryType::EntryConfChange => {
                    let change = ConfChange::decode(&*entry.data)?;
                    let members = self.raw.apply_conf_change(&change)?;
                    self.raw.store().set_members(&members)?;
                }
                _ if entry.data.is_empty() => {}
                _ => self.commands.push(entry.data),
            }
        }
        let number = ready.number();
        self.promises.insert(number, ready.take_persisted_messages());
        if installs {
            // The host takes a snapshot for applied only once it has heard that it is durable.
            ticket.wait()?;
            self.raw.advance_append_async(ready);
            messages.extend(self.on_persisted(number));
            self.raw.advance_apply();
            return Ok(messages);
        }
        if ready.must_sync() || self.promises.len() > 1 {
            let (node, persisted) = (self.raw.raft.id, self.persisted.clone());
            ticket.on_durable(move |result| {
                drop(persisted.send(Persisted { node, ready: number, result }));
            });
        } else {
            // Only the commit index moved: it may ride along with the next sync.
            let (node, result) = (self.raw.raft.id, Ok(()));
            self.persisted.send(Persisted { node, ready: number, result })?;
        }
        self.raw.advance_append_async(ready);
        self.raw.advance_apply();
        Ok(messages)
    }

    /// Everything up to a `Ready` is durable. Returns the promises that may leave now.
    fn on_persisted(&mut self, ready: u64) -> Vec<Message> {
        self.raw.on_persist_ready(ready);
        let later = self.promises.split_off(&ready.saturating_add(1));
        std::mem::replace(&mut self.promises, later).into_values().flatten().collect()
    }
}

/// The nodes and the messages between them.
struct Cluster {
    nodes: BTreeMap<u64, Node>,
    messages: VecDeque<Message>,
    sender: Sender<Persisted>,
    persisted: Receiver<Persisted>,
    ticked: Instant,
}

impl Cluster {
    fn start(directory: &Path, ids: &[u64]) -> Result<Self, Failed> {
        let (sender, persisted) = channel();
        let (nodes, messages, ticked) = (BTreeMap::new(), VecDeque::new(), Instant::now());
        let mut cluster = Self { nodes, messages, sender, persisted, ticked };
        ids.iter().try_for_each(|id| cluster.add(directory, *id))?;
        Ok(cluster)
    }

    fn add(&mut self, directory: &Path, id: u64) -> Result<(), Failed> {
        self.nodes.insert(id, Node::start(directory, id, self.sender.clone())?);
        Ok(())
    }

    /// The node that leads, once one does.
    fn led(&mut self) -> Result<&mut Node, Failed> {
        self.run_until(|cluster| cluster.leader().is_some())?;
        let leader = self.leader().ok_or("no leader")?;
        Ok(self.nodes.get_mut(&leader).ok_or("no leader")?)
    }

    /// Has commands applied by every node.
    fn propose(&mut self, commands: std::ops::Range<u64>) -> Result<(), Failed> {
        let end = usize::try_from(commands.end)?;
        for command in commands {
            self.led()?.raw.propose(Vec::new(), format!("command {command}").into_bytes())?;
            self.turn()?;
        }
        self.run_until(|cluster| cluster.all_have(end))
    }

    /// Runs the cluster until a condition holds.
    fn run_until(&mut self, holds: impl Fn(&Self) -> bool) -> Result<(), Failed> {
        let start = Instant::now();
        while !holds(self) {
            if start.elapsed() > Duration::from_secs(60) {
                return Err("the cluster is stuck".into());
            }
            self.turn()?;
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<(), Failed> {
        if self.ticked.elapsed() >= TICK {
            self.ticked = Instant::now();
            self.nodes.values_mut().for_each(|node| _ = node.raw.tick());
        }
        for message in std::mem::take(&mut self.messages) {
            if let Some(node) = self.nodes.get_mut(&message.to) {
                node.raw.step(message)?;
            }
        }
        for node in self.nodes.values_mut() {
            self.messages.extend(node.handle_ready()?);
        }
        let wait = if self.messages.is_empty() { Duration::from_millis(1) } else { Duration::ZERO };
        while let Ok(Persisted { node, ready, result }) = self.persisted.recv_timeout(wait) {
            result?;
            if let Some(node) = self.nodes.get_mut(&node) {
                self.messages.extend(node.on_persisted(ready));
            }
            if !self.messages.is_empty() {
                break;
            }
        }
        Ok(())
    }

    fn leader(&self) -> Option<u64> {
        self.nodes
            .iter()
            .find(|(_, node)| node.raw.raft.state == StateRole::Leader)
            .map(|(id, _)| *id)
    }

    fn all_have(&self, commands: usize) -> bool {
        self.nodes.values().all(|node| node.commands.len() >= commands)
    }
}

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
fn main() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let commands = usize::try_from(COMMANDS)?;

    let mut cluster = Cluster::start(directory.path(), &FIRST)?;
    println!("node {} leads", cluster.led()?.raw.raft.id);
    cluster.propose(0..COMMANDS / 2)?;

    let mut change = ConfChange { node_id: ADDED, ..ConfChange::default() };
    change.set_change_type(ConfChangeType::AddNode);
    cluster.led()?.raw.propose_conf_change(Vec::new(), change)?;
    cluster.run_until(|cluster| cluster.nodes.values().all(|node| node.has_members(3)))?;
    cluster.nodes.values().try_for_each(Node::compact)?;
    cluster.add(directory.path(), ADDED)?;
    cluster.run_until(|cluster| cluster.all_have(commands / 2))?;
    let added = cluster.nodes.get(&ADDED).ok_or("no such node")?;
    let covered = added.raw.store().current_snapshot()?.metadata.unwrap_or_default().index;
    println!("node {ADDED} was added, and got a snapshot of everything up to entry {covered}");
    if covered == 0 {
        return Err("the entries had been compacted, and yet no snapshot was sent".into());
    }
    cluster.propose(COMMANDS / 2..COMMANDS)?;
    for (id, node) in &cluster.nodes {
        let log = node.log();
        println!("node {id}: entries {}..{}, {} syncs", log.first(), log.next(), log.stats().syncs);
        log.close()?;
    }
    drop(cluster);

    println!("all nodes stopped; starting them from disk");
    let mut cluster = Cluster::start(directory.path(), &[1, 2, ADDED])?;
    cluster.run_until(|cluster| cluster.leader().is_some() && cluster.all_have(commands))?;
    let equal = cluster.nodes.values().all(|node| {
        let expected = (0..COMMANDS).map(|command| format!("command {command}").into_bytes());
        node.has_members(3) && node.commands.iter().cloned().eq(expected)
    });
    println!("every node has {commands} commands, in order, and three members: {equal}");
    if equal { Ok(()) } else { Err("the nodes differ".into()) }
}
