//! The threads of a log: one prepares, checkpoints and tidies, the other syncs for callbacks.
//!
//! Owns: when these things happen. Does not own: how. Without threads the same work is done inside
//! the calls that need it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::shared::{Shared, Writer};
use crate::error::{Error, Result};
use crate::options::Durability;
use crate::stats::add;

/// How long the maintenance thread sleeps when nobody asks for anything.
const NAP: Duration = Duration::from_secs(1);

/// What the threads wait for.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    stop: AtomicBool,
    checkpoint: AtomicBool,
    spare: AtomicBool,
    syncs: AtomicU64,
    asked: Mutex<Asked>,
    maintenance: Condvar,
    flusher: Condvar,
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

    /// Notes that a spare was used.
    pub(crate) fn want_spare(&self) {
        self.spare.store(true, Ordering::Release);
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn wake_maintenance(&self) {
        self.asked.lock().maintenance = true;
        self.maintenance.notify_one();
    }

    /// Has the flusher sync for a callback.
    pub(crate) fn wake_flusher(&self) {
        self.asked.lock().flush = true;
        self.flusher.notify_one();
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        let _asked = self.asked.lock();
        self.maintenance.notify_one();
        self.flusher.notify_one();
    }
}

/// The running threads.
#[derive(Debug, Default)]
pub(crate) struct Threads(Mutex<Vec<JoinHandle<()>>>);

impl Threads {
    /// Starts the threads of a log that wants them.
    pub(crate) fn start(shared: &Arc<Shared>) -> Result<Self> {
        let threads = Self::default();
        if shared.options.background {
            threads.spawn(shared, "indelible-maintenance", maintain)?;
            threads.spawn(shared, "indelible-flusher", flush)?;
        }
        Ok(threads)
    }

    fn spawn(&self, shared: &Arc<Shared>, name: &str, work: fn(&Shared)) -> Result<()> {
        let (path, shared) = (shared.dir.path().to_path_buf(), Arc::clone(shared));
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || work(&shared))
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
    pub(crate) fn ask_for_maintenance(&self, writer: &Writer) {
        let step = self.options.checkpoint_bytes_in_force(self.segment_bytes);
        let near = writer.reach < self.segment_bytes && writer.tail.position + step > writer.reach;
        if near || !writer.dead.is_empty() || !writer.dead_files.is_empty() {
            self.signals.checkpoint.store(true, Ordering::Release);
        }
    }

    /// Has the rest done: by the thread, or here.
    pub(crate) fn after_write(&self) -> Result<()> {
        if self.options.background && self.signals.spare.load(Ordering::Acquire) {
            self.signals.spare.store(false, Ordering::Release);
            self.signals.wake_maintenance();
        }
        if !self.signals.checkpoint.load(Ordering::Acquire) {
            return Ok(());
        }
        if self.options.background {
            self.signals.wake_maintenance();
            return Ok(());
        }
        if self.signals.checkpoint.swap(false, Ordering::AcqRel) {
            self.checkpoint(false, 0)?;
        }
        Ok(())
    }

    /// Does everything that may be left to do.
    pub(crate) fn maintain_now(&self) -> Result<()> {
        self.usable()?;
        self.signals.checkpoint.store(false, Ordering::Release);
        self.checkpoint(false, 0)?;
        self.prepare_spares(&|| false)
    }

    fn prepare_spares(&self, stop: &dyn Fn() -> bool) -> Result<()> {
        while self.spares.wanting() && !stop() {
            match self.spares.prepare(stop) {
                Ok(Some(spare)) => {
                    self.spares.put(spare);
                    add(&self.counters.prepared, 1);
                }
                Ok(None) => {}
                Err(Error::DiskFull { .. }) => {
                    add(&self.counters.disk_full, 1);
                    return Ok(());
                }
                Err(error) => return Err(self.poisoned_by(error)),
            }
        }
        Ok(())
    }
}

/// The maintenance thread.
fn maintain(shared: &Shared) {
    let stop = || shared.signals.stopping() || shared.poison.get().is_some();
    let mut syncs_before = 0;
    while !stop() {
        let round = || {
            if shared.signals.checkpoint.swap(false, Ordering::AcqRel) {
                shared.checkpoint(false, 0)?;
            }
            shared.prepare_spares(&stop)
        };
        // A failure here has poisoned the log: every caller is told.
        if round().is_err() {
            shared.fail_callbacks();
            return;
        }
        let nap = shared.options.idle_checkpoint.min(NAP);
        let asked = {
            let mut asked = shared.signals.asked.lock();
            if !asked.maintenance && !stop() {
                shared.signals.maintenance.wait_for(&mut asked, nap);
            }
            std::mem::take(&mut asked.maintenance)
        };
        let syncs = shared.signals.syncs.load(Ordering::Relaxed);
        let idle = !asked && syncs == syncs_before;
        syncs_before = syncs;
        if idle && shared.group.newest_written() > shared.metadata.lock().sequence && !stop() {
            // The log went idle after a sync: a checkpoint records what became durable, so that
            // damage to the last acknowledged batch is never taken for a torn tail.
            shared.signals.checkpoint.store(true, Ordering::Release);
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
        {
            let mut asked = shared.signals.asked.lock();
            if !asked.flush && !shared.signals.stopping() {
                shared.signals.flusher.wait_for(&mut asked, interval.unwrap_or(NAP));
            }
            asked.flush = false;
        }
        let sequence = match interval {
            Some(_) => Some(shared.group.newest_written()),
            None => shared.group.wanted(),
        };
        if let Some(sequence) = sequence
            && shared.wait_durable(sequence).is_err()
        {
            shared.fail_callbacks();
        }
    }
}
