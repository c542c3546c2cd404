//! Conversions between numbers in records (`u64`, `u32`) and sizes in memory (`usize`).
//!
//! None of them wraps: what does not fit saturates, and a saturated number fails the bounds check of
//! whatever it is used for.

/// A size in memory as a number in a record.
#[inline]
pub(crate) fn to_u64(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

/// A number in a record as a size in memory.
#[inline]
pub(crate) fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A stored 32-bit number as a size in memory.
#[inline]
pub(crate) fn u32_to_usize(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A size in memory as a stored 32-bit number.
#[inline]
pub(crate) fn to_u32(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}
