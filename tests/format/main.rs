//! docs/FORMAT.md is parsed here and compared with the encoders: its tables row by row, its limits,
//! and its worked example byte by byte. Checksums are computed anew from the page's own words.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use indelible::format::footer::{FOOTER_BYTES, encode_table};
use indelible::format::frame::{
    FRAME_HEADER_BYTES, FRAME_PAYLOAD_BYTES_MAX, encode_frame, peek_header,
};
use indelible::format::header::{SEGMENT_HEADER_BYTES, SEGMENT_HEADER_USED_BYTES};
use indelible::format::slot::{CELLS_BYTES_MAX, RUNS_MAX, SLOT_BYTES, SLOT_FIXED_BYTES};
use indelible::format::{
    CellValue, Checkpoint, Flags, Footer, FrameError, FrameHeader, Kind, Salt, SegmentHeader,
    SideFileRef, VERSION,
};
use indelible::options::{
    CELL_NAME_BYTES_MAX, CELL_VALUE_BYTES_MAX, CELLS_PER_BATCH_MAX, SEGMENT_BYTES_MAX,
};

mod example;
mod golden;
mod reader;

const PAGE: &str = include_str!("../../docs/FORMAT.md");
const GLOSSARY: &str = include_str!("../../docs/GLOSSARY.md");

/// CRC-32/ISO-HDLC bit by bit, as "Conventions" describes it.
fn crc(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let carry = crc & 1;
            crc >>= 1;
            if carry == 1 {
                crc ^= 0x04c1_1db7_u32.reverse_bits();
            }
        }
    }
    !crc
}

fn salted_crc(generation: u64, bytes: &[u8]) -> u32 {
    crc(&[&little(generation, 8), bytes].concat())
}

/// Where the frames stand.
const PLACE: u64 = 40_960;

/// The placed CRC, at that place.
fn placed_crc(generation: u64, bytes: &[u8]) -> u32 {
    salted_crc(generation, bytes) ^ u32::try_from(PLACE / 8).unwrap()
}

/// The CRC of a structure whose field at 12 is taken as zero.
fn crc_around(bytes: &[u8]) -> u32 {
    crc(&[&bytes[..12], &[0; 4], &bytes[16..]].concat())
}

/// The low bytes of a number, lowest first.
fn little(number: u64, size: usize) -> Vec<u8> {
    (0..size).map(|at| u8::try_from(number >> (8 * at) & 0xff).unwrap()).collect()
}

/// The rows of every table under a heading whose first column is `first`.
fn tables(heading: &str, first: &str) -> Vec<Vec<Vec<String>>> {
    let section = PAGE.split(&format!("\n{heading}\n")).nth(1).expect("the heading is on the page");
    let level = heading.split(' ').next().unwrap();
    let end = section.lines().position(|line| {
        line.starts_with('#') && line.split(' ').next().unwrap().len() <= level.len()
            || line.starts_with("### ")
    });
    let mut found = Vec::new();
    let mut inside = false;
    for line in section.lines().take(end.unwrap_or(usize::MAX)) {
        let cells: Vec<_> =
            line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        if !line.starts_with('|') {
            inside = false;
        } else if cells[0] == first {
            inside = true;
            found.push(Vec::new());
        } else if inside && !cells[0].starts_with("---") {
            found.last_mut().unwrap().push(cells);
        }
    }
    found
}

/// `4 + name_len`, with the names' values put in.
fn evaluate(text: &str, names: &[(&str, usize)]) -> usize {
    let value = |term: &str| {
        let known = names.iter().find(|(name, _)| *name == term).map(|(_, value)| *value);
        known.unwrap_or_else(|| term.parse().expect("a number or a known name"))
    };
    text.replace('`', "").split('+').map(|term| value(term.trim())).sum()
}

/// Compares a layout table with encoded bytes: rows without gap or overlap from 0 to the end, and
/// at each row's place the bytes of the field it names.
fn check_layout(
    rows: &[Vec<String>],
    encoded: &[u8],
    names: &[(&str, usize)],
    fields: &[(&str, Vec<u8>)],
) {
    let mut end = 0;
    let mut seen = Vec::new();
    for row in rows {
        let (offset, size) = (evaluate(&row[0], names), evaluate(&row[1], names));
        let field = row[2].trim_matches('`');
        assert_eq!(offset, end, "{field} is not where the row before ends");
        end = offset + size;
        let got = &encoded[offset..end];
        if field == "*zero*" {
            assert!(got.iter().all(|&byte| byte == 0), "{field} at {offset} is {got:?}");
            continue;
        }
        let expected = fields.iter().find(|(name, _)| *name == field);
        let (_, expected) = expected.unwrap_or_else(|| panic!("there is no field {field}"));
        assert_eq!(got, expected, "{field} is not at {offset}");
        seen.push(field);
    }
    assert_eq!(end, encoded.len(), "the rows do not end where the structure ends");
    let all: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
    assert_eq!(seen, all, "fields and rows differ");
}

fn bytes_of(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

#[test]
fn stated_crc_is_the_one_in_use() {
    assert_eq!(crc(b"123456789"), 0xcbf4_3926);
    assert!(PAGE.contains("`0xcbf43926`") && PAGE.contains("`0x04c11db7`"));
    let generation = 0x0123_4567_89ab_cdef;
    assert_eq!(Salt::new(generation).checksum(b"frames"), salted_crc(generation, b"frames"));
}

#[test]
fn segment_header_table_is_what_is_encoded() {
    let rows = tables("### Segment header", "offset");
    let header = SegmentHeader {
        uuid: *b"sixteen bytes id",
        number: 0x0101_0101_0101_0101,
        base: 0x0202_0202_0202_0202,
        generation: 0x0303_0303_0303_0303,
        first_sequence: 0x0404_0404_0404_0404,
        previous_generation: 0x0505_0505_0505_0505,
        previous_end: 0x0606_0606_0606_0606,
        segment_bytes: 0x0707_0707_0707_0707,
        features: 0x0808_0808_0808_0808,
        previous_base: 0x0909_0909_0909_0909,
        replaces: 0x0a0a_0a0a_0a0a_0a0a,
    };
    let encoded = header.encode();
    assert_eq!(encoded.len(), SEGMENT_HEADER_USED_BYTES);
    assert!(PAGE.contains(&format!("The first {SEGMENT_HEADER_BYTES} bytes; those from 128 on")));
    check_layout(
        &rows[0],
        &encoded,
        &[],
        &[
            ("magic", bytes_of("INDLSEGM")),
            ("version", little(1, 4)),
            ("crc", little(crc_around(&encoded).into(), 4)),
            ("uuid", bytes_of("sixteen bytes id")),
            ("number", vec![1; 8]),
            ("base", vec![2; 8]),
            ("generation", vec![3; 8]),
            ("first_sequence", vec![4; 8]),
            ("previous_generation", vec![5; 8]),
            ("previous_end", vec![6; 8]),
            ("segment_bytes", vec![7; 8]),
            ("features", vec![8; 8]),
            ("previous_base", vec![9; 8]),
            ("replaces", vec![10; 8]),
        ],
    );
}

#[test]
fn frame_table_is_what_is_encoded() {
    let rows = &tables("### Frame", "offset")[0];
    let header = FrameHeader {
        length: 3,
        sequence: 0x0101_0101_0101_0101,
        index: 0x0202_0202_0202_0202,
        lag: 0x0303,
        kind: Kind::Entry,
        flags: Flags::FIRST | Flags::LAST,
    };
    let mut frame = Vec::new();
    encode_frame(&mut frame, &Salt::new(9), PLACE, &header, &[b"abc"]);
    assert_eq!(&frame[FRAME_HEADER_BYTES..], b"abc\0\0\0\0\0");
    let check = placed_crc(9, &frame[8..32]);
    check_layout(
        rows,
        &frame[..FRAME_HEADER_BYTES],
        &[],
        &[
            ("crc", little(placed_crc(9, &frame[8..]).into(), 4)),
            ("check", little(check.into(), 4)),
            ("sequence", vec![1; 8]),
            ("index", vec![2; 8]),
            ("length", little(3, 4)),
            ("lag", vec![3; 2]),
            ("kind", vec![1]),
            ("flags", vec![3]),
        ],
    );
    let flags = format!("{} FIRST of its batch, {} LAST of its batch, {} LZ4", 1, 2, 4);
    assert_eq!((Flags::FIRST, Flags::LAST, Flags::LZ4), (1, 2, 4));
    assert!(rows[7][3].contains(&flags));
}

#[test]
fn kinds_table_lists_every_kind() {
    let rows = &tables("### Frame", "kind")[0];
    assert_eq!(rows.len(), Kind::ALL.len());
    for (row, kind) in rows.iter().zip(Kind::ALL) {
        assert_eq!(row[0], kind.number().to_string());
        assert_eq!(row[1], format!("{kind:?}"));
        assert_eq!(Kind::from_number(kind.number()), Some(kind));
    }
}

/// A header with a right check, whatever else it says.
fn forged_header(kind: Kind, flags: u8, length: u32) -> Result<FrameHeader, FrameError> {
    let mut bytes = vec![0; FRAME_HEADER_BYTES];
    bytes[24..28].copy_from_slice(&little(length.into(), 4));
    (bytes[30], bytes[31]) = (kind.number(), flags);
    let check = placed_crc(9, &bytes[8..32]);
    bytes[4..8].copy_from_slice(&little(check.into(), 4));
    peek_header(&bytes, &Salt::new(9), PLACE)
}

#[test]
fn stated_payload_lengths_are_those_accepted() {
    let limits = [
        (Kind::Set, 0, 2, 1057),
        (Kind::Clear, 0, 2, 33),
        (Kind::Attach, 0, 22, 53),
        (Kind::Truncate, 0, 0, 0),
        (Kind::Trim, 0, 0, 0),
        (Kind::Reset, 0, 0, 0),
        (Kind::Witness, 0, 0, 0),
        (Kind::Hole, 0, 8, 8),
        (Kind::Entry, 0, 0, FRAME_PAYLOAD_BYTES_MAX),
        (Kind::Entry, Flags::LZ4, 5, FRAME_PAYLOAD_BYTES_MAX),
    ];
    for (kind, flags, least, most) in limits {
        for length in [least, most] {
            assert!(forged_header(kind, flags, length).is_ok(), "{kind:?} {length}");
        }
        for length in [least.wrapping_sub(1), most + 1] {
            let refused = forged_header(kind, flags, length);
            assert_eq!(refused, Err(FrameError::Length(length)), "{kind:?}");
        }
    }
    let page = PAGE.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(page.contains(
        "Set 2..=1057, Clear 2..=33, Attach 22..=53, Truncate, Trim, Reset and Witness 0, \
         Hole 8, Entry anything up to 1073733632 (from 5 with LZ4)"
    ));
}

#[test]
fn side_file_reference_table_is_what_is_encoded() {
    let reference = SideFileRef { id: 0x0101_0101_0101_0101, length: 0x0202, crc: 0x0303_0303 };
    check_layout(
        &tables("### Frame", "offset")[1],
        &reference.encode(),
        &[],
        &[("id", vec![1; 8]), ("length", little(0x0202, 8)), ("crc", vec![3; 4])],
    );
}

#[test]
fn footer_table_is_what_is_encoded() {
    let footer = Footer {
        table_crc: 0x0101_0101,
        generation: 0x0202_0202_0202_0202,
        base: 0x0303_0303_0303_0303,
        count: 0x0404_0404_0404_0404,
        data_end: 0x0505_0505_0505_0505,
        next_sequence: 0x0606_0606_0606_0606,
        flags: 0x0707_0707,
    };
    let encoded = footer.encode(&Salt::new(footer.generation));
    assert_eq!(encoded.len(), FOOTER_BYTES);
    check_layout(
        &tables("### Footer", "offset")[0],
        &encoded,
        &[],
        &[
            ("magic", bytes_of("INDLFOOT")),
            ("crc", little(salted_crc(footer.generation, &encoded[12..]).into(), 4)),
            ("table_crc", vec![1; 4]),
            ("generation", vec![2; 8]),
            ("base", vec![3; 8]),
            ("count", vec![4; 8]),
            ("data_end", vec![5; 8]),
            ("next_sequence", vec![6; 8]),
            ("flags", vec![7; 4]),
        ],
    );
    assert_eq!(encode_table(&[0x0403_0201, 8]), [1, 2, 3, 4, 8, 0, 0, 0]);
}

#[test]
fn slot_tables_are_what_is_encoded() {
    let tables = tables("## Slot", "offset");
    let value = CellValue::Inline(Arc::from(b"value".as_slice()));
    let checkpoint = Checkpoint {
        uuid: *b"sixteen bytes id",
        generation: 0x0101_0101_0101_0101,
        sequence: 0x0202_0202_0202_0202,
        first: 0x0303_0303_0303_0303,
        next: 0x0404_0404_0404_0404,
        tail_number: 0x0505_0505_0505_0505,
        tail_generation: 0x0606_0606_0606_0606,
        tail_offset: 4136,
        reach: 8200,
        last_frame: 4096,
        segment_bytes: 65536,
        clean: true,
        creating: false,
        holes: 0x0707_0707_0707_0707,
        runs: vec![(0x0101_0101_0101_0101, 0x0505_0505_0505_0505)],
        cells: BTreeMap::from([("abc".to_owned(), value)]),
    };
    let slot = checkpoint.encode().unwrap();
    assert_eq!(slot.len(), SLOT_BYTES);
    check_layout(
        &tables[0],
        &slot[..SLOT_FIXED_BYTES],
        &[],
        &[
            ("magic", bytes_of("INDLMETA")),
            ("version", little(1, 4)),
            ("crc", little(crc_around(slot.as_slice()).into(), 4)),
            ("uuid", bytes_of("sixteen bytes id")),
            ("generation", vec![1; 8]),
            ("sequence", vec![2; 8]),
            ("first", vec![3; 8]),
            ("next", vec![4; 8]),
            ("tail_number", vec![5; 8]),
            ("tail_generation", vec![6; 8]),
            ("tail_offset", little(4136, 8)),
            ("reach", little(8200, 8)),
            ("segment_bytes", little(65536, 8)),
            ("flags", vec![1]),
            ("run_count", vec![1]),
            ("cell_count", little(1, 2)),
            ("last_frame", little(512, 4)),
            ("holes", vec![7; 8]),
            ("features", vec![0; 8]),
        ],
    );
    check_layout(&tables[1], &slot[128..144], &[], &[("first", vec![1; 8]), ("last", vec![5; 8])]);
    check_layout(
        &tables[2],
        &slot[144..156],
        &[("name_len", 3), ("value_len", 5)],
        &[
            ("name_len", vec![3]),
            ("kind", vec![0]),
            ("value_len", little(5, 2)),
            ("name", bytes_of("abc")),
            ("value", bytes_of("value")),
        ],
    );
    assert!(slot[156..].iter().all(|&byte| byte == 0));
}

#[test]
fn limits_table_is_the_one_in_force() {
    let to_u64 = |size: usize| u64::try_from(size).unwrap();
    let limits = [
        ("smallest segment", indelible::format::SEGMENT_BYTES_FLOOR),
        ("largest segment", SEGMENT_BYTES_MAX),
        ("longest payload", u64::from(FRAME_PAYLOAD_BYTES_MAX)),
        ("longest cell name", to_u64(CELL_NAME_BYTES_MAX)),
        ("longest inline value", to_u64(CELL_VALUE_BYTES_MAX)),
        ("all cells of a slot", to_u64(CELLS_BYTES_MAX)),
        ("cells changed by one batch", to_u64(CELLS_PER_BATCH_MAX)),
        ("runs of a slot", to_u64(RUNS_MAX)),
    ];
    let expected: Vec<_> =
        limits.map(|(what, limit)| vec![what.to_owned(), limit.to_string()]).into();
    assert_eq!(tables("## Limits", "limit")[0], expected);
}

#[test]
fn page_is_that_of_the_version_in_force() {
    assert!(PAGE.starts_with(&format!("# Format, version {VERSION}\n")));
}

#[test]
fn glossary_gives_each_word_one_meaning_in_order() {
    let words: Vec<_> = GLOSSARY.lines().filter(|line| line.starts_with("| **")).collect();
    let words: Vec<_> = words.iter().map(|line| line.split("**").nth(1).unwrap()).collect();
    assert!(words.len() > 40);
    assert!(words.windows(2).all(|pair| pair[0] < pair[1]), "unordered or doubled: {words:?}");
}
