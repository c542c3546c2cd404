//! What groups counted, and what they hold.

use indelible::Stats;

/// What all groups hold together, and what was counted since the open.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GroupsStats {
    /// The counters of the log underneath: its syncs are those of all groups.
    pub log: Stats,
    /// Groups there are.
    pub groups: u64,
    /// Bytes of frames in the log, from its first entry on.
    pub bytes: u64,
    /// Bytes of those frames that hold what a group still has.
    pub live_bytes: u64,
    /// Bytes of frames written for callers since the open.
    pub written_bytes: u64,
    /// Bytes of frames written again so that old segments could go.
    pub carried_bytes: u64,
    /// Records written again.
    pub carried_records: u64,
    /// Bytes of frames that took older parts of the index out of memory.
    pub page_bytes: u64,
    /// Checkpoints of all groups written.
    pub checkpoints: u64,
    /// Bytes of those checkpoints.
    pub checkpoint_bytes: u64,
    /// Records of the log that the open read after its checkpoint.
    pub replayed: u64,
    /// Bytes that the indexes of all groups take in memory.
    pub index_bytes: u64,
}

impl GroupsStats {
    /// Bytes written for each byte that callers asked for: carries, pages and checkpoints included. One
    /// before anything was written.
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    pub fn write_amplification(&self) -> f64 {
        let again = [self.carried_bytes, self.page_bytes, self.checkpoint_bytes];
        let again = again.into_iter().fold(0, u64::saturating_add);
        if self.written_bytes == 0 { 1.0 } else { 1.0 + again as f64 / self.written_bytes as f64 }
    }
}

/// What one group holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupStats {
    /// Entries.
    pub entries: u64,
    /// Bytes of the frames of entries and side files.
    pub live_bytes: u64,
    /// Side files, those that are being written included.
    pub side_files: u64,
    /// Bytes that the index takes in memory.
    pub index_bytes: u64,
}
