//! The storage by itself: what each call leaves behind, and what a reopen finds.

use async_raft::RaftStorage;
use async_raft::raft::{Entry, EntryConfigChange, EntryNormal, EntryPayload, MembershipConfig};
use async_raft::storage::HardState;
use indelible::codec::Postcard;
use indelible::{Batch, Error};
use indelible_async_raft::{Failure, StateMachine, Storage};
use indelible_groups::{Groups, GroupsOptions};
use kv::{Machine, Store};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

pub(crate) fn entry(index: u64, term: u64) -> Entry<Set> {
    let data = set(index, format!("{term}.{index}"));
    Entry { index, term, payload: EntryPayload::Normal(EntryNormal { data }) }
}

pub(crate) fn change(index: u64, term: u64, ids: impl IntoIterator<Item = NodeId>) -> Entry<Set> {
    let membership = MembershipConfig { members: members(ids), members_after_consensus: None };
    Entry { index, term, payload: EntryPayload::ConfigChange(EntryConfigChange { membership }) }
}

pub(crate) fn open(log: &Log) -> Store {
    Store::open(log.clone(), 0, Machine::default()).unwrap()
}

pub(crate) async fn replicate(store: &Store, entries: &[Entry<Set>]) {
    store.replicate_to_log(entries).await.unwrap();
}

pub(crate) async fn apply(store: &Store, indexes: std::ops::RangeInclusive<u64>) {
    let entries: Vec<_> = indexes.map(|index| (index, set(index, format!("1.{index}")))).collect();
    let entries: Vec<_> = entries.iter().map(|(index, data)| (index, data)).collect();
    store.replicate_to_state_machine(&entries).await.unwrap();
}

/// A snapshot as the host receives it.
async fn received(store: &Store, bytes: &[u8]) -> Box<tokio::fs::File> {
    let (_, mut file) = store.create_snapshot().await.unwrap();
    file.write_all(bytes).await.unwrap();
    file
}

/// A snapshot as the host sends it.
async fn bytes(mut file: Box<tokio::fs::File>) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).await.unwrap();
    bytes
}

/// The `(index, term)` of every entry the host can see.
pub(crate) async fn visible(store: &Store) -> Vec<(u64, u64)> {
    let entries = store.get_log_entries(0, u64::MAX).await.unwrap();
    entries.iter().map(|entry| (entry.index, entry.term)).collect()
}

#[tokio::test]
async fn empty_storage_is_pristine() {
    let log = in_memory();
    let state = open(&log).get_initial_state().await.unwrap();
    assert_eq!((state.last_log_index, state.last_log_term, state.last_applied_log), (0, 0, 0));
    assert_eq!(state.hard_state, HardState { current_term: 0, voted_for: None });
    assert_eq!(state.membership.members, members([0]));
}

#[tokio::test]
async fn storage_on_a_group_keeps_what_one_on_a_log_keeps() {
    let groups = Groups::in_memory(&GroupsOptions::new()).unwrap();
    let group = groups.create_group(7).unwrap();
    let open = || Storage::<_, Postcard, _>::open(group.clone(), 0, Machine::default()).unwrap();
    let store = open();
    store.replicate_to_log(&[entry(1, 1), entry(2, 1), entry(3, 1)]).await.unwrap();
    store.save_hard_state(&HardState { current_term: 1, voted_for: Some(0) }).await.unwrap();
    let command = set(1, "1.1".to_owned());
    store.replicate_to_state_machine(&[(&1, &command)]).await.unwrap();
    store.do_log_compaction().await.unwrap();
    let state = open().get_initial_state().await.unwrap();
    assert_eq!((state.last_log_index, state.last_log_term, state.last_applied_log), (3, 1, 1));
    assert_eq!(state.hard_state, HardState { current_term: 1, voted_for: Some(0) });
    assert_eq!((group.first(), group.next()), (2, 4));
}

/// Found with the fuzz target `stores_raft`: it was applied.
#[tokio::test]
async fn entry_that_states_another_index_is_refused() {
    let log = in_memory();
    replicate(&open(&log), &[entry(1, 1), entry(2, 1)]).await;
    log.append(&log.entry(1).unwrap()).unwrap();
    let refused = Store::open(log, 0, Machine::default());
    assert!(matches!(refused, Err(Failure::Codec { op: "decode", .. })), "{refused:?}");
}

/// Found by the fuzz target `stores_raft`: the state machine got the commands after a gap.
#[tokio::test]
async fn log_that_does_not_begin_after_its_snapshot_is_refused() {
    let log = in_memory();
    let store = open(&log);
    replicate(&store, &[entry(1, 1), entry(2, 1), entry(3, 1)]).await;
    apply(&store, 1..=3).await;
    let mut batch = Batch::new();
    batch.trim(3);
    log.commit(&batch).unwrap();
    let refused = Store::open(log, 0, Machine::default());
    assert!(matches!(refused, Err(Failure::Snapshot { op: "restore", .. })), "{refused:?}");
}

#[tokio::test]
async fn range_that_ends_before_it_starts_is_empty() {
    let log = in_memory();
    let store = open(&log);
    replicate(&store, &[entry(1, 1), entry(2, 1)]).await;
    assert!(store.get_log_entries(3, 2).await.unwrap().is_empty());
    assert_eq!(store.get_log_entries(2, 3).await.unwrap(), [entry(2, 1)]);
}

#[tokio::test]
async fn log_of_another_node_is_refused() {
    let log = in_memory();
    open(&log);
    let refused = Store::open(log, 1, Machine::default()).unwrap_err();
    assert!(matches!(refused, Failure::Log(Error::InvalidArgument { what: "log", .. })));
}

#[tokio::test]
async fn log_of_another_host_is_refused() {
    let log = in_memory();
    let mut batch = Batch::new();
    batch.append(b"something else".as_slice());
    log.commit(&batch).unwrap();
    assert!(Store::open(log, 0, Machine::default()).is_err());
}

#[tokio::test]
async fn reopened_storage_has_everything() {
    let directory = tempfile::tempdir().unwrap();
    let log = in_directory(directory.path(), 0);
    let store = open(&log);
    let hard_state = HardState { current_term: 3, voted_for: Some(2) };
    store.save_hard_state(&hard_state).await.unwrap();
    replicate(&store, &[change(1, 1, 0..3), entry(2, 1), entry(3, 3)]).await;
    apply(&store, 2..=2).await;
    log.close().unwrap();

    let store = open(&in_directory(directory.path(), 0));
    let state = store.get_initial_state().await.unwrap();
    assert_eq!((state.last_log_index, state.last_log_term, state.last_applied_log), (3, 3, 2));
    assert_eq!(state.hard_state, hard_state);
    assert_eq!(state.membership.members, members(0..3));
    assert_eq!(visible(&store).await, [(1, 1), (2, 1), (3, 3)]);
    assert_eq!(store.with_machine(|machine| machine.data.len()).await, 1);
}

#[tokio::test]
async fn entry_of_another_term_replaces_it_and_all_after() {
    let log = in_memory();
    let store = open(&log);
    replicate(&store, &[entry(1, 1), change(2, 1, 0..5), entry(3, 1)]).await;
    replicate(&store, &[entry(1, 1), entry(2, 2)]).await;
    assert_eq!(visible(&store).await, [(1, 1), (2, 2)]);
    assert_eq!(log.next(), 3);
    assert_eq!(store.get_membership_config().await.unwrap().members, members([0]));
}

#[tokio::test]
async fn deleted_entries_are_hidden_and_come_back_with_their_terms_only() {
    let log = in_memory();
    let store = open(&log);
    replicate(&store, &[entry(1, 1), entry(2, 1), change(3, 1, 0..3), entry(4, 1)]).await;
    store.delete_logs_from(2, None).await.unwrap();
    assert_eq!(visible(&store).await, [(1, 1)]);
    assert_eq!(store.get_membership_config().await.unwrap().members, members([0]));
    assert_eq!(store.get_initial_state().await.unwrap().last_log_index, 1);

    replicate(&store, &[entry(2, 1), change(3, 1, 0..3)]).await;
    assert_eq!(visible(&store).await, [(1, 1), (2, 1), (3, 1)]);
    assert_eq!(store.get_membership_config().await.unwrap().members, members(0..3));

    store.append_entry_to_log(&entry(4, 2)).await.unwrap();
    assert_eq!(visible(&store).await, [(1, 1), (2, 1), (3, 1), (4, 2)]);
}

#[tokio::test]
async fn gap_is_refused() {
    let log = in_memory();
    let store = open(&log);
    replicate(&store, &[entry(1, 1), entry(2, 1), entry(3, 1)]).await;
    assert!(store.replicate_to_log(&[entry(5, 1)]).await.is_err());
    store.delete_logs_from(2, None).await.unwrap();
    assert!(store.replicate_to_log(&[entry(3, 1)]).await.is_err());
    assert!(store.delete_logs_from(1, Some(1)).await.is_ok());
    assert_eq!(visible(&store).await, [(1, 1)]);
}

#[tokio::test]
async fn compaction_leaves_a_pointer_and_the_rest() {
    let log = in_memory();
    let store = open(&log);
    replicate(&store, &[change(1, 1, 0..3), entry(2, 1), entry(3, 1), entry(4, 1)]).await;
    assert!(store.do_log_compaction().await.is_err(), "nothing was applied yet");
    apply(&store, 2..=3).await;
    let taken = store.do_log_compaction().await.unwrap();
    assert_eq!((taken.index, taken.term), (3, 1));
    assert_eq!(visible(&store).await, [(3, 1), (4, 1)]);
    let pointer = store.get_log_entries(3, 4).await.unwrap();
    assert!(matches!(pointer[0].payload, EntryPayload::SnapshotPointer(_)));
    // A leader that reads for a lagging follower must learn of the snapshot; a follower that
    // compares one entry must learn that it is gone.
    assert_eq!(store.get_log_entries(1, 3).await.unwrap(), pointer);
    assert!(store.get_log_entries(2, 3).await.unwrap().is_empty());
    // Once more, with nothing new.
    assert_eq!(store.do_log_compaction().await.unwrap().index, 3);
}

#[tokio::test]
async fn snapshot_installs_over_a_shorter_log_and_survives_reopening() {
    let source = in_memory();
    let leader = open(&source);
    replicate(&leader, &[change(1, 1, 0..3), entry(2, 1), entry(3, 1)]).await;
    apply(&leader, 2..=3).await;
    let snapshot = leader.do_log_compaction().await.unwrap();

    let directory = tempfile::tempdir().unwrap();
    let log = in_directory(directory.path(), 0);
    let store = open(&log);
    replicate(&store, &[change(1, 1, 0..3)]).await;
    store
        .finalize_snapshot_installation(3, 1, None, String::new(), snapshot.snapshot)
        .await
        .unwrap();
    assert_eq!(visible(&store).await, [(3, 1)]);
    replicate(&store, &[entry(4, 1)]).await;
    // The leader repeats the last, empty piece when the answer was late.
    let (id, empty) = store.create_snapshot().await.unwrap();
    store.finalize_snapshot_installation(3, 1, None, id, empty).await.unwrap();
    assert_eq!(visible(&store).await, [(3, 1), (4, 1)]);
    log.close().unwrap();

    let store = open(&in_directory(directory.path(), 0));
    assert_eq!(visible(&store).await, [(3, 1), (4, 1)]);
    assert_eq!(store.get_membership_config().await.unwrap().members, members(0..3));
    assert_eq!(store.applied(), 3);
    assert_eq!(store.with_machine(|machine| machine.data["3"].clone()).await, "1.3");
}

#[tokio::test]
async fn snapshot_over_a_longer_log_keeps_what_agrees_with_it() {
    let source = in_memory();
    let leader = open(&source);
    replicate(&leader, &[entry(1, 1), entry(2, 1)]).await;
    apply(&leader, 1..=2).await;
    let agreeing = leader.do_log_compaction().await.unwrap();
    let log = in_memory();
    let store = open(&log);
    replicate(&store, &[entry(1, 1), entry(2, 1), entry(3, 1)]).await;
    store
        .finalize_snapshot_installation(2, 1, Some(2), String::new(), agreeing.snapshot)
        .await
        .unwrap();
    assert_eq!(visible(&store).await, [(2, 1)], "the host takes the snapshot for the end");
    replicate(&store, &[entry(3, 1)]).await;
    assert_eq!(visible(&store).await, [(2, 1), (3, 1)]);

    let log = in_memory();
    let store = open(&log);
    replicate(&store, &[entry(1, 0), entry(2, 0), entry(3, 0)]).await;
    let again = leader.get_current_snapshot().await.unwrap().unwrap();
    store
        .finalize_snapshot_installation(2, 1, Some(2), String::new(), again.snapshot)
        .await
        .unwrap();
    assert_eq!(visible(&store).await, [(2, 1)]);
    assert_eq!(log.next(), 3, "entries of another history are gone for good");
}

#[tokio::test]
async fn damaged_or_partial_snapshot_is_refused() {
    let log = in_memory();
    let store = open(&log);
    let source = in_memory();
    let leader = open(&source);
    replicate(&leader, &[entry(1, 1)]).await;
    apply(&leader, 1..=1).await;
    let whole = bytes(leader.do_log_compaction().await.unwrap().snapshot).await;
    for length in 0..whole.len() {
        let part = received(&store, &whole[..length]).await;
        let refused = store.finalize_snapshot_installation(1, 1, None, String::new(), part).await;
        assert!(refused.is_err(), "{length} of {} bytes", whole.len());
    }
    assert_eq!(visible(&store).await, []);
    assert_eq!(store.applied(), 0);
}

#[tokio::test]
async fn no_command_is_applied_twice() {
    let log = in_memory();
    let store = open(&log);
    replicate(&store, &[entry(1, 1), entry(2, 1)]).await;
    apply(&store, 1..=2).await;
    apply(&store, 1..=2).await;
    assert_eq!(store.with_machine(|machine| machine.applied_here).await, 2);
    let again = store.apply_entry_to_state_machine(&2, &set("x", "y")).await;
    assert!(again.unwrap_err().is::<Failure>(), "the host shuts down on this type");
}

#[tokio::test]
async fn snapshot_that_was_long_on_its_way_rolls_nothing_back() {
    let source = in_memory();
    let leader = open(&source);
    let entries: Vec<_> = (1..=15).map(|index| entry(index, 1)).collect();
    replicate(&leader, &entries).await;
    apply(&leader, 1..=5).await;
    let older = leader.do_log_compaction().await.unwrap();
    apply(&leader, 6..=10).await;
    let newer = leader.do_log_compaction().await.unwrap();

    let log = in_memory();
    let store = open(&log);
    let install =
        |index, file| store.finalize_snapshot_installation(index, 1, None, String::new(), file);
    install(10, newer.snapshot).await.unwrap();
    replicate(&store, &entries[10..]).await;
    install(5, older.snapshot).await.unwrap();
    assert_eq!((log.first(), log.next(), store.applied()), (11, 16, 10));
    assert_eq!(store.with_machine(|machine| machine.data.len()).await, 10);
    assert_eq!(store.get_current_snapshot().await.unwrap().unwrap().index, 10);
}

#[tokio::test]
async fn deleted_entries_do_not_return_after_an_orderly_close() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&in_directory(directory.path(), 0));
    replicate(&store, &[entry(1, 1), change(2, 1, 0..3), entry(3, 1), entry(4, 1)]).await;
    store.delete_logs_from(2, None).await.unwrap();
    store.close().unwrap();

    let store = open(&in_directory(directory.path(), 0));
    assert_eq!(visible(&store).await, [(1, 1)]);
    assert_eq!(store.get_initial_state().await.unwrap().last_log_index, 1);
    assert_eq!(store.get_membership_config().await.unwrap().members, members([0]));
    replicate(&store, &[entry(2, 2)]).await;
    store.close().unwrap();
    assert_eq!(visible(&open(&in_directory(directory.path(), 0))).await, [(1, 1), (2, 2)]);
}

/// A state that takes long to write.
struct Slow;

impl StateMachine for Slow {
    type Command = Set;
    type Reply = Previous;

    fn apply(&mut self, _index: u64, _set: &Set) -> Previous {
        Previous(None)
    }

    fn write_snapshot(&self, _to: &mut dyn std::io::Write) -> std::io::Result<()> {
        std::thread::sleep(Duration::from_millis(600));
        Ok(())
    }

    fn restore_snapshot(&mut self, _from: &mut dyn std::io::Read) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn compaction_does_not_hold_up_other_tasks() {
    let store = Storage::<Slow>::open(in_memory(), 0, Slow).unwrap();
    store.replicate_to_log(&[entry(1, 1), entry(2, 1)]).await.unwrap();
    store.apply_entry_to_state_machine(&1, &set(1, 1)).await.unwrap();
    let (compacting, applying) = (store.clone(), store.clone());
    let compaction =
        tokio::spawn(async move { compacting.do_log_compaction().await.unwrap().index });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let application = tokio::spawn(async move {
        applying.apply_entry_to_state_machine(&2, &set(2, 2)).await.unwrap();
    });
    // Both share this thread with whatever else the node does.
    let mut turns = 0;
    while !compaction.is_finished() {
        store.get_initial_state().await.unwrap();
        store.save_hard_state(&HardState { current_term: turns, voted_for: None }).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
        turns += 1;
    }
    assert_eq!(compaction.await.unwrap(), 1);
    application.await.unwrap();
    assert_eq!(store.applied(), 2);
    assert!(turns >= 5, "{turns} turns while the state was written");
}
