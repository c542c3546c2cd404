//! Many threads on one log: appenders, replacers, readers that hold on to what they read, trimmers
//! and syncers together. What loom checks step by step (`src/log/syncer/group/model.rs`) is here at
//! full speed, with files, maps and the log's own threads.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]
#![expect(clippy::print_stdout, reason = "what was done shows that something was")]
#![expect(clippy::disallowed_methods, reason = "a test that takes time by the clock")]

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indelible::{Batch, Durability, Entries, Error, Log, Options, Stats, SyncMethod, WriteMode};

const RUN: Duration = Duration::from_secs(1);
const RUN_MAX: Duration = Duration::from_secs(30);
/// Entries that are kept when the log is trimmed.
const KEPT: u64 = 60;

/// An entry that says which one it is, and proves that it is whole.
fn entry(index: u64, version: u64) -> Vec<u8> {
    let length = 24 + usize::try_from((index * 7 + version) % 2800).unwrap();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&index.to_le_bytes());
    bytes.extend_from_slice(&version.to_le_bytes());
    let fill = (index ^ version.rotate_left(17)).to_le_bytes();
    bytes.extend(fill.iter().cycle().take(length - 16));
    bytes
}

fn check(index: u64, bytes: &[u8]) {
    let (words, _) = bytes.as_chunks::<8>();
    let [stated, version, ..] = *words else { panic!("entry {index} is too short") };
    assert_eq!(u64::from_le_bytes(stated), index, "entry {index} is another one");
    let version = u64::from_le_bytes(version);
    assert!(bytes == entry(index, version), "entry {index} version {version} is not whole");
}

fn check_all(entries: &Entries) {
    for (nth, bytes) in entries.iter().enumerate() {
        check(entries.first() + nth as u64, bytes);
    }
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, count: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % count.max(1)
    }
}

#[derive(Default)]
struct Tally {
    appended: AtomicU64,
    replaced: AtomicU64,
    read: AtomicU64,
    held: AtomicU64,
    fresh: AtomicU64,
    set_lazily: AtomicU64,
    trimmed: AtomicU64,
    called_back: AtomicU64,
}

impl Tally {
    /// Everything happened, and every batch has called back.
    fn check(&self, stats: &Stats, what: &str) {
        let count = |of: &AtomicU64| of.load(Ordering::SeqCst);
        assert_eq!(count(&self.called_back), count(&self.appended), "a callback is missing");
        for (kind, count) in [
            ("appends", count(&self.appended)),
            ("replacements", count(&self.replaced)),
            ("reads", count(&self.read)),
            ("reads of what was not durable", count(&self.fresh)),
            ("lazily set values", count(&self.set_lazily)),
            ("trims", count(&self.trimmed)),
            ("rolls", stats.rolls),
            ("reclaimed segments", stats.recycled + stats.removed),
        ] {
            assert!(count > 0, "no {kind}");
            println!("{what}: {count} {kind}");
        }
    }
}

struct Stage {
    log: Log,
    /// Held while an index is turned into an entry and written.
    order: Mutex<u64>,
    stop: AtomicBool,
    tally: Arc<Tally>,
}

impl Stage {
    fn running(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn append(&self, dice: &mut Dice, newest: &Arc<AtomicU64>) {
        let ticket = {
            let mut version = self.order.lock().unwrap();
            *version += 1;
            let mut batch = Batch::new();
            for at in 0..=dice.below(5) {
                batch.append(entry(self.log.next() + at, *version));
            }
            batch.set("version", version.to_le_bytes().to_vec());
            let ticket = self.log.submit(&batch).unwrap();
            let (sequence, newest) = (ticket.sequence(), Arc::clone(newest));
            let tally = Arc::clone(&self.tally);
            // Registered in the order of the batches, so called in that order.
            ticket.clone().on_durable(move |result| {
                result.unwrap();
                let before = newest.fetch_max(sequence, Ordering::SeqCst);
                assert!(before < sequence, "batch {sequence} calls back after {before}");
                tally.called_back.fetch_add(1, Ordering::Relaxed);
            });
            ticket
        };
        self.tally.appended.fetch_add(1, Ordering::Relaxed);
        if dice.below(3) > 0 {
            ticket.wait().unwrap();
            assert!(ticket.is_durable());
        }
    }

    fn replace(&self, dice: &mut Dice) {
        let mut version = self.order.lock().unwrap();
        *version += 1;
        let (first, next) = (self.log.first(), self.log.next());
        let to = next - dice.below((next - first).min(9));
        let mut batch = Batch::new();
        batch.truncate(to);
        for at in 0..dice.below(6) {
            batch.append(entry(to + at, *version));
        }
        let ticket = self.log.submit(&batch).unwrap();
        drop(version);
        ticket.wait().unwrap();
        self.tally.replaced.fetch_add(1, Ordering::Relaxed);
    }

    fn trim(&self) {
        // No replacer may reach below what is trimmed meanwhile.
        let order = self.order.lock().unwrap();
        let to = self.log.next().saturating_sub(KEPT).max(self.log.first());
        self.log.submit(Batch::new().trim(to)).unwrap();
        drop(order);
        self.log.maintain().unwrap();
        self.tally.trimmed.fetch_add(1, Ordering::Relaxed);
    }

    /// Reads what is not durable yet: under `Buffered` it may still be in memory.
    fn read_newest(&self) {
        let (durable, next) = (self.log.durable().max(self.log.first()), self.log.next());
        match self.log.read(durable..next.max(durable)) {
            Ok(entries) => {
                check_all(&entries);
                let fresh = !entries.is_empty() && self.log.durable() <= durable;
                self.tally.fresh.fetch_add(u64::from(fresh), Ordering::Relaxed);
            }
            Err(Error::Trimmed { .. } | Error::BeyondEnd { .. }) => {}
            Err(error) => panic!("{durable}..{next}: {error}"),
        }
    }

    /// Counts in a cell; it shows at once, whoever takes it along.
    fn set_lazily(&self) {
        let count = self.tally.set_lazily.fetch_add(1, Ordering::Relaxed) + 1;
        self.log.set_lazily("count", &count.to_le_bytes()).unwrap();
        assert_eq!(self.log.cell("count").as_deref(), Some(&count.to_le_bytes()[..]));
        std::thread::sleep(Duration::from_micros(100));
    }

    /// Reads, holds what was read across many trims, and looks at it again before it lets go.
    fn read(&self, dice: &mut Dice) {
        let mut held: VecDeque<Entries> = VecDeque::new();
        while self.running() {
            let (first, next) = (self.log.first(), self.log.next());
            let from = first + dice.below(next.saturating_sub(first));
            let to = (from + dice.below(60)).min(next);
            match self.log.read(from..to.max(from)) {
                Ok(entries) => {
                    check_all(&entries);
                    self.tally.read.fetch_add(1, Ordering::Relaxed);
                    held.push_back(entries);
                }
                Err(Error::Trimmed { .. } | Error::BeyondEnd { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            if held.len() > 300 {
                check_all(&held.pop_front().unwrap());
                self.tally.held.fetch_add(1, Ordering::Relaxed);
            }
        }
        held.iter().for_each(check_all);
    }
}

fn stress(mode: WriteMode, method: SyncMethod, durability: Durability) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let options = Options::new()
        .segment_bytes(64 * 1024)
        .checkpoint_bytes(32 * 1024)
        .write_mode(mode)
        .sync_method(method)
        .durability(durability);
    let log = Log::create(&path, &options).unwrap();
    log.append(&entry(0, 0)).unwrap();
    let tally = Arc::new(Tally::default());
    let (order, stop) = (Mutex::new(0), AtomicBool::new(false));
    let stage = Stage { log: log.clone(), order, stop, tally: Arc::clone(&tally) };
    let newest = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    std::thread::scope(|scope| {
        let (stage, newest) = (&stage, &newest);
        let each = move |seed: u64, act: fn(&Stage, &mut Dice, &Arc<AtomicU64>)| {
            scope.spawn(move || {
                let mut dice = Dice(seed * 0x9e37_79b9 + 1);
                while stage.running() {
                    act(stage, &mut dice, newest);
                }
            })
        };
        for seed in 0..3 {
            each(seed, Stage::append);
            each(10 + seed, |stage, dice, _| stage.read(dice));
        }
        each(20, |stage, dice, _| stage.replace(dice));
        each(21, |stage, _, _| {
            stage.trim();
            std::thread::sleep(Duration::from_millis(2));
        });
        each(23, |stage, _, _| stage.read_newest());
        each(24, |stage, _, _| stage.set_lazily());
        each(22, |stage, _, _| {
            let before = stage.log.newest_ticket();
            stage.log.sync().unwrap();
            assert!(before.is_durable());
        });
        // A slow disk gets the time it takes to come to every kind of thing.
        let enough = || {
            let stats = stage.log.stats();
            stats.rolls > 2
                && stats.recycled + stats.removed > 0
                && stage.tally.replaced.load(Ordering::Relaxed) > 0
        };
        while started.elapsed() < RUN || (!enough() && started.elapsed() < RUN_MAX) {
            std::thread::sleep(Duration::from_millis(20));
        }
        stage.stop.store(true, Ordering::Relaxed);
    });
    log.sync().unwrap();
    let stats = log.stats();
    log.close().unwrap();
    tally.check(&stats, &format!("{mode:?} {method:?} {durability:?}"));
    drop(stage);
    let count = log.cell("count");
    assert_eq!(count.as_deref(), Some(&tally.set_lazily.load(Ordering::SeqCst).to_le_bytes()[..]));
    check_reopened(log, &path, &options);
}

fn check_reopened(log: Log, path: &Path, options: &Options) {
    let cells = log.cells();
    let (first, next) = (log.first(), log.next());
    drop(log);
    let (log, _) = Log::open(path, options).unwrap();
    assert_eq!((log.first(), log.next()), (first, next));
    assert_eq!(log.cells(), cells);
    check_all(&log.read(first..next).unwrap());
}

#[test]
fn threads_share_a_mapped_log() {
    stress(WriteMode::Mmap, SyncMethod::Fdatasync, Durability::Always);
}

#[test]
fn threads_share_a_buffered_log() {
    stress(WriteMode::Buffered, SyncMethod::Fdatasync, Durability::Always);
}

#[test]
fn threads_share_a_buffered_log_without_a_sync_for_each_commit() {
    stress(WriteMode::Buffered, SyncMethod::Fdatasync, Durability::Barrier);
}

#[test]
fn threads_share_a_log_that_is_written() {
    stress(WriteMode::Pwrite, SyncMethod::Dsync, Durability::Always);
}

#[test]
fn threads_share_a_log_without_a_sync_for_each_commit() {
    stress(WriteMode::Mmap, SyncMethod::Msync, Durability::Barrier);
}

/// Sealed segments are opened when they are first read. A trim may take the file away in between:
/// then the entries were trimmed, and nothing is wrong.
#[test]
fn first_read_of_a_segment_against_its_trim_says_trimmed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let options = Options::new().segment_bytes(64 * 1024).durability(Durability::Barrier);
    let log = Log::create(&path, &options).unwrap();
    for index in 0..3000 {
        log.append(&entry(index, 0)).unwrap();
    }
    log.close().unwrap();
    drop(log);
    let (log, _) = Log::open(&path, &options).unwrap();
    let next = log.next();
    std::thread::scope(|scope| {
        for reader in 0..2 {
            let log = &log;
            scope.spawn(move || {
                for index in (reader..next).step_by(2) {
                    match log.read(index..index + 1) {
                        Ok(entries) => check_all(&entries),
                        Err(Error::Trimmed { .. }) => {}
                        Err(error) => panic!("entry {index}: {error}"),
                    }
                }
            });
        }
        scope.spawn(|| {
            for to in (0..next).step_by(40) {
                log.submit(Batch::new().trim(to)).unwrap();
                log.maintain().unwrap();
            }
        });
    });
}
