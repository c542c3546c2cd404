//! OmniPaxos nodes in this process, each on a simulated disk of its own, with power cuts.

use std::collections::BTreeMap;
use std::sync::Arc;

use indelible::Durability;
use indelible::io::sim::{Moment, Persistence, SimDisk};
use indelible::omnipaxos::{AppendError, StorageError, StorageHandle, Synced};
use omnipaxos::messages::Message;
use omnipaxos::messages::sequence_paxos::{PaxosMessage, PaxosMsg};
use omnipaxos::util::LogEntry;
use omnipaxos::{ClusterConfig, OmniPaxosConfig, ServerConfig};

use super::support::{SYNC_WITH_SNAPSHOTS, Store, Value, ValueCodec, options, value, values};

type Node = Synced<Value, ValueCodec>;

/// Nodes that hand each other their messages, some of which may be down.
struct Cluster {
    disks: BTreeMap<u64, SimDisk>,
    cuts: u64,
    /// A node that no message reaches or leaves.
    apart: Option<u64>,
    durability: Durability,
    size: u64,
    nodes: BTreeMap<u64, Node>,
}

impl Cluster {
    fn new(size: u64, durability: Durability) -> Self {
        let disks = (1..=size).map(|pid| (pid, SimDisk::new(pid))).collect();
        let mut cluster =
            Self { disks, cuts: 0, apart: None, durability, size, nodes: BTreeMap::new() };
        for pid in 1..=size {
            cluster.start(pid);
        }
        cluster
    }

    fn storage(&self, pid: u64) -> Store {
        Store::in_directory(Arc::new(self.disks[&pid].clone()), &options(self.durability)).unwrap()
    }

    /// Starts a node on what its disk holds.
    fn start(&mut self, pid: u64) {
        let storage = self.storage(pid);
        let paxos = OmniPaxosConfig {
            cluster_config: ClusterConfig {
                configuration_id: 1,
                nodes: (1..=self.size).collect(),
                flexible_quorum: None,
            },
            server_config: ServerConfig {
                pid,
                election_tick_timeout: 5,
                resend_message_tick_timeout: 5,
                ..ServerConfig::default()
            },
        };
        self.nodes.insert(pid, Synced::build(paxos, storage).unwrap());
    }

    /// Cuts a node's power: a random part of what it has not synced is lost.
    fn kill(&mut self, pid: u64) {
        self.cuts += 1;
        let after = self.disks[&pid].crash_with(Persistence::Random(self.cuts));
        self.nodes.remove(&pid);
        self.disks.insert(pid, after);
    }

    /// One turn: every node ticks, then all messages are handed over until none is left.
    fn turn(&mut self) {
        for node in self.nodes.values_mut() {
            node.tick();
        }
        loop {
            let mut messages: Vec<Message<Value>> = Vec::new();
            for node in self.nodes.values_mut() {
                let mut buffer = Vec::new();
                node.take_outgoing_messages(&mut buffer).unwrap();
                messages.extend(buffer);
            }
            if messages.is_empty() {
                return;
            }
            let apart = self.apart;
            messages.retain(|message| {
                let ends = [Some(message.get_sender()), Some(message.get_receiver())];
                apart.is_none() || !ends.contains(&apart)
            });
            for message in messages {
                if let Some(node) = self.nodes.get_mut(&message.get_receiver()) {
                    node.handle_incoming(message);
                }
            }
        }
    }

    /// Turns until the cluster has a leader that accepts, and returns it.
    fn leader(&mut self) -> u64 {
        for _ in 0..500 {
            self.turn();
            for (pid, node) in &self.nodes {
                if node.get_current_leader() == Some((*pid, true)) {
                    return *pid;
                }
            }
        }
        panic!("no leader after 500 turns");
    }

    /// Turns until every running node has decided this many entries.
    fn decide(&mut self, count: usize) {
        for _ in 0..500 {
            self.turn();
            if self.nodes.values().all(|node| node.get_decided_idx() >= count) {
                return;
            }
        }
        let decided: Vec<_> = self.nodes.values().map(|node| node.get_decided_idx()).collect();
        panic!("decided {decided:?}, not {count}, after 500 turns");
    }

    fn propose(&mut self, number: u64) {
        let leader = self.leader();
        self.nodes.get_mut(&leader).unwrap().append(value(number)).unwrap();
    }

    fn handle(&self, pid: u64) -> StorageHandle {
        self.nodes[&pid].handle().clone()
    }
}

fn decided(node: &Node, from: usize) -> Vec<Value> {
    let entries = node.read_decided_suffix(from).unwrap_or_default();
    entries
        .into_iter()
        .map(|entry| match entry {
            LogEntry::Decided(value) => value,
            other => panic!("unexpected {other:?}"),
        })
        .collect()
}

fn kills(durability: Durability, size: u64) {
    let mut cluster = Cluster::new(size, durability);
    let mut acknowledged: Vec<Value> = Vec::new();
    for round in 0..6 {
        for number in 0..20 {
            cluster.propose(round * 100 + number);
            acknowledged.push(value(round * 100 + number));
        }
        cluster.decide(acknowledged.len());
        let before: Vec<_> = cluster.nodes.values().map(|node| node.get_promise()).collect();
        let leader = cluster.leader();
        let victim = if round % 2 == 0 { leader } else { leader % size + 1 };
        cluster.kill(victim);
        if size > 2 {
            // A majority goes on without it.
            cluster.propose(round * 100 + 50);
            acknowledged.push(value(round * 100 + 50));
            cluster.decide(acknowledged.len());
        }
        cluster.start(victim);
        let promised = before[usize::try_from(victim).unwrap() - 1];
        assert!(cluster.nodes[&victim].get_promise() >= promised, "node {victim} forgot a promise");
        cluster.decide(acknowledged.len());
        for node in cluster.nodes.values() {
            assert_eq!(decided(node, 0), acknowledged, "after round {round}");
        }
    }
}

#[test]
fn two_nodes_lose_nothing_over_kills_with_always() {
    kills(Durability::Always, 2);
}

#[test]
fn three_nodes_lose_nothing_over_kills_with_barrier() {
    kills(Durability::Barrier, 3);
}

#[test]
fn whole_cluster_comes_back_from_its_logs() {
    let mut cluster = Cluster::new(3, Durability::Barrier);
    for number in 0..50 {
        cluster.propose(number);
    }
    cluster.decide(50);
    for pid in 1..=3 {
        cluster.kill(pid);
    }
    for pid in 1..=3 {
        cluster.start(pid);
    }
    cluster.propose(50);
    cluster.decide(51);
    for node in cluster.nodes.values() {
        assert_eq!(decided(node, 0), values(0..51));
    }
}

#[test]
fn many_proposals_in_one_turn_cost_one_sync_a_node() {
    let mut cluster = Cluster::new(2, Durability::Barrier);
    cluster.propose(0);
    cluster.decide(1);
    let leader = cluster.leader();
    let before = [1, 2].map(|pid| cluster.handle(pid).stats().log.syncs);
    for number in 1..=200 {
        cluster.nodes.get_mut(&leader).unwrap().append(value(number)).unwrap();
    }
    cluster.decide(201);
    let after = [1, 2].map(|pid| cluster.handle(pid).stats().log.syncs);
    assert_eq!([after[0] - before[0], after[1] - before[1]], [1, 1]);
}

#[test]
fn proposal_that_no_segment_takes_is_refused_and_the_node_goes_on() {
    let mut cluster = Cluster::new(3, Durability::Barrier);
    let leader = cluster.leader();
    let limit = cluster.handle(leader).log().entry_bytes_max();
    let largest = Value(vec![7; usize::try_from(limit).unwrap() - 1]);
    let too_large = Value([largest.0.as_slice(), &[7]].concat());
    let follower = leader % 3 + 1;
    for pid in [leader, follower] {
        let node = cluster.nodes.get_mut(&pid).unwrap();
        let refused = node.append(too_large.clone()).unwrap_err();
        let AppendError::Unwritable { entry, source } = refused else { panic!("{refused:?}") };
        assert!(entry == too_large && source.to_string().contains("segments of one size"));
        assert!(matches!(source, StorageError::EntryTooLarge { got, limit: max, .. }
            if (got, max) == (limit + 1, limit)));
        let refused = node.append(Value(b"unencodable".to_vec())).unwrap_err();
        assert!(matches!(refused, AppendError::Unwritable { .. }), "{refused:?}");
    }
    // A node with larger segments, which no test of this kind should have, forwards it.
    let forwarded = PaxosMsg::ProposalForward(vec![too_large, value(1), largest.clone()]);
    cluster.nodes.get_mut(&leader).unwrap().handle_incoming(Message::SequencePaxos(PaxosMessage {
        from: follower,
        to: leader,
        msg: forwarded,
    }));
    cluster.decide(2);
    assert_eq!(decided(&cluster.nodes[&follower], 0), [value(1), largest]);
}

#[test]
fn node_that_fell_behind_is_brought_up_by_a_snapshot() {
    SYNC_WITH_SNAPSHOTS.set(true);
    let mut cluster = Cluster::new(3, Durability::Barrier);
    for number in 0..10 {
        cluster.propose(number);
    }
    cluster.decide(10);
    let leader = cluster.leader();
    let behind = leader % 3 + 1;
    cluster.kill(behind);
    for number in 10..30 {
        cluster.propose(number);
    }
    cluster.decide(30);
    let leader = cluster.leader();
    cluster.nodes.get_mut(&leader).unwrap().snapshot(Some(25), false).unwrap();
    cluster.turn();
    assert_eq!(cluster.handle(leader).log().first(), 25);
    cluster.start(behind);
    cluster.decide(30);
    let node = &cluster.nodes[&behind];
    assert!(node.get_compacted_idx() > 0, "a snapshot was installed");
    cluster.propose(30);
    cluster.decide(31);
    cluster.kill(behind);
    cluster.start(behind);
    cluster.decide(31);
    assert_eq!(decided(&cluster.nodes[&behind], 30), vec![value(30)]);
}

#[test]
fn stopsign_is_decided_and_survives_and_the_storage_is_used_again() {
    let mut cluster = Cluster::new(2, Durability::Always);
    for number in 0..5 {
        cluster.propose(number);
    }
    let next_config =
        ClusterConfig { configuration_id: 2, nodes: vec![1, 2], flexible_quorum: None };
    let leader = cluster.leader();
    let metadata = Some(vec![8; 2000]);
    cluster.nodes.get_mut(&leader).unwrap().reconfigure(next_config.clone(), metadata).unwrap();
    cluster.decide(6);
    for pid in 1..=2 {
        let stopsign = cluster.nodes[&pid].is_reconfigured().unwrap();
        assert_eq!(stopsign.next_config, next_config);
        // The decided index is what proves that the configuration has ended.
        cluster.handle(pid).sync().unwrap();
        cluster.kill(pid);
    }
    for pid in 1..=2 {
        let mut storage = cluster.storage(pid);
        assert_eq!(storage.start_over().unwrap().next_config, next_config);
    }
    for pid in 1..=2 {
        cluster.start(pid);
    }
    cluster.propose(70);
    cluster.decide(1);
    assert_eq!(decided(&cluster.nodes[&1], 0), vec![value(70)]);
}

/// Node 3 leads alone and writes what nobody hears of, while the others elect a leader and decide
/// something else. Returned with the leader of the others.
fn disagreement(durability: Durability) -> (Cluster, u64) {
    let mut cluster = Cluster::new(3, durability);
    for _ in 0..100 {
        cluster.turn();
        let Some(node) = cluster.nodes.get_mut(&3) else { break };
        if node.get_current_leader() == Some((3, true)) {
            break;
        }
        node.try_become_leader();
    }
    assert_eq!(cluster.leader(), 3);
    for number in 0..10 {
        cluster.propose(number);
    }
    cluster.decide(10);
    cluster.apart = Some(3);
    for number in 500..530 {
        cluster.nodes.get_mut(&3).unwrap().append(value(number)).unwrap();
    }
    for _ in 0..500 {
        cluster.turn();
        for leader in [1, 2] {
            if cluster.nodes[&leader].get_current_leader() != Some((leader, true)) {
                continue;
            }
            for number in 10..14 {
                cluster.nodes.get_mut(&leader).unwrap().append(value(number)).unwrap();
            }
            for _ in 0..50 {
                cluster.turn();
            }
            assert_eq!(cluster.nodes[&leader].get_decided_idx(), 14);
            let stray = cluster.handle(3).log().next();
            assert_eq!(stray, 40, "node 3 has entries that nobody else has");
            cluster.apart = None;
            return (cluster, leader);
        }
    }
    panic!("no other leader after 500 turns");
}

/// Node 3 hears of the others again. `false` if its storage failed and it panicked.
fn reconcile(cluster: &mut Cluster, leader: u64) -> bool {
    let turns = || {
        cluster.nodes.get_mut(&3).unwrap().reconnected(leader);
        for _ in 0..100 {
            cluster.turn();
            if cluster.nodes[&3].get_decided_idx() >= 14 {
                break;
            }
        }
    };
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(turns)).is_ok()
}

#[test]
fn disagreement_is_settled_with_a_power_cut_at_every_call() {
    for durability in [Durability::Always, Durability::Barrier] {
        let (mut cluster, leader) = disagreement(durability);
        let first = cluster.disks[&3].calls() + 1;
        assert!(reconcile(&mut cluster, leader));
        let last = cluster.disks[&3].calls();
        assert!(last > first, "settling it makes I/O");
        for call in first..=last {
            for moment in [Moment::Before, Moment::Within] {
                let (mut cluster, leader) = disagreement(durability);
                let promise = cluster.nodes[&3].get_promise();
                cluster.disks[&3].crash_at_call(call, moment);
                reconcile(&mut cluster, leader);
                assert!(cluster.disks[&3].is_down(), "call {call} was not reached");
                cluster.cuts = call;
                cluster.kill(3);
                cluster.start(3);
                assert!(cluster.nodes[&3].get_promise() >= promise, "a promise was forgotten");
                cluster.propose(14);
                cluster.decide(15);
                for node in cluster.nodes.values() {
                    assert_eq!(decided(node, 0), values(0..15), "{durability:?} {moment:?} {call}");
                }
            }
        }
    }
}
