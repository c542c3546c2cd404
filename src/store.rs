//! What an adapter needs of the place where a host's log is kept: a [`Log`] of its own, or a part of
//! one that many hosts share.
//!
//! Owns: the calls that adapters may use. Does not own: what they do, which is documented at
//! [`Log`] under the same names.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::ops::Range;
use std::sync::Arc;

use crate::Entries;
use crate::error::{Error, Result};
use crate::format::CellValue;
use crate::state::LOST_BATCHES;
use crate::{Batch, Log, SideFile, SideFileReader, SideFileWriter, Ticket};

/// A log, or what behaves like one: entries with consecutive indexes, cells, side files, atomic
/// batches. Clones are handles of the same.
pub trait Store: Clone + fmt::Debug + Send + Sync + 'static {
    /// Entries that were read, borrowed from the log.
    type Entries: StoreEntries + Send + Sync + 'static;
    /// Takes a side file.
    type Writer: StoreWriter;
    /// Streams a side file out.
    type Reader: io::Read;

    /// The log that the bytes go to: its options, path, counters and recovery are in force here.
    fn log(&self) -> &Log;
    /// As [`Log::first`].
    fn first(&self) -> u64;
    /// As [`Log::next`].
    fn next(&self) -> u64;
    /// As [`Log::entry_bytes_max`].
    fn entry_bytes_max(&self) -> u64;
    /// As [`Log::append`]. What the ticket says of indexes is said of the log underneath.
    ///
    /// # Errors
    ///
    /// As there.
    fn append(&self, entry: &[u8]) -> Result<Ticket>;
    /// As [`Log::commit`].
    ///
    /// # Errors
    ///
    /// As there.
    fn commit(&self, batch: &Batch<'_>) -> Result<Ticket>;
    /// As [`Log::submit`].
    ///
    /// # Errors
    ///
    /// As there.
    fn submit(&self, batch: &Batch<'_>) -> Result<Ticket>;
    /// As [`Log::set_lazily`].
    ///
    /// # Errors
    ///
    /// As there.
    fn set_lazily(&self, cell: &str, value: &[u8]) -> Result<()>;
    /// As [`Log::sync`].
    ///
    /// # Errors
    ///
    /// As there.
    fn sync(&self) -> Result<()>;
    /// As [`Log::read`].
    ///
    /// # Errors
    ///
    /// As there.
    fn read(&self, range: Range<u64>) -> Result<Self::Entries>;
    /// As [`Log::cell`].
    fn cell(&self, name: &str) -> Option<Arc<[u8]>>;
    /// As [`Log::cells`].
    fn cells(&self) -> Vec<(String, CellValue)>;
    /// Whether a host may go on with the state in its cells. An adapter asks before it reads any.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if changes of it may have been lost, so that it may be older than
    /// what the host promised: a repair left the cell `repair.lost` in a log, or `groups.lost` is in
    /// a group.
    fn check_state(&self) -> Result<()> {
        Ok(())
    }
    /// As [`Log::side_file_writer`].
    ///
    /// # Errors
    ///
    /// As there.
    fn side_file_writer(&self) -> Result<Self::Writer>;
    /// As [`Log::side_file`].
    ///
    /// # Errors
    ///
    /// As there.
    fn side_file(&self, cell: &str) -> Result<Option<Self::Reader>>;
    /// Ends the use of the store: what was written is durable on return. A log of its own is
    /// closed; one that is shared goes on for the others.
    ///
    /// # Errors
    ///
    /// As [`Log::close`] or [`Log::sync`].
    fn close(&self) -> Result<()>;

    /// Writes a side file, which may then be attached by a batch of this store.
    ///
    /// # Errors
    ///
    /// Those of [`Self::side_file_writer`] and [`StoreWriter::finish`].
    fn write_side_file(&self, bytes: &[u8]) -> Result<SideFile> {
        let mut writer = self.side_file_writer()?;
        writer.write_all(bytes).map_err(|source| self.ours("write", source))?;
        writer.finish()
    }

    /// The bytes of the side file that a cell refers to, checked; nothing if it refers to none.
    ///
    /// # Errors
    ///
    /// Those of [`Self::side_file`]; [`Error::Damaged`], [`Error::Io`].
    fn read_side_file(&self, cell: &str) -> Result<Option<Vec<u8>>> {
        let Some(mut reader) = self.side_file(cell)? else { return Ok(None) };
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(|source| self.ours("read", source))?;
        Ok(Some(bytes))
    }

    /// Our error out of one that carries it, or an error of the system at the log.
    fn ours(&self, op: &'static str, source: io::Error) -> Error {
        source.downcast::<Error>().unwrap_or_else(|source| Error::io(op, self.log().path(), source))
    }
}

/// Takes the bytes of a side file of a [`Store`].
pub trait StoreWriter: io::Write {
    /// Ends the file, which may then be attached by a batch of its store.
    ///
    /// # Errors
    ///
    /// As [`SideFileWriter::finish`].
    fn finish(self) -> Result<SideFile>;
}

impl StoreWriter for SideFileWriter {
    fn finish(self) -> Result<SideFile> {
        self.finish()
    }
}

/// Entries out of a [`Store`].
#[expect(clippy::len_without_is_empty, reason = "nobody who is generic over stores asks")]
pub trait StoreEntries {
    /// How many entries there are.
    fn len(&self) -> usize;
    /// Index of the first one.
    fn first(&self) -> u64;
    /// The `nth` entry, counted from zero.
    fn get(&self, nth: usize) -> Option<&[u8]>;
    /// The entries in order.
    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map_while(|nth| self.get(nth))
    }
}

impl StoreEntries for Entries {
    fn len(&self) -> usize {
        self.len()
    }

    fn first(&self) -> u64 {
        self.first()
    }

    fn get(&self, nth: usize) -> Option<&[u8]> {
        self.get(nth)
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.iter()
    }
}

impl Store for Log {
    type Entries = Entries;
    type Writer = SideFileWriter;
    type Reader = SideFileReader;

    fn log(&self) -> &Log {
        self
    }

    fn first(&self) -> u64 {
        self.first()
    }

    fn next(&self) -> u64 {
        self.next()
    }

    fn entry_bytes_max(&self) -> u64 {
        self.entry_bytes_max()
    }

    fn append(&self, entry: &[u8]) -> Result<Ticket> {
        self.append(entry)
    }

    fn commit(&self, batch: &Batch<'_>) -> Result<Ticket> {
        self.commit(batch)
    }

    fn submit(&self, batch: &Batch<'_>) -> Result<Ticket> {
        self.submit(batch)
    }

    fn set_lazily(&self, cell: &str, value: &[u8]) -> Result<()> {
        self.set_lazily(cell, value)
    }

    fn sync(&self) -> Result<()> {
        self.sync()
    }

    fn read(&self, range: Range<u64>) -> Result<Entries> {
        self.read(range)
    }

    fn cell(&self, name: &str) -> Option<Arc<[u8]>> {
        self.cell(name)
    }

    fn cells(&self) -> Vec<(String, CellValue)> {
        self.cells()
    }

    fn check_state(&self) -> Result<()> {
        if self.cell(LOST_BATCHES).is_none() {
            return Ok(());
        }
        let reason = "changes of its state may be lost: see `repair.lost` in docs/OPERATIONS.md";
        Err(Error::InvalidArgument { what: "log", reason })
    }

    fn side_file_writer(&self) -> Result<SideFileWriter> {
        self.side_file_writer()
    }

    fn side_file(&self, cell: &str) -> Result<Option<SideFileReader>> {
        self.side_file(cell)
    }

    fn close(&self) -> Result<()> {
        self.close()
    }
}
