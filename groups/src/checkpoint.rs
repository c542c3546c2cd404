//! The checkpoint: all groups at one position of the log underneath, as a side file of it
//! (docs/GROUPS.md).
//!
//! Owns: its bytes. Does not own: when it is written (`maintenance`), nor its checksum: the side
//! file has one.

use std::collections::{BTreeMap, HashMap, VecDeque};

use indelible::{CellValue, Cells, Change, Log, SideFile, SideFileRef, State};
use parking_lot::RwLock;

use crate::envelope::{Fields, put_varint};
use crate::index::{Index, Place, Stretch};
use crate::number::{to_u64, to_usize};
use crate::page::Page;
use crate::regions::{Region, Regions};
use crate::state::{File, GroupState, Ledger, Member, Table};

/// The first bytes of a checkpoint: what it is, and the version of its layout.
pub(crate) const CHECKPOINT_MAGIC: [u8; 8] = *b"INDLGRP\x01";

/// Most places for which room is made before they are read.
const ROOM_MAX: usize = 1 << 16;

const INLINE: u8 = 0;
const SIDE_FILE: u8 = 1;
/// Bytes of a reference to a side file.
const REFERENCE_BYTES: u64 = 20;

/// What a checkpoint says.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    /// The replay goes on with this entry of the log underneath.
    pub(crate) position: u64,
    pub(crate) ledger: Ledger,
    pub(crate) table: Table,
}

/// The bytes of a checkpoint at `position`. Nothing may be written meanwhile.
pub(crate) fn encode(position: u64, ledger: &Ledger, table: &RwLock<Table>) -> Vec<u8> {
    let mut out = CHECKPOINT_MAGIC.to_vec();
    put_varint(&mut out, position);
    put_varint(&mut out, ledger.next_file);
    put_varint(&mut out, to_u64(ledger.regions.iter().len()));
    for region in ledger.regions.iter() {
        for number in [region.start, region.bytes, region.live] {
            put_varint(&mut out, number);
        }
    }
    let table = table.read();
    put_varint(&mut out, to_u64(table.len()));
    let mut members: Vec<_> = table.values().collect();
    members.sort_unstable_by_key(|member| member.id);
    for member in members {
        put_varint(&mut out, member.id);
        put_group(&mut out, &member.state.read());
    }
    out
}

fn put_group(out: &mut Vec<u8>, group: &GroupState) {
    let (first, next) = (group.log.first(), group.log.next());
    put_varint(out, first);
    put_varint(out, next - first);
    for stretch in group.index.stretches() {
        match stretch {
            Stretch::Slots(_, slots) => {
                put_varint(out, to_u64(slots.len()) << 1);
                put_places(out, slots.iter().map(|slot| (*slot).into()));
            }
            Stretch::Page(page) => {
                put_varint(out, u64::from(page.count) << 1 | 1);
                for number in [page.at, page.skip.into(), page.base, page.bytes] {
                    put_varint(out, number);
                }
            }
        }
    }
    put_varint(out, to_u64(group.files.len()));
    for (id, file) in &group.files {
        put_varint(out, *id);
        put_varint(out, file.length);
        put_varint(out, to_u64(file.parts.len()));
        put_places(out, file.parts.iter().copied());
    }
    put_varint(out, to_u64(group.log.cells().len()));
    for (name, value) in group.log.cells().iter() {
        put_varint(out, to_u64(name.len()));
        out.extend_from_slice(name.as_bytes());
        match value {
            CellValue::Inline(bytes) => {
                out.push(INLINE);
                put_varint(out, to_u64(bytes.len()));
                out.extend_from_slice(bytes);
            }
            CellValue::SideFile(file) => {
                out.push(SIDE_FILE);
                out.extend_from_slice(&file.encode());
            }
        }
    }
}

/// Each place as its distance from the one before, which is small for neighbours; those that follow
/// one after the other, with as many bytes each, as their number.
fn put_places(out: &mut Vec<u8>, places: impl Iterator<Item = Place>) {
    let mut places = places.peekable();
    let mut before = 0_u64;
    while let Some(place) = places.next() {
        let distance = place.at.wrapping_sub(before).cast_signed();
        before = place.at;
        let mut more = 0_u64;
        while let Some(at) = before.checked_add(1)
            && places.next_if_eq(&Place { at, bytes: place.bytes }).is_some()
        {
            (before, more) = (at, more + 1);
        }
        put_varint(out, (distance << 1 ^ distance >> 63).cast_unsigned());
        put_varint(out, u64::from(place.bytes) << 1 | u64::from(more > 0));
        if more > 0 {
            put_varint(out, more);
        }
    }
}

/// The position that these bytes say, whether the log has what is before it or not.
pub(crate) fn position(bytes: &[u8]) -> Option<u64> {
    Fields(bytes.strip_prefix(&CHECKPOINT_MAGIC)?).varint()
}

/// The checkpoint that these bytes are, if they are one of this log.
pub(crate) fn decode(bytes: &[u8], log: &Log) -> Option<Checkpoint> {
    let bounds = log.first()..=log.next();
    let mut fields = Fields(bytes.strip_prefix(&CHECKPOINT_MAGIC)?);
    let position = fields.varint().filter(|position| bounds.contains(position))?;
    // Each place is that of another entry of the log, but for those that were lost.
    let mut left = *bounds.end();
    let next_file = fields.varint()?;
    let mut regions = VecDeque::new();
    for _ in 0..fields.varint()? {
        let [start, bytes, live] = [fields.varint()?, fields.varint()?, fields.varint()?];
        regions.push_back(Region { start, bytes, live });
    }
    let regions = Regions::from_list(regions, log.segment_bytes())?;
    let count = fields.varint()?;
    // Each group takes six bytes at least.
    let mut table = HashMap::with_capacity(to_usize(count).min(fields.0.len() / 6));
    for _ in 0..count {
        let id = fields.varint()?;
        if table.insert(id, Member::new(id, take_group(&mut fields, &mut left)?)).is_some() {
            return None;
        }
    }
    let ledger = Ledger::new(regions, next_file, log);
    fields.0.is_empty().then_some(Checkpoint { position, ledger, table })
}

fn take_group(fields: &mut Fields<'_>, left: &mut u64) -> Option<GroupState> {
    let first = fields.varint()?;
    let entries = fields.varint()?;
    let next = first.checked_add(entries)?;
    let mut index = Index::new(first);
    let mut at = first;
    while at < next {
        let folded = fields.varint()?;
        let count = folded >> 1;
        let end = at.checked_add(count).filter(|end| count > 0 && *end <= next)?;
        if folded & 1 == 1 {
            let (page, count) = (fields.varint()?, u32::try_from(count).ok()?);
            let skip = u32::try_from(fields.varint()?).ok()?;
            let [base, bytes] = [fields.varint()?, fields.varint()?];
            *left = left.checked_sub(count.into())?;
            index.push_page(Page { first: at, count, skip, at: page, base, bytes });
        } else {
            index.reserve(to_usize(count).min(ROOM_MAX));
            take_places(fields, count, left, |place| index.push(place))?;
        }
        at = end;
    }
    let mut files = BTreeMap::new();
    for _ in 0..fields.varint()? {
        let [id, length, count] = [fields.varint()?, fields.varint()?, fields.varint()?];
        let mut parts = Vec::with_capacity(to_usize(count).min(ROOM_MAX));
        take_places(fields, count, left, |place| parts.push(place))?;
        files.insert(id, File { length, parts, finished: None });
    }
    let mut log = State::from_parts(first, next, &Cells::new())?;
    for _ in 0..fields.varint()? {
        let cell = fields.text()?;
        let change = match fields.byte()? {
            INLINE => {
                let length = fields.varint()?;
                Change::Set(cell, fields.bytes(length)?)
            }
            SIDE_FILE => {
                let reference = fields.bytes(REFERENCE_BYTES)?;
                let file = SideFileRef::decode(reference.try_into().ok()?);
                files.get_mut(&file.id)?.finished = Some(file);
                Change::Attach(cell, SideFile::from_reference(file))
            }
            _ => return None,
        };
        // How large all of them may be is looked at after the replay.
        log.apply(&change).ok()?;
    }
    Some(GroupState { log, index, files, durable_floor: next, ..GroupState::default() })
}

/// Takes so many places. Those that are not lost are of `left` entries of the log; one that is lost
/// takes two bytes at least, so the bytes are the limit of these.
fn take_places(
    fields: &mut Fields<'_>,
    count: u64,
    left: &mut u64,
    mut take: impl FnMut(Place),
) -> Option<()> {
    let mut before = 0_u64;
    let mut count = count;
    while count > 0 {
        let folded = fields.varint()?;
        let distance = (folded >> 1).cast_signed() ^ -(folded & 1).cast_signed();
        let at = before.wrapping_add(distance.cast_unsigned());
        let size = fields.varint()?;
        let bytes = u32::try_from(size >> 1).ok()?;
        let more = if size & 1 == 1 { fields.varint()? } else { 0 };
        count = count.checked_sub(1)?.checked_sub(more)?;
        before = at.checked_add(more)?;
        if !(Place { at, bytes }).is_lost() {
            *left = left.checked_sub(1)?.checked_sub(more)?;
        }
        (at..=before).for_each(|at| take(Place { at, bytes }));
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Event, Record};
    use crate::state::apply;
    use indelible::Options;

    /// A log of ten entries.
    fn log() -> Log {
        let log = Log::in_memory(&Options::new().segment_bytes(64 * 1024)).unwrap();
        (0..10).for_each(|_| drop(log.append(b"entry").unwrap()));
        log
    }

    fn sample() -> (RwLock<Table>, Ledger) {
        let table = RwLock::new(Table::new());
        let regions = Regions::new(0, 200);
        let mut ledger = Ledger::new(regions, 0, &log());
        let file = SideFileRef { id: 3, length: 4, crc: 5 };
        let events = [
            (9, Event::Create),
            (1 << 40, Event::Create),
            (9, Event::Entry { index: 0, bytes: b"a", again: false }),
            (9, Event::Entry { index: 1, bytes: b"b", again: false }),
            (9, Event::Set { cell: "vote", value: b"x" }),
            (9, Event::Part { file: 3, nth: 0, bytes: b"part" }),
            (9, Event::Attach { cell: "snapshot", file }),
            (1 << 40, Event::Reset(70)),
            (1 << 40, Event::Entry { index: 70, bytes: b"c", again: false }),
            (9, Event::Entry { index: 0, bytes: b"a", again: true }),
        ];
        for ((group, event), at) in events.into_iter().zip(0..) {
            apply(&table, &mut ledger, &Record { group, event }, Place { at, bytes: 40 }).unwrap();
        }
        (table, ledger)
    }

    #[test]
    fn checkpoint_says_what_it_was_made_of() {
        let (table, ledger) = sample();
        let bytes = encode(10, &ledger, &table);
        let read = decode(&bytes, &ledger.log).unwrap();
        assert_eq!((read.position, read.ledger.next_file), (10, 4));
        assert!(read.ledger.regions.iter().eq(ledger.regions.iter()));
        assert_eq!(read.ledger.regions.sums().1, 4 * 40);
        let again = encode(10, &read.ledger, &RwLock::new(read.table));
        assert_eq!(again, bytes);
    }

    #[test]
    fn checkpoint_cut_or_longer_is_refused() {
        let (table, ledger) = sample();
        let mut bytes = encode(10, &ledger, &table);
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end], &ledger.log).is_none(), "{end} bytes");
        }
        bytes.push(0);
        assert!(decode(&bytes, &ledger.log).is_none());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_decoder_fail(
            at in 8_usize..60, byte: u8, tail in proptest::collection::vec(0_u8.., 0..12)
        ) {
            let (table, ledger) = sample();
            let mut bytes = encode(10, &ledger, &table);
            let at = at.min(bytes.len() - 1);
            bytes[at] = byte;
            bytes.truncate(at + 1);
            bytes.extend(tail);
            let _any = decode(&bytes, &ledger.log);
        }
    }
}
