//! Bugs that the exploration found, each with its story and the seed that showed it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]
#![expect(
    clippy::case_sensitive_file_extension_comparisons,
    reason = "the engine's own names have one case"
)]

use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indelible::inspect::{Finding, FrameSeen};
use indelible::io::mem::MemDirectory;
use indelible::io::sim::{Fault, Op, Persistence, Repeat, Rot, SimDisk, Unit};
use indelible::io::{Access, Directory, DirectoryEntry, File, Lock, LockRefused, Region};
use indelible::{
    Batch, Damage, Durability, Error, Log, Options, SideFile, SyncMethod, Verdict, WriteMode,
};
use parking_lot::Mutex;

#[path = "../support/os_door.rs"]
mod os_door;

fn options() -> Options {
    Options::new().background(false).tiny_segments(8 * 1024)
}

fn open(disk: &SimDisk) -> (Log, Verdict) {
    let (log, report) = Log::open_in(Arc::new(disk.clone()), &options()).unwrap();
    (log, report.verdict)
}

fn side_file(log: &Log, bytes: &[u8]) -> SideFile {
    let mut writer = log.side_file_writer().unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

/// `small:0:0`, seed 1. A torn batch of which only headers or the first frames were left did not
/// count: its number was given again. So a log that was recovered and closed without a write was
/// called damaged by the next open, which saw a batch with the next number begun after a clean
/// close; and frames of the dropped batch could have completed the one written over it.
#[test]
pub(crate) fn number_of_a_dropped_batch_is_never_given_again() {
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let log = Log::create_in(Arc::new(disk.clone()), &options()).unwrap();
        let mut batch = Batch::new();
        batch.append([1; 700].as_slice()).append([2; 700].as_slice());
        log.submit(&batch).unwrap();
        let disk = disk.crash_with(Persistence::Random(seed));
        let (log, verdict) = open(&disk);
        let found = log.next();
        let before = log.newest_ticket().sequence();
        if let Verdict::TornTail { sequence, .. } = verdict {
            assert!(before >= sequence, "seed {seed}: {before} would be followed by {sequence}");
        }
        log.close().unwrap();
        let (log, verdict) = open(&disk);
        assert_eq!((verdict, log.next()), (Verdict::Clean, found), "seed {seed}");
    }
}

/// `small:29:0`, seed 1. A side file that two cells referred to was removed when the first of them
/// let it go, and the log could not be opened any more.
#[test]
pub(crate) fn side_file_stays_as_long_as_any_cell_refers_to_it() {
    let disk = SimDisk::new(1);
    let log = Log::create_in(Arc::new(disk.clone()), &options()).unwrap();
    let file = side_file(&log, b"snapshot");
    log.commit(Batch::new().attach("new", file.clone())).unwrap();
    log.commit(Batch::new().attach("current", file.clone()).clear("new")).unwrap();
    log.maintain().unwrap();
    let read = |log: &Log| log.side_file("current").unwrap().unwrap().read_all().unwrap();
    assert_eq!(read(&log), b"snapshot");
    log.commit(Batch::new().attach("third", file.clone())).unwrap();
    log.commit(Batch::new().clear("current").clear("third")).unwrap();
    // Nothing refers to it any more, and nothing can again, although it may still be there.
    let again = log.commit(Batch::new().attach("late", file));
    assert!(matches!(again, Err(Error::InvalidArgument { .. })), "{again:?}");
    log.maintain().unwrap();
    log.close().unwrap();
    assert_eq!(open(&disk).1, Verdict::Clean);
    assert!(disk.image().iter().all(|(name, _)| !name.contains(".side")));
}

/// `drawn:11400714819323199172:0`, seed 1. A roll was dropped by a crash, but its footer had got to
/// the medium. The segment went on as the tail and was sealed again; the next crash kept that batch
/// and lost the footer. The old one was sound, and its offsets led to other frames.
#[test]
pub(crate) fn footer_of_a_dropped_seal_is_never_believed() {
    let (disk, log) = after_a_dropped_seal();
    log.submit(shorter_entries().append(vec![6; 3000])).unwrap();
    assert_eq!(log.stats().rolls, 1);
    let footer = |unit: &Unit| matches!(unit, Unit::Sector { sector: 15, .. }) && is_in_first(unit);
    let disk = disk.crash_keeping(|unit| !footer(unit));
    assert_shorter_entries(&open(&disk).0);
}

fn is_in_first(unit: &Unit) -> bool {
    matches!(unit, Unit::Sector { name, .. } if name.starts_with("0000000000000001-"))
}

/// A log whose tail has the footer of a seal that a crash dropped.
fn after_a_dropped_seal() -> (SimDisk, Log) {
    let disk = SimDisk::new(1);
    let log = Log::create_in(Arc::new(disk.clone()), &options()).unwrap();
    for length in [500, 600, 700] {
        log.append(&vec![1; length]).unwrap();
    }
    log.submit(Batch::new().append(vec![2; 3000])).unwrap();
    assert_eq!(log.stats().rolls, 1);
    let disk = disk.crash_keeping(is_in_first);
    let (log, _) = open(&disk);
    assert_eq!(log.next(), 3);
    (disk, log)
}

fn shorter_entries() -> Batch<'static> {
    let mut batch = Batch::new();
    batch.truncate(0).append(vec![3; 100]).append(vec![4; 200]).append(vec![5; 300]);
    batch
}

fn assert_shorter_entries(log: &Log) {
    let lengths = (0..log.next()).map(|index| log.entry(index).unwrap().len());
    assert_eq!(lengths.collect::<Vec<_>>(), [100, 200, 300, 3000]);
}

/// A roll leaves the footer before it to a later checkpoint, for whoever reads can do without. Not the
/// footer of a segment from before the open: in its place may stand that of a seal which was dropped.
#[test]
pub(crate) fn footer_of_a_dropped_seal_does_not_outlast_the_next_roll() {
    let (disk, log) = after_a_dropped_seal();
    log.commit(&shorter_entries()).unwrap();
    log.append(&[6; 3000]).unwrap();
    assert_eq!(log.stats().rolls, 1);
    assert_shorter_entries(&open(&disk.crash_with(Persistence::Nothing)).0);
}

/// `drawn:11400714819323199442:3`, seed 1. A batch began a segment whose name a crash lost; the file
/// was taken over as a spare, header and frames and all. The next roll used it, and a crash that
/// kept the new name and lost the new header brought the dropped batch back.
#[test]
pub(crate) fn spare_never_brings_a_dropped_batch_back() {
    let options = options().write_mode(WriteMode::Pwrite);
    let open = |disk: &SimDisk| Log::open_in(Arc::new(disk.clone()), &options).unwrap().0;
    let disk = SimDisk::new(1);
    let log = Log::create_in(Arc::new(disk.clone()), &options).unwrap();
    log.append(&[1; 3500]).unwrap();
    log.submit(Batch::new().set("old", vec![1; 1000])).unwrap();
    assert_eq!(log.stats().rolls, 1);
    // What is lost: that the spare became the second segment, and the footer of the first. Bytes of
    // that after the end would have the numbers go on further up.
    let is_footer =
        |unit: &Unit| matches!(unit, Unit::Sector { sector: 15, .. }) && is_in_first(unit);
    let renames = |unit: &Unit| match unit {
        Unit::Link { name } => name.ends_with(".seg"),
        Unit::Unlink { name } => name.ends_with(".spare"),
        _ => false,
    };
    let disk = disk.crash_keeping(|unit| !renames(unit) && !is_footer(unit));
    assert!(disk.image().iter().any(|(name, _)| name.ends_with(".spare")));
    let log = open(&disk);
    assert!(log.cell("old").is_none());
    log.submit(Batch::new().set("new", vec![1; 1000])).unwrap();
    assert_eq!(log.stats().rolls, 1);
    let disk = disk.crash_keeping(|unit| matches!(unit, Unit::Link { .. } | Unit::Unlink { .. }));
    assert!(open(&disk).cell("old").is_none(), "a batch came back that was dropped before");
}

/// Found by reading, shown by this test. A conflict that reaches back over a segment leaves a gap in
/// the numbers. From the 17th gap on a checkpoint named the removed segments as if they were there,
/// and the log could not be opened any more.
#[test]
pub(crate) fn log_with_many_gaps_in_its_segments_opens() {
    for maintain in [true, false] {
        let disk = SimDisk::new(1);
        let mut log = Log::create_in(Arc::new(disk.clone()), &options()).unwrap();
        for round in 0..40_u8 {
            let mut batch = Batch::new();
            batch.append(vec![round; 1500]).append(vec![round; 1500]).append(vec![round; 1500]);
            log.commit(&batch).unwrap();
            log.commit(Batch::new().truncate(log.next() - 2)).unwrap();
            if maintain {
                log.maintain().unwrap();
            }
            if round % 5 == 4 {
                log.close().unwrap();
                let (opened, verdict) = open(&disk);
                assert_eq!(verdict, Verdict::Clean);
                log = opened;
            }
        }
        assert_eq!(log.next(), 40);
        for round in 0..40_u8 {
            assert_eq!(log.entry(u64::from(round)).unwrap(), vec![round; 1500]);
        }
        log.commit(Batch::new().trim(39)).unwrap();
        log.maintain().unwrap();
        let segments = disk.image().iter().filter(|(name, _)| name.ends_with(".seg")).count();
        assert!(segments <= 2, "{segments} segments are left of one entry");
    }
}

/// Found by the fuzz target `open_directory`. An open that met a torn end noted the batch it would
/// report and then did not look for side files any more, so a log whose snapshot was gone opened,
/// and only the read of the snapshot failed, with a plain `NotFound`.
#[test]
pub(crate) fn missing_side_file_after_a_torn_end_is_damage() {
    let (disk, name) = torn_log_with_a_snapshot();
    disk.rot(&name, Rot::Remove).unwrap();
    match Log::open_in(Arc::new(disk), &options()) {
        Err(Error::Damaged { path, reason: Damage::MissingFile, .. }) => {
            assert_eq!(path.to_str(), Some(&*name));
        }
        other => panic!("{other:?}"),
    }
}

fn torn_log_with_a_snapshot() -> (SimDisk, String) {
    for seed in 0..100 {
        let disk = SimDisk::new(1);
        let options = options().write_mode(WriteMode::Pwrite);
        let log = Log::create_in(Arc::new(disk.clone()), &options).unwrap();
        let file = side_file(&log, &[9; 700]);
        log.commit(Batch::new().append(&b"ink"[..]).attach("snapshot", file)).unwrap();
        log.submit(Batch::new().append(vec![7; 2000])).unwrap();
        let after = disk.crash_with(Persistence::Random(seed));
        let (_, report) =
            Log::open_in(Arc::new(after.crash_copy(Persistence::Nothing)), &options).unwrap();
        if matches!(report.verdict, Verdict::TornTail { .. }) {
            let names = after.image().into_iter().map(|(name, _)| name);
            let name = names.into_iter().find(|name| name.ends_with(".side")).unwrap();
            return (after, name);
        }
    }
    panic!("no crash tears the batch");
}

/// `small:29:5`, seed 1, of the fault sweep. A write that met a full disk may have stored all of its
/// bytes. The batch was refused, and a killed process brought it back, because nothing on the disk
/// said that it had been refused.
#[test]
pub(crate) fn batch_refused_by_a_full_disk_never_comes_back() {
    for seed in 0..100 {
        let disk = SimDisk::new(seed);
        let options = options().write_mode(WriteMode::Pwrite);
        let log = Log::create_in(Arc::new(disk.clone()), &options).unwrap();
        log.append(b"one").unwrap();
        disk.fail_next(Op::Write, Fault::Full, Repeat::Once);
        let refused = log.append(b"two");
        assert!(matches!(refused, Err(Error::DiskFull { .. })), "{refused:?}");
        let after = disk.kill_copy();
        let (found, _) = Log::open_in(Arc::new(after), &options).unwrap();
        assert_eq!(found.next(), 1, "seed {seed}");
    }
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let options = options().write_mode(WriteMode::Pwrite);
        let log = Log::create_in(Arc::new(disk.clone()), &options).unwrap();
        log.append(b"one").unwrap();
        disk.fail_next(Op::Write, Fault::Full, Repeat::Once);
        assert!(log.append(b"two").is_err());
        // State has its space in the metadata file.
        disk.fail_next(Op::Write, Fault::Full, Repeat::Once);
        log.commit(Batch::new().set("promise", b"7".as_slice())).unwrap();
        log.append(b"two").unwrap();
        let after = disk.crash_with(Persistence::Nothing);
        let (found, _) = Log::open_in(Arc::new(after), &options).unwrap();
        assert_eq!((found.next(), found.cell("promise").as_deref()), (2, Some(b"7".as_slice())));
    }
}

/// `small:11:1`, seed 1, of the fault sweep. A batch that failed between two of its segments left
/// readers with half of what it was to change: durable entries were read wrong, or called damaged.
/// And with a full disk in that place the failure came back as a refusal.
#[test]
pub(crate) fn readers_of_a_poisoned_log_see_what_was_there_before() {
    let mut poisoned = 0;
    for (fault, call) in
        [Fault::Io, Fault::Full].into_iter().flat_map(|it| (1..30).map(move |n| (it, n)))
    {
        let disk = SimDisk::new(call);
        let options = options().write_mode(WriteMode::Pwrite).durability(Durability::Barrier);
        let log = Log::create_in(Arc::new(disk.clone()), &options).unwrap();
        for byte in 0..6 {
            log.append(&[byte; 1000]).unwrap();
        }
        log.sync().unwrap();
        disk.fail_call(disk.calls() + call, fault, Repeat::Once);
        let mut batch = Batch::new();
        batch.truncate(1).append(vec![9; 1000]);
        for _ in 0..6 {
            batch.append(vec![9; 1000]);
        }
        match log.commit(&batch) {
            Ok(_) => continue,
            Err(Error::DiskFull { .. }) => assert!(!log.stats().poisoned),
            Err(_) => {
                assert!(log.stats().poisoned);
                poisoned += 1;
            }
        }
        for index in 0..log.durable() {
            let byte = u8::try_from(index).unwrap();
            assert_eq!(log.entry(index).unwrap(), [byte; 1000], "call {call}");
        }
    }
    assert!(poisoned > 5);
}

/// A directory whose files show what is on the medium and nothing else, as they do once the kernel
/// has dropped every page that a failed sync left behind.
#[derive(Debug)]
struct Cacheless {
    inner: Arc<dyn Directory>,
    failing: Arc<AtomicBool>,
}

#[derive(Debug)]
struct CachelessFile {
    inner: Arc<dyn File>,
    pending: Mutex<Vec<(u64, Vec<u8>)>>,
    failing: Arc<AtomicBool>,
}

impl Cacheless {
    fn wrap(&self, inner: Arc<dyn File>) -> Arc<dyn File> {
        let (pending, failing) = (Mutex::default(), Arc::clone(&self.failing));
        Arc::new(CachelessFile { inner, pending, failing })
    }
}

impl Directory for Cacheless {
    fn list(&self) -> io::Result<Vec<DirectoryEntry>> {
        self.inner.list()
    }

    fn lock(&self) -> Result<Box<dyn Lock>, LockRefused> {
        self.inner.lock()
    }

    fn create(&self, bytes: u64, allocate: bool) -> io::Result<(String, Arc<dyn File>)> {
        self.inner.create(bytes, allocate).map(|(name, file)| (name, self.wrap(file)))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        self.inner.open(name, access).map(|file| self.wrap(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }

    fn random(&self) -> u64 {
        self.inner.random()
    }
}

impl File for CachelessFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.pending.lock().push((offset, bytes.to_vec()));
        Ok(())
    }

    fn sync(&self, _: Range<u64>, _: SyncMethod) -> io::Result<()> {
        let pending = std::mem::take(&mut *self.pending.lock());
        if self.failing.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        pending.iter().try_for_each(|(offset, bytes)| self.inner.write_at(*offset, bytes))
    }

    fn map(&self, bytes: u64, write: bool) -> io::Result<Region> {
        self.inner.map(bytes, write)
    }
}

/// Lane `fuse_errors` on a real kernel, seed 21. When the sync after a roll failed, durable entries
/// of the segment before were looked up in its new footer, which was in the page cache only: once
/// the kernel had dropped that page they were called damaged.
#[test]
fn durable_entries_are_read_without_a_footer_that_was_not_synced() {
    let place = tempfile::tempdir().unwrap();
    let failing = Arc::new(AtomicBool::new(false));
    let inner = os_door::open(place.path(), false).unwrap();
    let door = Arc::new(Cacheless { inner, failing: Arc::clone(&failing) });
    let options = options().write_mode(WriteMode::Pwrite).checkpoint_bytes(8 * 1024);
    let log = Log::create_in(door, &options).unwrap();
    for byte in 0..7 {
        log.append(&[byte; 700]).unwrap();
    }
    // The file that the next batch rolls into is ready, so that only the sync after it fails.
    log.maintain().unwrap();
    let rolls = log.stats().rolls;
    let mut batch = Batch::new();
    for _ in 0..4 {
        batch.append([0xff; 700].as_slice());
    }
    failing.store(true, Ordering::Relaxed);
    log.commit(&batch).unwrap_err();
    assert_eq!((log.stats().rolls, log.durable()), (rolls + 1, 7));
    for byte in 0..7 {
        assert_eq!(log.entry(u64::from(byte)).unwrap(), [byte; 700]);
    }
}

/// Found by reading, shown by this test. A search after a torn end spent its time on the checksums
/// of large frames of which only the headers had survived; past four times the bytes searched it
/// gave up and could rule nothing out. Some crashes at one place were enough, and a log that nothing
/// had happened to but crashes was called damaged.
#[test]
pub(crate) fn many_crashes_at_one_place_are_never_called_damage() {
    const SECTOR: usize = 512;
    let options = options().tiny_segments(64 * 1024).checkpoint_bytes(64 * 1024);
    let mut disk = SimDisk::new(1);
    let log = Log::create_in(Arc::new(disk.clone()), &options).unwrap();
    log.append(&[1; SECTOR - 32]).unwrap();
    drop(log);
    for crash in 1..=20 {
        let (log, _) = Log::open_in(Arc::new(disk.clone()), &options)
            .unwrap_or_else(|error| panic!("after {crash} crashes: {error}"));
        assert_eq!(log.next(), 1);
        // The header of the large frame comes one sector further on each time.
        let mut batch = Batch::new();
        batch.append(vec![2; crash * SECTOR - 32]).append(vec![3; 40_000]);
        log.submit(&batch).unwrap();
        let header = u64::try_from(4096 / SECTOR + 1 + crash).unwrap();
        let units = disk.units();
        let kept = units
            .iter()
            .position(|unit| matches!(unit, Unit::Sector { sector, .. } if *sector == header));
        assert!(kept.is_some_and(|kept| kept < 64));
        disk = disk.crash_with(Persistence::Mask(kept.map_or(0, |kept| 1 << kept)));
    }
    let (log, _) = Log::open_in(Arc::new(disk), &options).unwrap();
    log.append(b"onward").unwrap();
    assert_eq!(log.next(), 2);
}

/// Drops entries of a log of which two are missing.
type Drops = fn(&mut Batch<'_>, u64, u64);

/// Found by reading, shown by this test. A trim or a truncation did not lower the number of missing
/// entries, which a checkpoint counts and does not place. A log that was repaired, and had dropped
/// every missing entry since, still answered `Incomplete`.
#[test]
fn log_that_dropped_its_missing_entries_is_whole() {
    let disk = SimDisk::new(1);
    let log = Log::create_in(Arc::new(disk.clone()), &options()).unwrap();
    for byte in 0..30 {
        log.append(&[byte; 500]).unwrap();
    }
    log.close().unwrap();
    let disk = disk.crash_with(Persistence::Nothing);
    let segments = disk.image().into_iter().filter(|(name, _)| name.ends_with(".seg"));
    let segments: Vec<_> = segments.map(|(name, _)| name).collect();
    assert!(segments.len() >= 4);
    // One in a sealed segment, one in the tail.
    for name in [&segments[1], &segments[segments.len() - 1]] {
        disk.rot(name, Rot::FlipBit { offset: 4096 + 100, bit: 0 }).unwrap();
    }
    indelible::repair::apply_in(Arc::new(disk.clone()), Arc::new(MemDirectory::new())).unwrap();
    let incomplete = |disk: &SimDisk| match Log::open_in(Arc::new(disk.clone()), &options()) {
        Ok(_) => 0,
        Err(Error::Incomplete { count, .. }) => count,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(incomplete(&disk.crash_copy(Persistence::Nothing)), 2);
    let allowing = options().allow_holes(true);
    let open = |disk: &SimDisk| Log::open_in(Arc::new(disk.clone()), &allowing).unwrap().0;
    let log = open(&disk.crash_copy(Persistence::Nothing));
    let is_missing = |index: &u64| matches!(log.entry(*index), Err(Error::Hole { .. }));
    let missing: Vec<_> = (0..30).filter(is_missing).collect();
    let [sealed, tail] = missing[..] else { panic!("{missing:?}") };
    let cases: [(&str, Drops, u64); 6] = [
        ("trim past both", |batch, _, tail| _ = batch.trim(tail + 1), 0),
        ("trim up to the second", |batch, _, tail| _ = batch.trim(tail), 1),
        ("trim up to the first", |batch, sealed, _| _ = batch.trim(sealed), 2),
        ("truncate to the second", |batch, _, tail| _ = batch.truncate(tail), 1),
        ("truncate to the first", |batch, sealed, _| _ = batch.truncate(sealed), 0),
        ("reset", |batch, _, _| _ = batch.reset(100), 0),
    ];
    for (what, change, left) in cases {
        for closed in [false, true] {
            let disk = disk.crash_copy(Persistence::Nothing);
            let log = open(&disk);
            let mut batch = Batch::new();
            change(&mut batch, sealed, tail);
            log.commit(batch.append(&b"onward"[..])).unwrap();
            if closed {
                log.close().unwrap();
            }
            let disk = disk.crash_with(Persistence::Nothing);
            assert_eq!(incomplete(&disk), left, "{what}, closed {closed}");
        }
    }
}

/// `drawn:6018027440424183778:0`, seed 7. A batch that changed nothing of what was written was taken
/// to change nothing at all, although a cell had been set lazily meanwhile: it was not written, and
/// readers went on seeing what it had replaced.
#[test]
pub(crate) fn batch_that_takes_a_lazy_value_back_is_written() {
    let disk = SimDisk::new(1);
    let log = Log::create_in(Arc::new(disk.clone()), &options()).unwrap();
    log.commit(Batch::new().set("decided", b"1".as_slice())).unwrap();
    for cell in ["decided", "other"] {
        log.set_lazily(cell, b"2").unwrap();
    }
    log.commit(Batch::new().set("decided", b"1".as_slice()).clear("other")).unwrap();
    let (after, _) = open(&disk.crash_with(Persistence::Nothing));
    for log in [log, after] {
        assert_eq!(log.cell("decided").as_deref(), Some(&b"1"[..]));
        assert_eq!(log.cell("other"), None);
    }
}

/// Found by reading, with the one above. A checkpoint stated a lazily set value, and then the cell was
/// lazily set back to what the last batch had left: later batches and syncs saw nothing to write,
/// and what the checkpoint said came back.
#[test]
pub(crate) fn lazy_value_that_is_put_back_replaces_the_one_in_the_checkpoint() {
    for batch in [Batch::new(), {
        let mut batch = Batch::new();
        batch.set("other", b"x".as_slice());
        batch
    }] {
        let disk = SimDisk::new(1);
        let log = Log::create_in(Arc::new(disk.clone()), &options()).unwrap();
        log.commit(Batch::new().set("decided", b"1".as_slice())).unwrap();
        log.set_lazily("decided", b"2").unwrap();
        log.maintain().unwrap();
        log.set_lazily("decided", b"1").unwrap();
        log.commit(&batch).unwrap();
        log.sync().unwrap();
        let (after, _) = open(&disk.crash_with(Persistence::Nothing));
        assert_eq!(after.cell("decided").as_deref(), Some(&b"1"[..]));
    }
}

/// Found by reading, with the two above. A batch that a full disk had committed in the slots came
/// before the cells that had been set lazily before it, and left them waiting.
#[test]
pub(crate) fn batch_in_the_slots_comes_after_what_was_set_lazily_before() {
    let disk = SimDisk::new(1);
    let log = Log::create_in(Arc::new(disk.clone()), &options()).unwrap();
    disk.set_capacity(Some(disk.used()));
    for bytes in [900, 0] {
        while log.commit(Batch::new().append(vec![1; bytes])).is_ok() {}
    }
    let before = log.stats().slot_commits;
    let mut number = 0_u64;
    while log.stats().slot_commits < before + 3 {
        number += 1;
        log.set_lazily("decided", &number.to_le_bytes()).unwrap();
        log.set_lazily("other", &number.to_le_bytes()).unwrap();
        let promise = [1_u8; 8];
        log.commit(Batch::new().set("decided", promise.to_vec()).clear("other")).unwrap();
        let found = open(&disk.crash_copy(Persistence::Nothing)).0;
        for log in [&log, &found] {
            assert_eq!(log.cell("decided").as_deref(), Some(&promise[..]));
            assert_eq!(log.cell("other"), None);
        }
    }
}

/// A log of one segment with the entries 0 to 4. After them stands a batch that a power cut tore:
/// it was to put others in the place of 3 and 4, and all but the last of its frames are sound.
fn log_with_dropped_frames() -> (SimDisk, Log) {
    let disk = SimDisk::new(1);
    let log = Log::create_in(Arc::new(disk.clone()), &larger()).unwrap();
    for byte in 0..5 {
        log.append(&[byte; 1000]).unwrap();
    }
    let mut batch = Batch::new();
    batch.truncate(3);
    for byte in 93..97 {
        batch.append(vec![byte; 1000]);
    }
    log.submit(batch.append(vec![97; 1500])).unwrap();
    let sectors = disk.units().into_iter().filter_map(|unit| match unit {
        Unit::Sector { sector, .. } => Some(sector),
        _ => None,
    });
    let last = sectors.max().unwrap();
    let disk =
        disk.crash_keeping(|unit| !matches!(unit, Unit::Sector { sector, .. } if *sector == last));
    let (log, report) = Log::open_in(Arc::new(disk.clone()), &larger()).unwrap();
    assert!(matches!(report.verdict, Verdict::TornTail { .. }));
    assert_eq!(log.next(), 5);
    (disk, log)
}

fn larger() -> Options {
    Options::new().background(false).tiny_segments(16 * 1024).write_mode(WriteMode::Pwrite)
}

/// The log once it was closed and one bit of the footer of its first segment has rotted.
fn without_a_footer(disk: &SimDisk, log: &Log) -> SimDisk {
    log.close().unwrap();
    let disk = disk.crash_with(Persistence::Everything);
    let files = disk.image();
    let name =
        files.iter().map(|(name, _)| name).find(|name| name.starts_with("0000000000000001-"));
    disk.rot(name.unwrap(), Rot::FlipBit { offset: 16 * 1024 - 8, bit: 1 }).unwrap();
    disk
}

/// Found by review. The number of a torn batch is higher than those before it, so a table that was
/// rebuilt from the frames took it in where nothing had been written over it: the next batch had
/// rolled right there. Entries read as others that had been dropped, and nobody said a word.
#[test]
fn inv_8_dropped_frames_are_no_part_of_a_rebuilt_table() {
    let (disk, log) = log_with_dropped_frames();
    log.append(&[5; 9000]).unwrap();
    assert_eq!(log.stats().rolls, 1);
    let disk = without_a_footer(&disk, &log);
    let seen = indelible::inspect::verify_in(Arc::new(disk.clone()), &mut |_| ()).unwrap();
    assert_eq!((seen.entries, seen.findings.len()), (6, 1), "{:?}", seen.findings);
    assert!(!seen.findings[0].meaning.is_loss());
    for frame in indelible::inspect::frames_in(Arc::new(disk.clone())).unwrap() {
        if let FrameSeen::Frame { header, payload, live: true, .. } = frame.unwrap() {
            assert_eq!(u64::from(payload[0]), header.index);
        }
    }
    let (log, _) = Log::open_in(Arc::new(disk.clone()), &larger()).unwrap();
    for index in 0..5_u8 {
        assert_eq!(log.entry(index.into()).unwrap()[0], index);
    }
    let scrubbed = log.scrub(None, &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
    assert_eq!(scrubbed.findings.len(), 0);
}

/// With the one above. A repair writes a segment anew, with other frames. The next segment states
/// where those before it ended.
#[test]
fn repaired_segment_is_rebuilt_up_to_its_own_end() {
    let disk = SimDisk::new(1);
    let log = Log::create_in(Arc::new(disk.clone()), &larger()).unwrap();
    for length in [0, 1000, 1000, 12_000] {
        log.append(&vec![7; length]).unwrap();
    }
    assert_eq!(log.stats().rolls, 1);
    let disk = without_a_footer(&disk, &log);
    let name = disk.image().into_iter().map(|(name, _)| name).find(|name| name.ends_with(".seg"));
    // What stands for a missing entry is longer than an empty one.
    disk.rot(&name.unwrap(), Rot::FlipBit { offset: 4096, bit: 1 }).unwrap();
    indelible::repair::apply_in(Arc::new(disk.clone()), Arc::new(MemDirectory::new())).unwrap();
    let allowing = larger().allow_holes(true);
    let (log, _) = Log::open_in(Arc::new(disk.clone()), &allowing).unwrap();
    let disk = without_a_footer(&disk, &log);
    let (log, _) = Log::open_in(Arc::new(disk), &allowing).unwrap();
    assert!(matches!(log.entry(0), Err(Error::Hole { .. })));
    for index in 1..3 {
        assert_eq!(log.entry(index).unwrap().len(), 1000);
    }
}

/// As above, where a later conflict has taken the next segment away: nothing is left that states
/// where the frames end. What the dropped batch would have replaced cannot be told.
#[test]
fn inv_8_entry_that_a_dropped_frame_may_have_replaced_is_damaged() {
    let (disk, log) = log_with_dropped_frames();
    log.append(&[5; 9000]).unwrap();
    log.commit(Batch::new().truncate(4).append(vec![4; 1000])).unwrap();
    log.maintain().unwrap();
    let disk = without_a_footer(&disk, &log);
    let numbers = disk.image().into_iter().filter(|(name, _)| name.ends_with(".seg"));
    let numbers: Vec<_> = numbers.map(|(name, _)| name.as_bytes()[15] - b'0').collect();
    assert_eq!(numbers, [1, 3]);
    let check = |log: &Log| {
        for index in [3, 4, 2, 1, 0] {
            match log.entry(index) {
                Err(Error::Damaged { indexes, reason: Damage::UnknownEnd, .. }) => {
                    assert_eq!(indexes, Some(3..4));
                    assert_eq!(index, 3);
                }
                Err(Error::Hole { range, .. }) => assert_eq!((index, range), (3, 3..4)),
                read => assert_eq!(u64::from(read.unwrap()[0]), index),
            }
        }
    };
    let (log, _) = Log::open_in(Arc::new(disk.clone()), &larger()).unwrap();
    check(&log);
    let scrubbed = log.scrub(None, &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
    assert_eq!(scrubbed.findings.len(), 1);
    log.close().unwrap();
    let seen = indelible::inspect::verify_in(Arc::new(disk.clone()), &mut |_| ()).unwrap();
    let lost: Vec<_> = seen.findings.iter().filter(|it| it.meaning.is_loss()).collect();
    assert!(matches!(
        lost[..],
        [Finding { error: Error::Damaged { indexes: Some(Range { start: 3, end: 4 }), .. }, .. }]
    ));
    let kept = Arc::new(MemDirectory::new());
    indelible::repair::apply_in(Arc::new(disk.clone()), kept).unwrap();
    let allowing = larger().allow_holes(true);
    check(&Log::open_in(Arc::new(disk), &allowing).unwrap().0);
}

/// As above, in the tail. A repair took what is proved to have been durable frame by frame, and with
/// it frames of a batch that was dropped before the checkpoint and stood after.
#[test]
fn dropped_frames_are_not_salvaged() {
    let (disk, log) = log_with_dropped_frames();
    // Each ends where a dropped frame does; the last two of those are left.
    for (byte, length) in [(5, 1032), (6, 1000), (7, 1000)] {
        log.append(&vec![byte; length]).unwrap();
    }
    let disk = disk.crash_with(Persistence::Nothing);
    let name = disk.image().into_iter().map(|(name, _)| name).find(|name| name.ends_with(".seg"));
    let rot = Rot::FlipBit { offset: 4096 + 5 * 1032 + 500, bit: 1 };
    disk.rot(&name.unwrap(), rot).unwrap();
    let refused = Log::open_in(Arc::new(disk.clone()), &larger());
    assert!(matches!(refused, Err(Error::Damaged { .. })), "{refused:?}");
    let kept = Arc::new(MemDirectory::new());
    indelible::repair::apply_in(Arc::new(disk.clone()), kept).unwrap();
    let (log, _) = Log::open_in(Arc::new(disk), &larger().allow_holes(true)).unwrap();
    assert_eq!(log.next(), 8);
    for index in [0, 1, 2, 3, 4, 6, 7] {
        assert_eq!(u64::from(log.entry(index).unwrap()[0]), index);
    }
    assert!(matches!(log.entry(5), Err(Error::Hole { .. })));
}

/// Found by the fuzzer. A batch was committed in the slots and left a checkpoint to be done, and the
/// next one, which changed nothing, did it.
#[test]
fn batch_that_changes_nothing_does_not_do_what_another_left() {
    let disk = SimDisk::new(1);
    let log = Log::create_in(Arc::new(disk.clone()), &options()).unwrap();
    for byte in 0..3 {
        log.append(&[byte; 3000]).unwrap();
    }
    disk.set_capacity(Some(disk.used()));
    log.commit(Batch::new().trim(2).set("promise", [7; 1000].as_slice())).unwrap();
    assert_eq!(log.stats().slot_commits, 1);
    let calls = disk.calls();
    log.commit(Batch::new().set("promise", [7; 1000].as_slice())).unwrap();
    assert_eq!(disk.calls(), calls);
}

/// A segment that was there when a log was opened was recycled by it, although entries were still
/// borrowed from it: the log knew the readers of its own life only, and what they held was written
/// over.
#[test]
pub(crate) fn entries_of_the_life_before_stay_what_they_were() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("log");
    let log = Log::create(&path, &options()).unwrap();
    for byte in 0..12 {
        log.append(&[byte; 1500]).unwrap();
    }
    let held = log.read(0..1).unwrap();
    log.close().unwrap();
    let (log, _) = Log::open(&path, &options()).unwrap();
    log.commit(Batch::new().trim(11)).unwrap();
    log.maintain().unwrap();
    for byte in 100..124 {
        log.append(&[byte; 1500]).unwrap();
    }
    assert_eq!(held.get(0), Some([0; 1500].as_slice()));
    // What was begun in this life is used again as before.
    log.commit(Batch::new().trim(30)).unwrap();
    log.maintain().unwrap();
    assert!(log.stats().recycled > 0);
}
