//! The bytes on disk: one structure per file, each with its encoder, its decoder and its sizes.
//!
//! Owns: what every byte of a log means, as docs/FORMAT.md states it normatively. Does not own:
//! any I/O, nor what a sound structure means for its neighbours (`recovery`).
//!
//! Invariants: an encoder and its decoder are inverse. No decoder panics, nor allocates more than
//! the structure it was given, whatever the bytes. A checksum is verified before any other field
//! than the magic is believed.

#![expect(
    clippy::exhaustive_structs,
    clippy::exhaustive_enums,
    reason = "the format is what it is: a change of a structure is a change of its version"
)]

pub mod cell;
pub mod error;
pub mod footer;
pub mod frame;
pub mod header;
pub(crate) mod kind;
pub mod names;
pub mod number;
pub mod slot;

#[cfg(any(test, feature = "tools"))]
pub use cell::CellRecord;
pub use cell::{CellValue, SideFileRef};
pub use error::{FrameError, StructureError};
pub use footer::Footer;
#[cfg(any(test, feature = "tools"))]
pub use frame::FrameHeader;
#[cfg(any(test, feature = "testing"))]
pub use frame::{Flags, Salt};
pub use header::SegmentHeader;
pub use kind::Kind;
pub use names::{FileName, SegmentName};
pub use slot::Checkpoint;

/// The format version that this build writes, and the newest it reads.
pub const VERSION: u32 = 1;
/// The feature bits that this build understands: none exist yet.
pub const FEATURES_KNOWN: u64 = 0;
/// The unit in which headers and slots are laid out, in bytes: what a disk replaces at once.
pub const BLOCK_BYTES: usize = 4096;
/// Smallest segment file that a decoder accepts, in bytes.
pub const SEGMENT_BYTES_FLOOR: u64 = 8192;

/// Number of the first segment of a log.
pub(crate) const FIRST_SEGMENT: u64 = 1;

/// Refuses a segment size that no segment can have.
fn check_segment_bytes(bytes: u64) -> Result<(), StructureError> {
    let field = "segment_bytes";
    let limit = crate::options::SEGMENT_BYTES_MAX;
    if bytes < SEGMENT_BYTES_FLOOR {
        return Err(StructureError::Field { field, expected: SEGMENT_BYTES_FLOOR, got: bytes });
    }
    if bytes > limit {
        return Err(StructureError::Field { field, expected: limit, got: bytes });
    }
    let remainder = bytes % number::to_u64(BLOCK_BYTES);
    if remainder != 0 {
        return Err(StructureError::Field { field, expected: bytes - remainder, got: bytes });
    }
    Ok(())
}

/// Refuses an offset that no frame of a segment of `segment_bytes` can start or end at.
fn check_offset(
    field: &'static str,
    offset: u64,
    segment_bytes: u64,
) -> Result<(), StructureError> {
    let floor = number::to_u64(header::SEGMENT_HEADER_BYTES);
    if offset < floor {
        return Err(StructureError::Field { field, expected: floor, got: offset });
    }
    if offset > segment_bytes {
        return Err(StructureError::Field { field, expected: segment_bytes, got: offset });
    }
    let remainder = offset % number::to_u64(frame::FRAME_ALIGN);
    if remainder != 0 {
        return Err(StructureError::Field { field, expected: offset - remainder, got: offset });
    }
    Ok(())
}

/// The bytes of a structure, which begin with its magic.
fn start<'a, const BYTES: usize>(
    structure: &'static str,
    magic: [u8; 8],
    bytes: &'a [u8],
) -> Result<&'a [u8; BYTES], StructureError> {
    let Some(raw) = bytes.first_chunk::<BYTES>() else {
        let (expected, got) = (number::to_u64(BYTES), number::to_u64(bytes.len()));
        return Err(StructureError::Short { structure, expected, got });
    };
    if raw.starts_with(&magic) { Ok(raw) } else { Err(StructureError::Magic { structure }) }
}

/// Refuses bytes that add up to another checksum than is stated.
fn check_checksum(structure: &'static str, expected: u32, got: u32) -> Result<(), StructureError> {
    if got == expected {
        Ok(())
    } else {
        Err(StructureError::Checksum { structure, expected, got })
    }
}

/// Refuses a version that this build does not read.
fn check_version(version: u32) -> Result<(), StructureError> {
    if version == VERSION { Ok(()) } else { Err(StructureError::Version(version)) }
}

/// Refuses feature bits that this build does not understand.
fn check_features(features: u64) -> Result<(), StructureError> {
    let unknown = features & !FEATURES_KNOWN;
    if unknown == 0 { Ok(()) } else { Err(StructureError::Features(unknown)) }
}

/// The checksum of a structure whose `crc` field is the four bytes at offset 12.
fn checksum_around(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    let (before, rest) = bytes.split_at_checked(12).unwrap_or((bytes, &[]));
    hasher.update(before);
    hasher.update(&[0; 4]);
    hasher.update(rest.get(4..).unwrap_or(&[]));
    hasher.finalize()
}

#[cfg(test)]
mod tests;
