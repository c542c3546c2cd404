//! Segments whose footer waited for a checkpoint when the power failed.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::sync::Arc;

use indelible::io::sim::{Persistence, Rot, SimDisk};
use indelible::{Batch, Error, Log, Options, WriteMode};

/// The first segment of a log, and a place in its footer.
const FIRST: &str = "0000000000000001-0000000000000000.seg";
const FOOTER: u64 = 16 * 1024 - 8;

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

/// Found by review. Without a footer, the first read decided how many entries a
/// segment had; a later one after the damage was told that the frame at offset 0 is not the one. Later
/// a read handed out the entry before the damage, which a truncation among the lost frames may have
/// replaced.
#[test]
fn segment_without_a_footer_names_its_damage_to_every_read() {
    let disk = SimDisk::new(1);
    let log = Log::create_in(Arc::new(disk.clone()), &options()).unwrap();
    for length in [1000, 1000, 1000, 12_000] {
        log.append(&vec![7; length]).unwrap();
    }
    log.close().unwrap();
    let place = 4096 + 1032;
    for offset in [FOOTER, place + 8] {
        disk.rot(FIRST, Rot::FlipBit { offset, bit: 1 }).unwrap();
    }
    let (log, _) = Log::open_in(Arc::new(disk), &options()).unwrap();
    for index in [0, 2, 1, 3, 2, 0] {
        match log.entry(index) {
            Err(Error::Damaged { offset, indexes, .. }) => {
                assert_eq!((offset, indexes), (place, Some(index..index + 1)));
                assert!((0..3).contains(&index));
            }
            read => assert!(read.is_ok() && index == 3, "{read:?}"),
        }
    }
    let found = log.read(0..4).unwrap_err();
    let Error::Damaged { indexes, .. } = found else { panic!("{found}") };
    assert_eq!(indexes, Some(0..3));
}

/// Found by reading. Where the footer is lost, and the header of the next segment as well, a scrub took
/// what it could read for all there was: it said nothing of entries that reads refuse.
#[test]
fn scrub_names_the_entries_whose_end_is_lost() {
    for in_frame in [0, 8] {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::create(directory.path(), &options()).unwrap();
        (0..12).for_each(|index| drop(log.append(&entry(index, 1)).unwrap()));
        log.append(&[9; 11_000]).unwrap();
        log.close().unwrap();
        let (log, _) = Log::open(directory.path(), &options()).unwrap();
        let scrub = || log.scrub(None, &mut |_| ControlFlow::Continue(())).unwrap().findings;
        assert!(log.stats().segments == 2 && scrub().is_empty());
        let (last, tail) = (4096 + 11 * 136, "0000000000000002-000000000000000c.seg");
        for (name, offset) in [(FIRST, FOOTER), (FIRST, last + in_frame), (tail, 8)] {
            let path = directory.path().join(name);
            let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
            file.seek(SeekFrom::Start(offset)).unwrap();
            file.write_all(&[0xff; 4]).unwrap();
        }
        let found = scrub();
        let named = |index: &u64| {
            found.iter().any(|finding| {
                matches!(finding, Error::Damaged { indexes: Some(of), .. } if of.contains(index))
            })
        };
        let refused: Vec<u64> = (0..12).filter(|&index| log.entry(index).is_err()).collect();
        // Without its header a frame may have been anything, a truncation as well.
        assert_eq!(refused.len(), if in_frame == 8 { 12 } else { 1 });
        assert!((0..12).all(|index| named(&index) == refused.contains(&index)), "{found:?}");
    }
}

/// Found by a sweep with older copies of segments. Without a footer, what stood before a lost frame was
/// handed out, although that frame may have been the truncation which replaced it.
#[test]
fn entries_before_a_lost_truncation_are_not_handed_out() {
    let disk = SimDisk::new(1);
    let log = Log::create_in(Arc::new(disk.clone()), &options()).unwrap();
    for index in 0..4 {
        log.append(&entry(index, 1)).unwrap();
    }
    log.commit(Batch::new().truncate(2)).unwrap();
    for index in 2..4 {
        log.append(&entry(index, 2)).unwrap();
    }
    log.append(&[9; 11_500]).unwrap();
    log.close().unwrap();
    let truncation = 4096 + 4 * 136;
    for offset in [FOOTER, truncation + 8] {
        disk.rot(FIRST, Rot::FlipBit { offset, bit: 1 }).unwrap();
    }
    let (log, _) = Log::open_in(Arc::new(disk), &options()).unwrap();
    for index in 0..4 {
        match log.entry(index) {
            Err(Error::Damaged { offset, .. }) => assert_eq!(offset, truncation),
            read => panic!("entry {index} may have been replaced: {read:?}"),
        }
    }
    assert_eq!(log.entry(4).unwrap(), [9; 11_500]);
}
