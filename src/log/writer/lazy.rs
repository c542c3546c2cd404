//! Lazily set cells of an open log: setting one, reading one.
//!
//! Owns: what is refused, and what readers see of them. Does not own: the values (`crate::lazy`), nor
//! the batch that takes them along (`plan`).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Writer;
use crate::error::{Error, Result};
use crate::log::shared::Shared;
use crate::state::{CellValue, Cells, Value, check_cell, check_cells_bytes};

impl Shared {
    /// Sets a cell without writing anything.
    pub(crate) fn set_lazily(&self, name: &str, value: &[u8]) -> Result<()> {
        self.dir.not_forked()?;
        let mut writer = self.writer();
        // With the lock held: a close that comes after it takes the value along.
        self.open_and_sound()?;
        let (place, written) = writer.state.cells.get_near(writer.lazy.place(name), name);
        let waiting = writer.lazy.get(name).map(|waiting| Value::Inline(waiting));
        let before = waiting.or(written.map(Value::from));
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
        writer.lazy.set(name, value, place);
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
