//! The segment header: who a segment is (docs/FORMAT.md, "Segment header").
//!
//! Owns: the first block of a segment file. Written once, when the file becomes a segment, and
//! never changed after. Does not own: the frames after it (`frame`) nor the footer (`footer`).

use byteorder::{ByteOrder, LittleEndian};

use super::error::StructureError;
use super::{
    BLOCK_BYTES, VERSION, check_checksum, check_features, check_offset, check_segment_bytes,
    check_version, checksum_around, start,
};

/// Bytes that the header takes: frames start here.
pub const SEGMENT_HEADER_BYTES: usize = BLOCK_BYTES;
/// Bytes of the header that are used; the rest of its block is zero.
pub const SEGMENT_HEADER_USED_BYTES: usize = 128;
/// The first bytes of every segment.
pub const SEGMENT_MAGIC: [u8; 8] = *b"INDLSEGM";

/// What [`SegmentHeader::replaces`] says where nobody could read what stood there before.
pub const REPLACES_UNKNOWN: u64 = u64::MAX;

const STRUCTURE: &str = "segment header";
const RESERVED_OFFSET: usize = 112;

const _: () = assert!(SEGMENT_HEADER_USED_BYTES <= SEGMENT_HEADER_BYTES);
const _: () = assert!(RESERVED_OFFSET + 16 == SEGMENT_HEADER_USED_BYTES);

/// What a segment states about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SegmentHeader {
    /// The log that the segment belongs to.
    pub uuid: [u8; 16],
    /// Its number, ascending in the order of writing.
    pub number: u64,
    /// Index of its first entry; never changes.
    pub base: u64,
    /// Random number of this use of the file; salts every checksum in it.
    pub generation: u64,
    /// Sequence of the batch that its first frame belongs to.
    pub first_sequence: u64,
    /// Generation of the segment before it; 0 if there was none.
    pub previous_generation: u64,
    /// Where the frames of the segment before it end; 0 if there was none.
    pub previous_end: u64,
    /// Length of the file, in bytes.
    pub segment_bytes: u64,
    /// Bits of features that a reader must know.
    pub features: u64,
    /// Base of the segment before it; 0 if there was none.
    pub previous_base: u64,
    /// Generation of the segment that a repair wrote this one in place of; 0 if none did.
    pub replaces: u64,
}

impl SegmentHeader {
    /// The header of a segment with other frames in the place of this one's.
    #[cfg(feature = "tools")]
    #[must_use]
    pub fn replaced(self, generation: u64) -> Self {
        // What the next segment states is the first generation that stood here.
        let replaces = if self.replaces == 0 { self.generation } else { self.replaces };
        Self { generation, replaces, ..self }
    }

    /// The used bytes of the header; the rest of its block is zero.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_USED_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_USED_BYTES];
        bytes[0..8].copy_from_slice(&SEGMENT_MAGIC);
        LittleEndian::write_u32(&mut bytes[8..12], VERSION);
        bytes[16..32].copy_from_slice(&self.uuid);
        LittleEndian::write_u64(&mut bytes[32..40], self.number);
        LittleEndian::write_u64(&mut bytes[40..48], self.base);
        LittleEndian::write_u64(&mut bytes[48..56], self.generation);
        LittleEndian::write_u64(&mut bytes[56..64], self.first_sequence);
        LittleEndian::write_u64(&mut bytes[64..72], self.previous_generation);
        LittleEndian::write_u64(&mut bytes[72..80], self.previous_end);
        LittleEndian::write_u64(&mut bytes[80..88], self.segment_bytes);
        LittleEndian::write_u64(&mut bytes[88..96], self.features);
        LittleEndian::write_u64(&mut bytes[96..104], self.previous_base);
        LittleEndian::write_u64(&mut bytes[104..112], self.replaces);
        let crc = checksum_around(&bytes);
        LittleEndian::write_u32(&mut bytes[12..16], crc);
        bytes
    }

    /// Reads a header from the start of a segment file.
    ///
    /// # Errors
    /// Why the bytes are no header that this build reads.
    pub fn decode(bytes: &[u8]) -> Result<Self, StructureError> {
        let raw = start::<SEGMENT_HEADER_USED_BYTES>(STRUCTURE, SEGMENT_MAGIC, bytes)?;
        let stated = LittleEndian::read_u32(&raw[12..16]);
        check_checksum(STRUCTURE, checksum_around(raw), stated)?;
        check_version(LittleEndian::read_u32(&raw[8..12]))?;
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&raw[16..32]);
        let header = Self {
            uuid,
            number: LittleEndian::read_u64(&raw[32..40]),
            base: LittleEndian::read_u64(&raw[40..48]),
            generation: LittleEndian::read_u64(&raw[48..56]),
            first_sequence: LittleEndian::read_u64(&raw[56..64]),
            previous_generation: LittleEndian::read_u64(&raw[64..72]),
            previous_end: LittleEndian::read_u64(&raw[72..80]),
            segment_bytes: LittleEndian::read_u64(&raw[80..88]),
            features: LittleEndian::read_u64(&raw[88..96]),
            previous_base: LittleEndian::read_u64(&raw[96..104]),
            replaces: LittleEndian::read_u64(&raw[104..112]),
        };
        header.validate()?;
        Ok(header)
    }

    fn validate(&self) -> Result<(), StructureError> {
        check_features(self.features)?;
        check_segment_bytes(self.segment_bytes)?;
        if self.previous_end != 0 {
            check_offset("previous_end", self.previous_end, self.segment_bytes)?;
        }
        Ok(())
    }
}
