//! A restart after every kind of write. What a crash leaves is in `crash`.

use indelible::Durability;
use omnipaxos::storage::{Storage, StorageOp};

use super::support::{
    Joined, Store, ballot, config, everything, options, reopen, stopsign, value, values,
};

/// Writes in the groups in which a host makes them.
fn writes() -> Vec<Vec<StorageOp<super::support::Value>>> {
    vec![
        vec![StorageOp::AppendEntry(value(0))],
        vec![StorageOp::AppendEntries(values(1..20))],
        vec![StorageOp::SetPromise(ballot(1))],
        vec![StorageOp::AppendOnPrefix(15, values(30..33))],
        vec![StorageOp::SetAcceptedRound(ballot(2))],
        vec![StorageOp::SetDecidedIndex(12)],
        vec![StorageOp::SetSnapshot(Some(Joined(vec![3; 2000])))],
        vec![StorageOp::Trim(10), StorageOp::SetCompactedIdx(10)],
        vec![StorageOp::SetStopsign(Some(stopsign(Some(vec![1; 3000]))))],
        vec![StorageOp::SetStopsign(Some(stopsign(None)))],
        vec![StorageOp::SetStopsign(None)],
        vec![StorageOp::SetSnapshot(Some(Joined(vec![4])))],
        vec![StorageOp::SetSnapshot(None)],
        vec![StorageOp::SetDecidedIndex(18)],
        vec![StorageOp::Trim(18), StorageOp::SetCompactedIdx(18)],
        vec![StorageOp::AppendEntry(value(40))],
        vec![
            StorageOp::SetDecidedIndex(30),
            StorageOp::Trim(30),
            StorageOp::SetCompactedIdx(30),
            StorageOp::AppendOnPrefix(30, values(41..44)),
        ],
    ]
}

#[test]
fn every_kind_of_write_survives_a_close() {
    let directory = tempfile::tempdir().unwrap();
    let mut storage = Store::create(&config(&directory.path().join("node"))).unwrap();
    for write in writes() {
        let name = format!("{write:?}");
        storage.write_atomically(write).unwrap();
        let before = everything(&storage);
        storage = reopen(storage);
        assert_eq!(everything(&storage), before, "after {name}");
    }
}

#[test]
fn every_kind_of_write_survives_a_drop() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(&directory.path().join("node"));
    let mut storage = Store::create(&config).unwrap();
    for write in writes() {
        let name = format!("{write:?}");
        storage.write_atomically(write).unwrap();
        let before = everything(&storage);
        drop(storage);
        storage = Store::open(&config).unwrap();
        assert_eq!(everything(&storage), before, "after {name}");
    }
}

#[test]
fn whole_sequence_in_one_batch_survives() {
    let directory = tempfile::tempdir().unwrap();
    for durability in [Durability::Always, Durability::Barrier] {
        let path = directory.path().join(format!("{durability:?}"));
        let config = config(&path).options(options(durability));
        let mut storage = Store::create(&config).unwrap();
        storage.write_atomically(writes().into_iter().flatten().collect()).unwrap();
        storage.handle().barrier().unwrap();
        let before = everything(&storage);
        drop(storage);
        assert_eq!(everything(&Store::open(&config).unwrap()), before);
    }
}
