//! okaywal 0.3: a log in front of another store; positions instead of indexes.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use okaywal::WriteAheadLog;
use okaywal::{ChunkRecord, Configuration, Entry, EntryId, LogManager, SegmentReader};

use crate::ENTRY_BYTES;
use crate::owned::{Joined, Owned};
use crate::peer::{Mode, Opened, Outcome, Peer};

/// It reuses a file as soon as a checkpoint has taken it in. Entries are to stay readable here, so
/// one file is made large enough for a run.
const FILE_BYTES: u32 = 256 * 1024 * 1024;

struct Positions {
    log: WriteAheadLog,
    /// The index that the host has to keep.
    records: Mutex<Vec<ChunkRecord>>,
    recovered: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Counting(Arc<AtomicU64>);

impl LogManager for Counting {
    fn recover(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
        if let Some(chunks) = entry.read_all_chunks()? {
            self.0.fetch_add(chunks.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    fn checkpoint_to(
        &mut self,
        _last: EntryId,
        _entries: &mut SegmentReader,
        _log: &WriteAheadLog,
    ) -> io::Result<()> {
        Ok(())
    }
}

pub fn open(dir: &Path, _mode: Mode) -> Opened {
    let recovered = Arc::new(AtomicU64::new(0));
    let log = Configuration::default_for(dir)
        .preallocate_bytes(FILE_BYTES)
        .checkpoint_after_bytes(u64::from(FILE_BYTES) - 1024 * 1024)
        .open(Counting(Arc::clone(&recovered)))?;
    Ok(Box::new(Positions { log, records: Mutex::default(), recovered }))
}

impl Peer for Positions {
    fn append(&self, _lane: usize, entries: &[&[u8]]) -> Outcome<()> {
        let mut writer = self.log.begin_entry()?;
        let mut records = Vec::with_capacity(entries.len());
        for entry in entries {
            records.push(writer.write_chunk(entry)?);
        }
        writer.commit()?;
        self.records.lock().map_err(|_| "poisoned")?.append(&mut records);
        Ok(())
    }

    fn flush(&self) -> Outcome<()> {
        Ok(())
    }

    fn read(&self, first: u64, count: usize) -> Outcome<Box<dyn Owned>> {
        let records = self.records.lock().map_err(|_| "poisoned")?;
        let first = usize::try_from(first)?;
        let wanted = records.get(first..first + count).ok_or("not in this handle's index")?;
        let mut entries = Joined::with_capacity(count, count * ENTRY_BYTES);
        let mut entry = Vec::new();
        for record in wanted {
            entry.resize(usize::try_from(record.length)?, 0);
            self.log.read_at(record.position)?.read_exact(&mut entry)?;
            entries.push(&entry);
        }
        Ok(Box::new(entries))
    }

    fn entries(&self) -> Outcome<Option<u64>> {
        Ok(Some(self.recovered.load(Ordering::Relaxed)))
    }
}
