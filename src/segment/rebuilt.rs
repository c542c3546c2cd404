//! The offset table of a sealed segment whose footer is unreadable, from its frames.
//!
//! Owns: where those frames end. Does not own: past what damage they are read (`inspect::survey`).
//!
//! INV-8: frames of a batch that was dropped may stand after the last one, and their numbers are
//! higher. The header of the next segment states the end. Without it the frames may end wherever
//! they have given all entries that count; an entry that two such ends give to two frames is damaged.
//!
//! A frame whose header is lost ends the walk. It may have been a truncation: then frames after it,
//! lost as well, stand for the entries from there on. So of the entries before it only those are
//! certain that so few frames cannot have replaced.

use std::sync::atomic::Ordering;

use super::offsets::Offsets;
use super::walk::{Found, Headers};
use super::{FRAMES_START, Opened, Segment};
use crate::error::{Damage, Error, Result};
use crate::format::frame::FRAME_HEADER_BYTES;
use crate::format::kind::Effect;
use crate::format::number::{to_u64, to_usize};
use crate::format::{FileName, SegmentHeader};

/// A table in memory.
#[derive(Debug)]
pub(super) struct Rebuilt {
    pub(super) units: Vec<u32>,
    /// Where the walk ended, and how.
    stop: (u64, Damage),
    /// How many entries no frame after that can have replaced.
    certain: u64,
    /// The first entry, counted from the base, whose frame is not certain, and where that shows.
    doubt: Option<(u64, u64)>,
    /// What the read of the footer failed with. It may be there the next time: entries that the frames
    /// leave in doubt are not damaged then.
    pub(super) footer: Option<Error>,
}

impl Rebuilt {
    /// From the frames. `live_end` is the end of the entries that count here: they had so many.
    pub(super) fn of(
        segment: &Segment,
        opened: &Opened,
        live_end: u64,
        footer: Option<Error>,
    ) -> Result<Self> {
        let end = segment.stated_end(opened.salt.generation())?.filter(|end| *end <= segment.bytes);
        let limit = end.unwrap_or(segment.bytes);
        let mut headers = Headers::new(&*opened.file, &opened.salt, limit);
        let base = segment.name.base;
        let mut doubt = Doubt::new(base, end.map_or(live_end, |_| u64::MAX));
        let mut offsets = Offsets::default();
        let mut newest = 0;
        let reason = loop {
            match headers.step().map_err(segment.io("read"))? {
                // Of a batch that was dropped before, as what the last one did not overwrite.
                Ok(Found { header, .. }) if header.sequence < newest => {
                    let (field, expected, got) = ("batch sequence", newest, header.sequence);
                    break Damage::Field { field, expected, got };
                }
                Ok(found) => {
                    newest = found.header.sequence;
                    let next = base.saturating_add(to_u64(offsets.units.len()));
                    match offsets.apply(base, &found) {
                        Ok(effect) => doubt.frame(found.offset, &effect, next),
                        Err(reason) => break reason,
                    }
                }
                Err(error) => break error.damage(),
            }
        };
        segment.compressed.store(offsets.compressed, Ordering::Relaxed);
        segment.holes.store(offsets.holes, Ordering::Relaxed);
        let units = offsets.units.all().unwrap_or_default().to_vec();
        let doubt = doubt.from.map(|(index, offset)| (index - base, offset));
        let (stop, live) = (headers.position(), live_end.saturating_sub(base));
        // Where nothing states the end, frames that gave all that counts may have ended there.
        let lost = if end.is_some() || to_u64(units.len()) < live {
            limit.saturating_sub(stop) / to_u64(FRAME_HEADER_BYTES)
        } else {
            0
        };
        let certain = if lost == 0 { u64::MAX } else { live.saturating_sub(lost) };
        Ok(Self { units, stop: (stop, reason), certain, doubt, footer })
    }

    /// The offset of an entry, in units.
    pub(super) fn unit(&self, nth: u64) -> Option<u32> {
        let certain = self.doubt.is_none_or(|(from, _)| nth < from) && nth < self.certain;
        self.units.get(to_usize(nth)).copied().filter(|_| certain)
    }

    /// How many entries there are, if no frame that may not count would replace one.
    pub(super) fn entries(&self) -> Option<u64> {
        let known = to_u64(self.units.len());
        (self.doubt.is_none() && known <= self.certain).then_some(known)
    }

    /// Where the frames end.
    pub(super) fn end(&self) -> u64 {
        self.stop.0
    }

    /// From where on entries are unknown, counted from the base, and where and why that is so.
    pub(super) fn unknown(&self) -> (u64, u64, Damage) {
        let known = to_u64(self.units.len()).min(self.certain);
        match self.doubt {
            Some((from, offset)) if from <= known => (from, offset, Damage::UnknownEnd),
            _ => (known, self.stop.0, self.stop.1.clone()),
        }
    }
}

/// From which entry on frames are in doubt, where no segment states their end.
#[derive(Debug)]
pub(crate) struct Doubt {
    base: u64,
    /// End of the entries that the frames had; `u64::MAX` if their end is known.
    live_end: u64,
    /// The frames may have ended before this one.
    may_have_ended: bool,
    /// The first entry, and the frame that may not count and would replace it.
    pub(crate) from: Option<(u64, u64)>,
}

impl Doubt {
    pub(crate) fn new(base: u64, live_end: u64) -> Self {
        Self { base, live_end, may_have_ended: false, from: None }
    }

    /// Takes note of a frame, before which entries end at `next`.
    pub(crate) fn frame(&mut self, offset: u64, effect: &Effect<'_>, next: u64) {
        let cut = effect.cut().map_or(next, |cut| cut.max(self.base));
        self.may_have_ended |= next >= self.live_end;
        if self.may_have_ended && cut < next && self.from.is_none_or(|(from, _)| cut < from) {
            self.from = Some((cut, offset));
        }
    }
}

impl Segment {
    /// Where the frames of this segment end, as the header of the next one states it; nothing if no
    /// file has such a header, or if several do not agree.
    pub(crate) fn stated_end(&self, generation: u64) -> Result<Option<u64>> {
        let mut ends = Vec::new();
        for entry in self.dir.list()? {
            let FileName::Segment(name) = FileName::classify(&entry.name) else { continue };
            if Some(name.number) != self.name.number.checked_add(1) || entry.bytes != self.bytes {
                continue;
            }
            let next = Self::sealed(&self.dir, self.uuid, name, self.bytes);
            let header = match next.read_header() {
                Err(error) if error.is_not_found() => continue,
                Err(error @ (Error::Io { .. } | Error::Exhausted { .. })) => return Err(error),
                Err(_unreadable) => continue,
                Ok(header) => header,
            };
            if header.previous_generation == generation && header.previous_end >= FRAMES_START {
                ends.push(header.previous_end);
            }
        }
        ends.dedup();
        Ok(if let [end] = ends[..] { Some(end) } else { None })
    }

    /// The header, read from the file.
    pub(crate) fn read_header(&self) -> Result<SegmentHeader> {
        let header = self.dir.segment_header(&self.name.to_string())?;
        let header = header.map_err(|error| error.into_error(self.path(), 0))?;
        self.compare(&header)?;
        Ok(header)
    }
}
