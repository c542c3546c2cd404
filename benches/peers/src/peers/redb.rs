//! redb 4: a copy-on-write B-tree in one file; a batch is a transaction.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use crate::ENTRY_BYTES;
use crate::owned::{Joined, Owned};
use crate::peer::{Mode, Opened, Outcome, Peer};

const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");

struct Redb {
    db: Database,
    durability: Durability,
    next: AtomicU64,
}

pub fn open(dir: &Path, mode: Mode) -> Opened {
    let db = Database::create(dir.join("log.redb"))?;
    let write = db.begin_write()?;
    let next = write.open_table(LOG)?.last()?.map_or(0, |(key, _)| key.value() + 1);
    write.commit()?;
    let durability = match mode {
        Mode::Synced => Durability::Immediate,
        Mode::Unsynced => Durability::None,
    };
    Ok(Box::new(Redb { db, durability, next: AtomicU64::new(next) }))
}

impl Redb {
    fn write(&self, durability: Durability, entries: &[&[u8]]) -> Outcome<()> {
        let mut write = self.db.begin_write()?;
        write.set_durability(durability)?;
        let mut table = write.open_table(LOG)?;
        // Inside the transaction, of which there is one at a time: keys rise in commit order.
        let first = self.next.fetch_add(entries.len() as u64, Ordering::Relaxed);
        for (index, entry) in (first..).zip(entries) {
            table.insert(index, *entry)?;
        }
        drop(table);
        Ok(write.commit()?)
    }
}

impl Peer for Redb {
    fn append(&self, _lane: usize, entries: &[&[u8]]) -> Outcome<()> {
        self.write(self.durability, entries)
    }

    fn flush(&self) -> Outcome<()> {
        self.write(Durability::Immediate, &[])
    }

    fn read(&self, first: u64, count: usize) -> Outcome<Box<dyn Owned>> {
        let table = self.db.begin_read()?.open_table(LOG)?;
        let mut entries = Joined::with_capacity(count, count * ENTRY_BYTES);
        for pair in table.range(first..first + count as u64)? {
            entries.push(pair?.1.value());
        }
        Ok(Box::new(entries))
    }

    fn entries(&self) -> Outcome<Option<u64>> {
        Ok(Some(self.next.load(Ordering::Relaxed)))
    }
}
