//! What a caller may choose when a log is created or opened, and the named limits.
//!
//! Owns: the choices, their defaults, their validation. Does not own: what the choices cost
//! (docs/BENCHMARKS.md) nor how they are carried out (`io`, `sync`, `segment`).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::planted::{Bug, planted};

/// Smallest segment file, in bytes.
pub const SEGMENT_BYTES_MIN: u64 = 64 * 1024;
/// Largest segment file, in bytes.
pub const SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Segment size of a new log unless it is told otherwise, in bytes.
pub(crate) const SEGMENT_BYTES_DEFAULT: u64 = 64 * 1024 * 1024;
/// Most segments a log may have at one time.
pub const SEGMENTS_MAX: u64 = 1 << 20;
/// Most records in one batch.
pub(crate) const BATCH_RECORDS_MAX: usize = 1 << 24;
/// Most bytes that the frames of one batch take together.
pub(crate) const BATCH_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Most segments that one batch begins. All their files are open before its first frame is written, so
/// that what the process may lack refuses the batch: two descriptors each with `WriteMode::Direct`, else
/// one, and a map. By its bytes no batch comes to as many in segments of the default size; but each
/// reset and each truncation below the tail's base begins one too.
pub const BATCH_SEGMENTS_MAX: u64 = 128;
/// Longest name of a state cell, in bytes.
pub const CELL_NAME_BYTES_MAX: usize = 32;
/// Longest value of a state cell, in bytes; larger values are side files.
pub const CELL_VALUE_BYTES_MAX: usize = 1024;
/// Cells that one batch changes, at most.
pub const CELLS_PER_BATCH_MAX: usize = 1024;
/// Permissions of the files of a log unless it is told otherwise: its owner reads and writes them.
pub(crate) const FILE_MODE_DEFAULT: u32 = 0o600;
/// Longest time that a sync may wait for more writers to join it.
pub(crate) const GATHER_MAX: Duration = Duration::from_secs(1);
/// Most bytes that all state cells of a log may take together: names, values, four bytes each.
pub const CELLS_BYTES_MAX: usize = 3712;

/// Most bytes of the newest entries that can be kept in memory.
pub(crate) const WARM_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// Bytes of the newest entries that are kept in memory unless told otherwise.
pub(crate) const WARM_BYTES_DEFAULT: usize = 1024 * 1024;

/// When a commit becomes durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Durability {
    /// A commit returns when its batch is on media. Safe with any host.
    #[default]
    Always,
    /// A commit waits for nothing. What it wrote is durable after [`crate::Log::sync`], a ticket's
    /// wait, callback or future, or close; before that it may be. Safe for consensus if the host
    /// syncs before any message leaves that depends on what was written.
    Barrier,
    /// A background thread syncs this often. A crash loses up to this much: unsafe for consensus.
    Interval(Duration),
    /// The operating system decides. What was written survives a killed process, unless the write
    /// mode is [`WriteMode::Buffered`] or [`WriteMode::Direct`], and not a power cut: unsafe for
    /// consensus.
    Os,
}

/// How bytes get into the tail segment. In every mode entries can be read as soon as they are
/// written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WriteMode {
    /// Kept in memory, and written together when they are synced, when somebody reads them, or
    /// when there are many. What is not synced is lost with the process. Default for
    /// [`Durability::Always`] and [`Durability::Barrier`].
    Buffered,
    /// Copied into a shared memory map: no system call for an unsynced append (batches of 8 KiB and
    /// more are one positioned write), which survives the process. Default for
    /// [`Durability::Interval`] and [`Durability::Os`].
    Mmap,
    /// One positioned write per batch; an unsynced append survives the process.
    Pwrite,
    /// Kept in memory like [`Self::Buffered`], and written past the page cache in whole blocks:
    /// what a failed sync leaves behind there cannot be read as if it were on the medium, and a large
    /// batch is not copied. Refused where the file system takes no such writes, or copies on write.
    Direct,
}

impl WriteMode {
    /// Whether frames wait in memory until somebody needs them in the file.
    pub(crate) const fn defers_writes(self) -> bool {
        matches!(self, Self::Buffered | Self::Direct)
    }
}

/// How written bytes are put on media.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
#[non_exhaustive]
pub enum SyncMethod {
    /// `fdatasync`: the file's data, and the metadata needed to read it. Default, but for
    /// [`WriteMode::Direct`].
    #[default]
    Fdatasync,
    /// `fsync`: data and all metadata.
    Fsync,
    /// `msync(MS_SYNC)` of the dirty range of the map.
    Msync,
    /// Written by calls that each return when the bytes are on the medium (`RWF_DSYNC`, for one
    /// call what `O_DSYNC` is for a descriptor): one call for frames that waited in memory, and
    /// `fdatasync` for those that were written before a sync was wanted. Under the other write
    /// modes everything is written again. Default for [`WriteMode::Direct`].
    Dsync,
    /// `F_FULLFSYNC`, which reaches the medium on macOS; refused elsewhere.
    FullFsync,
}

/// Where each sync leaves a witness: what the sync before it made durable, in another block than the
/// frames. Without one, a bad sector at the very end of a log that was killed can take acknowledged
/// batches and all that proves them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
#[non_exhaustive]
pub enum Witness {
    /// In the block after the frames, which costs next to nothing. A sync of which the frames go more
    /// than 512 bytes past the block that those before it end in goes over it. So a power cut in such
    /// a sync, together with that block going bad, can take the batches that end in the block, if no
    /// frame header of the sync reached the medium. Shorter syncs never come in its way.
    #[default]
    Near,
    /// In the first block of the segment, where no frame ever comes: no power cut takes it. Costs
    /// one more block elsewhere with each sync.
    Apart,
    /// Nowhere.
    None,
}

/// How the space of a segment is made ready before it is written: always a little ahead of the
/// frames, so that a small log is small, and no more than 8 MiB ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
#[non_exhaustive]
pub enum Preparation {
    /// Zero-filled in small writes and synced: every block is written before it is needed, so a
    /// sync moves data only. Under [`WriteMode::Direct`] it is reserved as with [`Self::Fallocate`]
    /// while syncs put 256 KiB and more on media. Default for [`Durability::Always`] and [`Durability::Barrier`].
    #[default]
    ZeroFill,
    /// `fallocate`: space is reserved, but the first sync of each block converts its extent.
    Fallocate,
    /// A sparse file. A full disk is met at a write, and poisons the log if that is one of a roll;
    /// taken with [`WriteMode::Pwrite`] only.
    Sparse,
}

/// The choices of a log. Cheap to clone; every setter returns `self` for chaining.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct Options {
    pub(crate) segment_bytes: u64,
    pub(crate) segment_bytes_min: u64,
    pub(crate) segments_max: u64,
    pub(crate) durability: Durability,
    pub(crate) write_mode: Option<WriteMode>,
    pub(crate) sync_method: Option<SyncMethod>,
    pub(crate) preparation: Option<Preparation>,
    pub(crate) recycle: bool,
    pub(crate) spares: usize,
    pub(crate) checkpoint_bytes: Option<u64>,
    pub(crate) witness: Witness,
    pub(crate) gather: Duration,
    pub(crate) idle_checkpoint: Duration,
    pub(crate) background: bool,
    pub(crate) compress_above: Option<usize>,
    pub(crate) allow_holes: bool,
    pub(crate) stall: Option<StallWatch>,
    pub(crate) scrub: Option<u64>,
    pub(crate) warm_bytes: usize,
    pub(crate) file_mode: u32,
    pub(crate) beside_foreign_files: bool,
    /// Nothing outlives the process, so what is written is as durable as it gets.
    pub(crate) volatile: bool,
}

/// Who is told of a sync that takes too long.
#[derive(Clone)]
pub(crate) struct StallWatch {
    pub(crate) threshold: Duration,
    pub(crate) tell: Arc<dyn Fn(Stall) + Send + Sync>,
}

impl fmt::Debug for StallWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StallWatch").field("threshold", &self.threshold).finish_non_exhaustive()
    }
}

impl PartialEq for StallWatch {
    fn eq(&self, other: &Self) -> bool {
        self.threshold == other.threshold && Arc::ptr_eq(&self.tell, &other.tell)
    }
}

impl Eq for StallWatch {}

/// What a stall watch is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stall {
    /// A sync is still under way after so long.
    Began(Duration),
    /// No sync is that old any more.
    Ended,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            segment_bytes_min: SEGMENT_BYTES_MIN,
            segments_max: SEGMENTS_MAX,
            durability: Durability::Always,
            write_mode: None,
            sync_method: None,
            preparation: None,
            recycle: true,
            spares: 1,
            checkpoint_bytes: None,
            witness: Witness::Near,
            gather: Duration::ZERO,
            idle_checkpoint: Duration::from_millis(500),
            background: true,
            compress_above: None,
            allow_holes: false,
            stall: None,
            scrub: None,
            warm_bytes: WARM_BYTES_DEFAULT,
            file_mode: FILE_MODE_DEFAULT,
            beside_foreign_files: false,
            volatile: false,
        }
    }
}

impl Options {
    /// The defaults: 64 MiB segments, `Always`, `Buffered`, `fdatasync`, zero-filled and recycled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Size of each segment file in bytes, a multiple of 4096 from [`SEGMENT_BYTES_MIN`] to
    /// [`SEGMENT_BYTES_MAX`]. Settled when a log is created; an existing log keeps its own.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// Allows segments from 8 KiB up, so that tests meet many of them soon.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn tiny_segments(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self.segment_bytes_min = 8 * 1024;
        self
    }

    /// Most segments the log may have at one time, 2 to [`SEGMENTS_MAX`]. A commit that would need
    /// more returns [`Error::TooLarge`] and changes nothing.
    #[must_use]
    pub fn segments_max(mut self, count: u64) -> Self {
        if !planted(Bug::SegmentsUnlimited) {
            self.segments_max = count;
        }
        self
    }

    /// When a commit becomes durable.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How bytes get into the tail segment. By default it follows the durability: buffered where
    /// nothing counts before a sync, stored through the map where a commit is to survive the process
    /// without one (docs/BENCHMARKS.md has the measurements).
    #[must_use]
    pub fn write_mode(mut self, mode: WriteMode) -> Self {
        self.write_mode = Some(mode);
        self
    }

    /// How written bytes are put on media. By default by `fdatasync`, and by writing through under
    /// [`WriteMode::Direct`].
    #[must_use]
    pub fn sync_method(mut self, method: SyncMethod) -> Self {
        self.sync_method = Some(method);
        self
    }

    /// How new segment files are made ready. By default it follows the durability: zero-filled
    /// where commits are synced, allocated where they are not.
    #[must_use]
    pub fn preparation(mut self, preparation: Preparation) -> Self {
        self.preparation = Some(preparation);
        self
    }

    /// Whether segments that hold nothing live any more are used again (default) or removed. Those
    /// that were there when the log was opened are always removed: reads of the life before may
    /// still hold them.
    #[must_use]
    pub fn recycle(mut self, recycle: bool) -> Self {
        self.recycle = recycle;
        self
    }

    /// How many segment files are made ready once a roll comes near, 1 to 16.
    #[must_use]
    pub fn spares(mut self, count: usize) -> Self {
        self.spares = count;
        self
    }

    /// Bytes of log after which a checkpoint is written in the background, from 4096 to a segment
    /// (what is outside is taken for the nearer end), or before another batch as long as the last one
    /// would make it more. An open after a crash scans at most twice as
    /// much, or as much as the last batch is long if that is more. By default 2 MiB where commits
    /// are synced, a whole segment where they are not.
    #[must_use]
    pub fn checkpoint_bytes(mut self, bytes: u64) -> Self {
        self.checkpoint_bytes = Some(bytes);
        self
    }

    /// Where each sync leaves a witness of what was durable before it; [`Witness::Near`] by default.
    #[must_use]
    pub fn witness(mut self, place: Witness) -> Self {
        self.witness = place;
        self
    }

    /// How long a sync may wait for more writers to join it, at most a second. Zero (default)
    /// never waits on a clock: only writers that the previous sync released are given the chance to
    /// come back.
    #[must_use]
    pub fn gather(mut self, window: Duration) -> Self {
        self.gather = window;
        self
    }

    /// How long the log must be idle before a checkpoint records what became durable: a millisecond
    /// at least, half a second by default.
    #[must_use]
    pub fn idle_checkpoint(mut self, after: Duration) -> Self {
        self.idle_checkpoint = after;
        self
    }

    /// Whether threads may work for the log (default): a few that all logs of the process share.
    /// Without them segments are prepared and removed inside the calls that need it, a callback
    /// syncs at once and runs there, and every run of the same calls does the same I/O: the mode
    /// for simulations.
    #[must_use]
    pub fn background(mut self, threads: bool) -> Self {
        self.background = threads;
        self
    }

    /// Compresses entries longer than this many bytes where that makes them smaller (feature
    /// `lz4`). `None`, the default, stores every entry as it is.
    #[must_use]
    pub fn compress_above(mut self, bytes: Option<usize>) -> Self {
        self.compress_above = bytes;
        self
    }

    /// Opens a log although entries are missing from it, so that they can be refilled.
    #[must_use]
    pub fn allow_holes(mut self, allow: bool) -> Self {
        self.allow_holes = allow;
        self
    }

    /// Calls back when a sync has been under way for longer than `threshold`, and again when that
    /// is over: a leader whose disk hangs can step down meanwhile. The callback runs on a
    /// thread that does nothing else, and must not block. Needs background threads.
    #[must_use]
    pub fn stall(
        mut self,
        threshold: Duration,
        tell: impl Fn(Stall) + Send + Sync + 'static,
    ) -> Self {
        self.stall = Some(StallWatch { threshold, tell: Arc::new(tell) });
        self
    }

    /// Reads and checks sealed segments in the background, over and over, with at most so many
    /// bytes per second; what is found is counted in [`Stats`](crate::Stats). `None`, the default,
    /// leaves it to [`Log::scrub`](crate::Log::scrub). Needs background threads.
    #[must_use]
    pub fn scrub(mut self, bytes_per_second: Option<u64>) -> Self {
        self.scrub = bytes_per_second;
        self
    }

    /// How many bytes of the newest entries stay in memory as they were written, with 32 bytes more
    /// for each, from 0 to 1 GiB; 1 MiB by default. [`Log::entry`](crate::Log::entry)
    /// copies an entry among them without a system call. They may reach back to the beginning of the
    /// newest segment. With background threads they go when the log is idle ([`Self::idle_checkpoint`])
    /// and nobody reads one of them.
    #[must_use]
    pub fn warm_bytes(mut self, bytes: usize) -> Self {
        self.warm_bytes = bytes;
        self
    }

    /// Permissions of new files, as for `chmod` and as far as the umask of the process leaves them:
    /// `0o600` by default; `0o640` lets a group read, for monitoring. The owner must be able to read
    /// and write. Of no meaning behind doors other than that of the operating system.
    #[must_use]
    pub fn file_mode(mut self, mode: u32) -> Self {
        self.file_mode = mode;
        self
    }

    /// Allows a log to be created in a directory that holds other things, which it leaves alone. By
    /// default [`Error::ForeignFiles`] refuses it: a directory of another storage looks like that, and
    /// a log created there would begin with nothing where that storage holds promises.
    #[must_use]
    pub fn beside_foreign_files(mut self, allow: bool) -> Self {
        self.beside_foreign_files = allow;
        self
    }

    /// These options for a log in memory: no threads, no syncs, as few checkpoints as can be.
    pub(crate) fn volatile(&self) -> Self {
        Self {
            durability: Durability::Os,
            write_mode: Some(WriteMode::Buffered),
            preparation: Some(Preparation::Fallocate),
            checkpoint_bytes: Some(self.segment_bytes),
            background: false,
            volatile: true,
            ..self.clone()
        }
    }

    /// The durability that was chosen.
    pub const fn durability_in_force(&self) -> Durability {
        self.durability
    }

    /// The write mode in force.
    pub const fn write_mode_in_force(&self) -> WriteMode {
        match (self.write_mode, self.durability) {
            (Some(mode), _) => mode,
            (None, Durability::Always | Durability::Barrier) => WriteMode::Buffered,
            (None, Durability::Interval(_) | Durability::Os) => WriteMode::Mmap,
        }
    }

    /// The sync method in force.
    pub const fn sync_method_in_force(&self) -> SyncMethod {
        match (self.sync_method, self.write_mode_in_force()) {
            (Some(method), _) => method,
            (None, WriteMode::Direct) => SyncMethod::Dsync,
            (None, _) => SyncMethod::Fdatasync,
        }
    }

    /// Whether frames that waited in memory are written so that they are durable at once.
    pub(crate) fn writes_through(&self) -> bool {
        self.write_mode_in_force().defers_writes()
            && self.sync_method_in_force() == SyncMethod::Dsync
    }

    /// How what was written to the tail before is put on media. Frames that waited in memory are
    /// written once; and what was written directly is never written again through the page cache,
    /// since a block may hold newer frames by then.
    pub(crate) fn tail_sync_method(&self) -> SyncMethod {
        match (self.write_mode_in_force(), self.sync_method_in_force()) {
            (mode, SyncMethod::Dsync) if mode.defers_writes() => SyncMethod::Fdatasync,
            (WriteMode::Direct, SyncMethod::Msync) => SyncMethod::Fdatasync,
            (_, method) => method,
        }
    }

    /// The preparation in force.
    pub const fn preparation_in_force(&self) -> Preparation {
        match (self.preparation, self.durability) {
            (Some(preparation), _) => preparation,
            (None, Durability::Always | Durability::Barrier) => Preparation::ZeroFill,
            (None, Durability::Interval(_) | Durability::Os) => Preparation::Fallocate,
        }
    }

    /// Bytes of log between two background checkpoints.
    pub(crate) fn checkpoint_bytes_in_force(&self, segment_bytes: u64) -> u64 {
        if planted(Bug::NoCheckpointUnderOs) && self.durability == Durability::Os {
            return SEGMENT_BYTES_MAX;
        }
        let bytes = self.checkpoint_bytes.unwrap_or(match self.durability {
            Durability::Always | Durability::Barrier => 2 * 1024 * 1024,
            Durability::Interval(_) | Durability::Os => segment_bytes,
        });
        bytes.clamp(4096, segment_bytes)
    }

    /// Refuses what no log can be run with.
    pub(crate) fn validate(&self) -> Result<()> {
        let refuse = |option, reason| Err(Error::InvalidOption { option, reason });
        if self.segment_bytes < self.segment_bytes_min || self.segment_bytes > SEGMENT_BYTES_MAX {
            return refuse("segment_bytes", "must be from 64 KiB to 1 GiB");
        }
        if !self.segment_bytes.is_multiple_of(4096) {
            return refuse("segment_bytes", "must be a multiple of 4096");
        }
        if !(2..=SEGMENTS_MAX).contains(&self.segments_max) {
            return refuse("segments_max", "must be from 2 to 1048576");
        }
        if !(1..=16).contains(&self.spares) {
            return refuse("spares", "must be from 1 to 16");
        }
        let sparse = self.preparation == Some(Preparation::Sparse);
        match self.write_mode_in_force() {
            WriteMode::Mmap if sparse => {
                let reason = "a store into a sparse map kills the process on a full disk";
                return refuse("preparation", reason);
            }
            WriteMode::Buffered | WriteMode::Direct if sparse => {
                let reason = "a full disk would be met after the commit: choose `Pwrite`";
                return refuse("preparation", reason);
            }
            _ => {}
        }
        if self.sync_method == Some(SyncMethod::FullFsync) && !cfg!(target_vendor = "apple") {
            return refuse("sync_method", "F_FULLFSYNC exists on Apple platforms only");
        }
        if matches!(self.durability, Durability::Interval(every) if every.is_zero()) {
            return refuse("durability", "an interval must be longer than zero");
        }
        if matches!(self.durability, Durability::Interval(_)) && !self.background {
            return refuse("durability", "an interval needs a background thread");
        }
        if (self.stall.is_some() || self.scrub.is_some()) && !self.background {
            return refuse("stall or scrub", "needs background threads");
        }
        if self.scrub == Some(0) {
            return refuse("scrub", "must be more than zero bytes a second");
        }
        if self.warm_bytes > WARM_BYTES_MAX {
            return refuse("warm_bytes", "must be at most 1 GiB");
        }
        if self.gather > GATHER_MAX && !planted(Bug::AnyWindowAccepted) {
            return refuse("gather", "must be a second at most");
        }
        if self.file_mode & 0o600 != 0o600 || self.file_mode > 0o777 {
            return refuse("file_mode", "must be permissions that let the owner read and write");
        }
        if self.compress_above.is_some() && !cfg!(feature = "lz4") {
            return refuse("compress_above", "needs the feature `lz4`");
        }
        Ok(())
    }
}
