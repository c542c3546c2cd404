//! A directory of the operating system behind the door, for tests of the door itself.
#![expect(unsafe_code, reason = "whoever has this door could change what a log lends")]

use std::io;
use std::path::Path;
use std::sync::Arc;

use indelible::io::{Directory, os_directory};

/// The directory at `path`, made if it is missing and `create` says so.
pub(crate) fn open(path: impl AsRef<Path>, create: bool) -> io::Result<Arc<dyn Directory>> {
    // SAFETY: no test borrows entries of a log and writes to its files through this as well.
    unsafe { os_directory(path.as_ref(), create) }
}
