//! What the log counted about itself since it was opened.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::{Moment, nanoseconds};
use crate::format::number::to_u64;

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
    /// How long those syncs took, in nanoseconds.
    pub sync_latency: Histogram,
    /// How long callers waited for a batch to become durable, in nanoseconds. Those that did not
    /// have to wait are not among them.
    pub commit_latency: Histogram,
    /// Entries per batch, rounded down to a power of two; batches without entries are not among them.
    pub batch_entries: Histogram,
    /// Checkpoints written: to both slots of the metadata file, those of a roll to one.
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
    /// Times something could not be had because the process or the system had run out of descriptors,
    /// memory, threads or maps ([`Shortage`](crate::error::Shortage)).
    pub shortages: u64,
    /// Files that nothing refers to and that could not be removed; the next open tries again.
    pub not_removed: u64,
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
    /// Index of the first entry.
    pub first: u64,
    /// Exclusive end of the entries.
    pub next: u64,
    /// Exclusive end of the durable entries.
    pub durable: u64,
    /// Zero if no entry is missing, else not fewer than are.
    pub holes: u64,
    /// Bytes that segments and spares take on disk, as far as their space was made ready.
    pub disk_bytes: u64,
    /// Time since the newest checkpoint, or since the open if none was written.
    pub checkpoint_age: Duration,
}

/// How often values of each size occurred, to three significant digits.
#[derive(Clone)]
pub struct Histogram(hdrhistogram::Histogram<u64>);

/// What is asked first, instead of some thousand buckets.
impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (median, high, highest) =
            (self.quantile(0.5), self.quantile(0.99), self.quantile(0.999));
        write!(
            f,
            "{} values: median {median}, 99 % {high}, 99.9 % {highest}, max {}",
            self.len(),
            self.max()
        )
    }
}

impl Histogram {
    fn new() -> Self {
        // It grows with the largest value it gets: with room for all of them from the start it took a
        // quarter of a megabyte, and the time to clear it, at every open.
        let counts = hdrhistogram::Histogram::new(3)
            .unwrap_or_else(|_| unreachable!("three significant digits are always valid"));
        Self(counts)
    }

    fn record(&mut self, value: u64, count: u64) {
        // Grows to hold it, which `saturating_record` would not.
        let _fits_now = self.0.record_n(value.min(HIGHEST), count);
    }

    /// How many values were recorded.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value that this share (0 to 1) of the values do not exceed; zero if there is none.
    pub fn quantile(&self, share: f64) -> u64 {
        self.0.value_at_quantile(share)
    }

    /// The largest value; zero if there is none.
    pub fn max(&self) -> u64 {
        self.0.max()
    }

    /// The mean of the values; zero if there is none.
    pub fn mean(&self) -> f64 {
        self.0.mean()
    }

    /// Each value that occurred, ascending, and how often.
    pub fn counts(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter_recorded().map(|it| (it.value_iterated_to(), it.count_at_value()))
    }

    /// How often a value occurred.
    pub fn count_of(&self, value: u64) -> u64 {
        self.0.count_at(value)
    }
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
            sync_latency: Mutex<Histogram>,
            commit_latency: Mutex<Histogram>,
            /// By the binary logarithm of the entries of a batch.
            batch_entries: [AtomicU64; BATCH_SIZES],
            opened: Moment,
            /// When the newest checkpoint was written, in nanoseconds since `opened`.
            checkpoint_at: AtomicU64,
        }

        impl Counters {
            pub(crate) fn new() -> Self {
                Self {
                    $($name: AtomicU64::new(0),)*
                    sync_latency: Mutex::new(Histogram::new()),
                    commit_latency: Mutex::new(Histogram::new()),
                    batch_entries: [const { AtomicU64::new(0) }; BATCH_SIZES],
                    opened: Moment::now(),
                    checkpoint_at: AtomicU64::new(0),
                }
            }

            /// The counters now; what only the log knows is zero.
            pub(crate) fn read(&self) -> Stats {
                Stats {
                    $($name: self.$name.load(Ordering::Relaxed),)*
                    sync_latency: self.sync_latency.lock().clone(),
                    commit_latency: self.commit_latency.lock().clone(),
                    batch_entries: self.batch_entries(),
                    segments: 0,
                    spares: 0,
                    written_sequence: 0,
                    durable_sequence: 0,
                    poisoned: false,
                    sync_running: None,
                    first: 0,
                    next: 0,
                    durable: 0,
                    holes: 0,
                    disk_bytes: 0,
                    checkpoint_age: self.checkpoint_age(),
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
    shortages,
    not_removed,
    footers_rebuilt,
    scrubbed,
    scrub_findings,
    stalls,
);

impl Counters {
    pub(crate) fn synced(&self, took: Duration) {
        add(&self.syncs, 1);
        self.sync_latency.lock().record(nanoseconds(took), 1);
    }

    /// Somebody waited so long for a batch to become durable. Beside a wait for the disk the lock is
    /// nothing.
    pub(crate) fn waited(&self, took: Duration) {
        self.commit_latency.lock().record(nanoseconds(took), 1);
    }

    /// A batch of so many entries was written. Only the holder of the writer's lock calls this.
    #[inline]
    pub(crate) fn wrote_batch(&self, entries: u64) {
        if let Some(size) = entries.checked_ilog2()
            && let Some(counter) = self.batch_entries.get(size as usize)
        {
            add_alone(counter, 1);
        }
    }

    pub(crate) fn wrote_checkpoint(&self) {
        add(&self.checkpoints, 1);
        self.checkpoint_at.store(nanoseconds(self.opened.elapsed()), Ordering::Relaxed);
    }

    fn checkpoint_age(&self) -> Duration {
        let at = Duration::from_nanos(self.checkpoint_at.load(Ordering::Relaxed));
        self.opened.elapsed().saturating_sub(at)
    }

    fn batch_entries(&self) -> Histogram {
        let mut histogram = Histogram::new();
        for (size, count) in self.batch_entries.iter().enumerate() {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                histogram.record(1 << to_u64(size), count);
            }
        }
        histogram
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

/// Largest value that is told from larger ones; of a latency 100 s.
const HIGHEST: u64 = 100_000_000_000;
/// Sizes of batches that are told apart: a batch has fewer than 2^32 entries.
const BATCH_SIZES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_of_any_length_are_counted() {
        let counters = Counters::new();
        for took in [0, 1, 1_000_000, 2 * HIGHEST, u64::MAX] {
            counters.synced(Duration::from_nanos(took));
        }
        let latencies = counters.read().sync_latency;
        assert_eq!((counters.read().syncs, latencies.len()), (5, 5));
        // Three significant digits.
        assert!(latencies.max().abs_diff(HIGHEST) < HIGHEST / 1_000);
        assert!(latencies.quantile(0.5).abs_diff(1_000_000) < 1_000);
        assert_eq!(latencies.counts().map(|(_, count)| count).sum::<u64>(), 5);
    }

    #[test]
    fn counters_print_as_a_page() {
        let counters = Counters::new();
        counters.synced(Duration::from_micros(250));
        let page = format!("{:#?}", counters.read());
        assert!(page.lines().count() < 80, "{page}");
        assert!(page.contains("sync_latency: 1 values: median 250"), "{page}");
    }

    #[test]
    fn batches_are_counted_by_powers_of_two() {
        let counters = Counters::new();
        for entries in [0, 1, 1, 2, 3, 100, u64::from(u32::MAX)] {
            counters.wrote_batch(entries);
        }
        let batches = counters.read().batch_entries;
        assert_eq!(batches.len(), 6, "the one without entries is not among them");
        assert_eq!((batches.count_of(1), batches.count_of(2), batches.count_of(64)), (2, 2, 1));
    }
}
