//! openraft 0.10.

use indelible::codec::Postcard;
use std::sync::Arc;

use indelible::io::sim::{Persistence, SimDisk};
use indelible::{Error, Log, Options};
use indelible_groups::{Group, Groups, GroupsOptions};
use indelible_openraft::snapshots::Snapshots;
use indelible_openraft::v010::{Failure, LogStore};
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use openraft::type_config::alias::{LogIdOf, VoteOf};
use openraft::vote::RaftLeaderIdExt;
use openraft::{Entry, EntryPayload, RaftTypeConfig, StorageError};
use openraft_09::storage::{RaftLogStorage as _, RaftLogStorageExt as _};
use openraft_010 as openraft;
use tempfile::TempDir;

use super::kv_010::{Machine, Set, Types};
use super::{open_in, small, v09};

pub(crate) type Store = LogStore<Types>;

struct InMemory;

impl StoreBuilder<Types, Store, Machine> for InMemory {
    async fn build(&self) -> Result<((), Store, Machine), StorageError<Types>> {
        let log = Log::in_memory(&Options::new()).unwrap();
        Ok(((), LogStore::open(log.clone()).unwrap(), Machine::open(log).unwrap()))
    }
}

struct InDirectory;

impl StoreBuilder<Types, Store, Machine, TempDir> for InDirectory {
    async fn build(&self) -> Result<(TempDir, Store, Machine), StorageError<Types>> {
        let directory = TempDir::new().unwrap();
        let log = open_in(directory.path());
        Ok((directory, LogStore::open(log.clone()).unwrap(), Machine::open(log).unwrap()))
    }
}

/// One of three groups in a log; the state machine has a log of its own.
struct InGroup;

impl StoreBuilder<Types, LogStore<Types, Postcard, Group>, Machine, Groups> for InGroup {
    async fn build(
        &self,
    ) -> Result<(Groups, LogStore<Types, Postcard, Group>, Machine), StorageError<Types>> {
        let groups = Groups::in_memory(&GroupsOptions::new()).unwrap();
        let [_, group, _] = [1, 2, 3].map(|id| groups.create_group(id).unwrap());
        let log = Log::in_memory(&Options::new()).unwrap();
        Ok((groups, LogStore::open(group).unwrap(), Machine::open(log).unwrap()))
    }
}

#[tokio::test]
async fn official_suite_passes_in_a_group() {
    Suite::test_all(InGroup).await.unwrap();
}

#[tokio::test]
async fn official_suite_passes_in_memory() {
    Suite::test_all(InMemory).await.unwrap();
}

#[tokio::test]
async fn official_suite_passes_in_a_directory() {
    Suite::test_all(InDirectory).await.unwrap();
}

pub(crate) fn id(term: u64, index: u64) -> LogIdOf<Types> {
    let leader = <Types as RaftTypeConfig>::LeaderId::new_committed(term, 0);
    LogIdOf::<Types>::new(leader, index)
}

fn entry(term: u64, index: u64) -> <Types as RaftTypeConfig>::Entry {
    let set = Set { key: index.to_string(), value: format!("{term}.{index}") };
    Entry { log_id: id(term, index), payload: EntryPayload::Normal(set) }
}

pub(crate) async fn append(
    store: &mut Store,
    term: u64,
    range: std::ops::Range<u64>,
) -> std::io::Result<()> {
    let (sender, receiver) = Types::oneshot();
    let entries: Vec<_> = range.map(|index| entry(term, index)).collect();
    store.append(entries, IOFlushed::signal(sender)).await?;
    receiver.await.unwrap()
}

async fn ids(store: &mut Store) -> Vec<LogIdOf<Types>> {
    let entries = store.try_get_log_entries(..).await.unwrap();
    entries.iter().map(|entry| entry.log_id).collect()
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

/// The host's own sum overflowed, and without overflow checks everything was dropped.
#[tokio::test]
async fn truncation_after_the_last_index_there_is_drops_nothing() {
    let mut store = Store::open(Log::in_memory(&Options::new()).unwrap()).unwrap();
    append(&mut store, 1, 0..2).await.unwrap();
    store.truncate_after(Some(id(1, u64::MAX))).await.unwrap();
    assert_eq!(ids(&mut store).await.len(), 2);
}

#[tokio::test]
async fn reopened_store_has_everything() {
    let directory = TempDir::new().unwrap();
    let vote = VoteOf::<Types>::new_committed(3, 2);
    let mut store = Store::open(open_in(directory.path())).unwrap();
    store.save_vote(&vote).await.unwrap();
    append(&mut store, 2, 0..300).await.unwrap();
    store.truncate_after(Some(id(2, 199))).await.unwrap();
    append(&mut store, 3, 200..250).await.unwrap();
    store.purge(id(2, 99)).await.unwrap();
    store.save_committed(Some(id(3, 220))).await.unwrap();
    store.log().close().unwrap();

    let mut store = Store::open(open_in(directory.path())).unwrap();
    assert_eq!(store.read_vote().await.unwrap(), Some(vote));
    assert_eq!(store.read_committed().await.unwrap(), Some(id(3, 220)));
    let state = store.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(id(2, 99)));
    assert_eq!(state.last_log_id, Some(id(3, 249)));
    let kept = (100..200).map(|index| id(2, index)).chain((200..250).map(|index| id(3, index)));
    assert_eq!(ids(&mut store).await, kept.collect::<Vec<_>>());
}

#[tokio::test]
async fn stream_of_entries_is_of_the_moment_it_was_asked_for() {
    use futures_util::TryStreamExt as _;

    let mut store = Store::open(Log::in_memory(&small()).unwrap()).unwrap();
    append(&mut store, 1, 0..10).await.unwrap();
    let mut reader = store.get_log_reader().await;
    let stream = reader.entries_stream(2..).await;
    store.truncate_after(Some(id(1, 4))).await.unwrap();
    append(&mut store, 2, 5..6).await.unwrap();
    let seen: Vec<_> = stream.map_ok(|entry| entry.log_id).try_collect().await.unwrap();
    assert_eq!(seen, (2..10).map(|index| id(1, index)).collect::<Vec<_>>());
    assert_eq!(ids(&mut store).await.last(), Some(&id(2, 5)));
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
async fn log_of_openraft_09_is_read_as_it_is() {
    let directory = TempDir::new().unwrap();
    let mut old = v09::Store::open(open_in(directory.path())).unwrap();
    old.save_vote(&openraft_09::Vote::new_committed(3, 2)).await.unwrap();
    old.blocking_append(v09::entries(2, 0..20)).await.unwrap();
    old.purge(v09::id(2, 4)).await.unwrap();
    old.save_committed(Some(v09::id(2, 15))).await.unwrap();
    old.log().close().unwrap();

    let mut store = Store::open(open_in(directory.path())).unwrap();
    assert_eq!(store.read_vote().await.unwrap(), Some(VoteOf::<Types>::new_committed(3, 2)));
    assert_eq!(store.read_committed().await.unwrap(), Some(id(2, 15)));
    assert_eq!(store.get_log_state().await.unwrap().last_purged_log_id, Some(id(2, 4)));
    let read = store.try_get_log_entries(..).await.unwrap();
    let expected: Vec<_> = (5..20).map(|index| entry(2, index)).collect();
    assert_eq!(format!("{read:?}"), format!("{expected:?}"));
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
async fn log_of_another_node_is_refused() {
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
    let entry = Entry { log_id: id(u64::MAX, 0), payload: EntryPayload::Normal(largest) };
    let (sender, receiver) = Types::oneshot();
    store.append([entry], IOFlushed::signal(sender)).await.unwrap();
    receiver.await.unwrap().unwrap();
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
