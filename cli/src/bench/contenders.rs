//! Who takes part: the floor, every strategy, every policy. The logs are small, so that a bench fits
//! on a small disk and is soon ready.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use indelible::io::os::OsDirectory;
use indelible::io::{Directory, File};
use indelible::{
    Batch, Durability, Error, Log, Options, Preparation, Result, SyncMethod, WriteMode,
};

/// Size of the floor's file and of every log's segments, in bytes.
const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;
/// Bytes of one zero-filling write.
const FILL_BYTES: usize = 4 * 1024;
/// After so many bytes a log lets go of what it holds.
const KEPT_BYTES: u64 = 2 * 1024 * 1024;
/// Appends between two syncs of a barrier, and the bytes of them that are not exceeded.
const BARRIER_APPENDS: usize = 16;
const BARRIER_BYTES: usize = 1024 * 1024;
/// Appends that one contender makes in a row.
const APPENDS_PER_TURN: usize = 4;

/// What a contender stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The least a durable append can cost: `pwrite` onto space that was zero-filled in small writes
    /// before, then `fdatasync`.
    Floor,
    /// The strategy that a log has unless it is told otherwise.
    Default,
    /// Another way to make each append durable.
    Strategy,
    /// Another promise.
    Policy,
}

/// One that appends.
pub(super) struct Contender {
    pub(super) name: String,
    /// What to write in Rust to have it.
    pub(super) setting: String,
    pub(super) role: Role,
    /// Appends that are timed together.
    pub(super) appends: usize,
    how: How,
}

enum How {
    Floor { file: Arc<dyn File>, at: u64 },
    Log { log: Log, sync: bool, since_tidy: u64 },
}

impl Contender {
    /// The log, if it is one.
    pub(super) const fn log(&self) -> Option<&Log> {
        match &self.how {
            How::Floor { .. } => None,
            How::Log { log, .. } => Some(log),
        }
    }

    /// How often it is timed in one turn.
    pub(super) const fn operations(&self) -> usize {
        if self.appends == 1 { APPENDS_PER_TURN } else { 1 }
    }

    /// What is timed.
    pub(super) fn operate(&mut self, entry: &[u8]) -> Result<()> {
        let written = (entry.len() * self.appends) as u64;
        match &mut self.how {
            How::Floor { file, at } => {
                let failed = |source| io_at("write", Path::new("the floor's file"), source);
                let end = *at + entry.len() as u64;
                file.write_at(*at, entry).map_err(failed)?;
                file.sync(*at..end, SyncMethod::Fdatasync).map_err(failed)?;
                *at = if end + entry.len() as u64 > SEGMENT_BYTES { 0 } else { end };
            }
            How::Log { log, sync, since_tidy } => {
                for _ in 0..self.appends {
                    log.append(entry)?;
                }
                if *sync {
                    log.sync()?;
                }
                *since_tidy += written;
            }
        }
        Ok(())
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

/// Everybody, ready to begin, in directories inside `place`.
pub(super) fn all(place: &Path, door: &OsDirectory, bytes: usize) -> Result<Vec<Contender>> {
    let mut contenders = vec![floor(door)?];
    for (name, setting, role, options) in strategies() {
        let path = place.join(contenders.len().to_string());
        let log = Log::create(path, &options.segment_bytes(SEGMENT_BYTES))?;
        let how = How::Log { log, sync: false, since_tidy: 0 };
        contenders.push(Contender { name, setting, role, appends: 1, how });
    }
    let appends = (BARRIER_BYTES / bytes.max(1)).clamp(1, BARRIER_APPENDS);
    for (name, setting, durability) in policies(appends) {
        let path = place.join(contenders.len().to_string());
        let options = Options::new().durability(durability).segment_bytes(SEGMENT_BYTES);
        let log = Log::create(path, &options)?;
        let how = How::Log { log, sync: durability == Durability::Barrier, since_tidy: 0 };
        let setting = format!(".durability(Durability::{setting})");
        contenders.push(Contender { name, setting, role: Role::Policy, appends, how });
    }
    Ok(contenders)
}

fn floor(door: &OsDirectory) -> Result<Contender> {
    let failed = |source| io_at("prepare a file in", door.path(), source);
    let (_name, file) = door.create(SEGMENT_BYTES, true).map_err(failed)?;
    let zeros = vec![0; FILL_BYTES];
    for at in (0..SEGMENT_BYTES).step_by(FILL_BYTES) {
        file.write_at(at, &zeros).map_err(failed)?;
    }
    file.sync(0..SEGMENT_BYTES, SyncMethod::Fsync).map_err(failed)?;
    Ok(Contender {
        name: "floor: pwrite + fdatasync".to_owned(),
        setting: String::new(),
        role: Role::Floor,
        appends: 1,
        how: How::Floor { file, at: 0 },
    })
}

/// The strategies with the name, what to write for it, and the options; the default first.
fn strategies() -> Vec<(String, String, Role, Options)> {
    let mut strategies = Vec::new();
    let methods = [
        (SyncMethod::Fdatasync, "fdatasync"),
        (SyncMethod::Msync, "msync"),
        (SyncMethod::Dsync, "O_DSYNC"),
        (SyncMethod::Fsync, "fsync"),
    ];
    for mode in [WriteMode::Buffered, WriteMode::Pwrite, WriteMode::Mmap] {
        for (method, name) in methods {
            let mut setting = Vec::new();
            let mut options = Options::new();
            if mode != options.write_mode_in_force() {
                options = options.write_mode(mode);
                setting.push(format!(".write_mode(WriteMode::{mode:?})"));
            }
            if method != SyncMethod::default() {
                options = options.sync_method(method);
                setting.push(format!(".sync_method(SyncMethod::{method:?})"));
            }
            let role = if setting.is_empty() { Role::Default } else { Role::Strategy };
            strategies.push((format!("{mode:?}, {name}"), setting.concat(), role, options));
        }
    }
    let name = "Buffered, fdatasync, fallocate only".to_owned();
    let setting = ".preparation(Preparation::Fallocate)".to_owned();
    let options = Options::new().preparation(Preparation::Fallocate);
    strategies.push((name, setting, Role::Strategy, options));
    strategies
}

/// The policies with what they promise; `appends` are made between two syncs of a barrier.
fn policies(appends: usize) -> [(String, &'static str, Durability); 3] {
    let interval = Durability::Interval(Duration::from_millis(10));
    [
        (format!("Barrier, a sync after {appends}: durable then"), "Barrier", Durability::Barrier),
        (
            "Interval, 10 ms: a crash may lose those".to_owned(),
            "Interval(Duration::from_millis(10))",
            interval,
        ),
        ("Os: a power cut may lose half a minute".to_owned(), "Os", Durability::Os),
    ]
}

/// An error of the operating system at a path; a full disk is one of its own.
pub(super) fn io_at(op: &'static str, path: &Path, source: std::io::Error) -> Error {
    if source.kind() == std::io::ErrorKind::StorageFull {
        return Error::DiskFull { path: path.to_path_buf(), needed: SEGMENT_BYTES };
    }
    Error::Io { op, path: path.to_path_buf(), source: Arc::new(source) }
}
