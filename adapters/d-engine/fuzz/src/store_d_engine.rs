//! `store_d_engine`: the storage of d-engine, opened on a log whose cells and entries are any bytes.
//!
//! Input: the first index u64, for each cell one byte, 0 if there is none and else one more than its
//! length, then its bytes; each entry with its length before it. One log in memory serves all
//! executions of a thread, since to make one takes longer than all the rest.
//!
//! Invariants:
//! 1. Opening reads everything and never panics, and allocates no more than [`MEMORY_FACTOR`] times
//!    the input and [`MEMORY_FIXED`] bytes, whatever lengths it states.
//! 2. It opens if and only if all of it is what the documentation says (`documented`): no entry that
//!    states another index, no boundary but the one before the first.
//! 3. What is refused for its bytes stops the node (`is_fatal`).
//! 4. What opens reads as these bytes say.
//! 5. What was read is stored again as the same bytes; of a payload in prost's encoding, which has
//!    many for one value, as the same value.
//! 6. A reset leaves the hard state and nothing else.

use std::cell::RefCell;

use d_engine_core::{HardState, LogStore, MetaStore, StorageEngine};
use d_engine_proto::common::entry_payload::Payload;
use d_engine_proto::common::{Entry, EntryPayload, LogId, MembershipChange, Noop};
use d_engine_proto::server::election::VotedFor;
use futures_util::FutureExt;
use indelible::{Batch, Log, Options};
use indelible_d_engine::DEngineStorage;
use prost::bytes::Bytes;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region};

use crate::{Seed, documented};

/// A payload is decoded into structures far larger than their two bytes.
const MEMORY_FACTOR: usize = 100;
/// What reading a log takes in any case.
const MEMORY_FIXED: usize = 16 * 1024;
const ENTRIES_MAX: usize = 16;

const FORMAT: &str = "d-engine";
const HARD_STATE: &str = "hard-state";
const BOUNDARY: &str = "purged";
const CELLS: [&str; 3] = [FORMAT, HARD_STATE, BOUNDARY];

thread_local! {
    static LOG: RefCell<Log> = RefCell::new(in_memory());
}

fn in_memory() -> Log {
    Log::in_memory(&Options::new().background(false).tiny_segments(64 * 1024)).unwrap()
}

/// One execution.
pub fn run(mut input: &[u8]) {
    let length = input.len();
    LOG.with_borrow(|log| {
        let mut batch = Batch::new();
        for (name, _) in log.cells() {
            batch.clear(name);
        }
        match number(&mut input) {
            // A reset begins a segment, which takes longer.
            first if first == log.first() => batch.truncate(first),
            first => batch.reset(first),
        };
        for cell in CELLS {
            if let Some(length) = byte(&mut input).checked_sub(1) {
                batch.set(cell, taken(&mut input, length.into()));
            }
        }
        for _ in 0..ENTRIES_MAX {
            if !input.is_empty() {
                let length = byte(&mut input).into();
                batch.append(taken(&mut input, length));
            }
        }
        // Entries past the last index are refused; then there is nothing to open.
        if log.submit(&batch).is_ok() {
            check(log, length);
        }
    });
}

fn taken<'a>(input: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(count.min(input.len()));
    *input = rest;
    taken
}

fn byte(input: &mut &[u8]) -> u8 {
    taken(input, 1).first().copied().unwrap_or(0)
}

fn number(input: &mut &[u8]) -> u64 {
    taken(input, 8).iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// What a storage must say.
#[derive(Debug, Clone, PartialEq)]
struct Contents {
    hard_state: Option<documented::HardState>,
    boundary: Option<LogId>,
    entries: Vec<Entry>,
}

impl Contents {
    /// Of a log; nothing if it is no storage.
    fn expected(log: &Log) -> Option<Self> {
        let hard_state = match log.cell(HARD_STATE) {
            Some(bytes) => Some(documented::hard_state(&bytes)?),
            None => None,
        };
        let boundary = match log.cell(BOUNDARY) {
            Some(bytes) => Some(documented::boundary(&bytes)?),
            None => None,
        };
        let purged = boundary.map_or(0, |boundary| boundary.index);
        if log.first() != purged.saturating_add(1) {
            return None;
        }
        let stored = log.read(log.first()..log.next()).unwrap();
        let entries = (log.first()..=u64::MAX)
            .zip(&stored)
            .map(|(index, bytes)| documented::entry(index, bytes));
        Some(Self { hard_state, boundary, entries: entries.collect::<Option<_>>()? })
    }

    /// As the storage says.
    fn read(storage: &DEngineStorage) -> Self {
        let log = storage.log_store();
        let state = storage.meta_store().load_hard_state().unwrap();
        let entries = log.get_entries(0..=u64::MAX).unwrap();
        let found = Self {
            hard_state: state.map(|state| (state.current_term, state.voted_for)),
            boundary: log.load_purge_boundary().unwrap(),
            entries,
        };
        let last = storage.log().next() - 1;
        assert_eq!(log.last_index(), last);
        let last = now(log.entry(last)).unwrap();
        assert_eq!(last.as_ref(), found.entries.last());
        found
    }
}

/// The answer of a call that a log in memory never waits for.
fn now<T>(call: impl Future<Output = T>) -> T {
    call.now_or_never().expect("a log in memory answers at once")
}

fn check(log: &Log, length: usize) {
    let fresh = log.next() == 0 && log.cells().is_empty();
    let mine = log.cell(FORMAT).as_deref() == Some(&[1]);
    let expected = Contents::expected(log);
    let region = Region::new(&INSTRUMENTED_SYSTEM);
    let opened = DEngineStorage::from_log(log.clone());
    let allocated = region.change().bytes_allocated;
    let allowed = MEMORY_FACTOR * length + MEMORY_FIXED;
    // What makes an empty log d-engine's begins a segment.
    assert!(fresh || allocated <= allowed, "{allocated} bytes allocated for {length}");
    let storage = match opened {
        Ok(storage) => storage,
        Err(error) => {
            assert!(!fresh && (!mine || expected.is_none()), "{error}");
            assert_eq!(error.is_fatal(), mine, "{error}");
            return;
        }
    };
    assert!(fresh || mine);
    let found = Contents::read(&storage);
    if mine {
        assert_eq!(Some(&found), expected.as_ref());
    }
    store_again(log, &storage, &found);
}

fn store_again(log: &Log, storage: &DEngineStorage, found: &Contents) {
    let store = storage.log_store();
    let stored = |log: &Log| log.read(log.first()..log.next()).unwrap().to_owned();
    let (before, cells) = (stored(log), log.cells());
    if let Some((current_term, voted_for)) = found.hard_state {
        let state = HardState { current_term, voted_for };
        storage.meta_store().save_hard_state(&state).unwrap();
    }
    if let Some(boundary) = found.boundary {
        now(store.purge(boundary)).map_or_else(
            |error| assert_eq!(boundary.index, u64::MAX, "{error}"),
            |()| assert_ne!(boundary.index, u64::MAX),
        );
    }
    now(store.replace_range(log.first(), found.entries.clone())).unwrap();
    assert_eq!(log.cells(), cells);
    let after = stored(log);
    assert_eq!(after.len(), before.len());
    for (old, new) in before.iter().zip(after.iter()) {
        assert!(old == new || old[0] == documented::OTHER, "an entry has two encodings");
    }
    assert_eq!(&Contents::read(storage), found);

    now(store.reset()).unwrap();
    let empty = Contents { boundary: None, entries: Vec::new(), ..found.clone() };
    assert_eq!(Contents::read(storage), empty);
}

/// Logs as the storage leaves them.
pub fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let mut seed = |name: &str, log: &Log| seeds.push((name.to_owned(), script(log)));
    let log = in_memory();
    let storage = DEngineStorage::from_log(log.clone()).unwrap();
    seed("new", &log);
    let save = |voted_for| {
        let state = HardState { current_term: 42, voted_for };
        storage.meta_store().save_hard_state(&state).unwrap();
    };
    save(None);
    seed("term", &log);
    save(Some(VotedFor { voted_for_id: 7, voted_for_term: 41, committed: true }));
    let payloads = [
        None,
        Some(None),
        Some(Some(Payload::Noop(Noop {}))),
        Some(Some(Payload::Config(MembershipChange { change: None }))),
        Some(Some(Payload::Command(Bytes::new()))),
        Some(Some(Payload::Command(Bytes::from_static(b"decree")))),
    ];
    let entries = (1..).zip(payloads).map(|(index, payload)| {
        let payload = payload.map(|payload| EntryPayload { payload });
        Entry { index, term: 42, payload }
    });
    now(storage.log_store().persist_entries(entries.collect())).unwrap();
    seed("entries", &log);
    now(storage.log_store().purge(LogId { index: 2, term: 42 })).unwrap();
    seed("purged", &log);
    now(storage.log_store().purge(LogId { index: 300, term: 43 })).unwrap();
    seed("purged_beyond", &log);
    seeds
}

/// The input that makes this log.
fn script(log: &Log) -> Vec<u8> {
    let counted = |bytes: &[u8], more| {
        let length = u8::try_from(bytes.len() + more).unwrap();
        [&[length], bytes].concat()
    };
    let mut input = log.first().to_le_bytes().to_vec();
    for cell in CELLS {
        input.extend(log.cell(cell).map_or(vec![0], |bytes| counted(&bytes, 1)));
    }
    for entry in &log.read(log.first()..log.next()).unwrap() {
        input.extend(counted(entry, 0));
    }
    input
}
