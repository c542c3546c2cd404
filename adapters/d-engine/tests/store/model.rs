//! What the stores should hold after each call of the host, and calls to make.
//!
//! The model is d-engine's contract without disks: a list of entries, a boundary and a hard state.

use d_engine_core::{Error, LogStore, MetaStore, StorageEngine};
use d_engine_proto::common::LogId;
use indelible_d_engine::DEngineStorage;

use crate::contents::{Contents, entries, vote};

/// One call of the host.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Call {
    Persist { from: u64, count: u64, term: u64 },
    Flush,
    Purge { index: u64, term: u64 },
    Truncate { from: u64 },
    Replace { from: u64, count: u64, term: u64 },
    Reset,
    SaveHardState { term: u64, node: u32 },
}

impl Call {
    /// The next call of a seeded sequence, one that d-engine could make on `now`.
    pub(crate) fn random(random: &mut Random, now: &Contents, term: u64) -> Self {
        let first = now.last + 1 - now.entries.len() as u64;
        match random.below(16) {
            0..=5 => Self::Persist { from: now.last + 1, count: 1 + random.below(12), term },
            6..=8 => Self::Flush,
            9 => {
                let from = first + random.below(now.last + 2 - first);
                Self::Persist { from, count: 1 + random.below(6), term }
            }
            10 => Self::Purge { index: first + random.below(now.last + 2 - first), term },
            11 => Self::Truncate { from: first + random.below(now.last + 2 - first) },
            12 | 13 => {
                let from = first + random.below(now.last + 2 - first);
                Self::Replace { from, count: random.below(8), term }
            }
            14 if random.below(4) == 0 => Self::Reset,
            _ => Self::SaveHardState { term, node: u32::try_from(random.below(3)).unwrap() },
        }
    }

    /// Makes the call.
    pub(crate) async fn make(self, storage: &DEngineStorage) -> Result<(), Error> {
        let log = storage.log_store();
        match self {
            Self::Persist { from, count, term } => {
                log.persist_entries(entries(from..=from + count - 1, term)).await
            }
            Self::Flush => log.flush(),
            Self::Purge { index, term } => log.purge(LogId { index, term }).await,
            Self::Truncate { from } => log.truncate(from).await,
            Self::Replace { from, count, term } => {
                log.replace_range(from, entries(from..=(from + count).saturating_sub(1), term))
                    .await
            }
            Self::Reset => log.reset().await,
            Self::SaveHardState { term, node } => {
                storage.meta_store().save_hard_state(&vote(term, node))
            }
        }
    }

    /// Whether everything up to and including the call is durable once it has returned.
    pub(crate) fn is_durable_on_return(self) -> bool {
        !matches!(self, Self::Persist { .. })
    }

    /// What the stores hold after the call.
    pub(crate) fn apply(self, to: &Contents) -> Contents {
        let mut now = to.clone();
        match self {
            Self::Persist { from, count, term } => {
                let new = entries(from..=from + count - 1, term);
                if !now.entries.windows(new.len()).any(|stored| stored == new) {
                    now.cut(from);
                    now.entries.extend(new);
                    now.last = from + count - 1;
                }
            }
            Self::Flush => {}
            Self::Purge { index, term } => {
                now.entries.retain(|entry| entry.index > index);
                now.last = now.last.max(index);
                now.boundary = Some(LogId { index, term });
            }
            Self::Truncate { from } => now.cut(from),
            Self::Replace { from, count, term } => {
                now.cut(from);
                now.entries.extend((from..from + count).flat_map(|at| entries(at..=at, term)));
                now.last += count;
            }
            Self::Reset => {
                now = Contents { hard_state: now.hard_state, ..Contents::default() };
            }
            Self::SaveHardState { term, node } => {
                now.hard_state = Some((term, vote(term, node).voted_for));
            }
        }
        now
    }
}

impl Contents {
    /// Drops the entries from `from` on, which is at most one after the last.
    fn cut(&mut self, from: u64) {
        self.entries.retain(|entry| entry.index < from);
        self.last = from - 1;
    }
}

/// A small generator of numbers; the same seed gives the same ones.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }
}
