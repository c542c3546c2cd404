//! What the tests of every structure share: samples, strategies, flips, forged checksums.

mod fields;
mod properties;
mod refusals;

use std::collections::BTreeMap;
use std::sync::Arc;

use byteorder::{ByteOrder, LittleEndian};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::frame::encode_frame;
use super::slot::RUNS_MAX;
use super::*;

const SEGMENT_BYTES: u64 = 65536;
/// Where the frames stand.
const PLACE: u64 = 4096;

fn entry(payload: &[u8]) -> FrameHeader {
    let length = u32::try_from(payload.len()).unwrap();
    FrameHeader { length, sequence: 9, index: 3, lag: 1, kind: Kind::Entry, flags: 3 }
}

fn framed(salt: &Salt, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_frame(&mut out, salt, PLACE, &entry(payload), &[payload]);
    out
}

fn any_segment_header() -> impl Strategy<Value = SegmentHeader> {
    (any::<[u8; 16]>(), any::<[u64; 7]>(), 2_u64..100, 0_u64..100).prop_map(
        |(uuid, numbers, blocks, end)| {
            let [number, base, generation, first_sequence, previous_generation, ..] = numbers;
            let [.., previous_base, replaces] = numbers;
            let segment_bytes = blocks * 4096;
            let previous_end = if end == 0 { 0 } else { (4096 + end * 8).min(segment_bytes) };
            SegmentHeader {
                uuid,
                number,
                base,
                generation,
                first_sequence,
                previous_generation,
                previous_end,
                segment_bytes,
                features: 0,
                previous_base,
                replaces,
            }
        },
    )
}

fn any_footer() -> impl Strategy<Value = Footer> {
    let fields = (any::<u64>(), 0_u64..u64::MAX / 2, any::<u64>(), 0_u32..4, any::<u32>());
    (fields, 0_u64..=7672)
        .prop_flat_map(|(fields, data_units)| {
            let room = SEGMENT_BYTES - 64 - (4096 + data_units * 8);
            (Just(fields), Just(4096 + data_units * 8), 0..=room / 4)
        })
        .prop_map(|((generation, base, next_sequence, flags, table_crc), data_end, count)| Footer {
            generation,
            base,
            count,
            data_end,
            next_sequence,
            flags,
            table_crc,
        })
}

fn any_side_file() -> impl Strategy<Value = SideFileRef> {
    any::<(u64, u64, u32)>().prop_map(|(id, length, crc)| SideFileRef { id, length, crc })
}

fn any_cells() -> impl Strategy<Value = BTreeMap<String, CellValue>> {
    let value = prop_oneof![
        3 => vec(any::<u8>(), 0..200).prop_map(|bytes| CellValue::Inline(Arc::from(bytes))),
        1 => any_side_file().prop_map(CellValue::SideFile),
    ];
    btree_map("[a-z0-9._-]{1,32}", value, 0..12)
}

fn any_checkpoint() -> impl Strategy<Value = Checkpoint> {
    let numbers = (any::<[u8; 16]>(), any::<[u64; 5]>(), any::<[bool; 2]>());
    let places = (2_u64..100, 0_u64..8000, 0_u64..8000);
    (numbers, places, vec((1_u64..9, 0_u64..9), 1..=RUNS_MAX), any_cells()).prop_map(
        |((uuid, numbers, [clean, creating]), (blocks, tail, reach), gaps, cells)| {
            let [generation, sequence, a, b, tail_generation] = numbers;
            let segment_bytes = blocks * 4096;
            let tail_offset = (4096 + tail * 8).min(segment_bytes);
            let mut number = 0;
            let run = |(gap, length): (u64, u64)| {
                let first = number + gap;
                number = first + length;
                (first, number)
            };
            let runs: Vec<_> = gaps.into_iter().map(run).collect();
            Checkpoint {
                uuid,
                generation: generation % slot::NUMBERS_END,
                sequence: sequence % slot::NUMBERS_END,
                first: a.min(b),
                next: if creating { a.min(b) } else { a.max(b) },
                tail_number: runs.last().map_or(0, |run| run.1),
                tail_generation,
                tail_offset,
                reach: (tail_offset + reach * 8).min(segment_bytes),
                last_frame: if tail_offset < 4128 { 0 } else { (tail_offset - 32) / 16 * 8 + 2048 },
                segment_bytes,
                clean,
                creating,
                holes: b / 2,
                runs,
                cells,
            }
        },
    )
}

fn any_frame() -> impl Strategy<Value = (FrameHeader, Vec<u8>)> {
    (any::<(u64, u64, u16)>(), 0_u8..8, vec(any::<u8>(), 5..300)).prop_map(
        |((sequence, index, lag), flags, payload)| {
            (FrameHeader { sequence, index, lag, flags, ..entry(&payload) }, payload)
        },
    )
}

fn flip(bytes: &mut [u8], bit: usize) {
    bytes[bit / 8] ^= 1 << (bit % 8);
}

/// Asserts that `accept` refuses `bytes` with any one bit flipped.
fn every_flip_is_refused(bytes: &[u8], accept: impl Fn(&[u8]) -> bool) {
    let mut flipped = bytes.to_vec();
    assert!(accept(&flipped));
    for bit in 0..bytes.len() * 8 {
        flip(&mut flipped, bit);
        assert!(!accept(&flipped), "flipping bit {bit} goes unnoticed");
        flip(&mut flipped, bit);
    }
}

fn sample_header() -> SegmentHeader {
    SegmentHeader {
        uuid: [7; 16],
        number: 5,
        base: 100,
        generation: 0x0123_4567_89ab_cdef,
        first_sequence: 44,
        previous_generation: 9,
        previous_end: 8000,
        segment_bytes: SEGMENT_BYTES,
        features: 0,
        previous_base: 60,
        replaces: 0,
    }
}

fn sample_footer() -> Footer {
    Footer {
        generation: 7,
        base: 100,
        count: 3,
        data_end: 4240,
        next_sequence: 9,
        flags: 0,
        table_crc: 5,
    }
}

fn sample_checkpoint() -> Checkpoint {
    let cells = [
        ("decided", CellValue::Inline(Arc::from([1_u8; 8].as_slice()))),
        ("snapshot", CellValue::SideFile(SideFileRef { id: 1, length: 2, crc: 3 })),
    ];
    Checkpoint {
        generation: 6,
        sequence: 17,
        first: 3,
        next: 12,
        tail_number: 4,
        tail_offset: 5000,
        reach: 8192,
        segment_bytes: SEGMENT_BYTES,
        runs: vec![(0, 1), (3, 4)],
        cells: cells.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        ..Checkpoint::default()
    }
}

/// The slot of a checkpoint with some bytes overwritten and the checksum made right again.
fn forged(checkpoint: &Checkpoint, at: usize, bytes: &[u8]) -> Result<Checkpoint, StructureError> {
    let mut slot = checkpoint.encode().unwrap();
    slot[at..at + bytes.len()].copy_from_slice(bytes);
    reseal(slot.as_mut_slice());
    Checkpoint::decode(slot.as_slice())
}

/// Makes the checksum at offset 12 right again.
fn reseal(bytes: &mut [u8]) {
    let crc = checksum_around(bytes);
    LittleEndian::write_u32(&mut bytes[12..16], crc);
}
