//! Whether a directory lies within another one, whatever it is called.
//!
//! Owns: seeing through links, `..` and mounts, also where the directory is yet to be made. Does not
//! own: making it (`os`).

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

/// Refuses a directory for a copy that is the directory of the log, or is inside it. Nothing is made.
pub(crate) fn refuse_within(log: &Path, copy: &Path) -> Result<()> {
    let identity = |path: &Path| fs::metadata(path).ok().map(|it| (it.dev(), it.ino()));
    // A log behind another door than the system's has no directory here.
    let Some(log) = identity(log) else { return Ok(()) };
    let real = resolved(copy);
    match real.ancestors().position(|path| identity(path) == Some(log)) {
        None => Ok(()),
        Some(0) => Err(Error::AlreadyExists { path: copy.to_path_buf() }),
        Some(_) => {
            let reason = "it is inside the directory of the log";
            Err(Error::InvalidArgument { what: "directory of the copy", reason })
        }
    }
}

/// The path without links and `..`, as far as it exists; the rest of it is to be made as it is.
fn resolved(path: &Path) -> PathBuf {
    let mut real = std::env::current_dir().unwrap_or_default();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                real.pop();
            }
            part => real.push(part),
        }
        real = fs::canonicalize(&real).unwrap_or(real);
    }
    real
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn directory_within_is_seen_through_whatever_it_is_called() {
        let place = tempfile::tempdir().unwrap();
        let log = place.path().join("log");
        fs::create_dir_all(log.join("below")).unwrap();
        fs::create_dir(place.path().join("beside")).unwrap();
        symlink(&log, place.path().join("link")).unwrap();
        symlink(log.join("below"), place.path().join("deep")).unwrap();
        let refused = |path: &str| refuse_within(&log, &place.path().join(path));
        let inside =
            ["log/copy", "log/a/b/c", "link/copy", "deep", "deep/..//copy", "beside/../log/x"];
        let yet_to_be_made = ["none/../log/copy", "none/./../link/copy"];
        for path in inside.into_iter().chain(yet_to_be_made) {
            assert!(matches!(refused(path), Err(Error::InvalidArgument { .. })), "{path}");
        }
        for path in ["log", "link", "log/below/..", "deep/.."] {
            assert!(matches!(refused(path), Err(Error::AlreadyExists { .. })), "{path}");
        }
        for path in ["copy", "log2", "beside", "log/../copy", "link/../copy", "."] {
            refused(path).unwrap();
        }
        refuse_within(Path::new(""), &log).unwrap();
    }
}
