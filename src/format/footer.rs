//! The footer of a sealed segment and its offset table (docs/FORMAT.md, "Footer").
//!
//! Owns: the last 64 bytes of a sealed segment, and the table right before them, which says where
//! each entry is. Does not own: when a segment is sealed (`segment`).
//!
//! Invariant: a decoded footer states a table and frames that fit the file and do not overlap.

use byteorder::{ByteOrder, LittleEndian};

use super::error::StructureError;
use super::frame::{FRAME_ALIGN, Salt};
use super::number::{to_u64, to_usize};
use super::{check_checksum, check_offset, check_segment_bytes, start};

/// Bytes of the footer, at the very end of the file.
pub const FOOTER_BYTES: usize = 64;
/// The first bytes of every footer.
pub const FOOTER_MAGIC: [u8; 8] = *b"INDLFOOT";
/// Bytes of one place in the offset table.
pub const TABLE_ENTRY_BYTES: usize = 4;
/// Flag: some entry is compressed.
pub const FOOTER_COMPRESSED: u32 = 1;
/// Flag: some entry is missing since a repair.
pub const FOOTER_HOLES: u32 = 2;

const STRUCTURE: &str = "segment footer";
const TABLE_STRUCTURE: &str = "offset table";

/// What a sealed segment states about its frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footer {
    /// Generation of the segment.
    pub generation: u64,
    /// Index of the first entry.
    pub base: u64,
    /// Entries in the segment, missing ones included.
    pub count: u64,
    /// Where the frames end.
    pub data_end: u64,
    /// Sequence of the first batch that is not in this segment entirely.
    pub next_sequence: u64,
    /// [`FOOTER_COMPRESSED`], [`FOOTER_HOLES`].
    pub flags: u32,
    /// CRC-32 of the offset table, not salted.
    pub table_crc: u32,
}

impl Footer {
    /// The bytes of the footer; `salt` is that of the segment's generation.
    pub fn encode(&self, salt: &Salt) -> [u8; FOOTER_BYTES] {
        debug_assert_eq!(self.generation, salt.generation());
        let mut bytes = [0; FOOTER_BYTES];
        bytes[0..8].copy_from_slice(&FOOTER_MAGIC);
        LittleEndian::write_u32(&mut bytes[12..16], self.table_crc);
        LittleEndian::write_u64(&mut bytes[16..24], self.generation);
        LittleEndian::write_u64(&mut bytes[24..32], self.base);
        LittleEndian::write_u64(&mut bytes[32..40], self.count);
        LittleEndian::write_u64(&mut bytes[40..48], self.data_end);
        LittleEndian::write_u64(&mut bytes[48..56], self.next_sequence);
        LittleEndian::write_u32(&mut bytes[56..60], self.flags);
        let crc = salt.checksum(&bytes[12..64]);
        LittleEndian::write_u32(&mut bytes[8..12], crc);
        bytes
    }

    /// Reads the footer of a segment of `segment_bytes` bytes from the last 64 of them.
    ///
    /// # Errors
    /// Why the bytes are no footer of this generation.
    pub fn decode(bytes: &[u8], salt: &Salt, segment_bytes: u64) -> Result<Self, StructureError> {
        let raw = start::<FOOTER_BYTES>(STRUCTURE, FOOTER_MAGIC, bytes)?;
        let stated = LittleEndian::read_u32(&raw[8..12]);
        check_checksum(STRUCTURE, salt.checksum(&raw[12..64]), stated)?;
        let footer = Self {
            table_crc: LittleEndian::read_u32(&raw[12..16]),
            generation: LittleEndian::read_u64(&raw[16..24]),
            base: LittleEndian::read_u64(&raw[24..32]),
            count: LittleEndian::read_u64(&raw[32..40]),
            data_end: LittleEndian::read_u64(&raw[40..48]),
            next_sequence: LittleEndian::read_u64(&raw[48..56]),
            flags: LittleEndian::read_u32(&raw[56..60]),
        };
        footer.validate(salt, segment_bytes)?;
        Ok(footer)
    }

    fn validate(&self, salt: &Salt, segment_bytes: u64) -> Result<(), StructureError> {
        let refuse = |field, expected, got| Err(StructureError::Field { field, expected, got });
        check_segment_bytes(segment_bytes)?;
        if self.generation != salt.generation() {
            return refuse("footer generation", salt.generation(), self.generation);
        }
        if self.flags & !(FOOTER_COMPRESSED | FOOTER_HOLES) != 0 {
            return refuse("footer flags", 0, u64::from(self.flags));
        }
        if self.base.checked_add(self.count).is_none() {
            return refuse("footer base", u64::MAX - self.count, self.base);
        }
        let room = segment_bytes - to_u64(FOOTER_BYTES);
        check_offset("data_end", self.data_end, room - room % to_u64(FRAME_ALIGN))?;
        let count_max = (room - self.data_end) / to_u64(TABLE_ENTRY_BYTES);
        if self.count > count_max {
            return refuse("footer count", count_max, self.count);
        }
        Ok(())
    }

    /// Where the offset table starts in a segment of `segment_bytes` bytes.
    pub fn table_start(&self, segment_bytes: u64) -> u64 {
        segment_bytes
            .saturating_sub(to_u64(FOOTER_BYTES))
            .saturating_sub(to_u64(table_bytes(self.count)))
    }

    /// Verifies the offset table.
    ///
    /// # Errors
    /// The table has the wrong length, or its checksum does not match.
    pub fn verify_table(&self, table: &[u8]) -> Result<(), StructureError> {
        if table.len() != table_bytes(self.count) {
            return Err(StructureError::Short {
                structure: TABLE_STRUCTURE,
                expected: to_u64(table_bytes(self.count)),
                got: to_u64(table.len()),
            });
        }
        check_checksum(TABLE_STRUCTURE, crc32fast::hash(table), self.table_crc)
    }
}

/// Bytes of the offset table of so many entries.
#[inline]
pub fn table_bytes(count: u64) -> usize {
    to_usize(count).saturating_mul(TABLE_ENTRY_BYTES)
}

/// The offset table: `places` are offsets of frames divided by [`FRAME_ALIGN`], in entry order.
/// Its checksum, for [`Footer::table_crc`], is `crc32fast::hash` of the bytes.
pub fn encode_table(places: &[u32]) -> Vec<u8> {
    let mut table = vec![0; places.len() * TABLE_ENTRY_BYTES];
    LittleEndian::write_u32_into(places, &mut table);
    table
}

/// The offset in the segment of the table's entry number `i`, in bytes.
#[inline]
pub fn table_offset(table: &[u8], i: usize) -> Option<u64> {
    let start = i.checked_mul(TABLE_ENTRY_BYTES)?;
    let place = table.get(start..)?.first_chunk::<TABLE_ENTRY_BYTES>()?;
    Some(u64::from(LittleEndian::read_u32(place)) * to_u64(FRAME_ALIGN))
}
