//! Measuring: the floor, the strategies and the policies in turns, so that drift hits all alike.
//!
//! Owns: the time it takes, the directory it takes it in, that nothing is left of it. A ratio is formed
//! between the appends of one round, and the median of the rounds' ratios is what counts.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indelible::io::os::OsDirectory;
use indelible::{Batch, Error, Log, Result};

use super::contenders::{self, Contender, Role, io_at};
use crate::Failure;

/// Threads of the shared-sync figure.
const THREADS: usize = 16;
/// The share of the time that the threads get.
const THREADS_SHARE: u32 = 5;
/// What the log of the threads may hold before it lets go of it, in bytes.
const KEPT_BYTES: u64 = 32 * 1024 * 1024;
/// How soon an interruption is noticed while the threads run.
const GLANCE: Duration = Duration::from_millis(20);

/// The latencies of one contender.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) name: String,
    /// What to write in Rust to have it.
    pub(super) setting: String,
    pub(super) role: Role,
    /// By append, ascending, in nanoseconds.
    pub(super) latencies: Vec<u64>,
    /// The median of the rounds' ratios to the floor.
    pub(super) ratio: f64,
}

impl Measured {
    /// The latency below which this share of the appends stayed, in nanoseconds.
    pub(super) fn percentile(&self, share: f64) -> u64 {
        percentile(&self.latencies, share)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a place in a list"
)]
fn percentile(ascending: &[u64], share: f64) -> u64 {
    let at = (ascending.len().saturating_sub(1) as f64 * share) as usize;
    ascending.get(at).copied().unwrap_or(0)
}

/// What several threads reach.
#[derive(Debug)]
pub(super) struct Threads {
    pub(super) count: usize,
    pub(super) rate: f64,
    pub(super) gain: f64,
    pub(super) per_sync: f64,
}

/// Everything that was measured.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) bytes: usize,
    pub(super) rounds: usize,
    pub(super) copy_on_write: bool,
    /// The floor first, then the default.
    pub(super) measured: Vec<Measured>,
    pub(super) threads: Threads,
}

impl Report {
    /// Those that play one of some roles.
    pub(super) fn of<'a>(&'a self, roles: &'a [Role]) -> impl Iterator<Item = &'a Measured> {
        self.measured.iter().filter(|measured| roles.contains(&measured.role))
    }
}

/// What a measurement is told, and tells.
pub(super) struct Run<'a> {
    pub(super) bytes: usize,
    pub(super) time: Duration,
    /// Set when it is to stop.
    pub(super) stop: &'a AtomicBool,
    /// Hears how far it is, in percent.
    pub(super) progress: &'a mut dyn FnMut(u64),
}

/// Measures in a directory of its own inside `dir`, which it leaves as it was, whatever happens.
pub(super) fn measure(dir: &Path, mut run: Run<'_>) -> std::result::Result<Report, Failure> {
    let started = now();
    let existed = dir.exists();
    if existed && !dir.is_dir() {
        return Err(io_at("measure in", dir, ErrorKind::NotADirectory.into()).into());
    }
    std::fs::create_dir_all(dir).map_err(|source| io_at("create directory", dir, source))?;
    let place = tempfile::Builder::new()
        .prefix("indelible-bench-")
        .tempdir_in(dir)
        .map_err(|source| io_at("create a directory in", dir, source))?;
    let report = measure_in(place.path(), started, &mut run);
    drop(place);
    if !existed {
        // Ours, and empty again; if something else is in it by now, it stays.
        let _ignored = std::fs::remove_dir(dir);
    }
    // An error that came with an interruption is its consequence, not news.
    if run.stop.load(Ordering::Relaxed) { Err(Failure::Interrupted) } else { Ok(report?) }
}

fn measure_in(place: &Path, started: Instant, run: &mut Run<'_>) -> Result<Report> {
    (run.progress)(0);
    let door = OsDirectory::open(place).map_err(|source| io_at("open", place, source))?;
    let mut contenders = contenders::all(place, &door, run.bytes)?;
    let entry = vec![0xa5; run.bytes];
    let turns_end = run.time.saturating_sub(run.time / THREADS_SHARE);
    let mut samples = vec![Vec::new(); contenders.len()];
    let mut rounds = 0;
    while (rounds == 0 || started.elapsed() < turns_end) && !run.stop.load(Ordering::Relaxed) {
        round(&mut contenders, &mut samples, rounds, &entry)?;
        rounds += 1;
        (run.progress)(share(started.elapsed(), run.time));
    }
    let default = contenders.iter().find(|contender| contender.role == Role::Default);
    let threads = threads(default.and_then(Contender::log), &entry, run)?;
    (run.progress)(100);
    let floor = samples.first().cloned().unwrap_or_default();
    let measured = contenders.iter().zip(samples);
    Ok(Report {
        bytes: run.bytes,
        rounds,
        copy_on_write: door.copy_on_write(),
        measured: measured.map(|(contender, own)| conclude(contender, &own, &floor)).collect(),
        threads,
    })
}

/// Gives everybody a turn. A sample is what one contender took in one round, by append.
fn round(
    contenders: &mut [Contender],
    samples: &mut [Vec<Vec<u64>>],
    number: usize,
    entry: &[u8],
) -> Result<()> {
    let count = contenders.len();
    for turn in 0..count {
        // Another one begins each time, so that nobody always follows the same neighbour.
        let at = (turn + number) % count;
        let (Some(contender), Some(samples)) = (contenders.get_mut(at), samples.get_mut(at)) else {
            continue;
        };
        let mut taken = Vec::with_capacity(contender.operations());
        for _ in 0..contender.operations() {
            let start = now();
            contender.operate(entry)?;
            let took = start.elapsed().as_nanos() / contender.appends as u128;
            taken.push(u64::try_from(took).unwrap_or(u64::MAX));
        }
        taken.sort_unstable();
        samples.push(taken);
        contender.tidy()?;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
fn conclude(contender: &Contender, samples: &[Vec<u64>], floor: &[Vec<u64>]) -> Measured {
    let ratio = |(own, floor): (&Vec<u64>, &Vec<u64>)| {
        percentile(own, 0.5) as f64 / percentile(floor, 0.5).max(1) as f64
    };
    let mut ratios: Vec<f64> = samples.iter().zip(floor).map(ratio).collect();
    ratios.sort_by(f64::total_cmp);
    let mut latencies = samples.concat();
    latencies.sort_unstable();
    Measured {
        name: contender.name.clone(),
        setting: contender.setting.clone(),
        role: contender.role,
        latencies,
        ratio: ratios.get(ratios.len() / 2).copied().unwrap_or_default(),
    }
}

/// Durable appends a second from one thread and from many.
fn threads(log: Option<&Log>, entry: &[u8], run: &Run<'_>) -> Result<Threads> {
    let Some(log) = log.filter(|_| !run.stop.load(Ordering::Relaxed)) else {
        return Ok(Threads { count: 0, rate: 0.0, gain: 0.0, per_sync: 0.0 });
    };
    let time = run.time / THREADS_SHARE / 2;
    let (one, _) = rate(log, 1, entry, time, run.stop)?;
    let (many, per_sync) = rate(log, THREADS, entry, time, run.stop)?;
    Ok(Threads { count: THREADS, rate: many, gain: many / one.max(1e-9), per_sync })
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn rate(
    log: &Log,
    count: usize,
    entry: &[u8],
    time: Duration,
    stop: &AtomicBool,
) -> Result<(f64, f64)> {
    let (before, start, over) = (log.stats(), now(), AtomicBool::new(false));
    let outcomes: Vec<Result<()>> = std::thread::scope(|scope| {
        let append = || {
            while !over.load(Ordering::Relaxed) {
                log.append(entry)?;
            }
            Ok(())
        };
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(append)).collect();
        let mut outcomes = Vec::new();
        while start.elapsed() < time && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(GLANCE.min(time.saturating_sub(start.elapsed())));
            if (log.next() - log.first()).saturating_mul(entry.len() as u64) > KEPT_BYTES {
                outcomes.push(log.commit(Batch::new().trim(log.durable())).map(|_| ()));
            }
        }
        over.store(true, Ordering::Relaxed);
        let joined = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
        outcomes.extend(joined.map(|outcome| outcome.unwrap_or(Err(Error::Closed))));
        outcomes
    });
    outcomes.into_iter().collect::<Result<()>>()?;
    let after = log.stats();
    let appends = (after.appends - before.appends) as f64;
    let syncs = (after.syncs - before.syncs).max(1) as f64;
    Ok((appends / start.elapsed().as_secs_f64(), appends / syncs))
}

/// A flag that Ctrl-C and a request to terminate set, so that the files are removed before the end.
pub(super) fn interruption() -> std::io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // Asked a second time, the process ends at once.
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

#[expect(clippy::disallowed_methods, reason = "measuring is what this is for")]
fn now() -> Instant {
    Instant::now()
}

fn share(elapsed: Duration, time: Duration) -> u64 {
    let percent = elapsed.as_millis() * 100 / time.as_millis().max(1);
    u64::try_from(percent).unwrap_or(100).min(99)
}
