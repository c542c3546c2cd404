//! What the benches share: the floor, a place on disk, and rounds that take turns.
//!
//! The floor is the least a durable append can cost on this disk: `pwrite` onto space that was
//! zero-filled in small writes before, then `fdatasync`. Absolute times of a shared machine mean
//! little, so every figure is also given as a ratio to the floor: contenders take turns round by
//! round, a ratio is formed inside a round, and the median of the rounds' ratios is printed. What
//! slows the machine down for a while slows both.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::print_stdout)]
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
#![allow(clippy::allow_attributes, clippy::allow_attributes_without_reason)]

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indelible::{Batch, Error, Log, Options, WriteMode};

/// A directory on the disk under test: `INDELIBLE_BENCH_DIR`, or the target directory. The system's
/// temporary directory may be memory, where a sync costs nothing.
pub fn directory() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("bench-").tempdir_in(base()).unwrap()
}

/// Where the directories of the benches go, created if need be.
pub fn base() -> PathBuf {
    let base = std::env::var_os("INDELIBLE_BENCH_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    std::fs::create_dir_all(&base).unwrap();
    base
}

/// Whether this is not `cargo bench`: then every path runs once, and nothing is measured.
pub fn is_test() -> bool {
    !std::env::args().any(|argument| argument == "--bench")
}

/// A batch of so many equal entries.
pub fn batch(entry: &[u8], count: usize) -> Batch<'_> {
    let mut batch = Batch::new();
    for _ in 0..count {
        batch.append(entry);
    }
    batch
}

/// A log in each write mode that the file system takes, in a directory.
pub fn in_every_mode(directory: &Path, options: &Options) -> Vec<(WriteMode, Log)> {
    let modes = [WriteMode::Buffered, WriteMode::Mmap, WriteMode::Pwrite, WriteMode::Direct];
    let created = modes.into_iter().filter_map(|mode| {
        let path = directory.join(format!("{mode:?}"));
        match Log::create(path, &options.clone().write_mode(mode)) {
            Err(Error::InvalidOption { option: "write_mode", .. }) => None,
            created => Some((mode, created.unwrap())),
        }
    });
    created.collect()
}

/// Lets everything go, so that the disk does not fill up, and puts what was written on the medium.
pub fn start_over(log: &Log) {
    let mut batch = Batch::new();
    batch.reset(log.next() + 1);
    log.commit(&batch).unwrap();
    log.sync().unwrap();
    log.maintain().unwrap();
}

/// The floor: a file of zero-filled space, written from its start and synced.
pub struct Floor {
    file: File,
    at: u64,
    bytes: u64,
}

impl Floor {
    pub fn new(directory: &Path, bytes: u64) -> Self {
        Self::named(directory, "floor", bytes)
    }

    /// The same in a file of another name.
    pub fn named(directory: &Path, name: &str, bytes: u64) -> Self {
        let path = directory.join(name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .unwrap();
        let zeros = [0; 4 * 1024];
        for at in (0..bytes).step_by(zeros.len()) {
            file.write_all_at(&zeros, at).unwrap();
        }
        file.sync_all().unwrap();
        Self { file, at: 0, bytes }
    }

    /// Writes the bytes after the last ones and syncs.
    pub fn append(&mut self, bytes: &[u8]) {
        self.write(bytes);
        self.file.sync_data().unwrap();
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Writes without a sync.
    pub fn write(&mut self, bytes: &[u8]) {
        if self.at + bytes.len() as u64 > self.bytes {
            self.at = 0;
        }
        self.file.write_all_at(bytes, self.at).unwrap();
        self.at += bytes.len() as u64;
    }
}

/// Bytes of a block of direct writes.
pub const BLOCK: u64 = 4096;

/// The floor of direct writes: the same space, written in whole blocks past the page cache.
pub struct DirectFloor {
    pub file: File,
    at: u64,
    bytes: u64,
    pub memory: Vec<u8>,
}

impl DirectFloor {
    /// Fails where the file system takes no such writes.
    pub fn new(directory: &Path, bytes: u64) -> std::io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        drop(Floor::named(directory, "direct-floor", bytes));
        let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).unwrap();
        let path = directory.join("direct-floor");
        let file = OpenOptions::new().write(true).custom_flags(direct).open(path)?;
        let mut floor = Self { file, at: 0, bytes, memory: Vec::new() };
        floor.append(&[1])?;
        Ok(floor)
    }

    /// Where the blocks go that so many bytes take after the last ones, and where in the memory they
    /// are, aligned.
    pub fn blocks(&mut self, bytes: usize) -> (u64, Range<usize>) {
        if self.at + bytes as u64 > self.bytes {
            self.at = 0;
        }
        let (from, end) = (self.at / BLOCK * BLOCK, self.at + bytes as u64);
        self.at = end;
        let len = (end.next_multiple_of(BLOCK) - from) as usize;
        self.memory.resize(self.memory.len().max(len + BLOCK as usize), 0xa5);
        let aligned = self.memory.as_ptr().align_offset(BLOCK as usize);
        (from, aligned..aligned + len)
    }

    /// Writes them with one call that is durable on return (`RWF_DSYNC`).
    pub fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let (from, range) = self.blocks(bytes.len());
        let blocks = std::io::IoSlice::new(&self.memory[range]);
        let flags = rustix::io::ReadWriteFlags::DSYNC;
        let written = rustix::io::pwritev2(&self.file, &[blocks], from, flags)?;
        assert_eq!(written, blocks.len(), "a short write");
        Ok(())
    }
}

/// Times of one contender: of each operation, and which of them belong to one round.
#[derive(Default, Clone)]
pub struct Times {
    /// In seconds: a `Duration` would round what takes a nanosecond or two.
    all: Vec<f64>,
    per_round: usize,
}

impl Times {
    /// Takes in the times of a round.
    pub fn add(&mut self, round: &[Duration]) {
        self.add_by_unit(round, 1);
    }

    /// The same, of operations that are so many units each.
    fn add_by_unit(&mut self, round: &[Duration], units: usize) {
        self.per_round = round.len();
        self.all.extend(round.iter().map(|time| time.as_secs_f64() / units as f64));
    }

    /// In seconds.
    pub fn percentile(&self, share: f64) -> f64 {
        percentile(&self.all, share)
    }

    /// In seconds.
    pub fn median(&self) -> f64 {
        self.percentile(0.5)
    }

    /// The median of the rounds' ratios to what another one took in the same rounds, both by unit.
    pub fn ratio(&self, floor: &Self) -> f64 {
        let rounds = |times: &Self| {
            let rounds = times.all.chunks(times.per_round.max(1));
            rounds.map(|round| percentile(round, 0.5)).collect::<Vec<_>>()
        };
        let ratios = rounds(self).into_iter().zip(rounds(floor)).map(|(own, floor)| own / floor);
        median(ratios.collect())
    }
}

fn percentile(times: &[f64], share: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len().saturating_sub(1) as f64 * share) as usize;
    sorted.get(at).copied().unwrap_or_default()
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// One thing to be measured: a name and an operation.
pub struct Contender<'a> {
    pub name: String,
    operation: Box<dyn FnMut() + 'a>,
    /// What an operation consists of: its time is given by unit.
    units: usize,
    /// What follows a turn, untimed.
    rest: Box<dyn FnMut() + 'a>,
}

impl<'a> Contender<'a> {
    pub fn new(name: impl Into<String>, operation: impl FnMut() + 'a) -> Self {
        Self { name: name.into(), operation: Box::new(operation), units: 1, rest: Box::new(|| {}) }
    }

    /// The operation is so many of what the table is about.
    pub fn units(self, units: usize) -> Self {
        Self { units, ..self }
    }

    /// What is done after each turn, and not timed.
    pub fn rest(self, rest: impl FnMut() + 'a) -> Self {
        Self { rest: Box::new(rest), ..self }
    }
}

/// Runs the contenders in turns, `per_round` operations each, and answers their times by unit. One
/// more round goes before, for caches and first files, and is not kept.
pub fn take_turns(contenders: &mut [Contender<'_>], rounds: usize, per_round: usize) -> Vec<Times> {
    let mut times = vec![Times::default(); contenders.len()];
    for round in 0..=rounds {
        for turn in 0..contenders.len() {
            // Another one begins each time, so that nobody always follows the same neighbour.
            let at = (turn + round) % contenders.len();
            let contender = &mut contenders[at];
            let mut taken = Vec::with_capacity(per_round);
            for _ in 0..per_round {
                let start = Instant::now();
                (contender.operation)();
                taken.push(start.elapsed());
            }
            (contender.rest)();
            if round > 0 {
                times[at].add_by_unit(&taken, contender.units);
            }
        }
    }
    times
}

/// Prints a table: median and p99 of each contender, and ratios to the first `floors` of them. The
/// part of a floor's name before its colon heads the column.
pub fn print_table(title: &str, contenders: &[Contender<'_>], times: &[Times], floors: usize) {
    println!("\n{title}");
    let mut head = format!("  {:<46} {:>11} {:>11} {:>11}", "", "p50", "p99", "a second");
    for floor in &contenders[..floors] {
        let name = floor.name.split(':').next().unwrap_or_default();
        let _ = write!(head, " {:>9}", format!("x {name}"));
    }
    println!("{head}");
    for (contender, own) in contenders.iter().zip(times) {
        let mut line = format!(
            "  {:<46} {:>11} {:>11} {:>11}",
            contender.name,
            time(own.median()),
            time(own.percentile(0.99)),
            rate(1.0 / own.median().max(1e-10)),
        );
        for floor in &times[..floors] {
            let _ = write!(line, " {:>9.2}", own.ratio(floor));
        }
        println!("{line}");
    }
}

/// A number of seconds in the unit that suits it.
pub fn time(seconds: f64) -> String {
    match seconds {
        _ if seconds < 1e-6 => format!("{:.1} ns", seconds * 1e9),
        _ if seconds < 1e-3 => format!("{:.1} us", seconds * 1e6),
        _ if seconds < 1.0 => format!("{:.1} ms", seconds * 1e3),
        _ => format!("{seconds:.1} s"),
    }
}

/// A number in three digits.
pub fn rate(value: f64) -> String {
    match value {
        _ if value >= 1e6 => format!("{:.2} M", value / 1e6),
        _ if value >= 1e4 => format!("{:.1} k", value / 1e3),
        _ => format!("{value:.0}"),
    }
}

/// Waits until what was begun by creating logs is over: segments being prepared, blocks being
/// written. None of it belongs to the time of whoever comes first.
pub fn settle() {
    if !is_test() {
        std::thread::sleep(Duration::from_secs(2));
    }
}

/// So many rounds, or one if nothing is measured.
pub fn rounds(rounds: usize) -> usize {
    if is_test() { 1 } else { rounds }
}
