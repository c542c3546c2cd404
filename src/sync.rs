//! Group commit: who syncs, who waits, and what is durable.
//!
//! Owns: the durable watermark, the election of one syncing thread among those that wait, and the
//! completion of the others. Does not own: what a sync does (`log::checkpoint`).
//!
//! INV-6: `durable` moves only after a sync that took stock at or after the batch's write, and, if
//! a segment was begun, after the checkpoint that names it.
//!
//! While one thread syncs, writers go on filling the next batch; they wait in two groups, those
//! whom the sync in flight covers and those for the next one, so that each wake-up is of use.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use crate::clock::Moment;
use crate::error::{Error, Result};
use crate::primitives::{AtomicBool, AtomicU64, Condvar, Mutex, Ordering};

#[cfg(all(test, loom))]
mod model;

/// Called once when a batch is durable, or never will be.
pub(crate) type Callback = Box<dyn FnOnce(Result<()>) + Send>;

/// The share of the last sync's duration that a leader gives released writers to come back.
const RETURN_SHARE: u32 = 4;

/// The waiting room of one log.
pub(crate) struct Group {
    state: Mutex<GroupState>,
    /// Those the sync in flight covers wait at its number's parity, the others at the other one.
    done: [Condvar; 2],
    written: AtomicU64,
    durable: AtomicU64,
    /// Odd while a sync is in flight.
    epoch: AtomicU64,
    failed: AtomicBool,
}

#[derive(Default)]
struct GroupState {
    syncing: bool,
    /// Number of the sync in flight, or of the next one.
    number: u64,
    /// What the sync in flight covers, once it has taken stock.
    target: Option<u64>,
    /// Waiting threads, by parity.
    waiting: [usize; 2],
    /// How many threads the last sync released, and how long it took.
    released: usize,
    took: Duration,
    /// Who waits for which batch.
    callbacks: Vec<(u64, Callback)>,
    /// Whose batch is decided, in the order in which they are called.
    due: VecDeque<(Callback, Result<()>)>,
    /// Some thread is calling them; whatever else comes due is its to call.
    calling: bool,
}

/// The right to sync. Whoever holds it must give it back through [`Group::finish`].
#[derive(Debug)]
pub(crate) struct Turn(());

/// What a waiting thread is to do next.
pub(crate) enum Next {
    Durable,
    Lead(Turn),
    /// Woken without being durable: look at the log's health, then wait again.
    LookAgain,
}

impl Group {
    pub(crate) fn new(sequence: u64) -> Self {
        Self {
            state: Mutex::new(GroupState::default()),
            done: [Condvar::new(), Condvar::new()],
            written: AtomicU64::new(sequence),
            durable: AtomicU64::new(sequence),
            epoch: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        }
    }

    /// The newest batch that is durable.
    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// The newest batch that was written.
    pub(crate) fn newest_written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Notes that a batch was written.
    pub(crate) fn written(&self, sequence: u64) {
        self.written.store(sequence, Ordering::Release);
    }

    /// Counts the starts and ends of syncs.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Wakes every thread so that it sees a failure.
    pub(crate) fn wake_everyone(&self) {
        self.failed.store(true, Ordering::Release);
        let _state = self.state.lock();
        for done in &self.done {
            done.notify_all();
        }
    }

    /// One step of waiting for `sequence`: the caller leads a sync, or sleeps through one.
    pub(crate) fn wait(&self, sequence: u64) -> Next {
        let mut state = self.state.lock();
        if self.durable() >= sequence {
            // Whoever was woken to lead and need not hands the chance on.
            if !state.syncing {
                self.done.iter().for_each(|done| {
                    done.notify_one();
                });
            }
            return Next::Durable;
        }
        if !state.syncing {
            return Next::Lead(self.begin(&mut state));
        }
        if self.failed.load(Ordering::Acquire) {
            return Next::LookAgain;
        }
        // A sync that has taken stock covers only what was written before; until it has, it
        // covers everyone who waits by now.
        let covered = state.target.is_none_or(|target| target >= sequence);
        let parity = usize::from(state.number % 2 == u64::from(covered));
        if let (Some(waiting), Some(done)) = (state.waiting.get_mut(parity), self.done.get(parity))
        {
            *waiting += 1;
            done.wait(&mut state);
            if let Some(waiting) = state.waiting.get_mut(parity) {
                *waiting = waiting.saturating_sub(1);
            }
        }
        Next::LookAgain
    }

    /// Waits for the right to sync, whoever else wants it.
    pub(crate) fn turn(&self) -> Turn {
        let mut state = self.state.lock();
        while state.syncing {
            let parity = usize::from(state.number.is_multiple_of(2));
            if let Some(done) = self.done.get(parity) {
                done.wait(&mut state);
            }
        }
        self.begin(&mut state)
    }

    fn begin(&self, state: &mut GroupState) -> Turn {
        state.syncing = true;
        state.target = None;
        self.epoch.fetch_add(1, Ordering::AcqRel);
        Turn(())
    }

    /// Lets more writers join: those the last sync released, for a part of what it took, and
    /// anyone for `window`. A lone writer never waits here.
    pub(crate) fn gather(&self, _turn: &Turn, window: Duration) {
        let (expected, took) = {
            let state = self.state.lock();
            (state.released, state.took)
        };
        if expected <= 1 && window.is_zero() {
            return;
        }
        let (start, patience) = (Moment::now(), took / RETURN_SHARE);
        loop {
            let elapsed = start.elapsed();
            let arrived = 1 + self.state.lock().waiting.iter().sum::<usize>();
            let expecting = arrived < expected && elapsed < patience;
            if !expecting && elapsed >= window {
                return;
            }
            std::thread::yield_now();
        }
    }

    /// Tells waiting threads what the sync in flight covers.
    pub(crate) fn took_stock(&self, _turn: &Turn, sequence: u64) {
        self.state.lock().target = Some(sequence);
    }

    /// Ends a sync. With `durable`, everything up to it is on media; [`Self::call_back`] then tells
    /// those who wait for it.
    pub(crate) fn finish(&self, Turn(()): Turn, durable: Option<u64>, took: Duration) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        let mut state = self.state.lock();
        if let Some(sequence) = durable {
            self.durable.fetch_max(sequence, Ordering::AcqRel);
            state.took = took;
        }
        let parity = usize::from(state.number % 2 == 1);
        state.released = 1 + state.waiting.get(parity).copied().unwrap_or(0);
        state.syncing = false;
        state.number += 1;
        let [even, odd] = &self.done;
        let (covered, next) = if parity == 0 { (even, odd) } else { (odd, even) };
        // The next leader first: the device waits for it.
        next.notify_one();
        covered.notify_all();
        self.note_due(&mut state);
    }

    /// Registers a callback. Answers whether it has to wait for a sync; otherwise it is due, with
    /// what `health` says unless its batch is durable.
    pub(crate) fn register(
        &self,
        sequence: u64,
        callback: Callback,
        health: impl FnOnce() -> Result<()>,
    ) -> bool {
        let mut state = self.state.lock();
        if self.durable() >= sequence {
            state.due.push_back((callback, Ok(())));
            return false;
        }
        if self.failed.load(Ordering::Acquire) {
            state.due.push_back((callback, health()));
            return false;
        }
        state.callbacks.push((sequence, callback));
        true
    }

    /// Calls those who are due, outside every lock and one after the other: if another thread is at
    /// it, that one goes on with them.
    pub(crate) fn call_back(&self) {
        while let Some(turn) = self.begin_calling() {
            for (callback, result) in turn.due.take() {
                callback(result);
            }
        }
    }

    fn begin_calling(&self) -> Option<Calling<'_>> {
        let mut state = self.state.lock();
        if state.calling || state.due.is_empty() {
            return None;
        }
        state.calling = true;
        let due = Cell::new(std::mem::take(&mut state.due));
        Some(Calling { group: self, due })
    }

    /// The newest batch that a callback waits for.
    pub(crate) fn wanted(&self) -> Option<u64> {
        self.state.lock().callbacks.iter().map(|(sequence, _)| *sequence).max()
    }

    /// Every callback is due, whatever it waits for: after a failure.
    pub(crate) fn fail_all(&self, error: &Error) {
        let mut state = self.state.lock();
        let callbacks = std::mem::take(&mut state.callbacks);
        state.due.extend(callbacks.into_iter().map(|(_, it)| (it, Err(error.clone()))));
    }

    fn note_due(&self, state: &mut GroupState) {
        if state.callbacks.is_empty() {
            return;
        }
        let durable = self.durable();
        let mut due: Vec<_> =
            state.callbacks.extract_if(.., |(sequence, _)| *sequence <= durable).collect();
        due.sort_by_key(|(sequence, _)| *sequence);
        state.due.extend(due.into_iter().map(|(_, callback)| (callback, Ok(()))));
    }
}

/// The right to call back. It ends with this value, also if a callback panics.
struct Calling<'a> {
    group: &'a Group,
    due: Cell<VecDeque<(Callback, Result<()>)>>,
}

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        self.group.state.lock().calling = false;
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("written", &self.newest_written())
            .field("durable", &self.durable())
            .finish_non_exhaustive()
    }
}
