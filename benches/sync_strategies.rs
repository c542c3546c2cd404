//! Every combination of write mode, sync method, preparation and durability, beside the floor.
//!
//! `cargo bench --bench sync_strategies`

#![allow(missing_docs, clippy::unwrap_used, clippy::allow_attributes_without_reason)]
#![allow(clippy::allow_attributes, clippy::indexing_slicing)]

#[path = "support/mod.rs"]
mod support;

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use indelible::{Batch, Durability, Log, Options, Preparation, SyncMethod, WriteMode};
use support::{Contender, Floor, directory, is_test, print_table, take_turns};

const SEGMENT_BYTES: u64 = 16 << 20;

fn matrix() -> Vec<(String, Options)> {
    let mut matrix = Vec::new();
    for mode in [WriteMode::Mmap, WriteMode::Pwrite] {
        for method in
            [SyncMethod::Fdatasync, SyncMethod::Fsync, SyncMethod::Msync, SyncMethod::Dsync]
        {
            for preparation in [Preparation::ZeroFill, Preparation::Fallocate, Preparation::Sparse]
            {
                if mode == WriteMode::Mmap && preparation == Preparation::Sparse {
                    // Refused: a store into a sparse map kills the process on a full disk.
                    continue;
                }
                let options = Options::new()
                    .segment_bytes(SEGMENT_BYTES)
                    .write_mode(mode)
                    .sync_method(method)
                    .preparation(preparation);
                matrix.push((format!("{mode:?} {method:?} {preparation:?}"), options));
            }
        }
    }
    matrix
}

/// A log that has been through a segment already and goes on in a recycled one.
fn recycled(path: &std::path::Path, options: &Options) -> Log {
    let log = Log::create(path, options).unwrap();
    for _ in 0..2 {
        let mut batch = Batch::new();
        batch.reset(log.next() + 1);
        log.commit(&batch).unwrap();
        log.maintain().unwrap();
    }
    assert!(log.stats().recycled > 0);
    log
}

/// Durable appends of one and of a hundred entries, every strategy in turns with the floor.
fn durable(_: &mut Criterion) {
    let rounds = if is_test() { 1 } else { 40 };
    for count in [1, 100] {
        let place = directory();
        let entry = [0xa5; 256];
        let bytes = vec![0xa5; 256 * count];
        let mut batch = Batch::new();
        for _ in 0..count {
            batch.append(&entry);
        }
        let mut floor = Floor::new(place.path(), SEGMENT_BYTES);
        let mut contenders =
            vec![Contender::new("floor: pwrite + fdatasync", || floor.append(&bytes))];
        let batch = &batch;
        for (number, (name, options)) in matrix().into_iter().enumerate() {
            let log = Log::create(place.path().join(number.to_string()), &options).unwrap();
            contenders.push(Contender::new(name, move || {
                log.commit(batch).unwrap();
            }));
        }
        for mode in [WriteMode::Mmap, WriteMode::Pwrite] {
            let options = Options::new().segment_bytes(SEGMENT_BYTES).write_mode(mode);
            let log = recycled(&place.path().join(format!("recycled {mode:?}")), &options);
            contenders.push(Contender::new(format!("{mode:?} Fdatasync recycled"), move || {
                log.commit(batch).unwrap();
            }));
        }
        let times = take_turns(&mut contenders, rounds, 4);
        let title = format!("sync_strategies/Always, {count} x 256 B");
        print_table(&title, &contenders, &times);
    }
}

/// The policies: what a commit costs under each, the sync of a barrier included every 16th time.
fn policies(_: &mut Criterion) {
    let place = directory();
    let entry = [0xa5; 256];
    let mut floor = Floor::new(place.path(), SEGMENT_BYTES);
    let mut contenders = vec![Contender::new("floor: pwrite + fdatasync", || floor.append(&entry))];
    let policies = [
        Durability::Always,
        Durability::Barrier,
        Durability::Interval(Duration::from_millis(10)),
        Durability::Os,
    ];
    for policy in policies {
        let options = Options::new().segment_bytes(SEGMENT_BYTES).durability(policy);
        let log = Log::create(place.path().join(format!("{policy:?}")), &options).unwrap();
        let mut turn = 0;
        let name = match policy {
            Durability::Barrier => "Barrier, one sync for 16 appends".to_owned(),
            other => format!("{other:?}"),
        };
        contenders.push(Contender::new(name, move || {
            log.append(&entry).unwrap();
            turn += 1;
            if policy == Durability::Barrier && turn % 16 == 0 {
                log.sync().unwrap();
            }
        }));
    }
    let rounds = if is_test() { 1 } else { 40 };
    let times = take_turns(&mut contenders, rounds, 16);
    print_table("sync_strategies/policies, 1 x 256 B", &contenders, &times);
}

criterion_group! {
    name = benches;
    config = Criterion::default();
    targets = durable, policies
}
criterion_main!(benches);
