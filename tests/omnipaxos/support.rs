//! An entry type with a codec written by hand, and ways to make storages of it.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use indelible::codec::{Codec, CodecError, Fields};
use indelible::io::mem::MemDirectory;
use indelible::omnipaxos::{LogStorage, StorageConfig};
use indelible::{Durability, Options};
use omnipaxos::ClusterConfig;
use omnipaxos::ballot_leader_election::Ballot;
use omnipaxos::storage::{Entry, Snapshot, StopSign, Storage};

thread_local! {
    /// Whether nodes of this thread bring each other up to date with snapshots. Upstream loses
    /// entries where such a snapshot is a delta (docs/ADAPTERS.md), so most clusters do without.
    pub(crate) static SYNC_WITH_SNAPSHOTS: Cell<bool> = const { Cell::new(false) };

    /// How many entries this thread has decoded.
    pub(crate) static DECODED: Cell<u64> = const { Cell::new(0) };
}

#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "omnipaxos-serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Value(pub(crate) Vec<u8>);

/// All values so far, one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "omnipaxos-serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Joined(pub(crate) Vec<u8>);

impl Entry for Value {
    type Snapshot = Joined;
    #[cfg(feature = "omnipaxos-unicache")]
    type Encoded = u64;
    #[cfg(feature = "omnipaxos-unicache")]
    type Encodable = Value;
    #[cfg(feature = "omnipaxos-unicache")]
    type NotEncodable = ();
    #[cfg(feature = "omnipaxos-unicache")]
    type EncodeResult = Value;
    #[cfg(feature = "omnipaxos-unicache")]
    type UniCache = NoCache;
}

#[cfg(feature = "omnipaxos-unicache")]
#[derive(Clone, Debug)]
#[cfg_attr(feature = "omnipaxos-serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct NoCache;

#[cfg(feature = "omnipaxos-unicache")]
impl omnipaxos::unicache::UniCache for NoCache {
    type T = Value;
    fn new() -> Self {
        Self
    }
    fn try_encode(&mut self, entry: &Value) -> Value {
        entry.clone()
    }
    fn decode(&mut self, processed: Value) -> Value {
        processed
    }
}

impl Snapshot<Value> for Joined {
    fn create(entries: &[Value]) -> Self {
        Self(entries.iter().flat_map(|entry| entry.0.iter().copied()).collect())
    }
    fn merge(&mut self, delta: Self) {
        self.0.extend(delta.0);
    }
    fn use_snapshots() -> bool {
        SYNC_WITH_SNAPSHOTS.get()
    }
}

pub(crate) struct ValueCodec;

impl Codec<Value> for ValueCodec {
    fn encode(value: &Value, out: &mut Vec<u8>) -> Result<(), CodecError> {
        if value.0 == b"unencodable" {
            return Err(CodecError::Value { field: "value", got: 0 });
        }
        out.push(b'v');
        out.extend_from_slice(&value.0);
        Ok(())
    }
    fn decode(bytes: &[u8]) -> Result<Value, CodecError> {
        DECODED.set(DECODED.get() + 1);
        tagged(b'v', bytes).map(Value)
    }
}

impl Codec<Joined> for ValueCodec {
    fn encode(joined: &Joined, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.push(b's');
        out.extend_from_slice(&joined.0);
        Ok(())
    }
    fn decode(bytes: &[u8]) -> Result<Joined, CodecError> {
        tagged(b's', bytes).map(Joined)
    }
}

fn tagged(tag: u8, bytes: &[u8]) -> Result<Vec<u8>, CodecError> {
    let mut fields = Fields::new(bytes);
    match fields.u8("tag")? {
        found if found == tag => Ok(fields.bytes("value", fields.left())?.to_vec()),
        got => Err(CodecError::Value { field: "tag", got: got.into() }),
    }
}

pub(crate) type Store = LogStorage<Value, ValueCodec>;

pub(crate) fn value(number: u64) -> Value {
    Value(number.to_le_bytes().to_vec())
}

pub(crate) fn values(numbers: std::ops::Range<u64>) -> Vec<Value> {
    numbers.map(value).collect()
}

pub(crate) fn ballot(n: u32) -> Ballot {
    Ballot { config_id: 1, n, priority: 2, pid: 3 }
}

pub(crate) fn stopsign(metadata: Option<Vec<u8>>) -> StopSign {
    let next_config =
        ClusterConfig { configuration_id: 2, nodes: vec![1, 2, 3], flexible_quorum: None };
    StopSign { next_config, metadata }
}

/// Small segments, and no threads: every run does the same.
pub(crate) fn options(durability: Durability) -> Options {
    Options::new().background(false).segment_bytes(128 * 1024).durability(durability)
}

/// A storage in memory that syncs as one on disk does.
pub(crate) fn memory(durability: Durability) -> Store {
    Store::in_directory(Arc::new(MemDirectory::new()), &options(durability)).unwrap()
}

pub(crate) fn config(path: &Path) -> StorageConfig {
    StorageConfig::with(path, options(Durability::Always))
}

/// Closes and opens.
pub(crate) fn reopen(storage: Store) -> Store {
    let handle = storage.handle();
    let path = handle.log().path().to_owned();
    drop(storage);
    handle.close().unwrap();
    Store::open(&config(&path)).unwrap()
}

/// Everything a host can ask for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Everything {
    entries: Vec<Value>,
    rounds: [Option<Ballot>; 2],
    indexes: [usize; 3],
    stopsign: Option<StopSign>,
    snapshot: Option<Joined>,
}

pub(crate) fn everything(storage: &Store) -> Everything {
    let compacted = storage.get_compacted_idx().unwrap();
    Everything {
        entries: storage.get_suffix(compacted).unwrap(),
        rounds: [storage.get_promise().unwrap(), storage.get_accepted_round().unwrap()],
        indexes: [compacted, storage.get_log_len().unwrap(), storage.get_decided_idx().unwrap()],
        stopsign: storage.get_stopsign().unwrap(),
        snapshot: storage.get_snapshot().unwrap(),
    }
}
