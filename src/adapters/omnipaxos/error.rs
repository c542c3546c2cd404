//! Why the storage refused a call of its host. Does not own: what a log can refuse (`crate::Error`).

use std::fmt;

use crate::codec::CodecError;
use crate::error::Error;

/// What [`LogStorage`](super::LogStorage) answers through the trait, boxed as its host asks.
///
/// After any of these nothing was applied, neither in memory nor on disk, with one exception: after
/// an I/O failure the log is poisoned, and only a reopen tells how far its last write got.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The log refused or failed. See there what to do.
    #[error(transparent)]
    Log(#[from] Error),
    /// A value could not be encoded.
    #[error("cannot encode {value}: {source}")]
    Encode {
        /// Which value.
        value: Value,
        /// What the codec said.
        source: CodecError,
    },
    /// Bytes that were read back, and whose checksum held, are no value of this type: another codec
    /// wrote them.
    #[error("cannot decode {value}: {source}")]
    Decode {
        /// Which value.
        value: Value,
        /// What the codec said.
        source: CodecError,
    },
    /// The write would leave a decided index beyond the end of a log that has no stop sign: entries
    /// that were decided would be gone.
    #[error(
        "decided index {decided} is beyond the end of the log, {next}, and there is no stop sign"
    )]
    DecidedBeyondEnd {
        /// The decided index.
        decided: u64,
        /// The end of the log.
        next: u64,
    },
    /// The write would leave a compacted index beyond the end of the log.
    #[error("compacted index {compacted} is beyond the end of the log, {next}")]
    CompactedBeyondEnd {
        /// The compacted index.
        compacted: u64,
        /// The end of the log.
        next: u64,
    },
    /// The configuration has not been ended by a decided stop sign.
    #[error("there is no decided stop sign")]
    NotStopped,
    /// A storage that should be fresh has state.
    #[error("the storage to migrate to is not fresh")]
    NotFresh,
    /// A source of a migration holds fewer entries than it says.
    #[error("the source has {got} entries from {from}, not {expected}")]
    SourceShort {
        /// First index that was asked for.
        from: u64,
        /// How many entries there should be.
        expected: u64,
        /// How many it gave.
        got: u64,
    },
    /// A source of a migration answered with an error.
    #[error("the source cannot be read: {reason}")]
    Source {
        /// What it said. Upstream's errors cannot be kept: they may not leave their thread.
        reason: String,
    },
}

/// A value that has a codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value {
    /// The entry at this index.
    Entry(u64),
    /// The snapshot.
    Snapshot,
    /// The stop sign.
    StopSign,
}

impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry(index) => write!(formatter, "entry {index}"),
            Self::Snapshot => formatter.write_str("the snapshot"),
            Self::StopSign => formatter.write_str("the stop sign"),
        }
    }
}
