//! `codec_d_engine`: what the storage of d-engine keeps, from any bytes: entries, hard states, purge
//! boundaries.
//!
//! Input: a mode byte that chooses the type, and the length of the cut and the byte that is added;
//! then the bytes of one value. An entry is asked for at the index it states.
//!
//! Invariants:
//! 1. Decoding any bytes gives a value or an error that stops the node (`is_fatal`). It never panics,
//!    and allocates no more than [`MEMORY_FACTOR`] times the input and [`MEMORY_FIXED`] bytes,
//!    whatever lengths it states.
//! 2. It decodes if and only if it is what the documentation says (`documented`), to that value. The
//!    same holds for a prefix of it and for a longer input.
//! 3. What decodes encodes to the same bytes; of a payload in prost's encoding, which has many for one
//!    value, to bytes that decode to the same value and encode to themselves.
//! 4. An entry decodes at no other index than the one it states.

use std::fmt::Debug;

use d_engine_core::{Error, HardState};
use d_engine_proto::common::entry_payload::Payload;
use d_engine_proto::common::membership_change::Change;
use d_engine_proto::common::{
    AddNode, BatchPromote, BatchRemove, Entry, EntryPayload, LogId, MembershipChange, Noop,
    PromoteLearner, RemoveNode,
};
use d_engine_proto::server::election::VotedFor;
use indelible_d_engine::hooks;
use prost::bytes::Bytes;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region};

use crate::{Seed, documented};

/// A node id in a list takes one byte, and four in memory, twice while the list grows.
const MEMORY_FACTOR: usize = 16;
/// What an error or the first nodes of a list take.
const MEMORY_FIXED: usize = 1024;

/// Which conversions an input is for.
const ENTRY: u8 = 0;
const HARD_STATE: u8 = 1;
const BOUNDARY: u8 = 2;

/// One execution.
pub fn run(input: &[u8]) {
    let Some((mode, bytes)) = input.split_first() else { return };
    let detail = mode >> 2;
    let cut = &bytes[..bytes.len().saturating_sub(1 + usize::from(detail))];
    let more = [bytes, &[detail]].concat();
    for (bytes, whole) in [(bytes, true), (cut, false), (&more, false)] {
        match mode & 3 {
            HARD_STATE => hard_state(bytes),
            BOUNDARY => boundary(bytes),
            _ => entry(bytes, whole, detail),
        }
    }
}

fn hard_state(bytes: &[u8]) {
    let decoded = judged(bytes, || hooks::decode_hard_state(bytes));
    let value = decoded.as_ref().map(|state| (state.current_term, state.voted_for));
    assert_eq!(value, documented::hard_state(bytes));
    if let Some(state) = decoded {
        assert_eq!(hooks::encode_hard_state(&state), bytes, "a hard state has two encodings");
    }
}

fn boundary(bytes: &[u8]) {
    let decoded = judged(bytes, || hooks::decode_boundary(bytes));
    assert_eq!(decoded, documented::boundary(bytes));
    if let Some(boundary) = decoded {
        assert_eq!(hooks::encode_boundary(boundary), bytes, "a boundary has two encodings");
    }
}

fn entry(bytes: &[u8], whole: bool, detail: u8) {
    let index = documented::stated(bytes).unwrap_or(0);
    let shared = Bytes::copy_from_slice(bytes);
    let decoded = judged(bytes, || hooks::decode_entry(index, &shared));
    assert_eq!(decoded, documented::entry(index, bytes));
    let Some(entry) = decoded.filter(|_| whole) else { return };

    let other = index ^ 1 << detail;
    assert_eq!(judged(bytes, || hooks::decode_entry(other, &shared)), None, "another entry");
    let again = hooks::encode_entry(&entry);
    if bytes[0] != documented::OTHER {
        assert_eq!(again, bytes, "an entry has two encodings");
    }
    let decoded = hooks::decode_entry(index, &Bytes::copy_from_slice(&again)).unwrap();
    assert_eq!(decoded, entry);
    assert_eq!(hooks::encode_entry(&decoded), again);
}

/// What a decoder gives, if it is within what decoding may do.
fn judged<V: Debug>(bytes: &[u8], decode: impl FnOnce() -> Result<V, Error>) -> Option<V> {
    let region = Region::new(&INSTRUMENTED_SYSTEM);
    let decoded = decode();
    let allocated = region.change().bytes_allocated;
    let allowed = MEMORY_FACTOR * bytes.len() + MEMORY_FIXED;
    assert!(allocated <= allowed, "{allocated} bytes allocated for {}", bytes.len());
    decoded.map_err(|error| assert!(error.is_fatal(), "{error}")).ok()
}

/// One encoding of each value.
pub fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let mut seed = |name: String, mode: u8, bytes: Vec<u8>| {
        seeds.push((name, [vec![mode], bytes].concat()));
    };
    for (i, payload) in payloads().into_iter().enumerate() {
        let entry = Entry { index: 3, term: 42, payload };
        seed(format!("entry_{i}"), ENTRY, hooks::encode_entry(&entry));
    }
    let vote = VotedFor { voted_for_id: 7, voted_for_term: 41, committed: true };
    for (name, voted_for) in [("term", None), ("vote", Some(vote))] {
        let state = HardState { current_term: 42, voted_for };
        seed(name.to_owned(), HARD_STATE, hooks::encode_hard_state(&state));
    }
    let boundary = LogId { index: 300, term: 43 };
    seed("boundary".to_owned(), BOUNDARY, hooks::encode_boundary(boundary));
    seeds
}

/// One of each shape.
fn payloads() -> Vec<Option<EntryPayload>> {
    let changes = [
        Change::AddNode(AddNode { node_id: 4, address: "node4:80".to_owned(), status: 1 }),
        Change::RemoveNode(RemoveNode { node_id: 4 }),
        Change::Promote(PromoteLearner { node_id: 4, status: 2 }),
        Change::BatchPromote(BatchPromote { node_ids: vec![4, 500], new_status: 2 }),
        Change::BatchRemove(BatchRemove { node_ids: vec![4, 500] }),
    ];
    let mut payloads = vec![
        Payload::Command(Bytes::new()),
        Payload::Command(Bytes::from_static(b"decree")),
        Payload::Noop(Noop {}),
        Payload::Config(MembershipChange { change: None }),
    ];
    payloads
        .extend(changes.map(|change| Payload::Config(MembershipChange { change: Some(change) })));
    let some = payloads.into_iter().map(|payload| Some(EntryPayload { payload: Some(payload) }));
    [None, Some(EntryPayload { payload: None })].into_iter().chain(some).collect()
}
