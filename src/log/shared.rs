//! What all handles, tickets and threads of one open log share.
//!
//! Lock order: `settling`, the turn to sync, `writer`, `unindexed`, `view`, `handing_over`. Under the
//! others, which are `metadata`, `side_files`, and those of the group, the signals and the spares, no
//! lock is taken. The host's callbacks run under none.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, MutexGuard, RwLock};

use super::lazy::LazyCells;
use super::opened::OpenSegments;
use super::signals::Signals;
use super::view::View;
use super::watch::Watch;
use crate::directory::Dir;
use crate::directory::identity::Uuid;
use crate::directory::metadata::Metadata;
use crate::directory::side_file::{Owner, SideFiles};
use crate::directory::spares::Spares;
use crate::error::{Error, Result};
use crate::format::number::to_u64;
use crate::format::{SegmentName, SideFileRef};
use crate::io::{File, Lock};
use crate::log::sync::Group;
use crate::options::{Options, SyncMethod};
use crate::planted::{Bug, planted};
use crate::recovery::RecoveryReport;
use crate::segment::Segment;
use crate::segment::durable_part::DurablePart;
use crate::segment::tail::Tail;
use crate::segment::warm::Warm;
use crate::state::State;
use crate::telemetry::stats::Counters;

/// One open log.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) dir: Dir,
    pub(crate) uuid: Uuid,
    pub(crate) options: Options,
    pub(crate) segment_bytes: u64,
    pub(crate) report: RecoveryReport,
    /// Locked through [`Self::writer`].
    pub(super) writer: Mutex<Writer>,
    /// Held while frames are on their way from memory to the file; an empty buffer for the next
    /// ones.
    pub(crate) handing_over: Mutex<Vec<u8>>,
    pub(crate) view: RwLock<View>,
    /// What was durable in the tail at the open, until the offsets of its entries are looked up.
    pub(crate) unindexed: Mutex<Option<DurablePart>>,
    /// The newest frames that were handed over. Its lock, and that of the next, is one under which no
    /// other is taken.
    pub(crate) warm: Warm,
    /// The sealed segments whose files are open.
    pub(crate) opened: OpenSegments,
    pub(crate) bounds: Bounds,
    /// Counts the changes of lazily set cells.
    pub(crate) lazy_version: AtomicU64,
    pub(crate) group: Group,
    pub(crate) metadata: Mutex<MetadataState>,
    pub(crate) settling: Mutex<()>,
    pub(crate) spares: Spares,
    pub(crate) side_files: Arc<SideFiles>,
    /// Number of the tail when the log was opened: segments with a higher one were begun since.
    pub(crate) tail_at_open: u64,
    pub(crate) counters: Counters,
    pub(crate) signals: Signals,
    pub(crate) watch: Watch,
    pub(crate) poison: OnceLock<Arc<Error>>,
    pub(crate) closed: AtomicBool,
    /// The directory is not ours any more. Set under `settling`, the turn and `handing_over`, so that
    /// whoever has one of these writes to nobody else's files.
    pub(crate) ended: AtomicBool,
    pub(crate) lock: Mutex<Option<Box<dyn Lock>>>,
}

/// The bounds of the log, for those who only want to look.
#[derive(Debug)]
pub(crate) struct Bounds {
    pub(crate) first: AtomicU64,
    pub(crate) next: AtomicU64,
    pub(crate) durable: AtomicU64,
}

/// The metadata file, and which checkpoint it holds.
#[derive(Debug)]
pub(crate) struct MetadataState {
    pub(crate) file: Metadata,
    pub(crate) capture: u64,
    pub(crate) sequence: u64,
    pub(crate) lazy_version: u64,
}

/// What only the one who appends may touch.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) state: State,
    pub(crate) lazy: LazyCells,
    pub(crate) tail: Tail,
    /// Sequence of the newest batch written.
    pub(crate) sequence: u64,
    /// No frame goes into the tail at or past this offset before another checkpoint (INV-5: the
    /// newest durable checkpoint states at least as much).
    pub(crate) reach: u64,
    /// Nobody has looked yet at what was in the tail when the log was opened.
    pub(crate) unlooked: bool,
    /// What was written since the last sync took stock, oldest first.
    pub(crate) dirty: Vec<Dirty>,
    /// Start of the unsynced part of the tail.
    pub(crate) dirty_from: Option<u64>,
    /// Segments that were begun since a sync last took stock: their names are not durable, and a
    /// checkpoint must name them before anything in them is acknowledged.
    pub(crate) begun: u64,
    /// Bytes of frames that were written since a checkpoint was last put together.
    pub(crate) unstated: u64,
    /// Lowest end that a truncation or reset led to since the last sync took stock.
    pub(crate) lowest: u64,
    /// Numbers the times a checkpoint was put together, so that an older one never replaces a
    /// newer one.
    pub(crate) captures: u64,
    /// Segments and side files that nothing refers to since a batch that may not be durable yet.
    pub(crate) dead: Vec<Arc<Segment>>,
    pub(crate) dead_files: Vec<SideFileRef>,
    /// Dead segments that go on being named, because a checkpoint has no room for more gaps.
    pub(crate) kept: Vec<Arc<Segment>>,
    /// Space used again and again: for offsets, and for the cells that a batch changes.
    pub(crate) units: Vec<u32>,
    pub(crate) touched: Vec<u32>,
}

/// A range of a file that is not durable yet.
#[derive(Debug, Clone)]
pub(crate) struct Dirty {
    pub(crate) file: Arc<dyn File>,
    pub(crate) name: SegmentName,
    pub(crate) range: std::ops::Range<u64>,
}

/// The writer, locked. A panic while it is held poisons the log before anybody else gets it: what
/// it guards may be half changed.
#[derive(Debug)]
pub(crate) struct WriterGuard<'a> {
    // Dropped first.
    _alarm: Alarm<'a>,
    writer: MutexGuard<'a, Writer>,
}

impl Deref for WriterGuard<'_> {
    type Target = Writer;

    #[inline]
    fn deref(&self) -> &Writer {
        &self.writer
    }
}

impl DerefMut for WriterGuard<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Writer {
        &mut self.writer
    }
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

impl Dirty {
    /// Puts it on media.
    pub(crate) fn sync(&self, dir: &Dir, method: SyncMethod) -> Result<()> {
        let failed = |source| Error::io("sync", dir.join(&self.name.to_string()), source);
        // Makes frames, headers and footers durable. A crash before it loses batches that are not
        // acknowledged yet.
        self.file.sync(self.range.clone(), method).map_err(failed)
    }
}

impl Writer {
    /// The writer of a log that is durable to its end; `kept` are dead segments that are named.
    pub(crate) fn new(
        state: State,
        tail: Tail,
        sequence: u64,
        reach: u64,
        kept: Vec<Arc<Segment>>,
    ) -> Self {
        Self {
            state,
            lazy: LazyCells::default(),
            tail,
            sequence,
            reach,
            unlooked: true,
            dirty: Vec::new(),
            dirty_from: None,
            begun: 0,
            unstated: 0,
            lowest: u64::MAX,
            captures: 0,
            dead: Vec::new(),
            dead_files: Vec::new(),
            kept,
            units: Vec::new(),
            touched: Vec::new(),
        }
    }

    /// Moves the unsynced part of the tail to the list of unsynced ranges.
    pub(crate) fn note_tail_dirty(&mut self) {
        let mut end = self.tail.position();
        if planted(Bug::PendingNotDirty) {
            end -= to_u64(self.tail.pending.len());
        }
        if let Some(from) = self.dirty_from.take()
            && from < end
        {
            let (file, name) = (Arc::clone(&self.tail.file), self.tail.segment.name);
            self.dirty.push(Dirty { file, name, range: from..end });
        }
    }
}

impl Bounds {
    /// Bounds of a log that is durable to its end.
    pub(crate) fn new(first: u64, next: u64) -> Self {
        let (first, durable) = (AtomicU64::new(first), AtomicU64::new(next));
        Self { first, next: AtomicU64::new(next), durable }
    }
}

impl Shared {
    /// Locks the writer.
    #[inline]
    pub(crate) fn writer(&self) -> WriterGuard<'_> {
        let writer = self.writer.lock();
        WriterGuard { _alarm: self.alarm(), writer }
    }

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

    fn panicked(&self) {
        self.poison_with(Error::Internal { what: "a panic" });
        self.tell_of_failure();
    }

    /// Refuses work on a handle that was closed or poisoned.
    pub(crate) fn usable(&self) -> Result<()> {
        self.dir.not_forked()?;
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        self.not_poisoned()
    }

    pub(crate) fn not_poisoned(&self) -> Result<()> {
        match self.poison.get() {
            Some(cause) => Err(Error::Poisoned { cause: Arc::clone(cause) }),
            None => Ok(()),
        }
    }

    /// Poisons the handle for good, and gives the error back to the one who met it.
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
        let is_new = !matches!(error, Error::Poisoned { .. }) && !planted(Bug::NoPoison);
        is_new && self.poison.set(Arc::new(error)).is_ok()
    }

    fn tell_of_failure(&self) {
        self.group.wake_everyone();
        // It calls everybody back on its way out, also if the one who met the error has locks to hold.
        self.signals.wake_flusher();
    }

    /// Waits for whoever is writing to a file of the log, and unlocks the directory. From here on
    /// nothing is written to it.
    pub(crate) fn end(&self) {
        if planted(Bug::UnlockedEarly) {
            self.lock.lock().take();
            return;
        }
        let _settling = self.settling.lock();
        {
            let _turn = self.group.turn();
            let _handing_over = self.handing_over.lock();
            self.ended.store(true, Ordering::Release);
        }
        self.lock.lock().take();
    }

    /// Calls back those whose batch is decided; after a failure that is every one. Called with no lock
    /// held.
    pub(crate) fn call_back(&self) {
        if let Err(error) = self.not_poisoned() {
            self.group.fail_all(&error);
        }
        if self.group.call_back() {
            // A host that did not take in what became durable goes on from a reopen.
            self.poisoned_by(Error::Internal { what: "a callback panicked" });
            if let Err(error) = self.not_poisoned() {
                self.group.fail_all(&error);
            }
            self.group.call_back();
        }
    }
}

impl Owner for Shared {
    fn usable(&self) -> Result<()> {
        Self::usable(self)
    }

    fn while_ours(&self, act: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        self.usable()?;
        let _settling = self.settling.lock();
        if self.ended.load(Ordering::Acquire) { Err(Error::Closed) } else { act() }
    }

    fn poison(&self, error: Error) -> Error {
        let error = self.poisoned_by(error);
        self.call_back();
        error
    }
}
