//! `dump --decode`: entries as their hosts wrote them: log id, kind, and what is inside.
//!
//! Owns: the envelopes of the hosts' adapters, as docs/ADAPTERS.md describes them. Does not own: the
//! payload inside, which is the application's; a program of the user may show it, as the stream
//! decoder of etcd's dump does.

use std::borrow::Cow;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use indelible::CellValue;
use indelible::inspect::describe_cell;
use indelible_groups::describe_record;
use prost::Message;

use crate::Failure;
use crate::exit::Exit;
use crate::text::{hex, preview};

/// Characters of a payload that are shown without a program.
const PREVIEW: usize = 60;
/// Bytes of one answer of the program.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

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

/// A program that reads a payload a line, in hexadecimal, and writes a line for each.
#[derive(Debug)]
struct Program {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
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
        Ok(Self { host, program: program.map(Program::start).transpose()? })
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

impl Program {
    fn start(command: &str) -> Result<Self, Failure> {
        let failed = |source: std::io::Error| {
            let said = format!("cannot run {command:?}: {source}");
            Failure::Refused(said, None, Exit::Unreadable)
        };
        let mut child = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let missing = || failed(std::io::ErrorKind::BrokenPipe.into());
        let to = child.stdin.take().ok_or_else(missing)?;
        let from = child.stdout.take().ok_or_else(missing)?;
        Ok(Self { child, to, from: BufReader::new(from) })
    }

    fn ask(&mut self, payload: &[u8]) -> Result<String, Failure> {
        let stopped = |why: &str| {
            let said = format!("the program that decodes payloads {why}");
            let advice = Some("it must write one line for each line that it reads, and flush it");
            Failure::Refused(said, advice, Exit::Unreadable)
        };
        let (child, to, from) = (&mut self.child, &mut self.to, &mut self.from);
        let mut line = String::new();
        // It may write before it has read all: then it waits for a reader, as a writer here for it.
        let (written, read) = std::thread::scope(|scope| {
            let write = || writeln!(to, "{}", hex(payload));
            let writer = std::thread::Builder::new().spawn_scoped(scope, write)?;
            let read = Read::take(from, ANSWER_BYTES_MAX).read_line(&mut line);
            if !line.ends_with('\n') {
                // Nobody reads on, so it would not either.
                let _ended_by_itself = child.kill();
            }
            Ok::<_, std::io::Error>((writer.join(), read))
        })
        .map_err(|source| {
            let (op, path, source) = ("run", "--payload".into(), Arc::new(source));
            indelible::Error::Io { op, path, source }
        })?;
        match (written, read) {
            (_, Err(error)) => Err(stopped(&format!("wrote no text: {error}"))),
            (_, Ok(read)) if read as u64 == ANSWER_BYTES_MAX && !line.ends_with('\n') => {
                Err(stopped("wrote a line of more than a mebibyte"))
            }
            (Ok(Ok(())), Ok(1..)) => Ok(line.trim_end().to_owned()),
            _ => Err(stopped("has ended")),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It reads to the end of its input; what it does then is its own matter.
        let _best_effort = self.child.kill();
        let _reaped = self.child.wait();
    }
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
