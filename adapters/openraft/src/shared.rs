//! What the stores for openraft 0.9 and 0.10 share, free of the types of either.
//!
//! Owns: the names of the cells, where appends and purges go. Does not own: openraft's traits; the
//! codec and the conversion of indexes ([`indelible::typed`]).
//!
//! Invariant: the purge boundary and the trim that it describes are one batch; neither is ever
//! there without the other.

use std::ops::Deref;

use indelible::codec::{Codec, Postcard};
use indelible::store::Store;
use indelible::typed::{Failure, TypedLog, after, encode, encode_entry};
use indelible::{Batch, Error, Ticket};

/// Cell of the version of what these stores write.
const FORMAT: &str = "openraft.format";
/// The version this build writes and reads.
const FORMAT_VERSION: u32 = 1;
/// Cell of the vote: what this node promised, and to whom.
pub(crate) const VOTE: &str = "openraft.vote";
/// Cell of the last log id that is known to be committed.
pub(crate) const COMMITTED: &str = "openraft.committed";
/// Cell of the log id of the last purged entry.
pub(crate) const PURGED: &str = "openraft.purged";

/// Cell of the id of the node that the log belongs to.
const NODE: &str = "openraft.node";

/// More bytes than an entry has beside its command: log id, kind, lengths.
const BESIDE_COMMAND_BYTES: u64 = 256;

/// Most bytes one limited read returns, unless its first entry alone is larger.
pub(crate) const READ_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The log of one openraft node.
pub(crate) struct RaftLog<K, S>(TypedLog<K, S>);

impl<K, S: Clone> Clone for RaftLog<K, S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, S> Deref for RaftLog<K, S> {
    type Target = TypedLog<K, S>;

    fn deref(&self) -> &TypedLog<K, S> {
        &self.0
    }
}

impl<K, S: Store> RaftLog<K, S> {
    /// A log that is empty or was written by either of these stores.
    pub(crate) fn open(log: S) -> Result<Self, Failure> {
        let log = TypedLog::new(log);
        log.claim(FORMAT, FORMAT_VERSION, 0)?;
        Ok(Self(log))
    }

    /// Makes the log that of a node, and refuses another node's.
    pub(crate) fn of_node<N: PartialEq>(&self, node: &N) -> Result<(), Failure>
    where
        Postcard: Codec<N>,
    {
        match self.load::<N>(NODE)? {
            Some(owner) if owner == *node => Ok(()),
            Some(_) => {
                let reason = "it belongs to another node";
                Err(Error::InvalidArgument { what: "log", reason }.into())
            }
            None => Ok(self.save(NODE, Some(node))?.wait()?),
        }
    }

    /// Whether an entry with this command fits into a segment.
    pub(crate) fn admits<D>(&self, command: &D) -> Result<(), Failure>
    where
        K: Codec<D>,
    {
        let bytes = encode::<K, D>("a command", command)?.len() as u64;
        let (got, limit) =
            (bytes.saturating_add(BESIDE_COMMAND_BYTES), self.log().entry_bytes_max());
        if got > limit {
            return Err(Error::TooLarge { what: "entry bytes", got, limit }.into());
        }
        Ok(())
    }

    /// Sets the committed log id: it survives the end of the process, and a power cut once something
    /// later is durable. The host reads no further than this before it has a leader, and with an older
    /// one misses what it had acknowledged itself.
    pub(crate) fn commit<I>(&self, committed: Option<&I>) -> Result<(), Failure>
    where
        Postcard: Codec<I>,
    {
        self.save_lazily(COMMITTED, committed)?;
        match self.log().log().hand_over() {
            // It waits for the next batch that finds room; the node need not end for it.
            Err(Error::DiskFull { .. }) => Ok(()),
            handed => Ok(handed?),
        }
    }

    /// Appends entries, each with the index it states. Readable on return, durable when the ticket
    /// says so.
    ///
    /// An empty log that was never purged starts wherever its first entry says. An entry below the
    /// purge boundary is committed, applied and in a snapshot already: it is passed over.
    pub(crate) fn append<E>(
        &self,
        entries: impl IntoIterator<Item = (u64, E)>,
    ) -> Result<Ticket, Failure>
    where
        K: Codec<E>,
    {
        let mut batch = Batch::new();
        let (first, mut next) = (self.log().first(), self.log().next());
        let purged = self.log().cell(PURGED).is_some();
        for (index, entry) in entries {
            if purged && index < first {
                continue;
            }
            if index != next {
                if purged || first != next || !batch.is_empty() {
                    return Err(Error::NonContiguous { expected: next, got: index }.into());
                }
                batch.reset(index);
            }
            batch.append(encode_entry::<K, E>(&entry)?);
            next = after(index);
        }
        Ok(self.log().submit(&batch)?)
    }

    /// Drops every entry up to and including `last` and remembers the `boundary`, its log id; with
    /// `and_all_after` the entries after it as well. Past the end, the log is empty afterwards and
    /// goes on after the boundary.
    pub(crate) fn purge<B>(
        &self,
        last: u64,
        boundary: &B,
        and_all_after: bool,
    ) -> Result<Ticket, Failure>
    where
        Postcard: Codec<B>,
    {
        let first = after(last);
        let mut batch = Batch::new();
        if first >= self.log().first() {
            if and_all_after || first > self.log().next() {
                batch.reset(first);
            } else {
                batch.trim(first);
            }
            batch.set(PURGED, encode::<Postcard, B>(PURGED, boundary)?);
        }
        Ok(self.log().submit(&batch)?)
    }

    /// The last entry, if there is one.
    pub(crate) fn last<E>(&self, index_of: impl Fn(&E) -> u64) -> Result<Option<E>, Failure>
    where
        K: Codec<E>,
    {
        // The end may move between the two reads of it, so this asks for all from the end on.
        let last = self.log().next().saturating_sub(1);
        Ok(self.read(last.., usize::MAX, index_of)?.pop())
    }
}
