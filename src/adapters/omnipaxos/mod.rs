//! The storage of [OmniPaxos](https://docs.rs/omnipaxos): its `Storage<T>` on a log of ours, in a
//! directory, in memory or on a simulated disk.
//!
//! [`LogStorage`] is given to OmniPaxos by value; a [`StorageHandle`] taken from it before outlives
//! the move. [`Synced`] holds an `OmniPaxos` whose messages leave only after a sync, one per turn of
//! the loop. docs/ADAPTERS.md has the index conventions, what each call does on disk, and the safety
//! argument.
//!
//! ```
//! use indelible::codec::{Codec, CodecError};
//! use indelible::omnipaxos::{LogStorage, StorageConfig};
//! use indelible::Durability;
//! use omnipaxos::storage::{Entry, NoSnapshot, Storage};
//!
//! #[derive(Clone, Debug, PartialEq)]
//! struct Command(Vec<u8>);
//! impl Entry for Command { type Snapshot = NoSnapshot; }
//!
//! struct CommandCodec;
//! impl Codec<Command> for CommandCodec {
//!     fn encode(command: &Command, out: &mut Vec<u8>) -> Result<(), CodecError> {
//!         out.extend_from_slice(&command.0);
//!         Ok(())
//!     }
//!     fn decode(bytes: &[u8]) -> Result<Command, CodecError> {
//!         Ok(Command(bytes.to_vec()))
//!     }
//! }
//! impl Codec<NoSnapshot> for CommandCodec {
//!     fn encode(_: &NoSnapshot, _: &mut Vec<u8>) -> Result<(), CodecError> { Ok(()) }
//!     fn decode(_: &[u8]) -> Result<NoSnapshot, CodecError> { Ok(NoSnapshot) }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("node-1");
//! let config = StorageConfig::with_path(&path).durability(Durability::Always);
//! let mut storage: LogStorage<Command, CommandCodec> = LogStorage::create(&config)?;
//! let handle = storage.handle();
//! storage.append_entry(Command(b"set x".to_vec()))?;
//! assert_eq!(handle.stats().log.appends, 1);
//! // let paxos = omnipaxos_config.build(storage)?;  // `handle` stays with you
//! # drop(storage);
//! handle.close()?;
//! # Ok(())
//! # }
//! ```

mod config;
mod encoding;
mod error;
mod handle;
mod migrate;
mod newest;
mod plan;
mod state;
mod storage;
mod synced;

pub use config::StorageConfig;
pub use error::{AppendError, StorageError, Value};
pub use handle::{StorageHandle, StorageStats};
pub use migrate::{Migrated, migrate};
pub use storage::LogStorage;
pub use synced::Synced;

/// Decodes a value of a state cell and encodes it again; `None` if the bytes are refused.
#[cfg(feature = "testing")]
pub(crate) fn encoded_again(
    value: crate::testing::hooks::OmniValue,
    bytes: &[u8],
) -> Option<Vec<u8>> {
    use crate::testing::hooks::OmniValue;
    match value {
        OmniValue::Ballot => Some(encoding::ballot(&encoding::ballot_from(bytes).ok()?).to_vec()),
        OmniValue::Index => Some(encoding::index_from(bytes).ok()?.to_le_bytes().to_vec()),
        OmniValue::StopSign => {
            let mut out = Vec::new();
            encoding::stopsign(&encoding::stopsign_from(bytes).ok()?, &mut out);
            Some(out)
        }
    }
}
