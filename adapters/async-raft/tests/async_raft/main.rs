//! The storage for async-raft: what the host's own ten integration tests ask of a storage, the
//! defects of the host that it cures, and what it keeps over restarts and crashes.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]
#![expect(clippy::needless_pass_by_value, reason = "callers give numbers and text alike")]

#[path = "../../examples/hosts/kv.rs"]
mod kv;

mod crash;
mod defects;
mod restart;
mod storage;
mod suite;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_raft::raft::ClientWriteRequest;
use async_raft::{Config, NodeId, RaftMetrics, SnapshotPolicy};
use futures_util::FutureExt;
use indelible::{Log, Options};
use kv::{Network, Previous, Set};

/// Far more than any step below takes; only a failure waits so long.
const PATIENCE: Duration = Duration::from_secs(120);

fn config() -> Arc<Config> {
    snapshots_every(5000)
}

fn snapshots_every(entries: u64) -> Arc<Config> {
    let config = Config::build("test".into())
        .heartbeat_interval(50)
        .election_timeout_min(3000)
        .election_timeout_max(6000)
        .snapshot_policy(SnapshotPolicy::LogsSinceLast(entries));
    Arc::new(config.validate().unwrap())
}

fn options() -> Options {
    Options::new().tiny_segments(64 * 1024)
}

fn in_memory() -> Log {
    Log::in_memory(&options()).unwrap()
}

fn in_directory(directory: &Path, id: NodeId) -> Log {
    Log::open_or_create(directory.join(id.to_string()), &options()).unwrap().0
}

fn set(key: impl ToString, value: impl ToString) -> Set {
    Set { key: key.to_string(), value: value.to_string() }
}

fn members(ids: impl IntoIterator<Item = NodeId>) -> HashSet<NodeId> {
    ids.into_iter().collect()
}

/// A network of nodes on logs in memory, and its first leader.
async fn cluster(
    ids: impl IntoIterator<Item = NodeId>,
    config: &Arc<Config>,
) -> (Arc<Network>, NodeId) {
    let network = Arc::new(Network::default());
    let ids = members(ids);
    for id in &ids {
        network.start(*id, config, in_memory()).unwrap();
    }
    let first = *ids.iter().min().unwrap();
    network.node(first).unwrap().initialize(ids).await.unwrap();
    let leader = elected(&network).await;
    (network, leader)
}

async fn elected(network: &Network) -> NodeId {
    until("a leader", || network.leader().is_some()).await;
    network.leader().unwrap()
}

async fn write(
    network: &Network,
    leader: NodeId,
    key: impl ToString,
    value: impl ToString,
) -> Previous {
    let request = ClientWriteRequest::new(set(key, value));
    let node = network.node(leader).unwrap();
    in_time("a write", node.client_write(request)).await.unwrap().data
}

fn metrics(network: &Network, id: NodeId) -> RaftMetrics {
    network.node(id).unwrap().metrics().borrow().clone()
}

fn value(network: &Network, id: NodeId, key: impl ToString) -> Option<String> {
    let store = network.store(id).unwrap();
    loop {
        // A compaction may have the machine for a moment, in a thread of its own.
        let look = store.with_machine(|machine| machine.data.get(&key.to_string()).cloned());
        match look.now_or_never() {
            Some(value) => return value,
            None => std::thread::yield_now(),
        }
    }
}

/// Waits for every reachable node to have a log that ends at `last` and is applied.
async fn settled(network: &Network, last: u64) {
    until("all logs to be equal", || {
        network.nodes().iter().all(|(_, node)| {
            let metrics = node.metrics().borrow().clone();
            metrics.last_log_index == last && metrics.last_applied == last
        })
    })
    .await;
}

/// What a step of the host comes to; one that never ends is a failure.
async fn in_time<T>(what: &str, step: impl Future<Output = T>) -> T {
    let step = tokio::time::timeout(PATIENCE, step).await;
    step.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    assert!(within(PATIENCE, &mut holds).await, "waited in vain for {what}");
}

async fn within(patience: Duration, holds: &mut impl FnMut() -> bool) -> bool {
    let start = tokio::time::Instant::now();
    while start.elapsed() < patience {
        if holds() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}
