//! The targets that d-engine documents for a storage engine, measured on this storage and on
//! d-engine's own `FileStorageEngine` in the same run, on the same disk.
//!
//! `cargo bench` prints the table; `INDELIBLE_BENCH_DIR` chooses the disk. What is printed for
//! d-engine's own engine is not the same promise: its entries are durable after `flush` only (as
//! ours), but its purge, truncate, reset and hard state never are.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#![expect(clippy::unwrap_used, reason = "a benchmark may stop at a failure")]
#![expect(clippy::cast_precision_loss, reason = "the figures are printed with three digits")]

use std::hint::black_box;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use d_engine_core::{HardState, LogStore, MetaStore, StorageEngine};
use d_engine_proto::common::entry_payload::Payload;
use d_engine_proto::common::{Entry, EntryPayload, LogId};
use d_engine_server::FileStorageEngine;
use indelible_d_engine::{DEngineStorage, Options};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

const ENTRIES: u64 = 10_000;
const KEPT: u64 = 400_000;
const PAYLOAD_BYTES: usize = 256;
const BATCH: u64 = 100;
const ROUNDS: usize = 5;

/// What is measured, and what d-engine asks for; rates in entries per second, else durations.
enum Target {
    PerSecondMin(f64),
    Max(Duration),
    None,
}

struct Row {
    name: &'static str,
    target: Target,
    /// The median run.
    time: Duration,
    /// Entries in one run, where the figure is a rate.
    entries: Option<u64>,
}

impl Row {
    fn time(name: &'static str, target: Target, time: Duration) -> Self {
        Self { name, target, time, entries: None }
    }

    fn rate(name: &'static str, target: Target, time: Duration) -> Self {
        Self { name, target, time, entries: Some(ENTRIES) }
    }

    fn figure(&self) -> String {
        match self.entries {
            Some(entries) => format!("{:.0} k/s", self.per_second(entries) / 1000.0),
            None => format!("{:.3?}", self.time),
        }
    }

    fn per_second(&self, entries: u64) -> f64 {
        entries as f64 / self.time.as_secs_f64()
    }

    fn is_met(&self) -> bool {
        match self.target {
            Target::PerSecondMin(least) => self.per_second(self.entries.unwrap_or(1)) >= least,
            Target::Max(most) => self.time <= most,
            Target::None => true,
        }
    }
}

fn entries(range: RangeInclusive<u64>) -> Vec<Entry> {
    let bytes = Bytes::from(vec![0xA5; PAYLOAD_BYTES]);
    let payload = EntryPayload { payload: Some(Payload::Command(bytes)) };
    range.map(|index| Entry { index, term: 1, payload: Some(payload.clone()) }).collect()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    static RUNTIME: LazyLock<Runtime> =
        LazyLock::new(|| Builder::new_current_thread().build().unwrap());
    RUNTIME.block_on(future)
}

fn timed(run: impl FnOnce()) -> Duration {
    let start = Instant::now();
    run();
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Empties the log and stores entries `1..=count`, durably.
fn fill(log: &impl LogStore, count: u64) {
    block_on(log.reset()).unwrap();
    for start in (1..=count).step_by(10_000) {
        block_on(log.persist_entries(entries(start..=count.min(start + 9_999)))).unwrap();
    }
    log.flush().unwrap();
}

/// The median of some runs of `run`, each on a log of `count` entries.
fn on_filled<L: LogStore>(log: &L, count: u64, mut run: impl FnMut(&L)) -> Duration {
    let times = (0..ROUNDS).map(|_| {
        fill(log, count);
        timed(|| run(log))
    });
    median(times.collect())
}

fn appends<L: LogStore>(log: &L, flush: bool) -> Duration {
    let runs = (0..ROUNDS).map(|_| {
        block_on(log.reset()).unwrap();
        let batches: Vec<Vec<Entry>> = (1..=ENTRIES)
            .step_by(usize::try_from(BATCH).unwrap())
            .map(|start| entries(start..=start + BATCH - 1))
            .collect();
        block_on(async {
            let start = Instant::now();
            for batch in batches {
                log.persist_entries(batch).await.unwrap();
                if flush {
                    log.flush().unwrap();
                }
            }
            start.elapsed()
        })
    });
    median(runs.collect())
}

fn measure<E: StorageEngine>(open: impl Fn(&Path) -> E) -> Vec<Row> {
    let directory = match std::env::var_os("INDELIBLE_BENCH_DIR") {
        Some(path) => TempDir::new_in(path).unwrap(),
        None => TempDir::new().unwrap(),
    };
    let storage = open(directory.path());
    let (log, meta) = (storage.log_store(), storage.meta_store());
    let log = &*log;
    let hundred_ms = || Target::Max(Duration::from_millis(100));
    let mut rows = vec![
        Row::rate("persist, 100 a call", Target::PerSecondMin(100_000.0), appends(log, false)),
        Row::rate("persist + flush, 100 a call", Target::None, appends(log, true)),
    ];
    rows.extend(reads(log));

    let purge = |cutoff| {
        move |log: &E::LogStore| {
            block_on(log.purge(LogId { index: cutoff, term: 1 })).unwrap();
        }
    };
    let truncate = |from| move |log: &E::LogStore| block_on(log.truncate(from)).unwrap();
    let time = on_filled(log, 2 * ENTRIES, purge(ENTRIES));
    rows.push(Row::time("purge 10 k, 10 k kept", hundred_ms(), time));
    let time = on_filled(log, KEPT + ENTRIES, purge(ENTRIES));
    rows.push(Row::time("purge 10 k, 400 k kept", hundred_ms(), time));
    let time = on_filled(log, 2 * ENTRIES, truncate(ENTRIES + 1));
    rows.push(Row::time("truncate 10 k, 10 k kept", hundred_ms(), time));
    let time = on_filled(log, KEPT + ENTRIES, truncate(KEPT + 1));
    rows.push(Row::time("truncate 10 k, 400 k kept", hundred_ms(), time));
    let second = Target::Max(Duration::from_secs(1));
    let reset = |log: &E::LogStore| block_on(log.reset()).unwrap();
    rows.push(Row::time("reset of 400 k", second, on_filled(log, KEPT, reset)));

    let times = (1..=100).map(|current_term| {
        let state = HardState { current_term, voted_for: None };
        timed(|| meta.save_hard_state(&state).unwrap())
    });
    rows.push(Row::time("save_hard_state", Target::None, median(times.collect())));

    fill(log, KEPT);
    drop((meta, storage));
    rows
}

fn reads(log: &impl LogStore) -> Vec<Row> {
    fill(log, ENTRIES);
    let micros = |micros| Target::Max(Duration::from_micros(micros));
    let all = (0..50).map(|_| timed(|| drop(black_box(log.get_entries(1..=ENTRIES).unwrap()))));
    let all = median(all.collect());
    let each = block_on(async {
        let start = Instant::now();
        for at in 1..=ENTRIES {
            let index = at * 7919 % ENTRIES + 1;
            black_box(log.entry(index).await.unwrap().unwrap());
        }
        start.elapsed() / 10_000
    });
    let last = timed(|| {
        for _ in 0..1_000_000 {
            black_box(log.last_index());
        }
    }) / 1_000_000;
    vec![
        Row::time("get_entries of 10 k", micros(1000), all),
        Row::time("entry", micros(1000), each),
        Row::time("last_index", micros(100), last),
    ]
}

fn opened<E: StorageEngine>(open: impl Fn(&Path) -> E) -> Row {
    let directory = match std::env::var_os("INDELIBLE_BENCH_DIR") {
        Some(path) => TempDir::new_in(path).unwrap(),
        None => TempDir::new().unwrap(),
    };
    let storage = open(directory.path());
    fill(&*storage.log_store(), KEPT);
    drop(storage);
    let times = (0..ROUNDS).map(|_| timed(|| drop(open(directory.path()))));
    Row::time("open of 400 k", Target::None, median(times.collect()))
}

fn table<E: StorageEngine>(open: impl Fn(&Path) -> E) -> Vec<Row> {
    let mut rows = measure(&open);
    rows.push(opened(&open));
    rows
}

fn main() {
    let ours =
        table(|path| DEngineStorage::open_or_create(path.join("log"), &Options::new()).unwrap());
    let theirs = table(|path| FileStorageEngine::new(path.join("files")).unwrap());

    println!("{ENTRIES} entries of {PAYLOAD_BYTES} bytes, medians of {ROUNDS} runs\n");
    let cell = |row: &Row| format!("{}{}", row.figure(), if row.is_met() { "" } else { " MISSED" });
    println!("{:<28} {:>12} {:>18} {:>20}", "", "target", "indelible", "FileStorageEngine");
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let target = match ours.target {
            Target::PerSecondMin(least) => format!("> {:.0} k/s", least / 1000.0),
            Target::Max(most) => format!("< {most:?}"),
            Target::None => String::new(),
        };
        println!("{:<28} {target:>12} {:>18} {:>20}", ours.name, cell(ours), cell(theirs));
    }
}
