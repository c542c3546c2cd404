//! The conversions for the fuzz targets. No API: they change with what they expose.

use d_engine_core::HardState;
use d_engine_proto::common::{Entry, LogId};
use prost::bytes::Bytes;

use crate::convert;
use crate::error::HostResult;

/// The bytes of an entry.
pub fn encode_entry(entry: &Entry) -> Vec<u8> {
    convert::encode_entry(entry)
}

/// The entry at `index`, from its bytes.
///
/// # Errors
/// Fatal if they are no entry, or another one.
pub fn decode_entry(index: u64, bytes: &Bytes) -> HostResult<Entry> {
    convert::decode_entry(index, bytes)
}

/// The bytes of a hard state.
pub fn encode_hard_state(state: &HardState) -> Vec<u8> {
    convert::encode_hard_state(state)
}

/// The hard state in a cell's `bytes`.
///
/// # Errors
/// Fatal if they are none.
pub fn decode_hard_state(bytes: &[u8]) -> HostResult<HardState> {
    convert::decode_hard_state(bytes)
}

/// The bytes of a purge boundary.
pub fn encode_boundary(boundary: LogId) -> Vec<u8> {
    convert::encode_boundary(boundary)
}

/// The purge boundary in a cell's `bytes`.
///
/// # Errors
/// Fatal if they are none.
pub fn decode_boundary(bytes: &[u8]) -> HostResult<LogId> {
    convert::decode_boundary(bytes)
}
