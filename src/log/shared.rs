//! What all handles, tickets and threads of one open log share.
//!
//! Owns: putting writer, syncer and reader together, and whether the log may still be used. Does not
//! own: anything that one of the three does.
//!
//! Lock order: `preparing`, `checkpointing`, the turn to sync, `writer`, `unindexed`, `view`,
//! `handing_over`. Each but the first and the last stands in one of the three rooms, which are
//! taken from the syncer down. Under the others no lock is taken, but for what poisoning the log
//! takes: the newest checkpoint, the syncs without the turn, the side files, and those of the
//! group, the signals and the spares. The host's callbacks run under none.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::reader::Reader;
use super::signals::Signals;
use super::syncer::Syncer;
use super::watch::Watch;
use super::writer::WriterLock;
use crate::directory::Dir;
use crate::directory::identity::Uuid;
use crate::directory::side_file::{Owner, SideFiles};
use crate::directory::spares::Spares;
use crate::error::{Error, Result};
use crate::io::Lock;
use crate::options::Options;
use crate::planted::{Bug, planted};
use crate::recovery::RecoveryReport;
use crate::telemetry::stats::Counters;

/// One open log.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) dir: Dir,
    pub(crate) uuid: Uuid,
    pub(crate) options: Options,
    pub(crate) segment_bytes: u64,
    pub(crate) report: RecoveryReport,
    pub(super) writer: WriterLock,
    pub(crate) syncer: Syncer,
    pub(super) reader: Reader,
    pub(crate) spares: Spares,
    pub(crate) side_files: Arc<SideFiles>,
    pub(crate) counters: Counters,
    pub(crate) signals: Signals,
    pub(crate) watch: Watch,
    pub(crate) poison: OnceLock<Arc<Error>>,
    pub(crate) closed: AtomicBool,
    /// Held while space and spares are made ready.
    pub(super) preparing: Mutex<()>,
    /// How many want the log to take no space.
    pub(super) space_held: AtomicUsize,
    pub(crate) lock: Mutex<Option<Box<dyn Lock>>>,
}

/// Poisons the log and wakes everybody if a panic unwinds past it: what was under way is neither
/// done nor undone.
#[derive(Debug)]
pub(crate) struct Alarm<'a> {
    shared: &'a Shared,
    /// The thread was unwinding already: it closes the log on its way.
    unwinding: bool,
    /// No lock is held around it, so that it may call back.
    outermost: bool,
}

impl Drop for Alarm<'_> {
    #[inline]
    fn drop(&mut self) {
        if std::thread::panicking() && !self.unwinding {
            self.shared.panicked();
            if self.outermost {
                self.shared.call_back();
            }
        }
    }
}

impl Shared {
    /// Set around whatever must not be left half done, under a lock or in a turn. Declared after
    /// those, so that it goes off before they are let go.
    #[inline]
    pub(crate) fn alarm(&self) -> Alarm<'_> {
        Alarm { shared: self, unwinding: std::thread::panicking(), outermost: false }
    }

    /// The same where no lock is held.
    #[inline]
    pub(crate) fn outermost_alarm(&self) -> Alarm<'_> {
        Alarm { outermost: true, ..self.alarm() }
    }

    /// Exclusive end of the entries that are on media.
    #[cfg(feature = "testing")]
    pub(crate) fn durable_end(&self) -> u64 {
        self.reader.durable()
    }

    fn panicked(&self) {
        self.poison_with(Error::Internal { what: "a panic" });
        self.tell_of_failure();
    }

    /// Refuses work on a handle that was closed or poisoned.
    pub(crate) fn usable(&self) -> Result<()> {
        self.dir.not_forked()?;
        self.open_and_sound()
    }

    /// The same in the process that opened the log.
    #[inline]
    pub(super) fn open_and_sound(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        self.not_poisoned()
    }

    /// Whether no space is to be taken for segments.
    pub(super) fn space_is_held(&self) -> bool {
        self.space_held.load(Ordering::Acquire) > 0
    }

    #[inline]
    pub(crate) fn not_poisoned(&self) -> Result<()> {
        match self.poison.get() {
            Some(cause) => Err(Error::Poisoned { cause: Arc::clone(cause) }),
            None => Ok(()),
        }
    }

    /// Poisons the handle for good (docs/RECOVERY.md, M5), and gives the error back to the one who met
    /// it.
    pub(crate) fn poisoned_by(&self, error: Error) -> Error {
        // Where nothing can be taken back a shortage is no refusal.
        let error = error.with_unknown_outcome();
        let is_new = self.poison_with(error.clone());
        self.tell_of_failure();
        // Last: a subscriber that panics finds everybody told.
        if is_new {
            crate::telemetry::trace::poisoned(self.dir.path(), &error);
        }
        error
    }

    /// Poisons the handle, unless it is already. Returns whether it does.
    fn poison_with(&self, error: Error) -> bool {
        error.poisons() && self.poison.set(Arc::new(error)).is_ok()
    }

    fn tell_of_failure(&self) {
        self.syncer.wake_everyone();
        // It calls everybody back on its way out, also if the one who met the error has locks to hold.
        self.signals.wake_flusher();
    }

    /// Waits for whoever is writing to a file of the log, and unlocks the directory. From here on
    /// nothing is written to it.
    pub(crate) fn end(&self) {
        // Nobody who makes space ready begins another step, and no other batch, once the log is closed.
        let prepared = || self.preparing.lock();
        let wait = || self.syncer.end(|ended| self.writer.with_nothing_on_its_way(ended));
        let _nobody = (!planted(Bug::UnlockedEarly)).then(|| (prepared(), wait()));
        self.lock.lock().take();
    }

    /// Calls back those whose batch is decided; after a failure that is every one. Called with no lock
    /// held.
    pub(crate) fn call_back(&self) {
        if let Err(error) = self.not_poisoned() {
            self.syncer.fail_all(&error);
        }
        if self.syncer.call_back() {
            // A host that did not take in what became durable goes on from a reopen.
            self.poisoned_by(Error::Internal { what: "a callback panicked" });
            if let Err(error) = self.not_poisoned() {
                self.syncer.fail_all(&error);
            }
            self.syncer.call_back();
        }
    }
}

impl Owner for Shared {
    fn usable(&self) -> Result<()> {
        Self::usable(self)
    }

    fn while_ours(&self, act: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        self.usable()?;
        let _nothing_goes = self.syncer.nothing_goes();
        if self.syncer.has_ended() { Err(Error::Closed) } else { act() }
    }

    fn sync_names(&self) -> Result<()> {
        // Makes names durable, a side file's and whatever else was renamed. A crash before it loses the
        // name or leaves an orphan; nothing refers to it yet.
        self.without_the_turn(|| self.dir.sync())
    }

    fn call_back(&self) {
        Self::call_back(self);
    }
}
