//! A bounded crash exploration. The unbounded one is the program `explore`; docs/TESTING.md.
#![expect(
    clippy::case_sensitive_file_extension_comparisons,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails, says how far it went, and its files have the engine's own names"
)]

use std::sync::Arc;

use indelible::io::sim::{Moment, Persistence, Rot, SimDisk};
use indelible::testing::config::CONFIGS;
use indelible::testing::explore::{Effort, Subject, Tally, explore, explore_program};
use indelible::testing::program::{Change, Lazily, Program, Step, count_of};
use indelible::{Batch, Error, Log, Options, WriteMode};

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

/// Both slots lost the mark of a create with one sync, because it is in the first sector of each: but a
/// sector can be cut, and then both were unreadable.
#[test]
fn create_that_is_cut_leaves_a_log_or_none() {
    let options = Options::new().tiny_segments(8 * 1024).background(false);
    let (mut finished, mut none) = (0, 0);
    let whole = SimDisk::new(1);
    drop(Log::create_in(Arc::new(whole.clone()), &options).unwrap());
    for call in 0..whole.calls() {
        let disk = SimDisk::new(1);
        disk.crash_at_call(call, Moment::Before);
        let _cut_short = Log::create_in(Arc::new(disk.clone()), &options);
        // The slots are written last.
        for seed in 0..if call + 8 < whole.calls() { 40 } else { 1000 } {
            let disk = disk.crash_copy(Persistence::Random(seed));
            match Log::open_in(Arc::new(disk), &options) {
                Ok((log, _)) => {
                    assert_eq!(log.next(), 0);
                    finished += 1;
                }
                Err(Error::Missing { .. }) => none += 1,
                Err(error) => panic!("cut at call {call}, left {seed}: {error}"),
            }
        }
    }
    assert!(finished > 1000 && none > 100, "{finished} finished, {none} none");
}

/// The power fails before each call, and then one of the two slots cannot be read.
#[test]
fn inv_4_either_slot_leads_to_everything_acknowledged() {
    let options = Options::new().tiny_segments(8192).checkpoint_bytes(4096).background(false);
    let live = |disk: &SimDisk, acknowledged: &mut u64| -> indelible::Result<()> {
        let log = Log::create_in(Arc::new(disk.clone()), &options)?;
        for round in 1..=12_u8 {
            log.commit(Batch::new().set("promise", [round].as_slice()).append(vec![round; 1500]))?;
            *acknowledged = u64::from(round);
            if round % 4 == 0 {
                log.commit(Batch::new().trim(u64::from(round) - 3))?;
                log.maintain()?;
            }
        }
        log.close()
    };
    let (mut opened, mut rolls) = (0, 0);
    for call in 0..1000 {
        let (disk, mut acknowledged) = (SimDisk::new(1), 0);
        disk.crash_at_call(call, Moment::Before);
        let ended = live(&disk, &mut acknowledged);
        for persistence in [Persistence::Nothing, Persistence::Everything] {
            for slot in [0, 8] {
                let disk = disk.crash_with(persistence);
                if acknowledged == 0 {
                    continue;
                }
                for sector in slot..slot + 8 {
                    disk.rot("metadata", Rot::ZeroSector { sector }).unwrap();
                }
                let (log, _) = Log::open_in(Arc::new(disk), &options).unwrap();
                let promise = u64::from(log.cell("promise").unwrap()[0]);
                assert!(promise >= acknowledged, "call {call}: {promise} of {acknowledged}");
                assert_eq!(log.next(), promise, "call {call}");
                for index in log.first()..log.next() {
                    assert_eq!(u64::from(log.entry(index).unwrap()[0]), index + 1);
                }
                opened += 1;
                rolls = rolls.max(log.stats().segments);
            }
        }
        if ended.is_ok() {
            break;
        }
    }
    assert!(opened > 200 && rolls > 1, "{opened} opens, {rolls} segments");
}

/// `small:23799:11`, seed 2027. A power cut tore the sector in which the header of the newest batch
/// was, so an open did not see it, and gave its number again. The next power cut tore the same
/// sector the other way round, and the dropped batch stood in the place of the one written over it.
#[test]
fn number_of_a_batch_whose_header_was_torn_is_never_given_again() {
    let options = Options::new().background(false).tiny_segments(8 * 1024);
    let open = |disk: SimDisk| Log::open_in(Arc::new(disk), &options).unwrap().0;
    let disk = SimDisk::new(1);
    let log = Log::create_in(Arc::new(disk.clone()), &options).unwrap();
    log.append(&[1; 100]).unwrap();
    log.submit(Batch::new().append([2; 100].as_slice())).unwrap();
    drop(log.read(1..2).unwrap());
    let mut files = disk.kill().image();
    let tail = files.iter().position(|(name, _)| name.ends_with(".seg")).unwrap();
    let whole = files[tail].1.clone();
    // Each entry has a frame of 136 bytes; a few bytes of the header get lost.
    let frame = 4096 + 136..4096 + 2 * 136;
    files[tail].1[frame.start + 8..frame.start + 10].fill(0xa5);
    let disk = SimDisk::from_image(2, &files);
    let log = open(disk.clone());
    assert_eq!(log.next(), 1);
    log.submit(Batch::new().append([3; 100].as_slice())).unwrap();
    drop(log.read(1..2).unwrap());
    let mut files = disk.kill().image();
    let tail = files.iter().position(|(name, _)| name.ends_with(".seg")).unwrap();
    files[tail].1[frame.clone()].copy_from_slice(&whole[frame]);
    let log = open(SimDisk::from_image(3, &files));
    assert_eq!(log.next(), 1);
}
