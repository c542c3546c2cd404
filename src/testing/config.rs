//! The options under which programs are explored.

use crate::options::{Durability, Options, Preparation, SyncMethod, WriteMode};

/// One combination of options; tiny segments, no threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Size of a segment.
    pub segment_bytes: u64,
    /// How bytes get into the tail.
    pub write_mode: WriteMode,
    /// How they get onto the medium.
    pub sync_method: SyncMethod,
    /// When a commit is durable: `Always` or `Barrier`.
    pub durability: Durability,
    /// Bytes between checkpoints.
    pub checkpoint_bytes: u64,
    /// Whether segments are used again.
    pub recycle: bool,
}

/// Every combination that is explored: every write mode and both policies, each with every sync
/// method that applies, in segments that roll after a few entries.
pub const CONFIGS: [Config; 15] = {
    const KIB: u64 = 1024;
    const fn config(
        kib: u64,
        write_mode: WriteMode,
        sync_method: SyncMethod,
        durability: Durability,
        checkpoint_kib: u64,
        recycle: bool,
    ) -> Config {
        let (segment_bytes, checkpoint_bytes) = (kib * KIB, checkpoint_kib * KIB);
        Config { segment_bytes, write_mode, sync_method, durability, checkpoint_bytes, recycle }
    }
    use Durability::{Always, Barrier};
    use SyncMethod::{Dsync, Fdatasync, Fsync, Msync};
    use WriteMode::{Buffered, Direct, Mmap, Pwrite};
    [
        config(8, Mmap, Fdatasync, Always, 8, true),
        config(8, Pwrite, Fdatasync, Always, 8, true),
        config(8, Mmap, Msync, Barrier, 8, true),
        config(8, Pwrite, Fsync, Barrier, 8, false),
        config(16, Mmap, Msync, Always, 4, true),
        config(16, Pwrite, Dsync, Always, 4, true),
        config(16, Mmap, Fdatasync, Barrier, 4, false),
        config(16, Pwrite, Dsync, Barrier, 4, true),
        config(8, Buffered, Fdatasync, Always, 8, true),
        config(16, Buffered, Fdatasync, Barrier, 4, true),
        config(16, Buffered, Dsync, Barrier, 16, true),
        config(8, Buffered, Fsync, Barrier, 8, false),
        config(8, Direct, Dsync, Always, 8, true),
        config(16, Direct, Fdatasync, Barrier, 4, true),
        config(16, Direct, Dsync, Barrier, 16, false),
    ]
};

impl Config {
    /// The engine's options.
    pub fn options(&self) -> Options {
        Options::new()
            .background(false)
            .tiny_segments(self.segment_bytes)
            .write_mode(self.write_mode)
            .sync_method(self.sync_method)
            .durability(self.durability)
            .checkpoint_bytes(self.checkpoint_bytes)
            .preparation(Preparation::ZeroFill)
            .recycle(self.recycle)
    }
}
