//! The three defects of the host: each test shows the outcome with the cure and, by the test-only
//! switch, without it.

use async_raft::RaftStorage;
use async_raft::storage::HardState;
use indelible::testing::slow::SlowDirectory;
use indelible_async_raft::Defect;
use kv::{Machine, Store};

use super::storage::{apply, change, entry, open, replicate};
use super::*;

/// Restarts a node that crashed after its commands were committed, before anything recorded that
/// they were applied; it leads, and gets one more command. How many commands has its machine?
async fn commands_after_restart(defect: Option<Defect>) -> usize {
    let log = in_memory();
    let store = open(&log);
    store.save_hard_state(&HardState { current_term: 1, voted_for: Some(0) }).await.unwrap();
    replicate(&store, &[change(1, 1, [0]), entry(2, 1), entry(3, 1), entry(4, 1)]).await;
    let store = match defect {
        Some(defect) => Store::open_uncured(log, 0, Machine::default(), defect).unwrap(),
        None => open(&log),
    };
    let network = Arc::new(Network::default());
    network.start_on(0, &config(), store);
    elected(&network).await;
    write(&network, 0, "new", 1).await;
    network.store(0).unwrap().with_machine(|machine| machine.applied_here).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarted_leader_applies_what_was_committed_before() {
    assert_eq!(commands_after_restart(None).await, 4);
    assert_eq!(commands_after_restart(Some(Defect::SkippedCommands)).await, 1);
}

/// Compacts twice in a row, with no change of members in between. Who is left?
async fn members_after_two_compactions(defect: Option<Defect>) -> HashSet<NodeId> {
    let log = in_memory();
    let store = match defect {
        Some(defect) => Store::open_uncured(log.clone(), 0, Machine::default(), defect).unwrap(),
        None => open(&log),
    };
    replicate(&store, &[change(1, 1, 0..3), entry(2, 1)]).await;
    apply(&store, 2..=2).await;
    assert_eq!(store.do_log_compaction().await.unwrap().membership.members, members(0..3));
    replicate(&store, &[entry(3, 1)]).await;
    apply(&store, 3..=3).await;
    store.do_log_compaction().await.unwrap();
    open(&log).get_initial_state().await.unwrap().membership.members
}

#[tokio::test]
async fn membership_survives_the_second_compaction() {
    assert_eq!(members_after_two_compactions(None).await, members(0..3));
    // Such a node takes itself for the whole cluster and elects itself.
    assert_eq!(members_after_two_compactions(Some(Defect::LostMembership)).await, members([0]));
}

/// Two nodes; the follower's disk takes longer than a heartbeat for a sync. How many of a few
/// writes get through in some seconds?
async fn writes_with_a_slow_follower(defect: Option<Defect>, count: u64) -> u64 {
    let network = Arc::new(Network::default());
    network.start(0, &config(), in_memory()).unwrap();
    let slow = Log::create_in(Arc::new(SlowDirectory::new(Duration::from_millis(70))), &options());
    let slow = match defect {
        Some(defect) => Store::open_uncured(slow.unwrap(), 1, Machine::default(), defect),
        None => Store::open(slow.unwrap(), 1, Machine::default()),
    };
    network.start_on(1, &config(), slow.unwrap());
    network.node(0).unwrap().initialize(members(0..2)).await.unwrap();
    assert_eq!(elected(&network).await, 0, "the other one does not campaign by itself");
    let network_of_writer = Arc::clone(&network);
    let writer = tokio::spawn(async move {
        for i in 0..count {
            write(&network_of_writer, 0, i, i).await;
        }
    });
    // With the cure it takes a second or two, on a machine that does nothing else.
    let patience = Duration::from_secs(if defect.is_some() { 5 } else { 60 });
    within(patience, &mut || writer.is_finished()).await;
    writer.abort();
    (0..count).filter(|i| value(&network, 0, i).is_some()).count() as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_follower_gets_ahead() {
    assert_eq!(writes_with_a_slow_follower(None, 5).await, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_follower_holds_everybody_up_without_the_cure() {
    assert!(writes_with_a_slow_follower(Some(Defect::Livelock), 5).await < 5);
}
