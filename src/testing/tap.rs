//! A door in front of a simulated disk that lets somebody look before each call that changes it, and
//! after each sync.
//!
//! Owns: the moment. Does not own: what is done in it. A look may crash copies of the disk, or call
//! the very log that is making the call, as another thread could at that moment.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::io::sim::{Op, SimDisk};
use crate::io::{Access, Directory, DirectoryEntry, File, Lock, LockRefused, Region, Way};
use crate::options::SyncMethod;

/// Sees the disk before each call that changes it, and which kind of call it is.
pub type Look = Arc<dyn Fn(&SimDisk, Op) + Send + Sync>;

/// Sees how a sync of a file or of the directory ended, before its caller does.
pub type Ended = Arc<dyn Fn(&SimDisk, Op, &io::Result<()>) + Send + Sync>;

/// The door.
#[derive(Clone)]
pub struct Tap {
    disk: SimDisk,
    look: Look,
    ended: Option<Ended>,
}

impl Tap {
    /// A door to `disk`; `look` is called before each call through it that changes the disk.
    pub fn new(disk: &SimDisk, look: Look) -> Self {
        Self { disk: disk.clone(), look, ended: None }
    }

    /// The same door; `ended` is called after each sync through it as well, and its caller waits.
    #[must_use]
    pub fn after_syncs(self, ended: Ended) -> Self {
        Self { ended: Some(ended), ..self }
    }

    fn look(&self, op: Op) {
        (self.look)(&self.disk, op);
    }

    fn ended(&self, op: Op, synced: io::Result<()>) -> io::Result<()> {
        if let Some(ended) = &self.ended {
            ended(&self.disk, op, &synced);
        }
        synced
    }

    fn file(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(TapFile { tap: self.clone(), file })
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap").finish_non_exhaustive()
    }
}

impl Directory for Tap {
    fn list(&self) -> io::Result<Vec<DirectoryEntry>> {
        self.disk.list()
    }

    fn lock(&self) -> Result<Box<dyn Lock>, LockRefused> {
        self.disk.lock()
    }

    fn create(&self, bytes: u64, allocate: bool) -> io::Result<(String, Arc<dyn File>)> {
        self.look(Op::Create);
        let (name, file) = self.disk.create(bytes, allocate)?;
        Ok((name, self.file(file)))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        if matches!(access, Access::Distrust { .. }) {
            self.look(Op::Open);
        }
        Ok(self.file(self.disk.open(name, access)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.look(Op::Rename);
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.look(Op::Remove);
        self.disk.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.look(Op::SyncDirectory);
        self.ended(Op::SyncDirectory, Directory::sync(&self.disk))
    }

    fn random(&self) -> u64 {
        self.disk.random()
    }

    fn takes_direct(&self) -> bool {
        self.disk.takes_direct()
    }
}

#[derive(Debug)]
struct TapFile {
    tap: Tap,
    file: Arc<dyn File>,
}

impl File for TapFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.tap.look(Op::Write);
        self.file.write_at(offset, bytes)
    }

    fn write_by(&self, way: Way, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if !bytes.is_empty() {
            self.tap.look(Op::Write);
        }
        self.file.write_by(way, offset, bytes)
    }

    fn sync(&self, range: Range<u64>, method: SyncMethod) -> io::Result<()> {
        self.tap.look(Op::Sync);
        self.tap.ended(Op::Sync, self.file.sync(range, method))
    }

    fn map(&self, bytes: u64, write: bool) -> io::Result<Region> {
        self.file.map(bytes, write)
    }
}
