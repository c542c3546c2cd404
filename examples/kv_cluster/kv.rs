//! The replicated state machine: commands, the key-value map they build, and its snapshots.
//!
//! Owns: what a command does, that a command sent twice acts once, the bytes of commands and
//! snapshots. Does not own: how commands reach every node in the same order.
//!
//! A service would keep the map and forget the commands. This machine also keeps the identifiers of
//! all commands in the order in which they were applied, and a digest over their bytes, snapshots
//! included: that is how the end of a run can tell whether every node applied the same commands in
//! the same order.

use std::collections::{BTreeMap, HashMap};

use omnipaxos::storage::{Entry, Snapshot};

use crate::bytes::{BadBytes, In, Out, Read};

/// One entry of the replicated log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "omnipaxos-serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) enum Command {
    /// Sets a key. `id` is chosen by the client: it sends the same one again when it got no answer.
    Put { id: u64, key: String, value: String },
    /// Changes nothing. What the map holds when it is applied is a linearizable read of the key.
    Look { id: u64, key: String },
}

impl Command {
    pub(crate) fn id(&self) -> u64 {
        match self {
            Self::Put { id, .. } | Self::Look { id, .. } => *id,
        }
    }

    pub(crate) fn encode(&self, out: &mut Out) {
        match self {
            Self::Put { id, key, value } => out.u8(1).u64(*id).text(key).text(value),
            Self::Look { id, key } => out.u8(2).u64(*id).text(key),
        };
    }

    pub(crate) fn decode(bytes: &mut In<'_>) -> Read<Self> {
        match bytes.u8()? {
            1 => Ok(Self::Put { id: bytes.u64()?, key: bytes.text()?, value: bytes.text()? }),
            2 => Ok(Self::Look { id: bytes.u64()?, key: bytes.text()? }),
            _ => Err(BadBytes("command")),
        }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Out::new();
        self.encode(&mut out);
        out.finish()
    }
}

impl Entry for Command {
    type Snapshot = KvSnapshot;

    #[cfg(feature = "omnipaxos-unicache")]
    type Encoded = ();
    #[cfg(feature = "omnipaxos-unicache")]
    type Encodable = ();
    #[cfg(feature = "omnipaxos-unicache")]
    type NotEncodable = ();
    #[cfg(feature = "omnipaxos-unicache")]
    type EncodeResult = Self;
    #[cfg(feature = "omnipaxos-unicache")]
    type UniCache = NoCache;
}

/// Commands travel as they are: what OmniPaxos asks for when its `unicache` is built in.
#[cfg(feature = "omnipaxos-unicache")]
#[derive(Debug, Clone)]
#[cfg_attr(feature = "omnipaxos-serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct NoCache;

#[cfg(feature = "omnipaxos-unicache")]
impl omnipaxos::unicache::UniCache for NoCache {
    type T = Command;

    fn new() -> Self {
        Self
    }

    fn try_encode(&mut self, command: &Command) -> Command {
        command.clone()
    }

    fn decode(&mut self, command: Command) -> Command {
        command
    }
}

/// A key's value and the log index that set it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "omnipaxos-serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Versioned {
    pub(crate) value: String,
    pub(crate) index: u64,
}

/// The map, and what it was built from.
#[derive(Debug, Clone, Default)]
#[cfg_attr(feature = "omnipaxos-serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Machine {
    map: BTreeMap<String, Versioned>,
    /// Identifier of the command at each log index, repetitions included.
    history: Vec<u64>,
    /// Log index at which each identifier was applied: a command decided again changes nothing.
    applied: HashMap<u64, u64>,
    digest: u64,
}

impl Machine {
    /// Number of log entries applied: the index of the next one.
    pub(crate) fn len(&self) -> usize {
        self.history.len()
    }

    pub(crate) fn history(&self) -> &[u64] {
        &self.history
    }

    /// Depends on the bytes of every entry applied, and on their order.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    pub(crate) fn keys(&self) -> usize {
        self.map.len()
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Versioned> {
        self.map.get(key)
    }

    /// Log index at which the command was applied first.
    pub(crate) fn index_of(&self, id: u64) -> Option<u64> {
        self.applied.get(&id).copied()
    }

    pub(crate) fn apply(&mut self, command: &Command) {
        let index = self.history.len() as u64;
        self.history.push(command.id());
        self.digest = fold(self.digest, &command.to_bytes());
        if self.applied.contains_key(&command.id()) {
            return;
        }
        self.applied.insert(command.id(), index);
        if let Command::Put { key, value, .. } = command {
            self.map.insert(key.clone(), Versioned { value: value.clone(), index });
        }
    }

    /// Depends on every key, value and version.
    pub(crate) fn map_digest(&self) -> u64 {
        self.map.iter().fold(0, |digest, (key, entry)| {
            let mut out = Out::new();
            out.text(key).text(&entry.value).u64(entry.index);
            fold(digest, &out.finish())
        })
    }

    fn encode(&self, out: &mut Out) {
        out.u64(self.digest);
        out.list(self.history.iter(), |out, id| {
            out.u64(*id);
        });
        out.count(self.map.len());
        for (key, entry) in &self.map {
            out.text(key).text(&entry.value).u64(entry.index);
        }
    }

    fn decode(bytes: &mut In<'_>) -> Read<Self> {
        let digest = bytes.u64()?;
        let history = bytes.list(In::u64)?;
        let map = bytes.list(|bytes| {
            Ok((bytes.text()?, Versioned { value: bytes.text()?, index: bytes.u64()? }))
        })?;
        let mut applied = HashMap::with_capacity(history.len());
        for (index, id) in history.iter().enumerate() {
            applied.entry(*id).or_insert(index as u64);
        }
        Ok(Self { map: map.into_iter().collect(), history, applied, digest })
    }
}

fn fold(digest: u64, bytes: &[u8]) -> u64 {
    let crc = u64::from(crc32fast::hash(bytes));
    (digest.rotate_left(7) ^ crc).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A machine, and commands to be applied to it.
///
/// OmniPaxos makes a snapshot of a range of the log with [`Snapshot::create`], which cannot know
/// what went before. So a fresh snapshot holds the commands themselves, and they act when it is
/// merged into the one before, or when it turns out to start at index 0.
#[derive(Debug, Clone, Default)]
#[cfg_attr(feature = "omnipaxos-serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct KvSnapshot {
    machine: Machine,
    pending: Vec<Command>,
}

impl KvSnapshot {
    /// Number of log entries the snapshot covers.
    pub(crate) fn len(&self) -> usize {
        self.machine.len() + self.pending.len()
    }

    pub(crate) fn into_machine(self) -> Machine {
        let Self { mut machine, pending } = self;
        for command in &pending {
            machine.apply(command);
        }
        machine
    }

    pub(crate) fn encode(&self, out: &mut Out) {
        self.machine.encode(out);
        out.list(self.pending.iter(), |out, command| command.encode(out));
    }

    pub(crate) fn decode(bytes: &mut In<'_>) -> Read<Self> {
        let machine = Machine::decode(bytes)?;
        let pending = bytes.list(Command::decode)?;
        Ok(Self { machine, pending })
    }
}

impl From<Machine> for KvSnapshot {
    fn from(machine: Machine) -> Self {
        Self { machine, pending: Vec::new() }
    }
}

impl Snapshot<Command> for KvSnapshot {
    fn create(entries: &[Command]) -> Self {
        Self { machine: Machine::default(), pending: entries.to_vec() }
    }

    fn merge(&mut self, delta: Self) {
        let mut machine = std::mem::take(self).into_machine();
        for command in &delta.pending {
            machine.apply(command);
        }
        self.machine = machine;
    }

    fn use_snapshots() -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(id: u64, key: &str, value: &str) -> Command {
        Command::Put { id, key: key.into(), value: value.into() }
    }

    #[test]
    fn command_sent_twice_acts_once() {
        let mut machine = Machine::default();
        for command in [put(1, "a", "old"), put(2, "a", "new"), put(1, "a", "old")] {
            machine.apply(&command);
        }
        assert_eq!(machine.get("a").unwrap().value, "new");
        assert_eq!((machine.len(), machine.index_of(1)), (3, Some(0)));
    }

    #[test]
    fn snapshot_merged_in_parts_equals_machine() {
        let commands = [put(1, "a", "x"), put(2, "b", "y"), put(1, "a", "x"), put(3, "a", "z")];
        let mut whole = Machine::default();
        for command in &commands {
            whole.apply(command);
        }
        let mut snapshot = KvSnapshot::create(&commands[..2]);
        snapshot.merge(KvSnapshot::create(&commands[2..]));
        let mut out = Out::new();
        snapshot.encode(&mut out);
        let bytes = out.finish();
        let back = KvSnapshot::decode(&mut In::new(&bytes)).unwrap();
        assert_eq!(back.len(), 4);
        let machine = back.into_machine();
        assert_eq!(machine.digest(), whole.digest());
        assert_eq!(machine.map_digest(), whole.map_digest());
        assert_eq!(machine.history(), whole.history());
    }
}
