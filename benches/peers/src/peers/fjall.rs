//! fjall 3: an LSM tree whose journal is its log.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::owned::Owned;
use crate::peer::{Mode, Opened, Outcome, Peer};

struct Fjall {
    db: Database,
    log: Keyspace,
    durability: Option<PersistMode>,
    next: AtomicU64,
}

pub fn open(dir: &Path, mode: Mode) -> Opened {
    let db = Database::builder(dir).open()?;
    let log = db.keyspace("log", KeyspaceCreateOptions::default)?;
    let last = log.last_key_value().map(fjall::Guard::key).transpose()?;
    let next = last.and_then(|key| Some(u64::from_be_bytes(*key.first_chunk()?) + 1));
    Ok(Box::new(Fjall {
        db,
        log,
        durability: (mode == Mode::Synced).then_some(PersistMode::SyncData),
        next: AtomicU64::new(next.unwrap_or(0)),
    }))
}

impl Peer for Fjall {
    fn append(&self, _lane: usize, entries: &[&[u8]]) -> Outcome<()> {
        let first = self.next.fetch_add(entries.len() as u64, Ordering::Relaxed);
        let mut batch = self.db.batch().durability(self.durability);
        for (index, entry) in (first..).zip(entries) {
            batch.insert(&self.log, index.to_be_bytes(), *entry);
        }
        Ok(batch.commit()?)
    }

    fn flush(&self) -> Outcome<()> {
        Ok(self.db.persist(PersistMode::SyncAll)?)
    }

    fn read(&self, first: u64, count: usize) -> Outcome<Box<dyn Owned>> {
        let range = first.to_be_bytes()..(first + count as u64).to_be_bytes();
        // Counted references into its cache: they live on their own.
        let values = self.log.range(range).map(fjall::Guard::value);
        Ok(Box::new(values.collect::<Result<Vec<_>, _>>()?))
    }

    fn entries(&self) -> Outcome<Option<u64>> {
        Ok(Some(self.next.load(Ordering::Relaxed)))
    }
}
