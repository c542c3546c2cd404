//! Directories that killed runs left: found, named, and removed when asked.
//!
//! Each run works in a directory with a file that it holds locked, so a run that is still going is
//! never taken for a killed one.

use std::io::Result;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use tempfile::TempDir;

/// What the names of our directories begin with.
const PREFIX: &str = "indelible-bench-";
/// The file that a run holds locked.
const LOCK: &str = "running";

/// A directory to work in. It goes with the value, also when the run fails or is interrupted.
#[derive(Debug)]
pub(super) struct Workplace {
    directory: TempDir,
    /// Unlocked by the system, however the process ends.
    _lock: OwnedFd,
}

impl Workplace {
    pub(super) fn create(inside: &Path) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(inside)?;
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
        let lock = rustix::fs::open(directory.path().join(LOCK), flags, Mode::RUSR | Mode::WUSR)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { directory, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// The directories of runs that were killed. A name of ours without our lock file is not ours.
pub(super) fn find(inside: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(inside)? {
        let path = entry?.path();
        let named = path.file_name().is_some_and(|it| it.to_string_lossy().starts_with(PREFIX));
        if named && is_abandoned(&path) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn is_abandoned(path: &Path) -> bool {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let Ok(lock) = rustix::fs::open(path.join(LOCK), flags, Mode::empty()) else { return false };
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_killed_run_left_is_found() {
        let place = tempfile::tempdir().unwrap();
        let running = Workplace::create(place.path()).unwrap();
        let foreign = place.path().join("indelible-bench-notes");
        std::fs::create_dir(&foreign).unwrap();
        let killed = place.path().join("indelible-bench-killed");
        std::fs::create_dir(&killed).unwrap();
        std::fs::write(killed.join(LOCK), "").unwrap();
        assert_eq!(find(place.path()).unwrap(), [killed]);
        drop(running);
        assert!(foreign.is_dir());
    }
}
