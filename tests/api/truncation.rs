//! What a log gives up: its end by a truncation, its beginning by a trim, all of it by a reset.
//!
//! Each of them is looked at before and after a reopen: what was given up never comes back.

#![expect(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "helpers of tests fail as tests do, and take a log to close it"
)]

use std::path::Path;

use indelible::{Batch, Error, Log, Options};

fn options() -> Options {
    Options::new().segment_bytes(64 * 1024).background(false)
}

/// A log of 300 entries in five segments; each entry is its index, in kilobytes.
fn log_of_five_segments(path: &Path) -> Log {
    let log = Log::create(path, &options()).unwrap();
    for index in 0..300_u64 {
        log.append(&entry(index)).unwrap();
    }
    log
}

fn entry(index: u64) -> Vec<u8> {
    index.to_le_bytes().repeat(125)
}

/// Looks at the log as it is, and as it is after a close and an open.
fn as_it_is_and_reopened(log: Log, path: &Path, look: impl Fn(&Log)) -> Log {
    look(&log);
    log.close().unwrap();
    let (log, report) = Log::open(path, &options()).unwrap();
    assert_eq!(report.verdict, indelible::Verdict::Clean);
    look(&log);
    log
}

#[test]
fn truncation_within_the_tail_and_over_sealed_segments_ends_the_log_there() {
    let place = tempfile::tempdir().unwrap();
    for end in [299, 245, 120, 1, 0] {
        let path = place.path().join(end.to_string());
        let log = log_of_five_segments(&path);
        log.commit(Batch::new().truncate(end)).unwrap();
        let log = as_it_is_and_reopened(log, &path, |log| {
            assert_eq!((log.first(), log.next(), log.durable()), (0, end, end));
            let entries = log.read(0..end).unwrap();
            assert!((0..end).zip(&entries).all(|(index, seen)| seen == entry(index)));
            let beyond = log.entry(end).unwrap_err();
            assert!(matches!(beyond, Error::BeyondEnd { .. }), "{beyond}");
        });
        // What takes their place is what is read, also after another open.
        log.append(b"in its place").unwrap();
        as_it_is_and_reopened(log, &path, |log| {
            assert_eq!((log.next(), log.entry(end).unwrap()), (end + 1, b"in its place".to_vec()));
        });
    }
}

#[test]
fn truncation_and_appends_of_one_batch_are_one_change() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("log");
    let log = log_of_five_segments(&path);
    log.commit(Batch::new().truncate(100).append(b"a").append(b"b")).unwrap();
    as_it_is_and_reopened(log, &path, |log| {
        assert_eq!(log.next(), 102);
        assert_eq!(log.read_to_vec(99..102).unwrap(), [entry(99), b"a".to_vec(), b"b".to_vec()]);
    });
}

#[test]
fn truncation_outside_of_the_log_is_refused_and_changes_nothing() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("log");
    let log = log_of_five_segments(&path);
    log.commit(Batch::new().trim(50)).unwrap();
    let below = log.commit(Batch::new().truncate(49)).unwrap_err();
    assert!(matches!(below, Error::Trimmed { first: 50, .. }), "{below}");
    let beyond = log.commit(Batch::new().truncate(301)).unwrap_err();
    assert!(matches!(beyond, Error::BeyondEnd { next: 300, .. }), "{beyond}");
    as_it_is_and_reopened(log, &path, |log| {
        assert_eq!((log.first(), log.next()), (50, 300));
        assert_eq!(log.entry(299).unwrap(), entry(299));
    });
}

#[test]
fn what_was_borrowed_outlives_truncation_trim_and_what_takes_its_place() {
    let place = tempfile::tempdir().unwrap();
    let log = log_of_five_segments(&place.path().join("log"));
    let (oldest, newest) = (log.read(0..100).unwrap(), log.read(200..300).unwrap());
    log.commit(Batch::new().truncate(200)).unwrap();
    log.commit(Batch::new().trim(150)).unwrap();
    for _ in 0..300 {
        log.append(&[0xee; 1000]).unwrap();
    }
    log.maintain().unwrap();
    assert!((0..100).zip(&oldest).all(|(index, seen)| seen == entry(index)));
    assert!((200..300).zip(&newest).all(|(index, seen)| seen == entry(index)));
}

#[test]
fn trim_moves_the_first_entry_and_gives_whole_segments_back() {
    let place = tempfile::tempdir().unwrap();
    for first in [1, 70, 245, 300] {
        let path = place.path().join(first.to_string());
        let log = log_of_five_segments(&path);
        let before = log.stats().segments;
        log.commit(Batch::new().trim(first)).unwrap();
        log.maintain().unwrap();
        assert_eq!(log.stats().segments < before, first >= 70, "{first}");
        as_it_is_and_reopened(log, &path, |log| {
            assert_eq!((log.first(), log.next()), (first, 300));
            let below = log.entry(first - 1).unwrap_err();
            assert!(matches!(below, Error::Trimmed { .. }), "{below}");
            let entries = log.read(first..300).unwrap();
            assert!((first..300).zip(&entries).all(|(index, seen)| seen == entry(index)));
        });
    }
}

#[test]
fn trim_below_the_first_entry_changes_nothing_and_one_beyond_the_end_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("log");
    let log = log_of_five_segments(&path);
    log.commit(Batch::new().trim(80)).unwrap();
    log.commit(Batch::new().trim(20)).unwrap();
    let beyond = log.commit(Batch::new().trim(301)).unwrap_err();
    assert!(matches!(beyond, Error::BeyondEnd { next: 300, .. }), "{beyond}");
    as_it_is_and_reopened(log, &path, |log| assert_eq!((log.first(), log.next()), (80, 300)));
}

#[test]
fn reset_begins_anew_at_any_index_with_the_cells_there_were() {
    let place = tempfile::tempdir().unwrap();
    for start in [0, 7, 300, 1 << 40] {
        let path = place.path().join(start.to_string());
        let log = log_of_five_segments(&path);
        log.commit(Batch::new().set("promise", b"kept")).unwrap();
        log.commit(Batch::new().reset(start).append(b"anew")).unwrap();
        as_it_is_and_reopened(log, &path, |log| {
            assert_eq!((log.first(), log.next()), (start, start + 1));
            assert_eq!(log.entry(start).unwrap(), b"anew");
            assert_eq!(log.cell("promise").as_deref(), Some(&b"kept"[..]));
        });
    }
}

#[test]
fn trimmed_segments_are_recycled_and_reads_below_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let log = Log::create(&path, &options()).unwrap();
    let entry = vec![1; 1000];
    for _ in 0..1000 {
        log.append(&entry).unwrap();
    }
    let held = log.read(0..10).unwrap();
    let mut batch = Batch::new();
    batch.trim(900);
    log.commit(&batch).unwrap();
    log.maintain().unwrap();
    assert!(log.stats().recycled > 0);
    assert!(matches!(log.entry(899), Err(Error::Trimmed { first: 900, .. })));
    for _ in 0..1000 {
        log.append(&vec![2; 1000]).unwrap();
    }
    assert!(held.iter().all(|bytes| bytes == entry));
    drop(log);
    let (log, _) = Log::open(&path, &options()).unwrap();
    assert_eq!((log.first(), log.next()), (900, 2000));
    assert_eq!(log.entry(999).unwrap(), entry);
    assert_eq!(log.entry(1999).unwrap(), vec![2; 1000]);
}
