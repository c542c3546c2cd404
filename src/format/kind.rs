//! The kinds of frames, and what a frame of each does to a log (docs/FORMAT.md, "Frame").
//!
//! Owns: the numbers of the kinds, the lengths and flags that go with each, and the step from kind,
//! index and payload of a sound frame to its effect. Nobody else looks at a kind to tell what a frame
//! means; an encoder names the one that it writes. So a new kind is added here, and where it is
//! written. Does not own: carrying an effect out, on the bounds and cells of a log (`state`) and on the
//! places of its entries (`segment::offsets`).

use std::ops::Range;

use super::cell::{self, CellRecord, decode_cell};
use super::error::{FrameError, StructureError};
use super::frame::{
    FRAME_PAYLOAD_BYTES_MAX, Flags, FrameHeader, HOLE_PAYLOAD_BYTES, LZ4_PAYLOAD_BYTES_MIN,
    decode_hole,
};
use super::number::u32_to_usize;
use crate::error::Damage;

/// What a frame records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// An entry; `index` is its index.
    Entry = 1,
    /// A state cell gets an inline value.
    Set = 2,
    /// A state cell is removed.
    Clear = 3,
    /// A state cell gets a side file as its value.
    Attach = 4,
    /// The entries from `index` on are dropped.
    Truncate = 5,
    /// The entries before `index` are dropped.
    Trim = 6,
    /// Every entry is dropped; the next one gets `index`.
    Reset = 7,
    /// The entries from `index` to the index in the payload are missing since a repair.
    Hole = 8,
    /// Nothing but what every frame states: what was durable. It stands apart from the batches and
    /// belongs to none.
    Witness = 9,
}

impl Kind {
    /// Every kind, in the order of their numbers.
    #[cfg(any(test, feature = "testing"))]
    pub const ALL: [Self; 9] = [
        Self::Entry,
        Self::Set,
        Self::Clear,
        Self::Attach,
        Self::Truncate,
        Self::Trim,
        Self::Reset,
        Self::Hole,
        Self::Witness,
    ];

    /// The kind with this number.
    #[inline]
    pub fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Entry,
            2 => Self::Set,
            3 => Self::Clear,
            4 => Self::Attach,
            5 => Self::Truncate,
            6 => Self::Trim,
            7 => Self::Reset,
            8 => Self::Hole,
            9 => Self::Witness,
            _ => return None,
        })
    }

    /// The number that is stored.
    #[inline]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The flags that a frame of this kind can have.
    #[inline]
    pub(super) fn flags(self) -> u8 {
        match self {
            Self::Entry => Flags::ALL,
            _ => Flags::FIRST | Flags::LAST,
        }
    }

    /// Whether a frame of this kind can have `length` bytes of payload.
    #[inline]
    pub(super) fn allows(self, length: u32, flags: u8) -> bool {
        match self {
            Self::Entry if flags & Flags::LZ4 != 0 => {
                (LZ4_PAYLOAD_BYTES_MIN..=FRAME_PAYLOAD_BYTES_MAX).contains(&length)
            }
            Self::Entry => length <= FRAME_PAYLOAD_BYTES_MAX,
            Self::Set => (cell::SET_BYTES_MIN..=cell::SET_BYTES_MAX).contains(&length),
            Self::Clear => (cell::CLEAR_BYTES_MIN..=cell::CLEAR_BYTES_MAX).contains(&length),
            Self::Attach => (cell::ATTACH_BYTES_MIN..=cell::ATTACH_BYTES_MAX).contains(&length),
            Self::Truncate | Self::Trim | Self::Reset | Self::Witness => length == 0,
            Self::Hole => u32_to_usize(length) == HOLE_PAYLOAD_BYTES,
        }
    }
}

/// What a frame does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect<'a> {
    /// It stands for entries that follow those before it.
    Entries(Span),
    /// The entries from this index on are dropped.
    Truncate(u64),
    /// The entries before this index are dropped.
    Trim(u64),
    /// Every entry is dropped; the next one gets this index.
    Reset(u64),
    /// A state cell changes.
    Cell(RawCell<'a>),
}

/// The entries that a frame stands for: one that it holds, or some that are missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    /// Never empty.
    pub(crate) range: Range<u64>,
    /// Missing since a repair.
    pub(crate) missing: bool,
}

/// A change of a state cell, not decoded: whoever looks at headers alone has no use for it, and not
/// all of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawCell<'a> {
    kind: Kind,
    payload: &'a [u8],
}

impl<'a> Effect<'a> {
    /// The effect of a frame. Of the payload only the part that the effect itself needs must be
    /// there: the end of a hole, and what [`RawCell::record`] decodes.
    ///
    /// # Errors
    /// What no log writes: the index after an entry has to exist, a hole has to end after its start,
    /// and a witness is no part of a batch.
    #[inline]
    pub(crate) fn of(header: &FrameHeader, payload: &'a [u8]) -> Result<Self, Damage> {
        let index = header.index;
        let wrong = |field, expected, got| Err(Damage::Field { field, expected, got });
        Ok(match header.kind {
            Kind::Entry if index == u64::MAX => return wrong("entry index", index - 1, index),
            Kind::Entry => Self::Entries(Span { range: index..index + 1, missing: false }),
            Kind::Hole => match decode_hole(payload) {
                Some(end) if end > index => {
                    Self::Entries(Span { range: index..end, missing: true })
                }
                end => return wrong("hole end", index.saturating_add(1), end.unwrap_or(0)),
            },
            Kind::Truncate => Self::Truncate(index),
            Kind::Trim => Self::Trim(index),
            Kind::Reset => Self::Reset(index),
            Kind::Set | Kind::Clear | Kind::Attach => {
                Self::Cell(RawCell { kind: header.kind, payload })
            }
            Kind::Witness => return Err(Damage::Frame(FrameError::Kind(header.kind.number()))),
        })
    }

    /// Where the entries of a segment end when the effect begins: whatever there is from this index
    /// on is gone. Nothing if it does not touch the end of the entries.
    #[inline]
    pub(crate) fn cut(&self) -> Option<u64> {
        match self {
            Self::Entries(span) => Some(span.range.start),
            Self::Truncate(to) | Self::Reset(to) => Some(*to),
            Self::Trim(_) | Self::Cell(_) => None,
        }
    }
}

impl FrameHeader {
    /// Whether the frame is a witness, which belongs to no batch.
    #[inline]
    pub(crate) fn is_witness(&self) -> bool {
        self.kind == Kind::Witness
    }
}

impl Span {
    /// The entries that a frame stands for, if it stands for any.
    #[inline]
    pub(crate) fn of(header: &FrameHeader, payload: &[u8]) -> Option<Self> {
        match Effect::of(header, payload) {
            Ok(Effect::Entries(span)) => Some(span),
            _ => None,
        }
    }

    /// Whether the frame holds this very entry.
    #[inline]
    pub(crate) fn is_entry(&self, index: u64) -> bool {
        !self.missing && self.range.start == index
    }
}

impl<'a> RawCell<'a> {
    /// The change, decoded.
    ///
    /// # Errors
    /// The field that has a value it cannot have.
    pub(crate) fn record(&self) -> Result<CellRecord<'a>, StructureError> {
        let record = decode_cell(self.kind, self.payload)?;
        record.ok_or(StructureError::Magic { structure: "state cell" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: Kind, index: u64) -> FrameHeader {
        FrameHeader { length: 0, sequence: 1, index, lag: 0, kind, flags: 0 }
    }

    #[test]
    fn each_kind_has_one_effect() {
        let of = |kind, index, payload| Effect::of(&header(kind, index), payload);
        let span = |range, missing| Ok(Effect::Entries(Span { range, missing }));
        assert_eq!(of(Kind::Entry, 7, b"x"), span(7..8, false));
        let (end, start) = (9_u64.to_le_bytes(), 7_u64.to_le_bytes());
        assert_eq!(of(Kind::Hole, 7, &end), span(7..9, true));
        assert!(of(Kind::Hole, 7, &start).is_err());
        assert_eq!(of(Kind::Truncate, 7, b""), Ok(Effect::Truncate(7)));
        assert_eq!(of(Kind::Trim, 7, b""), Ok(Effect::Trim(7)));
        assert_eq!(of(Kind::Reset, 7, b""), Ok(Effect::Reset(7)));
        let Ok(Effect::Cell(cell)) = of(Kind::Set, 0, b"\x01ab") else { panic!("no cell") };
        assert_eq!(cell.record(), Ok(CellRecord::Set { name: "a", value: b"b" }));
        let Ok(Effect::Cell(cell)) = of(Kind::Clear, 0, b"\x01a") else { panic!("no cell") };
        assert_eq!(cell.record(), Ok(CellRecord::Clear { name: "a" }));
    }

    #[test]
    fn what_no_log_writes_has_no_effect() {
        let of = |kind, index, payload| Effect::of(&header(kind, index), payload);
        let field = |field, expected, got| Err(Damage::Field { field, expected, got });
        assert_eq!(of(Kind::Entry, u64::MAX, b""), field("entry index", u64::MAX - 1, u64::MAX));
        assert_eq!(of(Kind::Hole, 7, &[6, 0, 0, 0, 0, 0, 0, 0]), field("hole end", 8, 6));
        assert_eq!(of(Kind::Hole, 7, b""), field("hole end", 8, 0), "its payload is not at hand");
        assert_eq!(of(Kind::Witness, 0, b""), Err(Damage::Frame(FrameError::Kind(9))));
    }
}
