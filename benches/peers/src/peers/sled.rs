//! sled 0.34: a tree whose `flush` writes with `sync_file_range`.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use sled::{Batch, Config, Db};

use crate::owned::Owned;
use crate::peer::{Mode, Opened, Outcome, Peer};

struct Sled {
    db: Db,
    durable: bool,
    next: AtomicU64,
}

pub fn open(dir: &Path, mode: Mode) -> Opened {
    // No flushing by the clock: what an append costs is not left to a background thread.
    let db = Config::new().path(dir).flush_every_ms(None).open()?;
    let last = db.last()?;
    let next = last.and_then(|(key, _)| Some(u64::from_be_bytes(*key.first_chunk()?) + 1));
    Ok(Box::new(Sled {
        db,
        durable: mode == Mode::Synced,
        next: AtomicU64::new(next.unwrap_or(0)),
    }))
}

impl Peer for Sled {
    fn append(&self, _lane: usize, entries: &[&[u8]]) -> Outcome<()> {
        let first = self.next.fetch_add(entries.len() as u64, Ordering::Relaxed);
        if let [entry] = entries {
            self.db.insert(first.to_be_bytes(), *entry)?;
        } else {
            let mut batch = Batch::default();
            for (index, entry) in (first..).zip(entries) {
                batch.insert(&index.to_be_bytes(), *entry);
            }
            self.db.apply_batch(batch)?;
        }
        if self.durable {
            self.db.flush()?;
        }
        Ok(())
    }

    fn flush(&self) -> Outcome<()> {
        self.db.flush()?;
        Ok(())
    }

    fn read(&self, first: u64, count: usize) -> Outcome<Box<dyn Owned>> {
        let range = first.to_be_bytes()..(first + count as u64).to_be_bytes();
        // Counted references into its cache: they live on their own.
        let values = self.db.range(range).map(|pair| pair.map(|(_, value)| value));
        Ok(Box::new(values.collect::<Result<Vec<_>, _>>()?))
    }

    fn entries(&self) -> Outcome<Option<u64>> {
        Ok(Some(self.next.load(Ordering::Relaxed)))
    }
}
