//! Opens of logs from 2 MiB to 10 GiB, closed and killed: the time, the time until the tail was looked
//! at, and the memory that an open takes.
//!
//! Every open is of a fresh copy, put on the medium before: of a log that was opened once, the next
//! open sees only what that one has repaired. Sealed segments, which nothing writes to any more, are
//! linked, not copied.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use criterion::Criterion;
use indelible::{Durability, Log, Options};

use crate::support::{Floor, Times, base, directory, is_test, rounds};
use crate::{fill, report};

/// Tells a process of this bench to open the log there, to say what memory that took, and to end.
const CHILD: &str = "INDELIBLE_BENCH_OPEN";
const BIG_ENTRIES: u64 = 36_000_000;

fn options() -> Options {
    Options::new().durability(Durability::Barrier)
}

/// Opens of logs of several sizes.
pub(crate) fn opens(_: &mut Criterion) {
    println!("\nlifecycle/open (floor: one synced append of 4096 B)");
    let sizes: &[u64] = if is_test() { &[10_000] } else { &[10_000, 50_000, 200_000, 2_000_000] };
    for &entries in sizes {
        let place = directory();
        build(place.path(), entries);
        open_all(place.path(), entries);
    }
    if std::env::var_os("INDELIBLE_BENCH_BIG").is_some() && !is_test() {
        let place = base().join("indelible-bench-10GiB");
        if !place.join("complete").exists() {
            let _absent = std::fs::remove_dir_all(&place);
            std::fs::create_dir_all(&place).unwrap();
            build(&place, BIG_ENTRIES);
            std::fs::write(place.join("complete"), []).unwrap();
        }
        open_all(&place, BIG_ENTRIES);
    }
}

/// Opens of a killed log of which no checkpoint states anything, so that all of it has to be looked
/// through, beside reading the same bytes from the device.
pub(crate) fn scan(_: &mut Criterion) {
    let place = directory();
    let options = Options::new().durability(Durability::Os).background(false);
    let log = Log::create(place.path().join("log"), &options).unwrap();
    fill(&log, if is_test() { 1000 } else { 150_000 });
    let (killed, again) = (place.path().join("killed"), place.path().join("again"));
    copy(log.path(), &killed);
    let (mut floors, mut times) = (Times::default(), Times::default());
    // An open looks through all that may have been written: the segment, which is read to its end.
    let bytes: u32 = 64 << 20;
    for _ in 0..rounds(15) {
        let _absent = std::fs::remove_dir_all(&again);
        copy(&killed, &again);
        floors.add(&[read_from_device(&again, bytes.into())]);
        let start = Instant::now();
        let (opened, report) = Log::open(&again, &options).unwrap();
        times.add(&[start.elapsed()]);
        assert_eq!(opened.next(), log.next());
        assert_eq!(report.bytes_scanned.next_multiple_of(1 << 20), u64::from(bytes));
    }
    println!("\nlifecycle/scan (floor: the same bytes read from the device)");
    report("a segment of 64 MiB after the last checkpoint", &times, &floors);
    for (name, times) in [("scanned", &times), ("read", &floors)] {
        println!("    {name} at {:.2} GB/s", f64::from(bytes) / times.median() / 1e9);
    }
}

/// The time to read so many bytes of the only segment of a log that is in no cache.
fn read_from_device(log: &Path, bytes: u64) -> Duration {
    let mut files = std::fs::read_dir(log).unwrap().map(|file| file.unwrap().path());
    let segment = files.find(|file| file.extension().is_some_and(|end| end == "seg")).unwrap();
    let mut file = File::open(segment).unwrap().take(bytes);
    let mut buffer = vec![1; 1 << 20];
    rustix::fs::fadvise(file.get_ref(), 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let start = Instant::now();
    while file.read(&mut buffer).unwrap() > 0 {}
    start.elapsed()
}

/// A log of so many entries, as a kill leaves it in `killed`, and as a close does in `closed`.
fn build(place: &Path, entries: u64) {
    let log = Log::create(place.join("closed"), &options()).unwrap();
    fill(&log, entries);
    copy(log.path(), &place.join("killed"));
    log.close().unwrap();
}

/// Copies the files of a log and puts the copies on the medium, so that an open has nothing of ours
/// to write back. Of a log that is open, the copy is what a kill would leave.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let files = std::fs::read_dir(from).unwrap().map(|file| file.unwrap().path());
    let files: BTreeSet<PathBuf> = files.collect();
    let segment = |file: &&PathBuf| file.extension().is_some_and(|end| end == "seg");
    // Their names are in the order of writing: the last is the tail, which is written to.
    let tail = files.iter().rfind(segment).cloned();
    for file in files {
        let name = file.file_name().unwrap();
        let copy = to.join(name);
        if segment(&&file) && Some(&file) != tail.as_ref() {
            std::fs::hard_link(&file, &copy).unwrap();
        } else if std::fs::copy(&file, &copy).is_ok() {
            // A file that was renamed meanwhile was on its way to become a spare.
            std::fs::OpenOptions::new().write(true).open(&copy).unwrap().sync_all().unwrap();
        }
    }
}

/// Times the opens of copies of both, and of a first read of the last entry, which has the tail
/// looked at.
fn open_all(place: &Path, entries: u64) {
    let mut floor = Floor::new(place, 16 << 20);
    let mut floors = Times::default();
    let mut times = [const { [const { Vec::new() }; 2] }; 2];
    let mut memory = [const { Vec::new() }; 2];
    let again = place.join("again");
    for _ in 0..rounds(15) {
        let start = Instant::now();
        floor.append(&[1; 4096]);
        floors.add(&[start.elapsed()]);
        for (kind, times) in ["closed", "killed"].into_iter().zip(&mut times) {
            let _absent = std::fs::remove_dir_all(&again);
            copy(&place.join(kind), &again);
            let start = Instant::now();
            let (log, _) = Log::open(&again, &options()).unwrap();
            times[0].push(start.elapsed());
            assert_eq!(log.next(), entries);
            log.entry(entries - 1).unwrap();
            times[1].push(start.elapsed());
        }
    }
    for (kind, memory) in ["closed", "killed"].into_iter().zip(&mut memory) {
        let _absent = std::fs::remove_dir_all(&again);
        copy(&place.join(kind), &again);
        *memory = taken_by_open(&again);
    }
    std::fs::remove_dir_all(&again).unwrap();
    std::fs::remove_file(place.join("floor")).unwrap();
    let mebibytes = entries * 288 / (1 << 20);
    for ((kind, times), memory) in ["closed", "killed"].into_iter().zip(times).zip(memory) {
        for (what, taken) in ["", ", last entry read"].into_iter().zip(times) {
            let mut times = Times::default();
            for time in taken {
                times.add(&[time]);
            }
            report(&format!("{entries} entries, {mebibytes} MiB, {kind}{what}"), &times, &floors);
        }
        println!("    memory taken by it: {}", memory.join(", "));
    }
}

/// Opens the log in a process of its own, and answers how its memory grew by that.
fn taken_by_open(log: &Path) -> Vec<String> {
    let child = Command::new(std::env::current_exe().unwrap()).env(CHILD, log).output().unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
    String::from_utf8(child.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// The process that only opens a log; answers whether this is one.
pub(crate) fn child() -> bool {
    let Some(path) = std::env::var_os(CHILD) else { return false };
    let before = memory();
    let (log, _) = Log::open(path, &options()).unwrap();
    let opened = memory();
    log.entry(log.next() - 1).unwrap();
    let read = memory();
    for ((name, before), ((_, opened), (_, read))) in before.iter().zip(opened.iter().zip(&read)) {
        let (opened, read) = (opened.saturating_sub(*before), read.saturating_sub(*before));
        println!("{name} {opened} KiB, {read} KiB with the last entry read");
    }
    true
}

/// What of this process is resident: all of it, and what belongs to no file (heap and stacks).
fn memory() -> Vec<(&'static str, u64)> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
    };
    vec![("resident", field("VmRSS:")), ("heap and stacks", field("RssAnon:"))]
}
