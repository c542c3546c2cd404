//! What a log tells of itself: figures, and events through `tracing`.
//!
//! Owns: the counters (`stats`), their way to the `metrics` crate, the events (`trace`). Does not own:
//! when something is counted or told. Nothing here fails, waits or touches a file.

#[cfg(feature = "metrics")]
pub(crate) mod metrics;
pub(crate) mod stats;
pub(crate) mod trace;
