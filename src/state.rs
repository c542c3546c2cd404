//! What the frames of a log add up to: its bounds and its state cells.
//!
//! Owns: the effect of each record. Used alike by a commit, before anything is written, and by
//! recovery, so that both agree. Does not own: where entries are stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Error, Result};
pub(crate) use crate::format::CellValue;
use crate::format::slot::{CELLS_BYTES_MAX, cells_bytes};
use crate::options::{CELL_NAME_BYTES_MAX, CELL_VALUE_BYTES_MAX};
use crate::planted::{Bug, planted};

/// State cells by name.
pub type Cells = BTreeMap<String, CellValue>;

/// The bounds and the cells of a log. Cloning shares the cells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// Index of the first entry.
    pub(crate) first: u64,
    /// Index the next entry gets.
    pub(crate) next: u64,
    /// How many of `first..next` are missing since a repair.
    pub(crate) holes: u64,
    pub(crate) cells: Arc<Cells>,
}

impl State {
    /// Drops the suffix from `to` on. Answers whether that changes anything.
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

    /// Drops the prefix before `to`. Answers whether that changes anything.
    pub(crate) fn trim(&mut self, to: u64) -> Result<bool> {
        if to > self.next {
            return Err(Error::BeyondEnd { wanted: to, next: self.next });
        }
        let changes = to > self.first;
        self.first = self.first.max(to);
        Ok(changes)
    }

    /// Drops every entry and jumps to `base`. Answers whether that changes anything.
    pub(crate) fn reset(&mut self, base: u64) -> bool {
        let changes = self.first != base || self.next != base;
        (self.first, self.next, self.holes) = (base, base, 0);
        changes
    }

    /// Sets or clears a cell. Answers whether that changes anything.
    pub(crate) fn set(&mut self, name: &str, value: Option<CellValue>) -> Result<bool> {
        check_name(name)?;
        if let Some(CellValue::Inline(bytes)) = &value
            && bytes.len() > CELL_VALUE_BYTES_MAX
        {
            return Err(too_large("cell value bytes", bytes.len(), CELL_VALUE_BYTES_MAX));
        }
        if self.cells.get(name) == value.as_ref() && !planted(Bug::UnchangedCellsWritten) {
            return Ok(false);
        }
        let cells = Arc::make_mut(&mut self.cells);
        match value {
            Some(value) => {
                cells.insert(name.to_owned(), value);
            }
            None => {
                cells.remove(name);
            }
        }
        Ok(true)
    }

    /// Refuses more cells than a metadata slot can hold.
    pub(crate) fn check_cells(&self) -> Result<()> {
        let bytes = cells_bytes(&self.cells);
        if bytes > CELLS_BYTES_MAX {
            return Err(too_large("bytes of all state cells", bytes, CELLS_BYTES_MAX));
        }
        Ok(())
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
