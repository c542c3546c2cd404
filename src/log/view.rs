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
use crate::segment::read::Piece;

/// What readers need to find an entry.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) first: u64,
    pub(crate) next: u64,
    segments: VecDeque<Arc<Segment>>,
    /// Offsets of the tail's entries.
    pub(crate) tail_units: Units,
    /// The same for segments whose footer is not known to be durable, by number: if its sync fails,
    /// the page cache may drop the footer while the entries before it are on the medium.
    sealed_units: Vec<(u64, Units)>,
}

impl View {
    pub(crate) fn new(
        first: u64,
        next: u64,
        segments: VecDeque<Arc<Segment>>,
        tail_units: Units,
    ) -> Self {
        Self { first, next, segments, tail_units, sealed_units: Vec::new() }
    }

    pub(crate) fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// Takes in a new tail. Answers the segments that hold nothing live any more.
    pub(crate) fn roll(&mut self, tail: Arc<Segment>) -> Vec<Arc<Segment>> {
        let base = tail.name.base;
        let units = std::mem::take(&mut self.tail_units);
        if let Some(sealed) = self.segments.back()
            && units.len() > 0
        {
            self.sealed_units.push((sealed.name.number, units));
        }
        let mut dead = Vec::new();
        while let Some(last) = self.segments.back()
            && last.name.base >= base
        {
            dead.extend(self.segments.pop_back());
        }
        self.segments.push_back(tail);
        dead
    }

    /// Every footer before the segment with this number is durable.
    pub(crate) fn footers_durable(&mut self, number: u64) {
        self.sealed_units.retain(|(sealed, _)| *sealed >= number);
    }

    #[cfg(test)]
    pub(crate) fn footers_awaited(&self) -> usize {
        self.sealed_units.len()
    }

    /// Takes in a new first index. Answers the segments that hold nothing live any more.
    pub(crate) fn trim(&mut self, first: u64) -> Vec<Arc<Segment>> {
        self.first = first;
        let mut dead = Vec::new();
        while self.segments.get(1).is_some_and(|second| second.name.base <= first) {
            dead.extend(self.segments.pop_front());
        }
        dead
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
    pub(crate) fn pieces(&self, range: &Range<u64>) -> Option<Vec<Piece>> {
        let mut pieces = Vec::new();
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
                    Some(units.get(nth(part.start)..after.max(nth(part.end)))?.to_vec())
                }
                None => None,
            };
            from = part.end;
            let segment = Arc::clone(segment);
            pieces.push(Piece { segment, units, range: part, live_end: end });
            at += 1;
        }
        Some(pieces)
    }

    /// The number of the tail and the place of an entry in it, in units; nothing if it is elsewhere,
    /// or its place unknown.
    pub(crate) fn in_tail(&self, index: u64) -> Option<(u64, u32)> {
        let tail = self.tail()?;
        let nth = to_usize(index.checked_sub(tail.name.base)?);
        let unit = *self.tail_units.get(nth..nth.checked_add(1)?)?.first()?;
        (index < self.next).then_some((tail.name.number, unit))
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
        let at = self.segments.iter().position(|segment| segment.name.number >= number)?;
        let (segment, after) = (self.segments.get(at)?, self.segments.get(at + 1)?);
        let live = segment.name.base.max(self.first)..after.name.base;
        Some((Arc::clone(segment), live, to_u64(self.segments.len() - at - 2)))
    }

    /// Runs of consecutive segment numbers, ascending: what a checkpoint names. Where there are too
    /// many gaps to write down, segments among `dead` go on being named, so that no further gap
    /// opens; they come back to be kept until a trim. (INV-7: what is named never has more than
    /// `RUNS_MAX` runs, because a new segment always continues the last one.)
    pub(crate) fn runs(&self, dead: &mut Vec<Arc<Segment>>) -> (Runs, Vec<Arc<Segment>>) {
        let live = self.segments.iter().map(|segment| segment.name.number);
        let runs = runs_of(live.clone());
        if runs.len() <= RUNS_MAX {
            return (runs, Vec::new());
        }
        let first = runs.first().map_or(0, |(first, _)| *first);
        let kept: Vec<_> = dead.extract_if(.., |it| it.name.number > first).collect();
        let mut numbers: Vec<u64> = live.chain(kept.iter().map(|it| it.name.number)).collect();
        numbers.sort_unstable();
        (runs_of(numbers.into_iter()), kept)
    }
}

/// First and last number of each run.
pub(crate) type Runs = Vec<(u64, u64)>;

fn runs_of(numbers: impl Iterator<Item = u64>) -> Runs {
    let mut runs: Runs = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    runs
}
