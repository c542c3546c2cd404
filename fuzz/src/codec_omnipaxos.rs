//! `codec_omnipaxos`: what the OmniPaxos adapter keeps in state cells, from any bytes.
//!
//! Input: a mode byte that chooses ballot, index or stop sign, then the bytes.
//!
//! Invariants:
//! 1. Decoding never panics, and allocates no more than a small multiple of the input, whatever
//!    lengths it states.
//! 2. What decodes encodes to the same bytes: no two encodings of one value, nothing ignored.
//! 3. No strict prefix of what decodes, and no longer input, decodes as well.
//! 4. The checked field reader that codecs are written with never reads past its bytes.

use indelible::codec::Fields;
use indelible::testing::hooks::{OmniValue, omnipaxos_again};

use crate::Seed;
use crate::script::Script;

/// One execution.
pub fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let mode = script.u8();
    let value = match mode & 3 {
        0 => OmniValue::Ballot,
        1 => OmniValue::Index,
        2 => OmniValue::StopSign,
        _ => return fields(script),
    };
    let bytes = script.rest();
    let Some(again) = omnipaxos_again(value, bytes) else { return };
    assert_eq!(again, bytes, "{value:?} has two encodings");
    let cut = usize::from(mode >> 2) % bytes.len().max(1);
    assert!(omnipaxos_again(value, &bytes[..cut]).is_none(), "a prefix decodes");
    assert!(omnipaxos_again(value, &[bytes, &[0]].concat()).is_none(), "more decodes");
}

fn fields(mut script: Script<'_>) {
    let plan = script.bytes(16).to_vec();
    let bytes = script.rest();
    let mut fields = Fields::new(bytes);
    for step in plan {
        let before = fields.left();
        let read = match step % 6 {
            0 => fields.u8("a").map(|_| 1),
            1 => fields.u32("b").map(|_| 4),
            2 => fields.u64("c").map(|_| 8),
            3 => fields.length("d").map(|_| 8),
            4 => fields.text("e", usize::from(step)).map(str::len),
            _ => fields.bytes("f", usize::from(step)).map(<[u8]>::len),
        };
        if let Ok(read) = read {
            assert_eq!(fields.left() + read, before);
        }
    }
    assert_eq!(fields.left() == 0, fields.finish().is_ok());
}

/// One encoding of each value.
pub fn seeds() -> Vec<Seed> {
    let mut stopsign = vec![2];
    stopsign.extend_from_slice(&9_u32.to_le_bytes());
    stopsign.extend_from_slice(&3_u64.to_le_bytes());
    for node in 1..=3_u64 {
        stopsign.extend_from_slice(&node.to_le_bytes());
    }
    let mut full = stopsign.clone();
    stopsign.extend_from_slice(&[0, 0]);
    full.push(1);
    full.extend_from_slice(&[2_u64.to_le_bytes(), 2_u64.to_le_bytes()].concat());
    full.push(1);
    full.extend_from_slice(&4_u64.to_le_bytes());
    full.extend_from_slice(b"meta");
    let ballot = [&[0_u8][..], &[1; 20]].concat();
    let plan = [&[3_u8][..], &[0, 1, 2, 3, 4, 5, 10, 11], &[b'x'; 40]].concat();
    [
        ("ballot", ballot),
        ("index", [&[1_u8][..], &[5; 8]].concat()),
        ("stopsign", stopsign),
        ("stopsign_full", full),
        ("fields", plan),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .into()
}
