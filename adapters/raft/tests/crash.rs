//! Power cuts at every I/O call of a follower that gets entries, votes, snapshots and new members,
//! and compacts its log.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use indelible::Log;
use indelible::testing::host::{Random, Subject, explore};
use indelible_raft::LogStore;
use raft::prelude::{ConfState, Entry, Message, MessageType, Snapshot, SnapshotMetadata};
use raft::{Config, GetEntriesContext, RawNode, Storage};
use slog::{Discard, Logger, o};

/// What happens to node 1 of three. Each is one batch.
#[derive(Debug)]
enum Step {
    /// Entries from a leader, after the one at `at`; what is before `commit` is committed, inclusive.
    Entries { term: u64, at: u64, term_at: u64, count: u64, commit: u64 },
    /// A candidate that gets the vote.
    Vote { term: u64 },
    /// A snapshot from a leader that covers everything up to `at`.
    Snapshot { term: u64, at: u64 },
    /// A snapshot of its own, and the entries before it go.
    Compact { at: u64 },
    /// Another learner.
    Members { learner: u64 },
}

impl Step {
    /// The message that brings it, if one does.
    fn message(&self) -> Option<Message> {
        let mut message = Message { from: 2, to: 1, ..Message::default() };
        match *self {
            Self::Entries { term, at, term_at, count, commit } => {
                message.set_msg_type(MessageType::MsgAppend);
                let entry = |index| {
                    let data = format!("{term}.{index}").into_bytes();
                    Entry { term, index, data, ..Entry::default() }
                };
                (message.term, message.index, message.log_term) = (term, at, term_at);
                message.commit = commit;
                message.entries = (at + 1..=at + count).map(entry).collect();
            }
            Self::Vote { term } => {
                message.set_msg_type(MessageType::MsgRequestVote);
                (message.term, message.log_term, message.from) = (term, term, 3);
            }
            Self::Snapshot { term, at } => {
                message.set_msg_type(MessageType::MsgSnapshot);
                let metadata = SnapshotMetadata { conf_state: Some(members(9)), index: at, term };
                let (metadata, data) = (Some(metadata), state_at(at));
                (message.term, message.snapshot) = (term, Some(Snapshot { data, metadata }));
            }
            Self::Compact { .. } | Self::Members { .. } => return None,
        }
        Some(message)
    }
}

fn members(learner: u64) -> ConfState {
    ConfState { voters: vec![1, 2, 3], learners: vec![learner], ..ConfState::default() }
}

fn state_at(index: u64) -> Vec<u8> {
    format!("the state after {index}").into_bytes()
}

/// The store on a log, which becomes a new node's if nothing is in it.
fn store(log: &Log) -> LogStore {
    LogStore::open(log.clone()).or_else(|_| LogStore::create(log.clone(), &members(4))).unwrap()
}

fn take(node: &mut RawNode<LogStore>, step: &Step) -> Option<bool> {
    if let Some(message) = step.message() {
        node.step(message).unwrap();
    }
    match *step {
        Step::Compact { at } => node.store().compact(at, state_at(at)).ok()?,
        Step::Members { learner } => {
            node.store().set_members(&members(learner)).ok()?;
            return Some(false);
        }
        _ => {
            let ready = node.ready();
            node.store().save(&ready).ok()?.wait().ok()?;
            drop(node.advance(ready).take_committed_entries());
            node.advance_apply();
        }
    }
    Some(true)
}

struct Tikv;

impl Subject for Tikv {
    type Store = RawNode<LogStore>;
    type Step = Step;

    fn open(log: Log) -> Self::Store {
        let store = store(&log);
        let applied = store.current_snapshot().unwrap().metadata.unwrap_or_default().index;
        let config = Config { id: 1, applied, ..Config::default() };
        RawNode::new(&config, store, &Logger::root(Discard, o!())).unwrap()
    }

    async fn choose(node: &mut Self::Store, random: &mut Random) -> Step {
        let (first, last) = (node.store().log().first(), node.store().last_index().unwrap());
        let (committed, applied) = (node.raft.raft_log.committed, node.raft.raft_log.applied);
        let term = (node.raft.term + random.below(2)).max(1);
        match random.below(8) {
            0 => Step::Vote { term: node.raft.term + 1 },
            1 if applied >= first => {
                Step::Compact { at: first + random.below(applied + 1 - first) }
            }
            2 => Step::Members { learner: 5 + random.below(3) },
            3 if random.below(3) == 0 => Step::Snapshot { term, at: last + 1 + random.below(5) },
            _ => {
                let at = committed + random.below(last + 1 - committed);
                let term_at = node.store().term(at).unwrap();
                let count = 1 + random.below(6);
                let commit = committed + random.below(at + count + 1 - committed);
                Step::Entries { term, at, term_at, count, commit }
            }
        }
    }

    async fn take(node: &mut Self::Store, step: &Step) -> Option<bool> {
        match catch_unwind(AssertUnwindSafe(|| take(node, step))) {
            Ok(taken) => taken,
            // The host panics where it cannot read; any other panic is ours.
            Err(panic) => {
                let write =
                    node.store().set_members(&members(9)).map(|()| node.store().log().sync());
                if matches!(write, Ok(Ok(()))) { resume_unwind(panic) } else { None }
            }
        }
    }

    async fn found(log: &Log) -> String {
        let store = store(log);
        let state = store.initial_state().unwrap();
        let (first, last) = (store.first_index().unwrap(), store.last_index().unwrap());
        let context = GetEntriesContext::empty(false);
        let entries = store.entries(first, last + 1, None, context).unwrap();
        let (gone, snapshot) = (store.term(first - 1).unwrap(), store.current_snapshot().unwrap());
        format!("{state:?} {first} {gone} {entries:?} {snapshot:?}")
    }
}

#[tokio::test]
async fn power_cut_at_any_call_leaves_tikv_raft_what_it_was_told() {
    for seed in 0..6 {
        assert!(explore::<Tikv>(seed).await.unwrap() > 30);
    }
}
