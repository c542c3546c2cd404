//! openraft 0.9.

use indelible::codec::Postcard;
use indelible::{Batch, Log, Options};
use indelible_groups::{Group, Groups, GroupsOptions};
use indelible_openraft::v09::LogStore;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{
    CommittedLeaderId, Entry, EntryPayload, LogId, LogState, RaftLogReader, StorageError, Vote,
};
use openraft_09 as openraft;
use tempfile::TempDir;

use super::kv_09::{Machine, Set, Types};
use super::{open_in, small};

pub(crate) type Store = LogStore<Types>;

struct InMemory;

impl StoreBuilder<Types, Store, Machine> for InMemory {
    async fn build(&self) -> Result<((), Store, Machine), StorageError<u64>> {
        let log = Log::in_memory(&Options::new()).unwrap();
        Ok(((), LogStore::open(log.clone()).unwrap(), Machine::open(log)?))
    }
}

struct InDirectory;

impl StoreBuilder<Types, Store, Machine, TempDir> for InDirectory {
    async fn build(&self) -> Result<(TempDir, Store, Machine), StorageError<u64>> {
        let directory = TempDir::new().unwrap();
        let log = open_in(directory.path());
        Ok((directory, LogStore::open(log.clone()).unwrap(), Machine::open(log)?))
    }
}

/// One of three groups in a log; the state machine has a log of its own.
struct InGroup;

impl StoreBuilder<Types, LogStore<Types, Postcard, Group>, Machine, Groups> for InGroup {
    async fn build(
        &self,
    ) -> Result<(Groups, LogStore<Types, Postcard, Group>, Machine), StorageError<u64>> {
        let groups = Groups::in_memory(&GroupsOptions::new()).unwrap();
        let [_, group, _] = [1, 2, 3].map(|id| groups.create_group(id).unwrap());
        let log = Log::in_memory(&Options::new()).unwrap();
        Ok((groups, LogStore::open(group).unwrap(), Machine::open(log)?))
    }
}

#[test]
fn official_suite_passes_in_a_group() {
    Suite::test_all(InGroup).unwrap();
}

#[test]
fn official_suite_passes_in_memory() {
    Suite::test_all(InMemory).unwrap();
}

#[test]
fn official_suite_passes_in_a_directory() {
    Suite::test_all(InDirectory).unwrap();
}

pub(crate) fn id(term: u64, index: u64) -> LogId<u64> {
    LogId::new(CommittedLeaderId::new(term, 0), index)
}

pub(crate) fn entry(term: u64, index: u64) -> Entry<Types> {
    let set = Set { key: index.to_string(), value: format!("{term}.{index}") };
    Entry { log_id: id(term, index), payload: EntryPayload::Normal(set) }
}

pub(crate) fn entries(term: u64, range: std::ops::Range<u64>) -> Vec<Entry<Types>> {
    range.map(|index| entry(term, index)).collect()
}

/// The log id of every entry in the log.
pub(crate) async fn ids(store: &mut Store) -> Vec<LogId<u64>> {
    let entries = store.try_get_log_entries(..).await.unwrap();
    entries.iter().map(|entry| entry.log_id).collect()
}

async fn state(store: &mut Store) -> (Option<LogId<u64>>, Option<LogId<u64>>) {
    let LogState { last_purged_log_id, last_log_id } = store.get_log_state().await.unwrap();
    (last_purged_log_id, last_log_id)
}

/// Found with the fuzz target `stores_raft`: it was handed out at the index where it lay.
#[tokio::test]
async fn entry_that_states_another_index_is_refused() {
    let log = Log::in_memory(&Options::new()).unwrap();
    let mut store = Store::open(log.clone()).unwrap();
    store.blocking_append(entries(1, 0..2)).await.unwrap();
    log.append(&log.entry(0).unwrap()).unwrap();
    assert_eq!(store.try_get_log_entries(..2).await.unwrap().len(), 2);
    assert!(store.try_get_log_entries(..).await.is_err());
    assert!(store.limited_get_log_entries(2, 3).await.is_err());
    let error = store.get_log_state().await.unwrap_err();
    assert!(error.to_string().contains("its index is 0, which it cannot be"), "{error}");
}

#[tokio::test]
async fn reopened_store_has_everything() {
    let directory = TempDir::new().unwrap();
    let mut store = Store::open(open_in(directory.path())).unwrap();
    store.save_vote(&Vote::new_committed(3, 2)).await.unwrap();
    store.blocking_append(entries(2, 0..300)).await.unwrap();
    store.truncate(id(2, 200)).await.unwrap();
    store.blocking_append(entries(3, 200..250)).await.unwrap();
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
async fn purge_past_the_end_survives_reopening_and_the_log_goes_on_behind_it() {
    let directory = TempDir::new().unwrap();
    let mut store = Store::open(open_in(directory.path())).unwrap();
    store.blocking_append(entries(1, 0..10)).await.unwrap();
    store.purge(id(2, 99)).await.unwrap();
    store.log().close().unwrap();

    let mut store = Store::open(open_in(directory.path())).unwrap();
    assert_eq!(state(&mut store).await, (Some(id(2, 99)), Some(id(2, 99))));
    assert!(store.blocking_append(entries(2, 101..102)).await.is_err(), "a gap");
    store.blocking_append(entries(2, 100..102)).await.unwrap();
    assert_eq!(ids(&mut store).await, [id(2, 100), id(2, 101)]);
}

#[tokio::test]
async fn entries_behind_the_boundary_of_an_older_leader_go_with_the_purge() {
    let mut store = Store::open(Log::in_memory(&small()).unwrap()).unwrap();
    store.blocking_append(entries(1, 0..10)).await.unwrap();
    store.purge(id(2, 5)).await.unwrap();
    assert_eq!(ids(&mut store).await, []);
    store.blocking_append(entries(2, 6..8)).await.unwrap();
    assert_eq!(state(&mut store).await, (Some(id(2, 5)), Some(id(2, 7))));
}

#[tokio::test]
async fn purge_never_goes_back() {
    let mut store = Store::open(Log::in_memory(&small()).unwrap()).unwrap();
    store.blocking_append(entries(1, 0..10)).await.unwrap();
    store.purge(id(1, 5)).await.unwrap();
    store.purge(id(1, 3)).await.unwrap();
    assert_eq!(state(&mut store).await, (Some(id(1, 5)), Some(id(1, 9))));
    store.truncate(id(1, 2)).await.unwrap();
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
    store.blocking_append(entries(1, 0..5)).await.unwrap();
    assert_eq!(store.read_committed().await.unwrap(), Some(id(1, 4)));
    store.save_committed(None).await.unwrap();
    assert_eq!(store.read_committed().await.unwrap(), None);
}

#[tokio::test]
async fn limited_read_stops_at_its_limit_and_never_empty() {
    let mut store = Store::open(Log::in_memory(&Options::new()).unwrap()).unwrap();
    let large = |index| {
        let set = Set { key: String::new(), value: "x".repeat(1024 * 1024) };
        Entry::<Types> { log_id: id(1, index), payload: EntryPayload::Normal(set) }
    };
    store.blocking_append((0..8).map(large).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(store.limited_get_log_entries(0, 8).await.unwrap().len(), 3);
    assert_eq!(store.limited_get_log_entries(7, 8).await.unwrap().len(), 1);
    assert_eq!(store.limited_get_log_entries(5, 5).await.unwrap().len(), 0);
    store.purge(id(1, 5)).await.unwrap();
    assert!(store.limited_get_log_entries(2, 4).await.is_err(), "purged, so none can be returned");
}

#[tokio::test]
async fn log_of_another_host_is_refused() {
    let log = Log::in_memory(&small()).unwrap();
    let mut batch = Batch::new();
    batch.set("other.host", b"1".as_slice());
    log.commit(&batch).unwrap();
    assert!(Store::open(log).is_err());
}
