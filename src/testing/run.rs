//! Carrying out a program, and knowing at every moment what a crash may leave.
//!
//! Owns: a log, the model of what readers see, and the states that lead from what was acknowledged to
//! it. Does not own: what a recovery is held against (`expected`), the making of batches (`build`),
//! where crashes happen (`explore`) or faults (`faults`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::build::{Built, inline};
use super::config::Config;
use super::expected::Expected;
use super::memory::{Frames, InMemory};
use super::model::{Model, Value, is_refusal};
use super::program::{Change, Lazily, Step};
use super::tap::{Look, Tap};
use crate::directory::side_file::SideFile;
use crate::error::Error;
use crate::format::CellValue;
use crate::io::Directory;
use crate::io::sim::{Persistence, SimDisk};
use crate::log::Log;
use crate::log::ticket::Ticket;
use crate::options::{Durability, Options};
use crate::recovery::Verdict;

/// Batches in a buffer at which everything is read back.
const READ_EVERY: usize = 3;

/// Why a run ended early.
#[derive(Debug)]
pub(super) enum Stop {
    /// A promise was broken.
    Violation(String),
    /// The log returned an error that ends its life, as after a fault it should.
    Failed(Error),
}

/// A log that a program is carried out on.
pub(super) struct Runner {
    pub(super) options: Options,
    pub(super) disk: SimDisk,
    pub(super) log: Option<Log>,
    /// What readers see.
    pub(super) model: Arc<Model>,
    /// What the last batch left.
    written: Arc<Model>,
    /// The cells that were set lazily since.
    pub(super) waiting: BTreeSet<String>,
    pub(super) expected: Arc<Mutex<Expected>>,
    pub(super) in_memory: InMemory,
    /// Batches that a capacity limit refused.
    pub(super) refused: u64,
    look: Option<Look>,
    /// A batch, a sync or a checkpoint has failed.
    pub(super) fatal: bool,
    /// Nothing goes wrong on the disk, so nothing may fail.
    strict: bool,
    /// The power was cut since the log was open, or a process killed that had a buffer.
    lossy: bool,
    /// The ticket that led to each state in `expected.allowed` but the first; none for a cell that
    /// was set lazily, and for a batch that changed nothing, whose ticket is another one's.
    tickets: Vec<Option<Ticket>>,
    pub(super) side_files: BTreeMap<String, SideFile>,
    /// Numbers the contents of entries and cells.
    pub(super) counter: u64,
}

impl Runner {
    pub(super) fn new(config: &Config, seed: u64) -> Self {
        let model = Arc::new(Model::default());
        let expected = Expected { allowed: vec![Arc::clone(&model)], ..Expected::default() };
        Self {
            options: config.options(),
            disk: SimDisk::new(seed),
            log: None,
            written: Arc::clone(&model),
            waiting: BTreeSet::new(),
            model,
            expected: Arc::new(Mutex::new(expected)),
            in_memory: InMemory::default(),
            refused: 0,
            fatal: false,
            look: None,
            strict: true,
            lossy: false,
            tickets: Vec::new(),
            side_files: BTreeMap::new(),
            counter: 0,
        }
    }

    /// Goes on with a log that was just recovered. `life` keeps its entries apart from others.
    pub(super) fn resume(
        config: &Config,
        disk: &SimDisk,
        log: Log,
        model: Arc<Model>,
        expected: Arc<Mutex<Expected>>,
        life: u64,
    ) -> Self {
        let written = Arc::clone(&model);
        let mut runner =
            Self { disk: disk.clone(), model, written, expected, ..Self::new(config, 0) };
        runner.counter = 1_000_000 * (1 + life);
        runner.adopt(log);
        runner
    }

    fn adopt(&mut self, log: Log) {
        self.side_files.clear();
        for (name, value) in log.cells() {
            if let CellValue::SideFile(reference) = value {
                self.side_files.insert(name, SideFile::from_reference(reference));
            }
        }
        self.log = Some(log);
    }

    /// Has somebody look before each call that changes the disk.
    pub(super) fn look_with(&mut self, look: Look) {
        self.look = Some(look);
    }

    /// The disk may fail: errors are part of the run.
    pub(super) fn lenient(&mut self) {
        self.strict = false;
    }

    fn directory(&self) -> Arc<dyn Directory> {
        match &self.look {
            Some(look) => Arc::new(Tap::new(&self.disk, Arc::clone(look))),
            None => Arc::new(self.disk.clone()),
        }
    }

    pub(super) fn failed(&self, what: &str, error: Error) -> Stop {
        if self.strict || matches!(error, Error::Damaged { .. }) {
            return Stop::Violation(format!("{what} fails: {error}"));
        }
        Stop::Failed(error)
    }

    /// Creates the log.
    pub(super) fn create(&mut self) -> Result<(), Stop> {
        let log = Log::create_in(self.directory(), &self.options);
        self.log = Some(log.map_err(|error| self.failed("create", error))?);
        self.expected.lock().exists = true;
        Ok(())
    }

    /// Carries out a step, then reads everything back, unless that is to stay in a buffer.
    pub(super) fn step(&mut self, step: &Step) -> Result<(), Stop> {
        let before = self.log.as_ref().filter(|_| self.buffered()).map(Frames::of);
        self.carry_out(step)?;
        if let Some(log) = &self.log
            && let Err(broken) = log.shared().check_invariants(&log.shared().writer())
        {
            return Err(Stop::Violation(broken.to_string()));
        }
        self.note_durable();
        let Some(before) = before else { return self.read_back() };
        let (after, is_batch) = (Frames::of(self.log()?), step.is_batch());
        self.in_memory.after_step(before, after, is_batch);
        // A read has pending frames handed to the file, so some are left there for a while.
        if !self.tickets.len().is_multiple_of(READ_EVERY) {
            return Ok(());
        }
        self.read_back()?;
        let read = Frames::of(self.log()?);
        self.in_memory.after_read(after, read);
        Ok(())
    }

    fn carry_out(&mut self, step: &Step) -> Result<(), Stop> {
        let always = self.options.durability == Durability::Always;
        match step {
            Step::Commit(changes) => self.write(changes, always),
            Step::Submit(changes) => self.write(changes, false),
            Step::SetLazily(cells) => cells.iter().try_for_each(|it| self.set_lazily(*it)),
            Step::Sync => self.sync(),
            Step::Maintain => self.whole("maintain", Log::maintain),
            Step::Reopen => {
                self.whole("close", Log::close)?;
                self.expected.lock().closed = true;
                self.log = None;
                self.open()
            }
            Step::Kill => {
                self.kill();
                self.open()
            }
        }
    }

    fn buffered(&self) -> bool {
        self.options.write_mode_in_force().defers_writes()
    }

    /// Number of the newest batch that was written, be it acknowledged or not.
    pub(super) fn newest_sequence(&self) -> u64 {
        self.log.as_ref().map_or(0, |log| log.newest_ticket().sequence())
    }

    /// Stops the process; the disk goes on with what its cache holds.
    pub(super) fn kill(&mut self) {
        self.disk = self.disk.kill();
        self.log = None;
        self.tickets.clear();
        // Frames that were still in memory went with the process.
        self.lossy |= self.buffered();
    }

    /// Cuts the power; the disk goes on with what survives.
    pub(super) fn cut_power(&mut self, persistence: Persistence) {
        self.disk = self.disk.crash_with(persistence);
        self.log = None;
        self.look = None;
        self.lossy = true;
        self.tickets.clear();
    }

    pub(super) fn is_poisoned(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.stats().poisoned)
    }

    pub(super) fn log(&self) -> Result<&Log, Stop> {
        self.log.as_ref().ok_or(Stop::Failed(Error::Closed))
    }

    /// Syncs, which costs nothing if everything is durable and nothing waits.
    fn sync(&mut self) -> Result<(), Stop> {
        let idle = self.log()?.newest_ticket().is_durable() && self.waiting.is_empty();
        let calls = self.disk.calls();
        self.whole("sync", Log::sync)?;
        if idle && self.disk.calls() != calls {
            return Err(Stop::Violation("a sync of nothing makes calls".to_owned()));
        }
        self.nothing_waits();
        Ok(())
    }

    /// Everything up to now was written.
    fn nothing_waits(&mut self) {
        self.written = Arc::clone(&self.model);
        self.waiting.clear();
    }

    /// Something that makes everything durable.
    fn whole(&mut self, what: &str, act: fn(&Log) -> crate::Result<()>) -> Result<(), Stop> {
        self.fatal = true;
        if let Err(error) = act(self.log()?) {
            self.fatal = !self.is_unlooked(&error);
            self.failed_to_hand_over(&error, "hand-over failed for a sync");
            return Err(self.failed(what, error));
        }
        self.fatal = false;
        let newest = self.log()?.newest_ticket();
        if !newest.is_durable() {
            return Err(Stop::Violation(format!("not durable after {what}")));
        }
        let mut expected = self.expected.lock();
        expected.allowed = vec![Arc::clone(&self.model)];
        expected.acknowledged = newest.sequence();
        self.tickets.clear();
        Ok(())
    }

    /// Notes which batches the log reports to be durable.
    pub(super) fn note_durable(&mut self) {
        let durable = |ticket: &Option<Ticket>| ticket.as_ref().is_some_and(Ticket::is_durable);
        if let Some(last) = self.tickets.iter().rposition(durable) {
            let mut expected = self.expected.lock();
            expected.allowed.drain(..=last);
            for ticket in self.tickets.drain(..=last).flatten() {
                expected.acknowledged = ticket.sequence();
            }
        }
    }

    /// Opens the log and takes over what it holds.
    pub(super) fn open(&mut self) -> Result<(), Stop> {
        let (log, report) = Log::open_in(self.directory(), &self.options)
            .map_err(|error| self.failed("open", error))?;
        let mut expected = self.expected.lock();
        if expected.closed && report.verdict != Verdict::Clean {
            let verdict = report.verdict;
            return Err(Stop::Violation(format!("{verdict:?} after a close")));
        }
        expected.check_report(&report).map_err(Stop::Violation)?;
        self.model = expected.check_state(&log).map_err(|stop| match stop {
            Stop::Failed(error) => self.failed("a read", error),
            violation @ Stop::Violation(_) => violation,
        })?;
        let mut states = expected.allowed.iter();
        let written = states.rposition(|it| Arc::ptr_eq(it, &self.written));
        let kept = expected.allowed.get(written.unwrap_or(0)..).unwrap_or_default();
        if self.strict && !self.lossy && !kept.contains(&self.model) {
            return Err(Stop::Violation("a killed process took written batches along".to_owned()));
        }
        *expected = Expected::exactly(&self.model, log.newest_ticket().sequence());
        drop(expected);
        self.lossy = false;
        self.nothing_waits();
        self.adopt(log);
        Ok(())
    }

    /// Everything in the log is what the model says, as long as it can be read. A read has to hand
    /// over what is still in memory, and to poison the log if it cannot.
    pub(super) fn read_back(&mut self) -> Result<(), Stop> {
        let read = self.read_all();
        if let Err(Stop::Failed(error)) = &read
            && self.failed_to_hand_over(error, "hand-over failed for a reader")
        {
            self.fatal = true;
        }
        read
    }

    fn read_all(&self) -> Result<(), Stop> {
        let log = self.log()?;
        // Before anything hands over the frames that are still in memory.
        let last = self.model.next().checked_sub(1).filter(|last| *last >= self.model.first);
        if let Some(last) = last {
            let got = log.entry(last).map_err(|error| self.failed("a read", error))?;
            if self.model.entry(last).is_none_or(|entry| entry[..] != got[..]) {
                return Err(Stop::Violation(format!("entry {last} is read wrong by itself")));
            }
        }
        match self.model.difference(log) {
            Ok(None) => Ok(()),
            Ok(Some(difference)) => Err(Stop::Violation(difference)),
            Err(error) => Err(self.failed("a read", error)),
        }
    }

    /// Whether a batch was refused, with nothing changed: the first after an open, before which the
    /// tail is read, and could not be.
    fn is_unlooked(&self, error: &Error) -> bool {
        matches!(error, Error::Io { op: "read", .. }) && !self.is_poisoned()
    }

    /// Whether an error came from handing frames to the tail. Counts it.
    fn failed_to_hand_over(&mut self, error: &Error, kind: &'static str) -> bool {
        let Error::Io { op: "write" | "write to", path, source } = error else { return false };
        let failed = self.buffered() && path.extension().is_some_and(|it| it == "seg");
        if failed {
            self.in_memory.count(kind);
            if source.kind() == std::io::ErrorKind::StorageFull {
                self.in_memory.count("hand-over met a full disk");
            }
        }
        failed
    }

    /// Sets a cell lazily: readers see it at once, and the disk hears nothing of it.
    fn set_lazily(&mut self, lazily: Lazily) -> Result<(), Stop> {
        let (name, value) = self.lazy_value(lazily);
        let calls = self.disk.calls();
        let mut model = (*self.model).clone();
        model.set(&name, Value::Inline(value.clone().into()));
        let over_a_file = matches!(self.model.cells.get(&name), Some(Value::Side(_)));
        let refused = over_a_file || !model.fits();
        match self.log()?.set_lazily(&name, &value) {
            Ok(()) if refused => {
                let what = format!("{name} is set over its side file, or beyond the limit");
                return Err(Stop::Violation(what));
            }
            Ok(()) => {
                if model != *self.model {
                    self.waiting.insert(name.clone());
                    self.model = Arc::new(model);
                    self.expected.lock().allowed.push(Arc::clone(&self.model));
                    self.tickets.push(None);
                }
            }
            Err(error) if refused && is_refusal(&error) => {}
            Err(error) => return Err(self.failed("setting a cell lazily", error)),
        }
        if self.disk.calls() != calls {
            return Err(Stop::Violation(format!("setting {name} lazily makes calls")));
        }
        if self.log()?.cell(&name).as_ref() != inline(&self.model, &name) {
            return Err(Stop::Violation(format!("{name} does not show what was set lazily")));
        }
        Ok(())
    }

    fn write(&mut self, changes: &[Change], wait: bool) -> Result<(), Stop> {
        let built = match self.build(changes) {
            Err(Stop::Failed(error)) if is_refusal(&error) => {
                self.refused += 1;
                return Ok(());
            }
            other => other?,
        };
        self.fatal = true;
        let model = Arc::new(built.model.clone());
        self.expected.lock().allowed.push(Arc::clone(&model));
        let log = self.log()?;
        let (before, calls) = (log.newest_ticket(), self.disk.calls());
        let settled = before.is_durable();
        let written = if wait { log.commit(&built.batch) } else { log.submit(&built.batch) };
        let fits = model.fits();
        match written {
            Ok(_) if !fits => {
                let what = "a batch leaves more cells than a slot has room for";
                Err(Stop::Violation(what.to_owned()))
            }
            Err(Error::TooLarge { .. }) if !fits => {
                self.fatal = false;
                self.expected.lock().allowed.pop();
                Ok(())
            }
            Ok(ticket) => {
                if wait && !ticket.is_durable() {
                    let sequence = ticket.sequence();
                    return Err(Stop::Violation(format!("batch {sequence} is not durable")));
                }
                if ticket.next() != model.next() || log.next() != model.next() {
                    return Err(Stop::Violation(format!("the next index is {}", ticket.next())));
                }
                self.fatal = false;
                let is_new = ticket.sequence() > before.sequence();
                let free = !settled || self.disk.calls() == calls;
                self.check_need(&built, is_new, free)?;
                self.model = model;
                if is_new {
                    self.nothing_waits();
                }
                self.side_files = built.side_files;
                self.tickets.push(is_new.then_some(ticket));
                Ok(())
            }
            Err(error) if is_refusal(&error) => {
                self.fatal = false;
                self.expected.lock().allowed.pop();
                self.refused += 1;
                if self.strict {
                    return Err(self.failed("a batch", error));
                }
                Ok(())
            }
            Err(error) if self.is_unlooked(&error) => {
                self.fatal = false;
                self.expected.lock().allowed.pop();
                Err(self.failed("a batch", error))
            }
            Err(error) => {
                self.failed_to_hand_over(&error, "hand-over failed for a batch");
                Err(self.failed("a batch", error))
            }
        }
    }

    /// A batch is written if it changes anything, and only then; what it says of a cell that was set
    /// lazily is to be durable with it, so that is written too. Everything else is `free` of cost.
    fn check_need(&self, built: &Built, is_new: bool, free: bool) -> Result<(), Stop> {
        let what = match (built.changes, built.confirms, is_new) {
            (true, _, false) => "a batch that changes something is not written",
            (false, false, true) => "a batch that changes nothing is written",
            (false, false, false) if !free => "a batch that changes nothing makes calls",
            (false, true, false) if self.expected.lock().allowed.len() > 2 => {
                "a batch with the value of a lazily set cell is not written"
            }
            _ => return Ok(()),
        };
        Err(Stop::Violation(what.to_owned()))
    }
}
