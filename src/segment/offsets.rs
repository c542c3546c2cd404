//! The offsets of the entries of one segment, as its frames build them up.
//!
//! Owns: the table in memory, and which of its first entries nobody has looked up yet. Does not own:
//! where frames come from (`walk`, `durable_part`, `log::writer`).

use std::ops::Range;

use super::in_units;
use crate::error::Damage;
use crate::format::kind::Effect;
use crate::format::number::{to_u64, to_usize};
use crate::options::SEGMENT_BYTES_MAX;
use crate::planted::{Bug, planted};
use crate::segment::walk::Found;

/// Most entries one segment can have: as many as the largest has frames.
pub(crate) const SPAN_MAX: u64 = SEGMENT_BYTES_MAX / 32;

/// Offsets in units of eight bytes, by entry, from the base of the segment on. Those of the first
/// `unknown` entries are still to be looked up.
#[derive(Debug, Clone, Default)]
pub(crate) struct Units {
    unknown: usize,
    known: Vec<u32>,
}

impl Units {
    /// So many entries, nothing known of them.
    pub(crate) fn unknown(count: u64) -> Self {
        Self { unknown: to_usize(count), known: Vec::new() }
    }

    /// Whether the offset of every entry is known.
    pub(crate) fn is_complete(&self) -> bool {
        self.unknown == 0
    }

    /// How many entries there are whose offset is unknown; they are the first ones.
    pub(crate) fn count_unknown(&self) -> usize {
        self.unknown
    }

    /// How many entries there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.unknown + self.known.len()
    }

    /// Entries whose offsets are all known.
    pub(crate) fn complete(known: Vec<u32>) -> Self {
        Self { unknown: 0, known }
    }

    /// Adds entries with these offsets.
    #[inline]
    pub(crate) fn extend(&mut self, units: &[u32]) {
        self.known.extend_from_slice(units);
    }

    /// Adds entries that share an offset, until there are `count`.
    pub(crate) fn pad(&mut self, count: usize, unit: u32) {
        self.known.resize(count.saturating_sub(self.unknown), unit);
    }

    /// Keeps the first `count` entries.
    pub(crate) fn truncate(&mut self, count: usize) {
        self.known.truncate(count.saturating_sub(self.unknown));
        self.unknown = self.unknown.min(count);
    }

    /// The offsets of some entries; nothing if there are none or some of them is unknown.
    pub(crate) fn get(&self, range: Range<usize>) -> Option<&[u32]> {
        let start = range.start.checked_sub(self.unknown)?;
        self.known.get(start..range.end.checked_sub(self.unknown)?)
    }

    /// All offsets; nothing if some of them is unknown.
    pub(crate) fn all(&self) -> Option<&[u32]> {
        self.is_complete().then_some(&self.known)
    }

    /// Takes in the offsets that were unknown, of which `found` may have more. Returns whether they
    /// are all there.
    pub(crate) fn learn(&mut self, found: &Self) -> bool {
        if planted(Bug::UnreadableFrameEndsTheLook) {
            let unit = found.known.last().copied().unwrap_or_default();
            let rest = self.unknown.saturating_sub(found.known.len());
            let first = found.known.iter().copied().chain(std::iter::repeat_n(unit, rest));
            self.known.splice(0..0, first.take(self.unknown));
            self.unknown = 0;
            return true;
        }
        let Some(first) = found.known.get(..self.unknown).filter(|_| found.is_complete()) else {
            return false;
        };
        self.known.splice(0..0, first.iter().copied());
        self.unknown = 0;
        true
    }
}

/// The offsets of the entries of one segment, kept up to date frame by frame.
#[derive(Debug, Default)]
pub(crate) struct Offsets {
    pub(crate) units: Units,
    pub(crate) compressed: bool,
    pub(crate) holes: bool,
}

impl Offsets {
    /// Takes in a frame of a segment whose first entry is `base`. Returns what it does; what no log
    /// writes is refused.
    pub(crate) fn apply<'a>(&mut self, base: u64, found: &Found<'a>) -> Result<Effect<'a>, Damage> {
        let effect = found.effect()?;
        self.carry_out(base, &effect, in_units(found.offset))?;
        self.compressed |= found.header.is_compressed();
        Ok(effect)
    }

    /// Carries out what a frame does, in a segment whose first entry is `base`, for a frame at a place
    /// in units.
    pub(crate) fn carry_out(
        &mut self,
        base: u64,
        effect: &Effect<'_>,
        unit: u32,
    ) -> Result<(), Damage> {
        let next = base.saturating_add(to_u64(self.units.len()));
        let wrong = |field, expected, got| Err(Damage::Field { field, expected, got });
        match effect {
            Effect::Entries(span) => {
                let (start, end) = (span.range.start, span.range.end);
                if start < base || start > next {
                    return wrong("entry index", next, start);
                }
                // One hole or many: no more entries than the largest segment has frames.
                let most = base.saturating_add(SPAN_MAX);
                if span.missing && end > most {
                    return wrong("hole end", most, end);
                }
                // Entries that a batch committed in the slots dropped have no frame that says so:
                // what stands at their index afterwards takes their place.
                self.units.truncate(to_usize(start - base));
                self.units.pad(to_usize(end - base), unit);
                self.holes |= span.missing;
            }
            Effect::Truncate(to) if *to < base || *to > next => {
                return wrong("truncation", next, *to);
            }
            Effect::Reset(to) if *to != base => return wrong("reset base", base, *to),
            Effect::Truncate(to) | Effect::Reset(to) => self.units.truncate(to_usize(*to - base)),
            Effect::Trim(_) | Effect::Cell(_) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(units: &[u32]) -> Units {
        Units::complete(units.to_vec())
    }

    #[test]
    fn unknown_offsets_are_learnt_once_and_only_if_all_are_there() {
        let mut units = Units::unknown(3);
        units.extend(&[30]);
        assert_eq!((units.len(), units.get(2..4), units.get(3..4)), (4, None, Some(&[30][..])));
        assert!(units.all().is_none());
        assert!(!units.learn(&complete(&[10, 20])), "one is missing");
        assert!(!units.learn(&Units::unknown(3)), "they are not known there either");
        assert!(units.learn(&complete(&[10, 20, 25, 29])), "later ones were dropped meanwhile");
        assert_eq!(units.all(), Some(&[10, 20, 25, 30][..]));
        assert_eq!(units.get(1..3), Some(&[20, 25][..]));
    }

    #[test]
    fn truncation_reaches_into_what_is_unknown() {
        let mut units = Units::unknown(3);
        units.extend(&[30]);
        units.truncate(2);
        units.extend(&[40]);
        assert_eq!(units.len(), 3);
        assert!(units.learn(&complete(&[10, 20, 25])));
        assert_eq!(units.all(), Some(&[10, 20, 40][..]));
        units.truncate(0);
        assert!(units.is_complete() && units.len() == 0);
    }
}
