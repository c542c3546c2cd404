//! `metadata_slots`: one checkpoint slot from any bytes.
//!
//! Input: a mode byte, then the bytes of a slot, cut or filled with zeros to 4096. Odd modes repair
//! magic, version and checksum first; a mode with bit 1 takes the input for fields to encode.
//!
//! Invariants:
//! 1. Decoding never panics, and allocates no more than a slot can list.
//! 2. What decodes keeps the promises of its type: `first <= next`, offsets inside the segment,
//!    `tail_offset <= reach`, runs that ascend, do not overlap and end with the tail, cells with
//!    valid names in ascending order that fit a slot.
//! 3. What decodes encodes again, and decodes to the same checkpoint: no slot is read that could
//!    not be written.
//! 4. A slot with one wrong bit does not decode.
//! 5. Any checkpoint encodes, to a slot that decodes to it, or is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use indelible::format::cell::{SideFileRef, is_cell_name};
use indelible::format::slot::{CELLS_BYTES_MAX, RUNS_MAX, SLOT_BYTES, cells_bytes};
use indelible::format::{CellValue, Checkpoint};

use crate::Seed;
use crate::frame_decode::repair_around;
use crate::script::Script;

const REPAIR: u8 = 1;
const ENCODE: u8 = 2;

/// One execution.
pub fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let mode = script.u8();
    if mode & ENCODE != 0 {
        let checkpoint = checkpoint(&mut script);
        if sane(&checkpoint)
            && let Ok(bytes) = checkpoint.encode()
        {
            assert_eq!(Checkpoint::decode(&*bytes).as_ref(), Ok(&checkpoint));
        }
        return;
    }
    let given = script.rest();
    let _short = Checkpoint::decode(given);
    let mut bytes = [0; SLOT_BYTES];
    let used = given.len().min(SLOT_BYTES);
    bytes[..used].copy_from_slice(&given[..used]);
    if mode & REPAIR != 0 {
        bytes[..8].copy_from_slice(b"INDLMETA");
        bytes[8..12].copy_from_slice(&1_u32.to_le_bytes());
        repair_around(&mut bytes);
    }
    check_slot(&mut bytes, usize::from(mode >> 2));
}

/// The engine builds no other: encoding asserts it.
fn sane(checkpoint: &Checkpoint) -> bool {
    let offsets = [checkpoint.tail_offset, checkpoint.reach];
    let segment_bytes = checkpoint.segment_bytes;
    (8192..=1 << 30).contains(&segment_bytes)
        && segment_bytes.is_multiple_of(4096)
        && offsets.iter().all(|it| it.is_multiple_of(8) && (4096..=segment_bytes).contains(it))
        && checkpoint.tail_offset <= checkpoint.reach
        && last_frame_is_sane(checkpoint)
        && checkpoint.first <= checkpoint.next
        && !(checkpoint.creating && checkpoint.first < checkpoint.next)
        && checkpoint.runs.iter().all(|(first, last)| first <= last)
        && checkpoint.runs.windows(2).all(|pair| pair[0].1 < pair[1].0)
        && checkpoint.runs.last().is_some_and(|(_, last)| *last == checkpoint.tail_number)
}

/// Nothing, or the place of a frame that ends where the next one goes at the latest.
fn last_frame_is_sane(checkpoint: &Checkpoint) -> bool {
    let (at, end) = (checkpoint.last_frame, checkpoint.tail_offset);
    at == 0 || at.is_multiple_of(8) && at >= 4096 && at.checked_add(32).is_some_and(|to| to <= end)
}

fn check_slot(bytes: &mut [u8; SLOT_BYTES], spot: usize) {
    let Ok(checkpoint) = Checkpoint::decode(&*bytes) else { return };
    assert!(sane(&checkpoint), "{checkpoint:?}");
    assert!(checkpoint.runs.len() <= RUNS_MAX);
    assert!(checkpoint.cells.keys().all(|name| is_cell_name(name.as_bytes())));
    assert!(cells_bytes(&checkpoint.cells) <= CELLS_BYTES_MAX, "cells that cannot be written");
    let again = checkpoint.encode().expect("a decoded checkpoint can be encoded");
    assert_eq!(Checkpoint::decode(&*again).as_ref(), Ok(&checkpoint));
    bytes[spot * 67 % SLOT_BYTES] ^= 1 << (spot % 8);
    assert!(Checkpoint::decode(&*bytes).is_err(), "a flipped bit goes unnoticed");
}

fn checkpoint(script: &mut Script<'_>) -> Checkpoint {
    let flags = script.u8();
    let mut checkpoint = Checkpoint {
        uuid: [flags; 16],
        generation: script.number(),
        sequence: script.number(),
        first: script.number(),
        next: script.number(),
        tail_number: script.number(),
        tail_generation: script.number(),
        tail_offset: script.number(),
        reach: script.number(),
        last_frame: script.number(),
        segment_bytes: script.number(),
        clean: flags & 1 != 0,
        creating: flags & 2 != 0,
        holes: script.number(),
        runs: Vec::new(),
        cells: BTreeMap::new(),
    };
    for _ in 0..script.u8() % 20 {
        checkpoint.runs.push((script.number(), script.number()));
    }
    for _ in 0..script.u8() % 40 {
        let length = usize::from(script.u8() % 34);
        let name = String::from_utf8_lossy(script.bytes(length)).into_owned();
        let value = if script.u8() & 1 == 0 {
            let length = usize::from(script.u16() % 1030);
            CellValue::Inline(Arc::from(script.bytes(length)))
        } else {
            let (id, length, crc) = (script.u64(), script.number(), u32::from(script.u16()));
            CellValue::SideFile(SideFileRef { id, length, crc })
        };
        checkpoint.cells.insert(name, value);
    }
    checkpoint
}

/// Slots of a fresh and of a busy log, whole and to be repaired, and fields to encode.
pub fn seeds() -> Vec<Seed> {
    let mut busy = Checkpoint {
        uuid: [7; 16],
        generation: 12,
        sequence: 90,
        first: 10,
        next: 44,
        tail_number: 9,
        tail_generation: 0x1de1_1b1e,
        tail_offset: 4096 + 800,
        reach: 65536,
        last_frame: 4096 + 700 - 700 % 8,
        segment_bytes: 65536,
        runs: vec![(2, 2), (4, 6), (9, 9)],
        ..Checkpoint::default()
    };
    let fresh = Checkpoint { runs: vec![(9, 9)], creating: true, next: 10, ..busy.clone() };
    let file = SideFileRef { id: 3, length: 900, crc: 5 };
    busy.cells.insert("promise".to_owned(), CellValue::Inline(Arc::from(&[1; 20][..])));
    busy.cells.insert("snapshot".to_owned(), CellValue::SideFile(file));
    let mut seeds = Vec::new();
    for (name, checkpoint) in [("fresh", fresh), ("busy", busy)] {
        let slot = checkpoint.encode().unwrap();
        let used = 4096 - slot.iter().rev().take_while(|byte| **byte == 0).count();
        seeds.push((name.to_owned(), [&[0], &slot[..used]].concat()));
        seeds.push((format!("{name}_repaired"), [&[REPAIR], &slot[..used]].concat()));
    }
    // generation, sequence, first, next, number, generation, offset 4096, reach 8192, no last frame,
    // size 65536.
    let mut fields =
        vec![ENCODE, 0, 0, 2, 0, 3, 0, 1, 0, 9, 0, 5, 0, 6, 200, 1, 200, 2, 0, 0, 200, 16];
    fields.extend_from_slice(&[0, 0, 1, 0, 5, 0, 5, 1, 2, b'a', b'b', 0, 3, 0, 7, 7, 7]);
    seeds.push(("fields".to_owned(), fields));
    seeds
}
