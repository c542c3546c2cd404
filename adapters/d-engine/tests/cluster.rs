//! Clusters of real d-engine nodes on the storage: written to, stopped, started again, read back.
//!
//! Every start gets an empty state machine, so whatever is read after a restart came out of the log;
//! only where the host purges the log does it keep its state machine. The stopped nodes' logs are
//! also opened by themselves and compared.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as its tests do")]
#![expect(clippy::panic, reason = "a test's helpers fail as its tests do")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::Duration;

use d_engine_core::{LogStore, MetaStore, StorageEngine};
use d_engine_proto::common::Entry;
use d_engine_server::{EmbeddedEngine, FileStateMachine};
use indelible::Log;
use indelible_d_engine::{DEngineStorage, Options};
use tempfile::TempDir;

const KEYS: u32 = 100;
const PATIENCE: Duration = Duration::from_secs(60);

/// What becomes of the log after a snapshot.
#[derive(Clone, Copy, PartialEq)]
enum Snapshots {
    /// There are none; every start gets an empty state machine.
    Off,
    /// The host purges the log often, and keeps its state machine.
    Often,
}

/// A cluster on loopback ports, with every node's files in one directory.
struct Cluster {
    directory: TempDir,
    ports: Vec<u16>,
    snapshots: Snapshots,
    starts: u32,
    nodes: Vec<EmbeddedEngine>,
    logs: Vec<Log>,
}

impl Cluster {
    fn new(size: usize, snapshots: Snapshots) -> Self {
        // Below the ports that outgoing connections get, and others for every process and cluster.
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let first = 10_000 + u16::try_from(std::process::id() % 1_000).unwrap() * 20;
        let bound: Vec<TcpListener> = std::iter::repeat_with(|| NEXT.fetch_add(1, Relaxed))
            .filter_map(|at| TcpListener::bind(("127.0.0.1", first + at)).ok())
            .take(size)
            .collect();
        let ports = bound.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        let directory = TempDir::new().unwrap();
        Self { directory, ports, snapshots, starts: 0, nodes: Vec::new(), logs: Vec::new() }
    }

    fn log_path(&self, id: usize) -> PathBuf {
        self.directory.path().join(format!("node{id}-log"))
    }

    /// Starts every node on its log and an empty state machine; returns when there is a leader.
    async fn start(&mut self) {
        self.starts += 1;
        for id in 1..=self.ports.len() {
            let scratch = self.directory.path().join(format!("node{id}-start{}", self.starts));
            let kept = match self.snapshots {
                Snapshots::Off => scratch.clone(),
                Snapshots::Often => self.directory.path().join(format!("node{id}-kept")),
            };
            let config = write_config(&scratch, &kept, id, &self.ports, self.snapshots);
            let storage = open(&self.log_path(id)).await;
            self.logs.push(storage.log().clone());
            let machine = FileStateMachine::new(kept.join("machine")).await.unwrap();
            let config = config.to_str().unwrap();
            let node =
                EmbeddedEngine::start_custom(storage.into(), Arc::new(machine), Some(config));
            self.nodes.push(node.await.unwrap());
        }
        for node in &self.nodes {
            node.wait_ready(PATIENCE).await.unwrap();
        }
    }

    /// Starts until every node stores what is written. A follower that is sent its first entries
    /// several times at once may go on without storing any (README, what the host does on its own);
    /// a restart mends that.
    async fn start_settled(&mut self) {
        for _ in 0..20 {
            self.start().await;
            self.put(0).await;
            for _ in 0..50 {
                let next = self.logs.iter().map(Log::next).max().unwrap();
                if self.logs.iter().all(|log| log.durable() == next) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            self.stop().await;
        }
        panic!("some node never stores anything");
    }

    /// The node that is leader now.
    async fn leader(&self) -> &EmbeddedEngine {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(node) = self.nodes.iter().find(|node| node.is_leader()) {
                return node;
            }
            assert!(tokio::time::Instant::now() < deadline, "no leader");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn put(&self, key: u32) {
        let mut last = String::new();
        for _ in 0..20 {
            let client = self.leader().await.client();
            match client.put(format!("key {key}"), value(key)).await {
                Ok(()) => return,
                Err(error) => last = format!("{error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("key {key} could not be written: {last}");
    }

    async fn assert_readable(&self, key: u32) {
        let mut last = String::new();
        for _ in 0..20 {
            let client = self.leader().await.client();
            match client.get_linearizable(format!("key {key}")).await {
                Ok(Some(found)) => return assert_eq!(found, value(key), "key {key}"),
                other => last = format!("{other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("key {key} is not back: {last}");
    }

    async fn stop(&mut self) {
        self.logs.clear();
        for node in self.nodes.drain(..) {
            node.stop().await.unwrap();
        }
    }

    /// Opens the stopped nodes' logs: each is whole, has a hard state, and states commands.
    async fn assert_logs_whole(&self) -> Vec<Vec<Entry>> {
        let mut logs = Vec::new();
        for id in 1..=self.ports.len() {
            let storage = open(&self.log_path(id)).await;
            let (log, meta) = (storage.log_store(), storage.meta_store());
            let entries = log.get_entries(1..=u64::MAX).unwrap();
            assert!(entries.iter().map(|entry| entry.index).eq(1..=log.last_index()));
            let state = meta.load_hard_state().unwrap().unwrap();
            assert!(state.current_term >= entries.last().unwrap().term, "node {id}");
            logs.push(entries);
        }
        logs
    }
}

fn value(key: u32) -> String {
    format!("value of {key}")
}

/// A stopped node's last task may hold the storage for a moment longer.
async fn open(path: &Path) -> DEngineStorage {
    let options = Options::new().segment_bytes(1024 * 1024);
    let mut last = None;
    for _ in 0..100 {
        match DEngineStorage::open_or_create(path, &options) {
            Ok(storage) => return storage,
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{}: {last:?}", path.display());
}

fn write_config(
    directory: &Path,
    kept: &Path,
    id: usize,
    ports: &[u16],
    snapshots: Snapshots,
) -> PathBuf {
    std::fs::create_dir_all(directory).unwrap();
    let nodes: Vec<String> = (1..).zip(ports).map(|(id, port)| {
        format!("{{ id = {id}, name = 'n{id}', address = '127.0.0.1:{port}', role = 1, status = 3 }}")
    }).collect();
    let port = ports.get(id - 1).unwrap();
    let nodes = nodes.join(", ");
    let (scratch, kept, enable) =
        (directory.display(), kept.display(), snapshots == Snapshots::Often);
    let config = format!(
        "[cluster]\n\
         node_id = {id}\n\
         listen_address = '127.0.0.1:{port}'\n\
         initial_cluster = [{nodes}]\n\
         db_root_dir = '{scratch}/db'\n\
         log_dir = '{scratch}/text'\n\
         [raft.election]\n\
         election_timeout_min = 500\n\
         election_timeout_max = 2000\n\
         [raft.snapshot]\n\
         enable = {enable}\n\
         max_log_entries_before_snapshot = 20\n\
         snapshot_cool_down_since_last_check = {{ secs = 0, nanos = 50000000 }}\n\
         retained_log_entries = 5\n\
         snapshots_dir = '{kept}/snapshots'\n"
    );
    let path = directory.join("node.toml");
    std::fs::write(&path, config).unwrap();
    path
}

async fn write_restart_read(size: usize) {
    let mut cluster = Cluster::new(size, Snapshots::Off);
    cluster.start_settled().await;
    for key in 0..KEYS {
        cluster.put(key).await;
    }
    cluster.stop().await;

    let logs = cluster.assert_logs_whole().await;
    let longest = logs.iter().max_by_key(|log| log.len()).unwrap();
    assert!(longest.len() > KEYS as usize, "every put and the leader's no-op are entries");
    for log in &logs {
        assert!(longest.starts_with(log), "the nodes' logs agree");
    }

    cluster.start().await;
    for key in 0..KEYS {
        cluster.assert_readable(key).await;
    }
    cluster.put(KEYS).await;
    cluster.stop().await;
    cluster.start().await;
    cluster.assert_readable(KEYS).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_reads_everything_back_after_a_restart() {
    write_restart_read(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_read_everything_back_after_a_restart() {
    write_restart_read(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_whose_log_was_purged_reads_everything_back_after_a_restart() {
    let mut cluster = Cluster::new(1, Snapshots::Often);
    cluster.start().await;
    let mut keys = 0;
    while cluster.logs.iter().any(|log| log.first() == 1) {
        assert!(keys < 3_000, "the host never purged");
        cluster.put(keys).await;
        keys += 1;
    }
    cluster.stop().await;

    let storage = open(&cluster.log_path(1)).await;
    let log = storage.log_store();
    let boundary = log.load_purge_boundary().unwrap().unwrap();
    let entries = log.get_entries(1..=u64::MAX).unwrap();
    assert!(entries.iter().map(|entry| entry.index).eq(boundary.index + 1..=log.last_index()));
    assert!(boundary.term > 0);
    drop((log, storage));

    cluster.start().await;
    for key in 0..keys {
        cluster.assert_readable(key).await;
    }
    cluster.put(keys).await;
    cluster.assert_readable(keys).await;
    cluster.stop().await;
}
