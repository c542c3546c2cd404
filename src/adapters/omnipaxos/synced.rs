//! An `OmniPaxos` whose messages leave only after what they depend on is durable.
//!
//! Owns: the order sync, then take. Does not own: what has to be durable (`storage` keeps the newest
//! write that messages depend on).

use std::fmt;
use std::ops::Deref;

use omnipaxos::errors::ConfigError;
use omnipaxos::messages::Message;
use omnipaxos::messages::sequence_paxos::{PaxosMessage, PaxosMsg};
use omnipaxos::storage::Entry;
use omnipaxos::util::NodeId;
use omnipaxos::{ClusterConfig, CompactionErr, OmniPaxos, OmniPaxosConfig, ProposeErr};

use super::error::{AppendError, StorageError, Value};
use super::handle::StorageHandle;
use super::plan::{SCRATCH_BYTES_KEPT, fits};
use super::storage::LogStorage;
use crate::Log;
use crate::codec::Codec;
use crate::error::Result;
use crate::store::Store;

/// `OmniPaxos` over a [`LogStorage`], with one sync per turn of the host's loop: handle any number of
/// messages and proposals, then take the outgoing messages. Taking them syncs first, once for all of
/// it, and not at all if nothing but the decided index moved. [`Durability::Always`] and
/// [`Durability::Barrier`] cost and promise the same here.
///
/// [`Durability::Always`]: crate::Durability::Always
/// [`Durability::Barrier`]: crate::Durability::Barrier
///
/// # Why this is safe
///
/// A node speaks through its messages only. A promise, an accepted entry or a stop sign binds it
/// from the moment another node hears of it, in a `Prepare`, `Promise`, `AcceptDecide` or `Accepted`
/// message; a node that forgets what nobody has heard of is a node that has not done it yet. Every
/// write comes before its message in the same turn, and no message leaves through this type before a
/// sync that covers every write so far. A leader counts its own acceptance at once, but decides only
/// with another node's `Accepted`, a reply to an `AcceptDecide` that left after the leader's own
/// sync: so what is decided is durable on a write quorum, and may be acknowledged to a client as
/// soon as it reads as decided. The decided index itself may be lost: it is found again from the
/// leader. docs/ADAPTERS.md has the argument call by call.
///
/// Everything that only looks is reached through `Deref`. There is no `DerefMut`: upstream's own
/// `take_outgoing_messages`, which does not sync, needs `&mut` and cannot be called by accident.
///
/// # A panicking host
///
/// `OmniPaxos` panics if its storage returns an error. Let the process end, or drop this and
/// reopen the storage; do not catch the panic and go on.
pub struct Synced<T, C, S = Log>
where
    T: Entry,
    C: Codec<T> + Codec<T::Snapshot>,
    S: Store,
{
    paxos: Node<T, C, S>,
    handle: StorageHandle<S>,
    /// Where entries are encoded to see whether they can be.
    scratch: Vec<u8>,
}

/// `OmniPaxos` over a storage of ours.
type Node<T, C, S> = OmniPaxos<T, LogStorage<T, C, S>>;

impl<T, C, S> Synced<T, C, S>
where
    T: Entry,
    C: Codec<T> + Codec<T::Snapshot>,
    S: Store,
{
    /// Builds the node on this storage, as `OmniPaxosConfig::build` does.
    ///
    /// # Errors
    ///
    /// Upstream's [`ConfigError`] if the configuration is invalid.
    pub fn build(
        config: OmniPaxosConfig,
        storage: LogStorage<T, C, S>,
    ) -> std::result::Result<Self, ConfigError> {
        let handle = storage.handle();
        let paxos = config.build(storage)?;
        handle.sync_by_turn(true);
        Ok(Self { paxos, handle, scratch: Vec::new() })
    }

    /// Makes everything durable that the outgoing messages depend on, then moves them to the end of
    /// `buffer`.
    ///
    /// # Errors
    ///
    /// Those of [`StorageHandle::barrier`]; `buffer` is as it was, and the node must not go on: drop
    /// it and reopen its storage.
    pub fn take_outgoing_messages(&mut self, buffer: &mut Vec<Message<T>>) -> Result<()> {
        // Makes every promise, accepted round, entry and stop sign of this turn durable. A crash
        // before it loses what no other node has heard of.
        self.handle.barrier()?;
        self.paxos.take_outgoing_messages(buffer);
        Ok(())
    }

    /// Handles an incoming message. Of the proposals that another node forwards, those that this one
    /// cannot write are passed over, as if they had been lost on the way: a leader that took one
    /// would have to stop.
    pub fn handle_incoming(&mut self, mut message: Message<T>) {
        if let Message::SequencePaxos(PaxosMessage { msg, .. }) = &mut message
            && let PaxosMsg::ProposalForward(entries) = msg
        {
            entries.retain(|entry| self.writable(entry).is_ok());
        }
        self.paxos.handle_incoming(message);
    }

    /// Advances the node's clock.
    pub fn tick(&mut self) {
        self.paxos.tick();
    }

    /// Proposes an entry, which is encoded once more for it: what nobody can write must not get into
    /// the log of any node.
    ///
    /// # Errors
    ///
    /// [`AppendError::Unwritable`] if the entry is larger than a segment takes or cannot be encoded,
    /// [`AppendError::Refused`] if `OmniPaxos` refuses it; both have the entry.
    pub fn append(&mut self, entry: T) -> std::result::Result<(), AppendError<T>> {
        match self.writable(&entry) {
            Ok(()) => self.paxos.append(entry).map_err(AppendError::Refused),
            Err(source) => Err(AppendError::Unwritable { entry, source }),
        }
    }

    /// Whether the log takes an entry.
    fn writable(&mut self, entry: &T) -> std::result::Result<(), StorageError> {
        let log = self.handle.log();
        let limits = (log.entry_bytes_max(), log.log().segment_bytes());
        self.scratch.clear();
        let encoded = C::encode(entry, &mut self.scratch);
        let length = self.scratch.len();
        self.scratch.shrink_to(SCRATCH_BYTES_KEPT);
        match encoded {
            Ok(()) => fits(Value::Proposal, length, limits),
            Err(source) => Err(StorageError::Encode { value: Value::Proposal, source }),
        }
    }

    /// Proposes another configuration.
    ///
    /// # Errors
    ///
    /// Upstream's [`ProposeErr`], with the configuration.
    pub fn reconfigure(
        &mut self,
        configuration: ClusterConfig,
        metadata: Option<Vec<u8>>,
    ) -> std::result::Result<(), ProposeErr<T>> {
        self.paxos.reconfigure(configuration, metadata)
    }

    /// Says that the connection to a node has been established again.
    pub fn reconnected(&mut self, pid: NodeId) {
        self.paxos.reconnected(pid);
    }

    /// Drops the entries before an index, on every node.
    ///
    /// # Errors
    ///
    /// Upstream's [`CompactionErr`].
    pub fn trim(&mut self, index: Option<usize>) -> std::result::Result<(), CompactionErr> {
        self.paxos.trim(index)
    }

    /// Replaces the decided entries before an index by a snapshot, here or on every node.
    ///
    /// # Errors
    ///
    /// Upstream's [`CompactionErr`].
    pub fn snapshot(
        &mut self,
        index: Option<usize>,
        local_only: bool,
    ) -> std::result::Result<(), CompactionErr> {
        self.paxos.snapshot(index, local_only)
    }

    /// Tries to become the leader now.
    pub fn try_become_leader(&mut self) {
        self.paxos.try_become_leader();
    }

    /// Sets this node's priority in elections.
    pub fn set_priority(&mut self, priority: u32) {
        self.paxos.set_priority(priority);
    }

    /// The handle of the storage.
    pub const fn handle(&self) -> &StorageHandle<S> {
        &self.handle
    }

    /// Gives the bare `OmniPaxos` back. From now on whoever takes its messages has to call
    /// [`StorageHandle::barrier`] before; under `Always` only the first time, for what was written
    /// here.
    pub fn into_inner(self) -> (Node<T, C, S>, StorageHandle<S>) {
        self.handle.sync_by_turn(false);
        (self.paxos, self.handle)
    }
}

impl<T, C, S> Deref for Synced<T, C, S>
where
    T: Entry,
    C: Codec<T> + Codec<T::Snapshot>,
    S: Store,
{
    type Target = Node<T, C, S>;

    fn deref(&self) -> &Self::Target {
        &self.paxos
    }
}

impl<T, C, S> fmt::Debug for Synced<T, C, S>
where
    T: Entry,
    C: Codec<T> + Codec<T::Snapshot>,
    S: Store,
{
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Synced")
            .field("pid", &self.paxos.get_pid())
            .field("promise", &self.paxos.get_promise())
            .field("decided", &self.paxos.get_decided_idx())
            .finish_non_exhaustive()
    }
}
