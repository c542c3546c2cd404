//! What `dump --json` prints: entries, frames, and places without one.

use indelible::inspect::FrameHeader;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Span, number};
use crate::text::hex;

/// An entry: its bytes in hexadecimal, and what they say with `--decode`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Entry {
    /// The group whose entry it is, with `--group`.
    group: Option<u64>,
    index: u64,
    bytes: u64,
    hex: String,
    decoded: Option<String>,
}

impl Entry {
    pub(crate) fn new(
        group: Option<u64>,
        index: u64,
        payload: &[u8],
        decoded: Option<String>,
    ) -> Self {
        Self { group, index, bytes: number(payload.len()), hex: hex(payload), decoded }
    }
}

/// A frame as it stands in a segment.
#[derive(Debug, Serialize, JsonSchema)]
#[expect(clippy::struct_excessive_bools, reason = "each is a field of the format")]
pub(crate) struct Frame {
    segment: String,
    offset: u64,
    kind: String,
    batch: u64,
    first: bool,
    last: bool,
    lag: u32,
    index: u64,
    length: u32,
    lz4: bool,
    /// Whether it is an entry that still counts.
    live: bool,
    hex: String,
}

impl Frame {
    pub(crate) fn new(
        segment: &str,
        offset: u64,
        header: &FrameHeader,
        payload: &[u8],
        live: bool,
    ) -> Self {
        Self {
            segment: segment.to_owned(),
            offset,
            kind: format!("{:?}", header.kind),
            batch: header.sequence,
            first: header.is_first(),
            last: header.is_last(),
            lag: header.lag.into(),
            index: header.index,
            length: header.length,
            lz4: header.is_compressed(),
            live,
            hex: hex(payload),
        }
    }
}

/// No sound frame.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Gap {
    /// The segment file; a pattern if it is not there.
    pub(crate) segment: String,
    /// The bytes; null for the whole file.
    pub(crate) bytes: Option<Span>,
    pub(crate) reason: String,
}
