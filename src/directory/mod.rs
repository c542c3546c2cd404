//! The directory of one log: the door, and the path that error messages name.
//!
//! Owns: turning the door's errors into ours, and what stands in the directory beside the segments: the
//! file of the slots (`metadata`), spares, side files, the identity, what is not ours (`foreign`). Does
//! not own: the segments (`segment`), nor when something is written.

pub(crate) mod foreign;
pub(crate) mod identity;
pub(crate) mod metadata;
pub(crate) mod side_file;
pub(crate) mod spares;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::SegmentHeader;
use crate::format::error::StructureError;
use crate::format::header::SEGMENT_HEADER_USED_BYTES;
use crate::format::number::{to_u64, to_usize};
use crate::io::{Access, Directory, DirectoryEntry, File, Lock, LockRefused};
use crate::options::SyncMethod;
use crate::planted::{Bug, at_the_door, planted};
use crate::process::Process;

/// Bytes copied in one step: larger writes would leave large pages in the cache, and then every
/// small store writes back a whole one.
const COPY_BYTES: usize = 16 * 1024;

/// A door with the path of its directory.
#[derive(Debug, Clone)]
pub(crate) struct Dir {
    door: Arc<dyn Directory>,
    path: Arc<Path>,
    read_only: bool,
    /// The one that opened the directory.
    process: Process,
}

impl Dir {
    pub(crate) fn new(door: Arc<dyn Directory>, path: impl Into<PathBuf>) -> Self {
        let (door, path) = (at_the_door(door), path.into().into());
        Self { door, path, read_only: false, process: Process::this() }
    }

    /// The same, for looking only: every file is opened for reading, from the cache, and nothing
    /// may be created, renamed or removed. Needs no lock.
    pub(crate) fn read_only(door: Arc<dyn Directory>, path: impl Into<PathBuf>) -> Self {
        Self { read_only: true, ..Self::new(door, path) }
    }

    /// Whether files are only looked at.
    pub(crate) const fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Refuses work in a child that was forked from the process that opened the directory: it shares
    /// the files and the lock with its parent, and may have copies of mutexes that nobody will unlock.
    #[inline]
    pub(crate) fn not_forked(&self) -> Result<()> {
        if self.process.is_this() || planted(Bug::ChildMayWrite) {
            Ok(())
        } else {
            Err(Error::Forked)
        }
    }

    /// Keeps a directory that is only looked at, or that is the parent's, from being changed.
    fn writable(&self) -> Result<()> {
        self.not_forked()?;
        if self.read_only {
            let source = io::ErrorKind::PermissionDenied.into();
            return Err(Error::io("change", &*self.path, source));
        }
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn door(&self) -> &dyn Directory {
        self.door.as_ref()
    }

    /// The door itself, for whoever looks at the directory on their own.
    pub(crate) fn shared_door(&self) -> Arc<dyn Directory> {
        Arc::clone(&self.door)
    }

    /// Every plain file.
    pub(crate) fn list(&self) -> Result<Vec<DirectoryEntry>> {
        let mut entries = self.list_everything()?;
        entries.retain(|entry| entry.other.is_none());
        Ok(entries)
    }

    /// Every name, whatever it is the name of.
    pub(crate) fn list_everything(&self) -> Result<Vec<DirectoryEntry>> {
        self.door.list().map_err(|source| Error::io("list", &*self.path, source))
    }

    /// Removes files that nothing refers to. What cannot be removed harms nobody but for its space:
    /// its names are returned, and the next open tries again.
    pub(crate) fn remove_junk(&self, names: impl IntoIterator<Item = String>) -> Vec<String> {
        let stays = |name: &String| match self.remove(name) {
            Err(error) if !error.is_not_found() => {
                crate::telemetry::trace::not_removed(&error);
                assert!(!planted(Bug::JunkIsFatal), "planted");
                true
            }
            _ => false,
        };
        names.into_iter().filter(stays).collect()
    }

    pub(crate) fn lock(&self) -> Result<Box<dyn Lock>> {
        if planted(Bug::NoLock) {
            #[derive(Debug)]
            struct None;
            impl Lock for None {}
            return Ok(Box::new(None));
        }
        self.door.lock().map_err(|refused| match refused {
            LockRefused::Held(owner) => Error::Locked { path: self.path.to_path_buf(), owner },
            LockRefused::Io(source) => Error::io("lock", &*self.path, source),
        })
    }

    /// A new temporary file of `bytes`; a full disk is [`Error::DiskFull`].
    pub(crate) fn create(&self, bytes: u64, allocate: bool) -> Result<(String, Arc<dyn File>)> {
        self.writable()?;
        self.door
            .create(bytes, allocate)
            .map_err(|source| self.full_or_io("create a file in", "", bytes, source))
    }

    pub(crate) fn open(&self, name: &str, access: Access) -> Result<Arc<dyn File>> {
        let access = if self.read_only { Access::Read } else { access };
        self.door.open(name, access).map_err(|source| Error::io("open", self.join(name), source))
    }

    /// What the header of a segment file or of a spare states, whichever segment that is.
    pub(crate) fn segment_header(
        &self,
        name: &str,
    ) -> Result<std::result::Result<SegmentHeader, StructureError>> {
        let mut block = [0; SEGMENT_HEADER_USED_BYTES];
        let failed = |source| Error::io("read", self.join(name), source);
        self.open(name, Access::Read)?.read_at(0, &mut block).map_err(failed)?;
        Ok(SegmentHeader::decode(&block))
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.writable()?;
        self.door.rename(from, to).map_err(|source| self.full_or_io("rename", from, 0, source))
    }

    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        self.writable()?;
        self.door.remove(name).map_err(|source| Error::io("remove", self.join(name), source))
    }

    /// Makes the names durable that were created, renamed or removed before: a crash just before it
    /// may lose any of these (docs/RECOVERY.md, M3). Whatever it fails with is no refusal: it may have
    /// lost names that others count on.
    pub(crate) fn sync(&self) -> Result<()> {
        let failed = |source| Error::io("sync", &*self.path, source).with_unknown_outcome();
        self.door.sync().map_err(failed)
    }

    /// Copies a file of `length` bytes into another directory, as [`Self::copy_open`].
    #[cfg(feature = "tools")]
    pub(crate) fn copy_to(
        &self,
        to: &Self,
        name: &str,
        length: u64,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        self.copy_open(&*self.open(name, Access::Read)?, to, name, (length, length), progress)
    }

    /// Copies the first `used` bytes of an open file, whatever has become of its name, into a new one
    /// of `length` in another directory; the rest of it is zero. Its bytes are durable on return, its
    /// name after a sync of that directory. `progress` is told of the bytes of each step.
    pub(crate) fn copy_open(
        &self,
        from: &dyn File,
        to: &Self,
        name: &str,
        (length, used): (u64, u64),
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        to.make(name, (length, length > 0), |file, temporary| {
            let mut buffer = vec![0; COPY_BYTES];
            let mut at = 0;
            while at < used {
                let piece = to_usize(used - at).min(COPY_BYTES);
                let (piece, _) = buffer.split_at_mut(piece);
                from.read_at(at, piece)
                    .map_err(|source| Error::io("read", self.join(name), source))?;
                file.write_at(at, piece)
                    .map_err(|source| to.full_or_io("write", temporary, length, source))?;
                at += to_u64(piece.len());
                progress(to_u64(piece.len()));
            }
            Ok(())
        })
    }

    /// Makes a file of zeros, with its space reserved or without, has it written under its temporary
    /// name, and gives it its own, in the place of what had it. Its bytes are durable on return, its
    /// name after a sync of the directory.
    pub(crate) fn make(
        &self,
        name: &str,
        (length, allocate): (u64, bool),
        write: impl FnOnce(&dyn File, &str) -> Result<()>,
    ) -> Result<()> {
        let (temporary, file) = self.create(length, allocate)?;
        let make = || {
            write(&*file, &temporary)?;
            // Makes the bytes durable before the name says that they are there. A crash before this
            // leaves a temporary file.
            file.sync(0..length, SyncMethod::Fsync)
                .map_err(|source| self.full_or_io("sync", &temporary, length, source))?;
            self.rename(&temporary, name)
        };
        make().inspect_err(|_| {
            // What is left of it is junk that an open removes as well.
            let _best_effort = self.remove(&temporary);
        })
    }

    /// Tells a full disk, which can be tried again, from every other failure, which cannot.
    pub(crate) fn full_or_io(
        &self,
        op: &'static str,
        name: &str,
        needed: u64,
        source: io::Error,
    ) -> Error {
        if is_full(&source) {
            Error::DiskFull { path: self.path.to_path_buf(), needed }
        } else {
            Error::io(op, self.join(name), source)
        }
    }
}

/// Whether an error means that there is no space, or no quota, left.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
