//! One shard on one node: OmniPaxos on a group of the shared log, and the map it builds.
//!
//! Owns: opening a group, applying what is decided, the move to the next group. Does not own: the
//! turn, and its sync (`node`).
//!
//! A group counts once it has the cell `serves`. A move (1) creates the next group and puts the whole
//! map into it as a snapshot; (2) sets `serves` there and removes the old group, as one batch, which is
//! the commit point. A crash before it leaves a group that does not serve, which the next open removes.

use std::collections::BTreeSet;

use indelible::Batch;
use indelible::codec::{Codec, CodecError};
use indelible::omnipaxos::LogStorage;
use indelible_groups::{Group, GroupBatch, Groups};
use omnipaxos::storage::{Storage, StorageOp};
use omnipaxos::util::LogEntry;
use omnipaxos::{ClusterConfig, OmniPaxos, OmniPaxosConfig, ServerConfig};

use crate::bytes::{In, Out};
use crate::frames::{Body, Frame, Held};
use crate::kv::{Command, KvSnapshot, Machine};
use crate::wire::Paxos;
use crate::{NODES, Outcome, SHARDS, mend};

/// The cell of a group that a shard is served from.
const SERVES: &str = "serves";
/// Ticks without a heartbeat before a node looks for a new leader.
const ELECTION_TICKS: u64 = 20;
/// Ticks before a message that got no answer is sent again.
const RESEND_TICKS: u64 = 25;
/// Entries between two snapshots.
const SNAPSHOT_EVERY: usize = 40;

type Disk = LogStorage<Command, KvCodec, Group>;

/// Gives the log the bytes that also go through the pipes.
#[derive(Debug)]
pub(crate) struct KvCodec;

impl Codec<Command> for KvCodec {
    fn encode(command: &Command, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(&command.to_bytes());
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<Command, CodecError> {
        let mut read = In::new(bytes);
        let command = Command::decode(&mut read).map_err(CodecError::library)?;
        read.end().map_err(CodecError::library)?;
        Ok(command)
    }
}

impl Codec<KvSnapshot> for KvCodec {
    fn encode(snapshot: &KvSnapshot, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let mut bytes = Out::new();
        snapshot.encode(&mut bytes);
        out.extend_from_slice(&bytes.finish());
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<KvSnapshot, CodecError> {
        let mut read = In::new(bytes);
        let snapshot = KvSnapshot::decode(&mut read).map_err(CodecError::library)?;
        read.end().map_err(CodecError::library)?;
        Ok(snapshot)
    }
}

pub(crate) struct Shard {
    groups: Groups,
    node: u64,
    /// The group that serves it.
    group: u64,
    /// Nothing only while it moves.
    paxos: Option<OmniPaxos<Command, Disk>>,
    machine: Machine,
    /// Ids of commands that came in here and were not answered.
    waiting: BTreeSet<u64>,
    messages: Vec<Paxos>,
}

/// Begins all shards, in one batch.
pub(crate) fn create_all(groups: &Groups) -> Outcome<()> {
    let mut batch = GroupBatch::new();
    for group in 0..SHARDS {
        batch.create(group);
    }
    groups.commit(&batch)?;
    for group in 0..SHARDS {
        drop(Disk::from_store(groups.group(group)?)?);
    }
    let mut serves = Batch::new();
    serves.set(SERVES, b"");
    let mut batch = GroupBatch::new();
    for group in 0..SHARDS {
        batch.change(group, &serves);
    }
    groups.commit(&batch)?;
    Ok(())
}

/// The groups that serve, and no others: what a move left behind that did not get to its end goes.
pub(crate) fn open_all(groups: &Groups, node: u64) -> Outcome<Vec<Shard>> {
    for id in groups.ids() {
        if groups.group(id)?.cell(SERVES).is_none() {
            groups.remove_group(id)?;
        }
    }
    let mut ids = groups.ids();
    ids.sort_unstable_by_key(|id| id % SHARDS);
    if !ids.iter().map(|id| id % SHARDS).eq(0..SHARDS) {
        return Err(format!("node {node} has the groups {ids:?}: not one per shard").into());
    }
    ids.into_iter().map(|id| Shard::open(groups, node, id)).collect()
}

fn config(group: u64) -> ClusterConfig {
    let configuration_id = u32::try_from(group / SHARDS + 1).unwrap_or(u32::MAX);
    ClusterConfig { configuration_id, nodes: NODES.to_vec(), flexible_quorum: None }
}

impl Shard {
    fn open(groups: &Groups, node: u64, group: u64) -> Outcome<Self> {
        let disk = Disk::from_store(groups.group(group)?)?;
        let snapshot = disk.get_snapshot()?;
        let machine = snapshot.map(KvSnapshot::into_machine).unwrap_or_default();
        let server_config = ServerConfig {
            pid: node,
            election_tick_timeout: ELECTION_TICKS,
            resend_message_tick_timeout: RESEND_TICKS,
            ..ServerConfig::default()
        };
        let config = OmniPaxosConfig { cluster_config: config(group), server_config };
        let paxos = config.build(disk).map_err(|error| format!("group {group}: {error:?}"))?;
        Ok(Self {
            groups: groups.clone(),
            node,
            group,
            paxos: Some(paxos),
            machine,
            waiting: BTreeSet::new(),
            messages: Vec::new(),
        })
    }

    pub(crate) fn group(&self) -> u64 {
        self.group
    }

    pub(crate) fn tick(&mut self) {
        self.paxos.iter_mut().for_each(OmniPaxos::tick);
    }

    pub(crate) fn reconnected(&mut self, peer: u64) {
        self.paxos.iter_mut().for_each(|paxos| paxos.reconnected(peer));
    }

    /// A message of `group`. Returns what the sender has to be told if its shard has moved on.
    pub(crate) fn receive(&mut self, group: u64, mut message: Paxos) -> Outcome<Option<Frame>> {
        let from = message.get_sender();
        if group < self.group {
            let body = Body::Transfer(KvSnapshot::from(self.machine.clone()));
            return Ok(Some(Frame { to: from, group: self.group, body }));
        }
        if mend::has_snapshot(&mut message) {
            self.apply(&mut Vec::new())?;
        }
        let Some(paxos) = &mut self.paxos else { return Ok(None) };
        // Of a group that this node has not got yet it will be told in answer to its own messages.
        if group > self.group || paxos.is_reconfigured().is_some() {
            return Ok(None);
        }
        if mend::incoming(&mut message, &self.machine) {
            paxos.handle_incoming(message);
        } else {
            paxos.reconnected(from);
        }
        Ok(None)
    }

    /// Takes a command; the client sends it again if it hears nothing.
    pub(crate) fn submit(&mut self, command: Command) {
        let id = command.id();
        self.waiting.insert(id);
        if self.machine.index_of(id).is_none()
            && let Some(paxos) = &mut self.paxos
        {
            // Refused while the shard moves.
            let _later = paxos.append(command);
        }
    }

    /// Asks for the next group.
    pub(crate) fn propose_move(&mut self) {
        let next = config(self.group + SHARDS);
        if let Some(paxos) = &mut self.paxos {
            // Refused while there is no leader, or if it was asked for already.
            let _later = paxos.reconfigure(next, None);
        }
    }

    /// Applies everything decided since the last time, and answers.
    pub(crate) fn apply(&mut self, answers: &mut Vec<Frame>) -> Outcome<()> {
        let Some(paxos) = &mut self.paxos else { return Ok(()) };
        for entry in paxos.read_decided_suffix(self.machine.len()).unwrap_or_default() {
            match entry {
                LogEntry::Decided(command) => self.machine.apply(&command),
                LogEntry::Snapshotted(entry) => self.machine = entry.snapshot.into_machine(),
                LogEntry::StopSign(_, true) => {}
                LogEntry::Trimmed(_) | LogEntry::Undecided(_) | LogEntry::StopSign(_, false) => {
                    return Err("the decided log has a gap".into());
                }
            }
        }
        let (machine, shard) = (&self.machine, self.group % SHARDS);
        self.waiting.retain(|id| {
            let Some(index) = machine.index_of(*id) else { return true };
            answers.push(Frame { to: 0, group: shard, body: Body::Done { id: *id, index } });
            false
        });
        Ok(())
    }

    /// Takes a snapshot of its own now and then, which drops the entries before.
    pub(crate) fn compact(&mut self) {
        let Some(paxos) = &mut self.paxos else { return };
        let target = paxos.get_compacted_idx() + SNAPSHOT_EVERY;
        if self.machine.len() >= target + SNAPSHOT_EVERY / 4 && paxos.is_reconfigured().is_none() {
            // Refused only if the index is not decided yet: then later.
            let _later = paxos.snapshot(Some(target), true);
        }
    }

    /// The messages of this turn. Everything must be durable that they promise.
    pub(crate) fn messages(&mut self) -> impl Iterator<Item = Frame> {
        if let Some(paxos) = &mut self.paxos {
            paxos.take_outgoing_messages(&mut self.messages);
            let accepted = paxos.get_accepted_idx();
            self.messages.iter_mut().for_each(|message| mend::outgoing(message, accepted));
        }
        let group = self.group;
        self.messages.drain(..).map(move |message| Frame {
            to: message.get_receiver(),
            group,
            body: Body::Paxos(message),
        })
    }

    /// Goes on in the next group if the old one has come to its end. Returns whether it did.
    pub(crate) fn follow(&mut self) -> Outcome<bool> {
        let ended = self.paxos.as_mut().is_some_and(|paxos| paxos.is_reconfigured().is_some());
        if ended {
            // Everything before the stop sign is applied: it is the last entry that is decided.
            self.go_on(self.group + SHARDS, KvSnapshot::from(self.machine.clone()))?;
        }
        Ok(ended)
    }

    /// Goes on in a group that others have already, from where they are.
    pub(crate) fn transferred(&mut self, group: u64, snapshot: KvSnapshot) -> Outcome<()> {
        if group > self.group { self.go_on(group, snapshot) } else { Ok(()) }
    }

    fn go_on(&mut self, next: u64, snapshot: KvSnapshot) -> Outcome<()> {
        // The old group's handles go before the group does.
        self.paxos = None;
        let mut disk = Disk::from_store(self.groups.create_group(next)?)?;
        let index = snapshot.len();
        let mut operations = vec![StorageOp::SetDecidedIndex(index)];
        if index > 0 {
            operations.extend([
                StorageOp::Trim(index),
                StorageOp::SetCompactedIdx(index),
                StorageOp::SetSnapshot(Some(snapshot)),
            ]);
        }
        operations.push(StorageOp::AppendOnPrefix(index, Vec::new()));
        disk.write_atomically(operations)?;
        drop(disk);
        let mut serves = Batch::new();
        serves.set(SERVES, b"");
        let mut both = GroupBatch::new();
        both.change(next, &serves).remove(self.group);
        self.groups.commit(&both)?;
        // Makes the move durable before anybody hears of it. A crash before this leaves the old
        // group, whose end others tell again.
        self.groups.sync()?;
        let waiting = std::mem::take(&mut self.waiting);
        *self = Self::open(&self.groups.clone(), self.node, next)?;
        self.waiting = waiting;
        Ok(())
    }

    pub(crate) fn held(&self) -> Frame {
        let held = Held {
            digest: self.machine.digest(),
            map_digest: self.machine.map_digest(),
            history: self.machine.history().to_vec(),
        };
        Frame { to: 0, group: self.group, body: Body::Held(held) }
    }
}
