//! Spare segment files: prepared ahead of need, so that a roll never waits for it.
//!
//! Owns: making a file ready and keeping a few. Does not own: when (`log::background`), or whether
//! a used segment may become a spare (`log::checkpoint`).
//!
//! A spare is named only after its blocks are on media, so a crash in any step leaves either a
//! temporary file, which the next open removes, or a whole spare, which it takes over.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::format::names;
use crate::format::number::{to_u64, to_usize};
use crate::io::{Access, File};
use crate::options::{Preparation, SyncMethod};

/// Bytes of one zero-filling write. Larger writes leave large page-cache folios behind, and then
/// a small synced store writes back a whole folio (docs/DESIGN.md, D5).
const FILL_BYTES: u64 = 4 * 1024;

/// Bytes after which filling waits for the device, so that it never has much of it in its queue.
const FILL_SYNC_BYTES: u64 = 512 * 1024;

/// A file ready to become a segment.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) name: String,
    pub(crate) file: Arc<dyn File>,
}

/// The spares of one log.
#[derive(Debug)]
pub(crate) struct Spares {
    dir: Dir,
    segment_bytes: u64,
    preparation: Preparation,
    target: usize,
    ready: Mutex<VecDeque<Spare>>,
    /// Unfinished files of a former process, to be removed when there is time.
    leftovers: Mutex<Vec<String>>,
}

impl Spares {
    pub(crate) fn new(
        dir: &Dir,
        segment_bytes: u64,
        preparation: Preparation,
        target: usize,
    ) -> Self {
        let (ready, leftovers) = (Mutex::default(), Mutex::default());
        Self { dir: dir.clone(), segment_bytes, preparation, target, ready, leftovers }
    }

    /// Leaves unfinished files of a former process to [`Self::remove_leftovers`]: removing a large
    /// file takes as long as the rest of an open.
    pub(crate) fn leave(&self, temporaries: &[String]) {
        self.leftovers.lock().extend_from_slice(temporaries);
    }

    /// Removes what was left. A crash before this leaves it to the next open.
    pub(crate) fn remove_leftovers(&self) -> Result<()> {
        let leftovers = std::mem::take(&mut *self.leftovers.lock());
        leftovers.iter().try_for_each(|name| match self.dir.remove(name) {
            // A writer of a side file that outlived its log has removed it.
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        })
    }

    /// A spare, if one is ready.
    pub(crate) fn take(&self) -> Option<Spare> {
        self.ready.lock().pop_front()
    }

    /// Keeps a spare for later, also beyond the target: it is here already.
    pub(crate) fn put(&self, spare: Spare) {
        self.ready.lock().push_back(spare);
    }

    /// How many are ready.
    pub(crate) fn count(&self) -> usize {
        self.ready.lock().len()
    }

    /// Whether fewer are ready than there should be.
    pub(crate) fn wanting(&self) -> bool {
        self.count() < self.target
    }

    /// Takes over a file that the log no longer needs, under the name of a spare. Answers whether
    /// it did: a file that has another name as well, in a backup, must keep its bytes.
    pub(crate) fn recycle(&self, name: &str) -> Result<bool> {
        let Some(file) = self.open_unshared(name)? else { return Ok(false) };
        let spare = names::spare(self.dir.door().random());
        self.dir.rename(name, &spare)?;
        self.put(Spare { name: spare, file });
        Ok(true)
    }

    /// Takes over a spare that is in the directory already. Answers whether it did, as
    /// [`Self::recycle`].
    pub(crate) fn adopt(&self, name: String) -> Result<bool> {
        let Some(file) = self.open_unshared(&name)? else { return Ok(false) };
        self.put(Spare { name, file });
        Ok(true)
    }

    /// A file for writing, unless it has another name.
    fn open_unshared(&self, name: &str) -> Result<Option<Arc<dyn File>>> {
        match self.dir.open(name, Access::Write) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::ResourceBusy => {
                Ok(None)
            }
            opened => opened.map(Some),
        }
    }

    /// Prepares a file from nothing. `stop` is asked between steps and ends the work early with
    /// nothing left behind. On return the file's blocks and its name are durable.
    pub(crate) fn prepare(&self, stop: &dyn Fn() -> bool) -> Result<Option<Spare>> {
        let allocate = self.preparation != Preparation::Sparse;
        let (temporary, file) = self.dir.create(self.segment_bytes, allocate)?;
        match self.fill(&temporary, file.as_ref(), stop) {
            Ok(true) => {}
            stopped_or_failed => {
                // What is left of it is junk that the next open removes as well.
                let _ignored = self.dir.remove(&temporary);
                return stopped_or_failed.map(|_| None);
            }
        }
        let name = names::spare(self.dir.door().random());
        self.dir.rename(&temporary, &name)?;
        // Makes the name of the spare durable. A crash before this leaves a temporary file.
        self.dir.sync()?;
        Ok(Some(Spare { name, file }))
    }

    /// Answers whether the file was filled to its end.
    fn fill(&self, name: &str, file: &dyn File, stop: &dyn Fn() -> bool) -> Result<bool> {
        let failed = |op, source| self.dir.full_or_io(op, name, self.segment_bytes, source);
        let sync = |from| {
            // Makes the filled blocks durable, so that no later sync has to. A crash before this
            // leaves a temporary file.
            file.sync(from..self.segment_bytes, SyncMethod::Fsync)
                .map_err(|source| failed("sync", source))
        };
        let mut synced = 0;
        if self.preparation == Preparation::ZeroFill {
            let zeros = vec![0; to_usize(FILL_BYTES.min(self.segment_bytes))];
            let mut at = 0;
            while at < self.segment_bytes {
                if stop() {
                    return Ok(false);
                }
                let length = to_usize(self.segment_bytes - at).min(zeros.len());
                let (chunk, _) = zeros.split_at(length);
                file.write_at(at, chunk).map_err(|source| failed("write", source))?;
                at += to_u64(length);
                if at - synced >= FILL_SYNC_BYTES {
                    sync(synced)?;
                    synced = at;
                }
            }
        }
        if synced < self.segment_bytes {
            sync(synced)?;
        }
        Ok(true)
    }
}

/// Whether an error only means that there is no space now.
pub(crate) fn is_disk_full<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::DiskFull { .. }))
}
