//! The seeds of `codec_raft`, values as the hosts' types encode themselves, and of `stores_raft`, logs
//! as their stores leave them. Sets have one member each, because async-raft's have no order.

use std::collections::{BTreeMap, BTreeSet};

use async_raft::RaftStorage as _;
use async_raft::raft::{
    Entry, EntryConfigChange, EntryNormal, EntryPayload, EntrySnapshotPointer, MembershipConfig,
};
use async_raft::storage::HardState;
use indelible::Log;
use openraft_010::storage::{IOFlushed, RaftLogStorage as _};
use openraft_010::type_config::alias::{LogIdOf, VoteOf};
use openraft_010::vote::RaftLeaderIdExt as _;
use openraft_010::{BasicNode, EntryPayload as NewPayload, Membership, RaftTypeConfig};

use crate::Seed;
use crate::codec_raft::{Command, Entry010, Types010, encoded};
use crate::stores_raft::{
    ASYNC_RAFT, ASYNC_RAFT_CELLS, CALL_SHIFT, OPENRAFT_CELLS, REPAIR, SNAPSHOT, WRITE,
};
use crate::stores_raft::{Async, Machine, NODE, New, RUNTIME, in_memory, now};

fn commands() -> [Command; 3] {
    [
        Command::Put("ink".to_owned(), vec![1, 2, 3]),
        Command::Add(-7, u128::MAX),
        Command::Many(vec![None, Some((true, 'ä'))]),
    ]
}

fn log_id(index: u64) -> LogIdOf<Types010> {
    let leader = <Types010 as RaftTypeConfig>::LeaderId::new_committed(2, 1);
    LogIdOf::<Types010>::new(leader, index)
}

fn vote() -> VoteOf<Types010> {
    VoteOf::<Types010>::new_committed(2, 1)
}

/// One entry of each payload, from index 0 on.
fn entries() -> Vec<Entry010> {
    let nodes: BTreeMap<u64, BasicNode> =
        (1..4).map(|id| (id, BasicNode::new(format!("node{id}:80")))).collect();
    let joint = vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 3])];
    let mut payloads = vec![
        NewPayload::Blank,
        NewPayload::Membership(Membership::from(nodes.clone())),
        NewPayload::Membership(Membership::new(joint, nodes).unwrap()),
    ];
    payloads.extend(commands().map(NewPayload::Normal));
    let indexed = (0..).zip(payloads);
    indexed.map(|(index, payload)| Entry010 { log_id: log_id(index), payload }).collect()
}

fn membership() -> MembershipConfig {
    MembershipConfig { members: [NODE].into(), members_after_consensus: Some([4].into()) }
}

/// One entry of each payload, from index 1 on.
fn async_entries() -> Vec<Entry<Command>> {
    let membership = membership();
    let pointer = EntrySnapshotPointer { id: "s".to_owned(), membership: membership.clone() };
    let mut payloads = vec![
        EntryPayload::Blank,
        EntryPayload::ConfigChange(EntryConfigChange { membership }),
        EntryPayload::SnapshotPointer(pointer),
    ];
    payloads.extend(commands().map(|data| EntryPayload::Normal(EntryNormal { data })));
    let indexed = (1..).zip(payloads);
    indexed.map(|(index, payload)| Entry { index, term: 2, payload }).collect()
}

/// One encoding of each value.
pub fn values() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let mut seed = |name: &str, mode: u8, bytes: Vec<u8>| {
        seeds.push((name.to_owned(), [vec![mode], bytes].concat()));
    };
    for (i, entry) in entries().iter().enumerate() {
        seed(&format!("entry_{i}"), 0, encoded(entry));
    }
    seed("vote", 1, encoded(&vote()));
    seed("log_id", 2, encoded(&log_id(300)));
    for (i, entry) in async_entries().iter().enumerate() {
        seed(&format!("async_entry_{i}"), 3, encoded(entry));
    }
    seed("hard_state", 4, encoded(&HardState { current_term: 2, voted_for: Some(1) }));
    seed("covered", 5, encoded(&(7_u64, 2_u64, membership())));
    seed("number", 6, encoded(&u64::MAX));
    seed("version", 7, encoded(&1_u32));
    seeds
}

/// Logs of both kinds of stores.
pub fn stores() -> Vec<Seed> {
    let mut seeds = openraft();
    seeds.extend(async_raft());
    seeds
}

fn openraft() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let mut seed = |name: String, log: &Log, mode| {
        seeds.push((name, script(log, OPENRAFT_CELLS, mode, None)));
    };
    let log = in_memory();
    let mut store = New::open(log.clone()).unwrap();
    now(store.save_vote(&vote())).unwrap();
    now(store.append(entries(), IOFlushed::noop())).unwrap();
    now(store.save_committed(Some(log_id(3)))).unwrap();
    seed("openraft".to_owned(), &log, 0);
    now(store.purge(log_id(1))).unwrap();
    for call in 0..8 {
        seed(format!("openraft_call_{call}"), &log, WRITE | call << CALL_SHIFT);
    }
    now(store.purge(log_id(9))).unwrap();
    seed("openraft_purged".to_owned(), &log, 0);
    seeds
}

fn async_raft() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let mut seed = |name: &str, log: &Log, mode, snapshot: Option<&[u8]>| {
        let bytes = script(log, ASYNC_RAFT_CELLS, ASYNC_RAFT | mode, snapshot);
        seeds.push((name.to_owned(), bytes));
    };
    let leader = in_memory();
    let machine = Machine { state: vec![7; 9], given: Vec::new() };
    let store = Async::open(leader.clone(), NODE, machine).unwrap();
    seed("async_raft_new", &leader, 0, None);
    now(store.save_hard_state(&HardState { current_term: 2, voted_for: Some(1) })).unwrap();
    now(store.replicate_to_log(&async_entries())).unwrap();
    let [first, second, _] = commands();
    now(store.replicate_to_state_machine(&[(&4, &first), (&5, &second)])).unwrap();
    seed("async_raft", &leader, 0, None);
    let follower = in_memory();
    drop(Async::open(follower.clone(), NODE, Machine::default()).unwrap());

    drop(RUNTIME.block_on(store.do_log_compaction()).unwrap());
    let packed = leader.side_file(SNAPSHOT).unwrap().unwrap().read_all().unwrap();
    // The length of the description, whose first byte repairing asks for.
    let unframed = [&packed[8..9], &packed[16..]].concat();
    seed("async_raft_snapshot", &leader, 0, Some(&packed));
    seed("async_raft_snapshot_repaired", &leader, REPAIR, Some(&unframed));
    seed("async_raft_install", &follower, WRITE | COVERED, Some(&packed));
    seed("async_raft_install_repaired", &follower, WRITE | REPAIR | COVERED, Some(&unframed));
    seed("async_raft_install_other", &follower, WRITE | REPAIR, Some(&unframed));
    seeds
}

/// Installs a snapshot as what it covers.
const COVERED: u8 = 1 << CALL_SHIFT;

/// The input that makes this log.
fn script(log: &Log, cells: [&str; 4], mode: u8, snapshot: Option<&[u8]>) -> Vec<u8> {
    let counted = |bytes: &[u8], more| {
        let length = u8::try_from(bytes.len() + more).unwrap();
        [&[length], bytes].concat()
    };
    let optional = |bytes: Option<&[u8]>| bytes.map_or(vec![0], |bytes| counted(bytes, 1));
    let mut input = vec![mode, 255, 0];
    input.extend(log.first().to_le_bytes());
    for cell in cells {
        input.extend(optional(log.cell(cell).as_deref()));
    }
    input.extend(optional(snapshot));
    for entry in &log.read(log.first()..log.next()).unwrap() {
        input.extend(counted(entry, 0));
    }
    input
}
