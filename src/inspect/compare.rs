//! Comparing two logs of one group: checksums over ranges of entries, and the first difference.
//!
//! Owns: what is comparable, and the sums. Does not own: reading (`entries`). Takes no lock, so it
//! works beside running nodes, and on one machine as well as by exchanging sums.

use std::ops::Range;
use std::path::Path;

use super::cells::{STATED, stated_end};
use super::entries::{Entries, EntrySeen, entries};
use super::{Progress, StateSeen};
use crate::error::{Error, Result};
use crate::format::CellValue;
use crate::store::{Store, StoreEntries as _};

/// The checksum of a range of entries.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RangeSum {
    /// The entries.
    pub entries: Range<u64>,
    /// CRC-32 of, for each of them, its index and its length as 8-byte little-endian integers, then
    /// its bytes. Nothing if some of them cannot be read, or decompressed, here.
    pub sum: Option<u32>,
}

/// One range in both logs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compared {
    /// The entries.
    pub entries: Range<u64>,
    /// The sum in each log, as in [`RangeSum`].
    pub sums: [Option<u32>; 2],
}

/// The first entry that is not the same in both logs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// Its index.
    pub index: u64,
    /// Its length in each log, in bytes.
    pub bytes: [u64; 2],
    /// The first byte in which they differ.
    pub at: u64,
}

/// What a comparison found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Comparison {
    /// The entries that were compared: those both logs have, below what both state as decided.
    pub entries: Range<u64>,
    /// The bounds of each log.
    pub bounds: [Range<u64>; 2],
    /// What each log states as decided, if it does.
    pub decided: [Option<u64>; 2],
    /// Range by range.
    pub ranges: Vec<Compared>,
    /// The first difference.
    pub difference: Option<Difference>,
    /// Entries that cannot be read in each log, and so were not compared.
    pub unreadable: [Vec<(Range<u64>, String)>; 2],
    /// Entries that were compared and are the same.
    pub same: u64,
}

/// What a log states as decided, or committed: the exclusive end of the entries that are the same on
/// every node. The node may have known of more. Logs of OmniPaxos, openraft, async-raft and tikv raft
/// state it in a cell; those of other hosts, d-engine among them, do not.
pub fn decided(state: &StateSeen) -> Option<u64> {
    state.cells.iter().find_map(|(name, value)| match value {
        CellValue::Inline(bytes) => stated_end(name, bytes),
        CellValue::SideFile(_) => None,
    })
}

/// Compares the logs in two directories, of which neither is changed or locked. `range` limits the
/// entries; without an end it is what both state as decided, or else what both have. `step` is how
/// many entries a checksum covers, at least one.
///
/// # Errors
/// As [`entries`]. A difference is no error.
pub fn compare(
    a: impl AsRef<Path>,
    b: impl AsRef<Path>,
    range: (Option<u64>, Option<u64>),
    step: u64,
    progress: &mut dyn FnMut(Progress),
) -> Result<Comparison> {
    let (a, b) = (entries(a)?, entries(b)?);
    let bounds = [a.bounds(), b.bounds()];
    let stated = |log: &Entries| log.state().as_ref().and_then(decided);
    let decided = [stated(&a), stated(&b)];
    let open = |range: Range<u64>| [Side::of(a.within(range.clone())), Side::of(b.within(range))];
    run(bounds, decided, range, step, open, progress)
}

/// Compares what two stores hold, be they logs or groups, as [`compare`] does. Reads them entry by
/// entry, while they may go on.
///
/// # Errors
/// None of reading: what cannot be read is named in the comparison.
pub fn compare_stores(
    a: &impl Store,
    b: &impl Store,
    range: (Option<u64>, Option<u64>),
    step: u64,
    progress: &mut dyn FnMut(Progress),
) -> Result<Comparison> {
    let bounds = [a.first()..a.next(), b.first()..b.next()];
    let decided = [decided_in(a), decided_in(b)];
    let open = |range: Range<u64>| [Side::of(seen(a, range.clone())), Side::of(seen(b, range))];
    run(bounds, decided, range, step, open, progress)
}

/// What a store states as decided, as [`decided`].
pub fn decided_in(store: &impl Store) -> Option<u64> {
    STATED.iter().find_map(|name| stated_end(name, &store.cell(name)?))
}

/// The entries of a store.
fn seen(store: &impl Store, range: Range<u64>) -> impl Iterator<Item = Result<EntrySeen>> {
    range.map(move |index| {
        let entries = index..index.saturating_add(1);
        Ok(match store.read(entries.clone()) {
            Ok(read) => {
                let payload = read.get(0).unwrap_or_default().to_vec();
                EntrySeen::Entry { index, payload, packed: false }
            }
            Err(Error::Hole { .. }) => EntrySeen::Missing { entries },
            Err(error) => EntrySeen::Unreadable { entries, error },
        })
    })
}

/// Compares what both have below what both state as decided.
fn run<'a>(
    bounds: [Range<u64>; 2],
    decided: [Option<u64>; 2],
    range: (Option<u64>, Option<u64>),
    step: u64,
    open: impl FnOnce(Range<u64>) -> [Side<'a>; 2],
    progress: &mut dyn FnMut(Progress),
) -> Result<Comparison> {
    let [in_a, in_b] = &bounds;
    let start = in_a.start.max(in_b.start).max(range.0.unwrap_or(0));
    let both = decided.iter().copied().flatten().min().unwrap_or(u64::MAX);
    let end = in_a.end.min(in_b.end).min(range.1.unwrap_or(both)).max(start);
    let mut seen = Comparison {
        entries: start..end,
        bounds,
        decided,
        ranges: Vec::new(),
        difference: None,
        unreadable: [Vec::new(), Vec::new()],
        same: 0,
    };
    let mut sides = open(start..end);
    let (mut from, step) = (start, step.max(1));
    while from < end {
        let to = from.saturating_add(step).min(end);
        let sums = seen.range(&mut sides, from..to)?;
        seen.ranges.push(Compared { entries: from..to, sums });
        progress(Progress { done: to - start, total: end - start });
        from = to;
    }
    for (side, unreadable) in sides.into_iter().zip(&mut seen.unreadable) {
        *unreadable = side.unreadable;
    }
    Ok(seen)
}

/// The checksums of the log in a directory, `step` entries each, for a comparison with those of
/// another node. Changes and locks nothing.
///
/// # Errors
/// As [`entries`].
pub fn range_sums(path: impl AsRef<Path>, range: Range<u64>, step: u64) -> Result<Vec<RangeSum>> {
    let log = entries(path)?.within(range);
    let range = log.range();
    let mut side = Side::of(log);
    let (mut sums, mut from, step) = (Vec::new(), range.start, step.max(1));
    while from < range.end {
        let to = from.saturating_add(step).min(range.end);
        let mut sum = Sum::default();
        for index in from..to {
            sum.add(index, side.payload(index)?);
        }
        sums.push(RangeSum { entries: from..to, sum: sum.finish() });
        from = to;
    }
    Ok(sums)
}

impl Comparison {
    /// One range, entry by entry. Returns its sum on each side.
    fn range(&mut self, sides: &mut [Side<'_>; 2], range: Range<u64>) -> Result<[Option<u32>; 2]> {
        let mut sums = [Sum::default(), Sum::default()];
        let [a, b] = sides;
        let [sum_a, sum_b] = &mut sums;
        for index in range {
            let (of_a, of_b) = (a.payload(index)?, b.payload(index)?);
            sum_a.add(index, of_a);
            sum_b.add(index, of_b);
            let (Some(of_a), Some(of_b)) = (of_a, of_b) else { continue };
            if of_a == of_b {
                self.same += 1;
            } else if self.difference.is_none() {
                let at = of_a.iter().zip(of_b).take_while(|(a, b)| a == b).count();
                let length = |bytes: &[u8]| crate::format::number::to_u64(bytes.len());
                let (bytes, at) = ([length(of_a), length(of_b)], crate::format::number::to_u64(at));
                self.difference = Some(Difference { index, bytes, at });
            }
        }
        Ok(sums.map(Sum::finish))
    }
}

/// A checksum under way.
#[derive(Default)]
struct Sum {
    hasher: crc32fast::Hasher,
    incomplete: bool,
}

impl Sum {
    fn add(&mut self, index: u64, payload: Option<&[u8]>) {
        let Some(payload) = payload else {
            self.incomplete = true;
            return;
        };
        self.hasher.update(&index.to_le_bytes());
        self.hasher.update(&crate::format::number::to_u64(payload.len()).to_le_bytes());
        self.hasher.update(payload);
    }

    fn finish(self) -> Option<u32> {
        (!self.incomplete).then(|| self.hasher.finalize())
    }
}

/// One log, read in step with the other.
struct Side<'a> {
    log: Box<dyn Iterator<Item = Result<EntrySeen>> + 'a>,
    /// What was read last.
    seen: Option<EntrySeen>,
    unreadable: Vec<(Range<u64>, String)>,
}

impl<'a> Side<'a> {
    fn of(log: impl Iterator<Item = Result<EntrySeen>> + 'a) -> Self {
        Self { log: Box::new(log), seen: None, unreadable: Vec::new() }
    }

    /// Takes note of entries that cannot be compared; neighbours for the same reason are one range.
    fn note(&mut self, entries: Range<u64>, reason: String) {
        match self.unreadable.last_mut() {
            Some((last, why)) if last.end == entries.start && *why == reason => {
                last.end = entries.end;
            }
            _ => self.unreadable.push((entries, reason)),
        }
    }

    /// The bytes of an entry; nothing if they cannot be read. Asked for in ascending order.
    fn payload(&mut self, index: u64) -> Result<Option<&[u8]>> {
        while self.seen.as_ref().is_none_or(|seen| end_of(seen) <= index) {
            let Some(seen) = self.log.next().transpose()? else { return Ok(None) };
            match &seen {
                EntrySeen::Entry { index, packed: true, .. } => {
                    let said = "it is compressed, and this build cannot decompress it";
                    self.note(*index..*index + 1, said.to_owned());
                }
                EntrySeen::Entry { .. } => {}
                EntrySeen::Missing { entries } => {
                    self.note(entries.clone(), "missing since a repair".to_owned());
                }
                EntrySeen::Unreadable { entries, error } => {
                    self.note(entries.clone(), Error::to_string(error));
                }
            }
            self.seen = Some(seen);
        }
        Ok(match &self.seen {
            Some(EntrySeen::Entry { index: at, payload, packed: false }) if *at == index => {
                Some(payload)
            }
            _ => None,
        })
    }
}

/// Where what follows begins.
fn end_of(seen: &EntrySeen) -> u64 {
    match seen {
        EntrySeen::Entry { index, .. } => index + 1,
        EntrySeen::Missing { entries } | EntrySeen::Unreadable { entries, .. } => entries.end,
    }
}
