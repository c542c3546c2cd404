//! The view: which segment holds which entries, as readers see it.
//!
//! Owns: the ordered list of segments with live entries and the offsets of the tail. Does not own:
//! the files. INV-3: bases ascend strictly; a segment without live entries is not in the list.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::number::{to_u64, to_usize};
use crate::format::slot::RUNS_MAX;
use crate::segment::Segment;
use crate::segment::offsets::Units;
use crate::segment::read::{Piece, Pieces, Places};
use crate::state::Bounds;

/// How many segments a look at the invariants takes in.
const LOOKED_AT: usize = 64;

/// What readers need to find an entry. It changes as a whole, in [`View::swap_in`], once everything
/// that a batch changes in it was put together beside it.
#[derive(Debug)]
pub(crate) struct View {
    first: u64,
    next: u64,
    segments: VecDeque<Arc<Segment>>,
    /// Runs of consecutive numbers among the segments, kept along with them.
    runs: VecDeque<(u64, u64)>,
    /// Offsets of the tail's entries.
    tail_units: Units,
    /// The same for segments whose footer is not known to be durable, by number: if its sync fails,
    /// the page cache may drop the footer while the entries before it are on the medium.
    sealed_units: Vec<(u64, Units)>,
}

/// What a batch changes in the view, put together beside it while its frames are written.
#[derive(Debug)]
pub(crate) struct Draft {
    /// How many entries of the tail stay.
    kept: usize,
    /// Offsets of the entries that come after them.
    units: Vec<u32>,
    /// The segments that the batch began, each with the offsets of its entries.
    begun: Vec<(Arc<Segment>, Vec<u32>)>,
}

impl Draft {
    /// No change, but that so many entries of the tail stay. `units` is space for offsets.
    pub(crate) fn new(kept: usize, units: Vec<u32>) -> Self {
        Self { kept, units, begun: Vec::new() }
    }

    /// An entry was written to the newest segment.
    pub(crate) fn push(&mut self, unit: u32) {
        match self.begun.last_mut() {
            Some((_, units)) => units.push(unit),
            None => self.units.push(unit),
        }
    }

    /// The entries from index `to` on were dropped; the newest segment starts with `base`.
    pub(crate) fn truncate(&mut self, to: u64, base: u64) {
        let count = to_usize(to.saturating_sub(base));
        if let Some((_, units)) = self.begun.last_mut() {
            units.truncate(count);
        } else {
            self.units.truncate(count.saturating_sub(self.kept));
            self.kept = self.kept.min(count);
        }
    }

    /// A segment was begun.
    pub(crate) fn begin(&mut self, segment: Arc<Segment>) {
        self.begun.push((segment, Vec::new()));
    }

    /// The space for offsets, empty, with no more than `kept` of it.
    pub(crate) fn take_space(&mut self, kept: usize) -> Vec<u32> {
        self.units.clear();
        if self.units.capacity() > kept {
            self.units.shrink_to(kept);
        }
        std::mem::take(&mut self.units)
    }

    /// The offsets of the newest segment's entries; nothing if some of them is unknown.
    pub(crate) fn tail_units(&self, view: &View) -> Option<Vec<u32>> {
        if let Some((_, units)) = self.begun.last() {
            return Some(units.clone());
        }
        let kept = view.tail_units.all()?.get(..self.kept)?;
        Some([kept, &self.units].concat())
    }
}

impl View {
    /// A view of no segment, which [`Self::begin`] takes in.
    pub(crate) fn new(first: u64, next: u64) -> Self {
        let (segments, runs, sealed_units) = (VecDeque::new(), VecDeque::new(), Vec::new());
        Self { first, next, segments, runs, tail_units: Units::default(), sealed_units }
    }

    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// How many entries the tail holds.
    pub(crate) fn tail_units_len(&self) -> usize {
        self.tail_units.len()
    }

    /// How many of their offsets are still to be looked up.
    pub(crate) fn count_unknown(&self) -> usize {
        self.tail_units.count_unknown()
    }

    /// Takes in those. Returns whether there are as many as were unknown.
    pub(crate) fn learn(&mut self, units: &Units) -> bool {
        self.tail_units.learn(units)
    }

    /// The offsets of the tail's entries, as an open found them.
    pub(crate) fn set_tail_units(&mut self, units: Units) {
        self.tail_units = units;
    }

    pub(crate) fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// Swaps in what a batch leads to. Segments that hold nothing live any more go to `dead`. Costs
    /// as much as the batch changes, however many segments there are.
    pub(crate) fn swap_in(
        &mut self,
        draft: &mut Draft,
        bounds: Bounds,
        dead: &mut Vec<Arc<Segment>>,
    ) {
        self.tail_units.truncate(draft.kept);
        self.tail_units.extend(&draft.units);
        self.next = bounds.next;
        if draft.begun.is_empty() && bounds.first == self.first {
            return;
        }
        for (segment, units) in draft.begun.drain(..) {
            self.begin(segment, Units::complete(units), dead);
        }
        self.trim(bounds.first, dead);
    }

    /// Takes in a new tail with the offsets of its entries. Segments that hold nothing live any more
    /// go to `dead`.
    pub(crate) fn begin(&mut self, tail: Arc<Segment>, units: Units, dead: &mut Vec<Arc<Segment>>) {
        let sealed_units = std::mem::replace(&mut self.tail_units, units);
        if let Some(sealed) = self.segments.back()
            && sealed_units.len() > 0
        {
            self.sealed_units.push((sealed.name.number, sealed_units));
        }
        while self.segments.back().is_some_and(|last| last.name.base >= tail.name.base) {
            if let Some((first_of_run, last_of_run)) = self.runs.pop_back()
                && first_of_run < last_of_run
            {
                self.runs.push_back((first_of_run, last_of_run - 1));
            }
            dead.extend(self.segments.pop_back());
        }
        let number = tail.name.number;
        match self.runs.back_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => self.runs.push_back((number, number)),
        }
        self.segments.push_back(tail);
    }

    /// INV-3, as far as the newest segments go: a look at all of them would cost what a roll must not.
    pub(crate) fn ascends(&self) -> bool {
        let newest = self.segments.iter().rev();
        newest.clone().zip(newest.skip(1)).take(LOOKED_AT).all(|(after, before)| {
            before.name.base < after.name.base && before.name.number < after.name.number
        })
    }

    /// Whether the runs that are kept along with the segments are theirs (INV-7).
    pub(crate) fn runs_are_right(&self) -> bool {
        let count: u64 = self.runs.iter().map(|(first, last)| last - first + 1).sum();
        let ends = |run: Option<&(u64, u64)>, segment: Option<&Arc<Segment>>, end: fn(_) -> u64| {
            run.map(|run| end(*run)) == segment.map(|segment| segment.name.number)
        };
        count == to_u64(self.segments.len())
            && ends(self.runs.front(), self.segments.front(), |run: (u64, u64)| run.0)
            && ends(self.runs.back(), self.segments.back(), |run: (u64, u64)| run.1)
    }

    #[cfg(test)]
    pub(crate) fn repeat_the_first_segment(&mut self) {
        self.segments.extend(self.segments.front().cloned());
    }

    #[cfg(test)]
    pub(crate) fn forget_an_offset(&mut self) {
        self.tail_units.truncate(self.tail_units.len() - 1);
    }

    #[cfg(test)]
    pub(crate) fn invent_an_entry(&mut self) {
        self.next += 1;
    }

    #[cfg(test)]
    pub(crate) fn forget_a_run(&mut self) {
        self.runs.pop_front();
    }

    /// Every footer before the segment with this number is durable.
    pub(crate) fn footers_durable(&mut self, number: u64) {
        self.sealed_units.retain(|(sealed, _)| *sealed >= number);
    }

    #[cfg(test)]
    pub(crate) fn footers_awaited(&self) -> usize {
        self.sealed_units.len()
    }

    /// Takes in a new first index. Segments that hold nothing live any more go to `dead`.
    pub(crate) fn trim(&mut self, first: u64, dead: &mut Vec<Arc<Segment>>) {
        self.first = first;
        while self.segments.get(1).is_some_and(|second| second.name.base <= first) {
            if let Some((first_of_run, last_of_run)) = self.runs.pop_front()
                && first_of_run < last_of_run
            {
                self.runs.push_front((first_of_run + 1, last_of_run));
            }
            dead.extend(self.segments.pop_front());
        }
    }

    /// Refuses indexes that are not in the log.
    pub(crate) fn check(&self, range: &Range<u64>) -> Result<()> {
        if range.start > range.end {
            let reason = "a range must not end before it starts";
            return Err(Error::InvalidArgument { what: "range", reason });
        }
        if range.is_empty() {
            return Ok(());
        }
        if range.start < self.first {
            return Err(Error::Trimmed { wanted: range.start, first: self.first });
        }
        if range.end > self.next {
            return Err(Error::BeyondEnd { wanted: range.end - 1, next: self.next });
        }
        Ok(())
    }

    /// The segments that hold `range`, which must be in the log, with the part each holds; nothing
    /// if the offset of an entry in the tail is still unknown.
    pub(crate) fn pieces(&self, range: &Range<u64>) -> Option<Pieces> {
        let mut pieces = Pieces::new();
        let mut from = range.start;
        let mut at = self.position_of(from);
        while from < range.end
            && let Some(segment) = self.segments.get(at)
        {
            let end = self.segments.get(at + 1).map_or(self.next, |after| after.name.base);
            let part = from..end.min(range.end);
            let number = segment.name.number;
            let units = if at + 1 == self.segments.len() {
                Some(&self.tail_units)
            } else {
                let mut sealed = self.sealed_units.iter();
                sealed.find(|(sealed, _)| *sealed == number).map(|(_, units)| units)
            };
            let nth = |index: u64| to_usize(index.saturating_sub(segment.name.base));
            let units = match units {
                Some(units) => {
                    let after = nth(part.end).saturating_add(1).min(units.len());
                    Some(Places::from_slice(units.get(nth(part.start)..after.max(nth(part.end)))?))
                }
                None => None,
            };
            from = part.end;
            let segment = Arc::clone(segment);
            let after = self.segments.get(at + 1).cloned();
            pieces.push(Piece { segment, units, range: part, live_end: end, after });
            at += 1;
        }
        Some(pieces)
    }

    /// The tail and the place of an entry in it, in units; nothing if it is elsewhere, or its place
    /// unknown.
    pub(crate) fn in_tail(&self, index: u64) -> Option<(&Arc<Segment>, u32)> {
        let tail = self.tail()?;
        let nth = to_usize(index.checked_sub(tail.name.base)?);
        let unit = *self.tail_units.get(nth..nth.checked_add(1)?)?.first()?;
        (index < self.next).then_some((tail, unit))
    }

    /// Every segment, the tail last.
    pub(crate) fn segments(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.segments.iter()
    }

    /// The tail segment.
    pub(crate) fn tail(&self) -> Option<&Arc<Segment>> {
        self.segments.back()
    }

    /// Place of the segment that holds `index`: the last one that starts at or before it.
    fn position_of(&self, index: u64) -> usize {
        self.segments.partition_point(|segment| segment.name.base <= index).saturating_sub(1)
    }

    /// The first sealed segment with this number or a later one, the entries that count in it, and
    /// how many follow it.
    pub(crate) fn sealed_from(&self, number: u64) -> Option<(Arc<Segment>, Range<u64>, u64)> {
        let at = self.segments.partition_point(|segment| segment.name.number < number);
        let (segment, after) = (self.segments.get(at)?, self.segments.get(at + 1)?);
        let live = segment.name.base.max(self.first)..after.name.base;
        Some((Arc::clone(segment), live, to_u64(self.segments.len() - at - 2)))
    }

    /// Runs of consecutive segment numbers, ascending: what a checkpoint names. Where there are too
    /// many gaps to write down, segments among `dead` go on being named, so that no further gap
    /// opens; they come back to be kept until a trim. (INV-7: what is named never has more than
    /// `RUNS_MAX` runs, because a new segment always continues the last one.)
    pub(crate) fn runs(&self, dead: &mut Vec<Arc<Segment>>) -> (Runs, Vec<Arc<Segment>>) {
        if self.runs.len() <= RUNS_MAX {
            return (self.runs.iter().copied().collect(), Vec::new());
        }
        let first = self.runs.front().map_or(0, |(first, _)| *first);
        let kept: Vec<_> = dead.extract_if(.., |it| it.name.number > first).collect();
        let also = kept.iter().map(|it| (it.name.number, it.name.number));
        let mut parts: Runs = self.runs.iter().copied().chain(also).collect();
        parts.sort_unstable();
        let mut runs: Runs = Vec::new();
        for (first, last) in parts {
            match runs.last_mut() {
                Some((_, end)) if *end + 1 == first => *end = last,
                _ => runs.push((first, last)),
            }
        }
        (runs, kept)
    }
}

/// First and last number of each run.
pub(crate) type Runs = Vec<(u64, u64)>;
