//! Reading entries: from memory, lent, or copied.
//!
//! Owns: finding what holds them, in a log that goes on meanwhile. Does not own: what is in a segment
//! (`segment::read`), nor what is in memory (`segment::warm`, the pending frames of the tail).

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use smallvec::SmallVec;

use crate::compress::decompress;
use crate::error::{Error, Result};
use crate::format::frame::{FRAME_HEADER_BYTES, FrameHeader};
use crate::format::number::to_u64;
use crate::log::shared::Shared;
use crate::segment::entries::{Entries, Lents, OwnedEntries};
use crate::segment::read::{Located, Piece, Pieces, copy};
use crate::segment::{OFFSET_UNIT, Segment};
use crate::telemetry::stats::add;

impl Shared {
    /// The entries of a range, lent.
    pub(crate) fn read(&self, range: &Range<u64>) -> Result<Entries> {
        if range.start.checked_add(1) == Some(range.end)
            && let Some((tail, unit, _)) = self.in_tail(range.start)
            && let Some(lent) = tail.lend_again(range.start, unit)
        {
            return Ok(Entries::new(range.start, SmallVec::from_buf([lent])));
        }
        self.with_pieces(range, |pieces| self.lend_pieces(pieces, range.start, u64::MAX))
    }

    /// The entries of a range, copied.
    pub(crate) fn read_owned(&self, range: &Range<u64>) -> Result<OwnedEntries> {
        self.with_pieces(range, |pieces| self.copy_pieces(pieces, range.start, u64::MAX))
    }

    /// The first entries of a range, lent: as many as come to no more than so many bytes with their
    /// frames and what lies between them, and at least one.
    pub(crate) fn read_within(&self, range: &Range<u64>, bytes: u64) -> Result<Entries> {
        self.dir.not_forked()?;
        self.reader.view.read().check(range)?;
        let part = at_most(range, bytes);
        self.with_pieces(&part, |pieces| self.lend_pieces(pieces, part.start, bytes))
    }

    /// As [`Self::read_within`], copied.
    pub(crate) fn read_owned_within(&self, range: &Range<u64>, bytes: u64) -> Result<OwnedEntries> {
        let part = at_most(range, bytes);
        self.with_pieces(&part, |pieces| self.copy_pieces(pieces, part.start, bytes))
    }

    /// One entry, copied: out of memory if it is among the newest.
    pub(crate) fn entry(&self, index: u64) -> Result<Vec<u8>> {
        if let Some((tail, unit, after)) = self.in_tail(index)
            && let Some(entry) =
                self.newest_entry(index, &tail, unit).or_else(|| tail.copy_one(index, unit..after?))
        {
            return Ok(entry);
        }
        let end = index.checked_add(1).ok_or_else(|| self.beyond_end(index))?;
        let owned = self.read_owned(&(index..end))?;
        owned.into_first().ok_or_else(|| self.beyond_end(index))
    }

    fn beyond_end(&self, wanted: u64) -> Error {
        Error::BeyondEnd { wanted, next: self.reader.next() }
    }

    /// See [`View::in_tail`](super::view::View::in_tail); nothing if the entry is not to be read.
    fn in_tail(&self, index: u64) -> Option<(Arc<Segment>, u32, Option<u32>)> {
        if self.closed.load(Ordering::Acquire) || self.dir.not_forked().is_err() {
            return None;
        }
        let found = {
            let view = self.reader.view.read();
            if index < view.first() {
                return None;
            }
            view.in_tail(index).map(|(tail, unit, after)| (Arc::clone(tail), unit, after))?
        };
        let may_be_read = index < self.reader.durable() || self.not_poisoned().is_ok();
        may_be_read.then_some(found)
    }

    /// An entry at a place of the tail that is still in memory as it was written; nothing if it is not.
    fn newest_entry(&self, index: u64, tail: &Segment, unit: u32) -> Option<Vec<u8>> {
        let (segment, offset) = (tail.name.number, u64::from(unit) * OFFSET_UNIT);
        let handed_over = if self.options.volatile {
            tail.frame_in_memory(offset)
        } else {
            self.reader.warm.frame(segment, offset)
        };
        let (header, payload) =
            handed_over.or_else(|| self.writer.pending_frame(segment, offset))?;
        debug_assert!(header.index == index, "a frame stays where it was written");
        plain(&header, payload)
    }

    /// Finds the pieces of a range and does something with them; again, if meanwhile they are not what
    /// they were.
    fn with_pieces<T>(
        &self,
        range: &Range<u64>,
        read: impl Fn(&[Piece]) -> Result<T>,
    ) -> Result<T> {
        self.dir.not_forked()?;
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        let mut pieces = self.find(range)?;
        loop {
            let error = match self.readable(range, &pieces).and_then(|()| read(&pieces)) {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            // Nothing is wrong if a trim or a truncation took a file away before it was opened.
            let now = self.find(range)?;
            if pieces.len() == now.len() && pieces.iter().zip(&now).all(|(a, b)| a.is_same(b)) {
                return Err(error);
            }
            pieces = now;
        }
    }

    fn find(&self, range: &Range<u64>) -> Result<Pieces> {
        let look = || {
            let view = self.reader.view.read();
            view.check(range)?;
            Ok(view.pieces(range))
        };
        if let Some(pieces) = look()? {
            return Ok(pieces);
        }
        self.index_tail()?;
        look().map(Option::unwrap_or_default)
    }

    /// Sees that the pieces are in the file, and may be read.
    fn readable(&self, range: &Range<u64>, pieces: &[Piece]) -> Result<()> {
        if range.end > self.reader.durable() {
            self.not_poisoned()?;
        }
        if pieces.iter().any(Piece::is_pending) {
            self.hand_over().inspect_err(|_| self.call_back())?;
        }
        Ok(())
    }

    /// Lends the entries of all pieces, the first of which is `first`: as many as come to no more than
    /// so many bytes, and at least one.
    fn lend_pieces(&self, pieces: &[Piece], first: u64, bytes: u64) -> Result<Entries> {
        let mut lent = Lents::new();
        self.locate(pieces, bytes, |piece| piece.lend(&mut lent, bytes))?;
        Ok(Entries::new(first, lent))
    }

    /// The same, copied.
    fn copy_pieces(&self, pieces: &[Piece], first: u64, bytes: u64) -> Result<OwnedEntries> {
        let mut located = SmallVec::with_capacity(pieces.len());
        self.locate(pieces, bytes, |piece| {
            located.push(piece);
            Ok(true)
        })?;
        copy(first, located, bytes)
    }

    /// Opens what is not open yet, of the first `bytes` bytes only, and has it taken piece by piece
    /// for as long as `take` wants more.
    fn locate<'a>(
        &self,
        pieces: &'a [Piece],
        bytes: u64,
        mut take: impl FnMut(Located<'a>) -> Result<bool>,
    ) -> Result<()> {
        let (mut left, mut is_first) = (bytes, true);
        for piece in pieces.iter().filter(|piece| !piece.range.is_empty()) {
            if left == 0 && !is_first {
                break;
            }
            let mut piece = piece.locate()?;
            if piece.is_new {
                self.reader.opened.note(piece.segment());
                add(&self.counters.footers_rebuilt, u64::from(piece.has_rebuilt_table()));
            }
            let wanted = piece.len();
            piece.fit(left);
            let cut = piece.len() < wanted;
            if piece.span() > left && !is_first {
                break;
            }
            left = left.saturating_sub(piece.span());
            is_first = false;
            if !take(piece)? || cut {
                break;
            }
        }
        Ok(())
    }
}

/// As much of a range as can have so many bytes of frames; at least one entry.
fn at_most(range: &Range<u64>, bytes: u64) -> Range<u64> {
    let most = (bytes / to_u64(FRAME_HEADER_BYTES)).max(1);
    range.start..range.end.min(range.start.saturating_add(most))
}

/// The entry in a payload; nothing if it cannot be had, of which somebody else tells the reason.
fn plain(header: &FrameHeader, payload: Vec<u8>) -> Option<Vec<u8>> {
    if header.is_compressed() { decompress(&payload).ok() } else { Some(payload) }
}
