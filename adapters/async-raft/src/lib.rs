//! `RaftStorage` of async-raft 0.6 on a [`Log`]: log, hard state, membership, node id and
//! snapshots, around a state machine of the application's.
//!
//! Owns: async-raft's words, and the cures for what async-raft does to a storage that keeps its
//! promises ([`Defect`]). Does not own: how entries lie in the log ([`indelible::typed`]).
//!
//! Invariants:
//! - The log begins at index 1, or after the snapshot. The snapshot stands for the entry at its
//!   own index as well, which the host asks for as a "snapshot pointer".
//! - `visible` is the end of the log as the host knows it. Entries from there on are still in the
//!   log: the host dropped them, and as often as not it sends the same ones again.
//!   [`Storage::close`] drops them for good.
//! - What the state machine was given is a prefix of the committed commands, each once, in order.
//!
//! What is durable when: the hard state, appended and replicated entries, and snapshots on return.
//! How far the state machine came, with the next sync: after a crash the host applies again.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::{self, Read, Seek, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_raft::async_trait::async_trait;
use async_raft::raft::{Entry, EntryPayload, MembershipConfig};
use async_raft::storage::{CurrentSnapshotData, HardState, InitialState};
use async_raft::{AppData, AppDataResponse, NodeId, RaftStorage};
use indelible::codec::{Codec, Postcard};
use indelible::store::{Store, StoreWriter as _};
pub use indelible::typed::Failure;
use indelible::typed::{TypedLog, after, encode, encode_entry};
use indelible::{Batch, Error, Log, SideFile, Ticket};
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;

use self::snapshot::{Covered, TemporaryFile, check, covered, pack, temporary_file};

mod snapshot;

/// Cell of the version of what this storage writes.
const FORMAT: &str = "async-raft.format";
/// The version this build writes and reads.
const FORMAT_VERSION: u32 = 1;
/// Cell of the id of the node that the log belongs to.
const NODE: &str = "async-raft.node";
/// Cell of term and vote.
const HARD_STATE: &str = "async-raft.hard-state";
/// Cell of the last index that the state machine was given.
const APPLIED: &str = "async-raft.applied";
/// Cell of the current snapshot, a side file.
const SNAPSHOT: &str = "async-raft.snapshot";
/// async-raft counts entries from here.
const FIRST: u64 = 1;

/// The application's side: commands in, replies out, and a way to a snapshot and back.
///
/// The state lives in memory. When a [`Storage`] opens, it restores the snapshot if there is one and
/// applies the entries after it that are known to be committed.
pub trait StateMachine: Send + 'static {
    /// What clients ask for.
    type Command: AppData;
    /// What they are told.
    type Reply: AppDataResponse;

    /// Carries out a committed command. Called once for each, in the order of the log; the outcome
    /// must depend on the commands alone. A refusal is a reply like any other.
    fn apply(&mut self, index: u64, command: &Self::Command) -> Self::Reply;

    /// Writes the whole state, in a thread where it holds nobody up but the commands that come next.
    ///
    /// # Errors
    ///
    /// The state cannot be written; the compaction is tried again later.
    fn write_snapshot(&self, to: &mut dyn Write) -> io::Result<()>;

    /// Replaces the whole state with one that [`Self::write_snapshot`] wrote, here or on another
    /// node.
    ///
    /// # Errors
    ///
    /// The bytes are no such state; the node shuts down.
    fn restore_snapshot(&mut self, from: &mut dyn Read) -> io::Result<()>;
}

/// A codec for the entries of `M`. [`Postcard`] is one for all of them; an application whose commands
/// need a self-describing format, such as `serde_json::Value`, brings its own.
pub trait EntryCodec<M: StateMachine>: Codec<Entry<M::Command>> + Send + Sync + 'static {}

impl<M: StateMachine, K> EntryCodec<M> for K where
    K: Codec<Entry<M::Command>> + Send + Sync + 'static
{
}

/// What async-raft 0.6.1 does wrong, and a storage can put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Defect {
    /// A restarted leader moves its `last_applied` past committed entries that its state machine
    /// never saw. Cure: before a command is applied, the ones before it are, from our own log.
    SkippedCommands,
    /// When a follower takes longer than a heartbeat to append, the leader sends the same entries
    /// again, and the follower first deletes them: neither ever gets ahead. Cure: a deletion only
    /// hides; entries that come back with the same index and term are there already.
    Livelock,
    /// The membership is looked for in the log only, which the second compaction in a row has
    /// emptied of it; the node then believes to be alone. Cure: the snapshot keeps it.
    LostMembership,
}

/// The storage of one async-raft node. Clones share it.
///
/// A snapshot that is written, sent or received is an unnamed file in the directory of the log, or in
/// that for temporary files if the log is in memory.
pub struct Storage<M, K = Postcard, S = Log> {
    inner: Arc<Inner<M, K, S>>,
}

struct Inner<M, K, S> {
    id: NodeId,
    log: TypedLog<K, S>,
    /// Taken before `view` where both are needed. A compaction holds it for as long as it takes to
    /// write the state, so whoever waits for it on an executor gives way to others.
    machine: tokio::sync::Mutex<Applied<M>>,
    /// The last index that the state machine has, for those who need no more.
    applied: AtomicU64,
    view: Mutex<View>,
    uncured: Option<Defect>,
}

/// The state machine, and the last index whose command it has.
struct Applied<M> {
    machine: M,
    index: u64,
}

/// The log as the host knows it.
struct View {
    /// Exclusive end of what the host may see.
    visible: u64,
    /// Every membership in the log, hidden ones as well.
    memberships: BTreeMap<u64, MembershipConfig>,
    snapshot: Option<Covered>,
}

impl<M, K, S> Clone for Storage<M, K, S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<M, K, S: Store> Debug for Storage<M, K, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Storage").field("id", &self.inner.id).field("log", &self.inner.log).finish()
    }
}

impl<M: StateMachine, K: EntryCodec<M>, S: Store> Storage<M, K, S> {
    /// The storage of node `id` on a log that is empty or was written for that node, with a state
    /// machine that has seen nothing yet.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`]: the log is another node's, or no log of async-raft at all.
    pub fn open(log: S, id: NodeId, machine: M) -> Result<Self, Failure> {
        Self::open_with(log, id, machine, None)
    }

    /// As [`Self::open`], but leaves one of the host's defects uncured, for tests that show it.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    #[cfg(any(test, feature = "testing"))]
    pub fn open_uncured(log: S, id: NodeId, machine: M, defect: Defect) -> Result<Self, Failure> {
        Self::open_with(log, id, machine, Some(defect))
    }

    fn open_with(log: S, id: NodeId, machine: M, uncured: Option<Defect>) -> Result<Self, Failure> {
        let log = TypedLog::<K, S>::new(log);
        claim(&log, id)?;
        let mut machine = Applied { machine, index: 0 };
        let view = recover::<M, K, S>(&log, &mut machine)?;
        let applied = AtomicU64::new(machine.index);
        let (machine, view) = (tokio::sync::Mutex::new(machine), Mutex::new(view));
        Ok(Self { inner: Arc::new(Inner { id, log, machine, applied, view, uncured }) })
    }

    /// The log below.
    pub fn log(&self) -> &S {
        self.inner.log.log()
    }

    /// Closes the log, without the entries that the host has dropped. Call it once `Raft::shutdown` is
    /// done; every later call of this storage is an error. A log that is closed without it, or not at
    /// all, has them again when it is opened: as if the host's last message had not arrived.
    ///
    /// # Errors
    ///
    /// As `Log::close`.
    pub fn close(&self) -> Result<(), Failure> {
        let view = self.inner.view.lock();
        self.inner.log.truncate(view.visible)?;
        Ok(self.log().close()?)
    }

    /// Looks at the state machine, once no command and no snapshot is on its way into or out of it.
    pub async fn with_machine<T>(&self, look: impl FnOnce(&M) -> T) -> T {
        look(&self.inner.machine.lock().await.machine)
    }

    /// The last index whose command the state machine has.
    pub fn applied(&self) -> u64 {
        self.inner.applied.load(Ordering::Relaxed)
    }

    /// Runs what reads or writes a whole snapshot where it holds nobody up. It runs to its end even
    /// if the host loses interest in it.
    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner<M, K, S>) -> Result<T, Failure> + Send + 'static,
    ) -> anyhow::Result<T> {
        let inner = Arc::clone(&self.inner);
        Ok(tokio::task::spawn_blocking(move || work(&inner)).await??)
    }
}

/// Makes an empty log the node's own, and refuses another's.
fn claim<K, S: Store>(log: &TypedLog<K, S>, id: NodeId) -> Result<(), Failure> {
    log.claim(FORMAT, FORMAT_VERSION, FIRST)?;
    match log.load::<NodeId>(NODE)? {
        Some(owner) if owner == id => Ok(()),
        Some(_) => {
            let reason = "it belongs to another node";
            Err(Error::InvalidArgument { what: "log", reason }.into())
        }
        None => Ok(log.save(NODE, Some(&id))?.wait()?),
    }
}

/// Restores the snapshot, finds the memberships, and applies what is known to be committed.
fn recover<M: StateMachine, K: EntryCodec<M>, S: Store>(
    log: &TypedLog<K, S>,
    machine: &mut Applied<M>,
) -> Result<View, Failure> {
    let (first, visible) = (log.log().first(), log.log().next());
    let mut view = View { visible, memberships: BTreeMap::new(), snapshot: None };
    if let Some(mut file) = log.log().side_file(SNAPSHOT)? {
        check(&mut file)?;
        if let Some(mut file) = log.log().side_file(SNAPSHOT)? {
            let covered = covered(&mut file)?;
            machine.machine.restore_snapshot(&mut file).map_err(not_restored)?;
            machine.index = covered.index;
            view.snapshot = Some(covered);
        }
    }
    // Else the state would be one without the commands in between.
    if first != after(machine.index) {
        return Err(not_restored(io::Error::other("the log does not begin after it")));
    }
    for entry in log.read_lazily(.., index_of::<M>)? {
        view.note_membership(&entry?);
    }
    let applied = log.load::<u64>(APPLIED)?.unwrap_or(0);
    apply_before(log, machine, after(applied).min(view.visible))?;
    Ok(view)
}

/// Applies what the state machine has not seen of the entries before `end`.
fn apply_before<M: StateMachine, K: EntryCodec<M>, S: Store>(
    log: &TypedLog<K, S>,
    machine: &mut Applied<M>,
    end: u64,
) -> Result<(), Failure> {
    for entry in log.read_lazily(after(machine.index)..end, index_of::<M>)? {
        let entry = entry?;
        if let EntryPayload::Normal(command) = &entry.payload {
            machine.machine.apply(entry.index, &command.data);
        }
        machine.index = entry.index;
    }
    if after(machine.index) < end {
        return Err(Error::BeyondEnd { wanted: end, next: after(machine.index) }.into());
    }
    Ok(())
}

impl<M: StateMachine, K: EntryCodec<M>, S: Store> Inner<M, K, S> {
    /// Applies one command, after the ones before it.
    fn apply(
        &self,
        machine: &mut Applied<M>,
        index: u64,
        command: &M::Command,
    ) -> Result<M::Reply, Failure> {
        if self.uncured != Some(Defect::SkippedCommands) {
            apply_before(&self.log, machine, index)?;
        }
        machine.index = index;
        Ok(machine.machine.apply(index, command))
    }

    /// Notes how far the state machine came; durable with the next sync.
    fn note_applied(&self, machine: &Applied<M>) -> Result<(), Failure> {
        self.applied.store(machine.index, Ordering::Relaxed);
        self.log.save(APPLIED, Some(&machine.index)).map(drop)
    }

    /// Puts entries where they say. Those that are there already are passed over if `same` entries
    /// may come again, and everything after the first that is not is replaced.
    fn replicate(&self, entries: &[Entry<M::Command>], same: bool) -> Result<Ticket, Failure> {
        let mut view = self.view.lock();
        let (first, next) = (self.log.log().first(), self.log.log().next());
        let mut visible = view.visible;
        let mut batch = Batch::new();
        let mut new = Vec::new();
        for entry in entries.iter().filter(|entry| entry.index >= first) {
            if entry.index > visible {
                return Err(Error::NonContiguous { expected: visible, got: entry.index }.into());
            }
            if batch.is_empty() && entry.index < next {
                if same && self.term(entry.index)? == Some(entry.term) {
                    visible = visible.max(after(entry.index));
                    continue;
                }
                batch.truncate(entry.index);
            }
            batch.append(encode_entry::<K, _>(entry)?);
            visible = after(entry.index);
            new.push(entry);
        }
        let ticket = self.log.log().submit(&batch)?;
        view.visible = visible;
        if let Some(first_new) = new.first() {
            view.memberships.split_off(&first_new.index);
        }
        for entry in new {
            view.note_membership(entry);
        }
        Ok(ticket)
    }

    /// The term of an entry, hidden or not.
    fn term(&self, index: u64) -> Result<Option<u64>, Failure> {
        let entry = self.log.read(index..=index, usize::MAX, index_of::<M>)?.pop();
        Ok(entry.map(|entry| entry.term))
    }

    /// Drops a suffix, for the host's eyes only.
    fn delete(&self, start: u64, stop: Option<u64>) -> Result<(), Failure> {
        let mut view = self.view.lock();
        let start = start.max(self.log.log().first());
        if start >= view.visible.min(stop.unwrap_or(u64::MAX)) {
            return Ok(());
        }
        if stop.is_some_and(|stop| stop < view.visible) {
            let reason = "only a suffix of a log can be deleted";
            return Err(Error::InvalidArgument { what: "range", reason }.into());
        }
        view.visible = start;
        if self.uncured == Some(Defect::Livelock) {
            view.memberships.split_off(&start);
            self.log.truncate(start)?.wait()?;
        }
        Ok(())
    }

    /// Takes a snapshot of the state machine as it is, and trims the log up to there. Returns the file
    /// that has it.
    fn compact(&self) -> Result<(Covered, TemporaryFile), Failure> {
        let machine = self.machine.blocking_lock();
        let covered = {
            let view = self.view.lock();
            let index = machine.index;
            let term = match (&view.snapshot, self.term(index)?) {
                (_, Some(term)) => term,
                (Some(snapshot), None) if snapshot.index == index => snapshot.term,
                (_, None) => {
                    return Err(Error::BeyondEnd { wanted: index, next: view.visible }.into());
                }
            };
            let membership = match self.uncured {
                Some(Defect::LostMembership) => view.logged_membership(after(index)).cloned(),
                _ => view.membership(after(index)).cloned(),
            };
            let membership = membership.unwrap_or_else(|| MembershipConfig::new_initial(self.id));
            Covered { index, term, membership }
        };
        let mut file = self.temporary_file()?;
        pack(&mut file, &covered, |to| machine.machine.write_snapshot(to))?;
        drop(machine);
        let kept = self.keep(&mut file)?;
        let mut view = self.view.lock();
        if view.snapshot.as_ref().is_none_or(|newer| newer.index <= covered.index) {
            let mut batch = Batch::new();
            batch.attach(SNAPSHOT, kept).trim(after(covered.index));
            let ticket = self.log.log().submit(&batch)?;
            view.adopt(covered.clone());
            drop(view);
            ticket.wait()?;
        }
        Ok((covered, file))
    }

    /// Replaces state and log with a snapshot from the leader. Entries after it stay, hidden, if
    /// the log agrees with the snapshot. One that holds nothing new changes nothing: the host hands
    /// over snapshots that were long on their way, and takes the last piece, which the leader repeats
    /// if its answer is late, for a snapshot of its own.
    fn install(&self, index: u64, term: u64, mut file: TemporaryFile) -> Result<(), Failure> {
        let mut machine = self.machine.blocking_lock();
        if machine.index > 0 && index <= machine.index {
            return Ok(());
        }
        file.rewind().map_err(not_restored)?;
        check(&mut file)?;
        file.rewind().map_err(not_restored)?;
        let covered = covered(&mut file)?;
        if (covered.index, covered.term) != (index, term) {
            return Err(not_restored(io::Error::other("it covers something else than announced")));
        }
        let restored = machine.machine.restore_snapshot(&mut io::BufReader::new(&file));
        restored.map_err(not_restored)?;
        machine.index = index;
        let kept = self.keep(&mut file)?;
        let mut view = self.view.lock();
        let mut batch = Batch::new();
        batch.attach(SNAPSHOT, kept).set(APPLIED, encode::<Postcard, _>(APPLIED, &index)?);
        let agrees = self.term(index)? == Some(term);
        if agrees {
            batch.trim(after(index));
        } else {
            batch.reset(after(index));
            view.memberships.clear();
        }
        let ticket = self.log.log().submit(&batch)?;
        view.visible = after(index);
        view.adopt(covered);
        drop(view);
        self.applied.store(index, Ordering::Relaxed);
        Ok(ticket.wait()?)
    }

    /// An empty file for a snapshot on its way.
    fn temporary_file(&self) -> Result<TemporaryFile, Failure> {
        temporary_file(self.log.log().log().path())
    }

    /// Puts the whole of a snapshot into a side file, and goes back to its start.
    fn keep(&self, file: &mut TemporaryFile) -> Result<SideFile, Failure> {
        let mut side_file = self.log.log().side_file_writer()?;
        file.rewind().map_err(not_kept)?;
        io::copy(file, &mut side_file).map_err(not_kept)?;
        file.rewind().map_err(not_kept)?;
        Ok(side_file.finish()?)
    }

    /// The current snapshot, checked.
    fn current(&self) -> Result<Option<(Covered, TemporaryFile)>, Failure> {
        let Some(mut side_file) = self.log.log().side_file(SNAPSHOT)? else { return Ok(None) };
        let mut file = self.temporary_file()?;
        io::copy(&mut side_file, &mut file).map_err(not_restored)?;
        file.rewind().map_err(not_restored)?;
        let covered = covered(&mut file)?;
        file.rewind().map_err(not_restored)?;
        Ok(Some((covered, file)))
    }

    /// The entries the host may see. A range that ends below the snapshot gives the
    /// snapshot pointer: a leader that reads there has to learn that it must send the snapshot.
    /// Only not for a single index, which is how followers compare logs.
    fn entries(&self, start: u64, stop: u64) -> Result<Vec<Entry<M::Command>>, Failure> {
        let view = self.view.lock();
        let pointer = view.snapshot.as_ref().filter(|snapshot| {
            start <= snapshot.index && (snapshot.index < stop || stop.saturating_sub(start) > 1)
        });
        let pointer = pointer.map(|Covered { index, term, membership }| {
            Ok(Entry::new_snapshot_pointer(*index, *term, String::new(), membership.clone()))
        });
        // Found under the lock, so that no compaction comes between pointer and entries; decoded
        // without it.
        let stop = stop.min(view.visible);
        let entries = self.log.read_lazily(start.min(stop)..stop, index_of::<M>)?;
        drop(view);
        pointer.into_iter().chain(entries).collect()
    }

    fn initial_state(&self) -> Result<InitialState, Failure> {
        let applied = self.applied.load(Ordering::Relaxed);
        let last = self.view.lock().visible.saturating_sub(1);
        let mut state = InitialState::new_initial(self.id);
        if let Some(hard_state) = self.log.load(HARD_STATE)? {
            state.hard_state = hard_state;
        }
        if let Some(entry) = self.entries(last, after(last))?.pop() {
            state.last_log_index = entry.index;
            state.last_log_term = entry.term;
        }
        state.last_applied_log = applied;
        state.membership = self.membership();
        Ok(state)
    }

    fn membership(&self) -> MembershipConfig {
        let view = self.view.lock();
        let membership = view.membership(view.visible).cloned();
        membership.unwrap_or_else(|| MembershipConfig::new_initial(self.id))
    }
}

impl View {
    fn note_membership<D: AppData>(&mut self, entry: &Entry<D>) {
        if let EntryPayload::ConfigChange(change) = &entry.payload {
            self.memberships.insert(entry.index, change.membership.clone());
        }
    }

    /// The last membership among the entries before `end`, and else the snapshot's.
    fn membership(&self, end: u64) -> Option<&MembershipConfig> {
        let covered = self.snapshot.as_ref().map(|covered| &covered.membership);
        self.logged_membership(end).or(covered)
    }

    fn logged_membership(&self, end: u64) -> Option<&MembershipConfig> {
        self.memberships.range(..end).next_back().map(|(_, membership)| membership)
    }

    /// Makes a snapshot the one that stands for everything up to its index.
    fn adopt(&mut self, covered: Covered) {
        self.memberships = self.memberships.split_off(&after(covered.index));
        self.snapshot = Some(covered);
    }
}

fn index_of<M: StateMachine>(entry: &Entry<M::Command>) -> u64 {
    entry.index
}

fn not_restored(source: io::Error) -> Failure {
    Failure::Snapshot { op: "restore", source }
}

fn not_kept(source: io::Error) -> Failure {
    Failure::Snapshot { op: "keep", source }
}

#[async_trait]
impl<M: StateMachine, K: EntryCodec<M>, S: Store> RaftStorage<M::Command, M::Reply>
    for Storage<M, K, S>
{
    type Snapshot = tokio::fs::File;
    type ShutdownError = Failure;

    async fn get_membership_config(&self) -> anyhow::Result<MembershipConfig> {
        Ok(self.inner.membership())
    }

    async fn get_initial_state(&self) -> anyhow::Result<InitialState> {
        Ok(self.inner.initial_state()?)
    }

    async fn save_hard_state(&self, hard_state: &HardState) -> anyhow::Result<()> {
        Ok(self.inner.log.save(HARD_STATE, Some(hard_state))?.await?)
    }

    async fn get_log_entries(
        &self,
        start: u64,
        stop: u64,
    ) -> anyhow::Result<Vec<Entry<M::Command>>> {
        Ok(self.inner.entries(start, stop)?)
    }

    async fn delete_logs_from(&self, start: u64, stop: Option<u64>) -> anyhow::Result<()> {
        Ok(self.inner.delete(start, stop)?)
    }

    async fn append_entry_to_log(&self, entry: &Entry<M::Command>) -> anyhow::Result<()> {
        Ok(self.inner.replicate(std::slice::from_ref(entry), false)?.await?)
    }

    async fn replicate_to_log(&self, entries: &[Entry<M::Command>]) -> anyhow::Result<()> {
        // Also when all of them are there already: they may not be durable yet.
        Ok(self.inner.replicate(entries, true)?.await?)
    }

    async fn apply_entry_to_state_machine(
        &self,
        index: &u64,
        data: &M::Command,
    ) -> anyhow::Result<M::Reply> {
        let mut machine = self.inner.machine.lock().await;
        if *index <= machine.index {
            return Err(Failure::from(Error::NonContiguous {
                expected: after(machine.index),
                got: *index,
            })
            .into());
        }
        let reply = self.inner.apply(&mut machine, *index, data)?;
        self.inner.note_applied(&machine)?;
        Ok(reply)
    }

    async fn replicate_to_state_machine(
        &self,
        entries: &[(&u64, &M::Command)],
    ) -> anyhow::Result<()> {
        let mut machine = self.inner.machine.lock().await;
        for (index, command) in entries {
            if **index > machine.index {
                self.inner.apply(&mut machine, **index, command)?;
            }
        }
        Ok(self.inner.note_applied(&machine)?)
    }

    async fn do_log_compaction(&self) -> anyhow::Result<CurrentSnapshotData<Self::Snapshot>> {
        let (covered, file) = self.aside(Inner::compact).await?;
        Ok(current(covered, file))
    }

    async fn create_snapshot(&self) -> anyhow::Result<(String, Box<Self::Snapshot>)> {
        let file = self.aside(Inner::temporary_file).await?;
        Ok((String::new(), Box::new(file.into())))
    }

    async fn finalize_snapshot_installation(
        &self,
        index: u64,
        term: u64,
        // The host asks for all entries to be dropped where the log is no longer than the
        // snapshot. What agrees with the snapshot may stay in any case.
        _delete_through: Option<u64>,
        _id: String,
        mut snapshot: Box<Self::Snapshot>,
    ) -> anyhow::Result<()> {
        snapshot.flush().await?;
        let file = snapshot.into_std().await;
        self.aside(move |inner| inner.install(index, term, file)).await
    }

    async fn get_current_snapshot(
        &self,
    ) -> anyhow::Result<Option<CurrentSnapshotData<Self::Snapshot>>> {
        let found = self.aside(Inner::current).await?;
        Ok(found.map(|(covered, file)| current(covered, file)))
    }
}

/// A snapshot as the host wants it.
fn current(covered: Covered, file: TemporaryFile) -> CurrentSnapshotData<tokio::fs::File> {
    let Covered { index, term, membership } = covered;
    CurrentSnapshotData { index, term, membership, snapshot: Box::new(file.into()) }
}
