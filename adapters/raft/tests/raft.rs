//! The store for tikv's raft: what the host reads at every edge, after a restart and after a snapshot.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::Path;

use indelible::store::Store;
use indelible::{Error, Log, Options};
use indelible_groups::{Groups, GroupsOptions};
use indelible_raft::LogStore;
use raft::prelude::{ConfState, Message, MessageType, Snapshot};
use raft::{Config, GetEntriesContext, RawNode, Storage, StorageError};
use slog::{Discard, Logger, o};

fn members(voters: impl IntoIterator<Item = u64>) -> ConfState {
    ConfState { voters: voters.into_iter().collect(), ..ConfState::default() }
}

fn options() -> Options {
    Options::new().tiny_segments(16 * 1024)
}

fn node<S: Store>(id: u64, store: &LogStore<S>) -> RawNode<LogStore<S>> {
    let applied = store.current_snapshot().unwrap().metadata.unwrap_or_default().index;
    let config = Config { id, applied, ..Config::default() };
    RawNode::new(&config, store.clone(), &Logger::root(Discard, o!())).unwrap()
}

/// Does all that a node wants done, durably.
fn settle<S: Store>(node: &mut RawNode<LogStore<S>>) {
    while node.has_ready() {
        let ready = node.ready();
        node.store().save(&ready).unwrap().wait().unwrap();
        let mut light = node.advance(ready);
        drop(light.take_committed_entries());
        node.advance_apply();
    }
}

/// A node by itself with entry 1, which is empty, and entries up to `last`.
fn leader<S: Store>(log: S, last: u64) -> RawNode<LogStore<S>> {
    let mut node = node(1, &LogStore::create(log, &members([1])).unwrap());
    node.campaign().unwrap();
    settle(&mut node);
    for index in 2..=last {
        node.propose(Vec::new(), format!("command {index}").into_bytes()).unwrap();
        settle(&mut node);
    }
    node
}

fn entries<S: Store>(
    store: &LogStore<S>,
    low: u64,
    high: u64,
    bytes: Option<u64>,
) -> raft::Result<Vec<u64>> {
    let entries = store.entries(low, high, bytes, GetEntriesContext::empty(false))?;
    Ok(entries.iter().map(|entry| entry.index).collect())
}

fn is(error: &raft::Error, expected: &StorageError) -> bool {
    matches!(error, raft::Error::Store(got) if got == expected)
}

fn create(path: &Path) -> Log {
    Log::create(path, &options()).unwrap()
}

#[test]
fn what_the_host_reads_at_the_edges_of_a_compacted_log() {
    let directory = tempfile::tempdir().unwrap();
    reads_at_the_edges(&create(&directory.path().join("1")));
}

#[test]
fn what_the_host_reads_at_the_edges_of_a_compacted_group() {
    let groups = Groups::in_memory(&GroupsOptions::new().log(options())).unwrap();
    let [_, group, _] = [1, 2, 3].map(|id| groups.create_group(id).unwrap());
    reads_at_the_edges(&group);
}

fn reads_at_the_edges(log: &impl Store) {
    let node = leader(log.clone(), 20);
    let store = node.store();
    assert_eq!((store.first_index().unwrap(), store.last_index().unwrap()), (1, 20));
    assert_eq!(store.term(0).unwrap(), 0);
    let no_snapshot = StorageError::SnapshotTemporarilyUnavailable;
    assert!(is(&store.snapshot(0, 2).unwrap_err(), &no_snapshot));

    store.compact(8, b"state at 8".to_vec()).unwrap();
    store.compact(5, b"state at 5".to_vec()).unwrap();
    // By this the command line compares logs, and refills one from another.
    let committed = store.initial_state().unwrap().hard_state.commit;
    assert!(committed >= 8);
    assert_eq!(indelible::inspect::decided_in(log), Some(committed + 1));
    assert_eq!((store.first_index().unwrap(), store.last_index().unwrap()), (9, 20));
    assert_eq!((store.term(8).unwrap(), store.term(9).unwrap()), (1, 1));
    assert!(is(&store.term(7).unwrap_err(), &StorageError::Compacted));
    assert!(is(&store.term(21).unwrap_err(), &StorageError::Unavailable));
    assert!(is(&entries(store, 8, 12, None).unwrap_err(), &StorageError::Compacted));
    assert!(is(&entries(store, 18, 22, None).unwrap_err(), &StorageError::Unavailable));
    assert_eq!(entries(store, 9, 12, None).unwrap(), [9, 10, 11]);
    assert_eq!(entries(store, 9, 12, Some(0)).unwrap(), [9]);
    assert_eq!(store.snapshot(8, 2).unwrap().data, b"state at 8");
    assert!(is(&store.snapshot(9, 2).unwrap_err(), &no_snapshot));
    let refused = store.compact(21, Vec::new());
    assert!(refused.is_err(), "{refused:?}");
}

#[test]
fn everything_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("1");
    let first = leader(create(&path), 20);
    first.store().compact(8, b"state at 8".to_vec()).unwrap();
    first.store().set_members(&members([1, 2])).unwrap();
    first.store().log().close().unwrap();
    drop(first);

    reads_after_a_restart(Log::open(&path, &options()).unwrap().0);
}

#[test]
fn everything_of_a_group_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let options = GroupsOptions::new().log(options());
    let groups = Groups::create(directory.path().join("1"), &options).unwrap();
    let first = leader(groups.create_group(7).unwrap(), 20);
    first.store().compact(8, b"state at 8".to_vec()).unwrap();
    first.store().set_members(&members([1, 2])).unwrap();
    groups.close().unwrap();
    drop((first, groups));

    let groups = Groups::open(directory.path().join("1"), &options).unwrap();
    reads_after_a_restart(groups.group(7).unwrap());
}

fn reads_after_a_restart(log: impl Store) {
    let store = LogStore::open(log).unwrap();
    let state = store.initial_state().unwrap();
    assert_eq!((state.hard_state.term, state.hard_state.vote), (1, 1));
    assert_eq!(state.conf_state, members([1, 2]));
    assert_eq!((store.first_index().unwrap(), store.last_index().unwrap()), (9, 20));
    assert_eq!(
        (store.term(8).unwrap(), store.snapshot(8, 2).unwrap().data),
        (1, b"state at 8".to_vec())
    );
    let node = node(1, &store);
    assert_eq!(node.raft.raft_log.applied, 8);
}

#[test]
fn snapshot_from_the_leader_replaces_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let leader = leader(create(&directory.path().join("1")), 20);
    leader.store().compact(20, b"state at 20".to_vec()).unwrap();
    let snapshot: Snapshot = leader.store().snapshot(20, 2).unwrap();

    let path = directory.path().join("2");
    let mut follower = node(2, &LogStore::create(create(&path), &members([1, 2])).unwrap());
    let mut message = Message { from: 1, to: 2, term: 1, ..Message::default() };
    message.set_msg_type(MessageType::MsgSnapshot);
    message.snapshot = Some(Snapshot {
        metadata: snapshot.metadata.clone().map(|mut covers| {
            covers.conf_state = Some(members([1, 2]));
            covers
        }),
        ..snapshot
    });
    follower.step(message).unwrap();
    settle(&mut follower);
    follower.store().log().close().unwrap();

    let store = LogStore::open(Log::open(&path, &options()).unwrap().0).unwrap();
    assert_eq!((store.first_index().unwrap(), store.last_index().unwrap()), (21, 20));
    assert_eq!(
        (store.term(20).unwrap(), store.current_snapshot().unwrap().data),
        (1, b"state at 20".to_vec())
    );
}

#[test]
fn log_that_is_not_its_own_is_refused() {
    let log = Log::in_memory(&options()).unwrap();
    assert!(LogStore::open(log.clone()).is_err());
    log.append(b"another host's").unwrap();
    assert!(LogStore::open(log.clone()).is_err());
    let refused = LogStore::create(log, &members([1])).unwrap_err();
    let indelible::typed::Failure::Log(refused) = refused else { unreachable!() };
    assert!(matches!(refused, Error::InvalidArgument { what: "log", .. }));
}
