//! indelible as it comes, and in the write modes that are not its default.

use std::path::Path;

use indelible::{Batch, Durability, Log, Options, OwnedEntries, WriteMode};

use crate::owned::{Owned, Seen};
use crate::peer::{Mode, Opened, Outcome, Peer};

struct Indelible(Log);

/// The defaults, synced. Unsynced its fastest: `Os`, gathered in memory. (`Barrier` has to put a
/// checkpoint on the medium every few megabytes, so that an open after a crash stays short.)
pub fn open(dir: &Path, mode: Mode) -> Opened {
    let options = match mode {
        Mode::Synced => Options::new(),
        Mode::Unsynced => Options::new().durability(Durability::Os).write_mode(WriteMode::Buffered),
    };
    open_with(dir, &options)
}

/// The policy whose unsynced appends survive the process, with its defaults.
pub fn open_os(dir: &Path, _mode: Mode) -> Opened {
    open_with(dir, &Options::new().durability(Durability::Os))
}

pub fn open_mmap(dir: &Path, _mode: Mode) -> Opened {
    open_with(dir, &Options::new().write_mode(WriteMode::Mmap))
}

pub fn open_pwrite(dir: &Path, mode: Mode) -> Opened {
    let durability = match mode {
        Mode::Synced => Durability::Always,
        Mode::Unsynced => Durability::Os,
    };
    open_with(dir, &Options::new().durability(durability).write_mode(WriteMode::Pwrite))
}

fn open_with(dir: &Path, options: &Options) -> Opened {
    let (log, _) = Log::open_or_create(dir, options)?;
    Ok(Box::new(Indelible(log)))
}

impl Owned for OwnedEntries {
    fn len(&self) -> usize {
        self.len()
    }

    fn each(&self, look: &mut dyn FnMut(&[u8])) {
        self.iter().for_each(look);
    }
}

impl Peer for Indelible {
    fn append(&self, _lane: usize, entries: &[&[u8]]) -> Outcome<()> {
        if let [entry] = entries {
            self.0.append(entry)?;
        } else {
            let mut batch = Batch::new();
            for entry in entries {
                batch.append(*entry);
            }
            self.0.commit(&batch)?;
        }
        Ok(())
    }

    fn flush(&self) -> Outcome<()> {
        Ok(self.0.sync()?)
    }

    fn read(&self, first: u64, count: usize) -> Outcome<Box<dyn Owned>> {
        Ok(Box::new(self.0.read_owned(first..first + count as u64)?))
    }

    fn look(&self, first: u64, count: usize) -> Option<Outcome<Seen>> {
        let mut seen = Seen::default();
        let read = self.0.read(first..first + count as u64);
        let read = read.map(|entries| entries.iter().for_each(|entry| seen.look(entry)));
        Some(read.map(|()| seen).map_err(Into::into))
    }

    fn entries(&self) -> Outcome<Option<u64>> {
        Ok(Some(self.0.next() - self.0.first()))
    }
}
