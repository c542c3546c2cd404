//! Reading ahead where the cache was dropped.
//!
//! Owns: asking the system for what a distrustful open dropped and somebody reads in order, so that the
//! device is busy while what it has read is looked at. Does not own: the dropping (`os`). By advice, which
//! brings in pages of their own; the readahead of the kernel would leave large folios in the page cache,
//! and then every small store writes back a whole one.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Advice, fadvise};

use super::{Access, OsHandle};

/// Bytes that are asked for before somebody reads them: all that most opens read.
const AHEAD_BYTES: u64 = 4 * 1024 * 1024;

/// Bytes that are asked for at a time.
const PIECE_BYTES: u64 = 1024 * 1024;

/// A range that was dropped from the cache.
#[derive(Debug)]
pub(super) struct Ahead {
    /// Everything before was asked for.
    asked: AtomicU64,
    end: u64,
}

impl Ahead {
    /// Of a file that was opened in this way and is so long. Asks for the beginning of the range.
    pub(super) fn after(access: Access, file: &OsHandle, file_bytes: u64) -> Option<Self> {
        let Access::Distrust { from, to } = access else { return None };
        let ahead = Self { asked: AtomicU64::new(from), end: to.min(file_bytes) };
        ahead.note(file, from);
        Some(ahead)
    }

    /// Somebody reads at an offset, which may be anywhere.
    pub(super) fn note(&self, file: &OsHandle, offset: u64) {
        loop {
            let asked = self.asked.load(Ordering::Relaxed);
            let bytes = PIECE_BYTES.min(self.end.saturating_sub(asked));
            let is_near = (asked.saturating_sub(AHEAD_BYTES)..=asked).contains(&offset);
            let Some(length) = NonZeroU64::new(bytes).filter(|_| is_near) else { return };
            // Advice only.
            fadvise(file, asked, Some(length), Advice::WillNeed).ok();
            self.asked.store(asked + bytes, Ordering::Relaxed);
        }
    }
}
