//! The worked example: two files, shown in full, that the encoders write and the decoders read.

use std::collections::BTreeMap;
use std::fmt::Write;

use indelible::format::cell::{CellRecord, decode_cell, encode_cell};
use indelible::format::frame::{decode_frame, encode_frame};
use indelible::format::header::SEGMENT_HEADER_BYTES;
use indelible::format::slot::{METADATA_BYTES, SLOT_BYTES};
use indelible::format::{
    Checkpoint, FileName, Flags, FrameError, FrameHeader, Kind, Salt, SegmentHeader, SegmentName,
};
use indelible::{Log, Options};

use super::{PAGE, crc_around, little};

const UUID: [u8; 16] = *b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff";
const SEGMENT: &str = "0000000000000001-0000000000000000.seg";

fn example_checkpoint(generation: u64) -> Checkpoint {
    Checkpoint {
        uuid: UUID,
        generation,
        tail_number: 1,
        tail_generation: 0x0123_4567_89ab_cdef,
        tail_offset: 4096,
        reach: 65536,
        segment_bytes: 65536,
        runs: vec![(1, 1)],
        ..Checkpoint::default()
    }
}

fn example_header() -> SegmentHeader {
    SegmentHeader {
        uuid: UUID,
        number: 1,
        base: 0,
        generation: 0x0123_4567_89ab_cdef,
        first_sequence: 1,
        previous_generation: 0,
        previous_end: 0,
        segment_bytes: 65536,
        features: 0,
        previous_base: 0,
        replaces: 0,
    }
}

/// The files of the worked example, from the encoders.
fn example() -> BTreeMap<&'static str, Vec<u8>> {
    let mut metadata = example_checkpoint(4).encode().unwrap().to_vec();
    metadata.extend_from_slice(example_checkpoint(3).encode().unwrap().as_slice());

    let header = example_header();
    let salt = Salt::new(header.generation);
    let mut segment = header.encode().to_vec();
    segment.resize(SEGMENT_HEADER_BYTES, 0);
    let (length, sequence, index, lag) = (5, 1, 0, 1);
    let frame = FrameHeader { length, sequence, index, lag, kind: Kind::Entry, flags: Flags::LAST };
    let promise = little(7, 8);
    let set = CellRecord::Set { name: "promise", value: &promise };
    encode_cell(&mut segment, &salt, 4096, &FrameHeader { flags: Flags::FIRST, ..frame }, &set);
    encode_frame(&mut segment, &salt, 4144, &frame, &[b"hello"]);
    segment.resize(65536, 0);
    BTreeMap::from([("metadata", metadata), (SEGMENT, segment)])
}

/// Sixteen bytes a line, lines of zeros left out.
fn hex_dump(bytes: &[u8]) -> String {
    let mut dump = String::new();
    for (line, chunk) in bytes.chunks(16).enumerate() {
        if chunk.iter().all(|&byte| byte == 0) {
            continue;
        }
        write!(dump, "{:04x} ", line * 16).unwrap();
        for byte in chunk {
            write!(dump, " {byte:02x}").unwrap();
        }
        dump.push_str("  |");
        let shown = |byte: u8| if byte.is_ascii_graphic() { char::from(byte) } else { '.' };
        dump.extend(chunk.iter().map(|&byte| shown(byte)));
        dump.push_str("|\n");
    }
    dump
}

/// The dump of a file on the page.
fn dump_on_page(name: &str) -> &str {
    let fence = format!("```hex {name}\n");
    let start = PAGE.find(&fence).expect("the example is on the page") + fence.len();
    PAGE[start..].split("```").next().unwrap()
}

/// The bytes of a dump.
fn parse_dump(dump: &str, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    for line in dump.lines() {
        let (offset, rest) = line.split_once("  ").unwrap();
        let from = usize::from_str_radix(offset, 16).unwrap();
        let shown = rest.split('|').next().unwrap().split_whitespace();
        for (place, byte) in bytes[from..].iter_mut().zip(shown) {
            *place = u8::from_str_radix(byte, 16).unwrap();
        }
    }
    bytes
}

#[test]
fn worked_example_is_what_the_encoders_write() {
    for (name, bytes) in example() {
        let dump = hex_dump(&bytes);
        assert_eq!(dump_on_page(name), dump, "docs/FORMAT.md should show for {name}:\n{dump}");
    }
}

#[test]
fn worked_example_reads_back_as_the_page_says() {
    let metadata = parse_dump(dump_on_page("metadata"), METADATA_BYTES);
    for (slot, generation) in [(&metadata[..SLOT_BYTES], 4), (&metadata[SLOT_BYTES..], 3)] {
        assert_eq!(slot[12..16], little(crc_around(slot).into(), 4));
        let checkpoint = Checkpoint::decode(slot).unwrap();
        assert_eq!(checkpoint, example_checkpoint(generation));
        assert_eq!(checkpoint.encode().unwrap().as_slice(), slot);
    }

    let segment = parse_dump(dump_on_page(SEGMENT), 65536);
    let header = SegmentHeader::decode(&segment).unwrap();
    let name = SegmentName { number: header.number, base: header.base };
    assert_eq!(FileName::classify(SEGMENT), FileName::Segment(name));
    assert_eq!(header.encode(), segment[..128]);
    let salt = Salt::new(header.generation);
    let (set, payload, bytes) = decode_frame(&segment[4096..], &salt, 4096).unwrap();
    let record = decode_cell(set.kind, payload).unwrap().unwrap();
    assert_eq!(record, CellRecord::Set { name: "promise", value: &little(7, 8) });
    assert!(set.is_first() && !set.is_last() && set.sequence == 1 && set.lag == 1);
    assert_eq!(bytes, 48);
    let (entry, payload, bytes) = decode_frame(&segment[4144..], &salt, 4144).unwrap();
    assert_eq!((entry.kind, entry.index, payload), (Kind::Entry, 0, b"hello".as_slice()));
    assert!(entry.is_last() && !entry.is_first() && entry.sequence == 1);
    let end = 4144 + bytes;
    assert_eq!(decode_frame(&segment[end..], &salt, end as u64), Err(FrameError::End));
}

#[test]
fn worked_example_opens_as_a_log() {
    let dir = tempfile::tempdir().unwrap();
    for (name, length) in [("metadata", METADATA_BYTES), (SEGMENT, 65536)] {
        std::fs::write(dir.path().join(name), parse_dump(dump_on_page(name), length)).unwrap();
    }
    let (log, report) = Log::open(dir.path(), &Options::new().background(false)).unwrap();
    assert_eq!((log.first(), log.next(), report.batches_replayed), (0, 1, 1));
    assert_eq!(log.entry(0).unwrap(), b"hello");
    assert_eq!(log.cell("promise").unwrap()[..], little(7, 8));
    assert_eq!(log.uuid().as_bytes(), &UUID);
}
