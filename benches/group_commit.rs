//! Durable appends of 256 bytes from 1, 4, 16 and 64 threads that share syncs, beside the floor.
//!
//! `cargo bench -p indelible-benches --bench group_commit`

#![allow(missing_docs, clippy::unwrap_used, clippy::allow_attributes_without_reason)]
#![allow(clippy::allow_attributes, clippy::disallowed_methods, clippy::print_stdout)]
#![allow(clippy::cast_precision_loss)]

#[path = "support/mod.rs"]
mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use indelible::{Log, Options};
use support::{Floor, directory, in_every_mode, is_test, median, rate, rounds, settle};

const THREADS: [usize; 4] = [1, 4, 16, 64];

/// Entries that `threads` threads append durably to `log`, by second and by sync, in about `time`.
fn together(log: &Log, threads: usize, time: Duration) -> (f64, f64) {
    let (stop, appended) = (AtomicBool::new(false), AtomicU64::new(0));
    let before = log.stats();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let entry = [0xa5; 256];
                while !stop.load(Ordering::Relaxed) {
                    log.append(&entry).unwrap();
                    appended.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
    });
    let took = start.elapsed().as_secs_f64();
    let after = log.stats();
    let appended = appended.load(Ordering::Relaxed) as f64;
    (appended / took, appended / (after.syncs - before.syncs).max(1) as f64)
}

/// What one thread writes a second without any log.
fn alone(floor: &mut Floor, time: Duration) -> f64 {
    let (start, mut appends) = (Instant::now(), 0_u32);
    while start.elapsed() < time {
        floor.append(&[0xa5; 256]);
        appends += 1;
    }
    f64::from(appends) / start.elapsed().as_secs_f64()
}

/// What the rounds gave for one mode and number of threads.
#[derive(Default)]
struct Row {
    rates: Vec<f64>,
    of_floor: Vec<f64>,
    of_one: Vec<f64>,
    per_sync: Vec<f64>,
}

/// Modes and numbers of threads in turns, each round with a floor of its own.
fn threads(_: &mut Criterion) {
    let place = directory();
    let time = Duration::from_millis(if is_test() { 20 } else { 300 });
    let mut floor = Floor::new(place.path(), 16 << 20);
    let logs = in_every_mode(place.path(), &Options::new());
    settle();
    let mut rows: Vec<Row> = (0..logs.len() * THREADS.len()).map(|_| Row::default()).collect();
    let mut floors = Vec::new();
    for _ in 0..rounds(9) {
        for ((_, log), rows) in logs.iter().zip(rows.chunks_mut(THREADS.len())) {
            let floor = alone(&mut floor, time / 2);
            floors.push(floor);
            let mut one = None;
            for (threads, row) in THREADS.into_iter().zip(rows) {
                let (rate, per_sync) = together(log, threads, time);
                row.rates.push(rate);
                row.of_floor.push(rate / floor);
                row.of_one.push(rate / *one.get_or_insert(rate));
                row.per_sync.push(per_sync);
            }
        }
    }
    println!("\ngroup_commit: durable appends of 256 B (floor: {} /s)", rate(median(floors)));
    for ((mode, _), rows) in logs.iter().zip(rows.chunks(THREADS.len())) {
        for (threads, row) in THREADS.iter().zip(rows) {
            println!(
                "  {:<22} {:>9} /s {:>7.2} x floor {:>7.2} x one thread {:>7.2} a sync",
                format!("{mode:?}, {threads} threads"),
                rate(median(row.rates.clone())),
                median(row.of_floor.clone()),
                median(row.of_one.clone()),
                median(row.per_sync.clone()),
            );
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default();
    targets = threads
}
criterion_main!(benches);
