//! Building a segment file anew: the entries that are left, and Holes where some are missing.
//!
//! Owns: the frames of such a file, written as they come. Does not own: which entries are left
//! (`inspect::survey`), or when the file takes its place.
//!
//! A file is made under a temporary name and is durable before it gets its own. Memory: one offset
//! per entry, and a piece of the file.

use std::sync::Arc;

use crate::directory::Dir;
use crate::error::{Error, Result};
use crate::format::frame::{
    Flags, FrameHeader, HOLE_PAYLOAD_BYTES, Salt, encode_frame, encode_hole, frame_bytes,
    payload_length,
};
use crate::format::header::SEGMENT_HEADER_BYTES;
use crate::format::number::{to_u64, to_usize};
use crate::format::{Kind, SegmentHeader, SegmentName};
use crate::io::File;
use crate::options::SyncMethod;
use crate::segment::in_units;
use crate::segment::offsets::SPAN_MAX;
use crate::segment::tail::{Seal, footer_space};

/// Bytes collected before they are written; small writes keep the pages in the cache small.
const PIECE_BYTES: usize = 16 * 1024;

/// A segment under construction.
#[derive(Debug)]
pub(super) struct Rebuilt {
    dir: Dir,
    temporary: String,
    file: Arc<dyn File>,
    header: SegmentHeader,
    salt: Salt,
    /// Frames that are not in the file yet, and where they go.
    pending: Vec<u8>,
    written: u64,
    /// Where the last frame starts; 0 if there is none.
    last_frame: u64,
    units: Vec<u32>,
    /// Missing entries that no frame stands for yet.
    missing: u64,
    sequence: u64,
    compressed: bool,
    holes: bool,
}

/// A finished file, durable under a temporary name.
#[derive(Debug)]
pub(super) struct Ready {
    temporary: String,
    pub(super) name: SegmentName,
    /// Where its frames end.
    pub(super) end: u64,
    /// Where the last of them starts; 0 if there is none.
    pub(super) last_frame: u64,
    /// Its generation.
    pub(super) generation: u64,
}

impl Ready {
    /// Removes the file again; what cannot be removed is junk, which an open removes as well.
    pub(super) fn discard(&self, dir: &Dir) {
        let _best_effort = dir.remove(&self.temporary);
    }

    /// Gives the file its name, in the place of what had it. Durable after a sync of the directory.
    pub(super) fn take_place(&self, dir: &Dir) -> Result<()> {
        dir.rename(&self.temporary, &self.name.to_string())
    }
}

impl Rebuilt {
    /// An empty segment. A first sequence of zero is not known: it will be that of the first frame.
    pub(super) fn new(dir: &Dir, header: SegmentHeader) -> Result<Self> {
        let (temporary, file) = dir.create(header.segment_bytes, true)?;
        let sequence = header.first_sequence.max(1);
        Ok(Self {
            dir: dir.clone(),
            temporary,
            file,
            salt: Salt::new(header.generation),
            header,
            pending: Vec::new(),
            written: to_u64(SEGMENT_HEADER_BYTES),
            last_frame: 0,
            units: Vec::new(),
            missing: 0,
            sequence,
            compressed: false,
            holes: false,
        })
    }

    fn next(&self) -> u64 {
        self.header.base + to_u64(self.units.len())
    }

    fn position(&self) -> u64 {
        self.written + to_u64(self.pending.len())
    }

    /// The number of the segment.
    pub(super) fn number(&self) -> u64 {
        self.header.number
    }

    /// What the file would take with one more entry of so many bytes.
    pub(super) fn bytes_with(&self, payload: usize) -> u64 {
        let entries = to_u64(self.units.len()) + self.missing + 1;
        self.position() + to_u64(frame_bytes(payload)) + footer_space(entries)
    }

    /// The newest batch in it.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Whether `count` more entries fit, in frames of `bytes` altogether, with what stands for the
    /// missing ones before them, the offset table and the footer.
    pub(super) fn fits(&self, count: u64, bytes: usize) -> bool {
        let hole = to_u64(frame_bytes(HOLE_PAYLOAD_BYTES));
        // Missing entries may follow.
        let holes = (self.missing.div_ceil(SPAN_MAX) + 1) * hole;
        let entries = to_u64(self.units.len()) + self.missing + count;
        self.position() + holes + to_u64(bytes) + footer_space(entries) <= self.header.segment_bytes
    }

    /// Whether the next missing entry fits.
    pub(super) fn fits_hole(&self) -> bool {
        self.fits(1, 0)
    }

    /// The next entry is missing.
    pub(super) fn hole(&mut self) {
        self.missing += 1;
    }

    /// The next entry, as it stood in a frame of any segment.
    pub(super) fn entry(&mut self, found: &FrameHeader, payload: &[u8]) -> Result<()> {
        // Sequences ascend: a hole in front of everything is part of what comes first.
        if self.units.is_empty() {
            self.sequence = found.sequence;
        }
        self.write_hole()?;
        self.sequence = self.sequence.max(found.sequence);
        self.compressed |= found.is_compressed();
        let (index, length, sequence) = (self.next(), payload_length(payload), self.sequence);
        let header = FrameHeader { length, sequence, index, ..*found };
        self.units.push(in_units(self.position()));
        self.frame(&header, payload)
    }

    /// The next entry, from somewhere else; compressed or not.
    pub(super) fn refill(&mut self, payload: &[u8], flags: u8) -> Result<()> {
        let header = self.header_of(Kind::Entry, self.next() + self.missing);
        let flags = header.flags | flags;
        self.entry(&FrameHeader { sequence: self.sequence, flags, ..header }, payload)
    }

    /// The header of a frame that is a batch of its own, and durable before anything else is.
    fn header_of(&self, kind: Kind, index: u64) -> FrameHeader {
        let flags = Flags::FIRST | Flags::LAST;
        FrameHeader { length: 0, sequence: self.sequence, index, lag: 0, kind, flags }
    }

    fn write_hole(&mut self) -> Result<()> {
        while self.missing > 0 {
            let count = self.missing.min(SPAN_MAX);
            let payload = encode_hole(self.next() + count);
            let header = self.header_of(Kind::Hole, self.next());
            let header = FrameHeader { length: payload_length(&payload), ..header };
            let unit = in_units(self.position());
            self.units.resize(self.units.len() + to_usize(count), unit);
            self.missing -= count;
            self.holes = true;
            self.frame(&header, &payload)?;
        }
        Ok(())
    }

    fn frame(&mut self, header: &FrameHeader, payload: &[u8]) -> Result<()> {
        if self.position() == to_u64(SEGMENT_HEADER_BYTES) && self.header.previous_generation == 0 {
            self.header.first_sequence = header.sequence;
        }
        self.last_frame = self.position();
        encode_frame(&mut self.pending, &self.salt, self.last_frame, header, &[payload]);
        if self.pending.len() >= PIECE_BYTES { self.hand_over() } else { Ok(()) }
    }

    /// Writes what was collected.
    fn hand_over(&mut self) -> Result<()> {
        let limit = self.header.segment_bytes;
        let got = self.position() + footer_space(to_u64(self.units.len()));
        if got > limit {
            return Err(Error::TooLarge { what: "length of a rebuilt segment", got, limit });
        }
        self.write(self.written, &self.pending)?;
        self.written = self.position();
        self.pending.clear();
        Ok(())
    }

    fn write(&self, mut at: u64, bytes: &[u8]) -> Result<()> {
        for piece in bytes.chunks(PIECE_BYTES) {
            self.file.write_at(at, piece).map_err(|source| self.failed("write", source))?;
            at += to_u64(piece.len());
        }
        Ok(())
    }

    fn failed(&self, op: &'static str, source: std::io::Error) -> Error {
        self.dir.full_or_io(op, &self.temporary, self.header.segment_bytes, source)
    }

    /// Finishes the file with its offset table and footer.
    pub(super) fn seal(mut self, next_sequence: u64) -> Result<Ready> {
        self.write_hole()?;
        self.hand_over()?;
        let end = Seal {
            salt: &self.salt,
            base: self.header.base,
            units: &self.units,
            data_end: self.written,
            next_sequence,
            compressed: self.compressed,
            holes: self.holes,
        }
        .encode();
        self.write(self.header.segment_bytes - to_u64(end.len()), &end)?;
        self.finish()
    }

    /// Finishes the file, open at its end.
    pub(super) fn tail(mut self) -> Result<Ready> {
        self.write_hole()?;
        self.hand_over()?;
        self.finish()
    }

    fn finish(mut self) -> Result<Ready> {
        if self.header.first_sequence == 0 {
            self.header.first_sequence = self.sequence;
        }
        self.write(0, &self.header.encode())?;
        // Makes the bytes durable before their name replaces what was there. A crash before it
        // leaves an unfinished file that the next open removes.
        self.file
            .sync(0..self.header.segment_bytes, SyncMethod::Fsync)
            .map_err(|source| self.failed("sync", source))?;
        let name = SegmentName { number: self.header.number, base: self.header.base };
        let (temporary, end) = (std::mem::take(&mut self.temporary), self.written);
        let (generation, last_frame) = (self.header.generation, self.last_frame);
        Ok(Ready { temporary, name, end, last_frame, generation })
    }
}

impl Drop for Rebuilt {
    /// What was not finished is junk, which an open removes as well.
    fn drop(&mut self) {
        if !self.temporary.is_empty() {
            let _best_effort = self.dir.remove(&self.temporary);
        }
    }
}
