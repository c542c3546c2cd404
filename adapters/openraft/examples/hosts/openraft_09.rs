//! A small key-value state machine for openraft 0.9. It keeps its snapshots beside the log, in the
//! same [`Log`]: the bytes in a side file, attached to a cell.

#![expect(clippy::result_large_err, reason = "the host's error type")]

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::{Arc, Mutex, PoisonError};

use indelible::Log;
use indelible_openraft::snapshots::Snapshots;
use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{
    AnyError, Entry, EntryPayload, LogId, OptionalSend, RaftSnapshotBuilder, SnapshotMeta,
    StorageError, StorageIOError, StoredMembership,
};
use openraft_09 as openraft;
use serde::{Deserialize, Serialize};

/// Sets a key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Set {
    pub(crate) key: String,
    pub(crate) value: String,
}

openraft::declare_raft_types!(
    /// Keys and values, three nodes with numbers for names.
    pub(crate) Types: D = Set, R = Option<String>, Node = (),
);

type Failed = StorageError<u64>;

/// What a snapshot holds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct State {
    applied: Option<LogId<u64>>,
    membership: StoredMembership<u64, ()>,
    data: BTreeMap<String, String>,
}

/// The state machine. Clones share the state.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    state: Arc<Mutex<State>>,
    snapshots: Snapshots,
}

impl Machine {
    /// The state of the last snapshot in the log; openraft then applies what was committed since.
    pub(crate) fn open(log: Log) -> Result<Self, Failed> {
        let snapshots = Snapshots::new(log);
        let state = match snapshots.current().map_err(read)? {
            Some(bytes) => decode(&bytes)?,
            None => State::default(),
        };
        Ok(Self { state: Arc::new(Mutex::new(state)), snapshots })
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<String> {
        self.with(|state| state.data.get(key).cloned())
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<u64>>, StoredMembership<u64, ()>), Failed> {
        Ok(self.with(|state| (state.applied, state.membership.clone())))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Option<String>>, Failed>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        Ok(self.with(|state| {
            entries.into_iter().map(|entry| state.apply(entry.log_id, entry.payload)).collect()
        }))
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, Failed> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMeta<u64, ()>,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), Failed> {
        let bytes = snapshot.into_inner();
        let state = decode(&bytes)?;
        let last = state.applied.map(|id| id.index);
        self.snapshots.keep(last, &bytes).map_err(write)?;
        self.with(|current| *current = state);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, Failed> {
        let current = self.snapshots.current().map_err(read)?;
        current.map(|bytes| Ok(described(&decode(&bytes)?, bytes))).transpose()
    }
}

impl RaftSnapshotBuilder<Types> for Machine {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, Failed> {
        let state = self.with(|state| state.clone());
        let bytes = postcard::to_stdvec(&state).map_err(write)?;
        self.snapshots.keep(state.applied.map(|id| id.index), &bytes).map_err(write)?;
        Ok(described(&state, bytes))
    }
}

impl State {
    fn apply(&mut self, id: LogId<u64>, payload: EntryPayload<Types>) -> Option<String> {
        self.applied = Some(id);
        match payload {
            EntryPayload::Blank => None,
            EntryPayload::Normal(set) => self.data.insert(set.key, set.value),
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(id), membership);
                None
            }
        }
    }
}

/// A snapshot with what openraft wants to know of it.
fn described(state: &State, bytes: Vec<u8>) -> Snapshot<Types> {
    Snapshot {
        meta: SnapshotMeta {
            last_log_id: state.applied,
            last_membership: state.membership.clone(),
            snapshot_id: state.applied.map(|id| id.to_string()).unwrap_or_default(),
        },
        snapshot: Box::new(Cursor::new(bytes)),
    }
}

fn decode(bytes: &[u8]) -> Result<State, Failed> {
    postcard::from_bytes(bytes).map_err(read)
}

fn read(error: impl std::error::Error + 'static) -> Failed {
    StorageIOError::read_state_machine(AnyError::new(&error)).into()
}

fn write(error: impl std::error::Error + 'static) -> Failed {
    StorageIOError::write_state_machine(AnyError::new(&error)).into()
}
