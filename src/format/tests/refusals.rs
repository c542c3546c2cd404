//! Fields that a sound structure cannot have, after a right checksum.

use super::*;
use crate::error::Error;

#[test]
fn unknown_version_with_a_right_checksum_is_unsupported_not_damaged() {
    let mut header = sample_header().encode();
    header[8] = 2;
    let torn = SegmentHeader::decode(&header).unwrap_err();
    assert!(matches!(torn, StructureError::Checksum { .. }));
    reseal(&mut header);
    let newer = SegmentHeader::decode(&header).unwrap_err();
    assert_eq!(newer, StructureError::Version(2));
    let error = newer.into_error("x.seg", 0);
    assert!(matches!(error, Error::UnsupportedVersion { found: 2, supported: 1, .. }));
    assert_eq!(forged(&sample_checkpoint(), 8, &[2]), Err(StructureError::Version(2)));
}

#[test]
fn unknown_feature_with_a_right_checksum_is_unsupported_not_damaged() {
    let newer = SegmentHeader { features: 4, ..sample_header() };
    let error = SegmentHeader::decode(&newer.encode()).unwrap_err();
    assert_eq!(error, StructureError::Features(4));
    assert!(matches!(error.into_error("x.seg", 0), Error::UnsupportedFeature { .. }));
    assert_eq!(forged(&sample_checkpoint(), 127, &[0x80]), Err(StructureError::Features(1 << 63)));
}

#[test]
fn impossible_field_with_a_right_checksum_is_damage() {
    for segment_bytes in [0, 4096, 8193, 1 << 31, u64::MAX] {
        let header = SegmentHeader { segment_bytes, ..sample_header() };
        let error = SegmentHeader::decode(&header.encode()).unwrap_err();
        assert!(matches!(error, StructureError::Field { field: "segment_bytes", .. }));
        assert!(matches!(error.into_error("x.seg", 0), Error::Damaged { offset: 0, .. }));
    }
    for previous_end in [8, 4097, SEGMENT_BYTES + 8] {
        let header = SegmentHeader { previous_end, ..sample_header() };
        assert!(SegmentHeader::decode(&header.encode()).is_err(), "{previous_end}");
    }
}

#[test]
fn footer_whose_table_overlaps_its_frames_is_refused() {
    let salt = Salt::new(7);
    let footer = sample_footer();
    let decode = |footer: Footer| Footer::decode(&footer.encode(&salt), &salt, SEGMENT_BYTES);
    let fitting = (SEGMENT_BYTES - 64 - footer.data_end) / 4;
    assert!(decode(Footer { count: fitting, ..footer }).is_ok());
    for count in [fitting + 1, u64::MAX / 4, u64::MAX] {
        assert!(decode(Footer { count, base: 0, ..footer }).is_err(), "{count}");
    }
    for data_end in [0, 4088, 4097, SEGMENT_BYTES - 56, SEGMENT_BYTES, u64::MAX] {
        assert!(decode(Footer { data_end, ..footer }).is_err(), "{data_end}");
    }
    assert!(decode(Footer { base: u64::MAX - 2, ..footer }).is_err());
    assert!(decode(Footer { flags: 4, ..footer }).is_err());
}

#[test]
fn impossible_slot_with_a_right_checksum_is_refused() {
    let sample = sample_checkpoint();
    let number = |value: u64| {
        let mut bytes = [0; 8];
        LittleEndian::write_u64(&mut bytes, value);
        bytes
    };
    let refused = |at: usize, bytes: &[u8]| {
        let answer = forged(&sample, at, bytes);
        assert!(matches!(answer, Err(StructureError::Field { .. })), "at {at}: {answer:?}");
    };
    assert_eq!(forged(&sample, 4000, &[0]), Ok(sample.clone()));
    refused(48, &number(13)); // first > next
    refused(64, &number(5)); // the last run does not end with the tail
    for offset in [0, 4088, 5001, 8200, u64::MAX] {
        refused(80, &number(offset)); // tail_offset outside header..reach
    }
    refused(88, &number(4992)); // reach < tail_offset
    refused(88, &number(SEGMENT_BYTES + 8)); // reach > segment_bytes
    refused(96, &number(4096)); // segment_bytes
    refused(104, &[4]); // unknown flag
    refused(105, &[0]); // no runs
    refused(105, &[17]); // too many runs
    refused(108, &[0xff, 1]); // last_frame in the header
    refused(108, &[0x6e, 2]); // last_frame too near to tail_offset
    refused(136, &number(9)); // runs overlap
    refused(128, &number(2)); // a run ends before it starts
    refused(106, &[3]); // more cells than there are
    refused(107, &[0xff]); // more cells than fit
    refused(160, &[0]); // name without bytes
    refused(160, &[33]); // name too long
    refused(161, &[2]); // unknown cell kind
    refused(162, &[0xff, 0xff]); // value past the slot
    refused(162, &[1, 4]); // value too long
    refused(164, b"D"); // upper case in a name
    refused(164, b"z"); // names out of order
}
