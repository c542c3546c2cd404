//! The threads of a log: one prepares, checkpoints and tidies, the other syncs for callbacks and
//! hands full buffers to the file.
//!
//! Owns: when these things happen. Does not own: how. Without threads the same work is done inside
//! the calls that need it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use super::shared::{Shared, Writer};
use crate::error::{Error, Result};
use crate::options::Durability;
use crate::segment::space::Failed;
use crate::stats::add;

/// How long the maintenance thread sleeps when nobody asks for anything.
const NAP: Duration = Duration::from_secs(1);

/// The running threads.
#[derive(Debug, Default)]
pub(crate) struct Threads(Mutex<Vec<JoinHandle<()>>>);

impl Threads {
    /// Starts the threads of a log that wants them.
    pub(crate) fn start(shared: &Arc<Shared>) -> Result<Self> {
        let threads = Self::default();
        if shared.options.background {
            // Those that started must not keep the directory locked if one does not.
            threads.start_all(shared).inspect_err(|_| threads.stop(shared))?;
        }
        Ok(threads)
    }

    fn start_all(&self, shared: &Arc<Shared>) -> Result<()> {
        self.spawn(shared, "indelible-maintenance", maintain)?;
        self.spawn(shared, "indelible-flusher", flush)?;
        if shared.options.stall.is_some() {
            self.spawn(shared, "indelible-watchdog", super::watch::watch)?;
        }
        if shared.options.scrub.is_some() {
            self.spawn(shared, "indelible-scrub", super::scrub::scrub_forever)?;
        }
        Ok(())
    }

    fn spawn(&self, shared: &Arc<Shared>, name: &str, work: fn(&Shared)) -> Result<()> {
        let (path, shared) = (shared.dir.path().to_path_buf(), Arc::clone(shared));
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let _alarm = shared.outermost_alarm();
                work(&shared);
            })
            .map_err(|source| Error::io("start a thread for", path, source))?;
        self.0.lock().push(thread);
        Ok(())
    }

    /// Stops the threads and waits for them; a thread that stops its own log is not waited for.
    pub(crate) fn stop(&self, shared: &Shared) {
        shared.signals.stop();
        let threads = std::mem::take(&mut *self.0.lock());
        for thread in threads {
            if thread.thread().id() != std::thread::current().id() {
                // A panic there has been reported by the panic hook; there is nothing to add.
                let _ended = thread.join();
            }
        }
    }
}

impl Shared {
    /// Notes, with the writer's lock held, what a batch leaves to be done.
    pub(crate) fn ask_for_maintenance(&self, writer: &mut Writer) {
        let step = self.options.checkpoint_bytes_in_force(self.segment_bytes);
        let near =
            writer.reach < self.segment_bytes && writer.tail.position() + step > writer.reach;
        if near || !writer.dead.is_empty() || !writer.dead_files.is_empty() {
            self.signals.want_checkpoint();
        }
        let short = writer.tail.space.is_short(writer.tail.position());
        if (writer.tail.comes_near_a_roll() || short) && self.options.background {
            self.signals.want_space();
        }
    }

    /// Has the rest done: by the thread, or here.
    pub(crate) fn after_write(&self) -> Result<()> {
        if !self.signals.wants_checkpoint() {
            return Ok(());
        }
        if self.options.background {
            self.signals.wake_maintenance();
            return Ok(());
        }
        if self.signals.take_checkpoint() {
            return match self.checkpoint(false, 0) {
                // By a close that came right behind the batch: it has written a checkpoint as well.
                Err(Error::Closed) => Ok(()),
                written => written,
            };
        }
        Ok(())
    }

    /// Does everything that may be left to do.
    pub(crate) fn maintain_now(&self) -> Result<()> {
        let _alarm = self.outermost_alarm();
        self.usable()?;
        self.signals.take_checkpoint();
        self.checkpoint(false, 0)?;
        let prepared = self.prepare(&|| self.closed.load(Ordering::Acquire));
        if prepared.is_err() {
            self.call_back();
        }
        prepared
    }

    /// Makes space ready behind the frames, and spares once a roll is near. A full disk leaves it to
    /// a later time, and to the commit that meets it.
    fn prepare(&self, stop: &dyn Fn() -> bool) -> Result<()> {
        self.spares.remove_leftovers().map_err(|error| self.poisoned_by(error))?;
        self.signals.take_space();
        let (name, space, position, near) = {
            let tail = &self.writer.lock().tail;
            let space = Arc::clone(&tail.space);
            (tail.segment.name, space, tail.position(), tail.is_near_a_roll())
        };
        let prepared = space.prepare(position, stop).map(|_| ()).map_err(|failed| match failed {
            Failed::Write(source) => {
                self.dir.full_or_io("write", &name.to_string(), self.segment_bytes, source)
            }
            // Frames may be among what did not get there, and no later sync would say so.
            Failed::Sync(source) => Error::io("sync", self.dir.join(&name.to_string()), source),
        });
        let prepared = match prepared {
            Ok(()) if near => self.prepare_spares(stop),
            other => other,
        };
        match prepared {
            Err(Error::DiskFull { .. }) => {
                add(&self.counters.disk_full, 1);
                self.signals.await_space();
                Ok(())
            }
            Err(error) => Err(self.poisoned_by(error)),
            Ok(()) => Ok(()),
        }
    }

    /// Whether anything was written or set since the newest checkpoint.
    fn is_ahead_of_its_checkpoint(&self) -> bool {
        let metadata = self.metadata.lock();
        self.group.newest_written() > metadata.sequence
            || self.lazy_version.load(Ordering::Acquire) > metadata.lazy_version
    }

    fn prepare_spares(&self, stop: &dyn Fn() -> bool) -> Result<()> {
        while self.spares.wanting() && !stop() {
            if let Some(spare) = self.spares.prepare(stop)? {
                self.spares.put(spare);
                add(&self.counters.prepared, 1);
            }
        }
        Ok(())
    }
}

/// The maintenance thread.
fn maintain(shared: &Shared) {
    let stop = || shared.signals.stopping() || shared.poison.get().is_some();
    let idle_after = shared.options.idle_checkpoint.max(Duration::from_millis(1));
    let (mut syncs_before, mut idle_for) = (0, Duration::ZERO);
    // The durable part of the tail is looked at as soon as the open is over. What is unreadable there
    // poisons the log, as it would have had the open refused.
    if shared.index_tail().map_err(|error| shared.poisoned_by(error)).is_err() {
        shared.call_back();
    }
    while !stop() {
        let round = || {
            if shared.signals.take_checkpoint() {
                shared.checkpoint(false, 0)?;
            }
            shared.prepare(&stop)
        };
        // A failure here has poisoned the log: every caller is told.
        if round().is_err() {
            shared.call_back();
            return;
        }
        let nap = idle_after.min(NAP);
        let asked = shared.signals.sleep_maintenance(nap);
        let syncs = shared.signals.syncs();
        idle_for = if asked || syncs != syncs_before { Duration::ZERO } else { idle_for + nap };
        syncs_before = syncs;
        let is_idle = idle_for >= idle_after;
        if is_idle && shared.is_ahead_of_its_checkpoint() && !stop() {
            // The log went idle after a sync: a checkpoint records what became durable, so that
            // damage to the last acknowledged batch is never taken for a torn tail.
            shared.signals.want_checkpoint();
        }
    }
}

/// The flusher thread.
fn flush(shared: &Shared) {
    let interval = match shared.options.durability {
        Durability::Interval(every) => Some(every),
        _ => None,
    };
    while !shared.signals.stopping() && shared.poison.get().is_none() {
        shared.signals.sleep_flusher(interval.unwrap_or(NAP));
        if shared.signals.take_hand_over() && shared.hand_over().is_err() {
            break;
        }
        let sequence = match interval {
            Some(_) => Some(shared.group.newest_written()),
            None => shared.group.wanted(),
        };
        if let Some(sequence) = sequence
            && shared.wait_durable(sequence).is_err()
        {
            break;
        }
    }
    shared.call_back();
}
