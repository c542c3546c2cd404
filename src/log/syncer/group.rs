//! Group commit: who syncs, who waits, and what is durable.
//!
//! Owns: the durable watermark, the election of one syncing thread among those that wait, and the
//! completion of the others. Does not own: what a sync does (`sync`).
//!
//! INV-6: `durable` moves only after a sync that took stock at or after the batch's write, and, if
//! a segment was begun, after the checkpoint that names it.
//!
//! While one thread syncs, writers go on filling the next batch; they wait at two gates, those
//! whom the sync in flight covers and those for the next one, so that each wake-up is of use.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::clock::Moment;
use crate::error::{Error, Result};
use crate::primitives::{AtomicBool, AtomicU64, Gate, Mutex, Ordering};

#[cfg(all(test, loom))]
mod model;

/// Called once when a batch is durable, or never will be.
pub(crate) type Callback = Box<dyn FnOnce(Result<()>) + Send>;

/// Longest time a leader gives writers that were just released to come back, whatever a sync takes.
const PATIENCE_MAX: Duration = Duration::from_micros(500);

/// The waiting room of one log.
pub(crate) struct Group {
    state: Mutex<Queue>,
    /// Those the sync in flight covers wait at the gate of its number's parity, the others at the
    /// other one.
    gates: [Gate; 2],
    written: AtomicU64,
    durable: AtomicU64,
    failed: AtomicBool,
}

#[derive(Default)]
struct Queue {
    syncing: bool,
    /// Number of the sync in flight, or of the next one.
    number: u64,
    /// What the sync in flight covers, once it has taken stock.
    target: Option<u64>,
    /// Threads at each gate, by parity.
    waiting: [u64; 2],
    /// How many of these wait for the turn itself, and have no batch.
    without_batch: u64,
    /// How many threads with batches were at it when the last sync ended: the one that led it, those
    /// it released, and those who wait for the next one. They may all be back soon.
    expected: u64,
    /// When the last sync ended, and how long it took.
    ended: Option<Moment>,
    took: Duration,
    /// Who waits for which batch.
    callbacks: Vec<(u64, Callback)>,
    /// Whose batch is decided, in the order in which they are called.
    due: VecDeque<(Callback, Result<()>)>,
    /// Some thread is calling them; whatever else comes due is its to call.
    calling: bool,
}

/// The right to sync, which one thread has at a time. It ends with [`Turn::finish`], or when it is
/// dropped, in whatever way its holder comes out: then nothing became durable.
pub(crate) struct Turn<'a> {
    group: &'a Group,
    /// Its holder waits for a batch, and may be back with the next one.
    with_batch: bool,
    /// It was finished.
    over: bool,
}

/// What a waiting thread is to do next.
pub(crate) enum Next<'a> {
    Durable,
    Lead(Turn<'a>),
    /// Woken without being durable: look at the log's health, then wait again.
    LookAgain,
}

impl Group {
    pub(crate) fn new(sequence: u64) -> Self {
        Self {
            state: Mutex::new(Queue::default()),
            gates: [Gate::new(), Gate::new()],
            written: AtomicU64::new(sequence),
            durable: AtomicU64::new(sequence),
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
    #[inline]
    pub(crate) fn note_written(&self, sequence: u64) {
        self.written.store(sequence, Ordering::Release);
    }

    /// Notes, batch by batch, that each needs no sync to be as durable as it gets. Nobody waits for
    /// one, then.
    #[inline]
    pub(crate) fn is_durable(&self, sequence: u64) {
        self.durable.store(sequence, Ordering::Release);
    }

    /// Wakes every thread so that it sees a failure.
    pub(crate) fn wake_everyone(&self) {
        self.failed.store(true, Ordering::Release);
        {
            let _state = self.state.lock();
            self.gates.iter().for_each(Gate::open);
        }
        self.gates.iter().for_each(Gate::wake_all);
    }

    /// One step of waiting for `sequence`: the caller leads a sync, or sleeps through one.
    pub(crate) fn wait(&self, sequence: u64) -> Next<'_> {
        if self.durable() >= sequence {
            return Next::Durable;
        }
        let (gate, seen) = {
            let mut state = self.state.lock();
            if self.durable() >= sequence {
                return Next::Durable;
            }
            if !state.syncing {
                return Next::Lead(self.begin(&mut state, true));
            }
            if self.failed.load(Ordering::Acquire) {
                return Next::LookAgain;
            }
            // A sync that has taken stock covers only what was written before; until it has, it
            // covers everyone who waits by now.
            let covered = state.target.is_none_or(|target| target >= sequence);
            self.queue(&mut state, covered)
        };
        gate.wait(seen);
        Next::LookAgain
    }

    /// Waits for the right to sync, whoever else wants it, for somebody who has no batch.
    pub(crate) fn turn(&self) -> Turn<'_> {
        let mut waited = false;
        loop {
            let (gate, seen) = {
                let mut state = self.state.lock();
                state.without_batch -= u64::from(waited);
                if !state.syncing {
                    return self.begin(&mut state, false);
                }
                state.without_batch += 1;
                self.queue(&mut state, false)
            };
            gate.wait(seen);
            waited = true;
        }
    }

    /// Counts a thread at the gate of the sync in flight, or of the next one, and returns where it
    /// has to wait.
    fn queue(&self, state: &mut Queue, covered: bool) -> (&Gate, u32) {
        let [even, odd] = &self.gates;
        let [at_even, at_odd] = &mut state.waiting;
        let even_number = state.number.is_multiple_of(2);
        let (gate, waiting) = if even_number == covered { (even, at_even) } else { (odd, at_odd) };
        *waiting += 1;
        (gate, gate.look())
    }

    fn begin(&self, state: &mut Queue, with_batch: bool) -> Turn<'_> {
        state.syncing = true;
        state.target = None;
        Turn { group: self, with_batch, over: false }
    }

    fn gather(&self, window: Duration) {
        let (expected, ended, patience) = {
            let state = self.state.lock();
            (state.expected, state.ended, state.took.min(PATIENCE_MAX))
        };
        if expected <= 1 && window.is_zero() {
            return;
        }
        let start = Moment::now();
        loop {
            let arrived = self.newest_written().saturating_sub(self.durable());
            let patient = ended.is_some_and(|ended| ended.elapsed() < patience);
            if arrived < expected && patient {
                std::thread::yield_now();
                continue;
            }
            // Nobody is expected any more, so nothing is missed by whoever sleeps.
            let left = window.saturating_sub(start.elapsed());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left);
        }
    }

    fn finish(&self, durable: Option<u64>, took: Duration, with_batch: bool) {
        let [even, odd] = &self.gates;
        let (covered, crowd, next, one) = {
            let mut state = self.state.lock();
            if let Some(sequence) = durable {
                self.durable.fetch_max(sequence, Ordering::AcqRel);
                (state.took, state.ended) = (took, Some(Moment::now()));
            }
            let waiting = state.waiting.iter().sum::<u64>() + u64::from(with_batch);
            // Who was woken and has not looked yet is counted on one side only.
            state.expected = waiting.saturating_sub(state.without_batch);
            state.syncing = false;
            let even_number = state.number.is_multiple_of(2);
            state.number += 1;
            let [at_even, at_odd] = &mut state.waiting;
            let (covered, crowd, next, queue) = if even_number {
                (even, at_even, odd, at_odd)
            } else {
                (odd, at_odd, even, at_even)
            };
            let (crowd, one) = (std::mem::take(crowd) > 0, *queue > 0);
            *queue = queue.saturating_sub(1);
            covered.open();
            next.open();
            self.note_due(&mut state);
            (covered, crowd, next, one)
        };
        // Those who are let through need the group's lock again soon: it is free by now. The next
        // leader first, the device waits for it. If somebody else has led the next sync before it
        // wakes up, that sync covers it, and its end wakes another one.
        if one {
            next.wake_one();
        }
        if crowd {
            covered.wake_all();
        }
    }

    /// Registers a callback. Returns whether it has to wait for a sync; otherwise it is due, with
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
    /// it, that one goes on with them. Returns whether one of them panicked: the panic hook has
    /// reported it, and neither those after it nor whoever happened to sync are kept from going on.
    pub(crate) fn call_back(&self) -> bool {
        let mut panicked = false;
        while let Some(due) = self.begin_calling() {
            for (callback, result) in due {
                panicked |= catch_unwind(AssertUnwindSafe(|| callback(result))).is_err();
            }
            self.state.lock().calling = false;
        }
        panicked
    }

    fn begin_calling(&self) -> Option<VecDeque<(Callback, Result<()>)>> {
        let mut state = self.state.lock();
        if state.calling || state.due.is_empty() {
            return None;
        }
        state.calling = true;
        Some(std::mem::take(&mut state.due))
    }

    /// The newest batch that a callback waits for.
    pub(crate) fn wanted(&self) -> Option<u64> {
        self.state.lock().callbacks.iter().map(|(sequence, _)| *sequence).max()
    }

    /// Every callback is due, whatever it waits for: after a failure.
    pub(crate) fn fail_all(&self, error: &Error) {
        let mut state = self.state.lock();
        let mut callbacks = std::mem::take(&mut state.callbacks);
        callbacks.sort_by_key(|(sequence, _)| *sequence);
        state.due.extend(callbacks.into_iter().map(|(_, it)| (it, Err(error.clone()))));
    }

    fn note_due(&self, state: &mut Queue) {
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

impl Turn<'_> {
    /// Lets more writers join: those that were at it when the last sync ended, for as long again as
    /// it took, and anyone for `window`. A lone writer never waits here, and nobody waits for
    /// writers that stayed away: the number expected is counted anew at every sync.
    pub(crate) fn gather(&self, window: Duration) {
        self.group.gather(window);
    }

    /// Tells waiting threads what the sync in flight covers.
    pub(crate) fn took_stock(&self, sequence: u64) {
        self.group.state.lock().target = Some(sequence);
    }

    /// Ends the sync. Everything up to `durable` is on media; [`Group::call_back`] then tells those
    /// who wait for it.
    pub(crate) fn finish(mut self, durable: u64, took: Duration) {
        self.over = true;
        self.group.finish(Some(durable), took, self.with_batch);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.group.finish(None, Duration::ZERO, self.with_batch);
        }
    }
}

impl fmt::Debug for Turn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("over", &self.over).finish_non_exhaustive()
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

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A checkpoint beside a lone writer: nobody will come back with a batch but the writer itself.
    #[test]
    fn nobody_waits_for_a_batch_of_a_checkpoint() {
        let group = Arc::new(Group::new(0));
        group.note_written(1);
        let Next::Lead(turn) = group.wait(1) else { panic!("nobody else leads") };
        let checkpoint = {
            let group = Arc::clone(&group);
            std::thread::spawn(move || drop(group.turn()))
        };
        while group.state.lock().without_batch == 0 {
            std::thread::yield_now();
        }
        turn.finish(1, Duration::ZERO);
        assert!(group.state.lock().expected <= 1);
        checkpoint.join().unwrap();
        assert_eq!(group.state.lock().expected, 0);
    }
}
