//! What a directory holds, as of one moment, and what an open of it would do.
//!
//! Owns: the words for it, and the shares of each segment. Does not own: what recovery would find
//! (`scene`), or the check of every byte (`verify`).

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::scene::Scene;
use super::{InUse, SlotSeen, StateSeen, generation, in_use, is_gone, os_door, slots};
use crate::directory::Dir;
use crate::directory::identity::Uuid;
use crate::error::{Error, Result};
use crate::format::error::StructureError;
use crate::format::footer::{FOOTER_BYTES, FOOTER_HOLES, table_bytes, table_offset};
use crate::format::frame::Salt;
use crate::format::header::SEGMENT_HEADER_BYTES;
use crate::format::names::side_file;
use crate::format::number::{to_u64, to_usize};
use crate::format::{CellValue, Checkpoint, FileName, Footer, SegmentName};
use crate::io::Access;
use crate::options::SEGMENT_BYTES_MAX;
use crate::recovery::table::Decision;
use crate::segment::{FRAMES_START, OFFSET_UNIT, Segment};

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
    pub absent: Vec<Range<u64>>,
    /// What the log would be after that open, if it can be told.
    pub state: Option<StateSeen>,
    /// Every segment file, by number.
    pub segments: Vec<SegmentSeen>,
    /// Side files, each with the cell that refers to it.
    pub side_files: Vec<SideFileSeen>,
    /// Every file with its length: segments, spares, side files, the rest.
    pub disk: DiskUse,
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
    /// Why its header is not to be believed, or is not that of the segment that the name says.
    pub header: Option<Error>,
    /// Of a sealed segment: why its footer or table is not to be believed.
    pub footer: Option<StructureError>,
    /// Entries that count: half-open.
    pub live: Range<u64>,
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
#[cfg(feature = "testing")]
pub fn inspect_in(directory: Arc<dyn crate::io::Directory>) -> Result<Inspection> {
    look(&Dir::read_only(directory, ""), None)
}

/// How often a directory is looked at again, when it changed under the look.
const ATTEMPTS: usize = 16;

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
            let bytes = replayed.after.end.saturating_sub(offset);
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
            fill_sealed(dir, scene.checkpoint(), &mut segment)?;
        }
        seen.push(segment);
    }
    Ok(seen)
}

impl SegmentSeen {
    /// Sets the shares from the places of the first live entry, and of what follows the last.
    fn share(&mut self, end: u64, first: Option<u64>, after: Option<u64>) {
        self.used = end.saturating_sub(FRAMES_START);
        if self.live.is_empty() {
            self.truncated = self.used;
            return;
        }
        let first = first.unwrap_or(FRAMES_START).clamp(FRAMES_START, end.max(FRAMES_START));
        let first = if self.live.start == self.base { FRAMES_START } else { first };
        let after = after.unwrap_or(end).clamp(first, end.max(first));
        self.trimmed = first - FRAMES_START;
        self.in_use = after - first;
        self.truncated = self.used.saturating_sub(after - FRAMES_START);
    }
}

impl Scene {
    /// The shares of the tail, whose offsets the replay knows.
    fn fill_tail(&self, segment: &mut SegmentSeen) {
        let Some(link) = self.observed.replayed.as_ref().and_then(|all| all.links.last()) else {
            let end = self.checkpoint().map_or(FRAMES_START, |found| found.tail_offset);
            segment.share(end, None, None);
            return;
        };
        let offset = |index: u64| {
            let nth = to_usize(index.checked_sub(segment.base)?);
            let unit = link.offsets.units.get(nth..nth + 1)?.first()?;
            Some(u64::from(*unit) * OFFSET_UNIT)
        };
        let (first, after) = (offset(segment.live.start), offset(segment.live.end));
        segment.holes = link.offsets.holes;
        segment.share(link.end, first, after);
    }
}

/// The shares of a sealed segment, from its header, footer and offset table.
fn fill_sealed(
    dir: &Dir,
    checkpoint: Option<&Checkpoint>,
    segment: &mut SegmentSeen,
) -> Result<()> {
    let bytes = segment.bytes;
    if bytes < to_u64(SEGMENT_HEADER_BYTES + FOOTER_BYTES) || bytes > SEGMENT_BYTES_MAX {
        return Ok(());
    }
    let file = dir.open(&segment.name, Access::Read)?;
    let path = || dir.join(&segment.name);
    let read = |offset, buffer: &mut [u8]| {
        file.read_at(offset, buffer).map_err(|source| Error::io("read", path(), source))
    };
    let header = match dir.segment_header(&segment.name)? {
        Ok(header) => header,
        Err(error) => {
            segment.header = Some(error.into_error(path(), 0));
            return Ok(());
        }
    };
    if let Some(log) = checkpoint {
        let name = SegmentName { number: segment.number, base: segment.base };
        let expected = Segment::sealed(dir, Uuid::from_bytes(log.uuid), name, log.segment_bytes);
        segment.header = expected.compare(&header).err();
    }
    if header.segment_bytes != bytes {
        let (structure, expected) = ("the file", header.segment_bytes);
        segment.footer = Some(StructureError::Short { structure, expected, got: bytes });
        return Ok(());
    }
    let salt = Salt::new(header.generation);
    let mut block = [0; FOOTER_BYTES];
    read(bytes - to_u64(FOOTER_BYTES), &mut block)?;
    let footer = match Footer::decode(&block, &salt, bytes) {
        Ok(footer) => footer,
        Err(error) => {
            segment.footer = Some(error);
            return Ok(());
        }
    };
    let mut table = vec![0; table_bytes(footer.count)];
    read(footer.table_start(bytes), &mut table)?;
    if let Err(error) = footer.verify_table(&table) {
        segment.footer = Some(error);
        segment.share(footer.data_end, None, None);
        return Ok(());
    }
    let offset = |index: u64| {
        let nth = to_usize(index.checked_sub(segment.base)?);
        table_offset(&table, nth)
    };
    let (first, after) = (offset(segment.live.start), offset(segment.live.end));
    segment.holes = footer.flags & FOOTER_HOLES != 0;
    segment.share(footer.data_end, first, after);
    Ok(())
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
