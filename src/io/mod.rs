//! The I/O door: the only way in which the engine touches a disk.
//!
//! Two traits, each method with its durability sentence. `os` carries them out with the operating
//! system, [`mem`] in memory, and `sim` (feature `testing`) on a simulated disk that can be
//! crashed and that fails on demand. Names are plain file names inside one directory: the door
//! knows no paths.
//!
//! A method that fails with `ErrorKind::StorageFull` promises that nothing durable changed.
//!
//! What a log lends is memory that its files share, so whoever could write to those files through a
//! door of their own could change a `&[u8]` that somebody holds. In safe code nobody can: files of the
//! operating system are opened by the log alone.
//!
//! ```compile_fail
//! # fn main() -> std::io::Result<()> {
//! let door = indelible::io::os::OsDirectory::open("log")?;
//! # Ok(())
//! # }
//! ```

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::sync::Arc;

pub use map::Region;
#[cfg(feature = "testing")]
pub use map::os_directory;

use crate::options::SyncMethod;

pub(crate) mod aligned;
pub(crate) mod map;
pub mod mem;
pub(crate) mod os;
#[cfg(feature = "tools")]
pub(crate) mod overlay;
#[cfg(any(test, feature = "testing"))]
pub mod sim;

/// How much of a file the caller trusts the page cache with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// For writing by the handle that holds the lock; cached pages are believed. A file that has
    /// another name as well, as a backup may have given it, is refused: `ResourceBusy`.
    Write,
    /// For reading only; cached pages are believed. Needs no lock.
    Read,
    /// For writing, after a restart: a former process may have failed to sync, and then the cache
    /// holds bytes that the medium does not have (docs/RECOVERY.md, M5). The file is synced (a failure
    /// is final), then every cached page of `from..to` is dropped before the call returns; one that
    /// stays is written again as it is read, so that cache and medium agree.
    Distrust {
        /// First byte of what is not known to be durable.
        from: u64,
        /// Exclusive end of what may have been written since; `u64::MAX` for the end of the file.
        to: u64,
    },
}

/// How bytes are written other than into the page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Way {
    /// Into the page cache, and durable on return.
    Through,
    /// Past the page cache, in whole blocks of 4096 bytes, from memory that is aligned like them.
    Direct,
    /// Past the page cache, and durable on return.
    DirectThrough,
}

/// A name in the directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct DirectoryEntry {
    /// The file name.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// What it is, if it is no plain file: `"a symbolic link"`. Such a thing belongs to no log.
    pub other: Option<&'static str>,
}

impl DirectoryEntry {
    /// The name of a plain file, and its length.
    pub fn new(name: impl Into<String>, bytes: u64) -> Self {
        Self { name: name.into(), bytes, other: None }
    }

    /// The name of something that is no plain file, or a name that is no text.
    pub fn other(name: impl Into<String>, what: &'static str) -> Self {
        Self { name: name.into(), bytes: 0, other: Some(what) }
    }
}

/// Why a directory could not be locked.
#[derive(Debug)]
#[non_exhaustive]
pub enum LockRefused {
    /// Another handle holds it, in the process with this number if that is known.
    Held(Option<u32>),
    /// The lock could not be tried.
    Io(io::Error),
}

/// Holds a directory for one writer until it is dropped.
pub trait Lock: Debug + Send + Sync {}

/// One directory of files: the first half of the door.
///
/// # Errors
/// Every method returns what the system below says: `NotFound` for a missing name,
/// `InvalidInput` for a name that is no plain file name, `StorageFull`, or whatever went wrong.
#[cfg_attr(
    feature = "testing",
    expect(clippy::missing_errors_doc, reason = "said once, for all methods")
)]
pub trait Directory: Debug + Send + Sync {
    /// Every name in the directory but `.` and `..`, in no order. Changes nothing.
    fn list(&self) -> io::Result<Vec<DirectoryEntry>>;

    /// Takes the directory for one writer, until the guard drops or the process ends. Makes
    /// nothing durable.
    fn lock(&self) -> Result<Box<dyn Lock>, LockRefused>;

    /// A new file under a fresh name for temporary files ([`crate::format::names::temporary`]),
    /// `bytes` long and reading as zeros. With `allocate`, its space is reserved. Neither name nor
    /// length is durable on return.
    fn create(&self, bytes: u64, allocate: bool) -> io::Result<(String, Arc<dyn File>)>;

    /// An existing file. With [`Access::Distrust`] everything it returns of that range afterwards is
    /// on media.
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>>;

    /// Gives a file another name, replacing what had it. Atomic; durable after [`Self::sync`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a name. Durable after [`Self::sync`]; a crash before may bring the file back.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes every earlier creation, rename and removal in the directory durable.
    fn sync(&self) -> io::Result<()>;

    /// 64 random bits, for identities and generations. A simulation draws them from its seed.
    fn random(&self) -> u64;

    /// Whether files made here take [`Way::Direct`]. No, unless a door says otherwise. Changes
    /// nothing.
    fn takes_direct(&self) -> bool {
        false
    }
}

/// One open file: the second half of the door. Offsets and lengths are in bytes.
///
/// # Errors
/// Every method returns what the system below says: `UnexpectedEof` past the end of the file,
/// `PermissionDenied` for a change through [`Access::Read`], `StorageFull`, or whatever went wrong.
#[cfg_attr(
    feature = "testing",
    expect(clippy::missing_errors_doc, reason = "said once, for all methods")
)]
pub trait File: Debug + Send + Sync {
    /// Fills `buffer` from `offset`; an error if the file ends before. Changes nothing.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Reads so many bytes from `offset` on to the end of `out`, as [`Self::read_at`] does. After an
    /// error there may be any bytes at the end of `out`.
    fn read_to_end(&self, offset: u64, bytes: usize, out: &mut Vec<u8>) -> io::Result<()> {
        let start = out.len();
        out.resize(start.saturating_add(bytes), 0);
        self.read_at(offset, out.get_mut(start..).unwrap_or_default())
    }

    /// Writes all of `bytes` at `offset`, growing the file if need be. Durable after
    /// [`Self::sync`]; until then each 512-byte sector may survive a crash or not. On an error any
    /// part may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `offset` in another way than [`Self::write_at`]; on an error any
    /// part may have been written. A direct write that repeats bytes leaves them as they are:
    /// nobody sees them change, and no crash takes them away. A direct write of no bytes, at 0,
    /// writes nothing and takes what later ones need of the system, such as a descriptor. With
    /// [`Way::Through`] and [`Way::DirectThrough`] the bytes are durable on return, and an error is
    /// final as one of [`Self::sync`] is.
    fn write_by(&self, way: Way, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if way != Way::Through {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.write_at(offset, bytes)?;
        self.sync(offset..offset.saturating_add(bytes.len() as u64), SyncMethod::Fdatasync)
    }

    /// Reserves the space of `range`, which nobody wrote and which goes on reading as zeros: no later
    /// write or store there meets a full disk, nor does the sync of one. With `fill` it is written as
    /// well, so that no later sync has to note that it is in use. As it stands here it writes zeros; a
    /// door that can do less, or has to do more, does so. Durable after [`Self::sync`].
    fn allocate(&self, range: Range<u64>, _fill: bool) -> io::Result<()> {
        zero_fill(self, range)
    }

    /// Makes the bytes of `range` durable, whether written or stored through a map, and the
    /// file's length. An error is final: what the cache says afterwards proves nothing.
    fn sync(&self, range: Range<u64>, method: SyncMethod) -> io::Result<()>;

    /// Maps the first `bytes` of the file, shared with every other map and write of it. With
    /// `write`, [`Region::store`] changes the file; such bytes are durable after [`Self::sync`].
    fn map(&self, bytes: u64, write: bool) -> io::Result<Region>;
}

/// Bytes of one zero-filling write. Larger writes leave large page-cache folios behind, and then a
/// small synced store writes back a whole folio.
const FILL_BYTES: usize = 4 * 1024;

/// Writes zeros, in pieces that leave small folios.
pub(crate) fn zero_fill<F: File + ?Sized>(file: &F, range: Range<u64>) -> io::Result<()> {
    const ZEROS: [u8; FILL_BYTES] = [0; FILL_BYTES];
    let fill_bytes = FILL_BYTES as u64;
    let mut at = range.start;
    while at < range.end {
        // To the next page, so that only the first piece is less than one.
        let end = (at - at % fill_bytes + fill_bytes).min(range.end);
        let piece = usize::try_from(end - at).unwrap_or(FILL_BYTES).min(FILL_BYTES);
        file.write_at(at, ZEROS.get(..piece).unwrap_or(&ZEROS))?;
        at = end;
    }
    Ok(())
}

/// Refuses everything that is not the plain name of a file in the directory itself.
fn check_name(name: &str) -> io::Result<()> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\\', '\0']) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file name"));
    }
    Ok(())
}

/// 64 random bits from the operating system.
fn system_random() -> u64 {
    getrandom::u64().unwrap_or_else(|_| {
        // The system has none to give: the standard library's own source for hash maps is seeded
        // per process and steps with every use, which keeps names and generations apart.
        use std::hash::{BuildHasher, RandomState};
        RandomState::new().hash_one(std::process::id())
    })
}
