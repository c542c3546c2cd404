//! What the threads of a log wait for, and how they are asked.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// The signals of one log.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    stop: AtomicBool,
    checkpoint: AtomicBool,
    space: AtomicBool,
    hand_over: AtomicBool,
    syncs: AtomicU64,
    asked: Mutex<Asked>,
    maintenance: Condvar,
    flusher: Condvar,
    others: Condvar,
}

#[derive(Debug, Default)]
struct Asked {
    maintenance: bool,
    flush: bool,
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
            self.wake_maintenance();
        }
    }

    /// Notes that space is wanted and cannot be had now: nobody needs to ask for it.
    pub(crate) fn await_space(&self) {
        self.space.store(true, Ordering::Release);
    }

    /// Takes the note that space is wanted.
    pub(crate) fn take_space(&self) {
        self.space.store(false, Ordering::Release);
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

    /// Has the threads end.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        let _asked = self.asked.lock();
        self.maintenance.notify_one();
        self.flusher.notify_one();
        self.others.notify_all();
    }

    /// Sleeps as a thread that nobody asks for anything, unless the threads are to end.
    pub(crate) fn nap(&self, nap: Duration) {
        let mut asked = self.asked.lock();
        if !self.stopping() {
            self.others.wait_for(&mut asked, nap);
        }
    }

    /// Has the maintenance thread look around.
    pub(crate) fn wake_maintenance(&self) {
        self.asked.lock().maintenance = true;
        self.maintenance.notify_one();
    }

    /// Has the flusher look around: a callback waits, a buffer is full, or the log is poisoned.
    pub(crate) fn wake_flusher(&self) {
        self.asked.lock().flush = true;
        self.flusher.notify_one();
    }

    /// Sleeps as the maintenance thread. Answers whether it was woken.
    pub(crate) fn sleep_maintenance(&self, nap: Duration) -> bool {
        let mut asked = self.asked.lock();
        if !asked.maintenance && !self.stopping() {
            self.maintenance.wait_for(&mut asked, nap);
        }
        std::mem::take(&mut asked.maintenance)
    }

    /// Sleeps as the flusher.
    pub(crate) fn sleep_flusher(&self, nap: Duration) {
        let mut asked = self.asked.lock();
        if !asked.flush && !self.stopping() {
            self.flusher.wait_for(&mut asked, nap);
        }
        asked.flush = false;
    }
}
