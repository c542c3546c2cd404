//! A segmented write-ahead log engine for consensus.

mod adapters;
mod batch;
mod clock;
pub mod codec;
mod compress;
mod dir;
pub mod error;
pub mod format;
mod identity;
pub mod io;
mod log;
mod metadata;
pub mod options;
mod recovery;
mod segment;
mod side_file;
mod spares;
mod state;
mod stats;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
mod ticket;

#[cfg(feature = "omnipaxos")]
pub use adapters::omnipaxos;
pub use batch::Batch;
pub use error::{Damage, Error, Result};
pub use format::CellValue;
pub use identity::Uuid;
pub use log::{Iter, Log};
pub use options::{Durability, Options, Preparation, SyncMethod, WriteMode};
pub use recovery::{RecoveryReport, Verdict};
pub use segment::read::{Entries, EntriesIter};
pub use side_file::{SideFile, SideFileReader, SideFileWriter};
pub use stats::Stats;
pub use ticket::{Completion, Ticket};
