//! Properties of every structure: inverse coders, detected flips, refused cuts, no panics.

use super::*;
use crate::format::cell::{decode_cell, encode_cell};
use crate::format::footer::{FOOTER_BYTES, encode_table, table_bytes, table_offset};
use crate::format::frame::{
    FRAME_HEADER_BYTES, decode_frame, decode_hole, frame_bytes, peek_header, read_header_unchecked,
};
use crate::format::header::SEGMENT_HEADER_USED_BYTES;
use crate::format::slot::SLOT_BYTES;

proptest! {
    #[test]
    fn frame_read_back_is_the_one_written(
        (header, payload) in any_frame(),
        generation: u64,
        (unit, other) in (0_u64..1 << 27, 0_u64..1 << 27),
        cut in 0_usize..300,
    ) {
        let salt = Salt::new(generation);
        let place = unit * 8;
        let (one, two) = payload.split_at(cut.min(payload.len()));
        let mut out = vec![0xee; 3];
        encode_frame(&mut out, &salt, place, &header, &[one, two]);
        let frame = &out[3..];
        prop_assert_eq!(frame.len(), frame_bytes(payload.len()));
        prop_assert_eq!(frame.len() % 8, 0);
        prop_assert_eq!(peek_header(frame, &salt, place), Ok(header));
        prop_assert_eq!(read_header_unchecked(frame), Some(header));
        prop_assert_eq!(decode_frame(frame, &salt, place), Ok((header, &payload[..], frame.len())));
        prop_assert!(decode_frame(frame, &Salt::new(generation ^ 1), place).is_err());
        prop_assert_eq!(peek_header(frame, &salt, other * 8).is_ok(), unit == other);
    }

    #[test]
    fn frame_cut_short_is_refused((header, payload) in any_frame(), cut: prop::sample::Index) {
        let salt = Salt::new(1);
        let mut out = Vec::new();
        encode_frame(&mut out, &salt, PLACE, &header, &[&payload]);
        let cut = &out[..cut.index(out.len())];
        let refused = matches!(decode_frame(cut, &salt, PLACE), Err(FrameError::Short { needed })
            if needed > cut.len());
        prop_assert!(refused);
    }

    #[test]
    fn frame_with_a_flipped_bit_is_refused((header, payload) in any_frame(), bit: prop::sample::Index) {
        let salt = Salt::new(1);
        let mut out = Vec::new();
        encode_frame(&mut out, &salt, PLACE, &header, &[&payload]);
        let bit = bit.index(out.len() * 8);
        flip(&mut out, bit);
        prop_assert!(decode_frame(&out, &salt, PLACE).is_err());
    }

    #[test]
    fn segment_header_read_back_is_the_one_written(header in any_segment_header()) {
        prop_assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
    }

    #[test]
    fn footer_read_back_is_the_one_written(footer in any_footer()) {
        let salt = Salt::new(footer.generation);
        let bytes = footer.encode(&salt);
        prop_assert_eq!(Footer::decode(&bytes, &salt, SEGMENT_BYTES), Ok(footer));
        prop_assert!(footer.table_start(SEGMENT_BYTES) >= footer.data_end);
        let other = Salt::new(!footer.generation);
        prop_assert!(Footer::decode(&bytes, &other, SEGMENT_BYTES).is_err());
    }

    #[test]
    fn offset_table_read_back_is_the_one_written(places in vec(any::<u32>(), 0..50)) {
        let table = encode_table(&places);
        let count = number::to_u64(places.len());
        prop_assert_eq!(table.len(), table_bytes(count));
        for (i, &place) in places.iter().enumerate() {
            prop_assert_eq!(table_offset(&table, i), Some(u64::from(place) * 8));
        }
        prop_assert_eq!(table_offset(&table, places.len()), None);
        let footer = Footer { count, table_crc: crc32fast::hash(&table), ..sample_footer() };
        prop_assert_eq!(footer.verify_table(&table), Ok(()));
        let shorter = Footer { count: count + 1, ..footer };
        prop_assert!(shorter.verify_table(&table).is_err());
    }

    #[test]
    fn slot_read_back_is_the_one_written(checkpoint in any_checkpoint()) {
        let slot = checkpoint.encode().unwrap();
        prop_assert_eq!(Checkpoint::decode(slot.as_slice()), Ok(checkpoint));
    }

    #[test]
    fn slot_with_hostile_lists_and_a_right_checksum_does_not_panic(
        counts in vec(any::<u8>(), 3),
        lists in vec(any::<u8>(), 0..400),
        short in any::<bool>(),
    ) {
        let mut slot = sample_checkpoint().encode().unwrap();
        slot[105..108].copy_from_slice(&counts);
        if short {
            slot[107] = 0;
        }
        slot[128..128 + lists.len()].copy_from_slice(&lists);
        reseal(slot.as_mut_slice());
        if let Ok(checkpoint) = Checkpoint::decode(slot.as_slice()) {
            let again = checkpoint.encode().unwrap();
            prop_assert_eq!(Checkpoint::decode(again.as_slice()), Ok(checkpoint));
        }
    }

    #[test]
    fn cell_record_read_back_is_the_one_written(
        name in "[a-z0-9._-]{1,32}",
        value in vec(any::<u8>(), 0..=1024),
        file in any_side_file(),
    ) {
        let salt = Salt::new(1);
        let records = [
            CellRecord::Set { name: &name, value: &value },
            CellRecord::Clear { name: &name },
            CellRecord::Attach { name: &name, file },
        ];
        for record in records {
            let mut out = Vec::new();
            encode_cell(&mut out, &salt, PLACE, &entry(&[]), &record);
            let (header, payload, _) = decode_frame(&out, &salt, PLACE).unwrap();
            prop_assert_eq!(header.kind, record.kind());
            prop_assert_eq!(payload.len(), record.payload_bytes());
            prop_assert_eq!(decode_cell(header.kind, payload), Ok(Some(record)));
        }
    }

    #[test]
    fn random_bytes_never_panic(
        bytes in vec(any::<u8>(), 0..200),
        kind in 1_u8..=8,
        name in "[a-f0-9.-]{0,40}(\\.seg|\\.spare|\\.side|\\.tmp)?",
    ) {
        let salt = Salt::new(1);
        prop_assert!(decode_frame(&bytes, &salt, PLACE).is_err());
        prop_assert!(SegmentHeader::decode(&bytes).is_err());
        prop_assert!(Footer::decode(&bytes, &salt, SEGMENT_BYTES).is_err());
        prop_assert!(Checkpoint::decode(&bytes).is_err());
        let _any = (peek_header(&bytes, &salt, PLACE), read_header_unchecked(&bytes), decode_hole(&bytes));
        let _any = decode_cell(Kind::from_number(kind).unwrap(), &bytes);
        let _any = (table_offset(&bytes, usize::MAX), FileName::classify(&name));
    }
}

#[test]
fn flipped_bit_in_any_structure_is_refused() {
    let salt = Salt::new(7);
    for length in [0, 1, 8, 13, 256] {
        let frame = framed(&salt, &vec![0x5a; length]);
        every_flip_is_refused(&frame, |bytes| decode_frame(bytes, &salt, PLACE).is_ok());
    }
    every_flip_is_refused(&sample_header().encode(), |bytes| SegmentHeader::decode(bytes).is_ok());
    every_flip_is_refused(&sample_footer().encode(&salt), |bytes| {
        Footer::decode(bytes, &salt, SEGMENT_BYTES).is_ok()
    });
    let slot = sample_checkpoint().encode().unwrap();
    every_flip_is_refused(slot.as_slice(), |bytes| Checkpoint::decode(bytes).is_ok());
    let table = encode_table(&[512, 517, 523]);
    let footer = Footer { table_crc: crc32fast::hash(&table), ..sample_footer() };
    every_flip_is_refused(&table, |bytes| footer.verify_table(bytes).is_ok());
}

/// A CRC is linear, so what holds for one header holds for all: no flip keeps the check, and so no
/// wrong length is ever followed.
#[test]
fn flipped_bit_in_a_frame_header_is_refused_without_its_payload() {
    let salt = Salt::new(7);
    let frame = framed(&salt, &[1; 64]);
    every_flip_is_refused(&frame[4..FRAME_HEADER_BYTES], |bytes| {
        let mut header = [0; FRAME_HEADER_BYTES];
        header[4..].copy_from_slice(bytes);
        peek_header(&header, &salt, PLACE).is_ok()
    });
}

#[test]
fn structure_cut_short_is_refused() {
    let salt = Salt::new(7);
    let (header, footer) = (sample_header().encode(), sample_footer().encode(&salt));
    let slot = sample_checkpoint().encode().unwrap();
    for cut in 0..SEGMENT_HEADER_USED_BYTES {
        let short = SegmentHeader::decode(&header[..cut]);
        assert!(matches!(short, Err(StructureError::Short { .. })), "{short:?}");
    }
    for cut in 0..FOOTER_BYTES {
        let short = Footer::decode(&footer[..cut], &salt, SEGMENT_BYTES);
        assert!(matches!(short, Err(StructureError::Short { .. })), "{short:?}");
    }
    for cut in [0, 7, 128, SLOT_BYTES - 1] {
        let short = Checkpoint::decode(&slot[..cut]);
        assert!(matches!(short, Err(StructureError::Short { .. })), "{short:?}");
    }
}
