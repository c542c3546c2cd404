//! Planning a batch: what it changes and where its frames go, before a byte is written.
//!
//! Owns: every refusal of a batch, and the frames that it comes to. A batch that was planned is
//! written whole or poisons the log. Does not own: the writing (`write`).
//!
//! A plan is gone through record by record to see what the batch comes to, which may refuse it. Where
//! every record came to a frame of the tail as it is, as most often, the frames follow from the records
//! alone. Else the plan is gone through once more to write them; it says the same as before, because
//! nothing that it looks at changes in between. Entries alone that fit the tail, which is what a log is
//! given most, are planned all at once.

use crate::batch::Record;
use crate::error::{Error, Result};
use crate::format::cell::CellRecord;
use crate::format::frame::{FRAME_HEADER_BYTES, frame_bytes};
use crate::format::number::{to_u32, to_u64, to_usize};
use crate::lazy::{LazyCell, LazyCells};
use crate::options::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, BATCH_SEGMENTS_MAX, CELLS_PER_BATCH_MAX};
use crate::segment::{FRAMES_START, tail::footer_space};
use crate::state::{Bounds, State, Value, check_cell, check_cells_bytes, is_unchanged, too_large};

/// What a caller wants written: the records of a batch, entries compressed where that is asked for.
#[derive(Debug)]
pub(crate) struct Load<'a> {
    records: &'a [Record<'a>],
    /// Entries in compressed form, by record; empty if none is.
    compressed: Vec<Option<Vec<u8>>>,
}

/// What a frame says, borrowed from whoever wants it written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Body<'a> {
    /// An entry of so many bytes, which are other bytes if it is compressed.
    Entry {
        stored: &'a [u8],
        compressed: bool,
        bytes: usize,
    },
    Truncate(u64),
    Trim(u64),
    Reset(u64),
    Cell(CellRecord<'a>),
}

impl<'a> Body<'a> {
    /// Of a cell that was set lazily.
    pub(super) fn of_rider(rider: &'a LazyCell) -> Self {
        Self::Cell(CellRecord::Set { name: &rider.name, value: &rider.value })
    }
}

impl Body<'_> {
    #[inline]
    fn payload_bytes(&self) -> usize {
        match self {
            Self::Entry { stored, .. } => stored.len(),
            Self::Cell(cell) => cell.payload_bytes(),
            Self::Truncate(_) | Self::Trim(_) | Self::Reset(_) => 0,
        }
    }

    /// The index that its frame states, where the next entry gets `next`.
    #[inline]
    pub(super) fn index(&self, next: u64) -> u64 {
        match self {
            Self::Entry { .. } => next,
            Self::Truncate(index) | Self::Trim(index) | Self::Reset(index) => *index,
            Self::Cell(_) => 0,
        }
    }

    /// The index of the next entry after it, where that was `next` before.
    #[inline]
    pub(super) fn next(&self, next: u64) -> u64 {
        match self {
            Self::Entry { .. } => next + 1,
            Self::Truncate(index) | Self::Reset(index) => *index,
            Self::Trim(_) | Self::Cell(_) => next,
        }
    }
}

impl<'a> Load<'a> {
    /// These records; entries longer than `compress_above` bytes are compressed, here and once.
    pub(crate) fn new(records: &'a [Record<'a>], compress_above: Option<usize>) -> Self {
        let compressed = compress_above.map_or_else(Vec::new, |above| {
            let compress = |record: &Record<'_>| match record {
                Record::Append(entry) if entry.len() > above => crate::compress::compress(entry),
                _ => None,
            };
            records.iter().map(compress).collect()
        });
        Self { records, compressed }
    }

    pub(crate) fn records(&self) -> &'a [Record<'a>] {
        self.records
    }

    /// Whether there are entries among them.
    pub(crate) fn appends(&self) -> bool {
        self.records.iter().any(|record| matches!(record, Record::Append(_)))
    }

    /// What the frame of a record says.
    #[inline]
    pub(crate) fn body(&self, at: usize) -> Option<Body<'_>> {
        Some(match self.records.get(at)? {
            Record::Append(entry) => match self.compressed.get(at) {
                Some(Some(stored)) => Body::Entry { stored, compressed: true, bytes: entry.len() },
                _ => Body::Entry { stored: entry, compressed: false, bytes: entry.len() },
            },
            Record::Truncate(to) => Body::Truncate(*to),
            Record::Trim(to) => Body::Trim(*to),
            Record::Reset(base) => Body::Reset(*base),
            Record::Set(name, value) => Body::Cell(CellRecord::Set { name, value }),
            Record::Clear(name) => Body::Cell(CellRecord::Clear { name }),
            Record::Attach(name, file) => {
                Body::Cell(CellRecord::Attach { name, file: file.reference() })
            }
        })
    }

    /// Every record, by its number.
    pub(crate) fn bodies(&self) -> impl Iterator<Item = (usize, Body<'_>)> {
        (0..self.records.len()).filter_map(|at| Some((at, self.body(at)?)))
    }

    /// The entries among them.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &'a [u8]> {
        self.records.iter().filter_map(|record| match record {
            Record::Append(entry) => Some(entry.as_ref()),
            _ => None,
        })
    }

    /// Name and new value of the cell that a record is about.
    #[inline]
    pub(crate) fn cell(&self, at: usize) -> Option<(&str, Option<Value<'_>>)> {
        match self.records.get(at)? {
            Record::Set(name, value) => Some((name, Some(Value::Inline(value)))),
            Record::Clear(name) => Some((name, None)),
            Record::Attach(name, file) => Some((name, Some(Value::SideFile(file.reference())))),
            _ => None,
        }
    }
}

/// One frame to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    /// The index the frame states.
    pub(crate) index: u64,
    /// A new segment with this base begins before the frame.
    pub(crate) roll: Option<u64>,
}

impl Frame {
    /// In the tail as it is, where the next entry gets `next`.
    #[inline]
    pub(crate) fn after(body: &Body<'_>, next: u64) -> Self {
        Self { index: body.index(next), roll: None }
    }
}

/// The place a plan starts from, and where it gets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) base: u64,
    /// Entries with an offset in the segment.
    pub(crate) count: u64,
    pub(crate) position: u64,
    pub(crate) segment_bytes: u64,
}

/// A cell that a batch changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Touched {
    /// The newest record about it.
    record: u32,
    /// Its place among the cells before the batch.
    place: usize,
}

impl Touched {
    #[inline]
    fn at(&self) -> usize {
        to_usize(self.record.into())
    }
}

/// What a batch comes to, as far as its plan was gone through.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The bounds after it.
    pub(crate) bounds: Bounds,
    pub(crate) place: Place,
    /// How many frames, of which the first ones are cells that were set lazily.
    pub(crate) frames: usize,
    pub(crate) riders: usize,
    /// How many records are about cells among those.
    repeated: usize,
    /// Bytes of all frames.
    pub(crate) bytes: u64,
    pub(crate) entry_bytes: u64,
    pub(crate) entries: u64,
    pub(crate) rolls: u64,
    /// The tail as it is when the first of them seals it: where its frames end, and its entries.
    pub(crate) sealed: Option<(u64, u64)>,
    /// A roll is needed for what the batch means, not for lack of space.
    pub(crate) must_roll: bool,
    pub(crate) trims: bool,
    pub(crate) truncates: bool,
    /// Lowest end that the batch leads to on its way; `u64::MAX` if it drops no suffix.
    pub(crate) lowest: u64,
    /// Bytes that all cells take in a slot.
    cells_bytes: usize,
    /// The cells that the batch changes, by name.
    pub(crate) touched: Vec<Touched>,
}

impl Plan {
    /// Goes through the plan of a batch to its end.
    pub(crate) fn go_through(
        &mut self,
        state: &State,
        lazy: &LazyCells,
        load: &Load<'_>,
    ) -> Result<()> {
        check_count(load.records.len())?;
        for rider in lazy.riders(&state.cells) {
            self.rider(state, rider);
        }
        self.riders = self.frames;
        if !self.add_plain(load) {
            for (at, body) in load.bodies() {
                self.step(state, lazy, load, at, &body)?;
            }
        }
        for (what, got, limit) in [
            ("bytes in a batch", self.bytes, BATCH_BYTES_MAX),
            ("segments that a batch begins", self.rolls, BATCH_SEGMENTS_MAX),
        ] {
            if got > limit {
                return Err(Error::TooLarge { what, got, limit });
            }
        }
        if self.sets_cells() {
            check_cells_bytes(self.cells_bytes)?;
        }
        Ok(())
    }

    /// The plan of a batch, to be gone through from its start.
    #[inline]
    pub(crate) fn start(state: &State, place: Place, mut touched: Vec<Touched>) -> Self {
        touched.clear();
        Self {
            bounds: state.bounds(),
            place,
            frames: 0,
            riders: 0,
            repeated: 0,
            bytes: 0,
            entry_bytes: 0,
            entries: 0,
            rolls: 0,
            sealed: None,
            must_roll: false,
            trims: false,
            truncates: false,
            lowest: u64::MAX,
            cells_bytes: state.cells.bytes(),
            touched,
        }
    }

    /// Whether the batch has to be written for its own sake. One that sets a cell to the value that
    /// was set lazily changes nothing that readers see, but its caller wants the value durable.
    pub(crate) fn changes(&self) -> bool {
        self.frames > self.riders || self.repeated > 0
    }

    /// Whether the batch itself sets or clears a cell.
    pub(crate) fn sets_cells(&self) -> bool {
        !self.touched.is_empty()
    }

    /// The cells that it changes: the place of each before, its name and its value after it.
    pub(crate) fn cells<'a>(
        &self,
        load: &'a Load<'_>,
    ) -> impl Iterator<Item = (usize, &'a str, Option<Value<'a>>)> {
        self.touched.iter().filter_map(|touched| {
            let (name, value) = load.cell(touched.at())?;
            Some((touched.place, name, value))
        })
    }

    /// Whether it is nothing but entries, stored as they are, in the tail as it is.
    #[inline]
    pub(crate) fn is_plain(&self, load: &Load<'_>) -> bool {
        let all = self.entries == to_u64(self.frames);
        all && self.rolls == 0 && load.compressed.is_empty()
    }

    /// Whether every record comes to a frame, in the tail as it is.
    #[inline]
    pub(crate) fn is_straight(&self, load: &Load<'_>) -> bool {
        self.rolls == 0 && self.frames - self.riders == load.records.len()
    }

    /// Takes in every record at once, if each is an entry and all of them fit the tail.
    #[inline]
    fn add_plain(&mut self, load: &Load<'_>) -> bool {
        if self.rolls > 0 || !load.compressed.is_empty() {
            return false;
        }
        let (mut payload, mut bytes) = (0_u64, 0_u64);
        for record in load.records {
            let Record::Append(entry) = record else { return false };
            if to_u64(entry.len()) > entry_bytes_max(self.place.segment_bytes) {
                return false;
            }
            payload = payload.saturating_add(to_u64(entry.len()));
            bytes = bytes.saturating_add(to_u64(frame_bytes(entry.len())));
        }
        let entries = to_u64(load.records.len());
        let count = self.place.count + entries;
        let end = self.place.position.saturating_add(bytes);
        let fits = end.saturating_add(footer_space(count)) <= self.place.segment_bytes;
        let Some(next) = self.bounds.next.checked_add(entries).filter(|_| fits) else {
            return false;
        };
        self.bounds.next = next;
        (self.place.count, self.place.position) = (count, end);
        (self.entries, self.entry_bytes) = (entries, payload);
        self.bytes += bytes;
        self.frames += load.records.len();
        true
    }

    /// Takes in a cell that was set lazily. It gets a frame whatever the state says: a checkpoint
    /// may have stated another value meanwhile.
    pub(crate) fn rider(&mut self, state: &State, rider: &LazyCell) -> Frame {
        let (_, before) = state.cells.get_near(rider.place, &rider.name);
        let value = Some(Value::Inline(&rider.value));
        self.count_cell(&rider.name, before.map(Value::from), value);
        let body = Body::of_rider(rider);
        self.put(body.index(self.bounds.next), body.payload_bytes(), None)
    }

    /// Takes in a record, of which `body` is the body. Returns the frame that it comes to, none if it
    /// changes nothing.
    pub(crate) fn step(
        &mut self,
        state: &State,
        lazy: &LazyCells,
        load: &Load<'_>,
        at: usize,
        body: &Body<'_>,
    ) -> Result<Option<Frame>> {
        let (index, length) = (body.index(self.bounds.next), body.payload_bytes());
        match body {
            Body::Entry { bytes, .. } => self.append(index, *bytes, length).map(Some),
            Body::Truncate(to) => {
                if !self.bounds.truncate(*to)? {
                    return Ok(None);
                }
                self.truncates = true;
                self.lowest = self.lowest.min(*to);
                let frame = self.put(index, length, (*to < self.place.base).then_some(*to));
                self.place.count = to - self.place.base;
                Ok(Some(frame))
            }
            Body::Trim(to) => {
                if !self.bounds.trim(*to)? {
                    return Ok(None);
                }
                self.trims = true;
                Ok(Some(self.put(index, length, None)))
            }
            Body::Reset(base) => {
                if !self.bounds.reset(*base) {
                    return Ok(None);
                }
                self.trims = true;
                self.lowest = self.lowest.min(*base);
                let in_place = self.place.count == 0 && self.place.base == *base;
                let frame = self.put(index, length, (!in_place).then_some(*base));
                self.place.count = 0;
                Ok(Some(frame))
            }
            Body::Cell(_) => {
                let changes = self.set(state, lazy, load, at)?;
                Ok(changes.then(|| self.put(index, length, None)))
            }
        }
    }

    fn append(&mut self, index: u64, entry: usize, stored: usize) -> Result<Frame> {
        let limit = entry_bytes_max(self.place.segment_bytes);
        if to_u64(entry) > limit {
            return Err(too_large("entry bytes", entry, to_usize(limit)));
        }
        let Some(next) = index.checked_add(1) else {
            return Err(Error::TooLarge { what: "index", got: index, limit: u64::MAX - 1 });
        };
        let frame = self.put(index, stored, None);
        self.bounds.next = next;
        self.place.count += 1;
        self.entries += 1;
        self.entry_bytes += to_u64(entry);
        Ok(frame)
    }

    /// Takes in a change of a cell. Returns whether it is one.
    fn set(&mut self, state: &State, lazy: &LazyCells, load: &Load<'_>, at: usize) -> Result<bool> {
        let Some((name, value)) = load.cell(at) else { return Ok(false) };
        let waiting = lazy.waiting(name);
        let name_at = |other: &Touched| load.cell(other.at()).map(|(name, _)| name);
        let found = self.touched.binary_search_by(|other| name_at(other).cmp(&Some(name)));
        let mut touched = Touched { record: to_u32(at), place: 0 };
        let before = if let Some(other) = found.ok().and_then(|nth| self.touched.get(nth)) {
            touched.place = other.place;
            load.cell(other.at()).and_then(|(_, value)| value)
        } else {
            let (place, standing) = state.cells.get_near(0, name);
            touched.place = place;
            waiting.map(|waiting| Value::Inline(waiting)).or(standing.map(Value::from))
        };
        check_cell(name, value, before.is_some())?;
        self.repeated += usize::from(waiting.is_some());
        if is_unchanged(before, value) {
            return Ok(false);
        }
        self.count_cell(name, before, value);
        match found {
            Ok(nth) => {
                if let Some(other) = self.touched.get_mut(nth) {
                    *other = touched;
                }
            }
            Err(nth) => self.touched.insert(nth, touched),
        }
        if self.touched.len() > CELLS_PER_BATCH_MAX {
            return Err(too_large("cells of a batch", self.touched.len(), CELLS_PER_BATCH_MAX));
        }
        Ok(true)
    }

    /// Counts the bytes of a cell that changes.
    fn count_cell(&mut self, name: &str, before: Option<Value<'_>>, value: Option<Value<'_>>) {
        let bytes = |value: Option<Value<'_>>| value.map_or(0, |value| value.slot_bytes(name));
        self.cells_bytes -= bytes(before);
        self.cells_bytes += bytes(value);
    }

    /// Finds a place for a frame, in a new segment if it does not fit, or if it must have one.
    fn put(&mut self, index: u64, payload: usize, must_roll: Option<u64>) -> Frame {
        let bytes = to_u64(frame_bytes(payload));
        // One offset more than there are entries, whether this frame is one or not. A segment that
        // begins for lack of space starts with the next entry, as it is after a truncation.
        let needed = bytes + footer_space(self.place.count + 1);
        let full = self.place.position + needed > self.place.segment_bytes;
        let roll = must_roll.or_else(|| full.then_some(self.bounds.next));
        if let Some(base) = roll {
            self.sealed.get_or_insert((self.place.position, self.place.count));
            self.must_roll |= must_roll.is_some();
            self.rolls += 1;
            self.place = Place { base, count: 0, position: FRAMES_START, ..self.place };
        }
        self.place.position += bytes;
        self.bytes += bytes;
        self.frames += 1;
        Frame { index, roll }
    }
}

fn check_count(records: usize) -> Result<()> {
    if records > BATCH_RECORDS_MAX {
        return Err(too_large("records in a batch", records, BATCH_RECORDS_MAX));
    }
    Ok(())
}

/// Largest entry that fits a segment of this size, in bytes.
pub(crate) const fn entry_bytes_max(segment_bytes: u64) -> u64 {
    // Header block, frame header, padding, footer with one offset.
    segment_bytes - FRAMES_START - FRAME_HEADER_BYTES as u64 - 8 - footer_space(1)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    #[test]
    fn records_are_counted_up_to_their_limit() {
        assert!(check_count(BATCH_RECORDS_MAX - 1).is_ok());
        assert!(check_count(BATCH_RECORDS_MAX).is_ok());
        let refused = check_count(BATCH_RECORDS_MAX + 1);
        let Err(Error::TooLarge { got, limit, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!((got, limit), (16_777_217, 16_777_216));
    }

    /// Planned and not written: one buffer stands for four gigabytes.
    #[test]
    fn bytes_of_a_batch_are_counted_up_to_their_limit() {
        const FRAME: usize = 1 << 20;
        let buffer = vec![0; FRAME];
        let whole = buffer.len() - FRAME_HEADER_BYTES;
        let frames = to_usize(BATCH_BYTES_MAX) / FRAME;
        let plan = |last: usize| {
            let entry = |at| &buffer[..if at + 1 < frames { whole } else { last }];
            let records: Vec<_> =
                (0..frames).map(|at| Record::Append(Cow::Borrowed(entry(at)))).collect();
            let segment_bytes = crate::options::SEGMENT_BYTES_DEFAULT;
            let place = Place { base: 0, count: 0, position: FRAMES_START, segment_bytes };
            let load = Load::new(&records, None);
            let (state, lazy) = (State::default(), LazyCells::default());
            let mut plan = Plan::start(&state, place, Vec::new());
            plan.go_through(&state, &lazy, &load).map(|()| plan.bytes)
        };
        assert_eq!(plan(whole - 8).unwrap(), BATCH_BYTES_MAX - 8);
        assert_eq!(plan(whole).unwrap(), BATCH_BYTES_MAX);
        let refused = plan(whole + 8);
        let Err(Error::TooLarge { got, limit, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!((got, limit), (BATCH_BYTES_MAX + 8, BATCH_BYTES_MAX));
    }

    /// Cells are looked up in what the batch itself set before, whatever their order.
    #[test]
    fn cell_that_a_batch_sets_back_is_written_each_time_it_changes() {
        let set = |name: &'static str, value: &'static [u8]| {
            Record::Set(Cow::Borrowed(name), Cow::Borrowed(value))
        };
        let records = [
            set("b", b"1"),
            set("a", b"1"),
            set("b", b"1"),
            set("b", b"0"),
            Record::Clear(Cow::Borrowed("c")),
            Record::Clear(Cow::Borrowed("a")),
            set("a", b"1"),
        ];
        let mut state = State::default();
        state.cells.put("b", Some(Value::Inline(b"0")));
        let place = Place { base: 0, count: 0, position: FRAMES_START, segment_bytes: 1 << 16 };
        let load = Load::new(&records, None);
        let mut plan = Plan::start(&state, place, Vec::new());
        plan.go_through(&state, &LazyCells::default(), &load).unwrap();
        assert_eq!(plan.frames, 5);
        assert!(!plan.is_straight(&load));
        let mut again = Plan::start(&state, place, Vec::new());
        let mut step = |(at, body): (usize, Body<'_>)| {
            again.step(&state, &LazyCells::default(), &load, at, &body).unwrap().is_some()
        };
        let written: Vec<bool> = load.bodies().map(&mut step).collect();
        assert_eq!(written, [true, true, false, true, false, true, true]);
        // Without the two that change nothing there is no need to compare.
        let changing: Vec<_> = [0, 1, 3, 5, 6].map(|at: usize| records[at].clone()).into();
        let load = Load::new(&changing, None);
        let mut plan = Plan::start(&state, place, Vec::new());
        plan.go_through(&state, &LazyCells::default(), &load).unwrap();
        assert!(plan.is_straight(&load) && plan.sets_cells());
    }
}
