//! Power cuts at every I/O call of both stores.

use indelible::Log;
use indelible::testing::host::{Random, Subject, explore};
use openraft_09::storage::RaftLogStorage as _;
use openraft_09::{RaftLogReader as _, Vote};
use openraft_010::storage::{RaftLogReader as _, RaftLogStorage as _};
use openraft_010::type_config::alias::VoteOf;

use super::{kv_010, v09, v010};

/// What openraft does to a log. Indexes are inclusive where openraft's are.
#[derive(Debug)]
pub(crate) enum Step {
    Append { term: u64, from: u64, count: u64 },
    Truncate { from: u64 },
    Purge { term: u64, upto: u64 },
    Vote { term: u64 },
    Commit { term: u64, index: u64 },
}

/// The next step on a log that holds `first..next`. Terms grow with time.
fn choose(random: &mut Random, first: u64, next: u64) -> Step {
    let term = random.below(2) + next / 8 + 1;
    match random.below(8) {
        0 if next > first => Step::Truncate { from: first + random.below(next - first) },
        1 if next > first => Step::Purge { term, upto: first + random.below(next - first) },
        2 if random.below(4) == 0 => Step::Purge { term: term + 9, upto: next + random.below(5) },
        3 => Step::Vote { term },
        4 if next > first => Step::Commit { term, index: first + random.below(next - first) },
        _ => Step::Append { term, from: next, count: 1 + random.below(12) },
    }
}

struct Openraft09;

impl Subject for Openraft09 {
    type Store = v09::Store;
    type Step = Step;

    fn open(log: Log) -> v09::Store {
        v09::Store::open(log).unwrap()
    }

    async fn choose(store: &mut v09::Store, random: &mut Random) -> Step {
        choose(random, store.log().first(), store.log().next())
    }

    async fn take(store: &mut v09::Store, step: &Step) -> Option<bool> {
        let done = match *step {
            Step::Append { term, from, count } => {
                v09::append(store, term, from..from + count).await
            }
            Step::Truncate { from } => store.truncate(v09::id(0, from)).await,
            Step::Purge { term, upto } => store.purge(v09::id(term, upto)).await,
            Step::Vote { term } => store.save_vote(&Vote::new(term, 1)).await,
            Step::Commit { term, index } => store.save_committed(Some(v09::id(term, index))).await,
        };
        done.ok().map(|()| !matches!(step, Step::Purge { .. } | Step::Commit { .. }))
    }

    async fn found(log: &Log) -> String {
        let mut store = v09::Store::open(log.clone()).unwrap();
        let vote = store.read_vote().await.unwrap();
        let committed = store.read_committed().await.unwrap();
        let state = store.get_log_state().await.unwrap();
        let entries = store.try_get_log_entries(..).await.unwrap();
        format!("{vote:?} {committed:?} {state:?} {entries:?}")
    }
}

struct Openraft010;

impl Subject for Openraft010 {
    type Store = v010::Store;
    type Step = Step;

    fn open(log: Log) -> v010::Store {
        v010::Store::open(log).unwrap()
    }

    async fn choose(store: &mut v010::Store, random: &mut Random) -> Step {
        choose(random, store.log().first(), store.log().next())
    }

    async fn take(store: &mut v010::Store, step: &Step) -> Option<bool> {
        let done = match *step {
            Step::Append { term, from, count } => {
                v010::append(store, term, from..from + count).await
            }
            Step::Truncate { from } => {
                let last = from.checked_sub(1).map(|last| v010::id(0, last));
                store.truncate_after(last).await
            }
            Step::Purge { term, upto } => store.purge(v010::id(term, upto)).await,
            Step::Vote { term } => store.save_vote(&VoteOf::<kv_010::Types>::new(term, 1)).await,
            Step::Commit { term, index } => store.save_committed(Some(v010::id(term, index))).await,
        };
        done.ok().map(|()| !matches!(step, Step::Purge { .. } | Step::Commit { .. }))
    }

    async fn found(log: &Log) -> String {
        let mut store = v010::Store::open(log.clone()).unwrap();
        let vote = store.read_vote().await.unwrap();
        let committed = store.read_committed().await.unwrap();
        let state = store.get_log_state().await.unwrap();
        let entries = store.try_get_log_entries(..).await.unwrap();
        format!("{vote:?} {committed:?} {state:?} {entries:?}")
    }
}

#[tokio::test]
async fn power_cut_at_any_call_leaves_openraft_09_what_it_was_told() {
    for seed in 0..3 {
        assert!(explore::<Openraft09>(seed).await.unwrap() > 30);
    }
}

#[tokio::test]
async fn power_cut_at_any_call_leaves_openraft_010_what_it_was_told() {
    for seed in 3..6 {
        assert!(explore::<Openraft010>(seed).await.unwrap() > 30);
    }
}
