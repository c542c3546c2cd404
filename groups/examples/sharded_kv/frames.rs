//! What goes through the pipes between the nodes and the process that started them.
//!
//! Owns: the frames and their bytes. Does not own: Paxos messages in them (`wire`).

use std::io::{self, Read, Write};

use crate::bytes::{BadBytes, In, Out, Read as Got};
use crate::kv::{Command, KvSnapshot};
use crate::wire::{Paxos, get_message, put_message};

/// Most bytes of a frame.
const FRAME_BYTES_MAX: u32 = 64 * 1024 * 1024;
/// Bytes of the kind, the receiver and the group that every frame begins with.
const ROUTE_BYTES: usize = 17;

/// One frame: where it goes, which group or shard it concerns, and what it says.
#[derive(Debug)]
pub(crate) struct Frame {
    /// A node, or zero for the process that started them.
    pub(crate) to: u64,
    /// A group; of `Submit`, `Done`, `Move` and `Moved` the shard.
    pub(crate) group: u64,
    pub(crate) body: Body,
}

#[derive(Debug)]
pub(crate) enum Body {
    /// From node to node.
    Paxos(Paxos),
    /// From node to node: where the group goes on, for one that was not there when the shard moved.
    Transfer(KvSnapshot),
    /// To a node: messages from and to this one may have been lost.
    Reconnected(u64),
    /// To a node: a command for a shard.
    Submit(Command),
    /// From a node: the command with this id has this index in its shard.
    Done { id: u64, index: u64 },
    /// To a node: the shard is to have a new group.
    Move,
    /// From a node: it has one here.
    Moved,
    /// To a node: say what you hold.
    Dump,
    /// From a node: what it holds of a group.
    Held(Held),
    /// From a node: it is up, or all of the dump was sent.
    Counts(Counts),
}

/// What a node holds of one group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) digest: u64,
    pub(crate) map_digest: u64,
    /// The id of the command at each index.
    pub(crate) history: Vec<u64>,
}

/// What the log of a node counted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) turns: u64,
    pub(crate) syncs: u64,
    pub(crate) carried: u64,
    pub(crate) trimmed: u64,
}

impl Frame {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Out::new();
        let start = |out: &mut Out, kind| {
            out.u8(kind).u64(self.to).u64(self.group);
        };
        match &self.body {
            Body::Paxos(message) => {
                start(&mut out, 1);
                put_message(&mut out, message);
            }
            Body::Transfer(snapshot) => {
                start(&mut out, 2);
                snapshot.encode(&mut out);
            }
            Body::Reconnected(peer) => {
                start(&mut out, 3);
                out.u64(*peer);
            }
            Body::Submit(command) => {
                start(&mut out, 4);
                command.encode(&mut out);
            }
            Body::Done { id, index } => {
                start(&mut out, 5);
                out.u64(*id).u64(*index);
            }
            Body::Move => start(&mut out, 6),
            Body::Moved => start(&mut out, 7),
            Body::Dump => start(&mut out, 8),
            Body::Held(held) => {
                start(&mut out, 9);
                out.u64(held.digest).u64(held.map_digest);
                out.list(held.history.iter(), |out, id| {
                    out.u64(*id);
                });
            }
            Body::Counts(counts) => {
                start(&mut out, 10);
                out.u64(counts.turns).u64(counts.syncs).u64(counts.carried).u64(counts.trimmed);
            }
        }
        out.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Got<Self> {
        let mut bytes = In::new(bytes);
        let kind = bytes.u8()?;
        let (to, group) = (bytes.u64()?, bytes.u64()?);
        let body = match kind {
            1 => Body::Paxos(get_message(&mut bytes)?),
            2 => Body::Transfer(KvSnapshot::decode(&mut bytes)?),
            3 => Body::Reconnected(bytes.u64()?),
            4 => Body::Submit(Command::decode(&mut bytes)?),
            5 => Body::Done { id: bytes.u64()?, index: bytes.u64()? },
            6 => Body::Move,
            7 => Body::Moved,
            8 => Body::Dump,
            9 => Body::Held(Held {
                digest: bytes.u64()?,
                map_digest: bytes.u64()?,
                history: bytes.list(In::u64)?,
            }),
            10 => Body::Counts(Counts {
                turns: bytes.u64()?,
                syncs: bytes.u64()?,
                carried: bytes.u64()?,
                trimmed: bytes.u64()?,
            }),
            _ => return Err(BadBytes("frame")),
        };
        bytes.end()?;
        Ok(Self { to, group, body })
    }
}

/// Where a frame goes and which group it concerns, without reading the rest.
pub(crate) fn route(bytes: &[u8]) -> Option<(u64, u64)> {
    let mut head = In::new(bytes.get(..ROUTE_BYTES)?);
    let _kind = head.u8().ok()?;
    Some((head.u64().ok()?, head.u64().ok()?))
}

/// Writes a frame with its length before it.
pub(crate) fn write(to: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    let length = u32::try_from(frame.len()).ok().filter(|length| *length <= FRAME_BYTES_MAX);
    let length = length.ok_or_else(|| io::Error::other("a frame is too large"))?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(frame)
}

/// Reads a frame; fails at the end, also if the other side was killed within one.
pub(crate) fn read(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::other("a frame is too large"));
    }
    let mut frame = vec![0; usize::try_from(length).unwrap_or(0)];
    from.read_exact(&mut frame)?;
    Ok(frame)
}
