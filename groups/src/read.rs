//! Reading entries of one group.
//!
//! Owns: finding them in the log underneath, which goes on meanwhile, and naming the entries of the
//! group in what goes wrong there. Does not own: the checks of frames (`indelible`).

use std::borrow::Cow;
use std::ops::Range;

use indelible::{Damage, Error, Log, Result};

use crate::commit::Inner;
use crate::envelope::{Event, Record};
use crate::index::{Piece, Place};
use crate::number::to_u64;
use crate::page::Pages;
use crate::state::Member;

/// Entries of a group, checked, borrowed from the log underneath as long as this lives.
#[derive(Debug, Clone, Default)]
pub struct Entries {
    group: u64,
    first: u64,
    len: usize,
    runs: Vec<Run>,
}

/// Entries that are neighbours in the log underneath as well.
#[derive(Debug, Clone)]
struct Run {
    first: u64,
    entries: indelible::Entries,
}

impl Entries {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Index of the first one.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The `nth` entry, counted from zero.
    pub fn get(&self, nth: usize) -> Option<&[u8]> {
        let index = self.first.checked_add(to_u64(nth))?;
        let run = self.runs.partition_point(|run| run.first <= index).checked_sub(1)?;
        let run = self.runs.get(run)?;
        let bytes = run.entries.get(usize::try_from(index - run.first).ok()?)?;
        payload(bytes, self.group, index)
    }

    /// The entries in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len).map(|nth| self.get(nth).unwrap_or_default())
    }
}

/// The entry within an envelope, if it is that of this group and index.
pub(crate) fn payload(bytes: &[u8], group: u64, index: u64) -> Option<&[u8]> {
    let record = Record::decode(bytes)?;
    match record.event {
        Event::Entry { index: found, bytes, .. } if found == index && record.group == group => {
            Some(bytes)
        }
        _ => None,
    }
}

/// Reads the entries of a range, every one of them checked.
pub(crate) fn read(inner: &Inner, member: &Member, range: &Range<u64>) -> Result<Entries> {
    with_places(inner, member, range, |places| {
        read_places(&inner.log, member.id, range.start, places)
    })
}

/// A copy of one entry. No map is touched, and the bytes are always checked.
pub(crate) fn entry(inner: &Inner, member: &Member, index: u64) -> Result<Vec<u8>> {
    let (log, group) = (&inner.log, member.id);
    let next = inner.state(member)?.log.next();
    let range = index..index.checked_add(1).ok_or(Error::BeyondEnd { wanted: index, next })?;
    with_places(inner, member, &range, |places| {
        let place = *places.first().ok_or(Error::BeyondEnd { wanted: index, next })?;
        if place.is_lost() {
            return Err(Error::Hole { wanted: index, range: range.clone() });
        }
        let bytes =
            log.entry(place.at).map_err(|error| for_group(error, log, place.at, range.clone()))?;
        let entry = payload(&bytes, group, index).map(<[u8]>::to_vec);
        entry.ok_or_else(|| misplaced(log, range.clone(), place.at))
    })
}

/// Finds the places of a range and does something with them; again, if meanwhile they are others.
fn with_places<T>(
    inner: &Inner,
    member: &Member,
    range: &Range<u64>,
    read: impl Fn(&[Place]) -> Result<T>,
) -> Result<T> {
    let log = &inner.log;
    let mut pieces = find(inner, member, range)?;
    loop {
        let places = places(Pages { log, group: member.id }, &pieces);
        match places.and_then(|places| read(&places)) {
            Ok(done) => return Ok(done),
            Err(error) => {
                // Nothing is wrong if they were trimmed, or carried forward, meanwhile.
                let now = find(inner, member, range)?;
                if now == pieces {
                    return Err(error);
                }
                pieces = now;
            }
        }
    }
}

/// Where the entries are.
fn places<'a>(pages: Pages<'_>, pieces: &'a [Piece]) -> Result<Cow<'a, [Place]>> {
    if let [Piece::Places(places)] = pieces {
        return Ok(Cow::Borrowed(places));
    }
    let mut all = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Places(places) => all.extend_from_slice(places),
            Piece::Page(page) => {
                let range = page.range();
                let places = page.places(pages);
                // Without the page none of these entries can be found.
                all.extend(places.map_err(|error| for_entries(error, pages.log, page.at, range))?);
            }
        }
    }
    Ok(Cow::Owned(all))
}

fn find(inner: &Inner, member: &Member, range: &Range<u64>) -> Result<Vec<Piece>> {
    let state = inner.state(member)?;
    member.alive()?;
    if range.start > range.end {
        let reason = "a range must not end before it starts";
        return Err(Error::InvalidArgument { what: "range", reason });
    }
    let (first, next) = (state.log.first(), state.log.next());
    if range.is_empty() {
        return Ok(Vec::new());
    }
    if range.start < first {
        return Err(Error::Trimmed { wanted: range.start, first });
    }
    if range.end > next {
        return Err(Error::BeyondEnd { wanted: range.end - 1, next });
    }
    Ok(state.index.pieces(range))
}

fn read_places(log: &Log, group: u64, first: u64, places: &[Place]) -> Result<Entries> {
    let mut entries = Entries { group, first, len: places.len(), runs: Vec::new() };
    let mut index = first;
    for run in places.chunk_by(|a, b| a.at.checked_add(1) == Some(b.at)) {
        let Some(start) = run.first().map(|place| place.at) else { continue };
        let count = to_u64(run.len());
        if run.first().is_some_and(|place| place.is_lost()) {
            return Err(Error::Hole {
                wanted: index,
                range: index..index + lost(places, index - first),
            });
        }
        let found = log
            .read(start..start.saturating_add(count))
            .map_err(|error| for_group(error, log, start, index..index + count))?;
        for (bytes, at) in found.iter().zip(index..) {
            if payload(bytes, group, at).is_none() {
                return Err(misplaced(log, at..at + 1, start + (at - index)));
            }
        }
        entries.runs.push(Run { first: index, entries: found });
        index += count;
    }
    Ok(entries)
}

/// How many entries in a row are lost.
fn lost(places: &[Place], from: u64) -> u64 {
    let from = usize::try_from(from).unwrap_or(usize::MAX);
    to_u64(places.iter().skip(from).take_while(|place| place.is_lost()).count())
}

fn misplaced(log: &Log, indexes: Range<u64>, at: u64) -> Error {
    let reason = Damage::Misplaced { expected: at };
    Error::Damaged { path: log.path().to_owned(), offset: 0, indexes: Some(indexes), reason }
}

/// An error of the log underneath at its entry `at`, which concerns all of `range` in the group.
fn for_entries(error: Error, log: &Log, at: u64, range: Range<u64>) -> Error {
    match error {
        Error::Damaged { path, offset, reason, .. } => {
            Error::Damaged { path, offset, indexes: Some(range), reason }
        }
        Error::Hole { .. } => Error::Hole { wanted: range.start, range },
        // The index says that it is there.
        Error::Trimmed { .. } | Error::BeyondEnd { .. } => misplaced(log, range, at),
        other => other,
    }
}

/// An error of the log underneath, where entry `start` is the first of `range` in the group.
fn for_group(error: Error, log: &Log, start: u64, range: Range<u64>) -> Error {
    let translate = |index: u64| {
        range.start.saturating_add(index.saturating_sub(start)).clamp(range.start, range.end)
    };
    match error {
        Error::Damaged { path, offset, indexes, reason } => {
            let indexes =
                indexes.map_or(range.clone(), |at| translate(at.start)..translate(at.end));
            Error::Damaged { path, offset, indexes: Some(indexes), reason }
        }
        Error::Hole { wanted, range } => Error::Hole {
            wanted: translate(wanted),
            range: translate(range.start)..translate(range.end),
        },
        // The index says that they are there.
        Error::Trimmed { .. } | Error::BeyondEnd { .. } => misplaced(log, range, start),
        other => other,
    }
}
