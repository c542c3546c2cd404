//! What a log takes of the machine: space on the disk, threads, descriptors.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::process::itself;
use indelible::{Batch, Durability, Error, Log, Options, Shortage, Verdict, WriteMode};

/// Bytes that the files of a directory take on the disk.
fn taken(directory: &Path) -> u64 {
    let files = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().metadata().unwrap());
    files.map(|about| about.blocks() * 512).sum()
}

/// Waits until nothing is left to prepare: what is taken has not changed for so many looks.
fn settled(directory: &Path) -> u64 {
    let (mut before, mut same) = (taken(directory), 0);
    for _ in 0..1000 {
        std::thread::sleep(Duration::from_millis(10));
        let now = taken(directory);
        same = if now == before { same + 1 } else { 0 };
        before = now;
        if same == 20 {
            break;
        }
    }
    before
}

#[test]
fn new_log_takes_less_than_a_mebibyte() {
    for durability in [Durability::Always, Durability::Barrier, Durability::Os] {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::create(directory.path(), &Options::new().durability(durability)).unwrap();
        log.append(b"one").unwrap();
        log.sync().unwrap();
        let taken = settled(directory.path());
        assert!(taken <= 1024 * 1024, "{durability:?}: {taken}");
        drop(log);
        let (log, _) = Log::open(directory.path(), &Options::new()).unwrap();
        log.append(b"two").unwrap();
        let taken = settled(directory.path());
        assert!(taken <= 1024 * 1024, "{durability:?}, reopened: {taken}");
    }
}

#[test]
fn small_log_takes_little_more_than_its_payload() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new().durability(Durability::Barrier);
    let log = Log::create(directory.path(), &options).unwrap();
    for index in 0..50_000_u32 {
        log.append(&[index.to_le_bytes()[0]; 256]).unwrap();
        if index % 100 == 0 {
            log.sync().unwrap();
        }
    }
    log.sync().unwrap();
    let (taken, payload) = (settled(directory.path()), 50_000 * 256);
    assert!(taken * 10 <= payload * 13, "{taken} for {payload}");
}

#[test]
pub(crate) fn refused_batch_gives_back_the_segments_it_had_made() {
    use indelible::io::sim::SimDisk;
    let disk = SimDisk::new(1);
    let options = Options::new().segment_bytes(1024 * 1024).background(false);
    let log = Log::create_in(std::sync::Arc::new(disk.clone()), &options).unwrap();
    disk.set_capacity(Some(20 * 1024 * 1024));
    let entry = vec![7; 900_000];
    let mut batch = Batch::new();
    (0..40).for_each(|_| {
        batch.append(entry.as_slice());
    });
    for _ in 0..3 {
        assert!(matches!(log.commit(&batch), Err(Error::DiskFull { .. })));
        assert!(disk.used() < 3 * 1024 * 1024, "{} are gone", disk.used());
    }
    log.append(&entry).unwrap();
}

/// What was ready after the frames is not known after an open: what a restored backup has there may
/// be a hole.
#[test]
pub(crate) fn reopened_log_makes_its_space_ready_again() {
    use indelible::io::sim::SimDisk;
    let modes = [WriteMode::Buffered, WriteMode::Mmap, WriteMode::Pwrite, WriteMode::Direct];
    for mode in modes {
        let disk = SimDisk::new(1);
        let options = Options::new().segment_bytes(1024 * 1024).background(false).write_mode(mode);
        let log = Log::create_in(std::sync::Arc::new(disk.clone()), &options).unwrap();
        log.append(b"before").unwrap();
        drop(log);
        let (log, _) = Log::open_in(std::sync::Arc::new(disk.clone()), &options).unwrap();
        for _ in 0..1000 {
            log.append(&[7; 2000]).unwrap();
        }
        assert_eq!(disk.stray_stores(), 0, "{mode:?}");
        assert!(log.stats().preparer_behind > 2, "{:?}", log.stats());
        assert_eq!((log.next(), log.entry(0).unwrap().as_slice()), (1001, b"before".as_slice()));
    }
}

/// How many threads and descriptors this process has.
#[cfg(target_os = "linux")]
fn counted(what: &str) -> usize {
    std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count()
}

/// In a process of its own: the other tests have threads as well.
#[cfg(target_os = "linux")]
#[test]
fn many_logs_share_a_few_threads() {
    const LOGS: usize = 60;
    if std::env::var_os("INDELIBLE_COUNTS").is_none() {
        let child = itself(module_path!(), "many_logs_share_a_few_threads")
            .env("INDELIBLE_COUNTS", "1")
            .status()
            .unwrap();
        assert!(child.success());
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (threads, descriptors) = (counted("task"), counted("fd"));
    let logs: Vec<_> = (0..LOGS)
        .map(|at| Log::create(directory.path().join(at.to_string()), &Options::new()).unwrap())
        .collect();
    let (called, calls) = std::sync::mpsc::channel();
    for log in &logs {
        let called = called.clone();
        let mut batch = Batch::new();
        batch.append(b"entry".as_slice());
        let ticket = log.submit(&batch).unwrap();
        ticket.on_durable(move |durable| called.send(durable.is_ok()).unwrap());
    }
    for _ in &logs {
        assert!(calls.recv_timeout(Duration::from_secs(60)).unwrap());
    }
    let more = counted("task") - threads;
    assert!((3..=6).contains(&more), "{more} threads for {LOGS} logs");
    let more = counted("fd") - descriptors;
    // The directory, the metadata file, the tail.
    assert!(more <= LOGS * 3, "{more} descriptors for {LOGS} logs");
    drop(logs);
    for _ in 0..1000 {
        if counted("task") == threads {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!((counted("task"), counted("fd")), (threads, descriptors), "something is left");
    // They come back with the next log.
    let log = Log::create(directory.path().join("another"), &Options::new()).unwrap();
    log.append(b"entry").unwrap();
    assert!(counted("task") > threads);
}

/// Syncs of files and of the directory that `act` asked the disk for.
fn syncs(disk: &indelible::io::sim::SimDisk, act: impl FnOnce()) -> u64 {
    let counted = || {
        let counts = disk.counts();
        counts.syncs + counts.directory_syncs
    };
    let before = counted();
    act();
    counted() - before
}

/// On a machine one more: the name of the directory in its parent.
#[test]
fn create_and_roll_take_few_syncs() {
    use indelible::io::sim::SimDisk;
    use std::sync::Arc;
    let disk = SimDisk::new(1);
    let options = Options::new().segment_bytes(64 * 1024).background(false);
    let mut log = None;
    let create = syncs(&disk, || {
        log = Some(Log::create_in(Arc::new(disk.clone()), &options).unwrap());
    });
    let log = log.unwrap();
    // Both slots, the names, the first segment, each slot again.
    assert_eq!(create, 5);
    let mut rolls = 0;
    while rolls < 3 {
        let before = log.stats().rolls;
        let taken = syncs(&disk, || {
            log.append(&[7; 3000]).unwrap();
        });
        if log.stats().rolls > before {
            rolls += 1;
            // The new segment, its name, a slot.
            assert_eq!(taken, 3);
        }
    }
}

/// What large direct batches are written to is reserved ahead of them, not filled and synced.
#[test]
fn large_direct_batches_are_written_once() {
    use indelible::io::sim::SimDisk;
    let disk = SimDisk::new(1);
    let options = Options::new().segment_bytes(32 * 1024 * 1024).background(false);
    let options = options.write_mode(WriteMode::Direct);
    let log = Log::create_in(std::sync::Arc::new(disk.clone()), &options).unwrap();
    for _ in 0..20 {
        log.append(&vec![7; 1024 * 1024]).unwrap();
        let ready = disk.used();
        // Both slots.
        assert_eq!(syncs(&disk, || log.maintain().unwrap()), 2);
        assert!(disk.used() >= ready);
    }
}

/// A clean open costs the same at any length: one listing, the used part of the slots, and three
/// headers of the tail.
#[test]
fn clean_open_reads_little() {
    use indelible::io::sim::SimDisk;
    use std::sync::Arc;
    for mode in [WriteMode::Buffered, WriteMode::Mmap, WriteMode::Pwrite, WriteMode::Direct] {
        let disk = SimDisk::new(1);
        let options =
            Options::new().segment_bytes(64 * 1024).background(false).spares(1).write_mode(mode);
        let log = Log::create_in(Arc::new(disk.clone()), &options).unwrap();
        for _ in 0..200 {
            log.append(&[7; 3000]).unwrap();
        }
        log.maintain().unwrap();
        log.close().unwrap();
        let before = disk.counts();
        let (log, report) = Log::open_in(Arc::new(disk.clone()), &options).unwrap();
        let now = disk.counts();
        assert_eq!((report.verdict, log.next()), (Verdict::Clean, 200));
        assert_eq!(now.lists - before.lists, 1, "{mode:?}");
        let read = now.bytes_read - before.bytes_read;
        assert!(read <= 8 * 1024, "{mode:?}: {read} bytes in {} reads", now.reads - before.reads);
    }
}

/// Direct writes take a descriptor of their own, which is had before the first frame as well.
#[test]
fn direct_roll_without_descriptors_is_refused_and_passes() {
    if !super::alone("footprint::direct_roll_without_descriptors_is_refused_and_passes") {
        return;
    }
    // Beside the sources rather than in the temporary directory, which may be in memory.
    let place = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let options = super::options().write_mode(WriteMode::Direct).durability(Durability::Barrier);
    let log = match Log::create(place.path(), &options) {
        // Nobody takes direct writes here.
        Err(Error::InvalidOption { option: "write_mode", .. }) => return,
        created => created.unwrap(),
    };
    super::limit(libc::RLIMIT_NOFILE, 64);
    // With a spare, since a roll is near.
    log.maintain().unwrap();
    log.append(&[7; 40_000]).unwrap();
    let mut refused = 0;
    for left in 0..8 {
        let mut hogs: Vec<_> =
            std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
        hogs.truncate(hogs.len() - left);
        // What waits for the sync keeps its descriptors through the roll.
        match log.append(&[7; 40_000]).and_then(|_| log.sync()) {
            Ok(()) => break,
            Err(Error::Exhausted { what: Shortage::Descriptors, .. }) => refused += 1,
            Err(error) => panic!("{left} left: {error}"),
        }
    }
    assert!(refused >= 2 && !log.stats().poisoned && log.next() == 2, "{refused}");
    assert_eq!(log.entry(1).unwrap(), [7; 40_000]);
}
