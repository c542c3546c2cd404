//! A part of a segment file that is read as a walk comes to it.
//!
//! Owns: what of it is in memory: a piece ahead of the walk, and what that has not let go of. So bytes
//! are checked while they are in the processor's cache, and the memory is used again and again. Does not
//! own: what the bytes are (`replay`).
//!
//! Read, not mapped: a map would read page by page, and reading ahead through one would leave large
//! folios behind.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::number::{to_u64, to_usize};
use crate::io::File;
use crate::segment::walk::Part;

/// Bytes that are read at a time.
const PIECE_BYTES: u64 = 256 * 1024;

/// Bytes that are needed no more, from which on their memory is used again.
const LEFT_BEHIND_BYTES: usize = 1024 * 1024;

#[derive(Debug)]
pub(super) struct Window {
    file: Arc<dyn File>,
    path: PathBuf,
    range: Range<u64>,
    /// Offset in the file of the first byte in memory.
    start: u64,
    memory: Vec<u8>,
    /// How much of the memory was read.
    filled: usize,
}

impl Window {
    /// Nothing of it is in memory yet.
    pub(super) fn new(file: Arc<dyn File>, path: PathBuf, range: Range<u64>) -> Self {
        let start = range.start;
        Self { file, path, range, start, memory: Vec::new(), filled: 0 }
    }

    /// Bytes of all of it, in memory or not.
    pub(super) fn len(&self) -> u64 {
        self.range.end.saturating_sub(self.range.start)
    }

    /// What is in memory.
    pub(super) fn part(&self) -> Part<'_> {
        let bytes = self.memory.get(..self.filled).unwrap_or_default();
        Part { bytes, start: self.start }
    }

    /// Reads some more. Returns whether there was any.
    pub(super) fn read_on(&mut self) -> Result<bool> {
        let at = self.start + to_u64(self.filled);
        let bytes = to_usize(self.range.end.saturating_sub(at).min(PIECE_BYTES));
        let filled = self.filled + bytes;
        if self.memory.len() < filled {
            self.memory.resize(filled, 0);
        }
        let piece = self.memory.get_mut(self.filled..filled).unwrap_or_default();
        let read = self.file.read_at(at, piece);
        read.map_err(|source| Error::io("read", &self.path, source))?;
        self.filled = filled;
        Ok(bytes > 0)
    }

    /// Reads all there is.
    pub(super) fn read_all(&mut self) -> Result<()> {
        let end = to_usize(self.range.end.saturating_sub(self.start));
        self.memory.reserve_exact(end.saturating_sub(self.memory.len()));
        while self.read_on()? {}
        Ok(())
    }

    /// Bytes before an offset are needed no more.
    pub(super) fn let_go(&mut self, before: u64) {
        let gone = to_usize(before.saturating_sub(self.start)).min(self.filled);
        if gone >= LEFT_BEHIND_BYTES {
            self.memory.copy_within(gone..self.filled, 0);
            self.filled -= gone;
            self.start += to_u64(gone);
        }
    }
}
