//! What costs a sync and what does not.

use indelible::Durability;
use omnipaxos::storage::{Storage, StorageOp};

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
fn binding_write_is_waited_for_elsewhere_and_the_barrier_behind_it_costs_nothing() {
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
