//! The bytes of a snapshot, in its side file and on the wire: what it covers, then the state.
//!
//! `"INDLSNAP"`, length of the description u32, CRC-32 of everything after this field u32, the
//! description, the state. Integers are little-endian. The host hands a received snapshot over
//! with nothing but index and term, and may hand over less than all of it, so the bytes say
//! themselves what they are and whether they are whole.
//!
//! Owns: these bytes, and the unnamed file that has them while they are on their way. A snapshot is
//! never in memory as a whole.

use std::io::{self, Read, Seek, Write};
use std::path::Path;

use async_raft::raft::MembershipConfig;
use byteorder::{ByteOrder, LittleEndian};
use indelible::codec::Postcard;
use indelible::typed::{Failure, decode, encode};

const MAGIC: &[u8; 8] = b"INDLSNAP";
const HEADER_BYTES: usize = 16;

/// A file without a name, gone when it is closed.
#[expect(
    clippy::disallowed_types,
    reason = "no part of the log: it is on its way from or to another node"
)]
pub(crate) type TemporaryFile = std::fs::File;

/// An empty file in the directory of a log, or in that for temporary files if the log has none.
pub(crate) fn temporary_file(directory: &Path) -> Result<TemporaryFile, Failure> {
    let made =
        if directory.is_dir() { tempfile::tempfile_in(directory) } else { tempfile::tempfile() };
    made.map_err(|source| Failure::Snapshot { op: "make a file for", source })
}

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

/// Writes a snapshot, whose state `write` writes, to an empty file. Leaves it at some place in it.
pub(crate) fn pack(
    file: &mut TemporaryFile,
    covered: &Covered,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Failure> {
    let description = (covered.index, covered.term, covered.membership.clone());
    let description = encode::<Postcard, _>("a snapshot", &description)?;
    let length = u32::try_from(description.len()).unwrap_or(u32::MAX);
    let failed = |source| Failure::Snapshot { op: "write", source };
    let body = || {
        // The header is known when everything else is.
        file.write_all(&[0; HEADER_BYTES])?;
        let mut to =
            io::BufWriter::new(Hashing { inner: &mut *file, hasher: crc32fast::Hasher::new() });
        to.write_all(&description)?;
        write(&mut to)?;
        Ok(to.into_inner().map_err(io::IntoInnerError::into_error)?.hasher.finalize())
    };
    let crc = body().map_err(failed)?;
    let mut header = [0; HEADER_BYTES];
    let (magic, numbers) = header.split_at_mut(MAGIC.len());
    magic.copy_from_slice(MAGIC);
    LittleEndian::write_u32_into(&[length, crc], numbers);
    file.rewind().and_then(|()| file.write_all(&header)).map_err(failed)
}

/// Reads a snapshot from its first byte to its last: whether it is one, and whole.
pub(crate) fn check(from: &mut impl Read) -> Result<(), Failure> {
    let hashing = |from: &mut dyn Read| {
        let (_, expected) = header(from)?;
        let mut hash = Hashing { inner: io::sink(), hasher: crc32fast::Hasher::new() };
        io::copy(from, &mut hash)?;
        if hash.hasher.finalize() == expected { Ok(()) } else { Err(cut_short()) }
    };
    hashing(from).map_err(|source| Failure::Snapshot { op: "read", source })
}

/// What a snapshot that was checked covers; the state comes next.
pub(crate) fn covered(from: &mut impl Read) -> Result<Covered, Failure> {
    let mut bytes = || {
        let (length, _) = header(from)?;
        let mut bytes = Vec::new();
        let read = Read::take(&mut *from, length.into()).read_to_end(&mut bytes)?;
        if u64::try_from(read).ok() == Some(length.into()) { Ok(bytes) } else { Err(cut_short()) }
    };
    let bytes = bytes().map_err(|source| Failure::Snapshot { op: "read", source })?;
    let (index, term, membership) = decode::<Postcard, _>("a snapshot", &bytes)?;
    Ok(Covered { index, term, membership })
}

/// The length of the description, and the checksum.
fn header(from: &mut (impl Read + ?Sized)) -> io::Result<(u32, u32)> {
    let mut header = [0; HEADER_BYTES];
    from.read_exact(&mut header).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => cut_short(),
        _ => error,
    })?;
    let (magic, numbers) = header.split_at(MAGIC.len());
    let mut fields = [0; 2];
    LittleEndian::read_u32_into(numbers, &mut fields);
    let [length, crc] = fields;
    if magic == MAGIC { Ok((length, crc)) } else { Err(cut_short()) }
}

fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "its bytes are cut short or damaged")
}

/// Hashes what passes.
struct Hashing<W> {
    inner: W,
    hasher: crc32fast::Hasher,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
