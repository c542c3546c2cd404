//! Properties that hold for every structure: inverse coders, detected flips, no panics.

use super::*;

#[test]
fn smoke_round_trip() {
    let salt = Salt::new(7);
    let header = FrameHeader {
        length: 5,
        sequence: 9,
        index: 3,
        lag: 1,
        kind: Kind::Entry,
        flags: 3,
    };
    let mut out = Vec::new();
    frame::encode_frame(&mut out, &salt, &header, &[b"he", b"llo"]);
    assert_eq!(out.len(), 40);
    assert_eq!(
        frame::decode_frame(&out, &salt),
        Ok((header, b"hello".as_slice(), 40))
    );
    assert_eq!(frame::peek_header(&out, &salt), Ok(header));
    assert_eq!(frame::peek_header(&[0; 32], &salt), Err(FrameError::End));
    let checkpoint = Checkpoint {
        segment_bytes: 8192,
        tail_offset: 4096,
        reach: 8192,
        runs: vec![(0, 0)],
        ..Checkpoint::default()
    };
    assert_eq!(
        Checkpoint::decode(&checkpoint.encode().unwrap()[..]),
        Ok(checkpoint)
    );
}
