//! A plain model of a log: what its records add up to, with nothing of how they are stored.
//!
//! Owns: the meaning of every change, written down a second time and independently of the engine.
//! Does not own: which of its states a crash may leave (`run`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::CellValue;
use crate::log::Log;
use crate::options::CELLS_BYTES_MAX;

/// What a state cell holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value {
    /// A value in the cell itself.
    Inline(Arc<[u8]>),
    /// The contents of a side file.
    Side(Arc<[u8]>),
}

/// The state of a log. Cloning shares the bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Model {
    /// Index of the first entry.
    pub first: u64,
    /// The entries from there on.
    pub entries: VecDeque<Arc<[u8]>>,
    /// The state cells by name.
    pub cells: BTreeMap<String, Value>,
}

impl Model {
    /// Index the next entry gets.
    pub fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Appends an entry.
    pub fn append(&mut self, entry: impl Into<Arc<[u8]>>) {
        self.entries.push_back(entry.into());
    }

    /// Drops every entry from `to` on; `to` must be in `first..=next`.
    pub fn truncate(&mut self, to: u64) {
        let kept = usize::try_from(to.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.entries.truncate(kept);
    }

    /// Drops every entry before `to`, which must not be past the end.
    pub fn trim(&mut self, to: u64) {
        while self.first < to && self.entries.pop_front().is_some() {
            self.first += 1;
        }
    }

    /// Drops every entry; the next one gets index `base`.
    pub fn reset(&mut self, base: u64) {
        self.first = base;
        self.entries.clear();
    }

    /// Sets a cell.
    pub fn set(&mut self, cell: &str, value: Value) {
        self.cells.insert(cell.to_owned(), value);
    }

    /// Clears a cell.
    pub fn clear(&mut self, cell: &str) {
        self.cells.remove(cell);
    }

    /// Whether a slot has room for the cells.
    pub fn fits(&self) -> bool {
        // docs/FORMAT.md, "Slot": four bytes, the name, and a value or a reference to a side file.
        let bytes = |(name, value): (&String, &Value)| match value {
            Value::Inline(bytes) => 4 + name.len() + bytes.len(),
            Value::Side(_) => 4 + name.len() + 20,
        };
        self.cells.iter().map(bytes).sum::<usize>() <= CELLS_BYTES_MAX
    }

    /// The entry at an index.
    pub fn entry(&self, index: u64) -> Option<&Arc<[u8]>> {
        let nth = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.entries.get(nth)
    }

    /// How `log` differs from the model, in words; nothing if it does not.
    ///
    /// # Errors
    /// What the log returns when it is read.
    pub fn difference(&self, log: &Log) -> Result<Option<String>> {
        let (first, next) = (log.first(), log.next());
        if (first, next) != (self.first, self.next()) {
            let (expected, end) = (self.first, self.next());
            return Ok(Some(format!("bounds {first}..{next}, expected {expected}..{end}")));
        }
        let entries = log.read(first..next)?;
        if entries.len() != self.entries.len() {
            return Ok(Some(format!("{} entries read of {first}..{next}", entries.len())));
        }
        for (index, (got, expected)) in (first..).zip(entries.iter().zip(&self.entries)) {
            if got != &**expected {
                return Ok(Some(format!("entry {index} is not the one that was appended")));
            }
        }
        self.difference_of_cells(log)
    }

    fn difference_of_cells(&self, log: &Log) -> Result<Option<String>> {
        let cells = log.cells();
        let names = |names: Vec<&String>| format!("{names:?}");
        if !cells.iter().map(|(name, _)| name).eq(self.cells.keys()) {
            let got = names(cells.iter().map(|(name, _)| name).collect());
            let expected = names(self.cells.keys().collect());
            return Ok(Some(format!("cells {got}, expected {expected}")));
        }
        for ((name, got), expected) in cells.iter().zip(self.cells.values()) {
            let same = match (got, expected) {
                (CellValue::Inline(got), Value::Inline(expected)) => got[..] == expected[..],
                (CellValue::SideFile(_), Value::Side(expected)) => match log.side_file(name)? {
                    Some(reader) => reader.read_all()?[..] == expected[..],
                    None => false,
                },
                _ => false,
            };
            if !same {
                return Ok(Some(format!("cell {name} does not hold what was put there")));
            }
        }
        Ok(None)
    }
}

/// Whether an error says that nothing was changed and the log goes on.
pub fn is_refusal(error: &Error) -> bool {
    matches!(
        error,
        Error::DiskFull { .. }
            | Error::Exhausted { .. }
            | Error::TooLarge { .. }
            | Error::Trimmed { .. }
            | Error::BeyondEnd { .. }
            | Error::InvalidArgument { .. }
    )
}
