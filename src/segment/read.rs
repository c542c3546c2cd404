//! Reading entries out of a segment: lent through the map, or copied by position.
//!
//! Owns: that what is handed out is the entry that was asked for, and that its bytes were checked
//! since they came from the medium. Does not own: which segment an index is in (`log::reader`).
//!
//! What is copied is read by one call for each run of entries that lie close together, into the memory
//! it is handed out in, and checked there. What is lent is brought in first, so that a failing device
//! is an error and no signal. Several entries that are read together are not checked again where they
//! were before and every page of them was in memory ever since; one entry that is copied always is.
//! When a page turns out to be gone, nothing of the segment is believed any more, and no check counts
//! from before it is brought in until it is there: the system brings in neighbours along with it, and
//! who checked one of them meanwhile may have seen the bytes of before. What somebody else has brought
//! back from the medium in between (another process, a backup, whoever looks at lent bytes) looks as if
//! it had never been gone; to copy one entry is to be sure.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use smallvec::SmallVec;

use super::entries::{Lent, Lents, OwnedEntries};
use super::{FRAMES_START, OFFSET_UNIT, Opened, Segment};
use crate::compress::{decompress, plain_length};
use crate::error::{Damage, Error, Result};
use crate::format::frame::{
    FRAME_HEADER_BYTES, FrameHeader, decode_frame, peek_header, read_header_unchecked,
};
use crate::format::kind::Span;
use crate::format::number::{to_u64, to_usize, u32_to_usize};
use crate::io::Region;
use crate::planted::{Bug, planted};

/// The smallest page there is; larger ones only make a call redundant.
const PAGE: u64 = 4096;

/// Entries that start further apart than this are not read together: there may be a long frame
/// between them, or none that counts.
const GAP_BYTES: u64 = 64 * 1024;

/// The pieces of a range. Most ranges are within one segment, and then nothing is allocated.
pub(crate) type Pieces = SmallVec<[Piece; 1]>;

/// Places of entries, in units: of up to three entries without an allocation, and of the one after.
pub(crate) type Places = SmallVec<[u32; 4]>;

/// A run of entries in one segment, as the view has it.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) segment: Arc<Segment>,
    /// Places in units, of the tail and of segments whose footer may not be durable; others have a
    /// table. The one after the last entry as well, if there is one.
    pub(crate) units: Option<Places>,
    pub(crate) range: Range<u64>,
    /// End of the entries that count in the segment.
    pub(crate) live_end: u64,
    /// The segment that begins there.
    pub(crate) after: Option<Arc<Segment>>,
}

/// A piece with the segment open and the place of each entry known.
#[derive(Debug)]
pub(crate) struct Located<'a> {
    piece: &'a Piece,
    opened: Arc<Opened>,
    /// The segment had to be opened, or its table to be read.
    pub(crate) is_new: bool,
    units: Places,
    /// Where the last frame ends, or what follows it.
    after: u64,
    /// Where the frames can be read to: what is after it was not handed to the file.
    end: u64,
    runs: SmallVec<[Run; 1]>,
}

/// Entries that are read together.
#[derive(Debug)]
struct Run {
    /// Which of the piece, counted from its first.
    nth: Range<usize>,
    /// Offsets of the first frame and the last.
    first: u64,
    last: u64,
    /// How far to read: to the end of the last frame or to what follows it. Not beyond its start
    /// while its length is unknown.
    end: u64,
}

impl Piece {
    /// Whether both stand for the same frames.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.segment, &other.segment)
            && self.range == other.range
            && self.units.as_ref().map(|units| units.get(..self.len()))
                == other.units.as_ref().map(|units| units.get(..other.len()))
    }

    /// Whether entries of the tail are still in the memory of the writer, and not in the file.
    pub(crate) fn is_pending(&self) -> bool {
        // Frames are handed over whole, so the start of the last one tells.
        let last = self.units.as_ref().and_then(|units| units.get(self.len().saturating_sub(1)));
        let opened = last.and_then(|_| self.segment.opened());
        last.zip(opened.as_ref().and_then(|opened| opened.map())).is_some_and(|(&unit, region)| {
            u64::from(unit) * OFFSET_UNIT >= to_u64(region.published())
        })
    }

    fn len(&self) -> usize {
        to_usize(self.range.end - self.range.start)
    }

    /// Opens the segment if need be, and finds the places of the entries.
    pub(crate) fn locate(&self) -> Result<Located<'_>> {
        let (opened, mut is_new) = self.segment.open(&self.range)?;
        let units = if let Some(units) = &self.units {
            Places::from_slice(units)
        } else {
            is_new |= self.segment.look_up(&opened, self.live_end)?;
            if let Some(after) = &self.after {
                self.segment.check_bound(&opened, after, &self.range)?;
            }
            let nth = |index: u64| index.checked_sub(self.segment.name.base);
            // One more, to know where the last one ends.
            let wanted = self.range.start..self.range.end.saturating_add(1);
            wanted.map_while(|index| opened.unit(nth(index)?)).collect()
        };
        if units.len() < self.len() {
            return Err(self.unknown(&opened));
        }
        let end = opened.map().map_or(self.segment.bytes, |map| to_u64(map.published()));
        self.check_order(&units, end)?;
        let after = units.get(self.len()).map(|unit| u64::from(*unit) * OFFSET_UNIT);
        let after = after.or_else(|| opened.data_end()).unwrap_or(end).min(end);
        let mut located =
            Located { piece: self, opened, is_new, units, after, end, runs: SmallVec::new() };
        located.cut(self.len());
        Ok(located)
    }

    /// Frames follow each other within the file, whatever a table says.
    fn check_order(&self, units: &[u32], end: u64) -> Result<()> {
        let offset = |unit: u32| u64::from(unit) * OFFSET_UNIT;
        let mut before = FRAMES_START;
        for (&unit, index) in units.iter().zip(self.range.clone()) {
            if offset(unit) < before || offset(unit) >= end {
                let reason = Damage::Misplaced { expected: index };
                return Err(self.segment.damaged(offset(unit), Some(index..index + 1), reason));
            }
            before = offset(unit);
        }
        Ok(())
    }

    /// The error for a piece of which some entry has no known offset.
    fn unknown(&self, opened: &Opened) -> Error {
        if let Some(failure) = opened.footer_failure() {
            return failure;
        }
        let (nth, offset, reason) = opened.unknown();
        let from = self.segment.name.base.saturating_add(nth).max(self.range.start);
        let indexes = from.min(self.range.end.saturating_sub(1))..self.range.end;
        self.segment.damaged(offset, Some(indexes), reason)
    }
}

impl Segment {
    /// Whether every entry is there, as it was given to the log.
    fn is_plain(&self) -> bool {
        !self.compressed.load(Ordering::Relaxed) && !self.holes.load(Ordering::Relaxed)
    }

    /// An entry that was lent or checked before, at a known place: what [`Piece::locate`] and
    /// [`Located::lend`] come to if there is nothing left to do. Nothing if there may be: if its frame
    /// was not checked, or a page of it is not in memory, or the segment has entries that are not lent
    /// as they are.
    pub(crate) fn lend_again(self: &Arc<Self>, index: u64, unit: u32) -> Option<Lent> {
        let opened = self.opened().filter(|_| self.is_plain())?;
        let offset = u64::from(unit) * OFFSET_UNIT;
        let region = opened.map().filter(|_| opened.is_trusted(offset))?;
        let body = offset + to_u64(FRAME_HEADER_BYTES);
        let there =
            |range: Range<u64>| region.is_resident(to_usize(range.start)..to_usize(range.end));
        if !there(offset..body) {
            return None;
        }
        let (_, payload) = frame_in(region, offset)?;
        let end = body + to_u64(payload.len());
        // The page of the header is there already.
        if end > body.next_multiple_of(PAGE) && !there(body..end) {
            return None;
        }
        // The page may have come from the medium just now, by somebody who does not trust it any more.
        if !opened.is_trusted(offset) {
            return None;
        }
        self.note_use();
        let (region, units) = (region.clone(), SmallVec::from_slice(&[unit]));
        Some(Lent { _segment: Arc::clone(self), region, first: index, units, plain: Vec::new() })
    }

    /// A copy of an entry of the tail whose frame ends before another place in units: what
    /// [`Piece::locate`] and [`copy`] come to, by one read into place. Nothing if there is more to it, or
    /// it cannot be had, of which those tell the reason.
    pub(crate) fn copy_one(&self, index: u64, units: Range<u32>) -> Option<Vec<u8>> {
        let opened = self.opened()?;
        let offset = u64::from(units.start) * OFFSET_UNIT;
        let bytes = u64::from(units.end).checked_mul(OFFSET_UNIT)?.checked_sub(offset)?;
        if bytes > GAP_BYTES || to_u64(opened.map()?.published()) < offset + bytes {
            return None;
        }
        self.note_use();
        let mut entry = Vec::with_capacity(to_usize(bytes));
        let read = || opened.file.read_to_end(offset, to_usize(bytes), &mut entry);
        opened.reading(offset..offset + bytes, read).0.ok()?;
        let (header, payload, _) = decode_frame(&entry, &opened.salt, offset).ok()?;
        let is_plain = Span::of(&header, payload)?.is_entry(index) && !header.is_compressed();
        let end = FRAME_HEADER_BYTES + payload.len();
        if !is_plain {
            return None;
        }
        entry.truncate(end);
        entry.drain(..FRAME_HEADER_BYTES);
        Some(entry)
    }

    /// Header and payload of the frame at `offset` of a file that is memory, where no byte goes bad;
    /// nothing if it is not there yet.
    pub(crate) fn frame_in_memory(&self, offset: u64) -> Option<(FrameHeader, Vec<u8>)> {
        let opened = self.opened()?;
        let (header, payload) = frame_in(opened.map()?, offset)?;
        Some((header, payload.to_vec()))
    }
}

impl Located<'_> {
    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.piece.segment
    }

    /// Whether the offsets of its segment had to be made from the frames.
    pub(crate) fn has_rebuilt_table(&self) -> bool {
        self.opened.is_rebuilt() && !planted(Bug::RebuiltTablesNotCounted)
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.units.len()
    }

    /// From the first frame to the end of the last, with what lies between them.
    pub(crate) fn span(&self) -> u64 {
        self.after.saturating_sub(self.offset(0))
    }

    /// Leaves out the last entries, so that the span is no longer than this; one stays in any case.
    pub(crate) fn fit(&mut self, bytes: u64) {
        let limit = self.offset(0).saturating_add(bytes);
        if self.after > limit && !planted(Bug::WalkReadsEverything) {
            let ends = self.units.get(1..).unwrap_or_default();
            self.cut(ends.partition_point(|unit| u64::from(*unit) * OFFSET_UNIT <= limit).max(1));
        }
    }

    /// Keeps the first `len` entries, and puts together what is read together.
    fn cut(&mut self, len: usize) {
        if let Some(after) = self.units.get(len) {
            self.after = u64::from(*after) * OFFSET_UNIT;
        }
        self.units.truncate(len);
        self.runs.clear();
        let offsets = || self.units.iter().map(|unit| u64::from(*unit) * OFFSET_UNIT);
        let Some(mut first) = offsets().next() else { return };
        let (mut start, mut last) = (0, first);
        for (nth, at) in offsets().enumerate() {
            if at - last > GAP_BYTES && !planted(Bug::DeadBytesRead) {
                self.runs.push(Run { nth: start..nth, first, last, end: last });
                (start, first) = (nth, at);
            }
            last = at;
        }
        let end = if self.after.saturating_sub(last) <= GAP_BYTES { self.after } else { last };
        self.runs.push(Run { nth: start..self.units.len(), first, last, end });
    }

    fn index(&self, nth: usize) -> u64 {
        self.piece.range.start + to_u64(nth)
    }

    fn offset(&self, nth: usize) -> u64 {
        self.units.get(nth).map_or(0, |unit| u64::from(*unit) * OFFSET_UNIT)
    }

    fn damaged(&self, nth: usize, reason: Damage) -> Error {
        let index = self.index(nth);
        self.piece.segment.damaged(self.offset(nth), Some(index..index + 1), reason)
    }

    /// Looks at the last frame of each run of which it is not known how far to read.
    fn measure(&mut self) -> Result<()> {
        for run in self.runs.iter_mut().filter(|run| run.end <= run.last) {
            let mut header = [0; FRAME_HEADER_BYTES];
            let failed = self.piece.segment.io("read");
            // This brings its page back as well, with whatever else is in it.
            let range = run.last..run.last + to_u64(header.len());
            let read = || self.opened.file.read_at(run.last, &mut header);
            self.opened.reading(range, read).0.map_err(failed)?;
            // An unreadable header is read once more with everything else, and is an error then.
            let length = peek_header(&header, &self.opened.salt, run.last)
                .map_or(header.len(), |header| header.frame_bytes());
            run.end = run.last.saturating_add(to_u64(length)).min(self.end);
        }
        Ok(())
    }

    /// Bytes that all runs take together.
    fn bytes(&self) -> usize {
        self.runs.iter().map(|run| to_usize(run.end - run.first)).sum()
    }

    /// Lends the entries, all of them checked; of compressed ones only as many as come to no more than
    /// `plain_max` bytes, and at least one. Returns whether all of them are lent.
    pub(crate) fn lend(self, lent: &mut Lents, plain_max: u64) -> Result<bool> {
        let region = self.piece.segment.region(&self.opened)?.clone();
        self.runs.iter().try_for_each(|run| self.bring_in(&region, run))?;
        self.verify(&region)?;
        let mut plain = Vec::new();
        if self.piece.segment.holes.load(Ordering::Relaxed) {
            for nth in 0..self.len() {
                if let Some((header, payload)) = frame_in(&region, self.offset(nth)) {
                    self.refuse_hole(nth, &header, payload)?;
                }
            }
        }
        let mut len = self.len();
        if self.piece.segment.compressed.load(Ordering::Relaxed) {
            len = self.fitting(&region, plain_max);
            plain.resize_with(len, OnceLock::new);
        }
        let all = len == self.len();
        let (segment, first) = (Arc::clone(self.segment()), self.piece.range.start);
        let mut units = self.units;
        units.truncate(len);
        lent.push(Lent { _segment: segment, region, first, units, plain });
        Ok(all)
    }

    /// How many entries come to no more than so many bytes when they are looked at; at least one.
    fn fitting(&self, region: &Region, plain_max: u64) -> usize {
        let mut sum = 0_u64;
        let fits = |nth: &usize| {
            if let Some((header, payload)) = frame_in(region, self.offset(*nth)) {
                sum = sum.saturating_add(plain_bytes(&header, payload));
            }
            *nth == 0 || sum <= plain_max
        };
        (0..self.len()).take_while(fits).count()
    }

    /// Has the pages of the frames read now, unless they are there.
    fn bring_in(&self, region: &Region, run: &Run) -> Result<()> {
        let bring = |range: Range<u64>| {
            let range = to_usize(range.start)..to_usize(range.end).min(region.len());
            // What is there already needs no device to be touched.
            if region.is_resident(range.clone()) {
                return Ok(());
            }
            let begun = self.opened.distrust();
            let brought = region.populate_read(range);
            self.opened.end_distrust(begun);
            brought.map_err(self.piece.segment.io("read"))
        };
        let header_end = run.last + to_u64(FRAME_HEADER_BYTES);
        bring(run.first..header_end)?;
        let end = region
            .bytes(to_usize(run.last)..to_usize(header_end))
            .and_then(read_header_unchecked)
            .map_or(header_end, |header| header_end + u64::from(header.length));
        // The page of the header is there already.
        if end > header_end.next_multiple_of(PAGE) {
            bring(header_end..end)?;
        }
        Ok(())
    }

    /// Checks the frame of every entry that was not checked before.
    fn verify(&self, region: &Region) -> Result<()> {
        if self.opened.are_trusted(&self.units) {
            return Ok(());
        }
        let (published, distrusts) = (region.published(), self.opened.distrusts());
        for (nth, unit) in self.units.iter().enumerate() {
            let offset = u64::from(*unit) * OFFSET_UNIT;
            if self.opened.is_trusted(offset) {
                continue;
            }
            let bytes = region.bytes(to_usize(offset).min(published)..published);
            let (header, payload) = self.check(nth, bytes.unwrap_or_default())?;
            if header.is_compressed() {
                // Not kept; but that it can be is part of the check.
                self.unpack(nth, payload)?;
            }
            self.opened.trust(offset, distrusts);
        }
        Ok(())
    }

    /// The frame at the beginning of `bytes`, which was checked before.
    fn believed<'b>(&self, nth: usize, bytes: &'b [u8]) -> Result<(FrameHeader, &'b [u8])> {
        let header = read_header_unchecked(bytes);
        let header = header.ok_or_else(|| self.damaged(nth, Damage::UnknownEnd))?;
        let payload = FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + u32_to_usize(header.length);
        match bytes.get(payload) {
            Some(payload) => Ok((header, payload)),
            None => Err(self.damaged(nth, Damage::UnknownEnd)),
        }
    }

    /// The frame at the beginning of `bytes`, if it is sound and that of the entry.
    fn check<'b>(&self, nth: usize, bytes: &'b [u8]) -> Result<(FrameHeader, &'b [u8])> {
        if planted(Bug::EntriesNotChecked) {
            return self.believed(nth, bytes);
        }
        match decode_frame(bytes, &self.opened.salt, self.offset(nth)) {
            Ok((header, payload, _)) if covers(&header, payload, self.index(nth)) => {
                Ok((header, payload))
            }
            Ok(_) => Err(self.damaged(nth, Damage::Misplaced { expected: self.index(nth) })),
            Err(error) => Err(self.damaged(nth, error.damage())),
        }
    }

    fn refuse_hole(&self, nth: usize, header: &FrameHeader, payload: &[u8]) -> Result<()> {
        match Span::of(header, payload).filter(|span| span.missing) {
            Some(hole) => Err(Error::Hole { wanted: self.index(nth), range: hole.range }),
            None => Ok(()),
        }
    }

    fn unpack(&self, nth: usize, payload: &[u8]) -> Result<Vec<u8>> {
        decompress(payload).map_err(|failure| match failure {
            Some(reason) => self.damaged(nth, reason),
            None => Error::UnsupportedFeature {
                path: self.piece.segment.path(),
                offset: self.offset(nth),
                feature: "lz4",
            },
        })
    }

    /// Copies the entries, reading them to the end of the buffer of `owned`. Whether all of them fit into
    /// `plain_max` bytes of compressed entries; the first one of `owned` always does.
    fn copy(&self, owned: &mut OwnedEntries, plain_max: &mut u64) -> Result<bool> {
        let is_plain = self.piece.segment.is_plain();
        for run in &self.runs {
            let (start, bytes) = (owned.bytes.len(), to_usize(run.end - run.first));
            let read = || self.opened.file.read_to_end(run.first, bytes, &mut owned.bytes);
            let (read, was_there, distrusts) = self.opened.reading(run.first..run.end, read);
            read.map_err(self.piece.segment.io("read"))?;
            let was_there = was_there && self.len() > 1;
            let units = self.units.get(run.nth.clone()).unwrap_or_default();
            let at = |unit: &u32| start + to_usize(u64::from(*unit) * OFFSET_UNIT - run.first);
            if was_there
                && is_plain
                && self.opened.are_trusted(units)
                && owned.place_frames(units.iter().map(at))
            {
                continue;
            }
            for (unit, nth) in units.iter().zip(run.nth.clone()) {
                let offset = self.offset(nth);
                let is_trusted = was_there && self.opened.is_trusted(offset);
                if !self.copy_entry(owned, nth, at(unit)..start + bytes, is_trusted, plain_max)? {
                    return Ok(false);
                }
                // Without a map nobody can tell whether it stays in memory.
                if let Some(distrusts) = distrusts
                    && !is_trusted
                    && self.len() > 1
                    && self.opened.map().is_some()
                {
                    self.opened.trust(offset, distrusts);
                }
            }
        }
        Ok(true)
    }

    /// Takes in the entry whose frame starts the range of the buffer, unless it is too long. The frame is
    /// not checked if it was before and is believed.
    fn copy_entry(
        &self,
        owned: &mut OwnedEntries,
        nth: usize,
        at: Range<usize>,
        is_trusted: bool,
        plain_max: &mut u64,
    ) -> Result<bool> {
        let bytes = owned.bytes.get(at.clone()).unwrap_or_default();
        let (header, payload) =
            if is_trusted { self.believed(nth, bytes) } else { self.check(nth, bytes) }?;
        self.refuse_hole(nth, &header, payload)?;
        if header.is_compressed() {
            let left = plain_max.checked_sub(plain_bytes(&header, payload));
            if left.is_none() && !owned.is_empty() {
                return Ok(false);
            }
            *plain_max = left.unwrap_or(0);
            let plain = self.unpack(nth, payload)?;
            owned.push(&plain);
        } else {
            owned.place(at.start + FRAME_HEADER_BYTES, payload.len());
        }
        Ok(true)
    }
}

/// Copies the entries of all pieces, the first of which is `first`; of compressed ones as
/// [`Located::lend`].
pub(crate) fn copy(
    first: u64,
    mut located: SmallVec<[Located<'_>; 1]>,
    mut plain_max: u64,
) -> Result<OwnedEntries> {
    located.iter_mut().try_for_each(Located::measure)?;
    let (bytes, count) = (located.iter().map(Located::bytes), located.iter().map(Located::len));
    let mut owned = OwnedEntries::new(first, bytes.sum(), count.sum());
    for piece in &located {
        if !piece.copy(&mut owned, &mut plain_max)? {
            break;
        }
    }
    Ok(owned)
}

/// Bytes of an entry when it is looked at.
fn plain_bytes(header: &FrameHeader, payload: &[u8]) -> u64 {
    let counts = header.is_compressed() && !planted(Bug::PlainBytesNotCounted);
    let plain = plain_length(payload).filter(|_| counts);
    to_u64(plain.unwrap_or(payload.len()))
}

/// Header and payload of the frame at `offset`, unchecked but within bounds.
#[inline]
pub(super) fn frame_in(region: &Region, offset: u64) -> Option<(FrameHeader, &[u8])> {
    let start = to_usize(offset);
    let body = start.checked_add(FRAME_HEADER_BYTES)?;
    let header = read_header_unchecked(region.bytes(start..body)?)?;
    let payload = region.bytes(body..body.checked_add(u32_to_usize(header.length))?)?;
    Some((header, payload))
}

/// Whether a frame is the one that stands for entry `index`.
fn covers(header: &FrameHeader, payload: &[u8], index: u64) -> bool {
    Span::of(header, payload).is_some_and(|span| span.range.contains(&index))
}
