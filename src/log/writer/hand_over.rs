//! Handing pending frames to the file: by a sync, by a reader who wants them, when there are many.
//!
//! Owns: when frames leave the memory of the process under `Buffered` and `Direct`; under the other
//! modes nothing is pending between two batches. Does not own: how (`segment::tail`), nor durability.
//!
//! One thread at a time hands over, and in the order in which frames were written, because it takes
//! `handing_over` before it lets the writer's lock go. Whoever gets that lock afterwards knows that
//! everything taken before is in the file, or that the log is poisoned.

use parking_lot::MutexGuard;

use super::{Writer, WriterGuard};
use crate::error::{Error, Result};
use crate::format::number::{to_u64, to_usize};
use crate::log::shared::Shared;
use crate::options::Durability;
use crate::planted::{Bug, planted};
use crate::segment::tail::write_witness;
use crate::segment::witness::Testimony;

/// Pending bytes at which they are handed over without being asked for.
const PENDING_BYTES: usize = 256 * 1024;

/// The same in a log in memory, where a hand-over costs no call and what was just written is still in
/// the processor's cache.
const PENDING_BYTES_VOLATILE: usize = 2 * 1024;

/// How many times that much may be pending while the flusher has not come round to it.
const PENDING_FACTOR_MAX: usize = 8;

impl Shared {
    /// Hands everything written so far to the file, and lets readers see it. Nothing becomes durable.
    pub(crate) fn hand_over(&self) -> Result<()> {
        self.hand_over_from(self.writer(), None, false)
    }

    /// As [`Self::hand_over`]; lets the writer's lock go as soon as the frames are taken. A witness
    /// is written after them while nobody else can write there: what comes next may go over it.
    /// With `through` all of that is durable on return.
    pub(in crate::log) fn hand_over_from(
        &self,
        mut writer: WriterGuard<'_>,
        witness: Option<&Testimony>,
        through: bool,
    ) -> Result<()> {
        if !self.is_buffered() {
            self.not_poisoned()?;
            let Some(witness) = witness else { return Ok(()) };
            return write_witness(writer.tail.file.as_ref(), witness).map_err(|source| {
                self.poisoned_by(Error::io("write", writer.tail.segment.path(), source))
            });
        }
        let mut buffer = self.writer.handing_over.lock();
        let _alarm = self.alarm();
        let pending = writer.tail.take_pending(std::mem::take(&mut buffer));
        drop(writer);
        self.not_poisoned()?;
        let hand_over = || pending.hand_over(self.reader.warm(), witness, through);
        let (empty, handed) = if planted(Bug::HandedOverOutOfOrder) {
            MutexGuard::unlocked(&mut buffer, hand_over)
        } else {
            hand_over()
        };
        *buffer = empty;
        handed.map_err(|error| self.poisoned_by(error))
    }

    /// Hands everything pending to the file with the writer's lock held. Readers see it when the tail
    /// publishes it.
    pub(super) fn flush(&self, writer: &mut Writer) -> Result<()> {
        let bytes = to_u64(writer.tail.pending.len());
        let in_order = self.is_buffered() && !planted(Bug::RollOvertakesHandOver);
        let in_order = in_order.then(|| self.writer.handing_over.lock());
        if in_order.is_some() {
            // Frames that failed to be handed over meanwhile are missing in front of these.
            self.not_poisoned()?;
        }
        writer.tail.flush(self.reader.warm()).map_err(|source| {
            self.dir.full_or_io("write", &writer.tail.segment.name.to_string(), bytes, source)
        })
    }

    /// Whether a batch may stay in memory until somebody needs it. One that is long enough goes to
    /// the file anyway, by the flusher as long as it keeps up.
    #[inline]
    pub(super) fn may_stay_pending(&self, writer: &Writer) -> bool {
        if !self.is_buffered() {
            return false;
        }
        let most = if self.options.volatile { PENDING_BYTES_VOLATILE } else { PENDING_BYTES };
        // A quarter of a small segment, so that tests in tiny ones meet it.
        let enough = most.min(to_usize(self.segment_bytes / 4));
        let pending = writer.tail.pending.len();
        if pending < enough {
            return true;
        }
        if self.options.background && pending < enough * PENDING_FACTOR_MAX {
            // Where whoever commits syncs at once, frames and sync are one write.
            if self.options.durability != Durability::Always {
                self.signals.want_hand_over();
            }
            return true;
        }
        false
    }

    pub(super) fn is_buffered(&self) -> bool {
        self.options.write_mode_in_force().defers_writes()
    }
}
