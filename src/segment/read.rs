//! Reading entries out of segments: borrowed through the map, or copied.
//!
//! Owns: that what is handed out is the entry that was asked for, its checksum seen at least once
//! in this process. Does not own: which segment an index is in (`log::view`).

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{OFFSET_UNIT, Opened, Segment, block_of, block_start};
use crate::error::{Damage, Error, Result};
use crate::format::frame::{
    FRAME_HEADER_BYTES, FrameHeader, Kind, decode_frame, decode_hole, read_header_unchecked,
};
use crate::format::number::{to_u64, to_usize, u32_to_usize};
use crate::planted::{Bug, planted};

/// The smallest page there is; larger ones only make a call redundant.
const PAGE: usize = 4096;

/// Ranges longer than this are brought in only if some page of them is not there.
const ASK_FIRST_BYTES: usize = 16 * PAGE;

/// Entries read from the log without copying them. They stay valid, and their memory stays mapped,
/// across any roll, trim, recycle, close and reopen, for as long as this value or a clone of it
/// lives. Only what was never durable can change: entries borrowed from a poisoned log, if its reopen
/// finds that they are not there and writes others in their place.
///
/// Should the device fail to bring back a page that the system dropped meanwhile, touching it
/// raises SIGBUS as with any memory map; what was read in is checked before it is handed out.
#[derive(Debug, Clone, Default)]
pub struct Entries {
    first: u64,
    pieces: Arc<[Piece]>,
    len: usize,
}

/// A run of entries in one segment.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) segment: Arc<Segment>,
    /// Offsets in units, for the tail; sealed segments have a table.
    pub(crate) offsets: Option<Vec<u32>>,
    pub(crate) range: Range<u64>,
    /// End of the entries that count in the segment.
    pub(crate) live_end: u64,
    /// Entries that were stored compressed, by index.
    pub(crate) decompressed: HashMap<u64, Vec<u8>>,
}

impl Entries {
    pub(crate) fn new(first: u64, pieces: Vec<Piece>) -> Self {
        let len = pieces.iter().map(|piece| to_usize(piece.range.end - piece.range.start)).sum();
        Self { first, pieces: pieces.into(), len }
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
        self.pieces.iter().find(|piece| piece.range.contains(&index))?.entry(index)
    }

    /// The error for an entry among these that is not there after all: an empty one would be wrong.
    pub(crate) fn unreadable(&self, index: u64) -> Error {
        match self.pieces.iter().find(|piece| piece.range.contains(&index)) {
            Some(Piece { segment, .. }) => {
                let offset = segment.opened().and_then(|opened| {
                    let nth = index.checked_sub(segment.name.base)?;
                    opened.offset(nth)
                });
                let reason = Damage::Misplaced { expected: index };
                segment.damaged(offset.unwrap_or(0), Some(index..index + 1), reason)
            }
            None => Error::BeyondEnd { wanted: index, next: self.first },
        }
    }

    /// The entries in order.
    pub fn iter(&self) -> EntriesIter<'_> {
        EntriesIter { entries: self, piece: 0, index: self.first }
    }

    /// Copies the entries into memory of their own, one buffer for all.
    pub fn to_owned(&self) -> OwnedEntries {
        let bytes = Vec::with_capacity(self.pieces.iter().map(Piece::bytes_max).sum());
        let mut owned =
            OwnedEntries { first: self.first, bytes, ends: Vec::with_capacity(self.len) };
        for entry in self {
            owned.bytes.extend_from_slice(entry);
            owned.ends.push(owned.bytes.len());
        }
        owned
    }
}

/// Entries copied out of the log into one buffer: they hold on to no file and no map.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnedEntries {
    first: u64,
    bytes: Vec<u8>,
    /// Where each entry ends in the buffer.
    ends: Vec<usize>,
}

impl OwnedEntries {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Index of the first one.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The `nth` entry, counted from zero.
    pub fn get(&self, nth: usize) -> Option<&[u8]> {
        let end = *self.ends.get(nth)?;
        let before = nth.checked_sub(1).and_then(|before| self.ends.get(before));
        self.bytes.get(before.copied().unwrap_or(0)..end)
    }

    /// The entries in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|nth| self.get(nth).unwrap_or(&[]))
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
            if self.index < piece.range.end {
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

impl Piece {
    /// At least as many bytes as the payloads of its entries have together.
    fn bytes_max(&self) -> usize {
        let span = || {
            let opened = self.segment.opened()?;
            let first = self.offset(opened, self.range.start)?;
            let last = self.offset(opened, self.range.end.checked_sub(1)?)?;
            let (header, _) = frame(opened, last)?;
            Some(to_usize(last.saturating_sub(first)).saturating_add(header.frame_bytes()))
        };
        let unpacked = self.decompressed.values().map(Vec::len).sum::<usize>();
        span().unwrap_or(0).saturating_add(unpacked)
    }

    /// The payload of an entry that [`Self::check`] has passed.
    #[inline]
    fn entry(&self, index: u64) -> Option<&[u8]> {
        if !self.decompressed.is_empty()
            && let Some(bytes) = self.decompressed.get(&index)
        {
            return Some(bytes);
        }
        let opened = self.segment.opened()?;
        frame(opened, self.offset(opened, index)?).map(|(_, payload)| payload)
    }

    #[inline]
    fn offset(&self, opened: &Opened, index: u64) -> Option<u64> {
        match &self.offsets {
            Some(units) => {
                let unit = *units.get(to_usize(index.checked_sub(self.range.start)?))?;
                Some(u64::from(unit) * OFFSET_UNIT)
            }
            None => opened.offset(index.checked_sub(self.segment.name.base)?),
        }
    }

    /// Whether both stand for the same frames.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.segment, &other.segment)
            && self.range == other.range
            && self.offsets == other.offsets
    }

    /// Whether entries of the tail are still in the memory of the writer, and not in the file.
    pub(crate) fn is_pending(&self) -> bool {
        // Frames are handed over whole, so the start of the last one tells.
        let last = self.offsets.as_ref().and_then(|units| units.last());
        last.zip(self.segment.opened()).is_some_and(|(&unit, opened)| {
            u64::from(unit) * OFFSET_UNIT >= to_u64(opened.region.published())
        })
    }

    /// Brings the pages in and makes sure that every entry of the piece is readable.
    pub(crate) fn check(&mut self) -> Result<()> {
        if self.range.is_empty() {
            return Ok(());
        }
        let segment = Arc::clone(&self.segment);
        let opened = segment.open(&self.range, self.live_end)?;
        let (first, last) = (self.range.start, self.range.end - 1);
        let from = self.offset(opened, first).ok_or_else(|| self.unknown(opened))?;
        let to = self.offset(opened, last).ok_or_else(|| self.unknown(opened))?;
        self.bring_in(opened, from, to)?;
        if !(opened.is_trusted(from) && opened.is_trusted(to) && blocks_trusted(opened, from, to)) {
            self.verify(opened)?;
        }
        if opened.holes.load(Ordering::Relaxed) {
            self.refuse_holes(opened)?;
        }
        if opened.compressed.load(Ordering::Relaxed) {
            self.decompress(opened)?;
        }
        Ok(())
    }

    /// Has the pages of the frames read now, so that a failing device is an error and no signal.
    fn bring_in(&self, opened: &Opened, from: u64, to: u64) -> Result<()> {
        let populate = |range: Range<usize>| {
            // To ask about many pages costs less than to bring in what is there already.
            if range.len() > ASK_FIRST_BYTES && opened.region.is_resident(range.clone()) {
                return Ok(());
            }
            opened
                .region
                .populate_read(range)
                .map_err(|source| Error::io("read", self.segment.path(), source))
        };
        let header_end = to_usize(to).saturating_add(FRAME_HEADER_BYTES).min(opened.region.len());
        populate(to_usize(from).min(header_end)..header_end)?;
        let last = opened
            .region
            .bytes(to_usize(to)..header_end)
            .and_then(read_header_unchecked)
            .map_or(0, |header| u32_to_usize(header.length));
        let end = header_end.saturating_add(last).min(opened.region.len());
        // The page of the header is there already.
        if end > header_end.next_multiple_of(PAGE) { populate(header_end..end) } else { Ok(()) }
    }

    /// Checks the frames of every entry whose block was not checked before.
    fn verify(&self, opened: &Opened) -> Result<()> {
        let mut block_from_its_start = None;
        let mut previous_block = None;
        for index in self.range.clone() {
            let offset = self.offset(opened, index).ok_or_else(|| self.unknown(opened))?;
            if previous_block != Some(block_of(offset)) {
                if let Some(complete) = block_from_its_start.take() {
                    opened.trust_block_of(complete);
                }
                // The first block of the range may have started before it.
                block_from_its_start = previous_block.is_some().then_some(offset);
                previous_block = Some(block_of(offset));
            }
            if !opened.is_trusted(offset) {
                self.verify_entry(opened, index, offset)?;
            }
        }
        Ok(())
    }

    fn verify_entry(&self, opened: &Opened, index: u64, offset: u64) -> Result<()> {
        let damaged = |reason| Err(self.segment.damaged(offset, Some(index..index + 1), reason));
        let len = opened.region.len();
        let Some(bytes) = opened.region.bytes(to_usize(offset).min(len)..opened.region.published())
        else {
            return damaged(Damage::Misplaced { expected: index });
        };
        if planted(Bug::EntriesNotChecked) {
            return Ok(());
        }
        match decode_frame(bytes, &opened.salt) {
            Ok((header, payload, _)) if covers(&header, payload, index) => Ok(()),
            Ok(_) => damaged(Damage::Misplaced { expected: index }),
            Err(error) => damaged(error.damage()),
        }
    }

    fn refuse_holes(&self, opened: &Opened) -> Result<()> {
        for index in self.range.clone() {
            let found = self.offset(opened, index).and_then(|offset| frame(opened, offset));
            if let Some((header, payload)) = found
                && header.kind == Kind::Hole
            {
                let range = header.index..decode_hole(payload).unwrap_or(header.index);
                return Err(Error::Hole { wanted: index, range });
            }
        }
        Ok(())
    }

    fn decompress(&mut self, opened: &Opened) -> Result<()> {
        let mut plain = HashMap::new();
        for index in self.range.clone() {
            let offset = self.offset(opened, index).unwrap_or(0);
            if let Some((header, payload)) = frame(opened, offset)
                && header.is_compressed()
            {
                let bytes = crate::compress::decompress(payload, |failure| match failure {
                    None => Error::UnsupportedFeature {
                        path: self.segment.path(),
                        offset,
                        feature: "lz4",
                    },
                    Some(reason) => self.segment.damaged(offset, Some(index..index + 1), reason),
                })?;
                plain.insert(index, bytes);
            }
        }
        self.decompressed = plain;
        Ok(())
    }

    /// The error for a piece of which some entry has no known offset.
    fn unknown(&self, opened: &Opened) -> Error {
        let (nth, offset, reason) = opened.unknown();
        let from = self.segment.name.base.saturating_add(nth).max(self.range.start);
        let indexes = from.min(self.range.end.saturating_sub(1))..self.range.end;
        self.segment.damaged(offset, Some(indexes), reason)
    }
}

/// Header and payload of the frame at `offset`, unchecked but within bounds.
#[inline]
fn frame(opened: &Opened, offset: u64) -> Option<(FrameHeader, &[u8])> {
    let start = to_usize(offset);
    let body = start.checked_add(FRAME_HEADER_BYTES)?;
    let header = read_header_unchecked(opened.region.bytes(start..body)?)?;
    let payload = opened.region.bytes(body..body.checked_add(u32_to_usize(header.length))?)?;
    Some((header, payload))
}

/// Whether every block from that of `from` to that of `to` was checked before.
fn blocks_trusted(opened: &Opened, from: u64, to: u64) -> bool {
    (block_of(from)..=block_of(to)).all(|block| opened.is_trusted(block_start(block).max(from)))
}

/// Whether a frame is the one that stands for entry `index`.
fn covers(header: &FrameHeader, payload: &[u8], index: u64) -> bool {
    match header.kind {
        Kind::Entry => header.index == index,
        Kind::Hole => (header.index..decode_hole(payload).unwrap_or(0)).contains(&index),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dir::Dir;
    use crate::format::SegmentName;
    use crate::identity::Uuid;
    use crate::io::mem::MemDirectory;

    #[test]
    fn entry_that_is_not_there_is_damage_and_not_empty() {
        let dir = Dir::new(Arc::new(MemDirectory::new()), "");
        let name = SegmentName { number: 1, base: 3 };
        let segment = Arc::new(Segment::sealed(&dir, Uuid::from_bytes([0; 16]), name, 8192));
        let (range, decompressed) = (3..5, HashMap::new());
        let piece = Piece { segment, offsets: None, range, live_end: 5, decompressed };
        let entries = Entries::new(3, vec![piece]);
        assert_eq!((entries.len(), entries.get(1)), (2, None));
        let Error::Damaged { indexes, reason, .. } = entries.unreadable(4) else {
            panic!("it is not")
        };
        assert_eq!((indexes, reason), (Some(4..5), Damage::Misplaced { expected: 4 }));
    }
}
