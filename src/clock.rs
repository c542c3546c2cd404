//! The one place that reads a clock. Nothing that decides what is durable does.

use std::time::{Duration, Instant};

/// A moment to measure from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(Instant);

impl Moment {
    #[expect(clippy::disallowed_methods, reason = "measures durations, never decides durability")]
    pub(crate) fn now() -> Self {
        Self(Instant::now())
    }

    /// So much later; nothing if no clock goes that far.
    pub(crate) fn after(self, duration: Duration) -> Option<Self> {
        self.0.checked_add(duration).map(Self)
    }

    /// How long it is until then; nothing if it is over.
    pub(crate) fn until(self) -> Duration {
        self.0.saturating_duration_since(Self::now().0)
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// A duration in whole nanoseconds.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
