//! A segmented write-ahead log engine for consensus.

pub mod error;
pub mod format;
pub mod io;
pub mod options;

pub use error::{Damage, Error, Result};
pub use options::{Durability, Options, Preparation, SyncMethod, WriteMode};
