//! The door to a directory in memory: what [`crate::Log::in_memory`] uses.
//!
//! Owns: files whose contents are heap memory. Does not own: durability (there is none; every sync
//! succeeds at once) and faults (`sim` has those).
//!
//! Invariants: reads, writes and maps of one file share its bytes. A file that is mapped keeps its
//! length; what a map lends out, a write refuses to change.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::map::{Heap, Region};
use super::{Access, Directory, DirectoryEntry, File, Lock, LockRefused, check_name};
use crate::format::names;
use crate::options::SyncMethod;

/// A directory in memory. A clone is another handle to the same directory; it ends with the last.
#[derive(Debug, Clone, Default)]
pub struct MemDirectory {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    files: Mutex<BTreeMap<String, Arc<Contents>>>,
    locked: AtomicBool,
}

/// One file, whatever its name.
#[derive(Debug)]
struct Contents {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// At least `len` bytes; those past it are zeros.
    heap: Arc<Heap>,
    len: usize,
}

#[derive(Debug)]
struct MemFile {
    contents: Arc<Contents>,
    write: bool,
}

#[derive(Debug)]
struct MemLock {
    shared: Arc<Shared>,
}

impl MemDirectory {
    /// An empty directory.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Lock for MemLock {}

impl Drop for MemLock {
    fn drop(&mut self) {
        self.shared.locked.store(false, Ordering::Release);
    }
}

impl Directory for MemDirectory {
    fn list(&self) -> io::Result<Vec<DirectoryEntry>> {
        let files = self.shared.files.lock();
        Ok(files
            .iter()
            .map(|(name, file)| DirectoryEntry::new(name, file.state.lock().len as u64))
            .collect())
    }

    fn lock(&self) -> Result<Box<dyn Lock>, LockRefused> {
        if self.shared.locked.swap(true, Ordering::Acquire) {
            return Err(LockRefused::Held(Some(std::process::id())));
        }
        Ok(Box::new(MemLock { shared: Arc::clone(&self.shared) }))
    }

    fn create(&self, bytes: u64, _allocate: bool) -> io::Result<(String, Arc<dyn File>)> {
        let len = usize::try_from(bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let state = State { heap: Heap::new(len)?, len };
        let contents = Arc::new(Contents { state: Mutex::new(state) });
        let mut files = self.shared.files.lock();
        let mut name = names::temporary(self.random());
        while files.contains_key(&name) {
            name = names::temporary(self.random());
        }
        files.insert(name.clone(), Arc::clone(&contents));
        Ok((name, Arc::new(MemFile { contents, write: true })))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        check_name(name)?;
        let files = self.shared.files.lock();
        let contents = Arc::clone(files.get(name).ok_or(io::ErrorKind::NotFound)?);
        Ok(Arc::new(MemFile { contents, write: access != Access::Read }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_name(from)?;
        check_name(to)?;
        let mut files = self.shared.files.lock();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        match self.shared.files.lock().remove(name) {
            Some(_) => Ok(()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn random(&self) -> u64 {
        super::system_random()
    }
}

impl File for MemFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let state = self.contents.state.lock();
        let offset = within(offset, buffer.len(), state.len)?;
        state.heap.read(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if !self.write {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let mut state = self.contents.state.lock();
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let end = offset.checked_add(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        if end > state.heap.len() {
            state.heap = grown(&state.heap, state.len, end)?;
        }
        state.heap.write(offset, bytes)?;
        if !bytes.is_empty() {
            state.len = state.len.max(end);
        }
        Ok(())
    }

    fn sync(&self, _range: Range<u64>, _method: SyncMethod) -> io::Result<()> {
        Ok(())
    }

    fn map(&self, bytes: u64, write: bool) -> io::Result<Region> {
        if write && !self.write {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let state = self.contents.state.lock();
        let len = usize::try_from(bytes).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        within(0, len, state.len)?;
        state.heap.region(len, write)
    }
}

/// `offset` as an index, if `len` bytes from there are inside a file of `bytes` bytes.
fn within(offset: u64, len: usize, bytes: usize) -> io::Result<usize> {
    usize::try_from(offset)
        .ok()
        .filter(|offset| offset.checked_add(len).is_some_and(|end| end <= bytes))
        .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// A heap of at least `needed` bytes that starts with the first `len` bytes of `heap`. A mapped
/// file cannot have one: its maps would go on showing the old.
pub(crate) fn grown(heap: &Heap, len: usize, needed: usize) -> io::Result<Arc<Heap>> {
    if heap.is_mapped() {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "a mapped file cannot grow"));
    }
    let larger = Heap::new(needed.max(heap.len().saturating_mul(2)).max(4096))?;
    heap.with_bytes(|all| larger.write(0, all.get(..len).unwrap_or(all)))?;
    Ok(larger)
}
