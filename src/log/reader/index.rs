//! Looking up the offsets of what was in the tail before the log was opened.
//!
//! Owns: when it is done: by the first read that needs it, by the first roll, or by the maintenance
//! thread, whoever comes first. Does not own: how (`segment::durable_part`).

use std::sync::atomic::Ordering;

use crate::error::Result;
use crate::format::number::to_u64;
use crate::log::shared::Shared;
use crate::segment::with_indexes;

impl Shared {
    /// Makes the offset of every entry of the tail known, and sees that its frames can be walked to
    /// their end. Costs nothing once that is done.
    ///
    /// If a frame is unreadable, every entry whose offset is unknown is: those before the frame may
    /// have been dropped and written again after it. Called without the view's lock, which it takes
    /// last.
    pub(crate) fn index_tail(&self) -> Result<()> {
        let mut unindexed = self.reader.unindexed.lock();
        let Some(part) = unindexed.as_ref() else { return Ok(()) };
        let looked = part.offsets();
        let mut view = self.reader.view.write();
        let base = part.name.base;
        let indexes = base..base.saturating_add(to_u64(view.count_unknown()));
        // Where no entry is in it, none is named.
        let located =
            |error| if indexes.is_empty() { error } else { with_indexes(error, &indexes) };
        let found = looked.map_err(located)?;
        if let Some(tail) = view.tail() {
            tail.compressed.fetch_or(found.compressed, Ordering::Relaxed);
            tail.holes.fetch_or(found.holes, Ordering::Relaxed);
        }
        if !view.learn(&found.units) {
            let (expected, got) = (indexes.end - base, to_u64(found.units.len()));
            return Err(located(part.too_few(expected, got)));
        }
        *unindexed = None;
        Ok(())
    }
}
