//! A segmented write-ahead log for consensus: the file backend of OmniPaxos, and of Raft hosts.
//!
//! [`Log`] is the engine: entries with consecutive indexes, named state cells, snapshots; atomic
//! [`Batch`]es that cost one sync; durability as a policy ([`Durability`]). What it promises and how
//! it keeps it is in the repository's docs/DESIGN.md.
//!
//! ```
//! # fn main() -> indelible::Result<()> {
//! # let directory = tempfile::tempdir().unwrap();
//! # let path = directory.path().join("node-1");
//! use indelible::{Batch, Log, Options};
//!
//! let log = Log::create(&path, &Options::new())?; // once, when the node is new
//! // let (log, report) = Log::open(&path, &Options::new())?; // ever after
//!
//! let mut batch = Batch::new();
//! batch.set("promise", b"ballot 7").append(b"x = 1").append(b"y = 2");
//! log.commit(&batch)?; // all of it, or nothing, durable on return, with one sync
//!
//! assert_eq!(log.entry(log.next() - 1)?, b"y = 2");
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! | feature | what it adds | dependencies |
//! |---|---|---|
//! | `omnipaxos` (default) | [`omnipaxos`]: the storage of `OmniPaxos` | `omnipaxos`, which has none |
//! | `serde` | [`codec::Postcard`], a codec for types with serde's traits; [`typed`], a log of values | `serde`, `postcard` |
//! | `lz4` | compressed entries ([`Options::compress_above`]) | `lz4_flex` |
//! | `tracing` | events: opened, torn end dropped, rolled, trimmed, slow sync, stalled, rot found, poisoned | `tracing` |
//! | `metrics` | [`Publisher`]: the figures of a log for the `metrics` crate | `metrics` |
//! | `tools` | [`inspect`], [`repair`], [`Backup::of_stopped`]: looking into a log, mending it; [`State`], for stores of one's own | none |
//! | `testing` | `tools`; [`format`](mod@format), [`testing`], [`io::sim`]: crashes, faults and rot for tests of your own | none |
//! | `sabotage` | bugs to plant, for the tests of this crate. Never for use | none |
//!
//! Other hosts are packages of their own: `indelible-openraft`, `indelible-async-raft`,
//! `indelible-raft`, `indelible-d-engine`; `indelible-groups` keeps many groups in one log,
//! `indelible-cli` is what an operator needs.
//!
//! # Documents
//!
//! The repository's documents are here as well, in [`docs`]: what is promised and why it holds, the
//! bytes, recovery, operation, the hosts, tests and measurements.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(unix))]
compile_error!(
    "indelible maps files, writes at offsets and syncs directories as Unix systems do; \
     there is no implementation for this system"
);

mod adapters;
mod batch;
mod change;
mod clock;
pub mod codec;
mod compress;
mod directory;
#[cfg(all(doc, not(doctest)))]
pub mod docs;
#[cfg(all(doctest, feature = "omnipaxos"))]
#[doc = include_str!("../README.md")]
mod readme {}
pub mod error;
#[cfg(feature = "testing")]
pub mod format;
#[cfg(not(feature = "testing"))]
#[expect(unreachable_pub, reason = "the feature `testing` opens it")]
mod format;
#[cfg(feature = "tools")]
pub mod inspect;
#[cfg(not(feature = "tools"))]
#[expect(unreachable_pub, dead_code, unused_imports, reason = "the feature `tools` opens it")]
mod inspect;
#[cfg(feature = "testing")]
pub mod io;
#[cfg(not(feature = "testing"))]
#[expect(unreachable_pub, reason = "the feature `testing` opens it")]
mod io;
mod lazy;
mod log;
pub mod options;
mod planted;
mod primitives;
mod process;
mod recovery;
#[cfg(feature = "tools")]
pub mod repair;
mod segment;
#[cfg_attr(
    not(feature = "tools"),
    expect(unreachable_pub, dead_code, reason = "the feature `tools` opens it")
)]
mod state;
pub mod store;
mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
mod threads;
#[cfg(feature = "serde")]
pub mod typed;

#[cfg(feature = "omnipaxos")]
pub use adapters::omnipaxos;
pub use batch::Batch;
pub use change::Change;
pub use directory::identity::Uuid;
pub use directory::side_file::{SideFile, SideFileReader, SideFileWriter};
pub use error::{Damage, Error, Result, Shortage};
pub use format::{CellValue, SideFileRef};
#[cfg(any(test, feature = "tools"))]
pub use log::HeldSpace;
pub use log::backup::Backup;
pub use log::scrub::{ScrubReport, Scrubbed};
pub use log::ticket::{Completion, Ticket};
pub use log::{Iter, Log};
pub use options::{Durability, Options, Preparation, Stall, SyncMethod, Witness, WriteMode};
pub use recovery::{RecoveryReport, Verdict};
pub use segment::entries::{Entries, EntriesIter, OwnedEntries};
#[cfg(feature = "tools")]
pub use state::{Cells, State};
#[cfg(feature = "metrics")]
pub use telemetry::metrics::Publisher;
pub use telemetry::stats::{Histogram, Stats};
