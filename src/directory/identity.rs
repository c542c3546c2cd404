//! The identity of a log: 128 random bits, drawn when it is created and stated by each of its files.

use std::fmt;

use crate::io::Directory;

/// The identity of a log. Two logs never share one, so that a file of another log is noticed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Uuid([u8; 16]);

impl Uuid {
    /// An identity from its bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes as they stand in the files.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// A fresh identity, in the form of RFC 9562 version 4.
    pub(crate) fn random(directory: &dyn Directory) -> Self {
        let high = directory.random() & !0xf000 | 0x4000;
        let low = directory.random() & !(0b11 << 62) | 0b10 << 62;
        Self((u128::from(high) << 64 | u128::from(low)).to_le_bytes())
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = u128::from_le_bytes(self.0);
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            value >> 96,
            value >> 80 & 0xffff,
            value >> 64 & 0xffff,
            value >> 48 & 0xffff,
            value & 0xffff_ffff_ffff
        )
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::Uuid;

    #[test]
    fn display_groups_the_bits_as_rfc_9562_does() {
        let uuid = Uuid::from_bytes(0x0123_4567_89ab_4def_8123_4567_89ab_cdef_u128.to_le_bytes());
        assert_eq!(uuid.to_string(), "01234567-89ab-4def-8123-456789abcdef");
    }
}
