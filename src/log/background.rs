//! What the threads of the process do for a log: checkpoints, space ahead, syncs for callbacks.
//!
//! Owns: when these things happen. Does not own: how, nor the threads (`threads`). Without them the
//! same work is done inside the calls that need it.

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use super::shared::Shared;
use crate::error::{Error, Result};
use crate::format::number::to_u64;
use crate::options::{Durability, Options};
use crate::segment::space::Failed;
use crate::telemetry::stats::add;
use crate::threads::{Desk, Member, Work};

/// How long a log is left alone when nobody asks for anything.
const NAP: Duration = Duration::from_secs(1);

/// What was seen when maintenance last looked.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The durable part of the tail was looked at.
    tail: bool,
    syncs: u64,
    idle_for: Duration,
}

/// Threads that wait for a log. They are there before it is: a log that was created and lacks a thread
/// would be in the way of the next try.
#[derive(Debug, Default)]
pub(crate) struct Hired {
    member: Option<Member>,
    scrub: Option<(mpsc::Sender<Arc<Shared>>, JoinHandle<()>)>,
}

impl Hired {
    /// As many as a log with these options wants.
    pub(crate) fn new(path: &Path, options: &Options) -> Result<Self> {
        let mut hired = Self::default();
        if !options.background {
            return Ok(hired);
        }
        let failed = |source| Error::io("start a thread for", path, source);
        let watched: &[Desk] = if options.stall.is_some() { &[Desk::Watch] } else { &[] };
        let desks = [&[Desk::Maintain, Desk::Prepare, Desk::Flush], watched].concat();
        hired.member = Some(Member::join(&desks).map_err(failed)?);
        if options.scrub.is_some() {
            let (log, logs) = mpsc::channel::<Arc<Shared>>();
            let thread = std::thread::Builder::new().name("indelible-scrub".to_owned());
            let work = move || {
                // Otherwise there is to be no log.
                if let Ok(shared) = logs.recv() {
                    let _alarm = shared.outermost_alarm();
                    super::scrub::scrub_forever(&shared);
                }
            };
            hired.scrub = Some((log, thread.spawn(work).map_err(failed)?));
        }
        Ok(hired)
    }

    /// Has them work for the log.
    pub(crate) fn begin(mut self, shared: &Arc<Shared>) -> Threads {
        if let Some(member) = self.member.take() {
            let log: Weak<dyn Work> = Arc::<Shared>::downgrade(shared);
            shared.signals.begin(member, &log);
        }
        let thread = self.scrub.take().map(|(log, thread)| {
            // It waits for this.
            let _taken = log.send(Arc::clone(shared));
            thread
        });
        Threads(Mutex::new(thread))
    }
}

impl Drop for Hired {
    fn drop(&mut self) {
        if let Some(member) = &self.member {
            member.leave();
        }
    }
}

/// The threads of a log: its seat at those of the process, and one of its own if it is scrubbed.
#[derive(Debug)]
pub(crate) struct Threads(Mutex<Option<JoinHandle<()>>>);

impl Threads {
    /// Forgets the threads in a child that was forked, which has none of them.
    pub(crate) fn abandon(&mut self) {
        // Not even detached: that would be done to a thread of the parent's.
        self.0.get_mut().take().into_iter().for_each(std::mem::forget);
    }

    /// Ends their work for this log and waits for it; a thread that stops its own log is not waited
    /// for.
    pub(crate) fn stop(&self, shared: &Shared) {
        shared.signals.stop();
        let scrub = self.0.lock().take();
        if let Some(thread) = scrub
            && thread.thread().id() != std::thread::current().id()
        {
            // A panic there has been reported by the panic hook; there is nothing to add.
            let _ended = thread.join();
        }
    }
}

impl Work for Shared {
    fn work(&self, desk: Desk, asked: bool) -> Option<Duration> {
        let _alarm = self.outermost_alarm();
        if self.signals.stopping() {
            return None;
        }
        let done = match desk {
            Desk::Maintain => self.maintain_in_background(asked),
            Desk::Prepare => self.prepare_in_background(),
            Desk::Flush => self.flush_in_background(),
            Desk::Watch => Ok(super::watch::watch(self)),
        };
        // A failure here has poisoned the log: every caller is told.
        done.unwrap_or_else(|_| {
            self.call_back();
            None
        })
    }
}

impl Shared {
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
                // By a close that came right after the batch: it has written a checkpoint as well.
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
        if self.signals.wants_space() {
            // The thread tries again after a while, once it knows that there is something left to do.
            self.signals.wake_preparer();
        }
        if prepared.is_err() {
            self.call_back();
        }
        prepared
    }

    /// Makes space ready after the frames, and spares once a roll is near. A shortage leaves it to
    /// a later time, and to the commit that meets it; so does space that is held.
    fn prepare(&self, stop: &dyn Fn() -> bool) -> Result<()> {
        // A close waits for this, and nothing is begun after it.
        let _preparing = self.preparing.lock();
        let stop = &|| {
            let held = self.space_is_held();
            if held {
                self.signals.await_space();
            }
            held || stop()
        };
        if stop() {
            return Ok(());
        }
        add(&self.counters.not_removed, to_u64(self.spares.remove_leftovers().len()));
        self.signals.take_space();
        let (name, space, position, near) = {
            let writer = self.writer();
            let tail = writer.tail();
            let space = Arc::clone(&tail.space);
            (tail.segment.name, space, tail.position(), tail.is_near_a_roll())
        };
        let name = name.to_string();
        let failed = |source| Error::io("sync", self.dir.join(&name), source);
        // Frames may be among what does not get there, and no later sync would say so.
        let sync =
            |sync: &dyn Fn() -> io::Result<()>| self.without_the_turn(|| sync().map_err(failed));
        let prepared = space.prepare(position, stop, &sync).map(drop).map_err(|what| match what {
            Failed::Write(source) => {
                self.dir.full_or_io("write", &name, self.segment_bytes, source)
            }
            Failed::Sync(error) => error,
        });
        let prepared = match prepared {
            Ok(()) if near => self.prepare_spares(stop),
            other => other,
        };
        match prepared.map_err(|error| self.unless_shortage(error)) {
            Err(error) if error.is_shortage() => {
                self.signals.await_space();
                Ok(())
            }
            prepared => prepared,
        }
    }

    /// Whether anything was written or set since the newest checkpoint, or there is something to go
    /// with the next one.
    fn is_ahead_of_its_checkpoint(&self) -> bool {
        if self.side_files.any_unused() {
            return true;
        }
        self.syncer.is_ahead_of_its_checkpoint(self.writer.lazy_version())
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

    /// One round of maintenance. Returns when the next one is due.
    fn maintain_in_background(&self, asked: bool) -> Result<Option<Duration>> {
        if self.poison.get().is_some() {
            return Ok(None);
        }
        let idle_after = self.options.idle_checkpoint.max(Duration::from_millis(1));
        let nap = idle_after.min(NAP);
        let mut seen = self.signals.take_seen();
        if !seen.tail {
            // The durable part of the tail is looked at as soon as the open is over. What is
            // unreadable there poisons the log, as it would have had the open refused; for want of
            // memory it is looked at later.
            let looked = self.index_tail().map_err(|error| self.unless_shortage(error));
            if let Err(error) = &looked
                && !error.is_shortage()
            {
                return looked.map(|()| None);
            }
            seen.tail = looked.is_ok();
        }
        let syncs = self.signals.syncs();
        let busy = asked || syncs != seen.syncs;
        seen.idle_for = if busy { Duration::ZERO } else { seen.idle_for + nap };
        seen.syncs = syncs;
        if seen.idle_for >= idle_after {
            self.reader.warm().cool();
        }
        if seen.idle_for >= idle_after && self.is_ahead_of_its_checkpoint() {
            // The log went idle after a sync: a checkpoint records what became durable, so that
            // damage to the last acknowledged batch is never taken for a torn tail.
            self.signals.want_checkpoint();
        }
        self.signals.put_seen(seen);
        if self.signals.take_checkpoint() {
            self.checkpoint(false, 0)?;
        }
        Ok(Some(nap))
    }

    /// Makes space ready. What a full disk refuses is tried again after a while, as is all of it while
    /// space is held.
    fn prepare_in_background(&self) -> Result<Option<Duration>> {
        let stop = || self.signals.stopping() || self.poison.get().is_some();
        if !stop() {
            self.prepare(&stop)?;
        }
        Ok(self.signals.wants_space().then_some(NAP))
    }

    /// Hands full buffers to the file, and syncs for callbacks and intervals.
    fn flush_in_background(&self) -> Result<Option<Duration>> {
        self.not_poisoned()?;
        if self.signals.take_hand_over() {
            self.hand_over_offered()?;
        }
        let interval = match self.options.durability {
            Durability::Interval(every) => Some(every),
            _ => None,
        };
        let sequence = match interval {
            Some(_) => Some(self.syncer.newest_written()),
            None => self.syncer.wanted(),
        };
        if let Some(sequence) = sequence {
            self.wait_durable(sequence)?;
        }
        Ok(interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::sim::SimDisk;
    use crate::{Log, Options};

    #[test]
    fn idle_log_lets_go_of_its_newest_frames() {
        let place = tempfile::tempdir().unwrap();
        let options = Options::new().idle_checkpoint(Duration::from_millis(1));
        let log = Log::create(place.path().join("log"), &options).unwrap();
        log.append(b"read now and then").unwrap();
        let cold = || log.shared().reader.warm().is_empty();
        for _ in 0..20_000 {
            if cold() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(cold());
        assert_eq!(log.entry(0).unwrap(), b"read now and then");
    }

    /// Found by review. A call of `maintain` that was refused space noted it, and nobody came to it.
    #[test]
    fn space_that_a_call_could_not_have_is_made_ready_by_the_thread() {
        let options = Options::new().segment_bytes(256 * 1024);
        let log = Log::create_in(Arc::new(SimDisk::new(1)), &options).unwrap();
        let comes = |done: &dyn Fn() -> bool| {
            (0..20_000).any(|_| {
                std::thread::sleep(Duration::from_millis(1));
                done()
            })
        };
        // The first look of the thread that makes space ready.
        assert!(comes(&|| log.stats().spares > 0));
        std::thread::sleep(Duration::from_millis(100));
        let held = log.hold_space().unwrap();
        log.maintain().unwrap();
        assert!(comes(&|| log.shared().signals.wants_space()));
        drop(held);
        assert!(comes(&|| !log.shared().signals.wants_space()));
    }
}
