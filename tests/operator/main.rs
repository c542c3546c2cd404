//! The operator's side as library calls: scrub, stall watch, backup through any door, and repair
//! after random damage.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::panic,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "a test fails by panicking, and damages files behind the engine's back"
)]

#[cfg(feature = "testing")]
mod crashes;
#[cfg(feature = "testing")]
mod fickle;
#[cfg(feature = "testing")]
mod moved;
mod renamed;
mod replaced;
mod side_files;
mod truth;
mod untold;
#[cfg(any(feature = "tracing", feature = "metrics"))]
mod watching;

use std::fs;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use indelible::inspect::{Health, Outcome, inspect_in, verify, verify_in};
use indelible::io::mem::MemDirectory;
use indelible::io::{Access, Directory, DirectoryEntry, File, Lock, LockRefused, Region};
use indelible::{Batch, Damage, Error, Log, Options, Stall, SyncMethod};

/// How many damaged logs are made whole.
const SEEDS: u64 = 20;

/// How often a log is looked at while it is written.
const LOOKS: u32 = 100;

/// Between two batches of that log.
const COMMIT_PAUSE: Duration = Duration::from_micros(300);

fn options() -> Options {
    Options::new().segment_bytes(64 * 1024).background(false)
}

fn entry(index: u64) -> Vec<u8> {
    let mut entry = format!("entry {index} ").into_bytes();
    let length = 200 + usize::try_from(index * 7919 % 3000).unwrap();
    entry.resize(length, b'.');
    entry
}

/// What an entry was before it was replaced.
fn deposed(index: u64) -> Vec<u8> {
    format!("entry {index}, of a leader that was deposed").into_bytes()
}

/// A log of several segments with replaced entries and state in them, the same every time.
fn build(path: &Path) {
    build_of(path, &options(), 1);
}

/// The same with other options, and entries so many times as long.
fn build_of(path: &Path, options: &Options, times: usize) {
    let entry = |index: u64| entry(index).repeat(times);
    let log = Log::create(path, options).unwrap();
    for index in 0..150_u64 {
        let mut batch = Batch::new();
        let replaced = (35..40).contains(&(index % 40));
        let bytes = if replaced { deposed(index) } else { entry(index) };
        batch.append(bytes).set("decided", index.to_le_bytes().to_vec());
        log.commit(&batch).unwrap();
        if index % 40 == 39 {
            let mut batch = Batch::new();
            batch.truncate(index - 4);
            for again in index - 4..=index {
                batch.append(entry(again));
            }
            log.commit(&batch).unwrap();
        }
    }
    let mut batch = Batch::new();
    batch.trim(10);
    log.commit(&batch).unwrap();
    log.close().unwrap();
}

fn segments(path: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(path).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|file| file.extension().is_some_and(|end| end == "seg")).collect();
    files.sort();
    files
}

fn zero(path: &Path, offset: usize, length: usize) {
    let Ok(mut bytes) = fs::read(path) else { return };
    let end = (offset + length).min(bytes.len());
    bytes[offset.min(end)..end].fill(0);
    fs::write(path, bytes).unwrap();
}

fn flip(path: &Path, offset: usize) {
    let Ok(mut bytes) = fs::read(path) else { return };
    // It may have been cut short before.
    let Some(byte) = bytes.get_mut(offset) else { return };
    *byte ^= 0x10;
    fs::write(path, bytes).unwrap();
}

fn cut(path: &Path, length: usize) {
    let Ok(bytes) = fs::read(path) else { return };
    fs::write(path, &bytes[..length.min(bytes.len())]).unwrap();
}

/// Numbers that look random and are the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

#[test]
fn after_any_damage_to_segments_repair_and_refill_make_the_log_whole() {
    let holes = repair_and_refill(64 * 1024, 1, SEEDS);
    assert!(holes > SEEDS, "too little was damaged: {holes}");
}

#[test]
fn after_any_damage_to_segments_of_a_mebibyte_repair_and_refill_make_the_log_whole() {
    let seeds = SEEDS / 2;
    let holes = repair_and_refill(1024 * 1024, 16, seeds);
    assert!(holes > seeds, "too little was damaged: {holes}");
}

/// Damages, verifies, repairs and refills logs of segments of so many bytes, whose entries are so many
/// times as long. Returns how many entries were missing in between.
fn repair_and_refill(segment_bytes: usize, times: usize, seeds: u64) -> u64 {
    let options = || Options::new().segment_bytes(segment_bytes as u64).background(false);
    let entry = |index: u64| entry(index).repeat(times);
    let place = tempfile::tempdir().unwrap();
    let sound = place.path().join("sound");
    build_of(&sound, &options(), times);
    let names = segments(&sound);
    assert!(names.len() >= 3, "{names:?}");
    let mut holes = 0;
    for seed in 1..=seeds {
        let path = place.path().join(format!("log-{seed}"));
        fs::create_dir(&path).unwrap();
        for file in fs::read_dir(&sound).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), path.join(file.file_name())).unwrap();
        }
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for _ in 0..=random.below(3) {
            let name = &names[random.below(names.len())];
            let at = random.below(segment_bytes);
            let file = path.join(name.file_name().unwrap());
            match random.below(9) {
                0 => zero(&file, at, random.below(segment_bytes / 8)),
                // The footer, so that only the frames say where the entries are.
                1 => flip(&file, segment_bytes - 1 - random.below(64)),
                2 if *name != names[names.len() - 1] => drop(fs::remove_file(&file)),
                3 => cut(&file, at),
                _ => flip(&file, at),
            }
        }
        let damaged = verify(&path, &mut |_| ()).unwrap();
        let told = |index: u64| {
            damaged.findings.iter().any(|finding| match &finding.error {
                Error::Damaged { indexes: Some(range), .. } => range.contains(&index),
                _ => false,
            })
        };
        // What was readable before stays readable and the same; nothing wrong is ever handed out.
        indelible::repair::apply(&path).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let (log, _) = Log::open(&path, &options().allow_holes(true)).unwrap();
        assert_eq!((log.first(), log.next()), (10, 150), "seed {seed}");
        for index in 10..150 {
            match log.entry(index) {
                Ok(bytes) => assert!(bytes == entry(index), "seed {seed}: entry {index}"),
                Err(Error::Hole { .. }) => {
                    assert!(told(index), "seed {seed}: entry {index} was lost without a word");
                    holes += 1;
                }
                Err(error) => panic!("seed {seed}: entry {index}: {error}"),
            }
        }
        assert_eq!(log.cell("decided").as_deref(), Some(&149_u64.to_le_bytes()[..]));
        log.close().unwrap();
        let refilled = indelible::repair::refill(&path, &mut |index| Ok(Some(entry(index))))
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(refilled.missing.is_empty(), "seed {seed}");
        let seen = verify(&path, &mut |_| ()).unwrap();
        assert_eq!(seen.health, Health::Clean, "seed {seed}: {:?}", seen.findings);
        let (log, _) = Log::open(&path, &options()).unwrap();
        for index in 10..150 {
            assert_eq!(log.entry(index).unwrap(), entry(index), "seed {seed}");
        }
        fs::remove_dir_all(&path).unwrap();
    }
    holes
}

#[test]
fn a_scrub_finds_rot_while_the_log_is_in_use() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("log");
    build(&path);
    let (log, _) = Log::open(&path, &options()).unwrap();
    let whole = log.scrub(None, &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(whole.segments >= 2 && whole.findings.is_empty(), "{whole:?}");
    let names = segments(&path);
    flip(&names[1], 30_000);
    let mut seen = Vec::new();
    let report = log
        .scrub(Some(u64::MAX), &mut |scrubbed| {
            seen.push((scrubbed.segment, scrubbed.findings.len()));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(report.findings.len(), 1, "{report:?}");
    assert!(matches!(&report.findings[0], Error::Damaged { indexes: Some(_), .. }));
    assert!(seen.contains(&(2, 1)), "{seen:?}");
    assert_eq!(log.stats().scrub_findings, 1);
    assert_eq!(log.stats().scrubbed, report.segments + whole.segments);
    let one = log.scrub(None, &mut |_| ControlFlow::Break(())).unwrap();
    assert_eq!(one.segments, 1);
}

/// Found by review. A segment whose file was taken away was held for trimmed, and nothing was said.
#[test]
fn a_scrub_finds_a_segment_whose_file_is_gone() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("log");
    build(&path);
    let (log, _) = Log::open(&path, &options()).unwrap();
    let gone = segments(&path).remove(1);
    fs::remove_file(&gone).unwrap();
    let found = log.scrub(None, &mut |_| ControlFlow::Continue(())).unwrap().findings;
    let [Error::Damaged { path, indexes: Some(lost), reason: Damage::MissingFile, .. }] =
        &found[..]
    else {
        panic!("{found:?}")
    };
    assert_eq!(path, &gone);
    assert!(log.entry(lost.start).is_err() && log.entry(lost.end - 1).is_err(), "{lost:?}");
    assert!(log.entry(lost.start - 1).is_ok() && log.entry(lost.end).is_ok(), "{lost:?}");
}

#[test]
fn a_scrub_keeps_its_pace_and_ends_with_the_log() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("log");
    build(&path);
    let options = Options::new().segment_bytes(64 * 1024).scrub(Some(1024 * 1024));
    let (log, _) = Log::open(&path, &options).unwrap();
    let started = Instant::now();
    while log.stats().scrubbed < 2 && started.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(5));
    }
    // Two segments of 64 KiB at 1 MiB a second: the first read waits already.
    assert!(started.elapsed() >= Duration::from_millis(50));
    log.close().unwrap();
    assert!(started.elapsed() < Duration::from_secs(20), "the scrub does not end");
}

/// A door whose syncs can be made to hang.
#[derive(Debug)]
struct Hanging {
    inner: MemDirectory,
    hang: Arc<AtomicBool>,
}

#[derive(Debug)]
struct HangingFile {
    inner: Arc<dyn File>,
    hang: Arc<AtomicBool>,
}

impl Hanging {
    fn file(&self, inner: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(HangingFile { inner, hang: Arc::clone(&self.hang) })
    }
}

impl Directory for Hanging {
    fn list(&self) -> std::io::Result<Vec<DirectoryEntry>> {
        self.inner.list()
    }

    fn lock(&self) -> Result<Box<dyn Lock>, LockRefused> {
        self.inner.lock()
    }

    fn create(&self, bytes: u64, allocate: bool) -> std::io::Result<(String, Arc<dyn File>)> {
        let (name, file) = self.inner.create(bytes, allocate)?;
        Ok((name, self.file(file)))
    }

    fn open(&self, name: &str, access: Access) -> std::io::Result<Arc<dyn File>> {
        Ok(self.file(self.inner.open(name, access)?))
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

impl File for HangingFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.inner.write_at(offset, bytes)
    }

    fn sync(&self, range: Range<u64>, method: SyncMethod) -> std::io::Result<()> {
        while self.hang.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.inner.sync(range, method)
    }

    fn map(&self, bytes: u64, write: bool) -> std::io::Result<Region> {
        self.inner.map(bytes, write)
    }
}

#[test]
fn the_stall_watch_barks_while_a_sync_hangs() {
    let hang = Arc::new(AtomicBool::new(false));
    let door = Hanging { inner: MemDirectory::new(), hang: Arc::clone(&hang) };
    let (tell, told) = mpsc::channel();
    // Longer than a busy machine keeps a thread from a sync in memory.
    let threshold = Duration::from_millis(500);
    let options = Options::new()
        .segment_bytes(64 * 1024)
        .stall(threshold, move |stall| tell.send(stall).unwrap());
    let log = Log::create_in(Arc::new(door), &options).unwrap();
    log.append(b"before").unwrap();
    assert!(told.try_recv().is_err(), "nothing was slow");
    hang.store(true, Ordering::Release);
    let writer = {
        let log = log.clone();
        std::thread::spawn(move || log.append(b"waits").map(|_| ()))
    };
    match told.recv_timeout(Duration::from_secs(20)).unwrap() {
        Stall::Began(age) => assert!(age >= threshold),
        other => panic!("{other:?}"),
    }
    assert!(log.stats().sync_running.is_some());
    assert_eq!(log.stats().stalls, 1);
    assert!(!writer.is_finished(), "the sync still hangs");
    hang.store(false, Ordering::Release);
    assert_eq!(told.recv_timeout(Duration::from_secs(20)).unwrap(), Stall::Ended);
    writer.join().unwrap().unwrap();
    log.close().unwrap();
}

#[test]
fn a_log_behind_any_door_can_be_looked_at_and_backed_up() {
    let door = MemDirectory::new();
    let log = Log::create_in(Arc::new(door.clone()), &options()).unwrap();
    for index in 0..40 {
        log.append(&entry(index)).unwrap();
    }
    let copy = MemDirectory::new();
    let backup = log.backup_in(Arc::new(copy.clone())).unwrap();
    assert_eq!((backup.next, backup.linked, backup.entries_verified), (40, 0, 40));
    assert!(matches!(inspect_in(Arc::new(copy.clone())).unwrap().outcome, Outcome::Clean));
    assert!(matches!(log.backup_in(Arc::new(copy.clone())), Err(Error::AlreadyExists { .. })));
    let seen = verify_in(Arc::new(door), &mut |_| ()).unwrap();
    assert_eq!((seen.health, seen.entries), (Health::Clean, 40));
    let (copy, _) = Log::open_in(Arc::new(copy), &options()).unwrap();
    assert_eq!(copy.entry(39).unwrap(), entry(39));
    assert_eq!(copy.uuid(), log.uuid());
}

#[cfg(feature = "lz4")]
#[test]
fn a_log_of_compressed_entries_is_refilled_with_plain_ones() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("log");
    let options = options().compress_above(Some(100));
    let log = Log::create(&path, &options).unwrap();
    // Far more than fits into a segment as it is.
    for index in 0..200 {
        log.append(&entry(index).repeat(4)).unwrap();
    }
    log.close().unwrap();
    let names = segments(&path);
    zero(&names[0], 4096, 60_000);
    indelible::repair::apply(&path).unwrap();
    let refilled = indelible::repair::refill(&path, &mut |index| Ok(Some(entry(index).repeat(4))));
    assert!(refilled.unwrap().missing.is_empty());
    let (log, _) = Log::open(&path, &options).unwrap();
    for index in 0..200 {
        assert_eq!(log.entry(index).unwrap(), entry(index).repeat(4));
    }
}

#[test]
fn a_log_that_is_being_written_never_looks_damaged() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("log");
    let log = Log::create(&path, &Options::new().segment_bytes(64 * 1024)).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (log, stop) = (log.clone(), Arc::clone(&stop));
        std::thread::spawn(move || {
            let mut index = 0;
            while !stop.load(Ordering::Acquire) {
                let mut batch = Batch::new();
                batch.append(entry(index)).set("decided", index.to_le_bytes().to_vec());
                if index % 50 == 49 {
                    batch.trim(index - 40);
                }
                log.commit(&batch).unwrap();
                index += 1;
                // About a sync, which costs nothing in memory: a look must keep up with what is
                // trimmed.
                std::thread::sleep(COMMIT_PAUSE);
            }
        })
    };
    for round in 0..LOOKS {
        let seen = verify(&path, &mut |_| ()).unwrap();
        assert_ne!(seen.health, Health::Damaged, "look {round}: {:?}", seen.findings);
        let seen = indelible::inspect::inspect(&path).unwrap();
        assert!(!matches!(seen.outcome, Outcome::NoLog), "look {round}");
    }
    stop.store(true, Ordering::Release);
    writer.join().unwrap();
    log.close().unwrap();
    assert_eq!(verify(&path, &mut |_| ()).unwrap().health, Health::Clean);
}
