//! The explorer: any number of crash states of any number of programs, and the sweeps of faults and
//! of rot, from one seed.
//!
//! `cargo run --release -p indelible-lab --bin explore -- --states 1000000 --seed 1`
#![expect(clippy::print_stdout, reason = "the summary is what it is for")]
#![expect(clippy::print_stderr, reason = "progress is for people")]
#![expect(clippy::disallowed_methods, reason = "a program that is timed, not the engine")]

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indelible::testing::config::CONFIGS;
use indelible::testing::exchange::{sweep_names, sweep_older};
use indelible::testing::explore::{Effort, Subject, Tally, Violation, explore};
use indelible::testing::faults::{sweep, sweep_full_disk};
use indelible::testing::program::count_of;
use indelible::testing::rot::{self, SHAPES};

const USAGE: &str = "\
usage: explore [--sweep KIND] [--states N] [--seed S] [--threads T] [--start N] [--only SUBJECT]
  --sweep KIND   crashes (default), programs (crashes of every program of up to three steps), faults,
                 disks (full at every size), rot, crashrot (a power cut, and one bad bit, sector or
                 block), older (older copies of files and slots), or names (segments renamed,
                 swapped, twice, or of another log)
  --states N     stop after N states (default 1000000 for crashes; a sweep goes on to its end)
  --seed S       everything follows from it (default 1)
  --threads T    default 1
  --start N      begin with piece of work number N (default 0)
  --only SUBJECT explore one program: small:NUMBER:CONFIG or drawn:SEED:CONFIG; of rot, older
                 and names the log small:N:0, which is shape N / 2, closed if N is odd; of crashrot
                 shape N";

/// How often progress is printed, at most.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// More pieces than any sweep has.
const PIECES_MAX: u64 = 1 << 20;
/// After so many violations there is enough to look at.
const VIOLATIONS_MAX: usize = 20;

/// What is done with each subject.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sweep {
    Crashes,
    Programs,
    Faults,
    Disks,
    Rot,
    CrashRot,
    Older,
    Names,
}

impl Sweep {
    const ALL: [Self; 8] = [
        Self::Crashes,
        Self::Programs,
        Self::Faults,
        Self::Disks,
        Self::Rot,
        Self::CrashRot,
        Self::Older,
        Self::Names,
    ];

    /// As the command line has it.
    const fn name(self) -> &'static str {
        match self {
            Self::Crashes => "crashes",
            Self::Programs => "programs",
            Self::Faults => "faults",
            Self::Disks => "disks",
            Self::Rot => "rot",
            Self::CrashRot => "crashrot",
            Self::Older => "older",
            Self::Names => "names",
        }
    }
}

struct Arguments {
    sweep: Sweep,
    states: Option<u64>,
    seed: u64,
    threads: u64,
    start: u64,
    only: Option<Subject>,
}

/// What was asked for; nothing if it was how to ask.
fn arguments() -> Result<Option<Arguments>, String> {
    let (sweep, states) = (Sweep::Crashes, None);
    let mut parsed = Arguments { sweep, states, seed: 1, threads: 1, start: 0, only: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if matches!(word.as_str(), "--help" | "-h") {
            return Ok(None);
        }
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        let number = || value.parse().map_err(|_| format!("{value} is no number"));
        match word.as_str() {
            "--sweep" => {
                let known = Sweep::ALL.into_iter().find(|sweep| sweep.name() == value);
                parsed.sweep = known.ok_or_else(|| format!("{value} is no kind of sweep"))?;
            }
            "--states" => parsed.states = Some(number()?),
            "--seed" => parsed.seed = number()?,
            "--threads" => parsed.threads = number()?,
            "--start" => parsed.start = number()?,
            "--only" => parsed.only = Some(value.parse().map_err(str::to_owned)?),
            _ => return Err(format!("{word} is not known")),
        }
    }
    Ok(Some(parsed))
}

/// The subjects of an exploration in turn, without an end: small programs and drawn ones alternate.
fn explored(number: u64, seed: u64) -> Subject {
    let half = number / 2;
    if number.is_multiple_of(2)
        && let Some(small) = small(half, seed)
    {
        return small;
    }
    let config = usize::try_from(half % CONFIGS.len() as u64).unwrap_or(0);
    Subject::Drawn(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number, config)
}

/// Every program of up to three steps, each under one combination of options; which one it is
/// follows from the seed, so that as many seeds as there are combinations have had them all.
fn small(number: u64, seed: u64) -> Option<Subject> {
    let configs = CONFIGS.len() as u64;
    let config = usize::try_from((number + seed % configs) % configs).unwrap_or(0);
    let exists = number < (1..=3).map(count_of).sum::<u64>();
    exists.then_some(Subject::Small(number, config))
}

/// The subjects of a sweep in turn, as far as there are any: every program of one step under every
/// combination of options, those of two steps under one each, then a number of drawn ones.
fn swept(number: u64, seed: u64) -> Option<Subject> {
    const DRAWN: u64 = 400;
    let configs = CONFIGS.len() as u64;
    let config = usize::try_from(number % configs).unwrap_or(0);
    let one = count_of(1) * configs;
    let two = one + count_of(2);
    if number < one {
        Some(Subject::Small(number / configs, config))
    } else if number < two {
        Some(Subject::Small(count_of(1) + number - one, config))
    } else {
        (number < two + DRAWN).then_some(Subject::Drawn(seed ^ number, config))
    }
}

/// Parts of the rot sweep of one log: it is the longest work on one subject.
const ROT_PARTS: u64 = 64;

/// The log with a number, of those of every shape under every combination of options, and the cut
/// with a number; after the last of them the first one again, with the next cut.
fn cut(number: u64) -> (Subject, u64) {
    let (configs, shapes) = (CONFIGS.len() as u64, SHAPES.len() as u64);
    let config = usize::try_from(number / shapes % configs).unwrap_or(0);
    (Subject::Small(number % shapes, config), number / shapes / configs)
}

/// The piece of work with a number, if there is one: a subject, and which part of it.
fn work(arguments: &Arguments, number: u64) -> Option<(Subject, u64)> {
    match (arguments.sweep, arguments.only) {
        (Sweep::Rot | Sweep::Older | Sweep::Names, Some(only)) => {
            (number < ROT_PARTS).then_some((only, number))
        }
        // A log of one shape, after a close or after a crash.
        (Sweep::Rot | Sweep::Older | Sweep::Names, None) => {
            let subject = Subject::Small(number / ROT_PARTS, 0);
            (number < 2 * SHAPES.len() as u64 * ROT_PARTS).then_some((subject, number % ROT_PARTS))
        }
        (Sweep::CrashRot, Some(only)) => Some((only, number)),
        (Sweep::CrashRot, None) => Some(cut(number)),
        (_, Some(only)) => (number == arguments.start).then_some((only, 0)),
        (Sweep::Crashes, None) => Some((explored(number, arguments.seed), 0)),
        (Sweep::Programs, None) => small(number, arguments.seed).map(|it| (it, 0)),
        (Sweep::Faults | Sweep::Disks, None) => swept(number, arguments.seed).map(|it| (it, 0)),
    }
}

fn carry_out(
    sweep_kind: Sweep,
    seed: u64,
    (subject, part): (Subject, u64),
) -> (Tally, Option<Violation>) {
    match (sweep_kind, subject) {
        (Sweep::Crashes | Sweep::Programs, _) => explore(subject, seed, Effort::LARGE),
        (Sweep::Faults, _) => sweep(subject, seed),
        (Sweep::Disks, _) => sweep_full_disk(subject, seed),
        (Sweep::CrashRot, Subject::Small(shape, config)) => {
            let shape = usize::try_from(shape).unwrap_or(0);
            rot::sweep_cut((shape, config), seed, part..part + 1, rot::Density::SMALL)
        }
        (_, Subject::Small(number, _)) => {
            let (shape, closed) = (usize::try_from(number / 2).unwrap_or(0), number % 2 == 1);
            let part = rot::Share::new(part, ROT_PARTS);
            match sweep_kind {
                Sweep::Older => sweep_older(shape, closed, seed, part),
                Sweep::Names => sweep_names(shape, closed, seed, part),
                _ => rot::sweep_share(shape, closed, seed, rot::Density::FULL, part),
            }
        }
        _ => (Tally::default(), None),
    }
}

/// What all threads have done so far.
struct Done {
    tally: Tally,
    violations: Vec<Violation>,
    pieces: u64,
    reported: Instant,
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let started = Instant::now();
    let unbounded = matches!(arguments.sweep, Sweep::Crashes | Sweep::CrashRot);
    let states_max = arguments.states.unwrap_or(if unbounded { 1_000_000 } else { u64::MAX });
    let (tally, violations) = (Tally::default(), Vec::new());
    let total = Mutex::new(Done { tally, violations, pieces: 0, reported: started });
    let (next, done) = (AtomicU64::new(arguments.start), AtomicBool::new(false));
    let exists = |number: &u64| !unbounded && work(&arguments, *number).is_some();
    let pieces = (arguments.start..PIECES_MAX).take_while(exists).count();
    let run = || {
        while !done.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(piece) = work(&arguments, number) else { return };
            let (tally, violation) = carry_out(arguments.sweep, arguments.seed, piece);
            let Ok(mut total) = total.lock() else { return };
            total.tally.add(&tally);
            total.pieces += 1;
            let failed = violation.is_some();
            if let Some(violation) = violation {
                eprintln!("violation: {violation}");
                total.violations.push(violation);
            }
            let enough =
                total.tally.states >= states_max || total.violations.len() >= VIOLATIONS_MAX;
            if failed || enough || total.reported.elapsed() >= REPORT_EVERY {
                total.reported = Instant::now();
                let (seconds, states) = (started.elapsed().as_secs(), total.tally.states);
                let of = if pieces > 0 { format!(" of {pieces}") } else { String::new() };
                let (count, subject) = (total.pieces, piece.0);
                let rate = states / seconds.max(1);
                eprintln!(
                    "{seconds} s: {count}{of} pieces, {states} states ({rate}/s), at {subject}"
                );
            }
            if enough {
                done.store(true, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..arguments.threads {
            scope.spawn(run);
        }
        run();
    });
    let Ok(Done { tally, violations, .. }) = total.into_inner() else { return ExitCode::FAILURE };
    summarise(&arguments, &tally, &violations, started)
}

/// Prints the last line, and how to see each violation again.
fn summarise(
    arguments: &Arguments,
    tally: &Tally,
    violations: &[Violation],
    started: Instant,
) -> ExitCode {
    let (seed, count) = (arguments.seed, violations.len());
    let name = arguments.sweep.name();
    println!("{name}: {tally}; violations {count} (seed {seed}, {:?})", started.elapsed());
    for violation in violations {
        println!(
            "replay: cargo run --release -p indelible-lab --bin explore -- --sweep {name} --seed {seed} --only {}",
            violation.subject
        );
    }
    if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
