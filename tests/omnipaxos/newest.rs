//! The newest entries are read back as they were given: nothing is decoded for that.

use indelible::io::sim::SimDisk;
use indelible::{Durability, Error};
use omnipaxos::storage::{Storage, StorageOp};
use std::sync::Arc;

use super::support::{DECODED, Store, Value, memory, options, value, values};

/// What `read` returns, and how many entries were decoded for it.
fn decoded<T>(read: impl FnOnce() -> T) -> (T, u64) {
    let before = DECODED.get();
    let found = read();
    (found, DECODED.get() - before)
}

#[test]
fn what_was_just_decided_is_read_back_without_decoding() {
    let mut storage = memory(Durability::Barrier);
    storage.append_entries(values(0..50)).unwrap();
    storage.append_entry(value(50)).unwrap();
    storage.write_atomically(vec![StorageOp::AppendEntries(values(51..100))]).unwrap();
    storage.set_decided_idx(58).unwrap();
    assert_eq!(decoded(|| storage.get_entries(0, 100).unwrap()), (values(0..100), 0));
    assert_eq!(decoded(|| storage.get_suffix(99).unwrap()), (values(99..100), 0));
    storage.append_on_prefix(60, values(1000..1005)).unwrap();
    let expected = [values(58..60), values(1000..1005)].concat();
    assert_eq!(decoded(|| storage.get_suffix(58).unwrap()), (expected, 0));
    storage.append_on_prefix(61, vec![]).unwrap();
    assert_eq!(decoded(|| storage.get_suffix(59).unwrap()), ([value(59), value(1000)].into(), 0));
    assert_eq!(storage.get_entries(60, 62).unwrap(), []);
    storage.trim(60).unwrap();
    assert!(storage.get_entries(59, 61).is_err());
}

#[test]
fn refused_entries_are_not_remembered() {
    let mut storage = memory(Durability::Always);
    storage.append_entries(values(0..10)).unwrap();
    let refused = vec![value(77), Value(b"unencodable".to_vec())];
    storage.append_on_prefix(5, refused).unwrap_err();
    assert_eq!(decoded(|| storage.get_suffix(0).unwrap()), (values(0..10), 0));
}

#[test]
fn entries_from_before_are_decoded_up_to_the_newest() {
    let disk = SimDisk::new(1);
    let options = options(Durability::Always);
    let mut storage = Store::in_directory(Arc::new(disk.clone()), &options).unwrap();
    storage.append_entries(values(0..20)).unwrap();
    storage.handle().close().unwrap();
    // Nothing is read from a log that is closed.
    let closed = storage.get_entries(0, 5).unwrap_err();
    assert!(closed.to_string().contains(&Error::Closed.to_string()), "{closed}");
    drop(storage);
    let mut storage = Store::in_directory(Arc::new(disk), &options).unwrap();
    storage.append_entries(values(20..30)).unwrap();
    assert_eq!(decoded(|| storage.get_entries(0, 30).unwrap()), (values(0..30), 20));
    assert_eq!(decoded(|| storage.get_entries(5, 15).unwrap()), (values(5..15), 10));
    assert_eq!(decoded(|| storage.get_entries(18, 22).unwrap()), (values(18..22), 2));
}
