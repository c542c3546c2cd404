//! What a read touches, what it believes, and how much of the machine it takes.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests fail as tests do, and say what they could not do"
)]

use std::fmt::{self, Debug, Formatter};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use indelible::io::mem::MemDirectory;
use indelible::io::sim::{Fault, Op, Repeat, SimDisk};
use indelible::io::{Access, Directory, DirectoryEntry, File, Lock, LockRefused, Region};
use indelible::{Batch, Durability, Error, Log, Options, SyncMethod, WriteMode};

const SEGMENT: u64 = 64 * 1024;

fn options() -> Options {
    Options::new().segment_bytes(SEGMENT).background(false)
}

fn entry(index: u64) -> Vec<u8> {
    vec![u8::try_from(index % 251).unwrap(); 1000]
}

/// A closed log of so many entries, opened again.
fn closed(directory: &Path, options: &Options, entries: u64) -> Log {
    let log = Log::create(directory, options).unwrap();
    let mut batch = Batch::new();
    for index in 0..entries {
        batch.append(entry(index));
    }
    log.commit(&batch).unwrap();
    log.close().unwrap();
    Log::open(directory, options).unwrap().0
}

/// One in four segments.
fn sealed(directory: &Path) -> Log {
    closed(directory, &options(), 200)
}

/// One in larger segments, the first of which has [`ROTTEN`] in its middle; it is the tail, or sealed.
fn believed(directory: &Path, in_tail: bool) -> Log {
    let segments = if in_tail { 16 } else { 4 };
    closed(directory, &options().segment_bytes(segments * SEGMENT).warm_bytes(0), 600)
}

type Read = fn(&Log, std::ops::Range<u64>) -> Result<(), Error>;

/// Three ways to read a range: lent, copied, and one copied after the other.
const READS: [Read; 3] = [
    |log, range| log.read(range).map(drop),
    |log, range| log.read_owned(range).map(drop),
    |log, mut range| range.try_for_each(|index| log.entry(index).map(drop)),
];

const ROTTEN: u64 = 100;

/// Offset of a byte in the middle of [`ROTTEN`], after the header block and frames of 1032 bytes.
const ROTTEN_AT: u64 = 4096 + ROTTEN * 1032 + 500;

fn first_segment(directory: &Path) -> PathBuf {
    let files = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|it| it == "seg")).min().unwrap()
}

/// Changes one byte on the medium: the file system drops what it has of the page.
fn rot(path: &Path, offset: u64) -> bool {
    let page = usize::try_from(offset / 4096 * 4096).unwrap();
    let mut bytes = std::fs::read(path).unwrap().split_off(page);
    bytes.truncate(4096);
    *bytes.get_mut(usize::try_from(offset).unwrap() - page).unwrap() ^= 1;
    let fed = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(fed.path(), bytes).unwrap();
    let written = std::process::Command::new("dd")
        .arg(format!("if={}", fed.path().display()))
        .arg(format!("of={}", path.display()))
        .args(["bs=4096", "count=1", "conv=notrunc", "oflag=direct"])
        .arg(format!("seek={}", offset / 4096))
        .output()
        .unwrap();
    if !written.status.success() {
        eprintln!("not run: no direct writes in {}", path.display());
    }
    written.status.success()
}

/// Ends a file early: its pages are gone from every map.
fn cut(path: &Path, length: u64) {
    let mut cut = std::process::Command::new("truncate");
    assert!(cut.arg("-s").arg(length.to_string()).arg(path).status().unwrap().success());
}

/// Entries are read, in any way, and believed. Then a page comes from the medium again, and is not
/// what it was.
#[test]
pub(crate) fn bytes_that_came_from_the_medium_again_are_checked_again() {
    for (before, after, in_tail) in
        (0..18).map(|case| (READS[case % 3], READS[case / 3 % 3], case < 9))
    {
        let directory = tempfile::tempdir().unwrap();
        let log = believed(directory.path(), in_tail);
        before(&log, 0..600).unwrap();
        if !rot(&first_segment(directory.path()), ROTTEN_AT) {
            return;
        }
        let part = ROTTEN - 5..ROTTEN + 5;
        let read = after(&log, part.clone());
        let Err(Error::Damaged { indexes, .. }) = read else { panic!("{read:?}") };
        assert_eq!(indexes, Some(ROTTEN..ROTTEN + 1), "in the tail: {in_tail}");
        // Now the page is there, and is no better for that.
        for read in READS {
            read(&log, part.clone()).unwrap_err();
        }
        assert_eq!(log.entry(ROTTEN - 1).unwrap(), entry(ROTTEN - 1));
    }
}

/// What a copy brings back along with its own entry is not believed either.
#[test]
pub(crate) fn neighbour_that_a_copy_brought_back_is_checked_again() {
    for (believe, read, in_tail) in
        [(READS[0], READS[0], false), (READS[0], READS[1], true), (READS[1], READS[0], true)]
    {
        let directory = tempfile::tempdir().unwrap();
        let log = believed(directory.path(), in_tail);
        believe(&log, 0..600).unwrap();
        if !rot(&first_segment(directory.path()), ROTTEN_AT) {
            return;
        }
        // On the page before, and on the page itself.
        for index in ROTTEN - 3..ROTTEN {
            assert_eq!(log.entry(index).unwrap(), entry(index));
        }
        let read = read(&log, ROTTEN - 3..ROTTEN + 5);
        let Err(Error::Damaged { indexes, .. }) = read else { panic!("it is believed") };
        assert_eq!(indexes, Some(ROTTEN..ROTTEN + 1));
    }
}

/// Where dropped entries lie between two that are read together, the header of the first is looked
/// at alone: that brings its page back, with the entry before it.
#[test]
pub(crate) fn neighbour_that_a_look_at_a_header_brought_back_is_checked_again() {
    let directory = tempfile::tempdir().unwrap();
    let options = options().segment_bytes(16 * SEGMENT).warm_bytes(0);
    let log = Log::create(directory.path(), &options).unwrap();
    (0..180).for_each(|index| drop(log.append(&entry(index)).unwrap()));
    log.commit(Batch::new().truncate(100).append(entry(100))).unwrap();
    log.close().unwrap();
    let log = Log::open(directory.path(), &options).unwrap().0;
    log.read(0..101).unwrap();
    if !rot(&first_segment(directory.path()), 4096 + 97 * 1032 + 500) {
        return;
    }
    let read = log.read_owned(97..101).map(drop);
    let Err(Error::Damaged { indexes, .. }) = read else { panic!("it is believed") };
    assert_eq!(indexes, Some(97..98));
}

/// A scrub looks at everything, and finds what rotted; nobody believes those bytes because of it.
#[test]
pub(crate) fn page_that_a_scrub_brought_back_is_checked_again() {
    for read in READS {
        let directory = tempfile::tempdir().unwrap();
        let log = believed(directory.path(), false);
        log.read(0..600).unwrap();
        if !rot(&first_segment(directory.path()), ROTTEN_AT) {
            return;
        }
        let scrubbed = log.scrub(None, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(scrubbed.findings.len(), 1);
        let read = read(&log, ROTTEN - 3..ROTTEN + 5);
        let Err(Error::Damaged { indexes, .. }) = read else { panic!("it is believed") };
        assert_eq!(indexes, Some(ROTTEN..ROTTEN + 1));
    }
}

/// Found by reading. A page was brought in along with one that could not be had, and was believed.
#[test]
fn page_that_came_before_one_that_cannot_be_had_is_checked_again() {
    let directory = tempfile::tempdir().unwrap();
    let log = believed(directory.path(), true);
    log.read(0..600).unwrap();
    let first = first_segment(directory.path());
    if !rot(&first, ROTTEN_AT) {
        return;
    }
    cut(&first, 4096 + (ROTTEN + 20) * 1032);
    let read = log.read(ROTTEN - 5..ROTTEN + 60).map(drop);
    assert!(matches!(read, Err(Error::Io { .. })), "{read:?}");
    let read = log.read(ROTTEN - 5..ROTTEN + 5).map(drop);
    let Err(Error::Damaged { indexes, .. }) = read else { panic!("it is believed: {read:?}") };
    assert_eq!(indexes, Some(ROTTEN..ROTTEN + 1));
}

/// Found by reading. A copy was looked at, its pages came from the medium again for somebody else, and
/// then the mark was set that they had been checked.
#[test]
fn mark_of_a_check_is_not_set_after_the_bytes_came_again() {
    let options = options().segment_bytes(4 * SEGMENT).warm_bytes(0);
    let (log, .., door) = counting(&options);
    (0..600).for_each(|index| drop(log.append(&entry(index)).unwrap()));
    log.close().unwrap();
    let log = Arc::new(Log::open_in(Arc::clone(&door) as _, &options).unwrap().0);
    // Lent, so that there is a map, which tells what stayed in memory.
    log.read(0..2).unwrap();
    let (somebody, is_rotten) = (Arc::downgrade(&log), AtomicBool::new(false));
    *door.after.lock().unwrap() = Some(Arc::new(move |offset, bytes| {
        let at = ROTTEN_AT.checked_sub(offset).map(|at| usize::try_from(at).unwrap());
        let Some(byte) = at.and_then(|at| bytes.get_mut(at)) else { return };
        if is_rotten.swap(true, Ordering::Relaxed) {
            *byte ^= 1;
        } else {
            let log = somebody.upgrade().unwrap();
            let found = log.scrub(None, &mut |_| ControlFlow::Break(())).unwrap().findings;
            assert_eq!(found.len(), 1);
        }
    }));
    let part = ROTTEN - 5..ROTTEN + 5;
    log.read_owned(part.clone()).unwrap();
    let read = log.read_owned(part).map(drop);
    let Err(Error::Damaged { indexes, .. }) = read else { panic!("it is believed: {read:?}") };
    assert_eq!(indexes, Some(ROTTEN..ROTTEN + 1));
}

/// A page of the map that is gone for good stands for a device that cannot bring it back.
#[test]
fn page_that_cannot_be_brought_in_is_an_error_and_no_signal() {
    for (what, length) in [("frames", 4096), ("table", SEGMENT - 4096)] {
        for lent_before in [true, false] {
            let directory = tempfile::tempdir().unwrap();
            let log = sealed(directory.path());
            let read = |from: u64| {
                if lent_before {
                    log.read(from..from + 2).map(drop)
                } else {
                    log.entry(from).map(drop)
                }
            };
            read(1).unwrap();
            cut(&first_segment(directory.path()), length);
            for index in [1, 40] {
                let lent = log.read(index..index + 2).map(drop);
                let copied = log.entry(index).map(drop);
                if what == "frames" {
                    assert!(matches!(lent, Err(Error::Io { .. })), "{what} {index}: {lent:?}");
                    assert!(matches!(copied, Err(Error::Io { .. })), "{what} {index}: {copied:?}");
                }
            }
        }
    }
}

/// Stores go through the map, and the system writes pages back and write-protects them whenever it
/// likes. If a page cannot be had again at the next store, that is an error.
#[test]
fn store_to_a_page_that_is_gone_is_an_error_and_no_signal() {
    for durability in [Durability::Always, Durability::Os, Durability::Barrier] {
        let directory = tempfile::tempdir().unwrap();
        let options = options().write_mode(WriteMode::Mmap).durability(durability);
        let log = Log::create(directory.path(), &options).unwrap();
        log.append(&entry(0)).unwrap();
        cut(&first_segment(directory.path()), 4096);
        let refused = log.append(&entry(1)).unwrap_err();
        assert!(matches!(refused, Error::Io { .. }), "{refused:?}");
        assert!(matches!(log.append(&entry(1)), Err(Error::Poisoned { .. })));
    }
}

/// The newest entries are read from memory, whichever way they were written and wherever they are.
#[test]
fn newest_entries_are_read_without_the_file() {
    for mode in [WriteMode::Buffered, WriteMode::Mmap, WriteMode::Pwrite] {
        let disk = SimDisk::new(1);
        let options = options().write_mode(mode).durability(Durability::Barrier);
        let log = Log::create_in(Arc::new(disk.clone()), &options).unwrap();
        for index in 0..40 {
            log.append(&entry(index)).unwrap();
        }
        log.sync().unwrap();
        for index in 40..50 {
            log.append(&entry(index)).unwrap();
        }
        disk.fail_next(Op::Read, Fault::Io, Repeat::Forever);
        for index in 0..50 {
            assert_eq!(log.entry(index).unwrap(), entry(index), "{mode:?}");
        }
        // A truncation is one for memory as well.
        log.commit(Batch::new().truncate(30).append(&b"other"[..])).unwrap();
        assert_eq!(log.entry(30).unwrap(), b"other");
        assert!(matches!(log.entry(31), Err(Error::BeyondEnd { .. })));
        log.commit(Batch::new().trim(10)).unwrap();
        assert!(matches!(log.entry(9), Err(Error::Trimmed { .. })));
        assert_eq!(log.entry(10).unwrap(), entry(10));
        assert!(matches!(log.read_owned(10..11), Err(Error::Io { .. })), "that is the file");
    }
}

/// The first frame of a segment lies where that of the segment before lay, and neither is in the file
/// yet.
#[test]
pub(crate) fn newest_entry_after_a_roll_is_not_one_of_before() {
    let log = Log::in_memory(&options()).unwrap();
    for index in 0..200 {
        log.append(&entry(index)).unwrap();
        assert_eq!(log.entry(index).unwrap(), entry(index));
    }
    assert!(log.stats().rolls >= 3);
}

#[test]
fn nothing_is_kept_in_memory_if_it_is_not_to_be() {
    let disk = SimDisk::new(1);
    let log = Log::create_in(Arc::new(disk.clone()), &options().warm_bytes(0)).unwrap();
    log.append(&entry(0)).unwrap();
    disk.fail_next(Op::Read, Fault::Io, Repeat::Forever);
    assert!(matches!(log.entry(0), Err(Error::Io { .. })));
    let refused = options().warm_bytes(usize::MAX);
    assert!(matches!(Log::in_memory(&refused), Err(Error::InvalidOption { .. })));
}

/// Sees, and may change, what was read from an offset on.
type After = Arc<dyn Fn(u64, &mut [u8]) + Send + Sync>;

/// A directory in memory that counts what is read from its files.
#[derive(Default)]
struct Counting {
    inner: MemDirectory,
    read: Arc<AtomicU64>,
    calls: Arc<AtomicU64>,
    after: Arc<Mutex<Option<After>>>,
}

struct CountingFile {
    inner: Arc<dyn File>,
    read: Arc<AtomicU64>,
    calls: Arc<AtomicU64>,
    after: Arc<Mutex<Option<After>>>,
}

impl Debug for Counting {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Counting")
    }
}

impl Debug for CountingFile {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("CountingFile")
    }
}

impl Counting {
    fn wrap(&self, inner: Arc<dyn File>) -> Arc<dyn File> {
        let (read, calls) = (Arc::clone(&self.read), Arc::clone(&self.calls));
        Arc::new(CountingFile { inner, read, calls, after: Arc::clone(&self.after) })
    }
}

impl Directory for Counting {
    fn list(&self) -> std::io::Result<Vec<DirectoryEntry>> {
        self.inner.list()
    }
    fn lock(&self) -> Result<Box<dyn Lock>, LockRefused> {
        self.inner.lock()
    }
    fn create(&self, bytes: u64, allocate: bool) -> std::io::Result<(String, Arc<dyn File>)> {
        self.inner.create(bytes, allocate).map(|(name, file)| (name, self.wrap(file)))
    }
    fn open(&self, name: &str, access: Access) -> std::io::Result<Arc<dyn File>> {
        self.inner.open(name, access).map(|file| self.wrap(file))
    }
    fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
        self.inner.rename(from, to)
    }
    fn remove(&self, name: &str) -> std::io::Result<()> {
        self.inner.remove(name)
    }
    fn sync(&self) -> std::io::Result<()> {
        self.inner.sync()
    }
    fn random(&self) -> u64 {
        self.inner.random()
    }
}

impl File for CountingFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        self.read.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.inner.read_at(offset, buffer)?;
        let after = self.after.lock().unwrap().clone();
        if let Some(after) = after {
            after(offset, buffer);
        }
        Ok(())
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.inner.write_at(offset, bytes)
    }
    fn sync(&self, range: std::ops::Range<u64>, method: SyncMethod) -> std::io::Result<()> {
        self.inner.sync(range, method)
    }
    fn map(&self, bytes: u64, write: bool) -> std::io::Result<Region> {
        self.inner.map(bytes, write)
    }
}

fn counting(options: &Options) -> (Log, Arc<AtomicU64>, Arc<AtomicU64>, Arc<Counting>) {
    let door = Arc::new(Counting::default());
    let log = Log::create_in(Arc::clone(&door) as _, options).unwrap();
    (log, Arc::clone(&door.read), Arc::clone(&door.calls), door)
}

#[test]
fn copy_of_an_entry_is_one_read() {
    let (log, read, calls, door) = counting(&options().warm_bytes(0));
    for index in 0..200 {
        log.append(&entry(index)).unwrap();
    }
    log.close().unwrap();
    let (log, _) = Log::open_in(door, &options().warm_bytes(0)).unwrap();
    for index in 0..200 {
        log.entry(index).unwrap();
    }
    // Sealed segments and the tail alike, once their offsets are known.
    for index in [0, 1, 59, 60, 100, 198, 199] {
        let before = (read.load(Ordering::Relaxed), calls.load(Ordering::Relaxed));
        assert_eq!(log.entry(index).unwrap(), entry(index));
        assert_eq!(calls.load(Ordering::Relaxed), before.1 + 1, "{index}");
        assert!(read.load(Ordering::Relaxed) - before.0 <= 1032 + 64, "{index}");
    }
}

/// Entries that were dropped may lie between two that count.
#[test]
pub(crate) fn dead_bytes_between_two_entries_are_not_read() {
    let options = Options::new().segment_bytes(16 << 20).background(false).warm_bytes(0);
    let (log, read, _, door) = counting(&options);
    log.append(b"first").unwrap();
    for _ in 0..40 {
        log.append(&vec![1; 300_000]).unwrap();
        log.commit(Batch::new().truncate(1)).unwrap();
    }
    log.append(b"second").unwrap();
    log.close().unwrap();
    let (log, _) = Log::open_in(door, &options).unwrap();
    let before = read.load(Ordering::Relaxed);
    let entries = log.read_owned(0..2).unwrap();
    assert_eq!(entries.iter().collect::<Vec<_>>(), [&b"first"[..], b"second"]);
    // A page for each frame, to find the offsets, and the entries.
    let bytes = read.load(Ordering::Relaxed) - before;
    assert!(bytes <= 90 * 4096, "{bytes}");
    let before = read.load(Ordering::Relaxed);
    log.read_owned(0..2).unwrap();
    let bytes = read.load(Ordering::Relaxed) - before;
    assert!(bytes <= 4096, "{bytes}");
    let lent = log.read(0..2).unwrap();
    assert_eq!(lent.iter().collect::<Vec<_>>(), [&b"first"[..], b"second"]);
}

#[test]
pub(crate) fn walk_reads_by_bytes_and_not_by_entries() {
    let (log, read, ..) = counting(&Options::new().segment_bytes(8 << 20).background(false));
    for index in 0..60_u8 {
        log.append(&vec![index; 200_000]).unwrap();
    }
    let mut walk = log.iter(0);
    let before = read.load(Ordering::Relaxed);
    assert_eq!(walk.next().unwrap().unwrap(), (0, vec![0; 200_000]));
    let bytes = read.load(Ordering::Relaxed) - before;
    assert!(bytes < 400_000, "{bytes}");
    assert_eq!(walk.map(|step| step.unwrap().1.len()).sum::<usize>(), 59 * 200_000);
}

#[test]
fn read_within_stops_at_its_bytes_and_always_gets_on() {
    let log = Log::in_memory(&options()).unwrap();
    for index in 0..300 {
        log.append(&entry(index)).unwrap();
    }
    for bytes in [0, 1, 1032, 1033, 5000, 40_000, 100_000, u64::MAX] {
        let mut next = 0;
        while next < 300 {
            let entries = log.read_within(next..300, bytes).unwrap();
            assert_eq!(entries.first(), next);
            assert!(!entries.is_empty(), "{bytes} from {next}");
            let read: usize = entries.iter().map(<[u8]>::len).sum();
            assert!(entries.len() == 1 || read as u64 <= bytes, "{bytes}: {read}");
            for lent in &entries {
                assert_eq!(lent, entry(next), "{bytes}");
                next += 1;
            }
        }
    }
    assert_eq!(log.read_within(0..300, 40_000).unwrap().len(), 38);
    assert_eq!(log.read_within(0..300, u64::MAX).unwrap().len(), 300);
    assert!(log.read_within(5..5, 0).unwrap().is_empty());
    assert!(matches!(log.read_within(0..301, 1000), Err(Error::BeyondEnd { wanted: 300, .. })));
}

#[cfg(feature = "lz4")]
#[test]
pub(crate) fn compressed_entries_are_decompressed_when_they_are_looked_at() {
    let log = Log::in_memory(&Options::new().segment_bytes(8 << 20).compress_above(Some(1000)));
    let log = log.unwrap();
    for index in 0..50_u8 {
        log.append(&vec![index; 1_000_000]).unwrap();
    }
    log.append(b"short").unwrap();
    // As many as come to so many bytes when they are looked at, however short they are stored.
    let few = log.read_within(0..51, 3_500_000).unwrap();
    assert_eq!(few.iter().map(<[u8]>::len).collect::<Vec<_>>(), [1_000_000; 3]);
    assert_eq!(log.read_within(3..51, 10).unwrap().len(), 1);
    let all = log.read(0..51).unwrap();
    assert_eq!(all.get(49), Some(&vec![49; 1_000_000][..]));
    assert_eq!(all.get(49).unwrap().as_ptr(), all.get(49).unwrap().as_ptr(), "only once");
    assert_eq!(all.get(50), Some(&b"short"[..]));
    assert_eq!(log.iter(0).map(|step| step.unwrap().1.len()).sum::<usize>(), 50_000_005);
    assert_eq!(log.read_owned(48..51).unwrap().get(1), Some(&vec![49; 1_000_000][..]));
}

/// A truncation makes the log end earlier; a walk that was under way ends there.
#[test]
fn walk_beside_truncations_ends_in_no_error() {
    let log = Log::in_memory(&options()).unwrap();
    for index in 0..10 {
        log.append(&entry(index)).unwrap();
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..2000 {
                let mut batch = Batch::new();
                for index in 10..20 {
                    batch.append(entry(index));
                }
                log.commit(&batch).unwrap();
                log.commit(Batch::new().truncate(10)).unwrap();
            }
            stop.store(true, Ordering::SeqCst);
        });
        while !stop.load(Ordering::SeqCst) {
            let mut next = 0;
            for step in log.iter(0) {
                let (index, bytes) = step.unwrap();
                assert_eq!((index, bytes), (next, entry(next)));
                next += 1;
            }
            assert!((10..=20).contains(&next), "{next}");
        }
    });
}

/// Maps and descriptors of files in a directory, of this process.
fn held(directory: &Path) -> (usize, usize) {
    let name = directory.to_str().unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let files = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| {
        let target = std::fs::read_link(fd.ok()?.path()).ok()?;
        target.to_str().map(|target| target.starts_with(name))
    });
    (maps.lines().filter(|line| line.contains(name)).count(), files.filter(|ours| *ours).count())
}

#[test]
pub(crate) fn maps_and_descriptors_do_not_grow_with_the_log() {
    for durability in [Durability::Barrier, Durability::Os] {
        for mode in [WriteMode::Buffered, WriteMode::Mmap, WriteMode::Pwrite] {
            let directory = tempfile::tempdir().unwrap();
            let options = options().durability(durability).write_mode(mode);
            let log = Log::create(directory.path(), &options).unwrap();
            let big = vec![7; 60_000];
            let mut most = (0, 0);
            let mut look = || {
                let now = held(directory.path());
                most = (most.0.max(now.0), most.1.max(now.1));
            };
            for _ in 0..60 {
                log.append(&big).unwrap();
                look();
            }
            let mut batch = Batch::new();
            for _ in 0..20 {
                batch.append(&big[..]);
            }
            log.commit(&batch).unwrap();
            look();
            for index in 0..log.next() {
                assert_eq!(log.read(index..index + 1).unwrap().get(0), Some(&big[..]));
                assert_eq!(log.entry(index).unwrap(), big);
                look();
            }
            log.sync().unwrap();
            look();
            assert!(log.stats().segments >= 80);
            assert!(most.0 <= 20 && most.1 <= 60, "{durability:?} {mode:?}: {most:?}");
            // What is lent keeps its maps, and lets go of them.
            let lent = log.read(0..40).unwrap();
            assert!(held(directory.path()).0 >= 40);
            assert!(lent.iter().all(|entry| entry == big));
            drop(lent);
            assert!(held(directory.path()).0 <= 20);
        }
    }
}

/// A table that leads astray is an error, and nobody is sent outside the file.
#[test]
fn damaged_table_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    drop(sealed(directory.path()));
    let path = first_segment(directory.path());
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len();
    bytes.get_mut(end - 64 - 4..end - 64).unwrap().fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    let (log, _) = Log::open(directory.path(), &options()).unwrap();
    for index in 0..200 {
        assert_eq!(log.entry(index).unwrap(), entry(index));
    }
}
