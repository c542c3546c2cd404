//! Recovery: what an open finds, what it means, and what is done about it.
//!
//! Owns: observing (`observe`), replaying the tail (`replay`), counting what is missing (`holes`),
//! deciding (`table`). Does not own: carrying the decision out, which is `log::open`.
//!
//! The algorithm is docs/RECOVERY.md, "How an open reads"; each file says which of its steps it is.
//!
//! Observation changes nothing. It reads from the medium, never from what a former process may
//! have left in the page cache after a failed sync.

pub(crate) mod holes;
pub(crate) mod observe;
pub(crate) mod replay;
pub(crate) mod reseal;
pub(crate) mod table;
mod window;

use std::path::PathBuf;
use std::time::Duration;

/// What an open found and did.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// How the log was found.
    pub verdict: Verdict,
    /// Batches read back that the newest checkpoint did not cover.
    pub batches_replayed: u64,
    /// Entries in those batches.
    pub entries_replayed: u64,
    /// Bytes of the tail that were read.
    pub bytes_scanned: u64,
    /// Segments that hold the log.
    pub segments: u64,
    /// Files that nothing refers to, and that were removed: leftovers of a crash.
    pub removed: Vec<String>,
    /// Files that nothing refers to, and that could not be removed. They take space and harm nobody;
    /// the next open tries again. (What a former process left unfinished goes in the background:
    /// [`Stats::not_removed`](crate::Stats::not_removed) counts what stays of that.)
    pub not_removed: Vec<String>,
    /// Whether one slot of the metadata file was unreadable; it was written anew.
    pub slot_rewritten: bool,
    /// Bytes from the end of the log to the last one after it, within the reach of the newest
    /// checkpoint, that is not zero: of a batch that was dropped now or before, also where none of its
    /// headers is left, or of the file's life as another segment.
    pub leftover_bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// How a log was found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It was created just now.
    Created,
    /// It had been closed, and nothing has changed since.
    Clean,
    /// It had not been closed, and every batch of which a header was found is whole. Bytes
    /// after them that have no header are counted in [`RecoveryReport::leftover_bytes`].
    Recovered,
    /// It had not been closed, and its end was unfinished. That end was dropped: nothing shows that
    /// it was acknowledged.
    ///
    /// One kind of damage looks like a torn end: damage to batches of the very last sync, before
    /// anything else was written or checkpointed; under `Witness::Near`, if the next sync was torn,
    /// also to the batches of one block.
    TornTail {
        /// The segment file.
        path: PathBuf,
        /// Where the dropped end starts.
        offset: u64,
        /// The first batch that was dropped.
        sequence: u64,
        /// Bytes up to the end of the last frame that was recognised after that place.
        bytes: u64,
    },
}

impl Verdict {
    /// The damage that no open and no tool can tell from a torn end, as every page and tool has it.
    pub const UNNOTICED: &'static str = "One kind of damage looks like a torn end: damage to batches of \
        the very last sync, before anything else was written or checkpointed; under \
        `Witness::Near`, if the next sync was torn, also to the batches of one block.";
}

impl RecoveryReport {
    /// The report of a log that was just created.
    pub(crate) fn created(elapsed: Duration) -> Self {
        Self {
            verdict: Verdict::Created,
            batches_replayed: 0,
            entries_replayed: 0,
            bytes_scanned: 0,
            segments: 1,
            removed: Vec::new(),
            not_removed: Vec::new(),
            slot_rewritten: false,
            leftover_bytes: 0,
            elapsed,
        }
    }
}
