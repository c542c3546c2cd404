//! openraft 0.9.

#[path = "same.rs"]
#[expect(clippy::duplicate_mod, reason = "the same tests for both hosts")]
mod same;

use std::ops::Range;

use indelible::codec::Postcard;
use indelible::{Log, Options};
use indelible_groups::{Group, Groups, GroupsOptions};
use indelible_openraft::v09::{Failure, LogStore};
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{CommittedLeaderId, Entry, EntryPayload, LogId, StorageError};
use openraft_09 as openraft;
use tempfile::TempDir;

use super::kv_09::{Machine, Set, Types};
use super::open_in;

pub(crate) type Store = LogStore<Types>;
type Id = LogId<u64>;
type Vote = openraft::Vote<u64>;
type Done = Result<(), StorageError<u64>>;

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

pub(crate) fn id(term: u64, index: u64) -> Id {
    LogId::new(CommittedLeaderId::new(term, 0), index)
}

fn entry(log_id: Id, command: Set) -> Entry<Types> {
    Entry { log_id, payload: EntryPayload::Normal(command) }
}

pub(crate) async fn append(store: &mut Store, term: u64, range: Range<u64>) -> Done {
    let set = |index: u64| Set { key: index.to_string(), value: format!("{term}.{index}") };
    let entries = range.map(|index| entry(id(term, index), set(index)));
    store.blocking_append(entries.collect::<Vec<_>>()).await
}

async fn put(store: &mut Store, id: Id, command: Set) -> Done {
    store.blocking_append([entry(id, command)]).await
}

async fn truncate(store: &mut Store, term: u64, from: u64) -> Done {
    store.truncate(id(term, from)).await
}
