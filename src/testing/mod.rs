//! Tools for proving a log, and what is built on it, right (feature `testing`): an exploration of
//! every crash, and a kit that checks any storage against the contract of its host.

mod build;
pub mod config;
#[cfg(feature = "omnipaxos")]
pub mod conformance;
mod expected;
pub mod explore;
pub mod faults;
#[doc(hidden)]
pub mod hooks;
mod memory;
pub mod model;
pub mod operations;
pub mod program;
pub mod rot;
mod run;
mod tally;
pub mod tap;

/// Bugs that can be planted into the engine (feature `sabotage`).
#[cfg(feature = "sabotage")]
pub mod sabotage {
    pub use crate::planted::{BUGS, Bug, enable};
}
