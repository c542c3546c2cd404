//! Single decisions: ends, kinds, limits, names.

use super::*;
use crate::error::{Damage, Error};
use crate::format::cell::{decode_cell, is_cell_name};
use crate::format::frame::{decode_frame, decode_hole, encode_hole, frame_bytes, lag, peek_header};
use crate::format::names::{METADATA, side_file, spare, temporary};
use crate::format::slot::{CELLS_BYTES_MAX, cells_bytes};

#[test]
fn zero_header_is_the_end() {
    assert_eq!(peek_header(&[0; 32], &Salt::new(0), PLACE), Err(FrameError::End));
    assert_eq!(decode_frame(&[0; 4096], &Salt::new(0), PLACE).unwrap_err(), FrameError::End);
    let mut almost = [0; 32];
    almost[31] = 1;
    assert_eq!(peek_header(&almost, &Salt::new(0), PLACE), Err(FrameError::Kind(0)));
}

#[test]
fn implausible_frame_header_is_refused_before_its_check() {
    let salt = Salt::new(7);
    let frame = framed(&salt, b"hello");
    let with = |at: usize, byte: u8| {
        let mut frame = frame.clone();
        frame[at] = byte;
        peek_header(&frame, &salt, PLACE)
    };
    assert_eq!(with(30, 10), Err(FrameError::Kind(10)));
    assert_eq!(with(31, 8), Err(FrameError::Flags(8)));
    assert_eq!(with(30, Kind::Truncate.number()), Err(FrameError::Length(5)));
    assert_eq!(with(30, Kind::Hole.number()), Err(FrameError::Length(5)));
    assert_eq!(with(27, 0xff), Err(FrameError::Length(0xff00_0005)));
    assert!(matches!(with(8, 1), Err(FrameError::Header { .. })));
    let mut compressed_set = frame.clone();
    (compressed_set[30], compressed_set[31]) = (Kind::Set.number(), Flags::LZ4);
    assert_eq!(peek_header(&compressed_set, &salt, PLACE), Err(FrameError::Flags(Flags::LZ4)));
}

#[test]
fn payload_flip_is_told_from_a_header_flip() {
    let salt = Salt::new(7);
    let mut frame = framed(&salt, b"hello");
    frame[33] ^= 1;
    assert!(peek_header(&frame, &salt, PLACE).is_ok());
    let error = decode_frame(&frame, &salt, PLACE).unwrap_err();
    assert!(matches!(error, FrameError::Checksum { .. }));
    assert_eq!(error.damage(), Damage::Frame(error));
    assert_eq!(error.damage().to_string(), error.to_string());
}

#[test]
fn longest_payload_does_not_overflow() {
    assert_eq!(frame_bytes(0), 32);
    assert_eq!(frame_bytes(1), 40);
    assert_eq!(frame_bytes(8), 40);
    assert!(frame_bytes(usize::MAX) >= usize::MAX - 7);
}

#[test]
fn hole_read_back_is_the_one_written() {
    assert_eq!(decode_hole(&encode_hole(u64::MAX - 1)), Some(u64::MAX - 1));
    assert_eq!(decode_hole(&[0; 7]), None);
}

#[test]
fn lag_never_states_more_than_was_known() {
    let states = |sequence, durable| {
        let lag = lag(sequence, durable);
        FrameHeader { sequence, lag, ..entry(&[]) }.durable_sequence()
    };
    for (sequence, durable, stated) in [
        (4, 3, 3),
        (4, 0, 0),
        (70_000, 69_999, 69_999),
        (70_000, 70_000 - 65_534, 70_000 - 65_534),
        (70_000, 70_000 - 65_535, 0),
        (u64::MAX, 1, 0),
    ] {
        assert_eq!(states(sequence, durable), stated, "{sequence} {durable}");
    }
    assert_eq!(FrameHeader { sequence: 4, lag: 9, ..entry(&[]) }.durable_sequence(), 0);
}

#[test]
fn checkpoint_that_does_not_fit_is_refused() {
    let runs = vec![(0, 0); RUNS_MAX + 1];
    let error = Checkpoint { runs, ..sample_checkpoint() }.encode().unwrap_err();
    assert!(matches!(error, Error::TooLarge { got: 17, limit: 16, .. }));

    let value = |bytes: usize| CellValue::Inline(Arc::from(vec![1; bytes]));
    let mut cells: BTreeMap<_, _> = ["a", "b", "c"].map(|n| (n.to_owned(), value(1024))).into();
    cells.insert("d".to_owned(), value(CELLS_BYTES_MAX - cells_bytes(&cells) - 5));
    assert_eq!(cells_bytes(&cells), CELLS_BYTES_MAX);
    let runs: Vec<_> = (0..16).map(|i| (2 * i, 2 * i)).collect();
    let fullest = Checkpoint { runs, tail_number: 30, cells, ..sample_checkpoint() };
    assert_eq!(Checkpoint::decode(fullest.encode().unwrap().as_slice()), Ok(fullest.clone()));

    let mut fuller = fullest.clone();
    fuller.cells.insert("e".to_owned(), value(0));
    assert!(matches!(fuller.encode(), Err(Error::TooLarge { got: 3717, limit: 3712, .. })));
    fuller.cells = [("x".to_owned(), value(1025))].into();
    assert!(matches!(fuller.encode(), Err(Error::TooLarge { got: 1025, limit: 1024, .. })));
    fuller.cells = [("X".to_owned(), value(0))].into();
    assert!(matches!(fuller.encode(), Err(Error::InvalidArgument { .. })));
}

#[test]
fn cell_record_with_a_wrong_length_is_refused() {
    let refused =
        |kind, payload: &[u8]| assert!(decode_cell(kind, payload).is_err(), "{payload:?}");
    refused(Kind::Set, b"");
    refused(Kind::Set, b"\0value");
    refused(Kind::Set, b"\x07short");
    refused(Kind::Set, b"\x02A!");
    refused(Kind::Set, &[&b"\x01a"[..], &[0; 1025]].concat());
    refused(Kind::Clear, b"\x01ab");
    refused(Kind::Attach, &[&b"\x01a"[..], &[0; 19]].concat());
    refused(Kind::Attach, &[&b"\x01a"[..], &[0; 21]].concat());
    assert_eq!(decode_cell(Kind::Entry, b"\x01ab"), Ok(None));
}

#[test]
fn cell_name_outside_its_alphabet_is_refused() {
    for name in ["a", "promise", "0", "a.b_c-d", "abcdefghijklmnopqrstuvwxyz012345"] {
        assert!(is_cell_name(name.as_bytes()), "{name}");
    }
    for name in ["", "A", "a b", "a/b", "\u{e9}", "abcdefghijklmnopqrstuvwxyz0123456"] {
        assert!(!is_cell_name(name.as_bytes()), "{name}");
    }
}

#[test]
fn file_name_is_recognised_only_in_its_canonical_form() {
    let name = SegmentName { number: 3, base: 0xabc };
    assert_eq!(name.to_string(), "0000000000000003-0000000000000abc.seg");
    assert_eq!(FileName::classify(&name.to_string()), FileName::Segment(name));
    assert_eq!(FileName::classify(&spare(u64::MAX)), FileName::Spare(u64::MAX));
    assert_eq!(FileName::classify(&side_file(9)), FileName::Side(9));
    let file = SideFileRef { id: 9, length: 0, crc: 0 };
    assert_eq!(file.file_name(), "0000000000000009.side");
    assert_eq!(FileName::classify(METADATA), FileName::Metadata);
    assert_eq!(FileName::classify("lock"), FileName::Lock);
    assert_eq!(FileName::classify(&temporary(7)), FileName::Temporary);
    assert_eq!(FileName::classify("anything.tmp"), FileName::Foreign);
    for foreign in [
        "",
        "notes.txt",
        "METADATA",
        "000000000000000A.side",
        "00000000000000009.side",
        "+000000000000009.side",
        "0000000000000003-0000000000000ABC.seg",
        "0000000000000003.seg",
        "0000000000000003-0000000000000abc-0.seg",
        "0000000000000003-0000000000000abc.segment",
    ] {
        assert_eq!(FileName::classify(foreign), FileName::Foreign, "{foreign}");
    }
}

#[test]
fn frame_that_is_none_says_what_was_seen() {
    for (error, said) in [
        (FrameError::End, "there is no frame"),
        (FrameError::Short { needed: 132 }, "a frame of 132 bytes does not fit"),
        (FrameError::Kind(77), "frame kind 77 is unknown"),
        (FrameError::Flags(9), "frame flags 0x09 are invalid"),
        (FrameError::Length(3), "frame length 3 is invalid"),
    ] {
        assert_eq!(
            (error.damage(), error.damage().to_string()),
            (Damage::Frame(error), said.into())
        );
    }
}
