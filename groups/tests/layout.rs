//! docs/GROUPS.md against the bytes: its table of records and its example.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

use std::io::Write as _;

use indelible::format::frame::frame_bytes;
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
