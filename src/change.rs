//! One change of a log, for those who read batches that others made, and its effect on a [`State`].
//!
//! Owns: the public form of a record, and one way to apply it. Does not own: the rules themselves
//! (`state`).

use crate::batch::{Batch, Record};
use crate::directory::side_file::SideFile;
#[cfg(any(test, feature = "tools"))]
use crate::error::{Error, Result};
#[cfg(any(test, feature = "tools"))]
use crate::state::{Cells, State, Value};

/// One change that a [`Batch`] asks for, borrowed from it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "whoever carries out a batch has to know all of it")]
pub enum Change<'a> {
    /// An entry is appended.
    Append(&'a [u8]),
    /// Every entry from this index on is dropped.
    Truncate(u64),
    /// Every entry before this index is dropped.
    Trim(u64),
    /// Every entry is dropped; the next one gets this index.
    Reset(u64),
    /// A cell gets a value.
    Set(&'a str, &'a [u8]),
    /// A cell is cleared.
    Clear(&'a str),
    /// A cell refers to a side file.
    Attach(&'a str, SideFile),
}

impl Batch<'_> {
    /// The changes, in the order they were added.
    pub fn changes(&self) -> impl ExactSizeIterator<Item = Change<'_>> {
        self.records.iter().map(|record| match record {
            Record::Append(entry) => Change::Append(entry),
            Record::Truncate(to) => Change::Truncate(*to),
            Record::Trim(to) => Change::Trim(*to),
            Record::Reset(base) => Change::Reset(*base),
            Record::Set(cell, value) => Change::Set(cell, value),
            Record::Clear(cell) => Change::Clear(cell),
            Record::Attach(cell, file) => Change::Attach(cell, file.clone()),
        })
    }
}

#[cfg(any(test, feature = "tools"))]
impl State {
    /// The state of entries `first..next` beside these cells; nothing if that cannot be: if the
    /// bounds are the wrong way round, or a log refuses such cells.
    pub fn from_parts(first: u64, next: u64, cells: &Cells) -> Option<Self> {
        let mut state = Self { first, next, ..Self::default() };
        for (name, value) in cells.iter() {
            state.set(name, Some(value.into())).ok()?;
        }
        (first <= next && state.check_cells().is_ok()).then_some(state)
    }

    /// Index of the first entry.
    pub const fn first(&self) -> u64 {
        self.first
    }

    /// Index the next entry gets.
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// The cells by name.
    pub fn cells(&self) -> &Cells {
        &self.cells
    }

    /// Applies a change by the rules of a log. Returns whether it changes anything.
    ///
    /// # Errors
    ///
    /// Those of [`Log::commit`](crate::Log::commit) for such a change; nothing was changed then.
    pub fn apply(&mut self, change: &Change<'_>) -> Result<bool> {
        match change {
            Change::Append(_) => {
                let too_large =
                    Error::TooLarge { what: "index", got: self.next, limit: u64::MAX - 1 };
                self.next = self.next.checked_add(1).ok_or(too_large)?;
                Ok(true)
            }
            Change::Truncate(to) => self.truncate(*to),
            Change::Trim(to) => self.trim(*to),
            Change::Reset(base) => Ok(self.reset(*base)),
            Change::Set(name, value) => self.set(name, Some(Value::Inline(value))),
            Change::Attach(name, file) => self.set(name, Some(Value::SideFile(file.reference()))),
            Change::Clear(name) => self.set(name, None),
        }
    }

    /// Refuses cells that together are larger than a log allows.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`].
    pub fn check(&self) -> Result<()> {
        self.check_cells()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::SideFileRef;

    #[test]
    fn changes_are_those_that_were_added() {
        let file = SideFile::from_reference(SideFileRef { id: 1, length: 2, crc: 3 });
        let mut batch = Batch::new();
        batch.append(b"a").truncate(1).trim(2).reset(3).set("c", b"v").clear("c");
        batch.attach("s", file.clone());
        let changes: Vec<_> = batch.changes().collect();
        let expected = [
            Change::Append(b"a"),
            Change::Truncate(1),
            Change::Trim(2),
            Change::Reset(3),
            Change::Set("c", b"v"),
            Change::Clear("c"),
            Change::Attach("s", file),
        ];
        assert_eq!(changes, expected);
    }

    #[test]
    fn state_takes_what_a_log_takes() {
        let mut state = State::default();
        assert!(state.apply(&Change::Append(b"")).unwrap());
        assert!(state.apply(&Change::Set("c", b"v")).unwrap());
        assert!(!state.apply(&Change::Set("c", b"v")).unwrap());
        let beyond = state.apply(&Change::Truncate(2));
        assert!(matches!(beyond, Err(Error::BeyondEnd { wanted: 2, next: 1 })));
        assert!(state.apply(&Change::Trim(1)).unwrap());
        assert_eq!((state.first(), state.next(), state.cells().len()), (1, 1, 1));
        assert_eq!(State::from_parts(1, 1, &state.cells().clone()), Some(state));
        assert_eq!(State::from_parts(2, 1, &Cells::new()), None);
    }
}
