//! Why bytes are not the structure that was expected, and how that becomes an [`Error`].
//!
//! Does not own: which file and offset the bytes came from; the caller adds those.

use std::path::PathBuf;

use crate::error::{Damage, Error};

/// Why bytes are no segment header, footer, slot or cell record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StructureError {
    /// Fewer bytes than the structure has.
    #[error("{structure} has {got} bytes, expected {expected}")]
    Short {
        /// The structure.
        structure: &'static str,
        /// The bytes it has.
        expected: u64,
        /// The bytes there are.
        got: u64,
    },
    /// The first bytes are not those of the structure.
    #[error("not a {structure}: its magic bytes are wrong")]
    Magic {
        /// The structure.
        structure: &'static str,
    },
    /// The stated checksum is not that of the bytes.
    #[error("{structure} has checksum {got:#010x}, its bytes say {expected:#010x}")]
    Checksum {
        /// The structure.
        structure: &'static str,
        /// What the bytes add up to.
        expected: u32,
        /// What is stated.
        got: u32,
    },
    /// The structure is sound and of a version this build does not read.
    #[error("format version {0} is unknown")]
    Version(u32),
    /// The structure is sound and uses features this build does not know: the unknown bits.
    #[error("format features {0:#x} are unknown")]
    Features(u64),
    /// A field of a sound structure has a value it cannot have.
    #[error("{field} is {got}, expected {expected}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it should be, or the limit it broke.
        expected: u64,
        /// What it is.
        got: u64,
    },
}

impl StructureError {
    /// What is wrong with the bytes; `None` if they are sound and merely newer than this build.
    pub fn damage(self) -> Option<Damage> {
        match self {
            Self::Short { expected, got, .. } => Some(Damage::Length { expected, got }),
            Self::Magic { structure } => Some(Damage::Magic { structure }),
            Self::Checksum { structure, expected, got } => {
                Some(Damage::Checksum { structure, expected, got })
            }
            Self::Field { field, expected, got } => Some(Damage::Field { field, expected, got }),
            Self::Version(_) | Self::Features(_) => None,
        }
    }

    /// The error to hand out for a structure at `offset` of the file `path`.
    pub(crate) fn into_error(self, path: impl Into<PathBuf>, offset: u64) -> Error {
        let path = path.into();
        match (self, self.damage()) {
            (_, Some(reason)) => Error::Damaged { path, offset, indexes: None, reason },
            (Self::Version(found), None) => {
                Error::UnsupportedVersion { path, found, supported: super::VERSION }
            }
            (_, None) => {
                Error::UnsupportedFeature { path, offset, feature: "a newer format feature" }
            }
        }
    }
}

/// Why bytes are no frame of this generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A frame header of zeros: nothing was written here, or it is lost.
    #[error("there is no frame")]
    End,
    /// The frame reaches past the bytes there are.
    #[error("a frame of {needed} bytes does not fit")]
    Short {
        /// The bytes the frame has, as far as they are known.
        needed: usize,
    },
    /// There is no such kind of frame.
    #[error("frame kind {0} is unknown")]
    Kind(u8),
    /// These flags do not exist, or not together with this kind.
    #[error("frame flags {0:#04x} are invalid")]
    Flags(u8),
    /// No frame of this kind has such a length.
    #[error("frame length {0} is invalid")]
    Length(u32),
    /// The check over the header does not match it.
    #[error("frame header has check {got:#010x}, its bytes say {expected:#010x}")]
    Header {
        /// What the bytes add up to.
        expected: u32,
        /// What is stated.
        got: u32,
    },
    /// The stated checksum is not that of header and payload.
    #[error("frame has checksum {got:#010x}, its bytes say {expected:#010x}")]
    Checksum {
        /// What the bytes add up to.
        expected: u32,
        /// What is stated.
        got: u32,
    },
}

impl FrameError {
    /// What is wrong with the bytes, if a frame has to be here.
    pub(crate) fn damage(self) -> Damage {
        Damage::Frame(self)
    }
}
