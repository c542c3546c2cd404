//! The door to a directory of which nothing changes: what is written stays in memory, over what is
//! read from below.
//!
//! Owns: which of the two a name stands for. Does not own: the files themselves. Nothing is durable;
//! the lock below is neither taken nor looked at.
//!
//! A file is copied up when it is opened for writing, whole, but for stretches of zeros, which take
//! no memory.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::mem::MemDirectory;
use super::{Access, Directory, DirectoryEntry, File, Lock, LockRefused};

/// Bytes that are copied up at a time.
const COPY_BYTES: usize = 64 * 1024;

/// A directory in memory over another one.
#[derive(Debug)]
pub(crate) struct Overlay {
    below: Arc<dyn Directory>,
    above: MemDirectory,
    /// Names that are not to be looked for below any more.
    gone: Mutex<BTreeSet<String>>,
}

impl Overlay {
    pub(crate) fn new(below: Arc<dyn Directory>) -> Self {
        Self { below, above: MemDirectory::new(), gone: Mutex::new(BTreeSet::new()) }
    }

    fn is_above(&self, name: &str) -> io::Result<bool> {
        Ok(self.above.list()?.iter().any(|entry| entry.name == name))
    }

    /// Makes sure that the file of this name can be changed.
    fn copy_up(&self, name: &str) -> io::Result<()> {
        if self.is_above(name)? {
            return Ok(());
        }
        let found =
            self.list()?.into_iter().find(|entry| entry.name == name && entry.other.is_none());
        let bytes = found.ok_or(io::ErrorKind::NotFound)?.bytes;
        let from = self.below.open(name, Access::Read)?;
        let (temporary, to) = self.above.create(bytes, false)?;
        let mut buffer = vec![0; COPY_BYTES];
        let mut at = 0;
        while at < bytes {
            let length = usize::try_from(bytes - at).unwrap_or(COPY_BYTES).min(COPY_BYTES);
            let (piece, _) = buffer.split_at_mut(length);
            from.read_at(at, piece)?;
            if piece.iter().any(|byte| *byte != 0) {
                to.write_at(at, piece)?;
            }
            at += length as u64;
        }
        self.above.rename(&temporary, name)
    }
}

impl Directory for Overlay {
    fn list(&self) -> io::Result<Vec<DirectoryEntry>> {
        let mut entries = self.above.list()?;
        let gone = self.gone.lock();
        let above: BTreeSet<String> = entries.iter().map(|entry| entry.name.clone()).collect();
        let below = self.below.list()?.into_iter();
        entries.extend(
            below.filter(|entry| !gone.contains(&entry.name) && !above.contains(&entry.name)),
        );
        Ok(entries)
    }

    fn lock(&self) -> Result<Box<dyn Lock>, LockRefused> {
        self.above.lock()
    }

    fn create(&self, bytes: u64, allocate: bool) -> io::Result<(String, Arc<dyn File>)> {
        self.above.create(bytes, allocate)
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        if self.is_above(name)? {
            return self.above.open(name, access);
        }
        if self.gone.lock().contains(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if access == Access::Read {
            return self.below.open(name, access);
        }
        self.copy_up(name)?;
        self.above.open(name, access)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.copy_up(from)?;
        self.above.rename(from, to)?;
        self.gone.lock().insert(from.to_owned());
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let is_above = self.is_above(name)?;
        if is_above {
            self.above.remove(name)?;
        } else if !self.below.list()?.iter().any(|entry| entry.name == name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let news = self.gone.lock().insert(name.to_owned());
        if news || is_above { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn random(&self) -> u64 {
        self.below.random()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(door: &impl Directory) -> Vec<String> {
        let mut names: Vec<String> = door.list().unwrap().into_iter().map(|it| it.name).collect();
        names.sort();
        names
    }

    fn put(door: &impl Directory, name: &str, bytes: &[u8]) {
        let (temporary, file) = door.create(8, false).unwrap();
        file.write_at(0, bytes).unwrap();
        door.rename(&temporary, name).unwrap();
    }

    fn get(door: &impl Directory, name: &str) -> io::Result<[u8; 8]> {
        let mut bytes = [0; 8];
        door.open(name, Access::Read)?.read_at(0, &mut bytes)?;
        Ok(bytes)
    }

    #[test]
    fn changes_stay_above_and_names_mean_what_they_meant_last() {
        let below = MemDirectory::new();
        for name in ["a", "b", "c"] {
            put(&below, name, b"beneath ");
        }
        let door = Overlay::new(Arc::new(below.clone()));
        door.open("a", Access::Write).unwrap().write_at(0, b"A").unwrap();
        door.rename("b", "d").unwrap();
        door.remove("c").unwrap();
        assert_eq!(get(&door, "a").unwrap(), *b"Aeneath ");
        assert_eq!(get(&door, "d").unwrap(), *b"beneath ");
        assert_eq!(names(&door), ["a", "d"]);
        assert!(door.remove("c").is_err() && get(&door, "b").is_err());
        put(&door, "c", b"again   ");
        assert_eq!(get(&door, "c").unwrap(), *b"again   ");
        door.remove("c").unwrap();
        assert!(get(&door, "c").is_err());
        assert_eq!(names(&below), ["a", "b", "c"]);
        assert!(["a", "b", "c"].iter().all(|name| get(&below, name).unwrap() == *b"beneath "));
    }
}
