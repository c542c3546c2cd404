//! raft-engine 0.4 (TiKV): one raft group a lane, entries as protobuf messages.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use protobuf::well_known_types::BytesValue;
use raft_engine::{Config, Engine, LogBatch, MessageExt};

use crate::owned::Owned;
use crate::peer::{Mode, Opened, Outcome, Peer};

const LANES: usize = 128;

/// An entry whose first eight bytes are its index: the smallest message that knows its place.
#[derive(Clone)]
pub struct Indexed;

impl MessageExt for Indexed {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        entry.value.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

struct RaftEngine {
    engine: Engine,
    durable: bool,
    next: Vec<AtomicU64>,
    /// Batches to use again, as TiKV does.
    batches: Mutex<Vec<LogBatch>>,
}

pub fn open(dir: &Path, mode: Mode) -> Opened {
    let config = Config { dir: dir.to_string_lossy().into_owned(), ..Config::default() };
    let engine = Engine::open(config)?;
    let next = (0..LANES as u64)
        .map(|lane| AtomicU64::new(engine.last_index(lane).map_or(0, |last| last + 1)))
        .collect();
    Ok(Box::new(RaftEngine {
        engine,
        durable: mode == Mode::Synced,
        next,
        batches: Mutex::default(),
    }))
}

/// What it decodes into.
struct Messages(Vec<BytesValue>);

impl Owned for Messages {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn each(&self, look: &mut dyn FnMut(&[u8])) {
        self.0.iter().for_each(|message| look(&message.value));
    }
}

impl Peer for RaftEngine {
    fn append(&self, lane: usize, entries: &[&[u8]]) -> Outcome<()> {
        let first = self.next[lane].fetch_add(entries.len() as u64, Ordering::Relaxed);
        let messages: Vec<BytesValue> = (first..)
            .zip(entries)
            .map(|(index, entry)| {
                let mut value = entry.to_vec();
                value[..8].copy_from_slice(&index.to_le_bytes());
                BytesValue { value, ..BytesValue::default() }
            })
            .collect();
        let spare = self.batches.lock().map_err(|_| "poisoned")?.pop();
        let mut batch = spare.unwrap_or_else(|| LogBatch::with_capacity(entries.len()));
        batch.add_entries::<Indexed>(lane as u64, &messages)?;
        self.engine.write(&mut batch, self.durable)?;
        self.batches.lock().map_err(|_| "poisoned")?.push(batch);
        Ok(())
    }

    fn flush(&self) -> Outcome<()> {
        Ok(self.engine.sync()?)
    }

    fn read(&self, first: u64, count: usize) -> Outcome<Box<dyn Owned>> {
        let mut messages = Vec::with_capacity(count);
        let end = first + count as u64;
        self.engine.fetch_entries_to::<Indexed>(0, first, end, None, &mut messages)?;
        Ok(Box::new(Messages(messages)))
    }

    fn entries(&self) -> Outcome<Option<u64>> {
        Ok(Some(self.engine.last_index(0).map_or(0, |last| last + 1)))
    }
}
