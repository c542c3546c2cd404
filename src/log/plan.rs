//! Planning a batch: what it changes and where its frames go, before a byte is written.
//!
//! Owns: every refusal of a batch. A batch that was planned is written whole or poisons the log.
//! Does not own: the writing (`write`).

use crate::batch::Record;
use crate::error::{Error, Result};
use crate::format::cell::{CellRecord, is_cell_name};
use crate::format::frame::{FRAME_HEADER_BYTES, frame_bytes};
use crate::format::number::{to_u64, to_usize};
use crate::options::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX};
use crate::planted::{Bug, planted};
use crate::segment::{FRAMES_START, tail::footer_space};
use crate::state::{CellValue, State, check_name, too_large};

/// One frame to be written.
#[derive(Debug)]
pub(crate) struct Op {
    /// Which record of the batch.
    pub(crate) record: usize,
    /// The index the frame states.
    pub(crate) index: u64,
    /// A new segment with this base begins before the frame.
    pub(crate) roll: Option<u64>,
    /// The entry in compressed form.
    pub(crate) compressed: Option<Vec<u8>>,
    /// Where the frame was put; filled in when it is.
    pub(crate) offset: u64,
}

/// The place a plan starts from, and where it gets.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) base: u64,
    /// Entries with an offset in the segment.
    pub(crate) count: u64,
    pub(crate) position: u64,
    pub(crate) segment_bytes: u64,
}

/// What a batch comes to.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) state: State,
    pub(crate) place: Place,
    riders: usize,
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
}

impl Plan {
    /// Plans a batch of these records; the frames go into `ops`, which is empty if the batch changes
    /// nothing. The first so many of the records are cells that were set lazily. They get a frame
    /// each whatever the state says: a checkpoint may have stated another value meanwhile.
    pub(crate) fn new(
        state: &State,
        place: Place,
        (records, riders): (&[Record<'_>], usize),
        compress_above: Option<usize>,
        ops: &mut Vec<Op>,
    ) -> Result<Self> {
        ops.clear();
        check_count(records.len() - riders)?;
        let mut plan = Self {
            state: state.clone(),
            place,
            riders,
            bytes: 0,
            entry_bytes: 0,
            entries: 0,
            rolls: 0,
            sealed: None,
            must_roll: false,
            trims: false,
            truncates: false,
            lowest: u64::MAX,
        };
        for (at, record) in records.iter().enumerate() {
            plan.add(at, record, compress_above, ops)?;
        }
        if plan.bytes > BATCH_BYTES_MAX {
            let (what, got) = ("bytes in a batch", plan.bytes);
            return Err(Error::TooLarge { what, got, limit: BATCH_BYTES_MAX });
        }
        if !std::sync::Arc::ptr_eq(&plan.state.cells, &state.cells) {
            plan.state.check_cells()?;
        }
        Ok(plan)
    }

    fn add(
        &mut self,
        at: usize,
        record: &Record<'_>,
        compress_above: Option<usize>,
        ops: &mut Vec<Op>,
    ) -> Result<()> {
        match record {
            Record::Append(entry) => self.append(at, entry, compress_above, ops),
            Record::Truncate(to) => {
                if self.state.truncate(*to)? {
                    self.truncates = true;
                    self.lowest = self.lowest.min(*to);
                    let roll = (*to < self.place.base).then_some(*to);
                    self.put(at, *to, 0, roll, ops);
                    self.place.count = to - self.place.base;
                }
                Ok(())
            }
            Record::Trim(to) => {
                if self.state.trim(*to)? {
                    self.trims = true;
                    self.put(at, *to, 0, None, ops);
                }
                Ok(())
            }
            Record::Reset(base) => {
                if self.state.reset(*base) {
                    self.trims = true;
                    self.lowest = self.lowest.min(*base);
                    let in_place = self.place.count == 0 && self.place.base == *base;
                    self.put(at, *base, 0, (!in_place).then_some(*base), ops);
                    self.place.count = 0;
                }
                Ok(())
            }
            Record::Set(name, value) => {
                let length = cell_payload(name, value.len())?;
                self.set(at, name, Some(CellValue::Inline(value.as_ref().into())), length, ops)
            }
            Record::Clear(name) => {
                let length = cell_payload(name, 0)?;
                self.set(at, name, None, length, ops)
            }
            Record::Attach(name, file) => {
                check_name(name)?;
                let length = CellRecord::Attach { name, file: file.reference() }.payload_bytes();
                self.set(at, name, Some(CellValue::SideFile(file.reference())), length, ops)
            }
        }
    }

    fn append(
        &mut self,
        at: usize,
        entry: &[u8],
        compress_above: Option<usize>,
        ops: &mut Vec<Op>,
    ) -> Result<()> {
        let limit = entry_bytes_max(self.place.segment_bytes);
        if to_u64(entry.len()) > limit {
            return Err(too_large("entry bytes", entry.len(), to_usize(limit)));
        }
        let index = self.state.next;
        let Some(next) = index.checked_add(1) else {
            return Err(Error::TooLarge { what: "index", got: index, limit: u64::MAX - 1 });
        };
        let compressed = compress_above
            .filter(|above| entry.len() > *above)
            .and_then(|_| crate::compress::compress(entry));
        let length = compressed.as_ref().map_or(entry.len(), Vec::len);
        self.put(at, index, length, None, ops);
        if let Some(op) = ops.last_mut() {
            op.compressed = compressed;
        }
        self.state.next = next;
        self.place.count += 1;
        self.entries += 1;
        self.entry_bytes += to_u64(entry.len());
        Ok(())
    }

    fn set(
        &mut self,
        at: usize,
        name: &str,
        value: Option<CellValue>,
        length: usize,
        ops: &mut Vec<Op>,
    ) -> Result<()> {
        if self.state.set(name, value)? || at < self.riders && !planted(Bug::LazyValueCompared) {
            self.put(at, 0, length, None, ops);
        }
        Ok(())
    }

    /// Finds a place for a frame, in a new segment if it does not fit, or if it must have one.
    fn put(
        &mut self,
        record: usize,
        index: u64,
        payload: usize,
        must_roll: Option<u64>,
        ops: &mut Vec<Op>,
    ) {
        let bytes = to_u64(frame_bytes(payload));
        // One offset more than there are entries, whether this frame is one or not. A segment that
        // begins for lack of space starts with the next entry, as it is after a truncation.
        let needed = bytes + footer_space(self.place.count + 1);
        let full = self.place.position + needed > self.place.segment_bytes;
        let roll = must_roll.or_else(|| full.then_some(self.state.next));
        if let Some(base) = roll {
            self.must_roll |= must_roll.is_some();
            self.rolls += 1;
            self.sealed.get_or_insert((self.place.position, self.place.count));
            self.place.base = base;
            self.place.count = 0;
            self.place.position = FRAMES_START;
        }
        self.place.position += bytes;
        self.bytes += bytes;
        ops.push(Op { record, index, roll, compressed: None, offset: 0 });
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

/// Payload bytes of a cell record, its name checked.
fn cell_payload(name: &str, value: usize) -> Result<usize> {
    check_name(name)?;
    debug_assert!(is_cell_name(name.as_bytes()));
    Ok(1 + name.len() + value)
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
            let plan = Plan::new(&State::default(), place, (&records, 0), None, &mut Vec::new());
            plan.map(|plan| plan.bytes)
        };
        assert_eq!(plan(whole - 8).unwrap(), BATCH_BYTES_MAX - 8);
        assert_eq!(plan(whole).unwrap(), BATCH_BYTES_MAX);
        let refused = plan(whole + 8);
        let Err(Error::TooLarge { got, limit, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!((got, limit), (BATCH_BYTES_MAX + 8, BATCH_BYTES_MAX));
    }
}
