//! What happens seldom: open after a close and after a kill, roll, trim, truncate, reset.
//!
//! `cargo bench -p indelible-benches --bench lifecycle`; with `INDELIBLE_BENCH_BIG=1` a log of 10
//! GiB is opened as well. It is built below `INDELIBLE_BENCH_DIR` unless it is there already, and
//! stays there.

#![allow(missing_docs, clippy::unwrap_used, clippy::allow_attributes_without_reason)]
#![allow(clippy::allow_attributes, clippy::disallowed_methods, clippy::print_stdout)]
#![allow(clippy::indexing_slicing, clippy::disallowed_types)]

#[path = "lifecycle/open.rs"]
mod open;
#[path = "support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group};
use indelible::{Batch, Log, Options};
use support::{Contender, Floor, Times, directory, print_table, rounds, settle, take_turns, time};

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

/// Prints the median of one thing, as a multiple of the floor of the same rounds.
fn report(name: &str, times: &Times, floor: &Times) {
    println!(
        "  {name:<52} p50 {:>9} max {:>9} {:>8.2} x floor",
        time(times.median()),
        time(times.percentile(1.0)),
        times.ratio(floor),
    );
}

/// Truncation, trim and reset of 10 000 entries, beside the floor.
fn drops(_: &mut Criterion) {
    for (name, segment_bytes) in [("64 MiB segments", 64 << 20), ("1 MiB segments", 1 << 20)] {
        let place = directory();
        let options = Options::new().segment_bytes(segment_bytes);
        let log = Log::create(place.path().join("log"), &options).unwrap();
        let mut floor = Floor::new(place.path(), 16 << 20);
        settle();
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
        for _ in 0..rounds(15) {
            let start = Instant::now();
            floor.append(&[1; 40]);
            times[0].add(&[start.elapsed()]);
            let mut took: [Duration; 3] = Default::default();
            took[0] = drop_entries(&mut |batch| {
                batch.truncate(log.next() - 10_000);
            });
            took[1] = drop_entries(&mut |batch| {
                batch.trim(log.first() + 10_000);
            });
            took[2] = drop_entries(&mut |batch| {
                batch.reset(log.next() + 1000);
            });
            for (times, took) in times[1..].iter_mut().zip(took) {
                times.add(&[took]);
            }
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
    settle();
    let entry = [2; 3600];
    let mut contenders = [
        Contender::new("floor: 3600 B, pwrite + fdatasync", || floor.append(&entry)),
        Contender::new("append 3600 B, segments of 64 KiB", || {
            log.append(&entry).unwrap();
        }),
    ];
    let times = take_turns(&mut contenders, rounds(40), 16);
    print_table("lifecycle/roll", &contenders, &times, 1);
    let stats = log.stats();
    println!("  {} rolls, {} of them waited for a segment", stats.rolls, stats.preparer_behind);
}

criterion_group! {
    name = benches;
    config = Criterion::default();
    targets = open::opens, open::scan, drops, roll
}

fn main() {
    // A process that only opens a log, for its memory.
    if open::child() {
        return;
    }
    benches();
}
