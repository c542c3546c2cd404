//! Walking the frames of a segment in the order they were written.
//!
//! Owns: stepping from frame to frame, past damage or up to it, and searching for headers after a
//! place that cannot be read. Does not own: what a frame does (`format::kind`) or whether a stop is
//! torn or damaged (`recovery`).

use std::io;
use std::ops::Range;

use super::FRAMES_START;
use crate::error::Damage;
use crate::format::error::FrameError;
use crate::format::frame::{
    FRAME_ALIGN, FRAME_HEADER_BYTES, FRAME_KIND_OFFSET, FrameHeader, HOLE_PAYLOAD_BYTES, Salt,
    decode_frame, peek_header, read_header_unchecked,
};
use crate::format::kind::{Effect, Kind};
use crate::format::number::{to_u64, to_usize};
use crate::io::File;
use crate::planted::{Bug, planted};

/// How a walk takes what it comes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// Frames are checked with their payload. Ends where no sound frame stands.
    Strict,
    /// Headers and their check only: for bytes known to be durable, whose payload is checked when it
    /// is read. Ends as `Strict` does.
    Headers,
    /// Nothing: for frames that another walk checked. Ends where no frame fits.
    Known,
}

/// A frame that a walk came by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(crate) offset: u64,
    pub(crate) header: FrameHeader,
    /// What of the payload is at hand: all of it, where the walk checked it.
    pub(crate) payload: &'a [u8],
}

impl<'a> Found<'a> {
    /// What the frame does.
    pub(crate) fn effect(&self) -> Result<Effect<'a>, Damage> {
        Effect::of(&self.header, self.payload)
    }

    /// The same frame in the bytes that the walk was over, for as long as those last.
    #[cfg(feature = "tools")]
    pub(crate) fn within<'b>(&self, part: Part<'b>) -> Found<'b> {
        let rest = part.from(to_usize(self.offset) + FRAME_HEADER_BYTES);
        let payload = rest.get(..self.payload.len()).unwrap_or(&[]);
        Found { offset: self.offset, header: self.header, payload }
    }

    /// Where the frame ends.
    #[cfg(feature = "tools")]
    pub(crate) fn end(&self) -> u64 {
        self.offset.saturating_add(to_u64(self.header.frame_bytes()))
    }
}

/// What stands at a place where a frame may be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step<'a> {
    /// A sound frame.
    Frame(Found<'a>),
    /// Bytes that are no sound frame, up to the next one; `header` if at least that is sound.
    Gap { offset: u64, end: u64, header: Option<FrameHeader>, reason: FrameError },
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

    /// The bytes before an offset of the file.
    pub(crate) fn up_to(self, offset: u64) -> Self {
        let length = to_usize(offset.saturating_sub(self.start));
        Self { bytes: self.bytes.get(..length).unwrap_or(self.bytes), ..self }
    }

    fn end(&self) -> usize {
        to_usize(self.start).saturating_add(self.bytes.len())
    }
}

/// Walks over the frames of a part of a segment file, in the order in which they were written. The
/// only way there is to get from one frame to the next.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    part: Part<'a>,
    salt: &'a Salt,
    position: usize,
    /// No frame goes further than this, however far the bytes at hand go.
    end: usize,
    policy: Policy,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(part: Part<'a>, salt: &'a Salt, from: u64, policy: Policy) -> Self {
        Self { part, salt, position: to_usize(from), end: part.end(), policy }
    }

    /// Where the next frame starts.
    pub(crate) fn position(&self) -> u64 {
        to_u64(self.position)
    }

    /// The next frame; the walk stays where it is if there is none.
    pub(crate) fn step(&mut self) -> Result<Found<'a>, FrameError> {
        let rest = self.part.from(self.position);
        let (header, payload) = if self.policy == Policy::Strict {
            let (header, payload, _) = decode_frame(rest, self.salt, self.position())?;
            (header, payload)
        } else {
            let header = if self.policy == Policy::Headers {
                peek_header(rest, self.salt, self.position())?
            } else {
                let short = FrameError::Short { needed: FRAME_HEADER_BYTES };
                read_header_unchecked(rest).ok_or(short)?
            };
            let needed = header.frame_bytes();
            if needed > self.end.saturating_sub(self.position) {
                return Err(FrameError::Short { needed });
            }
            let payload = rest.get(FRAME_HEADER_BYTES..).unwrap_or(&[]);
            let length = to_usize(u64::from(header.length)).min(payload.len());
            (header, payload.get(..length).unwrap_or(&[]))
        };
        let offset = self.position();
        self.position += header.frame_bytes();
        Ok(Found { offset, header, payload })
    }
}

/// The bytes of a segment file, at hand or to be read.
pub(crate) trait Source {
    /// Those from an offset on: at least `needed` of them, if there are as many.
    fn at(&mut self, offset: usize, needed: usize) -> &[u8];

    /// The offset where they end.
    fn end(&self) -> usize;
}

impl Source for Part<'_> {
    fn at(&mut self, offset: usize, _needed: usize) -> &[u8] {
        self.from(offset)
    }

    fn end(&self) -> usize {
        Part::end(self)
    }
}

impl<S: Source> Source for &mut S {
    fn at(&mut self, offset: usize, needed: usize) -> &[u8] {
        (**self).at(offset, needed)
    }

    fn end(&self) -> usize {
        (**self).end()
    }
}

/// How often the bytes of a part may be checked, all of them, for frames that then are none. Frames
/// that a log wrote stand one after the other, so no byte is checked for two of them; only hostile ones
/// lie in each other. Where these would cost more, the rest counts as a gap.
const CHECKED_FOR_NOTHING_MAX: usize = 2;

/// Walks over the frames of a segment file, their payload checked, and over what is none between them.
#[derive(Debug)]
pub(crate) struct Gaps<'a, S> {
    source: S,
    salt: &'a Salt,
    position: usize,
    end: usize,
    exact: bool,
    /// How many more bytes may be checked for nothing.
    allowance: usize,
}

/// A walk past gaps, from the start of a range. It ends where no frame follows, and at the end of the
/// range at the latest; with `exact` there, for everything before that is known to be frames.
pub(crate) fn past_gaps<S: Source>(
    source: S,
    salt: &Salt,
    range: Range<u64>,
    exact: bool,
) -> Gaps<'_, S> {
    let (position, end) = (to_usize(range.start), to_usize(range.end).min(source.end()));
    let allowance = end.saturating_sub(position).saturating_mul(CHECKED_FOR_NOTHING_MAX);
    Gaps { source, salt, position, end, exact, allowance }
}

impl<S: Source> Gaps<'_, S> {
    /// What stands here; nothing at the end.
    pub(crate) fn step(&mut self) -> Option<Step<'_>> {
        let at = self.position;
        if at >= self.end {
            return None;
        }
        match self.frame(at) {
            Ok(header) => {
                self.position += header.frame_bytes();
                let length = to_usize(u64::from(header.length));
                let payload = self.rest(at + FRAME_HEADER_BYTES, length);
                let payload = payload.get(..length).unwrap_or(&[]);
                Some(Step::Frame(Found { offset: to_u64(at), header, payload }))
            }
            Err(reason) => self.gap(reason),
        }
    }

    /// The bytes from an offset on, no further than the walk goes.
    fn rest(&mut self, at: usize, needed: usize) -> &[u8] {
        let room = self.end.saturating_sub(at);
        let bytes = self.source.at(at, needed.min(room));
        bytes.get(..room).unwrap_or(bytes)
    }

    fn frame(&mut self, at: usize) -> Result<FrameHeader, FrameError> {
        let (salt, room) = (self.salt, self.end.saturating_sub(at));
        let mut decode = |needed| {
            decode_frame(self.rest(at, needed), salt, to_u64(at)).map(|(header, ..)| header)
        };
        match decode(FRAME_HEADER_BYTES) {
            Err(FrameError::Short { needed }) if needed <= room => decode(needed),
            decoded => decoded,
        }
    }

    /// What is no frame, for this reason, up to the next frame. A sound header says how long it is, if
    /// a frame follows there.
    fn gap(&mut self, reason: FrameError) -> Option<Step<'static>> {
        let (at, to, exact) = (self.position, self.end, self.exact);
        let (offset, salt) = (to_u64(at), self.salt);
        if let Ok(header) = peek_header(self.rest(at, FRAME_HEADER_BYTES), salt, offset) {
            if matches!(reason, FrameError::Checksum { .. }) {
                let Some(left) = self.allowance.checked_sub(header.frame_bytes()) else {
                    self.position = to;
                    let end = to_u64(to);
                    return exact.then_some(Step::Gap { offset, end, header: None, reason });
                };
                self.allowance = left;
            }
            let end = at.saturating_add(header.frame_bytes());
            if end <= to && (exact && end == to || self.begins_at(end)) {
                self.position = end;
                return Some(Step::Gap { offset, end: to_u64(end), header: Some(header), reason });
            }
        }
        let mut end = (at + 1).next_multiple_of(FRAME_ALIGN);
        while end < to && !self.begins_at(end) {
            end += FRAME_ALIGN;
        }
        self.position = end.min(to);
        let is_last = end >= to && !exact;
        (!is_last).then(|| Step::Gap { offset, end: self.position(), header: None, reason })
    }

    /// Whether the header of a frame that fits stands here.
    fn begins_at(&mut self, at: usize) -> bool {
        let (salt, room) = (self.salt, self.end.saturating_sub(at));
        peek_header(self.rest(at, FRAME_HEADER_BYTES), salt, to_u64(at))
            .is_ok_and(|header| !header.is_witness() && header.frame_bytes() <= room)
    }

    fn position(&self) -> u64 {
        to_u64(self.position)
    }
}

/// Fewest and most bytes that [`Headers`] reads at a time: one page where frames are long, and few
/// enough to stay in the processor's cache where they are short.
const WINDOW_BYTES_MIN: u64 = 4 * 1024;
const WINDOW_BYTES_MAX: u64 = 64 * 1024;

/// A walk over the headers of a segment file up to `end`, which reads little else than them: of a
/// payload no more is shown than its beginning, which is all of a hole's.
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
        let part = Part { bytes: &self.window, start: self.start };
        let mut walk = Walk::new(part, self.salt, self.position, Policy::Headers);
        walk.end = to_usize(self.end);
        let found = walk.step();
        self.position = walk.position();
        Ok(found)
    }
}

/// What a search after an unreadable place found.
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
        let end = if header.is_witness() { 0 } else { offset + to_u64(header.frame_bytes()) };
        Self { durable, newest: header.sequence, end }
    }
}

/// No log writes as many batches after the last whole one.
const AHEAD_MAX: u64 = 1 << 32;

/// Bytes that a search passes over at once if all of them are zero.
const QUIET_BYTES: usize = 512;

/// The next place where a frame may start after one after which so many bytes are zero: no kind is.
const QUIET_STEP: usize = (QUIET_BYTES - FRAME_KIND_OFFSET) / FRAME_ALIGN * FRAME_ALIGN;

/// Whether every byte is zero, some at a time.
pub(crate) fn is_quiet(bytes: &[u8]) -> bool {
    bytes.chunks(64).all(|some| some.iter().fold(0, |all, byte| all | byte) == 0)
}

/// Looks for headers of frames of this generation anywhere in `range`, at every place one could
/// start; `expected` is the batch that would come next. One look at each place, however long the
/// frames say that they are: hostile bytes cost no more than others.
pub(crate) fn search(part: Part<'_>, salt: &Salt, range: Range<u64>, expected: u64) -> Evidence {
    let mut evidence = Evidence::default();
    let end = to_usize(range.end).min(part.end());
    let mut at = to_usize(range.start).next_multiple_of(FRAME_ALIGN);
    while at < end {
        let rest = part.from(at);
        // Most places hold zeros.
        if rest.first_chunk::<QUIET_BYTES>().is_some_and(|bytes| is_quiet(bytes)) {
            at += QUIET_STEP;
            continue;
        }
        let kind = rest.get(FRAME_KIND_OFFSET).copied().unwrap_or(0);
        if Kind::from_number(kind).is_some()
            && let Ok(header) = peek_header(rest, salt, to_u64(at))
        {
            evidence = evidence.merge(Evidence::of(&header, to_u64(at), expected));
        }
        at += FRAME_ALIGN;
    }
    evidence
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::frame::{Flags, encode_frame};

    /// Headers that are sound and lie in each other, each of a frame that goes to the end.
    fn nested(salt: &Salt, bytes: usize) -> Vec<u8> {
        let mut all = vec![0; bytes];
        for at in (0..bytes - FRAME_HEADER_BYTES).step_by(FRAME_HEADER_BYTES) {
            let payload = vec![0; bytes - at - FRAME_HEADER_BYTES];
            let (length, flags) = (u32::try_from(payload.len()).unwrap_or(0), Flags::FIRST);
            let header =
                FrameHeader { length, sequence: 1, index: 0, lag: 0, kind: Kind::Entry, flags };
            let mut frame = Vec::new();
            encode_frame(&mut frame, salt, to_u64(at), &header, &[&payload]);
            frame.truncate(FRAME_HEADER_BYTES);
            all.splice(at..at + FRAME_HEADER_BYTES, frame);
        }
        all
    }

    #[test]
    fn frames_in_each_other_cost_no_more_than_others() {
        let salt = Salt::new(7);
        let bytes = nested(&salt, 16 * 1024);
        for exact in [true, false] {
            let range = 0..to_u64(bytes.len());
            let part = Part { bytes: &bytes, start: 0 };
            let mut walk = past_gaps(part, &salt, range.clone(), exact);
            let (mut steps, mut last) = (0, 0);
            while let Some(step) = walk.step() {
                last = match step {
                    Step::Gap { end, .. } => end,
                    Step::Frame(found) => found.end(),
                };
                steps += 1;
            }
            assert!(steps <= CHECKED_FOR_NOTHING_MAX + 2, "{steps} steps");
            assert!(!exact || last == range.end, "{last}");
        }
    }
}
