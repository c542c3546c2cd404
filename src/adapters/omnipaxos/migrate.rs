//! Moving the state of any other `Storage<T>` into a log.
//!
//! Owns: the order that makes an interrupted migration recognisable. Invariant: a log that holds a
//! part of a migration is refused at open, so that no node starts without its promise.

use omnipaxos::storage::{Entry, Storage, StorageResult};

use super::error::StorageError;
use super::storage::LogStorage;
use crate::codec::Codec;
use crate::store::Store;

/// Most entries that are read from the source at one time.
const ENTRIES_PER_BATCH: usize = 1024;

/// What [`migrate`] moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Migrated {
    /// Index of the first entry: the compacted index.
    pub first: usize,
    /// Exclusive end of the entries.
    pub next: usize,
    /// The decided index.
    pub decided: usize,
    /// Whether there was a stop sign.
    pub stopsign: bool,
    /// Whether there was a snapshot.
    pub snapshot: bool,
}

/// Reads everything out of `from` through its own trait, writes it to `to`, and makes it durable.
///
/// The source is any `Storage<T>` of the same `omnipaxos` version, such as upstream's RocksDB
/// `PersistentStorage<T>`; the node it belongs to must not be running. It is only read. `to` must be
/// fresh. If this fails or the process ends on the way, `to` is refused at its next open: remove its
/// directory and migrate again.
///
/// ```no_run
/// # use indelible::codec::{Codec, CodecError};
/// # use indelible::omnipaxos::{LogStorage, StorageConfig, migrate};
/// # use omnipaxos::storage::{Entry, Storage};
/// # fn run<T, C, S>(upstream: S) -> Result<(), Box<dyn std::error::Error>>
/// # where T: Entry, C: Codec<T> + Codec<T::Snapshot>, S: Storage<T> {
/// // let upstream: PersistentStorage<T> = PersistentStorage::open(upstream_config);
/// let mut ours: LogStorage<T, C> = LogStorage::create(&StorageConfig::with_path("node-1"))?;
/// let migrated = migrate(&upstream, &mut ours)?;
/// println!("entries {}..{}, decided {}", migrated.first, migrated.next, migrated.decided);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`StorageError::NotFresh`], [`StorageError::Source`] and [`StorageError::SourceShort`] if the
/// source cannot be read in full, [`StorageError::Encode`], [`StorageError::Log`].
pub fn migrate<T, C, S, L>(from: &S, to: &mut LogStorage<T, C, L>) -> Result<Migrated, StorageError>
where
    T: Entry,
    C: Codec<T> + Codec<T::Snapshot>,
    S: Storage<T>,
    L: Store,
{
    if !to.is_fresh() {
        return Err(StorageError::NotFresh);
    }
    let first = read(from.get_compacted_idx())?;
    let next = first.saturating_add(read(from.get_log_len())?);
    to.write(|plan, _| {
        plan.migrating(true);
        plan.trim(first as u64);
        Ok(())
    })?;
    // Makes the mark durable before anything that it marks.
    to.log().sync()?;
    let mut at = first;
    while at < next {
        let end = next.min(at.saturating_add(ENTRIES_PER_BATCH));
        let entries = read(from.get_entries(at, end))?;
        if entries.len() != end - at {
            return Err(StorageError::SourceShort {
                from: at as u64,
                expected: (end - at) as u64,
                got: entries.len() as u64,
            });
        }
        to.write(|plan, fresh| plan.entries::<T, C>(entries, fresh))?;
        at = end;
    }
    let state = OtherState::read(from)?;
    let migrated = Migrated {
        first,
        next,
        decided: state.decided.max(first),
        stopsign: state.stopsign.is_some(),
        snapshot: state.snapshot.is_some(),
    };
    to.write(|plan, fresh| {
        plan.migrating(false);
        plan.compacted(first as u64);
        state.into_plan::<C>(plan, fresh)
    })?;
    // The commit point: everything is durable, the end of the mark with it.
    to.log().sync()?;
    Ok(migrated)
}

struct OtherState<T: Entry> {
    promise: Option<omnipaxos::ballot_leader_election::Ballot>,
    accepted: Option<omnipaxos::ballot_leader_election::Ballot>,
    decided: usize,
    stopsign: Option<omnipaxos::storage::StopSign>,
    snapshot: Option<T::Snapshot>,
}

impl<T: Entry> OtherState<T> {
    fn read<S: Storage<T>>(from: &S) -> Result<Self, StorageError> {
        Ok(Self {
            promise: read(from.get_promise())?,
            accepted: read(from.get_accepted_round())?,
            decided: read(from.get_decided_idx())?,
            stopsign: read(from.get_stopsign())?,
            snapshot: read(from.get_snapshot())?,
        })
    }

    fn into_plan<C>(
        self,
        plan: &mut super::plan::Plan,
        fresh: &mut Vec<super::newest::Fresh<T>>,
    ) -> Result<(), StorageError>
    where
        C: Codec<T> + Codec<T::Snapshot>,
    {
        use omnipaxos::storage::StorageOp::{
            SetAcceptedRound, SetDecidedIndex, SetPromise, SetSnapshot, SetStopsign,
        };
        let rounds = [self.promise.map(SetPromise), self.accepted.map(SetAcceptedRound)];
        for operation in rounds.into_iter().flatten() {
            plan.operation::<T, C>(operation, fresh)?;
        }
        plan.operation::<T, C>(SetDecidedIndex(self.decided), fresh)?;
        plan.operation::<T, C>(SetStopsign(self.stopsign), fresh)?;
        plan.operation::<T, C>(SetSnapshot(self.snapshot), fresh)
    }
}

fn read<V>(answer: StorageResult<V>) -> Result<V, StorageError> {
    answer.map_err(|error| StorageError::Source { reason: error.to_string() })
}
