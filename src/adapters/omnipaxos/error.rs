//! Why the storage refused a call of its host. Does not own: what a log can refuse (`crate::Error`).

use std::fmt;

use omnipaxos::ProposeErr;
use omnipaxos::storage::Entry;

use crate::codec::CodecError;
use crate::error::Error;

/// What [`LogStorage`](super::LogStorage) returns through the trait, boxed as its host asks.
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
    /// An entry is larger than a segment of this log can take. What the other nodes hold cannot be
    /// refused, so give every node of a cluster segments of the same size.
    #[error(
        "{value} has {got} bytes, and a segment of {segment_bytes} bytes takes at most {limit}: \
         all nodes need logs with segments of one size that fits the largest entry"
    )]
    EntryTooLarge {
        /// Which value.
        value: Value,
        /// Its bytes, encoded.
        got: u64,
        /// The largest that fits, in bytes.
        limit: u64,
        /// The size of the segments, settled when the log was created.
        segment_bytes: u64,
    },
    /// Bytes that were read back, and whose checksum held, are no value of this type: another codec
    /// wrote them.
    #[error(
        "cannot decode {value}: {source}; its checksum holds, so another codec or type wrote it"
    )]
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
    /// A source of a migration returned an error.
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
    /// An entry that is to be proposed.
    Proposal,
    /// The snapshot.
    Snapshot,
    /// The stop sign.
    StopSign,
}

impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry(index) => write!(formatter, "entry {index}"),
            Self::Proposal => formatter.write_str("the proposed entry"),
            Self::Snapshot => formatter.write_str("the snapshot"),
            Self::StopSign => formatter.write_str("the stop sign"),
        }
    }
}

/// Why an entry was not proposed. Nothing was written or sent, and the node goes on.
#[non_exhaustive]
pub enum AppendError<T: Entry> {
    /// No node could write it: it is larger than a segment, or its codec refuses it.
    Unwritable {
        /// The entry.
        entry: T,
        /// Why.
        source: StorageError,
    },
    /// `OmniPaxos` refused it, because the configuration is about to end.
    Refused(ProposeErr<T>),
}

impl<T: Entry> fmt::Debug for AppendError<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unwritable { source, .. } => {
                formatter.debug_struct("Unwritable").field("source", source).finish_non_exhaustive()
            }
            Self::Refused(_) => formatter.write_str("Refused"),
        }
    }
}

impl<T: Entry> fmt::Display for AppendError<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unwritable { source, .. } => write!(formatter, "not proposed: {source}"),
            Self::Refused(_) => formatter.write_str("not proposed: a reconfiguration is pending"),
        }
    }
}

impl<T: Entry> std::error::Error for AppendError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unwritable { source, .. } => Some(source),
            Self::Refused(_) => None,
        }
    }
}
