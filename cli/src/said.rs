//! What no command of `tests/cli` can be made to say: it is held against snapshots as well, so that every
//! message stands in one.

#[path = "../tests/cli/snapshot.rs"]
pub(crate) mod snapshot;

use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;

use indelible::Uuid;
use indelible::error::{Damage, Error, Shortage};
use indelible::format::{FrameError, StructureError};
use indelible::inspect::{InUse, Meaning, describe_cell};
use indelible::repair::{Loss, Obstacle, Refusal};

use self::snapshot::compare;
use crate::Failure;
use crate::exit::Exit;
use crate::groups::{Hurt, Told};

fn path() -> PathBuf {
    PathBuf::from("PLACE/log")
}

fn system(kind: ErrorKind) -> Arc<io::Error> {
    Arc::new(kind.into())
}

fn failed(kind: ErrorKind) -> Error {
    Error::Io { op: "write to", path: path(), source: system(kind) }
}

fn damaged(reason: Damage) -> Error {
    Error::Damaged { path: path(), offset: 4096, indexes: Some(5..7), reason }
}

fn all_damage() -> Vec<Damage> {
    let id = |byte| Uuid::from_bytes([byte; 16]);
    let (structure, expected, got) = ("segment footer", 1, 2);
    let mut all = vec![
        Damage::Magic { structure },
        Damage::Checksum { structure, expected, got },
        Damage::Cell(StructureError::Short { structure: "cell", expected: 3, got: 2 }),
        Damage::Field { field: "generation", expected: 3, got: 4 },
        Damage::Length { expected: 65_536, got: 5_000 },
        Damage::MissingFile,
        Damage::NotAFile { what: "a symbolic link" },
        Damage::Ambiguous { files: 2 },
        Damage::BothSlots,
        Damage::AcknowledgedFrame { sequence: 3, durable: 4 },
        Damage::MetadataOlder { checkpoint: 3, found: 9 },
        Damage::LastFrame { sequence: 8 },
        Damage::Misplaced { expected: 7 },
        Damage::UnknownEnd,
        Damage::Identity { expected: id(1), got: id(2) },
        Damage::MayBeReplaced,
        Damage::Unsteady,
        Damage::Compression,
    ];
    let frames = [
        FrameError::End,
        FrameError::Short { needed: 40 },
        FrameError::Kind(99),
        FrameError::Flags(0x80),
        FrameError::Length(7),
        FrameError::Header { expected, got },
        FrameError::Checksum { expected, got },
    ];
    all.extend(frames.map(Damage::Frame));
    all
}

fn all_errors() -> Vec<Error> {
    let shortages = [
        Shortage::Descriptors,
        Shortage::SystemDescriptors,
        Shortage::Memory,
        Shortage::Threads,
        Shortage::FileSize,
    ];
    let kinds = [
        ErrorKind::NotADirectory,
        ErrorKind::PermissionDenied,
        ErrorKind::ReadOnlyFilesystem,
        ErrorKind::TimedOut,
    ];
    let names = vec!["CURRENT".to_owned(), "LOCK".to_owned()];
    let mut all: Vec<Error> = all_damage().into_iter().map(damaged).collect();
    all.push(damaged(Damage::Cell(StructureError::Features(4))));
    all.extend(kinds.map(failed));
    all.extend(shortages.map(|what| {
        let source = system(ErrorKind::Other);
        Error::Exhausted { what, op: "open", path: path(), source }
    }));
    all.extend([
        Error::MalformedCell {
            path: path(),
            cell: "omnipaxos.promise",
            source: indelible::codec::CodecError::Short { field: "ballot", needed: 20, left: 3 },
        },
        Error::UnsupportedVersion { path: path(), found: 2, supported: 1 },
        Error::UnsupportedFeature { path: path(), offset: 4096, feature: "lz4" },
        Error::UnsupportedFeature { path: path(), offset: 0, feature: "a newer format feature" },
        Error::Missing { path: path() },
        Error::AlreadyExists { path: path() },
        Error::Locked { path: path(), owner: Some(7) },
        Error::Trimmed { wanted: 3, first: 5 },
        Error::BeyondEnd { wanted: 9, next: 7 },
        Error::NonContiguous { expected: 7, got: 9 },
        Error::TooLarge { what: "length of a rebuilt segment", got: 9, limit: 8 },
        Error::InvalidArgument { what: "log", reason: "it holds no groups" },
        Error::InvalidOption { option: "segment_bytes", reason: "it is too small" },
        Error::DiskFull { path: path(), needed: 4096 },
        Error::Forked,
        Error::ForeignFiles { path: path(), names, more: 3, looks_like: Some("RocksDB") },
        Error::HardLinked { path: path() },
        Error::Poisoned { cause: Arc::new(failed(ErrorKind::TimedOut)) },
        Error::Closed,
        Error::Internal { what: "a state that cannot be" },
        Error::Incomplete { path: path(), count: 3 },
        Error::Hole { wanted: 5, range: 5..8 },
    ]);
    all
}

#[test]
fn every_error_is_said_with_what_to_do_about_it() {
    let mut failures: Vec<Failure> = all_errors().into_iter().map(Failure::Log).collect();
    failures.push(Failure::Output(ErrorKind::StorageFull.into()));
    failures.push(Failure::Interrupted);
    let mut shown = String::new();
    for failure in &failures {
        let (message, advice) = crate::reason(failure).unwrap();
        writeln!(shown, "{message}").unwrap();
        if let Some(advice) = advice {
            writeln!(shown, "  {advice}").unwrap();
        }
        writeln!(shown, "  exit {}", failure.exit().code()).unwrap();
    }
    compare("errors", &shown);
    let unheard = Failure::Output(ErrorKind::BrokenPipe.into());
    assert!(crate::reason(&unheard).is_none());
    assert_eq!(unheard.exit(), Exit::Sound);
}

#[test]
fn what_is_seldom_seen_is_said_in_these_words() {
    let mut shown = Vec::new();
    let obstacles = [
        Obstacle::Checkpoint(damaged(Damage::BothSlots)),
        Obstacle::Tail(damaged(Damage::MissingFile)),
        Obstacle::Stale(damaged(Damage::MetadataOlder { checkpoint: 3, found: 9 })),
        Obstacle::OfAnother(damaged(Damage::MissingFile)),
        Obstacle::NotAFile(damaged(Damage::NotAFile { what: "a directory" })),
        Obstacle::Ambiguous { number: 3 },
    ];
    shown.extend(obstacles.map(|it| it.to_string()));
    let many: Vec<_> = (0..20).map(|nth| nth * 2..nth * 2 + 1).collect();
    let losses = [
        Loss::Entries(many.clone()),
        Loss::Replaceable(vec![3..5, 7..8]),
        Loss::Batches(7..9),
        Loss::Unknown(9),
        Loss::SideFile { file: "RANDOM.side".to_owned(), cell: "snapshot".to_owned() },
    ];
    shown.extend(losses.map(|it| it.to_string()));
    shown.push(crate::text::ranges(&many));
    let meanings = [
        Meaning::Redundant,
        Meaning::Dead,
        Meaning::Entries,
        Meaning::State,
        Meaning::Checkpoint,
        Meaning::Blocking,
        Meaning::SideFile,
        Meaning::Displaced,
        Meaning::Unsupported,
    ];
    shown.extend(meanings.map(|it| it.to_string()));
    let refusals = [
        Refusal::Differs { index: 7 },
        Refusal::NothingInCommon { hole: 5..7 },
        Refusal::NothingAfter { hole: 5..7 },
        Refusal::Undecided { to: 9, decided: 7 },
        Refusal::Unstated,
    ];
    for refusal in refusals {
        let failure = crate::refill::refused("PLACE/peer".as_ref(), &refusal);
        let (message, advice) = crate::reason(&failure).unwrap();
        shown.push(format!("{message}\n  {}\n  exit {}", advice.unwrap(), failure.exit().code()));
    }
    shown.push(crate::text::in_use(InUse::Unknown(Some(7))));
    shown.push(crate::text::in_use(InUse::Unknown(None)));
    shown.push(crate::inspect::outcome(&indelible::inspect::Outcome::NoLog));
    let cells: [(&str, &[u8]); 6] = [
        ("omnipaxos.stopsign", &[1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]),
        ("raft.hard-state", &[8, 3]),
        ("raft.conf-state", &[10, 1, 1, 18, 1, 2, 26, 1, 3, 34, 1, 4]),
        ("raft.boundary", &[7, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]),
        ("hard-state", &[3, 0, 0, 0, 0, 0, 0, 0]),
        ("unknown", &[0xff; 70]),
    ];
    shown.extend(cells.map(|(name, value)| format!("{name}  {}", describe_cell(name, value))));
    let told = [Told::<Hurt>(Some(Ok(Vec::new()))), Told(Some(Err(Error::Closed)))];
    for told in told {
        let mut out = Vec::new();
        crate::groups::say_hurt(&told, &mut out).unwrap();
        shown.push(String::from_utf8(out).unwrap().trim_end().to_owned());
    }
    compare("seldom", &(shown.join("\n") + "\n"));
}
