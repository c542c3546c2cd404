//! What travels on the connections: frames between nodes, requests and replies of clients.
//!
//! Owns: the kinds of frames and their bytes, the length in front of each, the greeting that tells
//! a peer from a client. Does not own: sockets (`net`), OmniPaxos messages (`wire`).

use std::io::{self, Read as _, Write};

use omnipaxos::ballot_leader_election::Ballot;
use omnipaxos::messages::Message;
use omnipaxos::messages::sequence_paxos::{PaxosMessage, PaxosMsg};
use omnipaxos::util::NodeId;

use crate::bytes::{BadBytes, In, Out, Read};
use crate::kv::{Command, KvSnapshot};
use crate::members::Members;
use crate::wire::{Paxos, get_ballot, get_message, put_ballot, put_message};

/// Longest frame that is read; a longer one is no frame of ours.
const FRAME_BYTES_MAX: usize = 1 << 30;
/// First frame of a client's connection.
pub(crate) const CLIENT_GREETING: &[u8] = b"kv_cluster client 1";

/// A frame from one node to another.
#[derive(Debug)]
pub(crate) enum PeerFrame {
    /// Opens a connection.
    Hello { from: NodeId, config: u32, address: String },
    /// An OmniPaxos message of one configuration.
    Paxos { config: u32, message: Paxos },
    /// The sender is behind: it knows this configuration and asks for the present one.
    Want,
    /// The present configuration, and what is decided in it; no snapshot for a node outside it.
    Transfer { members: Members, snapshot: Option<KvSnapshot> },
    /// The sender leads and is not fit to: the receiver is to lead instead.
    Lead,
}

impl PeerFrame {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Out::new();
        match self {
            Self::Hello { from, config, address } => {
                out.u8(1).u64(*from).u32(*config).text(address);
            }
            Self::Paxos { config, message } => put_message(out.u8(2).u32(*config), message),
            Self::Want => {
                out.u8(3);
            }
            Self::Transfer { members, snapshot } => {
                members.encode(out.u8(4));
                out.option(snapshot.as_ref(), |out, snapshot| snapshot.encode(out));
            }
            Self::Lead => {
                out.u8(5);
            }
        }
        out.finish()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Read<Self> {
        let mut bytes = In::new(bytes);
        let frame = match bytes.u8()? {
            1 => Self::Hello { from: bytes.u64()?, config: bytes.u32()?, address: bytes.text()? },
            2 => Self::Paxos { config: bytes.u32()?, message: get_message(&mut bytes)? },
            3 => Self::Want,
            4 => Self::Transfer {
                members: Members::decode(&mut bytes)?,
                snapshot: bytes.option(KvSnapshot::decode)?,
            },
            5 => Self::Lead,
            _ => return Err(BadBytes("frame")),
        };
        bytes.end()?;
        Ok(frame)
    }
}

/// What a client asks of a node.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    /// Replicate the command; answered with `Done` once it is decided and applied.
    Submit(Command),
    Status,
    /// Everything the node has applied, for the final check.
    Dump,
    /// Replace a node of the cluster by another.
    Replace {
        old: NodeId,
        new: NodeId,
        address: String,
    },
    /// Behave as if the network to these nodes were cut, and to no others.
    Isolate(Vec<NodeId>),
    /// Try to become the leader.
    Lead,
    /// Take a snapshot of what is decided and drop those entries, on this node alone.
    Trim,
}

impl Request {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Out::new();
        match self {
            Self::Submit(command) => command.encode(out.u8(1)),
            Self::Status => {
                out.u8(2);
            }
            Self::Dump => {
                out.u8(3);
            }
            Self::Replace { old, new, address } => {
                out.u8(4).u64(*old).u64(*new).text(address);
            }
            Self::Isolate(peers) => out.u8(5).list(peers.iter(), |out, peer| {
                out.u64(*peer);
            }),
            Self::Lead => {
                out.u8(6);
            }
            Self::Trim => {
                out.u8(7);
            }
        }
        out.finish()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Read<Self> {
        let mut bytes = In::new(bytes);
        let request = match bytes.u8()? {
            1 => Self::Submit(Command::decode(&mut bytes)?),
            2 => Self::Status,
            3 => Self::Dump,
            4 => Self::Replace { old: bytes.u64()?, new: bytes.u64()?, address: bytes.text()? },
            5 => Self::Isolate(bytes.list(In::u64)?),
            6 => Self::Lead,
            7 => Self::Trim,
            _ => return Err(BadBytes("request")),
        };
        bytes.end()?;
        Ok(request)
    }
}

/// What a node answers.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// The command with this identifier is decided; `value` is what its key held then.
    Done {
        id: u64,
        index: u64,
        value: Option<String>,
    },
    /// The command was not taken; it may be sent again.
    Refused {
        id: u64,
        reason: String,
    },
    Status(Box<Status>),
    Dump(Dump),
    /// The answer to a request of an operator.
    Said(String),
}

impl Reply {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Out::new();
        match self {
            Self::Done { id, index, value } => {
                out.u8(1).u64(*id).u64(*index).option(value.as_ref(), |out, value| {
                    out.text(value);
                });
            }
            Self::Refused { id, reason } => {
                out.u8(2).u64(*id).text(reason);
            }
            Self::Status(status) => status.encode(out.u8(3)),
            Self::Dump(dump) => {
                out.u8(4).u64(dump.digest).u64(dump.map_digest).count(dump.keys);
                out.list(dump.history.iter(), |out, id| {
                    out.u64(*id);
                });
            }
            Self::Said(text) => {
                out.u8(5).text(text);
            }
        }
        out.finish()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Read<Self> {
        let mut bytes = In::new(bytes);
        let reply = match bytes.u8()? {
            1 => {
                Self::Done { id: bytes.u64()?, index: bytes.u64()?, value: bytes.option(In::text)? }
            }
            2 => Self::Refused { id: bytes.u64()?, reason: bytes.text()? },
            3 => Self::Status(Box::new(Status::decode(&mut bytes)?)),
            4 => Self::Dump(Dump {
                digest: bytes.u64()?,
                map_digest: bytes.u64()?,
                keys: bytes.count()?,
                history: bytes.list(In::u64)?,
            }),
            5 => Self::Said(bytes.text()?),
            _ => return Err(BadBytes("reply")),
        };
        bytes.end()?;
        Ok(reply)
    }
}

/// Everything a node has applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dump {
    pub(crate) digest: u64,
    pub(crate) map_digest: u64,
    pub(crate) keys: usize,
    pub(crate) history: Vec<u64>,
}

/// What a node may not forget, as far as it has told anyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Oath {
    /// Highest round promised.
    pub(crate) promise: Ballot,
    /// Highest round in which entries were accepted, and the end of the log in that round.
    pub(crate) accepted: Ballot,
    pub(crate) accepted_end: usize,
}

impl Oath {
    /// Keeps the higher of each.
    pub(crate) fn raise(&mut self, other: &Self) {
        if other.promise > self.promise {
            self.promise = other.promise;
        }
        let end = |oath: &Self| (oath.accepted.config_id, oath.accepted, oath.accepted_end);
        if end(other) > end(self) {
            (self.accepted, self.accepted_end) = (other.accepted, other.accepted_end);
        }
    }

    /// Notes what the sender of a message has thereby promised.
    pub(crate) fn witness(&mut self, message: &Paxos) {
        let Message::SequencePaxos(PaxosMessage { msg, .. }) = message else {
            return;
        };
        let promise = match msg {
            PaxosMsg::PrepareReq(m) => m.n,
            PaxosMsg::Prepare(m) => m.n,
            PaxosMsg::Promise(m) => m.n,
            PaxosMsg::AcceptSync(m) => m.n,
            PaxosMsg::AcceptDecide(m) => m.n,
            PaxosMsg::Decide(m) => m.n,
            PaxosMsg::NotAccepted(m) => m.n,
            PaxosMsg::Accepted(m) => m.n,
            _ => return,
        };
        let (accepted, accepted_end) = match msg {
            PaxosMsg::Accepted(m) => (m.n, m.accepted_idx),
            _ => Default::default(),
        };
        self.raise(&Self { promise, accepted, accepted_end });
    }

    /// What `now` lacks of this; `None` if nothing was forgotten.
    pub(crate) fn forgotten_by(&self, now: &Self) -> Option<String> {
        if now.promise < self.promise {
            return Some(format!("promised {:?}, now {:?}", self.promise, now.promise));
        }
        // A later configuration starts its own count: the stop sign, once acted upon, leaves the
        // log.
        let same = now.accepted.config_id == self.accepted.config_id;
        let shorter = now.accepted == self.accepted && now.accepted_end < self.accepted_end;
        if same && (now.accepted < self.accepted || shorter) {
            return Some(format!(
                "accepted up to {} in {:?}, now up to {} in {:?}",
                self.accepted_end, self.accepted, now.accepted_end, now.accepted
            ));
        }
        None
    }

    fn encode(&self, out: &mut Out) {
        put_ballot(out, &self.promise);
        put_ballot(out, &self.accepted);
        out.count(self.accepted_end);
    }

    fn decode(bytes: &mut In<'_>) -> Read<Self> {
        Ok(Self {
            promise: get_ballot(bytes)?,
            accepted: get_ballot(bytes)?,
            accepted_end: bytes.count()?,
        })
    }
}

/// What a node found in its log when it started.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recovered {
    /// Time to open the log, in microseconds.
    pub(crate) open_us: u64,
    /// What the log said about its own recovery.
    pub(crate) verdict: String,
    pub(crate) oath: Oath,
}

/// A node's view of itself and of its peers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Status {
    pub(crate) id: NodeId,
    /// `leader`, `follower`, `joining`, `removed`.
    pub(crate) role: String,
    pub(crate) leader: NodeId,
    pub(crate) members: Members,
    pub(crate) oath: Oath,
    pub(crate) decided: usize,
    pub(crate) applied: usize,
    pub(crate) compacted: usize,
    /// Since the process started.
    pub(crate) syncs: u64,
    pub(crate) snapshots: u64,
    pub(crate) segments: u64,
    pub(crate) uptime_ms: u64,
    /// Entries are refused for want of room.
    pub(crate) full: bool,
    /// Times this node has asked another one to lead instead.
    pub(crate) handed_over: u64,
    pub(crate) recovered: Recovered,
    /// The highest each peer has let this node see.
    pub(crate) seen: Vec<(NodeId, Oath)>,
}

impl Status {
    fn encode(&self, out: &mut Out) {
        out.u64(self.id).text(&self.role).u64(self.leader);
        self.members.encode(out);
        self.oath.encode(out);
        out.count(self.decided).count(self.applied).count(self.compacted);
        out.u64(self.syncs).u64(self.snapshots).u64(self.segments).u64(self.uptime_ms);
        out.flag(self.full).u64(self.handed_over);
        out.u64(self.recovered.open_us).text(&self.recovered.verdict);
        self.recovered.oath.encode(out);
        out.list(self.seen.iter(), |out, (peer, oath)| oath.encode(out.u64(*peer)));
    }

    fn decode(bytes: &mut In<'_>) -> Read<Self> {
        Ok(Self {
            id: bytes.u64()?,
            role: bytes.text()?,
            leader: bytes.u64()?,
            members: Members::decode(bytes)?,
            oath: Oath::decode(bytes)?,
            decided: bytes.count()?,
            applied: bytes.count()?,
            compacted: bytes.count()?,
            syncs: bytes.u64()?,
            snapshots: bytes.u64()?,
            segments: bytes.u64()?,
            uptime_ms: bytes.u64()?,
            full: bytes.flag()?,
            handed_over: bytes.u64()?,
            recovered: Recovered {
                open_us: bytes.u64()?,
                verdict: bytes.text()?,
                oath: Oath::decode(bytes)?,
            },
            seen: bytes.list(|bytes| Ok((bytes.u64()?, Oath::decode(bytes)?)))?,
        })
    }
}

/// Appends a frame to a buffer.
pub(crate) fn push_frame(buffer: &mut Vec<u8>, body: &[u8]) {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    buffer.extend_from_slice(&length.to_le_bytes());
    buffer.extend_from_slice(body);
}

pub(crate) fn write_frame(to: &mut impl Write, body: &[u8]) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(body.len() + 4);
    push_frame(&mut buffer, body);
    to.write_all(&buffer)
}

pub(crate) fn read_frame(from: &mut impl io::Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no frame of this protocol"));
    }
    // Memory grows with the bytes that arrive, not with the length that was claimed.
    let mut body = Vec::with_capacity(length.min(64 * 1024));
    let got = from.take(length as u64).read_to_end(&mut body)?;
    if got < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(body) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ballot(config_id: u32, n: u32) -> Ballot {
        Ballot { config_id, n, priority: 0, pid: 1 }
    }

    fn oath(promise: u32, accepted: Ballot, accepted_end: usize) -> Oath {
        Oath { promise: ballot(1, promise), accepted, accepted_end }
    }

    #[test]
    fn oath_is_forgotten_if_any_part_is_lower() {
        let told = oath(7, ballot(1, 6), 100);
        for kept in [told, oath(8, ballot(1, 6), 101), oath(7, ballot(1, 7), 3)] {
            assert_eq!(told.forgotten_by(&kept), None, "{kept:?}");
        }
        let lower =
            [oath(6, ballot(1, 6), 100), oath(7, ballot(1, 5), 200), oath(7, ballot(1, 6), 99)];
        for less in lower {
            assert!(told.forgotten_by(&less).is_some(), "{less:?}");
        }
    }

    #[test]
    fn later_configuration_counts_anew() {
        let told = oath(7, ballot(1, 6), 100);
        assert_eq!(told.forgotten_by(&oath(7, ballot(2, 9), 4)), None);
    }

    #[test]
    fn oath_is_raised_part_by_part() {
        let mut told = oath(7, ballot(1, 6), 100);
        told.raise(&oath(9, ballot(1, 5), 200));
        assert_eq!(told, oath(9, ballot(1, 6), 100));
        told.raise(&oath(3, ballot(1, 6), 101));
        assert_eq!(told, oath(9, ballot(1, 6), 101));
    }

    #[test]
    fn frames_survive_the_wire_and_are_refused_when_cut() {
        let members = Members::parse("a:1,b:2").unwrap();
        let status =
            Status { members, seen: vec![(2, oath(1, ballot(1, 1), 1))], ..Status::default() };
        let bytes = Reply::Status(Box::new(status)).to_bytes();
        assert_eq!(Reply::from_bytes(&bytes).unwrap().to_bytes(), bytes);
        for end in 0..bytes.len() {
            assert!(Reply::from_bytes(&bytes[..end]).is_err());
        }
        let mut framed = Vec::new();
        push_frame(&mut framed, &bytes);
        assert_eq!(read_frame(&mut framed.as_slice()).unwrap(), bytes);
        assert!(read_frame(&mut &framed[..framed.len() - 1]).is_err());
        assert!(read_frame(&mut [255; 16].as_slice()).is_err(), "a length beyond any frame");
    }
}
