//! How long `Log::submit` holds up an executor's thread, and what it ever waits for there: tasks of
//! tokio that submit 256 bytes and await the ticket, through many rolls.
//!
//! `cargo bench -p indelible-benches --bench async_submit`

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod support;

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use indelible::{Batch, Log, Options};

type Failed = Box<dyn std::error::Error + Send + Sync>;

const ENTRY: [u8; 256] = [7; 256];
const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;

/// Submits and awaits so many entries, one after the other. Returns how long each submission took.
async fn submit(log: Log, entries: usize) -> indelible::Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(entries);
    for _ in 0..entries {
        let mut batch = Batch::new();
        batch.append(ENTRY.as_slice());
        let start = Instant::now();
        let ticket = log.submit(&batch)?;
        times.push(start.elapsed());
        ticket.await?;
    }
    Ok(times)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failed> {
    let entries = if support::is_test() { 16 } else { 2000 };
    println!(
        "{:>6}{:>10}{:>10}{:>10}{:>10}{:>10}{:>8}{:>18}",
        "tasks", "entries", "p50", "p99", "p99.9", "max", "rolls", "space in line"
    );
    for tasks in [1, 16, 128] {
        let directory = support::directory();
        let options = Options::new().segment_bytes(SEGMENT_BYTES);
        let log = Log::create(directory.path().join("log"), &options)?;
        let all = (0..tasks).map(|_| tokio::spawn(submit(log.clone(), entries)));
        let mut times = Vec::new();
        for taken in try_join_all(all).await? {
            times.extend(taken?);
        }
        times.sort_unstable();
        let at = |per_mille: usize| {
            let at = (times.len() * per_mille / 1000).min(times.len() - 1);
            format!("{:.1?}", times.get(at).copied().unwrap_or_default())
        };
        let stats = log.stats();
        println!(
            "{tasks:>6}{:>10}{:>10}{:>10}{:>10}{:>10}{:>8}{:>18}",
            times.len(),
            at(500),
            at(990),
            at(999),
            at(1000),
            stats.rolls,
            stats.preparer_behind
        );
    }
    Ok(())
}
