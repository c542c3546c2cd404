//! The lock of a directory.
//!
//! Owns: who may write to the directory. Does not own: what is in it.
//!
//! A `flock` of the directory itself, which nobody can remove and make anew by hand; of the
//! descriptor that the directory is used by, so that the lock takes none of its own. It belongs to
//! that open file: a second handle in this process is refused as well, and it ends with the process
//! however that ends. Some network file systems lock no directories; there the file `lock` has to
//! do. In any case that file states who holds the lock.
#![expect(clippy::disallowed_types, reason = "a part of the file that may use files")]
#![expect(clippy::disallowed_methods, reason = "a part of the file that may use files")]

use std::fs::{self, File as OsHandle};
use std::io::{self, Read, Seek, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::OFlags;

use super::OsDirectory;
use crate::format::names::{LOCK, LOCK_BYTES_MAX, is_lock};
use crate::format::number::to_u64;
use crate::io::{Lock, LockRefused};
use crate::planted::{Bug, planted};
use crate::process::Process;

/// The namespace of every process that is in no container, as the kernel calls it.
const FIRST_NAMESPACE: &str = "pid:[4026531836]";

#[derive(Debug)]
struct OsLock {
    locked: Arc<Lockable>,
    /// Where the directory takes no lock.
    file: Option<OsHandle>,
    owner: Process,
}

/// A directory that can be locked, once.
#[derive(Debug)]
pub(super) struct Lockable {
    pub(super) handle: OsHandle,
    taken: AtomicBool,
}

impl Lockable {
    pub(super) fn new(handle: OsHandle) -> Self {
        Self { handle, taken: AtomicBool::new(false) }
    }
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
        fs2::FileExt::unlock(self.file.as_ref().unwrap_or(&self.locked.handle)).ok();
        self.locked.taken.store(false, Ordering::Release);
    }
}

/// Takes the lock.
pub(super) fn take(directory: &OsDirectory) -> Result<Box<dyn Lock>, LockRefused> {
    let flags = OFlags::RDWR | OFlags::CREATE;
    let mut file = directory.open_plain(LOCK, flags).map_err(LockRefused::Io)?;
    let itself = &directory.locked;
    // The system would take a second lock of the same open file for the first one.
    if itself.taken.swap(true, Ordering::AcqRel) {
        return Err(LockRefused::Held(Some(std::process::id())));
    }
    let give_back = |refused| {
        itself.taken.store(false, Ordering::Release);
        Err(refused)
    };
    let by_directory = if planted(Bug::LockFileBelieved) {
        Err(io::ErrorKind::Unsupported.into())
    } else {
        try_lock(&itself.handle)
    };
    let taken = match by_directory {
        Ok(taken) => Ok((taken, false)),
        Err(error) if is_for_files_only(&error) => try_lock(&file).map(|taken| (taken, true)),
        Err(error) => Err(error),
    };
    let by_file = match taken {
        Ok((true, by_file)) => by_file,
        Ok((false, _)) => {
            let mut owner = String::new();
            // Empty or partial while the owner is writing it: then it is not known.
            file.take(16).read_to_string(&mut owner).ok();
            return give_back(LockRefused::Held(owner.trim().parse().ok()));
        }
        Err(error) => return give_back(LockRefused::Io(error)),
    };
    // Only for people and error messages: a failure here harms nobody. A file of somebody else's that
    // happens to have the name stays as it is.
    let mut text = Vec::new();
    let read = Read::by_ref(&mut file).take(to_u64(LOCK_BYTES_MAX) + 1).read_to_end(&mut text);
    if read.is_ok() && is_lock(&text) {
        file.set_len(0).and_then(|()| file.rewind()).ok();
        writeln!(file, "{}", std::process::id()).ok();
    }
    let (locked, file) = (Arc::clone(itself), by_file.then_some(file));
    Ok(Box::new(OsLock { locked, file, owner: Process::this() }))
}

/// Whether this file system locks no directories. Another error says nothing of that: whoever has the
/// lock of this directory may have it for the directory.
fn is_for_files_only(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let known = [Errno::BADF, Errno::INVAL, Errno::ISDIR, Errno::NOSYS, Errno::OPNOTSUPP];
    error.kind() == io::ErrorKind::Unsupported
        || known.iter().any(|known| error.raw_os_error() == Some(known.raw_os_error()))
}

/// Locks an open file unless another one holds the lock of it. Returns whether it did.
fn try_lock(file: &OsHandle) -> io::Result<bool> {
    match fs2::FileExt::try_lock_exclusive(file) {
        Ok(()) => Ok(true),
        Err(error) if is_contended(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a lock was refused because somebody else has it.
fn is_contended(error: &io::Error) -> bool {
    error.raw_os_error() == fs2::lock_contended_error().raw_os_error()
}

/// Whether somebody holds the lock of a directory that this door has not locked itself; `None` where
/// that cannot be told.
///
/// The kernel's list names a file by the device of its superblock and its inode number, and several can
/// be named alike: the subvolumes of one btrfs share the device, and a snapshot has the numbers of what
/// it was taken of. So what is listed is tried as well, which touches nobody if it is locked. What is
/// not listed is not tried: whoever opens the log at that moment would be refused. Only in a container
/// even that is tried, since the list leaves out what processes outside of it have locked.
pub(super) fn is_held(directory: &OsDirectory) -> Option<bool> {
    let file = match directory.open_plain(LOCK, OFlags::RDONLY) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(_) => return None,
    };
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let complete =
        fs::read_link("/proc/self/ns/pid").is_ok_and(|it| it.as_os_str() == FIRST_NAMESPACE);
    for handle in [Some(directory.handle()), file.as_ref()].into_iter().flatten() {
        let inode = std::os::unix::fs::MetadataExt::ino(&handle.metadata().ok()?);
        let device = mount(handle).and_then(|mount| device_of(&mounts, &mount));
        if (!complete || is_listed(&locks, device, inode)) && is_locked(handle) {
            return Some(true);
        }
    }
    Some(false)
}

/// Whether a lock of this file is in the kernel's list; of any with its inode number if the device is
/// not known.
fn is_listed(locks: &str, device: Option<(u32, u32)>, inode: u64) -> bool {
    // "1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF"; the device in hexadecimal.
    locks.lines().filter(|line| line.contains("FLOCK")).any(|line| {
        line.split_ascii_whitespace().any(|field| {
            let mut numbers = field.split(':');
            let mut hexadecimal = || u32::from_str_radix(numbers.next()?, 16).ok();
            let found = hexadecimal().zip(hexadecimal());
            found.is_some_and(|found| device.is_none_or(|device| device == found))
                && numbers.next().and_then(|number| number.parse().ok()) == Some(inode)
        })
    })
}

/// The device of the superblock of a mount. That of a file's metadata may be another one: btrfs gives
/// each subvolume its own.
fn device_of(mounts: &str, mount: &str) -> Option<(u32, u32)> {
    // "36 35 0:52 / /mnt rw,noatime - ext4 /dev/vdb rw"
    let mut fields = mounts.lines().map(|line| line.split(' '));
    let mut fields = fields.find_map(|mut it| (it.next() == Some(mount)).then_some(it))?;
    let (major, minor) = fields.nth(1)?.split_once(':')?;
    major.parse().ok().zip(minor.parse().ok())
}

/// The mount by which a file was opened.
fn mount(file: &OsHandle) -> Option<String> {
    use std::os::fd::AsRawFd;
    let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    about.lines().find_map(|line| Some(line.strip_prefix("mnt_id:")?.trim().to_owned()))
}

/// Whether somebody has locked a file, by trying. Shared, so that several may ask at the same time.
fn is_locked(file: &OsHandle) -> bool {
    let tried = fs2::FileExt::try_lock_shared(file).and_then(|()| fs2::FileExt::unlock(file));
    tried.is_err_and(|error| is_contended(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Directory;

    #[test]
    fn lock_ends_with_its_handle_although_a_forked_child_has_the_directory_open() {
        let place = tempfile::tempdir().unwrap();
        let (one, two) =
            (OsDirectory::open(place.path()).unwrap(), OsDirectory::open(place.path()).unwrap());
        let held = one.lock().unwrap();
        let in_a_child = one.handle().try_clone().unwrap();
        assert!(matches!(two.lock(), Err(LockRefused::Held(_))));
        drop(held);
        two.lock().unwrap();
        drop(in_a_child);
    }

    #[test]
    fn file_is_listed_by_the_device_of_its_superblock_and_its_inode_number() {
        let locks = "\
            1: FLOCK  ADVISORY  WRITE 7 07:1f:131 0 EOF\n\
            2: POSIX  ADVISORY  WRITE 7 fe:00:77 0 EOF\n\
            2: -> FLOCK  ADVISORY  WRITE 8 00:2a:257 0 EOF\n\
            3: FLOCK  ADVISORY  WRITE\n";
        let mounts = "\
            22 1 7:31 / / rw - xfs /dev/loop31 rw\n\
            23 22 7:32 / /two rw - xfs /dev/loop32 rw\n\
            24 22 0:42 /sub /three rw - btrfs /dev/loop33 rw\n\
            25 22";
        let listed = |mount, inode| is_listed(locks, device_of(mounts, mount), inode);
        assert!(listed("22", 131) && listed("24", 257));
        assert!(!listed("23", 131) && !listed("22", 257) && !listed("22", 13));
        // That one is of another kind.
        assert!(!is_listed(locks, Some((0xfe, 0)), 77));
        // Without the device all with that number count.
        for unknown in ["2", "25", "26", ""] {
            assert!(listed(unknown, 131) && !listed(unknown, 132), "{unknown}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn device_of_an_open_file_is_the_one_that_the_list_of_locks_names() {
        let place = tempfile::tempdir().unwrap();
        let directory = OsDirectory::open(place.path()).unwrap();
        let inode = std::os::unix::fs::MetadataExt::ino(&directory.handle().metadata().unwrap());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let device = device_of(&mounts, &mount(directory.handle()).unwrap());
        assert!(device.is_some());
        let listed = || is_listed(&fs::read_to_string("/proc/locks").unwrap(), device, inode);
        let held = directory.lock().unwrap();
        assert!(listed());
        drop(held);
        assert!(!listed());
    }

    #[test]
    fn look_at_a_lock_says_whether_somebody_holds_it() {
        let place = tempfile::tempdir().unwrap();
        let (one, two) =
            (OsDirectory::open(place.path()).unwrap(), OsDirectory::open(place.path()).unwrap());
        assert!(!is_locked(two.handle()));
        let held = one.lock().unwrap();
        assert!(is_locked(two.handle()));
        assert_eq!(two.locked(), Some(true));
        drop(held);
        assert_eq!(two.locked(), Some(false));
    }

    #[test]
    fn lock_is_refused_to_another_user_of_the_same_door() {
        let place = tempfile::tempdir().unwrap();
        let directory = OsDirectory::open(place.path()).unwrap();
        let held = directory.lock().unwrap();
        assert!(matches!(directory.lock(), Err(LockRefused::Held(Some(_)))));
        drop(held);
        directory.lock().unwrap();
    }

    #[test]
    fn file_of_somebody_elses_that_is_called_lock_stays_as_it_is() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(LOCK);
        for text in ["door 7 is locked", "123 456", &"9".repeat(40)] {
            fs::write(&path, text).unwrap();
            let refused = crate::Log::create(place.path(), &crate::Options::new());
            let Err(crate::Error::ForeignFiles { names, .. }) = refused else {
                panic!("{text}: {refused:?}")
            };
            assert_eq!(names, [LOCK]);
            let locked = OsDirectory::open(place.path()).unwrap().lock().unwrap();
            drop(locked);
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        // A power cut left its length only, or another process its number.
        for text in ["\0\0\0\0\0", "4711\n"] {
            fs::write(&path, text).unwrap();
            drop(OsDirectory::open(place.path()).unwrap().lock().unwrap());
            let number = format!("{}\n", std::process::id());
            assert_eq!(fs::read_to_string(&path).unwrap(), number);
        }
        crate::Log::create(place.path(), &crate::Options::new()).unwrap();
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
