//! `RaftLogStorage` of openraft 0.10 on a [`Log`]. Alphas break each other, so the one this was
//! built for is pinned.
//!
//! Owns: openraft's words. Does not own: the state machine and its snapshots, which are the
//! application's; how entries and log ids lie in the log ([`indelible::typed`]).
//!
//! What is durable when: as in `v09`. The difference is the host: this one does not wait
//! for an append before it hands over the next, so appends of many clients share syncs.

use std::fmt::Debug;
use std::io;
use std::marker::PhantomData;
use std::ops::RangeBounds;

use futures_util::{Stream, stream};
use indelible::codec::{Codec, Postcard};
use indelible::store::Store;
pub use indelible::typed::Failure;
use indelible::typed::after;
use indelible::{Error, Log};
use openraft_010::entry::RaftEntry;
use openraft_010::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft_010::type_config::alias::{LogIdOf, VoteOf};
use openraft_010::{OptionalSend, RaftTypeConfig};

use crate::shared::{COMMITTED, PURGED, READ_BYTES_MAX, RaftLog, VOTE};

/// The log, vote, committed id and purge boundary of one openraft 0.10 node.
///
/// Clones share the log. Any [`Log`] will do, or one group of many in a log, in a directory or in
/// memory, of any
/// [`Durability`](indelible::Durability): the callbacks and futures of this store sync as they need.
/// Keep a clone of the [`Log`] to close it after `Raft::shutdown`. A log that openraft 0.9 wrote
/// through `v09` is read as it is.
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
    fn last_log_id(&self) -> Result<Option<LogIdOf<C>>, Failure> {
        match self.log.last(C::Entry::index)? {
            Some(entry) => Ok(Some(entry.log_id())),
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
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<C::Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (entries, failure) = match self.log.read_lazily(range, C::Entry::index) {
            Ok(entries) => (Some(entries), None),
            Err(failure) => (None, Some(Err(failure))),
        };
        let entries = entries.into_iter().flatten().chain(failure);
        stream::iter(entries.map(|entry| entry.map_err(io::Error::from)))
    }

    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<C::Entry>, io::Error> {
        Ok(self.log.read(range, usize::MAX, C::Entry::index)?)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<C::Entry>, io::Error> {
        let entries = self.log.read(start..end, READ_BYTES_MAX, C::Entry::index)?;
        if entries.is_empty() && start < end {
            // The host counts on at least one entry, and would ask again for ever.
            return Err(Error::Trimmed { wanted: start, first: self.log().first() }.into());
        }
        Ok(entries)
    }

    async fn read_vote(&mut self) -> Result<Option<VoteOf<C>>, io::Error> {
        Ok(self.log.load(VOTE)?)
    }
}

impl<C: RaftTypeConfig, K: EntryCodec<C>, S: Store> RaftLogStorage<C> for LogStore<C, K, S> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<C>, io::Error> {
        Ok(LogState {
            last_purged_log_id: self.log.load(PURGED)?,
            last_log_id: self.last_log_id()?,
        })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<C>) -> Result<(), io::Error> {
        // The host takes this for the flush of every append before it, which it is.
        self.log.save(VOTE, Some(vote))?.await.map_err(io::Error::from)
    }

    async fn save_committed(&mut self, committed: Option<LogIdOf<C>>) -> Result<(), io::Error> {
        self.log.commit(committed.as_ref())?;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogIdOf<C>>, io::Error> {
        // The host reads and applies every entry up to here, so none may be missing.
        let committed: Option<LogIdOf<C>> = self.log.load(COMMITTED)?;
        Ok(committed.min(self.last_log_id()?))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<C>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = C::Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let ticket = self.log.append(entries.into_iter().map(|entry| (entry.index(), entry)))?;
        ticket.on_durable(|result| callback.io_completed(result.map_err(io::Error::from)));
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogIdOf<C>>) -> Result<(), io::Error> {
        // Durable at once: a snapshot may follow, and if that survived a crash but the truncation
        // did not, the log would contradict the state machine and the host refuse to start.
        self.log
            .truncate(last_log_id.map_or(0, |last| after(last.index())))?
            .await
            .map_err(io::Error::from)
    }

    async fn purge(&mut self, log_id: LogIdOf<C>) -> Result<(), io::Error> {
        // Entries after the boundary but of an older leader contradict it: they were replaced.
        let contradicted = self.last_log_id()?.as_ref() < Some(&log_id);
        self.log.purge(log_id.index(), &log_id, contradicted)?;
        Ok(())
    }
}
