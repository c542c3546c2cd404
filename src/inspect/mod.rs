//! Looking at a log from outside: no lock is taken, nothing is written, nothing is repaired.
//!
//! Owns: the read-only view of a directory ([`inspect`]), its frames ([`frames`]), and the check of
//! every byte ([`verify`]). Does not own: acting on it (`repair`).
//!
//! All of it may be used beside a process that has the log open. Files are then read through the
//! page cache while they change: what is seen is a moment of the past, and an unfinished end is
//! normal.

mod cells;
mod compare;
pub(crate) mod entries;
mod frames;
pub(crate) mod misnamed;
pub(crate) mod placed;
pub(crate) mod scene;
pub(crate) mod survey;
pub(crate) mod verify;
pub(crate) mod window;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::cells::describe_cell;
pub use self::compare::{
    Compared, Comparison, Difference, RangeSum, compare, compare_stores, decided, decided_in,
    range_sums,
};
pub use self::entries::{Entries, EntrySeen, entries, entries_in};
pub use self::frames::{EffectSeen, FrameSeen, Frames, frames, frames_in};
pub use self::verify::{Finding, Health, Meaning, Progress, Verification, verify, verify_in};

use self::scene::Scene;
use crate::directory::Dir;
use crate::directory::identity::Uuid;
use crate::error::{Error, Result};
use crate::format::error::StructureError;
use crate::format::names::{LOCK, METADATA, side_file};
use crate::format::number::{to_u64, to_usize};
use crate::format::slot::{METADATA_BYTES, SLOT_BYTES};
use crate::format::{CellValue, Checkpoint, FileName};
use crate::io::os::OsDirectory;
use crate::io::{Access, Directory};
use crate::recovery::table::Decision;
use crate::segment::FRAMES_START;

/// What a directory holds, as of one moment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Inspection {
    /// The directory.
    pub path: PathBuf,
    /// Whether another handle has the log open.
    pub use_now: InUse,
    /// The two metadata slots: the checkpoint, or why it cannot be read. Empty if there is no
    /// readable metadata file.
    pub slots: Vec<SlotSeen>,
    /// What an open would do now.
    pub outcome: Outcome,
    /// What that open would not look at yet: damage in the durable part of the tail. Reads of its
    /// entries are refused then, and the log is poisoned at the next roll.
    pub latent: Option<Error>,
    /// Segments that the log names and that are not there: their numbers.
    pub absent: Vec<std::ops::Range<u64>>,
    /// What the log would be after that open, if it can be told.
    pub state: Option<StateSeen>,
    /// Every segment file, by number.
    pub segments: Vec<SegmentSeen>,
    /// Side files, each with the cell that refers to it.
    pub side_files: Vec<SideFileSeen>,
    /// Every file with its length: segments, spares, side files, the rest.
    pub disk: DiskUse,
}

/// Whether a log is open somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InUse {
    /// Nobody has it open.
    No,
    /// Another handle has it open: in the process with this number, if that is known.
    Yes(Option<u32>),
    /// The system does not tell; the process with this number was the last to open it.
    Unknown(Option<u32>),
}

/// One of the two metadata slots.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SlotSeen {
    /// `A` or `B`.
    pub name: char,
    /// The checkpoint in it, or why there is none.
    pub checkpoint: std::result::Result<Checkpoint, StructureError>,
}

/// What an open would do.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Outcome {
    /// Return `Missing`.
    NoLog,
    /// Finish a `create` that was cut short.
    FinishesCreate,
    /// Go on where the close left off.
    Clean,
    /// Replay whole batches after the newest checkpoint.
    Recovers {
        /// How many batches.
        batches: u64,
        /// How many entries in them.
        entries: u64,
    },
    /// Replay, and drop an unfinished end. Nothing shows that it was acknowledged.
    DropsTornTail {
        /// The segment file.
        path: PathBuf,
        /// Where the unfinished end starts.
        offset: u64,
        /// The first batch that would be dropped.
        sequence: u64,
        /// Bytes up to the last frame that was recognised after that place.
        bytes: u64,
    },
    /// Refuse with this error.
    Refuses(Error),
}

/// The bounds and cells of a log.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StateSeen {
    /// The identity of the log.
    pub uuid: Uuid,
    /// Index of the first entry.
    pub first: u64,
    /// Index the next entry gets.
    pub next: u64,
    /// Entries of `first..next` that are missing since a repair.
    pub holes: u64,
    /// The last batch.
    pub sequence: u64,
    /// Length of each segment file in bytes.
    pub segment_bytes: u64,
    /// The state cells by name.
    pub cells: Vec<(String, CellValue)>,
}

/// What a segment is for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// The segment being written.
    Tail,
    /// Full, and part of the log.
    Sealed,
    /// Part of no checkpoint: junk, or begun by a process that has the log open.
    Unnamed,
}

/// One segment file. The shares are those of its frames, by the places of its first and last live
/// entry: `trimmed + live + truncated` is `used`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SegmentSeen {
    /// The file.
    pub name: String,
    /// Its number.
    pub number: u64,
    /// Index of its first entry.
    pub base: u64,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// What it is for the log.
    pub role: Role,
    /// Why its header is not to be believed, if it is not.
    pub header: Option<StructureError>,
    /// Of a sealed segment: why its footer or table is not to be believed.
    pub footer: Option<StructureError>,
    /// Entries that count: half-open.
    pub live: std::ops::Range<u64>,
    /// Bytes of frames.
    pub used: u64,
    /// Of these, before the first live entry.
    pub trimmed: u64,
    /// Of these, from the first live entry to after the last.
    pub in_use: u64,
    /// Of these, after the last live entry.
    pub truncated: u64,
    /// Whether some live entries are marked as missing.
    pub holes: bool,
}

/// A side file.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SideFileSeen {
    /// The file.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// The cell that refers to it; without one it is junk, or about to be attached.
    pub cell: Option<String>,
}

/// What the files take, in bytes and number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiskUse {
    /// Segment files, and their bytes.
    pub segments: (u64, u64),
    /// Prepared segment files, and their bytes.
    pub spares: (u64, u64),
    /// Side files, and their bytes.
    pub side_files: (u64, u64),
    /// Unfinished files that the next open removes, and their bytes.
    pub temporary: (u64, u64),
    /// Files that are not part of a log, and their bytes.
    pub foreign: (u64, u64),
    /// Everything, in bytes.
    pub bytes: u64,
}

/// Looks at the log in a directory.
///
/// # Errors
/// [`Error::Missing`] if there is no such directory, [`Error::Io`] if it cannot be read. A log that
/// would not open is no error here: see [`Inspection::outcome`].
pub fn inspect(path: impl AsRef<Path>) -> Result<Inspection> {
    let path = path.as_ref();
    let door = os_door(path)?;
    let locked = door.locked();
    look(&Dir::read_only(Arc::new(door), path), locked)
}

/// Looks at a log through any I/O door.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_in(directory: Arc<dyn Directory>) -> Result<Inspection> {
    look(&Dir::read_only(directory, ""), None)
}

/// The door to a directory that exists.
pub(crate) fn os_door(path: &Path) -> Result<OsDirectory> {
    OsDirectory::open(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::Missing { path: path.to_path_buf() },
        _ => Error::io("open directory", path, source),
    })
}

/// How often a directory is looked at again, when it changed under the look.
const ATTEMPTS: usize = 16;

/// The newest checkpoint's number.
pub(crate) fn generation(dir: &Dir) -> Option<u64> {
    let slots = slots(dir).ok()?;
    slots.into_iter().filter_map(|slot| slot.checkpoint.ok()).map(|found| found.generation).max()
}

/// Whether a file was there a moment ago: the log let go of it meanwhile.
pub(crate) fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}

fn look(dir: &Dir, locked: Option<bool>) -> Result<Inspection> {
    for _ in 1..ATTEMPTS {
        let before = generation(dir);
        match look_once(dir, locked) {
            Err(error) if is_gone(&error) => {}
            Ok(Inspection { outcome: Outcome::Refuses(_), .. }) if before != generation(dir) => {}
            other => return other,
        }
    }
    look_once(dir, locked)
}

fn look_once(dir: &Dir, locked: Option<bool>) -> Result<Inspection> {
    let scene = Scene::of(dir)?;
    let segments = segments(dir, &scene)?;
    let state = scene.state();
    let cells = state.as_ref().map(|state| state.cells.as_slice()).unwrap_or_default();
    let side_files = scene
        .observed
        .files
        .sides
        .iter()
        .map(|(&id, &bytes)| SideFileSeen {
            name: side_file(id),
            bytes,
            cell: cells.iter().find_map(|(name, value)| match value {
                CellValue::SideFile(file) if file.id == id => Some(name.clone()),
                _ => None,
            }),
        })
        .collect();
    Ok(Inspection {
        path: dir.path().to_path_buf(),
        use_now: in_use(dir, locked),
        slots: slots(dir)?,
        outcome: outcome(dir, &scene),
        latent: scene.latent.clone(),
        absent: scene.parts.iter().map(|it| it.gone.clone()).filter(|it| !it.is_empty()).collect(),
        side_files,
        disk: disk(dir)?,
        segments,
        state,
    })
}

/// What the lock says, without touching it.
pub(crate) fn in_use(dir: &Dir, locked: Option<bool>) -> InUse {
    let mut owner = None;
    if let Ok(list) = dir.list()
        && let Some(entry) = list.iter().find(|entry| entry.name == LOCK)
        && let Ok(file) = dir.open(LOCK, Access::Read)
    {
        let mut text = vec![0; to_usize(entry.bytes.min(16))];
        if file.read_at(0, &mut text).is_ok() {
            owner = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
        }
    }
    match locked {
        Some(true) => InUse::Yes(owner),
        Some(false) => InUse::No,
        None => InUse::Unknown(owner),
    }
}

fn slots(dir: &Dir) -> Result<Vec<SlotSeen>> {
    let found = dir.list()?.into_iter().find(|entry| entry.name == METADATA);
    let Some(bytes) = found.map(|entry| entry.bytes).filter(|&bytes| bytes > 0) else {
        return Ok(Vec::new());
    };
    let mut block = vec![0; to_usize(bytes.min(to_u64(METADATA_BYTES)))];
    let file = dir.open(METADATA, Access::Read)?;
    file.read_at(0, &mut block).map_err(|source| Error::io("read", dir.join(METADATA), source))?;
    let (a, b) = block.split_at(SLOT_BYTES.min(block.len()));
    let seen = |name, bytes| SlotSeen { name, checkpoint: Checkpoint::decode(bytes) };
    Ok(vec![seen('A', a), seen('B', b)])
}

fn outcome(dir: &Dir, scene: &Scene) -> Outcome {
    let missing = || Error::Missing { path: dir.path().to_path_buf() };
    let replayed = scene.observed.replayed.as_ref();
    match (scene.decision, replayed) {
        (Decision::NoLog, _) => Outcome::NoLog,
        (Decision::FinishCreate, _) => Outcome::FinishesCreate,
        (Decision::OpenClean | Decision::OpenRecovered | Decision::OpenTorn, Some(replayed))
            if replayed.state.holes > 0 =>
        {
            let path = dir.path().to_path_buf();
            Outcome::Refuses(Error::Incomplete { path, count: replayed.state.holes })
        }
        (Decision::OpenClean, _) => Outcome::Clean,
        (Decision::OpenRecovered, Some(replayed)) => {
            Outcome::Recovers { batches: replayed.batches, entries: replayed.entries }
        }
        (Decision::OpenTorn, Some(replayed)) => {
            let (path, offset) = match replayed.links.last() {
                Some(link) => (dir.join(&link.name.to_string()), link.end),
                None => (dir.path().to_path_buf(), 0),
            };
            let bytes = replayed.behind.end.saturating_sub(offset);
            Outcome::DropsTornTail { path, offset, sequence: replayed.sequence + 1, bytes }
        }
        _ => Outcome::Refuses(scene.refusal().cloned().unwrap_or_else(missing)),
    }
}

fn segments(dir: &Dir, scene: &Scene) -> Result<Vec<SegmentSeen>> {
    let mut seen = Vec::new();
    for (name, bytes) in scene.observed.files.segments.values().flatten() {
        let part = scene.parts.iter().find(|part| part.name == *name && !part.is_gone());
        let live = part.map(|part| part.live.clone());
        let role = match live {
            None => Role::Unnamed,
            Some(_) if scene.tail_name() == Some(*name) => Role::Tail,
            Some(_) => Role::Sealed,
        };
        let mut segment = SegmentSeen {
            name: name.to_string(),
            number: name.number,
            base: name.base,
            bytes: *bytes,
            role,
            header: None,
            footer: None,
            live: live.unwrap_or(name.base..name.base),
            used: 0,
            trimmed: 0,
            in_use: 0,
            truncated: 0,
            holes: false,
        };
        if role == Role::Tail {
            scene.fill_tail(&mut segment);
        } else {
            scene::fill_sealed(dir, &mut segment)?;
        }
        seen.push(segment);
    }
    Ok(seen)
}

impl SegmentSeen {
    /// Sets the shares from the places of the first live entry, and of what follows the last.
    pub(crate) fn share(&mut self, end: u64, first: Option<u64>, behind: Option<u64>) {
        self.used = end.saturating_sub(FRAMES_START);
        if self.live.is_empty() {
            self.truncated = self.used;
            return;
        }
        let first = first.unwrap_or(FRAMES_START).clamp(FRAMES_START, end.max(FRAMES_START));
        let first = if self.live.start == self.base { FRAMES_START } else { first };
        let behind = behind.unwrap_or(end).clamp(first, end.max(first));
        self.trimmed = first - FRAMES_START;
        self.in_use = behind - first;
        self.truncated = self.used.saturating_sub(behind - FRAMES_START);
    }
}

fn disk(dir: &Dir) -> Result<DiskUse> {
    let mut disk = DiskUse::default();
    for entry in dir.list()? {
        let kind = match FileName::classify(&entry.name) {
            FileName::Segment(_) => Some(&mut disk.segments),
            FileName::Spare(_) => Some(&mut disk.spares),
            FileName::Side(_) => Some(&mut disk.side_files),
            FileName::Temporary => Some(&mut disk.temporary),
            FileName::Foreign => Some(&mut disk.foreign),
            FileName::Metadata | FileName::Lock => None,
        };
        if let Some((count, bytes)) = kind {
            *count += 1;
            *bytes = bytes.saturating_add(entry.bytes);
        }
        disk.bytes = disk.bytes.saturating_add(entry.bytes);
    }
    Ok(disk)
}
