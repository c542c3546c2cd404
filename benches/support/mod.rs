//! What the benches share: the floor, a place on disk, and rounds that take turns.
//!
//! The floor is the least a durable append can cost on this disk: `pwrite` onto space that was
//! zero-filled in small writes before, then `fdatasync`. Absolute times of a shared machine mean
//! little, so every figure is also given as a ratio to the floor of the same rounds: contenders
//! take turns round by round, and drift hits all of them alike.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::print_stdout)]
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
#![allow(clippy::allow_attributes, clippy::allow_attributes_without_reason)]

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A directory on the disk under test: `INDELIBLE_BENCH_DIR`, or the target directory. The system's
/// temporary directory may be memory, where a sync costs nothing.
pub fn directory() -> tempfile::TempDir {
    let base = std::env::var_os("INDELIBLE_BENCH_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
    std::fs::create_dir_all(&base).unwrap();
    tempfile::Builder::new().prefix("bench-").tempdir_in(base).unwrap()
}

/// Whether this is not `cargo bench`: then every path runs once, and nothing is measured.
pub fn is_test() -> bool {
    !std::env::args().any(|argument| argument == "--bench")
}

/// The floor: a file of zero-filled space, written from its start and synced.
pub struct Floor {
    file: File,
    at: u64,
    bytes: u64,
}

impl Floor {
    pub fn new(directory: &Path, bytes: u64) -> Self {
        let path = directory.join("floor");
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

    /// Writes the bytes behind the last ones and syncs.
    pub fn append(&mut self, bytes: &[u8]) {
        self.write(bytes);
        self.file.sync_data().unwrap();
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

/// Times of one contender, one per operation.
#[derive(Default, Clone)]
pub struct Times(pub Vec<Duration>);

impl Times {
    pub fn percentile(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = (sorted.len().saturating_sub(1) as f64 * share) as usize;
        sorted.get(at).copied().unwrap_or_default()
    }

    pub fn median(&self) -> Duration {
        self.percentile(0.5)
    }
}

/// One thing to be measured: a name and an operation.
pub struct Contender<'a> {
    pub name: String,
    pub operation: Box<dyn FnMut() + 'a>,
}

impl<'a> Contender<'a> {
    pub fn new(name: impl Into<String>, operation: impl FnMut() + 'a) -> Self {
        Self { name: name.into(), operation: Box::new(operation) }
    }
}

/// Runs the contenders in turns, `per_round` operations each, and answers their times.
pub fn take_turns(contenders: &mut [Contender<'_>], rounds: usize, per_round: usize) -> Vec<Times> {
    let mut times = vec![Times::default(); contenders.len()];
    for round in 0..rounds {
        for turn in 0..contenders.len() {
            // Another one begins each time, so that nobody always follows the same neighbour.
            let at = (turn + round) % contenders.len();
            for _ in 0..per_round {
                let start = Instant::now();
                (contenders[at].operation)();
                times[at].0.push(start.elapsed());
            }
        }
    }
    times
}

/// Prints a table: median and p99 of each contender, and its median as a ratio to the first one.
pub fn print_table(title: &str, contenders: &[Contender<'_>], times: &[Times]) {
    println!("\n{title}");
    println!("  {:<44} {:>12} {:>12} {:>8}", "", "p50", "p99", "x floor");
    let floor = times[0].median().as_secs_f64();
    for (contender, times) in contenders.iter().zip(times) {
        let median = times.median();
        println!(
            "  {:<44} {:>12} {:>12} {:>8.2}",
            contender.name,
            format!("{median:.1?}"),
            format!("{:.1?}", times.percentile(0.99)),
            median.as_secs_f64() / floor
        );
    }
}
