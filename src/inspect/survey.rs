//! Surveying one segment file: all that it still says, however much of it is unreadable.
//!
//! Owns: reading past damage, and telling which entries survive. Does not own: what a loss means
//! for the log (`verify`), or what is done about it (`repair`).
//!
//! An entry counts as readable only if its place is certain: stated by a sound offset table, or by
//! frames between which no lost record can have dropped it.

use std::collections::BTreeSet;
use std::ops::Range;

use super::placed::Placed;
use crate::directory::Dir;
use crate::directory::identity::Uuid;
use crate::error::{Damage, Error, Result};
use crate::format::error::{FrameError, StructureError};
use crate::format::footer::{FOOTER_BYTES, table_bytes, table_offset};
use crate::format::frame::{FRAME_HEADER_BYTES, Salt, decode_frame};
use crate::format::kind::{Effect, Span};
use crate::format::number::{to_u64, to_usize};
use crate::format::{Footer, SegmentHeader, SegmentName};
use crate::io::Access;
use crate::options::SEGMENT_BYTES_MAX;
use crate::segment::offsets::{Offsets as Table, SPAN_MAX};
use crate::segment::rebuilt::Doubt;
use crate::segment::walk::{Step, past_gaps};
use crate::segment::{FRAMES_START, OFFSET_UNIT, Segment, in_units};

/// Bytes read at a time; progress is reported as often.
const CHUNK_BYTES: usize = 1024 * 1024;
/// Bytes in which a failing device is read piece by piece.
const PIECE_BYTES: usize = 4096;
/// The unit that stands for an entry which is not readable: no frame starts at offset zero.
pub(super) const MISSING: u32 = 0;

/// The bytes of a file, as far as the device gives them.
#[derive(Debug)]
pub(crate) struct FileBytes {
    pub(crate) bytes: Vec<u8>,
    /// What could not be read, each with the error; those bytes are zero here.
    pub(crate) failures: Vec<(u64, Error)>,
}

/// Reads a whole file, past errors of the device.
pub(crate) fn read_file(
    dir: &Dir,
    name: &str,
    length: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<FileBytes> {
    let file = dir.open(name, Access::Read)?;
    let mut bytes = vec![0; to_usize(length.min(SEGMENT_BYTES_MAX))];
    let mut failures = Vec::new();
    let mut offset = 0;
    for chunk in bytes.chunks_mut(CHUNK_BYTES) {
        if file.read_at(offset, chunk).is_err() {
            let mut at = offset;
            for piece in chunk.chunks_mut(PIECE_BYTES) {
                if let Err(source) = file.read_at(at, piece) {
                    piece.fill(0);
                    failures.push((at, Error::io("read", dir.join(name), source)));
                }
                at += to_u64(piece.len());
            }
        }
        offset += to_u64(chunk.len());
        progress(to_u64(chunk.len()));
    }
    Ok(FileBytes { bytes, failures })
}

/// A stretch of a segment that should be frames and is not.
#[derive(Debug, Clone)]
pub(crate) struct Gap {
    pub(crate) range: Range<u64>,
    pub(crate) reason: FrameError,
}

/// Where the entries of a segment are. Their bytes are read again from there, and checked again.
#[derive(Debug, Default)]
pub(crate) struct Places {
    base: u64,
    /// Where the entries from the base on are; `MISSING` for those that cannot be read.
    units: Vec<u32>,
    /// Frames that stand for entries which are missing since a repair.
    marks: BTreeSet<u32>,
}

impl Places {
    /// Of entries all of which can be read.
    pub(crate) fn of_all(base: u64, units: Vec<u32>) -> Self {
        Self { base, units, marks: BTreeSet::new() }
    }

    fn unit(&self, index: u64) -> Option<u32> {
        let unit = *self.units.get(to_usize(index.checked_sub(self.base)?))?;
        (unit != MISSING).then_some(unit)
    }

    /// Where the frame is that stands for an entry: an Entry, or a Hole.
    pub(crate) fn of(&self, index: u64) -> Option<u64> {
        self.unit(index).map(|unit| u64::from(unit) * OFFSET_UNIT)
    }

    /// Where the frame is that holds an entry.
    pub(crate) fn of_entry(&self, index: u64) -> Option<u64> {
        let unit = self.unit(index).filter(|unit| !self.marks.contains(unit))?;
        Some(u64::from(unit) * OFFSET_UNIT)
    }

    /// Exclusive end of the entries that the file once held, readable or not.
    pub(crate) fn end(&self) -> u64 {
        self.base.saturating_add(to_u64(self.units.len()))
    }

    /// The parts of `live` that cannot be read. Costs no more than the entries there are, whatever
    /// a hostile checkpoint expects.
    pub(crate) fn missing(&self, live: &Range<u64>) -> Vec<Range<u64>> {
        let known = live.start..live.end.min(self.end()).max(live.start);
        let mut missing = ranges(known.clone().filter(|&index| self.unit(index).is_none()));
        if known.end < live.end {
            missing.push(known.end..live.end);
        }
        joined(missing)
    }

    /// The parts of `live` that are marked as missing.
    pub(crate) fn holes(&self, live: &Range<u64>) -> Vec<Range<u64>> {
        let marked = |unit: u32| self.marks.contains(&unit);
        ranges(self.known(live).filter(|&index| self.unit(index).is_some_and(marked)))
    }

    /// How many entries of `live` can be read.
    pub(crate) fn readable(&self, live: &Range<u64>) -> u64 {
        to_u64(self.known(live).filter(|&index| self.of_entry(index).is_some()).count())
    }

    fn known(&self, live: &Range<u64>) -> Range<u64> {
        live.start..live.end.min(self.end())
    }
}

/// What a segment file says.
#[derive(Debug)]
pub(crate) struct Survey {
    pub(crate) name: SegmentName,
    /// Length the file should have, and the length it had when it was read.
    length: (u64, u64),
    pub(crate) header: Result<SegmentHeader>,
    /// Generation of the file, from its header, or else from whatever else states it.
    pub(crate) salt: Option<Salt>,
    pub(crate) footer: std::result::Result<Footer, StructureError>,
    pub(crate) places: Places,
    /// Where a sound table says that the entries are, whatever is there.
    stated: Vec<u32>,
    /// From which entry on the frames are in doubt, and the frame that makes them so.
    doubt: Option<(u64, u64)>,
    /// Where the frames end, if the footer, the next segment, or the log itself says so.
    pub(crate) stated_end: Option<u64>,
    pub(crate) gaps: Vec<Gap>,
}

/// What is known of a segment from elsewhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hints {
    pub(crate) uuid: Uuid,
    /// Length every segment has.
    pub(crate) segment_bytes: u64,
    /// Generation, for a file whose header cannot be read.
    pub(crate) generation: Option<u64>,
    /// End of the entries that count here.
    pub(crate) live_end: u64,
    /// For the tail: where frames end, as far as the log knows. It has no footer.
    pub(crate) tail_end: Option<u64>,
    /// For the tail of the checkpoint: its place there, and the end of the entries before it.
    pub(crate) settled: Option<(u64, u64)>,
    /// For a segment that was sealed since the checkpoint: where frames end. A footer that says
    /// otherwise is that of a seal which was dropped.
    pub(crate) sealed_end: Option<u64>,
}

impl Survey {
    /// Surveys the bytes of a file.
    pub(crate) fn of(dir: &Dir, name: SegmentName, bytes: &[u8], hints: &Hints) -> Self {
        let segment = Segment::sealed(dir, hints.uuid, name, hints.segment_bytes);
        let header = segment.check_header(bytes);
        let salt = header
            .as_ref()
            .ok()
            .map(|header| header.generation)
            .or_else(|| stated_generation(bytes, hints.segment_bytes))
            .or(hints.generation)
            .map(Salt::new);
        let footer = match (&salt, hints.tail_end) {
            (Some(salt), None) => read_footer(bytes, salt, hints.segment_bytes),
            _ => Err(StructureError::Magic { structure: "segment footer" }),
        };
        let wrong_base =
            |got| StructureError::Field { field: "footer base", expected: name.base, got };
        let footer = footer.and_then(|footer| {
            match hints.sealed_end.filter(|&end| end != footer.data_end) {
                _ if footer.base != name.base => Err(wrong_base(footer.base)),
                Some(expected) => {
                    let (field, got) = ("footer data end", footer.data_end);
                    Err(StructureError::Field { field, expected, got })
                }
                None => Ok(footer),
            }
        });
        let stated_end = match (&footer, &salt) {
            (Ok(footer), _) => Some(footer.data_end),
            (Err(_), Some(salt)) if hints.tail_end.is_none() && hints.sealed_end.is_none() => {
                segment.stated_end(salt.generation()).ok().flatten()
            }
            _ => hints.tail_end.or(hints.sealed_end),
        };
        let places = Places { base: name.base, ..Places::default() };
        let (stated, gaps, doubt) = (Vec::new(), Vec::new(), None);
        let length = (hints.segment_bytes, to_u64(bytes.len()));
        let mut survey =
            Self { name, length, header, salt, footer, places, stated, doubt, stated_end, gaps };
        survey.walk(bytes, hints);
        survey
    }

    fn walk(&mut self, bytes: &[u8], hints: &Hints) {
        let Some(salt) = self.salt.clone() else { return };
        let stated = self.stated_end;
        let limit = stated.unwrap_or(hints.segment_bytes);
        let mut offsets = Offsets::new(self.name.base);
        if stated.is_none() {
            offsets.end_is_unknown(hints.live_end);
        }
        let mut newest = 0;
        let settled = hints.settled.filter(|(place, _)| *place < limit);
        let before = settled.map(|(place, _)| {
            past_gaps(bytes, &salt, FRAMES_START..place, true).map(Some).chain([None])
        });
        let from = settled.map_or(FRAMES_START, |(place, _)| place);
        let after = past_gaps(bytes, &salt, from..limit, stated.is_some()).map(Some);
        for step in before.into_iter().flatten().chain(after) {
            match step {
                // The checkpoint counts the entries before its place, whatever can be read there.
                None => {
                    let (place, next) = settled.unwrap_or((from, 0));
                    self.cut_off(FRAMES_START..place, &mut offsets);
                    offsets.is_at(next);
                }
                // Of a batch that was dropped before, as what the last one did not overwrite.
                Some(Step::Frame(found)) if found.header.sequence < newest => break,
                Some(step) => {
                    offsets.note(&step);
                    match step {
                        Step::Frame(found) => newest = found.header.sequence,
                        Step::Gap { offset, end, reason, .. } => {
                            self.gaps.push(Gap { range: offset..end, reason });
                        }
                    }
                }
            }
        }
        // Where nothing states it, frames may have gone on to the end of the file that was.
        self.cut_off(from..limit, &mut offsets);
        (self.places, self.doubt) = match self.footer.as_ref().ok() {
            Some(footer) => {
                self.stated = table_of(bytes, footer, hints.segment_bytes);
                (places_by_table(bytes, footer, &self.stated, &salt), None)
            }
            None => offsets.finish(hints.live_end),
        };
    }

    /// What a file that was cut short held of a range: records of which nothing is known.
    fn cut_off(&mut self, range: Range<u64>, offsets: &mut Offsets) {
        let range = range.start.max(self.length.1)..range.end;
        if !range.is_empty() {
            offsets.lost(range.end - range.start);
            self.gaps.push(Gap { range, reason: FrameError::End });
        }
    }

    /// The file once more, for the frames at the places that were found.
    ///
    /// # Errors
    /// As an open of the file; nothing if nothing states the generation of its frames.
    pub(crate) fn frames(&self, dir: &Dir) -> Result<Option<Placed>> {
        let Some(salt) = self.salt.clone() else { return Ok(None) };
        Placed::open(dir, &self.name.to_string(), salt, self.length.1).map(Some)
    }

    /// Whether the file has another length than it should have.
    pub(crate) fn has_wrong_length(&self) -> bool {
        self.length.0 != self.length.1
    }

    /// The parts of `live` that cannot be read.
    pub(crate) fn missing(&self, live: &Range<u64>) -> Vec<Range<u64>> {
        self.places.missing(live)
    }

    /// Where the table says a missing entry is, or else the first gap there is, or else the end of a
    /// file that was cut short.
    pub(crate) fn place_of(&self, index: u64) -> u64 {
        let (segment_bytes, length) = self.length;
        let nth = index.checked_sub(self.name.base).map(to_usize);
        let stated = nth.and_then(|nth| self.stated.get(nth));
        let stated = stated.map(|&unit| u64::from(unit) * OFFSET_UNIT);
        let doubt = self.doubt.filter(|(from, _)| *from <= index).map(|(_, offset)| offset);
        let gap = || self.gaps.first().map(|gap| gap.range.start);
        let cut = || Some(length).filter(|&length| length < segment_bytes);
        stated.or(doubt).or_else(gap).or_else(cut).unwrap_or(FRAMES_START)
    }

    /// What is wrong with the bytes at an offset.
    pub(crate) fn reason_at(&self, offset: u64) -> Damage {
        if self.doubt.is_some_and(|(_, place)| place == offset) {
            return Damage::UnknownEnd;
        }
        let gap = self.gaps.iter().find(|gap| gap.range.contains(&offset)).or(self.gaps.first());
        let (expected, got) = self.length;
        if got < expected && gap.is_none_or(|gap| gap.range.end >= got) {
            return Damage::Length { expected, got };
        }
        gap.map_or(Damage::Misplaced { expected: self.name.base }, |gap| gap.reason.damage())
    }
}

/// The generation that a footer states, if the footer is sound under it.
fn stated_generation(bytes: &[u8], segment_bytes: u64) -> Option<u64> {
    use byteorder::{ByteOrder, LittleEndian};
    let footer = bytes.get(bytes.len().checked_sub(FOOTER_BYTES)?..)?;
    let generation = LittleEndian::read_u64(footer.get(16..24)?);
    Footer::decode(footer, &Salt::new(generation), segment_bytes).ok().map(|_| generation)
}

/// Footer and table, both sound.
pub(crate) fn read_footer(
    bytes: &[u8],
    salt: &Salt,
    segment_bytes: u64,
) -> std::result::Result<Footer, StructureError> {
    let start = bytes.len().saturating_sub(FOOTER_BYTES);
    let footer = Footer::decode(bytes.get(start..).unwrap_or(&[]), salt, segment_bytes)?;
    let from = to_usize(footer.table_start(segment_bytes));
    let to = from.saturating_add(table_bytes(footer.count));
    footer.verify_table(bytes.get(from..to).unwrap_or(&[]))?;
    Ok(footer)
}

/// The places that a sound table states, in units.
fn table_of(bytes: &[u8], footer: &Footer, segment_bytes: u64) -> Vec<u32> {
    let table = bytes.get(to_usize(footer.table_start(segment_bytes))..).unwrap_or(&[]);
    let unit = |nth| table_offset(table, nth).map_or(MISSING, in_units);
    (0..to_usize(footer.count)).map(unit).collect()
}

/// The places that a table states, each entry's frame looked at.
fn places_by_table(bytes: &[u8], footer: &Footer, stated: &[u32], salt: &Salt) -> Places {
    let data = bytes.get(..to_usize(footer.data_end)).unwrap_or(&[]);
    let mut places = Places { base: footer.base, ..Places::default() };
    let mut hole = 0..0;
    for (index, &unit) in (footer.base..).zip(stated) {
        let offset = u64::from(unit) * OFFSET_UNIT;
        let mut sound = hole.contains(&index);
        if !sound
            && let Ok((header, payload, _)) =
                decode_frame(data.get(to_usize(offset)..).unwrap_or(&[]), salt, offset)
            && let Some(span) = Span::of(&header, payload)
        {
            hole = span.range.clone();
            sound = hole.contains(&index);
            if span.missing {
                places.marks.insert(unit);
            }
        }
        places.units.push(if sound { unit } else { MISSING });
    }
    places
}

/// Places of entries, from frames alone, some of which are lost.
#[derive(Debug)]
pub(crate) struct Offsets {
    base: u64,
    /// `MISSING` for those that cannot be read.
    table: Table,
    /// How many lost records there may be since the last sound frame.
    doubt: u64,
    /// What frames that may not count would replace.
    end: Doubt,
    /// Frames that stand for entries which are missing since a repair.
    marks: BTreeSet<u32>,
}

impl Offsets {
    pub(crate) fn new(base: u64) -> Self {
        let (table, marks) = (Table::default(), BTreeSet::new());
        Self { base, table, doubt: 0, end: Doubt::new(base, u64::MAX), marks }
    }

    /// Nothing states where the frames end; they had the entries up to `live_end`.
    fn end_is_unknown(&mut self, live_end: u64) {
        self.end = Doubt::new(self.base, live_end);
    }

    /// Whether it is certain where an entry is.
    pub(crate) fn is_known(&self, index: u64) -> bool {
        let nth = index.checked_sub(self.base).map(to_usize);
        nth.and_then(|nth| self.units().get(nth)).is_some_and(|unit| *unit != MISSING)
    }

    /// What is known from elsewhere: the next entry here has this index.
    pub(crate) fn is_at(&mut self, next: u64) {
        if self.doubt > 0 {
            self.settle(next);
        }
        self.cut(next);
        self.fill(next);
    }

    pub(crate) fn next(&self) -> u64 {
        self.base + to_u64(self.units().len())
    }

    /// Takes note of what a walk came by. A frame that makes no sense is left out. Of a lost one whose
    /// header is sound the effect may be known all the same.
    pub(crate) fn note(&mut self, step: &Step<'_>) {
        match step {
            Step::Frame(found) => {
                let Ok(effect) = found.effect() else { return };
                self.end.frame(found.offset, &effect, self.next());
                if let Some(index) = effect.cut().filter(|_| self.doubt > 0) {
                    self.settle(index);
                }
                let unit = in_units(found.offset);
                if self.table.carry_out(self.base, &effect, unit).is_ok()
                    && matches!(&effect, Effect::Entries(span) if span.missing)
                {
                    self.marks.insert(unit);
                }
            }
            Step::Gap { offset, end, header, .. } => {
                let effect = header.and_then(|header| Effect::of(&header, &[]).ok());
                let known =
                    effect.is_some_and(|it| self.table.carry_out(self.base, &it, MISSING).is_ok());
                if !known {
                    self.lost(end - offset);
                }
            }
        }
    }

    /// Takes note of so many bytes of records of which nothing is known.
    pub(crate) fn lost(&mut self, bytes: u64) {
        self.doubt += bytes / to_u64(FRAME_HEADER_BYTES);
    }

    fn units(&self) -> &[u32] {
        self.table.units.all().unwrap_or_default()
    }

    /// Everything from `to` on is gone.
    fn cut(&mut self, to: u64) {
        self.table.units.truncate(to_usize(to.saturating_sub(self.base)));
    }

    /// There are entries up to `next`, of which those that are not known yet cannot be read.
    fn fill(&mut self, next: u64) {
        let count = next.saturating_sub(self.base);
        if count <= SPAN_MAX {
            self.table.units.pad(to_usize(count), MISSING);
        }
    }

    /// After lost records, the next entry is `index`: any of the lost ones may have been a
    /// truncation, the others entries that follow it.
    fn settle(&mut self, index: u64) {
        if index < self.base || index - self.base > SPAN_MAX {
            return;
        }
        let lowest = index.saturating_sub(std::mem::take(&mut self.doubt));
        self.cut(lowest.max(self.base));
        self.fill(index);
    }

    /// Lost records at the very end may have replaced as many entries before `live_end`. Returns
    /// also from which entry on the frames are in doubt, and the frame that makes them so.
    fn finish(mut self, live_end: u64) -> (Places, Option<(u64, u64)>) {
        if self.doubt > 0 {
            self.cut(live_end.saturating_sub(self.doubt));
        }
        if let Some((from, _)) = self.end.from {
            // There were as many, whatever became of them.
            let end = self.next().max(live_end);
            self.cut(from);
            self.fill(end);
        }
        let doubt = self.end.from;
        (self.into_places(), doubt)
    }

    /// Where the entries are, if that is certain.
    pub(crate) fn into_places(self) -> Places {
        Places { base: self.base, units: self.units().to_vec(), marks: self.marks }
    }
}

/// Runs of consecutive indexes.
pub(crate) fn ranges(indexes: impl Iterator<Item = u64>) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for index in indexes {
        match ranges.last_mut() {
            Some(range) if range.end == index => range.end += 1,
            _ => ranges.push(index..index + 1),
        }
    }
    ranges
}

/// Neighbouring ranges as one.
pub(crate) fn joined(ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut out: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match out.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => out.push(range),
        }
    }
    out
}

/// How many indexes a list of ranges covers.
pub(crate) fn total(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}
