//! What the log counted about itself since it was opened.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use crate::clock::nanoseconds;

/// A copy of the counters at one moment. Counts start at zero when the log is opened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Stats {
    /// Entries appended.
    pub appends: u64,
    /// Payload bytes of appended entries.
    pub bytes_appended: u64,
    /// Bytes of frames written, headers and padding included.
    pub bytes_written: u64,
    /// Batches written.
    pub batches: u64,
    /// Syncs that made batches durable. Those of checkpoints are not among them.
    pub syncs: u64,
    /// How long those syncs took, in nanoseconds (three significant digits).
    pub sync_latency: Histogram<u64>,
    /// Checkpoints written, each to both slots of the metadata file.
    pub checkpoints: u64,
    /// Batches committed by a checkpoint because no segment could be had for them.
    pub slot_commits: u64,
    /// Times the tail was sealed and a new segment begun.
    pub rolls: u64,
    /// Batches that dropped a prefix.
    pub trims: u64,
    /// Batches that dropped a suffix.
    pub truncations: u64,
    /// Segment files prepared from nothing.
    pub prepared: u64,
    /// Segment files used again.
    pub recycled: u64,
    /// Segment files removed.
    pub removed: u64,
    /// Times a commit had to make space itself, in its segment or a new one, because none was ready.
    pub preparer_behind: u64,
    /// Times a segment could not be had because the disk was full.
    pub disk_full: u64,
    /// Offset tables rebuilt because a footer was unreadable.
    pub footers_rebuilt: u64,
    /// Sealed segments that a scrub has read and checked.
    pub scrubbed: u64,
    /// Damages that scrubs have found.
    pub scrub_findings: u64,
    /// Times a sync was older than the threshold of [`Options::stall`](crate::Options::stall).
    pub stalls: u64,
    /// Segment files that hold the log now.
    pub segments: u64,
    /// Segment files ready to be used.
    pub spares: u64,
    /// The newest batch written.
    pub written_sequence: u64,
    /// The newest batch that is durable.
    pub durable_sequence: u64,
    /// Whether the handle is poisoned.
    pub poisoned: bool,
    /// How long the oldest sync that is under way has been running.
    pub sync_running: Option<Duration>,
}

impl Stats {
    /// Entries per sync so far, zero before the first sync.
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    pub fn entries_per_sync(&self) -> f64 {
        if self.syncs == 0 { 0.0 } else { self.appends as f64 / self.syncs as f64 }
    }
}

macro_rules! counters {
    ($($name:ident),* $(,)?) => {
        /// The live counters behind [`Stats`].
        #[derive(Debug)]
        pub(crate) struct Counters {
            $(pub(crate) $name: AtomicU64,)*
            sync_latency: Mutex<Histogram<u64>>,
        }

        impl Counters {
            pub(crate) fn new() -> Self {
                Self { $($name: AtomicU64::new(0),)* sync_latency: Mutex::new(latencies()) }
            }

            /// The counters now; what only the log knows is zero.
            pub(crate) fn read(&self) -> Stats {
                Stats {
                    $($name: self.$name.load(Ordering::Relaxed),)*
                    sync_latency: self.sync_latency.lock().clone(),
                    segments: 0,
                    spares: 0,
                    written_sequence: 0,
                    durable_sequence: 0,
                    poisoned: false,
                    sync_running: None,
                }
            }
        }
    };
}

counters!(
    appends,
    bytes_appended,
    bytes_written,
    batches,
    syncs,
    checkpoints,
    slot_commits,
    rolls,
    trims,
    truncations,
    prepared,
    recycled,
    removed,
    preparer_behind,
    disk_full,
    footers_rebuilt,
    scrubbed,
    scrub_findings,
    stalls,
);

impl Counters {
    pub(crate) fn synced(&self, took: Duration) {
        add(&self.syncs, 1);
        let took = nanoseconds(took).min(HIGHEST_NS);
        // Grows to hold it, which `saturating_record` would not.
        let _fits_now = self.sync_latency.lock().record(took);
    }
}

/// Adds to a counter that only the holder of the writer's lock changes: cheaper than [`add`].
#[inline]
pub(crate) fn add_alone(counter: &AtomicU64, count: u64) {
    let before = counter.load(Ordering::Relaxed);
    counter.store(before.wrapping_add(count), Ordering::Relaxed);
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// Longest latency that is told from longer ones: 100 s.
const HIGHEST_NS: u64 = 100_000_000_000;

/// An empty histogram of latencies. It grows with the longest one it gets: with room for all of them
/// from the start it took a quarter of a megabyte, and the time to clear it, at every open.
fn latencies() -> Histogram<u64> {
    Histogram::new(3).unwrap_or_else(|_| unreachable!("three significant digits are always valid"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_of_any_length_are_counted() {
        let counters = Counters::new();
        for took in [0, 1, 1_000_000, 2 * HIGHEST_NS, u64::MAX] {
            counters.synced(Duration::from_nanos(took));
        }
        let latencies = counters.read().sync_latency;
        assert_eq!((counters.read().syncs, latencies.len()), (5, 5));
        assert!(latencies.equivalent(latencies.max(), HIGHEST_NS));
        assert!(latencies.equivalent(latencies.value_at_quantile(0.5), 1_000_000));
    }
}
