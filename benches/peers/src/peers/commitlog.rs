//! commitlog 0.2: what OmniPaxos kept its log in before RocksDB.

use std::path::Path;
use std::sync::Mutex;

use commitlog::message::{MessageBuf, MessageSet};
use commitlog::{CommitLog, LogOptions, ReadLimit};

use crate::ENTRY_BYTES;
use crate::peer::{Mode, Opened, Outcome, Peer};

/// What commitlog puts before each payload.
const HEADER_BYTES: usize = 20;

struct Segments {
    log: Mutex<CommitLog>,
    durable: bool,
}

pub fn open(dir: &Path, mode: Mode) -> Opened {
    let log = Mutex::new(CommitLog::new(LogOptions::new(dir))?);
    Ok(Some(Box::new(Segments { log, durable: mode == Mode::Synced })))
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

    fn read(&self, first: u64, count: usize) -> Outcome<Vec<Vec<u8>>> {
        let log = self.log.lock().map_err(|_| "poisoned")?;
        let mut entries = Vec::with_capacity(count);
        // A read ends at the end of a segment.
        while entries.len() < count {
            // One more than wanted: a limit that the last message fills exactly is refused.
            let left = count - entries.len();
            let limit = ReadLimit::max_bytes((left + 1) * (ENTRY_BYTES + HEADER_BYTES));
            let messages = log
                .read(first + entries.len() as u64, limit)
                .map_err(|error| format!("{error:?}"))?;
            if messages.is_empty() {
                break;
            }
            entries.extend(messages.iter().map(|message| message.payload().to_vec()));
        }
        entries.truncate(count);
        Ok(entries)
    }

    fn entries(&self) -> Outcome<Option<u64>> {
        Ok(Some(self.log.lock().map_err(|_| "poisoned")?.next_offset()))
    }
}
