//! A consistent copy of a live log.
//!
//! Owns: what is copied, linked and left out, and in which order. Does not own: the check of the
//! copy (`inspect::verify`).
//!
//! Steps: (1) a checkpoint of the log, (2) take stock under the writer's lock, (3) give segments
//! that can never be the tail again and side files a second name in the new directory, and open
//! what cannot have one, (4) copy what was opened, the tail up to where it was in (2), (5) write the
//! metadata file, marked as closed, (6) verify. The commit point is (5): a crash before it leaves a
//! directory that opens as `Damaged`, because there are segments without metadata; it is to be thrown
//! away.
//!
//! From (2) to (3) no file of the log is removed or used again; what was opened keeps its bytes
//! until (4) is done, because the segment is held. A file with two names is never written again by
//! either log: segments in use only grow at the tail, which is copied; recovery goes on in no segment
//! before the tail of the last checkpoint, and those from there on are copied; and the door refuses
//! to hand out a file for writing that has another name.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Log;
use super::shared::Shared;
use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::format::number::to_u64;
use crate::format::{CellValue, Checkpoint};
use crate::identity::Uuid;
use crate::inspect::{Finding, verify_in};
use crate::io::os::OsDirectory;
use crate::io::{Access, Directory, File};
use crate::metadata::Metadata;
use crate::options::SyncMethod;
use crate::recovery::observe::Files;
use crate::segment::Segment;

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
    /// durable and verified on return. Writers go on meanwhile; the files they drop are kept until
    /// they are copied. (Only where more than 256 files have to be copied because they cannot be
    /// links, a writer that begins a segment or needs a checkpoint waits for those beyond.)
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

/// Files that are copied behind the backs of writers; more of them are copied while those wait that
/// need a checkpoint. Each takes a descriptor.
const OPEN_FILES_MAX: usize = 256;

/// The log at one moment.
struct Stock {
    checkpoint: Checkpoint,
    /// Its segments, the tail last. As long as they are held here no file of theirs is used again.
    segments: Vec<Arc<Segment>>,
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
            self.call_back();
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
        let (opened, made) = (Vec::new(), Vec::new());
        let (linked, copied, bytes) = (Vec::new(), 0, 0);
        let mut copy = Copy { from: &self.dir, to, links, opened, linked, copied, bytes, made };
        let stock = self.fill(&mut copy).inspect_err(|_| copy.undo())?;
        let Copy { linked, copied, bytes, .. } = copy;
        let Checkpoint { first, next, sequence, .. } = stock.checkpoint;
        Metadata::create(to, stock.checkpoint, SyncMethod::Fdatasync)?;
        let (uuid, linked, bytes_copied) = (self.uuid, to_u64(linked.len()), bytes);
        let entries_verified = 0;
        Ok(Backup { uuid, first, next, sequence, linked, copied, bytes_copied, entries_verified })
    }

    /// Every file but the one that says what they are.
    fn fill(&self, copy: &mut Copy<'_>) -> Result<Stock> {
        let stock = {
            let _nothing_goes = self.settling.lock();
            // Before the stock: a later checkpoint only names a later one.
            let tail = self.metadata.lock().file.tail_number();
            let stock = self.take_stock()?;
            copy.segments(&stock, tail)?;
            copy.side_files(&stock.checkpoint)?;
            stock
        };
        copy.finish()?;
        if self.closed.load(Ordering::Acquire) {
            // Another process may have used again what was copied here.
            return Err(Error::Closed);
        }
        // Makes the names durable before the metadata file says that they are there.
        copy.to.sync()?;
        Ok(stock)
    }

    /// Everything written so far, be it durable or not: the copy is.
    fn take_stock(&self) -> Result<Stock> {
        let mut writer = self.writer();
        self.usable()?;
        // On a failure frames are gone that others count on.
        self.flush(&mut writer).map_err(|error| self.poisoned_by(error))?;
        // Named as a checkpoint would name them; with too many gaps that includes dead ones, whose
        // files are there.
        let view = self.view.read();
        let (runs, mut segments) = view.runs(&mut writer.dead.clone());
        segments.extend(view.segments().cloned());
        drop(view);
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
            last_frame: writer.tail.last_frame(),
            segment_bytes: self.segment_bytes,
            clean: true,
            creating: false,
            holes: state.holes,
            runs,
            cells,
        };
        Ok(Stock { checkpoint, segments })
    }
}

/// The work of copying.
struct Copy<'a> {
    from: &'a Dir,
    to: &'a Dir,
    links: &'a Links,
    /// What is to be copied, open.
    opened: Vec<Source>,
    /// The files that have a second name now, with their lengths.
    linked: Vec<(String, u64)>,
    copied: u64,
    bytes: u64,
    /// The files made so far.
    made: Vec<String>,
}

/// A file to be copied: the first `used` bytes into one of `length`; the rest of it is zero.
struct Source {
    name: String,
    file: Arc<dyn File>,
    length: u64,
    used: u64,
}

impl Copy<'_> {
    /// Removes what was made, so that another attempt finds the directory as this one did.
    fn undo(&self) {
        for name in &self.made {
            // What cannot be removed makes the next attempt answer that something is there.
            let _best_effort = self.to.remove(name);
        }
    }

    /// Links or opens the segments. In those before `tail` no log goes on, whatever crashes.
    fn segments(&mut self, stock: &Stock, tail: u64) -> Result<()> {
        let Checkpoint { tail_number, tail_offset, segment_bytes: length, .. } = stock.checkpoint;
        for segment in &stock.segments {
            let number = segment.name.number;
            let used = if number == tail_number { tail_offset } else { length };
            self.take(segment.name.to_string(), length, used, number < tail)?;
        }
        Ok(())
    }

    fn side_files(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let mut names = BTreeSet::new();
        for value in checkpoint.cells.values() {
            if let CellValue::SideFile(file) = value
                && names.insert(file.id)
            {
                self.take(file.file_name(), file.length, file.length, true)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, name: String, length: u64, used: u64, may_link: bool) -> Result<()> {
        if may_link && self.links.link(&name) {
            self.made.push(name.clone());
            self.linked.push((name, length));
            return Ok(());
        }
        let file = self.from.open(&name, Access::Read)?;
        let source = Source { name, file, length, used };
        if self.opened.len() >= OPEN_FILES_MAX {
            return self.copy(&source);
        }
        self.opened.push(source);
        Ok(())
    }

    /// Copies what was opened, and makes everything durable but the names.
    fn finish(&mut self) -> Result<()> {
        for source in std::mem::take(&mut self.opened) {
            self.copy(&source)?;
        }
        for (name, length) in &self.linked {
            // Makes the bytes durable that the log wrote since its own last sync.
            self.to
                .open(name, Access::Read)?
                .sync(0..*length, SyncMethod::Fdatasync)
                .map_err(|source| Error::io("sync", self.to.join(name), source))?;
        }
        Ok(())
    }

    fn copy(&mut self, source: &Source) -> Result<()> {
        let Source { name, file, length, used } = source;
        self.from.copy_open(&**file, self.to, name, *length, *used)?;
        self.made.push(name.clone());
        self.copied += 1;
        self.bytes += used;
        Ok(())
    }
}
