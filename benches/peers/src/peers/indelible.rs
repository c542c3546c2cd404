//! indelible in its two write modes, and with the host deciding when to sync.

use std::path::Path;

use indelible::{Batch, Durability, Log, Options, WriteMode};

use crate::peer::{Mode, Opened, Outcome, Peer};

struct Indelible {
    log: Log,
    /// Under `Barrier` a durable append is a commit and a sync.
    sync: bool,
}

pub fn open_mmap(dir: &Path, mode: Mode) -> Opened {
    open(dir, &Options::new().write_mode(WriteMode::Mmap).durability(durability(mode)), false)
}

pub fn open_pwrite(dir: &Path, mode: Mode) -> Opened {
    open(dir, &Options::new().write_mode(WriteMode::Pwrite).durability(durability(mode)), false)
}

pub fn open_barrier(dir: &Path, mode: Mode) -> Opened {
    open(dir, &Options::new().durability(Durability::Barrier), mode == Mode::Synced)
}

fn durability(mode: Mode) -> Durability {
    match mode {
        Mode::Synced => Durability::Always,
        Mode::Unsynced => Durability::Os,
    }
}

fn open(dir: &Path, options: &Options, sync: bool) -> Opened {
    let (log, _) = Log::open_or_create(dir, options)?;
    Ok(Some(Box::new(Indelible { log, sync })))
}

impl Peer for Indelible {
    fn append(&self, _lane: usize, entries: &[&[u8]]) -> Outcome<()> {
        if let [entry] = entries {
            self.log.append(entry)?;
        } else {
            let mut batch = Batch::new();
            for entry in entries {
                batch.append(*entry);
            }
            self.log.commit(&batch)?;
        }
        if self.sync {
            self.log.sync()?;
        }
        Ok(())
    }

    fn flush(&self) -> Outcome<()> {
        Ok(self.log.sync()?)
    }

    fn read(&self, first: u64, count: usize) -> Outcome<Vec<Vec<u8>>> {
        Ok(self.log.read_to_vec(first..first + count as u64)?)
    }

    fn read_borrowed(&self, first: u64, count: usize) -> Option<Outcome<usize>> {
        let read = self.log.read(first..first + count as u64);
        Some(read.map(|entries| entries.iter().map(<[u8]>::len).sum()).map_err(Into::into))
    }

    fn entries(&self) -> Outcome<Option<u64>> {
        Ok(Some(self.log.next() - self.log.first()))
    }
}
