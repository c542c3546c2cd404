//! Inner parts of the engine for the fuzz targets. No API: they change with what they expose.

use std::ops::Range;

use crate::format::frame::{FrameHeader, Salt};
use crate::segment::offsets::Offsets;
use crate::segment::walk::{self, Part, Policy, Walk};

/// A frame that a walk came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Frame {
    /// Where it starts.
    pub offset: u64,
    /// What it says.
    pub header: FrameHeader,
}

/// What a search found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Findings {
    /// The newest batch that a frame states to have been durable.
    pub durable: u64,
    /// The newest batch of a frame.
    pub newest: u64,
    /// Exclusive end of the last frame; 0 if there is none.
    pub end: u64,
}

/// The frames of a generation that follow each other from `from` on; `whole` checks payloads.
pub fn walk<'a>(
    bytes: &'a [u8],
    salt: &'a Salt,
    from: u64,
    whole: bool,
) -> impl Iterator<Item = Frame> + use<'a> {
    let policy = if whole { Policy::Strict } else { Policy::Headers };
    let mut walk = Walk::new(Part { bytes, start: 0 }, salt, from, policy);
    std::iter::from_fn(move || walk.step().ok())
        .map(|found| Frame { offset: found.offset, header: found.header })
}

/// What a search for frames of a generation anywhere in `range` finds.
pub fn search(bytes: &[u8], salt: &Salt, range: Range<u64>) -> Findings {
    let found = walk::search(Part { bytes, start: 0 }, salt, range, 1);
    let (durable, newest) = (found.durable, found.newest);
    Findings { durable, newest, end: found.end }
}

/// What one walk from the first byte on comes by and builds up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Scan {
    /// Its frames, payloads checked.
    pub frames: Vec<Frame>,
    /// The offsets of the entries, in units of eight bytes.
    pub units: Vec<u32>,
    /// A frame contradicted the offsets; what follows it was not added to them.
    pub contradicted: bool,
}

/// Walks over the frames of a segment whose first entry is `base`.
pub fn scan(bytes: &[u8], salt: &Salt, base: u64) -> Scan {
    let mut walk = Walk::new(Part { bytes, start: 0 }, salt, 0, Policy::Strict);
    let (mut frames, mut contradicted) = (Vec::new(), false);
    let mut offsets = Offsets::default();
    while let Ok(found) = walk.step() {
        frames.push(Frame { offset: found.offset, header: found.header });
        contradicted = contradicted || offsets.apply(base, &found).is_err();
    }
    Scan { frames, units: offsets.units.all().unwrap_or_default().to_vec(), contradicted }
}

/// A value that the `OmniPaxos` adapter keeps in a state cell.
#[cfg(feature = "omnipaxos")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OmniValue {
    /// A ballot.
    Ballot,
    /// An index.
    Index,
    /// A stop sign.
    StopSign,
}

/// Decodes a value and encodes it again; `None` if the bytes are refused.
#[cfg(feature = "omnipaxos")]
pub fn omnipaxos_again(value: OmniValue, bytes: &[u8]) -> Option<Vec<u8>> {
    crate::adapters::omnipaxos::encoded_again(value, bytes)
}
