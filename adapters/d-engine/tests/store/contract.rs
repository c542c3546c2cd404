//! What d-engine relies on and its suite does not test: overlaps, gaps, the purge boundary, odd
//! arguments, the lock, and who may open what.

use std::io::ErrorKind;
use std::ops::RangeInclusive;

use d_engine_core::{Error, LogStore, MetaStore, StorageEngine, StorageError, SystemError};
use d_engine_proto::common::LogId;
use indelible::{Batch, Log};
use indelible_d_engine::{DEngineStorage, Options, cause};
use tempfile::TempDir;

use crate::contents::{command, contents, entries, entry, hard_state, vote};

fn small() -> Options {
    Options::new().tiny_segments(16 * 1024)
}

fn memory() -> DEngineStorage {
    DEngineStorage::from_log(Log::in_memory(&small()).unwrap()).unwrap()
}

pub(crate) fn kind(error: &Error) -> Option<ErrorKind> {
    match error {
        Error::System(SystemError::Storage(StorageError::IoError(error))) => Some(error.kind()),
        _ => None,
    }
}

fn id(index: u64, term: u64) -> LogId {
    LogId { index, term }
}

#[tokio::test]
async fn overlap_of_the_same_entries_keeps_what_follows() {
    let storage = memory();
    let log = storage.log_store();
    log.persist_entries(entries(1..=75, 1)).await.unwrap();
    log.persist_entries(entries(1..=50, 1)).await.unwrap();
    assert_eq!(contents(&storage).entries, entries(1..=75, 1));
    log.persist_entries(entries(70..=80, 1)).await.unwrap();
    assert_eq!(contents(&storage).entries, entries(1..=80, 1));
}

#[tokio::test]
async fn overlap_with_another_entry_replaces_from_there() {
    let storage = memory();
    let log = storage.log_store();
    log.persist_entries(entries(1..=75, 1)).await.unwrap();
    let mixed = [entries(1..=40, 1), entries(41..=50, 2)].concat();
    log.persist_entries(mixed.clone()).await.unwrap();
    assert_eq!(contents(&storage).entries, mixed);
    assert_eq!(log.last_index(), 50);
}

#[tokio::test]
async fn gaps_are_refused_and_change_nothing() {
    let storage = memory();
    let log = storage.log_store();
    log.persist_entries(entries(1..=10, 1)).await.unwrap();
    let before = contents(&storage);

    let behind = log.persist_entries(entries(12..=13, 1)).await.unwrap_err();
    let expected = indelible::Error::NonContiguous { expected: 11, got: 12 };
    assert_eq!(cause(&behind).unwrap().to_string(), expected.to_string());
    assert!(!behind.is_fatal());

    let within = vec![entry(11, 1), entry(13, 1)];
    assert!(log.persist_entries(within).await.is_err());
    assert!(log.persist_entries(vec![entry(0, 1)]).await.is_err());
    assert!(log.persist_entries(vec![entry(11, 1), entry(11, 1)]).await.is_err());
    assert!(log.replace_range(5, entries(7..=9, 2)).await.is_err());
    assert_eq!(contents(&storage), before);
}

#[tokio::test]
async fn replace_range_cuts_and_appends() {
    let storage = memory();
    let log = storage.log_store();
    log.persist_entries(entries(1..=10, 1)).await.unwrap();
    log.replace_range(5, entries(5..=6, 2)).await.unwrap();
    assert_eq!(contents(&storage).entries, [entries(1..=4, 1), entries(5..=6, 2)].concat());
    log.replace_range(7, entries(7..=8, 2)).await.unwrap();
    assert_eq!(log.last_index(), 8);
    log.replace_range(3, vec![]).await.unwrap();
    assert_eq!(contents(&storage).entries, entries(1..=2, 1));
}

#[tokio::test]
async fn purge_of_everything_keeps_the_last_index() {
    let directory = TempDir::new().unwrap();
    let storage = DEngineStorage::create(directory.path(), &small()).unwrap();
    let log = storage.log_store();
    log.persist_entries(entries(1..=10, 3)).await.unwrap();
    log.purge(id(10, 3)).await.unwrap();
    assert_eq!(log.last_index(), 10);
    drop((log, storage));

    let storage = DEngineStorage::open(directory.path(), &small()).unwrap();
    let log = storage.log_store();
    assert_eq!(log.last_index(), 10);
    assert_eq!(log.load_purge_boundary().unwrap(), Some(id(10, 3)));
    log.persist_entries(entries(11..=12, 4)).await.unwrap();
    assert_eq!(contents(&storage).entries, entries(11..=12, 4));
}

#[tokio::test]
async fn purge_beyond_the_end_moves_the_log_there() {
    let storage = memory();
    let log = storage.log_store();
    log.persist_entries(entries(1..=10, 1)).await.unwrap();
    log.purge(id(100, 7)).await.unwrap();
    assert_eq!(log.last_index(), 100);
    assert!(contents(&storage).entries.is_empty());
    assert!(log.persist_entries(entries(102..=103, 7)).await.is_err());
    log.persist_entries(entries(101..=103, 7)).await.unwrap();
    assert_eq!(log.last_index(), 103);
}

#[tokio::test]
async fn purge_boundary_never_moves_back() {
    let storage = memory();
    let log = storage.log_store();
    log.persist_entries(entries(1..=10, 1)).await.unwrap();
    log.purge(id(8, 1)).await.unwrap();
    let before = contents(&storage);
    for boundary in [id(8, 9), id(5, 9), id(0, 9)] {
        log.purge(boundary).await.unwrap();
    }
    log.truncate(3).await.unwrap();
    assert_eq!(log.load_purge_boundary().unwrap(), Some(id(8, 1)));
    assert_eq!(log.last_index(), 8);
    log.persist_entries(entries(7..=10, 1)).await.unwrap();
    assert_eq!(contents(&storage), before, "purged entries are left out");
}

#[tokio::test]
async fn reset_clears_entries_and_boundary_and_keeps_the_hard_state() {
    let storage = memory();
    let log = storage.log_store();
    storage.meta_store().save_hard_state(&vote(5, 2)).unwrap();
    log.persist_entries(entries(1..=10, 1)).await.unwrap();
    log.purge(id(4, 1)).await.unwrap();
    log.reset().await.unwrap();
    log.reset().await.unwrap();
    assert_eq!(log.last_index(), 0);
    assert_eq!(log.load_purge_boundary().unwrap(), None);
    assert_eq!(hard_state(&storage).unwrap().voted_for, vote(5, 2).voted_for);
    log.persist_entries(entries(1..=2, 9)).await.unwrap();
    assert_eq!(contents(&storage).entries, entries(1..=2, 9));
}

#[tokio::test]
async fn odd_arguments_never_panic() {
    const ODD: [u64; 8] = [0, 1, 4, 5, 11, 12, u64::MAX - 1, u64::MAX];
    for first in ODD {
        for last in ODD {
            let storage = memory();
            let log = storage.log_store();
            log.persist_entries(entries(1..=11, 1)).await.unwrap();
            log.purge(id(4, 1)).await.unwrap();
            let range = RangeInclusive::new(first, last);
            let found: Vec<u64> = log.get_entries(range).unwrap().iter().map(|e| e.index).collect();
            let expected: Vec<u64> = (5..=11).filter(|i| (first..=last).contains(i)).collect();
            assert_eq!(found, expected, "{first}..={last}");

            assert_eq!(log.entry(first).await.unwrap().is_some(), (5..=11).contains(&first));
            let _refused_or_not = log.persist_entries(vec![entry(first % 100, 2)]).await;
            let end = entry_at(first);
            let _refused_or_not = log.persist_entries(vec![end.clone()]).await;
            let _refused_or_not = log.replace_range(last, vec![end]).await;
            log.truncate(first).await.unwrap();
            assert!(log.last_index() >= 4);
            let _refused_or_not = log.purge(id(last, 1)).await;
            contents(&storage);
        }
    }
}

fn entry_at(index: u64) -> d_engine_proto::common::Entry {
    d_engine_proto::common::Entry { index, term: 2, payload: None }
}

#[tokio::test]
async fn only_flush_and_the_synced_calls_sync() {
    let directory = TempDir::new().unwrap();
    let options = small().background(false);
    let storage = DEngineStorage::create(directory.path(), &options).unwrap();
    let (log, meta) = (storage.log_store(), storage.meta_store());
    let syncs = || storage.log().stats().syncs;

    assert!(!log.is_write_durable());
    let before = syncs();
    log.persist_entries(entries(1..=10, 1)).await.unwrap();
    assert_eq!(syncs(), before, "persist_entries leaves the sync to flush");
    log.flush().unwrap();
    assert_eq!(syncs(), before + 1);
    log.flush().unwrap();
    log.flush_async().await.unwrap();
    meta.flush().unwrap();
    meta.flush_async().await.unwrap();
    assert_eq!(syncs(), before + 1, "there was nothing to flush");

    meta.save_hard_state(&vote(2, 1)).unwrap();
    assert_eq!(syncs(), before + 2);
    meta.save_hard_state(&vote(2, 1)).unwrap();
    assert_eq!(syncs(), before + 2, "the same hard state costs nothing");

    log.replace_range(8, entries(8..=12, 2)).await.unwrap();
    assert_eq!(syncs(), before + 3, "cut and entries share one sync");
    log.truncate(11).await.unwrap();
    assert_eq!(syncs(), before + 4);
    assert_eq!(storage.log().durable(), storage.log().next());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flush_runs_beside_persist_entries() {
    let directory = TempDir::new().unwrap();
    let storage = DEngineStorage::create(directory.path(), &small()).unwrap();
    let log = storage.log_store();
    let flusher = tokio::task::spawn_blocking({
        let log = storage.log_store();
        move || {
            while log.last_index() < 2000 {
                log.flush().unwrap();
            }
        }
    });
    for index in 1..=2000 {
        log.persist_entries(vec![entry(index, 1)]).await.unwrap();
        tokio::task::yield_now().await;
    }
    flusher.await.unwrap();
    log.flush().unwrap();
    assert_eq!(storage.log().durable(), 2001);
    assert_eq!(contents(&storage).entries, entries(1..=2000, 1));
}

#[test]
fn directory_stays_locked_until_the_last_store_drops() {
    let directory = TempDir::new().unwrap();
    let storage = DEngineStorage::create(directory.path(), &small()).unwrap();
    let (log, meta) = (storage.log_store(), storage.meta_store());
    let refused = |held: &str| {
        let error = DEngineStorage::open(directory.path(), &small()).unwrap_err();
        assert_eq!(kind(&error), Some(ErrorKind::ResourceBusy), "while {held} lives: {error:?}");
    };
    refused("the storage");
    drop(storage);
    refused("the log store");
    drop(log);
    refused("the meta store");
    drop(meta);
    DEngineStorage::open(directory.path(), &small()).unwrap();
}

#[test]
fn create_and_open_refuse_what_they_do_not_expect() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("node");
    let missing = DEngineStorage::open(&path, &small()).unwrap_err();
    assert_eq!(kind(&missing), Some(ErrorKind::NotFound));
    drop(DEngineStorage::create(&path, &small()).unwrap());
    let present = DEngineStorage::create(&path, &small()).unwrap_err();
    assert_eq!(kind(&present), Some(ErrorKind::AlreadyExists));
    DEngineStorage::open_or_create(&path, &small()).unwrap();
}

#[test]
fn a_log_of_another_host_is_refused() {
    let log = Log::in_memory(&small()).unwrap();
    log.append(b"decree").unwrap();
    let error = DEngineStorage::from_log(log).unwrap_err();
    assert_eq!(kind(&error), Some(ErrorKind::InvalidInput));
    assert!(matches!(cause(&error), Some(indelible::Error::InvalidArgument { .. })));
}

#[test]
fn a_newer_version_is_refused_as_such() {
    let storage = memory();
    let log = storage.log().clone();
    log.commit(Batch::new().set("d-engine", vec![2])).unwrap();
    let error = DEngineStorage::from_log(log).unwrap_err();
    assert_eq!(kind(&error), Some(ErrorKind::Unsupported));
}

#[tokio::test]
async fn an_entry_that_is_not_what_it_says_is_found_at_open() {
    let storage = memory();
    storage.log_store().persist_entries(entries(1..=10, 1)).await.unwrap();
    let log = storage.log().clone();
    log.append(&[]).unwrap();
    let error = DEngineStorage::from_log(log).unwrap_err();
    assert!(error.is_fatal(), "{error:?}");
}

#[tokio::test]
async fn damage_is_found_at_open() {
    let directory = TempDir::new().unwrap();
    let storage = DEngineStorage::create(directory.path(), &small()).unwrap();
    let log = storage.log_store();
    log.persist_entries(entries(1..=1000, 1)).await.unwrap();
    log.flush().unwrap();
    let needle = command(&entry(77, 1)).to_vec();
    storage.log().close().unwrap();
    drop((log, storage));

    let damaged = std::fs::read_dir(directory.path()).unwrap().any(|file| {
        let path = file.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let found = bytes.windows(needle.len()).position(|window| window == needle);
        if let Some(at) = found {
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
        found.is_some()
    });
    assert!(damaged, "entry 77 is in no file");
    let error = DEngineStorage::open(directory.path(), &small()).unwrap_err();
    assert!(error.is_fatal(), "{error:?}");
}
