//! `Storage` of tikv's [`raft`] 0.7 on a log: entries, hard state, membership, snapshots, compaction.
//!
//! The host only reads through its trait; what it wants written comes in a `Ready`. [`LogStore::save`]
//! writes all of that as one batch, without waiting: readable at once, which the host asks for, and
//! durable when the ticket says so, which is when promises may leave (`on_persist_ready`). The example
//! `tikv_raft` is the whole loop.
//!
//! Owns: the host's words and the names of its cells. Does not own: how values lie in the log; what is
//! in a snapshot, which is the application's.
//!
//! Invariants: entry `i` of the host is entry `i` of the log, which begins at 1. The boundary, index
//! and term of the last entry that is gone, changes in the batch that drops the entries.
//!
//! Build [`raft`] with `default-features = false, features = ["prost-codec"]`.

use indelible::codec::{CodecError, Fields};
use indelible::store::Store;
use indelible::typed::{Failure, after};
use indelible::{Batch, Error, Log, Ticket};
use prost::Message;
use raft::prelude::{ConfState, Entry, HardState, Snapshot, SnapshotMetadata};
use raft::{GetEntriesContext, RaftState, Ready, Storage, StorageError};

/// Cell of the version of what this store writes.
const FORMAT: &str = "raft.format";
/// The version this build writes and reads.
const FORMAT_VERSION: u32 = 1;
/// Cell of term, vote and commit.
const HARD_STATE: &str = "raft.hard-state";
/// Cell of the members.
const CONF_STATE: &str = "raft.conf-state";
/// Cell of index and term of the last entry that is gone.
const BOUNDARY: &str = "raft.boundary";
/// Cell of the current snapshot, a side file.
const SNAPSHOT: &str = "raft.snapshot";
/// The host counts entries from here.
const FIRST: u64 = 1;

/// The storage of one node. Clones share the log.
#[derive(Debug, Clone)]
pub struct LogStore<S = Log> {
    log: S,
}

impl<S: Store> LogStore<S> {
    /// Makes an empty log that of a node whose first members are `members`. Durable on return.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`]: the log is not empty.
    pub fn create(log: S, members: &ConfState) -> Result<Self, Failure> {
        if log.next() > 0 || !log.cells().is_empty() {
            return Err(Error::InvalidArgument { what: "log", reason: "it is not empty" }.into());
        }
        let mut batch = Batch::new();
        batch.reset(FIRST).set(FORMAT, FORMAT_VERSION.to_le_bytes().to_vec());
        batch.set(CONF_STATE, members.encode_to_vec());
        log.submit(&batch)?.wait()?;
        Ok(Self { log })
    }

    /// The store on a log that [`Self::create`] was called on before.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`]: the log is empty, or another host's.
    /// [`Error::UnsupportedVersion`]: a newer version of this store wrote it.
    pub fn open(log: S) -> Result<Self, Failure> {
        let Some(bytes) = log.cell(FORMAT) else {
            let reason = "it is empty, or another host's";
            return Err(Error::InvalidArgument { what: "log", reason }.into());
        };
        let mut fields = Fields::new(&bytes);
        match fields.u32("version").map_err(|source| unreadable(FORMAT, source))? {
            FORMAT_VERSION => Ok(Self { log }),
            found => {
                let path = log.log().path().to_path_buf();
                Err(Error::UnsupportedVersion { path, found, supported: FORMAT_VERSION }.into())
            }
        }
    }

    /// The log below.
    pub const fn log(&self) -> &S {
        &self.log
    }

    /// Writes what a `Ready` wants written, as one batch: a snapshot from the leader, entries in place
    /// of whatever is there from the first of them on, the hard state. Readable on return, durable when
    /// the ticket says so.
    ///
    /// # Errors
    ///
    /// [`Failure::Log`]: nothing was changed; let the node end. [`Error::TooLarge`] in it: an entry is
    /// larger than a segment takes; ask [`Store::entry_bytes_max`] before you propose.
    pub fn save(&self, ready: &Ready) -> Result<Ticket, Failure> {
        let mut batch = Batch::new();
        let mut next = self.log.next();
        let snapshot = ready.snapshot();
        if !snapshot.is_empty() {
            let SnapshotMetadata { index, term, conf_state } =
                snapshot.metadata.clone().unwrap_or_default();
            let file = self.log.write_side_file(&snapshot.encode_to_vec())?;
            batch.attach(SNAPSHOT, file).reset(after(index)).set(BOUNDARY, boundary(index, term));
            batch.set(CONF_STATE, conf_state.unwrap_or_default().encode_to_vec());
            next = after(index);
        }
        for entry in ready.entries() {
            if entry.index > next {
                return Err(Error::NonContiguous { expected: next, got: entry.index }.into());
            }
            if entry.index < next {
                batch.truncate(entry.index);
            }
            batch.append(entry.encode_to_vec());
            next = after(entry.index);
        }
        if let Some(hard_state) = ready.hs() {
            batch.set(HARD_STATE, hard_state.encode_to_vec());
        }
        Ok(self.log.submit(&batch)?)
    }

    /// Notes the members that `RawNode::apply_conf_change` returned. Durable with the next sync: after
    /// a crash the host applies the change again.
    ///
    /// # Errors
    ///
    /// [`Failure::Log`].
    pub fn set_members(&self, members: &ConfState) -> Result<(), Failure> {
        let mut batch = Batch::new();
        batch.set(CONF_STATE, members.encode_to_vec());
        Ok(self.log.submit(&batch).map(drop)?)
    }

    /// Keeps `data`, the state after the entry at `applied`, as the current snapshot and drops the
    /// entries up to there. Durable on return. One that covers no more than the current one changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`Error::BeyondEnd`]: there is no such entry. [`Failure::Codec`]: it cannot be read.
    pub fn compact(&self, applied: u64, data: Vec<u8>) -> Result<(), Failure> {
        if applied < self.log.first() {
            return Ok(());
        }
        let term = self.entry(applied)?.term;
        let conf_state = Some(self.value::<ConfState>(CONF_STATE)?);
        let metadata = Some(SnapshotMetadata { conf_state, index: applied, term });
        let file = self.log.write_side_file(&Snapshot { data, metadata }.encode_to_vec())?;
        let mut batch = Batch::new();
        batch.attach(SNAPSHOT, file).trim(after(applied)).set(BOUNDARY, boundary(applied, term));
        let mut hard_state: HardState = self.value(HARD_STATE)?;
        if hard_state.commit < applied {
            // The host tells its commit index in a `Ready` to come, and does not start with one that
            // is older than the log's first entry.
            hard_state.commit = applied;
            batch.set(HARD_STATE, hard_state.encode_to_vec());
        }
        Ok(self.log.submit(&batch)?.wait()?)
    }

    /// The current snapshot, with what it covers; an empty one if there is none. A node that starts
    /// restores its state from it, and has applied what it covers (`Config::applied`).
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`]; [`Failure::Codec`].
    pub fn current_snapshot(&self) -> Result<Snapshot, Failure> {
        let bytes = self.log.read_side_file(SNAPSHOT)?.unwrap_or_default();
        decoded(SNAPSHOT, &bytes)
    }

    /// Index and term of the last entry that is gone.
    fn boundary(&self) -> Result<(u64, u64), Failure> {
        let Some(bytes) = self.log.cell(BOUNDARY) else { return Ok((FIRST - 1, 0)) };
        let mut fields = Fields::new(&bytes);
        let mut both = || Ok((fields.u64("index")?, fields.u64("term")?));
        both().map_err(|source| unreadable(BOUNDARY, source))
    }

    fn entry(&self, index: u64) -> Result<Entry, Failure> {
        let mut entries = self.read(index, after(index), Some(0))?;
        entries.pop().ok_or(Failure::Log(Error::BeyondEnd { wanted: index, next: self.log.next() }))
    }

    /// Entries `low..high`, up to `bytes_max` bytes of them but at least one.
    fn read(&self, low: u64, high: u64, bytes_max: Option<u64>) -> Result<Vec<Entry>, Failure> {
        use indelible::store::StoreEntries as _;
        let (stored, mut bytes) = (self.log.read(low..high)?, 0_u64);
        let mut entries = Vec::new();
        for (index, at) in (low..high).zip(0..) {
            let Some(entry) = stored.get(at) else { break };
            bytes = bytes.saturating_add(entry.len() as u64);
            if !entries.is_empty() && bytes_max.is_some_and(|most| bytes > most) {
                break;
            }
            let entry: Entry = decoded("an entry", entry)?;
            if entry.index != index {
                let source = CodecError::Value { field: "its index", got: entry.index };
                return Err(unreadable("an entry", source));
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    fn value<T: Message + Default>(&self, cell: &'static str) -> Result<T, Failure> {
        decoded(cell, &self.log.cell(cell).unwrap_or_default())
    }
}

fn boundary(index: u64, term: u64) -> Vec<u8> {
    [index.to_le_bytes(), term.to_le_bytes()].concat()
}

fn decoded<T: Message + Default>(what: &'static str, bytes: &[u8]) -> Result<T, Failure> {
    T::decode(bytes).map_err(|error| unreadable(what, CodecError::library(error)))
}

fn unreadable(what: &'static str, source: CodecError) -> Failure {
    Failure::Codec { op: "decode", what, source }
}

/// A failure in the host's words: it sends a snapshot for what is gone, and asks again for what is not
/// there yet.
fn told(failure: Failure) -> raft::Error {
    match failure {
        Failure::Log(Error::Trimmed { .. }) => StorageError::Compacted.into(),
        Failure::Log(Error::BeyondEnd { .. }) => StorageError::Unavailable.into(),
        other => StorageError::Other(Box::new(other)).into(),
    }
}

impl<S: Store> Storage for LogStore<S> {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let hard_state: HardState = self.value(HARD_STATE).map_err(told)?;
        Ok(RaftState::new(hard_state, self.value(CONF_STATE).map_err(told)?))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        self.read(low, high, max_size.into()).map_err(told)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        let (gone, term) = self.boundary().map_err(told)?;
        if index == gone { Ok(term) } else { Ok(self.entry(index).map_err(told)?.term) }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.log.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.log.next().saturating_sub(1))
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        let snapshot = self.current_snapshot().map_err(told)?;
        match &snapshot.metadata {
            Some(covers) if covers.index >= request_index => Ok(snapshot),
            _ => Err(StorageError::SnapshotTemporarilyUnavailable.into()),
        }
    }
}
