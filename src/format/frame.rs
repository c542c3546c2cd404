//! The frame: how one record is written in a segment (docs/FORMAT.md, "Frame").
//!
//! Owns: the 32-byte frame header, its check, the checksum over header and payload, the padding.
//! Does not own: what is inside the payload (`cell`), nor what a bad frame means (`recovery`).
//!
//! A frame is valid if and only if (1) kind, flags and length are ones that exist together,
//! (2) the check matches the header, (3) the whole frame fits, and (4) the checksum matches header,
//! payload and padding. Both checksums are salted with the generation of the segment, so the bytes
//! of a former life of the file are never valid; and both state where in the file the frame starts,
//! so a sector that comes back in another one's place holds no frame.
//!
//! A header that passes (1) and (2) is evidence by itself, whatever became of its payload: what it
//! states as durable was durable when it was written. Its check is 32 bits of its own for that.
//! One pass over header and payload gives both: the check is the checksum so far at the end of the
//! header.

use byteorder::{ByteOrder, LittleEndian};

use super::error::FrameError;
use super::kind::Kind;
use super::number::{to_u32, to_usize, u32_to_usize};
use crate::options::SEGMENT_BYTES_MAX;
use crate::planted::{Bug, planted};

/// Bytes of a frame before its payload.
pub const FRAME_HEADER_BYTES: usize = 32;
/// Every frame starts at, and is padded to, a multiple of this many bytes.
pub const FRAME_ALIGN: usize = 8;
/// Where in the header the kind stands.
pub const FRAME_KIND_OFFSET: usize = 30;
/// Where in the header what its check covers begins: after the two checksums.
const FIELDS_OFFSET: usize = 8;
/// The lag of a frame that states nothing about what was durable.
pub const LAG_UNSTATED: u16 = u16::MAX;
/// Longest payload: what is left of the largest segment, with room for header and footer.
pub const FRAME_PAYLOAD_BYTES_MAX: u32 = 1024 * 1024 * 1024 - 8192;
/// Payload of a [`Kind::Hole`] frame, in bytes.
pub const HOLE_PAYLOAD_BYTES: usize = 8;
/// Shortest payload of a compressed entry: its uncompressed length and one token.
pub const LZ4_PAYLOAD_BYTES_MIN: u32 = 5;

const _: () = assert!(FRAME_HEADER_BYTES.is_multiple_of(FRAME_ALIGN));
const _: () = assert!(FRAME_PAYLOAD_BYTES_MAX as u64 + 8192 == SEGMENT_BYTES_MAX);

/// The bits of [`FrameHeader::flags`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags;

impl Flags {
    /// The first frame of its batch.
    pub const FIRST: u8 = 1;
    /// The last frame of its batch: with it the batch is complete.
    pub const LAST: u8 = 2;
    /// The payload is compressed; entries only.
    pub const LZ4: u8 = 4;
    /// Every bit there is.
    pub const ALL: u8 = Self::FIRST | Self::LAST | Self::LZ4;
}

/// What a frame says about itself. The checksums are the encoder's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of payload.
    pub length: u32,
    /// Number of the batch.
    pub sequence: u64,
    /// Entry index, or new bound of the log; 0 where the kind has none.
    pub index: u64,
    /// `sequence` minus the newest sequence known to be durable when this was written;
    /// [`LAG_UNSTATED`] if that is as much or more.
    pub lag: u16,
    /// What the frame records.
    pub kind: Kind,
    /// [`Flags`].
    pub flags: u8,
}

impl FrameHeader {
    /// Bytes of the whole frame.
    #[inline]
    pub fn frame_bytes(&self) -> usize {
        frame_bytes(u32_to_usize(self.length))
    }

    /// Whether the frame opens its batch.
    #[inline]
    pub fn is_first(&self) -> bool {
        self.flags & Flags::FIRST != 0
    }

    /// Whether the frame completes its batch.
    #[inline]
    pub fn is_last(&self) -> bool {
        self.flags & Flags::LAST != 0
    }

    /// Whether the payload is compressed.
    #[inline]
    pub fn is_compressed(&self) -> bool {
        self.flags & Flags::LZ4 != 0
    }

    /// The newest sequence that was known to be durable when the frame was written; 0 if the frame
    /// does not state it. Never more than was known.
    #[inline]
    pub fn durable_sequence(&self) -> u64 {
        if self.lag == LAG_UNSTATED {
            return 0;
        }
        self.sequence.saturating_sub(u64::from(self.lag))
    }
}

/// The checksum of one segment generation, ready to be continued over the bytes it salts.
#[derive(Debug, Clone)]
pub struct Salt {
    generation: u64,
    hasher: crc32fast::Hasher,
}

impl Salt {
    /// The salt of a generation: a CRC-32 over its eight little-endian bytes.
    pub fn new(generation: u64) -> Self {
        let mut bytes = [0; 8];
        if !planted(Bug::NoSalt) {
            LittleEndian::write_u64(&mut bytes, generation);
        }
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&bytes);
        Self { generation, hasher }
    }

    /// The generation.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The salted checksum of `bytes`.
    #[inline]
    pub fn checksum(&self, bytes: &[u8]) -> u32 {
        let mut hasher = self.hasher.clone();
        hasher.update(bytes);
        hasher.finalize()
    }

    /// The check of a frame header before its place is stated, and the checksum up to its end.
    #[inline]
    fn start(&self, header: &[u8; FRAME_HEADER_BYTES]) -> (u32, crc32fast::Hasher) {
        let mut hasher = self.hasher.clone();
        hasher.update(&header[FIELDS_OFFSET..]);
        (hasher.clone().finalize(), hasher)
    }
}

/// What the place of a frame adds to both its checksums, by XOR: different for any two places in a
/// segment, so that bytes which are a frame at one are none at any other.
#[inline]
fn placed(offset: u64) -> u32 {
    if planted(Bug::AnyPlace) { 0 } else { to_u32(to_usize(offset) / FRAME_ALIGN) }
}

/// The lag that a frame of batch `sequence` states where `durable` is known to be durable.
#[inline]
pub fn lag(sequence: u64, durable: u64) -> u16 {
    match () {
        () if planted(Bug::WatermarkNeverWritten) => LAG_UNSTATED,
        () if planted(Bug::WatermarkAhead) => 0,
        () if planted(Bug::LagCutShort) && sequence - durable > LAG_UNSTATED.into() => 65_534,
        () => u16::try_from(sequence.saturating_sub(durable)).unwrap_or(LAG_UNSTATED),
    }
}

/// Bytes of a frame with so many bytes of payload: header, payload and padding.
#[inline]
pub const fn frame_bytes(payload_len: usize) -> usize {
    (FRAME_HEADER_BYTES + FRAME_ALIGN - 1).saturating_add(payload_len) & !(FRAME_ALIGN - 1)
}

/// Appends a frame to `out` that starts at `offset` of its segment. The payload is the concatenation
/// of `payload` and must have `header.length` bytes; `out` grows by [`frame_bytes`] of that and is not
/// allocated beyond it.
#[expect(clippy::inline_always, reason = "called, it costs each frame 55 instructions more")]
#[inline(always)]
pub fn encode_frame(
    out: &mut Vec<u8>,
    salt: &Salt,
    offset: u64,
    header: &FrameHeader,
    payload: &[&[u8]],
) {
    debug_assert_eq!(
        u32_to_usize(header.length),
        payload.iter().map(|part| part.len()).sum::<usize>()
    );
    debug_assert!(
        header.flags & !header.kind.flags() == 0 && header.kind.allows(header.length, header.flags)
    );
    let start = out.len();
    let mut bytes = [0; FRAME_HEADER_BYTES];
    LittleEndian::write_u64(&mut bytes[8..16], header.sequence);
    LittleEndian::write_u64(&mut bytes[16..24], header.index);
    LittleEndian::write_u32(&mut bytes[24..28], header.length);
    LittleEndian::write_u16(&mut bytes[28..30], header.lag);
    bytes[30] = header.kind.number();
    bytes[31] = header.flags;
    let (check, mut hasher) = salt.start(&bytes);
    LittleEndian::write_u32(&mut bytes[4..8], check ^ placed(offset));

    let frame = header.frame_bytes();
    out.reserve(frame);
    out.extend_from_slice(&bytes);
    for part in payload {
        out.extend_from_slice(part);
    }
    if out.len() < start + frame {
        out.resize(start + frame, 0);
    }
    hasher.update(out.get(start + FRAME_HEADER_BYTES..).unwrap_or(&[]));
    if let Some(crc) = out.get_mut(start..start + 4) {
        LittleEndian::write_u32(crc, hasher.finalize() ^ placed(offset));
    }
}

/// Reads a header without looking at its check: for frames that were verified before. `None` if
/// there are too few bytes or the kind does not exist.
#[inline]
pub fn read_header_unchecked(bytes: &[u8]) -> Option<FrameHeader> {
    let header = bytes.first_chunk::<FRAME_HEADER_BYTES>()?;
    Some(fields(header, Kind::from_number(header[FRAME_KIND_OFFSET])?))
}

#[inline]
fn fields(header: &[u8; FRAME_HEADER_BYTES], kind: Kind) -> FrameHeader {
    FrameHeader {
        sequence: LittleEndian::read_u64(&header[8..16]),
        index: LittleEndian::read_u64(&header[16..24]),
        length: LittleEndian::read_u32(&header[24..28]),
        lag: LittleEndian::read_u16(&header[28..30]),
        kind,
        flags: header[31],
    }
}

/// Reads the header at `offset` of a segment and verifies its check, not the payload. The payload may
/// be cut off.
///
/// # Errors
/// Why the bytes are no header of this generation and place; cheap reasons come before the check.
#[inline]
pub fn peek_header(bytes: &[u8], salt: &Salt, offset: u64) -> Result<FrameHeader, FrameError> {
    start_frame(bytes, salt, offset).map(|(header, _)| header)
}

#[inline]
fn start_frame(
    bytes: &[u8],
    salt: &Salt,
    offset: u64,
) -> Result<(FrameHeader, crc32fast::Hasher), FrameError> {
    let Some(raw) = bytes.first_chunk::<FRAME_HEADER_BYTES>() else {
        return Err(FrameError::Short { needed: FRAME_HEADER_BYTES });
    };
    let number = raw[FRAME_KIND_OFFSET];
    let Some(kind) = Kind::from_number(number) else {
        let blank = raw.iter().all(|&byte| byte == 0);
        return Err(if blank { FrameError::End } else { FrameError::Kind(number) });
    };
    let header = fields(raw, kind);
    if header.flags & !kind.flags() != 0 {
        return Err(FrameError::Flags(header.flags));
    }
    if !kind.allows(header.length, header.flags) {
        return Err(FrameError::Length(header.length));
    }
    let (check, hasher) = salt.start(raw);
    let expected = check ^ placed(offset);
    let got = LittleEndian::read_u32(&raw[4..8]);
    if got != expected {
        return Err(FrameError::Header { expected, got });
    }
    Ok((header, hasher))
}

/// Reads and verifies the frame at the start of `bytes`, which is `offset` of a segment: its header,
/// its payload, and the bytes it takes with its padding.
///
/// # Errors
/// Why the bytes are no valid frame of this generation and place.
#[inline]
pub fn decode_frame<'a>(
    bytes: &'a [u8],
    salt: &Salt,
    offset: u64,
) -> Result<(FrameHeader, &'a [u8], usize), FrameError> {
    let (header, mut hasher) = start_frame(bytes, salt, offset)?;
    let total = header.frame_bytes();
    let Some(frame) = bytes.get(..total) else {
        return Err(FrameError::Short { needed: total });
    };
    hasher.update(frame.get(FRAME_HEADER_BYTES..).unwrap_or(&[]));
    let expected = hasher.finalize() ^ placed(offset);
    let got = bytes.first_chunk::<4>().map_or(0, |crc| LittleEndian::read_u32(crc));
    if got != expected {
        return Err(FrameError::Checksum { expected, got });
    }
    let end = FRAME_HEADER_BYTES + u32_to_usize(header.length);
    let payload = frame.get(FRAME_HEADER_BYTES..end).unwrap_or(&[]);
    Ok((header, payload, total))
}

/// The payload of a [`Kind::Hole`] frame: the exclusive end of the missing range.
#[cfg(any(test, feature = "tools"))]
pub fn encode_hole(end: u64) -> [u8; HOLE_PAYLOAD_BYTES] {
    let mut bytes = [0; HOLE_PAYLOAD_BYTES];
    LittleEndian::write_u64(&mut bytes, end);
    bytes
}

/// The exclusive end of the missing range, from the payload of a [`Kind::Hole`] frame.
pub fn decode_hole(payload: &[u8]) -> Option<u64> {
    payload.first_chunk::<HOLE_PAYLOAD_BYTES>().map(|bytes| LittleEndian::read_u64(bytes))
}

/// The length of a payload as a header states it, saturating.
#[inline]
pub fn payload_length(payload: &[u8]) -> u32 {
    to_u32(payload.len())
}
