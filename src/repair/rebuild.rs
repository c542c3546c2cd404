//! Building a segment file anew: the entries that are left, and Holes where some are missing.
//!
//! Owns: the bytes of such a file. Does not own: which entries are left (`inspect::survey`), or
//! putting the file in its place.

use crate::error::{Error, Result};
use crate::format::frame::{
    Flags, FrameHeader, Kind, Salt, decode_frame, encode_frame, encode_hole, payload_length,
    read_header_unchecked,
};
use crate::format::header::SEGMENT_HEADER_BYTES;
use crate::format::number::{to_u64, to_usize};
use crate::format::{SegmentHeader, SegmentName};
use crate::segment::tail::{Seal, footer_space};
use crate::segment::{OFFSET_UNIT, in_units};

/// Most entries one Hole frame may stand for.
const HOLE_SPAN_MAX: u64 = crate::options::SEGMENT_BYTES_MAX / 32;

/// A segment under construction.
#[derive(Debug)]
pub(super) struct Rebuilt {
    header: SegmentHeader,
    salt: Salt,
    bytes: Vec<u8>,
    units: Vec<u32>,
    /// Missing entries that no frame stands for yet.
    missing: u64,
    sequence: u64,
    compressed: bool,
    holes: bool,
}

impl Rebuilt {
    /// An empty segment. A first sequence of zero is not known: it will be that of the first frame.
    pub(super) fn new(header: SegmentHeader) -> Self {
        let bytes = vec![0; SEGMENT_HEADER_BYTES];
        let sequence = header.first_sequence.max(1);
        Self {
            salt: Salt::new(header.generation),
            header,
            bytes,
            units: Vec::new(),
            missing: 0,
            sequence,
            compressed: false,
            holes: false,
        }
    }

    fn next(&self) -> u64 {
        self.header.base + to_u64(self.units.len())
    }

    /// The next entry is missing.
    pub(super) fn hole(&mut self) {
        self.missing += 1;
    }

    /// The next entry, as it stood in a frame of any segment.
    pub(super) fn entry(&mut self, found: &FrameHeader, payload: &[u8]) {
        // Sequences ascend: a hole in front of everything is part of what comes first.
        if self.units.is_empty() {
            self.sequence = found.sequence;
        }
        self.write_hole();
        self.sequence = found.sequence;
        self.compressed |= found.is_compressed();
        let header = FrameHeader { index: self.next(), length: payload_length(payload), ..*found };
        self.units.push(in_units(to_u64(self.bytes.len())));
        encode_frame(&mut self.bytes, &self.salt, &header, &[payload]);
    }

    /// The next entry, from somewhere else.
    pub(super) fn refill(&mut self, payload: &[u8]) {
        let header = self.frame(Kind::Entry, self.next() + self.missing);
        self.entry(&FrameHeader { sequence: self.sequence, ..header }, payload);
    }

    /// A frame that is a batch of its own, and durable before anything else is.
    fn frame(&self, kind: Kind, index: u64) -> FrameHeader {
        let flags = Flags::FIRST | Flags::LAST;
        FrameHeader { length: 0, sequence: self.sequence, index, lag: 0, kind, flags }
    }

    fn write_hole(&mut self) {
        while self.missing > 0 {
            let count = self.missing.min(HOLE_SPAN_MAX);
            let payload = encode_hole(self.next() + count);
            let header = self.frame(Kind::Hole, self.next());
            let header = FrameHeader { length: payload_length(&payload), ..header };
            let unit = in_units(to_u64(self.bytes.len()));
            encode_frame(&mut self.bytes, &self.salt, &header, &[&payload]);
            self.units.resize(self.units.len() + to_usize(count), unit);
            self.missing -= count;
            self.holes = true;
        }
    }

    /// The name of the file.
    pub(super) fn name(&self) -> SegmentName {
        SegmentName { number: self.header.number, base: self.header.base }
    }

    /// The whole file, with its offset table and footer.
    pub(super) fn seal(self, next_sequence: u64) -> Result<Vec<u8>> {
        let this = self.finish()?;
        let end = Seal {
            salt: &this.salt,
            base: this.header.base,
            units: &this.units,
            data_end: to_u64(this.bytes.len()),
            next_sequence,
            compressed: this.compressed,
            holes: this.holes,
        }
        .encode();
        let start = to_usize(this.header.segment_bytes).saturating_sub(end.len());
        let mut bytes = this.bytes;
        bytes.resize(start, 0);
        bytes.extend_from_slice(&end);
        Ok(bytes)
    }

    /// The whole file, open at its end, and where that is.
    pub(super) fn tail(self) -> Result<(Vec<u8>, u64)> {
        let this = self.finish()?;
        let end = to_u64(this.bytes.len());
        let mut bytes = this.bytes;
        bytes.resize(to_usize(this.header.segment_bytes), 0);
        Ok((bytes, end))
    }

    /// The last frames, and the header in front of all; compressed if it does not fit otherwise.
    fn finish(mut self) -> Result<Self> {
        self.write_hole();
        let limit = self.header.segment_bytes;
        if self.sealed_bytes() > limit {
            self = self.squeezed();
        }
        let got = self.sealed_bytes();
        if got > limit {
            return Err(Error::TooLarge { what: "length of a rebuilt segment", got, limit });
        }
        if self.header.first_sequence == 0 {
            let first = self.bytes.get(SEGMENT_HEADER_BYTES..).and_then(read_header_unchecked);
            self.header.first_sequence = first.map_or(self.sequence, |found| found.sequence);
        }
        for (to, from) in self.bytes.iter_mut().zip(self.header.encode()) {
            *to = from;
        }
        Ok(self)
    }

    /// What it takes with its table and footer; a tail can be sealed where it ends.
    fn sealed_bytes(&self) -> u64 {
        to_u64(self.bytes.len()) + footer_space(to_u64(self.units.len()))
    }

    /// The same entries, compressed where that makes them smaller: what a peer gives may have been
    /// stored compressed here.
    fn squeezed(self) -> Self {
        let mut out = Self::new(self.header);
        for &unit in &self.units {
            let offset = to_usize(u64::from(unit) * OFFSET_UNIT);
            let rest = self.bytes.get(offset..).unwrap_or(&[]);
            match decode_frame(rest, &self.salt) {
                Ok((header, payload, _)) if header.kind == Kind::Entry => {
                    match (header.is_compressed(), crate::compress::compress(payload)) {
                        (false, Some(packed)) => {
                            let flags = header.flags | Flags::LZ4;
                            out.entry(&FrameHeader { flags, ..header }, &packed);
                        }
                        _ => out.entry(&header, payload),
                    }
                }
                _ => out.hole(),
            }
        }
        out.write_hole();
        out
    }
}
