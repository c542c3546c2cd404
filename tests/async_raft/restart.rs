//! Three nodes that are restarted from disk.

use super::*;

#[tokio::test]
async fn cluster_goes_on_while_each_node_restarts_and_after_all_did() {
    let directory = tempfile::tempdir().unwrap();
    let config = snapshots_every(60);
    let network = Arc::new(Network::default());
    for id in 0..3 {
        network.start(id, &config, in_directory(directory.path(), id)).unwrap();
    }
    network.node(0).unwrap().initialize(members(0..3)).await.unwrap();
    let mut written = 0;
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

    for id in 0..3 {
        network.start(id, &config, in_directory(directory.path(), id)).unwrap();
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    // A restarted node waits half a minute before it campaigns; here it is over at once.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(30)).await;
    tokio::time::resume();
    let leader = elected(&network).await;
    write(&network, leader, written, written).await;
    for key in 0..=written {
        assert_eq!(value(&network, leader, key), Some(key.to_string()));
    }
    for id in 0..3 {
        // A follower whose leader changed forgets which entries it has still to apply; the next
        // command brings them along.
        let start = tokio::time::Instant::now();
        while value(&network, id, written).is_none() {
            assert!(start.elapsed() < PATIENCE, "node {id} does not get ahead");
            let request = ClientWriteRequest::new(set(written, written));
            drop(network.node(elected(&network).await).unwrap().client_write(request).await);
        }
        let store = network.store(id).unwrap();
        let known = store.with_machine(|machine| machine.data.len());
        assert_eq!(known, usize::try_from(written).unwrap() + 1);
        network.stop(id).await.unwrap();
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
