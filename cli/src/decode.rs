//! `dump --decode`: entries as their hosts wrote them: log id, kind, and what is inside.
//!
//! Owns: the envelopes of the hosts' adapters, as docs/ADAPTERS.md describes them. Does not own: the
//! payload inside, which is the application's; a program of the user may show it (`payload`), as the
//! stream decoder of etcd's dump does.

use std::borrow::Cow;

use indelible::CellValue;
use indelible::inspect::describe_cell;
use indelible_groups::describe_record;
use prost::Message;

use crate::Failure;
use crate::exit::Exit;
use crate::payload::{PATIENCE, Program};
use crate::text::preview;

/// Characters of a payload that are shown without a program.
const PREVIEW: usize = 60;

/// Whose entries they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Host {
    /// By the names of the cells.
    Auto,
    Omnipaxos,
    Openraft,
    AsyncRaft,
    DEngine,
    Raft,
    /// Records of groups: of which group, and what happened to it.
    Groups,
}

/// Shows entries.
#[derive(Debug)]
pub(crate) struct Decoder {
    host: Host,
    program: Option<Program>,
}

impl Decoder {
    pub(crate) fn new(
        host: Host,
        program: Option<&str>,
        cells: &[(String, CellValue)],
    ) -> Result<Self, Failure> {
        let names = || cells.iter().map(|(name, _)| name.as_str());
        let host = match host {
            Host::Auto if names().any(|it| it.starts_with("omnipaxos.")) => Host::Omnipaxos,
            Host::Auto if names().any(|it| it.starts_with("openraft.")) => Host::Openraft,
            Host::Auto if names().any(|it| it.starts_with("async-raft.")) => Host::AsyncRaft,
            Host::Auto if names().any(|it| it == "d-engine") => Host::DEngine,
            Host::Auto if names().any(|it| it.starts_with("raft.")) => Host::Raft,
            Host::Auto if names().any(|it| it == "groups.format") => Host::Groups,
            Host::Auto => {
                let said = "the cells do not tell whose entries these are".to_owned();
                let advice = Some("name the host, as in --decode=openraft");
                return Err(Failure::Refused(said, advice, Exit::Usage));
            }
            chosen => chosen,
        };
        let program = program.map(|it| Program::start(it, PATIENCE)).transpose()?;
        Ok(Self { host, program })
    }

    /// An entry in words.
    pub(crate) fn show(&mut self, index: u64, bytes: &[u8]) -> Result<String, Failure> {
        if self.host == Host::Groups
            && let Some(seen) = describe_record(bytes)
            && let Some(cell) = seen.cell
        {
            let value = describe_cell(cell, seen.payload);
            return Ok(format!("group {}  {} = {value}", seen.group, seen.said));
        }
        let envelope = match self.host {
            Host::Openraft => openraft(index, bytes),
            Host::AsyncRaft => async_raft(index, bytes),
            Host::DEngine => d_engine(index, bytes),
            Host::Raft => raft(index, bytes),
            Host::Groups => describe_record(bytes)
                .map(|it| (format!("group {}  {}", it.group, it.said), it.payload.into())),
            Host::Omnipaxos | Host::Auto => Some(("entry".to_owned(), bytes.into())),
        };
        let Some((said, payload)) = envelope else {
            return Ok(format!("not an entry of this host: {}", preview(bytes, PREVIEW)));
        };
        let inside = match &mut self.program {
            _ if payload.is_empty() => return Ok(said),
            Some(program) => program.ask(&payload)?,
            None => preview(&payload, PREVIEW),
        };
        Ok(format!("{said}  {inside}"))
    }
}

type Envelope<'a> = Option<(String, Cow<'a, [u8]>)>;

/// `Entry` of tikv raft, but for what the host itself no longer uses.
#[derive(Clone, PartialEq, Message)]
struct RaftEntry {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(uint64, tag = "2")]
    term: u64,
    #[prost(uint64, tag = "3")]
    index: u64,
    #[prost(bytes = "vec", tag = "4")]
    data: Vec<u8>,
    #[prost(bytes = "vec", tag = "6")]
    context: Vec<u8>,
}

/// Log id and kind, in postcard, before the rest.
fn openraft(index: u64, bytes: &[u8]) -> Envelope<'_> {
    let ((term, node, found, kind), rest) =
        postcard::take_from_bytes::<(u64, u64, u64, u32)>(bytes).ok()?;
    let kind = ["blank", "normal", "membership"].get(usize::try_from(kind).ok()?)?;
    (found == index).then(|| (format!("log id {term}-{node}-{found}  {kind}"), rest.into()))
}

fn async_raft(index: u64, bytes: &[u8]) -> Envelope<'_> {
    let ((term, found, kind), rest) = postcard::take_from_bytes::<(u64, u64, u32)>(bytes).ok()?;
    let kinds = ["blank", "normal", "config change", "snapshot pointer"];
    let kind = kinds.get(usize::try_from(kind).ok()?)?;
    (found == index).then(|| (format!("term {term}  {kind}"), rest.into()))
}

/// A shape, index and term.
fn d_engine(index: u64, bytes: &[u8]) -> Envelope<'_> {
    let (shape, rest) = bytes.split_first()?;
    let (found, rest) = rest.split_first_chunk::<8>()?;
    let (term, rest) = rest.split_first_chunk::<8>()?;
    let kind = match shape {
        0 => "empty",
        1 => "command",
        2 => "payload",
        _ => return None,
    };
    let (found, term) = (u64::from_le_bytes(*found), u64::from_le_bytes(*term));
    (found == index).then(|| (format!("term {term}  {kind}"), rest.into()))
}

/// A message in protobuf.
fn raft(index: u64, bytes: &[u8]) -> Envelope<'_> {
    let entry = RaftEntry::decode(bytes).ok()?;
    let kind = match entry.kind {
        0 if entry.data.is_empty() => "empty",
        0 => "normal",
        1 => "config change",
        2 => "config change v2",
        _ => return None,
    };
    let context = match entry.context.as_slice() {
        [] => String::new(),
        context => format!("  context {}", preview(context, PREVIEW)),
    };
    let said = format!("term {}  {kind}{context}", entry.term);
    (entry.index == index).then(|| (said, entry.data.into()))
}

#[cfg(test)]
mod tests {
    use super::{async_raft, d_engine, openraft, raft};

    #[test]
    fn envelopes_are_those_of_the_adapters() {
        let bytes = postcard::to_allocvec(&((3_u64, 2_u64), 9_u64, (1_u32, "set x"))).unwrap();
        let (said, rest) = openraft(9, &bytes).unwrap();
        assert_eq!((said.as_str(), &rest[1..]), ("log id 3-2-9  normal", &b"set x"[..]));
        assert!(openraft(8, &bytes).is_none(), "of another index");
        let bytes = postcard::to_allocvec(&(4_u64, 7_u64, 0_u32)).unwrap();
        assert_eq!(async_raft(7, &bytes).unwrap().0, "term 4  blank");
        let mut bytes = vec![1];
        bytes.extend(5_u64.to_le_bytes());
        bytes.extend(2_u64.to_le_bytes());
        bytes.extend(b"cmd");
        assert_eq!(d_engine(5, &bytes), Some(("term 2  command".to_owned(), b"cmd"[..].into())));
        assert!(d_engine(5, &bytes[..9]).is_none() && openraft(1, &[]).is_none());
        // Kind 1, term 3, index 300, data, context; sync_log, which nothing uses.
        let bytes =
            [&[8, 1, 16, 3, 24, 0xac, 2, 34, 2][..], b"ab", &[50, 1], b"c", &[40, 1]].concat();
        let said = "term 3  config change  context \"c\"".to_owned();
        assert_eq!(raft(300, &bytes), Some((said, b"ab"[..].into())));
        assert!(raft(299, &bytes).is_none() && raft(300, &bytes[..7]).is_some());
        assert!(raft(0, &[34, 200]).is_none() && raft(0, &[8, 3]).is_none());
    }
}
