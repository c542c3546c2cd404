//! Tools for proving a log, and what is built on it, right (feature `testing`): an exploration of
//! every crash, of the log itself and of the store of any host.

mod build;
pub mod config;
pub mod exchange;
mod expected;
pub mod explore;
pub mod faults;
#[doc(hidden)]
pub mod hooks;
pub mod host;
mod memory;
pub mod model;
pub mod operations;
pub mod program;
pub mod rot;
mod run;
mod shape;
pub mod slow;
mod tally;
pub mod tap;

/// Bugs that can be planted into the engine (feature `sabotage`).
#[cfg(feature = "sabotage")]
pub mod sabotage {
    pub use crate::planted::{BUGS, Bug, enable};
}
