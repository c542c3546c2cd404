//! Looking at a log from outside: no lock is taken, nothing is written, nothing is repaired.
//!
//! Owns: the read-only view of a directory ([`inspect`]), its frames ([`frames`]), and the check of
//! every byte ([`verify`]). Does not own: acting on it (`repair`).
//!
//! All of it may be used beside a process that has the log open. Files are then read through the
//! page cache while they change: what is seen is a moment of the past, and an unfinished end is
//! normal.

#[cfg(feature = "tools")]
mod cells;
#[cfg(feature = "tools")]
mod compare;
#[cfg(feature = "tools")]
pub(crate) mod entries;
#[cfg(feature = "tools")]
mod frames;
#[cfg(feature = "tools")]
mod look;
pub(crate) mod misnamed;
#[cfg(feature = "tools")]
pub(crate) mod placed;
pub(crate) mod scene;
pub(crate) mod survey;
pub(crate) mod verify;
pub(crate) mod window;

use std::path::Path;

#[cfg(feature = "tools")]
pub use self::cells::describe_cell;
#[cfg(feature = "tools")]
pub use self::compare::{
    Compared, Comparison, Difference, RangeSum, compare, compare_stores, decided, decided_in,
    range_sums,
};
#[cfg(feature = "tools")]
pub use self::entries::{Entries, EntrySeen, entries};
#[cfg(feature = "tools")]
pub use self::frames::{EffectSeen, FrameSeen, Frames, frames};
#[cfg(feature = "tools")]
pub use self::look::{DiskUse, Inspection, Outcome, Role, SegmentSeen, SideFileSeen, inspect};
pub use self::verify::{Finding, Health, Meaning, Progress, Verification, verify};
#[cfg(feature = "testing")]
pub use self::{entries::entries_in, frames::frames_in, look::inspect_in, verify::verify_in};
pub use crate::format::Checkpoint;
#[cfg(feature = "tools")]
pub use crate::format::{FrameHeader, Kind};

use crate::directory::Dir;
use crate::directory::identity::Uuid;
use crate::error::{Error, Result};
use crate::format::CellValue;
use crate::format::error::StructureError;
use crate::format::names::{LOCK, METADATA};
use crate::format::number::{to_u64, to_usize};
use crate::format::slot::{METADATA_BYTES, SLOT_BYTES};
use crate::io::Access;
use crate::io::os::OsDirectory;

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

/// The door to a directory that exists.
pub(crate) fn os_door(path: &Path) -> Result<OsDirectory> {
    OsDirectory::open(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::Missing { path: path.to_path_buf() },
        _ => Error::io("open directory", path, source),
    })
}

/// The newest checkpoint's number.
pub(crate) fn generation(dir: &Dir) -> Option<u64> {
    let slots = slots(dir).ok()?;
    slots.into_iter().filter_map(|slot| slot.checkpoint.ok()).map(|found| found.generation).max()
}

/// Whether a file was there a moment ago: the log let go of it meanwhile.
pub(crate) fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}

/// What the lock says.
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
