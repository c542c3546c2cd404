//! Every way a call can fail, and what the caller should do about it.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

pub use crate::format::{FrameError, SegmentName, StructureError};

use crate::codec::CodecError;
use crate::planted::{Bug, planted};

/// The result of every call of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong. Each variant says what the caller should do.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation. After a failed write or sync the handle is
    /// poisoned: stop using it, look at the device, and reopen.
    #[error("cannot {op} {path}: {source}", path = path.display())]
    Io {
        /// What was attempted, as a verb: `"open"`, `"sync"`.
        op: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// Bytes that may have been acknowledged cannot be read back. Nothing was changed. Verify, then
    /// repair or refill from a peer (docs/OPERATIONS.md).
    #[error("{path} is {}{}", damage(*offset, reason), entries(indexes.as_ref()), path = path.display())]
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// First byte of the damage.
        offset: u64,
        /// The entries that are affected, as far as it is known.
        indexes: Option<Range<u64>>,
        /// What is wrong with the bytes.
        reason: Damage,
    },
    /// A state cell holds no value of the host that keeps it there. Its checksum held, so these bytes
    /// were written: by another version of the host's storage, or another host. Nothing was changed.
    /// Use what wrote them, or bring the node back from a peer.
    #[error("state cell `{cell}` of the log in {path} is malformed: {source}", path = path.display())]
    MalformedCell {
        /// The directory.
        path: PathBuf,
        /// The cell.
        cell: &'static str,
        /// What is wrong with its bytes.
        source: CodecError,
    },
    /// The file was written by a newer version. Nothing is wrong with it: use that version.
    #[error("{path} has format version {found}; this build reads version {supported}", path = path.display())]
    UnsupportedVersion {
        /// The file.
        path: PathBuf,
        /// The version it states.
        found: u32,
        /// The newest version this build reads.
        supported: u32,
    },
    /// The bytes are sound but need something this build lacks: build with that feature.
    #[error("{path} at byte {offset} needs `{feature}`, which this build lacks", path = path.display())]
    UnsupportedFeature {
        /// The file.
        path: PathBuf,
        /// Where the need arose.
        offset: u64,
        /// The missing feature.
        feature: &'static str,
    },
    /// There is no log here. Create one, if this node has never promised anything.
    #[error("there is no log in {path}", path = path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// There is a log here already. Open it.
    #[error("there is a log in {path} already", path = path.display())]
    AlreadyExists {
        /// The directory.
        path: PathBuf,
    },
    /// Another handle, in this or another process, has the log open. Stop it first.
    #[error("{path} is in use{}", owner.map(|pid| format!(" by process {pid}")).unwrap_or_default(), path = path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process that holds it, if it could be told.
        owner: Option<u32>,
    },
    /// The entry was dropped by a trim. Use the snapshot that replaced it.
    #[error("entry {wanted} was trimmed; the first one is {first}")]
    Trimmed {
        /// The index that was asked for.
        wanted: u64,
        /// The first index there is.
        first: u64,
    },
    /// The index is past the end of the log.
    #[error("index {wanted} is beyond the end of the log, {next}")]
    BeyondEnd {
        /// The index that was asked for.
        wanted: u64,
        /// The index the next entry will get.
        next: u64,
    },
    /// Entries must follow each other without a gap.
    #[error("expected index {expected}, got {got}")]
    NonContiguous {
        /// The index that would have been right.
        expected: u64,
        /// The index that was given.
        got: u64,
    },
    /// A limit was exceeded. Nothing was changed.
    #[error("{what} is {got}, the limit is {limit}")]
    TooLarge {
        /// What is limited.
        what: &'static str,
        /// What was given.
        got: u64,
        /// The largest that is allowed.
        limit: u64,
    },
    /// A value that is no valid name, range or number. Nothing was changed.
    #[error("{what}: {reason}")]
    InvalidArgument {
        /// The argument.
        what: &'static str,
        /// Why it was refused.
        reason: &'static str,
    },
    /// A combination of options that cannot work. Nothing was touched.
    #[error("option {option}: {reason}")]
    InvalidOption {
        /// The option.
        option: &'static str,
        /// Why it was refused.
        reason: &'static str,
    },
    /// There is no space: for another segment, for a side file, or for a name. Nothing was changed:
    /// trim or free space, then try again. Batches without entries still commit, except for a reset
    /// and for a truncation below the last segment, which begin a new one.
    #[error("no space in {path}{}", space(*needed), path = path.display())]
    DiskFull {
        /// The directory.
        path: PathBuf,
        /// The bytes of what was to be written: a segment, or a side file as far as it went; zero if
        /// it was a name.
        needed: u64,
    },
    /// The process or the system has run out of something other than disk space. Nothing was
    /// changed: try again, and raise the limit if it goes on ([`Shortage`] names each).
    #[error("cannot {op} {path}: out of {what}", path = path.display())]
    Exhausted {
        /// What there is too little of.
        what: Shortage,
        /// What was attempted, as a verb: `"open"`, `"map"`.
        op: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// This process was forked from the one that opened the log, and may not use it: its parent goes
    /// on writing. Nothing was changed. Drop the handle, which does nothing, and have the parent write;
    /// or open a log of its own in the child.
    #[error("the log was opened by the process that this one was forked from")]
    Forked,
    /// The directory holds files that are no log's, so no log was created in it. Nothing was changed:
    /// name another directory, migrate what is there (`omnipaxos::migrate`), or allow for it with
    /// [`Options::beside_foreign_files`](crate::Options::beside_foreign_files).
    #[error("{path} holds what is no log's: {}{}", names.join(", "), looks(*more, *looks_like), path = path.display())]
    ForeignFiles {
        /// The directory.
        path: PathBuf,
        /// The names that were found, sorted; at most eight.
        names: Vec<String>,
        /// How many more there are.
        more: usize,
        /// The storage whose files these seem to be: `"RocksDB"`, `"sled"`.
        looks_like: Option<&'static str>,
    },
    /// The file has a second name (a hard link, as `cp -al` and some backups make it), so that a write
    /// would change both. Nothing was changed: copy the directory by `cp -r` and open the copy, or
    /// remove the other name if nobody needs it.
    #[error("{path} has a second name (a hard link): a write would change both; open a copy made by `cp -r`", path = path.display())]
    HardLinked {
        /// The file.
        path: PathBuf,
    },
    /// An earlier write or sync failed, so nothing written since can be trusted. Reopen.
    #[error("the log is poisoned by an earlier failure: {cause}")]
    Poisoned {
        /// The failure.
        cause: Arc<Error>,
    },
    /// The log was closed. Open it again.
    #[error("the log is closed")]
    Closed,
    /// The log met a state that cannot be, or something panicked inside it: a door, a callback, a
    /// subscriber, a codec, or the log itself. The handle is poisoned. Reopen, and report it.
    #[error("internal error: {what}")]
    Internal {
        /// What was met.
        what: &'static str,
    },
    /// The log has holes left by a repair, and the caller did not allow for them.
    #[error("{path} misses {count} entries; refill them from a peer", path = path.display())]
    Incomplete {
        /// The directory.
        path: PathBuf,
        /// How many entries are missing.
        count: u64,
    },
    /// The entry is missing since a repair. Refill it from a peer.
    #[error("entry {wanted} is missing: {range:?} has to be refilled from a peer")]
    Hole {
        /// The index that was asked for.
        wanted: u64,
        /// The whole hole.
        range: Range<u64>,
    },
}

impl Error {
    /// An operating system error at a path, by what it means to the caller.
    pub(crate) fn io(op: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        let (path, what) = (path.into(), Shortage::of(&source));
        match (source.kind(), what) {
            // No door opens a file for writing that has a second name.
            (io::ErrorKind::ResourceBusy, _) if op == "open" => Self::HardLinked { path },
            (_, Some(what)) if !planted(Bug::ShortagePoisons) => {
                Self::Exhausted { what, op, path, source: Arc::new(source) }
            }
            _ => Self::Io { op, path, source: Arc::new(source) },
        }
    }

    /// Whether it is for want of something that there may be more of later: nothing was changed, and
    /// the call can be made again.
    pub const fn is_shortage(&self) -> bool {
        matches!(self, Self::DiskFull { .. } | Self::Exhausted { .. })
    }

    /// The same, of a call whose outcome is unknown: then a shortage is a failure like any other.
    pub(crate) fn with_unknown_outcome(self) -> Self {
        match self {
            Self::DiskFull { path, .. } => {
                let source = Arc::new(io::ErrorKind::StorageFull.into());
                Self::Io { op: "write to", path, source }
            }
            Self::Exhausted { op, path, source, .. } => Self::Io { op, path, source },
            other => other,
        }
    }

    /// Whether it poisons a log that meets it where nothing can be taken back.
    pub(crate) fn poisons(&self) -> bool {
        match self {
            Self::Poisoned { .. } => false,
            Self::Internal { .. } => !planted(Bug::PanicForgotten),
            _ => !planted(Bug::NoPoison),
        }
    }

    /// Whether it is about a file that is not there.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// What a process or a system can run out of, other than disk space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Shortage {
    /// `EMFILE`: this process may open no more files. Raise `ulimit -n`.
    #[error("file descriptors of this process (`ulimit -n`)")]
    Descriptors,
    /// `ENFILE`: the whole system may open no more. Raise `fs.file-max`.
    #[error("file descriptors of the system (`fs.file-max`)")]
    SystemDescriptors,
    /// `ENOMEM`: there is no memory, or this process may map no more. Raise `vm.max_map_count`, the
    /// limit of the container, or `ulimit -v`.
    #[error("memory or maps (`vm.max_map_count`)")]
    Memory,
    /// `EAGAIN`: no thread can be started. Raise `ulimit -u`, or the limit of the container.
    #[error("threads (`ulimit -u`)")]
    Threads,
    /// `EFBIG`: no file of this process may be so long. Raise `ulimit -f`, or choose smaller segments.
    #[error("file size (`ulimit -f`)")]
    FileSize,
}

impl Shortage {
    /// What an error of the operating system says there is too little of.
    fn of(error: &io::Error) -> Option<Self> {
        let by_number = error.raw_os_error().and_then(|number| match number {
            libc::EMFILE => Some(Self::Descriptors),
            libc::ENFILE => Some(Self::SystemDescriptors),
            libc::EAGAIN => Some(Self::Threads),
            _ => None,
        });
        by_number.or(match error.kind() {
            io::ErrorKind::OutOfMemory => Some(Self::Memory),
            io::ErrorKind::FileTooLarge => Some(Self::FileSize),
            _ => None,
        })
    }
}

/// What else to say of files that are no log's.
fn looks(more: usize, like: Option<&str>) -> String {
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let like = like.map(|like| {
        format!("; it looks like storage of {like}, which `omnipaxos::migrate` can take over")
    });
    format!("{more}{}", like.unwrap_or_default())
}

/// What there is no space for, if that is known.
fn space(needed: u64) -> String {
    if needed > 0 { format!(" for {needed} bytes") } else { String::new() }
}

/// Where the damage is; a file that is not there, or not as long as it should be, has no such place.
fn damage(offset: u64, reason: &Damage) -> String {
    match reason {
        reason @ (Damage::MissingFile
        | Damage::NotAFile { .. }
        | Damage::Ambiguous { .. }
        | Damage::Identity { .. }
        | Damage::Misnamed { .. }) => reason.to_string(),
        reason @ Damage::Length { .. } => format!("damaged: {reason}"),
        reason => format!("damaged at byte {offset}: {reason}"),
    }
}

fn entries(indexes: Option<&Range<u64>>) -> String {
    match indexes {
        Some(range) if range.end == u64::MAX => format!(" (entries from {} on)", range.start),
        Some(range) => format!(" (entries {}..{})", range.start, range.end),
        None => String::new(),
    }
}

/// What is wrong with damaged bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// The first bytes are not those of the structure that belongs there.
    #[error("not a {structure}: its magic bytes are wrong")]
    Magic {
        /// The structure that was expected.
        structure: &'static str,
    },
    /// The checksum of a structure does not match its bytes.
    #[error("{structure} has checksum {got:#010x}, its bytes say {expected:#010x}")]
    Checksum {
        /// The structure.
        structure: &'static str,
        /// What the bytes add up to.
        expected: u32,
        /// What is stated.
        got: u32,
    },
    /// Where a frame has to be there is none.
    #[error("{0}")]
    Frame(FrameError),
    /// The frame of a state cell is sound, and what it holds is no change of one.
    #[error("the state cell in the frame here is malformed: {0}")]
    Cell(StructureError),
    /// A field has a value it cannot have.
    #[error("{field} is {got}, expected {expected}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it should be.
        expected: u64,
        /// What it is.
        got: u64,
    },
    /// A file has the wrong length.
    #[error("the file has {got} bytes, expected {expected}")]
    Length {
        /// The length it should have, in bytes.
        expected: u64,
        /// The length it has, in bytes.
        got: u64,
    },
    /// A file that must be there is not.
    #[error("missing")]
    MissingFile,
    /// Something else stands under the name of a file of the log. Put the file back, if it is
    /// anywhere, or move this away.
    #[error("{what}, not a file of this log: put the file back, or move this away")]
    NotAFile {
        /// What it is: `"a symbolic link"`, `"a directory"`.
        what: &'static str,
    },
    /// Several files claim to be one segment. Move those away that do not belong to the log.
    #[error(
        "ambiguous: {files} files claim to be this segment; move those away that are not of this log"
    )]
    Ambiguous {
        /// How many there are.
        files: u64,
    },
    /// Both slots of the metadata file are unreadable.
    #[error("both metadata slots are unreadable")]
    BothSlots,
    /// A frame that was acknowledged is unreadable: later bytes prove that it had become durable.
    #[error("batch {sequence} is unreadable, and batch {durable} is known to have been durable")]
    AcknowledgedFrame {
        /// The batch that could not be read.
        sequence: u64,
        /// The newest batch that is proved to have been durable.
        durable: u64,
    },
    /// The metadata file is older than the log: an earlier copy of it was put back. What its slots
    /// summarise was true once, and is not what the log was when it was last used.
    #[error(
        "the metadata file is older than the log: it ends with batch {checkpoint}, batch {found} was written under a later one"
    )]
    MetadataOlder {
        /// The newest batch that the checkpoint covers.
        checkpoint: u64,
        /// A batch that stands where the checkpoint says that there is none.
        found: u64,
    },
    /// The last frame that the checkpoint summarises is not in the tail: it was lost, or the tail is
    /// an older copy.
    #[error("the last frame that the checkpoint summarises, up to batch {sequence}, is not here")]
    LastFrame {
        /// The newest batch that the checkpoint covers.
        sequence: u64,
    },
    /// An entry is not where its offset table says.
    #[error("the frame here is not that of entry {expected}")]
    Misplaced {
        /// The entry that should be here.
        expected: u64,
    },
    /// The footer is unreadable and no other segment states where the frames end; whether the frame
    /// here counts, and replaced entries before it, cannot be told.
    #[error("the footer is unreadable, and whether the frame here counts cannot be told")]
    UnknownEnd,
    /// A file is part of another log.
    #[error("of another log: its identity is {got}, expected {expected}")]
    Identity {
        /// The identity of this log.
        expected: crate::Uuid,
        /// The one that the file states.
        got: crate::Uuid,
    },
    /// A segment has the name of another one: its header states number and base as well.
    #[error("under a wrong name: its header says that it is {right}")]
    Misnamed {
        /// The name it should have.
        right: SegmentName,
    },
    /// The frames here are sound, and a segment that is missing may have replaced their entries.
    #[error("a missing segment may have replaced what stands here")]
    MayBeReplaced,
    /// What was read here is not what was read there before: the medium gives other bytes each time.
    #[error("other bytes are read here than a moment ago")]
    Unsteady,
    /// A compressed entry does not decompress.
    #[error("the compressed entry does not decompress")]
    Compression,
}
