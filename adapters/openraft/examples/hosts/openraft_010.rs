//! A small key-value state machine for openraft 0.10. It keeps its snapshots beside the log, in the
//! same [`Log`]: the bytes in a side file, attached to a cell.

use std::collections::BTreeMap;
use std::io::{self, Cursor};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{Stream, TryStreamExt};
use indelible::Log;
use indelible_openraft::snapshots::Snapshots;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::type_config::alias::{LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use openraft_010 as openraft;
use serde::{Deserialize, Serialize};

/// Sets a key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Set {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl std::fmt::Display for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} = {}", self.key, self.value)
    }
}

openraft::declare_raft_types!(
    /// Keys and values, nodes with numbers for names.
    pub(crate) Types: D = Set, R = Option<String>, Node = (),
);

/// A snapshot on its way.
pub(crate) type Bytes = Cursor<Vec<u8>>;

/// What a snapshot holds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct State {
    applied: Option<LogIdOf<Types>>,
    membership: StoredMembershipOf<Types>,
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
    pub(crate) fn open(log: Log) -> io::Result<Self> {
        let snapshots = Snapshots::new(log);
        let state = match snapshots.current()? {
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
    type SnapshotData = Bytes;
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> io::Result<(Option<LogIdOf<Types>>, StoredMembershipOf<Types>)> {
        Ok(self.with(|state| (state.applied, state.membership.clone())))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let reply = self.with(|state| state.apply(entry.log_id, entry.payload));
            if let Some(responder) = responder {
                responder.send(reply);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMetaOf<Types>,
        snapshot: Bytes,
    ) -> io::Result<()> {
        let bytes = snapshot.into_inner();
        let state = decode(&bytes)?;
        self.snapshots.keep(state.applied.map(|id| id.index), &bytes)?;
        self.with(|current| *current = state);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<Types, Bytes>>> {
        let current = self.snapshots.current()?;
        current.map(|bytes| Ok(described(&decode(&bytes)?, bytes))).transpose()
    }
}

impl RaftSnapshotBuilder<Types> for Machine {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<Types, Bytes>> {
        let state = self.with(|state| state.clone());
        let bytes = postcard::to_stdvec(&state).map_err(io::Error::other)?;
        self.snapshots.keep(state.applied.map(|id| id.index), &bytes)?;
        Ok(described(&state, bytes))
    }
}

impl State {
    fn apply(&mut self, id: LogIdOf<Types>, payload: EntryPayload<Set, u64, ()>) -> Option<String> {
        self.applied = Some(id);
        match payload {
            EntryPayload::Blank => None,
            EntryPayload::Normal(set) => self.data.insert(set.key, set.value),
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembershipOf::<Types>::new(Some(id), membership);
                None
            }
        }
    }
}

/// A snapshot with what openraft wants to know of it.
fn described(state: &State, bytes: Vec<u8>) -> SnapshotOf<Types, Bytes> {
    SnapshotOf::<Types, Bytes> {
        meta: SnapshotMetaOf::<Types> {
            last_log_id: state.applied,
            last_membership: state.membership.clone(),
        },
        snapshot: Cursor::new(bytes),
    }
}

fn decode(bytes: &[u8]) -> io::Result<State> {
    postcard::from_bytes(bytes).map_err(io::Error::other)
}
