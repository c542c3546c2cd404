//! openraft 0.10.

#[path = "same.rs"]
mod same;

use std::io;
use std::ops::Range;

use indelible::codec::Postcard;
use indelible::{Log, Options};
use indelible_groups::{Group, Groups, GroupsOptions};
use indelible_openraft::v010::{Failure, LogStore};
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use openraft::type_config::alias::{LogIdOf, VoteOf};
use openraft::vote::RaftLeaderIdExt;
use openraft::{Entry, EntryPayload, RaftTypeConfig, StorageError};
use openraft_09::storage::RaftLogStorage as _;
use openraft_010 as openraft;
use same::ids;
use tempfile::TempDir;

use super::kv_010::{Machine, Set, Types};
use super::{open_in, small, v09};

pub(crate) type Store = LogStore<Types>;
type Id = LogIdOf<Types>;
type Vote = VoteOf<Types>;

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

pub(crate) fn id(term: u64, index: u64) -> Id {
    let leader = <Types as RaftTypeConfig>::LeaderId::new_committed(term, 0);
    Id::new(leader, index)
}

fn entry(log_id: Id, command: Set) -> <Types as RaftTypeConfig>::Entry {
    Entry { log_id, payload: EntryPayload::Normal(command) }
}

fn entries(term: u64, range: Range<u64>) -> Vec<<Types as RaftTypeConfig>::Entry> {
    let set = |index: u64| Set { key: index.to_string(), value: format!("{term}.{index}") };
    range.map(|index| entry(id(term, index), set(index))).collect()
}

async fn append_all(
    store: &mut Store,
    entries: Vec<<Types as RaftTypeConfig>::Entry>,
) -> io::Result<()> {
    let (sender, receiver) = Types::oneshot();
    store.append(entries, IOFlushed::signal(sender)).await?;
    receiver.await.unwrap()
}

pub(crate) async fn append(store: &mut Store, term: u64, range: Range<u64>) -> io::Result<()> {
    append_all(store, entries(term, range)).await
}

async fn put(store: &mut Store, id: Id, command: Set) -> io::Result<()> {
    append_all(store, vec![entry(id, command)]).await
}

async fn truncate(store: &mut Store, term: u64, from: u64) -> io::Result<()> {
    store.truncate_after(from.checked_sub(1).map(|last| id(term, last))).await
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
async fn log_of_openraft_09_is_read_as_it_is() {
    let directory = TempDir::new().unwrap();
    let mut old = v09::Store::open(open_in(directory.path())).unwrap();
    old.save_vote(&openraft_09::Vote::new_committed(3, 2)).await.unwrap();
    v09::append(&mut old, 2, 0..20).await.unwrap();
    old.purge(v09::id(2, 4)).await.unwrap();
    old.save_committed(Some(v09::id(2, 15))).await.unwrap();
    old.log().close().unwrap();

    let mut store = Store::open(open_in(directory.path())).unwrap();
    assert_eq!(store.read_vote().await.unwrap(), Some(VoteOf::<Types>::new_committed(3, 2)));
    assert_eq!(store.read_committed().await.unwrap(), Some(id(2, 15)));
    assert_eq!(store.get_log_state().await.unwrap().last_purged_log_id, Some(id(2, 4)));
    let read = store.try_get_log_entries(..).await.unwrap();
    assert_eq!(format!("{read:?}"), format!("{:?}", entries(2, 5..20)));
}
