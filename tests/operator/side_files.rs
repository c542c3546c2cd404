//! Side files that are lost: the log is made to open, and what was in them is not made up.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use indelible::inspect::{Health, Meaning, verify};
use indelible::repair::{Loss, Plan, Step, apply, plan, preview_repaired};
use indelible::{Batch, Damage, Error, Log};

use super::{build, cut, entry, flip, options, segments};

const CELL: &str = "snapshot";

fn attach(path: &Path, bytes: &[u8]) {
    let (log, _) = Log::open(path, &options()).unwrap();
    let mut writer = log.side_file_writer().unwrap();
    writer.write_all(bytes).unwrap();
    let mut batch = Batch::new();
    batch.attach(CELL, writer.finish().unwrap());
    log.commit(&batch).unwrap();
    log.close().unwrap();
}

/// A log with a side file of these bytes, and the path of that.
fn built(place: &Path, bytes: &[u8]) -> (PathBuf, PathBuf) {
    let path = place.join("log");
    build(&path);
    attach(&path, bytes);
    let mut files = fs::read_dir(&path).unwrap().map(|file| file.unwrap().path());
    let side = files.find(|path| path.extension().is_some_and(|end| end == "side")).unwrap();
    (path, side)
}

type Hurt = fn(&Path);

/// Missing, too short, too long: an open refuses it.
const REFUSED: [Hurt; 3] = [
    |path| fs::remove_file(path).unwrap(),
    |path| cut(path, 7),
    |path| fs::write(path, [1; 20_000]).unwrap(),
];

fn check_read(log: &Log) {
    for index in 10..150 {
        assert_eq!(log.entry(index).unwrap(), entry(index), "{index}");
    }
    // Neither nothing nor zeros.
    let read = log.side_file(CELL).and_then(|file| file.unwrap().read_all());
    let Err(Error::Damaged { reason: Damage::Checksum { .. }, .. }) = read else {
        panic!("{read:?}")
    };
}

fn lost(side: &Path) -> Loss {
    let file = side.file_name().unwrap().to_str().unwrap().to_owned();
    Loss::SideFile { file, cell: CELL.to_owned() }
}

fn written(side: &Path) -> Step {
    let file = side.file_name().unwrap().to_str().unwrap().to_owned();
    Step::SideFile { file, cell: CELL.to_owned() }
}

fn check_finding(path: &Path, meaning: Meaning) {
    let seen = verify(path, &mut |_| ()).unwrap();
    let [found] = &*seen.findings else { panic!("{:?}", seen.findings) };
    assert_eq!((found.meaning, found.cell.as_deref()), (meaning, Some(CELL)));
    let damaged = seen.health == Health::Damaged;
    assert_eq!(damaged, meaning.is_loss(), "{seen:?}");
}

#[test]
fn lost_snapshot_is_refused_by_its_reads_alone_after_a_repair() {
    for hurt in REFUSED {
        let place = tempfile::tempdir().unwrap();
        let (path, side) = built(place.path(), &[7; 10_000]);
        hurt(&side);
        let left = fs::read(&side).ok();
        assert!(Log::open(&path, &options()).is_err());
        check_finding(&path, Meaning::SideFile);
        let planned = plan(&path).unwrap();
        assert!(planned.obstacle.is_none(), "{planned:?}");
        assert_eq!(
            (&*planned.losses, &*planned.steps),
            (&[lost(&side)][..], &[written(&side)][..])
        );
        check_read(&preview_repaired(&path).unwrap().0);
        let (done, kept) = apply(&path).unwrap();
        assert_eq!((done.losses, done.steps), (planned.losses, planned.steps));
        assert!(fs::read(kept.unwrap().join(side.file_name().unwrap())).ok() == left);
        let (log, _) = Log::open(&path, &options()).unwrap();
        check_read(&log);
        log.close().unwrap();
        // It is still lost, and there is nothing more to be done about it.
        check_finding(&path, Meaning::SideFile);
        let Plan { losses, steps, .. } = plan(&path).unwrap();
        assert_eq!((losses, steps), (vec![lost(&side)], Vec::new()));
        attach(&path, b"what a peer had");
        assert_eq!(verify(&path, &mut |_| ()).unwrap().health, Health::Clean);
    }
}

#[test]
fn side_file_of_zeros_is_made_as_it_was() {
    for hurt in REFUSED {
        for length in [10, 10_000] {
            let place = tempfile::tempdir().unwrap();
            let (path, side) = built(place.path(), &vec![0; length]);
            hurt(&side);
            check_finding(&path, Meaning::Blocking);
            let (done, _) = apply(&path).unwrap();
            assert_eq!((&*done.losses, &*done.steps), (&[][..], &[written(&side)][..]));
            assert_eq!(verify(&path, &mut |_| ()).unwrap().health, Health::Clean);
            let (log, _) = Log::open(&path, &options()).unwrap();
            assert!(log.side_file(CELL).unwrap().unwrap().read_all().unwrap() == vec![0; length]);
        }
    }
    let place = tempfile::tempdir().unwrap();
    let (path, side) = built(place.path(), &[0; 10_000]);
    flip(&side, 5000);
    check_finding(&path, Meaning::Redundant);
    assert_eq!(apply(&path).unwrap().0.steps, [written(&side)]);
    assert!(verify(&path, &mut |_| ()).unwrap().findings.is_empty());
}

#[test]
fn lost_snapshot_keeps_nothing_else_from_being_repaired() {
    for hurt in [REFUSED[0], |path| flip(path, 5)] {
        let place = tempfile::tempdir().unwrap();
        let (path, side) = built(place.path(), &[7; 10_000]);
        let before = fs::read(&side).unwrap();
        hurt(&side);
        let left = fs::read(&side).ok();
        super::zero(&segments(&path)[1], 8192, 64);
        let (done, _) = apply(&path).unwrap();
        assert!(done.losses.contains(&lost(&side)), "{done:?}");
        assert!(matches!(&*done.losses, [Loss::SideFile { .. }, Loss::Entries(_)]), "{done:?}");
        // What is left of it may be of use to somebody.
        assert!(left.is_none() || fs::read(&side).ok() == left);
        fs::write(&side, before).unwrap();
        let (log, _) = Log::open(&path, &options().allow_holes(true)).unwrap();
        assert!(log.side_file(CELL).unwrap().unwrap().read_all().unwrap() == [7; 10_000]);
    }
}

/// As of a killed process: what refers to the file comes after the checkpoint, in a later segment.
#[test]
fn lost_snapshot_of_a_log_that_was_not_closed_costs_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let (live, path) = (place.path().join("live"), place.path().join("log"));
    let log = Log::create(&live, &options()).unwrap();
    for index in 0..150 {
        log.append(&entry(index)).unwrap();
    }
    let mut writer = log.side_file_writer().unwrap();
    writer.write_all(&[7; 10_000]).unwrap();
    let mut batch = Batch::new();
    batch.attach(CELL, writer.finish().unwrap()).trim(10);
    log.commit(&batch).unwrap();
    fs::create_dir(&path).unwrap();
    for file in fs::read_dir(&live).unwrap().map(|file| file.unwrap().path()) {
        if file.extension().is_none_or(|end| end != "side") {
            fs::copy(&file, path.join(file.file_name().unwrap())).unwrap();
        }
    }
    drop(log);
    let (done, _) = apply(&path).unwrap();
    assert!(matches!(&*done.steps, [Step::SideFile { .. }]), "{done:?}");
    assert!(matches!(&*done.losses, [Loss::SideFile { .. }]), "{done:?}");
    let (log, _) = Log::open(&path, &options()).unwrap();
    assert_eq!((log.first(), log.next()), (10, 150));
    check_read(&log);
}
