//! The bytes of a snapshot, in its side file and on the wire: what it covers, then the state.
//!
//! `"INDLSNAP"`, length of the description u32, CRC-32 of everything behind this field u32, the
//! description, the state. Integers are little-endian. The host hands a received snapshot over
//! with nothing but index and term, and may hand over less than all of it, so the bytes say
//! themselves what they are and whether they are whole.

use std::io;

use async_raft::raft::MembershipConfig;
use byteorder::{ByteOrder, LittleEndian};
use indelible::codec::Postcard;
use indelible::typed::{Failure, decode, encode};

const MAGIC: &[u8; 8] = b"INDLSNAP";
const HEADER_BYTES: usize = 16;

/// What a snapshot covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Covered {
    /// The last entry it contains.
    pub(crate) index: u64,
    /// That entry's term.
    pub(crate) term: u64,
    /// The membership in force at that entry.
    pub(crate) membership: MembershipConfig,
}

/// The bytes of a snapshot whose state `write` appends to what it is given.
pub(crate) fn pack(
    covered: &Covered,
    write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
) -> Result<Vec<u8>, Failure> {
    let description = (covered.index, covered.term, covered.membership.clone());
    let description = encode::<Postcard, _>("a snapshot", &description)?;
    let length = u32::try_from(description.len()).unwrap_or(u32::MAX);
    let mut bytes = vec![0; HEADER_BYTES];
    bytes.extend_from_slice(&description);
    write(&mut bytes).map_err(|source| Failure::Snapshot { op: "write", source })?;
    let (header, rest) = bytes.split_at_mut(HEADER_BYTES);
    let (magic, numbers) = header.split_at_mut(MAGIC.len());
    magic.copy_from_slice(MAGIC);
    let crc = crc32fast::hash(rest);
    LittleEndian::write_u32_into(&[length, crc], numbers);
    Ok(bytes)
}

/// What a snapshot covers, and its state.
pub(crate) fn unpack(bytes: &[u8]) -> Result<(Covered, &[u8]), Failure> {
    let parts = || {
        let (header, rest) = bytes.split_at_checked(HEADER_BYTES)?;
        let (magic, numbers) = header.split_at_checked(MAGIC.len())?;
        let mut fields = [0; 2];
        LittleEndian::read_u32_into(numbers, &mut fields);
        let [length, crc] = fields;
        let whole = magic == MAGIC && crc == crc32fast::hash(rest);
        rest.split_at_checked(usize::try_from(length).ok()?).filter(|_| whole)
    };
    let (description, state) = parts().ok_or_else(|| Failure::Snapshot {
        op: "read",
        source: io::Error::new(io::ErrorKind::InvalidData, "its bytes are cut short or damaged"),
    })?;
    let (index, term, membership) = decode::<Postcard, _>("a snapshot", description)?;
    Ok((Covered { index, term, membership }, state))
}
