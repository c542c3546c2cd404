//! RocksDB 8.1 through rust-rocksdb 0.21, the version that OmniPaxos's storage builds.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rocksdb::{DB, IteratorMode, Options, WriteBatch, WriteOptions};

use crate::ENTRY_BYTES;
use crate::owned::{Joined, Owned};
use crate::peer::{Mode, Opened, Outcome, Peer};

struct Rocks {
    db: DB,
    durable: bool,
    next: AtomicU64,
}

pub fn open(dir: &Path, mode: Mode) -> Opened {
    let mut options = Options::default();
    options.create_if_missing(true);
    let db = DB::open(&options, dir)?;
    let last = db.iterator(IteratorMode::End).next().transpose()?;
    let next = last.and_then(|(key, _)| Some(u64::from_be_bytes(*key.first_chunk()?) + 1));
    Ok(Box::new(Rocks {
        db,
        durable: mode == Mode::Synced,
        next: AtomicU64::new(next.unwrap_or(0)),
    }))
}

impl Peer for Rocks {
    fn append(&self, _lane: usize, entries: &[&[u8]]) -> Outcome<()> {
        let first = self.next.fetch_add(entries.len() as u64, Ordering::Relaxed);
        let mut options = WriteOptions::default();
        options.set_sync(self.durable);
        if let [entry] = entries {
            return Ok(self.db.put_opt(first.to_be_bytes(), entry, &options)?);
        }
        let mut batch = WriteBatch::default();
        for (index, entry) in (first..).zip(entries) {
            batch.put(index.to_be_bytes(), entry);
        }
        Ok(self.db.write_opt(batch, &options)?)
    }

    fn flush(&self) -> Outcome<()> {
        Ok(self.db.flush_wal(true)?)
    }

    fn read(&self, first: u64, count: usize) -> Outcome<Box<dyn Owned>> {
        let mut entries = Joined::with_capacity(count, count * ENTRY_BYTES);
        // The raw iterator lends its values; the other one allocates key and value of each entry.
        let mut iterator = self.db.raw_iterator();
        iterator.seek(first.to_be_bytes());
        while entries.len() < count
            && let Some(value) = iterator.value()
        {
            entries.push(value);
            iterator.next();
        }
        iterator.status()?;
        Ok(Box::new(entries))
    }

    fn entries(&self) -> Outcome<Option<u64>> {
        Ok(Some(self.next.load(Ordering::Relaxed)))
    }
}
