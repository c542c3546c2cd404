//! The bytes of one record of a group, as an entry of the log underneath (docs/GROUPS.md).
//!
//! Owns: the encoding of a [`Record`] and its inverse. Does not own: what a record does (`state`),
//! nor any checksum: the frame around the entry has one.
//!
//! A record is a kind, the group as a varint, and the fields of its kind. No decoder panics, nor
//! allocates, whatever the bytes; what decodes encodes to the same bytes again.

use indelible::SideFileRef;

use crate::number::{to_u64, to_usize};
use crate::page::PLACE_BYTES;

/// Most bytes of an envelope before the entry it carries: kind, group, index.
pub(crate) const ENVELOPE_BYTES_MAX: usize = 1 + 10 + 10;

const CREATE: u8 = 1;
const REMOVE: u8 = 2;
const ENTRY: u8 = 3;
const TRUNCATE: u8 = 4;
const TRIM: u8 = 5;
const RESET: u8 = 6;
const SET: u8 = 7;
const CLEAR: u8 = 8;
const PART: u8 = 9;
const ATTACH: u8 = 10;
const PAGE: u8 = 11;
const AGAIN: u8 = 12;

/// What happened to a group, borrowed from the entry that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) group: u64,
    pub(crate) event: Event<'a>,
}

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// The group begins, empty.
    Create,
    /// The group and all it holds is gone.
    Remove,
    /// An entry: the next one, or one that the group has already, again, at a new place.
    Entry {
        index: u64,
        bytes: &'a [u8],
        again: bool,
    },
    Truncate(u64),
    Trim(u64),
    Reset(u64),
    Set {
        cell: &'a str,
        value: &'a [u8],
    },
    Clear {
        cell: &'a str,
    },
    /// A part of a side file: the next one, or an old one at a new place.
    Part {
        file: u64,
        nth: u64,
        bytes: &'a [u8],
    },
    Attach {
        cell: &'a str,
        file: SideFileRef,
    },
    /// The places of entries from `first` on, in the region that starts at `base` (`page`).
    Page {
        first: u64,
        base: u64,
        places: &'a [u8],
    },
}

impl<'a> Record<'a> {
    /// The same as it is written again.
    pub(crate) fn again(self) -> Self {
        match self.event {
            Event::Entry { index, bytes, .. } => {
                Self { event: Event::Entry { index, bytes, again: true }, ..self }
            }
            _ => self,
        }
    }

    /// Appends the bytes of the record.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut start = |kind: u8, numbers: &[u64]| {
            out.push(kind);
            put_varint(out, self.group);
            for number in numbers {
                put_varint(out, *number);
            }
        };
        match self.event {
            Event::Create => start(CREATE, &[]),
            Event::Remove => start(REMOVE, &[]),
            Event::Truncate(to) => start(TRUNCATE, &[to]),
            Event::Trim(to) => start(TRIM, &[to]),
            Event::Reset(base) => start(RESET, &[base]),
            Event::Entry { index, bytes, again } => {
                start(if again { AGAIN } else { ENTRY }, &[index]);
                out.extend_from_slice(bytes);
            }
            Event::Part { file, nth, bytes } => {
                start(PART, &[file, nth]);
                out.extend_from_slice(bytes);
            }
            Event::Page { first, base, places } => {
                start(PAGE, &[first, base]);
                out.extend_from_slice(places);
            }
            Event::Set { cell, value } => {
                start(SET, &[to_u64(cell.len())]);
                out.extend_from_slice(cell.as_bytes());
                out.extend_from_slice(value);
            }
            Event::Clear { cell } => {
                start(CLEAR, &[to_u64(cell.len())]);
                out.extend_from_slice(cell.as_bytes());
            }
            Event::Attach { cell, file } => {
                start(ATTACH, &[to_u64(cell.len())]);
                out.extend_from_slice(cell.as_bytes());
                out.extend_from_slice(&file.encode());
            }
        }
    }

    /// The record that these bytes are, if they are one.
    pub(crate) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let kind = fields.byte()?;
        let group = fields.varint()?;
        let event = match kind {
            CREATE => Event::Create,
            REMOVE => Event::Remove,
            TRUNCATE => Event::Truncate(fields.varint()?),
            TRIM => Event::Trim(fields.varint()?),
            RESET => Event::Reset(fields.varint()?),
            ENTRY | AGAIN => {
                let (index, again) = (fields.varint()?, kind == AGAIN);
                Event::Entry { index, bytes: fields.rest(), again }
            }
            PART => {
                Event::Part { file: fields.varint()?, nth: fields.varint()?, bytes: fields.rest() }
            }
            SET => Event::Set { cell: fields.text()?, value: fields.rest() },
            CLEAR => Event::Clear { cell: fields.text()? },
            ATTACH => {
                let cell = fields.text()?;
                let file = SideFileRef::decode(fields.rest().try_into().ok()?);
                Event::Attach { cell, file }
            }
            PAGE => {
                let [first, base] = [fields.varint()?, fields.varint()?];
                let places = fields.rest();
                if places.is_empty() || places.len() % PLACE_BYTES > 0 {
                    return None;
                }
                Event::Page { first, base, places }
            }
            _ => return None,
        };
        fields.0.is_empty().then_some(Self { group, event })
    }
}

/// Appends a number, seven bits a byte, the lowest first.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while let Ok(low) = u8::try_from(number & 0x7f)
        && number > 0x7f
    {
        out.push(low | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// Bytes that are taken off the front, field by field.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A number, in the only form in which it is written.
    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let low = u64::from(byte & 0x7f);
            let placed = low << shift;
            if placed >> shift != low {
                return None;
            }
            number |= placed;
            if byte & 0x80 == 0 {
                // No number ends with zero bits that could have been left out.
                return (byte != 0 || shift == 0).then_some(number);
            }
        }
        None
    }

    pub(crate) fn bytes(&mut self, count: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(to_usize(count))?;
        self.0 = rest;
        Some(taken)
    }

    /// A text with its length in front.
    pub(crate) fn text(&mut self) -> Option<&'a str> {
        let length = self.varint()?;
        std::str::from_utf8(self.bytes(length)?).ok()
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn events() -> Vec<Event<'static>> {
        let file = SideFileRef { id: 7, length: 8, crc: 9 };
        vec![
            Event::Create,
            Event::Remove,
            Event::Entry { index: 300, bytes: b"entry", again: false },
            Event::Entry { index: 300, bytes: b"entry", again: true },
            Event::Truncate(1),
            Event::Trim(u64::MAX),
            Event::Reset(0),
            Event::Set { cell: "promise", value: b"7" },
            Event::Clear { cell: "promise" },
            Event::Part { file: 7, nth: 1, bytes: b"part" },
            Event::Attach { cell: "snapshot", file },
            Event::Page { first: 300, base: 7, places: &[1; 16] },
        ]
    }

    #[test]
    fn records_are_what_they_were() {
        for event in events() {
            for group in [0, 127, 128, u64::MAX] {
                let record = Record { group, event };
                let mut bytes = Vec::new();
                record.encode(&mut bytes);
                assert_eq!(Record::decode(&bytes), Some(record));
            }
        }
    }

    #[test]
    fn record_cut_short_is_refused_or_a_shorter_value() {
        for event in events() {
            let mut bytes = Vec::new();
            Record { group: 1, event }.encode(&mut bytes);
            for end in 0..bytes.len() {
                if let Some(record) = Record::decode(&bytes[..end]) {
                    let open_ended = matches!(
                        record.event,
                        Event::Entry { .. }
                            | Event::Part { .. }
                            | Event::Set { .. }
                            | Event::Page { .. }
                    );
                    assert!(open_ended, "{record:?} out of {event:?}");
                }
            }
        }
    }

    #[test]
    fn entry_of_256_bytes_costs_no_more_than_24_bytes() {
        let mut bytes = Vec::new();
        let event = Event::Entry { index: u64::MAX, bytes: &[0; 256], again: false };
        Record { group: u64::MAX, event }.encode(&mut bytes);
        assert_eq!(bytes.len() - 256, ENVELOPE_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn what_decodes_encodes_to_the_same_bytes(
            bytes in proptest::collection::vec(any::<u8>(), 0..40), kind in 0_u8..14
        ) {
            let bytes = [vec![kind], bytes].concat();
            if let Some(record) = Record::decode(&bytes) {
                let mut again = Vec::new();
                record.encode(&mut again);
                prop_assert_eq!(again, bytes);
            }
        }
    }
}
