//! `open_directory`: a whole directory from bytes, opened, read, written on, and opened again.
//!
//! Input: a byte that chooses the directory of a real log (`images`), then edits: rot (flipped
//! bits, zeroed sectors, cut and missing files), replay (sectors and files in the wrong place), and
//! forgery (fields of slots, headers, footers and frames with their checksums made right, whole
//! forged frames after the last one). Or, in raw mode, files of nothing but input.
//!
//! Invariants:
//! 1. Opening never panics nor hangs, and allocates no more than the files are long, times a small
//!    number.
//! 2. An open that is refused says `Damaged`, `UnsupportedVersion`, `UnsupportedFeature`, `Missing`,
//!    `Incomplete` or `DiskFull` (it may have to prepare a segment), and but for the last has changed
//!    no file.
//! 3. An open that succeeds has `first <= next`, and every entry, cell and side file reads or is
//!    `Damaged`, a `Hole` or unsupported: no other error, no panic, no other length.
//! 4. After rot alone, what reads is what was once written at that index; and if the log had been
//!    closed, everything is there or reported, and nothing is called torn.
//! 5. A log that opened can be written on, or says why not; what it acknowledges survives the next
//!    open, which is not torn. (An unreadable frame in the tail, be it dead, takes the places of all
//!    entries of the tail along: they are `Damaged`. A forged frame with a right checksum can hide
//!    others in its payload, and they come to light when it is written over: then the next open may
//!    say `Damaged`.)

use std::ops::Range;
use std::sync::Arc;

use indelible::format::footer::FOOTER_BYTES;
use indelible::format::frame::{FrameHeader, Salt, encode_frame};
use indelible::format::slot::SLOT_BYTES;
use indelible::format::{CellValue, Kind, SegmentHeader, SegmentName};
use indelible::io::sim::SimDisk;
use indelible::testing::hooks::walk;
use indelible::{Batch, Error, Log, Verdict};

use crate::Seed;
use crate::frame_decode::{repair_around, repair_footer, repair_frame, repair_header};
use crate::images::{IMAGES, Image, options};
use crate::script::Script;

const RAW: u8 = 255;
const FILE_BYTES_MAX: usize = 64 * 1024;
const FILES_MAX: usize = 24;
const CAPACITY: u64 = 4 << 20;
/// Entries that are read at either end of the log.
const READ_MAX: u64 = 24;

type Files = Vec<(String, Vec<u8>)>;

/// One execution.
pub fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let choice = script.u8();
    if choice == RAW {
        return check(raw(&mut script), None);
    }
    let image = &IMAGES[usize::from(choice) % IMAGES.len()];
    let mut files = image.files.clone();
    let mut rot_only = true;
    for _ in 0..16 {
        if script.is_empty() {
            break;
        }
        rot_only &= edit(&mut script, &mut files);
    }
    check(files, rot_only.then_some(image));
}

fn raw(script: &mut Script<'_>) -> Files {
    let mut files = Files::new();
    while !script.is_empty() && files.len() < FILES_MAX {
        let name = name(script);
        let count = usize::from(script.u16()) % FILE_BYTES_MAX;
        let length = usize::from(script.u8()) * 512;
        let mut bytes = script.bytes(count).to_vec();
        bytes.resize(bytes.len().max(length), 0);
        files.retain(|(other, _)| *other != name);
        files.push((name, bytes));
    }
    files
}

fn name(script: &mut Script<'_>) -> String {
    match script.u8() % 6 {
        0 => "metadata".to_owned(),
        1 | 2 => SegmentName { number: script.number(), base: script.number() }.to_string(),
        3 => format!("{:016x}.spare", script.number()),
        4 => format!("{:016x}.side", script.number()),
        _ => format!("{:016x}.tmp", script.number()),
    }
}

/// Applies one edit; answers whether it is rot.
fn edit(script: &mut Script<'_>, files: &mut Files) -> bool {
    let kind = script.u8() % 16;
    if files.is_empty() {
        return true;
    }
    let which = usize::from(script.u8()) % files.len();
    match kind {
        0..=5 => {
            rot(kind, script, files, which);
            return true;
        }
        6 => {
            let at = usize::from(script.u16());
            let bytes = script.bytes(32);
            overwrite(&mut files[which].1, at, bytes);
        }
        7 => {
            let from = usize::from(script.u8()) % files.len();
            let sector = usize::from(script.u8()) * 512;
            let source = files[from].1.get(sector..sector + 512).unwrap_or(&[]).to_vec();
            let at = usize::from(script.u8()) * 512;
            overwrite(&mut files[which].1, at, &source);
        }
        8 if files.len() < FILES_MAX => {
            let name = name(script);
            let bytes = files[which].1.clone();
            files.retain(|(other, _)| *other != name);
            files.push((name, bytes));
        }
        8 | 9 => {
            let name = name(script);
            if !files.iter().any(|(other, _)| *other == name) {
                files[which].0 = name;
            }
        }
        10 | 11 => forge_slot(script, files),
        12 => forge_header(script, &mut files[which].1),
        13 => forge_frame(script, &mut files[which].1),
        14 => forge_footer(script, &mut files[which].1),
        _ => forge_more_frames(script, &mut files[which].1),
    }
    false
}

fn rot(kind: u8, script: &mut Script<'_>, files: &mut Files, which: usize) {
    let bytes = &mut files[which].1;
    let at = usize::from(script.u16());
    match kind {
        0..=2 => {
            let bits = script.u8();
            let length = bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(at % length) {
                *byte ^= bits;
            }
        }
        3 => {
            let start = at / 512 * 512 % bytes.len().max(1);
            let end = (start + 512).min(bytes.len());
            bytes[start..end].fill(0);
        }
        4 => bytes.truncate(at),
        _ => {
            files.remove(which);
        }
    }
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    for (to, from) in bytes.iter_mut().skip(at).zip(with) {
        *to = *from;
    }
}

/// Changes up to eight bytes of a field of `range`, small values mostly.
fn field(script: &mut Script<'_>, bytes: &mut [u8], range: Range<usize>) {
    let at = range.start + usize::from(script.u16()) % (range.end - range.start);
    let width = [1, 2, 4, 8][usize::from(script.u8() & 3)];
    let value = script.number().to_le_bytes();
    let end = (at + width).min(range.end);
    if let Some(to) = bytes.get_mut(at..end) {
        to.copy_from_slice(&value[..end - at]);
    }
}

fn forge_slot(script: &mut Script<'_>, files: &mut Files) {
    let Some((_, metadata)) = files.iter_mut().find(|(name, _)| name == "metadata") else { return };
    let which = script.u8();
    let (at, width) = (8 + 8 * usize::from(script.u8() % 16), usize::from(script.u8() % 3));
    let value = script.number().to_le_bytes();
    for (slot, bytes) in metadata.chunks_exact_mut(SLOT_BYTES).enumerate() {
        if which & 3 == 3 || usize::from(which & 1) == slot {
            let range = at..at + [8, 4, 2][width];
            bytes[range.clone()].copy_from_slice(&value[..range.len()]);
            repair_around(bytes);
        }
    }
}

fn forge_header(script: &mut Script<'_>, bytes: &mut [u8]) {
    if bytes.len() >= 128 {
        field(script, bytes, 8..112);
        repair_header(bytes);
    }
}

fn generation(bytes: &[u8]) -> u64 {
    SegmentHeader::decode(bytes).map_or(0, |header| header.generation)
}

fn forge_frame(script: &mut Script<'_>, bytes: &mut [u8]) {
    let salt = Salt::new(generation(bytes));
    let frames: Vec<_> = walk(bytes, &salt, 4096, true).collect();
    if frames.is_empty() {
        return;
    }
    let frame = frames[usize::from(script.u8()) % frames.len()];
    let start = usize::try_from(frame.offset).unwrap();
    let end = start + frame.header.frame_bytes();
    field(script, bytes, start + 4..end.min(start + 64));
    repair_frame(&mut bytes[start..], &salt, frame.offset);
}

fn forge_footer(script: &mut Script<'_>, bytes: &mut [u8]) {
    let generation = generation(bytes);
    let Some(start) = bytes.len().checked_sub(FOOTER_BYTES) else { return };
    field(script, bytes, start + 8..start + 64);
    repair_footer(&mut bytes[start..], &Salt::new(generation));
}

/// Goes on after the last frame with frames that say what the input wants.
fn forge_more_frames(script: &mut Script<'_>, bytes: &mut [u8]) {
    let salt = Salt::new(generation(bytes));
    let last = walk(bytes, &salt, 4096, true).last();
    let mut at =
        last.map_or(4096, |last| usize::try_from(last.offset).unwrap() + last.header.frame_bytes());
    let mut sequence = last.map_or(1, |last| last.header.sequence.wrapping_add(1));
    for _ in 0..=script.u8() % 4 {
        let shape = script.u8();
        let kind = Kind::ALL[usize::from(shape & 7)];
        let (lag, delta) = (u16::from(script.u8()), u64::from(script.u8() % 4));
        sequence = sequence.wrapping_add(delta).wrapping_sub(1);
        let index = script.number();
        let count = usize::from(script.u8());
        let payload = match kind {
            Kind::Truncate | Kind::Trim | Kind::Reset | Kind::Witness => Vec::new(),
            Kind::Hole => script.number().to_le_bytes().to_vec(),
            Kind::Clear => b"\x01a".to_vec(),
            Kind::Attach => [b"\x01a", script.bytes(20), &[0; 20]].concat()[..22].to_vec(),
            Kind::Set => [b"\x01a", script.bytes(count)].concat(),
            Kind::Entry => script.bytes(count).to_vec(),
        };
        let length = u32::try_from(payload.len()).unwrap();
        let compressed = kind == Kind::Entry && shape & 64 != 0 && length >= 5;
        let flags = shape >> 3 & 3 | if compressed { 4 } else { 0 };
        let header = FrameHeader { length, sequence, index, lag, kind, flags };
        let mut frame = Vec::new();
        encode_frame(&mut frame, &salt, at as u64, &header, &[&payload]);
        let Some(room) = bytes.get_mut(at..at + frame.len()) else { return };
        room.copy_from_slice(&frame);
        at += frame.len();
        sequence = sequence.wrapping_add(1);
    }
}

fn sorted(mut files: Files) -> Files {
    files.sort();
    files
}

fn check(files: Files, rotten: Option<&Image>) {
    let sound = rotten.is_some_and(|image| image.files == files);
    let disk = SimDisk::from_image(5, &files);
    disk.set_capacity(Some(CAPACITY));
    let (log, report) = match Log::open_in(Arc::new(disk.clone()), &options()) {
        Ok(opened) => opened,
        Err(error) => {
            assert!(is_refusal(&error), "{error:?}");
            // A full disk is met when a segment has to be prepared, after the junk is removed.
            let full = matches!(error, Error::DiskFull { .. });
            let same = || sorted(disk.image()) == sorted(files);
            assert!(full || same(), "refused, but changed: {error}");
            return;
        }
    };
    let bounds = (log.first(), log.next());
    assert!(bounds.0 <= bounds.1);
    if let Some(image) = rotten {
        if image.closed {
            assert_eq!(bounds, image.bounds, "entries went without a word: {report:?}");
        }
        let torn = matches!(report.verdict, Verdict::TornTail { .. });
        assert!(!(torn && image.closed), "{report:?}");
    }
    read_all(&log, rotten);
    write_on(&log, &disk, rotten.is_none(), sound);
}

fn is_refusal(error: &Error) -> bool {
    matches!(
        error,
        Error::Damaged { .. }
            | Error::UnsupportedVersion { .. }
            | Error::UnsupportedFeature { .. }
            | Error::Missing { .. }
            | Error::Incomplete { .. }
            | Error::DiskFull { .. }
    )
}

fn read_all(log: &Log, rotten: Option<&Image>) {
    let (first, next) = (log.first(), log.next());
    let low = first..next.min(first.saturating_add(READ_MAX));
    let high = low.end.max(next.saturating_sub(READ_MAX))..next;
    for index in low.chain(high) {
        match log.entry(index) {
            Ok(entry) => {
                let Some(image) = rotten else { continue };
                let values = image.history.get(&index);
                assert!(
                    values.is_some_and(|values| values.contains(&entry)),
                    "entry {index} reads as what it never was"
                );
            }
            Err(
                Error::Damaged { .. }
                | Error::Hole { .. }
                | Error::UnsupportedFeature { .. }
                | Error::UnsupportedVersion { .. },
            ) => {}
            Err(error) => panic!("entry {index}: {error:?}"),
        }
    }
    for (name, value) in log.cells() {
        let CellValue::SideFile(_) = value else { continue };
        match log.side_file(&name).map(|file| file.expect("the cell is there").read_all()) {
            Ok(Ok(_)) | Err(Error::Damaged { .. }) | Ok(Err(Error::Damaged { .. })) => {}
            Ok(Err(error)) | Err(error) => panic!("side file {name}: {error:?}"),
        }
    }
}

/// Appends, changes state, closes and opens again.
fn write_on(log: &Log, disk: &SimDisk, forged: bool, sound: bool) {
    let index = log.next();
    let mut batch = Batch::new();
    batch.append(&b"written on"[..]).set("a", &b"value"[..]);
    let written = log.commit(&batch);
    let bounds = match &written {
        Ok(_) => (log.first(), index + 1),
        Err(
            Error::TooLarge { .. }
            | Error::DiskFull { .. }
            | Error::Damaged { .. }
            | Error::InvalidArgument { .. },
        ) => (log.first(), index),
        Err(error) => panic!("{error:?}"),
    };
    assert_eq!((log.first(), log.next()), bounds);
    match log.close() {
        Ok(()) => {}
        Err(Error::Damaged { .. } | Error::DiskFull { .. } | Error::TooLarge { .. }) => return,
        // The batch would have sealed a tail in which something is unreadable.
        Err(Error::Poisoned { .. }) if matches!(written, Err(Error::Damaged { .. })) => return,
        Err(error) => panic!("{error:?}"),
    }
    let (log, report) = match Log::open_in(Arc::new(disk.clone()), &options()) {
        Ok(opened) => opened,
        Err(Error::Damaged { .. }) if forged => return,
        Err(error) => panic!("{error:?}"),
    };
    assert_eq!(report.verdict, Verdict::Clean);
    assert_eq!((log.first(), log.next()), bounds);
    if written.is_ok() {
        match log.entry(index) {
            Ok(entry) => assert_eq!(entry, b"written on"),
            Err(Error::Damaged { .. }) if !sound => {}
            Err(error) => panic!("{error:?}"),
        }
        assert_eq!(log.cell("a").as_deref(), Some(&b"value"[..]));
    }
}

/// Every directory unedited and with each kind of edit; and a raw one.
pub fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (number, image) in IMAGES.iter().enumerate() {
        let number = u8::try_from(number).unwrap();
        seeds.push((image.name.to_owned(), vec![number]));
        for kind in 0..16_u8 {
            let which = u8::try_from(usize::from(kind) % image.files.len()).unwrap();
            let edit = [number, kind, which, 8, 16, 3, 1, 2, 7, 5, 1, 4, 9, 1];
            seeds.push((format!("{}_{kind}", image.name), edit.to_vec()));
        }
    }
    seeds.extend(forged_seeds());
    let mut raw = vec![RAW, 0];
    let metadata = &IMAGES[0].files.iter().find(|(name, _)| name == "metadata").unwrap().1;
    raw.extend_from_slice(&8192_u16.to_le_bytes());
    raw.push(16);
    // The file is filled up with zeros to its length.
    let used = metadata.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    raw.extend_from_slice(&metadata[..used]);
    seeds.push(("raw".to_owned(), raw));
    seeds
}

/// Checkpoints that no log writes: an end that no segment can hold, and a count of missing entries that
/// one more overflows.
fn forged_seeds() -> Vec<Seed> {
    const FORGE_SLOT: u8 = 10;
    const FORGE_FRAMES: u8 = 15;
    const BOTH: u8 = 3;
    let field = |at: u8| (at - 8) / 8;
    let mut seeds = Vec::new();
    for (number, image) in IMAGES.iter().enumerate() {
        let number = u8::try_from(number).unwrap();
        // Not CLEAN, so that what follows the checkpoint is looked at.
        let open = [FORGE_SLOT, 0, BOTH, field(104), 1, 0, 0];
        for shift in [140, 162] {
            let next = [FORGE_SLOT, 0, BOTH, field(56), 0, shift, 0];
            let seed = [&[number][..], &open, &next].concat();
            seeds.push((format!("{}_next_{shift}", image.name), seed));
        }
        let tail = image.files.iter().rposition(|(name, _)| name.ends_with(".seg"));
        let (Some(tail), Ok(next)) = (tail, u8::try_from(image.bounds.1)) else { continue };
        let holes = [FORGE_SLOT, 0, BOTH, field(112), 0, 164, 0];
        let tail = u8::try_from(tail).unwrap();
        let hole = [FORGE_FRAMES, tail, 0, 7 | 3 << 3, 1, 1, 0, next, 0, 0, next.saturating_add(5)];
        let seed = [&[number][..], &open, &holes, &hole].concat();
        seeds.push((format!("{}_holes", image.name), seed));
    }
    seeds
}
