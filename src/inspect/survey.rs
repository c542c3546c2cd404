//! Surveying one segment file: all that it still says, however much of it is unreadable.
//!
//! Owns: reading past damage, and telling which entries survive. Does not own: what a loss means
//! for the log (`verify`), or what is done about it (`repair`).
//!
//! An entry counts as readable only if its place is certain: stated by a sound offset table, or by
//! frames between which no lost record can have dropped it.

use std::collections::BTreeSet;
use std::ops::Range;

#[cfg(feature = "tools")]
use super::placed::Placed;
use super::window::Window;
use crate::directory::Dir;
use crate::directory::identity::Uuid;
use crate::error::{Damage, Error, Result};
use crate::format::error::{FrameError, StructureError};
use crate::format::footer::{FOOTER_BYTES, table_bytes, table_offset};
use crate::format::frame::{FRAME_HEADER_BYTES, Salt};
use crate::format::header::SEGMENT_HEADER_BYTES;
use crate::format::kind::{Effect, Span};
use crate::format::number::{to_u64, to_usize};
use crate::format::{Footer, SegmentHeader, SegmentName};
use crate::segment::offsets::{Offsets as Table, SPAN_MAX};
use crate::segment::rebuilt::Doubt;
use crate::segment::walk::{Found, Gaps, Source as _, Step, past_gaps};
use crate::segment::{FRAMES_START, OFFSET_UNIT, Segment, in_units};

/// The unit that stands for an entry which is not readable: no frame starts at offset zero.
const MISSING: u32 = 0;

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
    /// Surveys a file of `length` bytes. Returns the errors of the device as well.
    pub(crate) fn read(
        dir: &Dir,
        name: SegmentName,
        length: u64,
        hints: &Hints,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(Self, Vec<Error>)> {
        let mut window = Window::open(dir, &name.to_string(), length, progress)?;
        let survey = Self::of(dir, name, &mut window, hints);
        Ok((survey, window.finish()))
    }

    /// Surveys the bytes of a file.
    pub(crate) fn of(dir: &Dir, name: SegmentName, file: &mut Window<'_>, hints: &Hints) -> Self {
        let segment = Segment::sealed(dir, hints.uuid, name, hints.segment_bytes);
        let header = segment.check_header(file.get(0, SEGMENT_HEADER_BYTES));
        let length = to_u64(file.end());
        let end = length.checked_sub(to_u64(FOOTER_BYTES));
        let block = end.map(|end| file.get(end, FOOTER_BYTES).to_vec()).unwrap_or_default();
        let salt = header
            .as_ref()
            .ok()
            .map(|header| header.generation)
            .or_else(|| stated_generation(&block, hints.segment_bytes))
            .or(hints.generation)
            .map(Salt::new);
        let footer = match (&salt, hints.tail_end) {
            (Some(salt), None) => read_footer(&block, salt, hints.segment_bytes, file),
            _ => Err(StructureError::Magic { structure: "segment footer" }),
        };
        let wrong_base =
            |got| StructureError::Field { field: "footer base", expected: name.base, got };
        let footer = footer.and_then(|(footer, stated)| {
            match hints.sealed_end.filter(|&end| end != footer.data_end) {
                _ if footer.base != name.base => Err(wrong_base(footer.base)),
                Some(expected) => {
                    let (field, got) = ("footer data end", footer.data_end);
                    Err(StructureError::Field { field, expected, got })
                }
                None => Ok((footer, stated)),
            }
        });
        let (footer, stated) = match footer {
            Ok((footer, stated)) => (Ok(footer), stated),
            Err(error) => (Err(error), Vec::new()),
        };
        let stated_end = match (&footer, &salt) {
            (Ok(footer), _) => Some(footer.data_end),
            (Err(_), Some(salt)) if hints.tail_end.is_none() && hints.sealed_end.is_none() => {
                segment.stated_end(salt.generation()).ok().flatten()
            }
            _ => hints.tail_end.or(hints.sealed_end),
        };
        let places = Places { base: name.base, ..Places::default() };
        let (length, gaps, doubt) = ((hints.segment_bytes, length), Vec::new(), None);
        let mut survey =
            Self { name, length, header, salt, footer, places, stated, doubt, stated_end, gaps };
        survey.walk(file, hints);
        survey
    }

    fn walk(&mut self, file: &mut Window<'_>, hints: &Hints) {
        let Some(salt) = self.salt.clone() else { return };
        let limit = self.stated_end.unwrap_or(hints.segment_bytes);
        let settled = hints.settled.filter(|(place, _)| *place < limit);
        let from = settled.map_or(FRAMES_START, |(place, _)| place);
        let mut offsets = Offsets::new(self.name.base);
        if self.stated_end.is_none() {
            offsets.end_is_unknown(hints.live_end);
        }
        let mut placing = match &self.footer {
            Ok(_) => Placing::Stated(Stated::new(self.name.base, std::mem::take(&mut self.stated))),
            Err(_) => Placing::Frames(offsets),
        };
        let (mut newest, mut goes_on) = (0, true);
        if let Some((place, next)) = settled {
            let before = past_gaps(&mut *file, &salt, FRAMES_START..place, true);
            goes_on = self.note(before, &mut newest, &mut placing);
            if goes_on {
                self.cut_off(FRAMES_START..place, &mut placing);
            }
            if goes_on && let Placing::Frames(offsets) = &mut placing {
                // The checkpoint counts the entries before its place, whatever can be read there.
                offsets.is_at(next);
            }
        }
        if goes_on {
            let after = past_gaps(file, &salt, from..limit, self.stated_end.is_some());
            self.note(after, &mut newest, &mut placing);
        }
        // Where nothing states it, frames may have gone on to the end of the file that was.
        self.cut_off(from..limit, &mut placing);
        (self.places, self.doubt) = match placing {
            Placing::Stated(table) => {
                let (places, stated) = table.finish();
                self.stated = stated;
                (places, None)
            }
            Placing::Frames(offsets) => offsets.finish(hints.live_end),
        };
    }

    /// Takes note of what a walk comes by. Returns whether that is all of it.
    fn note(
        &mut self,
        mut walk: Gaps<'_, &mut Window<'_>>,
        newest: &mut u64,
        placing: &mut Placing,
    ) -> bool {
        while let Some(step) = walk.step() {
            match (&step, &mut *placing) {
                (Step::Frame(found), Placing::Stated(table)) => table.note(found),
                // Of a batch that was dropped before, as what the last one did not overwrite.
                (Step::Frame(found), Placing::Frames(_)) if found.header.sequence < *newest => {
                    return false;
                }
                (_, Placing::Frames(offsets)) => offsets.note(&step),
                (Step::Gap { .. }, Placing::Stated(_)) => {}
            }
            match step {
                Step::Frame(found) => *newest = found.header.sequence,
                Step::Gap { offset, end, reason, .. } => {
                    self.gaps.push(Gap { range: offset..end, reason });
                }
            }
        }
        true
    }

    /// What a file that was cut short held of a range: records of which nothing is known.
    fn cut_off(&mut self, range: Range<u64>, placing: &mut Placing) {
        let range = range.start.max(self.length.1)..range.end;
        if !range.is_empty() {
            if let Placing::Frames(offsets) = placing {
                offsets.lost(range.end - range.start);
            }
            self.gaps.push(Gap { range, reason: FrameError::End });
        }
    }

    /// The file once more, for the frames at the places that were found.
    ///
    /// # Errors
    /// As an open of the file; nothing if nothing states the generation of its frames.
    #[cfg(feature = "tools")]
    pub(crate) fn frames(&self, dir: &Dir) -> Result<Option<Placed>> {
        let Some(salt) = self.salt.clone() else { return Ok(None) };
        Placed::open(dir, &self.name.to_string(), salt, self.length.1).map(Some)
    }

    /// Whether the file has another length than it should have.
    pub(crate) fn has_wrong_length(&self) -> bool {
        self.length.0 != self.length.1
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
fn stated_generation(footer: &[u8], segment_bytes: u64) -> Option<u64> {
    use byteorder::{ByteOrder, LittleEndian};
    let generation = LittleEndian::read_u64(footer.get(16..24)?);
    Footer::decode(footer, &Salt::new(generation), segment_bytes).ok().map(|_| generation)
}

/// Footer and table, both sound: the places that the table states, in units.
fn read_footer(
    footer: &[u8],
    salt: &Salt,
    segment_bytes: u64,
    file: &mut Window<'_>,
) -> std::result::Result<(Footer, Vec<u32>), StructureError> {
    let footer = Footer::decode(footer, salt, segment_bytes)?;
    let table = file.get(footer.table_start(segment_bytes), table_bytes(footer.count));
    footer.verify_table(table)?;
    let unit = |nth| table_offset(table, nth).map_or(MISSING, in_units);
    Ok((footer, (0..to_usize(footer.count)).map(unit).collect()))
}

/// What says where the entries of a segment are.
enum Placing {
    /// A sound table, held against the frames as they come.
    Stated(Stated),
    /// The frames alone.
    Frames(Offsets),
}

/// The places that a table states. They ascend, as the frames do.
struct Stated {
    stated: Vec<u32>,
    places: Places,
}

impl Stated {
    fn new(base: u64, stated: Vec<u32>) -> Self {
        Self { stated, places: Places { base, ..Places::default() } }
    }

    /// Takes note of a sound frame.
    fn note(&mut self, found: &Found<'_>) {
        let unit = in_units(found.offset);
        let span = Span::of(&found.header, found.payload);
        while let Some(&stated) = self.stated.get(self.places.units.len()).filter(|it| **it <= unit)
        {
            let index = self.places.end();
            let is_it = stated == unit && span.as_ref().is_some_and(|it| it.range.contains(&index));
            self.places.units.push(if is_it { unit } else { MISSING });
        }
        if span.is_some_and(|span| span.missing) {
            self.places.marks.insert(unit);
        }
    }

    /// Where the entries are, and where the table says that they are.
    fn finish(mut self) -> (Places, Vec<u32>) {
        self.places.units.resize(self.stated.len(), MISSING);
        (self.places, self.stated)
    }
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
