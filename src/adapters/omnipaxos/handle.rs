//! What stays with the owner of a storage after OmniPaxos has taken the storage itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::plan::{Effects, Written};
use crate::Log;
use crate::RecoveryReport;
use crate::Stats;
use crate::Ticket;
use crate::error::Result;
use crate::store::Store;

/// Syncs, observes and closes a [`LogStorage`](super::LogStorage) that OmniPaxos owns. Cheap to
/// clone; may be used from any thread.
#[derive(Debug, Clone)]
pub struct StorageHandle<S = Log> {
    log: S,
    shared: Arc<Shared>,
}

/// What a storage and its handles share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// The newest write that messages depend on.
    binding: Mutex<Option<Ticket>>,
    /// Whether somebody calls [`StorageHandle::barrier`] before messages leave, so that no write
    /// needs to be durable when it returns.
    synced_by_turn: AtomicBool,
    snapshots: AtomicU64,
    snapshot_bytes: AtomicU64,
    trims: AtomicU64,
    entries_trimmed: AtomicU64,
    entries_truncated: AtomicU64,
    resets: AtomicU64,
}

/// A copy of the counters of a storage at one moment. Counts start at zero when it is opened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StorageStats {
    /// What the log counted: syncs, their latency, segments.
    pub log: Stats,
    /// Snapshots set.
    pub snapshots: u64,
    /// Encoded bytes of the newest of them, zero if none was set.
    pub snapshot_bytes: u64,
    /// Times a prefix was dropped.
    pub trims: u64,
    /// Entries dropped in front.
    pub entries_trimmed: u64,
    /// Entries dropped at the end because another leader's replaced them.
    pub entries_truncated: u64,
    /// Times the log jumped ahead to a snapshot beyond its end.
    pub resets: u64,
}

impl<S: Store> StorageHandle<S> {
    pub(super) const fn new(log: S, shared: Arc<Shared>) -> Self {
        Self { log, shared }
    }

    /// Makes everything durable that OmniPaxos' messages depend on: what must happen between
    /// handling and sending, unless the durability is [`Always`](crate::Durability::Always).
    /// [`Synced`](super::Synced) does it for you.
    ///
    /// One sync for all writes since the last; none if there were none, or if only the decided index
    /// moved.
    ///
    /// # Errors
    ///
    /// Those of [`Log::sync`]. No message may leave then.
    pub fn barrier(&self) -> Result<()> {
        self.binding().map_or(Ok(()), |ticket| ticket.wait())
    }

    /// The newest write that OmniPaxos' messages depend on; none if there is none since the storage
    /// was opened. What [`Self::barrier`] waits for, for hosts that have something else to do
    /// meanwhile, or another node to sync: await it, or have it call back. Messages may leave once
    /// it is durable and nothing was handled since; a [`Self::barrier`] costs nothing then.
    pub fn binding(&self) -> Option<Ticket> {
        self.shared.binding.lock().clone()
    }

    /// Promises, or no longer promises, a [`Self::barrier`] before messages leave. What was written
    /// under the promise is covered by the next barrier.
    pub(super) fn sync_by_turn(&self, promised: bool) {
        self.shared.synced_by_turn.store(promised, Ordering::Relaxed);
    }

    /// Makes every write durable, the decided index included.
    ///
    /// # Errors
    ///
    /// Those of [`Log::sync`].
    pub fn sync(&self) -> Result<()> {
        self.log.sync()
    }

    /// Syncs and closes the log and lets its directory go; a store that others share is only
    /// synced. Any later call of the storage returns
    /// [`Error::Closed`](crate::Error::Closed), and OmniPaxos panics on it: drop it first, or stop
    /// calling it.
    ///
    /// # Errors
    ///
    /// Those of [`Log::close`].
    pub fn close(&self) -> Result<()> {
        self.log.close()
    }

    /// The counters now.
    pub fn stats(&self) -> StorageStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StorageStats {
            log: self.log.log().stats(),
            snapshots: read(&self.shared.snapshots),
            snapshot_bytes: read(&self.shared.snapshot_bytes),
            trims: read(&self.shared.trims),
            entries_trimmed: read(&self.shared.entries_trimmed),
            entries_truncated: read(&self.shared.entries_truncated),
            resets: read(&self.shared.resets),
        }
    }

    /// What opening the log found and did.
    pub fn recovery(&self) -> &RecoveryReport {
        self.log.log().recovery()
    }

    /// The log itself, for reading. Writing to it behind the back of OmniPaxos breaks its
    /// assumptions.
    pub const fn log(&self) -> &S {
        &self.log
    }
}

impl Shared {
    pub(super) fn is_synced_by_turn(&self) -> bool {
        self.synced_by_turn.load(Ordering::Relaxed)
    }

    /// Takes note of a write that the log has taken.
    pub(super) fn note(&self, written: Written) {
        if let Some(ticket) = written.binding {
            *self.binding.lock() = Some(ticket);
        }
        let Effects { snapshot_bytes, entries_trimmed, entries_truncated, reset } = written.effects;
        let add = |counter: &AtomicU64, count| {
            if count > 0 {
                counter.fetch_add(count, Ordering::Relaxed);
            }
        };
        if let Some(bytes) = snapshot_bytes {
            add(&self.snapshots, 1);
            self.snapshot_bytes.store(bytes, Ordering::Relaxed);
        }
        if let Some(entries) = entries_trimmed {
            add(&self.trims, 1);
            add(&self.entries_trimmed, entries);
        }
        add(&self.entries_truncated, entries_truncated);
        add(&self.resets, u64::from(reset));
    }
}
