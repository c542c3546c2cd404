//! What happens seldom: open after a close and after a kill, roll, trim, truncate, reset.
//!
//! `cargo bench --bench lifecycle`; with `INDELIBLE_BENCH_BIG=1` a log of 10 GiB is built once and
//! opened as well.

#![allow(missing_docs, clippy::unwrap_used, clippy::allow_attributes_without_reason)]
#![allow(
    clippy::allow_attributes,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout
)]
#![allow(clippy::indexing_slicing)]

#[path = "support/mod.rs"]
mod support;

use std::path::Path;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use indelible::{Batch, Durability, Log, Options};
use support::{Contender, Floor, Times, directory, is_test, print_table, take_turns};

/// Appends entries of 256 bytes in batches of 1000.
fn fill(log: &Log, entries: u64) {
    let entry = [0xa5; 256];
    let mut batch = Batch::new();
    for _ in 0..1000 {
        batch.append(&entry);
    }
    for _ in 0..entries / 1000 {
        log.submit(&batch).unwrap();
    }
    log.sync().unwrap();
}

/// Copies the files of a log and puts the copies on the medium, so that an open has nothing of ours
/// to write back. Of a log that is open, the copy is what a kill would leave.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let copy = to.join(file.file_name());
        // A file that was renamed meanwhile was on its way to become a spare.
        if std::fs::copy(file.path(), &copy).is_ok() {
            std::fs::File::open(&copy).unwrap().sync_all().unwrap();
        }
    }
}

fn report(name: &str, times: &Times, floor: &Times) {
    let ratio = times.median().as_secs_f64() / floor.median().as_secs_f64();
    println!("  {name:<44} p50 {:>10.2?}  {ratio:>8.1} x floor", times.median());
}

/// Opens of logs of several sizes, closed and killed.
fn open(_: &mut Criterion) {
    println!("\nlifecycle/open (floor: one synced append of 4096 B)");
    let rounds = if is_test() { 1 } else { 15 };
    let big = std::env::var_os("INDELIBLE_BENCH_BIG").is_some();
    let sizes: &[u64] = if is_test() {
        &[10_000]
    } else if big {
        &[10_000, 200_000, 2_000_000, 36_000_000]
    } else {
        &[10_000, 200_000, 2_000_000]
    };
    for &entries in sizes {
        let place = directory();
        let mut floor = Floor::new(place.path(), 16 << 20);
        let options = Options::new().durability(Durability::Barrier);
        let log = Log::create(place.path().join("log"), &options).unwrap();
        fill(&log, entries);
        let killed = place.path().join("killed");
        if entries < 10_000_000 {
            copy(log.path(), &killed);
        }
        log.close().unwrap();
        let (mut floors, mut clean, mut after_kill) =
            (Times::default(), Times::default(), Times::default());
        for _ in 0..rounds {
            let start = Instant::now();
            floor.append(&[1; 4096]);
            floors.0.push(start.elapsed());
            let start = Instant::now();
            let (log, _) = Log::open(place.path().join("log"), &options).unwrap();
            clean.0.push(start.elapsed());
            assert_eq!(log.next(), entries);
            log.close().unwrap();
            if entries < 10_000_000 {
                let again = place.path().join("again");
                copy(&killed, &again);
                let start = Instant::now();
                let (log, _) = Log::open(&again, &options).unwrap();
                after_kill.0.push(start.elapsed());
                assert_eq!(log.next(), entries);
                drop(log);
                std::fs::remove_dir_all(&again).unwrap();
            }
        }
        let size = entries * 288 / (1 << 20);
        report(&format!("{entries} entries ({size} MiB), closed"), &clean, &floors);
        if !after_kill.0.is_empty() {
            report(&format!("{entries} entries ({size} MiB), killed"), &after_kill, &floors);
        }
    }
}

/// Truncation, trim and reset of 10 000 entries, and appends that roll, beside the floor.
fn drops(_: &mut Criterion) {
    let rounds = if is_test() { 1 } else { 15 };
    for (name, segment_bytes) in [("64 MiB segments", 64 << 20), ("1 MiB segments", 1 << 20)] {
        let place = directory();
        let log =
            Log::create(place.path().join("log"), &Options::new().segment_bytes(segment_bytes))
                .unwrap();
        let mut floor = Floor::new(place.path(), 16 << 20);
        let drop_entries = |operation: &mut dyn FnMut(&mut Batch<'_>)| {
            fill(&log, 10_000);
            log.maintain().unwrap();
            let mut batch = Batch::new();
            operation(&mut batch);
            let start = Instant::now();
            log.commit(&batch).unwrap();
            start.elapsed()
        };
        let mut times = vec![Times::default(); 4];
        for _ in 0..rounds {
            let start = Instant::now();
            floor.append(&[1; 40]);
            times[0].0.push(start.elapsed());
            times[1].0.push(drop_entries(&mut |batch| {
                batch.truncate(log.next() - 10_000);
            }));
            times[2].0.push(drop_entries(&mut |batch| {
                batch.trim(log.first() + 10_000);
            }));
            times[3].0.push(drop_entries(&mut |batch| {
                batch.reset(log.next() + 1000);
            }));
        }
        println!("\nlifecycle/drops, {name} (floor: one synced append of 40 B)");
        for (name, at) in [("truncate 10000", 1), ("trim 10000", 2), ("reset", 3)] {
            report(name, &times[at], &times[0]);
        }
    }
}

/// Synced appends of which every sixteenth rolls, beside the floor.
fn roll(_: &mut Criterion) {
    let place = directory();
    let options = Options::new().segment_bytes(64 * 1024).spares(8);
    let log = Log::create(place.path().join("log"), &options).unwrap();
    let mut floor = Floor::new(place.path(), 16 << 20);
    let entry = [2; 3600];
    let mut contenders = [
        Contender::new("floor: 3600 B, pwrite + fdatasync", || floor.append(&entry)),
        Contender::new("append 3600 B, segments of 64 KiB", || {
            log.append(&entry).unwrap();
        }),
    ];
    let times = take_turns(&mut contenders, if is_test() { 1 } else { 40 }, 16);
    print_table("lifecycle/roll", &contenders, &times);
    let stats = log.stats();
    println!("  {} rolls, {} of them waited for a segment", stats.rolls, stats.preparer_behind);
}

criterion_group! {
    name = benches;
    config = Criterion::default();
    targets = open, drops, roll
}
criterion_main!(benches);
