//! `stores_raft`: the stores for openraft 0.9, openraft 0.10 and async-raft, opened on a log whose
//! cells and entries are any bytes, and held against what these bytes decode to.
//!
//! Input: a mode byte; the first index; for each cell and the snapshot one byte, 0 if there is none,
//! and else one more than its length, then its bytes; each entry with its length before it. One log
//! in memory serves all executions of a thread, since to make one takes longer than all the rest.
//!
//! Invariants, beside those of `codec_raft`:
//! 1. A store on a log whose cells and entries are any bytes is refused, or each of its reads gives
//!    exactly what they decode to, or fails if they do not. An entry that states another index than
//!    the one it lies at is no entry.
//! 2. What a host does next with what it read is done or refused, and both can be read.
//! 3. async-raft: a state machine is given the commands of a log once each, in order, without a gap.
//!    A snapshot of any bytes is installed whole, or refused and the log as it was.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::sync::LazyLock;

use async_raft::RaftStorage;
use async_raft::raft::{Entry as AsyncEntry, EntryPayload, MembershipConfig};
use async_raft::storage::HardState;
use futures_util::FutureExt;
use indelible::{Batch, Log, Options};
use indelible_async_raft::{StateMachine, Storage};
use indelible_openraft::{v09 as store_09, v010 as store_010};
use openraft_09::storage::RaftLogStorage as _;
use openraft_09::{LogId, RaftLogReader as _, Vote};
use openraft_010::storage::{IOFlushed, RaftLogReader as _, RaftLogStorage as _};
use openraft_010::type_config::alias::{LogIdOf, VoteOf};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

use crate::codec_raft::{Command, Entry09, Entry010, Types09, Types010, decoded_from, encoded};
use crate::script::Script;

/// A mode with this bit drives the store of async-raft, else those of openraft.
pub const ASYNC_RAFT: u8 = 1;
/// The snapshot gets a sound frame around it: the length of its description comes first.
pub const REPAIR: u8 = 2;
/// The store is written to as well.
pub const WRITE: u8 = 4;
/// How far up the mode the call is that writes.
pub const CALL_SHIFT: u32 = 3;

/// The cells of openraft's stores, in the order of the script.
pub const OPENRAFT_CELLS: [&str; 4] =
    ["openraft.format", "openraft.vote", "openraft.committed", "openraft.purged"];
/// The cells of async-raft's store, in the order of the script.
pub const ASYNC_RAFT_CELLS: [&str; 4] =
    ["async-raft.format", "async-raft.node", "async-raft.hard-state", "async-raft.applied"];
/// The cell of its snapshot.
pub const SNAPSHOT: &str = "async-raft.snapshot";
const MAGIC: &[u8] = b"INDLSNAP";
/// The node of every store of async-raft.
pub const NODE: u64 = 3;
const ENTRIES_MAX: usize = 16;

/// The store for openraft 0.9.
pub type Old = store_09::LogStore<Types09>;
/// The store for openraft 0.10.
pub type New = store_010::LogStore<Types010>;
/// The store for async-raft.
pub type Async = Storage<Machine>;

thread_local! {
    static LOG: RefCell<Log> = RefCell::new(in_memory());
}

/// Where async-raft reads and writes its snapshots.
pub static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().build().unwrap());

/// A log that is gone when it is dropped.
pub fn in_memory() -> Log {
    Log::in_memory(&Options::new().background(false).tiny_segments(64 * 1024)).unwrap()
}

/// One execution.
pub fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let mode = script.u8();
    LOG.with_borrow(|log| {
        let mut batch = Batch::new();
        for (name, _) in log.cells() {
            batch.clear(name);
        }
        match script.number() {
            // A reset begins a segment, which takes longer.
            first if first == log.first() => batch.truncate(first),
            first => batch.reset(first),
        };
        let of_async_raft = mode & ASYNC_RAFT != 0;
        for cell in if of_async_raft { ASYNC_RAFT_CELLS } else { OPENRAFT_CELLS } {
            if let Some(bytes) = optional(&mut script) {
                batch.set(cell, bytes);
            }
        }
        let snapshot = optional(&mut script).map(|bytes| framed(mode, bytes));
        for _ in 0..ENTRIES_MAX {
            if !script.is_empty() {
                let length = script.u8().into();
                batch.append(script.bytes(length));
            }
        }
        if of_async_raft
            && mode & WRITE == 0
            && let Some(snapshot) = &snapshot
        {
            let mut file = log.side_file_writer().unwrap();
            file.write_all(snapshot).unwrap();
            batch.attach(SNAPSHOT, file.finish().unwrap());
        }
        // Entries past the last index are refused; then there is nothing to open.
        if log.submit(&batch).is_err() {
            return;
        }
        match (of_async_raft, snapshot) {
            (false, _) => openraft(log, mode),
            (true, Some(snapshot)) if mode & WRITE != 0 => install(log, mode, &snapshot),
            (true, snapshot) => drop(async_raft(log, snapshot.as_deref())),
        }
    });
}

fn optional<'a>(script: &mut Script<'a>) -> Option<&'a [u8]> {
    let length = script.u8().checked_sub(1)?;
    Some(script.bytes(length.into()))
}

/// A snapshot as the input has it, or in a sound frame.
fn framed(mode: u8, bytes: &[u8]) -> Vec<u8> {
    let Some((length, rest)) = bytes.split_first().filter(|_| mode & REPAIR != 0) else {
        return bytes.to_vec();
    };
    let fields = [u32::from(*length).to_le_bytes(), crc32fast::hash(rest).to_le_bytes()];
    [MAGIC, &fields.concat(), rest].concat()
}

/// The value of a cell: nothing if its bytes are none.
fn cell<V: Serialize + DeserializeOwned>(log: &Log, name: &str) -> Option<Option<V>> {
    match log.cell(name) {
        Some(bytes) => decoded_from(&bytes).map(Some),
        None => Some(None),
    }
}

/// The entries of the log: nothing if any of them is none, or another one.
fn entries<E: Serialize + DeserializeOwned>(
    log: &Log,
    index_of: impl Fn(&E) -> u64,
) -> Option<Vec<E>> {
    let stored = log.read(log.first()..log.next()).unwrap();
    let decoded = (log.first()..=u64::MAX)
        .zip(&stored)
        .map(|(index, bytes)| decoded_from::<E>(bytes).filter(|entry| index_of(entry) == index));
    decoded.collect()
}

/// Whether a log is the host's whose format is in `cell`, or can become it.
fn claimable(log: &Log, cell: &str) -> bool {
    match log.cell(cell) {
        Some(bytes) => decoded_from::<u32>(&bytes) == Some(1),
        None => log.next() == 0 && log.cells().is_empty(),
    }
}

/// The answer of a read that a log in memory never waits for.
pub fn now<T>(read: impl Future<Output = T>) -> T {
    read.now_or_never().expect("a log in memory answers at once")
}

/// What a store of openraft says, encoded: each nothing if it fails.
#[derive(Debug, PartialEq)]
struct Answers {
    vote: Option<Vec<u8>>,
    state: Option<Vec<u8>>,
    committed: Option<Vec<u8>>,
    entries: Option<Vec<u8>>,
    limited: Option<Vec<u8>>,
}

fn answer<V: Serialize + DeserializeOwned, E>(read: Result<V, E>) -> Option<Vec<u8>> {
    read.ok().map(|value| encoded(&value))
}

/// What a store says; both generations of openraft are asked alike.
macro_rules! ask {
    ($name:ident, $store:ty) => {
        fn $name(store: &mut $store) -> Self {
            let (first, end) = (store.log().first(), store.log().next().saturating_add(1));
            let state = now(store.get_log_state());
            Self {
                vote: answer(now(store.read_vote())),
                state: answer(state.map(|state| (state.last_purged_log_id, state.last_log_id))),
                committed: answer(now(store.read_committed())),
                entries: answer(now(store.try_get_log_entries(..))),
                limited: answer(now(store.limited_get_log_entries(first, end))),
            }
        }
    };
}

impl Answers {
    fn expected(log: &Log) -> Self {
        let [_, vote, committed, purged] = OPENRAFT_CELLS;
        let purged = cell::<LogId<u64>>(log, purged);
        let entries = entries(log, |entry: &Entry09| entry.log_id.index);
        // Only the last one is looked at.
        let stored = log.read(log.first()..log.next()).unwrap();
        let last = match stored.len().checked_sub(1) {
            Some(last) => decoded_from::<Entry09>(stored.get(last).unwrap())
                .filter(|entry| entry.log_id.index == log.next() - 1)
                .map(|entry| Some(entry.log_id)),
            None => purged,
        };
        let committed = cell::<LogId<u64>>(log, committed).zip(last);
        Self {
            vote: cell::<Vote<u64>>(log, vote).map(|vote| encoded(&vote)),
            state: purged.zip(last).map(|state| encoded(&state)),
            committed: committed.map(|(committed, last)| encoded(&committed.min(last))),
            // At least one, if anything is asked for.
            limited: entries
                .as_ref()
                .filter(|entries| !entries.is_empty() || log.next() == u64::MAX)
                .map(encoded),
            entries: entries.as_ref().map(encoded),
        }
    }

    ask!(old, Old);
    ask!(new, New);
}

fn openraft(log: &Log, mode: u8) {
    let claimable = claimable(log, OPENRAFT_CELLS[0]);
    let (old, new) = (Old::open(log.clone()), New::open(log.clone()));
    assert_eq!((old.is_ok(), new.is_ok()), (claimable, claimable));
    let (Ok(mut old), Ok(mut new)) = (old, new) else { return };
    let expected = Answers::expected(log);
    assert_eq!(Answers::old(&mut old), expected);
    assert_eq!(Answers::new(&mut new), expected);
    if mode & WRITE != 0 {
        write(log, mode >> CALL_SHIFT, &mut old, &mut new);
        let expected = Answers::expected(log);
        assert_eq!(Answers::old(&mut old), expected);
        assert_eq!(Answers::new(&mut new), expected);
        // What was set lazily shall not outlive this execution.
        log.sync().unwrap();
    }
}

/// One call with what the log holds, to either store.
fn write(log: &Log, call: u8, old: &mut Old, new: &mut New) {
    let [_, vote, committed, purged] = OPENRAFT_CELLS;
    let from = if call & 8 == 0 { committed } else { purged };
    let (Some(id), Some(id_010)) = (cell::<LogId<u64>>(log, from), cell(log, from)) else { return };
    let id_010: Option<LogIdOf<Types010>> = id_010;
    let done = match call & 7 {
        0 => id.is_some_and(|id| now(old.truncate(id)).is_ok()),
        1 => now(new.truncate_after(id_010)).is_ok(),
        2 => id.is_some_and(|id| now(old.purge(id)).is_ok()),
        3 => id_010.is_some_and(|id| now(new.purge(id)).is_ok()),
        4 => now(old.save_committed(id)).is_ok() && cell(log, committed) == Some(id),
        5 => now(new.save_committed(id_010)).is_ok() && cell(log, committed) == Some(id_010),
        6 => match (cell::<Vote<u64>>(log, vote), cell::<VoteOf<Types010>>(log, vote)) {
            (Some(Some(old_vote)), Some(Some(new_vote))) => {
                now(old.save_vote(&old_vote)).unwrap();
                now(new.save_vote(&new_vote)).unwrap();
                true
            }
            _ => true,
        },
        _ => {
            let stored = log.read(log.first()..log.next()).unwrap();
            let again: Vec<Entry010> = stored.iter().filter_map(decoded_from).collect();
            now(new.append(again, IOFlushed::noop())).is_ok()
        }
    };
    assert!(done || call & 7 < 4 || call & 7 == 7, "a save is refused");
}

/// What an application of async-raft restores and is told.
#[derive(Debug, Default)]
pub struct Machine {
    /// What its snapshots hold.
    pub state: Vec<u8>,
    /// The commands it was given since.
    pub given: Vec<(u64, Command)>,
}

/// A state that the machine does not restore starts with this.
const REFUSED: u8 = 0xff;

/// What it answers.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Reply;

impl async_raft::AppDataResponse for Reply {}

impl StateMachine for Machine {
    type Command = Command;
    type Reply = Reply;

    fn apply(&mut self, index: u64, command: &Command) -> Reply {
        self.given.push((index, command.clone()));
        Reply
    }

    fn write_snapshot(&self, to: &mut dyn Write) -> io::Result<()> {
        to.write_all(&self.state)
    }

    fn restore_snapshot(&mut self, from: &mut dyn Read) -> io::Result<()> {
        self.state.clear();
        self.given.clear();
        from.read_to_end(&mut self.state)?;
        if self.state.first() == Some(&REFUSED) {
            return Err(io::Error::other("refused"));
        }
        Ok(())
    }
}

/// What a snapshot covers, and its state.
type Covered = ((u64, u64, MembershipConfig), Vec<u8>);

/// A snapshot out of its bytes.
fn unpacked(bytes: &[u8]) -> Option<Covered> {
    let (header, rest) = bytes.split_at_checked(16)?;
    let length = u32::from_le_bytes(header[8..12].try_into().unwrap()) as usize;
    let sound = header[..8] == *MAGIC && header[12..] == crc32fast::hash(rest).to_le_bytes();
    let (description, state) = rest.split_at_checked(length).filter(|_| sound)?;
    Some((decoded_from(description)?, state.to_vec()))
}

/// What a storage of async-raft must have found in a log.
struct Found {
    snapshot: Option<Covered>,
    entries: Vec<AsyncEntry<Command>>,
    given: Vec<(u64, Command)>,
    applied: u64,
}

/// Nothing if it must refuse the log.
fn found(log: &Log, snapshot: Option<&[u8]>) -> Option<Found> {
    let [format, node, _, applied] = ASYNC_RAFT_CELLS;
    let owned = cell::<u64>(log, node)?.is_none_or(|owner| owner == NODE);
    if !claimable(log, format) || !owned {
        return None;
    }
    let snapshot = match snapshot {
        Some(bytes) => Some(unpacked(bytes)?),
        None => None,
    };
    let covered = snapshot.as_ref().map_or(0, |((index, ..), _)| *index);
    let after = covered.saturating_add(1);
    let fresh = log.cell(format).is_none();
    let refused = snapshot.as_ref().is_some_and(|(_, state)| state.first() == Some(&REFUSED));
    if refused || !(fresh || log.first() == after) {
        return None;
    }
    let entries = entries(log, |entry: &AsyncEntry<Command>| entry.index)?;
    let known = cell::<u64>(log, applied)?.unwrap_or(0);
    let applied = known.min(log.next().saturating_sub(1)).max(covered);
    let given = entries.iter().filter(|entry| entry.index <= applied).filter_map(|entry| {
        match &entry.payload {
            EntryPayload::Normal(normal) => Some((entry.index, normal.data.clone())),
            _ => None,
        }
    });
    Some(Found { given: given.collect(), snapshot, entries, applied })
}

fn async_raft(log: &Log, snapshot: Option<&[u8]>) -> Option<Async> {
    let found = found(log, snapshot);
    let opened = Async::open(log.clone(), NODE, Machine::default());
    assert_eq!(opened.is_ok(), found.is_some(), "{:?}", opened.err());
    let (store, found) = (opened.ok()?, found?);
    assert_eq!(store.applied(), found.applied);
    assert_eq!(now(store.with_machine(|machine| machine.given.clone())), found.given);

    let mut expected = Vec::new();
    let mut membership = MembershipConfig::new_initial(NODE);
    if let Some(((index, term, covered), state)) = found.snapshot {
        assert_eq!(now(store.with_machine(|machine| machine.state.clone())), state);
        membership = covered.clone();
        expected.push(AsyncEntry::new_snapshot_pointer(index, term, String::new(), covered));
    }
    expected.extend(found.entries);
    let mut changes = expected.iter().filter_map(|entry| match &entry.payload {
        EntryPayload::ConfigChange(change) => Some(&change.membership),
        _ => None,
    });
    let membership = changes.next_back().unwrap_or(&membership);
    assert_eq!(&now(store.get_membership_config()).unwrap(), membership);
    assert_eq!(now(store.get_log_entries(0, u64::MAX)).unwrap(), expected);

    let initial = now(store.get_initial_state());
    let hard_state = cell::<HardState>(log, ASYNC_RAFT_CELLS[2]);
    assert_eq!(initial.is_ok(), hard_state.is_some());
    if let (Ok(initial), Some(hard_state)) = (initial, hard_state) {
        let none = HardState { current_term: 0, voted_for: None };
        assert_eq!(initial.hard_state, hard_state.unwrap_or(none));
        let last = expected.last().map_or((0, 0), |entry| (entry.index, entry.term));
        assert_eq!((initial.last_log_index, initial.last_log_term), last);
        assert_eq!(&initial.membership, membership);
    }
    Some(store)
}

/// Hands any bytes to a storage as a snapshot from the leader.
fn install(log: &Log, mode: u8, bytes: &[u8]) {
    let Some(store) = async_raft(log, None) else { return };
    let packed = unpacked(bytes);
    let call = mode >> CALL_SHIFT;
    let (mut index, mut term) = (u64::from(call), 1);
    if call & 1 != 0
        && let Some(((covered, of, _), _)) = &packed
    {
        (index, term) = (*covered, *of);
    }
    let contents = |log: &Log| (log.first(), log.next(), log.cells());
    let before = contents(log);
    let applied = store.applied();
    RUNTIME.block_on(async {
        let (_, mut snapshot) = store.create_snapshot().await.unwrap();
        snapshot.write_all(bytes).await.unwrap();
        let installed =
            store.finalize_snapshot_installation(index, term, None, String::new(), snapshot);
        if installed.await.is_err() {
            assert_eq!(contents(log), before, "a refused snapshot changed the log");
            return;
        }
        if applied > 0 && index <= applied {
            assert_eq!(contents(log), before, "a snapshot that is no news changed the log");
            return;
        }
        let ((covered, of, membership), state) = packed.expect("only a snapshot is installed");
        assert_eq!((covered, of), (index, term));
        let reopened = async_raft(log, Some(bytes)).expect("what was installed opens");
        assert_eq!((store.applied(), reopened.applied()), (index, index));
        let taken = reopened.do_log_compaction().await.unwrap();
        assert_eq!((taken.index, taken.term, &taken.membership), (index, term, &membership));
        let mut again = reopened.get_current_snapshot().await.unwrap().unwrap();
        let mut sent = Vec::new();
        again.snapshot.read_to_end(&mut sent).await.unwrap();
        assert_eq!((again.index, again.term, again.membership), (index, term, membership));
        assert_eq!(unpacked(&sent).map(|(_, state)| state), Some(state));
    });
}

pub use crate::raft_seeds::stores as seeds;
