//! docs/GROUPS.md against the bytes: its table of records, its example, and a checkpoint that is decoded
//! by what the page says of it.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

use std::io::Write as _;

use indelible::format::frame::frame_bytes;
use indelible::store::Store as _;
use indelible::{Batch, Options};
use indelible_groups::{Groups, GroupsOptions};

const PAGE: &str = include_str!("../docs/GROUPS.md");

/// Kind and name of each row of the table of records.
fn kinds() -> Vec<(u8, &'static str)> {
    let (_, table) = PAGE.split_once("<!-- records -->").unwrap();
    let rows = table.trim_start().lines().take_while(|line| line.starts_with('|')).skip(2);
    let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    cells.map(|cells| (cells[1].parse().unwrap(), cells[2])).collect()
}

/// The records in the log of these groups.
fn records(groups: &Groups) -> Vec<Vec<u8>> {
    groups.log().iter(groups.log().first()).map(|entry| entry.unwrap().1).collect()
}

#[test]
fn kinds_of_records_are_those_of_the_table() {
    let groups = Groups::in_memory(&GroupsOptions::new()).unwrap();
    let group = groups.create_group(9).unwrap();
    let change = |change: &dyn Fn(&mut Batch<'_>)| {
        let mut batch = Batch::new();
        change(&mut batch);
        group.commit(&batch).unwrap();
    };
    group.append(b"a").unwrap();
    group.append(b"b").unwrap();
    change(&|batch| {
        batch.truncate(1);
    });
    change(&|batch| {
        batch.trim(1);
    });
    change(&|batch| {
        batch.reset(5);
    });
    change(&|batch| {
        batch.set("c", b"v");
    });
    change(&|batch| {
        batch.clear("c");
    });
    let mut file = group.side_file_writer().unwrap();
    file.write_all(b"large").unwrap();
    let file = file.finish().unwrap();
    change(&|batch| {
        batch.attach("s", file.clone());
    });
    groups.remove_group(9).unwrap();
    let written: Vec<u8> = records(&groups).iter().map(|record| record[0]).collect();
    let kind = |name: &str| kinds().into_iter().find(|(_, row)| *row == name).unwrap().0;
    let names = [
        "Create", "Entry", "Entry", "Truncate", "Trim", "Reset", "Set", "Clear", "Part", "Attach",
        "Remove",
    ];
    assert_eq!(written, names.map(kind));
    assert_eq!(kinds().len(), 12);
}

#[test]
fn entry_that_is_written_again_has_a_kind_of_its_own() {
    let options = Options::new().background(false).tiny_segments(16 * 1024);
    let options = GroupsOptions::new().log(options).checkpoint_bytes(8 * 1024);
    let groups = Groups::in_memory(&options).unwrap();
    let (slow, busy) = (groups.create_group(9).unwrap(), groups.create_group(10).unwrap());
    slow.append(b"kept").unwrap();
    for index in 0..600 {
        let mut batch = Batch::new();
        batch.append(vec![7; 200]).trim(index);
        busy.commit(&batch).unwrap();
    }
    let kind = kinds().into_iter().find(|(_, row)| *row == "Again").unwrap().0;
    let expected = [&[kind, 9, 0], &b"kept"[..]].concat();
    assert!(records(&groups).contains(&expected));
}

#[test]
fn page_says_where_the_entries_are() {
    let options = Options::new().tiny_segments(16 * 1024);
    let groups = Groups::in_memory(&GroupsOptions::new().log(options)).unwrap();
    let group = groups.create_group(9).unwrap();
    for index in 0..100_usize {
        group.append(&vec![7; 100 + index]).unwrap();
    }
    groups.maintain().unwrap();
    groups.maintain().unwrap();
    let records = records(&groups);
    let kind = kinds().into_iter().find(|(_, row)| *row == "Page").unwrap().0;
    let page = records.iter().find(|record| record[0] == kind).unwrap();
    // First index 0 and base 0 take a byte each.
    assert_eq!(page[..4], [kind, 9, 0, 0]);
    let (places, []) = page[4..].as_chunks::<8>() else { panic!("{page:?}") };
    assert!(places.len() > 50);
    for (index, place) in (0..).zip(places) {
        let (at, bytes) = place.split_at(4);
        let at = u32::from_le_bytes(at.try_into().unwrap());
        let record = &records[usize::try_from(at).unwrap()];
        assert_eq!(record[..3], [3, 9, index]);
        let bytes = u32::from_le_bytes(bytes.try_into().unwrap());
        assert_eq!(usize::try_from(bytes).unwrap(), frame_bytes(record.len()));
    }
}

#[test]
fn example_is_what_is_written() {
    let (_, example) = PAGE.split_once("with the bytes `hi` is `").unwrap();
    let (example, _) = example.split_once('`').unwrap();
    let expected: Vec<u8> =
        example.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    let groups = Groups::in_memory(&GroupsOptions::new()).unwrap();
    let group = groups.create_group(9).unwrap();
    let mut batch = Batch::new();
    batch.reset(300).append(b"hi");
    group.commit(&batch).unwrap();
    assert_eq!(records(&groups).last(), Some(&expected));
}

/// Takes fields off the front of a checkpoint.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: u64) -> &'a [u8] {
        let (front, rest) = self.0.split_at(usize::try_from(count).unwrap());
        self.0 = rest;
        front
    }

    /// Seven bits per byte, the lowest first, the high bit set in all bytes but the last.
    fn number(&mut self) -> u64 {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.bytes(1)[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        number
    }

    fn named(&mut self) -> &'a [u8] {
        let length = self.number();
        self.bytes(length)
    }

    /// So many places, as runs: index of the record and bytes of its frame.
    fn places(&mut self, count: u64) -> Vec<(u64, u64)> {
        let (mut places, mut last) = (Vec::new(), 0_u64);
        while (places.len() as u64) < count {
            let zigzag = self.number();
            let distance = (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
            last = last.wrapping_add_signed(distance);
            let bytes = self.number();
            let more = if bytes & 1 == 1 { self.number() } else { 0 };
            places.extend((last..=last + more).map(|at| (at, bytes >> 1)));
            last += more;
        }
        assert_eq!(places.len() as u64, count);
        places
    }
}

/// The frames of these places hold these records.
fn check_places(groups: &Groups, places: &[(u64, u64)], starts: impl Fn(u64) -> Vec<u8>) {
    for ((at, bytes), nth) in places.iter().zip(0..) {
        let record = groups.log().entry(*at).unwrap();
        let start = starts(nth);
        assert_eq!(record[..start.len()], start);
        assert_eq!(*bytes, frame_bytes(record.len()) as u64);
    }
}

/// Takes the entries of a group of a small id and small indexes off a checkpoint. Returns how many of
/// them are in pages.
fn check_entries(groups: &Groups, fields: &mut Fields<'_>, id: u8) -> u64 {
    let group = groups.group(id.into()).unwrap();
    let (mut at, count) = (fields.number(), fields.number());
    assert_eq!((at, at + count), (group.first(), group.next()));
    let entry = |index: u64| vec![3, id, u8::try_from(index).unwrap()];
    let mut in_pages = 0;
    while at < group.next() {
        let folded = fields.number();
        let (count, in_page) = (folded >> 1, folded & 1 == 1);
        let places = if in_page {
            let [page, skip, base, bytes] = std::array::from_fn(|_| fields.number());
            in_pages += count;
            let record = groups.log().entry(page).unwrap();
            assert_eq!(record[..2], [11, id]);
            let mut head = Fields(&record[2..]);
            assert_eq!((head.number() + skip, head.number()), (at, base));
            let (places, []) = head.0.as_chunks::<8>() else { panic!("{record:?}") };
            let places = places.iter().skip(usize::try_from(skip).unwrap());
            let places: Vec<(u64, u64)> = places
                .take(usize::try_from(count).unwrap())
                .map(|place| {
                    let [at, bytes] = [0, 4].map(|from| {
                        u64::from(u32::from_le_bytes(place[from..from + 4].try_into().unwrap()))
                    });
                    (base + at, bytes)
                })
                .collect();
            assert_eq!(places.iter().map(|place| place.1).sum::<u64>(), bytes);
            places
        } else {
            fields.places(count)
        };
        check_places(groups, &places, |nth| entry(at + nth));
        at += count;
    }
    in_pages
}

#[test]
fn checkpoint_is_what_the_page_says() {
    let options = Options::new().background(false).tiny_segments(8 * 1024);
    let groups = Groups::in_memory(&GroupsOptions::new().log(options)).unwrap();
    let [one, two] = [1, 2].map(|id| groups.create_group(id).unwrap());
    for index in 0..60_u8 {
        one.append(&[index; 100]).unwrap();
        if index % 3 == 0 {
            two.append(&[index; 200]).unwrap();
        }
    }
    let mut batch = Batch::new();
    batch.trim(5).set("vote", b"v").attach("snapshot", two.write_side_file(b"large").unwrap());
    two.commit(&batch).unwrap();
    groups.maintain().unwrap();
    one.append(&[60; 100]).unwrap();
    groups.maintain().unwrap();

    let position = |cell: &str| {
        let bytes = groups.log().side_file(cell).unwrap().unwrap().read_all().unwrap();
        (Fields(&bytes[8..]).number(), bytes)
    };
    let newest = ["groups.checkpoint.a", "groups.checkpoint.b"].map(position).into_iter().max();
    let (_, bytes) = newest.unwrap();
    let mut fields = Fields(&bytes);
    assert_eq!(fields.bytes(8), b"INDLGRP\x01");
    assert_eq!(fields.number(), groups.log().next());
    let next_file = fields.number();
    let regions: Vec<[u64; 3]> =
        (0..fields.number()).map(|_| std::array::from_fn(|_| fields.number())).collect();
    assert!(regions.len() > 1 && regions.is_sorted());
    let sum = |nth: usize| regions.iter().map(|region| region[nth]).sum::<u64>();
    let stats = groups.stats();
    assert_eq!((sum(1), sum(2)), (stats.bytes, stats.live_bytes));

    assert_eq!((fields.number(), fields.number()), (2, 1));
    let in_pages = check_entries(&groups, &mut fields, 1);
    assert!((1..61).contains(&in_pages), "{in_pages}");
    assert_eq!((fields.number(), fields.number()), (0, 0), "side files and cells");
    assert_eq!(fields.number(), 2);
    check_entries(&groups, &mut fields, 2);
    let [files, file, length, parts] = std::array::from_fn(|_| fields.number());
    assert_eq!((files, length, parts), (1, 5, 1));
    assert!(file < next_file);
    let parts = fields.places(parts);
    check_places(&groups, &parts, |nth| {
        [9, 2, u8::try_from(file).unwrap(), u8::try_from(nth).unwrap()].to_vec()
    });
    assert_eq!(fields.number(), 2);
    assert_eq!((fields.named(), fields.number()), (&b"snapshot"[..], 1));
    let (id, rest) = fields.bytes(20).split_at(8);
    let (length, crc) = rest.split_at(8);
    assert_eq!([id, length].map(|it| u64::from_le_bytes(it.try_into().unwrap())), [file, 5]);
    assert_eq!(crc, crc32fast::hash(b"large").to_le_bytes());
    assert_eq!((fields.named(), fields.number()), (&b"vote"[..], 0));
    assert_eq!(fields.named(), b"v");
    assert!(fields.0.is_empty());
}
