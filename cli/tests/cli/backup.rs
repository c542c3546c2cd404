//! `indelible backup`, and what the copy and its log may do to each other: nothing.

use std::fs;
use std::time::Duration;

use indelible::{Batch, Durability, Log, Options, WriteMode};

use super::{Place, build, bytes_of, check, check_untouched, entry, indelible, options, program};

#[test]
fn a_backup_is_a_closed_log_of_its_own() {
    let place = Place::new();
    place.closed();
    let before = bytes_of(&place.log());
    check(&place, "backup", &["backup"], &[&place.log(), &place.path("copy")]);
    // Not even the lock: it works from a mount that allows no writing.
    assert!(before == bytes_of(&place.log()), "the backup changed the log");
    let (log, report) = Log::open(place.path("copy"), &options()).unwrap();
    assert_eq!(report.verdict, indelible::Verdict::Clean);
    assert_eq!((log.first(), log.next()), (2, 14));
    assert_eq!(log.entry(7).unwrap(), entry(7));
    assert!(log.side_file("snapshot").unwrap().is_some());
    log.close().unwrap();
    check(&place, "backup_again", &["backup"], &[&place.log(), &place.path("copy")]);
}

#[test]
fn a_backup_into_the_log_itself_is_refused_before_anything_is_written() {
    let place = Place::new();
    let log = place.closed();
    check_untouched(&place, "backup_inside", &["backup"], &[&log, &log.join("copy")]);
    std::os::unix::fs::symlink(&log, place.path("link")).unwrap();
    for (copy, code) in [("log", 4), ("link", 4), ("link/copy", 2), ("none/../log/copy", 2)] {
        let before = bytes_of(place.directory.path());
        let output = indelible(&["backup"], &[&log, &place.path(copy)]);
        assert_eq!(output.status.code(), Some(code), "{copy}: {output:?}");
        assert!(before == bytes_of(place.directory.path()), "{copy} changed something");
        assert!(!place.path("none").exists() && !log.join("copy").exists(), "{copy} was made");
    }
    let relative = program(&["backup", ".", "./copy"], &[]).current_dir(&log).output().unwrap();
    assert_eq!(relative.status.code(), Some(2), "{relative:?}");
    let (live, _) = Log::open(&log, &options()).unwrap();
    let inside = live.backup(log.join("copy")).unwrap_err();
    assert!(matches!(inside, indelible::Error::InvalidArgument { .. }), "{inside}");
    let itself = live.backup_unlinked(place.path("link")).unwrap_err();
    assert!(matches!(itself, indelible::Error::AlreadyExists { .. }), "{itself}");
    assert!(!log.join("copy").exists());
    live.close().unwrap();
}

/// As a crash leaves it: every file but the one that says what they are.
#[test]
fn what_a_backup_that_was_cut_short_left_is_told_as_such() {
    let place = Place::new();
    let log = place.closed();
    let copy = place.path("copy");
    assert!(indelible(&["backup"], &[&log, &copy]).status.success());
    fs::remove_file(copy.join("metadata")).unwrap();
    check(&place, "backup_over_part", &["backup"], &[&log, &copy]);
}

#[test]
fn a_log_in_use_is_not_copied_from_outside() {
    let place = Place::new();
    let log = build(&place.log());
    check(&place, "backup_locked", &["backup"], &[&place.log(), &place.path("copy")]);
    log.close().unwrap();
}

#[test]
fn a_live_log_is_copied_as_of_one_batch_and_goes_on() {
    let place = Place::new();
    let log = build(&place.log());
    let mut batch = Batch::new();
    batch.append(entry(14)).set("vote", b"v");
    log.submit(&batch).unwrap();
    let copy = log.backup(place.path("copy")).unwrap();
    assert_eq!((copy.first, copy.next, copy.entries_verified), (2, 15, 13));
    assert!(copy.linked >= 3 && copy.copied == 1, "{copy:?}");
    let before = bytes_of(&place.path("copy"));
    // Trims everything that is linked, and writes until its space would be used again.
    for index in 15..60 {
        log.append(&entry(index)).unwrap();
        let mut batch = Batch::new();
        batch.trim(index - 2);
        log.commit(&batch).unwrap();
    }
    log.maintain().unwrap();
    assert!(log.stats().recycled > 0);
    assert!(before == bytes_of(&place.path("copy")), "the log wrote into its backup");
    // And the other way round.
    let (copy, _) = Log::open(place.path("copy"), &options()).unwrap();
    for index in 15..40 {
        assert_eq!(copy.append(&entry(index)).unwrap().next(), index + 1);
    }
    assert_eq!(copy.entry(6).unwrap(), entry(6));
    copy.close().unwrap();
    log.close().unwrap();
    let output = indelible(&["verify"], &[&place.log()]);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_backup_of_a_damaged_log_is_refused() {
    let place = Place::new();
    place.closed();
    let sealed = place.segment(2);
    super::damage::flip(&sealed, super::damage::find(&sealed, "entry 8 ") + 5000);
    check(&place, "backup_damaged", &["backup"], &[&place.log(), &place.path("copy")]);
    let left = fs::read_dir(place.path("copy")).unwrap();
    let left: Vec<_> = left.map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"], "what is left looks like a log");
}

#[test]
fn a_backup_of_copies_shares_nothing() {
    use std::os::unix::fs::MetadataExt;
    let place = Place::new();
    place.closed();
    let links = |path: &str| {
        let files = fs::read_dir(place.path(path)).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().nlink()).max().unwrap()
    };
    check(&place, "backup_copies", &["backup", "--copy"], &[&place.log(), &place.path("copy")]);
    assert_eq!((links("log"), links("copy")), (1, 1));
    check(&place, "backup_links", &["backup"], &[&place.log(), &place.path("linked")]);
    assert_eq!(links("linked"), 2);
}

#[test]
fn a_log_on_a_read_only_mount_is_copied() {
    let place = Place::new();
    place.closed();
    let mount = |arguments: &[&str], path: &std::path::Path| {
        let mut command = std::process::Command::new("mount");
        command.args(arguments).arg(path).output().is_ok_and(|output| output.status.success())
    };
    let source = place.log();
    if !mount(&["--bind", source.to_str().unwrap()], &source)
        || !mount(&["-o", "remount,bind,ro"], &source)
    {
        eprintln!("skipped: mounting is not permitted here");
        return;
    }
    let output = indelible(&["backup"], &[&source, &place.path("copy")]);
    std::process::Command::new("umount").arg(&source).status().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(indelible(&["verify"], &[&place.path("copy")]).status.success());
}

/// A small file system below a place, if this machine lets us mount one.
struct Small(std::path::PathBuf);

impl Small {
    fn mount(place: &Place, bytes: u64) -> Option<Self> {
        let path = place.path("small");
        fs::create_dir(&path).unwrap();
        let size = format!("size={bytes}");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "small"])
            .arg(&path)
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then_some(Self(path))
    }

    fn grow(&self, bytes: u64) {
        let size = format!("remount,size={bytes}");
        let mut command = std::process::Command::new("mount");
        assert!(command.args(["-o", &size]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _best_effort = std::process::Command::new("umount").arg(&self.0).output();
    }
}

#[test]
fn a_full_disk_is_said_to_be_full() {
    let place = Place::new();
    place.closed();
    let Some(small) = Small::mount(&place, 128 * 1024) else {
        eprintln!("SKIPPED: needs the right to mount a tmpfs");
        return;
    };
    check(&place, "backup_full", &["backup"], &[&place.log(), &small.0.join("copy")]);
    let left: Vec<_> = bytes_of(&small.0.join("copy")).into_keys().collect();
    assert_eq!(left, [small.0.join("copy/lock")], "another attempt must be possible");
    let output = indelible(&["verify"], &[&place.log()]);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_repair_on_a_full_disk_changes_nothing() {
    let place = Place::new();
    place.closed();
    let sealed = place.segment(2);
    super::damage::flip(&sealed, super::damage::find(&sealed, "entry 8 ") + 5000);
    let Some(small) = Small::mount(&place, 240 * 1024) else {
        eprintln!("SKIPPED: needs the right to mount a tmpfs");
        return;
    };
    let log = small.0.join("log");
    super::copy(&place.log(), &log);
    let before = bytes_of(&log);
    check(&place, "repair_full", &["repair", "--apply"], &[&log]);
    for (path, bytes) in before {
        let same = fs::read(&path).unwrap() == bytes;
        assert!(same || path.ends_with("lock"), "{} changed", path.display());
    }
}

#[test]
fn a_repair_that_meets_a_full_disk_half_way_goes_on() {
    let place = Place::new();
    place.closed();
    let Some(small) = Small::mount(&place, 1024 * 1024) else {
        eprintln!("SKIPPED: needs the right to mount a tmpfs");
        return;
    };
    let log = small.0.join("log");
    super::copy(&place.log(), &log);
    fs::remove_file(log.join("0000000000000002-0000000000000006.seg")).unwrap();
    let sealed = log.join("0000000000000001-0000000000000000.seg");
    super::damage::flip(&sealed, super::damage::find(&sealed, "entry 4 ") + 5000);
    // For the copies that are kept and one segment; the second one comes after the slots.
    small.grow(300 * 1024);
    let before = fs::read(log.join("metadata")).unwrap();
    check(&place, "repair_full_half_way", &["repair", "--apply"], &[&log]);
    assert!(before != fs::read(log.join("metadata")).unwrap(), "it did not get that far");
    small.grow(1024 * 1024);
    check(&place, "repair_goes_on", &["repair", "--apply"], &[&log]);
    let options = options().allow_holes(true);
    let (opened, _) = Log::open(&log, &options).unwrap();
    assert_eq!((opened.first(), opened.next()), (2, 14));
    assert_eq!(opened.entry(13).unwrap(), entry(13));
    opened.close().unwrap();
}

/// Found by review. A roll between the checkpoint of a backup and its stock sealed a segment, which
/// got a second name. No checkpoint named its successor yet: after a crash that lost it, the log
/// went on in the sealed one, and wrote into its backup.
#[test]
fn segment_that_a_crash_makes_the_tail_again_is_no_link() {
    // The maintenance thread may name the successor first; then the link is right. Or the writer comes
    // after the moment of the backup.
    assert!((0..100).any(|_| is_no_link()), "another thread always came first or last");
}

/// Returns whether the segment was copied.
fn is_no_link() -> bool {
    let place = Place::new();
    let hour = Duration::from_secs(3600);
    let options = Options::new()
        .segment_bytes(64 * 1024)
        .checkpoint_bytes(64 * 1024)
        .write_mode(WriteMode::Pwrite)
        .durability(Durability::Interval(hour))
        .idle_checkpoint(hour);
    let log = Log::create(place.log(), &options).unwrap();
    for index in 0..3 {
        log.append(&entry(index)).unwrap();
    }
    // The checkpoint of the backup makes that durable; who hears of it rolls.
    let writer = log.clone();
    let (path, seen) = (place.log().join("metadata"), place.path("metadata"));
    log.newest_ticket().on_durable(move |durable| {
        durable.unwrap();
        fs::copy(&path, &seen).unwrap();
        writer.append(&vec![b'x'; 50_000]).unwrap();
    });
    let backup = log.backup(place.path("copy")).unwrap();
    if backup.next != 4 || backup.linked > 0 {
        return false;
    }
    assert_eq!(log.stats().rolls, 1);
    let before = bytes_of(&place.path("copy"));
    // As a crash leaves it: the same file, but no successor.
    let crashed = place.path("crashed");
    fs::create_dir(&crashed).unwrap();
    for file in fs::read_dir(place.log()).unwrap() {
        let from = file.unwrap().path();
        let name = from.file_name().and_then(|name| name.to_str()).unwrap().to_owned();
        if name.starts_with("0000000000000001-") {
            fs::rename(from, crashed.join(name)).unwrap();
        }
    }
    fs::copy(place.path("metadata"), crashed.join("metadata")).unwrap();
    let (crashed, _) = Log::open(crashed, &options).unwrap();
    assert_eq!(crashed.next(), 3);
    for index in 3..9 {
        crashed.append(&entry(index)).unwrap();
    }
    crashed.sync().unwrap();
    assert!(before == bytes_of(&place.path("copy")), "the log wrote into its backup");
    log.close().unwrap();
    true
}
