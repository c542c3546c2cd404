//! What the preparation of a segment file does to a synced append: its time, and the device's bytes.
//!
//! Files of 16 MiB are made ready in different ways, then small appends are written to each in turns,
//! with `pwrite` or stored through a map, and synced with `fdatasync`. A block that was never written
//! costs a second flush of the device at its first sync, on file systems with a journal; large
//! filling writes leave large folios in the page cache, and a store into one writes all of it back.
//! docs/DESIGN.md says what the engine made of it.
//!
//! The device's counters are those of the whole device: other writers on it are seen as well, which
//! is why the median of the rounds is printed.
//!
//! `cargo bench -p indelible-benches --bench preparation`

#![allow(missing_docs, clippy::unwrap_used, clippy::allow_attributes_without_reason)]
#![allow(clippy::allow_attributes, clippy::disallowed_methods, clippy::print_stdout)]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::indexing_slicing)]

#[path = "../tests/support/os_door.rs"]
mod os_door;
#[path = "support/mod.rs"]
mod support;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use indelible::SyncMethod;
use indelible::io::{Directory, File, Region};
use support::{Times, directory, is_test, median, rounds, settle, time};

const APPENDS_PER_TURN: usize = 16;

/// Far more than a run writes; little where nothing is measured.
fn file_bytes() -> u64 {
    if is_test() { 1 << 20 } else { 16 << 20 }
}

/// How a file is made ready.
#[derive(Clone, Copy)]
enum Preparation {
    /// Zeros in writes of so many bytes, synced.
    ZeroFill(usize),
    /// Space without contents: `fallocate`.
    Fallocate,
    /// A length, and nothing else.
    Nothing,
    /// Zero-filled in small writes, then written once over with other bytes, as a segment that was
    /// used before.
    Recycled,
}

const PREPARATIONS: [(&str, Preparation); 7] = [
    ("zeros in 4 KiB writes", Preparation::ZeroFill(4 << 10)),
    ("zeros in 16 KiB writes", Preparation::ZeroFill(16 << 10)),
    ("zeros in 64 KiB writes", Preparation::ZeroFill(64 << 10)),
    ("zeros in 1 MiB writes", Preparation::ZeroFill(1 << 20)),
    ("fallocate", Preparation::Fallocate),
    ("nothing (sparse)", Preparation::Nothing),
    ("recycled", Preparation::Recycled),
];

/// A prepared file, and what was measured of it.
struct Prepared {
    name: String,
    file: Arc<dyn File>,
    /// Appends are stored through it, if there is one.
    map: Option<Region>,
    at: u64,
    took: Duration,
    times: Times,
    /// Bytes and flushes of the device, by append and round.
    bytes: Vec<f64>,
    flushes: Vec<f64>,
}

impl Prepared {
    fn new(door: &dyn Directory, name: &str, preparation: Preparation, stored: bool) -> Self {
        let start = Instant::now();
        let allocate = !matches!(preparation, Preparation::Nothing);
        let (_, file) = door.create(file_bytes(), allocate).unwrap();
        match preparation {
            Preparation::ZeroFill(write) => fill(&*file, &vec![0; write]),
            Preparation::Recycled => {
                fill(&*file, &[0; 4 << 10]);
                fill(&*file, &[0x5a; 4 << 10]);
            }
            Preparation::Fallocate | Preparation::Nothing => {}
        }
        file.sync(0..file_bytes(), SyncMethod::Fsync).unwrap();
        let map = stored.then(|| file.map(file_bytes(), true).unwrap());
        Self {
            name: format!("{name}, {}", if stored { "store" } else { "pwrite" }),
            file,
            map,
            at: 0,
            took: start.elapsed(),
            times: Times::default(),
            bytes: Vec::new(),
            flushes: Vec::new(),
        }
    }

    fn append(&mut self, entry: &[u8]) {
        let range = self.at..self.at + entry.len() as u64;
        if let Some(map) = &self.map {
            map.store(range.start as usize, entry).unwrap();
        } else {
            self.file.write_at(range.start, entry).unwrap();
        }
        self.file.sync(range.clone(), SyncMethod::Fdatasync).unwrap();
        self.at = range.end;
    }

    /// Some appends, and what the device did meanwhile.
    fn turn(&mut self, entry: &[u8], device: Option<&Path>) {
        let before = device.and_then(Counters::read);
        let mut taken = Vec::with_capacity(APPENDS_PER_TURN);
        for _ in 0..APPENDS_PER_TURN {
            let start = Instant::now();
            self.append(entry);
            taken.push(start.elapsed());
        }
        self.times.add(&taken);
        if let (Some(before), Some(after)) = (before, device.and_then(Counters::read)) {
            let by_append = |count: u64| count as f64 / APPENDS_PER_TURN as f64;
            self.bytes.push(by_append((after.sectors - before.sectors) * 512));
            self.flushes.push(by_append(after.flushes - before.flushes));
        }
    }
}

fn fill(file: &dyn File, bytes: &[u8]) {
    for at in (0..file_bytes()).step_by(bytes.len()) {
        file.write_at(at, bytes).unwrap();
    }
}

/// What a block device has done since it is there.
struct Counters {
    sectors: u64,
    flushes: u64,
}

impl Counters {
    /// From the `stat` file of the device (the kernel's documentation, block/stat).
    fn read(stat: &Path) -> Option<Self> {
        const SECTORS_WRITTEN: usize = 6;
        const FLUSHES: usize = 15;
        let line = std::fs::read_to_string(stat).ok()?;
        let mut fields = line.split_whitespace();
        let sectors = fields.nth(SECTORS_WRITTEN)?.parse().ok()?;
        let flushes = fields.nth(FLUSHES - SECTORS_WRITTEN - 1)?.parse().ok()?;
        Some(Self { sectors, flushes })
    }
}

/// The `stat` file of the block device below a directory. A file system of many devices, or of none,
/// has a number that belongs to no device.
fn device_of(directory: &Path) -> Option<PathBuf> {
    let number = std::fs::metadata(directory).ok()?.dev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let stat = PathBuf::from(format!("/sys/dev/block/{major}:{minor}/stat"));
    stat.exists().then_some(stat)
}

/// Every preparation, both ways to write, in turns.
fn preparations(_: &mut Criterion) {
    for bytes in [256, 4096] {
        let place = directory();
        let door = os_door::open(place.path(), false).unwrap();
        let device = device_of(place.path());
        let mut files = Vec::new();
        for (name, preparation) in PREPARATIONS {
            for stored in [false, true] {
                // A store into a hole can meet a full disk, which is a signal: the engine refuses it.
                if stored && matches!(preparation, Preparation::Nothing) {
                    continue;
                }
                files.push(Prepared::new(&*door, name, preparation, stored));
            }
        }
        settle();
        let entry = vec![0xa5; bytes];
        let turns = rounds(60);
        for round in 0..turns {
            for turn in 0..files.len() {
                let at = (turn + round) % files.len();
                files[at].turn(&entry, device.as_deref());
            }
        }
        print(&files, bytes);
        if device.is_none() {
            println!(
                "  bytes and flushes are left out: no block device is known for the directory"
            );
        }
    }
}

fn print(files: &[Prepared], bytes: usize) {
    println!("\npreparation/{bytes} B by append, fdatasync (floor: the first line)");
    println!(
        "  {:<32} {:>10} {:>10} {:>8} {:>14} {:>9} {:>10}",
        "", "p50", "p99", "x floor", "device bytes", "flushes", "prepared in"
    );
    let counted = |values: &[f64], digits: usize| {
        let value = (!values.is_empty()).then(|| median(values.to_vec()));
        value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
    };
    for file in files {
        println!(
            "  {:<32} {:>10} {:>10} {:>8.2} {:>14} {:>9} {:>10}",
            file.name,
            time(file.times.median()),
            time(file.times.percentile(0.99)),
            file.times.ratio(&files[0].times),
            counted(&file.bytes, 0),
            counted(&file.flushes, 2),
            time(file.took.as_secs_f64()),
        );
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default();
    targets = preparations
}
criterion_main!(benches);
