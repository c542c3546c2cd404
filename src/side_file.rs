//! Side files: snapshots and other values too large for a state cell.
//!
//! Owns: streaming them in and out, their checksum, their durability before anything refers to
//! them. Does not own: the reference, which is a frame (`Batch::attach`) and thus atomic with the
//! rest of its batch.

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::dir::Dir;
use crate::error::{Damage, Error, Result};
use crate::format::SideFileRef;
use crate::io::{Access, File};
use crate::options::SyncMethod;
use crate::planted::{Bug, planted};

/// Bytes gathered before they are handed to the file.
const BUFFER_BYTES: usize = 64 * 1024;

/// A finished side file: durable under its own name, kept only while a state cell refers to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SideFile(pub(crate) SideFileRef);

impl SideFile {
    /// Its length in bytes.
    pub const fn bytes(&self) -> u64 {
        self.0.length
    }

    /// Its file name inside the directory of the log.
    pub fn file_name(&self) -> String {
        self.0.file_name()
    }
}

/// The side files that may be attached: finished in this life, or referred to when it began.
pub(crate) type KnownSideFiles = Arc<Mutex<HashSet<u64>>>;

/// What a writer tells of a failure that concerns more than its own file.
pub(crate) trait Poison: std::fmt::Debug + Send + Sync {
    /// Takes note of a failure after which nothing that was written can be trusted.
    fn poison(&self, error: Error) -> Error;
}

/// Takes the bytes of a side file as they come. Dropped unfinished, it leaves nothing behind.
#[derive(Debug)]
pub struct SideFileWriter {
    dir: Dir,
    known: KnownSideFiles,
    log: Weak<dyn Poison>,
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
        known: &KnownSideFiles,
        log: Weak<dyn Poison>,
        sync_method: SyncMethod,
    ) -> Result<Self> {
        let (temporary, file) = dir.create(0, false)?;
        Ok(Self {
            dir: dir.clone(),
            known: Arc::clone(known),
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
    /// [`Error::DiskFull`] or [`Error::Io`]; the file is gone then, and the log is as it was. If it
    /// was the directory that could not be synced, the log is poisoned: names of its own may be lost.
    pub fn finish(mut self) -> Result<SideFile> {
        let length = self.written + self.buffer.len() as u64;
        self.flush().map_err(|source| self.failed("write", source))?;
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
        let temporary = self.temporary.clone().unwrap_or_default();
        self.dir.rename(&temporary, &reference.file_name())?;
        self.temporary = Some(reference.file_name());
        // Makes the name durable, so that a frame may refer to it. A crash before this loses the
        // name or leaves an orphan; nothing refers to it yet.
        if !planted(Bug::NoDirectorySyncOnSideFile) {
            self.dir.sync().map_err(|error| match self.log.upgrade() {
                Some(log) if !planted(Bug::LostNamesForgiven) => log.poison(error),
                _ => error,
            })?;
        }
        self.known.lock().insert(reference.id);
        self.temporary = None;
        Ok(SideFile(reference))
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
        self.file.write_at(self.written, &self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl Drop for SideFileWriter {
    fn drop(&mut self) {
        if let Some(name) = self.temporary.take() {
            // An unfinished file is junk that the next open removes as well.
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
    /// [`Error::Damaged`] if the bytes are not those that were written, [`Error::Io`].
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
