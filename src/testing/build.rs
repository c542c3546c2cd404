//! From changes to a batch, and to the model of what it leads to.
//!
//! Owns: what relative positions and numbers of cells come to on the log at hand. Does not own: what
//! becomes of the batch (`run`).

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use super::model::{Model, Value, is_refusal};
use super::program::{Change, Lazily};
use super::run::{Runner, Stop};
use crate::batch::Batch;
use crate::directory::side_file::SideFile;
use crate::error::Error;

/// A batch, and what is to be expected of it.
pub(super) struct Built {
    pub(super) batch: Batch<'static>,
    /// What it leads to.
    pub(super) model: Model,
    /// The side files that the cells refer to then.
    pub(super) side_files: BTreeMap<String, SideFile>,
    /// It changes what readers see, be it only on its way.
    pub(super) changes: bool,
    /// It says something about a cell that was set lazily since the last batch.
    pub(super) confirms: bool,
}

impl Built {
    fn put(&mut self, cell: &str, value: Option<Value>, file: Option<SideFile>) {
        self.changes |= self.model.cells.get(cell) != value.as_ref()
            || self.side_files.get(cell) != file.as_ref();
        match value {
            Some(value) => self.model.set(cell, value),
            None => self.model.clear(cell),
        }
        match file {
            Some(file) => drop(self.side_files.insert(cell.to_owned(), file)),
            None => drop(self.side_files.remove(cell)),
        }
    }

    fn moves(&mut self, change: impl FnOnce(&mut Model)) {
        let bounds = (self.model.first, self.model.next());
        change(&mut self.model);
        self.changes |= bounds != (self.model.first, self.model.next());
    }
}

impl Runner {
    /// The batch for these changes, and what it leads to.
    pub(super) fn build(&mut self, changes: &[Change]) -> Result<Built, Stop> {
        let mut built = Built {
            batch: Batch::new(),
            model: (*self.model).clone(),
            side_files: self.side_files.clone(),
            changes: false,
            confirms: false,
        };
        for change in changes {
            self.add(change, &mut built)?;
        }
        Ok(built)
    }

    fn add(&mut self, change: &Change, built: &mut Built) -> Result<(), Stop> {
        let (first, next) = (built.model.first, built.model.next());
        match *change {
            Change::Append { count, bytes } => {
                for _ in 0..count {
                    let limit = self.log()?.entry_bytes_max();
                    let entry = self.content(u64::from(bytes).min(limit));
                    built.batch.append(entry.clone());
                    built.moves(|model| model.append(entry));
                }
            }
            Change::Truncate(back) => {
                let to = next.saturating_sub(back).max(first);
                built.batch.truncate(to);
                built.moves(|model| model.truncate(to));
            }
            Change::Trim(count) => {
                let to = first.saturating_add(count).min(next);
                built.batch.trim(to);
                built.moves(|model| model.trim(to));
            }
            Change::ResetAhead(by) => {
                built.batch.reset(next + by);
                built.moves(|model| model.reset(next + by));
            }
            Change::ResetBack(by) => {
                let base = first.saturating_sub(by);
                built.batch.reset(base);
                built.moves(|model| model.reset(base));
            }
            Change::Set { cell, bytes } => {
                let value = self.content(u64::from(bytes));
                self.set(cell, value, built);
            }
            Change::SetAgain { cell, value } => self.set(cell, known(value), built),
            Change::Clear(cell) => {
                built.confirms |= self.waiting.contains(&name(cell));
                built.batch.clear(name(cell));
                built.put(&name(cell), None, None);
            }
            Change::Attach { cell, bytes } => {
                let value = self.content(u64::from(bytes));
                let file = self.side_file(&value)?;
                built.batch.attach(name(cell), file.clone());
                built.put(&name(cell), Some(Value::Side(value.into())), Some(file));
            }
            Change::Share { from, to } => {
                let from = name(from);
                let value = built.model.cells.get(&from).cloned();
                if let (Some(file), Some(value)) = (built.side_files.get(&from).cloned(), value) {
                    built.batch.attach(name(to), file.clone());
                    built.put(&name(to), Some(value), Some(file));
                }
            }
        }
        Ok(())
    }

    fn set(&self, cell: u8, value: Vec<u8>, built: &mut Built) {
        built.confirms |= self.waiting.contains(&name(cell));
        built.batch.set(name(cell), value.clone());
        built.put(&name(cell), Some(Value::Inline(value.into())), None);
    }

    /// The name and the value of a cell that is to be set lazily.
    pub(super) fn lazy_value(&mut self, lazily: Lazily) -> (String, Vec<u8>) {
        match lazily {
            Lazily::New { cell, bytes } => (name(cell), self.content(u64::from(bytes))),
            Lazily::Again { cell, value } => (name(cell), known(value)),
        }
    }

    fn side_file(&self, bytes: &[u8]) -> Result<SideFile, Stop> {
        let failed = |error: Error| {
            if is_refusal(&error) { Stop::Failed(error) } else { self.failed("a side file", error) }
        };
        let mut writer = self.log()?.side_file_writer().map_err(failed)?;
        writer.write_all(bytes).map_err(|source| failed(Error::io("write", "", source)))?;
        writer.finish().map_err(failed)
    }

    /// Bytes that no other entry has. Half of them differ in their first eight bytes only, so that
    /// sectors of one can pass for those of another.
    fn content(&mut self, len: u64) -> Vec<u8> {
        self.counter += 1;
        let len = crate::format::number::to_usize(len);
        let fill =
            if self.counter.is_multiple_of(2) { 0xa5 } else { self.counter.wrapping_mul(31) };
        let mut bytes: Vec<u8> = Vec::with_capacity(len);
        bytes.extend(self.counter.to_le_bytes().iter().take(len));
        let [fill, ..] = fill.to_le_bytes();
        bytes.resize(len, fill);
        bytes
    }
}

/// The value with a number.
fn known(value: u8) -> Vec<u8> {
    vec![value; 8 + usize::from(value)]
}

/// The cells that programs use.
fn name(cell: u8) -> String {
    match cell {
        0 => "promise".to_owned(),
        1 => "stopsign".to_owned(),
        2 => "snapshot".to_owned(),
        other => format!("cell-{other}"),
    }
}

/// What a model holds in a cell, if it is a value in the cell itself.
pub(super) fn inline<'a>(model: &'a Model, cell: &str) -> Option<&'a Arc<[u8]>> {
    match model.cells.get(cell) {
        Some(Value::Inline(bytes)) => Some(bytes),
        _ => None,
    }
}
