//! commitlog 0.2: what OmniPaxos kept its log in before RocksDB.

use std::path::Path;
use std::sync::Mutex;

use commitlog::message::{MessageBuf, MessageSet};
use commitlog::{CommitLog, LogOptions, ReadLimit};

use crate::ENTRY_BYTES;
use crate::owned::Owned;
use crate::peer::{Mode, Opened, Outcome, Peer};

/// What commitlog puts before each payload.
const HEADER_BYTES: usize = 20;

struct Segments {
    log: Mutex<CommitLog>,
    durable: bool,
}

pub fn open(dir: &Path, mode: Mode) -> Opened {
    let log = Mutex::new(CommitLog::new(LogOptions::new(dir))?);
    Ok(Box::new(Segments { log, durable: mode == Mode::Synced }))
}

/// What it reads into: a buffer a read, its checksums seen.
struct Buffers {
    sets: Vec<MessageBuf>,
    /// The last one may hold an entry more than was asked for.
    len: usize,
}

impl Owned for Buffers {
    fn len(&self) -> usize {
        self.len
    }

    fn each(&self, look: &mut dyn FnMut(&[u8])) {
        let messages = self.sets.iter().flat_map(MessageSet::iter);
        messages.take(self.len).for_each(|message| look(message.payload()));
    }
}

impl Peer for Segments {
    fn append(&self, _lane: usize, entries: &[&[u8]]) -> Outcome<()> {
        let mut messages = MessageBuf::default();
        for entry in entries {
            messages.push(entry).map_err(|error| format!("{error:?}"))?;
        }
        let mut log = self.log.lock().map_err(|_| "poisoned")?;
        log.append(&mut messages).map_err(|error| format!("{error:?}"))?;
        if self.durable {
            log.flush()?;
        }
        Ok(())
    }

    fn flush(&self) -> Outcome<()> {
        Ok(self.log.lock().map_err(|_| "poisoned")?.flush()?)
    }

    fn read(&self, first: u64, count: usize) -> Outcome<Box<dyn Owned>> {
        let log = self.log.lock().map_err(|_| "poisoned")?;
        let mut sets = Buffers { sets: Vec::new(), len: 0 };
        // A read ends at the end of a segment.
        while sets.len < count {
            // One more than wanted: a limit that the last message fills exactly is refused.
            let left = count - sets.len;
            let limit = ReadLimit::max_bytes((left + 1) * (ENTRY_BYTES + HEADER_BYTES));
            let messages =
                log.read(first + sets.len as u64, limit).map_err(|error| format!("{error:?}"))?;
            if messages.is_empty() {
                break;
            }
            sets.len += messages.len().min(left);
            sets.sets.push(messages);
        }
        Ok(Box::new(sets))
    }

    fn entries(&self) -> Outcome<Option<u64>> {
        Ok(Some(self.log.lock().map_err(|_| "poisoned")?.next_offset()))
    }
}
