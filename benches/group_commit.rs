//! Durable appends of 256 bytes from 1, 4, 16 and 64 threads that share syncs, beside the floor.
//!
//! `cargo bench --bench group_commit`

#![allow(missing_docs, clippy::unwrap_used, clippy::allow_attributes_without_reason)]
#![allow(clippy::allow_attributes, clippy::disallowed_methods, clippy::print_stdout)]
#![allow(clippy::indexing_slicing)]
#![allow(clippy::cast_precision_loss)]

#[path = "support/mod.rs"]
mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use indelible::{Log, Options, WriteMode};
use support::{Floor, directory, is_test};

/// Entries per second that `threads` threads append durably to `log` in about `time`.
fn rate(log: &Log, threads: usize, time: Duration) -> f64 {
    let (stop, appended) = (AtomicBool::new(false), AtomicU64::new(0));
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
    appended.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn threads(_: &mut Criterion) {
    let place = directory();
    let (rounds, time) =
        if is_test() { (1, Duration::from_millis(20)) } else { (9, Duration::from_millis(300)) };
    let mut floor = Floor::new(place.path(), 16 << 20);
    let counts = [1, 4, 16, 64];
    for mode in [WriteMode::Mmap, WriteMode::Pwrite] {
        let options = Options::new().write_mode(mode);
        let log = Log::create(place.path().join(format!("{mode:?}")), &options).unwrap();
        let mut rates = vec![Vec::new(); counts.len()];
        let mut floors = Vec::new();
        let mut per_sync = vec![0.0; counts.len()];
        for _ in 0..rounds {
            let (start, mut appends) = (Instant::now(), 0_u32);
            while start.elapsed() < time {
                floor.append(&[1; 256]);
                appends += 1;
            }
            floors.push(f64::from(appends) / start.elapsed().as_secs_f64());
            for ((threads, rates), per_sync) in counts.iter().zip(&mut rates).zip(&mut per_sync) {
                let before = log.stats();
                rates.push(rate(&log, *threads, time));
                let after = log.stats();
                *per_sync =
                    (after.appends - before.appends) as f64 / (after.syncs - before.syncs) as f64;
            }
        }
        println!("\ngroup_commit, {mode:?}: durable appends of 256 B");
        let (floor, one) = (median(floors), median(rates[0].clone()));
        println!("  {:<12} {floor:>10.0} /s", "floor");
        for ((threads, rates), per_sync) in counts.iter().zip(rates).zip(per_sync) {
            let rate = median(rates);
            println!(
                "  {:<12} {rate:>10.0} /s {:>6.1} x floor {:>6.1} x one thread {per_sync:>6.1} a sync",
                format!("{threads} threads"),
                rate / floor,
                rate / one,
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
