//! Segment files under a wrong name: the header states number and base as well, and has a checksum,
//! so it is the name that is wrong, and nothing is lost.
//!
//! Owns: finding them, and a view of the directory in which they have the names they should have.
//! Does not own: giving them back (`repair`). An open refuses such a log.
//!
//! A file under the number of another one may as well be an older copy of the segment it says it is. So
//! it counts only if no other file has that number or claims it, and if what is around it knew the one
//! of this generation: the checkpoint, if it is the tail, else the segments before and after.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::slots;
use crate::directory::Dir;
use crate::error::{Damage, Error, Result};
use crate::format::header::REPLACES_UNKNOWN;
use crate::format::{Checkpoint, FileName, SegmentHeader, SegmentName};
use crate::io::{Access, Directory, DirectoryEntry, File, Lock, LockRefused};

/// A segment file, and the name it should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Misnamed {
    pub(crate) found: SegmentName,
    pub(crate) right: SegmentName,
}

impl Misnamed {
    /// What is wrong.
    pub(crate) fn error(&self, dir: &Dir) -> Error {
        let (path, offset, indexes) = (dir.join(&self.found.to_string()), 0, None);
        Error::Damaged { path, offset, indexes, reason: Damage::Misnamed { right: self.right } }
    }
}

/// The segments of the log whose name is not that of their header.
pub(crate) fn misnamed(dir: &Dir) -> Result<Vec<Misnamed>> {
    let newest = slots(dir)?.into_iter().filter_map(|slot| slot.checkpoint.ok());
    let Some(checkpoint) = newest.max_by_key(|found| found.generation) else {
        return Ok(Vec::new());
    };
    let claims = Claims::in_directory(dir, &checkpoint)?;
    Ok(claims.of_header.values().filter_map(|all| claims.misnamed(&checkpoint, all)).collect())
}

/// Which file claims to be which segment.
#[derive(Default)]
struct Claims {
    /// How many names have a number, be they those of files or not.
    by_name: BTreeMap<u64, usize>,
    /// The files of this log by the number that their header states.
    of_header: BTreeMap<u64, Vec<(SegmentName, SegmentHeader)>>,
}

impl Claims {
    fn in_directory(dir: &Dir, checkpoint: &Checkpoint) -> Result<Self> {
        let mut claims = Self::default();
        for entry in dir.list_everything()? {
            let FileName::Segment(name) = FileName::classify(&entry.name) else { continue };
            *claims.by_name.entry(name.number).or_default() += 1;
            if entry.other.is_some() {
                continue;
            }
            let Ok(Ok(header)) = dir.segment_header(&entry.name) else { continue };
            if header.uuid == checkpoint.uuid {
                claims.of_header.entry(header.number).or_default().push((name, header));
            }
        }
        Ok(claims)
    }

    /// The only file whose header states this number.
    fn only(&self, number: Option<u64>) -> Option<&SegmentHeader> {
        match self.of_header.get(&number?).map(Vec::as_slice) {
            Some([(_, header)]) => Some(header),
            _ => None,
        }
    }

    /// The one of the files that claim a number that has it, if it has another name.
    fn misnamed(
        &self,
        checkpoint: &Checkpoint,
        claimants: &[(SegmentName, SegmentHeader)],
    ) -> Option<Misnamed> {
        let named = |(name, header): &&(SegmentName, SegmentHeader)| name.number == header.number;
        let &(found, header) = claimants.iter().find(named).or_else(|| claimants.first())?;
        let right = SegmentName { number: header.number, base: header.base };
        let count = |number: u64| self.by_name.get(&number).copied().unwrap_or(0);
        let is_it = if found.number == right.number {
            count(found.number) == 1
        } else {
            claimants.len() == 1 && count(right.number) == 0 && self.is_known(checkpoint, &header)
        };
        let is_it = is_it && right != found && checkpoint.names(right.number);
        is_it.then_some(Misnamed { found, right })
    }

    /// Whether what is around a segment states its generation, and nothing another one.
    fn is_known(&self, checkpoint: &Checkpoint, header: &SegmentHeader) -> bool {
        if header.number == checkpoint.tail_number {
            return header.generation == checkpoint.tail_generation;
        }
        let before = self.only(header.number.checked_sub(1));
        let after = self.only(header.number.checked_add(1));
        let pairs = [before.map(|before| (before, header)), after.map(|after| (header, after))];
        let mut agree = pairs.into_iter().flatten().filter_map(|(one, next)| adjoin(one, next));
        let first = agree.next();
        first == Some(true) && agree.all(|agrees| agrees)
    }
}

/// Whether a segment states to have been begun after the other one; nothing if it does not say.
fn adjoin(one: &SegmentHeader, next: &SegmentHeader) -> Option<bool> {
    // What a repair wrote in the place of another one stands for that.
    let known = if one.replaces == 0 { one.generation } else { one.replaces };
    let stated = next.previous_generation;
    (stated != 0 && known != REPLACES_UNKNOWN).then_some(known == stated)
}

/// The directory as if each file had the name it should have. No name can be changed through it.
pub(crate) fn view(dir: &Dir, misnamed: &[Misnamed]) -> Dir {
    if misnamed.is_empty() {
        return dir.clone();
    }
    let below = dir.shared_door();
    let misnamed = misnamed.to_vec();
    let door = Arc::new(View { below, misnamed });
    if dir.is_read_only() { Dir::read_only(door, dir.path()) } else { Dir::new(door, dir.path()) }
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

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        let wrong = self.misnamed.iter().find(|it| it.right.to_string() == name);
        let found = wrong.map_or(name.to_owned(), |it| it.found.to_string());
        self.below.open(&found, access)
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
