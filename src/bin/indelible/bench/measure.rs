//! Measuring: the floor and every strategy, in turns, so that drift hits all alike.
//!
//! The floor is the least a durable append can cost: `pwrite` onto space that was zero-filled in
//! small writes before, then `fdatasync`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indelible::io::os::OsDirectory;
use indelible::io::{Directory, File};
use indelible::{Error, Log, Options, Preparation, Result, SyncMethod, WriteMode};

/// Size of the floor's file and of every log's segments, in bytes.
const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
/// Bytes of one zero-filling write.
const FILL_BYTES: usize = 4 * 1024;
/// Appends that one contender makes in a row.
const APPENDS_PER_TURN: usize = 4;
/// Threads of the shared-sync figure.
const THREADS: usize = 16;
/// The share of the time that the threads get.
const THREADS_SHARE: u32 = 5;

/// The latencies of one contender.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) name: String,
    /// Ascending, in nanoseconds.
    pub(super) latencies: Vec<u64>,
}

impl Measured {
    /// The latency below which this share of the appends stayed, in nanoseconds.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a place in a list"
    )]
    pub(super) fn percentile(&self, share: f64) -> u64 {
        let at = (self.latencies.len().saturating_sub(1) as f64 * share) as usize;
        self.latencies.get(at).copied().unwrap_or(0)
    }
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
    pub(super) floor: Measured,
    /// The default first.
    pub(super) strategies: Vec<Measured>,
    pub(super) threads: Threads,
}

impl Report {
    pub(super) fn all(&self) -> impl Iterator<Item = &Measured> {
        std::iter::once(&self.floor).chain(&self.strategies)
    }

    /// Median as a multiple of the floor's.
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    pub(super) fn ratio(&self, measured: &Measured) -> f64 {
        measured.percentile(0.5) as f64 / (self.floor.percentile(0.5).max(1)) as f64
    }
}

/// One that appends durably.
enum Contender {
    Floor { file: Arc<dyn File>, at: u64 },
    Log(Log),
}

impl Contender {
    fn append(&mut self, entry: &[u8]) -> Result<()> {
        match self {
            Self::Floor { file, at } => {
                let failed = |source| io_error("write", source);
                let end = *at + entry.len() as u64;
                file.write_at(*at, entry).map_err(failed)?;
                file.sync(*at..end, SyncMethod::Fdatasync).map_err(failed)?;
                *at = if end + entry.len() as u64 > SEGMENT_BYTES { 0 } else { end };
                Ok(())
            }
            Self::Log(log) => log.append(entry).map(|_| ()),
        }
    }

    /// Lets go of what was written, untimed, so that the disk does not fill up.
    fn tidy(&self) -> Result<()> {
        if let Self::Log(log) = self {
            log.commit(indelible::Batch::new().trim(log.next()))?;
        }
        Ok(())
    }
}

/// The strategies, the default first.
fn strategies() -> Vec<(String, Options)> {
    let base = || Options::new().segment_bytes(SEGMENT_BYTES);
    let mut strategies = Vec::new();
    let methods = [
        (SyncMethod::Fdatasync, "fdatasync"),
        (SyncMethod::Msync, "msync"),
        (SyncMethod::Dsync, "O_DSYNC"),
        (SyncMethod::Fsync, "fsync"),
    ];
    for mode in [WriteMode::Mmap, WriteMode::Pwrite] {
        for (method, name) in methods {
            let options = base().write_mode(mode).sync_method(method);
            strategies.push((format!("{mode:?}, {name}"), options));
        }
    }
    let fallocated = base().preparation(Preparation::Fallocate);
    strategies.push(("Mmap, fdatasync, fallocate only".to_owned(), fallocated));
    strategies
}

/// Measures for about `time` in a directory of its own inside `dir`.
pub(super) fn measure(
    dir: &Path,
    bytes: usize,
    time: Duration,
    progress: &mut dyn FnMut(u64),
) -> Result<Report> {
    let started = now();
    let existed = dir.exists();
    std::fs::create_dir_all(dir).map_err(|source| io_at("create directory", dir, source))?;
    let place = tempfile::Builder::new()
        .prefix("indelible-bench-")
        .tempdir_in(dir)
        .map_err(|source| io_at("create a directory in", dir, source))?;
    let report = measure_in(place.path(), bytes, time, started, progress);
    drop(place);
    if !existed {
        // Ours, and empty again; if something else is in it by now, it stays.
        let _ignored = std::fs::remove_dir(dir);
    }
    report
}

fn measure_in(
    place: &Path,
    bytes: usize,
    time: Duration,
    started: Instant,
    progress: &mut dyn FnMut(u64),
) -> Result<Report> {
    let door = OsDirectory::open(place).map_err(|source| io_at("open", place, source))?;
    let copy_on_write = door.copy_on_write();
    let mut names = vec!["floor: pwrite + fdatasync".to_owned()];
    let mut contenders = vec![floor(&door)?];
    for (number, (name, options)) in strategies().into_iter().enumerate() {
        contenders.push(Contender::Log(Log::create(place.join(number.to_string()), &options)?));
        names.push(name);
    }
    let entry = vec![0xa5; bytes];
    let mut latencies = vec![Vec::new(); contenders.len()];
    let turns_end = time.saturating_sub(time / THREADS_SHARE);
    let mut rounds = 0;
    while rounds == 0 || started.elapsed() < turns_end {
        for turn in 0..contenders.len() {
            // Another one begins each time, so that nobody always follows the same neighbour.
            let at = (turn + rounds) % contenders.len();
            let (Some(contender), Some(latencies)) =
                (contenders.get_mut(at), latencies.get_mut(at))
            else {
                continue;
            };
            for _ in 0..APPENDS_PER_TURN {
                let start = now();
                contender.append(&entry)?;
                latencies.push(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
            }
        }
        rounds += 1;
        if rounds % 512 == 0 {
            contenders.iter().try_for_each(Contender::tidy)?;
        }
        progress(share(started.elapsed(), time));
    }
    let threads = threads(contenders.get(1), &entry, time / THREADS_SHARE / 2)?;
    progress(100);
    let mut measured = names.into_iter().zip(latencies).map(|(name, mut latencies)| {
        latencies.sort_unstable();
        Measured { name, latencies }
    });
    let none = || Measured { name: String::new(), latencies: Vec::new() };
    let floor = measured.next().unwrap_or_else(none);
    let strategies = measured.collect();
    let rounds = rounds * APPENDS_PER_TURN;
    Ok(Report { bytes, rounds, copy_on_write, floor, strategies, threads })
}

fn floor(door: &OsDirectory) -> Result<Contender> {
    let failed = |source| io_error("prepare", source);
    let (_name, file) = door.create(SEGMENT_BYTES, true).map_err(failed)?;
    let zeros = vec![0; FILL_BYTES];
    for at in (0..SEGMENT_BYTES).step_by(FILL_BYTES) {
        file.write_at(at, &zeros).map_err(failed)?;
    }
    file.sync(0..SEGMENT_BYTES, SyncMethod::Fsync).map_err(failed)?;
    Ok(Contender::Floor { file, at: 0 })
}

/// Durable appends a second from one thread and from many, `time` each.
fn threads(contender: Option<&Contender>, entry: &[u8], time: Duration) -> Result<Threads> {
    let Some(Contender::Log(log)) = contender else {
        return Ok(Threads { count: 0, rate: 0.0, gain: 0.0, per_sync: 0.0 });
    };
    let (one, _) = rate(log, 1, entry, time)?;
    let (many, per_sync) = rate(log, THREADS, entry, time)?;
    Ok(Threads { count: THREADS, rate: many, gain: many / one, per_sync })
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn rate(log: &Log, count: usize, entry: &[u8], time: Duration) -> Result<(f64, f64)> {
    let (before, start, stop) = (log.stats(), now(), AtomicBool::new(false));
    let outcomes: Vec<Result<()>> = std::thread::scope(|scope| {
        let append = || {
            while !stop.load(Ordering::Relaxed) {
                log.append(entry)?;
            }
            Ok(())
        };
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(append)).collect();
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join().unwrap_or(Err(Error::Closed))).collect()
    });
    outcomes.into_iter().collect::<Result<()>>()?;
    let after = log.stats();
    let appends = (after.appends - before.appends) as f64;
    let syncs = (after.syncs - before.syncs).max(1) as f64;
    Ok((appends / start.elapsed().as_secs_f64(), appends / syncs))
}

#[expect(clippy::disallowed_methods, reason = "measuring is what this is for")]
fn now() -> Instant {
    Instant::now()
}

fn share(elapsed: Duration, time: Duration) -> u64 {
    let percent = elapsed.as_millis() * 100 / time.as_millis().max(1);
    u64::try_from(percent).unwrap_or(100).min(99)
}

fn io_error(op: &'static str, source: std::io::Error) -> Error {
    io_at(op, Path::new("the floor's file"), source)
}

fn io_at(op: &'static str, path: &Path, source: std::io::Error) -> Error {
    if source.kind() == std::io::ErrorKind::StorageFull {
        return Error::DiskFull { path: path.to_path_buf(), needed: SEGMENT_BYTES };
    }
    Error::Io { op, path: path.to_path_buf(), source: Arc::new(source) }
}
