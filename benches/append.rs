//! Appends, unsynced and synced, 64 B to 64 KiB, batches of 1, 10 and 100, beside the floor.
//!
//! `cargo bench --bench append`

#![allow(missing_docs, clippy::unwrap_used, clippy::allow_attributes_without_reason)]
#![allow(clippy::allow_attributes, clippy::cast_precision_loss, clippy::disallowed_methods)]
#![allow(clippy::print_stdout)]

#[path = "support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use indelible::{Batch, Durability, Log, Options, WriteMode};
use support::{Contender, Floor, directory, is_test, print_table, take_turns};

fn batch(entry: &[u8], count: usize) -> Batch<'_> {
    let mut batch = Batch::new();
    for _ in 0..count {
        batch.append(entry);
    }
    batch
}

/// Trims everything, untimed, so that the disk does not fill up.
fn trim(log: &Log) {
    let mut batch = Batch::new();
    batch.trim(log.next());
    log.commit(&batch).unwrap();
    log.maintain().unwrap();
}

/// Entries per second that are not synced, in bursts that end before the tail does.
fn unsynced(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append/unsynced");
    for (mode, name) in [(WriteMode::Mmap, "mmap"), (WriteMode::Pwrite, "pwrite")] {
        for (bytes, count) in [(64, 1), (256, 1), (4096, 1), (65536, 1), (256, 10), (256, 100)] {
            let place = directory();
            let options = Options::new()
                .durability(Durability::Os)
                .write_mode(mode)
                .preparation(indelible::Preparation::ZeroFill)
                .checkpoint_bytes(64 * 1024 * 1024);
            let log = Log::create(place.path().join("log"), &options).unwrap();
            let entry = vec![0xa5; bytes];
            let batch = batch(&entry, count);
            // What is written in one burst: the most of a segment, so no roll is in it.
            let burst = (48 * 1024 * 1024 / ((bytes + 40) * count)) as u64;
            group.throughput(Throughput::Elements(count as u64));
            let id = BenchmarkId::new(name, format!("{bytes}B x {count}"));
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|iterations| {
                    let mut left = iterations;
                    let mut took = Duration::ZERO;
                    while left > 0 {
                        let now = left.min(burst);
                        let start = Instant::now();
                        for _ in 0..now {
                            log.commit(&batch).unwrap();
                        }
                        took += start.elapsed();
                        left -= now;
                        // The burst leaves a segment behind; the next one starts in a fresh one.
                        let mut reset = Batch::new();
                        reset.reset(log.next() + 1);
                        log.commit(&reset).unwrap();
                        log.maintain().unwrap();
                    }
                    took
                });
            });
        }
    }
    group.finish();
}

/// Durable appends in turns with the floor.
fn synced(_: &mut Criterion) {
    let rounds = if is_test() { 1 } else { 60 };
    for bytes in [64, 256, 1024, 4096, 65536] {
        for count in [1, 10, 100] {
            if bytes * count > 1024 * 1024 {
                continue;
            }
            let place = directory();
            let log = |name: &str, mode| {
                let options = Options::new().write_mode(mode);
                Log::create(place.path().join(name), &options).unwrap()
            };
            let (mmap, pwrite) = (log("mmap", WriteMode::Mmap), log("pwrite", WriteMode::Pwrite));
            let entry = vec![0xa5; bytes];
            let same_bytes = vec![0xa5; bytes * count];
            let batch = batch(&entry, count);
            let mut floor = Floor::new(place.path(), 64 * 1024 * 1024);
            let mut contenders = [
                Contender::new("floor: pwrite + fdatasync", || floor.append(&same_bytes)),
                Contender::new("indelible, Mmap, fdatasync", || {
                    mmap.commit(&batch).unwrap();
                }),
                Contender::new("indelible, Pwrite, fdatasync", || {
                    pwrite.commit(&batch).unwrap();
                }),
            ];
            let times = take_turns(&mut contenders, rounds, 10);
            print_table(&format!("append/synced/{bytes}B x {count}"), &contenders, &times);
            drop(contenders);
            trim(&mmap);
            trim(&pwrite);
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(2)).sample_size(20);
    targets = unsynced, synced
}
criterion_main!(benches);
