//! The lock of a directory.
//!
//! Owns: who may write to the directory. Does not own: what is in it.
//!
//! Two `flock`s, both of open files, so that a second handle in this process is refused as well and
//! both end with the process however that ends: one on the file `lock`, which states who holds it,
//! and one on the directory itself, which nobody can remove and make anew by hand. Some network file
//! systems lock no directories; there the file has to do.
#![expect(clippy::disallowed_types, reason = "a part of the file that may use files")]
#![expect(clippy::disallowed_methods, reason = "a part of the file that may use files")]

use std::fs::{self, File as OsHandle};
use std::io::{self, Read, Seek, Write};

use rustix::fs::{Mode, OFlags};

use super::OsDirectory;
use crate::format::names::LOCK;
use crate::io::{Lock, LockRefused};
use crate::planted::{Bug, planted};
use crate::process::Process;

#[derive(Debug)]
struct OsLock {
    file: OsHandle,
    directory: Option<OsHandle>,
    owner: Process,
}

impl Lock for OsLock {}

impl Drop for OsLock {
    fn drop(&mut self) {
        if !self.owner.is_this() && !planted(Bug::ChildUnlocks) {
            // The lock is the parent's: an unlock here would end it there as well.
            return;
        }
        // Closing the files would do, were there no child that another thread has forked and that
        // does not run its program yet: until then it has every file open as well.
        for locked in self.directory.iter().chain([&self.file]) {
            fs2::FileExt::unlock(locked).ok();
        }
    }
}

/// Takes the lock.
pub(super) fn take(directory: &OsDirectory) -> Result<Box<dyn Lock>, LockRefused> {
    let flags = OFlags::RDWR | OFlags::CREATE;
    let mut file = directory.open_plain(LOCK, flags).map_err(LockRefused::Io)?;
    if !try_lock(&file).map_err(LockRefused::Io)? {
        let mut owner = String::new();
        // Empty or partial while the owner is writing it: then it is not known.
        file.take(16).read_to_string(&mut owner).ok();
        return Err(LockRefused::Held(owner.trim().parse().ok()));
    }
    let owner = Process::this();
    // From here on an early return gives back what was taken.
    let mut lock =
        OsLock { file: file.try_clone().map_err(LockRefused::Io)?, directory: None, owner };
    if !planted(Bug::LockFileBelieved) {
        let itself = open_itself(directory).map_err(LockRefused::Io)?;
        match try_lock(&itself) {
            Ok(true) => lock.directory = Some(itself),
            // The file is a new one: its owner's was removed by hand.
            Ok(false) => return Err(LockRefused::Held(None)),
            // This file system locks no directories.
            Err(_) => {}
        }
    }
    // Only for people and error messages: a failure here harms nobody.
    file.set_len(0).and_then(|()| file.rewind()).ok();
    writeln!(file, "{}", std::process::id()).ok();
    Ok(Box::new(lock))
}

/// Locks an open file unless another one holds the lock of it. Returns whether it did.
fn try_lock(file: &OsHandle) -> io::Result<bool> {
    match fs2::FileExt::try_lock_exclusive(file) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == fs2::lock_contended_error().raw_os_error() => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// The directory as an open file of its own.
fn open_itself(directory: &OsDirectory) -> io::Result<OsHandle> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let itself = rustix::fs::openat(&directory.handle, ".", flags, Mode::empty())?;
    Ok(OsHandle::from(itself))
}

/// Whether somebody holds the lock, from the kernel's own list; `None` where that cannot be told.
pub(super) fn is_held(directory: &OsDirectory) -> Option<bool> {
    use std::os::unix::fs::MetadataExt;
    let mut inodes = vec![directory.handle.metadata().ok()?.ino().to_string()];
    match directory.open_plain(LOCK, OFlags::RDONLY) {
        Ok(file) => inodes.push(file.metadata().ok()?.ino().to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(_) => return None,
    }
    let locks = fs::read_to_string("/proc/locks").ok()?;
    // "1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF"; the device is that of the file system
    // below, which need not be the one that the file's metadata name.
    Some(locks.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace();
        line.contains("FLOCK")
            && fields
                .find_map(|field| field.rsplit_once(':').filter(|(dev, _)| dev.contains(':')))
                .is_some_and(|(_, found)| inodes.iter().any(|inode| inode == found))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Directory;

    #[test]
    fn lock_ends_with_its_handle_although_a_forked_child_has_the_file_open() {
        let place = tempfile::tempdir().unwrap();
        let directory = OsDirectory::open(place.path()).unwrap();
        let file = directory.open_plain(LOCK, OFlags::RDWR | OFlags::CREATE).unwrap();
        fs2::FileExt::try_lock_exclusive(&file).unwrap();
        let in_a_child = file.try_clone().unwrap();
        assert!(matches!(directory.lock(), Err(LockRefused::Held(_))));
        drop(OsLock { file, directory: None, owner: Process::this() });
        directory.lock().unwrap();
        drop(in_a_child);
    }

    #[test]
    fn lock_names_its_owner_and_ends_with_its_handle() {
        let place = tempfile::tempdir().unwrap();
        let (one, two) =
            (OsDirectory::open(place.path()).unwrap(), OsDirectory::open(place.path()).unwrap());
        fs::write(place.path().join(LOCK), b"99999999999999999999").unwrap();
        let held = one.lock().unwrap();
        let text = fs::read_to_string(place.path().join(LOCK)).unwrap();
        assert_eq!(text.trim(), std::process::id().to_string());
        assert!(matches!(two.lock(), Err(LockRefused::Held(Some(_)))));
        drop(held);
        two.lock().unwrap();
    }
}
