//! Reads of what is cached: one entry, 10 000 entries borrowed and owned, and the bounds.
//!
//! `cargo bench --bench read`

#![allow(missing_docs, clippy::unwrap_used, clippy::allow_attributes_without_reason)]
#![allow(clippy::allow_attributes)]

#[path = "support/mod.rs"]
mod support;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use indelible::{Batch, Durability, Log, Options};
use support::directory;

const ENTRIES: u64 = 100_000;
const RANGE: u64 = 10_000;

/// A log whose entries lie in sealed segments and in the tail, reopened so that nothing is known
/// of it but what is on disk.
fn reopened(path: &std::path::Path, segment_bytes: u64) -> Log {
    let options = Options::new().segment_bytes(segment_bytes).durability(Durability::Os);
    let log = Log::create(path, &options).unwrap();
    let entry = [0xa5; 256];
    for _ in 0..ENTRIES / 1000 {
        let mut batch = Batch::new();
        for _ in 0..1000 {
            batch.append(&entry);
        }
        log.commit(&batch).unwrap();
    }
    log.close().unwrap();
    Log::open(path, &options).unwrap().0
}

fn reads(criterion: &mut Criterion) {
    for (name, segment_bytes) in [("tail", 64 << 20), ("sealed", 4 << 20)] {
        let place = directory();
        let log = reopened(&place.path().join("log"), segment_bytes);
        let mut group = criterion.benchmark_group(format!("read/{name}"));
        let mut index = 0;
        group.bench_function("one entry, owned", |bencher| {
            bencher.iter(|| {
                index = (index + 7919) % ENTRIES;
                black_box(log.entry(index).unwrap())
            });
        });
        group.throughput(Throughput::Elements(RANGE));
        group.bench_function("10000 entries, borrowed", |bencher| {
            bencher.iter(|| {
                let entries = log.read(1000..1000 + RANGE).unwrap();
                entries.iter().map(|entry| black_box(entry).len()).sum::<usize>()
            });
        });
        group.bench_function("10000 entries, owned", |bencher| {
            bencher.iter(|| black_box(log.read_to_vec(1000..1000 + RANGE).unwrap()).len());
        });
        group.finish();
    }
    let log = Log::in_memory(&Options::new()).unwrap();
    log.append(b"one").unwrap();
    criterion.bench_function("read/bounds", |bencher| {
        bencher.iter(|| (black_box(&log).first(), black_box(&log).next()));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(2)).sample_size(20);
    targets = reads
}
criterion_main!(benches);
