//! Bugs that are planted at the door: syncs, space and writes that are left out.
//!
//! Owns: which. Does not own: whether (`planted`). It stands between the engine and whatever door a log
//! was given, knows what each file is by the name that it has at the moment, and lets everything else
//! through.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::{Bug, planted};
use crate::format::names::FileName;
use crate::format::{BLOCK_BYTES, FIRST_SEGMENT};
use crate::io::{Access, Directory, DirectoryEntry, File, Lock, LockRefused, Region, Way};
use crate::options::SyncMethod;

/// A door in front of another one.
#[derive(Debug)]
pub(super) struct Sabotaged {
    door: Arc<dyn Directory>,
    names: Mutex<Names>,
    /// The newest write to a segment was refused by a full disk.
    refused: Arc<AtomicBool>,
}

/// What the files are called, and which of these names nobody synced yet.
#[derive(Debug, Default)]
struct Names {
    open: HashMap<String, Vec<Arc<Mutex<FileName>>>>,
    unsynced: Vec<FileName>,
    /// Number of the newest segment.
    newest: Arc<Mutex<u64>>,
}

impl Sabotaged {
    pub(super) fn new(door: Arc<dyn Directory>) -> Self {
        Self { door, names: Mutex::default(), refused: Arc::default() }
    }

    fn file(&self, name: &str, file: Arc<dyn File>, found: bool) -> Arc<dyn File> {
        let mut names = self.names.lock();
        let is = Arc::new(Mutex::new(FileName::classify(name)));
        names.open.entry(name.to_owned()).or_default().push(Arc::clone(&is));
        names.see(FileName::classify(name));
        let (newest, refused) = (Arc::clone(&names.newest), Arc::clone(&self.refused));
        Arc::new(SabotagedFile { file, is, found, newest, refused })
    }
}

impl Names {
    fn see(&self, name: FileName) {
        if let FileName::Segment(name) = name {
            let mut newest = self.newest.lock();
            *newest = name.number.max(*newest);
        }
    }

    /// Whether a sync of the directory is one that a bug leaves out.
    fn leaves_out(&self) -> bool {
        self.unsynced.iter().any(|name| match name {
            FileName::Segment(name) if name.number > FIRST_SEGMENT => {
                planted(Bug::NoDirectorySyncOnRoll)
            }
            FileName::Segment(_) => planted(Bug::NoDirectorySyncOnCreate),
            FileName::Side(_) => planted(Bug::NoDirectorySyncOnSideFile),
            _ => false,
        })
    }
}

impl Directory for Sabotaged {
    fn list(&self) -> io::Result<Vec<DirectoryEntry>> {
        self.door.list()
    }

    fn lock(&self) -> Result<Box<dyn Lock>, LockRefused> {
        self.door.lock()
    }

    fn create(&self, bytes: u64, allocate: bool) -> io::Result<(String, Arc<dyn File>)> {
        let (name, file) = self.door.create(bytes, allocate)?;
        let file = self.file(&name, file, false);
        Ok((name, file))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        Ok(self.file(name, self.door.open(name, access)?, true))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.door.rename(from, to)?;
        let mut names = self.names.lock();
        let is = FileName::classify(to);
        let open = names.open.remove(from).unwrap_or_default();
        for name in &open {
            *name.lock() = is;
        }
        names.open.insert(to.to_owned(), open);
        names.unsynced.push(is);
        names.see(is);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.names.lock().open.remove(name);
        self.door.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        let mut names = self.names.lock();
        let leaves_out = names.leaves_out();
        names.unsynced.clear();
        drop(names);
        if leaves_out { Ok(()) } else { self.door.sync() }
    }

    fn random(&self) -> u64 {
        self.door.random()
    }

    fn takes_direct(&self) -> bool {
        self.door.takes_direct()
    }
}

#[derive(Debug)]
struct SabotagedFile {
    file: Arc<dyn File>,
    is: Arc<Mutex<FileName>>,
    /// It was there before it was opened.
    found: bool,
    newest: Arc<Mutex<u64>>,
    refused: Arc<AtomicBool>,
}

impl SabotagedFile {
    /// Carries out a write, unless a bug leaves it out.
    fn write(&self, write: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let is = *self.is.lock();
        if matches!(is, FileName::Metadata)
            && planted(Bug::RefusalNotRecorded)
            && self.refused.load(Ordering::Acquire)
        {
            return Ok(());
        }
        let written = write();
        if matches!(is, FileName::Segment(_)) {
            let full = written.as_ref().is_err_and(crate::directory::is_full);
            self.refused.store(full, Ordering::Release);
        }
        written
    }
}

impl File for SabotagedFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write(|| self.file.write_at(offset, bytes))
    }

    fn write_by(&self, way: Way, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write(|| self.file.write_by(way, offset, bytes))
    }

    fn allocate(&self, range: Range<u64>, fill: bool) -> io::Result<()> {
        if self.found && planted(Bug::SpaceBelieved) {
            return Ok(());
        }
        self.file.allocate(range, fill)
    }

    fn sync(&self, mut range: Range<u64>, method: SyncMethod) -> io::Result<()> {
        let header = BLOCK_BYTES as u64;
        if let FileName::Segment(name) = *self.is.lock()
            && range.end > header
        {
            let old = name.number < *self.newest.lock();
            if planted(Bug::AcknowledgeBeforeSync) || old && planted(Bug::SyncNewestRangeOnly) {
                return Ok(());
            }
            if name.number > FIRST_SEGMENT && planted(Bug::HeaderNotSynced) {
                range.start = range.start.max(header);
            }
        }
        self.file.sync(range, method)
    }

    fn map(&self, bytes: u64, write: bool) -> io::Result<Region> {
        self.file.map(bytes, write)
    }
}
