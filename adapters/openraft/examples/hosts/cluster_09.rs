//! A cluster of openraft 0.9 nodes in one process: each with its log in a directory, joined by
//! function calls.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indelible::{Log, Options};
use indelible_openraft::v09::LogStore;
use openraft::error::{
    InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use openraft::{Config, Raft, SnapshotPolicy};
use openraft_09 as openraft;

use super::kv_09::{Machine, Set, Types};

type Failed = Box<dyn std::error::Error + Send + Sync>;
type CallError<E = openraft::error::Infallible> = RPCError<u64, (), RaftError<u64, E>>;

/// One node: the host, and the log and state machine it works on.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) raft: Raft<Types>,
    pub(crate) machine: Machine,
    pub(crate) log: Log,
}

/// The nodes that are running. Clones share them.
#[derive(Clone)]
pub(crate) struct Cluster {
    nodes: Arc<Mutex<BTreeMap<u64, Node>>>,
    directory: PathBuf,
    config: Arc<Config>,
}

impl Cluster {
    /// No nodes yet; each will have a directory of its own in `directory`, and take a snapshot
    /// every `snapshot_every` entries.
    pub(crate) fn new(directory: impl Into<PathBuf>, snapshot_every: u64) -> Result<Self, Failed> {
        let config = Config {
            heartbeat_interval: 100,
            election_timeout_min: 300,
            election_timeout_max: 600,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(snapshot_every),
            max_in_snapshot_log_to_keep: 10,
            ..Config::default()
        };
        let config = Arc::new(config.validate()?);
        Ok(Self { nodes: Arc::default(), directory: directory.into(), config })
    }

    /// Starts a node on what its directory holds, which may be nothing: all nodes are started by one
    /// program, the first time and every time. A service would `create` its log once, and `open` it
    /// from then on.
    pub(crate) async fn start(&self, id: u64) -> Result<Node, Failed> {
        let path = self.directory.join(id.to_string());
        let (log, _) = Log::open_or_create(path, &Options::new().segment_bytes(1024 * 1024))?;
        let store = LogStore::<Types>::open_for(log.clone(), &id)?;
        let machine = Machine::open(log.clone())?;
        let (network, config) = (self.clone(), Arc::clone(&self.config));
        let raft = Raft::new(id, config, network, store, machine.clone()).await?;
        let node = Node { raft, machine, log };
        self.nodes().insert(id, node.clone());
        Ok(node)
    }

    /// Stops a node and closes its log.
    pub(crate) async fn stop(&self, id: u64) -> Result<(), Failed> {
        let node = self.nodes().remove(&id).ok_or("no such node")?;
        node.raft.shutdown().await?;
        Ok(node.log.close()?)
    }

    /// Makes a new cluster of the nodes that are running.
    pub(crate) async fn initialize(&self) -> Result<(), Failed> {
        let ids: BTreeSet<u64> = self.nodes().keys().copied().collect();
        let first = self.node(ids.first().copied().unwrap_or(0))?;
        Ok(first.raft.initialize(ids).await?)
    }

    /// Waits for a leader, and returns it.
    pub(crate) async fn leader(&self) -> Result<Node, Failed> {
        for _ in 0..600 {
            let nodes: Vec<_> = self.nodes().iter().map(|(id, node)| (*id, node.clone())).collect();
            for (id, node) in nodes {
                if node.raft.current_leader().await == Some(id)
                    && node.raft.ensure_linearizable().await.is_ok()
                {
                    return Ok(node);
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err("no leader was elected".into())
    }

    /// Waits for a leader that has applied every write that was acknowledged, and returns it. The host
    /// says so of a restarted leader too early (docs/ADAPTERS.md); after a write of its own it is true.
    pub(crate) async fn up_to_date_leader(&self) -> Result<Node, Failed> {
        self.set("", "").await?;
        self.leader().await
    }

    /// Sets a key, durably on a majority. Asks again if the leader lost its place meanwhile: then the
    /// key may be set twice.
    pub(crate) async fn set(&self, key: &str, value: &str) -> Result<Option<String>, Failed> {
        let set = Set { key: key.into(), value: value.into() };
        for _ in 0..20 {
            match self.leader().await?.raft.client_write(set.clone()).await {
                Ok(written) => return Ok(written.data),
                Err(error) if error.forward_to_leader::<()>().is_some() => {}
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err("no leader kept its place".into())
    }

    pub(crate) fn node(&self, id: u64) -> Result<Node, Failed> {
        Ok(self.nodes().get(&id).ok_or("no such node")?.clone())
    }

    fn nodes(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RaftNetworkFactory<Types> for Cluster {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, (): &()) -> Connection {
        Connection { cluster: self.clone(), target }
    }
}

/// The way to one node.
pub(crate) struct Connection {
    cluster: Cluster,
    target: u64,
}

impl Connection {
    #[expect(clippy::result_large_err, reason = "the host's error type")]
    fn raft<E: std::error::Error>(&self) -> Result<Raft<Types>, CallError<E>> {
        match self.cluster.node(self.target) {
            Ok(node) => Ok(node.raft),
            Err(error) => {
                Err(Unreachable::new(&NetworkError::new(&std::io::Error::other(error))).into())
            }
        }
    }

    fn remote<E: std::error::Error>(&self, error: RaftError<u64, E>) -> CallError<E> {
        RPCError::RemoteError(RemoteError::new(self.target, error))
    }
}

impl RaftNetwork<Types> for Connection {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, CallError> {
        self.raft()?.append_entries(rpc).await.map_err(|error| self.remote(error))
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<Types>,
        _option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, CallError<InstallSnapshotError>> {
        self.raft()?.install_snapshot(rpc).await.map_err(|error| self.remote(error))
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<u64>,
        _option: RPCOption,
    ) -> Result<VoteResponse<u64>, CallError> {
        self.raft()?.vote(rpc).await.map_err(|error| self.remote(error))
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(Duration::from_millis(100)))
    }
}
