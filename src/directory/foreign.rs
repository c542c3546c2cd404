//! What else may stand in a directory that is to take a log.
//!
//! Owns: telling what is no log's, and whose it seems to be. Does not own: what the names of a log are
//! (`format::names`).
//!
//! A directory of another storage in which a log is created beside it is how a node forgets: the log
//! begins with nothing, where the other storage holds promises.

use crate::directory::Dir;
use crate::error::{Error, Result};
use crate::format::names::{LOCK, LOCK_BYTES_MAX, is_lock};
use crate::format::number::{to_u64, to_usize};
use crate::io::Access;
use crate::planted::{Bug, planted};

/// Most names that a refusal states.
const NAMES_MAX: usize = 8;

/// Found at the root of a file system of its own; a disk for a log has it.
const LOST_AND_FOUND: &str = "lost+found";

/// The refusal of a directory in which these names are nobody's; nothing if there are none.
pub(crate) fn refusal(dir: &Dir, names: &[String]) -> Option<Error> {
    let mut names: Vec<_> = names.iter().filter(|name| *name != LOST_AND_FOUND).cloned().collect();
    if names.is_empty() || planted(Bug::ForeignFilesOverlooked) {
        return None;
    }
    names.sort();
    let looks_like = looks_like(&names);
    let more = names.len().saturating_sub(NAMES_MAX);
    names.truncate(NAMES_MAX);
    Some(Error::ForeignFiles { path: dir.path().to_path_buf(), names, more, looks_like })
}

/// Whether the file `lock`, of so many bytes, is something else than a lock file.
pub(crate) fn has_the_name_of_a_lock(dir: &Dir, bytes: u64) -> Result<bool> {
    if bytes == 0 || bytes > to_u64(LOCK_BYTES_MAX) {
        return Ok(bytes > 0);
    }
    let mut text = vec![0; to_usize(bytes)];
    let read = dir.open(LOCK, Access::Read)?.read_at(0, &mut text);
    // Whoever creates a log here at the same time may be writing its number.
    Ok(read.is_ok() && !is_lock(&text))
}

/// The storage that has files of these names.
fn looks_like(names: &[String]) -> Option<&'static str> {
    let has = |name: &str| names.iter().any(|found| found == name);
    let any = |is: &dyn Fn(&str) -> bool| names.iter().any(|name| is(name));
    let table = |name: &str| name.strip_suffix(".sst").is_some();
    if has("CURRENT") && any(&|name| name.starts_with("MANIFEST-") || table(name)) {
        return Some("RocksDB");
    }
    if has("conf") && (has("db") || has("blobs") || any(&|name| name.starts_with("snap."))) {
        return Some("sled");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(names: &[&str]) -> Option<&'static str> {
        looks_like(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn storages_are_known_by_their_files() {
        assert_eq!(looks(&["CURRENT", "IDENTITY", "MANIFEST-000005"]), Some("RocksDB"));
        assert_eq!(looks(&["000008.sst", "CURRENT"]), Some("RocksDB"));
        assert_eq!(looks(&["blobs", "conf", "db"]), Some("sled"));
        assert_eq!(looks(&["conf", "snap.0000000000000001"]), Some("sled"));
        assert_eq!(looks(&["CURRENT"]), None);
        assert_eq!(looks(&["conf", "notes.txt"]), None);
    }
}
