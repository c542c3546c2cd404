//! A full disk is found when a segment is prepared, is a typed error that can be tried again, and
//! leaves state cells, truncation within the tail, trim and reopening working.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::sync::Arc;

use indelible::io::sim::SimDisk;
use indelible::{Batch, Error, Log, Options};

fn options() -> Options {
    Options::new().tiny_segments(8192).background(false)
}

/// A log on a disk that has room for nothing more, and how many entries it took.
fn full(disk: &SimDisk, entry: &[u8]) -> (Log, u64) {
    let log = Log::create_in(Arc::new(disk.clone()), &options()).unwrap();
    disk.set_capacity(Some(disk.used()));
    let mut taken = 0;
    loop {
        match log.append(entry) {
            Ok(_) => taken += 1,
            Err(Error::DiskFull { .. }) => break,
            Err(other) => panic!("{other}"),
        }
    }
    (log, taken)
}

#[test]
fn full_disk_refuses_entries_and_changes_nothing() {
    let disk = SimDisk::new(1);
    let (log, taken) = full(&disk, &[7; 100]);
    assert!(taken > 10);
    assert_eq!((log.next(), log.durable()), (taken, taken));
    assert!(!log.stats().poisoned && log.stats().disk_full > 0);
    disk.set_capacity(None);
    log.append(b"room again").unwrap();
    assert_eq!(log.entry(taken).unwrap(), b"room again");
}

#[test]
fn full_disk_leaves_state_trim_and_reopen_working() {
    let disk = SimDisk::new(2);
    let (log, taken) = full(&disk, &[7; 100]);
    // Far more promises than the tail has room for.
    for ballot in 0..500_u64 {
        let mut batch = Batch::new();
        batch.set("promise", ballot.to_le_bytes().to_vec());
        log.commit(&batch).unwrap();
    }
    assert!(log.stats().slot_commits > 300);
    let mut batch = Batch::new();
    batch.trim(taken - 1).set("compacted", b"yes");
    log.commit(&batch).unwrap();
    drop(log);
    let (log, _) = Log::open_in(Arc::new(disk.clone()), &options()).unwrap();
    assert_eq!(log.cell("promise").as_deref(), Some(&499_u64.to_le_bytes()[..]));
    assert_eq!((log.first(), log.next()), (taken - 1, taken));
    assert_eq!(log.entry(taken - 1).unwrap(), [7; 100]);
}

#[test]
fn full_disk_promises_survive_a_power_cut() {
    let disk = SimDisk::new(3);
    let (log, taken) = full(&disk, &[7; 100]);
    for ballot in 0..100_u64 {
        let mut batch = Batch::new();
        batch.set("promise", ballot.to_le_bytes().to_vec());
        log.commit(&batch).unwrap();
    }
    let after = disk.crash_with(indelible::io::sim::Persistence::Nothing);
    let (log, _) = Log::open_in(Arc::new(after), &options()).unwrap();
    assert_eq!(log.cell("promise").as_deref(), Some(&99_u64.to_le_bytes()[..]));
    assert_eq!(log.next(), taken);
}

/// Found in review: a truncation committed in the slots leaves no frame, so entries appended later
/// to the same tail repeat indexes, and the next open took that for damage.
#[test]
fn entries_after_a_truncation_in_the_slots_are_found_again() {
    let disk = SimDisk::new(4);
    let (log, taken) = full(&disk, b"");
    let mut batch = Batch::new();
    batch.truncate(1);
    log.commit(&batch).unwrap();
    assert_eq!(log.stats().slot_commits, 1);
    let mut written = 1;
    while log.append(format!("{written}").as_bytes()).is_ok() {
        written += 1;
    }
    assert!(written > 1 && written < taken, "{written} of {taken}");
    log.maintain().ok();
    let disk = disk.crash_with(indelible::io::sim::Persistence::Nothing);
    let (log, _) = Log::open_in(Arc::new(disk), &options()).unwrap();
    assert_eq!(log.next(), written);
    for index in 1..written {
        assert_eq!(log.entry(index).unwrap(), format!("{index}").as_bytes());
    }
}

/// Found by the lane `fuse_full`, seed 11: it begins a new segment, which cannot be had.
#[test]
fn truncation_below_the_last_segment_is_refused_and_changes_nothing() {
    let disk = SimDisk::new(5);
    let log = Log::create_in(Arc::new(disk.clone()), &options()).unwrap();
    while log.stats().segments < 3 {
        log.append(&[7; 1000]).unwrap();
    }
    disk.set_capacity(Some(disk.used()));
    while log.append(&[7; 1000]).is_ok() {}
    let taken = log.next();
    let mut batch = Batch::new();
    batch.truncate(1);
    assert!(matches!(log.commit(&batch), Err(Error::DiskFull { .. })));
    assert_eq!((log.first(), log.next()), (0, taken));
    assert!(!log.stats().poisoned);
    log.commit(Batch::new().set("promise", b"7".as_slice())).unwrap();
    disk.set_capacity(None);
    log.commit(&batch).unwrap();
    assert_eq!((log.first(), log.next()), (0, 1));
}
