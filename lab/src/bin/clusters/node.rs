//! One node: OmniPaxos on a log on a simulated disk, and how it comes back from whatever it finds.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use indelible::codec::{Codec, CodecError, Fields};
use indelible::io::Directory;
use indelible::io::mem::MemDirectory;
use indelible::io::sim::{Moment, Persistence, Rot, SimDisk};
use indelible::omnipaxos::{LogStorage, Synced};
use indelible::{Durability, Error, Options, repair};
use omnipaxos::messages::Message;
use omnipaxos::storage::{Entry, NoSnapshot};
use omnipaxos::util::LogEntry;
use omnipaxos::{ClusterConfig, OmniPaxosConfig, ServerConfig};

/// Nodes of a cluster.
pub(crate) const NODES: u64 = 3;
/// Bytes of an entry: large enough for a life to fill several segments.
const ENTRY_BYTES: usize = 3_000;

/// What is proposed: a number that nobody proposes twice.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "omnipaxos-serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Value(pub(crate) u64);

impl Entry for Value {
    type Snapshot = NoSnapshot;
    #[cfg(feature = "omnipaxos-unicache")]
    type Encoded = u64;
    #[cfg(feature = "omnipaxos-unicache")]
    type Encodable = Self;
    #[cfg(feature = "omnipaxos-unicache")]
    type NotEncodable = ();
    #[cfg(feature = "omnipaxos-unicache")]
    type EncodeResult = Self;
    #[cfg(feature = "omnipaxos-unicache")]
    type UniCache = NoCache;
}

pub(crate) struct ValueCodec;

impl Codec<Value> for ValueCodec {
    fn encode(value: &Value, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(&value.0.to_le_bytes());
        out.resize(out.len() + ENTRY_BYTES, 0x5a);
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<Value, CodecError> {
        let mut fields = Fields::new(bytes);
        let value = fields.u64("value")?;
        fields.bytes("padding", fields.left())?;
        Ok(Value(value))
    }
}

impl Codec<NoSnapshot> for ValueCodec {
    fn encode(_: &NoSnapshot, _: &mut Vec<u8>) -> Result<(), CodecError> {
        Ok(())
    }

    fn decode(_: &[u8]) -> Result<NoSnapshot, CodecError> {
        Ok(NoSnapshot)
    }
}

/// A node, running or down.
pub(crate) struct Node {
    pub(crate) pid: u64,
    disk: SimDisk,
    paxos: Option<Synced<Value, ValueCodec>>,
    /// Decided entries that this node has shown.
    pub(crate) shown: usize,
}

impl Node {
    pub(crate) fn new(pid: u64, seed: u64) -> Self {
        let disk = SimDisk::new(seed.wrapping_mul(NODES + 1).wrapping_add(pid));
        Self { pid, disk, paxos: None, shown: 0 }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.paxos.is_some()
    }

    /// Starts on what the disk holds.
    pub(crate) fn start(&mut self) -> Result<(), Error> {
        let options = Options::new()
            .background(false)
            .segment_bytes(64 * 1024)
            .durability(Durability::Barrier);
        let storage = LogStorage::in_directory(Arc::new(self.disk.clone()), &options)?;
        let config = OmniPaxosConfig {
            cluster_config: ClusterConfig {
                configuration_id: 1,
                nodes: (1..=NODES).collect(),
                flexible_quorum: None,
            },
            server_config: ServerConfig {
                pid: self.pid,
                election_tick_timeout: 5,
                resend_message_tick_timeout: 7,
                ..ServerConfig::default()
            },
        };
        self.paxos = Some(Synced::build(config, storage).map_err(|_| Error::InvalidArgument {
            what: "cluster",
            reason: "refused by the host",
        })?);
        Ok(())
    }

    /// Lets the node do something. `None` if it is down, or if its storage failed meanwhile: then it is
    /// down, as a process that panicked.
    pub(crate) fn with<R>(
        &mut self,
        act: impl FnOnce(&mut Synced<Value, ValueCodec>) -> R,
    ) -> Option<R> {
        let paxos = self.paxos.as_mut()?;
        let acted = std::panic::catch_unwind(AssertUnwindSafe(|| act(paxos)));
        if acted.is_err() {
            // The process is gone; what its log object does on its way out must not matter.
            self.paxos = None;
        }
        acted.ok()
    }

    /// The messages that may leave: everything they depend on is durable. `None` if it went down.
    pub(crate) fn outgoing(&mut self) -> Option<Vec<Message<Value>>> {
        let mut messages = Vec::new();
        let taken = self.with(|paxos| paxos.take_outgoing_messages(&mut messages))?;
        if taken.is_err() {
            self.paxos = None;
            return None;
        }
        Some(messages)
    }

    /// What it has decided and not shown yet, with the index of the first. Nothing below its trim
    /// point.
    pub(crate) fn newly_decided(&mut self) -> Option<(usize, Vec<u64>)> {
        let (shown, values) = (self.shown, self.with(|paxos| paxos.get_decided_idx())?);
        if values <= shown {
            return Some((shown, Vec::new()));
        }
        let from = self.with(|paxos| paxos.get_compacted_idx())?.max(shown);
        let entries = self.with(|paxos| paxos.read_decided_suffix(from))?.unwrap_or_default();
        let values: Vec<u64> = entries
            .iter()
            .filter_map(|entry| match entry {
                LogEntry::Decided(value) => Some(value.0),
                _ => None,
            })
            .collect();
        self.shown = from + values.len();
        Some((from, values))
    }

    /// Cuts the power: a random part of what was not synced is lost.
    pub(crate) fn cut(&mut self, chance: u64) {
        let after = self.disk.crash_with(Persistence::Random(chance));
        self.paxos = None;
        self.disk = after;
        self.shown = 0;
    }

    /// The power will be cut before or within the call that is so many away.
    pub(crate) fn cut_within(&self, calls: u64, before: bool) {
        let moment = if before { Moment::Before } else { Moment::Within };
        self.disk.crash_at_call(self.disk.calls() + 1 + calls, moment);
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.disk.is_down()
    }

    /// Flips a bit of a sealed segment of a node that is down, whose entries all lie before `decided`:
    /// what is not decided cannot be had from a peer. Returns whether there is one.
    pub(crate) fn rot(&mut self, decided: usize, chance: &mut fastrand::Rng) -> bool {
        let image = self.disk.image();
        let mut segments: Vec<_> = image
            .iter()
            .filter_map(|(name, bytes)| {
                Some((name.strip_suffix(".seg")?.split_once('-')?, name, bytes))
            })
            .collect();
        segments.sort();
        // The base of the next segment bounds the entries of each. The last two may hold promises.
        let bases = segments.iter().skip(1).map(|((_, base), ..)| u64::from_str_radix(base, 16));
        let all_decided =
            bases.take_while(|base| base.as_ref().is_ok_and(|&it| it <= decided as u64));
        let count = all_decided.count().min(segments.len().saturating_sub(2));
        if count == 0 {
            return false;
        }
        let Some((_, name, bytes)) = segments.get(chance.usize(..count)) else { return false };
        let written = bytes.iter().rposition(|&byte| byte != 0).unwrap_or(0).max(4097);
        let offset = chance.u64(4096..written as u64);
        self.disk.rot(name, Rot::FlipBit { offset, bit: chance.u8(..8) }).is_ok()
    }

    /// Makes the decided index durable, which nothing else does before it is needed. Returns it.
    pub(crate) fn durably_decided(&mut self) -> Option<usize> {
        let synced = self.with(|paxos| paxos.handle().sync().map(|()| paxos.get_decided_idx()))?;
        synced.ok()
    }

    /// What an operator does when the node does not start: repair, then refill from what the others
    /// have decided. Returns what the repair would have lost for good, if anything.
    pub(crate) fn repair(
        &mut self,
        decided: &mut dyn FnMut(u64) -> Option<u64>,
    ) -> Result<(), Error> {
        let directory: Arc<dyn Directory> = Arc::new(self.disk.clone());
        repair::apply_in(Arc::clone(&directory), Arc::new(MemDirectory::new()))?;
        let refilled = repair::refill_in(directory, &mut |index| {
            let Some(value) = decided(index) else { return Ok(None) };
            let mut bytes = Vec::new();
            ValueCodec::encode(&Value(value), &mut bytes).map_err(|_| Error::InvalidArgument {
                what: "entry",
                reason: "cannot be encoded",
            })?;
            Ok(Some(bytes))
        })?;
        match refilled.stopped {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
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
