//! A group as the store of a host: the adapters that take a log take a group as well.

use std::ops::Range;
use std::sync::Arc;

use indelible::store::{Store, StoreEntries, StoreWriter};
use indelible::{Batch, CellValue, Log, Result, SideFile, Ticket};

use crate::file::{GroupFileReader, GroupFileWriter};
use crate::group::{Group, GroupTicket};
use crate::read::Entries;

impl Store for Group {
    type Entries = Entries;
    type Writer = GroupFileWriter;
    type Reader = GroupFileReader;

    fn log(&self) -> &Log {
        self.log()
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
        self.append(entry).map(GroupTicket::into_ticket)
    }

    fn commit(&self, batch: &Batch<'_>) -> Result<Ticket> {
        self.commit(batch).map(GroupTicket::into_ticket)
    }

    fn submit(&self, batch: &Batch<'_>) -> Result<Ticket> {
        self.submit(batch).map(GroupTicket::into_ticket)
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

    /// A group with the cell [`STATE_LOST`](crate::STATE_LOST) is refused.
    fn check_state(&self) -> Result<()> {
        self.check_state()
    }

    fn side_file_writer(&self) -> Result<GroupFileWriter> {
        self.side_file_writer()
    }

    fn side_file(&self, cell: &str) -> Result<Option<GroupFileReader>> {
        self.side_file(cell)
    }

    /// The log goes on for the other groups.
    fn close(&self) -> Result<()> {
        self.sync()
    }
}

impl StoreWriter for GroupFileWriter {
    fn finish(self) -> Result<SideFile> {
        self.finish()
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
}
