//! Compressed entries: the uncompressed length in four bytes, then one LZ4 block.
//!
//! The format carries them from version 1; writing and reading them needs the feature `lz4`.

use crate::error::{Damage, Error, Result};

/// The compressed form of an entry, if it is any smaller.
#[cfg(feature = "lz4")]
pub(crate) fn compress(entry: &[u8]) -> Option<Vec<u8>> {
    let compressed = lz4_flex::block::compress_prepend_size(entry);
    (compressed.len() < entry.len()).then_some(compressed)
}

/// Nothing is compressed without the feature.
#[cfg(not(feature = "lz4"))]
pub(crate) fn compress(_entry: &[u8]) -> Option<Vec<u8>> {
    None
}

/// The entry again. `failed` makes the error: of a damage, or of a build that cannot read it.
#[cfg(feature = "lz4")]
pub(crate) fn decompress(
    payload: &[u8],
    failed: impl FnOnce(Option<Damage>) -> Error,
) -> Result<Vec<u8>> {
    use byteorder::{ByteOrder, LittleEndian};

    use crate::format::number::{to_usize, u32_to_usize};
    use crate::options::SEGMENT_BYTES_MAX;

    let Some((length, block)) = payload.split_at_checked(4) else {
        return Err(failed(Some(Damage::Compression)));
    };
    let length = u32_to_usize(LittleEndian::read_u32(length));
    // One LZ4 byte yields at most 255: a larger claim is hostile, and is not allocated for.
    if length > block.len().saturating_mul(255).min(to_usize(SEGMENT_BYTES_MAX)) {
        return Err(failed(Some(Damage::Compression)));
    }
    match lz4_flex::block::decompress(block, length) {
        Ok(entry) if entry.len() == length => Ok(entry),
        _ => Err(failed(Some(Damage::Compression))),
    }
}

/// Compressed entries cannot be read without the feature, which is no damage.
#[cfg(not(feature = "lz4"))]
pub(crate) fn decompress(
    _payload: &[u8],
    failed: impl FnOnce(Option<Damage>) -> Error,
) -> Result<Vec<u8>> {
    Err(failed(None))
}
