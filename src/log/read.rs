//! Reading a range of entries.
//!
//! Owns: finding the segments that hold it, in a log that goes on meanwhile. Does not own: what is in
//! a segment (`segment::read`).

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::shared::Shared;
use crate::error::{Error, Result};
use crate::segment::read::{Entries, Piece};

impl Shared {
    /// The entries of a range, every one of them checked.
    pub(crate) fn read(&self, range: &Range<u64>) -> Result<Entries> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        let mut pieces = self.find(range)?;
        while let Err(error) = self.check(range, &mut pieces) {
            // Nothing is wrong if a trim or a truncation took a file away before it was opened.
            let now = self.find(range)?;
            if pieces.len() == now.len() && pieces.iter().zip(&now).all(|(a, b)| a.is_same(b)) {
                return Err(error);
            }
            pieces = now;
        }
        Ok(Entries::new(range.start, pieces))
    }

    fn find(&self, range: &Range<u64>) -> Result<Vec<Piece>> {
        let look = || {
            let view = self.view.read();
            view.check(range)?;
            Ok(view.pieces(range))
        };
        if let Some(pieces) = look()? {
            return Ok(pieces);
        }
        self.index_tail()?;
        look().map(Option::unwrap_or_default)
    }

    fn check(&self, range: &Range<u64>, pieces: &mut [Piece]) -> Result<()> {
        if range.end > self.bounds.durable.load(Ordering::Acquire) {
            self.not_poisoned()?;
        }
        if pieces.iter().any(Piece::is_pending) {
            self.hand_over().inspect_err(|_| self.call_back())?;
        }
        pieces.iter_mut().try_for_each(Piece::check)
    }
}
