//! Appends, unsynced and synced, 64 B to 64 KiB, batches of 1, 10 and 100, beside the floor.
//!
//! `cargo bench -p indelible-benches --bench append`

#![allow(missing_docs, clippy::unwrap_used, clippy::allow_attributes_without_reason)]
#![allow(clippy::allow_attributes, clippy::indexing_slicing)]

#[path = "support/mod.rs"]
mod support;

use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use indelible::{Durability, Log, Options, WriteMode};
use support::{
    Contender, Floor, batch, directory, in_every_mode, is_test, print_table, rounds, settle,
    start_over, take_turns,
};

/// Payload bytes of one unsynced burst: several times what is gathered in memory, and far less than
/// a segment, so that no roll is in it.
const BURST_BYTES: usize = 8 * 1024 * 1024;

/// The size of a segment by default; a small one where nothing is measured.
fn segment_bytes() -> u64 {
    if is_test() { 1 << 20 } else { 64 << 20 }
}

/// The policies under which a commit waits for no sync, with their write modes; what is written may
/// be lost with the process under the first, and survives it under the others.
fn unsynced_logs(place: &Path) -> Vec<(&'static str, Log)> {
    let log = |number: usize, options: Options| {
        let options = options.segment_bytes(segment_bytes());
        Log::create(place.join(number.to_string()), &options).unwrap()
    };
    let (barrier, os) = (Options::new().durability(Durability::Barrier), Options::new());
    let os = os.durability(Durability::Os);
    vec![
        ("Barrier (Buffered)", log(0, barrier.clone())),
        ("Barrier, Mmap", log(1, barrier.write_mode(WriteMode::Mmap))),
        ("Os (Mmap)", log(2, os.clone())),
        ("Os, Pwrite", log(3, os.write_mode(WriteMode::Pwrite))),
        ("in memory", Log::in_memory(&Options::new()).unwrap()),
    ]
}

/// What an entry costs that is not synced, in bursts that end before the tail does. Between bursts,
/// and not timed, everything is synced and dropped; the next burst starts in a fresh segment.
fn unsynced(_: &mut Criterion) {
    let place = directory();
    let logs = unsynced_logs(place.path());
    let mut floor = Floor::new(place.path(), segment_bytes());
    settle();
    for (bytes, count) in [(64, 1), (256, 1), (4096, 1), (65536, 1), (256, 10), (256, 100)] {
        let (entry, same_bytes) = (vec![0xa5; bytes], vec![0xa5; bytes * count]);
        let batch = batch(&entry, count);
        let commits = if is_test() { 2 } else { BURST_BYTES / same_bytes.len() };
        let mut memory = vec![1; 64 * 1024 * 1024];
        let mut at = 0;
        let mut contenders = vec![
            Contender::new("pwrite: the same bytes, no sync", || {
                (0..commits).for_each(|_| floor.write(&same_bytes));
            })
            .units(commits * count),
            Contender::new("memcpy: the same bytes, no file", || {
                for _ in 0..commits {
                    if at + same_bytes.len() > memory.len() {
                        at = 0;
                    }
                    memory[at..at + same_bytes.len()].copy_from_slice(&same_bytes);
                    at += same_bytes.len();
                }
                std::hint::black_box(&memory);
            })
            .units(commits * count),
        ];
        for (name, log) in &logs {
            let burst = || {
                for _ in 0..commits {
                    log.commit(&batch).unwrap();
                }
            };
            let contender = Contender::new(*name, burst).units(commits * count);
            contenders.push(contender.rest(|| start_over(log)));
        }
        let times = take_turns(&mut contenders, rounds(30), 1);
        let title = format!("append/unsynced/{bytes} B x {count}, by entry");
        print_table(&title, &contenders, &times, 2);
    }
}

/// Durable appends in turns with the floor.
fn synced(_: &mut Criterion) {
    let place = directory();
    let logs = in_every_mode(place.path(), &Options::new().segment_bytes(segment_bytes()));
    let mut floor = Floor::new(place.path(), segment_bytes());
    settle();
    for bytes in [64, 256, 1024, 4096, 65536] {
        for count in [1, 10, 100] {
            if bytes * count > 1024 * 1024 {
                continue;
            }
            let (entry, same_bytes) = (vec![0xa5; bytes], vec![0xa5; bytes * count]);
            let batch = batch(&entry, count);
            let mut contenders =
                vec![Contender::new("floor: pwrite + fdatasync", || floor.append(&same_bytes))];
            for (mode, log) in &logs {
                let durable = if *mode == WriteMode::Direct { "dsync" } else { "fdatasync" };
                contenders.push(Contender::new(format!("{mode:?}, {durable}"), || {
                    log.commit(&batch).unwrap();
                }));
            }
            let times = take_turns(&mut contenders, rounds(60), 10);
            let title = format!("append/synced/{bytes} B x {count}, by commit");
            print_table(&title, &contenders, &times, 1);
            for (_, log) in &logs {
                start_over(log);
            }
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default();
    targets = unsynced, synced
}
criterion_main!(benches);
