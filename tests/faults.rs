//! Bounded fault sweeps: every call of some programs fails, once and for good, in every way; disks
//! of every size. The whole sweeps are `explore --sweep faults` and `--sweep disks`.
#![cfg(feature = "testing")]
#![expect(clippy::panic, clippy::print_stdout, reason = "a test fails, and says how far it went")]

use indelible::testing::explore::{Subject, Tally, Violation};
use indelible::testing::faults::{sweep, sweep_full_disk};

fn all(subjects: &[(u64, usize)], run: fn(Subject, u64) -> (Tally, Option<Violation>)) -> Tally {
    let mut total = Tally::default();
    for (number, config) in subjects {
        let (tally, violation) = run(Subject::Small(*number, *config), 1);
        if let Some(violation) = violation {
            panic!("{violation}");
        }
        total.add(&tally);
    }
    println!("{total}");
    total
}

fn assert_counted(total: &Tally, kinds: &[&str]) {
    for kind in kinds {
        assert!(total.kinds.get(kind).is_some_and(|count| *count > 0), "no {kind}: {total}");
    }
}

#[test]
fn every_failing_call_is_typed_or_poisons_and_nothing_acknowledged_is_lost() {
    let total = all(&[(1, 0), (5, 1), (11, 2), (19, 5), (27, 3), (31, 7)], sweep);
    assert_counted(
        &total,
        &[
            "EIO",
            "EIO half done",
            "EIO, then EROFS",
            "EIO in every sync",
            "EIO on a full disk",
            "EIO in every sync on a full disk",
            "ENOSPC",
            "EIO in a write-back",
            "poisoned",
        ],
    );
}

#[test]
fn full_disk_of_any_size_refuses_entries_and_keeps_state_working() {
    let total = all(&[(3, 0), (13, 1), (27, 5)], sweep_full_disk);
    assert_counted(&total, &["disk sizes", "refused, and went on", "too small to create a log"]);
}
