//! Power cuts at every I/O call of the storage.

use async_raft::RaftStorage;
use async_raft::storage::HardState;
use indelible::testing::host::{Random, Subject, explore};
use kv::{Machine, Store};

use super::storage::{apply, change, entry, visible};
use super::*;

/// What async-raft does to its storage.
#[derive(Debug)]
pub(crate) enum Step {
    /// Entries from an index on: new ones, the same again, or others in their place.
    Replicate {
        from: u64,
        term: u64,
        count: u64,
    },
    /// A change of members.
    Change {
        index: u64,
        term: u64,
        last: u64,
    },
    Delete {
        from: u64,
    },
    HardState {
        term: u64,
    },
    Apply {
        from: u64,
        to: u64,
    },
    Compact,
    /// A snapshot of another node, ahead of this one.
    Install {
        index: u64,
    },
}

/// A snapshot that covers entries up to an index.
async fn snapshot(index: u64) -> Box<tokio::fs::File> {
    let store = Store::open(in_memory(), 0, Machine::default()).unwrap();
    let entries: Vec<_> = (1..=index).map(|index| entry(index, 1)).collect();
    store.replicate_to_log(&entries).await.unwrap();
    apply(&store, 1..=index).await;
    store.do_log_compaction().await.unwrap().snapshot
}

struct AsyncRaft;

impl Subject for AsyncRaft {
    type Store = Store;
    type Step = Step;

    fn open(log: Log) -> Store {
        Store::open(log, 0, Machine::default()).unwrap()
    }

    async fn choose(store: &mut Store, random: &mut Random) -> Step {
        let last = store.get_initial_state().await.unwrap().last_log_index;
        let (applied, term) = (store.applied(), last / 10 + 1);
        let uncommitted = applied + 1 + random.below(last - applied + 1);
        match random.below(12) {
            0 => Step::Delete { from: uncommitted },
            1 => Step::Replicate { from: uncommitted, term: term + 1, count: 1 + random.below(5) },
            2 => Step::HardState { term: term + random.below(3) },
            3 | 4 if applied < last => {
                Step::Apply { from: applied + 1, to: applied + 1 + random.below(last - applied) }
            }
            5 | 6 if applied > 0 => Step::Compact,
            7 if last > 0 && random.below(3) == 0 => {
                Step::Install { index: last + 1 + random.below(4) }
            }
            8 => Step::Change { index: last + 1, term, last: random.below(5) },
            _ => Step::Replicate { from: last + 1, term, count: 1 + random.below(12) },
        }
    }

    async fn take(store: &mut Store, step: &Step) -> Option<bool> {
        let done = match *step {
            Step::Replicate { from, term, count } => {
                let entries: Vec<_> =
                    (from..from + count).map(|index| entry(index, term)).collect();
                store.replicate_to_log(&entries).await
            }
            Step::Change { index, term, last } => {
                store.replicate_to_log(&[change(index, term, 0..=last)]).await
            }
            Step::Delete { from } => store.delete_logs_from(from, None).await,
            Step::HardState { term } => {
                let hard_state = HardState { current_term: term, voted_for: Some(term % 3) };
                store.save_hard_state(&hard_state).await
            }
            Step::Apply { from, to } => {
                let entries: Vec<_> =
                    (from..=to).map(|index| (index, set(index, format!("1.{index}")))).collect();
                let entries: Vec<_> = entries.iter().map(|(index, data)| (index, data)).collect();
                store.replicate_to_state_machine(&entries).await
            }
            Step::Compact => store.do_log_compaction().await.map(drop),
            Step::Install { index } => {
                let (id, snapshot) = (String::new(), snapshot(index).await);
                store.finalize_snapshot_installation(index, 1, None, id, snapshot).await
            }
        };
        done.ok().map(|()| !matches!(step, Step::Delete { .. } | Step::Apply { .. }))
    }

    async fn found(log: &Log) -> String {
        let store = <Self as Subject>::open(log.clone());
        let state = store.get_initial_state().await.unwrap();
        let members: std::collections::BTreeSet<_> = state.membership.members.iter().collect();
        let (hard_state, applied) = (&state.hard_state, state.last_applied_log);
        let data = store.with_machine(|machine| machine.data.clone()).await;
        format!("{hard_state:?} {members:?} {applied} {:?} {data:?}", visible(&store).await)
    }
}

#[tokio::test]
async fn power_cut_at_any_call_leaves_what_the_host_was_told() {
    for seed in 0..3 {
        assert!(explore::<AsyncRaft>(seed).await.unwrap() > 30);
    }
}
