//! [`DEngineLog`]: the entries and the purge boundary of one d-engine node.
//!
//! Owns: what each mutation of the host becomes as one batch of the log. Does not own: bytes
//! (`convert`), errors (`error`).
//!
//! Invariants, with `first..next` the live entries of the log:
//! - `first` is the purge boundary + 1, or 1 if nothing was purged; both change in one batch.
//! - So `next - 1` is the last entry or, if there is none, the purge boundary: `last_index`.
//! - `writing` is held from reading `first..next` until the batch that builds on it is submitted,
//!   and never across a sync.
//!
//! Durable on return: `purge`, `truncate`, `replace_range`, `reset`; the host flushes after none of
//! them. `persist_entries` is durable after the next `flush`; it is not synced by itself because the
//! host always flushes after it.

use std::ops::{Range, RangeInclusive};

use async_trait::async_trait;
use d_engine_core::LogStore;
use d_engine_proto::common::{Entry, LogId};
use indelible::store::{Store, StoreEntries as _};
use indelible::{Batch, Error, Log, Result, Ticket};
use parking_lot::Mutex;
use prost::bytes::Bytes;

use crate::convert::{BOUNDARY_CELL, INDEX_MIN};
use crate::convert::{clip, decode_boundary, decode_entries, decode_entry};
use crate::convert::{encode_boundary, encode_entry};
use crate::error::{HostResult, corruption, to_host};

/// Entries that are checked at a time when a log is opened.
const CHECK_ENTRIES: u64 = 4096;

/// The `LogStore` of d-engine.
#[derive(Debug)]
pub struct DEngineLog<S = Log> {
    log: S,
    writing: Mutex<()>,
}

impl<S: Store> DEngineLog<S> {
    pub(crate) fn new(log: S) -> Self {
        Self { log, writing: Mutex::new(()) }
    }

    pub(crate) fn log(&self) -> &S {
        &self.log
    }

    /// Reads everything once. The host only logs an error of its own read at the start, and then
    /// runs with an empty log; so what cannot be read has to be found here.
    pub(crate) fn check(&self) -> HostResult<()> {
        let live = self.live();
        let first = match self.load_purge_boundary()? {
            Some(boundary) => boundary.index.saturating_add(1),
            None => INDEX_MIN,
        };
        if live.start != first {
            let found = live.start;
            return Err(corruption(format!("the first entry is {found}, not {first}")));
        }
        let mut checked = live.start;
        while checked < live.end {
            let end = checked.saturating_add(CHECK_ENTRIES).min(live.end);
            let stored = self.log.read(checked..end).map_err(to_host)?;
            decode_entries(checked, &stored)?;
            checked = end;
        }
        Ok(())
    }

    fn live(&self) -> Range<u64> {
        self.log.first()..self.log.next()
    }

    /// Submits `entries` after the entries before them. Purged ones and ones that are stored
    /// already are left out; from the first that differs on, they replace what is stored.
    fn submit_persist(&self, entries: &[Entry]) -> Result<Ticket> {
        let mut run = Run::encode(entries)?;
        let _writing = self.writing.lock();
        let live = self.live();
        run.skip_to(live.start);
        run.check_follows(live.end)?;
        if !run.is_empty() {
            let stored = self.log.read(run.first..live.end)?;
            let same = stored.iter().zip(&run.entries).take_while(|(old, new)| old == new).count();
            run.skip(same);
        }
        let mut batch = Batch::new();
        if !run.is_empty() && run.first < live.end {
            batch.truncate(run.first);
        }
        run.append_to(&mut batch);
        self.log.submit(&batch)
    }

    /// Submits the removal of every entry from `from` on, and `entries` in their place.
    fn submit_replace(&self, from: u64, entries: &[Entry]) -> Result<Ticket> {
        let mut run = Run::encode(entries)?;
        let _writing = self.writing.lock();
        let live = self.live();
        let kept = from.clamp(live.start, live.end);
        run.skip_to(live.start);
        run.check_follows(kept)?;
        let cut = if run.is_empty() { kept } else { run.first };
        let mut batch = Batch::new();
        if cut < live.end {
            batch.truncate(cut);
        }
        run.append_to(&mut batch);
        self.log.submit(&batch)
    }

    /// Submits the removal of every entry up to `boundary`, whether or not the log reaches it.
    fn submit_purge(&self, boundary: LogId) -> Result<Ticket> {
        let Some(first) = boundary.index.checked_add(1) else {
            return Err(index_invalid("there is no index after it"));
        };
        let _writing = self.writing.lock();
        let live = self.live();
        let mut batch = Batch::new();
        if first > live.start {
            if first > live.end {
                batch.reset(first);
            } else {
                batch.trim(first);
            }
            batch.set(BOUNDARY_CELL, encode_boundary(boundary));
        }
        self.log.submit(&batch)
    }

    /// Submits the removal of every entry and of the purge boundary.
    fn submit_reset(&self) -> Result<Ticket> {
        let _writing = self.writing.lock();
        let mut batch = Batch::new();
        if self.live() != (INDEX_MIN..INDEX_MIN) {
            batch.reset(INDEX_MIN).clear(BOUNDARY_CELL);
        }
        self.log.submit(&batch)
    }
}

#[async_trait]
impl<S: Store> LogStore for DEngineLog<S> {
    /// Readable on return, durable after [`Self::flush`].
    async fn persist_entries(&self, entries: Vec<Entry>) -> HostResult<()> {
        self.submit_persist(&entries).map(drop).map_err(to_host)
    }

    async fn entry(&self, index: u64) -> HostResult<Option<Entry>> {
        match self.log.read(index..index.saturating_add(1)) {
            Ok(found) => found
                .get(0)
                .map(|bytes| decode_entry(index, &Bytes::copy_from_slice(bytes)))
                .transpose(),
            Err(Error::Trimmed { .. } | Error::BeyondEnd { .. }) => Ok(None),
            Err(error) => Err(to_host(error)),
        }
    }

    fn get_entries(&self, range: RangeInclusive<u64>) -> HostResult<Vec<Entry>> {
        let stored = {
            let _writing = self.writing.lock();
            let range = clip(&range, &self.live());
            self.log.read(range).map_err(to_host)?
        };
        decode_entries(stored.first(), &stored)
    }

    /// Durable on return.
    async fn purge(&self, cutoff_index: LogId) -> HostResult<()> {
        durable(self.submit_purge(cutoff_index))
    }

    /// Durable on return.
    async fn truncate(&self, from_index: u64) -> HostResult<()> {
        durable(self.submit_replace(from_index, &[]))
    }

    /// Durable on return.
    async fn replace_range(&self, from_index: u64, new_entries: Vec<Entry>) -> HostResult<()> {
        durable(self.submit_replace(from_index, &new_entries))
    }

    fn is_write_durable(&self) -> bool {
        false
    }

    /// Makes everything persisted before durable, while others go on persisting.
    fn flush(&self) -> HostResult<()> {
        self.log.sync().map_err(to_host)
    }

    async fn flush_async(&self) -> HostResult<()> {
        self.flush()
    }

    /// Durable on return. The hard state stays.
    async fn reset(&self) -> HostResult<()> {
        durable(self.submit_reset())
    }

    fn last_index(&self) -> u64 {
        self.log.next().saturating_sub(1)
    }

    fn load_purge_boundary(&self) -> HostResult<Option<LogId>> {
        self.log.cell(BOUNDARY_CELL).map(|bytes| decode_boundary(&bytes)).transpose()
    }
}

/// Waits until a submitted batch is durable. It blocks as `flush` does: the host makes these calls
/// on a thread of its own for I/O, one after the other.
fn durable(submitted: Result<Ticket>) -> HostResult<()> {
    submitted.and_then(|ticket| ticket.wait()).map_err(to_host)
}

/// Encoded entries whose indexes follow each other.
struct Run {
    first: u64,
    entries: Vec<Vec<u8>>,
}

impl Run {
    fn encode(entries: &[Entry]) -> Result<Self> {
        let first = entries.first().map_or(INDEX_MIN, |entry| entry.index);
        for (expected, entry) in (first..=u64::MAX).zip(entries) {
            if !(INDEX_MIN..u64::MAX).contains(&entry.index) {
                return Err(index_invalid("entries are counted from 1, to 2^64 - 2"));
            }
            if entry.index != expected {
                return Err(Error::NonContiguous { expected, got: entry.index });
            }
        }
        Ok(Self { first, entries: entries.iter().map(encode_entry).collect() })
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Leaves out the first `count` entries.
    fn skip(&mut self, count: usize) {
        let skipped = self.entries.drain(..count.min(self.entries.len())).count();
        self.first += skipped as u64;
    }

    /// Leaves out every entry below `index`.
    fn skip_to(&mut self, index: u64) {
        let below = index.saturating_sub(self.first);
        self.skip(usize::try_from(below).unwrap_or(usize::MAX));
    }

    /// Refuses to leave a gap after a log that ends with `next`.
    fn check_follows(&self, next: u64) -> Result<()> {
        if !self.is_empty() && self.first > next {
            return Err(Error::NonContiguous { expected: next, got: self.first });
        }
        Ok(())
    }

    fn append_to(self, batch: &mut Batch<'_>) {
        for entry in self.entries {
            batch.append(entry);
        }
    }
}

fn index_invalid(reason: &'static str) -> Error {
    Error::InvalidArgument { what: "index", reason }
}
