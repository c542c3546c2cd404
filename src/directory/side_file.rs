//! Side files: snapshots and other values too large for a state cell.
//!
//! Owns: streaming them in and out, their checksum, their durability before anything refers to
//! them. Does not own: the reference, which is a frame (`Batch::attach`) and thus atomic with the
//! rest of its batch.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::directory::Dir;
use crate::error::{Damage, Error, Result};
use crate::format::SideFileRef;
use crate::io::{Access, File};
use crate::options::SyncMethod;
use crate::planted::{Bug, planted};
use crate::process::Process;

/// Bytes collected before they are handed to the file.
const BUFFER_BYTES: usize = 64 * 1024;

/// A finished side file: durable under its own name. It stays as long as a state cell refers to it;
/// before it is attached, as long as this or a clone of it lives.
#[derive(Clone)]
pub struct SideFile(Arc<Finished>);

/// What every clone stands for.
struct Finished {
    /// The one that made it.
    process: Process,
    reference: SideFileRef,
    /// Told of the end of the last clone; nobody is if it was made from what a cell says.
    release: Option<Release>,
}

/// Hears that nobody can attach a side file any more that no cell refers to.
type Release = Box<dyn FnOnce(SideFileRef) + Send + Sync>;

impl fmt::Debug for SideFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SideFile").field(&self.0.reference).finish()
    }
}

impl SideFile {
    pub(crate) fn new(reference: SideFileRef, files: &Arc<SideFiles>) -> Self {
        let files = Arc::clone(files);
        Self::made(reference, Some(Box::new(move |file| files.let_go(file))))
    }

    fn made(reference: SideFileRef, release: Option<Release>) -> Self {
        Self(Arc::new(Finished { process: Process::this(), reference, release }))
    }

    /// The side file that this refers to. A log takes only those that it knows, and keeps it no longer
    /// for this.
    #[cfg(any(test, feature = "tools"))]
    pub fn from_reference(reference: SideFileRef) -> Self {
        Self::made(reference, None)
    }

    /// A side file that another store than a log has finished. When the last clone of it is dropped,
    /// `release` is called, by whoever drops it and whatever is locked there: if no cell refers to the
    /// file by then, nobody can attach it any more, and the store may remove it. In a process that was
    /// forked since it is not called: the file is the parent's, and a lock may be a copy that nobody
    /// will unlock.
    #[cfg(feature = "tools")]
    pub fn with_release(
        reference: SideFileRef,
        release: impl FnOnce(SideFileRef) + Send + Sync + 'static,
    ) -> Self {
        Self::made(reference, Some(Box::new(release)))
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> u64 {
        self.0.reference.length
    }

    pub(crate) fn id(&self) -> u64 {
        self.0.reference.id
    }

    /// What cells and frames say of it.
    pub fn reference(&self) -> SideFileRef {
        self.0.reference
    }
}

impl PartialEq for SideFile {
    fn eq(&self, other: &Self) -> bool {
        self.0.reference == other.0.reference
    }
}

impl Eq for SideFile {}

impl Drop for Finished {
    fn drop(&mut self) {
        if let Some(release) = self.release.take().filter(|_| self.process.is_this()) {
            release(self.reference);
        }
    }
}

/// The side files of one log.
#[derive(Debug, Default)]
pub(crate) struct SideFiles {
    /// Those that may be attached: finished in this life, or referred to when it began; and whether a
    /// cell ever referred to each. When the last such cell lets it go it is forgotten.
    known: Mutex<HashMap<u64, bool>>,
    /// Those that no cell ever referred to and of which the last [`SideFile`] is gone: nobody can
    /// attach them any more.
    unused: Mutex<Vec<SideFileRef>>,
    any_unused: AtomicBool,
}

impl SideFiles {
    /// Of a log whose cells refer to these.
    pub(crate) fn new(attached: impl Iterator<Item = u64>) -> Self {
        Self { known: Mutex::new(attached.map(|id| (id, true)).collect()), ..Self::default() }
    }

    fn insert(&self, id: u64) {
        self.known.lock().insert(id, false);
    }

    pub(crate) fn contains(&self, id: u64) -> bool {
        self.known.lock().contains_key(&id)
    }

    /// Cells refer to these now.
    pub(crate) fn attached(&self, files: impl Iterator<Item = SideFileRef>) {
        let mut known = self.known.lock();
        for file in files {
            known.insert(file.id, true);
        }
    }

    /// From now on nothing can refer to it again. Returns whether it was known.
    pub(crate) fn forget(&self, id: u64) -> bool {
        self.known.lock().remove(&id).is_some()
    }

    fn let_go(&self, file: SideFileRef) {
        let mut known = self.known.lock();
        if known.get(&file.id) == Some(&false) && !planted(Bug::UnusedSideFileStays) {
            known.remove(&file.id);
            self.unused.lock().push(file);
            self.any_unused.store(true, Ordering::Release);
        }
    }

    /// Whether there are files to be removed.
    #[inline]
    pub(crate) fn any_unused(&self) -> bool {
        self.any_unused.load(Ordering::Acquire)
    }

    /// Takes the files to be removed.
    pub(crate) fn take_unused(&self) -> Vec<SideFileRef> {
        if !self.any_unused() {
            return Vec::new();
        }
        self.any_unused.store(false, Ordering::Release);
        std::mem::take(&mut *self.unused.lock())
    }
}

/// The log that a side file is to belong to, as far as its writer has to know it.
pub(crate) trait Owner: fmt::Debug + Send + Sync {
    /// Refuses work on a log that is closed, poisoned, or another process's.
    fn usable(&self) -> Result<()>;

    /// Does something in the directory, of which no close comes in the middle. Refused after one: the
    /// directory may be somebody else's by then.
    fn while_ours(&self, act: &mut dyn FnMut() -> Result<()>) -> Result<()>;

    /// Makes the names in its directory durable. A failure poisons it: names of its own may be lost.
    fn sync_names(&self) -> Result<()>;

    /// Calls back whoever waits and cannot be served any more. Called with no lock held.
    fn call_back(&self);
}

/// Takes the bytes of a side file as they come. Dropped unfinished, it leaves nothing behind.
#[derive(Debug)]
pub struct SideFileWriter {
    dir: Dir,
    files: Arc<SideFiles>,
    log: Weak<dyn Owner>,
    sync_method: SyncMethod,
    temporary: Option<String>,
    file: Arc<dyn File>,
    written: u64,
    buffer: Vec<u8>,
    hasher: crc32fast::Hasher,
}

impl SideFileWriter {
    pub(crate) fn new(
        dir: &Dir,
        files: &Arc<SideFiles>,
        log: Weak<dyn Owner>,
        sync_method: SyncMethod,
    ) -> Result<Self> {
        let (temporary, file) = dir.create(0, false)?;
        Ok(Self {
            dir: dir.clone(),
            files: Arc::clone(files),
            log,
            sync_method,
            temporary: Some(temporary),
            file,
            written: 0,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            hasher: crc32fast::Hasher::new(),
        })
    }

    /// Makes the file durable and gives it its name. On return it may be attached.
    ///
    /// # Errors
    ///
    /// [`Error::DiskFull`], [`Error::Exhausted`], [`Error::Io`], [`Error::Closed`], [`Error::Poisoned`]:
    /// the file is gone then, and the log is as it was. If it was the directory that could not be
    /// synced, the log is poisoned: names of its own may be lost. [`Error::Forked`].
    pub fn finish(mut self) -> Result<SideFile> {
        let log = self.log.upgrade().ok_or(Error::Closed)?;
        if !planted(Bug::FinishedAfterClose) {
            log.usable()?;
        }
        let length = self.written + self.buffer.len() as u64;
        self.hand_over().map_err(|source| self.failed("write", source))?;
        if !planted(Bug::SideFileNotSynced) {
            // Makes the contents durable. A crash before this leaves a temporary file, removed at
            // open.
            self.file
                .sync(0..length, whole_file(self.sync_method))
                .map_err(|source| self.failed("sync", source))?;
        }
        let reference = SideFileRef {
            id: self.dir.door().random(),
            length,
            crc: self.hasher.clone().finalize(),
        };
        let mut publish = || self.publish(&reference, log.as_ref());
        let after = planted(Bug::FinishedAfterClose);
        let published = if after { publish() } else { log.while_ours(&mut publish) };
        published.inspect_err(|_| log.call_back())?;
        self.files.insert(reference.id);
        self.temporary = None;
        Ok(SideFile::new(reference, &self.files))
    }

    /// Gives the file its name, durably.
    fn publish(&mut self, reference: &SideFileRef, log: &dyn Owner) -> Result<()> {
        let temporary = self.temporary.clone().unwrap_or_default();
        self.dir.rename(&temporary, &reference.file_name())?;
        self.temporary = Some(reference.file_name());
        // Makes the name durable, so that a frame may refer to it. A crash before this loses the
        // name or leaves an orphan; nothing refers to it yet.
        if planted(Bug::LostNamesForgiven) { self.dir.sync() } else { log.sync_names() }
    }

    fn hand_over(&mut self) -> io::Result<()> {
        self.file.write_at(self.written, &self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn failed(&self, op: &'static str, source: io::Error) -> Error {
        self.dir.full_or_io(op, self.temporary.as_deref().unwrap_or_default(), self.written, source)
    }
}

impl Write for SideFileWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        let room = BUFFER_BYTES.saturating_sub(self.buffer.len()).min(bytes.len());
        let (taken, _) = bytes.split_at(room);
        self.buffer.extend_from_slice(taken);
        self.hasher.update(taken);
        Ok(room)
    }

    fn flush(&mut self) -> io::Result<()> {
        let log = self.log.upgrade().ok_or(Error::Closed);
        log.and_then(|log| log.usable()).map_err(io::Error::other)?;
        self.hand_over()
    }
}

impl Drop for SideFileWriter {
    fn drop(&mut self) {
        if let Some(name) = self.temporary.take() {
            // An unfinished file is junk that the next open removes as well. In a forked child this is
            // refused: the file is the parent's.
            let _ignored = self.dir.remove(&name);
        }
    }
}

/// A side file is always synced whole; a range method has no map of it to work on.
fn whole_file(method: SyncMethod) -> SyncMethod {
    match method {
        SyncMethod::Fsync | SyncMethod::FullFsync => method,
        SyncMethod::Fdatasync | SyncMethod::Msync | SyncMethod::Dsync => SyncMethod::Fdatasync,
    }
}

/// Streams a side file out. The bytes are checked as they pass: the read that would return the end
/// of a damaged file fails with [`io::ErrorKind::InvalidData`] and our [`Error`] inside.
#[derive(Debug)]
pub struct SideFileReader {
    dir: Dir,
    file: Arc<dyn File>,
    reference: SideFileRef,
    position: u64,
    hasher: crc32fast::Hasher,
}

impl SideFileReader {
    pub(crate) fn open(dir: &Dir, reference: SideFileRef) -> Result<Self> {
        let file = dir.open(&reference.file_name(), Access::Read)?;
        let hasher = crc32fast::Hasher::new();
        Ok(Self { dir: dir.clone(), file, reference, position: 0, hasher })
    }

    /// Its length in bytes.
    pub const fn bytes(&self) -> u64 {
        self.reference.length
    }

    /// The whole rest of the file in memory, checked.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if the bytes are not those that were written, [`Error::Io`],
    /// [`Error::Forked`].
    pub fn read_all(mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(source) => Err(ours(source, |source| {
                Error::io("read", self.dir.join(&self.reference.file_name()), source)
            })),
        }
    }

    fn check_end(&self) -> io::Result<()> {
        let expected = self.hasher.clone().finalize();
        if expected == self.reference.crc || planted(Bug::SideFilesNotChecked) {
            return Ok(());
        }
        let reason = Damage::Checksum { structure: "side file", expected, got: self.reference.crc };
        let path = self.dir.join(&self.reference.file_name());
        let damaged = Error::Damaged { path, offset: 0, indexes: None, reason };
        Err(io::Error::new(io::ErrorKind::InvalidData, damaged))
    }
}

impl Read for SideFileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.dir.not_forked().map_err(io::Error::other)?;
        let left = self.reference.length - self.position;
        if left == 0 {
            self.check_end()?;
            return Ok(0);
        }
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let (buffer, _) = buffer.split_at_mut(room);
        self.file.read_at(self.position, buffer)?;
        self.hasher.update(buffer);
        self.position += room as u64;
        Ok(room)
    }
}

/// Our own error out of an [`io::Error`] that carries one.
fn ours(source: io::Error, otherwise: impl FnOnce(io::Error) -> Error) -> Error {
    match source.downcast::<Error>() {
        Ok(error) => error,
        Err(source) => otherwise(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another thread holds the lock when the process forks; in the child nobody lets it go.
    #[test]
    fn side_file_of_another_process_goes_without_a_lock() {
        let files = Arc::new(SideFiles::default());
        let mut file = SideFile::new(SideFileRef { id: 7, length: 0, crc: 0 }, &files);
        Arc::get_mut(&mut file.0).unwrap().process = Process::other();
        files.insert(7);
        let held = files.known.lock();
        let (done, is_done) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            drop(file);
            done.send(()).unwrap();
        });
        is_done.recv_timeout(std::time::Duration::from_secs(10)).unwrap();
        drop(held);
        assert!(!files.any_unused());
    }
}
