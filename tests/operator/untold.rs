//! Batches that a repair loses, or may lose: it leaves a cell that says so, and no host goes on by itself.

use std::fs;
use std::path::{Path, PathBuf};

use indelible::repair::{LOST_BATCHES, Loss, apply, plan};
use indelible::store::Store as _;
use indelible::{Batch, Error, Log};

use super::{entry, options, segments};

fn promise(log: &Log, round: u8) {
    let mut batch = Batch::new();
    batch.set("promise", vec![round]).append(entry(u64::from(round)));
    log.commit(&batch).unwrap();
}

/// The log as a kill leaves it.
fn copy(live: &Path, path: &Path) {
    fs::create_dir(path).unwrap();
    for name in segments(live).iter().chain([&live.join("metadata")]) {
        fs::copy(name, path.join(name.file_name().unwrap())).unwrap();
    }
}

/// A log that was killed after two closes: promise 3 is acknowledged after the newest checkpoint. With
/// its tail, and that of the first close.
fn killed(place: &Path) -> (PathBuf, PathBuf, Vec<u8>) {
    let (live, path) = (place.join("live"), place.join("log"));
    let mut older = Vec::new();
    for round in 1..=3 {
        let (log, _) = Log::open_or_create(&live, &options()).unwrap();
        promise(&log, round);
        if round == 3 {
            copy(&live, &path);
        }
        log.close().unwrap();
        if round == 1 {
            older = fs::read(&segments(&live)[0]).unwrap();
        }
    }
    let [tail] = segments(&path).try_into().unwrap();
    (path, tail, older)
}

/// What a repair leaves in the cell.
fn told(path: &Path) -> Option<Vec<u8>> {
    let unknown = |loss: &Loss| matches!(loss, Loss::Unknown(_) | Loss::Batches(_));
    let planned = plan(path).unwrap().losses.iter().any(unknown);
    apply(path).unwrap();
    let (log, _) = Log::open(path, &options().allow_holes(true)).unwrap();
    let told = log.cell(LOST_BATCHES).map(|value| value.to_vec());
    assert_eq!(told.is_some(), planned, "what was planned");
    assert!(told.is_some() || log.cell("promise").as_deref() == Some(&[3]));
    let refused = log.check_state().err();
    assert_eq!(refused.is_some(), told.is_some(), "{refused:?}");
    let mut accepted = Batch::new();
    accepted.clear(LOST_BATCHES);
    log.commit(&accepted).unwrap();
    log.check_state().unwrap();
    told
}

/// Found from outside: the repair left a log that had forgotten its newest promise, without a word.
#[test]
fn repair_of_a_tail_that_ends_before_its_checkpoint_says_that_batches_may_be_lost() {
    type Change = fn(&mut Vec<u8>, &[u8]);
    let changes: [Change; 4] = [
        |tail, older| tail.copy_from_slice(older),
        |tail, _| tail[4096..].fill(0),
        |tail, _| tail.fill(0),
        |tail, _| tail.truncate(4096),
    ];
    for (nth, change) in changes.into_iter().enumerate() {
        let place = tempfile::tempdir().unwrap();
        let (path, name, older) = killed(place.path());
        let mut tail = fs::read(&name).unwrap();
        change(&mut tail, &older);
        fs::write(&name, tail).unwrap();
        let refused = Log::open(&path, &options()).err().unwrap();
        assert!(matches!(refused, Error::Damaged { .. }), "{nth}: {refused}");
        let third = [3_u64, 4].map(u64::to_le_bytes).concat();
        assert_eq!(told(&path), Some(third), "{nth}");
    }
}

/// Where the batch after the checkpoint is whole, it is known where the log ends.
#[test]
fn repair_of_a_hole_before_the_checkpoint_loses_nothing_after_it() {
    let place = tempfile::tempdir().unwrap();
    let (path, name, _) = killed(place.path());
    let mut tail = fs::read(&name).unwrap();
    let second = entry(2);
    let at = tail.windows(second.len()).position(|bytes| bytes == second).unwrap();
    // Its header too.
    tail[at - 32..at + second.len()].fill(0);
    fs::write(&name, tail).unwrap();
    let refused = Log::open(&path, &options()).err().unwrap();
    assert!(matches!(refused, Error::Damaged { .. }), "{refused}");
    assert_eq!(told(&path), None);
}

/// Where the last frame before the checkpoint is whole, nothing else was in its place: a damaged header
/// of the segment is no reason to believe that there was more.
#[test]
fn repair_of_a_header_is_no_loss() {
    for at in [8, 40, 100] {
        let place = tempfile::tempdir().unwrap();
        let live = place.path().join("live");
        let (log, _) = Log::open_or_create(&live, &options()).unwrap();
        promise(&log, 3);
        log.maintain().unwrap();
        let path = place.path().join("log");
        copy(&live, &path);
        let name = segments(&path).remove(0);
        let mut tail = fs::read(&name).unwrap();
        tail[at] ^= 1;
        fs::write(&name, tail).unwrap();
        assert!(Log::open(&path, &options()).is_err());
        assert_eq!(told(&path), None, "{at}");
    }
}

/// Found from outside: a batch of cells alone takes no entry along, so none was missing, and the log
/// opened without a word about the promise that was lost.
#[test]
fn repair_that_loses_a_promise_before_entries_says_so() {
    for whole_frame in [false, true] {
        let place = tempfile::tempdir().unwrap();
        let (live, path) = (place.path().join("live"), place.path().join("log"));
        let (log, _) = Log::open_or_create(&live, &options()).unwrap();
        promise(&log, 3);
        log.maintain().unwrap();
        let mut batch = Batch::new();
        batch.set("promise", b"the fourth one".to_vec());
        log.commit(&batch).unwrap();
        for index in 0..2 {
            log.append(&entry(index)).unwrap();
        }
        copy(&live, &path);
        let name = segments(&path).remove(0);
        let mut tail = fs::read(&name).unwrap();
        let at = tail.windows(14).rposition(|bytes| bytes == b"the fourth one").unwrap();
        tail[if whole_frame { at - 48..at + 14 } else { at..at + 1 }].fill(0);
        fs::write(&name, tail).unwrap();
        assert!(Log::open(&path, &options()).is_err());
        let second = [2_u64, 3].map(u64::to_le_bytes).concat();
        assert_eq!(told(&path), Some(second));
    }
}
