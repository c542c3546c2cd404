//! Lazily set cells: values that need not be durable by themselves.
//!
//! Owns: the newest value of each until a batch or a checkpoint takes it along. Does not own: when
//! they come.
//!
//! A value is never durable ahead of a batch that was written before it was set, and never missing
//! once a later batch is durable: it counts like a batch of its own between the two. A checkpoint
//! states it and leaves it waiting all the same: the next batch may be durable first.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Writer;
use crate::error::{Error, Result};
use crate::log::shared::Shared;
use crate::state::{CellValue, Cells, Value, check_cell, check_cells_bytes, overwrite};

/// The lazily set cells of a log. Few: a host has one or two of them.
#[derive(Debug, Default)]
pub(crate) struct LazyCells {
    /// Every cell that was ever set lazily, so that it is allocated once.
    cells: Vec<LazyCell>,
    /// How many of them wait for a batch.
    waiting: usize,
    /// Counts the changes.
    pub(crate) version: u64,
}

#[derive(Debug)]
struct LazyCell {
    name: Arc<str>,
    value: Arc<[u8]>,
    waiting: bool,
}

impl LazyCells {
    /// Whether no value waits for a batch.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// The values that wait.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Arc<[u8]>)> {
        // Most batches meet none.
        let cells = if self.is_empty() { &[] } else { self.cells.as_slice() };
        let waiting = cells.iter().filter(|cell| cell.waiting);
        waiting.map(|cell| (&*cell.name, &cell.value))
    }

    /// The `nth` of those that wait.
    pub(crate) fn nth(&self, nth: usize) -> Option<(Arc<str>, Arc<[u8]>)> {
        let cell = self.cells.iter().filter(|cell| cell.waiting).nth(nth)?;
        Some((Arc::clone(&cell.name), Arc::clone(&cell.value)))
    }

    /// The value of a cell, if one waits.
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<[u8]>> {
        self.iter().find(|(waiting, _)| *waiting == name).map(|(_, value)| value)
    }

    /// Puts the waiting values where a batch with them would.
    pub(crate) fn merge_into(&self, cells: &mut Cells) {
        self.iter().for_each(|(name, value)| cells.put(name, Some(Value::Inline(value))));
    }

    /// A batch has taken the waiting values along.
    pub(crate) fn taken(&mut self) {
        self.cells.iter_mut().for_each(|cell| cell.waiting = false);
        self.waiting = 0;
    }

    fn set(&mut self, name: &str, value: &[u8]) {
        self.version += 1;
        if let Some(cell) = self.cells.iter_mut().find(|cell| *cell.name == *name) {
            self.waiting += usize::from(!cell.waiting);
            overwrite(&mut cell.value, value);
            cell.waiting = true;
        } else {
            self.cells.push(LazyCell { name: name.into(), value: value.into(), waiting: true });
            self.waiting += 1;
        }
    }
}

impl Shared {
    /// Sets a cell without writing anything.
    pub(crate) fn set_lazily(&self, name: &str, value: &[u8]) -> Result<()> {
        self.dir.not_forked()?;
        let mut writer = self.writer();
        // With the lock held: a close that comes after it takes the value along.
        self.usable()?;
        let written = writer.state.cells.get(name).map(Value::from);
        let before = writer.lazy.get(name).map(|waiting| Value::Inline(waiting)).or(written);
        if before == Some(Value::Inline(value)) {
            return Ok(());
        }
        if matches!(before, Some(Value::SideFile(_))) {
            let reason = "it refers to a side file; use a batch";
            return Err(Error::InvalidArgument { what: "cell", reason });
        }
        // Whatever a batch with this cell would be refused for.
        let value_now = Some(Value::Inline(value));
        check_cell(name, value_now, before.is_some())?;
        if !matches!(before, Some(Value::Inline(old)) if old.len() >= value.len()) {
            let size = |value: Option<Value<'_>>| value.map_or(0, |value| value.slot_bytes(name));
            check_cells_bytes(writer.cells_bytes() - size(before) + size(value_now))?;
        }
        writer.lazy.set(name, value);
        // The next idle checkpoint takes it along if no batch does.
        self.writer.lazy_version.store(writer.lazy.version, Ordering::Release);
        Ok(())
    }

    /// Writes what waits as a batch of its own.
    pub(crate) fn write_lazies(&self) -> Result<()> {
        let waiting = !self.writer().lazy.is_empty();
        if waiting { self.write(&[]).map(drop) } else { Ok(()) }
    }
}

impl Writer {
    /// The cells as readers see them, lazily set ones included.
    pub(crate) fn cells(&self) -> Cells {
        let mut cells = self.state.cells.clone();
        self.lazy.merge_into(&mut cells);
        cells
    }

    /// The value of a cell as readers see it.
    pub(crate) fn cell(&self, name: &str) -> Option<CellValue> {
        let waiting = self.lazy.get(name).map(|bytes| CellValue::Inline(Arc::clone(bytes)));
        waiting.or_else(|| self.state.cells.get(name).cloned())
    }

    /// Bytes that they take in a slot.
    fn cells_bytes(&self) -> usize {
        let cells = &self.state.cells;
        self.lazy.iter().fold(cells.bytes(), |bytes, (name, value)| {
            let before = cells.get(name).map_or(0, |cell| Value::from(cell).slot_bytes(name));
            bytes - before + Value::Inline(value).slot_bytes(name)
        })
    }
}
