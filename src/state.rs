//! What the frames of a log add up to: its bounds and its state cells.
//!
//! Owns: carrying out effects on bounds and cells. Used alike by a commit, before anything is written,
//! and by recovery, so that both agree. Does not own: which effect a frame has (`format::kind`),
//! where entries are stored (`segment::offsets`).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Damage, Error, Result};
pub(crate) use crate::format::CellValue;
use crate::format::cell::{CellRecord, SIDE_FILE_REF_BYTES};
use crate::format::kind::{Effect, RawCell};
use crate::format::number::to_u64;
use crate::format::slot::{CELL_FIXED_BYTES, CELLS_BYTES_MAX, cell_bytes};
use crate::format::{Checkpoint, SideFileRef, StructureError};
use crate::options::{CELL_NAME_BYTES_MAX, CELL_VALUE_BYTES_MAX, CELLS_PER_BATCH_MAX};
use crate::planted::{Bug, planted};

/// The cell that a repair leaves in a log if batches are lost, or may be: `repair::Loss::Batches` and
/// `Loss::Unknown`. Its value is two u64, little-endian: the number of the first of them and of the one
/// after the last, or of the first that there may have been and the next. What they carried may have
/// been a promise. So no adapter takes a log that has the cell
/// ([`Store::check_state`](crate::store::Store::check_state)), and groups in it are all marked. A batch
/// that clears it accepts the loss. Left out if the other cells leave no room: then the plan alone
/// tells.
pub const LOST_BATCHES: &str = "repair.lost";

/// The value of a cell, borrowed from whoever has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Inline(&'a [u8]),
    SideFile(SideFileRef),
}

impl<'a> From<&'a CellValue> for Value<'a> {
    fn from(value: &'a CellValue) -> Self {
        match value {
            CellValue::Inline(bytes) => Self::Inline(bytes),
            CellValue::SideFile(file) => Self::SideFile(*file),
        }
    }
}

impl Value<'_> {
    /// Bytes that a cell of this name takes in a slot.
    pub(crate) fn slot_bytes(&self, name: &str) -> usize {
        let value = match self {
            Self::Inline(bytes) => bytes.len(),
            Self::SideFile(_) => SIDE_FILE_REF_BYTES,
        };
        CELL_FIXED_BYTES + name.len() + value
    }
}

/// State cells by name: a small sorted table. Setting a cell to a value of the length it has
/// allocates nothing, unless somebody still holds the old one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cells {
    table: Vec<(Arc<str>, CellValue)>,
    /// Bytes they take in a slot.
    bytes: usize,
    /// How many refer to a side file.
    side_files: usize,
}

impl Cells {
    /// No cell.
    pub const fn new() -> Self {
        Self { table: Vec::new(), bytes: 0, side_files: 0 }
    }

    /// How many cells there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The value of a cell, if there is one.
    pub fn get(&self, name: &str) -> Option<&CellValue> {
        self.get_near(0, name).1
    }

    /// The same, looked for at `place` first. Returns the place to look at first the next time as well.
    #[inline]
    pub(crate) fn get_near(&self, place: usize, name: &str) -> (usize, Option<&CellValue>) {
        match self.find(place, name) {
            Ok(at) => (at, self.table.get(at).map(|(_, value)| value)),
            Err(at) => (at, None),
        }
    }

    /// Every cell, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &CellValue)> {
        self.table.iter().map(|(name, value)| (&**name, value))
    }

    /// The values of all cells, by name.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &CellValue> {
        self.table.iter().map(|(_, value)| value)
    }

    /// Bytes that the cells take in a slot.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The side files that cells refer to; several cells may refer to one.
    pub(crate) fn side_files(&self) -> impl Iterator<Item = SideFileRef> + '_ {
        let any = if self.side_files > 0 { self.table.as_slice() } else { &[] };
        any.iter().filter_map(|(_, value)| match value {
            CellValue::SideFile(file) => Some(*file),
            CellValue::Inline(_) => None,
        })
    }

    /// Whether any cell refers to one.
    #[inline]
    pub(crate) fn have_side_files(&self) -> bool {
        self.side_files > 0
    }

    /// Whether a cell refers to a side file.
    pub(crate) fn refer_to(&self, file: SideFileRef) -> bool {
        !planted(Bug::SideFileRemovedWhileShared) && self.side_files().any(|it| it == file)
    }

    /// Sets or clears a cell.
    pub(crate) fn put(&mut self, name: &str, value: Option<Value<'_>>) {
        self.put_near(0, name, value);
    }

    /// The same, looked for at `place` first.
    pub(crate) fn put_near(&mut self, place: usize, name: &str, value: Option<Value<'_>>) {
        match (self.find(place, name), value) {
            (Ok(at), Some(value)) => {
                let Some((_, cell)) = self.table.get_mut(at) else { return };
                self.bytes -= Value::from(&*cell).slot_bytes(name);
                self.bytes += value.slot_bytes(name);
                self.side_files -= usize::from(matches!(cell, CellValue::SideFile(_)));
                self.side_files += usize::from(matches!(value, Value::SideFile(_)));
                match (cell, value) {
                    (CellValue::Inline(old), Value::Inline(bytes)) => overwrite(old, bytes),
                    (cell, value) => *cell = owned(value),
                }
            }
            (Err(at), Some(value)) => {
                self.bytes += value.slot_bytes(name);
                self.side_files += usize::from(matches!(value, Value::SideFile(_)));
                self.table.insert(at, (name.into(), owned(value)));
            }
            (Ok(at), None) => {
                let (_, value) = self.table.remove(at);
                self.bytes -= cell_bytes(name, &value);
                self.side_files -= usize::from(matches!(value, CellValue::SideFile(_)));
            }
            (Err(_), None) => {}
        }
    }

    /// As a checkpoint lists them.
    pub(crate) fn to_map(&self) -> BTreeMap<String, CellValue> {
        self.iter().map(|(name, value)| (name.to_owned(), value.clone())).collect()
    }

    /// Where a cell is, or would be; `place` may be where it was the last time.
    #[inline]
    fn find(&self, place: usize, name: &str) -> std::result::Result<usize, usize> {
        if self.table.get(place).is_some_and(|(there, _)| **there == *name) {
            return Ok(place);
        }
        self.table.binary_search_by(|(there, _)| (**there).cmp(name))
    }
}

impl<N: AsRef<str>> FromIterator<(N, CellValue)> for Cells {
    fn from_iter<I: IntoIterator<Item = (N, CellValue)>>(cells: I) -> Self {
        let mut table = Self::new();
        for (name, value) in cells {
            table.put(name.as_ref(), Some((&value).into()));
        }
        table
    }
}

impl From<&BTreeMap<String, CellValue>> for Cells {
    fn from(map: &BTreeMap<String, CellValue>) -> Self {
        let mut cells = Self::default();
        for (name, value) in map {
            cells.put(name, Some(value.into()));
        }
        cells
    }
}

fn owned(value: Value<'_>) -> CellValue {
    match value {
        Value::Inline(bytes) => CellValue::Inline(bytes.into()),
        Value::SideFile(file) => CellValue::SideFile(file),
    }
}

/// Name and new value of the cell that a record changes.
#[inline]
pub(crate) fn change_of<'a>(record: &CellRecord<'a>) -> (&'a str, Option<Value<'a>>) {
    match *record {
        CellRecord::Set { name, value } => (name, Some(Value::Inline(value))),
        CellRecord::Clear { name } => (name, None),
        CellRecord::Attach { name, file } => (name, Some(Value::SideFile(file))),
    }
}

/// Whether a cell that has one value is to have the same.
pub(crate) fn is_unchanged(before: Option<Value<'_>>, value: Option<Value<'_>>) -> bool {
    before == value && !planted(Bug::UnchangedCellsWritten)
}

/// Replaces bytes, in place if they are as many and nobody else holds them.
pub(crate) fn overwrite(old: &mut Arc<[u8]>, bytes: &[u8]) {
    match Arc::get_mut(old) {
        Some(own) if own.len() == bytes.len() => own.copy_from_slice(bytes),
        _ => *old = bytes.into(),
    }
}

/// The bounds and the cells of a log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// Index of the first entry.
    pub(crate) first: u64,
    /// Index the next entry gets.
    pub(crate) next: u64,
    /// How many of `first..next` are missing since a repair.
    pub(crate) holes: u64,
    pub(crate) cells: Cells,
}

/// The bounds of a log, without its cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) first: u64,
    pub(crate) next: u64,
    pub(crate) holes: u64,
}

impl Bounds {
    /// Drops the suffix from `to` on. Returns whether that changes anything.
    pub(crate) fn truncate(&mut self, to: u64) -> Result<bool> {
        if to < self.first {
            return Err(Error::Trimmed { wanted: to, first: self.first });
        }
        if to > self.next {
            return Err(Error::BeyondEnd { wanted: to, next: self.next });
        }
        let changes = to < self.next;
        self.next = to;
        Ok(changes)
    }

    /// Drops the prefix before `to`. Returns whether that changes anything.
    pub(crate) fn trim(&mut self, to: u64) -> Result<bool> {
        if to > self.next {
            return Err(Error::BeyondEnd { wanted: to, next: self.next });
        }
        let changes = to > self.first;
        self.first = self.first.max(to);
        Ok(changes)
    }

    /// Drops every entry and jumps to `base`. Returns whether that changes anything.
    pub(crate) fn reset(&mut self, base: u64) -> bool {
        let changes = self.first != base || self.next != base;
        (self.first, self.next, self.holes) = (base, base, 0);
        changes
    }
}

impl State {
    /// The bounds.
    #[inline]
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds { first: self.first, next: self.next, holes: self.holes }
    }

    /// Takes over other bounds.
    #[inline]
    pub(crate) fn set_bounds(&mut self, bounds: Bounds) {
        (self.first, self.next, self.holes) = (bounds.first, bounds.next, bounds.holes);
    }

    /// As [`Bounds::truncate`].
    pub(crate) fn truncate(&mut self, to: u64) -> Result<bool> {
        let mut bounds = self.bounds();
        let changes = bounds.truncate(to)?;
        self.set_bounds(bounds);
        Ok(changes)
    }

    /// As [`Bounds::trim`].
    pub(crate) fn trim(&mut self, to: u64) -> Result<bool> {
        let mut bounds = self.bounds();
        let changes = bounds.trim(to)?;
        self.set_bounds(bounds);
        Ok(changes)
    }

    /// As [`Bounds::reset`].
    pub(crate) fn reset(&mut self, base: u64) -> bool {
        let mut bounds = self.bounds();
        let changes = bounds.reset(base);
        self.set_bounds(bounds);
        changes
    }

    /// Sets or clears a cell. Returns whether that changes anything.
    pub(crate) fn set(&mut self, name: &str, value: Option<Value<'_>>) -> Result<bool> {
        let before = self.cells.get(name);
        check_cell(name, value, before.is_some())?;
        if before.map(Value::from) == value {
            return Ok(false);
        }
        self.cells.put(name, value);
        Ok(true)
    }

    /// Refuses more cells than a metadata slot can hold.
    pub(crate) fn check_cells(&self) -> Result<()> {
        check_cells_bytes(self.cells.bytes())
    }

    /// Carries out what a frame does. What no log writes is refused, and changes nothing.
    pub(crate) fn carry_out(&mut self, effect: &Effect<'_>) -> std::result::Result<(), Damage> {
        let expected = self.next;
        let wrong = |field, got| Damage::Field { field, expected, got };
        match effect {
            Effect::Entries(span) if span.range.start != expected => {
                return Err(wrong("entry index", span.range.start));
            }
            Effect::Entries(span) => {
                self.next = span.range.end;
                if span.missing {
                    // Counted anew where it matters (`recovery::holes`).
                    self.holes = self.holes.saturating_add(self.next - expected);
                }
            }
            Effect::Truncate(_) if planted(Bug::TruncationNotReplayed) => {}
            Effect::Trim(_) if planted(Bug::TrimNotReplayed) => {}
            Effect::Truncate(to) => {
                self.truncate(*to).map_err(|_| wrong("truncation", *to))?;
            }
            Effect::Trim(to) => {
                self.trim(*to).map_err(|_| wrong("trim", *to))?;
            }
            Effect::Reset(base) => {
                self.reset(*base);
            }
            Effect::Cell(cell) => self.change_cell(cell).map_err(Damage::Cell)?,
        }
        Ok(())
    }

    fn change_cell(&mut self, cell: &RawCell<'_>) -> std::result::Result<(), StructureError> {
        let (name, value) = match cell.record()? {
            CellRecord::Set { .. } if planted(Bug::SetNotReplayed) => return Ok(()),
            CellRecord::Clear { .. } if planted(Bug::ClearNotReplayed) => return Ok(()),
            record => change_of(&record),
        };
        self.cells.put(name, value);
        // There are fewer before a batch than it may change, and fewer that wait for it.
        let (expected, got) = (to_u64(3 * CELLS_PER_BATCH_MAX), to_u64(self.cells.len()));
        if got > expected {
            return Err(StructureError::Field { field: "cells of a batch", expected, got });
        }
        Ok(())
    }

    /// Refuses cells that no batch leaves. One may come by any on its way: its last frame decides.
    pub(crate) fn end_batch(&self) -> std::result::Result<(), Damage> {
        let bytes = self.cells.bytes();
        if bytes > CELLS_BYTES_MAX {
            let (expected, got) = (to_u64(CELLS_BYTES_MAX), to_u64(bytes));
            return Err(Damage::Field { field: "bytes of all state cells", expected, got });
        }
        Ok(())
    }
}

/// What a checkpoint says that the frames before its place added up to.
impl From<&Checkpoint> for State {
    fn from(checkpoint: &Checkpoint) -> Self {
        let Checkpoint { first, next, holes, ref cells, .. } = *checkpoint;
        Self { first, next, holes, cells: cells.into() }
    }
}

/// Refuses cells that take more bytes than a metadata slot has for them.
pub(crate) fn check_cells_bytes(bytes: usize) -> Result<()> {
    if bytes > CELLS_BYTES_MAX {
        return Err(too_large("bytes of all state cells", bytes, CELLS_BYTES_MAX));
    }
    Ok(())
}

/// Whether a cell can have this name and this value; `exists` if one has the name already.
pub(crate) fn check_cell(name: &str, value: Option<Value<'_>>, exists: bool) -> Result<()> {
    if !exists {
        check_name(name)?;
    }
    match value {
        Some(Value::Inline(bytes)) if bytes.len() > CELL_VALUE_BYTES_MAX => {
            Err(too_large("cell value bytes", bytes.len(), CELL_VALUE_BYTES_MAX))
        }
        _ => Ok(()),
    }
}

/// Whether a name can be that of a cell.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if name.len() > CELL_NAME_BYTES_MAX {
        return Err(too_large("cell name bytes", name.len(), CELL_NAME_BYTES_MAX));
    }
    let valid = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    if name.is_empty() || !name.bytes().all(valid) {
        let reason = "must be 1 to 32 bytes of a-z, 0-9, '.', '_' and '-'";
        return Err(Error::InvalidArgument { what: "cell name", reason });
    }
    Ok(())
}

/// A limit exceeded, from sizes in memory.
pub(crate) fn too_large(what: &'static str, got: usize, limit: usize) -> Error {
    Error::TooLarge { what, got: got as u64, limit: limit as u64 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::slot::cells_bytes;
    use crate::format::{FrameHeader, Kind};

    fn any_value() -> impl Strategy<Value = Option<CellValue>> {
        prop_oneof![
            Just(None),
            proptest::collection::vec(any::<u8>(), 0..4)
                .prop_map(|bytes| Some(CellValue::Inline(bytes.into()))),
            (0..3_u64).prop_map(|id| {
                Some(CellValue::SideFile(SideFileRef { id, length: 1, crc: 2 }))
            }),
        ]
    }

    #[test]
    fn malformed_cell_says_what_is_wrong_with_it() {
        let kind = Kind::Set;
        let header = FrameHeader { length: 6, sequence: 1, index: 0, lag: 0, kind, flags: 3 };
        let carry_out = |state: &mut State, payload: &[u8]| {
            state.carry_out(&Effect::of(&header, payload).unwrap())
        };
        let mut state = State::default();
        let malformed = carry_out(&mut state, b"\x07short").unwrap_err();
        let said =
            "the state cell in the frame here is malformed: cell name length is 7, expected 5";
        assert_eq!(malformed.to_string(), said);
    }

    /// What a batch comes by on its way is no concern of the limit.
    #[test]
    fn bytes_of_all_cells_are_counted_where_a_batch_ends() {
        let kind = Kind::Set;
        let header = FrameHeader { length: 1002, sequence: 1, index: 0, lag: 0, kind, flags: 3 };
        let mut state = State::default();
        for cell in 0..4 {
            let record = [format!("\x01{cell}").into_bytes(), vec![7; 1000]].concat();
            state.carry_out(&Effect::of(&header, &record).unwrap()).unwrap();
            assert_eq!(state.end_batch().is_ok(), cell < 3);
        }
        let said = "bytes of all state cells is 4020, expected 3712";
        assert_eq!(state.end_batch().unwrap_err().to_string(), said);
        state.cells.put("0", None);
        state.end_batch().unwrap();
    }

    proptest! {
        /// The table is a map, its counts those of what is in it, and what was lent stays as it was.
        #[test]
        fn table_of_cells_is_a_map(sets in proptest::collection::vec((0..5_u8, any_value()), 0..60)) {
            let (mut table, mut map, mut lent) = (Cells::default(), BTreeMap::new(), Vec::new());
            for (name, value) in sets {
                let name = format!("cell-{name}");
                table.put(&name, value.as_ref().map(Value::from));
                match value {
                    Some(value) => drop(map.insert(name.clone(), value)),
                    None => drop(map.remove(&name)),
                }
                if lent.len() < 10 && let Some(CellValue::Inline(bytes)) = table.get(&name) {
                    lent.push((Arc::clone(bytes), bytes.to_vec()));
                }
                prop_assert_eq!(&table.to_map(), &map);
                prop_assert_eq!(table.bytes(), cells_bytes(&map));
                let side_files = map.values().filter(|it| matches!(it, CellValue::SideFile(_)));
                prop_assert_eq!(table.side_files().count(), side_files.count());
                prop_assert_eq!(&Cells::from(&map), &table);
            }
            for (bytes, as_lent) in lent {
                prop_assert_eq!(&*bytes, &*as_lent);
            }
        }
    }
}
