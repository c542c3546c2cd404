//! Refilling from the log of another node: only from one of the same group, and only right entries.
//!
//! Owns: what shows that two logs are of one group, and up to where a peer is to be believed. Does
//! not own: writing (`refill`).
//!
//! Entries that are decided are the same on every node of a group. So entries on both sides of each
//! hole, below what the peer states as decided, must be the same in both logs before anything of the
//! peer is taken.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::refill::{Refilled, allowing, fill_all, missing_in};
use crate::directory::Dir;
use crate::error::{Error, Result};
use crate::inspect::entries::{Looked, Lookup, plain};
use crate::inspect::{Progress, decided, os_door};
use crate::log::Log;

/// Entries on each side of a hole that are compared, and the bytes after which fewer are.
const SIDE_ENTRIES: u64 = 64;
const SIDE_BYTES: usize = 4 * 1024 * 1024;

/// How a peer's log is used.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct FromPeer {
    /// Takes only entries before this index. By default the index that the peer states as decided.
    pub to: Option<u64>,
    /// Goes beyond what the peer states as decided, and goes without an entry that shows that both
    /// logs are of one group. A difference is refused all the same.
    pub force: bool,
}

impl FromPeer {
    /// Up to what the peer states as decided.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes only entries before `to`.
    #[must_use]
    pub fn to(mut self, to: Option<u64>) -> Self {
        self.to = to;
        self
    }

    /// Goes beyond what the peer shows to be right.
    #[must_use]
    pub fn force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }
}

/// Why nothing of a peer was taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// An entry that both logs have is not the same: they are of different groups, or one is wrong.
    #[error(
        "entry {index} is not the same in both logs: they are not of one group, or one of them is \
         wrong"
    )]
    Differs {
        /// The first such entry that was seen.
        index: u64,
    },
    /// No entry next to a hole is in both logs, so nothing shows that they are of one group.
    #[error(
        "no entry on either side of {}..{} is in both logs, so nothing shows that they are of one \
         group", hole.start, hole.end
    )]
    NothingInCommon {
        /// The missing entries.
        hole: Range<u64>,
    },
    /// The peer states less as decided than what was asked for.
    #[error(
        "entries up to {to} were asked for, and the other log states only those before {decided} as decided"
    )]
    Undecided {
        /// Where to stop, as it was asked for.
        to: u64,
        /// What the peer states as decided.
        decided: u64,
    },
    /// The peer states nothing as decided, and no end was given.
    #[error("the other log does not state what is decided, and no end was given")]
    Unstated,
}

/// Why a refill from a peer did not happen. Nothing was changed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RefillError {
    /// Either log could not be used.
    #[error(transparent)]
    Log(#[from] Error),
    /// The peer's entries are not shown to be the right ones.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Puts missing entries back into the log in a directory, which nobody may have open, from the log of
/// another node of its group. The peer is only read, and may be in use. What is put back is durable
/// on return.
///
/// # Errors
/// [`RefillError::Refused`] if the peer is not shown to have the right entries;
/// [`RefillError::Log`] as [`refill`](super::refill).
pub fn refill_from(
    path: impl AsRef<Path>,
    peer: impl AsRef<Path>,
    how: &FromPeer,
    progress: &mut dyn FnMut(Progress),
) -> std::result::Result<Refilled, RefillError> {
    let (path, peer) = (path.as_ref(), peer.as_ref());
    let look = |path: &Path| Lookup::new(Dir::read_only(Arc::new(os_door(path)?), path));
    let mut ours = look(path)?;
    let holes = missing_in(&mut ours)?;
    let mut theirs = look(peer)?;
    let stated = theirs.scene.state().as_ref().and_then(decided);
    let limit = match (how.to, stated) {
        (Some(to), Some(decided)) if to > decided && !how.force => {
            return Err(Refusal::Undecided { to, decided }.into());
        }
        (Some(to), _) => to,
        (None, Some(decided)) => decided,
        (None, None) => return Err(Refusal::Unstated.into()),
    };
    let limit = limit.min(theirs.bounds().end);
    // Also past `to`: what is decided is the same on every node.
    let sure = stated.unwrap_or(limit);
    for hole in holes.iter().filter(|hole| hole.start < limit) {
        if !agree_around(&mut ours, &mut theirs, hole, sure)? && !how.force {
            return Err(Refusal::NothingInCommon { hole: hole.clone() }.into());
        }
    }
    drop(ours);
    if holes.is_empty() {
        let (put_back, missing, stopped) = (Vec::new(), Vec::new(), None);
        return Ok(Refilled { filled: 0, put_back, missing, stopped });
    }
    // An ordinary open and close, so that the checkpoint summarises everything.
    Log::open(path, &allowing())?.0.close()?;
    let dir = Dir::new(Arc::new(os_door(path)?), path);
    let mut entry = |index: u64| if index < limit { payload(&mut theirs, index) } else { Ok(None) };
    Ok(fill_all(&dir, &mut entry, progress)?)
}

/// Whether entries on some side of a hole are in both logs; an error if one differs.
fn agree_around(
    ours: &mut Lookup,
    theirs: &mut Lookup,
    hole: &Range<u64>,
    limit: u64,
) -> std::result::Result<bool, RefillError> {
    let first = ours.bounds().start.max(theirs.bounds().start);
    let before = hole.start.saturating_sub(SIDE_ENTRIES).max(first)..hole.start;
    let after = hole.end..hole.end.saturating_add(SIDE_ENTRIES);
    let mut agreed = false;
    for side in [before, after] {
        let mut bytes = 0;
        for index in side {
            let both = ours.bounds().contains(&index) && theirs.bounds().contains(&index);
            if !both || index >= limit || bytes >= SIDE_BYTES {
                break;
            }
            let (Some(here), Some(there)) = (payload(ours, index)?, payload(theirs, index)?) else {
                continue;
            };
            if here != there {
                return Err(Refusal::Differs { index }.into());
            }
            agreed = true;
            bytes += here.len();
        }
    }
    Ok(agreed)
}

/// The bytes of an entry as they were appended, if it is readable.
fn payload(log: &mut Lookup, index: u64) -> Result<Option<Vec<u8>>> {
    if !log.bounds().contains(&index) {
        return Ok(None);
    }
    match log.get(index)? {
        Looked::Entry(header, payload) => match plain(&header, payload) {
            (_, true) => {
                let path = log.dir.path().to_path_buf();
                Err(Error::UnsupportedFeature { path, offset: 0, feature: "lz4" })
            }
            (payload, false) => Ok(Some(payload)),
        },
        Looked::Hole(_) | Looked::Unreadable(..) | Looked::Trimmed(_) => Ok(None),
    }
}
