//! State cells: their names, their values, and the records that change them.
//!
//! Owns: the payload of the frames `Set`, `Clear` and `Attach`, and what makes a cell name valid.
//! Does not own: the frame around it (`frame`), nor how a checkpoint lists cells (`slot`).

use std::sync::Arc;

use byteorder::{ByteOrder, LittleEndian};

use super::error::StructureError;
use super::frame::{FrameHeader, Salt, encode_frame};
use super::kind::Kind;
use super::number::{to_u32, to_u64};
use crate::options::{CELL_NAME_BYTES_MAX, CELL_VALUE_BYTES_MAX};

/// Bytes of an encoded [`SideFileRef`].
pub const SIDE_FILE_REF_BYTES: usize = 20;

pub(super) const SET_BYTES_MIN: u32 = 2;
pub(super) const SET_BYTES_MAX: u32 = 1 + 32 + 1024;
pub(super) const CLEAR_BYTES_MIN: u32 = 2;
pub(super) const CLEAR_BYTES_MAX: u32 = 1 + 32;
pub(super) const ATTACH_BYTES_MIN: u32 = 2 + 20;
pub(super) const ATTACH_BYTES_MAX: u32 = 1 + 32 + 20;

const _: () = assert!(CELL_NAME_BYTES_MAX == 32 && CELL_VALUE_BYTES_MAX == 1024);

/// A side file, as frames and checkpoints refer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SideFileRef {
    /// Random number that names the file.
    pub id: u64,
    /// Bytes in the file.
    pub length: u64,
    /// CRC-32 of those bytes, not salted.
    pub crc: u32,
}

impl SideFileRef {
    /// The name of the file.
    pub fn file_name(&self) -> String {
        super::names::side_file(self.id)
    }

    /// Whether its bytes are zeros, as surely as its checksum tells any bytes.
    pub fn is_zeros(&self) -> bool {
        let (mut sum, mut zeros) = (crc32fast::Hasher::new(), crc32fast::Hasher::new());
        zeros.update(&[0]);
        // By the powers of two that the length is made of, so that no length takes long.
        let mut left = self.length;
        while left > 0 {
            if left % 2 == 1 {
                sum.combine(&zeros);
            }
            left /= 2;
            if left > 0 {
                let half = zeros.clone();
                zeros.combine(&half);
            }
        }
        sum.finalize() == self.crc
    }

    /// The bytes that refer to the file.
    pub fn encode(&self) -> [u8; SIDE_FILE_REF_BYTES] {
        let mut bytes = [0; SIDE_FILE_REF_BYTES];
        LittleEndian::write_u64(&mut bytes[0..8], self.id);
        LittleEndian::write_u64(&mut bytes[8..16], self.length);
        LittleEndian::write_u32(&mut bytes[16..20], self.crc);
        bytes
    }

    /// The inverse of [`Self::encode`]; every value is a valid one.
    pub fn decode(bytes: &[u8; SIDE_FILE_REF_BYTES]) -> Self {
        Self {
            id: LittleEndian::read_u64(&bytes[0..8]),
            length: LittleEndian::read_u64(&bytes[8..16]),
            crc: LittleEndian::read_u32(&bytes[16..20]),
        }
    }
}

/// The value of a state cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CellValue {
    /// A short value, held in memory and in every checkpoint.
    Inline(Arc<[u8]>),
    /// A large value, in a file of its own.
    SideFile(SideFileRef),
}

/// A change of one state cell, borrowed from the frame that records it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellRecord<'a> {
    /// The cell gets an inline value.
    Set {
        /// The cell.
        name: &'a str,
        /// Its value, at most [`CELL_VALUE_BYTES_MAX`] bytes.
        value: &'a [u8],
    },
    /// The cell is removed.
    Clear {
        /// The cell.
        name: &'a str,
    },
    /// The cell gets a side file as its value.
    Attach {
        /// The cell.
        name: &'a str,
        /// The file.
        file: SideFileRef,
    },
}

impl CellRecord<'_> {
    /// The kind of frame that carries the record.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Set { .. } => Kind::Set,
            Self::Clear { .. } => Kind::Clear,
            Self::Attach { .. } => Kind::Attach,
        }
    }

    /// Bytes of the payload.
    pub fn payload_bytes(&self) -> usize {
        match self {
            Self::Set { name, value } => 1 + name.len() + value.len(),
            Self::Clear { name } => 1 + name.len(),
            Self::Attach { name, .. } => 1 + name.len() + SIDE_FILE_REF_BYTES,
        }
    }
}

/// Whether a cell may have this name: 1 to 32 bytes of `a-z`, `0-9`, `.`, `_` and `-`.
pub fn is_cell_name(name: &[u8]) -> bool {
    (1..=CELL_NAME_BYTES_MAX).contains(&name.len())
        && name.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
}

/// Appends the frame of a cell record to `out`. Of `header`, the batch's sequence, lag and flags
/// are used; length, kind and index follow from the record. Its name must be a valid one. `offset` is
/// where in its segment the frame starts.
pub fn encode_cell(
    out: &mut Vec<u8>,
    salt: &Salt,
    offset: u64,
    header: &FrameHeader,
    record: &CellRecord<'_>,
) {
    let header = FrameHeader {
        length: to_u32(record.payload_bytes()),
        kind: record.kind(),
        index: 0,
        ..*header
    };
    let reference;
    let (name, rest) = match record {
        CellRecord::Set { name, value } => (name, *value),
        CellRecord::Clear { name } => (name, &[][..]),
        CellRecord::Attach { name, file } => {
            reference = file.encode();
            (name, &reference[..])
        }
    };
    encode_frame(out, salt, offset, &header, &[&name_length(name), name.as_bytes(), rest]);
}

fn name_length(name: &str) -> [u8; 1] {
    debug_assert!(is_cell_name(name.as_bytes()), "{name:?} is no cell name");
    [u8::try_from(name.len()).unwrap_or(u8::MAX)]
}

/// Reads the payload of a `Set`, `Clear` or `Attach` frame; `None` for any other kind.
///
/// # Errors
/// The field that has a value it cannot have.
pub fn decode_cell(kind: Kind, payload: &[u8]) -> Result<Option<CellRecord<'_>>, StructureError> {
    if !matches!(kind, Kind::Set | Kind::Clear | Kind::Attach) {
        return Ok(None);
    }
    let (name, rest) = split_name(payload)?;
    let record = match kind {
        Kind::Set => {
            check_length("cell value length", CELL_VALUE_BYTES_MAX, rest.len(), |got, limit| {
                got <= limit
            })?;
            CellRecord::Set { name, value: rest }
        }
        Kind::Attach => {
            let bytes =
                rest.first_chunk::<SIDE_FILE_REF_BYTES>().filter(|all| all.len() == rest.len());
            let Some(bytes) = bytes else {
                return Err(StructureError::Field {
                    field: "side file reference length",
                    expected: to_u64(SIDE_FILE_REF_BYTES),
                    got: to_u64(rest.len()),
                });
            };
            CellRecord::Attach { name, file: SideFileRef::decode(bytes) }
        }
        _ => {
            check_length("bytes after the cell name", 0, rest.len(), |got, limit| got == limit)?;
            CellRecord::Clear { name }
        }
    };
    Ok(Some(record))
}

fn check_length(
    field: &'static str,
    limit: usize,
    got: usize,
    fits: impl Fn(usize, usize) -> bool,
) -> Result<(), StructureError> {
    if fits(got, limit) {
        Ok(())
    } else {
        Err(StructureError::Field { field, expected: to_u64(limit), got: to_u64(got) })
    }
}

/// Splits a name, preceded by its length, off the front.
fn split_name(payload: &[u8]) -> Result<(&str, &[u8]), StructureError> {
    let (&length, rest) = payload.split_first().ok_or(StructureError::Short {
        structure: "cell record",
        expected: 2,
        got: 0,
    })?;
    let (name, rest) = rest.split_at_checked(usize::from(length)).ok_or(StructureError::Field {
        field: "cell name length",
        expected: to_u64(rest.len()),
        got: u64::from(length),
    })?;
    Ok((cell_name(name)?, rest))
}

/// The name, if a cell may have it.
pub(super) fn cell_name(name: &[u8]) -> Result<&str, StructureError> {
    match std::str::from_utf8(name) {
        Ok(text) if is_cell_name(name) => Ok(text),
        _ => Err(StructureError::Field {
            field: "cell name length or byte",
            expected: to_u64(CELL_NAME_BYTES_MAX),
            got: to_u64(name.len()),
        }),
    }
}
