//! Bounded fault sweeps: every call of some programs fails, once and for good, in every way; disks
//! of every size. The whole sweeps are `explore --sweep faults` and `--sweep disks`.
#![expect(clippy::panic, clippy::print_stdout, reason = "a test fails, and says how far it went")]

use indelible::WriteMode;
use indelible::testing::config::CONFIGS;
use indelible::testing::explore::{Subject, Tally, Violation};
use indelible::testing::faults::{sweep, sweep_full_disk};
use indelible::testing::program::{WORDS, count_of};

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

fn buffered() -> impl Iterator<Item = usize> {
    let all = CONFIGS.iter().enumerate();
    all.filter(|(_, it)| it.write_mode == WriteMode::Buffered).map(|(config, _)| config)
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
            "EMFILE",
            "EIO in a write-back",
            "poisoned",
        ],
    );
}

/// Found by the whole sweep. The tail could not be read before the first batch after an open, or the
/// footer of a segment whose frames leave in doubt which of them count.
#[test]
fn read_that_fails_once_refuses_what_needs_it_and_damages_nothing() {
    for (program, config) in [(2733, 2), (2719, 3), (2413, 12)] {
        if let (_, Some(violation)) = sweep(Subject::Drawn(program, config), 1) {
            panic!("{violation}");
        }
    }
}

/// Frames that wait in memory may fail to get out of it: for a batch that fills the buffer or rolls,
/// for a sync, for a reader who only wants to see them.
#[test]
fn every_failing_hand_over_poisons_and_nothing_acknowledged_is_lost() {
    // A large batch; a small one, and a sync.
    let [small, sync] = [15, 18];
    let numbers = [5, count_of(1) + 2 * (small + WORDS * sync)];
    let subjects: Vec<_> = buffered().flat_map(|config| numbers.map(|n| (n, config))).collect();
    let total = all(&subjects, sweep);
    assert_counted(
        &total,
        &[
            "full buffers handed over",
            "rolls with frames in memory",
            "frames handed over for a reader",
            "hand-over failed for a batch",
            "hand-over failed for a sync",
            "hand-over failed for a reader",
            "hand-over met a full disk",
            "poisoned",
        ],
    );
}

/// Cells that are set lazily, through failing calls and on a full disk.
#[test]
fn lazily_set_cells_survive_every_failing_call_or_count_as_unset() {
    // Two of them, then a batch that repeats one; and one that waits through a close.
    let two = count_of(1);
    let [set, again, batch, reopen] = [22, 23, 25, 20];
    let subjects = [(two + 2 * (set + WORDS * batch), 1), (two + 2 * (again + WORDS * reopen), 9)];
    let total = all(&subjects, sweep);
    assert_counted(&total, &["EIO", "EIO on a full disk", "poisoned"]);
}

#[test]
fn full_disk_of_any_size_refuses_entries_and_keeps_state_working() {
    let total = all(&[(3, 0), (13, 1), (27, 5)], sweep_full_disk);
    assert_counted(&total, &["disk sizes", "refused, and went on", "too small to create a log"]);
}
