//! Who takes part: the floors, every strategy, batches, threads and policies. The logs are small, so
//! that a bench fits on a small disk and is soon ready.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indelible::{
    Batch, Durability, Error, Log, Options, Preparation, Result, SyncMethod, WriteMode,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::floor::Floor;
use super::report::Label;

/// Size of every log's segments, in bytes.
const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;
/// After so many bytes a log lets go of what it holds.
const KEPT_BYTES: u64 = 2 * 1024 * 1024;
/// Appends between two syncs of a barrier, and the bytes of them that are not exceeded.
const BARRIER_APPENDS: usize = 16;
const BARRIER_BYTES: usize = 1024 * 1024;
/// Appends that one contender makes in a row, and that each of several threads makes.
const APPENDS_PER_TURN: usize = 4;
/// Batches that are measured: so many entries, or as many as fill a mebibyte.
const BATCHES: [usize; 2] = [10, 100];
const LARGE_BATCH_BYTES: usize = 1024 * 1024;
/// Threads that share syncs.
const THREADS: [usize; 3] = [4, 16, 64];

/// Which table a contender stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Group {
    /// One append, durable on return.
    Durable,
    /// Many entries with one sync.
    Batches,
    /// Several threads whose appends share syncs.
    Threads,
    /// Another promise than durable on return.
    Policies,
}

/// What a contender stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    /// The least that durable bytes can cost here, without a log.
    Floor,
    /// The strategy that a log has unless it is told otherwise.
    Default,
    /// Another way to make each append durable.
    Strategy,
    /// Another promise.
    Policy,
    /// The default under another load.
    Load,
}

/// One that writes.
pub(super) struct Contender {
    pub(super) label: Label,
    how: How,
}

enum How {
    Floor(Floor),
    Log { log: Log, work: Work, since_tidy: u64 },
}

/// What one operation on a log is.
#[derive(Debug, Clone, Copy)]
enum Work {
    /// Appends, each durable as the log's policy has it, then a sync if asked for. Timed per append.
    Appends { count: usize, sync: bool },
    /// One batch of so many entries.
    Batch(usize),
    /// An append by each of so many threads, at once.
    Threads(usize),
}

/// What one slice took.
#[derive(Debug)]
pub(super) struct Slice {
    /// By operation, in nanoseconds.
    pub(super) latencies: Vec<u64>,
    /// The time all of them took together, in nanoseconds.
    pub(super) elapsed: u64,
}

impl Contender {
    /// Has its turn: a few operations, timed one by one.
    pub(super) fn turn(&mut self, entry: &[u8]) -> Result<Slice> {
        let started = now();
        let latencies = match &mut self.how {
            How::Floor(floor) => {
                timed(|| floor.write().map_err(|it| io_at("write", "a floor", it)))?
            }
            How::Log { log, work: Work::Threads(count), since_tidy } => {
                *since_tidy += (entry.len() * *count * APPENDS_PER_TURN) as u64;
                return at_once(log, *count, entry);
            }
            How::Log { log, work: Work::Batch(count), since_tidy } => {
                let mut batch = Batch::new();
                for _ in 0..*count {
                    batch.append(entry);
                }
                *since_tidy += (entry.len() * *count * APPENDS_PER_TURN) as u64;
                timed(|| log.commit(&batch).map(drop))?
            }
            How::Log { log, work: Work::Appends { count, sync }, since_tidy } => {
                let per_append = |took: u64| took / *count as u64;
                let taken = timed(|| {
                    for _ in 0..*count {
                        log.append(entry)?;
                    }
                    if *sync { log.sync() } else { Ok(()) }
                })?;
                *since_tidy += (entry.len() * *count * taken.len()) as u64;
                taken.into_iter().map(per_append).collect()
            }
        };
        let elapsed = match &self.how {
            How::Log { work: Work::Appends { .. }, .. } => latencies.iter().sum(),
            _ => nanoseconds(started.elapsed()),
        };
        Ok(Slice { latencies, elapsed })
    }

    /// Lets go of what was written, untimed, so that the disk does not fill up.
    pub(super) fn tidy(&mut self) -> Result<()> {
        if let How::Log { log, since_tidy, .. } = &mut self.how
            && *since_tidy > KEPT_BYTES
        {
            *since_tidy = 0;
            log.commit(Batch::new().trim(log.next()))?;
            log.sync()?;
        }
        Ok(())
    }
}

/// A few calls, each with the time it took in nanoseconds.
fn timed(mut call: impl FnMut() -> Result<()>) -> Result<Vec<u64>> {
    let mut taken = Vec::with_capacity(APPENDS_PER_TURN);
    for _ in 0..APPENDS_PER_TURN {
        let started = now();
        call()?;
        taken.push(nanoseconds(started.elapsed()));
    }
    Ok(taken)
}

/// Appends of several threads that begin together.
fn at_once(log: &Log, count: usize, entry: &[u8]) -> Result<Slice> {
    let begin = std::sync::Barrier::new(count + 1);
    let failed = AtomicBool::new(false);
    let (outcomes, elapsed) = std::thread::scope(|scope| {
        let append = || {
            begin.wait();
            if failed.load(Ordering::Relaxed) {
                Ok(Vec::new())
            } else {
                timed(|| log.append(entry).map(drop))
            }
        };
        let mut threads = Vec::with_capacity(count);
        for _ in 0..count {
            match std::thread::Builder::new().spawn_scoped(scope, append) {
                Ok(thread) => threads.push(thread),
                // Those that wait are let go, to find that there is nothing to do.
                Err(source) => {
                    failed.store(true, Ordering::Relaxed);
                    let missing = count - threads.len();
                    for _ in 0..missing {
                        scope.spawn(|| begin.wait());
                    }
                    begin.wait();
                    return (vec![Err(io_at("start a thread for", "the bench", source))], 0);
                }
            }
        }
        begin.wait();
        let started = now();
        let outcomes: Vec<_> =
            threads.into_iter().map(|thread| thread.join().unwrap_or(Err(Error::Closed))).collect();
        (outcomes, nanoseconds(started.elapsed()))
    });
    let mut latencies = Vec::with_capacity(count * APPENDS_PER_TURN);
    for outcome in outcomes {
        latencies.extend(outcome?);
    }
    Ok(Slice { latencies, elapsed })
}

/// Everybody, ready to begin, in directories inside `place`.
pub(super) fn all(place: &Path, bytes: usize) -> Result<Vec<Contender>> {
    let mut all = Vec::new();
    let large = (LARGE_BATCH_BYTES / bytes.max(1)).max(1);
    floors(&mut all, place, Group::Durable, bytes)?;
    for strategy in strategies() {
        add(&mut all, place, strategy, Work::Appends { count: 1, sync: false }, bytes)?;
    }
    let batches =
        BATCHES.into_iter().filter(|count| count * bytes < LARGE_BATCH_BYTES).chain([large]);
    for count in batches {
        floors(&mut all, place, Group::Batches, bytes * count)?;
        let name = format!("log, a batch of {count}");
        let contestant = load(Group::Batches, name, 1);
        add(&mut all, place, contestant, Work::Batch(count), bytes * count)?;
    }
    for threads in THREADS {
        let contestant = load(Group::Threads, format!("log, {threads} threads"), threads);
        add(&mut all, place, contestant, Work::Threads(threads), bytes)?;
    }
    let appends = (BARRIER_BYTES / bytes.max(1)).clamp(1, BARRIER_APPENDS);
    for (name, setting, durability) in policies(appends) {
        let sync = durability == Durability::Barrier;
        let contestant = Contestant {
            group: Group::Policies,
            role: Role::Policy,
            name,
            setting: format!(".durability(Durability::{setting})"),
            options: Options::new().durability(durability),
            threads: 1,
        };
        add(&mut all, place, contestant, Work::Appends { count: appends, sync }, bytes)?;
    }
    Ok(all)
}

/// A floor, the default, and as many strategies that are the default under another name.
#[cfg(test)]
pub(super) fn alike(place: &Path, bytes: usize, strategies: usize) -> Result<Vec<Contender>> {
    let mut all = Vec::new();
    floors(&mut all, place, Group::Durable, bytes)?;
    for nth in 0..=strategies {
        let role = if nth == 0 { Role::Default } else { Role::Strategy };
        let contestant = Contestant { role, ..load(Group::Durable, format!("log {nth}"), 1) };
        add(&mut all, place, contestant, Work::Appends { count: 1, sync: false }, bytes)?;
    }
    Ok(all)
}

/// A log that is to take part.
struct Contestant {
    group: Group,
    role: Role,
    name: String,
    setting: String,
    options: Options,
    threads: usize,
}

fn load(group: Group, name: String, threads: usize) -> Contestant {
    let (setting, options) = (String::new(), Options::new());
    Contestant { group, role: Role::Load, name, setting, options, threads }
}

fn add(
    all: &mut Vec<Contender>,
    place: &Path,
    it: Contestant,
    work: Work,
    bytes: usize,
) -> Result<()> {
    let path = place.join(all.len().to_string());
    let mode = it.options.write_mode_in_force();
    let log = match Log::create(&path, &it.options.segment_bytes(SEGMENT_BYTES)) {
        Ok(log) => log,
        // The file system has no direct writes.
        Err(Error::InvalidOption { option: "write_mode", .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    if it.role == Role::Strategy && log.options().write_mode_in_force() != mode {
        // It writes in another way here, which takes part under its own name.
        drop(log);
        return std::fs::remove_dir_all(&path).map_err(|it| io_at("remove", &path, it));
    }
    // The buffered floor that was prepared last before it is the one of the same bytes.
    let same = |it: &Contender| it.label.role == Role::Floor && it.label.bytes == bytes as u64;
    let floor = all.iter().position(same).unwrap_or(0);
    all.push(Contender {
        label: Label {
            group: it.group,
            role: it.role,
            name: it.name,
            options: it.setting,
            bytes: bytes as u64,
            threads: it.threads,
            floor,
        },
        how: How::Log { log, work, since_tidy: 0 },
    });
    Ok(())
}

/// The buffered floor of so many bytes, and the direct one where the file system has it.
fn floors(all: &mut Vec<Contender>, place: &Path, group: Group, bytes: usize) -> Result<()> {
    let first = all.len();
    let size = match group {
        Group::Durable => String::new(),
        _ => format!(" {}", crate::text::size(bytes as u64)),
    };
    for (direct, name) in [(false, "pwrite + fdatasync"), (true, "O_DIRECT + DSYNC")] {
        let path = place.join(all.len().to_string());
        let floor = match Floor::prepare(&path, bytes, direct) {
            Ok(floor) => floor,
            // The file system has no direct writes: so there is no such floor.
            Err(source) if direct && is_refusal(&source) => {
                continue;
            }
            Err(source) => return Err(io_at("prepare a floor in", place, source)),
        };
        all.push(Contender {
            label: Label {
                group,
                role: Role::Floor,
                name: format!("floor{size}: {name}"),
                options: String::new(),
                bytes: bytes as u64,
                threads: 1,
                floor: first,
            },
            how: How::Floor(floor),
        });
    }
    Ok(())
}

fn is_refusal(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::InvalidInput | std::io::ErrorKind::Unsupported)
}

/// The strategies: the default first, then every other write mode and sync method, then another
/// preparation of the space.
fn strategies() -> Vec<Contestant> {
    let mut strategies = Vec::new();
    let methods = [
        (SyncMethod::Fdatasync, "fdatasync"),
        (SyncMethod::Msync, "msync"),
        (SyncMethod::Dsync, "O_DSYNC"),
        (SyncMethod::Fsync, "fsync"),
    ];
    let modes = [WriteMode::Buffered, WriteMode::Pwrite, WriteMode::Mmap, WriteMode::Direct];
    for mode in modes {
        for (method, name) in methods {
            if mode == WriteMode::Direct && method == SyncMethod::Msync {
                // Nothing is in a map: the log takes it for fdatasync.
                continue;
            }
            let mut setting = Vec::new();
            let mut options = Options::new();
            if mode != options.write_mode_in_force() {
                options = options.write_mode(mode);
                setting.push(format!(".write_mode(WriteMode::{mode:?})"));
            }
            if method != options.sync_method_in_force() {
                options = options.sync_method(method);
                setting.push(format!(".sync_method(SyncMethod::{method:?})"));
            }
            let role = if setting.is_empty() { Role::Default } else { Role::Strategy };
            strategies.push((format!("{mode:?}, {name}"), setting.concat(), role, options));
        }
    }
    strategies.push((
        "fallocate, not zero-filled".to_owned(),
        ".preparation(Preparation::Fallocate)".to_owned(),
        Role::Strategy,
        Options::new().preparation(Preparation::Fallocate),
    ));
    strategies.sort_by_key(|(_, _, role, _)| *role != Role::Default);
    let contestant = |(name, setting, role, options)| Contestant {
        group: Group::Durable,
        role,
        name,
        setting,
        options,
        threads: 1,
    };
    strategies.into_iter().map(contestant).collect()
}

/// The policies with what they promise; `appends` are made between two syncs of a barrier.
fn policies(appends: usize) -> [(String, &'static str, Durability); 3] {
    let interval = Durability::Interval(Duration::from_millis(10));
    [
        (format!("Barrier, one sync per {appends}"), "Barrier", Durability::Barrier),
        ("Interval: loses 10 ms".to_owned(), "Interval(Duration::from_millis(10))", interval),
        ("Os: loses half a minute".to_owned(), "Os", Durability::Os),
    ]
}

/// An error of the operating system at a path; a full disk is one of its own.
pub(super) fn io_at(op: &'static str, path: impl AsRef<Path>, source: std::io::Error) -> Error {
    let path = path.as_ref().to_path_buf();
    if source.kind() == std::io::ErrorKind::StorageFull {
        return Error::DiskFull { path, needed: SEGMENT_BYTES };
    }
    Error::Io { op, path, source: Arc::new(source) }
}

#[expect(clippy::disallowed_methods, reason = "measuring is what this is for")]
pub(super) fn now() -> Instant {
    Instant::now()
}

pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
