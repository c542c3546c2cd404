//! The syncer: what was written becomes durable, and a checkpoint records it.
//!
//! Owns: the turn to sync, the watermark, the newest checkpoint, and the locks around these. Nobody
//! outside of this folder sees a field of them. Does not own: what was written (`writer`), nor when a
//! checkpoint is due (`background`).
//!
//! In here: who syncs, who waits and who is called back (`group`), a sync (`sync`), a checkpoint and
//! the files that go with it (`checkpoint`).

mod checkpoint;
mod group;
mod sync;

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard, RwLock};

pub(super) use self::group::Callback;
use self::group::{Group, Turn};
pub(super) use self::sync::Unsynced;
use crate::directory::metadata::Metadata;
use crate::error::{Error, Result};
use crate::format::Checkpoint;

/// What makes one log durable.
#[derive(Debug)]
pub(crate) struct Syncer {
    group: Group,
    newest: Mutex<NewestCheckpoint>,
    /// Held from the stock of a checkpoint, or from its slots, to the end of the files that go with
    /// it.
    checkpointing: Mutex<()>,
    /// Shared by those who sync a file of the log, or its directory, without the turn, until a
    /// failure has poisoned the log: see
    /// [`Shared::without_the_turn`](super::shared::Shared::without_the_turn).
    without_turn: RwLock<()>,
    /// The directory is not ours any more. Set under `checkpointing`, the turn and the lock of
    /// frames on their way, so that whoever has one of these writes to nobody else's files.
    ended: AtomicBool,
}

/// The metadata file, and which checkpoint it holds.
#[derive(Debug)]
struct NewestCheckpoint {
    file: Metadata,
    number: u64,
    /// The number of the one in the older slot.
    in_both: u64,
    /// The checkpoint, if it is that of a roll and in one slot only.
    in_one: Option<Checkpoint>,
    sequence: u64,
    lazy_version: u64,
}

impl Syncer {
    /// Of a log that is durable up to this batch, which the checkpoint in the file states.
    pub(super) fn new(file: Metadata, sequence: u64) -> Self {
        let (number, in_both, in_one, lazy_version) = (0, 0, None, 0);
        let newest = NewestCheckpoint { file, number, in_both, in_one, sequence, lazy_version };
        let (newest, checkpointing) = (Mutex::new(newest), Mutex::new(()));
        let (group, without_turn) = (Group::new(sequence), RwLock::new(()));
        Self { group, newest, checkpointing, without_turn, ended: AtomicBool::new(false) }
    }

    /// The newest batch that is durable.
    #[inline]
    pub(crate) fn durable(&self) -> u64 {
        self.group.durable()
    }

    /// The newest batch that was written.
    #[inline]
    pub(super) fn newest_written(&self) -> u64 {
        self.group.newest_written()
    }

    /// Notes that a batch was written.
    #[inline]
    pub(super) fn note_written(&self, sequence: u64) {
        self.group.note_written(sequence);
    }

    /// Notes that a batch needs no sync to be as durable as it gets.
    #[inline]
    pub(super) fn is_durable(&self, sequence: u64) {
        self.group.is_durable(sequence);
    }

    /// The newest batch that a callback waits for.
    pub(super) fn wanted(&self) -> Option<u64> {
        self.group.wanted()
    }

    /// Registers a callback, as [`Group::register`] says.
    pub(super) fn register(
        &self,
        sequence: u64,
        callback: Callback,
        health: impl FnOnce() -> Result<()>,
    ) -> bool {
        self.group.register(sequence, callback, health)
    }

    /// Calls those who are due. Returns whether one of them panicked.
    pub(super) fn call_back(&self) -> bool {
        self.group.call_back()
    }

    /// Every callback is due: after a failure.
    pub(super) fn fail_all(&self, error: &Error) {
        self.group.fail_all(error);
    }

    /// Wakes every thread so that it sees a failure.
    pub(super) fn wake_everyone(&self) {
        self.group.wake_everyone();
    }

    /// Waits for the right to sync.
    pub(super) fn turn(&self) -> Turn<'_> {
        self.group.turn()
    }

    /// Whether anything was written or set since the newest checkpoint.
    pub(super) fn is_ahead_of_its_checkpoint(&self, lazy_version: u64) -> bool {
        let newest = self.newest.lock();
        self.newest_written() > newest.sequence || lazy_version > newest.lazy_version
    }

    /// The tail of the checkpoint in the older slot: see [`Metadata::tail_number`].
    pub(super) fn tail_number(&self) -> u64 {
        self.newest.lock().file.tail_number()
    }

    /// Keeps every checkpoint from letting files go.
    pub(super) fn nothing_goes(&self) -> MutexGuard<'_, ()> {
        self.checkpointing.lock()
    }

    /// Whether the directory may be somebody else's by now.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Waits for whoever is writing a checkpoint or is in a sync; `nothing_on_its_way` waits for
    /// frames, and runs what it is given meanwhile. From then on nobody writes to a file of the
    /// log.
    pub(super) fn end(&self, nothing_on_its_way: impl FnOnce(&dyn Fn())) -> MutexGuard<'_, ()> {
        let checkpointing = self.checkpointing.lock();
        let _turn = self.group.turn();
        nothing_on_its_way(&|| self.ended.store(true, Ordering::Release));
        checkpointing
    }
}
