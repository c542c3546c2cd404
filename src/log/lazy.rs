//! Lazily set cells: values that need not be durable by themselves.
//!
//! Owns: the newest value of each until a batch or a checkpoint takes it along, and which batches do.
//! Does not own: when they come.
//!
//! A value is never durable ahead of a batch that was written before it was set, and never missing
//! once a later batch is durable: it counts like a batch of its own between the two. A checkpoint
//! states it and leaves it waiting all the same: the next batch may be durable first.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::plan::Plan;
use super::shared::{Shared, Writer};
use crate::batch::Record;
use crate::error::{Error, Result};
use crate::options::CELL_VALUE_BYTES_MAX;
use crate::planted::{Bug, planted};
use crate::state::{CellValue, Cells, check_name, too_large};

/// The lazily set cells of a log. Few: a host has one or two of them.
#[derive(Debug, Default)]
pub(crate) struct LazyCells {
    /// Every cell that was ever set lazily, so that its name is allocated once.
    cells: Vec<LazyCell>,
    /// How many of them wait for a batch.
    waiting: usize,
    /// Counts the changes.
    pub(crate) version: u64,
}

#[derive(Debug)]
struct LazyCell {
    name: String,
    value: Arc<[u8]>,
    waiting: bool,
}

impl LazyCells {
    /// Whether no value waits for a batch.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// The values that wait, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Arc<[u8]>)> {
        let waiting = self.cells.iter().filter(|cell| cell.waiting);
        waiting.map(|cell| (cell.name.as_str(), &cell.value))
    }

    /// The value of a cell, if one waits.
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<[u8]>> {
        self.iter().find(|(waiting, _)| *waiting == name).map(|(_, value)| value)
    }

    /// Records that set the waiting cells.
    pub(crate) fn records(&self) -> Vec<Record<'static>> {
        let set = |(name, value): (&str, &Arc<[u8]>)| {
            Record::Set(name.to_owned().into(), value.to_vec().into())
        };
        self.iter().map(set).collect()
    }

    /// Whether any of these records is about a cell that waits.
    pub(crate) fn is_named_by(&self, records: &[Record<'_>]) -> bool {
        records.iter().any(|record| match record {
            Record::Set(name, _) | Record::Clear(name) | Record::Attach(name, _) => {
                self.get(name).is_some()
            }
            _ => false,
        })
    }

    /// Puts the waiting values where a batch with them would.
    pub(crate) fn merge_into(&self, cells: &mut Cells) {
        for (name, value) in self.iter() {
            let value = CellValue::Inline(Arc::clone(value));
            match cells.get_mut(name) {
                Some(cell) => *cell = value,
                None => drop(cells.insert(name.to_owned(), value)),
            }
        }
    }

    /// A batch has taken the waiting values along.
    pub(crate) fn taken(&mut self) {
        self.cells.iter_mut().for_each(|cell| cell.waiting = false);
        self.waiting = 0;
    }

    fn set(&mut self, name: &str, value: &[u8]) {
        self.version += 1;
        if let Some(cell) = self.cells.iter_mut().find(|cell| cell.name == name) {
            self.waiting += usize::from(!cell.waiting);
            (cell.value, cell.waiting) = (value.into(), true);
        } else {
            self.cells.push(LazyCell { name: name.into(), value: value.into(), waiting: true });
            self.waiting += 1;
        }
    }
}

/// A batch, with the lazily set cells that go along with it in front.
pub(super) struct Loaded<'a> {
    own: &'a [Record<'a>],
    /// All of them, if any cell goes along.
    all: Option<Vec<Record<'a>>>,
}

impl<'a> Loaded<'a> {
    pub(super) fn records(&self) -> &[Record<'a>] {
        self.all.as_deref().unwrap_or(self.own)
    }

    /// How many of the records are cells that go along.
    pub(super) fn riders(&self) -> usize {
        self.records().len() - self.own.len()
    }
}

impl Shared {
    /// Sets a cell without writing anything.
    pub(crate) fn set_lazily(&self, name: &str, value: &[u8]) -> Result<()> {
        self.dir.not_forked()?;
        let mut writer = self.writer();
        // With the lock held: a close that comes after it takes the value along.
        self.usable()?;
        let is_same = |cell: &CellValue| matches!(cell, CellValue::Inline(old) if **old == *value);
        let same = match writer.lazy.get(name) {
            Some(waiting) => **waiting == *value,
            None => writer.state.cells.get(name).is_some_and(is_same),
        };
        if same {
            return Ok(());
        }
        let old = match writer.lazy.get(name) {
            Some(waiting) => Some(waiting.len()),
            None => writer.state.cells.get(name).and_then(|cell| match cell {
                CellValue::Inline(old) => Some(old.len()),
                CellValue::SideFile(_) => None,
            }),
        };
        if old.is_none_or(|old| old < value.len()) {
            check(&writer, name, value)?;
        }
        writer.lazy.set(name, value);
        // The next idle checkpoint takes it along if no batch does.
        self.lazy_version.store(writer.lazy.version, Ordering::Release);
        Ok(())
    }

    /// A batch behind the cells that were set lazily before it. They stay where they are if it
    /// changes nothing, neither what readers see nor what was written.
    pub(super) fn with_riders<'a>(
        &self,
        writer: &mut Writer,
        records: &'a [Record<'a>],
    ) -> Result<Loaded<'a>> {
        let alone = Loaded { own: records, all: None };
        if writer.lazy.is_empty() {
            return Ok(alone);
        }
        let overlooked = planted(Bug::LazyValueOverlooked);
        if !records.is_empty() && (overlooked || !writer.lazy.is_named_by(records)) {
            let (place, mut seen) = (self.place(writer), writer.state.clone());
            if !overlooked {
                writer.lazy.merge_into(Arc::make_mut(&mut seen.cells));
            }
            Plan::new(&seen, place, (records, 0), None, &mut writer.ops)?;
            if writer.ops.is_empty() {
                return Ok(alone);
            }
        }
        let mut all: Vec<Record<'a>> = writer.lazy.records();
        all.extend(records.iter().map(Record::borrowed));
        Ok(Loaded { own: records, all: Some(all) })
    }

    /// Writes what waits as a batch of its own.
    pub(crate) fn write_lazies(&self) -> Result<()> {
        let waiting = !self.writer().lazy.is_empty();
        if waiting { self.write(&[]).map(drop) } else { Ok(()) }
    }
}

/// Refuses what a batch with this cell would be refused for.
fn check(writer: &Writer, name: &str, value: &[u8]) -> Result<()> {
    check_name(name)?;
    if value.len() > CELL_VALUE_BYTES_MAX {
        return Err(too_large("cell value bytes", value.len(), CELL_VALUE_BYTES_MAX));
    }
    let mut state = writer.state.clone();
    let cells = Arc::make_mut(&mut state.cells);
    if matches!(cells.get(name), Some(CellValue::SideFile(_))) {
        let reason = "it refers to a side file; use a batch";
        return Err(Error::InvalidArgument { what: "cell", reason });
    }
    writer.lazy.merge_into(cells);
    cells.insert(name.to_owned(), CellValue::Inline(value.into()));
    state.check_cells()
}
