//! Compressed entries: the uncompressed length in four bytes, then one LZ4 block.
//!
//! The format carries them from version 1; writing and reading them needs the feature `lz4`.

use byteorder::{ByteOrder, LittleEndian};

use crate::error::Damage;
use crate::format::number::{to_usize, u32_to_usize};
use crate::options::SEGMENT_BYTES_MAX;

#[cfg(all(test, feature = "lz4"))]
thread_local! {
    /// How many entries this thread has compressed.
    pub(crate) static COMPRESSED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// The compressed form of an entry, if it is any smaller.
#[cfg(feature = "lz4")]
pub(crate) fn compress(entry: &[u8]) -> Option<Vec<u8>> {
    #[cfg(test)]
    COMPRESSED.set(COMPRESSED.get() + 1);
    let compressed = lz4_flex::block::compress_prepend_size(entry);
    (compressed.len() < entry.len()).then_some(compressed)
}

/// Nothing is compressed without the feature.
#[cfg(not(feature = "lz4"))]
pub(crate) fn compress(_entry: &[u8]) -> Option<Vec<u8>> {
    None
}

/// How long an entry is that is stored like this, in bytes; nothing if that cannot be.
pub(crate) fn plain_length(payload: &[u8]) -> Option<usize> {
    let (length, block) = payload.split_at_checked(4)?;
    let length = u32_to_usize(LittleEndian::read_u32(length));
    // One LZ4 byte yields at most 255: a larger claim is hostile, and is not allocated for.
    (length <= block.len().saturating_mul(255).min(to_usize(SEGMENT_BYTES_MAX))).then_some(length)
}

/// The entry again; or the damage, or nothing if it is this build that cannot read it.
#[cfg(feature = "lz4")]
pub(crate) fn decompress(payload: &[u8]) -> Result<Vec<u8>, Option<Damage>> {
    let length = plain_length(payload).ok_or(Some(Damage::Compression))?;
    match lz4_flex::block::decompress(payload.get(4..).unwrap_or_default(), length) {
        Ok(entry) if entry.len() == length => Ok(entry),
        _ => Err(Some(Damage::Compression)),
    }
}

/// Compressed entries cannot be read without the feature.
#[cfg(not(feature = "lz4"))]
pub(crate) fn decompress(_payload: &[u8]) -> Result<Vec<u8>, Option<Damage>> {
    Err(None)
}
