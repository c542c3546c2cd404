//! Power cuts and failing disks at every I/O call of a write: what was answered with `Ok` is there,
//! what was not is there whole or not at all.

use std::sync::Arc;

use indelible::io::sim::{Fault, Moment, Persistence, Repeat, SimDisk};
use indelible::{Durability, Error, Options, Verdict};
use omnipaxos::storage::{Storage, StorageOp};

use super::support::{
    Everything, Joined, Store, Value, ballot, everything, stopsign, value, values,
};

/// A write, and what is on disk before it.
struct Scene {
    name: &'static str,
    before: Vec<StorageOp<Value>>,
    write: Vec<StorageOp<Value>>,
}

fn large(count: u64) -> Vec<Value> {
    (0..count).map(|number| Value(vec![u8::try_from(number).unwrap(); 2500])).collect()
}

/// What a follower has before another leader disagrees with it.
fn follower() -> Vec<StorageOp<Value>> {
    vec![
        StorageOp::SetPromise(ballot(3)),
        StorageOp::SetAcceptedRound(ballot(2)),
        StorageOp::AppendEntries(values(0..9)),
        StorageOp::SetDecidedIndex(4),
        StorageOp::SetSnapshot(Some(Joined(vec![1; 3000]))),
        StorageOp::SetStopsign(Some(stopsign(Some(vec![2; 1500])))),
    ]
}

fn scenes() -> Vec<Scene> {
    let rounds = [StorageOp::SetAcceptedRound(ballot(4)), StorageOp::SetDecidedIndex(5)];
    let [accepted, decided] = rounds;
    vec![
        Scene {
            name: "a suffix that another leader replaces",
            before: follower(),
            write: vec![
                accepted,
                decided,
                StorageOp::AppendOnPrefix(5, values(50..53)),
                StorageOp::SetStopsign(None),
            ],
        },
        Scene {
            name: "a suffix over several segments that is replaced by another",
            before: [follower(), vec![StorageOp::AppendEntries(large(12))]].concat_ops(),
            write: vec![
                StorageOp::SetAcceptedRound(ballot(4)),
                StorageOp::AppendOnPrefix(6, large(20)),
            ],
        },
        Scene {
            name: "a snapshot beyond the end",
            before: follower(),
            write: vec![
                StorageOp::SetAcceptedRound(ballot(4)),
                StorageOp::SetDecidedIndex(40),
                StorageOp::Trim(40),
                StorageOp::SetCompactedIdx(40),
                StorageOp::SetSnapshot(Some(Joined(vec![3; 5000]))),
                StorageOp::AppendOnPrefix(40, values(60..62)),
                StorageOp::SetStopsign(Some(stopsign(None))),
            ],
        },
        Scene {
            name: "a trim over several segments",
            before: [
                follower(),
                vec![StorageOp::AppendEntries(large(12)), StorageOp::SetDecidedIndex(20)],
            ]
            .concat_ops(),
            write: vec![StorageOp::Trim(19), StorageOp::SetCompactedIdx(19)],
        },
        Scene {
            name: "a promise",
            before: follower(),
            write: vec![StorageOp::SetPromise(ballot(9))],
        },
    ]
}

trait ConcatOps {
    fn concat_ops(self) -> Vec<StorageOp<Value>>;
}

impl ConcatOps for [Vec<StorageOp<Value>>; 2] {
    fn concat_ops(self) -> Vec<StorageOp<Value>> {
        self.into_iter().flatten().collect()
    }
}

fn options(durability: Durability) -> Options {
    Options::new().background(false).tiny_segments(16 * 1024).durability(durability)
}

fn open(disk: &SimDisk, durability: Durability) -> Result<Store, Error> {
    Store::in_directory(Arc::new(disk.clone()), &options(durability))
}

/// A disk that the scene can be played on. The same seed gives the same calls.
fn stage(number: usize, durability: Durability) -> (SimDisk, Store, Everything) {
    let disk = SimDisk::new(7 + number as u64);
    let mut storage = open(&disk, durability).unwrap();
    for operation in scenes().swap_remove(number).before {
        storage.write_atomically(vec![operation]).unwrap();
    }
    storage.handle().sync().unwrap();
    let before = everything(&storage);
    (disk, storage, before)
}

/// Makes the write; `true` if its host would go on to send messages.
fn play(number: usize, storage: &mut Store) -> bool {
    let write = scenes().swap_remove(number).write;
    storage.write_atomically(write).is_ok() && storage.handle().barrier().is_ok()
}

/// What the scene leaves, and the numbers of the I/O calls it makes.
fn rehearse(number: usize, durability: Durability) -> (Everything, std::ops::RangeInclusive<u64>) {
    let (disk, mut storage, _) = stage(number, durability);
    let first = disk.calls() + 1;
    assert!(play(number, &mut storage));
    (everything(&storage), first..=disk.calls())
}

#[test]
fn power_cut_at_every_call_leaves_all_or_nothing() {
    let mut cuts = 0;
    for durability in [Durability::Always, Durability::Barrier] {
        for (number, scene) in scenes().iter().enumerate() {
            let (after, calls) = rehearse(number, durability);
            for call in calls {
                for moment in [Moment::Before, Moment::Within] {
                    let (disk, mut storage, before) = stage(number, durability);
                    disk.crash_at_call(call, moment);
                    let acknowledged = play(number, &mut storage);
                    drop(storage);
                    for persistence in [
                        Persistence::Nothing,
                        Persistence::Everything,
                        Persistence::Random(call),
                        Persistence::Random(call + 1000),
                    ] {
                        let context = format!(
                            "{}, {durability:?}, {moment:?} call {call}, {persistence:?}",
                            scene.name
                        );
                        let storage = open(&disk.crash_with(persistence), durability)
                            .unwrap_or_else(|error| panic!("{context}: {error}"));
                        let found = everything(&storage);
                        assert!(
                            found == after || found == before && !acknowledged,
                            "{context}: {found:?}"
                        );
                        cuts += 1;
                    }
                }
            }
        }
    }
    assert!(cuts > 100, "only {cuts} cuts were made");
}

#[test]
fn failure_of_any_call_is_told_and_leaves_all_or_nothing() {
    let mut failures = 0;
    for durability in [Durability::Always, Durability::Barrier] {
        for (number, scene) in scenes().iter().enumerate() {
            let (after, calls) = rehearse(number, durability);
            for call in calls {
                for fault in [Fault::Io, Fault::IoPartial, Fault::ReadOnly, Fault::Full] {
                    let (disk, mut storage, before) = stage(number, durability);
                    disk.fail_call(call, fault, Repeat::Once);
                    let acknowledged = play(number, &mut storage);
                    failures += disk.counts().faults;
                    disk.clear_faults();
                    // Killed before the storage is dropped: a drop closes the log.
                    let killed = disk.kill();
                    drop(storage);
                    let context = format!("{}, {durability:?}, {fault:?} at {call}", scene.name);
                    let storage = open(&killed, durability)
                        .unwrap_or_else(|error| panic!("{context}: {error}"));
                    let found = everything(&storage);
                    assert!(
                        found == after || found == before && !acknowledged,
                        "{context}: {found:?}"
                    );
                }
            }
        }
    }
    assert!(failures > 100, "only {failures} failures were injected");
}

#[test]
fn power_cut_at_every_call_of_creation_leaves_a_fresh_storage() {
    let disk = SimDisk::new(3);
    drop(open(&disk, Durability::Always).unwrap());
    for call in 1..=disk.calls() {
        for persistence in
            [Persistence::Nothing, Persistence::Everything, Persistence::Random(call)]
        {
            let disk = SimDisk::new(3);
            disk.crash_at_call(call, Moment::Within);
            drop(open(&disk, Durability::Always));
            let mut storage = open(&disk.crash_with(persistence), Durability::Always)
                .unwrap_or_else(|error| panic!("call {call}, {persistence:?}: {error}"));
            assert_eq!(storage.get_promise().unwrap(), None);
            storage.append_entry(value(1)).unwrap();
        }
    }
}

#[test]
fn barrier_loses_what_was_not_synced_and_nothing_else() {
    let disk = SimDisk::new(5);
    let mut storage = open(&disk, Durability::Barrier).unwrap();
    storage.append_entries(values(0..3)).unwrap();
    storage.handle().barrier().unwrap();
    storage.append_entries(values(3..6)).unwrap();
    storage.set_promise(ballot(2)).unwrap();
    let after = disk.crash_with(Persistence::Nothing);
    drop(storage);
    let storage = open(&after, Durability::Barrier).unwrap();
    assert_eq!(storage.get_suffix(0).unwrap(), values(0..3));
    assert_eq!(storage.get_promise().unwrap(), None);
}

#[test]
fn lost_decided_index_comes_back_older_but_never_below_the_compacted_one() {
    let disk = SimDisk::new(6);
    let mut storage = open(&disk, Durability::Always).unwrap();
    storage.append_entries(values(0..6)).unwrap();
    storage.set_decided_idx(4).unwrap();
    storage.write_atomically(vec![StorageOp::Trim(2), StorageOp::SetCompactedIdx(2)]).unwrap();
    storage.set_decided_idx(6).unwrap();
    let after = disk.crash_with(Persistence::Nothing);
    drop(storage);
    let storage = open(&after, Durability::Always).unwrap();
    assert_eq!(storage.get_decided_idx().unwrap(), 4, "durable with the trim");
    assert_eq!(storage.get_compacted_idx().unwrap(), 2);
}

#[test]
fn full_disk_refuses_entries_and_takes_promises() {
    let disk = SimDisk::new(8);
    let mut storage = open(&disk, Durability::Always).unwrap();
    disk.set_capacity(Some(disk.used()));
    let refused = loop {
        let before = everything(&storage);
        if let Err(refused) = storage.append_entries(large(2)) {
            assert_eq!(everything(&storage), before);
            break refused;
        }
    };
    assert!(refused.to_string().contains("no space"), "{refused}");
    storage.set_promise(ballot(5)).unwrap();
    let end = storage.get_log_len().unwrap();
    storage.set_decided_idx(end).unwrap();
    storage.write_atomically(vec![StorageOp::Trim(end), StorageOp::SetCompactedIdx(end)]).unwrap();
    let killed = disk.kill();
    drop(storage);
    let mut storage = open(&killed, Durability::Always).unwrap();
    assert_eq!(storage.get_promise().unwrap(), Some(ballot(5)));
    assert_eq!(storage.get_compacted_idx().unwrap(), end);
    storage.append_entry(value(1)).unwrap();
    assert_eq!(storage.get_suffix(end).unwrap(), values(1..2));
}

#[test]
fn recovery_is_reported_through_the_handle() {
    let disk = SimDisk::new(9);
    let mut storage = open(&disk, Durability::Always).unwrap();
    assert_eq!(storage.handle().recovery().verdict, Verdict::Created);
    storage.append_entries(values(0..5)).unwrap();
    let after = disk.crash_with(Persistence::Nothing);
    drop(storage);
    let storage = open(&after, Durability::Always).unwrap();
    assert_eq!(storage.handle().recovery().verdict, Verdict::Recovered);
    assert_eq!(storage.handle().recovery().entries_replayed, 5);
}
