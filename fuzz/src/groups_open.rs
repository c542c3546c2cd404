//! Target `groups_open`: any bytes as the records, the waiting cells and the checkpoint of groups.
//!
//! Invariants: no panic, and every refusal is typed; what is opened can be read, closed, and written to,
//! but for a group that says that records are gone, and its bounds are in order; what was opened once and
//! closed opens again, with the same groups.

use std::io::Write as _;

use indelible::format::frame::frame_bytes;
use indelible::io::sim::SimDisk;
use indelible::{Batch, Error, Log, Options};
use indelible_groups::{Groups, GroupsOptions, STATE_LOST};

/// One input: each piece has a byte that says what it is, two bytes of length, and its bytes.
pub fn run(bytes: &[u8]) {
    let disk = SimDisk::new(1);
    let door = || std::sync::Arc::new(disk.clone());
    let options = Options::new().background(false).tiny_segments(8 * 1024);
    let log = Log::create_in(door(), &options).unwrap();
    let mut batch = Batch::new();
    batch.set("groups.format", 1_u32.to_le_bytes().to_vec());
    log.commit(&batch).unwrap();
    let mut rest = bytes;
    while let [what, low, high, tail @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(tail.len());
        let (piece, after) = tail.split_at(length);
        put(&log, *what, piece);
        rest = after;
    }
    let first = match Groups::from_log(log, &GroupsOptions::new()) {
        Ok(groups) => look(&groups),
        Err(error) => return assert_typed(&error),
    };
    let (log, _) = Log::open_in(door(), &options).unwrap();
    let groups = Groups::from_log(log, &GroupsOptions::new()).unwrap();
    assert_eq!(groups.ids(), first);
}

fn put(log: &Log, what: u8, piece: &[u8]) {
    let mut batch = Batch::new();
    match what % 8 {
        0 => {
            let mut file = log.side_file_writer().unwrap();
            file.write_all(b"INDLGRP\x01").unwrap();
            file.write_all(piece).unwrap();
            batch.attach("groups.checkpoint.a", file.finish().unwrap());
        }
        1 => {
            batch.set("groups.pending.0", piece);
        }
        _ => {
            batch.append(piece);
        }
    }
    if let Err(error) = log.commit(&batch) {
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    }
}

/// Reads everything, writes to every group, closes. Returns the groups there are.
fn look(groups: &Groups) -> Vec<u64> {
    let ids = groups.ids();
    for id in &ids {
        let group = groups.group(*id).unwrap();
        let _damage = group.verify().unwrap();
        assert!(group.first() <= group.durable() && group.durable() <= group.next());
    }
    for id in &ids {
        let group = groups.group(*id).unwrap();
        let next = group.next();
        // A checkpoint of what the log does not have shows that records are gone.
        let is_marked = group.cell(STATE_LOST).is_some();
        match group.append(b"goes on") {
            Ok(ticket) => assert!(ticket.next() == next + 1 && !is_marked),
            Err(Error::InvalidArgument { .. }) if is_marked => {}
            Err(error) => assert!(matches!(error, Error::TooLarge { .. }), "{error}"),
        }
    }
    groups.maintain().unwrap();
    groups.close().unwrap();
    ids
}

fn assert_typed(error: &Error) {
    let typed = matches!(error, Error::Damaged { .. } | Error::UnsupportedVersion { .. });
    assert!(typed, "{error}");
}

/// The record of a page of eight entries with frames of so many bytes, in the region that starts at 0.
fn page(group: u8, first: u32, bytes: usize) -> Vec<u8> {
    let bytes = u32::try_from(bytes).unwrap();
    let places = (first..first + 8).flat_map(|at| [at.to_le_bytes(), bytes.to_le_bytes()]);
    [&[11, group, 0, 0][..], &places.flatten().collect::<Vec<u8>>()].concat()
}

/// Records and checkpoints as groups write them.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let groups = Groups::in_memory(&GroupsOptions::new()).unwrap();
    let group = groups.create_group(9).unwrap();
    let mut batch = Batch::new();
    batch.reset(3).append(b"a").append(b"b").append(b"c").set("vote", b"v").truncate(5).trim(4);
    group.commit(&batch).unwrap();
    let mut file = group.side_file_writer().unwrap();
    file.write_all(&[7; 300]).unwrap();
    let mut batch = Batch::new();
    batch.attach("snapshot", file.finish().unwrap()).clear("vote");
    group.commit(&batch).unwrap();
    groups.create_group(300).unwrap().append(b"another").unwrap();
    groups.remove_group(300).unwrap();
    let long = groups.create_group(10).unwrap();
    let first = u32::try_from(groups.log().next()).unwrap();
    (0..12).for_each(|_| drop(long.append(b"entry").unwrap()));
    // What a page says that is written once the region is complete.
    let page = page(10, first, frame_bytes(b"\x03\x0a\x00entry".len()));
    let records: Vec<Vec<u8>> = groups.log().iter(0).map(|entry| entry.unwrap().1).collect();
    let paged = [&records[..], &[page]].concat();
    let as_pieces = |what: u8, pieces: &[Vec<u8>]| -> Vec<u8> {
        let piece = |bytes: &Vec<u8>| {
            let [low, high] = u16::try_from(bytes.len()).unwrap().to_le_bytes();
            [vec![what, low, high], bytes.clone()].concat()
        };
        pieces.iter().flat_map(piece).collect()
    };
    groups.maintain().unwrap();
    let checkpoint = groups.log().side_file("groups.checkpoint.a").unwrap().unwrap();
    let checkpoint = checkpoint.read_all().unwrap()[8..].to_vec();
    let pending = b"\x07\x07\x09\x04vote".to_vec();
    vec![
        ("records".into(), as_pieces(2, &records)),
        ("checkpoint".into(), [as_pieces(2, &records), as_pieces(0, &[checkpoint])].concat()),
        ("page".into(), as_pieces(2, &paged)),
        ("pending".into(), [as_pieces(2, &records), as_pieces(1, &[pending])].concat()),
    ]
}
