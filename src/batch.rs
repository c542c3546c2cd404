//! Batches: what a caller asks the log to do as one atomic unit.
//!
//! Owns: the records a batch is made of. Does not own: whether they make sense for a given log
//! (`log::writer::plan`), nor how they are written (`log::writer`).

use std::borrow::Cow;

use crate::directory::side_file::SideFile;

/// Records that a batch has space for from the first one on.
const RECORDS_MIN: usize = 4;

/// One change, as the caller stated it.
#[derive(Debug, Clone)]
pub(crate) enum Record<'a> {
    Append(Cow<'a, [u8]>),
    Truncate(u64),
    Trim(u64),
    Reset(u64),
    Set(Cow<'a, str>, Cow<'a, [u8]>),
    Clear(Cow<'a, str>),
    Attach(Cow<'a, str>, SideFile),
}

/// Changes that become durable together or not at all, in the order they were added.
///
/// A batch may be of any size up to 2^24 records and 4 GiB, also larger than a segment, and begins 128
/// segments at most. It costs one sync; one that begins segments costs a sync for each that it is
/// written to, and two more (docs/DESIGN.md, "Choices"). Borrowed entries are not copied before they
/// are written.
///
/// ```
/// # use indelible::{Batch, Log, Options};
/// # fn main() -> indelible::Result<()> {
/// let log = Log::in_memory(&Options::new())?;
/// let mut batch = Batch::new();
/// batch.set("promise", b"ballot 7").append(b"first").append(b"second");
/// log.commit(&batch)?;
/// assert_eq!(log.entry(1)?, b"second");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Batch<'a> {
    pub(crate) records: Vec<Record<'a>>,
}

impl<'a> Batch<'a> {
    /// A batch that changes nothing yet.
    pub const fn new() -> Self {
        Self { records: Vec::new() }
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// How many records were added.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Forgets every record and keeps the space, for use in a loop.
    pub fn reuse(&mut self) {
        self.records.clear();
    }

    /// Appends an entry at the index the log has reached.
    pub fn append(&mut self, entry: impl Into<Cow<'a, [u8]>>) -> &mut Self {
        self.push(Record::Append(entry.into()))
    }

    /// Drops every entry from index `to` on; the next entry gets that index.
    ///
    /// `to` equal to the end does nothing; beyond the end the commit returns
    /// [`BeyondEnd`](crate::Error::BeyondEnd), before the first entry
    /// [`Trimmed`](crate::Error::Trimmed).
    pub fn truncate(&mut self, to: u64) -> &mut Self {
        self.push(Record::Truncate(to))
    }

    /// Drops every entry before index `to`, which becomes the first one.
    ///
    /// `to` at or before the first entry does nothing; beyond the end the commit returns
    /// [`BeyondEnd`](crate::Error::BeyondEnd): use [`Self::reset`] to jump there.
    pub fn trim(&mut self, to: u64) -> &mut Self {
        self.push(Record::Trim(to))
    }

    /// Drops every entry; the next one gets index `base`. State cells stay.
    pub fn reset(&mut self, base: u64) -> &mut Self {
        self.push(Record::Reset(base))
    }

    /// Sets a state cell. A value that the cell has already costs nothing.
    ///
    /// Names have 1 to 32 bytes of `a-z`, `0-9`, `.`, `_` and `-`; values at most 1024 bytes, and
    /// all cells of a log together [`CELLS_BYTES_MAX`](crate::options::CELLS_BYTES_MAX). A batch changes
    /// at most [`CELLS_PER_BATCH_MAX`](crate::options::CELLS_PER_BATCH_MAX) of them.
    pub fn set(
        &mut self,
        cell: impl Into<Cow<'a, str>>,
        value: impl Into<Cow<'a, [u8]>>,
    ) -> &mut Self {
        self.push(Record::Set(cell.into(), value.into()))
    }

    /// Clears a state cell, whether it holds a value or a side file.
    pub fn clear(&mut self, cell: impl Into<Cow<'a, str>>) -> &mut Self {
        self.push(Record::Clear(cell.into()))
    }

    /// Makes a state cell refer to a side file: a snapshot, or any value too large for a cell.
    ///
    /// The side file that the cell referred to before is removed once this is durable.
    pub fn attach(&mut self, cell: impl Into<Cow<'a, str>>, file: SideFile) -> &mut Self {
        self.push(Record::Attach(cell.into(), file))
    }

    fn push(&mut self, record: Record<'a>) -> &mut Self {
        if self.records.capacity() == 0 {
            // At once, which costs less than to grow.
            self.records = Vec::with_capacity(RECORDS_MIN);
        }
        self.records.push(record);
        self
    }
}
