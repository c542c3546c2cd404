//! `RaftLogStorage` of openraft 0.9 on a [`Log`].
//!
//! Owns: openraft's words. Does not own: the state machine and its snapshots, which are the
//! application's; how entries and log ids lie in the log ([`indelible::typed`]).
//!
//! What is durable when:
//!
//! | call             | durable                                                             |
//! |------------------|---------------------------------------------------------------------|
//! | `append`         | when the callback is called; calls in flight together share a sync |
//! | `save_vote`      | on return, with everything before it                                |
//! | `truncate`       | on return, with everything before it                                |
//! | `purge`          | with the next sync: after a crash openraft purges again             |
//! | `save_committed` | with the next sync; on return it survives a killed process          |

use std::fmt::Debug;
use std::io;
use std::marker::PhantomData;
use std::ops::RangeBounds;

use indelible::codec::{Codec, Postcard};
use indelible::store::Store;
pub use indelible::typed::Failure;
use indelible::{Error, Log};
use openraft_09::storage::{LogFlushed, RaftLogStorage};
use openraft_09::{
    AnyError, LogId, LogState, OptionalSend, RaftLogId, RaftLogReader, RaftTypeConfig,
    StorageError, StorageIOError, Vote,
};

use crate::shared::{COMMITTED, PURGED, READ_BYTES_MAX, RaftLog, VOTE};

/// The log, vote, committed id and purge boundary of one openraft 0.9 node.
///
/// Clones share the log. Any [`Log`] will do, or one group of many in a log, in a directory or in
/// memory, of any
/// [`Durability`](indelible::Durability): the callbacks and futures of this store sync as they need.
/// Keep a clone of the [`Log`] to close it after `Raft::shutdown`.
pub struct LogStore<C, K = Postcard, S = Log> {
    log: RaftLog<K, S>,
    types: PhantomData<fn() -> C>,
}

impl<C: RaftTypeConfig, K: EntryCodec<C>, S: Store> LogStore<C, K, S> {
    /// A store on a log that is empty or was written by such a store. Open it before anything else
    /// is put into the log; a state machine may have cells of its own in it afterwards.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`]: the log is another host's. [`Error::UnsupportedVersion`]: a newer
    /// version of this store wrote it.
    pub fn open(log: S) -> Result<Self, Failure> {
        Ok(Self { log: RaftLog::open(log)?, types: PhantomData })
    }

    /// As [`Self::open`], and refuses a log that belongs to another node. An empty log becomes that of
    /// `node`, durably.
    ///
    /// # Errors
    ///
    /// Those of [`Self::open`]; [`Error::InvalidArgument`]: the log is another node's.
    pub fn open_for(log: S, node: &C::NodeId) -> Result<Self, Failure> {
        let store = Self::open(log)?;
        store.log.of_node(node)?;
        Ok(store)
    }

    /// Whether the log takes a command. Ask before you give one to `Raft::client_write`: the host ends
    /// a node whose log refuses an entry.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`]: it does not fit into a segment. [`Failure::Codec`]: it cannot be encoded.
    pub fn admits(&self, command: &C::D) -> Result<(), Failure>
    where
        K: Codec<C::D>,
    {
        self.log.admits(command)
    }

    /// The log below.
    pub fn log(&self) -> &S {
        self.log.log()
    }

    /// The id of the last entry, or of the last purged one.
    fn last_log_id(&self) -> Result<Option<LogId<C::NodeId>>, Failure> {
        match self.log.last(index_of::<C>)? {
            Some(entry) => Ok(Some(entry.get_log_id().clone())),
            None => self.log.load(PURGED),
        }
    }
}

/// A codec for the entries of `C`. [`Postcard`] is one for all of them; an application whose
/// commands need a self-describing format, such as `serde_json::Value`, brings its own.
pub trait EntryCodec<C: RaftTypeConfig>: Codec<C::Entry> + Send + Sync + 'static {}

impl<C: RaftTypeConfig, K: Codec<C::Entry> + Send + Sync + 'static> EntryCodec<C> for K {}

impl<C, K, S: Clone> Clone for LogStore<C, K, S> {
    fn clone(&self) -> Self {
        Self { log: self.log.clone(), types: PhantomData }
    }
}

impl<C, K, S: Store> Debug for LogStore<C, K, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LogStore").field(self.log.log()).finish()
    }
}

impl<C: RaftTypeConfig, K: EntryCodec<C>, S: Store> RaftLogReader<C> for LogStore<C, K, S> {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<C::Entry>, StorageError<C::NodeId>> {
        self.log
            .read(range, usize::MAX, index_of::<C>)
            .map_err(|failure| StorageIOError::read_logs(any(&failure)).into())
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<C::Entry>, StorageError<C::NodeId>> {
        let entries = self
            .log
            .read(start..end, READ_BYTES_MAX, index_of::<C>)
            .map_err(|failure| StorageIOError::read_logs(any(&failure)))?;
        if entries.is_empty() && start < end {
            // The host counts on at least one entry, and would ask again for ever.
            let missing = Error::Trimmed { wanted: start, first: self.log().first() };
            return Err(StorageIOError::read_log_at_index(start, any(&missing)).into());
        }
        Ok(entries)
    }
}

impl<C: RaftTypeConfig, K: EntryCodec<C>, S: Store> RaftLogStorage<C> for LogStore<C, K, S> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<C>, StorageError<C::NodeId>> {
        let read = |failure: Failure| StorageIOError::read_logs(any(&failure));
        Ok(LogState {
            last_purged_log_id: self.log.load(PURGED).map_err(read)?,
            last_log_id: self.last_log_id().map_err(read)?,
        })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<C::NodeId>) -> Result<(), StorageError<C::NodeId>> {
        let ticket = self.log.save(VOTE, Some(vote));
        durable(ticket).await.map_err(|failure| StorageIOError::write_vote(any(&failure)).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<C::NodeId>>, StorageError<C::NodeId>> {
        self.log.load(VOTE).map_err(|failure| StorageIOError::read_vote(any(&failure)).into())
    }

    async fn save_committed(
        &mut self,
        committed: Option<LogId<C::NodeId>>,
    ) -> Result<(), StorageError<C::NodeId>> {
        let saved = self.log.commit(committed.as_ref());
        saved.map_err(|failure| StorageIOError::write(any(&failure)).into())
    }

    async fn read_committed(
        &mut self,
    ) -> Result<Option<LogId<C::NodeId>>, StorageError<C::NodeId>> {
        let read = |failure: Failure| StorageIOError::read_logs(any(&failure));
        let committed: Option<LogId<C::NodeId>> = self.log.load(COMMITTED).map_err(read)?;
        // The host reads and applies every entry up to here, so none may be missing.
        Ok(committed.min(self.last_log_id().map_err(read)?))
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<C>,
    ) -> Result<(), StorageError<C::NodeId>>
    where
        I: IntoIterator<Item = C::Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter().map(|entry| (index_of::<C>(&entry), entry));
        let ticket = self
            .log
            .append(entries)
            .map_err(|failure| StorageIOError::write_logs(any(&failure)))?;
        ticket.on_durable(|result| callback.log_io_completed(result.map_err(io::Error::from)));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId<C::NodeId>) -> Result<(), StorageError<C::NodeId>> {
        // Durable at once: a snapshot may follow, and if that survived a crash but the truncation
        // did not, the log would contradict the state machine.
        let ticket = self.log.truncate(log_id.index);
        durable(ticket).await.map_err(|failure| StorageIOError::write_logs(any(&failure)).into())
    }

    async fn purge(&mut self, log_id: LogId<C::NodeId>) -> Result<(), StorageError<C::NodeId>> {
        let write = |failure: Failure| StorageIOError::write_logs(any(&failure));
        // Entries after the boundary but of an older leader contradict it: they were replaced.
        let contradicted = self.last_log_id().map_err(write)? < Some(log_id.clone());
        let ticket = self.log.purge(log_id.index, &log_id, contradicted);
        Ok(ticket.map(drop).map_err(write)?)
    }
}

fn index_of<C: RaftTypeConfig>(entry: &C::Entry) -> u64 {
    entry.get_log_id().index
}

/// Waits until what a call wrote is on media.
async fn durable(ticket: Result<indelible::Ticket, Failure>) -> Result<(), Failure> {
    Ok(ticket?.await?)
}

/// An error as openraft keeps it.
fn any(error: &(impl std::error::Error + 'static)) -> AnyError {
    AnyError::new(error)
}
