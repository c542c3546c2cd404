//! Moving another storage's state in.

use indelible::omnipaxos::{StorageError, migrate};
use indelible::{Batch, Durability, Error, Log};
use omnipaxos::storage::{Storage, StorageOp};

use super::support::{Joined, Store, ballot, config, memory, options, stopsign, value, values};

/// A storage with something of everything.
fn source() -> Store {
    let mut storage = memory(Durability::Always);
    storage
        .write_atomically(vec![
            StorageOp::AppendEntries(values(0..5000)),
            StorageOp::SetDecidedIndex(4100),
            StorageOp::Trim(700),
            StorageOp::SetCompactedIdx(700),
            StorageOp::SetSnapshot(Some(Joined(vec![9; 4000]))),
            StorageOp::SetPromise(ballot(8)),
            StorageOp::SetAcceptedRound(ballot(7)),
            StorageOp::SetStopsign(Some(stopsign(Some(vec![1])))),
        ])
        .unwrap();
    storage
}

#[test]
fn everything_is_moved_and_survives() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(&directory.path().join("node"));
    let from = source();
    let mut to = Store::create(&config).unwrap();
    let moved = migrate(&from, &mut to).unwrap();
    assert_eq!((moved.first, moved.next, moved.decided), (700, 5000, 4100));
    assert!(moved.stopsign && moved.snapshot);
    drop(to);
    let to = Store::open(&config).unwrap();
    assert_eq!(to.get_suffix(700).unwrap(), from.get_suffix(700).unwrap());
    assert_eq!(to.get_compacted_idx().unwrap(), 700);
    assert_eq!(to.get_decided_idx().unwrap(), 4100);
    assert_eq!(to.get_promise().unwrap(), Some(ballot(8)));
    assert_eq!(to.get_accepted_round().unwrap(), Some(ballot(7)));
    assert_eq!(to.get_stopsign().unwrap(), from.get_stopsign().unwrap());
    assert_eq!(to.get_snapshot().unwrap(), from.get_snapshot().unwrap());
}

#[test]
fn fresh_storage_is_moved_as_a_fresh_one() {
    let mut to = memory(Durability::Always);
    migrate(&memory(Durability::Always), &mut to).unwrap();
    assert_eq!(to.get_promise().unwrap(), None);
    assert_eq!(to.get_log_len().unwrap(), 0);
}

#[test]
fn target_with_state_is_refused() {
    let mut to = memory(Durability::Always);
    to.append_entry(value(0)).unwrap();
    assert!(matches!(migrate(&source(), &mut to), Err(StorageError::NotFresh)));
}

#[test]
fn interrupted_migration_is_refused_at_open() {
    let log = Log::in_memory(&options(Durability::Always)).unwrap();
    drop(Store::from_log(log.clone()).unwrap());
    log.commit(Batch::new().set("omnipaxos.migrating", b"")).unwrap();
    log.append(b"vx").unwrap();
    let refused = Store::from_log(log);
    assert!(matches!(refused, Err(Error::InvalidArgument { what: "log", .. })));
}
