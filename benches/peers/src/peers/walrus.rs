//! walrus-rust 0.2: topics in 1 GB sparse files.
//!
//! Whether its files are opened with `O_SYNC` is settled once a process, by the first instance
//! (a global): `main` opens an unsynced one first, so that unsynced appends are unsynced. A
//! synced append is then one pwrite and one fsync; without that instance it would be an `O_SYNC`
//! pwrite and an fsync.

use std::path::Path;

use walrus_rust::{FsyncSchedule, ReadConsistency, Walrus};

use crate::owned::Owned;
use crate::peer::{Mode, Opened, Outcome, Peer};

/// The variable that says where its files go, and the one that silences its prints. Both are set
/// before `main` begins.
pub const DIR_VARIABLE: &str = "WALRUS_DATA_DIR";
pub const QUIET_VARIABLE: &str = "WALRUS_QUIET";

const TOPIC: &str = "log";
/// More than one batched read ever answers: it ends after 2000 entries.
const READ_BYTES_MAX: usize = 16 * 1024 * 1024;

struct Topic(Walrus);

pub fn open(dir: &Path, mode: Mode) -> Opened {
    // A key is one path segment below the data directory, which is where every peer's directory is.
    let key = dir.file_name().ok_or("the directory has no name")?.to_string_lossy();
    let schedule = match mode {
        Mode::Synced => FsyncSchedule::SyncEach,
        Mode::Unsynced => FsyncSchedule::NoFsync,
    };
    let consistency = ReadConsistency::AtLeastOnce { persist_every: u32::MAX };
    let log = Walrus::with_consistency_and_schedule_for_key(&key, consistency, schedule)?;
    Ok(Box::new(Topic(log)))
}

impl Peer for Topic {
    fn append(&self, _lane: usize, entries: &[&[u8]]) -> Outcome<()> {
        match entries {
            [entry] => self.0.append_for_topic(TOPIC, entry)?,
            _ => self.0.batch_append_for_topic(TOPIC, entries)?,
        }
        Ok(())
    }

    fn flush(&self) -> Outcome<()> {
        Ok(())
    }

    fn read(&self, _first: u64, count: usize) -> Outcome<Box<dyn Owned>> {
        let mut entries = Vec::with_capacity(count);
        while entries.len() < count {
            let read = self.0.batch_read_for_topic(TOPIC, READ_BYTES_MAX, true)?;
            if read.is_empty() {
                break;
            }
            entries.extend(read.into_iter().map(|entry| entry.data));
        }
        Ok(Box::new(entries))
    }

    fn entries(&self) -> Outcome<Option<u64>> {
        self.0.read_next(TOPIC, false)?;
        Ok(None)
    }
}
