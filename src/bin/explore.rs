//! The explorer: any number of crash states of any number of programs, and the sweeps of faults and
//! of rot, from one seed.
//!
//! `cargo run --release --features testing --bin explore -- --states 1000000 --seed 1`
#![expect(clippy::print_stdout, reason = "the summary is what it is for")]
#![expect(clippy::print_stderr, reason = "progress is for people")]
#![expect(clippy::disallowed_methods, reason = "a program that is timed, not the engine")]

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use indelible::testing::config::CONFIGS;
use indelible::testing::explore::{Effort, Subject, Tally, Violation, explore};
use indelible::testing::faults::{sweep, sweep_full_disk};
use indelible::testing::program::count_of;
use indelible::testing::rot::{self, SHAPES};

const USAGE: &str = "\
usage: explore [--sweep KIND] [--states N] [--seed S] [--threads T] [--start N] [--only SUBJECT]
  --sweep KIND   crashes (default), faults, disks (full at every size) or rot
  --states N     stop after N states (default 1000000; a sweep also stops at its end)
  --seed S       everything follows from it (default 1)
  --threads T    default 1
  --start N      begin with program number N (default 0)
  --only SUBJECT explore one program: small:NUMBER:CONFIG or drawn:SEED:CONFIG";

/// What is done with each subject.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sweep {
    Crashes,
    Faults,
    Disks,
    Rot,
}

struct Arguments {
    sweep: Sweep,
    states: u64,
    seed: u64,
    threads: u64,
    start: u64,
    only: Option<Subject>,
}

fn arguments() -> Result<Arguments, String> {
    let (sweep, states) = (Sweep::Crashes, 1_000_000);
    let mut parsed = Arguments { sweep, states, seed: 1, threads: 1, start: 0, only: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        let number = || value.parse().map_err(|_| format!("{value} is no number"));
        match word.as_str() {
            "--sweep" => {
                parsed.sweep = match value.as_str() {
                    "crashes" => Sweep::Crashes,
                    "faults" => Sweep::Faults,
                    "disks" => Sweep::Disks,
                    "rot" => Sweep::Rot,
                    _ => return Err(format!("{value} is no kind of sweep")),
                }
            }
            "--states" => parsed.states = number()?,
            "--seed" => parsed.seed = number()?,
            "--threads" => parsed.threads = number()?,
            "--start" => parsed.start = number()?,
            "--only" => parsed.only = Some(value.parse().map_err(str::to_owned)?),
            _ => return Err(format!("{word} is not known")),
        }
    }
    Ok(parsed)
}

/// The subjects of an exploration in turn: small programs and drawn ones alternate; small ones of up
/// to three steps, under every combination of options, and then drawn ones only.
fn explored(number: u64, seed: u64) -> Subject {
    let configs = CONFIGS.len() as u64;
    let config = usize::try_from(number / 2 % configs).unwrap_or(0);
    let (half, drawn) = (number / 2, number % 2 == 1);
    let small = (1..=3).map(count_of).sum::<u64>();
    if drawn || half / configs >= small {
        Subject::Drawn(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number, config)
    } else {
        Subject::Small(half / configs, config)
    }
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

/// The subject with a number, if there is one.
fn subject(arguments: &Arguments, number: u64) -> Option<Subject> {
    match arguments.sweep {
        _ if arguments.only.is_some() => arguments.only,
        Sweep::Crashes => Some(explored(number, arguments.seed)),
        // A log of one shape, after a close or after a crash.
        Sweep::Rot => {
            let shapes = 2 * SHAPES.len() as u64;
            (number < shapes).then_some(Subject::Small(number, 0))
        }
        Sweep::Faults | Sweep::Disks => swept(number, arguments.seed),
    }
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let started = Instant::now();
    let total = Mutex::new((Tally::default(), Vec::<Violation>::new()));
    let (next, done) = (AtomicU64::new(arguments.start), AtomicBool::new(false));
    let work = || {
        while !done.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(subject) = subject(&arguments, number) else { return };
            let seed = arguments.seed;
            let (tally, violation) = match arguments.sweep {
                Sweep::Crashes => explore(subject, seed, Effort::LARGE),
                Sweep::Faults => sweep(subject, seed),
                Sweep::Disks => sweep_full_disk(subject, seed),
                Sweep::Rot => {
                    let shape = usize::try_from(number / 2).unwrap_or(0);
                    rot::sweep(shape, number.is_multiple_of(2), seed, rot::Density::FULL)
                }
            };
            let Ok(mut total) = total.lock() else { return };
            total.0.add(&tally);
            let failed = violation.is_some();
            if let Some(violation) = violation {
                eprintln!("violation: {violation}");
                total.1.push(violation);
            }
            let enough = total.0.states >= arguments.states || total.1.len() >= 20;
            if failed || enough || total.0.programs % 256 == 0 {
                let seconds = started.elapsed().as_secs();
                let (states, programs) = (total.0.states, total.0.programs);
                eprintln!("{seconds} s: {programs} programs, {states} states, at {subject}");
            }
            if enough || arguments.only.is_some() {
                done.store(true, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..arguments.threads {
            scope.spawn(work);
        }
        work();
    });
    let Ok((tally, violations)) = total.into_inner() else { return ExitCode::FAILURE };
    let (seed, count) = (arguments.seed, violations.len());
    let name = match arguments.sweep {
        Sweep::Crashes => "crashes",
        Sweep::Faults => "faults",
        Sweep::Disks => "disks",
        Sweep::Rot => "rot",
    };
    println!("{name}: {tally}; violations {count} (seed {seed}, {:?})", started.elapsed());
    for violation in &violations {
        println!(
            "replay: cargo run --release --features testing --bin explore -- --sweep {name} --seed {seed} --only {}",
            violation.subject
        );
    }
    if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
