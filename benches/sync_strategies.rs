//! Every combination of write mode, sync method, preparation and durability, beside the floor.
//!
//! `cargo bench -p indelible-benches --bench sync_strategies`

#![allow(missing_docs, clippy::unwrap_used, clippy::allow_attributes_without_reason)]
#![allow(clippy::allow_attributes, clippy::print_stdout, clippy::panic)]

#[path = "support/mod.rs"]
mod support;

use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use indelible::{Batch, Durability, Error, Log, Options, Preparation, SyncMethod, WriteMode};
use support::{Contender, Floor, directory, is_test, print_table, rounds, settle, take_turns};

const MODES: [WriteMode; 4] =
    [WriteMode::Buffered, WriteMode::Mmap, WriteMode::Pwrite, WriteMode::Direct];
const METHODS: [SyncMethod; 4] =
    [SyncMethod::Fdatasync, SyncMethod::Fsync, SyncMethod::Msync, SyncMethod::Dsync];
const PREPARATIONS: [Preparation; 3] =
    [Preparation::ZeroFill, Preparation::Fallocate, Preparation::Sparse];
/// Appends between two syncs of a barrier.
const TURN: usize = 16;
/// Appends in one turn where none is synced.
const APPENDS: usize = 4096;

/// Small, because there are many logs; smaller still where nothing is measured.
fn segment_bytes() -> u64 {
    if is_test() { 1 << 20 } else { 16 << 20 }
}

/// The strategies under one durability, each with its log. What the engine refuses is left out, and
/// said why.
fn matrix(place: &Path, durability: Durability, methods: &[SyncMethod]) -> Vec<(String, Log)> {
    let mut logs = Vec::new();
    for mode in MODES {
        for preparation in PREPARATIONS {
            for &method in methods {
                let options = Options::new()
                    .segment_bytes(segment_bytes())
                    .durability(durability)
                    .write_mode(mode)
                    .sync_method(method)
                    .preparation(preparation);
                match Log::create(place.join(logs.len().to_string()), &options) {
                    Ok(log) if methods.len() == 1 => {
                        logs.push((format!("{mode:?}, {preparation:?}"), log));
                    }
                    Ok(log) => logs.push((format!("{mode:?}, {method:?}, {preparation:?}"), log)),
                    Err(Error::InvalidOption { reason, .. }) => {
                        println!("left out: {mode:?}, {method:?}, {preparation:?}: {reason}");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
    logs
}

/// Logs that have been through a segment already and go on in a recycled one, whose blocks need no
/// preparation whatever the options say.
fn recycled(place: &Path, durability: Durability) -> Vec<(String, Log)> {
    let recycle = |mode: WriteMode| {
        let options = Options::new().segment_bytes(segment_bytes()).durability(durability);
        let path = place.join(format!("recycled {mode:?}"));
        let log = Log::create(path, &options.write_mode(mode)).unwrap();
        for _ in 0..2 {
            let mut batch = Batch::new();
            batch.reset(log.next() + 1);
            log.commit(&batch).unwrap();
            log.sync().unwrap();
            log.maintain().unwrap();
        }
        assert!(log.stats().recycled > 0);
        (format!("{mode:?}, Fdatasync, recycled"), log)
    };
    MODES.into_iter().map(recycle).collect()
}

/// Durable appends of one and of a hundred entries, every strategy in turns with the floor.
fn always(_: &mut Criterion) {
    for count in [1, 100] {
        let place = directory();
        let entry = [0xa5; 256];
        let bytes = vec![0xa5; 256 * count];
        let mut batch = Batch::new();
        for _ in 0..count {
            batch.append(&entry);
        }
        let mut floor = Floor::new(place.path(), segment_bytes());
        let mut logs = matrix(place.path(), Durability::Always, &METHODS);
        logs.extend(recycled(place.path(), Durability::Always));
        settle();
        let mut contenders =
            vec![Contender::new("floor: pwrite + fdatasync", || floor.append(&bytes))];
        for (name, log) in &logs {
            contenders.push(Contender::new(name, || {
                log.commit(&batch).unwrap();
            }));
        }
        let times = take_turns(&mut contenders, rounds(60), 4);
        let title = format!("sync_strategies/Always, {count} x 256 B, by commit");
        print_table(&title, &contenders, &times, 1);
    }
}

/// Turns of a host that appends sixteen entries one by one and then syncs once. The floor writes the
/// same bytes at once.
fn barrier(_: &mut Criterion) {
    let place = directory();
    let entry = [0xa5; 256];
    let bytes = [0xa5; 256 * TURN];
    let mut floor = Floor::new(place.path(), segment_bytes());
    let mut logs = matrix(place.path(), Durability::Barrier, &METHODS);
    logs.extend(recycled(place.path(), Durability::Barrier));
    settle();
    let mut contenders = vec![Contender::new("floor: pwrite + fdatasync", || floor.append(&bytes))];
    for (name, log) in &logs {
        contenders.push(Contender::new(name, || {
            for _ in 0..TURN {
                log.append(&entry).unwrap();
            }
            log.sync().unwrap();
        }));
    }
    let times = take_turns(&mut contenders, rounds(60), 4);
    let title = format!("sync_strategies/Barrier, {TURN} appends of 256 B and a sync");
    print_table(&title, &contenders, &times, 1);
}

/// What an append costs where no commit waits for a sync; the method of the sync is no part of it.
/// `Barrier` is here without its syncs, to be compared.
fn unsynced(_: &mut Criterion) {
    let policies =
        [Durability::Barrier, Durability::Interval(Duration::from_millis(10)), Durability::Os];
    for policy in policies {
        let place = directory();
        let entry = [0xa5; 256];
        let mut floor = Floor::new(place.path(), segment_bytes());
        let logs = matrix(place.path(), policy, &[SyncMethod::Fdatasync]);
        settle();
        let floor_turn = || (0..APPENDS).for_each(|_| floor.write(&entry));
        let mut contenders =
            vec![Contender::new("pwrite: 256 B, no sync", floor_turn).units(APPENDS)];
        for (name, log) in &logs {
            let appends = || {
                for _ in 0..APPENDS {
                    log.append(&entry).unwrap();
                }
            };
            // Untimed, so that the next turn of anybody finds nothing to be written back.
            let rest = || log.sync().unwrap();
            contenders.push(Contender::new(name, appends).units(APPENDS).rest(rest));
        }
        let times = take_turns(&mut contenders, rounds(10), 1);
        let title = format!("sync_strategies/{policy:?}, 256 B, by append, not synced");
        print_table(&title, &contenders, &times, 1);
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default();
    targets = always, barrier, unsynced
}
criterion_main!(benches);
