//! OmniPaxos end to end: three nodes in one process, on one storage after another.
//!
//! One thread runs all three nodes in turns. In a turn the leader appends so many entries, then
//! all nodes deliver their messages, until no node has any. Nothing is sent before the storage has
//! made durable what it says it makes durable: inside each call (upstream's storage, `Always`), or
//! in one sync a node before the messages are taken (`Barrier`), at the same time on nodes that
//! both need one, as it would be on three machines. No network, no scheduler: what differs between
//! two rows is the storage.
//!
//! Latency is from the start of the turn in which an entry was appended to the moment the leader
//! knows it decided.

pub mod stores;
mod syncs;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use indelible::Ticket;
use omnipaxos::messages::Message;
use omnipaxos::storage::{Entry, NoSnapshot, Storage};
use omnipaxos::util::NodeId;
use omnipaxos::{ClusterConfig, OmniPaxos, ServerConfig};
use serde::{Deserialize, Serialize};

use crate::grid::{Grid, Table, order};
use crate::peer::Outcome;
use crate::work::{Payloads, Plan, sync_files};

const NODES: [NodeId; 3] = [1, 2, 3];
/// Entries appended a turn, entries OmniPaxos gathers before it sends (its `batch_size`), and
/// whether every node also reads what was decided, as a host does to apply it.
const SHAPES: [(usize, usize, bool); 8] = [
    (1, 1, false),
    (16, 1, false),
    (256, 1, false),
    (1, 100, false),
    (16, 100, false),
    (256, 100, false),
    (256, 1, true),
    (256, 100, true),
];
/// The row that the others are divided by.
#[cfg(feature = "rocksdb")]
pub const BASE: &str = stores::UPSTREAM_SYNC;
#[cfg(not(feature = "rocksdb"))]
pub const BASE: &str = stores::MEMORY;

/// What is replicated.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Command(pub Vec<u8>);

impl Entry for Command {
    type Snapshot = NoSnapshot;
}

/// The newest write that a node's messages depend on, if the storage leaves it to the host to wait.
pub type Binding = Box<dyn Fn() -> Option<Ticket>>;

/// Three nodes on one kind of storage.
pub trait Cluster {
    /// Has the leader append `entries`, then delivers messages until there are none.
    fn turn(&mut self, entries: &[Command]) -> Outcome<()>;
    /// How many entries the leader knows to be decided.
    fn decided(&self) -> usize;
    /// Has every node read what was decided since its last read.
    fn read_decided(&mut self) -> Outcome<()>;
    /// Drops the decided prefix on all nodes.
    fn trim(&mut self) -> Outcome<()>;
    /// How often the leader has synced so far, and all nodes together, if that is counted.
    fn syncs(&self) -> (u64, u64);
}

/// What a cluster is to be like.
#[derive(Clone, Copy)]
pub struct Setting {
    /// Entries OmniPaxos gathers before it sends.
    pub batch_size: usize,
    /// Whether syncs are to be counted, which RocksDB does not do unless it is asked.
    #[cfg_attr(not(feature = "rocksdb"), expect(dead_code, reason = "the others always count"))]
    pub counted: bool,
}

/// A storage that the comparison knows how to make.
pub struct Store {
    pub name: &'static str,
    /// Makes a cluster, its files below the directory.
    pub cluster: fn(&std::path::Path, Setting) -> Outcome<Box<dyn Cluster>>,
}

/// One node's storage, and what stays with the host.
pub struct Node<B> {
    pub storage: B,
    pub binding: Binding,
    /// How often the storage has synced so far.
    pub syncs: Box<dyn Fn() -> u64>,
}

pub struct Nodes<B: Storage<Command>> {
    members: Vec<OmniPaxos<Command, B>>,
    bindings: Vec<Binding>,
    syncs: Vec<Box<dyn Fn() -> u64>>,
    leader: usize,
    /// How far each node has read.
    read: [usize; NODES.len()],
    taken: Vec<Message<Command>>,
}

impl<B: Storage<Command>> Nodes<B> {
    /// Builds the nodes and waits for a leader.
    pub fn new(nodes: Vec<Node<B>>, batch_size: usize) -> Outcome<Self> {
        let cluster = ClusterConfig {
            configuration_id: 1,
            nodes: NODES.to_vec(),
            ..ClusterConfig::default()
        };
        let (mut members, mut bindings, mut syncs) = (Vec::new(), Vec::new(), Vec::new());
        for (pid, node) in NODES.into_iter().zip(nodes) {
            let server = ServerConfig { pid, batch_size, ..ServerConfig::default() };
            let member = cluster.clone().build_for_server(server, node.storage);
            members.push(member.map_err(|error| format!("{error:?}"))?);
            bindings.push(node.binding);
            syncs.push(node.syncs);
        }
        let (read, taken) = ([0; NODES.len()], Vec::new());
        let mut cluster = Self { members, bindings, syncs, leader: 0, read, taken };
        for _ in 0..10_000 {
            cluster.members.iter_mut().for_each(OmniPaxos::tick);
            cluster.deliver()?;
            if let Some((leader, true)) = cluster.members[0].get_current_leader() {
                cluster.leader = NODES.iter().position(|pid| *pid == leader).unwrap_or(0);
                return Ok(cluster);
            }
        }
        Err("no leader".into())
    }

    /// Delivers messages until no node has any.
    fn deliver(&mut self) -> Outcome<()> {
        loop {
            self.sync()?;
            for member in &mut self.members {
                member.take_outgoing_messages(&mut self.taken);
            }
            if self.taken.is_empty() {
                return Ok(());
            }
            for message in self.taken.drain(..) {
                let to = message.get_receiver();
                if let Some(to) = NODES.iter().position(|pid| *pid == to) {
                    self.members[to].handle_incoming(message);
                }
            }
        }
    }

    /// Waits until everything is durable that messages depend on.
    fn sync(&self) -> Outcome<()> {
        let bindings = self.bindings.iter().filter_map(|binding| binding());
        let waiting: Vec<Ticket> = bindings.filter(|ticket| !ticket.is_durable()).collect();
        let Some((here, elsewhere)) = waiting.split_last() else {
            return Ok(());
        };
        for ticket in elsewhere {
            // Has the log's own thread sync, while this one does it for the last node.
            ticket.clone().on_durable(|_| {});
        }
        here.wait()?;
        Ok(elsewhere.iter().try_for_each(Ticket::wait)?)
    }
}

impl<B: Storage<Command>> Cluster for Nodes<B> {
    fn turn(&mut self, entries: &[Command]) -> Outcome<()> {
        let leader = &mut self.members[self.leader];
        for entry in entries {
            leader.append(entry.clone()).map_err(|error| format!("{error:?}"))?;
        }
        self.deliver()
    }

    fn decided(&self) -> usize {
        self.members[self.leader].get_decided_idx()
    }

    fn read_decided(&mut self) -> Outcome<()> {
        for (member, read) in self.members.iter().zip(&mut self.read) {
            let decided = member.get_decided_idx();
            if *read < decided {
                let entries = member.read_decided_suffix(*read).ok_or("nothing to read")?;
                if entries.len() != decided - *read {
                    return Err(format!("{} of {}", entries.len(), decided - *read).into());
                }
                *read = decided;
            }
        }
        Ok(())
    }

    fn trim(&mut self) -> Outcome<()> {
        // Nobody reads below the trim any more, read or not.
        self.read = NODES.map(|_| self.decided());
        let decided = self.decided();
        self.members[self.leader].trim(Some(decided)).map_err(|error| format!("{error:?}"))?;
        self.deliver()
    }

    fn syncs(&self) -> (u64, u64) {
        (self.syncs[self.leader](), self.syncs.iter().map(|syncs| syncs()).sum())
    }
}

/// The tables of rates, of latencies, and of syncs.
pub fn run(plan: &Plan) -> Outcome<[Table; 4]> {
    let stores = stores::all();
    let payloads = Payloads::new();
    let commands: Vec<Command> =
        (0..256).map(|index| Command(payloads.get(index).to_vec())).collect();
    let mut rates = Grid::new("OmniPaxos, three nodes", "decided/s", true, BASE);
    let mut times = Grid::new("OmniPaxos, append to decided", "µs", false, BASE);
    let slice = Duration::from_millis(if plan.quick { 50 } else { 200 });
    for (burst, batch_size, read) in SHAPES {
        let column = column(burst, batch_size, read);
        let mut clusters = Vec::new();
        for store in &stores {
            let dir = plan.fresh("omnipaxos", &store.name.replace([' ', ','], "-"))?;
            clusters.push(Some((store.cluster)(&dir, Setting { batch_size, counted: false })?));
        }
        plan.settle()?;
        for round in 0..=plan.rounds {
            rates.next_round();
            times.next_round();
            for at in order(stores.len(), round) {
                let Some(cluster) = &mut clusters[at] else {
                    continue;
                };
                // What the one before left to the page cache is not written in the time of this one.
                sync_files(&plan.dir)?;
                match measure(cluster.as_mut(), &commands[..burst], read, slice) {
                    Ok((rate, latencies)) if round > 0 => {
                        rates.record(stores[at].name, &column, vec![rate]);
                        times.record(stores[at].name, &column, latencies);
                    }
                    Ok(_) => {}
                    Err(error) => {
                        eprintln!("omnipaxos: {} falls out: {error}", stores[at].name);
                        clusters[at] = None;
                    }
                }
            }
        }
        drop(clusters);
        for store in &stores {
            plan.fresh("omnipaxos", &store.name.replace([' ', ','], "-"))?;
        }
    }
    let names: Vec<&str> = stores.iter().map(|store| store.name).collect();
    let [leader, all] = syncs::run(plan, &stores, &commands)?;
    Ok([rates.table(&names), times.table(&names), leader, all])
}

/// The name of a shape.
fn column(burst: usize, batch_size: usize, read: bool) -> String {
    let gathered = (batch_size > 1).then(|| format!(", batch_size {batch_size}"));
    let read = if read { ", read back" } else { "" };
    format!("{burst} a turn{}{read}", gathered.unwrap_or_default())
}

/// Decided entries a second, and microseconds from append to decided of one entry a turn.
fn measure(
    cluster: &mut dyn Cluster,
    burst: &[Command],
    read: bool,
    slice: Duration,
) -> Outcome<(f64, Vec<f64>)> {
    let mut waiting: VecDeque<(usize, Instant)> = VecDeque::new();
    let mut latencies = Vec::new();
    let before = cluster.decided();
    let mut appended = before;
    let start = Instant::now();
    while start.elapsed() < slice {
        appended += burst.len();
        waiting.push_back((appended, Instant::now()));
        cluster.turn(burst)?;
        if read {
            cluster.read_decided()?;
        }
        let decided = cluster.decided();
        while waiting.front().is_some_and(|(end, _)| *end <= decided) {
            let since = waiting.pop_front().map(|(_, since)| since.elapsed());
            latencies.extend(since.map(|since| since.as_secs_f64() * 1e6));
        }
    }
    let rate = (cluster.decided() - before) as f64 / start.elapsed().as_secs_f64();
    // As a host would, and not part of the time: a log that only grows measures the memory.
    cluster.trim()?;
    Ok((rate, latencies))
}
