//! Stands in for upstream's `memstore` in async-raft's own tests (`../run`): the storage is ours, in
//! a directory of its own, or, with `INDELIBLE_IN_MEMORY` set, in memory; with `INDELIBLE_IN_A_GROUP`
//! set, in one of three groups of that log.

#![expect(clippy::panic, reason = "as upstream's: there is no way to return an error")]

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Write};

use anyhow::Result;
use async_raft::async_trait::async_trait;
use async_raft::raft::{Entry, MembershipConfig};
use async_raft::storage::{CurrentSnapshotData, HardState, InitialState};
use async_raft::{AppData, AppDataResponse, NodeId, RaftStorage};
use indelible::codec::Postcard;
use indelible::{Log, Options};
use indelible_async_raft::{Failure, StateMachine, Storage};
use indelible_groups::{Group, Groups, GroupsOptions};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

/// What a client asks for.
#[derive(Serialize, Deserialize, Debug, Clone)]
pub struct ClientRequest {
    /// Who asks.
    pub client: String,
    /// The number of the request, the client's own.
    pub serial: u64,
    /// What is to be noted about the client.
    pub status: String,
}

/// What was noted about the client before.
#[derive(Serialize, Deserialize, Debug, Clone)]
pub struct ClientResponse(Option<String>);

impl AppData for ClientRequest {}
impl AppDataResponse for ClientResponse {}

/// Each client's status, and each client's last request with its reply.
#[derive(Serialize, Deserialize, Debug, Default, Clone)]
pub struct Machine {
    /// Index of the last command that was applied.
    pub last_applied_log: u64,
    requests: HashMap<String, (u64, Option<String>)>,
    status: HashMap<String, String>,
}

impl StateMachine for Machine {
    type Command = ClientRequest;
    type Reply = ClientResponse;

    fn apply(&mut self, index: u64, request: &ClientRequest) -> ClientResponse {
        self.last_applied_log = index;
        let ClientRequest { client, serial, status } = request.clone();
        if let Some((last, reply)) = self.requests.get(&client)
            && *last == serial
        {
            return ClientResponse(reply.clone());
        }
        let before = self.status.insert(client.clone(), status);
        self.requests.insert(client, (serial, before.clone()));
        ClientResponse(before)
    }

    fn write_snapshot(&self, to: &mut dyn Write) -> io::Result<()> {
        to.write_all(&postcard::to_stdvec(self).map_err(io::Error::other)?)
    }

    fn restore_snapshot(&mut self, from: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes)?;
        *self = postcard::from_bytes(&bytes).map_err(io::Error::other)?;
        Ok(())
    }
}

/// One of ours: on a log of its own, or on a group.
enum Inner {
    Log(Storage<Machine>),
    Group(Storage<Machine, Postcard, Group>),
}

/// Passes a call on to the storage, whichever it is.
macro_rules! on {
    ($store:expr, $storage:ident => $call:expr) => {
        match &$store.storage {
            Inner::Log($storage) => $call,
            Inner::Group($storage) => $call,
        }
    };
}

/// The storage of a node, under upstream's name.
pub struct MemStore {
    storage: Inner,
    _directory: TempDir,
}

impl MemStore {
    /// A storage in a new directory, which goes with it.
    pub fn new(id: NodeId) -> Self {
        let open = || -> Result<Self> {
            let directory = TempDir::new()?;
            let options = Options::new().segment_bytes(1024 * 1024);
            let log = match std::env::var_os("INDELIBLE_IN_MEMORY") {
                Some(_) => Log::in_memory(&options)?,
                None => Log::create(directory.path().join("log"), &options)?,
            };
            let storage = match std::env::var_os("INDELIBLE_IN_A_GROUP") {
                Some(_) => {
                    let groups = Groups::from_log(log, &GroupsOptions::new())?;
                    for id in [1, 2, 3] {
                        groups.create_group(id)?;
                    }
                    Inner::Group(Storage::open(groups.group(2)?, id, Machine::default())?)
                }
                None => Inner::Log(Storage::open(log, id, Machine::default())?),
            };
            Ok(Self { storage, _directory: directory })
        };
        open().unwrap_or_else(|error| panic!("node {id}: {error}"))
    }

    /// The entries by index, with the snapshot's pointer in front.
    pub async fn get_log(&self) -> BTreeMap<u64, Entry<ClientRequest>> {
        let entries = or_panic(on!(self, storage => storage.get_log_entries(0, u64::MAX).await));
        entries.into_iter().map(|entry| (entry.index, entry)).collect()
    }

    /// A copy of the state machine.
    pub async fn get_state_machine(&self) -> Machine {
        on!(self, storage => storage.with_machine(Machine::clone).await)
    }

    /// Term and vote.
    pub async fn read_hard_state(&self) -> Option<HardState> {
        Some(or_panic(on!(self, storage => storage.get_initial_state().await)).hard_state)
    }
}

fn or_panic<T>(outcome: Result<T>) -> T {
    outcome.unwrap_or_else(|error| panic!("the storage: {error}"))
}

#[async_trait]
impl RaftStorage<ClientRequest, ClientResponse> for MemStore {
    type Snapshot = tokio::fs::File;
    type ShutdownError = Failure;

    async fn get_membership_config(&self) -> Result<MembershipConfig> {
        on!(self, storage => storage.get_membership_config().await)
    }

    async fn get_initial_state(&self) -> Result<InitialState> {
        on!(self, storage => storage.get_initial_state().await)
    }

    async fn save_hard_state(&self, hard_state: &HardState) -> Result<()> {
        on!(self, storage => storage.save_hard_state(hard_state).await)
    }

    async fn get_log_entries(&self, start: u64, stop: u64) -> Result<Vec<Entry<ClientRequest>>> {
        on!(self, storage => storage.get_log_entries(start, stop).await)
    }

    async fn delete_logs_from(&self, start: u64, stop: Option<u64>) -> Result<()> {
        on!(self, storage => storage.delete_logs_from(start, stop).await)
    }

    async fn append_entry_to_log(&self, entry: &Entry<ClientRequest>) -> Result<()> {
        on!(self, storage => storage.append_entry_to_log(entry).await)
    }

    async fn replicate_to_log(&self, entries: &[Entry<ClientRequest>]) -> Result<()> {
        on!(self, storage => storage.replicate_to_log(entries).await)
    }

    async fn apply_entry_to_state_machine(
        &self,
        index: &u64,
        data: &ClientRequest,
    ) -> Result<ClientResponse> {
        on!(self, storage => storage.apply_entry_to_state_machine(index, data).await)
    }

    async fn replicate_to_state_machine(&self, entries: &[(&u64, &ClientRequest)]) -> Result<()> {
        on!(self, storage => storage.replicate_to_state_machine(entries).await)
    }

    async fn do_log_compaction(&self) -> Result<CurrentSnapshotData<Self::Snapshot>> {
        on!(self, storage => storage.do_log_compaction().await)
    }

    async fn create_snapshot(&self) -> Result<(String, Box<Self::Snapshot>)> {
        on!(self, storage => storage.create_snapshot().await)
    }

    async fn finalize_snapshot_installation(
        &self,
        index: u64,
        term: u64,
        delete_through: Option<u64>,
        id: String,
        snapshot: Box<Self::Snapshot>,
    ) -> Result<()> {
        on!(self, storage => storage.finalize_snapshot_installation(index, term, delete_through, id, snapshot).await)
    }

    async fn get_current_snapshot(&self) -> Result<Option<CurrentSnapshotData<Self::Snapshot>>> {
        on!(self, storage => storage.get_current_snapshot().await)
    }
}
