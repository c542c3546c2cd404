//! A disk whose syncs take long.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::SyncMethod;
use crate::io::mem::MemDirectory;
use crate::io::{Access, Directory, DirectoryEntry, File, Lock, LockRefused, Region};

/// Keeps everything in memory, and takes its time to sync a file.
#[derive(Debug)]
pub struct SlowDirectory {
    inner: MemDirectory,
    delay: Duration,
}

impl SlowDirectory {
    /// An empty directory whose files each take `delay` to sync.
    pub fn new(delay: Duration) -> Self {
        Self { inner: MemDirectory::new(), delay }
    }

    fn slow(&self, inner: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(SlowFile { inner, delay: self.delay })
    }
}

impl Directory for SlowDirectory {
    fn list(&self) -> io::Result<Vec<DirectoryEntry>> {
        self.inner.list()
    }

    fn lock(&self) -> Result<Box<dyn Lock>, LockRefused> {
        self.inner.lock()
    }

    fn create(&self, bytes: u64, allocate: bool) -> io::Result<(String, Arc<dyn File>)> {
        let (name, file) = self.inner.create(bytes, allocate)?;
        Ok((name, self.slow(file)))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        Ok(self.slow(self.inner.open(name, access)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }

    fn random(&self) -> u64 {
        self.inner.random()
    }
}

#[derive(Debug)]
struct SlowFile {
    inner: Arc<dyn File>,
    delay: Duration,
}

impl File for SlowFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.inner.write_at(offset, bytes)
    }

    fn sync(&self, range: Range<u64>, method: SyncMethod) -> io::Result<()> {
        std::thread::sleep(self.delay);
        self.inner.sync(range, method)
    }

    fn map(&self, bytes: u64, write: bool) -> io::Result<Region> {
        self.inner.map(bytes, write)
    }
}
