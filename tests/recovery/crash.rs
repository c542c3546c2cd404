//! A bounded crash exploration. The unbounded one is the program `explore`; docs/TESTING.md.
#![expect(
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails, and says how far it went"
)]

use indelible::WriteMode;
use indelible::testing::config::CONFIGS;
use indelible::testing::explore::{Effort, Subject, Tally, explore, explore_program};
use indelible::testing::program::{Change, Lazily, Program, Step, count_of};

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

fn assert_counted(total: &Tally, kinds: &[&str]) {
    for kind in kinds {
        assert!(total.kinds.get(kind).is_some_and(|count| *count > 0), "none {kind}: {total}");
    }
}

/// The combination of options of the program with a number.
fn spread(number: u64) -> usize {
    usize::try_from(number).unwrap() % CONFIGS.len()
}

#[test]
fn every_program_of_one_step_survives_every_crash() {
    let total = explore_all(
        (0..count_of(1))
            .flat_map(|n| [Subject::Small(n, spread(n)), Subject::Small(n, spread(n + 3))]),
    );
    assert!(total.states > 5_000, "{total}");
    assert_counted(
        &total,
        &["before a sync", "before a rename", "before a directory sync", "process killed"],
    );
}

/// A sample: one in eleven, another residue under each combination of options.
#[test]
fn programs_of_two_steps_survive_every_crash() {
    let numbers = (count_of(1)..count_of(1) + count_of(2)).step_by(11);
    let total = explore_all(numbers.map(|n| Subject::Small(n, spread(n))));
    assert!(total.states > 5_000, "{total}");
}

#[test]
fn long_programs_survive_every_crash() {
    let total = explore_all((0..24).map(|n| Subject::Drawn(n, spread(n))));
    assert!(total.states > 5_000, "{total}");
}

/// Every way in which frames leave the memory of the process, and crashes before they do.
#[test]
fn frames_in_memory_survive_in_order_or_not_at_all() {
    let append = |count, bytes| Change::Append { count, bytes };
    let submit = |count, bytes| Step::Submit(vec![append(count, bytes)]);
    let lazily = Step::SetLazily(vec![Lazily::New { cell: 0, bytes: 16 }]);
    let few = [submit(1, 300), submit(2, 100)];
    let programs = [
        // A sync takes them out, a third batch has them read, a large one fills the buffer.
        [&few[..], &[Step::Sync, submit(1, 40), Step::Maintain]].concat(),
        [&few[..], &[submit(1, 40), submit(1, 40), Step::Kill]].concat(),
        [&few[..], &[submit(7, 700), submit(1, 40), Step::Reopen]].concat(),
        // A roll, and a truncation of what waits.
        [&[submit(5, 900), submit(1, 40)], &few[..], &[submit(4, 900), Step::Sync]].concat(),
        [&few[..], &[Step::Submit(vec![Change::Truncate(2), append(1, 200)]), Step::Sync]].concat(),
        [&few[..], &[lazily, submit(1, 40), Step::Sync]].concat(),
    ];
    let buffered = CONFIGS.iter().enumerate();
    let buffered = buffered.filter(|(_, config)| config.write_mode == WriteMode::Buffered);
    let mut total = Tally::default();
    for (config, _) in buffered {
        for (number, steps) in programs.iter().enumerate() {
            let subject = Subject::Drawn(number as u64, config);
            let program = Program::new(steps.clone());
            let (tally, violation) = explore_program(&program, &subject, 1, Effort::SMALL);
            assert_eq!(violation, None, "program {number} under combination {config}");
            total.add(&tally);
        }
    }
    println!("{total}");
    assert_counted(
        &total,
        &[
            "with several batches in memory",
            "full buffers handed over",
            "frames handed over for a reader",
            "rolls with frames in memory",
        ],
    );
}
