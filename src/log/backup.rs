//! A consistent copy of a live log.
//!
//! Owns: what is copied, linked and left out, and in which order. Does not own: the check of the
//! copy (`inspect::verify`).
//!
//! Steps: (1) a checkpoint of the log, (2) take stock under the writer's lock, (3) give sealed
//! segments and side files a second name in the new directory, or copy them where that cannot be,
//! and copy the tail up to where it was in (2), (4) write the metadata file, marked as closed,
//! (5) verify. The commit point is (4): a crash before it leaves a directory that opens as
//! `Damaged`, because there are segments without metadata; it is to be thrown away.
//!
//! From (2) to (4) no file of the log is removed or used again. A file with two names is never
//! written again by either log: segments in use only grow at the tail, which is copied, and the
//! door refuses to hand out a file for writing that has another name.

use std::path::Path;
use std::sync::Arc;

use super::Log;
use super::shared::Shared;
use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::format::{CellValue, Checkpoint, SegmentName};
use crate::identity::Uuid;
use crate::inspect::{Finding, verify_in};
use crate::io::os::OsDirectory;
use crate::io::{Access, Directory};
use crate::metadata::Metadata;
use crate::options::SyncMethod;
use crate::recovery::observe::Files;

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backup {
    /// Identity of the log, and of its copy.
    pub uuid: Uuid,
    /// Index of the first entry.
    pub first: u64,
    /// Exclusive end of the entries.
    pub next: u64,
    /// The last batch in it.
    pub sequence: u64,
    /// Files that share their bytes with those of the log.
    pub linked: u64,
    /// Files that were copied.
    pub copied: u64,
    /// Bytes that were copied.
    pub bytes_copied: u64,
    /// Entries that were read back from the copy.
    pub entries_verified: u64,
}

impl Log {
    /// Makes a copy of the log in a directory that holds none, which is created if need be. It is
    /// the log as of one batch, with the same identity, as if it had been closed then; it is
    /// durable and verified on return. Writers go on meanwhile.
    ///
    /// Sealed segments and side files are hard links where the file system allows. A copy is of
    /// the past: a node that is started from it has forgotten what it promised since
    /// (docs/OPERATIONS.md).
    ///
    /// # Errors
    /// [`Error::AlreadyExists`], [`Error::DiskFull`], [`Error::Io`]; [`Error::Damaged`] if the copy,
    /// and so perhaps the log, has unreadable entries; [`Error::Poisoned`], [`Error::Closed`].
    pub fn backup(&self, to: impl AsRef<Path>) -> Result<Backup> {
        let to = to.as_ref();
        let door =
            OsDirectory::create(to).map_err(|source| Error::io("create directory", to, source))?;
        let door = Arc::new(door);
        let links =
            Links { from: OsDirectory::open(self.path()).ok(), to: Some(Arc::clone(&door)) };
        self.shared().backup(&Dir::new(door, to), &links)
    }

    /// Makes a copy behind any I/O door; every file is copied.
    ///
    /// # Errors
    /// As [`Self::backup`].
    pub fn backup_in(&self, to: Arc<dyn Directory>) -> Result<Backup> {
        self.shared().backup(&Dir::new(to, ""), &Links { from: None, to: None })
    }
}

/// Both directories, where files can be given a second name.
#[derive(Debug)]
struct Links {
    from: Option<OsDirectory>,
    to: Option<Arc<OsDirectory>>,
}

impl Links {
    fn link(&self, name: &str) -> bool {
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => from.link(name, to).is_ok(),
            _ => false,
        }
    }
}

/// The log at one moment.
struct Stock {
    checkpoint: Checkpoint,
    tail: SegmentName,
}

impl Shared {
    fn backup(&self, to: &Dir, links: &Links) -> Result<Backup> {
        self.usable()?;
        let _lock = to.lock()?;
        if Files::list(to)?.any() {
            return Err(Error::AlreadyExists { path: to.path().to_path_buf() });
        }
        // Makes durable what is there, and lets go of what is not needed any more.
        self.checkpoint(false, 0)?;
        let copied = self.copy(to, links);
        if copied.is_err() {
            self.fail_callbacks();
        }
        let mut backup = copied?;
        let seen = verify_in(to.shared_door(), &mut |_| ())?;
        let lost = |finding: &&Finding| finding.meaning.is_loss();
        if let Some(finding) = seen.findings.iter().find(lost) {
            return Err(finding.error.clone().within(to.path()));
        }
        backup.entries_verified = seen.entries;
        Ok(backup)
    }

    /// Everything but the check of the copy.
    fn copy(&self, to: &Dir, links: &Links) -> Result<Backup> {
        let _nothing_goes = self.settling.lock();
        let stock = self.take_stock()?;
        let (linked, copied, bytes, made) = (0, 0, 0, Vec::new());
        let mut copy = Copy { from: &self.dir, to, links, linked, copied, bytes, made };
        let copying = copy.segments(&stock).and_then(|()| copy.side_files(&stock.checkpoint));
        if let Err(error) = copying {
            copy.undo();
            return Err(error);
        }
        // Makes the names durable before the metadata file says that they are there.
        to.sync()?;
        let Copy { linked, copied, bytes, .. } = copy;
        let Checkpoint { first, next, sequence, .. } = stock.checkpoint;
        Metadata::create(to, stock.checkpoint, SyncMethod::Fdatasync)?;
        let (uuid, bytes_copied, entries_verified) = (self.uuid, bytes, 0);
        Ok(Backup { uuid, first, next, sequence, linked, copied, bytes_copied, entries_verified })
    }

    /// Everything written so far, be it durable or not: the copy is.
    fn take_stock(&self) -> Result<Stock> {
        let mut writer = self.writer.lock();
        self.usable()?;
        // On a failure frames are gone that others count on.
        self.flush(&mut writer).map_err(|error| self.poisoned_by(error))?;
        // Named as a checkpoint would name them; with too many gaps that includes dead ones, whose
        // files are there.
        let (runs, _) = self.view.read().runs(&mut writer.dead.clone());
        let state = &writer.state;
        let mut cells = (*state.cells).clone();
        writer.lazy.merge_into(&mut cells);
        let position = writer.tail.position();
        let checkpoint = Checkpoint {
            uuid: *self.uuid.as_bytes(),
            generation: 0,
            sequence: writer.sequence,
            first: state.first,
            next: state.next,
            tail_number: writer.tail.segment.name.number,
            tail_generation: writer.tail.salt.generation(),
            tail_offset: position,
            reach: position,
            segment_bytes: self.segment_bytes,
            clean: true,
            creating: false,
            holes: state.holes,
            runs,
            cells,
        };
        Ok(Stock { checkpoint, tail: writer.tail.segment.name })
    }
}

/// The work of copying.
struct Copy<'a> {
    from: &'a Dir,
    to: &'a Dir,
    links: &'a Links,
    linked: u64,
    copied: u64,
    bytes: u64,
    /// The files made so far.
    made: Vec<String>,
}

impl Copy<'_> {
    /// Removes what was made, so that another attempt finds the directory as this one did.
    fn undo(&self) {
        for name in &self.made {
            // What cannot be removed makes the next attempt answer that something is there.
            let _best_effort = self.to.remove(name);
        }
    }

    fn segments(&mut self, stock: &Stock) -> Result<()> {
        let checkpoint = &stock.checkpoint;
        let named = |number: u64| {
            checkpoint.runs.iter().any(|(first, last)| (*first..=*last).contains(&number))
        };
        let length = checkpoint.segment_bytes;
        for (name, _) in Files::list(self.from)?.segments.values().flatten() {
            if *name == stock.tail {
                self.copy(&name.to_string(), length, checkpoint.tail_offset)?;
            } else if named(name.number) {
                self.link_or_copy(&name.to_string(), length)?;
            }
        }
        Ok(())
    }

    fn side_files(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        for value in checkpoint.cells.values() {
            if let CellValue::SideFile(file) = value {
                self.link_or_copy(&file.file_name(), file.length)?;
            }
        }
        Ok(())
    }

    fn link_or_copy(&mut self, name: &str, length: u64) -> Result<()> {
        if !self.links.link(name) {
            return self.copy(name, length, length);
        }
        self.made.push(name.to_owned());
        // Makes the bytes durable that the log wrote since its own last sync.
        self.to
            .open(name, Access::Read)?
            .sync(0..length, SyncMethod::Fdatasync)
            .map_err(|source| Error::io("sync", self.to.join(name), source))?;
        self.linked += 1;
        Ok(())
    }

    /// Copies the first `used` bytes into a file of `length`; the rest of it is zero.
    fn copy(&mut self, name: &str, length: u64, used: u64) -> Result<()> {
        self.from.copy_to(self.to, name, length, used)?;
        self.made.push(name.to_owned());
        self.copied += 1;
        self.bytes += used;
        Ok(())
    }
}
