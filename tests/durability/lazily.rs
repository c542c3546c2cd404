//! Cells that are set lazily: what they cost, what is refused, what takes them along.
//!
//! What a crash may leave of them is the exploration's to find (`tests/recovery/crash.rs`).
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use indelible::io::sim::{Fault, Op, Persistence, Repeat, SimDisk};
use indelible::options::{CELL_NAME_BYTES_MAX, CELL_VALUE_BYTES_MAX};
use indelible::{Batch, Durability, Error, Log, Options, WriteMode};

fn options() -> Options {
    Options::new().background(false).tiny_segments(8 * 1024).write_mode(WriteMode::Pwrite)
}

fn create(disk: &SimDisk, options: &Options) -> Log {
    Log::create_in(Arc::new(disk.clone()), options).unwrap()
}

/// The log as it is found after a power cut now that keeps nothing but what is durable.
fn after_power_cut(disk: &SimDisk) -> Log {
    let after = disk.crash_copy(Persistence::Nothing);
    Log::open_in(Arc::new(after), &options()).unwrap().0
}

fn cell(log: &Log, name: &str) -> Option<Vec<u8>> {
    log.cell(name).map(|value| value.to_vec())
}

#[test]
fn lazy_value_is_seen_at_once_and_costs_no_call() {
    let disk = SimDisk::new(1);
    let log = create(&disk, &options());
    let calls = disk.calls();
    log.set_lazily("decided", b"1").unwrap();
    log.set_lazily("decided", b"2").unwrap();
    // Changes nothing, while one waits.
    log.commit(Batch::new().clear("promise").trim(0)).unwrap();
    assert_eq!(disk.calls(), calls);
    assert_eq!(cell(&log, "decided"), Some(b"2".to_vec()));
    assert_eq!(log.cells().len(), 1);
    assert_eq!(log.stats().batches, 0);
}

#[test]
fn lazy_value_costs_no_sync_of_its_own() {
    let disk = SimDisk::new(1);
    let log = create(&disk, &options());
    for number in 0..10_u64 {
        log.set_lazily("decided", &number.to_le_bytes()).unwrap();
        let (calls, batches) = (disk.calls(), log.stats().batches);
        log.append(b"entry").unwrap();
        assert_eq!(disk.calls() - calls, 3, "a write, a witness and a sync");
        assert_eq!(log.stats().batches - batches, 1);
        let found = after_power_cut(&disk);
        assert_eq!(cell(&found, "decided"), Some(number.to_le_bytes().to_vec()));
    }
}

type Persists = (&'static str, fn(&Log));

#[test]
pub(crate) fn lazy_value_is_durable_after_whatever_takes_it_along() {
    let ways: [Persists; 6] = [
        ("append", |log| drop(log.append(b"x").unwrap())),
        ("batch with a plan", |log| drop(log.commit(Batch::new().set("y", b"y")).unwrap())),
        ("sync", |log| log.sync().unwrap()),
        ("maintain", |log| log.maintain().unwrap()),
        ("trim", |log| {
            log.submit(Batch::new().trim(log.next())).unwrap();
            log.maintain().unwrap();
        }),
        ("close", |log| log.close().unwrap()),
    ];
    for (way, persist) in ways {
        let disk = SimDisk::new(1);
        let log = create(&disk, &options());
        log.append(b"before").unwrap();
        log.set_lazily("decided", b"7").unwrap();
        assert_eq!(cell(&after_power_cut(&disk), "decided"), None, "before {way}");
        persist(&log);
        assert_eq!(cell(&after_power_cut(&disk), "decided"), Some(b"7".to_vec()), "after {way}");
    }
}

#[test]
fn sync_writes_a_lazy_value_once() {
    let disk = SimDisk::new(1);
    let log = create(&disk, &options().durability(Durability::Barrier));
    log.set_lazily("decided", b"7").unwrap();
    log.sync().unwrap();
    let calls = disk.calls();
    log.sync().unwrap();
    log.set_lazily("decided", b"7").unwrap();
    log.sync().unwrap();
    assert_eq!(disk.calls(), calls, "it is durable");
}

#[test]
pub(crate) fn batch_goes_after_the_lazy_values_before_it() {
    let disk = SimDisk::new(1);
    let log = create(&disk, &options());
    log.set_lazily("a", b"lazy").unwrap();
    log.set_lazily("b", b"lazy").unwrap();
    log.set_lazily("c", b"lazy").unwrap();
    let mut writer = log.side_file_writer().unwrap();
    writer.write_all(b"snapshot").unwrap();
    let file = writer.finish().unwrap();
    log.commit(Batch::new().set("a", b"batch").clear("b").attach("c", file)).unwrap();
    let found = after_power_cut(&disk);
    for log in [&log, &found] {
        assert_eq!(cell(log, "a"), Some(b"batch".to_vec()));
        assert_eq!(log.cells().len(), 2, "b is clear");
        assert_eq!(log.side_file("c").unwrap().unwrap().read_all().unwrap(), b"snapshot");
    }
}

#[test]
fn refused_lazy_value_changes_nothing() {
    let disk = SimDisk::new(1);
    let log = create(&disk, &options());
    let mut writer = log.side_file_writer().unwrap();
    writer.write_all(b"snapshot").unwrap();
    let file = writer.finish().unwrap();
    log.commit(Batch::new().attach("snapshot", file).set("old", [1; 1000].as_slice())).unwrap();
    log.set_lazily("new", &[2; 1000]).unwrap();
    let (before, calls) = (log.cells().len(), disk.calls());
    let refused = |name: &str, bytes: usize| log.set_lazily(name, &vec![3; bytes]).unwrap_err();
    let too_long = "n".repeat(CELL_NAME_BYTES_MAX + 1);
    for name in ["", "Upper", "sp ace"] {
        assert!(matches!(refused(name, 1), Error::InvalidArgument { what: "cell name", .. }));
    }
    assert!(matches!(refused(&too_long, 1), Error::TooLarge { what: "cell name bytes", .. }));
    for name in ["old", "new", "other"] {
        let error = refused(name, CELL_VALUE_BYTES_MAX + 1);
        assert!(matches!(error, Error::TooLarge { what: "cell value bytes", .. }), "{error}");
    }
    assert!(matches!(refused("snapshot", 1), Error::InvalidArgument { what: "cell", .. }));
    // Three large cells fit the slots, four do not; the one that waits counts.
    log.set_lazily("third", &[4; 1000]).unwrap();
    let error = refused("fourth", 1000);
    assert!(matches!(error, Error::TooLarge { what: "bytes of all state cells", .. }), "{error}");
    let batch = log.commit(Batch::new().set("fourth", [5; 1000].as_slice()));
    assert!(matches!(batch, Err(Error::TooLarge { what: "bytes of all state cells", .. })));
    assert_eq!(disk.calls(), calls);
    assert_eq!(log.cells().len(), before + 1);
    log.sync().unwrap();
    assert_eq!(after_power_cut(&disk).cells(), log.cells());
}

/// What a batch may hold is decided by what readers see, not by what was written last.
#[test]
fn batch_fits_as_soon_as_a_lazy_value_has_made_room() {
    let disk = SimDisk::new(1);
    let log = create(&disk, &options());
    let large = [1; 1000].as_slice();
    log.commit(Batch::new().set("a", large).set("b", large).set("c", large)).unwrap();
    assert!(log.commit(Batch::new().set("d", large)).is_err());
    log.set_lazily("a", b"").unwrap();
    log.commit(Batch::new().set("d", large)).unwrap();
    assert_eq!(after_power_cut(&disk).cells(), log.cells());
}

/// As many segments as there may be are no reason to keep a sync from what it is for.
#[test]
pub(crate) fn sync_takes_a_lazy_value_along_at_the_limit_of_segments() {
    let disk = SimDisk::new(1);
    let options = options().segments_max(2).durability(Durability::Barrier);
    let log = create(&disk, &options);
    for bytes in [900, 100, 0] {
        assert!((0..10_000).any(|_| log.append(&vec![1; bytes]).is_err()), "{bytes}");
    }
    log.set_lazily("decided", &[7; 200]).unwrap();
    log.sync().unwrap();
    assert_eq!((log.durable(), log.stats().slot_commits), (log.next(), 1));
    let found = after_power_cut(&disk);
    assert_eq!((found.next(), found.cells()), (log.next(), log.cells()));
}

#[test]
fn closed_log_takes_no_lazy_value() {
    let disk = SimDisk::new(1);
    let log = create(&disk, &options());
    log.close().unwrap();
    assert!(matches!(log.set_lazily("decided", b"1"), Err(Error::Closed)));
    assert_eq!(log.cell("decided"), None);
}

#[test]
pub(crate) fn poisoned_log_takes_no_lazy_value_and_forgets_what_waited() {
    let disk = SimDisk::new(1);
    let log = create(&disk, &options());
    log.append(b"durable").unwrap();
    log.set_lazily("decided", b"1").unwrap();
    disk.fail_next(Op::Sync, Fault::Io, Repeat::Once);
    assert!(log.append(b"lost").is_err());
    assert!(matches!(log.set_lazily("decided", b"2"), Err(Error::Poisoned { .. })));
    assert_eq!(log.entry(0).unwrap(), b"durable");
    let found = after_power_cut(&disk);
    assert_eq!((found.next(), cell(&found, "decided")), (1, None));
}

#[test]
pub(crate) fn lazy_value_goes_into_the_slots_on_a_full_disk() {
    for take_along in [Log::sync, Log::maintain] {
        let disk = SimDisk::new(1);
        let log = create(&disk, &options());
        disk.set_capacity(Some(disk.used()));
        for bytes in [900, 0] {
            while log.append(&vec![1; bytes]).is_ok() {}
        }
        for number in 0..40_u64 {
            log.set_lazily("decided", &number.to_le_bytes()).unwrap();
            take_along(&log).unwrap();
            let found = after_power_cut(&disk);
            assert_eq!(cell(&found, "decided"), Some(number.to_le_bytes().to_vec()));
        }
        assert!(!log.stats().poisoned);
    }
}

#[test]
fn volatile_log_shows_and_keeps_a_lazy_value() {
    let log = Log::in_memory(&Options::new()).unwrap();
    log.set_lazily("decided", b"1").unwrap();
    log.append(b"x").unwrap();
    log.set_lazily("decided", b"2").unwrap();
    assert_eq!(cell(&log, "decided"), Some(b"2".to_vec()));
    log.sync().unwrap();
    assert_eq!(cell(&log, "decided"), Some(b"2".to_vec()));
}

/// Nobody writes or syncs any more: the maintenance thread of the idle log takes the value along.
#[test]
fn idle_log_makes_a_lazy_value_durable_by_itself() {
    for mode in [WriteMode::Mmap, WriteMode::Pwrite, WriteMode::Buffered] {
        let directory = tempfile::tempdir().unwrap();
        let (path, copy) = (directory.path().join("log"), directory.path().join("copy"));
        let options = Options::new()
            .segment_bytes(64 * 1024)
            .write_mode(mode)
            .idle_checkpoint(Duration::from_millis(20));
        let log = Log::create(&path, &options).unwrap();
        log.append(b"x").unwrap();
        log.set_lazily("decided", b"7").unwrap();
        // The files as they are, opened as another log while this one lives: nothing is closed.
        let found = || {
            std::fs::create_dir(&copy).unwrap();
            for file in std::fs::read_dir(&path).unwrap() {
                let file = file.unwrap();
                // A file that was prepared meanwhile may get another name.
                let _gone = std::fs::copy(file.path(), copy.join(file.file_name()));
            }
            let found = Log::open(&copy, &options).map(|(log, _)| cell(&log, "decided"));
            std::fs::remove_dir_all(&copy).unwrap();
            found
        };
        // A copy that meets a checkpoint half way may not open.
        let mut tries = 0;
        while !matches!(found(), Ok(Some(value)) if value == b"7") {
            tries += 1;
            assert!(tries < 1000, "{mode:?}: it never is");
            std::thread::sleep(Duration::from_millis(10));
        }
        log.close().unwrap();
    }
}

/// A batch that sets what waits already changes nothing that readers see, but its caller is told that
/// the value is durable.
#[test]
fn batch_that_repeats_a_lazy_value_makes_it_durable() {
    for then_clear in [false, true] {
        let disk = SimDisk::new(1);
        let log = create(&disk, &options());
        log.set_lazily("promise", b"7").unwrap();
        let mut batch = Batch::new();
        batch.set("promise", b"7".as_slice());
        if then_clear {
            batch.clear("promise").set("promise", b"7".as_slice());
        }
        log.commit(&batch).unwrap();
        assert_eq!(log.stats().batches, 1);
        assert_eq!(cell(&after_power_cut(&disk), "promise"), Some(b"7".to_vec()));
    }
}
