//! A consistent copy of a live log.
//!
//! Owns: what is copied, linked and left out, and in which order. Does not own: the check of the
//! copy (`inspect::verify`).
//!
//! Steps: (1) a checkpoint of the log, (2) take stock under the writer's lock, (3) give segments
//! that can never be the tail again and side files a second name in the new directory, and open
//! what cannot have one, (4) copy what was opened, the tail up to where it was in (2), (5) write the
//! metadata file, marked as closed, under a temporary name, (6) verify, (7) name it. The commit point
//! is (7): a failure before it removes what was made, a crash leaves a directory that opens as
//! `Damaged`, because there are segments without metadata; it is to be thrown away. So nothing that
//! opens was not verified.
//!
//! From (2) to (3) no file of the log is removed or used again; what was opened keeps its bytes
//! until (4) is done, because the segment is held. A file with two names is never written again by
//! either log: segments in use only grow at the tail, which is copied; recovery goes on in no segment
//! before the tail of the last checkpoint, and those from there on are copied; and the door refuses
//! to hand out a file for writing that has another name.

#[cfg(feature = "tools")]
mod stopped;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Log;
use super::shared::Shared;
use crate::directory::Dir;
use crate::directory::identity::Uuid;
use crate::error::{Error, Result};
use crate::format::names::METADATA;
use crate::format::number::to_u64;
use crate::format::{CellValue, Checkpoint, SideFileRef};
use crate::inspect::verify::verify_dir;
use crate::inspect::{Progress, Verification};
use crate::io::os::OsDirectory;
use crate::io::os::apart::refuse_within;
use crate::io::{Access, Directory, DirectoryEntry, File, Lock, LockRefused};
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
    /// [`Error::InvalidArgument`] if `to` is inside the directory of the log;
    /// [`Error::AlreadyExists`], [`Error::DiskFull`], [`Error::Io`]; [`Error::Damaged`] if the copy,
    /// and so perhaps the log, has unreadable entries; [`Error::Poisoned`], [`Error::Closed`].
    pub fn backup(&self, to: impl AsRef<Path>) -> Result<Backup> {
        let to = to.as_ref();
        let door = directory_for_copy(self.path(), to)?;
        let links =
            Links { from: OsDirectory::open(self.path()).ok(), to: Some(Arc::clone(&door)) };
        self.shared().backup(&Dir::new(door, to), &links)
    }

    /// As [`Self::backup`], with a copy of every file: nothing is shared with the log, at the price
    /// of the space and the time.
    ///
    /// # Errors
    /// As [`Self::backup`].
    pub fn backup_unlinked(&self, to: impl AsRef<Path>) -> Result<Backup> {
        let to = to.as_ref();
        let door = directory_for_copy(self.path(), to)?;
        self.shared().backup(&Dir::new(door, to), &Links { from: None, to: None })
    }
}

/// The directory of a copy, which is made if it is missing.
fn directory_for_copy(log: &Path, to: &Path) -> Result<Arc<OsDirectory>> {
    refuse_within(log, to)?;
    Ok(Arc::new(OsDirectory::create(to)?))
}

/// Both directories, where files can be given a second name.
#[derive(Debug)]
pub(super) struct Links {
    pub(super) from: Option<OsDirectory>,
    pub(super) to: Option<Arc<OsDirectory>>,
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
struct Frozen {
    checkpoint: Checkpoint,
    /// Its segments, the tail last. As long as they are held here no file of theirs is used again.
    segments: Vec<Arc<Segment>>,
}

impl Shared {
    pub(super) fn backup(&self, to: &Dir, links: &Links) -> Result<Backup> {
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
        copied
    }

    fn copy(&self, to: &Dir, links: &Links) -> Result<Backup> {
        let mut progress = |_| ();
        let mut copy = Copy::new(&self.dir, to, links, &mut progress);
        let frozen = self.fill(&mut copy).inspect_err(|_| copy.undo())?;
        let Checkpoint { first, next, sequence, .. } = frozen.checkpoint;
        let checked = slots_of(frozen.checkpoint)
            .and_then(|slots| copy.conclude(&slots))
            .inspect_err(|_| copy.undo())?;
        Ok(copy.report(self.uuid, first..next, sequence, &checked))
    }

    /// Every file but the one that says what they are.
    fn fill(&self, copy: &mut Copy<'_>) -> Result<Frozen> {
        let frozen = {
            let _nothing_goes = self.syncer.nothing_goes();
            // Before that moment: a later checkpoint only names a later one.
            let tail = self.syncer.tail_number();
            let frozen = self.freeze()?;
            copy.segments(&frozen, tail)?;
            copy.side_files(&frozen.checkpoint.cells)?;
            frozen
        };
        copy.finish()?;
        if self.closed.load(Ordering::Acquire) {
            // Another process may have used again what was copied here.
            return Err(Error::Closed);
        }
        // Makes the names durable before the metadata file says that they are there.
        copy.to.sync()?;
        Ok(frozen)
    }

    /// Everything written so far, be it durable or not: the copy is.
    fn freeze(&self) -> Result<Frozen> {
        let mut writer = self.writer();
        self.usable()?;
        let (checkpoint, segments) = self.stock_for_a_copy(&mut writer)?;
        Ok(Frozen { checkpoint, segments })
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
    /// How many of them are known to be durable.
    synced: usize,
    copied: u64,
    bytes: u64,
    /// The files made so far.
    made: Vec<String>,
    progress: &'a mut dyn FnMut(Progress),
    /// Bytes linked and copied, and read back.
    so_far: Progress,
}

/// A file to be copied: the first `used` bytes into one of `length`; the rest of it is zero.
struct Source {
    name: String,
    file: Arc<dyn File>,
    length: u64,
    used: u64,
}

/// Both slots with one checkpoint, as a metadata file has them.
fn slots_of(mut checkpoint: Checkpoint) -> Result<Vec<u8>> {
    let mut slots = Vec::new();
    // An even generation is in the first slot.
    for generation in [2, 1] {
        checkpoint.generation = generation;
        slots.extend_from_slice(&*checkpoint.encode()?);
    }
    Ok(slots)
}

/// The side files that cells refer to, each once.
fn side_files_of(cells: &BTreeMap<String, CellValue>) -> impl Iterator<Item = &SideFileRef> {
    let mut ids = BTreeSet::new();
    let files = cells.values().filter_map(|value| match value {
        CellValue::SideFile(file) => Some(file),
        CellValue::Inline(_) => None,
    });
    files.filter(move |file| ids.insert(file.id))
}

/// A directory whose metadata file has a temporary name yet, for whoever only looks.
#[derive(Debug)]
struct Unnamed {
    door: Arc<dyn Directory>,
    metadata: String,
}

impl Directory for Unnamed {
    fn list(&self) -> io::Result<Vec<DirectoryEntry>> {
        let mut list = self.door.list()?;
        for entry in &mut list {
            if entry.name == self.metadata {
                METADATA.clone_into(&mut entry.name);
            }
        }
        Ok(list)
    }

    fn lock(&self) -> std::result::Result<Box<dyn Lock>, LockRefused> {
        Err(LockRefused::Io(io::ErrorKind::PermissionDenied.into()))
    }

    fn create(&self, _: u64, _: bool) -> io::Result<(String, Arc<dyn File>)> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        self.door.open(if name == METADATA { &self.metadata } else { name }, access)
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn sync(&self) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn random(&self) -> u64 {
        self.door.random()
    }
}

impl<'a> Copy<'a> {
    fn new(
        from: &'a Dir,
        to: &'a Dir,
        links: &'a Links,
        progress: &'a mut dyn FnMut(Progress),
    ) -> Self {
        let (opened, made, linked) = (Vec::new(), Vec::new(), Vec::new());
        let (synced, copied, bytes, so_far) = (0, 0, 0, Progress::new(0, 0));
        Self { from, to, links, opened, linked, synced, copied, bytes, made, progress, so_far }
    }

    /// Writes the metadata file, reads the whole copy back, and only then lets it pass for a log.
    fn conclude(&mut self, slots: &[u8]) -> Result<Verification> {
        let length = to_u64(slots.len());
        let (temporary, file) = self.to.create(length, true)?;
        self.made.push(temporary.clone());
        let failed = |op| {
            let (to, name) = (self.to, temporary.clone());
            move |source| to.full_or_io(op, &name, length, source)
        };
        file.write_at(0, slots).map_err(failed("write"))?;
        // Makes it durable before it gets its name. A crash before that leaves no log there.
        file.sync(0..length, SyncMethod::Fsync).map_err(failed("sync"))?;
        let (door, metadata) = (self.to.shared_door(), temporary.clone());
        let (before, progress) = (self.so_far.done, &mut self.progress);
        let copy = Dir::read_only(Arc::new(Unnamed { door, metadata }), self.to.path());
        let seen = verify_dir(&copy, None, &mut |it| {
            let all = |bytes: u64| before.saturating_add(bytes);
            progress(Progress::new(all(it.done), all(it.total)));
        })?;
        let lost = |seen: &Verification| {
            seen.findings.iter().find(|finding| finding.meaning.is_loss()).cloned()
        };
        if let Some(finding) = lost(&seen) {
            // The copy is no better than the log: say which file is to be looked at.
            let source = Dir::read_only(self.from.shared_door(), self.from.path());
            let source = verify_dir(&source, None, &mut |_| ());
            return Err(source.ok().as_ref().and_then(lost).unwrap_or(finding).error);
        }
        self.to.rename(&temporary, METADATA)?;
        self.made.push(METADATA.to_owned());
        // Makes the name durable: the commit point.
        self.to.sync()?;
        Ok(seen)
    }

    fn report(
        self,
        uuid: Uuid,
        entries: Range<u64>,
        sequence: u64,
        checked: &Verification,
    ) -> Backup {
        Backup {
            uuid,
            first: entries.start,
            next: entries.end,
            sequence,
            linked: to_u64(self.linked.len()),
            copied: self.copied,
            bytes_copied: self.bytes,
            entries_verified: checked.entries,
        }
    }

    /// Removes what was made, so that another attempt finds the directory as this one did.
    fn undo(&self) {
        for name in &self.made {
            // What cannot be removed makes the next attempt answer that something is there.
            let _best_effort = self.to.remove(name);
        }
    }

    /// Links or opens the segments. In those before `tail` no log goes on, whatever crashes.
    fn segments(&mut self, frozen: &Frozen, tail: u64) -> Result<()> {
        let Checkpoint { tail_number, tail_offset, segment_bytes: length, .. } = frozen.checkpoint;
        for segment in &frozen.segments {
            let number = segment.name.number;
            let used = if number == tail_number { tail_offset } else { length };
            self.take(segment.name.to_string(), length, used, number < tail)?;
        }
        Ok(())
    }

    fn side_files(&mut self, cells: &BTreeMap<String, CellValue>) -> Result<()> {
        for file in side_files_of(cells) {
            self.take(file.file_name(), file.length, file.length, true)?;
        }
        Ok(())
    }

    fn take(&mut self, name: String, length: u64, used: u64, may_link: bool) -> Result<()> {
        if may_link && self.links.link(&name) {
            self.made.push(name.clone());
            self.linked.push((name, length));
            self.note(length);
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
        for (name, length) in self.linked.iter().skip(self.synced) {
            // Makes the bytes durable that the log wrote since its own last sync.
            self.to
                .open(name, Access::Read)?
                .sync(0..*length, SyncMethod::Fdatasync)
                .map_err(|source| Error::io("sync", self.to.join(name), source))?;
        }
        self.synced = self.linked.len();
        Ok(())
    }

    fn copy(&mut self, source: &Source) -> Result<()> {
        let Source { name, file, length, used } = source;
        let (from, to, lengths) = (self.from, self.to, (*length, *used));
        from.copy_open(&**file, to, name, lengths, &mut |bytes| self.note(bytes))?;
        self.made.push(name.clone());
        self.copied += 1;
        self.bytes += used;
        Ok(())
    }

    /// So many bytes more are linked or copied.
    fn note(&mut self, bytes: u64) {
        self.so_far.done = self.so_far.done.saturating_add(bytes);
        (self.progress)(self.so_far);
    }
}
