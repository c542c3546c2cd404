//! Segment files under a wrong name: the header states number and base as well, and has a checksum,
//! so it is the name that is wrong, and nothing is lost.
//!
//! Owns: finding them, and a view of the directory in which they have the names they should have.
//! Does not own: giving them back (`repair`). An open refuses such a log.

use std::io;
use std::sync::Arc;

use super::slots;
use crate::directory::Dir;
use crate::error::{Damage, Error, Result};
use crate::format::header::SEGMENT_HEADER_BYTES;
use crate::format::{Checkpoint, FileName, SegmentHeader, SegmentName};
use crate::io::{Access, Directory, DirectoryEntry, File, Lock, LockRefused};

/// A segment file, and the name it should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Misnamed {
    pub(crate) found: SegmentName,
    pub(crate) right: SegmentName,
}

impl Misnamed {
    /// What an open would say of it.
    pub(crate) fn error(&self, dir: &Dir) -> Error {
        let (path, offset, indexes) = (dir.join(&self.found.to_string()), 0, None);
        let (expected, got) = (self.found.base, self.right.base);
        let reason = Damage::Field { field: "base index", expected, got };
        Error::Damaged { path, offset, indexes, reason }
    }
}

/// The segments of the log whose name states another base than their header. A number that several
/// files have is nobody's here.
pub(crate) fn misnamed(dir: &Dir) -> Result<Vec<Misnamed>> {
    let newest = slots(dir)?.into_iter().filter_map(|slot| slot.checkpoint.ok());
    let Some(checkpoint) = newest.max_by_key(|found| found.generation) else {
        return Ok(Vec::new());
    };
    let names: Vec<SegmentName> = dir
        .list()?
        .into_iter()
        .filter_map(|entry| match FileName::classify(&entry.name) {
            FileName::Segment(name) => Some(name),
            _ => None,
        })
        .collect();
    let only =
        |name: &&SegmentName| names.iter().filter(|it| it.number == name.number).count() == 1;
    Ok(names.iter().filter(only).filter_map(|name| right_name(dir, &checkpoint, *name)).collect())
}

fn right_name(dir: &Dir, checkpoint: &Checkpoint, found: SegmentName) -> Option<Misnamed> {
    if !checkpoint.runs.iter().any(|(first, last)| (*first..=*last).contains(&found.number)) {
        return None;
    }
    let mut block = [0; SEGMENT_HEADER_BYTES];
    dir.open(&found.to_string(), Access::Read).ok()?.read_at(0, &mut block).ok()?;
    let header = SegmentHeader::decode(&block).ok()?;
    let ours = header.uuid == checkpoint.uuid && header.number == found.number;
    let right = SegmentName { number: found.number, base: header.base };
    (ours && right != found).then_some(Misnamed { found, right })
}

/// The directory as if each file had the name it should have. Nothing can be changed through it.
pub(crate) fn view(dir: &Dir, misnamed: &[Misnamed]) -> Dir {
    if misnamed.is_empty() {
        return dir.clone();
    }
    let below = dir.shared_door();
    let misnamed = misnamed.to_vec();
    Dir::read_only(Arc::new(View { below, misnamed }), dir.path())
}

#[derive(Debug)]
struct View {
    below: Arc<dyn Directory>,
    misnamed: Vec<Misnamed>,
}

impl Directory for View {
    fn list(&self) -> io::Result<Vec<DirectoryEntry>> {
        let mut entries = self.below.list()?;
        for entry in &mut entries {
            let wrong = self.misnamed.iter().find(|it| it.found.to_string() == entry.name);
            entry.name = wrong.map_or(std::mem::take(&mut entry.name), |it| it.right.to_string());
        }
        Ok(entries)
    }

    fn lock(&self) -> std::result::Result<Box<dyn Lock>, LockRefused> {
        Err(LockRefused::Io(io::ErrorKind::PermissionDenied.into()))
    }

    fn create(&self, _bytes: u64, _allocate: bool) -> io::Result<(String, Arc<dyn File>)> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn open(&self, name: &str, _access: Access) -> io::Result<Arc<dyn File>> {
        let wrong = self.misnamed.iter().find(|it| it.right.to_string() == name);
        let found = wrong.map_or(name.to_owned(), |it| it.found.to_string());
        self.below.open(&found, Access::Read)
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn random(&self) -> u64 {
        self.below.random()
    }
}
