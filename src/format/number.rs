//! The one place where file numbers (`u64`) and memory sizes (`usize`) meet.
//!
//! Neither direction wraps: what does not fit saturates, and a saturated number fails the bounds
//! check of whatever it is used for.

const _: () = assert!(usize::BITS <= u64::BITS, "a memory size fits a file number");

/// A memory size as a file number.
#[inline]
pub fn to_u64(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

/// A file number as a memory size, saturating where memory is smaller than files.
#[inline]
pub fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A stored 32-bit number as a memory size.
#[inline]
pub fn u32_to_usize(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A memory size as a stored 32-bit number, saturating.
#[inline]
pub fn to_u32(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}
