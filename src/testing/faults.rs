//! Fault sweeps: every call of a program fails in turn, and the disk is full at every size.
//!
//! Owns: which faults, and what must hold afterwards: nothing is acknowledged that is not durable;
//! a failure poisons the log or is typed and changes nothing; what was durable stays readable; and
//! a reopen returns what was acknowledged, also when the page cache says more.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::config::Config;
use super::expected::Expected;
use super::explore::{Subject, Tally, Violation, guarded};
use super::program::{Change, Lazily, Program, Step};
use super::run::{Runner, Stop};
use crate::batch::Batch;
use crate::error::Error;
use crate::io::sim::{Fault, Op, Persistence, Repeat, SimDisk};
use crate::log::Log;
use crate::recovery::Verdict;

/// A kind of fault, and which calls it meets.
#[derive(Debug, Clone, Copy)]
struct Kind {
    name: &'static str,
    fault: Fault,
    repeat: Repeat,
    /// Calls of this kind only.
    op: Option<Op>,
    space: Space,
}

/// The kinds of a sweep.
const KINDS: [Kind; 14] = {
    use Repeat::{Forever, Once};
    const fn any(name: &'static str, fault: Fault, repeat: Repeat) -> Kind {
        Kind { name, fault, repeat, op: None, space: Space::Enough }
    }
    const fn in_syncs(name: &'static str, space: Space) -> Kind {
        Kind { name, fault: Fault::Io, repeat: Forever, op: Some(Op::Sync), space }
    }
    const fn full(repeat: Repeat) -> Kind {
        Kind { space: Space::None, ..any("EIO on a full disk", Fault::Io, repeat) }
    }
    [
        any("EIO", Fault::Io, Once),
        any("EIO", Fault::Io, Forever),
        any("EIO half done", Fault::IoPartial, Once),
        any("EIO half done", Fault::IoPartial, Forever),
        any("EIO, then EROFS", Fault::ReadOnly, Once),
        any("EIO, then EROFS", Fault::ReadOnly, Forever),
        any("ENOSPC", Fault::Full, Once),
        any("ENOSPC", Fault::Full, Forever),
        any("EMFILE", Fault::Shortage, Once),
        any("EMFILE", Fault::Shortage, Forever),
        in_syncs("EIO in every sync", Space::Enough),
        full(Once),
        full(Forever),
        in_syncs("EIO in every sync on a full disk", Space::None),
    ]
};

/// Whether there is space for more than the empty log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Space {
    Enough,
    /// State goes into the slots of the metadata file, entries are refused.
    None,
}

/// Lets every call of a program fail, once and for good, in every way; on a full disk too.
pub fn sweep(subject: Subject, seed: u64) -> (Tally, Option<Violation>) {
    swept(&subject, seed, |program, tally| {
        for space in [Space::Enough, Space::None] {
            let calls = calls_of(program, subject.config(), seed, space)?;
            for kind in KINDS.iter().filter(|kind| kind.space == space) {
                for call in calls.clone() {
                    let mut run = Run { subject: &subject, program, seed, tally };
                    run.with_fault(kind, call).map_err(|what| {
                        format!("{what}; {} {:?} in call {call}", kind.name, kind.repeat)
                    })?;
                }
            }
        }
        let mut run = Run { subject: &subject, program, seed, tally };
        run.with_failing_writeback()
    })
}

/// Runs a program on disks of every size in steps of 4 KiB.
pub fn sweep_full_disk(subject: Subject, seed: u64) -> (Tally, Option<Violation>) {
    swept(&subject, seed, |program, tally| {
        let mut runner = Runner::new(subject.config(), seed);
        whole_program(&mut runner, program, Space::Enough).map_err(said)?;
        let needed = runner.disk.used() + 8 * subject.config().segment_bytes;
        for capacity in (0..=needed).step_by(4096) {
            let mut run = Run { subject: &subject, program, seed, tally };
            run.with_capacity(capacity).map_err(|what| format!("{what}; {capacity} bytes"))?;
        }
        Ok(())
    })
}

/// Runs a check of a program, and says which one with what is wrong.
fn swept(
    subject: &Subject,
    seed: u64,
    check: impl FnOnce(&Program, &mut Tally) -> Result<(), String>,
) -> (Tally, Option<Violation>) {
    let program = subject.program();
    let (tally, violation) = guarded(subject, seed, |tally| check(&program, tally));
    let violation = violation.map(|it| {
        let what = format!("{}; program {program:?}", it.what);
        Violation { what, ..it }
    });
    (tally, violation)
}

fn said(stop: Stop) -> String {
    match stop {
        Stop::Violation(what) => what,
        Stop::Failed(error) => error.to_string(),
    }
}

/// Creates a log, and leaves it no space if so it is to be: not for another segment, and not in the
/// first one either.
fn begin(runner: &mut Runner, space: Space) -> Result<(), Stop> {
    const ENTRIES_MAX: u64 = 200;
    runner.create()?;
    if space == Space::Enough {
        return Ok(());
    }
    runner.disk.set_capacity(Some(runner.disk.used()));
    for bytes in [900, 0] {
        let refused = runner.refused;
        for _ in 0..ENTRIES_MAX {
            if runner.refused == refused {
                runner.step(&Step::Commit(vec![Change::Append { count: 1, bytes }]))?;
            }
        }
    }
    Ok(())
}

fn whole_program(runner: &mut Runner, program: &Program, space: Space) -> Result<(), Stop> {
    begin(runner, space)?;
    program.steps.iter().try_for_each(|step| runner.step(step))
}

/// The calls that are to fail in turn: all that a program makes when nothing else fails, without
/// those that fill the disk. A kill starts a new count, so the largest.
fn calls_of(
    program: &Program,
    config: &Config,
    seed: u64,
    space: Space,
) -> Result<RangeInclusive<u64>, String> {
    let mut runner = Runner::new(config, seed);
    let mut first = 1;
    if space == Space::None {
        runner.lenient();
        begin(&mut runner, space).map_err(said)?;
        first = runner.disk.calls() + 1;
        runner = Runner::new(config, seed);
        runner.lenient();
    }
    whole_program(&mut runner, program, space).map_err(said)?;
    Ok(first..=runner.disk.calls())
}

struct Run<'a> {
    subject: &'a Subject,
    program: &'a Program,
    seed: u64,
    tally: &'a mut Tally,
}

impl Run<'_> {
    fn with_fault(&mut self, kind: &Kind, call: u64) -> Result<(), String> {
        let (fault, repeat) = (kind.fault, kind.repeat);
        let mut runner = Runner::new(self.subject.config(), self.seed);
        runner.lenient();
        match kind.op {
            None => runner.disk.fail_call(call, fault, repeat),
            Some(op) => runner.disk.fail_from(call, op, fault, repeat),
        }
        let ended = whole_program(&mut runner, self.program, kind.space);
        if runner.disk.counts().faults > 0 {
            self.tally.count(kind.name);
        }
        let failed = match ended {
            Ok(()) => false,
            Err(Stop::Violation(what)) => return Err(what),
            Err(Stop::Failed(error)) => {
                if fault != Fault::Shortage {
                    self.check_poisoned(&runner, &error, repeat)?;
                } else if !matches!(error, Error::Exhausted { .. }) {
                    return Err(format!("a shortage comes back as {error}"));
                }
                true
            }
        };
        if fault == Fault::Shortage && runner.is_poisoned() {
            return Err("a shortage poisons".to_owned());
        }
        // Whatever is called durable now is held against what a reopen finds.
        runner.note_durable();
        runner.in_memory.add_to(self.tally);
        if runner.refused > 0 {
            self.tally.count("refused, and went on");
        }
        if repeat == Repeat::Forever && kind.op.is_none() && failed {
            self.reopen_on_failing_disk(&runner, fault)?;
        }
        self.reopen_every_way(&runner)
    }

    /// A failed write or sync ends the life of the log; what was durable can still be read.
    fn check_poisoned(
        &mut self,
        runner: &Runner,
        error: &Error,
        repeat: Repeat,
    ) -> Result<(), String> {
        let Some(log) = runner.log.as_ref().filter(|_| runner.fatal) else {
            self.tally.count("failed outside of a batch");
            return Ok(());
        };
        if !matches!(error, Error::Io { .. } | Error::Poisoned { .. }) {
            return Err(format!("a failure came back as {error}"));
        }
        if !log.stats().poisoned {
            return Err(format!("not poisoned after {error}"));
        }
        let later: [(&str, crate::Result<()>); 4] = [
            ("append", log.append(b"late").map(|_| ())),
            ("set", log.commit(Batch::new().set("late", b"late".as_slice())).map(|_| ())),
            ("set lazily", log.set_lazily("late", b"late")),
            ("maintain", log.maintain()),
        ];
        for (call, result) in later {
            if !matches!(result, Err(Error::Poisoned { .. } | Error::Closed)) {
                return Err(format!("{call} on a poisoned log answers {result:?}"));
            }
        }
        let closed = matches!(log.entry(log.first()), Err(Error::Closed));
        if repeat == Repeat::Once && !closed {
            let (first, durable) = (log.first(), log.durable());
            let expected = runner.expected.lock();
            for index in first..durable {
                let got = log.entry(index).map_err(|error| {
                    format!("entry {index} is durable and not readable after a failure: {error}")
                })?;
                let right = |model: &Arc<super::model::Model>| {
                    model.entry(index).is_some_and(|entry| entry[..] == got[..])
                };
                if !expected.allowed.iter().any(right) {
                    return Err(format!("entry {index} is read wrong after a failure"));
                }
            }
        }
        self.tally.count("poisoned");
        Ok(())
    }

    fn reopen_on_failing_disk(&mut self, runner: &Runner, fault: Fault) -> Result<(), String> {
        let disk = runner.disk.kill_copy();
        disk.fail_call(1, fault, Repeat::Forever);
        self.tally.count("reopened on a failing disk");
        let expected = runner.expected.lock().clone();
        match Log::open_in(Arc::new(disk), &runner.options) {
            Ok((log, _)) => match expected.check_state(&log) {
                Ok(_) | Err(Stop::Failed(Error::Io { .. })) => Ok(()),
                Err(stop) => Err(said(stop)),
            },
            Err(Error::Damaged { .. }) => Err("a failing disk is called damaged".to_owned()),
            Err(_) => Ok(()),
        }
    }

    /// Whatever becomes of the machine, the log opens and holds what was acknowledged; and what an
    /// open has shown is durable.
    fn reopen_every_way(&mut self, runner: &Runner) -> Result<(), String> {
        let expected = runner.expected.lock().clone();
        let ways = [
            ("kill", runner.disk.kill_copy()),
            ("nothing survives", runner.disk.crash_copy(Persistence::Nothing)),
            ("everything survives", runner.disk.crash_copy(Persistence::Everything)),
            ("some survives", runner.disk.crash_copy(Persistence::Random(self.seed))),
        ];
        for (way, disk) in ways {
            disk.clear_faults();
            self.reopen(&expected, &disk, runner)
                .map_err(|what| format!("{what}; reopened after: {way}"))?;
        }
        Ok(())
    }

    fn reopen(
        &mut self,
        expected: &Expected,
        disk: &SimDisk,
        runner: &Runner,
    ) -> Result<(), String> {
        self.tally.states += 1;
        let opened = expected.check(Arc::new(disk.clone()), &runner.options);
        let Some((log, model)) = opened? else { return Ok(()) };
        // What was shown must not depend on a page cache that tells more than the medium has.
        let after = disk.crash_with(Persistence::Nothing);
        let exactly = Expected::exactly(&model, log.newest_ticket().sequence());
        drop(log);
        self.tally.states += 1;
        let opened = exactly.check(Arc::new(after.clone()), &runner.options);
        let Some((log, _)) = opened.map_err(|what| format!("{what}; after one more power cut"))?
        else {
            return Err("the log is gone".to_owned());
        };
        after.set_capacity(None);
        log.append(b"onward").and_then(|ticket| ticket.wait()).map_err(|it| it.to_string())?;
        log.close().map_err(|error| error.to_string())
    }

    /// The kernel writes a file back by itself and fails, after each step, for each file.
    fn with_failing_writeback(&mut self) -> Result<(), String> {
        for at in 0..self.program.steps.len() {
            for nth in 0..8 {
                let mut runner = Runner::new(self.subject.config(), self.seed);
                let (before, after) = self.program.steps.split_at(at + 1);
                runner.create().map_err(said)?;
                before.iter().try_for_each(|step| runner.step(step)).map_err(said)?;
                let image = runner.disk.image();
                let Some((name, _)) = image.get(nth) else { break };
                runner.lenient();
                let failed = runner.disk.fail_writeback(name);
                failed.map_err(|error| error.to_string())?;
                self.tally.count("EIO in a write-back");
                let went_on = after.iter().try_for_each(|step| runner.step(step));
                if let Err(Stop::Violation(what)) = went_on {
                    return Err(format!("{what}; write-back of {name} failed after step {at}"));
                }
                // The first sync reports the failure and the second does not, by whomever.
                let disk = runner.disk.kill_copy();
                let expected = runner.expected.lock().clone();
                drop(Log::open_in(Arc::new(disk.clone()), &runner.options));
                let disk = disk.kill_copy();
                self.reopen(&expected, &disk, &runner)
                    .map_err(|what| format!("{what}; write-back of {name}, step {at}"))?;
                self.reopen_every_way_but_kill(&runner)
                    .map_err(|what| format!("{what}; write-back of {name}, step {at}"))?;
            }
        }
        Ok(())
    }

    fn reopen_every_way_but_kill(&mut self, runner: &Runner) -> Result<(), String> {
        let expected = runner.expected.lock().clone();
        for persistence in [Persistence::Nothing, Persistence::Everything] {
            self.reopen(&expected, &runner.disk.crash_copy(persistence), runner)?;
        }
        Ok(())
    }

    /// A disk of some size: whatever does not fit is refused and changes nothing; state, trims and
    /// reopening go on.
    fn with_capacity(&mut self, capacity: u64) -> Result<(), String> {
        let mut runner = Runner::new(self.subject.config(), self.seed);
        runner.lenient();
        runner.disk.set_capacity(Some(capacity));
        self.tally.count("disk sizes");
        match whole_program(&mut runner, self.program, Space::Enough) {
            Ok(()) => {}
            Err(Stop::Violation(what)) => return Err(what),
            Err(Stop::Failed(Error::DiskFull { .. })) if runner.log.is_none() => {
                self.tally.count("too small to create a log");
                return self.reopen_small(&runner);
            }
            Err(Stop::Failed(error)) => return Err(format!("a full disk is met as {error}")),
        }
        if runner.refused > 0 {
            self.tally.count("refused, and went on");
        }
        let lazily = Lazily::New { cell: 0, bytes: 16 };
        let state = [
            Step::Commit(vec![Change::Set { cell: 0, bytes: 16 }]),
            Step::Commit(vec![Change::Trim(1)]),
            Step::SetLazily(vec![lazily]),
            Step::Sync,
            Step::SetLazily(vec![lazily]),
            Step::Commit(vec![Change::SetAgain { cell: 0, value: 1 }]),
            Step::SetLazily(vec![lazily]),
            Step::Reopen,
            Step::Commit(vec![Change::Set { cell: 0, bytes: 16 }, Change::Trim(2)]),
            Step::Commit(vec![Change::Clear(3)]),
            Step::Sync,
        ];
        for step in &state {
            let refused = runner.refused;
            runner.step(step).map_err(said)?;
            if runner.refused > refused {
                return Err(format!("{step:?} is refused on a full disk"));
            }
        }
        self.tally.states += 1;
        let expected = runner.expected.lock().clone();
        let disk = runner.disk.crash_copy(Persistence::Nothing);
        let opened = expected.check(Arc::new(disk), &runner.options)?;
        opened.map(|_| ()).ok_or_else(|| "the log is gone".to_owned())
    }

    /// Nothing was created, or what there is of it is finished once there is space.
    fn reopen_small(&mut self, runner: &Runner) -> Result<(), String> {
        let expected = runner.expected.lock().clone();
        for disk in [runner.disk.kill_copy(), runner.disk.crash_copy(Persistence::Nothing)] {
            disk.set_capacity(None);
            self.tally.states += 1;
            if expected.check(Arc::new(disk.clone()), &runner.options)?.is_none() {
                let created = Log::create_in(Arc::new(disk), &runner.options);
                let log = created.map_err(|error| error.to_string())?;
                if log.recovery().verdict != Verdict::Created {
                    return Err("not created".to_owned());
                }
            }
        }
        Ok(())
    }
}
