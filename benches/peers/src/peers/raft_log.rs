//! raft-log 0.4 (Databend): one writer, a flusher thread, every payload cached in memory.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use raft_log::api::raft_log_writer::RaftLogWriter;
use raft_log::{Config, RaftLog, Types};

use crate::owned::Owned;
use crate::peer::{Mode, Opened, Outcome, Peer};

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Plain;

impl Types for Plain {
    type LogId = (u64, u64);
    type LogPayload = Vec<u8>;
    type Vote = (u64, u64);
    type UserData = String;
    type Callback = SyncSender<io::Result<()>>;

    fn log_index(id: &(u64, u64)) -> u64 {
        id.1
    }

    fn payload_size(payload: &Vec<u8>) -> u64 {
        payload.len() as u64
    }
}

struct Flushed {
    log: Mutex<RaftLog<Plain>>,
    durable: bool,
}

pub fn open(dir: &Path, mode: Mode) -> Opened {
    open_with(dir, mode, None)
}

pub fn open_nowait(dir: &Path, mode: Mode) -> Opened {
    open_with(dir, mode, Some(Duration::ZERO))
}

fn open_with(dir: &Path, mode: Mode, gather: Option<Duration>) -> Opened {
    let mut config = Config::new(dir.to_string_lossy());
    config.wal.flush_batch_wait = gather;
    let log = Mutex::new(RaftLog::open(Arc::new(config))?);
    Ok(Box::new(Flushed { log, durable: mode == Mode::Synced }))
}

impl Flushed {
    fn next(log: &RaftLog<Plain>) -> u64 {
        Plain::next_log_index(log.log_state().last())
    }
}

impl Peer for Flushed {
    fn append(&self, _lane: usize, entries: &[&[u8]]) -> Outcome<()> {
        let mut log = self.log.lock().map_err(|_| "poisoned")?;
        let first = Self::next(&log);
        log.append((first..).zip(entries).map(|(index, entry)| ((1, index), entry.to_vec())))?;
        if self.durable {
            let (done, wait) = sync_channel(1);
            log.flush(true, Some(done))?;
            // Others append while this one waits.
            drop(log);
            wait.recv()??;
        }
        Ok(())
    }

    fn flush(&self) -> Outcome<()> {
        let (done, wait) = sync_channel(1);
        self.log.lock().map_err(|_| "poisoned")?.flush(true, Some(done))?;
        Ok(wait.recv()??)
    }

    fn read(&self, first: u64, count: usize) -> Outcome<Box<dyn Owned>> {
        let log = self.log.lock().map_err(|_| "poisoned")?;
        let entries = log.read(first, first + count as u64);
        let payloads = entries.map(|entry| entry.map(|(_, payload)| payload));
        Ok(Box::new(payloads.collect::<Result<Vec<_>, _>>()?))
    }

    fn entries(&self) -> Outcome<Option<u64>> {
        Ok(Some(Self::next(&*self.log.lock().map_err(|_| "poisoned")?)))
    }
}
