//! A small key-value state machine for async-raft, and a network of nodes in one process.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, anyhow};
use async_raft::async_trait::async_trait;
use async_raft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use async_raft::{AppData, AppDataResponse, Config, NodeId, Raft, RaftNetwork};
use indelible::Log;
use indelible_async_raft::{StateMachine, Storage};
use serde::{Deserialize, Serialize};

/// Sets a key; the reply is the value it had.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Set {
    pub(crate) key: String,
    pub(crate) value: String,
}

/// The value a key had before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Previous(pub(crate) Option<String>);

impl AppData for Set {}
impl AppDataResponse for Previous {}

/// The state machine.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    pub(crate) data: BTreeMap<String, String>,
    /// How many commands it was given since the process started; not part of the state.
    pub(crate) applied_here: usize,
}

impl StateMachine for Machine {
    type Command = Set;
    type Reply = Previous;

    fn apply(&mut self, _index: u64, set: &Set) -> Previous {
        self.applied_here += 1;
        Previous(self.data.insert(set.key.clone(), set.value.clone()))
    }

    fn write_snapshot(&self, to: &mut dyn Write) -> io::Result<()> {
        to.write_all(&postcard::to_stdvec(&self.data).map_err(io::Error::other)?)
    }

    fn restore_snapshot(&mut self, from: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes)?;
        self.data = postcard::from_bytes(&bytes).map_err(io::Error::other)?;
        Ok(())
    }
}

pub(crate) type Store = Storage<Machine>;
pub(crate) type Node = Raft<Set, Previous, Network, Store>;

/// Every node of a cluster, and which of them are cut off.
#[derive(Default)]
pub(crate) struct Network {
    nodes: Mutex<HashMap<NodeId, (Node, Store)>>,
    isolated: Mutex<HashSet<NodeId>>,
}

impl Network {
    /// Starts a node on its log.
    pub(crate) fn start(
        self: &Arc<Self>,
        id: NodeId,
        config: &Arc<Config>,
        log: Log,
    ) -> Result<Store> {
        let store = Storage::open(log, id, Machine::default())?;
        self.start_on(id, config, store.clone());
        Ok(store)
    }

    /// Starts a node on a storage.
    pub(crate) fn start_on(self: &Arc<Self>, id: NodeId, config: &Arc<Config>, store: Store) {
        let node = Raft::new(id, config.clone(), self.clone(), Arc::new(store.clone()));
        lock(&self.nodes).insert(id, (node, store));
    }

    /// Stops a node and closes its log.
    pub(crate) async fn stop(&self, id: NodeId) -> Result<()> {
        let (node, store) = lock(&self.nodes).remove(&id).ok_or_else(|| anyhow!("no node {id}"))?;
        node.shutdown().await?;
        Ok(store.close()?)
    }

    /// Cuts a node off.
    pub(crate) fn isolate(&self, id: NodeId) {
        lock(&self.isolated).insert(id);
    }

    /// Lets a node back in.
    pub(crate) fn restore(&self, id: NodeId) {
        lock(&self.isolated).remove(&id);
    }

    pub(crate) fn node(&self, id: NodeId) -> Result<Node> {
        Ok(lock(&self.nodes).get(&id).ok_or_else(|| anyhow!("no node {id}"))?.0.clone())
    }

    pub(crate) fn store(&self, id: NodeId) -> Result<Store> {
        Ok(lock(&self.nodes).get(&id).ok_or_else(|| anyhow!("no node {id}"))?.1.clone())
    }

    pub(crate) fn nodes(&self) -> Vec<(NodeId, Node)> {
        let isolated = lock(&self.isolated).clone();
        let nodes = lock(&self.nodes);
        let reachable = nodes.iter().filter(|(id, _)| !isolated.contains(id));
        reachable.map(|(id, (node, _))| (*id, node.clone())).collect()
    }

    /// The node that believes to be leader and can be reached.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        self.nodes()
            .into_iter()
            .map(|(id, _)| id)
            .find(|id| self.node(*id).is_ok_and(|node| node.metrics().borrow().state.is_leader()))
    }

    /// The node at the other end. Where there is none, some time passes, as on a real network: the
    /// host tries a lagging node again at once and without end, and gives way to nothing else.
    async fn between(&self, from: NodeId, to: NodeId) -> Result<Node> {
        let cut = [from, to].iter().any(|id| lock(&self.isolated).contains(id));
        match self.node(to) {
            Ok(node) if !cut => Ok(node),
            _ => {
                tokio::time::sleep(Duration::from_millis(10)).await;
                Err(anyhow!("no way from {from} to {to}"))
            }
        }
    }
}

#[async_trait]
impl RaftNetwork<Set> for Network {
    async fn append_entries(
        &self,
        target: NodeId,
        rpc: AppendEntriesRequest<Set>,
    ) -> Result<AppendEntriesResponse> {
        Ok(self.between(rpc.leader_id, target).await?.append_entries(rpc).await?)
    }

    async fn install_snapshot(
        &self,
        target: NodeId,
        rpc: InstallSnapshotRequest,
    ) -> Result<InstallSnapshotResponse> {
        Ok(self.between(rpc.leader_id, target).await?.install_snapshot(rpc).await?)
    }

    async fn vote(&self, target: NodeId, rpc: VoteRequest) -> Result<VoteResponse> {
        Ok(self.between(rpc.candidate_id, target).await?.vote(rpc).await?)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
