//! Crash exploration: the power fails before every call that changes the disk, and everything that
//! a crash there can leave is recovered and held against the oracle.
//!
//! Owns: where crashes happen, what survives them, what is done afterwards. Does not own: what is
//! right (`run`), what is done to the log (`program`).
//!
//! At each call: if few things are not durable, every subset of them survives in turn; otherwise
//! nothing, everything, and random parts with torn sectors. Then the log is opened. Some of these
//! opens, and what follows them, are themselves explored, so that crashes inside recovery and
//! crashes after crashes are met. Everything follows from one seed and the identity of the program.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::config::{CONFIGS, Config};
use super::expected::Expected;
use super::program::{Change, Lazily, Program, Step};
use super::run::{Runner, Stop};
pub(super) use super::tally::guarded;
pub use super::tally::{Tally, Violation};
use super::tap::{Look, Tap};
use crate::io::Directory;
use crate::io::sim::rng::Rng;
use crate::io::sim::{NameOrder, Op, Persistence, SimDisk};
use crate::log::Log;
use crate::log::shared::Shared;

/// Which program is explored, and under which of the [`CONFIGS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subject {
    /// The small program with this number.
    Small(u64, usize),
    /// The program drawn from this seed.
    Drawn(u64, usize),
}

impl Subject {
    /// The options it runs under.
    pub fn config(&self) -> &'static Config {
        let (Self::Small(_, config) | Self::Drawn(_, config)) = self;
        let [first, ..] = &CONFIGS;
        CONFIGS.get(config % CONFIGS.len()).unwrap_or(first)
    }

    /// The program itself.
    pub fn program(&self) -> Program {
        match self {
            Self::Small(number, _) => Program::numbered(*number),
            Self::Drawn(seed, _) => Program::drawn(*seed, self.config()),
        }
    }

    fn mix(&self, seed: u64) -> u64 {
        let (kind, number, config) = match self {
            Self::Small(number, config) => (1, *number, *config),
            Self::Drawn(number, config) => (2, *number, *config),
        };
        let mut rng = Rng::new(seed ^ kind);
        rng = Rng::new(rng.next() ^ number);
        rng.next() ^ config as u64
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Small(number, config) => write!(f, "small:{number}:{config}"),
            Self::Drawn(seed, config) => write!(f, "drawn:{seed}:{config}"),
        }
    }
}

impl FromStr for Subject {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "expected small:NUMBER:CONFIG or drawn:SEED:CONFIG";
        let mut parts = text.split(':');
        let (Some(kind), Some(number), Some(config), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong);
        };
        let number = number.parse().map_err(|_| wrong)?;
        let config = config.parse().map_err(|_| wrong)?;
        match kind {
            "small" => Ok(Self::Small(number, config)),
            "drawn" => Ok(Self::Drawn(number, config)),
            _ => Err(wrong),
        }
    }
}

/// How much is spent on each crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Effort {
    /// Up to this many undecided things every subset of them is tried.
    pub exhaustive_units: usize,
    /// Otherwise this many random ones beside nothing and everything.
    pub random: u64,
    /// One in so many recoveries is itself explored.
    pub nested_one_in: u64,
}

impl Effort {
    /// What a test in a debug build can afford.
    pub const SMALL: Self = Self { exhaustive_units: 1, random: 1, nested_one_in: 64 };
    /// What the explorer does.
    pub const LARGE: Self = Self { exhaustive_units: 4, random: 4, nested_one_in: 24 };
}

/// Explores one program.
pub fn explore(subject: Subject, seed: u64, effort: Effort) -> (Tally, Option<Violation>) {
    explore_program(&subject.program(), &subject, seed, effort)
}

/// Explores a program that need not be the subject's own; its options and seed are.
pub fn explore_program(
    program: &Program,
    subject: &Subject,
    seed: u64,
    effort: Effort,
) -> (Tally, Option<Violation>) {
    let explorer = Arc::new(Explorer {
        config: *subject.config(),
        effort,
        rng: Mutex::new(Rng::new(subject.mix(seed))),
        tally: Mutex::default(),
        violation: Mutex::default(),
        stopped: AtomicBool::new(false),
        place: Mutex::default(),
        watched: Mutex::default(),
    });
    let ran = catch_unwind(AssertUnwindSafe(|| explorer.run(program, subject.mix(seed))));
    // The log leads to the door, the door to the look, and the look to this.
    *explorer.watched.lock() = None;
    match ran {
        Ok(Ok(())) => {}
        Ok(Err(Stop::Violation(what))) => explorer.report(&what),
        Ok(Err(Stop::Failed(error))) => explorer.report(&format!("the run fails: {error}")),
        Err(_) => explorer.report("a panic, printed above"),
    }
    let violation = explorer.violation.lock().take().map(|what| Violation {
        subject: subject.to_string(),
        seed,
        what: format!("{what}; program {program:?}"),
    });
    let mut tally = explorer.tally.lock().clone();
    tally.programs = 1;
    (tally, violation)
}

struct Explorer {
    config: Config,
    effort: Effort,
    rng: Mutex<Rng>,
    tally: Mutex<Tally>,
    violation: Mutex<Option<String>>,
    stopped: AtomicBool,
    /// Where the exploration is, for people.
    place: Mutex<String>,
    /// The log, to hear at every call what it calls durable: another thread could. No handle of it,
    /// so its end is where it would be without.
    watched: Mutex<Option<Arc<Shared>>>,
}

/// What survives a crash.
#[derive(Debug, Clone, Copy)]
enum Left {
    Power(Persistence, NameOrder),
    Kill,
}

/// How deep crashes after crashes are followed.
const DEPTH_MAX: u32 = 2;

impl Explorer {
    fn below(&self, count: u64) -> u64 {
        self.rng.lock().below(count)
    }

    fn random(&self) -> Persistence {
        Persistence::Random(self.rng.lock().next())
    }

    fn report(&self, what: &str) {
        self.stopped.store(true, Ordering::Relaxed);
        let place = self.place.lock().clone();
        self.violation.lock().get_or_insert_with(|| format!("{what}; {place}"));
    }

    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    fn run(self: &Arc<Self>, program: &Program, seed: u64) -> Result<(), Stop> {
        let mut runner = Runner::new(&self.config, seed);
        if program.prelude == 0 {
            runner.look_with(self.look(&runner.expected, 0));
        }
        runner.create()?;
        self.watch(&runner);
        for (at, step) in program.steps.iter().enumerate() {
            if at == program.prelude && at > 0 {
                // From here on every call is explored. The look is part of the door, so the log
                // has to be opened through it.
                runner.kill();
                runner.look_with(self.look(&runner.expected, 0));
                runner.open()?;
            }
            *self.place.lock() = format!("in step {at}");
            runner.step(step)?;
            self.watch(&runner);
            if at >= program.prelude {
                let expected = runner.expected.lock().clone();
                let before = self.tally.lock().states;
                self.crash(&runner.disk, None, &expected, 0);
                if runner.in_memory.batches() > 1 {
                    let mut tally = self.tally.lock();
                    let states = tally.states - before;
                    tally.count_many("with several batches in memory", states);
                }
            }
            if self.stopped() {
                break;
            }
        }
        runner.in_memory.add_to(&mut self.tally.lock());
        stop_quietly(&runner.disk);
        Ok(())
    }

    fn watch(&self, runner: &Runner) {
        *self.watched.lock() = runner.log.as_ref().map(|log| Arc::clone(log.shared()));
    }

    /// Has the exploration look before each call.
    fn look(self: &Arc<Self>, expected: &Arc<Mutex<Expected>>, depth: u32) -> Look {
        let (explorer, expected) = (Arc::clone(self), Arc::clone(expected));
        Arc::new(move |disk, op| {
            let mut expected = expected.lock().clone();
            if depth == 0 {
                let watched = explorer.watched.lock();
                let durable = |log: &Arc<Shared>| log.durable_end();
                expected.heard(watched.as_ref().map_or(0, durable));
            }
            explorer.crash(disk, Some(op), &expected, depth);
        })
    }

    /// Cuts the power now, in every way worth trying.
    fn crash(self: &Arc<Self>, disk: &SimDisk, op: Option<Op>, expected: &Expected, depth: u32) {
        if self.stopped() {
            return;
        }
        for left in self.plan(disk.dirty_units(), depth) {
            let after = match left {
                Left::Power(persistence, order) => {
                    disk.set_name_order(order);
                    disk.crash_copy(persistence)
                }
                Left::Kill => disk.kill_copy(),
            };
            {
                let mut tally = self.tally.lock();
                tally.states += 1;
                tally.count(before(op));
                tally.count(survivors(&left));
                if depth > 0 {
                    tally.count("inside or after a recovery");
                }
            }
            if let Err(what) = self.recover(&after, expected, depth) {
                let calls = disk.calls();
                self.report(&format!(
                    "{what}; {left:?} {} (call {calls}, depth {depth})",
                    before(op)
                ));
            }
            stop_quietly(&after);
            if self.stopped() {
                return;
            }
        }
    }

    fn plan(&self, units: usize, depth: u32) -> Vec<Left> {
        use NameOrder::{Any, Prefix};
        let mut plan = Vec::new();
        let exhaustive = self.effort.exhaustive_units;
        if units == 0 {
            plan.push(Left::Power(Persistence::Nothing, Any));
        } else if depth == 0 && units <= exhaustive {
            let masks = (0..1_u64 << units).map(Persistence::Mask);
            plan.extend(masks.map(|mask| Left::Power(mask, Any)));
            plan.push(Left::Power(self.random(), Any));
        } else {
            plan.push(Left::Power(Persistence::Nothing, Any));
            plan.push(Left::Power(Persistence::Everything, Any));
            let random = if depth == 0 { self.effort.random } else { 1 };
            for _ in 0..random {
                let order = if self.below(4) == 0 { Prefix } else { Any };
                plan.push(Left::Power(self.random(), order));
            }
        }
        if depth == 0 && self.below(2) == 0 {
            plan.push(Left::Kill);
        }
        plan
    }

    /// Opens what a crash left, holds it against the oracle, and goes on with it.
    fn recover(
        self: &Arc<Self>,
        disk: &SimDisk,
        expected: &Expected,
        depth: u32,
    ) -> Result<(), String> {
        let expected = Arc::new(Mutex::new(expected.clone()));
        let nested = depth < DEPTH_MAX && self.below(self.effort.nested_one_in) == 0;
        let directory: Arc<dyn Directory> = if nested {
            Arc::new(Tap::new(disk, self.look(&expected, depth + 1)))
        } else {
            Arc::new(disk.clone())
        };
        let options = self.config.options();
        let allowed = expected.lock().clone();
        let Some((log, model)) = allowed.check(directory, &options)? else {
            let log = Log::create_in(Arc::new(disk.clone()), &options);
            return log.map(|_| ()).map_err(|error| format!("create after a crash: {error}"));
        };
        let newest = log.newest_ticket().sequence();
        *expected.lock() = Expected::exactly(&model, newest);
        let way = self.below(8);
        let mut runner = Runner::resume(&self.config, disk, log, model, expected, way);
        let went_on = self.go_on(&mut runner, way);
        stop_quietly(&runner.disk);
        went_on.map_err(|stop| match stop {
            Stop::Violation(what) => format!("after a recovery (way {way}): {what}"),
            Stop::Failed(error) => format!("after a recovery (way {way}): {error}"),
        })
    }

    /// What is done with a recovered log: nothing, one of several short lives, another crash.
    fn go_on(&self, runner: &mut Runner, way: u64) -> Result<(), Stop> {
        let grow = Change::Append { count: 1, bytes: 100 };
        let large = Change::Append { count: 4, bytes: 900 };
        let state = Change::Set { cell: 0, bytes: 16 };
        match way {
            0 => runner.step(&Step::Reopen),
            1 => self.cut(runner, Persistence::Nothing),
            2 => {
                runner.step(&Step::Commit(vec![grow, state]))?;
                runner.step(&Step::Sync)?;
                self.cut(runner, Persistence::Nothing)?;
                runner.step(&Step::Reopen)
            }
            3 => {
                for _ in 0..2 {
                    runner.step(&Step::Submit(vec![Change::Truncate(1), large, state]))?;
                    self.cut(runner, self.random())?;
                }
                runner.step(&Step::Reopen)
            }
            4 => {
                runner.step(&Step::Submit(vec![grow, grow, state]))?;
                runner.step(&Step::Submit(vec![grow, state]))?;
                self.cut(runner, self.random())?;
                runner.step(&Step::Commit(vec![large, Change::Trim(2)]))?;
                runner.step(&Step::Sync)?;
                self.cut(runner, self.random())
            }
            5 => {
                // Batches of one length: what is written next ends where a dropped one begins.
                for _ in 0..2 {
                    for _ in 0..3 {
                        runner.step(&Step::Submit(vec![grow]))?;
                    }
                    self.cut(runner, self.random())?;
                }
                runner.step(&Step::Reopen)
            }
            6 => {
                let lazily = |cell| Lazily::New { cell, bytes: 16 };
                runner.step(&Step::SetLazily(vec![lazily(0), lazily(4)]))?;
                runner.step(&Step::Submit(vec![grow]))?;
                runner.step(&Step::SetLazily(vec![lazily(4)]))?;
                self.cut(runner, self.random())?;
                runner.step(&Step::SetLazily(vec![lazily(4)]))?;
                runner.step(&Step::Reopen)
            }
            _ => Ok(()),
        }
    }

    /// Another crash, and another recovery.
    fn cut(&self, runner: &mut Runner, persistence: Persistence) -> Result<(), Stop> {
        {
            let mut tally = self.tally.lock();
            tally.states += 1;
            tally.count("inside or after a recovery");
        }
        runner.cut_power(persistence);
        runner.open()
    }
}

/// Ends a disk that nobody needs any more, so that closing its log costs nothing.
fn stop_quietly(disk: &SimDisk) {
    disk.crash_at_call(0, crate::io::sim::Moment::Before);
}

fn before(op: Option<Op>) -> &'static str {
    match op {
        None => "between steps",
        Some(Op::Create) => "before a creation",
        Some(Op::Open) => "before a distrustful open",
        Some(Op::Rename) => "before a rename",
        Some(Op::Remove) => "before a removal",
        Some(Op::SyncDirectory) => "before a directory sync",
        Some(Op::Write) => "before a write",
        Some(Op::Sync) => "before a sync",
        Some(_) => "before another call",
    }
}

fn survivors(left: &Left) -> &'static str {
    match left {
        Left::Kill => "process killed",
        Left::Power(Persistence::Nothing, _) => "nothing survived",
        Left::Power(Persistence::Everything, _) => "everything survived",
        Left::Power(Persistence::Mask(_), _) => "one subset of all survived",
        Left::Power(Persistence::Random(_), NameOrder::Any) => "random sectors and names survived",
        Left::Power(Persistence::Random(_), NameOrder::Prefix) => "random sectors, first names",
    }
}
