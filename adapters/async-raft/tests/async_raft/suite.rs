//! What the host's own integration tests ask, on our storage: the same situations and outcomes,
//! by waiting for events and not for times.

use std::time::Duration;

use async_raft::error::{ClientReadError, InitializeError};
use async_raft::{RaftStorage, State};
use futures_util::future::join_all;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn initialization_elects_a_leader_once() {
    let network = Arc::new(Network::default());
    for id in 0..3 {
        network.start(id, &config(), in_memory()).unwrap();
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    for id in 0..3 {
        let pristine = metrics(&network, id);
        assert_eq!(pristine.state, State::NonVoter);
        assert_eq!((pristine.current_term, pristine.last_log_index), (0, 0));
        assert_eq!(pristine.membership_config.members, members([id]));
    }
    network.node(0).unwrap().initialize(members(0..3)).await.unwrap();
    let leader = elected(&network).await;
    settled(&network, 1).await;
    let again = network.node(leader).unwrap().initialize(members(0..3)).await;
    assert!(matches!(again, Err(InitializeError::NotAllowed)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_node_leads_itself() {
    let (network, leader) = cluster([7], &config()).await;
    assert_eq!(leader, 7);
    assert_eq!(write(&network, 7, "a", 1).await, Previous(None));
    assert_eq!(write(&network, 7, "a", 2).await, Previous(Some("1".into())));
    settled(&network, 3).await;
    assert_eq!(network.store(7).unwrap().applied(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_writes_reach_every_state_machine() {
    let (network, leader) = cluster(0..3, &config()).await;
    let writers = (0..6).map(|client| {
        let network = &network;
        async move {
            for i in 0..50 {
                write(network, leader, client, i).await;
            }
        }
    });
    join_all(writers).await;
    settled(&network, 301).await;
    for id in 0..3 {
        until("the state machine", || {
            (0..6).all(|c| value(&network, id, c).as_deref() == Some("49"))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_reads_are_the_leaders() {
    let (network, leader) = cluster(0..3, &config()).await;
    network.node(leader).unwrap().client_read().await.unwrap();
    for follower in (0..3).filter(|id| *id != leader) {
        let refused = network.node(follower).unwrap().client_read().await;
        assert!(matches!(refused, Err(ClientReadError::ForwardToLeader(_))));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn current_leader_is_known_to_all() {
    let (network, leader) = cluster(0..3, &config()).await;
    settled(&network, 1).await;
    for id in 0..3 {
        assert_eq!(network.node(id).unwrap().current_leader().await, Some(leader));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_ends_every_node() {
    let (network, _) = cluster(0..3, &config()).await;
    for id in 0..3 {
        network.stop(id).await.unwrap();
    }
    assert!(network.nodes().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_leader_takes_over_and_the_old_one_follows() {
    let (network, first) = cluster([0], &config()).await;
    for id in 1..5 {
        network.start(id, &config(), in_memory()).unwrap();
    }
    let node = network.node(first).unwrap();
    for id in 1..5 {
        node.add_non_voter(id).await.unwrap();
    }
    in_time("the change", node.change_membership(members(0..5))).await.unwrap();
    settled(&network, 3).await;
    network.isolate(first);
    let second = elected(&network).await;
    assert_ne!(second, first);
    settled(&network, 4).await;
    network.restore(first);
    until("the old leader to follow", || metrics(&network, first).state == State::Follower).await;
    settled(&network, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leader_steps_down_when_it_is_removed() {
    let (network, leader) = cluster(0..2, &config()).await;
    settled(&network, 1).await;
    for id in 2..4 {
        network.start(id, &config(), in_memory()).unwrap();
    }
    let rest = members((0..4).filter(|id| *id != leader));
    let node = network.node(leader).unwrap();
    in_time("the change", node.change_membership(rest.clone())).await.unwrap();
    until("it to step down", || metrics(&network, leader).state != State::Leader).await;
    let old = metrics(&network, leader);
    assert_eq!(old.last_log_index, 3);
    assert_eq!(old.membership_config.members, rest);
    in_time("the stop", network.stop(leader)).await.unwrap();
    let next = elected(&network).await;
    write(&network, next, "after", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarted_non_voter_stays_one() {
    let directory = tempfile::tempdir().unwrap();
    let network = Arc::new(Network::default());
    for id in 0..2 {
        network.start(id, &config(), in_directory(directory.path(), id)).unwrap();
    }
    network.node(0).unwrap().initialize(members([0])).await.unwrap();
    elected(&network).await;
    network.node(0).unwrap().add_non_voter(1).await.unwrap();
    write(&network, 0, "a", 1).await;
    until("replication", || metrics(&network, 1).last_log_index == 2).await;
    until("commit", || value(&network, 1, "a").is_some()).await;
    network.stop(0).await.unwrap();
    network.stop(1).await.unwrap();
    network.start(1, &config(), in_directory(directory.path(), 1)).unwrap();
    until("the start", || metrics(&network, 1).last_log_index == 2).await;
    let restarted = metrics(&network, 1);
    assert_eq!((restarted.state, restarted.current_term), (State::NonVoter, 1));
    assert_eq!(value(&network, 1, "a").as_deref(), Some("1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_is_sent_to_a_new_node() {
    let config = snapshots_every(100);
    let (network, leader) = cluster([0], &config).await;
    for i in 0..99 {
        write(&network, leader, i, i).await;
    }
    let store = network.store(leader).unwrap();
    until("the snapshot", || store.log().first() == 101).await;
    let snapshot = store.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!((snapshot.index, snapshot.term), (100, 1));
    assert_eq!(snapshot.membership.members, members([0]));

    network.start(1, &config, in_memory()).unwrap();
    network.node(leader).unwrap().add_non_voter(1).await.unwrap();
    let node = network.node(leader).unwrap();
    in_time("the change", node.change_membership(members(0..2))).await.unwrap();
    settled(&network, 102).await;
    assert_eq!(network.store(1).unwrap().log().first(), 101);
    assert_eq!(value(&network, 1, 98).as_deref(), Some("98"));
    assert_eq!(metrics(&network, 1).membership_config.members, members(0..2));
}
