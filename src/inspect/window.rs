//! The bytes of a segment file, a window at a time, past errors of the device.
//!
//! Owns: how much is in memory, and what could not be read. Does not own: what the bytes say
//! (`survey`).
//!
//! Memory: one window, or what is asked for at once if that is longer: a frame, or an offset table.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::directory::Dir;
use crate::error::{Error, Result};
use crate::format::number::{to_u64, to_usize};
use crate::io::{Access, File};
use crate::options::SEGMENT_BYTES_MAX;
use crate::segment::walk::Source;

/// Bytes read at a time; progress is reported as often.
const WINDOW_BYTES: usize = 1024 * 1024;
/// Bytes in which a failing device is read piece by piece.
const PIECE_BYTES: usize = 4096;

/// A file that is read from its start to its end; looks ahead cost a read of their own.
pub(crate) struct Window<'a> {
    path: PathBuf,
    file: Arc<dyn File>,
    /// Bytes of the file.
    length: usize,
    bytes: Vec<u8>,
    /// Offset in the file of the window.
    start: usize,
    /// How far the file was read in its order.
    read_to: usize,
    progress: &'a mut dyn FnMut(u64),
    /// What could not be read, by its place; those bytes are zero here.
    failures: BTreeMap<usize, Error>,
}

impl<'a> Window<'a> {
    /// Opens a file of `length` bytes. Progress is told of bytes, as they are read in their order.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be opened.
    pub(crate) fn open(
        dir: &Dir,
        name: &str,
        length: u64,
        progress: &'a mut dyn FnMut(u64),
    ) -> Result<Self> {
        let (path, file) = (dir.join(name), dir.open(name, Access::Read)?);
        let length = to_usize(length.min(SEGMENT_BYTES_MAX));
        let (bytes, failures) = (Vec::new(), BTreeMap::new());
        Ok(Self { path, file, length, bytes, start: 0, read_to: 0, progress, failures })
    }

    /// Those of `count` bytes from an offset on that the file has.
    pub(crate) fn get(&mut self, offset: u64, count: usize) -> &[u8] {
        let bytes = self.at(to_usize(offset), count);
        bytes.get(..count).unwrap_or(bytes)
    }

    /// The errors of the device. What was not read yet counts as read.
    pub(crate) fn finish(self) -> Vec<Error> {
        (self.progress)(to_u64(self.length.saturating_sub(self.read_to)));
        self.failures.into_values().collect()
    }

    fn fill(&mut self, offset: usize, needed: usize) {
        let length = needed.max(WINDOW_BYTES).min(self.length.saturating_sub(offset));
        if self.bytes.capacity() > length.max(WINDOW_BYTES) {
            self.bytes = Vec::new();
        }
        self.start = offset;
        self.bytes.resize(length, 0);
        if self.file.read_at(to_u64(offset), &mut self.bytes).is_err() {
            self.fill_piecewise(offset);
        }
        let end = offset + length;
        if offset <= self.read_to && end > self.read_to {
            (self.progress)(to_u64(end - self.read_to));
            self.read_to = end;
        }
    }

    fn fill_piecewise(&mut self, offset: usize) {
        let (mut at, mut rest) = (offset, self.bytes.as_mut_slice());
        while !rest.is_empty() {
            let length = (PIECE_BYTES - at % PIECE_BYTES).min(rest.len());
            let (piece, more) = rest.split_at_mut(length);
            if let Err(source) = self.file.read_at(to_u64(at), piece) {
                piece.fill(0);
                let error = || Error::io("read", &*self.path, source);
                self.failures.entry(at - at % PIECE_BYTES).or_insert_with(error);
            }
            (at, rest) = (at + length, more);
        }
    }
}

impl Source for Window<'_> {
    fn at(&mut self, offset: usize, needed: usize) -> &[u8] {
        let needed = needed.min(self.length.saturating_sub(offset));
        let is_there = |at: &usize| at.saturating_add(needed) <= self.bytes.len();
        let at = offset.checked_sub(self.start).filter(is_there).unwrap_or_else(|| {
            self.fill(offset, needed);
            0
        });
        self.bytes.get(at..).unwrap_or(&[])
    }

    fn end(&self) -> usize {
        self.length
    }
}
