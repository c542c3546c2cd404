//! Entries as readers get them: lent through a map, or copied.
//!
//! Owns: what a reader holds. Does not own: how it was read and checked (`read`).

use std::sync::{Arc, OnceLock};

use smallvec::SmallVec;

use super::read::{Places, frame_in};
use super::{OFFSET_UNIT, Segment};
use crate::format::frame::{FRAME_HEADER_BYTES, read_header_unchecked};
use crate::format::number::{to_u64, to_usize, u32_to_usize};
use crate::io::Region;

/// Entries read from the log without copying them. They stay valid, and their memory stays mapped,
/// across any roll, trim, recycle, close and reopen, for as long as this value or a clone of it
/// lives. Only what was never durable can change: entries borrowed from a poisoned log, if its reopen
/// finds that they are not there and writes others in their place.
///
/// What was read in is checked before it is handed out. A page that the system drops after that comes
/// back unchecked, and should the device fail to bring it back, touching it raises SIGBUS as with any
/// memory map: hold what is borrowed briefly, and copy what is kept.
///
/// An entry that is stored compressed is decompressed when it is first looked at.
#[derive(Debug, Clone, Default)]
pub struct Entries {
    first: u64,
    pieces: Arc<Lents>,
    len: usize,
}

/// What is lent, piece by piece. Mostly it is one.
pub(crate) type Lents = SmallVec<[Lent; 1]>;

/// A run of entries in one segment, checked.
#[derive(Debug)]
pub(crate) struct Lent {
    /// Keeps the file from being used again.
    pub(super) _segment: Arc<Segment>,
    pub(super) region: Region,
    /// Index of the first one.
    pub(super) first: u64,
    /// Their places.
    pub(super) units: Places,
    /// What those were that are stored compressed; empty if none is.
    pub(super) plain: Vec<OnceLock<Vec<u8>>>,
}

impl Lent {
    fn next(&self) -> u64 {
        self.first + to_u64(self.units.len())
    }

    fn entry(&self, index: u64) -> Option<&[u8]> {
        let nth = to_usize(index.checked_sub(self.first)?);
        let offset = u64::from(*self.units.get(nth)?) * OFFSET_UNIT;
        let (header, payload) = frame_in(&self.region, offset)?;
        match self.plain.get(nth) {
            Some(plain) if header.is_compressed() => {
                // It could be decompressed when it was checked.
                let unpack = || crate::compress::decompress(payload).unwrap_or_default();
                Some(plain.get_or_init(unpack))
            }
            _ => Some(payload),
        }
    }
}

impl Entries {
    pub(crate) fn new(first: u64, pieces: Lents) -> Self {
        let len = pieces.iter().map(|piece| piece.units.len()).sum();
        Self { first, pieces: Arc::new(pieces), len }
    }

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
        let at = self.pieces.partition_point(|piece| piece.next() <= index);
        self.pieces.get(at)?.entry(index)
    }

    /// The entries in order.
    pub fn iter(&self) -> EntriesIter<'_> {
        EntriesIter { entries: self, piece: 0, index: self.first }
    }
}

/// Entries copied out of the log into one buffer: they hold on to no file and no map.
#[derive(Clone, Default)]
pub struct OwnedEntries {
    first: u64,
    /// Entries, and what else was read with them.
    pub(super) bytes: Vec<u8>,
    /// Where each entry starts and ends in the buffer.
    places: Vec<(usize, usize)>,
}

impl OwnedEntries {
    /// None yet, with room for so many bytes and entries.
    pub(super) fn new(first: u64, bytes: usize, count: usize) -> Self {
        Self { first, bytes: Vec::with_capacity(bytes), places: Vec::with_capacity(count) }
    }

    /// Takes in an entry whose bytes are in the buffer.
    pub(super) fn place(&mut self, start: usize, length: usize) {
        self.places.push((start, start + length));
    }

    /// Takes in the entries whose frames start here in the buffer; none if one of them is cut off.
    pub(super) fn place_frames(&mut self, starts: impl ExactSizeIterator<Item = usize>) -> bool {
        let before = self.places.len();
        let all = before + starts.len();
        self.places.extend(starts.map_while(|start| {
            let header = read_header_unchecked(self.bytes.get(start..)?)?;
            let body = start + FRAME_HEADER_BYTES;
            let end = body.checked_add(u32_to_usize(header.length))?;
            (end <= self.bytes.len()).then_some((body, end))
        }));
        let is_whole = self.places.len() == all;
        if !is_whole {
            self.places.truncate(before);
        }
        is_whole
    }

    /// Takes in a copy of an entry.
    pub(super) fn push(&mut self, entry: &[u8]) {
        self.place(self.bytes.len(), entry.len());
        self.bytes.extend_from_slice(entry);
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Index of the first one.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The `nth` entry, counted from zero.
    pub fn get(&self, nth: usize) -> Option<&[u8]> {
        let &(start, end) = self.places.get(nth)?;
        self.bytes.get(start..end)
    }

    /// The entries in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|nth| self.get(nth).unwrap_or(&[]))
    }

    /// The first entry, in the memory of all.
    pub(crate) fn into_first(mut self) -> Option<Vec<u8>> {
        let &(start, end) = self.places.first()?;
        self.bytes.truncate(end);
        self.bytes.drain(..start.min(end));
        Some(self.bytes)
    }
}

impl PartialEq for OwnedEntries {
    fn eq(&self, other: &Self) -> bool {
        self.first == other.first && self.iter().eq(other.iter())
    }
}

impl Eq for OwnedEntries {}

impl std::fmt::Debug for OwnedEntries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnedEntries")
            .field("first", &self.first)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl<'a> IntoIterator for &'a Entries {
    type Item = &'a [u8];
    type IntoIter = EntriesIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Walks over [`Entries`].
#[derive(Debug, Clone)]
pub struct EntriesIter<'a> {
    entries: &'a Entries,
    piece: usize,
    index: u64,
}

impl<'a> Iterator for EntriesIter<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let piece = self.entries.pieces.get(self.piece)?;
            if self.index < piece.next() {
                let entry = piece.entry(self.index);
                self.index += 1;
                return entry;
            }
            self.piece += 1;
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let done = to_usize(self.index - self.entries.first);
        let left = self.entries.len.saturating_sub(done);
        (left, Some(left))
    }
}

impl ExactSizeIterator for EntriesIter<'_> {}
