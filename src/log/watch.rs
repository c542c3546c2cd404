//! The stall watchdog: it sees a sync that does not come back.
//!
//! Owns: when each sync under way began, and who is told. Does not own: syncing; a watch never
//! touches the log, so it works while everything else hangs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::shared::Shared;
use crate::clock::Moment;
use crate::error::Error;
use crate::options::Stall;
use crate::telemetry::stats::add;

/// Looks per threshold, so that a stall is seen with little delay.
const LOOKS: u32 = 4;

/// The syncs under way.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    next: AtomicU64,
    running: Mutex<Vec<(u64, Moment)>>,
    /// Somebody was told of a stall, and not yet of its end.
    stalled: AtomicBool,
}

/// One sync under way, until this is dropped.
#[derive(Debug)]
pub(crate) struct Watched<'a> {
    watch: &'a Watch,
    number: u64,
}

impl Watch {
    /// Notes the begin of a sync.
    pub(crate) fn enter(&self) -> Watched<'_> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.running.lock().push((number, Moment::now()));
        Watched { watch: self, number }
    }

    /// For how long the oldest one has been running.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        self.running.lock().iter().map(|(_, since)| since.elapsed()).max()
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.watch.running.lock().retain(|(number, _)| *number != self.number);
    }
}

/// Tells the host. If it panics the log is poisoned, and the watch goes on.
fn tell(shared: &Shared, told: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(told)).is_err() {
        shared.poisoned_by(Error::Internal { what: "a watcher of stalls panicked" });
        shared.call_back();
    }
}

/// One look of the watchdog. Returns when the next one is due.
pub(super) fn watch(shared: &Shared) -> Option<Duration> {
    let stall = shared.options.stall.as_ref()?;
    let oldest = shared.watch.oldest().filter(|age| *age >= stall.threshold);
    match (shared.watch.stalled.swap(oldest.is_some(), Ordering::Relaxed), oldest) {
        (false, Some(age)) => {
            add(&shared.counters.stalls, 1);
            tell(shared, || {
                crate::telemetry::trace::stalled(shared.dir.path(), age);
                (stall.tell)(Stall::Began(age));
            });
        }
        (true, None) => tell(shared, || (stall.tell)(Stall::Ended)),
        _ => {}
    }
    Some((stall.threshold / LOOKS).max(Duration::from_millis(1)))
}
