//! Planted bugs: small sabotages of the engine, to see that the tests would notice.
//!
//! Owns: the switch. Without the feature `sabotage` it is a constant, and the compiler removes
//! every trace of it. Does not own: the sabotages. Each stands where the bug would, and is one line
//! that skips what is below it, or chooses something else; syncs, writes and space that are left
//! out are so at the door (`door`). Those in `log/` are what only its steps can get wrong.

#[cfg(feature = "sabotage")]
mod door;

macro_rules! bugs {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A planted bug.
        #[cfg_attr(
            not(feature = "sabotage"),
            expect(unreachable_pub, dead_code, reason = "public, and at the door, with the feature")
        )]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Bug {
            $($(#[$doc])* $name,)*
        }

        /// All of them, each with what it does.
        #[cfg(feature = "sabotage")]
        pub const BUGS: &[Bug] = &[$(Bug::$name,)*];
    };
}

bugs! {
    /// A sync puts nothing on the medium and says that it did.
    AcknowledgeBeforeSync,
    /// A sync acknowledges what was written after it took stock.
    StockTakenLate,
    /// A truncation leaves the durable end where it was.
    DurableEndNotLowered,
    /// A sync covers the newest range only, not the segments sealed before.
    SyncNewestRangeOnly,
    /// A new segment is synced from its first frame on, without its header.
    HeaderNotSynced,
    /// The directory is not synced when a segment was begun.
    NoDirectorySyncOnRoll,
    /// The directory is not synced when the first segment was made.
    NoDirectorySyncOnCreate,
    /// The directory is not synced when a side file got its name.
    NoDirectorySyncOnSideFile,
    /// A side file is named and referred to without having been synced.
    SideFileNotSynced,
    /// A checkpoint is written to one slot instead of both.
    OneSlotOnly,
    /// The footer of a segment in which entries were taken back is left to a later checkpoint.
    FooterOfCutsLeft,
    /// The slots are written and not synced.
    SlotsNotSynced,
    /// A roll is acknowledged without a checkpoint that names the new segment.
    NoCheckpointOnRoll,
    /// Files go without the checkpoint that no longer needs them having been written.
    ReclaimBeforeCheckpoint,
    /// A side file goes when a batch replaces it, before that batch is durable.
    SideFileRemovedAtOnce,
    /// A side file goes although another cell refers to it.
    SideFileRemovedWhileShared,
    /// Frames go past the reach that the checkpoint states.
    ReachIgnored,
    /// Frames go to space that was never made ready.
    SpaceNotAwaited,
    /// A block that is written again does not repeat what it held.
    LastBlockForgotten,
    /// A write that is to be durable on return is not, and counts as if it were.
    NotWrittenThrough,
    /// Frames may go as far as the checkpoint before said until the next one is durable.
    ReachLoweredLate,
    /// A checkpoint that was put together before a batch was refused lets others write after it.
    RefusalOvertaken,
    /// A directory is unlocked while a checkpoint of it is still being written.
    UnlockedEarly,
    /// A checkpoint that was waiting is written after the one of the close.
    CloseOvertaken,
    /// A failed sync of the directory, for the name of a side file, is that writer's affair only.
    LostNamesForgiven,
    /// A segment of the life before is recycled, whoever still reads it.
    OldSegmentRecycled,
    /// An open believes the page cache of segments that a failed sync left behind.
    CacheBelieved,
    /// A checkpoint counts as written although the sync of its slot failed.
    SlotFailureIgnored,
    /// A sync does not ask whether somebody else was told of its failure.
    FailureToldToAnother,
    /// A failed write or sync does not poison the log.
    NoPoison,
    /// The numbers of dropped batches are given again.
    NumbersGivenAgain,
    /// The footer of a seal that was dropped is left in place.
    NoReseal,
    /// A file that a dropped batch began becomes a spare, header and all.
    AnySpareAdopted,
    /// Frames are salted alike, whatever their generation.
    NoSalt,
    /// Frames do not state where they stand.
    AnyPlace,
    /// Frames state that nothing was durable when they were written.
    WatermarkNeverWritten,
    /// Frames state that they are durable themselves.
    WatermarkAhead,
    /// Where entries end is taken from the name of the next segment, whatever its header says.
    NamesBelieved,
    /// An open does not look for frames where the checkpoint says that there are none.
    OlderMetadataBelieved,
    /// No sync leaves a witness after its frames.
    NoWitness,
    /// Recovery does not look at the watermarks after an unreadable frame.
    WatermarkIgnored,
    /// Recovery does not look for watermarks in the segment that follows an unreadable frame.
    NextSegmentNotSearched,
    /// A batch counts as whole without its last frame.
    LastFrameNotNeeded,
    /// Recovery does not see a gap in the numbers of batches.
    NumbersNotCompared,
    /// Recovery forgets truncations.
    TruncationNotReplayed,
    /// Recovery forgets trims.
    TrimNotReplayed,
    /// Recovery forgets values of cells.
    SetNotReplayed,
    /// Recovery forgets that cells were cleared.
    ClearNotReplayed,
    /// Recovery refuses what a batch comes by on its way to what it leaves.
    CellsCountedWithinABatch,
    /// Every checkpoint claims that the log was closed.
    AlwaysClean,
    /// A close does not say that the log was closed.
    NeverClean,
    /// Entries are handed out without a look at their checksum.
    EntriesNotChecked,
    /// What was checked once is never checked again, wherever its bytes come from.
    TrustedForEver,
    /// What no longer counts between two entries is read along with them.
    DeadBytesRead,
    /// Frames in memory are handed out whatever segment they are asked for.
    WarmOfAnySegment,
    /// A segment that was opened stays open.
    SegmentsStayOpen,
    /// Slots are believed whatever their checksum.
    SlotsNotChecked,
    /// Side files are handed out without a look at their checksum.
    SideFilesNotChecked,
    /// An open does not miss side files.
    MissingSideFileIgnored,
    /// An open does not miss segments.
    MissingSegmentIgnored,
    /// A batch that a full disk refused leaves no trace of the refusal.
    RefusalNotRecorded,
    /// A directory is opened without its lock.
    NoLock,
    /// A log is created over another one.
    CreateOverALog,
    /// Setting a cell to the value it has is written.
    UnchangedCellsWritten,
    /// A batch of entries lets go of the lazily set cells without having written them.
    LazyValueDropped,
    /// A lazily set cell goes along only if its value is not the one that was written last.
    LazyValueCompared,
    /// Whether a batch changes anything is asked of what was written, not of what was set lazily.
    LazyValueOverlooked,
    /// A batch leaves the lazily set cells that it took along to be set again after it.
    LazyValueOutlivesItsBatch,
    /// A checkpoint does not take the lazily set cells along.
    LazyValueNotInCheckpoint,
    /// What is unsynced is counted without the frames that are still in memory.
    PendingNotDirty,
    /// A sync puts on media what the file has, and leaves frames in memory for later.
    SyncBeforeHandOver,
    /// Readers are shown frames before they are in the file.
    ShownBeforeWritten,
    /// Two threads hand frames over at the same time, each its own.
    HandedOverOutOfOrder,
    /// A roll does not wait for frames that another thread is handing over.
    RollOvertakesHandOver,
    /// Frames that could not be handed over are taken to be in the file.
    HandOverFailureForgotten,
    /// A roll does not look up the offsets of what was in the tail at the open.
    SealedUnlooked,
    /// An unreadable frame in the durable part of a tail ends the look at it.
    UnreadableFrameEndsTheLook,
    /// Whoever waits for the sync after the one in flight is not woken.
    WakeUpLost,
    /// A forked child that lets its copy of a handle go unlocks the directory.
    ChildUnlocks,
    /// A forked child is taken for the process that opened the log.
    ChildMayWrite,
    /// Only the lock file says who holds a directory.
    LockFileBelieved,
    /// A log is created beside files that are nobody's.
    ForeignFilesOverlooked,
    /// An open removes segments of another log along with what it does not need.
    OtherLogsOverlooked,
    /// A file that cannot be removed ends the life of the log.
    JunkIsFatal,
    /// A moment without descriptors or memory poisons the log.
    ShortagePoisons,
    /// A segment after the tail that cannot be opened counts as one that is not there.
    UnopenedSegmentSkipped,
    /// A side file that was never attached stays.
    UnusedSideFileStays,
    /// A side file can be finished after the close.
    FinishedAfterClose,
    /// A batch that is refused keeps the segments that were made for it.
    RefusedSpaceKept,
    /// A log has as many segments as it likes.
    SegmentsUnlimited,
    /// Under `Os` no checkpoint comes, however much was written since the last one.
    NoCheckpointUnderOs,
    /// Segments that stay named for want of room in a checkpoint ask for one with every batch.
    KeptAsksForCheckpoints,
    /// A map is touched that was not brought in by the same call.
    PagesNotBroughtIn,
    /// What compressed entries come to when they are looked at does not count.
    PlainBytesNotCounted,
    /// A table that was rebuilt from the frames is not counted.
    RebuiltTablesNotCounted,
    /// A frame that is too far ahead of what is durable states the most that it can.
    LagCutShort,
    /// A log that was opened takes the space of the files that it found for ready.
    SpaceBelieved,
    /// A walk reads as much at a time as there is.
    WalkReadsEverything,
    /// What an `Error::Internal` tells of, a callback's panic above all, is nobody's affair.
    PanicForgotten,
    /// A sync waits for more writers as long as the options say, however long that is.
    AnyWindowAccepted,
}

#[cfg(feature = "sabotage")]
thread_local! {
    static ENABLED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Whether a bug is in force on this thread.
#[cfg(feature = "sabotage")]
pub(crate) fn planted(bug: Bug) -> bool {
    ENABLED.get() == Some(bug)
}

/// Whether a bug is in force: never.
#[cfg(not(feature = "sabotage"))]
#[inline]
pub(crate) const fn planted(_bug: Bug) -> bool {
    false
}

/// A door that a bug may stand at.
#[cfg(feature = "sabotage")]
pub(crate) fn at_the_door(
    door: std::sync::Arc<dyn crate::io::Directory>,
) -> std::sync::Arc<dyn crate::io::Directory> {
    std::sync::Arc::new(door::Sabotaged::new(door))
}

/// A door as it is.
#[cfg(not(feature = "sabotage"))]
#[inline]
pub(crate) fn at_the_door(
    door: std::sync::Arc<dyn crate::io::Directory>,
) -> std::sync::Arc<dyn crate::io::Directory> {
    door
}

/// Puts a bug in force on this thread, in place of any other; `None` ends it.
#[cfg(feature = "sabotage")]
pub fn enable(bug: Option<Bug>) {
    ENABLED.set(bug);
}
