//! The view: which segment holds which entries, as readers see it.
//!
//! Owns: the ordered list of segments with live entries and the offsets of the tail. Does not own:
//! the files. INV-3: bases ascend strictly; a segment without live entries is not in the list.

use std::ops::Range;
use std::sync::Arc;

use super::Reader;
use super::chain::Chain;
use crate::error::{Error, Result};
use crate::format::SegmentName;
use crate::format::number::{to_u64, to_usize};
use crate::format::slot::RUNS_MAX;
use crate::segment::Segment;
use crate::segment::offsets::Units;
use crate::segment::read::{Piece, Pieces, Places};
use crate::state::Bounds;

/// Offsets that are kept room for from one draft to the next.
const UNITS_KEPT: usize = 4096;

/// How many segments a look at the invariants takes in.
const LOOKED_AT: usize = 64;

/// Which segments there are: what readers see is never changed. A roll, a truncation or a trim builds
/// the next list beside it, at the same cost whatever its length, and swaps it in.
#[derive(Debug, Clone)]
pub(crate) struct Segments {
    /// Index of the first entry.
    first: u64,
    /// The tail last.
    chain: Chain<Arc<Segment>>,
    /// Runs of consecutive numbers among them, first and last of each.
    runs: Chain<(u64, u64)>,
}

/// What readers need to find an entry. It changes as a whole, in [`View::swap_in`], once everything
/// that a batch changes in it was put together beside it.
#[derive(Debug)]
pub(crate) struct View {
    next: u64,
    list: Segments,
    /// Offsets of the tail's entries.
    tail_units: Units,
    /// The same for segments whose footer is not known to be durable, by number: if its sync fails,
    /// the page cache may drop the footer while the entries before it are on the medium.
    sealed_units: Vec<(u64, Units)>,
}

/// What a batch changes in the view, put together beside it while its frames are written.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    /// How many entries of the tail stay.
    kept: usize,
    /// Offsets of the entries that come after them.
    units: Vec<u32>,
    /// The segments that the batch began, each with the offsets of its entries.
    begun: Vec<(Arc<Segment>, Vec<u32>)>,
}

impl Draft {
    /// From here on no change, but that so many entries of the tail stay.
    #[inline]
    pub(crate) fn restart(&mut self, kept: usize) {
        self.kept = kept;
        self.units.clear();
        self.begun.clear();
    }

    /// An entry was written to the newest segment.
    #[inline]
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
        let list = Segments { first, chain: Chain::new(), runs: Chain::new() };
        Self { next, list, tail_units: Units::default(), sealed_units: Vec::new() }
    }

    pub(crate) fn first(&self) -> u64 {
        self.list.first
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
        self.list.chain.len()
    }

    /// The list of segments that a batch leads to. Segments that hold nothing live any more go to
    /// `dead`.
    fn next_list(&self, draft: &Draft, first: u64, dead: &mut Vec<Arc<Segment>>) -> Segments {
        let mut list = self.list.clone();
        for (segment, _) in &draft.begun {
            list.begin(Arc::clone(segment), dead);
        }
        list.trim(first, dead);
        list
    }

    /// Swaps in what a batch leads to, and a list of segments if there is another one, which is the
    /// one before on return.
    #[inline]
    fn swap_in(&mut self, draft: &mut Draft, next: u64, list: Option<&mut Segments>) {
        self.next = next;
        self.tail_units.truncate(draft.kept);
        self.tail_units.extend(&draft.units);
        if !draft.begun.is_empty() {
            let mut sealed = self.tail().map(|tail| tail.name.number);
            for (segment, units) in draft.begun.drain(..) {
                self.seal(sealed, Units::complete(units));
                sealed = Some(segment.name.number);
            }
        }
        if let Some(list) = list {
            std::mem::swap(&mut self.list, list);
        }
    }

    /// Takes in a new tail with the offsets of its entries, while the view is put together. Segments
    /// that hold nothing live any more go to `dead`.
    pub(crate) fn begin(&mut self, tail: Arc<Segment>, units: Units, dead: &mut Vec<Arc<Segment>>) {
        self.seal(self.tail().map(|tail| tail.name.number), units);
        self.list.begin(tail, dead);
    }

    /// Goes on with the offsets of another tail; those of the segment `sealed` are kept.
    fn seal(&mut self, sealed: Option<u64>, units: Units) {
        let sealed_units = std::mem::replace(&mut self.tail_units, units);
        if let Some(number) = sealed
            && sealed_units.len() > 0
        {
            self.sealed_units.push((number, sealed_units));
        }
    }

    /// Takes in a new first index, while the view is put together.
    pub(crate) fn trim(&mut self, first: u64, dead: &mut Vec<Arc<Segment>>) {
        self.list.trim(first, dead);
    }

    /// INV-3: see [`Segments::ascends`].
    pub(crate) fn ascends(&self) -> bool {
        self.list.ascends()
    }

    /// INV-7: see [`Segments::runs_are_right`].
    pub(crate) fn runs_are_right(&self) -> bool {
        self.list.runs_are_right()
    }

    #[cfg(test)]
    pub(crate) fn repeat_the_first_segment(&mut self) {
        if let Some(first) = self.list.chain.front().cloned() {
            self.list.chain.push_back(first);
        }
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
        self.list.runs.pop_front();
    }

    /// Every footer before the segment with this number is durable.
    pub(crate) fn footers_durable(&mut self, number: u64) {
        self.sealed_units.retain(|(sealed, _)| *sealed >= number);
    }

    #[cfg(test)]
    pub(crate) fn footers_awaited(&self) -> usize {
        self.sealed_units.len()
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
        if range.start < self.list.first {
            return Err(Error::Trimmed { wanted: range.start, first: self.list.first });
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
            && let Some(segment) = self.list.chain.get(at)
        {
            let end = self.list.chain.get(at + 1).map_or(self.next, |after| after.name.base);
            let part = from..end.min(range.end);
            let number = segment.name.number;
            let units = if at + 1 == self.list.chain.len() {
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
            let after = self.list.chain.get(at + 1).cloned();
            pieces.push(Piece { segment, units, range: part, live_end: end, after });
            at += 1;
        }
        Some(pieces)
    }

    /// The tail and the places of an entry in it and of the one after it, if there is one, in units;
    /// nothing if it is elsewhere, or its place unknown.
    pub(crate) fn in_tail(&self, index: u64) -> Option<(&Arc<Segment>, u32, Option<u32>)> {
        let tail = self.tail()?;
        let nth = to_usize(index.checked_sub(tail.name.base)?);
        let unit = |nth: usize| self.tail_units.get(nth..nth.checked_add(1)?)?.first().copied();
        (index < self.next).then_some((tail, unit(nth)?, unit(nth.saturating_add(1))))
    }

    /// Every segment, the tail last.
    pub(crate) fn segments(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.list.chain.iter()
    }

    /// The tail segment.
    pub(crate) fn tail(&self) -> Option<&Arc<Segment>> {
        self.list.chain.back()
    }

    /// Place of the segment that holds `index`: the last one that starts at or before it.
    fn position_of(&self, index: u64) -> usize {
        self.list.chain.partition_point(|segment| segment.name.base <= index).saturating_sub(1)
    }

    /// The first sealed segment with this number or a later one, the entries that count in it, the
    /// name of the next one, and how many follow it.
    pub(crate) fn sealed_from(
        &self,
        number: u64,
    ) -> Option<(Arc<Segment>, Range<u64>, SegmentName, u64)> {
        let at = self.list.chain.partition_point(|segment| segment.name.number < number);
        let (segment, after) = (self.list.chain.get(at)?, self.list.chain.get(at + 1)?);
        let live = segment.name.base.max(self.list.first)..after.name.base;
        Some((Arc::clone(segment), live, after.name, to_u64(self.list.chain.len() - at - 2)))
    }

    /// What a checkpoint names: see [`Segments::runs`].
    pub(crate) fn runs(&self, dead: &mut Vec<Arc<Segment>>) -> (Runs, Vec<Arc<Segment>>) {
        self.list.runs(dead)
    }
}

impl Reader {
    /// Shows readers what a batch leads to. Segments that hold nothing live any more go to `dead`.
    #[inline]
    pub(in crate::log) fn show(
        &self,
        draft: &mut Draft,
        bounds: Bounds,
        dead: &mut Vec<Arc<Segment>>,
    ) {
        // Only whoever writes a batch changes the list, so it is the same when it is swapped. The
        // one before is let go when nobody waits for it.
        let other = !draft.begun.is_empty() || bounds.first != self.first();
        let mut list = other.then(|| self.view.read().next_list(draft, bounds.first, dead));
        self.view.write().swap_in(draft, bounds.next, list.as_mut());
        draft.units.shrink_to(UNITS_KEPT);
    }
}

impl Segments {
    /// Takes in a new tail. Segments that hold nothing live any more go to `dead`.
    fn begin(&mut self, tail: Arc<Segment>, dead: &mut Vec<Arc<Segment>>) {
        while self.chain.back().is_some_and(|last| last.name.base >= tail.name.base) {
            match self.runs.back() {
                Some(&(first, last)) if first < last => self.runs.replace_back((first, last - 1)),
                _ => drop(self.runs.pop_back()),
            }
            dead.extend(self.chain.pop_back());
        }
        let number = tail.name.number;
        match self.runs.back() {
            Some(&(first, last)) if last + 1 == number => self.runs.replace_back((first, number)),
            _ => self.runs.push_back((number, number)),
        }
        self.chain.push_back(tail);
    }

    /// Takes in a new first index. Segments that hold nothing live any more go to `dead`.
    fn trim(&mut self, first: u64, dead: &mut Vec<Arc<Segment>>) {
        self.first = first;
        while self.chain.get(1).is_some_and(|second| second.name.base <= first) {
            match self.runs.front() {
                Some(&(first, last)) if first < last => self.runs.replace_front((first + 1, last)),
                _ => drop(self.runs.pop_front()),
            }
            dead.extend(self.chain.pop_front());
        }
    }

    /// INV-3, as far as the newest segments go: a look at all of them would cost what a roll must not.
    fn ascends(&self) -> bool {
        let newest = self.chain.iter().rev();
        newest.clone().zip(newest.skip(1)).take(LOOKED_AT).all(|(after, before)| {
            before.name.base < after.name.base && before.name.number < after.name.number
        })
    }

    /// Whether the runs that are kept along with the segments are theirs (INV-7).
    fn runs_are_right(&self) -> bool {
        let count: u64 = self.runs.iter().map(|(first, last)| last - first + 1).sum();
        let ends = |run: Option<&(u64, u64)>, segment: Option<&Arc<Segment>>, end: fn(_) -> u64| {
            run.map(|run| end(*run)) == segment.map(|segment| segment.name.number)
        };
        count == to_u64(self.chain.len())
            && ends(self.runs.front(), self.chain.front(), |run: (u64, u64)| run.0)
            && ends(self.runs.back(), self.chain.back(), |run: (u64, u64)| run.1)
    }

    /// Runs of consecutive segment numbers, ascending: what a checkpoint names. Where there are too
    /// many gaps to write down, segments among `dead` go on being named, so that no further gap
    /// opens; they come back to be kept until a trim. (INV-7: what is named never has more than
    /// `RUNS_MAX` runs, because a new segment always continues the last one.)
    fn runs(&self, dead: &mut Vec<Arc<Segment>>) -> (Runs, Vec<Arc<Segment>>) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Dir;
    use crate::directory::identity::Uuid;
    use crate::io::mem::MemDirectory;

    fn segment(number: u64, base: u64) -> Arc<Segment> {
        let dir = Dir::new(Arc::new(MemDirectory::new()), "");
        let name = SegmentName { number, base };
        Arc::new(Segment::sealed(&dir, Uuid::from_bytes([7; 16]), name, 8192))
    }

    /// A view of so many segments, each of ten entries, the tail empty.
    fn view(segments: u64) -> View {
        let mut view = View::new(0, 10 * (segments - 1));
        let mut dead = Vec::new();
        (0..segments).for_each(|it| view.begin(segment(it, it * 10), Units::default(), &mut dead));
        assert!(dead.is_empty());
        view
    }

    /// How many segments the view of before and the one that follows each refer to by themselves: what
    /// was copied to build the one beside the other.
    fn copied(view: &View) -> usize {
        view.list.chain.iter().filter(|segment| Arc::strong_count(segment) > 1).count()
    }

    /// A roll, a truncation that rolls, a trim and a checkpoint: none looks at more segments in a long
    /// log than in a short one.
    #[test]
    fn change_costs_the_same_at_ten_and_at_100_000_segments() {
        const MOST: usize = 2 * 32;
        for segments in [10, 100_000] {
            let mut view = view(segments);
            let roll = (segments, 0, None);
            let truncation = (segments + 1, 0, Some(segments - 3));
            let trim = (segments + 2, 35, None);
            for (number, first, base) in [roll, truncation, trim] {
                let mut draft = Draft::default();
                let mut dead = Vec::new();
                if first == 0 {
                    draft.begin(segment(number, base.unwrap_or(number) * 10));
                }
                let mut list = view.next_list(&draft, first, &mut dead);
                assert!(copied(&view) <= MOST, "{} of {segments}", copied(&view));
                view.swap_in(&mut draft, view.next(), Some(&mut list));
                assert!(copied(&view) <= MOST);
                drop(list);
                // What is dead is referred to by nobody else any more, so its file can be used again.
                let all = dead.into_iter().all(|it| Arc::into_inner(it).is_some());
                assert!(all && view.ascends() && view.runs_are_right());
                let (runs, kept) = view.runs(&mut Vec::new());
                assert!(runs.len() <= 2 && kept.is_empty());
            }
            assert_eq!(view.segment_count(), to_usize(segments) - 5);
        }
    }
}
