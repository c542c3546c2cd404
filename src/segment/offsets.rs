//! The offsets of the entries of one segment, as its frames build them up.
//!
//! Owns: the table in memory, and which of its first entries nobody has looked up yet. Does not own:
//! where frames come from (`walk`, `durable_part`, `log::writer`).

use std::ops::Range;

use super::in_units;
use crate::error::Damage;
use crate::format::FrameError;
use crate::format::frame::{Kind, decode_hole};
use crate::format::number::{to_u64, to_usize};
use crate::planted::{Bug, planted};
use crate::segment::walk::Found;

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

    #[inline]
    pub(crate) fn push(&mut self, unit: u32) {
        self.known.push(unit);
    }

    /// Adds entries that share an offset, until there are `count`.
    fn pad(&mut self, count: usize, unit: u32) {
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
    /// Takes in a frame of a segment whose first entry is `base`.
    pub(crate) fn apply(&mut self, base: u64, found: &Found<'_>) -> Result<(), Damage> {
        let header = &found.header;
        if matches!(header.kind, Kind::Entry | Kind::Hole) && header.index >= base {
            // Entries that a batch committed in the slots dropped have no frame that says so: what
            // stands at their index afterwards takes their place.
            let nth = usize::try_from(header.index - base).unwrap_or(usize::MAX);
            self.units.truncate(nth);
        }
        let Some(next) = base.checked_add(to_u64(self.units.len())) else {
            let (field, expected, got) = ("entry index", u64::MAX, header.index);
            return Err(Damage::Field { field, expected, got });
        };
        match header.kind {
            Kind::Entry => {
                expect("entry index", next, header.index)?;
                // The index behind the last entry has to exist.
                expect("entry index", next.min(u64::MAX - 1), header.index)?;
                self.compressed |= header.is_compressed();
                self.units.push(in_units(found.offset));
            }
            Kind::Hole => {
                expect("entry index", next, header.index)?;
                let end = decode_hole(found.payload).unwrap_or(0);
                // One hole or many: no more entries than the largest segment has frames.
                let left = (crate::options::SEGMENT_BYTES_MAX / 32)
                    .saturating_sub(to_u64(self.units.len()));
                if end <= next || end - next > left {
                    return Err(Damage::Field {
                        field: "hole end",
                        expected: next.saturating_add(1),
                        got: end,
                    });
                }
                self.holes = true;
                let length = self.units.len() + to_usize(end - next);
                self.units.pad(length, in_units(found.offset));
            }
            Kind::Truncate => {
                if header.index < base || header.index > next {
                    let got = header.index;
                    return Err(Damage::Field { field: "truncation", expected: next, got });
                }
                self.units.truncate(to_usize(header.index - base));
            }
            Kind::Reset => {
                expect("reset base", base, header.index)?;
                self.units.truncate(0);
            }
            Kind::Set | Kind::Clear | Kind::Attach | Kind::Trim => {}
            Kind::Witness => {
                return Err(Damage::Frame(FrameError::Kind(Kind::Witness.number())));
            }
        }
        Ok(())
    }
}

fn expect(field: &'static str, expected: u64, got: u64) -> Result<(), Damage> {
    if expected == got { Ok(()) } else { Err(Damage::Field { field, expected, got }) }
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
        units.push(30);
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
        units.push(30);
        units.truncate(2);
        units.push(40);
        assert_eq!(units.len(), 3);
        assert!(units.learn(&complete(&[10, 20, 25])));
        assert_eq!(units.all(), Some(&[10, 20, 40][..]));
        units.truncate(0);
        assert!(units.is_complete() && units.len() == 0);
    }
}
