//! The state of OmniPaxos beside its entries: which cells hold it, how it is read at open, and the
//! small mirror that the getters read.
//!
//! | cell | value |
//! |---|---|
//! | `omnipaxos.format` | u32, the version of this table: 1 |
//! | `omnipaxos.promise` | ballot; absent: none was made |
//! | `omnipaxos.accepted` | ballot; absent: nothing was accepted |
//! | `omnipaxos.decided` | index; absent: 0 |
//! | `omnipaxos.compacted` | index; absent: 0 |
//! | `omnipaxos.stopsign` | stop sign, inline or in a side file; absent: none |
//! | `omnipaxos.migrating` | empty; present: a migration into this log has not ended |
//! | `snapshot` | the snapshot as its codec wrote it, inline or in a side file; absent: none |
//!
//! Invariant: the mirror changes only after the log has taken the batch that changes the cells.

use omnipaxos::ballot_leader_election::Ballot;

use super::encoding;
use super::error::StorageError;
use crate::Batch;
use crate::codec::{CodecError, Fields};
use crate::error::{self, Error};
use crate::store::Store;

pub(super) const FORMAT: &str = "omnipaxos.format";
pub(super) const PROMISE: &str = "omnipaxos.promise";
pub(super) const ACCEPTED: &str = "omnipaxos.accepted";
pub(super) const DECIDED: &str = "omnipaxos.decided";
pub(super) const COMPACTED: &str = "omnipaxos.compacted";
pub(super) const STOPSIGN: &str = "omnipaxos.stopsign";
pub(super) const MIGRATING: &str = "omnipaxos.migrating";
pub(super) const SNAPSHOT: &str = "snapshot";

const FORMAT_VERSION: u32 = 1;

/// What the getters read. Entries, stop sign and snapshot are read from the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct State {
    pub(super) promise: Option<Ballot>,
    pub(super) accepted: Option<Ballot>,
    pub(super) decided: u64,
    pub(super) compacted: u64,
    /// Whether there is a stop sign, which counts as one entry after the last.
    pub(super) stopsign: bool,
    /// Whether there is a snapshot. It is read, and its checksum verified, when it is asked for.
    pub(super) snapshot: bool,
}

impl State {
    /// The state of an opened log, checked; a log that never held any is made ours first.
    pub(super) fn load(log: &impl Store) -> error::Result<Self> {
        claim(log)?;
        let compacted = cell(log, COMPACTED, encoding::index_from)?.unwrap_or(0);
        let decided = cell(log, DECIDED, encoding::index_from)?.unwrap_or(0);
        let state = Self {
            promise: cell(log, PROMISE, encoding::ballot_from)?,
            accepted: cell(log, ACCEPTED, encoding::ballot_from)?,
            // The decided index rides along with later writes, so a crash may bring back an older
            // one. What was compacted had been decided.
            decided: decided.max(compacted),
            compacted,
            stopsign: large(log, STOPSIGN, encoding::stopsign_from)?,
            snapshot: log.cells().iter().any(|(name, _)| name == SNAPSHOT),
        };
        let next = log.next();
        if compacted > next {
            return Err(impossible(log, COMPACTED, "compacted index", compacted));
        }
        // With a stop sign upstream counts on past the end; without one decided entries are gone.
        if state.decided > next && !state.stopsign {
            return Err(impossible(log, DECIDED, "decided index", state.decided));
        }
        Ok(state)
    }

    /// Refuses what no host can mean when the log ends at `next`.
    pub(super) fn check(&self, next: u64) -> Result<(), StorageError> {
        let Self { decided, compacted, stopsign, .. } = *self;
        if compacted > next {
            return Err(StorageError::CompactedBeyondEnd { compacted, next });
        }
        if decided > next && !stopsign {
            return Err(StorageError::DecidedBeyondEnd { decided, next });
        }
        Ok(())
    }

    /// Has the decided index go along with the next batch: alone it need not be durable.
    pub(super) fn write_decided(&self, log: &impl Store) -> error::Result<()> {
        log.set_lazily(DECIDED, &self.decided.to_le_bytes())
    }

    /// Whether nothing has been written yet.
    pub(super) fn is_fresh(&self, log: &impl Store) -> bool {
        *self == Self::default() && log.first() == 0 && log.next() == 0
    }
}

/// The bytes of a large value, wherever they are kept.
pub(super) fn large_bytes(log: &impl Store, name: &str) -> error::Result<Option<Vec<u8>>> {
    if let Some(inline) = log.cell(name) {
        return Ok(Some(inline.to_vec()));
    }
    log.read_side_file(name)
}

/// Checks that the log is one of this adapter, and makes a new one so.
fn claim(log: &impl Store) -> error::Result<()> {
    log.check_state()?;
    if let Some(found) = cell(log, FORMAT, |bytes| Fields::new(bytes).u32("format"))? {
        if found != FORMAT_VERSION {
            let path = log.log().path().to_owned();
            return Err(Error::UnsupportedVersion { path, found, supported: FORMAT_VERSION });
        }
        if log.cell(MIGRATING).is_some() {
            return Err(Error::InvalidArgument {
                what: "log",
                reason: "a migration into it has not ended: remove the directory and migrate again",
            });
        }
        return Ok(());
    }
    if log.next() != 0 || !log.cells().is_empty() {
        return Err(Error::InvalidArgument {
            what: "log",
            reason: "it holds the state of another host than OmniPaxos",
        });
    }
    let mut batch = Batch::new();
    batch.set(FORMAT, FORMAT_VERSION.to_le_bytes().to_vec());
    log.submit(&batch)?;
    // A log is ours before anything is answered from it. A crash before this leaves an empty log,
    // which the next open makes ours again.
    log.sync()
}

fn cell<V>(
    log: &impl Store,
    name: &'static str,
    decode: impl FnOnce(&[u8]) -> Result<V, CodecError>,
) -> error::Result<Option<V>> {
    let Some(bytes) = log.cell(name) else { return Ok(None) };
    decode(&bytes).map(Some).map_err(|source| malformed(log, name, source))
}

/// Whether there is a large value; one that there is must decode.
fn large<V>(
    log: &impl Store,
    name: &'static str,
    decode: impl FnOnce(&[u8]) -> Result<V, CodecError>,
) -> error::Result<bool> {
    let Some(bytes) = large_bytes(log, name)? else { return Ok(false) };
    decode(&bytes).map(|_| true).map_err(|source| malformed(log, name, source))
}

/// The error for an index that the entries contradict.
fn impossible(log: &impl Store, cell: &'static str, field: &'static str, got: u64) -> Error {
    malformed(log, cell, CodecError::Value { field, got })
}

fn malformed(log: &impl Store, cell: &'static str, source: CodecError) -> Error {
    Error::MalformedCell { path: log.log().path().to_owned(), cell, source }
}
