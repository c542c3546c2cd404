//! `segment_scan`: walking and searching the bytes of a segment.
//!
//! Input: a script that lays out frames of this and of a former generation, raw bytes and gaps, one
//! after the other, and then overwrites some of them; or raw bytes only.
//!
//! Invariants:
//! 1. Neither walk nor search panics, reads out of bounds, or takes time beyond a small multiple of
//!    the bytes.
//! 2. The frames of a walk touch each other, start at multiples of 8, lie inside the bytes, and
//!    each decodes by itself to the same header.
//! 3. A walk that checks headers only comes at least as far as one that checks everything, and over
//!    the same frames.
//! 4. A search from where a walk starts finds at least what of the walk can be evidence; the end it
//!    reports is the end of a frame that is there; it gives up only with a word.
//! 5. Offsets that frames build up point at entries or holes of that walk, in order, whatever the
//!    indexes say.
//! 6. Frames of a former generation are met by neither.

use std::borrow::Cow;
use std::sync::LazyLock;

use indelible::format::Kind;
use indelible::format::frame::{
    FRAME_HEADER_BYTES, Flags, FrameHeader, Salt, decode_frame, encode_frame,
};
use indelible::testing::hooks::{Frame, scan, search, walk};

use crate::Seed;
use crate::script::Script;

const BYTES_MAX: usize = 2 * 1024;
const GENERATION: u64 = 0x1de1_1b1e;
/// A header of a batch that is further ahead of what is expected is none.
const AHEAD_MAX: u64 = 1 << 32;
/// Entries of the longest hole that is not refused.
const HOLE_MAX: u64 = 256;

static SALT: LazyLock<Salt> = LazyLock::new(|| Salt::new(GENERATION));
static FORMER: LazyLock<Salt> = LazyLock::new(|| Salt::new(0xdead));
static UNKNOWN: LazyLock<Salt> = LazyLock::new(|| Salt::new(!GENERATION));

/// One execution.
pub fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let raw = script.u8() & 1 == 1;
    let (base, bytes) = if raw {
        (0, Cow::Borrowed(script.bytes(BYTES_MAX)))
    } else {
        (script.number(), Cow::Owned(layout(&mut script)))
    };
    check(base, &bytes);
}

/// The bytes that a script describes.
fn layout(script: &mut Script<'_>) -> Vec<u8> {
    // What the last part may take beyond the limit is less than as much again.
    let mut bytes = Vec::with_capacity(2 * BYTES_MAX + FRAME_HEADER_BYTES);
    let (mut sequence, mut index) = (1_u64, 0_u64);
    while !script.is_empty() && bytes.len() < BYTES_MAX {
        match script.u8() % 16 {
            0..=7 => frame(script, &SALT, &mut bytes, &mut sequence, &mut index),
            8 => frame(script, &FORMER, &mut bytes, &mut sequence, &mut index),
            9 => {
                let count = usize::from(script.u8());
                bytes.extend_from_slice(script.bytes(count));
                bytes.resize(bytes.len().next_multiple_of(8), 0);
            }
            10 => bytes.resize(bytes.len() + usize::from(script.u8()) * 8, 0),
            11 => sequence = script.number(),
            12 => index = script.number(),
            13 | 14 => {
                let (at, bits) = (usize::from(script.u16()), script.u8());
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= bits;
                }
            }
            _ => {
                let (at, count) = (usize::from(script.u16()), usize::from(script.u8()));
                let end = (at + count).min(bytes.len());
                if let Some(gap) = bytes.get_mut(at.min(end)..end) {
                    gap.fill(0);
                }
            }
        }
    }
    bytes
}

fn frame(
    script: &mut Script<'_>,
    salt: &Salt,
    bytes: &mut Vec<u8>,
    sequence: &mut u64,
    index: &mut u64,
) {
    let shape = script.u8();
    let kind = Kind::ALL[usize::from(shape & 7)];
    let flags = shape >> 3 & (Flags::FIRST | Flags::LAST);
    let lag = u16::from(script.u8());
    let length = usize::from(script.u8());
    let end;
    let payload: [&[u8]; 2] = match kind {
        Kind::Truncate | Kind::Trim | Kind::Reset | Kind::Witness => [&[], &[]],
        Kind::Hole => {
            end = hole_end(script, *index).to_le_bytes();
            [&end, &[]]
        }
        Kind::Clear => [b"\x01a", &[]],
        Kind::Attach => [b"\x01a", &[7; 20]],
        Kind::Set => [b"\x01a", script.bytes(length)],
        Kind::Entry => [script.bytes(length), &[]],
    };
    let length = u32::try_from(payload[0].len() + payload[1].len()).unwrap();
    let header = FrameHeader { length, sequence: *sequence, index: *index, lag, kind, flags };
    let offset = bytes.len() as u64;
    encode_frame(bytes, salt, offset, &header, &payload);
    *sequence = sequence.wrapping_add(u64::from(flags & Flags::LAST != 0));
    *index = index.wrapping_add(u64::from(kind == Kind::Entry));
}

/// Holes that are refused cost nothing, others four bytes an entry: none between the two.
fn hole_end(script: &mut Script<'_>, index: u64) -> u64 {
    let end = script.number();
    if end > 1 << 40 { end } else { index.wrapping_add(end % HOLE_MAX) }
}

fn check(base: u64, bytes: &[u8]) {
    let found = scan(bytes, &SALT, base);
    let whole = &found.frames;
    let mut at = 0;
    for Frame { offset, header, .. } in whole {
        assert_eq!(*offset, at, "frames do not touch");
        let start = usize::try_from(at).unwrap();
        let alone = bytes.get(start..start + header.frame_bytes()).expect("out of the bytes");
        let (alone, _, total) = decode_frame(alone, &SALT, at).expect("a walked frame decodes");
        assert_eq!(alone, *header);
        at += total as u64;
    }
    let mut headers = walk(bytes, &SALT, 0, false);
    assert!(whole.iter().all(|frame| headers.next().as_ref() == Some(frame)));
    let _further = headers.count();
    assert!(walk(bytes, &UNKNOWN, 0, true).next().is_none());
    check_search(bytes, whole, at);
    check_offsets(&found.units, found.contradicted, whole, at);
}

fn check_search(bytes: &[u8], whole: &[Frame], at: u64) {
    let found = search(bytes, &SALT, 0..u64::MAX);
    // What no log comes to is no evidence.
    let counts = |frame: &&Frame| (1..=AHEAD_MAX).contains(&frame.header.sequence);
    let counting = || whole.iter().filter(counts);
    let newest = counting().map(|frame| frame.header.sequence).max().unwrap_or(0);
    let durable = counting().map(|frame| frame.header.durable_sequence()).max().unwrap_or(0);
    assert!(found.newest >= newest && found.durable >= durable);
    // A witness is no frame of those that follow each other.
    let frames = counting().filter(|frame| frame.header.kind != Kind::Witness);
    let end = frames.map(|frame| frame.offset + frame.header.frame_bytes() as u64).max();
    assert!(found.end >= end.unwrap_or(0));
    // A header counts whatever became of its payload: the frame of one may end after the bytes.
    assert!(found.durable <= found.newest);
    let after = search(bytes, &SALT, at..bytes.len() as u64);
    assert!(after.end == 0 || after.end > at);
}

fn check_offsets(units: &[u32], contradicted: bool, whole: &[Frame], at: u64) {
    assert!(units.is_sorted(), "offsets go back");
    // All entries of a hole are at one place.
    for place in units.chunk_by(|one, next| one == next).map(|run| u64::from(run[0]) * 8) {
        assert!(contradicted || whole.is_empty() || place < at);
        let at = whole.binary_search_by_key(&place, |frame| frame.offset).expect("no frame here");
        assert!(matches!(whole[at].header.kind, Kind::Entry | Kind::Hole));
    }
}

/// Whole, torn and damaged runs of frames, with a former life after them.
pub fn seeds() -> Vec<Seed> {
    let entry = [0, 3 << 3, 1, 5, b'h', b'e', b'l', b'l', b'o'];
    let open = [0, 1 << 3, 1, 2, b'a', b'b'];
    let last = [0, 2 << 3, 0, 2, b'c', b'd'];
    let state = [0, 1 | 3 << 3, 1, 4, 1, 2, 3, 4];
    let truncate = [12, 0, 1, 0, 4 | 3 << 3, 0, 0];
    let hole = [12, 0, 2, 0, 7 | 3 << 3, 0, 0, 0, 9];
    let former = [8, 3 << 3, 1, 2, b'x', b'y'];
    let start: &[u8] = &[0, 0, 0];
    let cases: [(&str, Vec<&[u8]>); 7] = [
        ("entries", vec![&entry, &entry, &open, &last]),
        ("state", vec![&state, &entry, &state]),
        ("truncated", vec![&entry, &entry, &truncate, &entry]),
        ("hole", vec![&entry, &entry, &hole]),
        ("torn", vec![&entry, &open, &[10, 9], &former, &former]),
        ("damaged", vec![&entry, &entry, &entry, &[13, 44, 0, 255]]),
        ("zeroed", vec![&entry, &entry, &entry, &[15, 40, 0, 40]]),
    ];
    let mut seeds: Vec<Seed> = cases
        .into_iter()
        .map(|(name, parts)| (name.to_owned(), [start, &parts.concat()].concat()))
        .collect();
    let mut raw = vec![1];
    let mut script = [&entry[..], &entry].concat();
    script.push(0);
    raw.extend(layout(&mut Script::new(&script)));
    seeds.push(("raw".to_owned(), raw));
    let mut cut = vec![1];
    cut.extend(layout(&mut Script::new(&entry)));
    // The padding of the only frame is not there.
    cut.truncate(1 + FRAME_HEADER_BYTES + 5);
    seeds.push(("cut".to_owned(), cut));
    seeds
}
