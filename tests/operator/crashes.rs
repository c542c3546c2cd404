//! Power cuts at every call that a repair and a refill make, and sound structures that lie.

use std::sync::Arc;

use indelible::inspect::{FrameSeen, frames_in};
use indelible::io::sim::{Moment, Persistence, SimDisk};
use indelible::repair::{apply_in, refill_in};

use super::{Batch, Error, Log, MemDirectory, Options, entry};

type Image = Vec<(String, Vec<u8>)>;

pub(super) const LAST: u64 = 30;

pub(super) fn options() -> Options {
    Options::new().tiny_segments(16 * 1024).background(false)
}

/// A closed log of several segments.
pub(super) fn image_of() -> Image {
    let disk = SimDisk::new(1);
    let log = Log::create_in(Arc::new(disk.clone()), &options()).unwrap();
    for index in 0..LAST {
        let mut batch = Batch::new();
        batch.append(entry(index)).set("promise", index.to_le_bytes().to_vec());
        log.commit(&batch).unwrap();
    }
    log.close().unwrap();
    let mut image = disk.image();
    image.sort();
    image
}

/// Damage in a sealed segment and in the tail, both before the checkpoint's place.
fn damaged() -> Image {
    let mut image = image_of();
    let segments: Vec<usize> =
        (0..image.len()).filter(|&at| image[at].0.ends_with(".seg")).collect();
    assert!(segments.len() >= 3);
    for at in [segments[1], segments[segments.len() - 1]] {
        image[at].1[4096 + 700] ^= 1;
    }
    image
}

pub(super) fn check_whole(disk: &SimDisk, context: &str) {
    let (log, _) = Log::open_in(Arc::new(disk.clone()), &options())
        .unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(log.next(), LAST, "{context}");
    for index in 0..LAST {
        assert_eq!(log.entry(index).unwrap(), entry(index), "{context}");
    }
    assert_eq!(log.cell("promise").as_deref(), Some(&(LAST - 1).to_le_bytes()[..]));
    log.close().unwrap();
}

/// Nothing that is handed out is wrong, whatever became of a repair.
pub(super) fn check_honest(disk: &SimDisk, context: &str) {
    let opened = Log::open_in(Arc::new(disk.kill_copy()), &options().allow_holes(true));
    let Ok((log, _)) = opened else { return };
    let mut missing = 0;
    for index in 0..LAST {
        match log.entry(index) {
            Ok(bytes) => assert_eq!(bytes, entry(index), "{context}"),
            Err(Error::Hole { .. }) => missing += 1,
            Err(Error::Damaged { .. }) => {}
            Err(error) => panic!("{context}: {error}"),
        }
    }
    if missing > 0 {
        // A log with holes never passes for a whole one.
        let copy = Log::open_in(Arc::new(disk.kill_copy()), &options());
        assert!(matches!(copy, Err(Error::Incomplete { .. } | Error::Damaged { .. })));
    }
}

fn repair(disk: &SimDisk) -> indelible::Result<indelible::repair::Plan> {
    apply_in(Arc::new(disk.clone()), Arc::new(MemDirectory::new()))
}

fn refill(disk: &SimDisk) -> indelible::Result<indelible::repair::Refilled> {
    let refilled = refill_in(Arc::new(disk.clone()), &mut |index| Ok(Some(entry(index))))?;
    refilled.stopped.clone().map_or(Ok(refilled), Err)
}

#[test]
fn a_repair_that_is_cut_short_goes_on_and_never_lies() {
    let image = damaged();
    let disk = SimDisk::from_image(2, &image);
    assert_eq!(repair(&disk).unwrap().steps.len(), 2);
    assert!(disk.calls() > 30, "{}", disk.calls());
    for call in 1..=disk.calls() {
        for moment in [Moment::Before, Moment::Within] {
            let context = format!("cut {moment:?} call {call} of the repair");
            let disk = SimDisk::from_image(2, &image);
            disk.crash_at_call(call, moment);
            assert!(repair(&disk).is_err() || !disk.is_down(), "{context}");
            let disk = disk.crash_with(Persistence::Random(call));
            check_honest(&disk, &context);
            repair(&disk).unwrap_or_else(|error| panic!("{context}: {error}"));
            check_honest(&disk, &context);
            refill(&disk).unwrap_or_else(|error| panic!("{context}: {error}"));
            check_whole(&disk, &context);
        }
    }
}

#[test]
fn a_refill_that_is_cut_short_goes_on_and_never_lies() {
    let disk = SimDisk::from_image(3, &damaged());
    repair(&disk).unwrap();
    let image = disk.image();
    let disk = SimDisk::from_image(3, &image);
    refill(&disk).unwrap();
    for call in 1..=disk.calls() {
        let context = format!("cut at call {call} of the refill");
        let disk = SimDisk::from_image(3, &image);
        disk.crash_at_call(call, Moment::Before);
        assert!(refill(&disk).is_err() || !disk.is_down(), "{context}");
        let disk = disk.crash_with(Persistence::Random(call));
        check_honest(&disk, &context);
        refill(&disk).unwrap_or_else(|error| panic!("{context}: {error}"));
        check_whole(&disk, &context);
    }
}

/// Writes a number into a structure of `length` bytes, and makes the structure sound again.
fn restate(bytes: &mut [u8], length: usize, at: usize, value: u64) {
    let structure = &mut bytes[..length];
    structure[at..at + 8].copy_from_slice(&value.to_le_bytes());
    structure[12..16].fill(0);
    let crc = crc32fast::hash(structure);
    structure[12..16].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn sound_structures_that_lie_are_survived() {
    let image = damaged();
    let mut random = super::Random(0x5eed);
    let values = [0, 1, 7, 4096, 1 << 20, 1 << 40, u64::MAX - 1, u64::MAX];
    for _ in 0..60 {
        let mut image = image.clone();
        for (name, bytes) in &mut image {
            let value = values[random.below(values.len())];
            if name == "metadata" {
                let at = 16 + 8 * random.below(20);
                restate(&mut bytes[..4096], 4096, at, value);
                restate(&mut bytes[4096..], 4096, at, value);
            } else if name.ends_with(".seg") && random.below(3) == 0 {
                restate(bytes, 128, 16 + 8 * random.below(10), value);
            }
        }
        // Answers of any kind are fine; what counts is that there is one, soon.
        let disk = Arc::new(SimDisk::from_image(4, &image));
        let _any = indelible::inspect::inspect_in(disk.clone());
        let _any = indelible::inspect::verify_in(disk.clone(), &mut |_| ());
        if let Ok(frames) = frames_in(disk.clone()) {
            let _count = frames.count();
        }
        let _any = indelible::repair::plan_in(disk.clone());
        if repair(&disk).is_ok() {
            let _any = refill(&disk);
        }
    }
}

/// Found by a sweep with older copies of slots. One slot was lost, and the other named the tail before
/// the last roll: the log opened, and a repair took what the segment after it said to have been durable
/// for batches that the old tail had lost. It gave up everything.
#[test]
fn a_log_that_opens_from_an_older_slot_has_nothing_to_repair() {
    let disk = SimDisk::new(5);
    let log = Log::create_in(Arc::new(disk.clone()), &options()).unwrap();
    while log.stats().rolls == 0 {
        log.append(&entry(log.next())).unwrap();
    }
    for _ in 0..3 {
        log.append(&entry(log.next())).unwrap();
    }
    let (next, mut image) = (log.next(), disk.image());
    // The last batch is torn: its header is gone.
    let frames = frames_in(Arc::new(SimDisk::from_image(6, &image))).unwrap();
    let places = frames.filter_map(|seen| match seen.unwrap() {
        FrameSeen::Frame { segment, offset, live: true, .. } => {
            Some((segment, usize::try_from(offset).unwrap()))
        }
        _ => None,
    });
    let (segment, last) = places.last().unwrap();
    let (_, tail) = image.iter_mut().find(|(name, _)| *name == segment).unwrap();
    tail[last..last + 8].fill(0);
    let mut from_an_older_slot = 0;
    for slot in [0, 4096] {
        let mut image = image.clone();
        let (_, metadata) = image.iter_mut().find(|(name, _)| name == "metadata").unwrap();
        metadata[slot..slot + 4096].fill(0);
        let disk = SimDisk::from_image(6, &image);
        let (log, report) = Log::open_in(Arc::new(disk.kill_copy()), &options()).unwrap();
        assert!(log.next() >= next - 1, "{report:?}");
        from_an_older_slot += u32::from(report.entries_replayed > 2);
        let plan = repair(&disk).unwrap();
        assert!(plan.steps.is_empty() && plan.losses.is_empty(), "{plan:?}");
        let (repaired, _) = Log::open_in(Arc::new(disk), &options()).unwrap();
        let all = 0..log.next();
        assert_eq!(repaired.read_owned(all.clone()).unwrap(), log.read_owned(all).unwrap());
    }
    assert!(from_an_older_slot > 0);
}
