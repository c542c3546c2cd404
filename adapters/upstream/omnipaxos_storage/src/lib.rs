//! Stands in for upstream's `omnipaxos_storage` in upstream's own tests (`../run`): both of its
//! storages are ours, in a directory, under the durability that `INDELIBLE_DURABILITY` names; with
//! `INDELIBLE_IN_A_GROUP` set, each in one of three groups of a log.
//!
//! Under `barrier` nothing is synced here: upstream's test loop knows no barrier. What the tests see
//! are the files, which they also reopen.

#![expect(clippy::panic, reason = "as upstream's: there is no way to return an error")]

use std::path::Path;

use indelible::codec::Postcard;
use indelible::omnipaxos::{LogStorage, StorageConfig};
use indelible::{Durability, Options};
use indelible_groups::{Group, Groups, GroupsOptions};
use omnipaxos::storage::Entry;

/// One of ours: in a log of its own, or in a group.
enum Inner<T: Entry> {
    Log(LogStorage<T, Postcard>),
    Group(LogStorage<T, Postcard, Group>),
}

/// Opens or creates a storage, as upstream's `PersistentStorage::open` does.
fn open<T: Entry>(path: &Path) -> Inner<T> {
    let durability = match std::env::var("INDELIBLE_DURABILITY").as_deref() {
        Ok("barrier") => Durability::Barrier,
        Ok("always") => Durability::Always,
        other => panic!("INDELIBLE_DURABILITY is {other:?}, neither barrier nor always"),
    };
    let options = Options::new().segment_bytes(1024 * 1024).durability(durability);
    let opened = match std::env::var_os("INDELIBLE_IN_A_GROUP") {
        Some(_) => open_group(path, options).map(Inner::Group),
        None => LogStorage::open_or_create(&StorageConfig::with(path, options)).map(Inner::Log),
    };
    opened.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn open_group<T: Entry>(
    path: &Path,
    options: Options,
) -> indelible::Result<LogStorage<T, Postcard, Group>> {
    let groups = Groups::open_or_create(path, &GroupsOptions::new().log(options))?;
    for id in [1, 2, 3] {
        groups.open_or_create_group(id)?;
    }
    LogStorage::from_store(groups.group(2)?)
}

/// Passes every call of the trait on to the [`Inner`] in a field.
macro_rules! forward {
    ($name:ident) => {
        impl<T> Storage<T> for $name<T>
        where
            T: Entry + Serialize + for<'a> Deserialize<'a>,
            T::Snapshot: Serialize + for<'a> Deserialize<'a>,
        {
            forward!(mut write_atomically(operations: Vec<StorageOp<T>>));
            forward!(mut append_entry(entry: T));
            forward!(mut append_entries(entries: Vec<T>));
            forward!(mut append_on_prefix(from: usize, entries: Vec<T>));
            forward!(mut set_promise(ballot: Ballot));
            forward!(mut set_decided_idx(index: usize));
            forward!(mut set_accepted_round(ballot: Ballot));
            forward!(mut set_stopsign(stopsign: Option<StopSign>));
            forward!(mut trim(index: usize));
            forward!(mut set_compacted_idx(index: usize));
            forward!(mut set_snapshot(snapshot: Option<T::Snapshot>));
            forward!(get_decided_idx() -> usize);
            forward!(get_accepted_round() -> Option<Ballot>);
            forward!(get_entries(from: usize, to: usize) -> Vec<T>);
            forward!(get_log_len() -> usize);
            forward!(get_suffix(from: usize) -> Vec<T>);
            forward!(get_promise() -> Option<Ballot>);
            forward!(get_stopsign() -> Option<StopSign>);
            forward!(get_compacted_idx() -> usize);
            forward!(get_snapshot() -> Option<T::Snapshot>);
        }
    };
    (mut $call:ident($($argument:ident: $type:ty),*)) => {
        fn $call(&mut self, $($argument: $type),*) -> StorageResult<()> {
            match &mut self.storage {
                Inner::Log(storage) => storage.$call($($argument),*),
                Inner::Group(storage) => storage.$call($($argument),*),
            }
        }
    };
    ($call:ident($($argument:ident: $type:ty),*) -> $returned:ty) => {
        fn $call(&self, $($argument: $type),*) -> StorageResult<$returned> {
            match &self.storage {
                Inner::Log(storage) => storage.$call($($argument),*),
                Inner::Group(storage) => storage.$call($($argument),*),
            }
        }
    };
}

/// Upstream's module of this name.
pub mod memory_storage {
    use omnipaxos::ballot_leader_election::Ballot;
    use omnipaxos::storage::{Entry, StopSign, Storage, StorageOp, StorageResult};
    use serde::{Deserialize, Serialize};
    use tempfile::TempDir;

    use super::Inner;

    /// A storage in a new directory, which goes with it.
    pub struct MemoryStorage<T: Entry> {
        storage: Inner<T>,
        _directory: TempDir,
    }

    impl<T: Entry> Default for MemoryStorage<T> {
        fn default() -> Self {
            let directory = TempDir::new().unwrap_or_else(|error| panic!("no directory: {error}"));
            let storage = super::open(&directory.path().join("log"));
            Self { storage, _directory: directory }
        }
    }

    forward!(MemoryStorage);
}

/// Upstream's module of this name.
pub mod persistent_storage {
    use std::path::PathBuf;

    use omnipaxos::ballot_leader_election::Ballot;
    use omnipaxos::storage::{Entry, StopSign, Storage, StorageOp, StorageResult};
    use serde::{Deserialize, Serialize};

    use super::Inner;

    /// Where a storage is.
    pub struct PersistentStorageConfig(PathBuf);

    impl PersistentStorageConfig {
        /// At this path.
        pub fn with_path(path: String) -> Self {
            Self(path.into())
        }
    }

    /// A storage at a path, which stays.
    pub struct PersistentStorage<T: Entry> {
        storage: Inner<T>,
    }

    impl<T: Entry> PersistentStorage<T> {
        /// Opens or creates it.
        pub fn open(config: PersistentStorageConfig) -> Self {
            Self { storage: super::open(&config.0) }
        }
    }

    forward!(PersistentStorage);
}
