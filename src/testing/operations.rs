//! Programs from bytes: any input is a program of mutations, crashes and faults on the simulated
//! disk, held against the model. For fuzzers, and for tests that draw the bytes from a seed.
//!
//! Owns: how bytes become a program with its mishaps. Does not own: the model and the oracle
//! (`model`, `run`), which know at every moment what a recovery may return.
//!
//! The first byte chooses the options. Then each byte chooses a step, and the bytes after it are
//! its numbers; where the input ends, zeros follow. Mishaps: a power cut that keeps any part of what
//! was not durable, a killed process, a call that fails (once or for good, `EIO`, half done,
//! `EROFS`, `ENOSPC`), a machine that stops at a call or inside it, also while it recovers, and a
//! disk that is full.

use super::config::CONFIGS;
use super::program::{Change, LARGE_BYTES, LARGE_CELLS, Lazily, Step};
use super::run::{Runner, Stop};
use crate::io::sim::{Fault, Moment, Persistence, Repeat};

/// Steps of one program, at most.
const STEPS_MAX: u32 = 40;
/// Crashes inside one recovery after another, at most.
const RECOVERIES_MAX: u32 = 4;

/// What a program came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Done {
    /// Steps that were carried out.
    pub steps: u64,
    /// Times the power was cut or the process killed.
    pub crashes: u64,
    /// Crashes that hit a recovery.
    pub crashes_in_recovery: u64,
    /// Calls that failed.
    pub faults: u64,
    /// Batches that a full disk refused.
    pub refused: u64,
    /// Times cells were set lazily.
    pub set_lazily: u64,
}

impl Done {
    /// Adds another one.
    pub fn add(&mut self, other: Self) {
        self.steps += other.steps;
        self.crashes += other.crashes;
        self.crashes_in_recovery += other.crashes_in_recovery;
        self.faults += other.faults;
        self.refused += other.refused;
        self.set_lazily += other.set_lazily;
    }
}

/// Carries out the program in `bytes`.
///
/// # Errors
/// The promise that was broken.
pub fn run(bytes: &[u8]) -> Result<Done, String> {
    let mut script = Script { bytes };
    let config = usize::from(script.byte()) % CONFIGS.len();
    let [first, ..] = &CONFIGS;
    let mut runner = Runner::new(CONFIGS.get(config).unwrap_or(first), 1);
    let outcome = runner.create();
    let mut course = Course { runner, done: Done::default(), rough: false };
    course.settle(outcome, &mut script)?;
    for _ in 0..STEPS_MAX {
        if script.bytes.is_empty() {
            break;
        }
        course.step(&mut script)?;
    }
    course.calm();
    let outcome = course.runner.step(&Step::Reopen);
    course.settle(outcome, &mut script)?;
    course.done.refused = course.runner.refused;
    Ok(course.done)
}

/// A program under way.
struct Course {
    runner: Runner,
    done: Done,
    /// Mishaps are planned, or a limit is set.
    rough: bool,
}

impl Course {
    fn step(&mut self, script: &mut Script<'_>) -> Result<(), String> {
        self.done.steps += 1;
        // The last kind is outside of the count, so that programs from before it mean the same.
        let kind = match script.byte() {
            240.. => 20,
            byte => byte % 20,
        };
        let step = match kind {
            0..=5 => Step::Commit(script.batch()),
            6..=8 => Step::Submit(script.batch()),
            9 => Step::Sync,
            10 => Step::Maintain,
            11 => Step::Reopen,
            12 => Step::Kill,
            13 | 14 => {
                let persistence = script.persistence();
                return self.crash(persistence, script);
            }
            15 | 16 => {
                self.plan_fault(script);
                return Ok(());
            }
            17 => {
                let call = self.runner.disk.calls() + 1 + u64::from(script.byte());
                let moment = if script.coin() { Moment::Within } else { Moment::Before };
                self.runner.disk.crash_at_call(call, moment);
                self.roughen();
                return Ok(());
            }
            18 => {
                let room = u64::from(script.byte()) * 512;
                self.runner.disk.set_capacity(Some(self.runner.disk.used() + room));
                self.roughen();
                return Ok(());
            }
            19 => {
                self.calm();
                return Ok(());
            }
            _ => {
                self.done.set_lazily += 1;
                Step::SetLazily(script.lazily())
            }
        };
        let outcome = self.runner.step(&step);
        if matches!(step, Step::Kill) {
            self.done.crashes += 1;
        }
        self.settle(outcome, script)
    }

    /// The oracle could not read, because the disk was told to fail.
    fn excused(&self, what: &str) -> bool {
        let disturbed = self.runner.disk.is_down() || self.runner.disk.counts().faults > 0;
        what.starts_with("a read fails") && disturbed
    }

    fn roughen(&mut self) {
        self.rough = true;
        self.runner.lenient();
    }

    /// Takes back what was planned.
    fn calm(&mut self) {
        self.runner.disk.clear_faults();
        self.runner.disk.set_capacity(None);
    }

    fn plan_fault(&mut self, script: &mut Script<'_>) {
        let call = self.runner.disk.calls() + 1 + u64::from(script.byte());
        let fault = match script.byte() % 5 {
            0 | 1 => Fault::Io,
            2 => Fault::IoPartial,
            3 => Fault::ReadOnly,
            4 => Fault::Shortage,
            _ => Fault::Full,
        };
        let repeat = if script.coin() { Repeat::Forever } else { Repeat::Once };
        self.runner.disk.fail_call(call, fault, repeat);
        self.roughen();
    }

    /// What follows an outcome: nothing, a verdict, or a restart of what failed.
    fn settle(&mut self, outcome: Result<(), Stop>, script: &mut Script<'_>) -> Result<(), String> {
        match outcome {
            Ok(()) => return Ok(()),
            Err(Stop::Violation(what)) if !self.excused(&what) => return Err(what),
            Err(Stop::Failed(error)) if !self.rough => {
                return Err(format!("fails without a reason: {error}"));
            }
            Err(_) => {}
        }
        if self.runner.disk.is_down() || script.coin() {
            let persistence = script.persistence();
            return self.crash(persistence, script);
        }
        self.done.crashes += 1;
        self.done.faults += self.runner.disk.counts().faults;
        self.runner.kill();
        self.recover(script)
    }

    fn crash(&mut self, persistence: Persistence, script: &mut Script<'_>) -> Result<(), String> {
        self.done.crashes += 1;
        self.done.faults += self.runner.disk.counts().faults;
        self.runner.cut_power(persistence);
        self.recover(script)
    }

    /// Opens what a crash left, through crashes while it does.
    fn recover(&mut self, script: &mut Script<'_>) -> Result<(), String> {
        self.calm();
        // An open that failed may have taken back the mark of the close before it.
        self.runner.expected.lock().closed = false;
        for _ in 0..RECOVERIES_MAX {
            let again = script.byte();
            if again % 4 != 3 {
                break;
            }
            self.runner.disk.crash_at_call(1 + u64::from(again / 4), Moment::Before);
            self.roughen();
            match self.runner.open() {
                Ok(()) => {
                    // It ends elsewhere, or never.
                    self.runner.disk.clear_faults();
                    return Ok(());
                }
                Err(Stop::Violation(what)) if !self.excused(&what) => return Err(what),
                Err(_) if self.runner.disk.is_down() => {
                    self.done.crashes_in_recovery += 1;
                    self.runner.cut_power(script.persistence());
                }
                Err(stop) => return Err(format!("open: {stop:?}")),
            }
        }
        match self.runner.open() {
            Ok(()) => Ok(()),
            Err(Stop::Violation(what)) => Err(what),
            Err(Stop::Failed(error)) => Err(format!("open after a crash: {error}")),
        }
    }
}

/// Reads numbers off the input.
struct Script<'a> {
    bytes: &'a [u8],
}

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        match self.bytes.split_first() {
            Some((byte, rest)) => {
                self.bytes = rest;
                *byte
            }
            None => 0,
        }
    }

    fn coin(&mut self) -> bool {
        self.byte() % 2 == 1
    }

    fn persistence(&mut self) -> Persistence {
        match self.byte() {
            0 => Persistence::Nothing,
            1 => Persistence::Everything,
            byte @ 2..=127 => Persistence::Random(u64::from(byte)),
            _ => {
                let mask = [self.byte(), self.byte(), self.byte(), self.byte()];
                Persistence::Mask(u64::from(u32::from_le_bytes(mask)))
            }
        }
    }

    fn batch(&mut self) -> Vec<Change> {
        (0..=self.byte() % 4).map(|_| self.change()).collect()
    }

    fn lazily(&mut self) -> Vec<Lazily> {
        let draw = |script: &mut Self| {
            let (cell, number) = (script.byte() % 5, script.byte());
            match number {
                // The big ones share a cell, so that all together fit.
                128.. if cell == 1 => Lazily::New { cell, bytes: u16::from(number) * 4 },
                128.. => Lazily::New { cell, bytes: u16::from(number % 32) },
                _ => Lazily::Again { cell, value: number % 3 },
            }
        };
        (0..=self.byte() % 3).map(|_| draw(self)).collect()
    }

    fn change(&mut self) -> Change {
        let kind = self.byte();
        let number = self.byte();
        let cell = number % 4;
        match kind % 16 {
            0..=4 => Change::Append { count: 1, bytes: u32::from(number) },
            5 | 6 => Change::Append { count: 1 + u32::from(number % 6), bytes: 700 },
            7 => Change::Append { count: 1, bytes: u32::from(number) * 48 },
            8 | 9 => Change::Truncate(u64::from(number % 12)),
            10 | 11 => Change::Trim(u64::from(number % 12)),
            12 if number.is_multiple_of(2) => Change::ResetAhead(u64::from(number)),
            12 => Change::ResetBack(u64::from(number % 8)),
            13 if number >= 224 => Change::SetAgain { cell, value: number % 3 },
            13 if number >= 160 => {
                Change::Set { cell: LARGE_CELLS.start + cell, bytes: LARGE_BYTES }
            }
            13 if cell == 1 => Change::Set { cell, bytes: u16::from(number) * 4 },
            13 => Change::Set { cell, bytes: u16::from(number % 32) },
            14 if number >= 192 => Change::Clear(LARGE_CELLS.start + cell),
            14 if number >= 128 => Change::Clear(cell),
            14 => Change::Share { from: cell, to: number / 4 % 4 },
            _ => Change::Attach { cell, bytes: u32::from(number) * 8 },
        }
    }
}
