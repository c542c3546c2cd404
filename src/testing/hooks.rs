//! Inner parts of the engine for the fuzz targets. No API: they change with what they expose.

use std::ops::Range;

use crate::format::frame::{FrameHeader, Salt};
use crate::segment::walk::{self, Depth, Offsets, Part, Walk};

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
pub fn walk(bytes: &[u8], generation: u64, from: u64, whole: bool) -> Vec<Frame> {
    let salt = Salt::new(generation);
    let depth = if whole { Depth::Whole } else { Depth::Header };
    let mut walk = Walk::new(Part { bytes, start: 0 }, &salt, from, depth);
    std::iter::from_fn(|| walk.step().ok())
        .map(|found| Frame { offset: found.offset, header: found.header })
        .collect()
}

/// What a search for frames of a generation anywhere in `range` finds.
pub fn search(bytes: &[u8], generation: u64, range: Range<u64>) -> Findings {
    let found = walk::search(Part { bytes, start: 0 }, &Salt::new(generation), range, 1);
    let (durable, newest) = (found.durable, found.newest);
    Findings { durable, newest, end: found.end }
}

/// The offsets, in units of eight bytes, that the frames from the first byte on build up for a
/// segment that starts with entry `base`, and whether a frame stopped it that contradicts them.
pub fn offsets(bytes: &[u8], generation: u64, base: u64) -> (Vec<u32>, bool) {
    let salt = Salt::new(generation);
    let mut walk = Walk::new(Part { bytes, start: 0 }, &salt, 0, Depth::Whole);
    let mut offsets = Offsets::default();
    while let Ok(found) = walk.step() {
        if offsets.apply(base, &found).is_err() {
            return (offsets.units, true);
        }
    }
    (offsets.units, false)
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
