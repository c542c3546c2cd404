//! What the threads of a log wait for, and how they are asked.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{OnceLock, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::background::Seen;
use crate::threads::{Desk, Member, Work};

/// The signals of one log.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    stop: AtomicBool,
    checkpoint: AtomicBool,
    space: AtomicBool,
    hand_over: AtomicBool,
    syncs: AtomicU64,
    member: OnceLock<Member>,
    seen: Mutex<Seen>,
    napping: Mutex<()>,
    nap: Condvar,
}

impl Signals {
    /// Notes that a sync was done.
    pub(crate) fn synced(&self) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
    }

    /// How many syncs were noted.
    pub(crate) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// Has more space made ready, or a spare, unless that was asked for already.
    pub(crate) fn want_space(&self) {
        if !self.space.load(Ordering::Relaxed) && !self.space.swap(true, Ordering::AcqRel) {
            self.wake_preparer();
        }
    }

    /// Notes that space is wanted and cannot be had now. The preparer comes back by itself; whoever
    /// else notes this wakes it.
    pub(crate) fn await_space(&self) {
        self.space.store(true, Ordering::Release);
    }

    /// Takes the note that space is wanted.
    pub(crate) fn take_space(&self) {
        self.space.store(false, Ordering::Release);
    }

    /// Whether space is wanted.
    pub(crate) fn wants_space(&self) -> bool {
        self.space.load(Ordering::Acquire)
    }

    /// Has the flusher hand pending frames to the file, unless it was asked to already.
    pub(crate) fn want_hand_over(&self) {
        if !self.hand_over.load(Ordering::Relaxed) && !self.hand_over.swap(true, Ordering::AcqRel) {
            self.wake_flusher();
        }
    }

    /// Takes the note that pending frames are to be handed to the file.
    pub(crate) fn take_hand_over(&self) -> bool {
        self.hand_over.swap(false, Ordering::AcqRel)
    }

    /// Notes that a checkpoint is due.
    pub(crate) fn want_checkpoint(&self) {
        self.checkpoint.store(true, Ordering::Release);
    }

    /// Whether a checkpoint is due.
    pub(crate) fn wants_checkpoint(&self) -> bool {
        self.checkpoint.load(Ordering::Acquire)
    }

    /// Takes the note that a checkpoint is due.
    pub(crate) fn take_checkpoint(&self) -> bool {
        self.checkpoint.swap(false, Ordering::AcqRel)
    }

    /// Whether the threads are to end.
    pub(crate) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// What maintenance saw when it last looked. It is the only one to ask.
    pub(crate) fn take_seen(&self) -> Seen {
        std::mem::take(&mut self.seen.lock())
    }

    /// Keeps what maintenance saw for its next look.
    pub(crate) fn put_seen(&self, seen: Seen) {
        *self.seen.lock() = seen;
    }

    /// Has the threads of the process work for the log, which joined them as `member`.
    pub(crate) fn begin(&self, member: Member, log: &Weak<dyn Work>) {
        self.member.get_or_init(|| member).begin(log);
    }

    /// Ends the work of the threads for this log, and waits for it, unless that is what calls.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        {
            let _napping = self.napping.lock();
            self.nap.notify_all();
        }
        if let Some(member) = self.member.get() {
            member.leave();
        }
    }

    /// Sleeps as a thread of this log alone, unless it is to end.
    pub(crate) fn nap(&self, nap: Duration) {
        let mut napping = self.napping.lock();
        if !self.stopping() {
            self.nap.wait_for(&mut napping, nap);
        }
    }

    /// Has somebody look whether a checkpoint is due.
    pub(crate) fn wake_maintenance(&self) {
        self.ask(Desk::Maintain);
    }

    /// Has somebody make space ready.
    pub(crate) fn wake_preparer(&self) {
        self.ask(Desk::Prepare);
    }

    /// Has somebody flush: a callback waits, a buffer is full, or the log is poisoned.
    pub(crate) fn wake_flusher(&self) {
        self.ask(Desk::Flush);
    }

    fn ask(&self, desk: Desk) {
        if let Some(member) = self.member.get() {
            member.ask(desk);
        }
    }
}
