//! OmniPaxos' `Storage<T>` on a log.
//!
//! Owns: the mapping of every call of the trait to one plan, and of every read to the log. Index `i`
//! of OmniPaxos is entry `i` of the log; the compacted index is a cell, because the trait sets it
//! apart from trimming. Does not own: the edge rules of writes (`plan`), the cells (`state`).
//!
//! Invariants: one call is at most one batch; an `Err` leaves memory and disk as they were.

use std::marker::PhantomData;
use std::mem;
use std::sync::Arc;

use omnipaxos::ballot_leader_election::Ballot;
use omnipaxos::storage::{Entry, StopSign, Storage, StorageOp, StorageResult};

use super::config::StorageConfig;
use super::encoding;
use super::error::{StorageError, Value};
use super::handle::{Shared, StorageHandle};
use super::newest::{Fresh, Newest};
use super::plan::{Buffers, Plan};
use super::state::{self, State};
use crate::Log;
use crate::codec::Codec;
use crate::error::{self, Error};
use crate::options::Options;
use crate::store::{Store, StoreEntries as _};

/// The storage to give to OmniPaxos. `C` is the codec of entries and snapshots.
///
/// Give it to [`Synced`](super::Synced), which takes one sync per turn of the host's loop. Given to
/// OmniPaxos itself under [`Durability::Always`](crate::Durability::Always), the default, every call
/// that messages depend on is durable when it returns, at one sync per call, and any host loop is
/// safe. Under [`Durability::Barrier`](crate::Durability::Barrier) the host has to call
/// [`StorageHandle::barrier`](super::StorageHandle::barrier) before it takes messages.
#[derive(Debug)]
pub struct LogStorage<T, C, S = Log> {
    log: S,
    state: State,
    shared: Arc<Shared>,
    buffers: Buffers,
    /// What was written last and need not be decoded.
    newest: Newest<T>,
    types: PhantomData<fn() -> C>,
}

impl<T, C> LogStorage<T, C> {
    /// Creates a log at the path of `config` for a node that has never promised anything.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyExists`] if there is a log, [`Error::InvalidOption`] if no path was set or an
    /// option cannot work, [`Error::Io`].
    pub fn create(config: &StorageConfig) -> error::Result<Self> {
        Self::from_log(Log::create(config.checked_path()?, config.get_options())?)
    }

    /// Opens the log at the path of `config`. What was found is in [`StorageHandle::recovery`].
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] if there is no log: a node that has made promises must not start without
    /// them. [`Error::Damaged`], [`Error::Locked`], [`Error::InvalidOption`], [`Error::Io`].
    pub fn open(config: &StorageConfig) -> error::Result<Self> {
        let (log, _report) = Log::open(config.checked_path()?, config.get_options())?;
        Self::from_log(log)
    }

    /// Opens the log at the path of `config`, or creates one if there is none. A node whose disk was
    /// lost starts without its promises then: prefer [`Self::create`] and [`Self::open`].
    ///
    /// # Errors
    ///
    /// Those of [`Self::create`] and [`Self::open`], but for `AlreadyExists` and `Missing`.
    pub fn open_or_create(config: &StorageConfig) -> error::Result<Self> {
        let (log, _report) = Log::open_or_create(config.checked_path()?, config.get_options())?;
        Self::from_log(log)
    }

    /// A storage that lives in memory and is gone when it is dropped. Nothing in it can be more
    /// durable than that, so the durability of `options` has no effect.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`] if an option cannot work.
    pub fn in_memory(options: &Options) -> error::Result<Self> {
        Self::from_log(Log::in_memory(options)?)
    }

    /// Opens or creates a log in a directory of any kind, such as that of a simulated disk.
    ///
    /// # Errors
    ///
    /// Those of [`Self::open_or_create`].
    #[cfg(feature = "testing")]
    pub fn in_directory(
        directory: Arc<dyn crate::io::Directory>,
        options: &Options,
    ) -> error::Result<Self> {
        let (log, _report) = Log::open_or_create_in(directory, options)?;
        Self::from_log(log)
    }

    /// Takes a log that is open already. It must be one of this adapter, or empty.
    ///
    /// # Errors
    ///
    /// [`Error::MalformedCell`] if the state is inconsistent, [`Error::InvalidArgument`] if the log is
    /// another host's, [`Error::UnsupportedVersion`], [`Error::Io`].
    pub fn from_log(log: Log) -> error::Result<Self> {
        Self::from_store(log)
    }
}

impl<T, C, S: Store> LogStorage<T, C, S> {
    /// Takes a store that is open already, such as one group of many in a log. It must be one of
    /// this adapter, or empty.
    ///
    /// # Errors
    ///
    /// Those of [`LogStorage::from_log`].
    pub fn from_store(log: S) -> error::Result<Self> {
        let state = State::load(&log)?;
        let (shared, buffers, newest) = (Arc::default(), Buffers::default(), Newest::default());
        Ok(Self { log, state, shared, buffers, newest, types: PhantomData })
    }

    /// A handle that goes on working after the storage has been moved into OmniPaxos.
    pub fn handle(&self) -> StorageHandle<S> {
        StorageHandle::new(self.log.clone(), Arc::clone(&self.shared))
    }

    /// Starts over after a decided stop sign: drops the entries and the state of the configuration
    /// that has ended, in one atomic and durable step, so that the next configuration can use the
    /// same storage. Returns the stop sign.
    ///
    /// Call [`StorageHandle::sync`] or close before you drop the `OmniPaxos` that has ended, so that
    /// its decided index is on disk. Copy what the next configuration needs before, as with any new
    /// storage: its log starts at index 0. No `OmniPaxos` of the ended configuration may run again.
    ///
    /// # Errors
    ///
    /// [`StorageError::NotStopped`] if no stop sign has been decided, [`StorageError::Log`].
    pub fn start_over(&mut self) -> Result<StopSign, StorageError> {
        let Some(stopsign) = self.stopsign()? else { return Err(StorageError::NotStopped) };
        if self.state.decided <= self.log.next() {
            return Err(StorageError::NotStopped);
        }
        self.write(|plan, _| {
            plan.start_over();
            Ok(())
        })?;
        self.log.sync()?;
        Ok(stopsign)
    }

    /// Whether nothing has been written yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.state.is_fresh(&self.log)
    }

    pub(super) const fn log(&self) -> &S {
        &self.log
    }

    /// Plans, writes, and only then believes it. `fill` puts the entries that it plans into the list.
    pub(super) fn write(
        &mut self,
        fill: impl FnOnce(&mut Plan, &mut Vec<Fresh<T>>) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let mut plan = Plan::new(self.state, &self.log, mem::take(&mut self.buffers));
        let later = self.shared.is_synced_by_turn();
        let mut fresh = Vec::new();
        let written = fill(&mut plan, &mut fresh).and_then(|()| plan.write(&self.log, later));
        self.buffers = plan.into_buffers();
        if let Some(written) = written? {
            self.state = written.state;
            self.newest.take_in(fresh);
            self.shared.note(written);
        }
        Ok(())
    }

    fn stopsign(&self) -> Result<Option<StopSign>, StorageError> {
        let Some(bytes) = state::large_bytes(&self.log, state::STOPSIGN)? else { return Ok(None) };
        encoding::stopsign_from(&bytes)
            .map(Some)
            .map_err(|source| StorageError::Decode { value: Value::StopSign, source })
    }

    /// The entries `from..to`, or none if the log does not hold them all. Those that were written last
    /// come as the host gave them, while the log can be used; all others are decoded.
    fn entries(&self, from: u64, to: u64) -> Result<Vec<T>, StorageError>
    where
        T: Clone,
        C: Codec<T>,
    {
        let (first, next) = (self.log.first().max(self.state.compacted), self.log.next());
        if from >= to {
            return Ok(Vec::new());
        }
        if from < first {
            // Never nothing: the host would take it for "nothing more" and cut a log short.
            return Err(Error::Trimmed { wanted: from, first }.into());
        }
        if to > next {
            return Ok(Vec::new());
        }
        let usable = self.log.log().shared().usable().is_ok();
        let newest = if usable { self.newest.split(&(from..to)) } else { to };
        let mut entries = Vec::new();
        if from < newest {
            let stored = self.log.read(from..newest)?;
            entries.reserve_exact(usize::try_from(to - from).unwrap_or(0));
            for (bytes, index) in stored.iter().zip(from..) {
                let entry = C::decode(bytes).map_err(|source| StorageError::Decode {
                    value: Value::Entry(index),
                    source,
                })?;
                entries.push(entry);
            }
        }
        entries.extend(self.newest.entries(&(newest..to)).cloned());
        Ok(entries)
    }
}

impl Plan {
    pub(super) fn entries<T, C: Codec<T>>(
        &mut self,
        entries: impl IntoIterator<Item = T>,
        fresh: &mut Vec<Fresh<T>>,
    ) -> Result<(), StorageError> {
        for entry in entries {
            let (index, bytes) = self.append(|index, out| {
                C::encode(&entry, out)
                    .map_err(|source| StorageError::Encode { value: Value::Entry(index), source })
            })?;
            fresh.push(Fresh { index, bytes, entry });
        }
        Ok(())
    }

    pub(super) fn operation<T, C>(
        &mut self,
        operation: StorageOp<T>,
        fresh: &mut Vec<Fresh<T>>,
    ) -> Result<(), StorageError>
    where
        T: Entry,
        C: Codec<T> + Codec<T::Snapshot>,
    {
        match operation {
            StorageOp::AppendEntry(entry) => self.entries::<T, C>([entry], fresh)?,
            StorageOp::AppendEntries(entries) => self.entries::<T, C>(entries, fresh)?,
            StorageOp::AppendOnPrefix(from, entries) => {
                self.prefix(from as u64, entries.len())?;
                self.entries::<T, C>(entries, fresh)?;
            }
            StorageOp::SetPromise(ballot) => self.promise(ballot),
            StorageOp::SetDecidedIndex(index) => self.decided(index as u64),
            StorageOp::SetAcceptedRound(ballot) => self.accepted(ballot),
            StorageOp::SetCompactedIdx(index) => self.compacted(index as u64),
            StorageOp::Trim(to) => self.trim(to as u64),
            StorageOp::SetStopsign(None) => self.no_stopsign(),
            StorageOp::SetStopsign(Some(stopsign)) => self.stopsign(|out| {
                encoding::stopsign(&stopsign, out);
                Ok(())
            })?,
            StorageOp::SetSnapshot(None) => self.no_snapshot(),
            StorageOp::SetSnapshot(Some(snapshot)) => self.snapshot(|out| {
                C::encode(&snapshot, out)
                    .map_err(|source| StorageError::Encode { value: Value::Snapshot, source })
            })?,
        }
        Ok(())
    }
}

impl<T, C, S> LogStorage<T, C, S>
where
    T: Entry,
    C: Codec<T> + Codec<T::Snapshot>,
    S: Store,
{
    fn one(&mut self, operation: StorageOp<T>) -> StorageResult<()> {
        Ok(self.write(|plan, fresh| plan.operation::<T, C>(operation, fresh))?)
    }
}

impl<T, C, S> Storage<T> for LogStorage<T, C, S>
where
    T: Entry,
    C: Codec<T> + Codec<T::Snapshot>,
    S: Store,
{
    fn write_atomically(&mut self, operations: Vec<StorageOp<T>>) -> StorageResult<()> {
        Ok(self.write(|plan, fresh| {
            let mut operations = operations.into_iter();
            operations.try_for_each(|operation| plan.operation::<T, C>(operation, fresh))
        })?)
    }

    fn append_entry(&mut self, entry: T) -> StorageResult<()> {
        self.one(StorageOp::AppendEntry(entry))
    }

    fn append_entries(&mut self, entries: Vec<T>) -> StorageResult<()> {
        self.one(StorageOp::AppendEntries(entries))
    }

    fn append_on_prefix(&mut self, from_idx: usize, entries: Vec<T>) -> StorageResult<()> {
        self.one(StorageOp::AppendOnPrefix(from_idx, entries))
    }

    fn set_promise(&mut self, n_prom: Ballot) -> StorageResult<()> {
        self.one(StorageOp::SetPromise(n_prom))
    }

    /// Called for every message of a busy cluster, so it has no plan: nothing is written for it.
    fn set_decided_idx(&mut self, ld: usize) -> StorageResult<()> {
        let state = State { decided: ld as u64, ..self.state };
        state.check(self.log.next())?;
        state.write_decided(&self.log).map_err(StorageError::from)?;
        self.state = state;
        Ok(())
    }

    fn get_decided_idx(&self) -> StorageResult<usize> {
        host_index(self.state.decided)
    }

    fn set_accepted_round(&mut self, na: Ballot) -> StorageResult<()> {
        self.one(StorageOp::SetAcceptedRound(na))
    }

    fn get_accepted_round(&self) -> StorageResult<Option<Ballot>> {
        Ok(self.state.accepted)
    }

    fn get_entries(&self, from: usize, to: usize) -> StorageResult<Vec<T>> {
        Ok(self.entries(from as u64, to as u64)?)
    }

    fn get_log_len(&self) -> StorageResult<usize> {
        host_index(self.log.next().saturating_sub(self.state.compacted))
    }

    fn get_suffix(&self, from: usize) -> StorageResult<Vec<T>> {
        let (from, next) = (from as u64, self.log.next());
        // Asking from the end is asking for nothing; asking from below the beginning is an error.
        Ok(self.entries(from, next.max(from))?)
    }

    fn get_promise(&self) -> StorageResult<Option<Ballot>> {
        Ok(self.state.promise)
    }

    fn set_stopsign(&mut self, s: Option<StopSign>) -> StorageResult<()> {
        self.one(StorageOp::SetStopsign(s))
    }

    fn get_stopsign(&self) -> StorageResult<Option<StopSign>> {
        Ok(self.stopsign()?)
    }

    fn trim(&mut self, idx: usize) -> StorageResult<()> {
        self.one(StorageOp::Trim(idx))
    }

    fn set_compacted_idx(&mut self, idx: usize) -> StorageResult<()> {
        self.one(StorageOp::SetCompactedIdx(idx))
    }

    fn get_compacted_idx(&self) -> StorageResult<usize> {
        host_index(self.state.compacted)
    }

    fn set_snapshot(&mut self, snapshot: Option<T::Snapshot>) -> StorageResult<()> {
        self.one(StorageOp::SetSnapshot(snapshot))
    }

    fn get_snapshot(&self) -> StorageResult<Option<T::Snapshot>> {
        let Some(bytes) =
            state::large_bytes(&self.log, state::SNAPSHOT).map_err(StorageError::from)?
        else {
            return Ok(None);
        };
        let snapshot = C::decode(&bytes)
            .map_err(|source| StorageError::Decode { value: Value::Snapshot, source })?;
        Ok(Some(snapshot))
    }
}

/// An index as the host counts. A log from a 64-bit machine may exceed a 32-bit one.
fn host_index(index: u64) -> StorageResult<usize> {
    let too_large = |_| Error::TooLarge { what: "index", got: index, limit: usize::MAX as u64 };
    Ok(usize::try_from(index).map_err(too_large)?)
}
