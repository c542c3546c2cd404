//! The reader: which segment holds which entries, and getting them out of there.
//!
//! Owns: the view and its lock, the bounds for those who only want to look, which sealed segments are
//! open, the newest frames in memory. Nobody outside of this folder sees a field of them. Does not
//! own: when any of this changes (`writer`, `syncer`), nor what is in a segment (`segment`).
//!
//! In here: the view (`view`), reads (`read`), the walk over all entries (`iter`), looking up offsets
//! that an open left alone (`index`), the bound on what is open (`opened`).

mod chain;
mod index;
mod iter;
#[cfg(all(test, loom))]
mod model;
mod opened;
mod read;
mod view;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

pub use self::iter::Iter;
use self::opened::OpenSegments;
pub(crate) use self::view::Draft;
pub(super) use self::view::{Runs, View};
use crate::format::SegmentName;
use crate::format::number::to_u64;
use crate::segment::Segment;
use crate::segment::durable_part::DurablePart;
use crate::segment::warm::Warm;
use crate::state::State;

/// What readers have of a log.
#[derive(Debug)]
pub(crate) struct Reader {
    view: RwLock<View>,
    /// What was durable in the tail at the open, until the offsets of its entries are looked up.
    unindexed: Mutex<Option<DurablePart>>,
    /// The newest frames that were handed over. Its lock, and that of the next, is one under which no
    /// other is taken.
    warm: Warm,
    /// The sealed segments whose files are open.
    opened: OpenSegments,
    first: AtomicU64,
    next: AtomicU64,
    durable: AtomicU64,
}

impl Reader {
    /// Of a log that is durable to its end.
    pub(super) fn new(view: View, unindexed: Option<DurablePart>, warm_bytes: usize) -> Self {
        let (first, next) = (AtomicU64::new(view.first()), AtomicU64::new(view.next()));
        Self {
            durable: AtomicU64::new(view.next()),
            view: RwLock::new(view),
            unindexed: Mutex::new(unindexed),
            warm: Warm::new(warm_bytes),
            opened: OpenSegments::default(),
            first,
            next,
        }
    }

    /// Index of the first entry.
    #[inline]
    pub(super) fn first(&self) -> u64 {
        self.first.load(Ordering::Acquire)
    }

    /// Index the next entry will get.
    #[inline]
    pub(super) fn next(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    /// Exclusive end of the entries that are on media.
    #[inline]
    pub(super) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    #[inline]
    pub(super) fn first_is(&self, first: u64) {
        self.first.store(first, Ordering::Release);
    }

    #[inline]
    pub(super) fn next_is(&self, next: u64) {
        self.next.store(next, Ordering::Release);
    }

    #[inline]
    pub(super) fn durable_is(&self, durable: u64) {
        self.durable.store(durable, Ordering::Release);
    }

    /// The entries from `end` on were dropped.
    pub(super) fn durable_ends_at(&self, end: u64) {
        self.durable.fetch_min(end, Ordering::AcqRel);
    }

    /// Every footer before the segment with this number is durable.
    pub(super) fn footers_durable(&self, number: u64) {
        self.view.write().footers_durable(number);
    }

    /// The offsets of the newest segment's entries once `draft` is shown; nothing if some of them is
    /// unknown.
    pub(super) fn tail_units(&self, draft: &Draft) -> Option<Vec<u32>> {
        draft.tail_units(&self.view.read())
    }

    /// Where frames go that were handed to the file.
    pub(super) fn warm(&self) -> &Warm {
        &self.warm
    }

    pub(super) fn segment_count(&self) -> usize {
        self.view.read().segment_count()
    }

    /// The runs that a checkpoint names: see [`View::runs`].
    pub(super) fn runs(&self, dead: &mut Vec<Arc<Segment>>) -> (Runs, Vec<Arc<Segment>>) {
        self.view.read().runs(dead)
    }

    /// Every segment, the tail last.
    pub(super) fn segments(&self) -> Vec<Arc<Segment>> {
        self.view.read().segments().cloned().collect()
    }

    /// See [`View::sealed_from`].
    pub(super) fn sealed_from(
        &self,
        number: u64,
    ) -> Option<(Arc<Segment>, Range<u64>, SegmentName, u64)> {
        self.view.read().sealed_from(number)
    }

    /// What a look at the view finds wrong, in a log of this state whose tail this is.
    pub(super) fn broken_invariant(&self, state: &State, tail: &Segment) -> Option<&'static str> {
        let view = self.view.read();
        let broken = |holds: bool, what| (!holds).then_some(what);
        let in_tail = state.next.checked_sub(tail.name.base);
        broken(
            in_tail == Some(to_u64(view.tail_units_len())),
            "INV-1: the tail does not hold the entries from its base on",
        )
        .or_else(|| {
            let what = "INV-1: readers and the writer differ in their bounds";
            let (first, next) = ((self.first(), view.first()), (self.next(), view.next()));
            broken(first == (state.first, state.first) && next == (state.next, state.next), what)
        })
        .or_else(|| {
            let ends_with_it = view.tail().is_some_and(|last| last.name == tail.name);
            broken(ends_with_it && view.ascends(), "INV-3: the bases in the view do not ascend")
        })
        .or_else(|| {
            let what = "INV-7: the runs are not those of the segments";
            broken(view.runs_are_right(), what)
        })
    }

    #[cfg(test)]
    pub(super) fn break_view(&self, breaking: impl FnOnce(&mut View)) {
        breaking(&mut self.view.write());
    }

    #[cfg(test)]
    pub(super) fn footers_awaited(&self) -> usize {
        self.view.read().footers_awaited()
    }
}
