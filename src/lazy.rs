//! Lazily set cells: values that need not be durable by themselves.
//!
//! Owns: the newest value of each until a batch takes it along. Does not own: when one does (`log`).
//!
//! A value is never durable ahead of a batch that was written before it was set, and never missing
//! once a later batch is durable: it counts like a batch of its own between the two. A checkpoint
//! states it and leaves it waiting all the same: the next batch may be durable first.

use std::sync::Arc;

use crate::planted::{Bug, planted};
use crate::state::{Cells, Value, overwrite};

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

/// One of them.
#[derive(Debug)]
pub(crate) struct LazyCell {
    pub(crate) name: Arc<str>,
    pub(crate) value: Arc<[u8]>,
    waiting: bool,
    /// Its place among the cells of the log when it was last looked for.
    pub(crate) place: usize,
}

impl LazyCells {
    /// Whether no value waits for a batch.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// The values that wait, as a batch takes them along over these cells.
    pub(crate) fn riders(&self, cells: &Cells) -> impl Iterator<Item = &LazyCell> {
        self.waiting_cells().filter(|LazyCell { name, value, .. }| {
            let is_there = || cells.get(name).map(Value::from) == Some(Value::Inline(value));
            !(planted(Bug::LazyValueDropped) || planted(Bug::LazyValueCompared) && is_there())
        })
    }

    /// The `nth` of those.
    pub(crate) fn nth_rider<'a>(&'a self, nth: usize, cells: &Cells) -> Option<&'a LazyCell> {
        self.riders(cells).nth(nth)
    }

    /// The values that wait.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<[u8]>)> {
        self.waiting_cells().map(|cell| (&cell.name, &cell.value))
    }

    fn waiting_cells(&self) -> impl Iterator<Item = &LazyCell> {
        // Most batches meet none.
        let cells = if self.is_empty() { &[] } else { self.cells.as_slice() };
        cells.iter().filter(|cell| cell.waiting)
    }

    /// Where among the cells of the log it was when it was last looked for.
    pub(crate) fn place(&self, name: &str) -> usize {
        self.cells.iter().find(|cell| *cell.name == *name).map_or(0, |cell| cell.place)
    }

    /// The value of a cell, if one waits.
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<[u8]>> {
        self.iter().find(|(waiting, _)| ***waiting == *name).map(|(_, value)| value)
    }

    /// The same, as a batch asks for it.
    pub(crate) fn waiting(&self, name: &str) -> Option<&Arc<[u8]>> {
        if planted(Bug::LazyValueOverlooked) { None } else { self.get(name) }
    }

    /// These cells and the waiting values, as a checkpoint states them.
    pub(crate) fn stated_over(&self, cells: &Cells) -> Cells {
        let mut cells = cells.clone();
        if !planted(Bug::LazyValueNotInCheckpoint) {
            self.merge_into(&mut cells);
        }
        cells
    }

    /// Puts the waiting values where a batch with them would.
    pub(crate) fn merge_into(&self, cells: &mut Cells) {
        for LazyCell { name, value, place, .. } in self.waiting_cells() {
            cells.put_near(*place, name, Some(Value::Inline(value)));
        }
    }

    /// A batch has taken the waiting values along.
    pub(crate) fn taken(&mut self) {
        if !planted(Bug::LazyValueOutlivesItsBatch) {
            self.cells.iter_mut().for_each(|cell| cell.waiting = false);
            self.waiting = 0;
        }
    }

    /// Sets a cell, which has or would have this place among those of the log.
    pub(crate) fn set(&mut self, name: &str, value: &[u8], place: usize) {
        self.version += 1;
        if let Some(cell) = self.cells.iter_mut().find(|cell| *cell.name == *name) {
            self.waiting += usize::from(!cell.waiting);
            overwrite(&mut cell.value, value);
            (cell.waiting, cell.place) = (true, place);
        } else {
            self.cells.push(LazyCell {
                name: name.into(),
                value: value.into(),
                waiting: true,
                place,
            });
            self.waiting += 1;
        }
    }
}
