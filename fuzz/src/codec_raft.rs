//! `codec_raft`: what the stores for openraft 0.9, openraft 0.10 and async-raft read, from any bytes.
//!
//! Input: a mode byte that chooses the type, and the length and the byte of cuts and longer inputs;
//! then the bytes of one value.
//!
//! Invariants:
//! 1. Decoding any bytes gives a value or a `CodecError`. It never panics, and allocates no more
//!    than [`MEMORY_FACTOR`] times the input and [`MEMORY_FIXED`] bytes, whatever lengths it states.
//! 2. What decodes encodes again, to no more bytes, and those decode to the same value.
//! 3. No strict prefix of what decodes, and no longer input, decodes as well.
//! 4. Both openrafts read the same bytes as the same value.
//!
//! The stores themselves are for `stores_raft`.

use std::fmt::Debug;
use std::io::Cursor;

use async_raft::raft::{Entry as AsyncEntry, MembershipConfig};
use async_raft::storage::HardState;
use indelible::codec::{Codec, CodecError, Postcard};
use openraft_09::{LogId, Vote};
use openraft_010::RaftTypeConfig;
use openraft_010::type_config::alias::{LogIdOf, VoteOf};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region};

use crate::script::Script;

/// A set of one node takes two bytes, and a tree node of more than a hundred in memory.
const MEMORY_FACTOR: usize = 200;
/// What an error or the first node of a tree takes.
const MEMORY_FIXED: usize = 4096;

/// What the clients of every host here ask for: each kind of field that a length or a tag is in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Text and bytes.
    Put(String, Vec<u8>),
    /// Numbers, signed and wide.
    Add(i64, u128),
    /// Something of everything.
    Many(Vec<Option<(bool, char)>>),
}

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl async_raft::AppData for Command {}

openraft_09::declare_raft_types!(
    /// The types of openraft 0.9.
    pub Types09: D = Command, R = (),
);

openraft_010::declare_raft_types!(
    /// The types of openraft 0.10.
    pub Types010: D = Command, R = (),
);

/// An entry of openraft 0.9.
pub type Entry09 = openraft_09::Entry<Types09>;
/// An entry of openraft 0.10.
pub type Entry010 = <Types010 as RaftTypeConfig>::Entry;

/// One execution.
pub fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let mode = script.u8();
    let detail = mode >> 3;
    let bytes = script.rest();
    match mode & 7 {
        0 => both::<Entry09, Entry010>(bytes, detail),
        1 => both::<Vote<u64>, VoteOf<Types010>>(bytes, detail),
        2 => both::<LogId<u64>, LogIdOf<Types010>>(bytes, detail),
        3 => drop(again::<AsyncEntry<Command>>(bytes, detail)),
        4 => drop(again::<HardState>(bytes, detail)),
        5 => drop(again::<(u64, u64, MembershipConfig)>(bytes, detail)),
        6 => drop(again::<u64>(bytes, detail)),
        _ => drop(again::<u32>(bytes, detail)),
    }
}

/// Invariants 1 to 4 for a value that both openrafts store.
fn both<V09, V010>(bytes: &[u8], detail: u8)
where
    V09: Serialize + DeserializeOwned + PartialEq + Debug,
    V010: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let (old, new) = (again::<V09>(bytes, detail), again::<V010>(bytes, detail));
    assert_eq!(old, new, "openraft 0.9 and 0.10 read something else");
}

/// Invariants 1 to 3 for a value of one type: its encoding.
fn again<V>(bytes: &[u8], detail: u8) -> Option<Vec<u8>>
where
    V: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let region = Region::new(&INSTRUMENTED_SYSTEM);
    let decoded: Result<V, CodecError> = Postcard::decode(bytes);
    let allocated = region.change().bytes_allocated;
    let allowed = MEMORY_FACTOR * bytes.len() + MEMORY_FIXED;
    assert!(allocated <= allowed, "{allocated} bytes allocated for {}", bytes.len());
    let value = decoded.ok()?;

    let again = encoded(&value);
    assert!(again.len() <= bytes.len(), "there is a shorter encoding than the shortest");
    assert_eq!(decoded_from::<V>(&again).as_ref(), Some(&value));
    let cut = bytes.len().saturating_sub(1 + usize::from(detail));
    assert_eq!(decoded_from::<V>(&bytes[..cut]), None, "a prefix decodes");
    assert_eq!(decoded_from::<V>(&[bytes, &[detail]].concat()), None, "more decodes");
    Some(again)
}

/// The bytes of a value.
pub fn encoded<V: Serialize + DeserializeOwned>(value: &V) -> Vec<u8> {
    let mut bytes = Vec::new();
    Postcard::encode(value, &mut bytes).expect("what decoded can be encoded");
    bytes
}

/// The value of bytes, if they are an encoding of one.
pub fn decoded_from<V: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<V> {
    Postcard::decode(bytes).ok()
}

pub use crate::raft_seeds::values as seeds;
