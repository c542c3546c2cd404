//! Frames that wait in memory, under [`WriteMode::Buffered`](crate::WriteMode): how they leave it.
//!
//! Owns: telling apart who had them handed to the file, and counting it, so that a run can show that
//! it met every way. Does not own: the handing over (`log::writer::hand_over`).

use std::collections::BTreeMap;

use super::tally::Tally;
use crate::format::number::to_u64;
use crate::log::Log;

/// Where the frames of a log are at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frames {
    segment: u64,
    pending: u64,
    handed: u64,
    durable: u64,
}

impl Frames {
    /// Of a log that nobody else uses now.
    pub(super) fn of(log: &Log) -> Self {
        let writer = log.shared().writer();
        let pending = to_u64(writer.tail().pending.len());
        let handed = writer.tail().position().saturating_sub(pending);
        let durable = log.shared().syncer.durable();
        Self { segment: writer.tail().segment.name.number, pending, handed, durable }
    }
}

/// What a run has met of it.
#[derive(Debug, Default)]
pub(super) struct InMemory {
    batches: u64,
    met: BTreeMap<&'static str, u64>,
}

impl InMemory {
    /// How many batches wait.
    pub(super) fn batches(&self) -> u64 {
        self.batches
    }

    /// A batch was written, or another step done.
    pub(super) fn after_step(&mut self, before: Frames, after: Frames, is_batch: bool) {
        if is_batch && before.pending > 0 && after.segment > before.segment {
            self.count("rolls with frames in memory");
        } else if is_batch
            && after.segment == before.segment
            && after.handed > before.handed
            && after.durable == before.durable
        {
            self.count("full buffers handed over");
        }
        self.batches = if after.pending == 0 { 0 } else { self.batches + u64::from(is_batch) };
    }

    /// Something was read.
    pub(super) fn after_read(&mut self, before: Frames, after: Frames) {
        if before.pending > 0 && after.pending == 0 {
            self.count("frames handed over for a reader");
            self.batches = 0;
        }
    }

    pub(super) fn count(&mut self, kind: &'static str) {
        *self.met.entry(kind).or_default() += 1;
    }

    /// Adds what was met to the numbers of a run.
    pub(super) fn add_to(&self, tally: &mut Tally) {
        for (kind, count) in &self.met {
            tally.count_many(kind, *count);
        }
    }
}
