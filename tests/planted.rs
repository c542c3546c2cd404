//! Every planted bug is noticed. Each check below is a small part of the suite; the printed table
//! (docs/TESTING.md has it) says which of them met the bug first.
#![cfg(feature = "sabotage")]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails, and prints its table")]

use std::sync::Arc;

use indelible::format::frame::{Salt, decode_frame, encode_frame};
use indelible::format::{FrameHeader, Kind};
use indelible::io::sim::SimDisk;
use indelible::testing::explore::{Effort, Subject, explore};
use indelible::testing::faults::{sweep, sweep_full_disk};
use indelible::testing::program::count_of;
use indelible::testing::rot::{self, SHAPES};
use indelible::testing::sabotage::{BUGS, Bug, enable};
use indelible::{Batch, Error, Log, Options};

/// What is promised and needs no exploration.
fn promises() -> Option<String> {
    let options = Options::new().background(false).tiny_segments(8 * 1024);
    let disk = SimDisk::new(1);
    let door = || Arc::new(disk.clone());
    let log = Log::create_in(door(), &options).ok()?;
    if !matches!(Log::open_in(door(), &options), Err(Error::Locked { .. })) {
        return Some("two handles at a time".to_owned());
    }
    log.commit(Batch::new().set("promise", b"7".as_slice())).ok()?;
    let calls = disk.calls();
    log.commit(Batch::new().set("promise", b"7".as_slice())).ok()?;
    if disk.calls() != calls {
        return Some("an unchanged promise costs I/O".to_owned());
    }
    log.close().ok()?;
    if !matches!(Log::create_in(door(), &options), Err(Error::AlreadyExists { .. })) {
        return Some("a log is created over another one".to_owned());
    }
    let header =
        FrameHeader { length: 3, sequence: 1, index: 0, lag: 0, kind: Kind::Entry, flags: 3 };
    let mut bytes = Vec::new();
    encode_frame(&mut bytes, &Salt::new(1), &header, &[b"ink"]);
    if decode_frame(&bytes, &Salt::new(2)).is_ok() {
        return Some("a frame of another generation is read".to_owned());
    }
    None
}

fn crashes() -> Option<String> {
    let small = [1, 3, 5, 7, 9, 11, 21, 23, 27, 29, 13, 17, 33, 39];
    let effort = Effort::SMALL;
    let mut subjects: Vec<_> = small
        .iter()
        .zip([0, 5, 2, 3, 4, 1, 6, 7].iter().cycle())
        .map(|(&n, &c)| Subject::Small(n, c))
        .collect();
    subjects.extend((0..8).map(|config| Subject::Drawn(7, config)));
    subjects.extend((0..40).map(|seed| Subject::Drawn(seed, usize::try_from(seed % 8).unwrap())));
    subjects.into_iter().find_map(|it| explore(it, 1, effort).1).map(|it| it.what)
}

fn faults() -> Option<String> {
    let two = count_of(1);
    let numbers = [3, 5, 11, 19, 31, 29, two + 11 + 44 * 15];
    let subjects = numbers.iter().zip([1, 5, 1, 7, 0, 3, 4].iter().cycle());
    let mut found = subjects.map(|(&n, &c)| sweep(Subject::Small(n, c), 1).1);
    found.find_map(|it| it).map(|it| it.what)
}

fn full_disks() -> Option<String> {
    [3, 13, 27].iter().find_map(|&n| sweep_full_disk(Subject::Small(n, 1), 1).1).map(|it| it.what)
}

fn decay() -> Option<String> {
    let density = rot::Density::SMALL;
    let mut cases = (0..SHAPES.len()).flat_map(|shape| [(shape, true), (shape, false)]);
    cases.find_map(|(shape, closed)| rot::sweep(shape, closed, 1, density).1).map(|it| it.what)
}

type Check = (&'static str, fn() -> Option<String>);

const CHECKS: [Check; 5] = [
    ("promises", promises),
    ("crash exploration", crashes),
    ("rot sweep", decay),
    ("fault sweep", faults),
    ("full disks", full_disks),
];

/// Where a bug is looked for first: the others have the same right, and take their time.
fn likely(bug: Bug) -> usize {
    match bug {
        Bug::OneSlotOnly
        | Bug::NoCheckpointOnRoll
        | Bug::WatermarkNeverWritten
        | Bug::WatermarkIgnored
        | Bug::EntriesNotChecked
        | Bug::SlotsNotChecked
        | Bug::SideFilesNotChecked
        | Bug::MissingSideFileIgnored
        | Bug::MissingSegmentIgnored => 2,
        Bug::CacheBelieved
        | Bug::CachedSlotsBelieved
        | Bug::NoPoison
        | Bug::RefusalNotRecorded
        | Bug::HalfABatchLeftToReaders => 3,
        _ => 0,
    }
}

/// The first check that notices a bug, and what it says.
fn caught(bug: Bug) -> Option<(&'static str, String)> {
    enable(Some(bug));
    let first = CHECKS.iter().skip(likely(bug)).chain(&CHECKS);
    let found = first.take(CHECKS.len()).find_map(|(name, check)| Some((*name, check()?)));
    enable(None);
    found
}

#[test]
fn every_planted_bug_is_noticed() {
    std::panic::set_hook(Box::new(|_| {}));
    assert!(BUGS.len() >= 30);
    for (name, check) in CHECKS {
        if std::env::var_os("INDELIBLE_PLANTED").is_none() {
            assert_eq!(check(), None, "{name} without any bug");
        }
    }
    let mut missed = Vec::new();
    for bug in BUGS {
        if let Some((check, what)) = caught(*bug) {
            let what = what.split(';').next().unwrap_or_default();
            println!("| `{bug:?}` | {check} | {what} |");
        } else {
            println!("| `{bug:?}` | MISSED | |");
            missed.push(*bug);
        }
    }
    let _default = std::panic::take_hook();
    assert!(missed.is_empty(), "{missed:?} were not noticed");
}
