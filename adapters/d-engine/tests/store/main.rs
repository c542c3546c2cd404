//! The stores by themselves: d-engine's own suite, what it leaves out, and crashes.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as its tests do")]
#![expect(clippy::panic, reason = "a test's helpers fail as its tests do")]

mod contents;
mod contract;
mod crash;
mod model;
mod suite;
