//! Refilling from the log of another node: only from one of the same group, and only right entries.
//!
//! Owns: what shows that two logs are of one group, and up to where a peer is to be believed. Does
//! not own: writing (`refill`).
//!
//! Entries that are decided are the same on every node of a group. So entries on some side of each
//! hole must be the same in both logs, and none below what the peer states as decided may differ,
//! before anything of the peer is taken.
//!
//! A peer of a host that keeps no such statement (d-engine) has to show more: an entry after the hole
//! that is the same in both. Hosts of Raft write the term into each entry, and two logs with an entry of
//! one index and term are the same up to it (Log Matching, section 5.3 of the paper on Raft).

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

    /// Exclusive end of the entries that are taken from a peer, by what it states as decided.
    ///
    /// # Errors
    /// [`Refusal::Undecided`], [`Refusal::Unstated`].
    pub fn limit(&self, stated: Option<u64>) -> std::result::Result<u64, Refusal> {
        match (self.to, stated) {
            (Some(to), Some(decided)) if to > decided && !self.force => {
                Err(Refusal::Undecided { to, decided })
            }
            (Some(to), _) => Ok(to),
            (None, Some(decided)) => Ok(decided),
            (None, None) => Err(Refusal::Unstated),
        }
    }

    /// Sees that the entries next to a hole show that the peer has the right ones for it. `both` returns
    /// the entry at an index as each log has it, if both can read it.
    ///
    /// # Errors
    /// [`RefillError::Refused`], and what `both` returns.
    pub fn check(
        &self,
        hole: &Range<u64>,
        stated: Option<u64>,
        both: &mut dyn FnMut(u64) -> Result<Option<[Vec<u8>; 2]>>,
    ) -> std::result::Result<(), RefillError> {
        // Also past `to`: what is decided is the same on every node.
        let sure = stated.map_or_else(|| self.limit(stated), Ok)?;
        let before = hole.start.saturating_sub(SIDE_ENTRIES)..hole.start;
        let after = hole.end..hole.end.saturating_add(SIDE_ENTRIES);
        let mut agreed = [false; 2];
        for (side, agreed) in [before, after].into_iter().zip(&mut agreed) {
            let mut bytes = 0;
            for index in side {
                if bytes >= SIDE_BYTES {
                    break;
                }
                match both(index)? {
                    Some([here, there]) if here == there => {
                        *agreed = true;
                        bytes += here.len();
                    }
                    Some(_) if index < sure => return Err(Refusal::Differs { index }.into()),
                    // What is not decided may rightly differ.
                    Some(_) => break,
                    None => {}
                }
            }
        }
        match agreed {
            _ if self.force => Ok(()),
            [false, false] => Err(Refusal::NothingInCommon { hole: hole.clone() }.into()),
            [_, false] if stated.is_none() => {
                Err(Refusal::NothingAfter { hole: hole.clone() }.into())
            }
            _ => Ok(()),
        }
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
    /// The peer states nothing as decided, and no entry after a hole is in both logs, which would show
    /// that it has the right ones.
    #[error(
        "the other log does not state what is decided, and no entry after {}..{} is in both logs, which \
         would show that it has the right ones there", hole.start, hole.end
    )]
    NothingAfter {
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
    let limit = how.limit(stated)?.min(theirs.bounds().end);
    for hole in holes.iter().filter(|hole| hole.start < limit) {
        how.check(hole, stated, &mut |index| {
            let both = (payload(&mut ours, index)?, payload(&mut theirs, index)?);
            Ok(both.0.zip(both.1).map(|(here, there)| [here, there]))
        })?;
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
