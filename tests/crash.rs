//! A bounded crash exploration. The unbounded one is the program `explore`; docs/TESTING.md.
#![cfg(feature = "testing")]
#![expect(clippy::panic, clippy::print_stdout, reason = "a test fails, and says how far it went")]

use indelible::testing::config::CONFIGS;
use indelible::testing::explore::{Effort, Subject, Tally, explore};
use indelible::testing::program::count_of;

fn explore_all(subjects: impl Iterator<Item = Subject>) -> Tally {
    let mut total = Tally::default();
    for subject in subjects {
        let (tally, violation) = explore(subject, 1, Effort::SMALL);
        if let Some(violation) = violation {
            panic!("{violation}\nexplore --seed 1 --only {subject}");
        }
        total.add(&tally);
    }
    println!("{total}");
    total
}

#[test]
fn every_program_of_one_step_survives_every_crash() {
    let configs = CONFIGS.len();
    let numbers = 0..count_of(1);
    let total = explore_all(numbers.flat_map(|n| {
        let spread = usize::try_from(n).unwrap();
        [Subject::Small(n, spread % configs), Subject::Small(n, (spread + 3) % configs)]
    }));
    assert!(total.states > 5_000, "{total}");
    for kind in ["before a sync", "before a rename", "before a directory sync", "process killed"] {
        assert!(total.kinds.get(kind).is_some_and(|count| *count > 0), "no crash {kind}: {total}");
    }
}

/// A sample: one in eleven, another residue under each combination of options.
#[test]
fn programs_of_two_steps_survive_every_crash() {
    let numbers = (count_of(1)..count_of(1) + count_of(2)).step_by(11);
    let total = explore_all(numbers.map(|n| Subject::Small(n, usize::try_from(n % 8).unwrap())));
    assert!(total.states > 5_000, "{total}");
}

#[test]
fn long_programs_survive_every_crash() {
    let total = explore_all((0..24).map(|n| Subject::Drawn(n, usize::try_from(n % 8).unwrap())));
    assert!(total.states > 5_000, "{total}");
}
