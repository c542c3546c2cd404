//! What costs a sync and what does not.

use indelible::Durability;
use indelible::omnipaxos::Synced;
use omnipaxos::ballot_leader_election::Ballot;
use omnipaxos::messages::Message;
use omnipaxos::messages::sequence_paxos::{PaxosMessage, PaxosMsg, Prepare};
use omnipaxos::storage::{Storage, StorageOp};
use omnipaxos::{ClusterConfig, OmniPaxosConfig, ServerConfig};

use super::support::{Joined, Store, ballot, memory, stopsign, value, values};

/// The syncs that `writes` costs.
fn syncs(storage: &mut Store, writes: impl FnOnce(&mut Store)) -> u64 {
    let before = storage.handle().stats().log.syncs;
    writes(storage);
    storage.handle().stats().log.syncs - before
}

#[test]
fn barrier_takes_one_sync_for_any_number_of_writes() {
    let mut storage = memory(Durability::Barrier);
    let count = syncs(&mut storage, |storage| {
        for number in 0..100 {
            storage.append_entry(value(number)).unwrap();
            storage.set_decided_idx(usize::try_from(number).unwrap()).unwrap();
        }
        storage.set_promise(ballot(1)).unwrap();
        storage.handle().barrier().unwrap();
    });
    assert_eq!(count, 1);
    assert_eq!(storage.handle().log().durable(), 100);
}

#[test]
fn binding_write_is_waited_for_elsewhere_and_the_barrier_after_it_costs_nothing() {
    let mut storage = memory(Durability::Barrier);
    assert!(storage.handle().binding().is_none());
    storage.append_entries(values(0..4)).unwrap();
    let binding = storage.handle().binding().unwrap();
    storage.set_decided_idx(4).unwrap();
    assert_eq!(storage.handle().binding().unwrap().sequence(), binding.sequence());
    assert!(!binding.is_durable());
    let count = syncs(&mut storage, |storage| {
        let (tell, told) = std::sync::mpsc::channel();
        binding.on_durable(move |result| tell.send(result).unwrap());
        told.recv().unwrap().unwrap();
        storage.handle().barrier().unwrap();
    });
    assert_eq!(count, 1);
    assert_eq!(storage.handle().log().durable(), 4);
}

/// The default must be safe without [`Synced`], and need not be slow with it.
#[test]
fn synced_node_takes_one_sync_per_turn_under_always_too() {
    let server_config = ServerConfig { pid: 1, ..ServerConfig::default() };
    let cluster_config =
        ClusterConfig { configuration_id: 1, nodes: vec![1, 2, 3], flexible_quorum: None };
    let config = OmniPaxosConfig { cluster_config, server_config };
    let mut node = Synced::build(config, memory(Durability::Always)).unwrap();
    let (handle, mut outbox) = (node.handle().clone(), Vec::new());
    node.take_outgoing_messages(&mut outbox).unwrap();
    outbox.clear();
    let before = handle.stats().log;
    for n in 0..50 {
        let prepare = Prepare {
            n: Ballot { n: n + 1, ..ballot(1) },
            decided_idx: 0,
            n_accepted: Ballot::default(),
            accepted_idx: 0,
        };
        let msg = PaxosMsg::Prepare(prepare);
        node.handle_incoming(Message::SequencePaxos(PaxosMessage { from: 3, to: 1, msg }));
    }
    let after = handle.stats().log;
    assert_eq!(after.written_sequence - before.written_sequence, 50);
    assert_eq!(after.syncs, before.syncs);
    node.take_outgoing_messages(&mut outbox).unwrap();
    let after = handle.stats().log;
    assert_eq!((after.syncs, outbox.len()), (before.syncs + 1, 50));
    assert_eq!(after.durable_sequence, after.written_sequence);

    let (mut bare, handle) = node.into_inner();
    bare.try_become_leader();
    let stats = handle.stats().log;
    assert_eq!(stats.durable_sequence, stats.written_sequence, "durable on return again");
}

#[test]
fn barrier_without_writes_takes_no_sync() {
    let mut storage = memory(Durability::Barrier);
    storage.append_entries(values(0..4)).unwrap();
    storage.handle().barrier().unwrap();
    let count = syncs(&mut storage, |storage| storage.handle().barrier().unwrap());
    assert_eq!(count, 0);
}

#[test]
fn barrier_after_the_decided_index_alone_takes_no_sync() {
    let mut storage = memory(Durability::Barrier);
    storage.append_entries(values(0..4)).unwrap();
    storage.handle().barrier().unwrap();
    let count = syncs(&mut storage, |storage| {
        storage.set_decided_idx(4).unwrap();
        storage.handle().barrier().unwrap();
    });
    assert_eq!(count, 0);
    let count = syncs(&mut storage, |storage| storage.handle().sync().unwrap());
    assert_eq!(count, 1, "a full sync takes the decided index along");
}

#[test]
fn always_takes_one_sync_for_each_binding_write() {
    for durable in [
        StorageOp::AppendEntry(value(1)),
        StorageOp::AppendEntries(values(1..50)),
        StorageOp::AppendOnPrefix(2, values(1..9)),
        StorageOp::SetPromise(ballot(7)),
        StorageOp::SetAcceptedRound(ballot(7)),
        StorageOp::SetStopsign(Some(stopsign(None))),
        StorageOp::Trim(2),
        StorageOp::SetCompactedIdx(2),
        StorageOp::SetSnapshot(Some(Joined(vec![1]))),
    ] {
        let mut storage = memory(Durability::Always);
        storage.append_entries(values(0..4)).unwrap();
        let name = format!("{durable:?}");
        let count = syncs(&mut storage, |storage| storage.write_atomically(vec![durable]).unwrap());
        assert_eq!(count, 1, "{name}");
    }
}

#[test]
fn always_takes_one_sync_for_a_whole_accept_sync() {
    let mut storage = memory(Durability::Always);
    storage.append_entries(values(0..40)).unwrap();
    let count = syncs(&mut storage, |storage| {
        storage
            .write_atomically(vec![
                StorageOp::SetAcceptedRound(ballot(3)),
                StorageOp::SetDecidedIndex(35),
                StorageOp::Trim(30),
                StorageOp::SetCompactedIdx(30),
                StorageOp::SetSnapshot(Some(Joined(vec![1; 900]))),
                StorageOp::AppendOnPrefix(36, values(50..90)),
                StorageOp::SetStopsign(Some(stopsign(Some(vec![1; 100])))),
            ])
            .unwrap();
    });
    assert_eq!(count, 1);
}

#[test]
fn always_takes_no_sync_where_nothing_binds() {
    let mut storage = memory(Durability::Always);
    storage.append_entries(values(0..4)).unwrap();
    storage.set_promise(ballot(1)).unwrap();
    let count = syncs(&mut storage, |storage| {
        storage.append_entries(vec![]).unwrap();
        storage.append_on_prefix(4, vec![]).unwrap();
        storage.set_promise(ballot(1)).unwrap();
        storage.set_stopsign(None).unwrap();
        storage.write_atomically(vec![]).unwrap();
        for index in 1..=4 {
            storage.set_decided_idx(index).unwrap();
            storage.write_atomically(vec![StorageOp::SetDecidedIndex(index)]).unwrap();
            storage.set_promise(ballot(1)).unwrap();
            storage.append_entries(vec![]).unwrap();
        }
    });
    assert_eq!(count, 0);
}

#[test]
fn decided_index_rides_along_with_the_next_append() {
    let mut storage = memory(Durability::Always);
    storage.append_entries(values(0..4)).unwrap();
    storage.set_decided_idx(4).unwrap();
    let before = storage.handle().stats().log;
    let count = syncs(&mut storage, |storage| storage.append_entry(value(4)).unwrap());
    assert_eq!(count, 1);
    let after = storage.handle().stats().log;
    assert_eq!(after.written_sequence, before.written_sequence + 1, "one batch for both");
    assert_eq!(after.durable_sequence, after.written_sequence);
}
