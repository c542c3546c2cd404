//! The stores for openraft 0.9 and 0.10: the hosts' own suites on files and in memory, and what
//! those suites do not ask: reopening, power cuts, restarts of a cluster, limits.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod causes;
#[path = "../../examples/hosts/cluster_010.rs"]
mod cluster_010;
#[path = "../../examples/hosts/cluster_09.rs"]
mod cluster_09;
mod crash;
#[path = "../../examples/hosts/openraft_010.rs"]
mod kv_010;
#[path = "../../examples/hosts/openraft_09.rs"]
mod kv_09;
mod v010;
mod v09;

use std::path::Path;
use std::time::Duration;

use indelible::{Batch, Log, Options};
use tempfile::TempDir;

/// Segments so small that the hosts' suites roll them.
fn small() -> Options {
    Options::new().tiny_segments(16 * 1024)
}

fn open_in(directory: &Path) -> Log {
    Log::open_or_create(directory.join("log"), &small()).unwrap().0
}

/// The tests of whole clusters, the same for both hosts.
macro_rules! clusters {
    ($restarts:ident, $reads:ident, $cluster:ty) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $restarts() {
            let directory = TempDir::new().unwrap();
            let cluster = <$cluster>::new(directory.path(), 50).unwrap();
            for node in 0..3 {
                cluster.start(node).await.unwrap();
            }
            cluster.initialize().await.unwrap();
            for i in 0..120 {
                cluster.set(&format!("key {}", i % 40), &i.to_string()).await.unwrap();
            }
            // One node misses so much that it needs a snapshot to come back.
            cluster.stop(2).await.unwrap();
            for i in 120..240 {
                cluster.set(&format!("key {}", i % 40), &i.to_string()).await.unwrap();
            }
            let last = cluster.leader().await.unwrap().log.next();
            cluster.start(2).await.unwrap();
            let caught_up = async {
                while cluster.node(2).unwrap().log.next() < last {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(120), caught_up).await.unwrap();
            for node in 0..3 {
                assert!(
                    cluster.node(node).unwrap().log.first() > 0,
                    "a snapshot has replaced entries"
                );
                cluster.stop(node).await.unwrap();
            }

            for node in 0..3 {
                cluster.start(node).await.unwrap();
            }
            let leader = cluster.up_to_date_leader().await.unwrap();
            for key in 0..40 {
                let value = leader.machine.get(&format!("key {key}"));
                assert_eq!(value, Some((200 + key).to_string()));
            }
            for node in 0..3 {
                cluster.stop(node).await.unwrap();
            }
        }

        /// What a power cut of all nodes may leave: the committed index, which no host syncs, is gone.
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $reads() {
            for round in 0..4 {
                let directory = TempDir::new().unwrap();
                let cluster = <$cluster>::new(directory.path(), 1000).unwrap();
                for node in 0..3 {
                    cluster.start(node).await.unwrap();
                }
                cluster.initialize().await.unwrap();
                for i in 0..20 {
                    cluster.set("key", &format!("{round}.{i}")).await.unwrap();
                }
                for node in 0..3 {
                    cluster.stop(node).await.unwrap();
                    let path = directory.path().join(node.to_string());
                    let (log, _) = Log::open(path, &Options::new()).unwrap();
                    assert!(log.cell("openraft.committed").is_some());
                    log.commit(Batch::new().clear("openraft.committed")).unwrap();
                    log.close().unwrap();
                }
                for node in 0..3 {
                    cluster.start(node).await.unwrap();
                }
                let leader = cluster.up_to_date_leader().await.unwrap();
                assert_eq!(leader.machine.get("key"), Some(format!("{round}.19")));
                for node in 0..3 {
                    cluster.stop(node).await.unwrap();
                }
            }
        }
    };
}

clusters!(
    cluster_of_openraft_09_restarts_from_disk_through_snapshots,
    read_of_openraft_09_without_a_committed_index_sees_the_last_write,
    cluster_09::Cluster
);
clusters!(
    cluster_of_openraft_010_restarts_from_disk_through_snapshots,
    read_of_openraft_010_without_a_committed_index_sees_the_last_write,
    cluster_010::Cluster
);
