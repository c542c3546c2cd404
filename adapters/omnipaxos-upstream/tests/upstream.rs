//! Upstream's storages, seen by the conformance kit and by `migrate`.

use indelible::Options;
use indelible::codec::Postcard;
use indelible::omnipaxos::{LogStorage, migrate};
use omnipaxos::ballot_leader_election::Ballot;
use omnipaxos::storage::{Entry, Snapshot, Storage, StorageOp};
use omnipaxos_conformance::Conformance;
use omnipaxos_storage::memory_storage::MemoryStorage;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Number(u64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Sum(u64);

impl Entry for Number {
    type Snapshot = Sum;
}

impl Snapshot<Number> for Sum {
    fn create(entries: &[Number]) -> Self {
        Self(entries.iter().map(|number| number.0).sum())
    }
    fn merge(&mut self, delta: Self) {
        self.0 += delta.0;
    }
    fn use_snapshots() -> bool {
        true
    }
}

/// What `MemoryStorage` is known not to do. It trusts OmniPaxos with its arguments, panics below its
/// start (in debug builds; in release builds it reads nothing), and rolls nothing back.
const MEMORY_STORAGE_EXCEPTIONS: [&str; 6] = [
    "append_on_prefix_beyond_the_end_is_refused",
    "append_on_prefix_below_the_start_is_refused",
    "trim_at_or_below_the_start_is_ignored",
    "entries_below_the_compacted_index_are_refused",
    "suffix_from_below_the_compacted_index_is_refused",
    "refused_operations_change_nothing",
];

#[test]
fn memory_storage_conforms_but_for_what_is_known() {
    let report = Conformance::new(MemoryStorage::<Number>::default, Number)
        .snapshots(Sum)
        .except(&MEMORY_STORAGE_EXCEPTIONS)
        .run();
    assert!(report.holds(), "{report}");
}

#[test]
fn postcard_storage_conforms() {
    let report = Conformance::new(
        || LogStorage::<Number, Postcard>::in_memory(&Options::new()).unwrap(),
        Number,
    )
    .snapshots(Sum)
    .run();
    assert!(report.holds(), "{report}");
}

fn fill(storage: &mut impl Storage<Number>) {
    storage
        .write_atomically(vec![
            StorageOp::SetPromise(Ballot::with(1, 2, 3, 4)),
            StorageOp::SetAcceptedRound(Ballot::with(1, 2, 0, 1)),
            StorageOp::AppendEntries((0..3000).map(Number).collect()),
            StorageOp::SetDecidedIndex(2500),
            StorageOp::Trim(1000),
            StorageOp::SetCompactedIdx(1000),
            StorageOp::SetSnapshot(Some(Sum(77))),
        ])
        .unwrap();
}

fn moves(from: &impl Storage<Number>) {
    let mut to = LogStorage::<Number, Postcard>::in_memory(&Options::new()).unwrap();
    let moved = migrate(from, &mut to).unwrap();
    assert_eq!((moved.first, moved.next, moved.decided), (1000, 3000, 2500));
    assert_eq!(to.get_suffix(1000).unwrap(), from.get_suffix(1000).unwrap());
    assert_eq!(to.get_promise().unwrap(), from.get_promise().unwrap());
    assert_eq!(to.get_accepted_round().unwrap(), from.get_accepted_round().unwrap());
    assert_eq!(to.get_snapshot().unwrap(), from.get_snapshot().unwrap());
}

#[test]
fn memory_storage_is_moved() {
    let mut from = MemoryStorage::default();
    fill(&mut from);
    moves(&from);
}

#[cfg(feature = "rocksdb")]
#[test]
fn rocksdb_storage_is_moved() {
    use omnipaxos_storage::persistent_storage::{PersistentStorage, PersistentStorageConfig};
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("old").display().to_string();
    let mut from: PersistentStorage<Number> =
        PersistentStorage::open(PersistentStorageConfig::with_path(path));
    fill(&mut from);
    moves(&from);
}
