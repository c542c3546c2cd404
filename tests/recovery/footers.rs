//! Segments whose footer waited for a checkpoint when the power failed.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::sync::Arc;

use indelible::io::sim::{Persistence, SimDisk};
use indelible::{Batch, Log, Options, WriteMode};

fn options() -> Options {
    Options::new().background(false).tiny_segments(16 * 1024).write_mode(WriteMode::Pwrite)
}

fn entry(index: u64, life: u8) -> Vec<u8> {
    let mut entry = vec![life; 100];
    entry.splice(..8, index.to_le_bytes());
    entry
}

/// A log that rolled without a checkpoint but that of the roll, after the power failed.
fn after_a_roll(disk: &SimDisk, log: &Log) -> (SimDisk, Log) {
    log.append(&[9; 11_000]).unwrap();
    assert_eq!(log.stats().rolls, 1);
    let disk = disk.crash_with(Persistence::Nothing);
    let (log, _) = Log::open_in(Arc::new(disk.clone()), &options()).unwrap();
    assert_eq!(log.entry(12).unwrap(), [9; 11_000]);
    (disk, log)
}

/// Found by review. The footer waited for a checkpoint, the power failed, and a conflict took the next
/// segment away, with the header that states where the frames of the first one end. A walk could not
/// tell any more which of two frames of an entry counts, and refused what was acknowledged.
#[test]
pub(crate) fn conflict_after_a_power_cut_leaves_replaced_entries_readable() {
    let disk = SimDisk::new(1);
    let log = Log::create_in(Arc::new(disk.clone()), &options()).unwrap();
    for index in 0..10 {
        log.append(&entry(index, 1)).unwrap();
    }
    log.commit(Batch::new().truncate(5)).unwrap();
    for index in 5..12 {
        log.append(&entry(index, 2)).unwrap();
    }
    let (disk, log) = after_a_roll(&disk, &log);
    log.commit(Batch::new().truncate(7).append(entry(7, 3))).unwrap();
    log.maintain().unwrap();
    let look = |log: &Log| {
        let lives = (0..8).map(|index| if index < 5 { 1 } else { 2 + u8::from(index == 7) });
        for (index, life) in (0..8).zip(lives) {
            assert_eq!(log.entry(index).unwrap(), entry(index, life));
        }
    };
    look(&log);
    log.close().unwrap();
    look(&Log::open_in(Arc::new(disk), &options()).unwrap().0);
}

/// Where nothing was taken back the footer may wait: a walk finds what it would say.
#[test]
fn conflict_after_a_power_cut_leaves_appended_entries_readable() {
    let disk = SimDisk::new(1);
    let log = Log::create_in(Arc::new(disk.clone()), &options()).unwrap();
    for index in 0..12 {
        log.append(&entry(index, 1)).unwrap();
    }
    let (disk, log) = after_a_roll(&disk, &log);
    log.commit(Batch::new().truncate(7).append(entry(7, 3))).unwrap();
    log.maintain().unwrap();
    for index in 0..8 {
        let life = if index == 7 { 3 } else { 1 };
        assert_eq!(log.entry(index).unwrap(), entry(index, life));
    }
    log.close().unwrap();
    assert_eq!(Log::open_in(Arc::new(disk), &options()).unwrap().0.next(), 8);
}
