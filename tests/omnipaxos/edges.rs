//! The edge table of docs/ADAPTERS.md, a test a row, on what the conformance kit cannot see: the
//! kind of error, what reaches the log, and what does not.

use indelible::omnipaxos::{StorageError, Value as Kind};
use indelible::{Durability, Error};
use omnipaxos::storage::{Storage, StorageOp};

use super::support::{Joined, Store, Value, ballot, memory, stopsign, value, values};

fn filled(count: u64) -> Store {
    let mut storage = memory(Durability::Always);
    storage.append_entries(values(0..count)).unwrap();
    storage
}

fn batches(storage: &Store) -> u64 {
    storage.handle().stats().log.batches
}

fn kind<V: std::fmt::Debug>(answer: Result<V, Box<dyn std::error::Error>>) -> StorageError {
    *answer.unwrap_err().downcast::<StorageError>().unwrap()
}

#[test]
fn empty_append_writes_nothing() {
    let mut storage = filled(2);
    let before = batches(&storage);
    storage.append_entries(vec![]).unwrap();
    assert_eq!(batches(&storage), before);
}

#[test]
fn append_on_prefix_of_nothing_at_the_end_writes_nothing() {
    let mut storage = filled(2);
    let before = batches(&storage);
    storage.append_on_prefix(2, vec![]).unwrap();
    assert_eq!(batches(&storage), before);
}

#[test]
fn append_on_prefix_inside_truncates_then_appends() {
    let mut storage = filled(5);
    storage.append_on_prefix(2, values(10..12)).unwrap();
    assert_eq!(storage.get_suffix(0).unwrap(), [values(0..2), values(10..12)].concat());
    assert_eq!(storage.handle().stats().entries_truncated, 3);
}

#[test]
fn append_on_prefix_of_nothing_after_a_stopsign_writes_nothing() {
    let mut storage = filled(2);
    storage.set_stopsign(Some(stopsign(None))).unwrap();
    let before = batches(&storage);
    storage.append_on_prefix(3, vec![]).unwrap();
    assert_eq!(batches(&storage), before);
    assert_eq!(storage.get_log_len().unwrap(), 2);
}

#[test]
fn append_on_prefix_beyond_the_end_names_both_indexes() {
    let mut storage = filled(2);
    let error = kind(storage.append_on_prefix(4, values(0..1)));
    assert!(matches!(error, StorageError::Log(Error::NonContiguous { expected: 2, got: 4 })));
}

#[test]
fn append_on_prefix_below_the_start_names_both_indexes() {
    let mut storage = filled(5);
    storage.trim(3).unwrap();
    let error = kind(storage.append_on_prefix(2, values(0..1)));
    assert!(matches!(error, StorageError::Log(Error::Trimmed { wanted: 2, first: 3 })));
}

#[test]
fn trim_beyond_the_end_resets_the_log() {
    let mut storage = filled(5);
    storage
        .write_atomically(vec![
            StorageOp::Trim(9),
            StorageOp::SetCompactedIdx(9),
            StorageOp::AppendOnPrefix(9, values(9..11)),
        ])
        .unwrap();
    assert_eq!((storage.handle().log().first(), storage.handle().log().next()), (9, 11));
    let stats = storage.handle().stats();
    assert_eq!((stats.resets, stats.trims, stats.entries_trimmed), (1, 1, 5));
}

#[test]
fn trim_below_the_start_writes_nothing() {
    let mut storage = filled(5);
    storage.trim(3).unwrap();
    let before = batches(&storage);
    storage.trim(3).unwrap();
    storage.trim(1).unwrap();
    assert_eq!(batches(&storage), before);
}

#[test]
fn reads_beyond_the_end_have_no_part() {
    let storage = filled(5);
    assert_eq!(storage.get_entries(3, 6).unwrap(), vec![]);
    assert_eq!(storage.get_entries(4, 4).unwrap(), vec![]);
    assert_eq!(storage.get_entries(4, 2).unwrap(), vec![]);
    assert_eq!(storage.get_suffix(5).unwrap(), vec![]);
    assert_eq!(storage.get_suffix(6).unwrap(), vec![]);
    assert_eq!(storage.get_suffix(usize::MAX).unwrap(), vec![]);
    assert_eq!(storage.get_entries(0, usize::MAX).unwrap(), vec![]);
}

#[test]
fn reads_below_the_compacted_index_are_errors_though_the_entries_are_there() {
    let mut storage = filled(5);
    storage.set_compacted_idx(3).unwrap();
    let error = kind(storage.get_entries(2, 4));
    assert!(matches!(error, StorageError::Log(Error::Trimmed { wanted: 2, first: 3 })));
    assert!(storage.get_suffix(0).is_err());
    assert_eq!(storage.get_log_len().unwrap(), 2);
}

#[test]
fn same_promise_writes_nothing_and_another_configuration_is_not_the_same() {
    let mut storage = filled(0);
    storage.set_promise(ballot(1)).unwrap();
    let before = batches(&storage);
    storage.set_promise(ballot(1)).unwrap();
    assert_eq!(batches(&storage), before);
    let mut other = ballot(1);
    other.config_id += 1;
    storage.set_promise(other).unwrap();
    assert_eq!(batches(&storage), before + 1);
    assert_eq!(storage.get_promise().unwrap().unwrap().config_id, other.config_id);
}

#[test]
fn clearing_what_is_clear_writes_nothing() {
    let mut storage = filled(1);
    let before = batches(&storage);
    storage.set_stopsign(None).unwrap();
    storage.set_snapshot(None).unwrap();
    assert_eq!(batches(&storage), before);
}

#[test]
fn decided_beyond_the_end_needs_a_stopsign() {
    let mut storage = filled(2);
    let error = kind(storage.set_decided_idx(3));
    assert!(matches!(error, StorageError::DecidedBeyondEnd { decided: 3, next: 2 }));
    assert_eq!(storage.get_decided_idx().unwrap(), 0);
    storage.set_stopsign(Some(stopsign(None))).unwrap();
    storage.set_decided_idx(3).unwrap();
    storage.set_decided_idx(4).unwrap();
    let error = kind(storage.set_stopsign(None));
    assert!(matches!(error, StorageError::DecidedBeyondEnd { decided: 4, next: 2 }));
    assert!(storage.get_stopsign().unwrap().is_some());
}

#[test]
fn decided_entries_cannot_be_cut_off() {
    let mut storage = filled(4);
    storage.set_decided_idx(3).unwrap();
    let error = kind(storage.append_on_prefix(1, values(9..10)));
    assert!(matches!(error, StorageError::DecidedBeyondEnd { decided: 3, next: 2 }));
    assert_eq!(storage.get_suffix(0).unwrap(), values(0..4));
}

#[test]
fn compacted_beyond_the_end_is_refused() {
    let mut storage = filled(2);
    let error = kind(storage.set_compacted_idx(3));
    assert!(matches!(error, StorageError::CompactedBeyondEnd { compacted: 3, next: 2 }));
    assert_eq!(storage.get_compacted_idx().unwrap(), 0);
}

#[test]
fn value_that_cannot_be_encoded_leaves_everything_as_it_was() {
    let mut storage = filled(2);
    let before = batches(&storage);
    let bad = Value(b"unencodable".to_vec());
    let error = kind(storage.write_atomically(vec![
        StorageOp::SetPromise(ballot(8)),
        StorageOp::AppendEntries(vec![value(2), bad]),
    ]));
    assert!(matches!(error, StorageError::Encode { value: Kind::Entry(3), .. }));
    assert_eq!(batches(&storage), before);
    assert_eq!(storage.get_promise().unwrap(), None);
    storage.append_entry(value(2)).unwrap();
    assert_eq!(storage.get_suffix(0).unwrap(), values(0..3));
}

#[test]
fn entry_of_another_codec_is_named_not_skipped() {
    let mut storage = filled(2);
    storage.handle().log().append(b"x, which has another tag").unwrap();
    storage.append_entry(value(3)).unwrap();
    let error = kind(storage.get_suffix(0));
    assert!(matches!(error, StorageError::Decode { value: Kind::Entry(2), .. }));
    assert_eq!(storage.get_suffix(3).unwrap(), values(3..4));
}

#[test]
fn snapshots_and_trims_are_counted() {
    let mut storage = filled(6);
    storage
        .write_atomically(vec![
            StorageOp::SetDecidedIndex(4),
            StorageOp::Trim(4),
            StorageOp::SetCompactedIdx(4),
            StorageOp::SetSnapshot(Some(Joined(vec![1; 99]))),
        ])
        .unwrap();
    let stats = storage.handle().stats();
    assert_eq!((stats.snapshots, stats.snapshot_bytes), (1, 100));
    assert_eq!((stats.trims, stats.entries_trimmed, stats.resets), (1, 4, 0));
}

#[test]
fn next_configuration_starts_over_after_a_decided_stopsign_only() {
    let mut storage = filled(3);
    assert!(matches!(storage.start_over(), Err(StorageError::NotStopped)));
    storage.set_promise(ballot(4)).unwrap();
    storage.set_snapshot(Some(Joined(vec![1; 5000]))).unwrap();
    storage.set_stopsign(Some(stopsign(Some(vec![5; 5000])))).unwrap();
    storage.set_decided_idx(3).unwrap();
    assert!(matches!(storage.start_over(), Err(StorageError::NotStopped)));
    storage.set_decided_idx(4).unwrap();
    assert_eq!(storage.start_over().unwrap(), stopsign(Some(vec![5; 5000])));
    assert_eq!(storage.get_promise().unwrap(), None);
    assert_eq!(storage.get_snapshot().unwrap(), None);
    assert_eq!(storage.get_stopsign().unwrap(), None);
    assert_eq!((storage.get_decided_idx().unwrap(), storage.get_log_len().unwrap()), (0, 0));
    storage.append_entries(values(0..2)).unwrap();
    assert_eq!(storage.get_suffix(0).unwrap(), values(0..2));
}
