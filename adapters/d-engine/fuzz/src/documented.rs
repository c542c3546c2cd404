//! What bytes mean by the tables in the adapter's `convert` and in docs/ADAPTERS.md, read anew: both
//! targets hold the adapter against it.

use d_engine_proto::common::entry_payload::Payload;
use d_engine_proto::common::{Entry, EntryPayload, LogId};
use d_engine_proto::server::election::VotedFor;
use prost::Message;
use prost::bytes::Bytes;

/// Bytes of an entry before its body.
pub const HEADER_BYTES: usize = 17;
/// The first byte of an entry whose payload is in prost's encoding.
pub const OTHER: u8 = 2;

/// Term and vote. The host's own type cannot be compared.
pub type HardState = (u64, Option<VotedFor>);

/// A hard state: nothing if the bytes are none.
pub fn hard_state(bytes: &[u8]) -> Option<HardState> {
    let (term, vote) = bytes.split_first_chunk::<8>()?;
    let vote = match vote {
        [] => None,
        [id @ .., committed @ (0 | 1)] => {
            let (id, term) = id.split_first_chunk::<4>()?;
            Some(VotedFor {
                voted_for_id: u32::from_le_bytes(*id),
                voted_for_term: u64::from_le_bytes(term.try_into().ok()?),
                committed: *committed == 1,
            })
        }
        _ => return None,
    };
    Some((u64::from_le_bytes(*term), vote))
}

/// A purge boundary: nothing if the bytes are none.
pub fn boundary(bytes: &[u8]) -> Option<LogId> {
    let (index, term) = bytes.split_first_chunk::<8>()?;
    let (index, term) = (u64::from_le_bytes(*index), term.try_into().ok()?);
    (index > 0).then_some(LogId { index, term: u64::from_le_bytes(term) })
}

/// The index that the bytes of an entry state, if they are long enough.
pub fn stated(bytes: &[u8]) -> Option<u64> {
    let (header, _) = bytes.split_at_checked(HEADER_BYTES)?;
    Some(u64::from_le_bytes(header[1..9].try_into().unwrap()))
}

/// The entry at `index`: nothing if the bytes are none, or another one.
pub fn entry(index: u64, bytes: &[u8]) -> Option<Entry> {
    let (header, body) = bytes.split_at_checked(HEADER_BYTES)?;
    let term = u64::from_le_bytes(header[9..].try_into().unwrap());
    let payload = match header[0] {
        0 if body.is_empty() => None,
        1 => Some(EntryPayload { payload: Some(Payload::Command(Bytes::copy_from_slice(body))) }),
        OTHER => Some(EntryPayload::decode(body).ok()?),
        _ => return None,
    };
    (stated(bytes) == Some(index)).then_some(Entry { index, term, payload })
}
