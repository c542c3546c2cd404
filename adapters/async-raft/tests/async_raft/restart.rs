//! Three nodes that are restarted from disk.

use async_raft::RaftStorage;
use async_raft::raft::EntryPayload;
use kv::{Machine, Store};

use super::*;

#[tokio::test]
async fn cluster_goes_on_while_each_node_restarts_and_nothing_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let config = snapshots_every(60);
    let network = Arc::new(Network::default());
    for id in 0..3 {
        network.start(id, &config, in_directory(directory.path(), id)).unwrap();
    }
    network.node(0).unwrap().initialize(members(0..3)).await.unwrap();
    let mut written = 0_u64;
    for restarted in 0..3 {
        let leader = elected(&network).await;
        for _ in 0..40 {
            write(&network, leader, written, written).await;
            written += 1;
        }
        equal_logs(&network).await;
        network.stop(restarted).await.unwrap();
        let leader = elected(&network).await;
        for _ in 0..40 {
            write(&network, leader, written, written).await;
            written += 1;
        }
        network.start(restarted, &config, in_directory(directory.path(), restarted)).unwrap();
        let last = metrics(&network, leader).last_log_index;
        until("it to catch up", || metrics(&network, restarted).last_log_index >= last).await;
    }
    equal_logs(&network).await;
    for id in 0..3 {
        assert!(network.store(id).unwrap().log().first() > 1, "a snapshot has replaced entries");
        network.stop(id).await.unwrap();
    }

    // Whatever was written is on every disk, in the snapshot or in the log.
    for id in 0..3 {
        let store =
            Store::open(in_directory(directory.path(), id), id, Machine::default()).unwrap();
        let mut keys: HashSet<_> =
            store.with_machine(|machine| machine.data.keys().cloned().collect()).await;
        for entry in store.get_log_entries(0, u64::MAX).await.unwrap() {
            if let EntryPayload::Normal(command) = entry.payload {
                keys.insert(command.data.key);
            }
        }
        assert_eq!(keys, (0..written).map(|key: u64| key.to_string()).collect());
        assert_eq!(store.get_membership_config().await.unwrap().members, members(0..3));
    }
}

/// Waits until no node is behind. Of two logs, one with the later term and one with the higher
/// index, the host elects neither, so a node must not be stopped while they differ.
async fn equal_logs(network: &Network) {
    until("equal logs", || {
        let ends =
            network.nodes().into_iter().map(|(_, node)| node.metrics().borrow().last_log_index);
        ends.collect::<HashSet<_>>().len() == 1
    })
    .await;
}
