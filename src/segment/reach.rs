//! The reach: how far the tail may grow before another checkpoint.
//!
//! Owns: INV-5, that no frame is written past what the newest durable checkpoint states, so that an
//! open after a crash knows how far to look. Does not own: when a checkpoint is due (`log`).
//!
//! A checkpoint limits the tail from the moment it is put together by what it will say, and until it
//! is durable by what the one before says. Checkpoints are numbered, because one may be overtaken by
//! another, or by a batch that was refused with frames in the tail: then it lets nobody write further.

use crate::planted::{Bug, planted};

/// The limit of one tail.
#[derive(Debug)]
pub(crate) struct Reach {
    end: u64,
    /// Number of the newest checkpoint that was put together.
    newest: u64,
}

impl Reach {
    /// As the checkpoint states that a log was opened with.
    pub(crate) fn new(end: u64) -> Self {
        Self { end, newest: 0 }
    }

    /// Whether frames may end here.
    #[inline]
    pub(crate) fn allows(&self, end: u64) -> bool {
        self.includes(end) || planted(Bug::ReachIgnored)
    }

    /// Whether an offset is not past it.
    #[inline]
    pub(crate) fn includes(&self, offset: u64) -> bool {
        offset <= self.end
    }

    /// A checkpoint is put together that will say `end`. Returns its number.
    pub(crate) fn is_to_be(&mut self, end: u64) -> u64 {
        if !planted(Bug::ReachLoweredLate) {
            self.end = self.end.min(end);
        }
        self.newest += 1;
        self.newest
    }

    /// The checkpoint of this number is durable and says `end`.
    pub(crate) fn is_stated(&mut self, number: u64, end: u64) {
        if number == self.newest || planted(Bug::RefusalOvertaken) {
            self.end = end;
        }
    }

    /// A batch was refused whose frames may stand after `position`: nothing follows before a checkpoint
    /// that was put together later.
    pub(crate) fn refuse_after(&mut self, position: u64) {
        self.end = self.end.min(position);
        self.newest += 1;
    }

    /// A segment of this length was begun. No checkpoint names it yet, so none limits it: the sync that
    /// acknowledges anything in it writes one.
    pub(crate) fn is_unlimited(&mut self, segment_bytes: u64) {
        self.end = segment_bytes;
    }
}
