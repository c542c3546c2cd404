//! wal-db 1.1: a log of records with a group commit of its own; positions instead of indexes.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use wal_db::{Lsn, Wal, WalStore};

use crate::ENTRY_BYTES;
use crate::owned::{Joined, Owned};
use crate::peer::{Mode, Opened, Outcome, Peer};

/// As large as a segment of indelible.
const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

struct Indexed<S: WalStore> {
    wal: Wal<S>,
    durable: bool,
    /// The index that the host has to keep.
    positions: Mutex<Vec<Lsn>>,
}

/// One file.
pub fn open(dir: &Path, mode: Mode) -> Opened {
    opened(Wal::open(dir.join("wal"))?, mode)
}

/// Files of a bounded length.
pub fn open_segmented(dir: &Path, mode: Mode) -> Opened {
    opened(Wal::open_segmented(dir, SEGMENT_BYTES)?, mode)
}

fn opened<S: WalStore + Send + Sync + 'static>(wal: Wal<S>, mode: Mode) -> Opened {
    let found = wal.iter()?.map(|record| record.map(|record| record.lsn()));
    let positions = Mutex::new(found.collect::<Result<_, _>>()?);
    Ok(Box::new(Indexed { wal, durable: mode == Mode::Synced, positions }))
}

impl<S: WalStore + Send + Sync> Peer for Indexed<S> {
    fn append(&self, _lane: usize, entries: &[&[u8]]) -> Outcome<()> {
        let mut written = Vec::with_capacity(entries.len());
        for entry in entries {
            written.push(self.wal.append(entry)?);
        }
        if self.durable {
            self.wal.sync()?;
        }
        self.positions.lock().unwrap_or_else(PoisonError::into_inner).append(&mut written);
        Ok(())
    }

    fn flush(&self) -> Outcome<()> {
        Ok(self.wal.sync()?)
    }

    fn read(&self, first: u64, count: usize) -> Outcome<Box<dyn Owned>> {
        let positions = self.positions.lock().unwrap_or_else(PoisonError::into_inner);
        let from = *positions.get(usize::try_from(first)?).ok_or("not in this handle's index")?;
        let mut entries = Joined::with_capacity(count, count * ENTRY_BYTES);
        for record in self.wal.iter_from(from)?.take(count) {
            entries.push(record?.data());
        }
        Ok(Box::new(entries))
    }

    fn entries(&self) -> Outcome<Option<u64>> {
        let positions = self.positions.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Some(positions.len() as u64))
    }
}
