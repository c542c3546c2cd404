//! Conversions between d-engine's values and what the log holds.
//!
//! Owns: the bytes of an entry and of the three state cells. Does not own: when they are written.
//!
//! Indexes need no conversion: d-engine counts entries from 1, and so does the log once it has been
//! `reset(1)`. Ranges do: d-engine's are inclusive, the log's half-open ([`clip`]).
//!
//! All integers are little-endian.
//!
//! | cell         | bytes                                                                       |
//! |--------------|-----------------------------------------------------------------------------|
//! | `d-engine`   | format u8 = 1                                                               |
//! | `hard-state` | current term u64, then if there is a vote: id u32, term u64, committed u8   |
//! | `purged`     | index u64 ≥ 1, term u64 of the last purged entry; absent if there is none   |
//!
//! | entry           | bytes                                                     |
//! |-----------------|-----------------------------------------------------------|
//! | without payload | 0 u8, index u64, term u64                                 |
//! | command         | 1 u8, index u64, term u64, the command                    |
//! | anything else   | 2 u8, index u64, term u64, prost encoding of the payload  |
//!
//! An entry states its index although the log knows it: bytes that are not those of the entry wanted
//! are noticed. Commands are not wrapped in prost, because reading ten thousand of them back within
//! d-engine's millisecond leaves a hundred nanoseconds for each.

use std::borrow::Cow;
use std::ops::{Range, RangeInclusive};

use d_engine_core::HardState;
use d_engine_proto::common::entry_payload::Payload;
use d_engine_proto::common::{Entry, EntryPayload, LogId};
use d_engine_proto::server::election::VotedFor;
use indelible::store::StoreEntries;
use prost::Message;
use prost::bytes::{Bytes, BytesMut};

use crate::error::{HostResult, corruption};

/// Tells whose log it is, and which version of the conversions below wrote it.
pub(crate) const FORMAT_CELL: &str = "d-engine";
/// The version of the conversions.
pub(crate) const FORMAT: u8 = 1;
/// Term and vote.
pub(crate) const HARD_STATE_CELL: &str = "hard-state";
/// The last purged entry.
pub(crate) const BOUNDARY_CELL: &str = "purged";
/// Bytes of an entry before its body.
const HEADER_BYTES: usize = 17;
const SHAPE_EMPTY: u8 = 0;
const SHAPE_COMMAND: u8 = 1;
const SHAPE_OTHER: u8 = 2;
/// Most bytes of small entries that are read into one allocation.
const SHARED_BYTES: usize = 4 * 1024 * 1024;
/// Index of the first entry of a log from which nothing was purged.
pub(crate) const INDEX_MIN: u64 = 1;

/// The part of the host's inclusive `range` that lies in the log's half-open `live` range; empty
/// for ranges that are inverted or that lie outside.
pub(crate) fn clip(range: &RangeInclusive<u64>, live: &Range<u64>) -> Range<u64> {
    let start = (*range.start()).clamp(live.start, live.end);
    let end = range.end().saturating_add(1).min(live.end);
    start..end.max(start)
}

/// The bytes of an entry.
pub(crate) fn encode_entry(entry: &Entry) -> Vec<u8> {
    let (shape, body) = match entry.payload.as_ref().map(|outer| (outer, &outer.payload)) {
        None => (SHAPE_EMPTY, Cow::Borrowed(&[][..])),
        Some((_, Some(Payload::Command(command)))) => (SHAPE_COMMAND, Cow::Borrowed(&command[..])),
        Some((outer, _)) => (SHAPE_OTHER, Cow::Owned(outer.encode_to_vec())),
    };
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.push(shape);
    bytes.extend(entry.index.to_le_bytes());
    bytes.extend(entry.term.to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

/// The entry at `index`, from its bytes, which a command goes on using.
pub(crate) fn decode_entry(index: u64, bytes: &Bytes) -> HostResult<Entry> {
    let (head, body) = Head::split(index, bytes)?;
    head.join(index, bytes.slice_ref(body))
}

/// The entries from `first` on. Their commands share allocations of at most [`SHARED_BYTES`], each
/// of which lives as long as any of its commands does.
pub(crate) fn decode_entries(first: u64, stored: &impl StoreEntries) -> HostResult<Vec<Entry>> {
    let mut decoded = Vec::with_capacity(stored.len());
    let mut heads = Vec::new();
    let mut waiting = (first..=u64::MAX).zip(stored.iter()).peekable();
    while let Some((_, next)) = waiting.peek() {
        let left = stored.len() - decoded.len();
        let likely = next.len().saturating_mul(left).min(SHARED_BYTES).max(next.len());
        let mut shared = BytesMut::with_capacity(likely);
        while let Some((index, bytes)) =
            waiting.next_if(|(_, next)| shared.len() + next.len() <= likely)
        {
            let (head, body) = Head::split(index, bytes)?;
            shared.extend_from_slice(body);
            heads.push((index, head, body.len()));
        }
        let mut shared = shared.freeze();
        for (index, head, length) in heads.drain(..) {
            decoded.push(head.join(index, shared.split_to(length))?);
        }
    }
    Ok(decoded)
}

/// What an entry states before its body, its index apart.
struct Head {
    shape: u8,
    term: u64,
}

impl Head {
    /// Takes the bytes of the entry at `index` apart.
    fn split(index: u64, mut bytes: &[u8]) -> HostResult<(Self, &[u8])> {
        let head = take(&mut bytes).and_then(|[shape]| {
            let stated = u64::from_le_bytes(take(&mut bytes)?);
            let term = u64::from_le_bytes(take(&mut bytes)?);
            Some((stated, Self { shape, term }))
        });
        match head {
            Some((stated, head)) if stated == index => Ok((head, bytes)),
            Some((stated, _)) => refused(index, &format!("says that it is entry {stated}")),
            None => refused(index, "is too short"),
        }
    }

    /// The entry at `index` of this head and a body.
    fn join(self, index: u64, body: Bytes) -> HostResult<Entry> {
        let payload = match self.shape {
            SHAPE_EMPTY if body.is_empty() => None,
            SHAPE_COMMAND => Some(EntryPayload { payload: Some(Payload::Command(body)) }),
            SHAPE_OTHER => match EntryPayload::decode(body) {
                Ok(payload) => Some(payload),
                Err(error) => return refused(index, &format!("does not decode: {error}")),
            },
            _ => return refused(index, "has no known shape"),
        };
        Ok(Entry { index, term: self.term, payload })
    }
}

fn refused<T>(index: u64, why: &str) -> HostResult<T> {
    Err(corruption(format!("entry {index} {why}")))
}

/// The bytes of a hard state.
pub(crate) fn encode_hard_state(state: &HardState) -> Vec<u8> {
    let mut bytes = state.current_term.to_le_bytes().to_vec();
    if let Some(vote) = &state.voted_for {
        bytes.extend(vote.voted_for_id.to_le_bytes());
        bytes.extend(vote.voted_for_term.to_le_bytes());
        bytes.push(u8::from(vote.committed));
    }
    bytes
}

/// The hard state in the cell's `bytes`.
pub(crate) fn decode_hard_state(mut bytes: &[u8]) -> HostResult<HardState> {
    let state = take(&mut bytes).map(u64::from_le_bytes).and_then(|current_term| {
        if bytes.is_empty() {
            return Some(HardState { current_term, voted_for: None });
        }
        let voted_for_id = u32::from_le_bytes(take(&mut bytes)?);
        let voted_for_term = u64::from_le_bytes(take(&mut bytes)?);
        let [committed @ (0 | 1)] = take(&mut bytes)? else {
            return None;
        };
        let vote = VotedFor { voted_for_id, voted_for_term, committed: committed == 1 };
        Some(HardState { current_term, voted_for: Some(vote) })
    });
    match state {
        Some(state) if bytes.is_empty() => Ok(state),
        _ => Err(corruption(format!("cell `{HARD_STATE_CELL}` is no hard state"))),
    }
}

/// The bytes of a purge boundary.
pub(crate) fn encode_boundary(boundary: LogId) -> Vec<u8> {
    [boundary.index.to_le_bytes(), boundary.term.to_le_bytes()].concat()
}

/// The purge boundary in the cell's `bytes`.
pub(crate) fn decode_boundary(mut bytes: &[u8]) -> HostResult<LogId> {
    let boundary = take(&mut bytes).map(u64::from_le_bytes).and_then(|index| {
        let term = u64::from_le_bytes(take(&mut bytes)?);
        Some(LogId { index, term })
    });
    match boundary {
        Some(boundary) if bytes.is_empty() && boundary.index >= INDEX_MIN => Ok(boundary),
        _ => Err(corruption(format!("cell `{BOUNDARY_CELL}` is no purge boundary"))),
    }
}

/// Splits the first `N` bytes off.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use d_engine_proto::common::{MembershipChange, Noop};

    use super::*;

    #[test]
    fn clip_keeps_what_is_live_of_any_range() {
        let live = 5..9;
        assert_eq!(clip(&(0..=u64::MAX), &live), 5..9);
        assert_eq!(clip(&(6..=7), &live), 6..8);
        assert_eq!(clip(&(8..=8), &live), 8..9);
        for range in [0..=4, 9..=9, u64::MAX..=u64::MAX, RangeInclusive::new(8, 6)] {
            let none = clip(&range, &live);
            assert!(none.is_empty() && none.start >= 5 && none.end <= 9, "{range:?}: {none:?}");
        }
    }

    #[test]
    fn hard_state_is_restored_with_and_without_a_vote() {
        let vote = VotedFor { voted_for_id: 7, voted_for_term: 41, committed: true };
        for voted_for in [None, Some(vote)] {
            let bytes = encode_hard_state(&HardState { current_term: 42, voted_for });
            let state = decode_hard_state(&bytes).unwrap();
            assert_eq!((state.current_term, state.voted_for), (42, voted_for));
        }
    }

    #[test]
    fn cells_of_another_length_are_refused() {
        let vote = VotedFor { voted_for_id: 7, voted_for_term: 41, committed: true };
        let mut whole = encode_hard_state(&HardState { current_term: 42, voted_for: Some(vote) });
        for length in (0..whole.len()).filter(|length| *length != 8) {
            assert!(decode_hard_state(&whole[..length]).unwrap_err().is_fatal());
        }
        *whole.last_mut().unwrap() = 2;
        assert!(decode_hard_state(&whole).is_err());
        assert!(decode_boundary(&[1; 15]).is_err());
        assert!(decode_boundary(&[1; 17]).is_err());
    }

    /// Found with the fuzz target `store_d_engine`: it was taken, and outlived a reset.
    #[test]
    fn a_boundary_before_the_first_entry_there_can_be_is_refused() {
        let boundary = LogId { index: INDEX_MIN - 1, term: 7 };
        assert!(decode_boundary(&encode_boundary(boundary)).unwrap_err().is_fatal());
    }

    #[test]
    fn entries_of_every_shape_are_restored() {
        let command = Payload::Command(Bytes::from_static(b"decree"));
        let payloads = [
            None,
            Some(EntryPayload { payload: None }),
            Some(EntryPayload { payload: Some(Payload::Noop(Noop {})) }),
            Some(EntryPayload {
                payload: Some(Payload::Config(MembershipChange { change: None })),
            }),
            Some(EntryPayload { payload: Some(Payload::Command(Bytes::new())) }),
            Some(EntryPayload { payload: Some(command) }),
        ];
        for payload in payloads {
            let entry = Entry { index: 3, term: u64::MAX, payload };
            let bytes = Bytes::from(encode_entry(&entry));
            assert_eq!(decode_entry(3, &bytes).unwrap(), entry);
        }
    }

    #[test]
    fn bytes_that_are_not_the_entry_wanted_are_refused() {
        let whole = Bytes::from(encode_entry(&Entry { index: 3, term: 1, payload: None }));
        assert!(decode_entry(3, &whole).is_ok());
        assert!(decode_entry(4, &whole).unwrap_err().is_fatal());
        for length in 0..whole.len() {
            assert!(decode_entry(3, &whole.slice(..length)).unwrap_err().is_fatal());
        }
        for (shape, body) in [(SHAPE_EMPTY, "x"), (SHAPE_OTHER, "\u{7f}"), (3, "")] {
            let mut bytes = whole.to_vec();
            bytes[0] = shape;
            bytes.extend(body.as_bytes());
            assert!(decode_entry(3, &bytes.into()).unwrap_err().is_fatal(), "shape {shape}");
        }
    }

    #[test]
    fn entries_smaller_and_larger_than_an_allocation_are_read_back() {
        let log = indelible::Log::in_memory(&indelible::Options::new()).unwrap();
        let sizes = [1, 2 * SHARED_BYTES, 0, SHARED_BYTES - HEADER_BYTES, 30_000, 40_000, 5];
        let entries: Vec<Entry> = (0..)
            .zip(sizes)
            .map(|(index, size)| {
                let command = Payload::Command(Bytes::from(vec![7; size]));
                Entry { index, term: 1, payload: Some(EntryPayload { payload: Some(command) }) }
            })
            .collect();
        for entry in &entries {
            log.append(&encode_entry(entry)).unwrap();
        }
        let stored = log.read(0..entries.len() as u64).unwrap();
        assert_eq!(decode_entries(0, &stored).unwrap(), entries);
        assert!(decode_entries(1, &stored).unwrap_err().is_fatal());
        let none = log.read(0..0).unwrap();
        assert!(decode_entries(u64::MAX, &none).unwrap().is_empty());
    }
}
