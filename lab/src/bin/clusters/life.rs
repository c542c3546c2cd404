//! One life: steps drawn from a seed, then everything heals, then it is checked.

use fastrand::Rng;
use indelible::omnipaxos::Synced;

use super::history::History;
use super::network::Network;
use super::node::{NODES, Node, Value};

/// Steps with faults.
const STEPS: usize = 600;
/// Turns without faults in which a cluster must come to rest.
const TURNS_MAX: usize = 2_000;
/// Turns after which whoever is behind asks to lead.
const TURNS_PER_TERM: usize = 300;
/// Calls of a disk after which the power can be cut within one.
const CALLS: u64 = 12;

/// What happened in a life.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) decided: u64,
    pub(crate) cuts: u64,
    pub(crate) cuts_within: u64,
    pub(crate) refilled: u64,
    pub(crate) partitions: u64,
    pub(crate) trims: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.decided += other.decided;
        self.cuts += other.cuts;
        self.cuts_within += other.cuts_within;
        self.refilled += other.refilled;
        self.partitions += other.partitions;
        self.trims += other.trims;
    }
}

pub(crate) struct Life {
    rng: Rng,
    nodes: Vec<Node>,
    network: Network,
    history: History,
    proposed: u64,
    counts: Counts,
    verbose: bool,
}

impl Life {
    pub(crate) fn new(seed: u64, verbose: bool) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            nodes: (1..=NODES).map(|pid| Node::new(pid, seed)).collect(),
            network: Network::default(),
            history: History::default(),
            proposed: 0,
            counts: Counts::default(),
            verbose,
        }
    }

    /// Lives it. Returns what happened, or what must not have.
    pub(crate) fn live(mut self) -> Result<Counts, String> {
        for at in 0..self.nodes.len() {
            self.start(at)?;
        }
        for _ in 0..STEPS {
            self.step()?;
        }
        self.heal()?;
        self.rest()?;
        self.history.check_unique()?;
        self.counts.decided = self.history.len() as u64;
        Ok(self.counts)
    }

    fn say(&self, what: &dyn Fn() -> String) {
        if self.verbose {
            let _unheard =
                std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{}\n", what()));
        }
    }

    fn step(&mut self) -> Result<(), String> {
        let at = self.rng.usize(..self.nodes.len());
        match self.rng.u8(..100) {
            0..30 => self.tick(),
            30..60 => (0..8).for_each(|_| self.deliver()),
            60..92 => (0..4).for_each(|_| self.propose(at)),
            92 => self.partition(),
            93..95 => self.reconnect(),
            95 => self.trim(at),
            96 => self.cut(at),
            97 => {
                let (calls, before) = (self.rng.u64(..CALLS), self.rng.bool());
                if let Some(node) = self.nodes.get(at).filter(|node| node.is_up() && !node.is_cut())
                {
                    node.cut_within(calls, before);
                    self.say(&|| format!("node {}: cut {calls} calls from now", at + 1));
                }
            }
            _ => {
                if self.nodes.get(at).is_some_and(|node| !node.is_up()) {
                    self.come_back(at)?;
                }
            }
        }
        self.exchange()
    }

    fn tick(&mut self) {
        for node in &mut self.nodes {
            node.with(Synced::tick);
        }
    }

    fn propose(&mut self, at: usize) {
        let value = self.proposed;
        let proposed =
            self.nodes.get_mut(at).and_then(|it| it.with(|paxos| paxos.append(Value(value))));
        if matches!(proposed, Some(Ok(()))) {
            self.proposed += 1;
        }
    }

    /// One message of a link that carries something.
    fn deliver(&mut self) {
        let busy = self.network.busy();
        if busy.is_empty() {
            return;
        }
        let Some(&link) = busy.get(self.rng.usize(..busy.len())) else { return };
        if let Some(message) = self.network.take(link)
            && let Some(node) = self.node(link.1)
        {
            node.with(|paxos| paxos.handle_incoming(message));
        }
    }

    fn node(&mut self, pid: u64) -> Option<&mut Node> {
        self.nodes.iter_mut().find(|node| node.pid == pid)
    }

    /// Whoever is behind asks to lead. A node that had promised a ballot to itself before it went down
    /// takes no part under a leader with a lower one, and the host waits for the next election.
    fn elect(&mut self) {
        if let Some(node) = self.nodes.iter_mut().min_by_key(|node| node.shown) {
            node.with(Synced::try_become_leader);
        }
    }

    fn partition(&mut self) {
        let (one, other) = (self.rng.u64(1..=NODES), self.rng.u64(1..=NODES));
        if one != other && !self.network.is_broken(one, other) {
            self.say(&|| format!("nodes {one} and {other}: apart"));
            self.network.cut(one, other);
            self.counts.partitions += 1;
        }
    }

    /// Every connection is there again, and both ends hear of it.
    fn reconnect(&mut self) {
        for (one, other) in self.network.heal() {
            for (pid, peer) in [(one, other), (other, one)] {
                if let Some(node) = self.node(pid) {
                    node.with(|paxos| paxos.reconnected(peer));
                }
            }
        }
    }

    /// Trims what every node has durably decided, and nothing while one is down: the host lets a leader
    /// trim what all have accepted, and then panics if one comes back that had not decided it.
    fn trim(&mut self, at: usize) {
        let decided = self.nodes.iter_mut().map(Node::durably_decided).min().flatten();
        let Some(decided) = decided else { return };
        let trimmed =
            self.nodes.get_mut(at).and_then(|it| it.with(|paxos| paxos.trim(Some(decided))));
        if matches!(trimmed, Some(Ok(()))) {
            self.counts.trims += 1;
        }
    }

    fn cut(&mut self, at: usize) {
        let chance = self.rng.u64(..);
        if let Some(node) = self.nodes.get_mut(at).filter(|node| node.is_up()) {
            let pid = node.pid;
            node.cut(chance);
            self.network.forget(pid);
            self.counts.cuts += 1;
            self.say(&|| format!("node {pid}: power cut"));
        }
    }

    /// Whoever went down within a call is found; then the running nodes hand over their messages, and
    /// what they have decided is held against what was seen before.
    fn exchange(&mut self) -> Result<(), String> {
        for at in 0..self.nodes.len() {
            let Some(node) = self.nodes.get_mut(at) else { continue };
            let messages = node.outgoing().unwrap_or_default();
            let decided = node.newly_decided();
            if node.is_cut() || !node.is_up() {
                self.has_gone(at);
                continue;
            }
            let pid = node.pid;
            for message in messages {
                self.network.send(message);
            }
            if let Some((from, values)) = decided {
                self.history.seen(pid, from, &values)?;
            }
        }
        Ok(())
    }

    /// A node went down by itself: its power was cut within a call, or its storage failed.
    fn has_gone(&mut self, at: usize) {
        let chance = self.rng.u64(..);
        let Some(node) = self.nodes.get_mut(at) else { return };
        let (pid, cut) = (node.pid, node.is_cut());
        if cut {
            node.cut(chance);
            self.counts.cuts += 1;
            self.counts.cuts_within += 1;
        }
        node.shown = 0;
        self.network.forget(pid);
        if cut {
            self.say(&|| format!("node {pid}: power cut within a call"));
        }
    }

    /// Starts a node that is down, sometimes after its disk has rotted.
    fn come_back(&mut self, at: usize) -> Result<(), String> {
        let rotten = self.rng.u8(..4) == 0;
        let mut chance = self.rng.fork();
        let Some(node) = self.nodes.get_mut(at) else { return Ok(()) };
        let rotten = rotten && node.rot(self.history.len(), &mut chance);
        if rotten {
            // What an open meets, or what a read meets later: an operator verifies after such a thing.
            let history = &self.history;
            node.repair(&mut |index| history.value(index))
                .map_err(|error| format!("node {} cannot be repaired: {error}", at + 1))?;
            self.counts.refilled += 1;
            self.say(&|| format!("node {}: rot, repaired and refilled", at + 1));
        }
        self.start(at)
    }

    fn start(&mut self, at: usize) -> Result<(), String> {
        let Some(node) = self.nodes.get_mut(at) else { return Ok(()) };
        let pid = node.pid;
        match node.start() {
            // The power was cut while it opened its log.
            Err(_) if node.is_cut() => {
                self.has_gone(at);
                return Ok(());
            }
            started => started.map_err(|error| format!("node {pid} does not start: {error}"))?,
        }
        self.say(&|| format!("node {pid}: up"));
        self.greet(pid);
        Ok(())
    }

    /// A node and those it is connected with hear that their connection is new.
    fn greet(&mut self, pid: u64) {
        for peer in 1..=NODES {
            if peer != pid && !self.network.is_broken(pid, peer) {
                for (one, other) in [(peer, pid), (pid, peer)] {
                    if let Some(node) = self.node(one) {
                        node.with(|paxos| paxos.reconnected(other));
                    }
                }
            }
        }
    }

    /// Everybody is up, and everybody hears everybody.
    fn heal(&mut self) -> Result<(), String> {
        self.say(&|| "everything heals".to_owned());
        for at in 0..self.nodes.len() {
            // Whoever waits to be cut within a call is cut now.
            let chance = self.rng.u64(..);
            if let Some(node) = self.nodes.get_mut(at) {
                let pid = node.pid;
                node.cut(chance);
                self.network.forget(pid);
            }
        }
        self.reconnect();
        (0..self.nodes.len()).try_for_each(|at| self.start(at))
    }

    /// Turns until everybody has decided the same, a last entry of everybody's included.
    fn rest(&mut self) -> Result<(), String> {
        let before = self.history.len();
        for turn in 0..TURNS_MAX {
            self.tick();
            for _ in 0..64 {
                self.deliver();
            }
            self.exchange()?;
            if turn % 50 == 49 {
                // What was decided last is told to those who missed it with the next entry.
                let at = self.rng.usize(..self.nodes.len());
                self.propose(at);
            }
            if turn % TURNS_PER_TERM == TURNS_PER_TERM - 1 {
                self.elect();
            }
            let seen = self.history.len();
            if seen > before && self.nodes.iter().all(|node| node.shown == seen) {
                return Ok(());
            }
        }
        let ends: Vec<_> = self.nodes.iter().map(|node| node.shown).collect();
        Err(format!("not at rest: {ends:?} decided, of {} that were seen", self.history.len()))
    }
}
