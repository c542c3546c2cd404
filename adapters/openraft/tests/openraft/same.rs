//! What holds for the stores of both hosts, told once: each host's module compiles this with its own
//! `Store`, `Vote`, `Failure`, `id`, `append`, `put` and `truncate`.

use std::sync::Arc;

use indelible::io::sim::{Persistence, SimDisk};
use indelible::{Batch, Error, Log, Options};
use indelible_openraft::snapshots::Snapshots;
use tempfile::TempDir;

use super::openraft::storage::{RaftLogReader, RaftLogStorage};
use super::{Failure, Id, Set, Store, Vote, append, id, put, truncate};
use crate::{open_in, small};

/// The log id of every entry in the log.
pub(super) async fn ids(store: &mut Store) -> Vec<Id> {
    let entries = store.try_get_log_entries(..).await.unwrap();
    entries.iter().map(|entry| entry.log_id).collect()
}

/// The last purged log id, and the last one.
async fn state(store: &mut Store) -> (Option<Id>, Option<Id>) {
    let state = store.get_log_state().await.unwrap();
    (state.last_purged_log_id, state.last_log_id)
}

/// Found with the fuzz target `stores_raft`: it was handed out at the index where it lay.
#[tokio::test]
async fn entry_that_states_another_index_is_refused() {
    let log = Log::in_memory(&Options::new()).unwrap();
    let mut store = Store::open(log.clone()).unwrap();
    append(&mut store, 1, 0..2).await.unwrap();
    log.append(&log.entry(0).unwrap()).unwrap();
    assert_eq!(store.try_get_log_entries(..2).await.unwrap().len(), 2);
    assert!(store.try_get_log_entries(..).await.is_err());
    assert!(store.limited_get_log_entries(2, 3).await.is_err());
    let error = store.get_log_state().await.err().unwrap();
    assert!(error.to_string().contains("its index is 0, which it cannot be"), "{error}");
}

#[tokio::test]
async fn reopened_store_has_everything() {
    let directory = TempDir::new().unwrap();
    let mut store = Store::open(open_in(directory.path())).unwrap();
    store.save_vote(&Vote::new_committed(3, 2)).await.unwrap();
    append(&mut store, 2, 0..300).await.unwrap();
    truncate(&mut store, 2, 200).await.unwrap();
    append(&mut store, 3, 200..250).await.unwrap();
    store.purge(id(2, 99)).await.unwrap();
    store.save_committed(Some(id(3, 220))).await.unwrap();
    store.log().close().unwrap();

    let mut store = Store::open(open_in(directory.path())).unwrap();
    assert_eq!(store.read_vote().await.unwrap(), Some(Vote::new_committed(3, 2)));
    assert_eq!(store.read_committed().await.unwrap(), Some(id(3, 220)));
    assert_eq!(state(&mut store).await, (Some(id(2, 99)), Some(id(3, 249))));
    let kept = (100..200).map(|index| id(2, index)).chain((200..250).map(|index| id(3, index)));
    assert_eq!(ids(&mut store).await, kept.collect::<Vec<_>>());
}

#[tokio::test]
async fn gap_is_refused_and_nothing_changes() {
    let mut store = Store::open(Log::in_memory(&small()).unwrap()).unwrap();
    append(&mut store, 1, 0..3).await.unwrap();
    assert!(append(&mut store, 1, 4..5).await.is_err());
    assert!(append(&mut store, 1, 2..4).await.is_err());
    assert_eq!(ids(&mut store).await.len(), 3);
}

#[tokio::test]
async fn purge_past_the_end_survives_reopening_and_the_log_goes_on_after_it() {
    let directory = TempDir::new().unwrap();
    let mut store = Store::open(open_in(directory.path())).unwrap();
    append(&mut store, 1, 0..10).await.unwrap();
    store.purge(id(2, 99)).await.unwrap();
    store.log().close().unwrap();

    let mut store = Store::open(open_in(directory.path())).unwrap();
    assert_eq!(state(&mut store).await, (Some(id(2, 99)), Some(id(2, 99))));
    assert!(append(&mut store, 2, 101..102).await.is_err(), "a gap");
    append(&mut store, 2, 100..102).await.unwrap();
    assert_eq!(ids(&mut store).await, [id(2, 100), id(2, 101)]);
}

#[tokio::test]
async fn entries_after_the_boundary_of_an_older_leader_go_with_the_purge() {
    let mut store = Store::open(Log::in_memory(&small()).unwrap()).unwrap();
    append(&mut store, 1, 0..10).await.unwrap();
    store.purge(id(2, 5)).await.unwrap();
    assert_eq!(ids(&mut store).await, []);
    append(&mut store, 2, 6..8).await.unwrap();
    assert_eq!(state(&mut store).await, (Some(id(2, 5)), Some(id(2, 7))));
}

#[tokio::test]
async fn purge_never_goes_back() {
    let mut store = Store::open(Log::in_memory(&small()).unwrap()).unwrap();
    append(&mut store, 1, 0..10).await.unwrap();
    store.purge(id(1, 5)).await.unwrap();
    store.purge(id(1, 3)).await.unwrap();
    assert_eq!(state(&mut store).await, (Some(id(1, 5)), Some(id(1, 9))));
    truncate(&mut store, 1, 2).await.unwrap();
    assert_eq!(state(&mut store).await, (Some(id(1, 5)), Some(id(1, 5))));
}

#[tokio::test]
async fn committed_is_never_past_the_end() {
    let log = Log::in_memory(&small()).unwrap();
    let mut store = Store::open(log.clone()).unwrap();
    store.save_committed(Some(id(1, 7))).await.unwrap();
    assert_eq!(store.read_committed().await.unwrap(), None);
    // By this the command line compares logs, and refills one from another.
    assert_eq!(indelible::inspect::decided_in(&log), Some(8));
    append(&mut store, 1, 0..5).await.unwrap();
    assert_eq!(store.read_committed().await.unwrap(), Some(id(1, 4)));
    store.save_committed(None).await.unwrap();
    assert_eq!(store.read_committed().await.unwrap(), None);
}

#[tokio::test]
async fn committed_id_survives_a_killed_process_at_once() {
    for window in 1..5 {
        let disk = SimDisk::new(window);
        let mut store =
            Store::open(Log::create_in(Arc::new(disk.clone()), &small()).unwrap()).unwrap();
        append(&mut store, 1, 0..10 * window).await.unwrap();
        let committed = Some(id(1, 9));
        store.save_committed(committed).await.unwrap();
        // What a kill leaves: all that the system was given, durable or not.
        let killed = disk.crash_with(Persistence::Everything);
        let (log, _) = Log::open_in(Arc::new(killed), &small()).unwrap();
        assert_eq!(Store::open(log).unwrap().read_committed().await.unwrap(), committed);
    }
}

#[tokio::test]
async fn limited_read_stops_at_its_limit_and_never_empty() {
    let mut store = Store::open(Log::in_memory(&Options::new()).unwrap()).unwrap();
    for index in 0..8 {
        let large = Set { key: String::new(), value: "x".repeat(1024 * 1024) };
        put(&mut store, id(1, index), large).await.unwrap();
    }
    assert_eq!(store.limited_get_log_entries(0, 8).await.unwrap().len(), 3);
    assert_eq!(store.limited_get_log_entries(7, 8).await.unwrap().len(), 1);
    assert_eq!(store.limited_get_log_entries(5, 5).await.unwrap().len(), 0);
    store.purge(id(1, 5)).await.unwrap();
    assert!(store.limited_get_log_entries(2, 4).await.is_err(), "purged, so none can be returned");
}

#[test]
fn log_of_another_host_is_refused() {
    let log = Log::in_memory(&small()).unwrap();
    log.commit(Batch::new().set("other.host", b"1".as_slice())).unwrap();
    let refused = Store::open(log).unwrap_err();
    assert!(matches!(refused, Failure::Log(Error::InvalidArgument { .. })), "{refused}");
}

#[test]
fn log_of_another_node_is_refused() {
    let log = Log::in_memory(&small()).unwrap();
    Store::open_for(log.clone(), &1).unwrap();
    Store::open_for(log.clone(), &1).unwrap();
    let refused = Store::open_for(log, &2).unwrap_err();
    assert!(matches!(refused, Failure::Log(Error::InvalidArgument { what: "log", .. })));
}

#[tokio::test]
async fn command_that_no_segment_takes_is_known_before_the_host_sees_it() {
    let log = Log::in_memory(&small()).unwrap();
    let limit = usize::try_from(log.entry_bytes_max()).unwrap();
    let mut store = Store::open(log).unwrap();
    let command = |bytes| Set { key: "key".into(), value: "x".repeat(bytes) };
    let refused = store.admits(&command(limit)).unwrap_err();
    assert!(matches!(refused, Failure::Log(Error::TooLarge { .. })), "{refused}");
    let largest = command(limit - 300);
    store.admits(&largest).unwrap();
    put(&mut store, id(u64::MAX, 0), largest).await.unwrap();
}

#[test]
fn snapshot_is_not_replaced_by_one_that_covers_less() {
    let log = Log::in_memory(&small()).unwrap();
    Store::open(log.clone()).unwrap();
    let snapshots = Snapshots::new(log.clone());
    assert_eq!(snapshots.current().unwrap(), None);
    assert!(snapshots.keep(None, b"nothing yet").unwrap());
    assert!(snapshots.keep(Some(7), b"installed").unwrap());
    assert!(!snapshots.keep(Some(6), b"built before").unwrap());
    assert!(!snapshots.keep(None, b"nothing yet").unwrap());
    assert_eq!(Snapshots::new(log).current().unwrap().unwrap(), b"installed");
    assert!(snapshots.keep(Some(7), b"built again").unwrap());
    assert_eq!(snapshots.current().unwrap().unwrap(), b"built again");
}
