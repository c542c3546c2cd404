//! Planning a batch: what it changes and where its frames go, before a byte is written.
//!
//! Owns: every refusal of a batch, and the frames that it comes to. A batch that was planned is
//! written whole or poisons the log. Does not own: the writing (`write`).
//!
//! A plan is gone through record by record to see what the batch comes to, which may refuse it. Its
//! frames are put into memory on the way (`frames`). Where they cannot stay there as they are, the plan
//! is gone through once more to write them; it says the same as before, because nothing that it looks at
//! changes in between. Entries alone that fit the tail, which is what a log is given most, are planned
//! all at once.

use crate::batch::Record;
use crate::error::{Error, Result};
use crate::format::cell::CellRecord;
use crate::format::frame::{FRAME_HEADER_BYTES, frame_bytes};
use crate::format::number::{to_u32, to_u64, to_usize};
use crate::lazy::{LazyCell, LazyCells};
use crate::options::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, BATCH_SEGMENTS_MAX, CELLS_PER_BATCH_MAX};
use crate::segment::{FRAMES_START, tail::footer_space};
use crate::state::{
    Bounds, State, Value, change_of, check_cell, check_cells_bytes, is_unchanged, too_large,
};

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

    /// What the frame of a record says, which has this number.
    #[inline]
    fn body(&self, at: usize, record: &'a Record<'_>) -> Body<'_> {
        match record {
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
        }
    }

    /// Every record, by its number.
    #[inline]
    pub(crate) fn bodies(&self) -> impl Iterator<Item = (usize, Body<'_>)> {
        self.records.iter().enumerate().map(|(at, record)| (at, self.body(at, record)))
    }

    /// The entries among them.
    #[inline]
    pub(crate) fn entries(&self) -> impl Iterator<Item = &'a [u8]> {
        self.records.iter().filter_map(|record| match record {
            Record::Append(entry) => Some(entry.as_ref()),
            _ => None,
        })
    }

    /// Name and new value of the cell that a record is about.
    #[inline]
    fn cell(&self, at: usize) -> Option<(&str, Option<Value<'_>>)> {
        match self.body(at, self.records.get(at)?) {
            Body::Cell(cell) => Some(change_of(&cell)),
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
    /// Bytes of the frame.
    pub(crate) bytes: u64,
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

/// How the frames of a batch come to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// One by one, as the records lead to them.
    Any,
    /// They are nothing but entries, stored as they are, in the tail as it is.
    Plain,
    /// All of them are in memory after those of the tail, and can stay as they are.
    Ahead,
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
    /// How many records attach a side file.
    pub(crate) attached: usize,
    /// Lowest end that the batch leads to on its way; `u64::MAX` if it drops no suffix.
    pub(crate) lowest: u64,
    /// Bytes that all cells take in a slot.
    cells_bytes: usize,
    pub(crate) form: Form,
    /// The cells that the batch changes, by name.
    pub(crate) touched: Vec<Touched>,
    /// Where the first of them was in the batch before: most set the same ones.
    near: usize,
}

impl Plan {
    /// Goes through the plan of a batch to its end. `put` is given each frame that it comes to, and
    /// whether it is that of the last record; none if the batch is plain.
    #[inline]
    pub(crate) fn go_through(
        &mut self,
        state: &State,
        lazy: &LazyCells,
        load: &Load<'_>,
        mut put: impl FnMut(Frame, &Body<'_>, bool),
    ) -> Result<()> {
        check_count(load.records.len())?;
        if lazy.is_empty() && self.add_plain(load) {
            self.form = Form::Plain;
        } else {
            for rider in lazy.riders(&state.cells) {
                let frame = self.rider(state, rider);
                put(frame, &Body::of_rider(rider), false);
            }
            self.riders = self.frames;
            for (at, body) in load.bodies() {
                if let Some(frame) = self.step(state, lazy, load, at, &body)? {
                    put(frame, &body, at + 1 == load.records.len());
                }
            }
        }
        check_most("bytes in a batch", self.bytes, BATCH_BYTES_MAX)?;
        check_most("segments that a batch begins", self.rolls, BATCH_SEGMENTS_MAX)?;
        if self.sets_cells() {
            check_cells_bytes(self.cells_bytes)?;
        }
        Ok(())
    }

    /// The plan of a batch, to be gone through from its start.
    #[inline]
    pub(crate) fn start(state: &State, place: Place, mut touched: Vec<Touched>) -> Self {
        let near = touched.first().map_or(0, |touched| touched.place);
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
            attached: 0,
            lowest: u64::MAX,
            cells_bytes: state.cells.bytes(),
            form: Form::Any,
            touched,
            near,
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

    /// Takes in every record at once, if each is an entry and all of them fit the tail.
    #[inline]
    fn add_plain(&mut self, load: &Load<'_>) -> bool {
        if !load.compressed.is_empty() {
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
        (self.bytes, self.frames) = (bytes, load.records.len());
        true
    }

    /// Takes in a cell that was set lazily. It gets a frame whatever the state says: a checkpoint
    /// may have stated another value meanwhile.
    pub(crate) fn rider(&mut self, state: &State, rider: &LazyCell) -> Frame {
        let (_, before) = state.cells.get_near(rider.place, &rider.name);
        let value = Some(Value::Inline(&rider.value));
        self.count_cell(&rider.name, before.map(Value::from), value);
        self.put(0, Body::of_rider(rider).payload_bytes(), None)
    }

    /// Takes in a record, of which `body` is the body. Returns the frame that it comes to, none if it
    /// changes nothing.
    #[expect(clippy::inline_always, reason = "called, it costs each record 35 instructions more")]
    #[inline(always)]
    pub(crate) fn step(
        &mut self,
        state: &State,
        lazy: &LazyCells,
        load: &Load<'_>,
        at: usize,
        body: &Body<'_>,
    ) -> Result<Option<Frame>> {
        match body {
            Body::Entry { stored, bytes, .. } => self.append(*bytes, stored.len()).map(Some),
            Body::Cell(cell) => {
                let changes = self.set(state, lazy, load, at, cell)?;
                Ok(changes.then(|| self.put(0, cell.payload_bytes(), None)))
            }
            Body::Truncate(_) | Body::Trim(_) | Body::Reset(_) => self.bound(body),
        }
    }

    /// Takes in a record that changes the bounds and adds nothing.
    fn bound(&mut self, body: &Body<'_>) -> Result<Option<Frame>> {
        match body {
            Body::Truncate(to) => {
                if !self.bounds.truncate(*to)? {
                    return Ok(None);
                }
                self.truncates = true;
                self.lowest = self.lowest.min(*to);
                let frame = self.put(*to, 0, (*to < self.place.base).then_some(*to));
                self.place.count = to - self.place.base;
                Ok(Some(frame))
            }
            Body::Trim(to) => {
                if !self.bounds.trim(*to)? {
                    return Ok(None);
                }
                self.trims = true;
                Ok(Some(self.put(*to, 0, None)))
            }
            Body::Reset(base) => {
                if !self.bounds.reset(*base) {
                    return Ok(None);
                }
                self.trims = true;
                self.lowest = self.lowest.min(*base);
                let in_place = self.place.count == 0 && self.place.base == *base;
                let frame = self.put(*base, 0, (!in_place).then_some(*base));
                self.place.count = 0;
                Ok(Some(frame))
            }
            Body::Entry { .. } | Body::Cell(_) => Ok(None),
        }
    }

    fn append(&mut self, entry: usize, stored: usize) -> Result<Frame> {
        let limit = entry_bytes_max(self.place.segment_bytes);
        if to_u64(entry) > limit {
            return Err(too_large("entry bytes", entry, to_usize(limit)));
        }
        let index = self.bounds.next;
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
    fn set(
        &mut self,
        state: &State,
        lazy: &LazyCells,
        load: &Load<'_>,
        at: usize,
        cell: &CellRecord<'_>,
    ) -> Result<bool> {
        let (name, value) = change_of(cell);
        let waiting = lazy.waiting(name);
        let name_at = |other: &Touched| load.cell(other.at()).map(|(name, _)| name);
        let found = self.touched.binary_search_by(|other| name_at(other).cmp(&Some(name)));
        let mut touched = Touched { record: to_u32(at), place: 0 };
        let before = if let Some(other) = found.ok().and_then(|nth| self.touched.get(nth)) {
            touched.place = other.place;
            load.cell(other.at()).and_then(|(_, value)| value)
        } else {
            let (place, standing) = state.cells.get_near(self.near, name);
            touched.place = place;
            waiting.map(|waiting| Value::Inline(waiting)).or(standing.map(Value::from))
        };
        check_cell(name, value, before.is_some())?;
        self.repeated += usize::from(waiting.is_some());
        if is_unchanged(before, value) {
            return Ok(false);
        }
        self.count_cell(name, before, value);
        self.attached += usize::from(matches!(value, Some(Value::SideFile(_))));
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
        Frame { index, roll, bytes }
    }
}

fn check_count(records: usize) -> Result<()> {
    check_most("records in a batch", to_u64(records), to_u64(BATCH_RECORDS_MAX))
}

#[inline]
fn check_most(what: &'static str, got: u64, limit: u64) -> Result<()> {
    if got > limit { Err(Error::TooLarge { what, got, limit }) } else { Ok(()) }
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
            plan.go_through(&state, &lazy, &load, |_, _, _| ()).map(|()| plan.bytes)
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
        let mut ends = Vec::new();
        let lazy = LazyCells::default();
        plan.go_through(&state, &lazy, &load, |_, _, is_last| ends.push(is_last)).unwrap();
        assert_eq!((plan.frames, plan.sets_cells()), (5, true));
        assert_eq!(ends, [false, false, false, false, true]);
        let mut again = Plan::start(&state, place, Vec::new());
        let mut step = |(at, body): (usize, Body<'_>)| {
            again.step(&state, &lazy, &load, at, &body).unwrap().is_some()
        };
        let written: Vec<bool> = load.bodies().map(&mut step).collect();
        assert_eq!(written, [true, true, false, true, false, true, true]);
        // The last record comes to no frame, so none is known to be the last when it comes.
        let load = Load::new(&records[..5], None);
        let mut plan = Plan::start(&state, place, Vec::new());
        ends.clear();
        plan.go_through(&state, &lazy, &load, |_, _, is_last| ends.push(is_last)).unwrap();
        assert_eq!(ends, [false; 3]);
    }
}
