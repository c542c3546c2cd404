//! `frame_decode`: frames, segment headers, footers and offset tables from any bytes.
//!
//! Input: a mode byte, the generation (8 bytes), then the bytes. Odd modes repair the checksums
//! first, so that mutations reach what stands after them.
//!
//! Invariants:
//! 1. No decoder panics, reads out of bounds or allocates.
//! 2. A frame that decodes takes a multiple of 8 bytes, all inside the input, has the payload length
//!    its header states, and `peek_header` and `read_header_unchecked` agree with it.
//! 3. Encoding what was decoded gives the same bytes, but for padding that no log writes.
//! 4. A frame does not decode under another generation or at another place.
//! 5. A frame that is cut anywhere is `Short`, and asks for no more than it has.
//! 6. The records in its payload (cell records, holes) decode totally and re-encode to the same
//!    payload.
//! 7. A header or footer that decodes re-encodes to the same bytes; a footer's table and frames
//!    fit its file.

use indelible::format::cell::{CellRecord, decode_cell, encode_cell};
use indelible::format::error::FrameError;
use indelible::format::footer::{FOOTER_BYTES, table_bytes, table_offset};
use indelible::format::frame::{
    FRAME_ALIGN, FRAME_HEADER_BYTES, decode_frame, decode_hole, encode_frame, encode_hole,
    peek_header, read_header_unchecked,
};
use indelible::format::header::SEGMENT_HEADER_USED_BYTES;
use indelible::format::{Footer, FrameHeader, Kind, Salt, SegmentHeader};

use crate::Seed;
use crate::script::Script;

/// Mode bits.
const REPAIR: u8 = 1;
const SEGMENT_BYTES: u64 = 65536;
/// Where the frames stand.
const PLACE: u64 = 4096;

/// One execution.
pub fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let mode = script.u8();
    let salt = Salt::new(script.u64());
    let bytes = script.rest();
    if mode & REPAIR == 0 {
        check_all(bytes, &salt);
        return;
    }
    let mut repaired = bytes.to_vec();
    match mode >> 1 & 3 {
        0 | 1 => repair_frame(&mut repaired, &salt, PLACE),
        2 => repair_header(&mut repaired),
        _ => repair_footer(&mut repaired, &salt),
    }
    check_all(&repaired, &salt);
}

fn check_all(bytes: &[u8], salt: &Salt) {
    check_frame(bytes, salt);
    check_header(bytes);
    check_footer(bytes, salt);
}

/// Makes both checksums of the frame at the start of `bytes`, which is `offset` of its segment,
/// right, if its length allows.
pub fn repair_frame(bytes: &mut [u8], salt: &Salt, offset: u64) {
    if bytes.len() < FRAME_HEADER_BYTES {
        return;
    }
    let place = u32::try_from(offset / 8).unwrap();
    let check = salt.checksum(&bytes[8..32]) ^ place;
    bytes[4..8].copy_from_slice(&check.to_le_bytes());
    let length = u32::from_le_bytes(bytes[24..28].try_into().unwrap()) as usize;
    let Some(end) = length.checked_add(FRAME_HEADER_BYTES).map(|end| end.next_multiple_of(8))
    else {
        return;
    };
    if let Some(covered) = bytes.get(8..end) {
        let crc = salt.checksum(covered) ^ place;
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
    }
}

/// Makes magic and checksum of the segment header at the start right.
pub fn repair_header(bytes: &mut [u8]) {
    if let Some(used) = bytes.get_mut(..SEGMENT_HEADER_USED_BYTES) {
        used[..8].copy_from_slice(b"INDLSEGM");
        repair_around(used);
    }
}

/// Makes the checksum right whose field is the four bytes at 12.
pub fn repair_around(bytes: &mut [u8]) {
    bytes[12..16].fill(0);
    let crc = crc32fast::hash(bytes);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
}

/// Makes magic, generation and checksum of a footer right.
pub fn repair_footer(bytes: &mut [u8], salt: &Salt) {
    if let Some(footer) = bytes.get_mut(..FOOTER_BYTES) {
        footer[..8].copy_from_slice(b"INDLFOOT");
        footer[16..24].copy_from_slice(&salt.generation().to_le_bytes());
        let crc = salt.checksum(&footer[12..64]);
        footer[8..12].copy_from_slice(&crc.to_le_bytes());
    }
}

/// Invariants 2 to 6 for the frame at the start of `bytes`.
pub fn check_frame(bytes: &[u8], salt: &Salt) {
    let decoded = decode_frame(bytes, salt, PLACE);
    let peeked = peek_header(bytes, salt, PLACE);
    let (header, payload, total) = match decoded {
        Ok(frame) => frame,
        Err(FrameError::Short { needed }) => {
            assert!(needed > bytes.len(), "short by nothing");
            return;
        }
        Err(FrameError::Checksum { .. }) => {
            assert!(peeked.is_ok(), "the payload was looked at before the header");
            return;
        }
        Err(error) => {
            assert_eq!(peeked, Err(error));
            return;
        }
    };
    assert_eq!(peeked, Ok(header));
    assert_eq!(read_header_unchecked(bytes), Some(header));
    assert!(total <= bytes.len() && total.is_multiple_of(FRAME_ALIGN));
    assert_eq!(total, header.frame_bytes());
    assert_eq!(payload.len(), header.length as usize);
    assert!(header.durable_sequence() <= header.sequence);

    let mut again = Vec::new();
    encode_frame(&mut again, salt, PLACE, &header, &[payload]);
    // The checksum covers the padding, so bytes there other than zeros are in it; no log writes any.
    let end = FRAME_HEADER_BYTES + payload.len();
    assert_eq!(again[4..end], bytes[4..end], "encoding is not the inverse of decoding");
    if bytes[end..total].iter().all(|byte| *byte == 0) {
        assert_eq!(again[..4], bytes[..4], "encoding is not the inverse of decoding");
    }
    let other = Salt::new(salt.generation() ^ 1);
    assert!(decode_frame(bytes, &other, PLACE).is_err(), "valid in two generations");
    assert!(peek_header(bytes, salt, PLACE + 8).is_err(), "valid in two places");
    for cut in [0, 1, FRAME_HEADER_BYTES - 1, FRAME_HEADER_BYTES, total - 1] {
        match decode_frame(&bytes[..cut.min(total - 1)], salt, PLACE) {
            Err(FrameError::Short { needed }) => assert!(needed <= total),
            other => panic!("cut at {cut}: {other:?}"),
        }
    }
    check_payload(&header, payload, salt);
}

fn check_payload(header: &FrameHeader, payload: &[u8], salt: &Salt) {
    if header.kind == Kind::Hole {
        let end = decode_hole(payload).expect("a hole has eight bytes");
        assert_eq!(encode_hole(end), payload);
    }
    let Ok(Some(record)) = decode_cell(header.kind, payload) else { return };
    let name = match record {
        CellRecord::Set { name, .. }
        | CellRecord::Clear { name }
        | CellRecord::Attach { name, .. } => name,
    };
    assert!(indelible::format::cell::is_cell_name(name.as_bytes()));
    assert_eq!(record.kind(), header.kind);
    let mut again = Vec::new();
    encode_cell(&mut again, salt, PLACE, header, &record);
    let (_, same, _) = decode_frame(&again, salt, PLACE).expect("an encoded frame decodes");
    assert_eq!(same, payload);
}

fn check_header(bytes: &[u8]) {
    let Ok(header) = SegmentHeader::decode(bytes) else { return };
    let encoded = header.encode();
    // The reserved bytes are the only ones a reader may skip.
    assert_eq!(SegmentHeader::decode(&encoded), Ok(header));
    assert_eq!(encoded[16..96], bytes[16..96]);
}

fn check_footer(bytes: &[u8], salt: &Salt) {
    let Ok(footer) = Footer::decode(bytes, salt, SEGMENT_BYTES) else { return };
    // The last four bytes are reserved.
    assert_eq!(footer.encode(salt)[12..60], bytes[12..60]);
    let table = table_bytes(footer.count) as u64;
    assert!(footer.data_end + table + FOOTER_BYTES as u64 <= SEGMENT_BYTES);
    assert_eq!(footer.generation, salt.generation());
    let table = bytes.get(FOOTER_BYTES..).unwrap_or(&[]);
    let _sound = footer.verify_table(table);
    for i in [0, table.len() / 4, usize::MAX / 4, usize::MAX] {
        let _in_or_out = table_offset(table, i);
    }
}

/// One frame of each kind, a header, a footer.
pub fn seeds() -> Vec<Seed> {
    let salt = Salt::new(0x1de1_1b1e);
    let mut seeds = Vec::new();
    let mut seed = |name: &str, mode: u8, bytes: &[u8]| {
        let mut input = vec![mode];
        input.extend_from_slice(&salt.generation().to_le_bytes());
        input.extend_from_slice(bytes);
        seeds.push((name.to_owned(), input));
    };
    for (kind, payload) in payloads() {
        let header = header(kind, payload.len());
        let mut frame = Vec::new();
        encode_frame(&mut frame, &salt, PLACE, &header, &[&payload]);
        let name = format!("{kind:?}").to_lowercase();
        seed(&name, 0, &frame);
        seed(&format!("{name}_repaired"), REPAIR, &frame);
    }
    let segment = SegmentHeader {
        uuid: [7; 16],
        number: 3,
        base: 100,
        generation: 9,
        first_sequence: 12,
        previous_generation: 8,
        previous_end: 4096,
        segment_bytes: SEGMENT_BYTES,
        features: 0,
        previous_base: 90,
        replaces: 0,
    };
    seed("header", 0, &segment.encode());
    seed("header_repaired", REPAIR | 4, &segment.encode());
    let footer = Footer {
        generation: salt.generation(),
        base: 100,
        count: 2,
        data_end: 4096 + 80,
        next_sequence: 14,
        flags: 0,
        table_crc: 0,
    };
    seed("footer", 0, &footer.encode(&salt));
    seed("footer_repaired", REPAIR | 6, &footer.encode(&salt));
    seeds
}

/// A header of a batch of one frame.
pub fn header(kind: Kind, length: usize) -> FrameHeader {
    let length = u32::try_from(length).unwrap();
    FrameHeader { length, sequence: 12, index: 100, lag: 1, kind, flags: 3 }
}

fn payloads() -> Vec<(Kind, Vec<u8>)> {
    let mut named = vec![7];
    named.extend_from_slice(b"promise");
    let set = [&named[..], &[1, 2, 3, 4]].concat();
    let attach = [&named[..], &[5; 20]].concat();
    vec![
        (Kind::Entry, b"never forget".to_vec()),
        (Kind::Set, set),
        (Kind::Clear, named),
        (Kind::Attach, attach),
        (Kind::Truncate, Vec::new()),
        (Kind::Trim, Vec::new()),
        (Kind::Reset, Vec::new()),
        (Kind::Hole, encode_hole(120).to_vec()),
        (Kind::Witness, Vec::new()),
    ]
}
