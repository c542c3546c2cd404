//! Walking the frames of a segment in the order they were written.
//!
//! Owns: stepping from frame to frame, and searching for frames behind a place that cannot be
//! read. Does not own: what the records mean (`recovery`) or whether a stop is torn or damaged.

use std::io;
use std::ops::Range;

use super::FRAMES_START;
use crate::format::error::FrameError;
use crate::format::frame::{
    FRAME_ALIGN, FRAME_HEADER_BYTES, FRAME_KIND_OFFSET, FrameHeader, HOLE_PAYLOAD_BYTES, Kind,
    Salt, decode_frame, peek_header,
};
use crate::format::number::{to_u64, to_usize};
use crate::io::File;
use crate::planted::{Bug, planted};

/// How much of a frame a walk checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Header and header check: for bytes known to be durable, whose payload is checked when read.
    Header,
    /// Everything.
    Whole,
}

/// A frame that a walk came by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(crate) offset: u64,
    pub(crate) header: FrameHeader,
    pub(crate) payload: &'a [u8],
}

/// A part of a segment file: its bytes, and the offset of the first of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) start: u64,
}

impl<'a> Part<'a> {
    /// The bytes from an offset of the file on.
    pub(crate) fn from(&self, offset: usize) -> &'a [u8] {
        let start = to_usize(self.start);
        offset.checked_sub(start).and_then(|at| self.bytes.get(at..)).unwrap_or(&[])
    }

    fn end(&self) -> usize {
        to_usize(self.start).saturating_add(self.bytes.len())
    }
}

/// Steps through the frames of a part of a segment file.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    part: Part<'a>,
    salt: &'a Salt,
    position: usize,
    depth: Depth,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(part: Part<'a>, salt: &'a Salt, from: u64, depth: Depth) -> Self {
        Self { part, salt, position: to_usize(from), depth }
    }

    /// Where the next frame starts.
    pub(crate) fn position(&self) -> u64 {
        to_u64(self.position)
    }

    /// The next frame; the walk stays where it is if there is none.
    pub(crate) fn step(&mut self) -> Result<Found<'a>, FrameError> {
        let rest = self.part.from(self.position);
        let (header, payload) = match self.depth {
            Depth::Whole => {
                let (header, payload, _) = decode_frame(rest, self.salt)?;
                (header, payload)
            }
            Depth::Header => {
                let header = peek_header(rest, self.salt)?;
                let needed = header.frame_bytes();
                let frame = rest.get(..needed).ok_or(FrameError::Short { needed })?;
                let from = FRAME_HEADER_BYTES;
                let to = from + to_usize(u64::from(header.length));
                (header, frame.get(from..to).unwrap_or(&[]))
            }
        };
        let offset = self.position();
        self.position += header.frame_bytes();
        Ok(Found { offset, header, payload })
    }
}

/// Fewest and most bytes that [`Headers`] reads at a time: one page where frames are long, and few
/// enough to stay in the processor's cache where they are short.
const WINDOW_BYTES_MIN: u64 = 4 * 1024;
const WINDOW_BYTES_MAX: u64 = 64 * 1024;

/// Steps through the frames of a segment file up to `end`, reading little else than their headers. As
/// with [`Depth::Header`], payloads are not checked, and none is shown but the beginning of one, which
/// is all of a hole's.
#[derive(Debug)]
pub(crate) struct Headers<'a> {
    file: &'a dyn File,
    salt: &'a Salt,
    end: u64,
    position: u64,
    window: Vec<u8>,
    /// Offset in the file of the window.
    start: u64,
}

impl<'a> Headers<'a> {
    pub(crate) fn new(file: &'a dyn File, salt: &'a Salt, end: u64) -> Self {
        let (position, start) = (FRAMES_START, FRAMES_START);
        Self { file, salt, end, position, window: Vec::new(), start }
    }

    /// Where the next frame starts.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next frame; it stays where it is if there is none.
    pub(crate) fn step(&mut self) -> io::Result<Result<Found<'_>, FrameError>> {
        let shown = to_u64(FRAME_HEADER_BYTES + HOLE_PAYLOAD_BYTES);
        let window_end = self.start + to_u64(self.window.len());
        if self.position + shown > window_end && window_end < self.end {
            let is_near = self.position <= window_end;
            let longer = to_u64(self.window.len() * 2).clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX);
            let length = if is_near { longer } else { WINDOW_BYTES_MIN };
            self.start = self.position;
            self.window.resize(to_usize(length.min(self.end.saturating_sub(self.start))), 0);
            self.file.read_at(self.start, &mut self.window)?;
        }
        let rest = Part { bytes: &self.window, start: self.start }.from(to_usize(self.position));
        Ok(peek_header(rest, self.salt).and_then(|header| {
            let (offset, needed) = (self.position, header.frame_bytes());
            if offset + to_u64(needed) > self.end {
                return Err(FrameError::Short { needed });
            }
            self.position += to_u64(needed);
            let length = to_usize(u64::from(header.length)).min(HOLE_PAYLOAD_BYTES);
            let payload = rest.get(FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + length);
            Ok(Found { offset, header, payload: payload.unwrap_or(&[]) })
        }))
    }
}

/// What a search behind an unreadable place found.
///
/// A header that passed its check is evidence whatever became of its payload. The check is 32 bits
/// over fields that chance would have to make sense as well: kind and flags leave one header in
/// 1 024, a number as near as [`AHEAD_MAX`] one in four billion. Garbage at one place is taken for a
/// header with a probability of 2^-74.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Evidence {
    /// The newest batch that any header found there states to have been durable.
    pub(crate) durable: u64,
    /// The newest batch that any header found there belongs to or speaks of. No batch may have this
    /// number again: bytes that are written later could complete its frames.
    pub(crate) newest: u64,
    /// Exclusive end of the last frame found, whether its payload is whole or not.
    pub(crate) end: u64,
}

impl Evidence {
    /// Both findings together.
    pub(crate) fn merge(self, other: Self) -> Self {
        Self {
            durable: self.durable.max(other.durable),
            newest: self.newest.max(other.newest),
            end: self.end.max(other.end),
        }
    }

    /// What the header of a frame at `offset` states, if it can be of a batch from `expected` on.
    pub(crate) fn of(header: &FrameHeader, offset: u64, expected: u64) -> Self {
        let ahead = header.sequence.checked_sub(expected);
        if ahead.is_none_or(|ahead| ahead >= AHEAD_MAX) {
            return Self::default();
        }
        let durable = if planted(Bug::WatermarkIgnored) { 0 } else { header.durable_sequence() };
        let is_witness = header.kind == Kind::Witness;
        let end = if is_witness { 0 } else { offset + to_u64(header.frame_bytes()) };
        Self { durable, newest: header.sequence, end }
    }
}

/// No log writes as many batches behind the last whole one.
const AHEAD_MAX: u64 = 1 << 32;

/// Looks for headers of frames of this generation anywhere in `range`, at every place one could
/// start; `expected` is the batch that would come next. One look at each place, however long the
/// frames say that they are: hostile bytes cost no more than others.
pub(crate) fn search(part: Part<'_>, salt: &Salt, range: Range<u64>, expected: u64) -> Evidence {
    let mut evidence = Evidence::default();
    let end = to_usize(range.end).min(part.end());
    let mut at = to_usize(range.start).next_multiple_of(FRAME_ALIGN);
    while at < end {
        let rest = part.from(at);
        // Most places hold zeros: one look at where a kind would be passes over them.
        let kind = rest.get(FRAME_KIND_OFFSET).copied().unwrap_or(0);
        if Kind::from_number(kind).is_some()
            && let Ok(header) = peek_header(rest, salt)
        {
            evidence = evidence.merge(Evidence::of(&header, to_u64(at), expected));
        }
        at += FRAME_ALIGN;
    }
    evidence
}
