//! Records that could not be written because the disk is full: promises and trims go on all the
//! same, in cells of the log underneath, which it commits in its slots.
//!
//! Owns: which records those are, the shortest list with the same effect, its bytes (docs/GROUPS.md).
//! Does not own: the batch that puts them there or takes them out again (`commit`).

use indelible::Log;
use indelible::options::CELL_VALUE_BYTES_MAX;

use crate::envelope::{Event, Fields, Record, put_varint};
use crate::number::to_u64;

/// The cells that hold them, one after the other.
pub(crate) const PENDING: [&str; 3] = ["groups.pending.0", "groups.pending.1", "groups.pending.2"];

/// Records, each with its length before it, that count as written after all of the log.
#[derive(Debug, Default, Clone)]
pub(crate) struct Overlay(Vec<Vec<u8>>);

/// What a later record of the same makes unnecessary: a cell of a group, or its trim.
#[derive(Debug, PartialEq, Eq)]
enum Key<'a> {
    Cell(u64, &'a str),
    Trim(u64),
}

impl Overlay {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn records(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// The same with these records after it.
    pub(crate) fn with<'a>(&self, records: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut list = self.0.clone();
        for bytes in records {
            if let Some(record) = Record::decode(bytes)
                && let Some(key) = key(&record)
                && let Some(before) = superseded(&list, &key, record.group)
            {
                list.remove(before);
            }
            list.push(bytes.to_vec());
        }
        Self(list)
    }

    /// The value of each cell that holds a part of it; nothing if they have no room for it.
    pub(crate) fn values(&self) -> Option<Vec<Vec<u8>>> {
        let mut bytes = Vec::new();
        for record in &self.0 {
            put_varint(&mut bytes, to_u64(record.len()));
            bytes.extend_from_slice(record);
        }
        let values: Vec<_> = bytes.chunks(CELL_VALUE_BYTES_MAX).map(<[u8]>::to_vec).collect();
        (values.len() <= PENDING.len()).then_some(values)
    }

    /// What the cells of a log hold; nothing if that is no list of records.
    pub(crate) fn load(log: &Log) -> Option<Self> {
        let cells: Vec<_> = PENDING.iter().filter_map(|cell| log.cell(cell)).collect();
        let bytes = cells.concat();
        let mut fields = Fields(&bytes);
        let mut list = Vec::new();
        while !fields.0.is_empty() {
            let length = fields.varint()?;
            list.push(fields.bytes(length)?.to_vec());
        }
        Some(Self(list))
    }
}

fn key<'a>(record: &Record<'a>) -> Option<Key<'a>> {
    match record.event {
        Event::Set { cell, .. } | Event::Clear { cell } | Event::Attach { cell, .. } => {
            Some(Key::Cell(record.group, cell))
        }
        Event::Trim(_) => Some(Key::Trim(record.group)),
        _ => None,
    }
}

/// The record that one with this key takes the place of, unless the group began anew in between.
fn superseded(list: &[Vec<u8>], key_of_new: &Key<'_>, group: u64) -> Option<usize> {
    for (at, bytes) in list.iter().enumerate().rev() {
        let record = Record::decode(bytes)?;
        if key(&record).as_ref() == Some(key_of_new) {
            return Some(at);
        }
        let anew = matches!(record.event, Event::Create | Event::Remove | Event::Reset(_));
        if record.group == group && anew {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(group: u64, event: Event<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        Record { group, event }.encode(&mut bytes);
        bytes
    }

    fn events(overlay: &Overlay) -> Vec<Record<'_>> {
        overlay.records().map(|record| Record::decode(record).unwrap()).collect()
    }

    #[test]
    fn newest_value_of_a_cell_and_newest_trim_of_a_group_are_kept() {
        let set = |group, value| bytes(group, Event::Set { cell: "promise", value });
        let trim = |group, to| bytes(group, Event::Trim(to));
        let records =
            [set(1, b"a"), set(2, b"b"), trim(1, 4), set(1, b"c"), trim(2, 5), trim(1, 6)];
        let overlay = Overlay::default().with(records.iter().map(Vec::as_slice));
        let expected = [set(2, b"b"), set(1, b"c"), trim(2, 5), trim(1, 6)];
        assert!(overlay.records().eq(expected.iter().map(Vec::as_slice)), "{:?}", events(&overlay));
    }

    #[test]
    fn nothing_is_superseded_across_the_begin_of_a_group() {
        let set = |value| bytes(1, Event::Set { cell: "promise", value });
        let records =
            [set(b"a"), bytes(1, Event::Remove), bytes(1, Event::Create), set(b"b"), set(b"c")];
        let overlay = Overlay::default().with(records.iter().map(Vec::as_slice));
        assert_eq!(events(&overlay).len(), 4);
    }

    #[test]
    fn more_than_fits_is_refused() {
        let large = [7; 1000];
        let set = |group| bytes(group, Event::Set { cell: "c", value: &large });
        let records: Vec<_> = (0..4).map(set).collect();
        let overlay =
            |count| Overlay::default().with(records.iter().take(count).map(Vec::as_slice));
        assert_eq!(overlay(3).values().map(|values| values.len()), Some(3));
        assert_eq!(overlay(4).values(), None);
    }
}
