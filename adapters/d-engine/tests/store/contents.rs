//! What the tests of this package share: entries to store, and a look at everything stored.

use std::ops::RangeInclusive;

use bytes::Bytes;
use d_engine_core::{HardState, LogStore, MetaStore, StorageEngine};
use d_engine_proto::common::entry_payload::Payload;
use d_engine_proto::common::{Entry, EntryPayload, LogId};
use d_engine_proto::server::election::VotedFor;
use indelible_d_engine::DEngineStorage;

/// An entry whose payload depends on its index and term.
pub(crate) fn entry(index: u64, term: u64) -> Entry {
    let bytes = vec![u8::try_from((index * 31 + term) % 251).unwrap(); 40 + (index % 50) as usize];
    let payload = EntryPayload { payload: Some(Payload::Command(Bytes::from(bytes))) };
    Entry { index, term, payload: Some(payload) }
}

/// The command in an entry.
pub(crate) fn command(entry: &Entry) -> &Bytes {
    match &entry.payload.as_ref().unwrap().payload {
        Some(Payload::Command(bytes)) => bytes,
        other => panic!("{other:?} is no command"),
    }
}

/// Entries of one term.
pub(crate) fn entries(range: RangeInclusive<u64>, term: u64) -> Vec<Entry> {
    range.map(|index| entry(index, term)).collect()
}

/// A vote for `node` in `term`.
pub(crate) fn vote(term: u64, node: u32) -> HardState {
    let voted_for = VotedFor { voted_for_id: node, voted_for_term: term, committed: false };
    HardState { current_term: term, voted_for: Some(voted_for) }
}

/// Everything a storage holds, in a form that can be compared.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Contents {
    pub(crate) entries: Vec<Entry>,
    pub(crate) last: u64,
    pub(crate) boundary: Option<LogId>,
    pub(crate) hard_state: Option<(u64, Option<VotedFor>)>,
}

impl Contents {
    /// The same in one line, for people: terms of the last entries instead of payloads.
    pub(crate) fn summary(&self) -> String {
        let terms: Vec<u64> = self.entries.iter().rev().take(8).map(|entry| entry.term).collect();
        let Self { entries, last, boundary, hard_state } = self;
        let (count, boundary) = (entries.len(), boundary.map(|id| (id.index, id.term)));
        let vote = hard_state.map(|(term, vote)| (term, vote.map(|vote| vote.voted_for_id)));
        format!("{count} entries to {last}, terms {terms:?}, purged {boundary:?}, vote {vote:?}")
    }
}

/// Everything `storage` holds.
pub(crate) fn contents(storage: &DEngineStorage) -> Contents {
    let log = storage.log_store();
    Contents {
        entries: log.get_entries(0..=u64::MAX).unwrap(),
        last: log.last_index(),
        boundary: log.load_purge_boundary().unwrap(),
        hard_state: hard_state(storage).map(|state| (state.current_term, state.voted_for)),
    }
}

/// The stored hard state.
pub(crate) fn hard_state(storage: &DEngineStorage) -> Option<HardState> {
    storage.meta_store().load_hard_state().unwrap()
}
