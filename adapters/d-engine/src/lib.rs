//! d-engine's storage engine on the log engine `indelible`: the public names of this package. What
//! follows is its README.

#![doc = include_str!("../README.md")]

mod convert;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod hooks;
mod log_store;
mod meta_store;
mod storage;

pub use error::cause;
pub use indelible::{Durability, Options};
pub use log_store::DEngineLog;
pub use meta_store::DEngineMeta;
pub use storage::DEngineStorage;
