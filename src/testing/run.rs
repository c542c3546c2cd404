//! Carrying out a program, and knowing at every moment what a crash may leave.
//!
//! Owns: the oracle. `Expected` holds the states that a recovery may answer with: the one that was
//! last acknowledged, and each one that was submitted since, in order. Does not own: where crashes
//! happen (`explore`) or faults (`faults`).

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use parking_lot::Mutex;

use super::config::Config;
use super::model::{Model, Value, is_refusal};
use super::program::{Change, Step};
use super::tap::{Look, Tap};
use crate::batch::Batch;
use crate::error::Error;
use crate::format::CellValue;
use crate::io::Directory;
use crate::io::sim::{Persistence, SimDisk};
use crate::log::Log;
use crate::options::{Durability, Options, WriteMode};
use crate::recovery::{RecoveryReport, Verdict};
use crate::side_file::SideFile;
use crate::ticket::Ticket;

/// Batches in a buffer at which everything is read back.
const READ_EVERY: usize = 3;

/// Why a run ended early.
#[derive(Debug)]
pub(super) enum Stop {
    /// A promise was broken.
    Violation(String),
    /// The log answered with an error that ends its life, as after a fault it should.
    Failed(Error),
}

/// What a recovery may answer with.
#[derive(Debug, Clone, Default)]
pub(super) struct Expected {
    /// Whether the creation was acknowledged.
    pub(super) exists: bool,
    /// The acknowledged state, then what was submitted behind it.
    pub(super) allowed: Vec<Arc<Model>>,
    /// Number of the last acknowledged batch.
    pub(super) acknowledged: u64,
    /// The log was closed, and that was acknowledged.
    pub(super) closed: bool,
}

impl Expected {
    /// Exactly this state, acknowledged.
    pub(super) fn exactly(model: &Arc<Model>, acknowledged: u64) -> Self {
        let allowed = vec![Arc::clone(model)];
        Self { exists: true, allowed, acknowledged, closed: false }
    }

    /// Takes the log's word that every entry before `durable` is durable. States that end before it
    /// are out as long as one comes behind them that has it; one that drops entries is no such.
    pub(super) fn heard(&mut self, durable: u64) {
        let falls_short = |model: &&Arc<Model>| model.next() < durable;
        let short = self.allowed.iter().take_while(falls_short).count();
        if short < self.allowed.len() {
            self.allowed.drain(..short);
        }
    }

    /// Opens what a crash left and holds it against the oracle. `None`: there is rightly no log.
    pub(super) fn check(
        &self,
        directory: Arc<dyn Directory>,
        options: &Options,
    ) -> Result<Option<(Log, Arc<Model>)>, String> {
        let (log, report) = match Log::open_in(directory, options) {
            Err(Error::Missing { .. }) if !self.exists => return Ok(None),
            Err(error) => return Err(format!("the open is refused: {error}")),
            Ok(opened) => opened,
        };
        self.check_report(&report)?;
        let model = self.check_state(&log).map_err(|stop| match stop {
            Stop::Violation(what) => what,
            Stop::Failed(error) => format!("a read fails: {error}"),
        })?;
        Ok(Some((log, model)))
    }

    fn check_report(&self, report: &RecoveryReport) -> Result<(), String> {
        if let Verdict::TornTail { sequence, .. } = report.verdict {
            if sequence <= self.acknowledged {
                let newest = self.acknowledged;
                return Err(format!("batch {sequence} is called torn; {newest} is acknowledged"));
            }
            if self.closed {
                return Err(format!("batch {sequence} is called torn after a close"));
            }
        }
        Ok(())
    }

    /// Which of the allowed states the log has. A read that fails says nothing about it.
    pub(super) fn check_state(&self, log: &Log) -> Result<Arc<Model>, Stop> {
        let mut closest = String::from("nothing is allowed");
        for model in &self.allowed {
            match model.difference(log) {
                Ok(None) => return Ok(Arc::clone(model)),
                Ok(Some(difference)) => closest = difference,
                Err(error) => return Err(Stop::Failed(error)),
            }
        }
        let count = self.allowed.len();
        let what = format!("none of {count} allowed states; compared with the newest: {closest}");
        Err(Stop::Violation(what))
    }
}

/// A log that a program is carried out on.
pub(super) struct Runner {
    pub(super) options: Options,
    pub(super) disk: SimDisk,
    pub(super) log: Option<Log>,
    pub(super) model: Arc<Model>,
    pub(super) expected: Arc<Mutex<Expected>>,
    /// Batches that a capacity limit refused.
    pub(super) refused: u64,
    look: Option<Look>,
    /// A batch, a sync or a checkpoint has failed.
    pub(super) fatal: bool,
    /// Nothing goes wrong on the disk, so nothing may fail.
    strict: bool,
    /// The power was cut since the log was open, or a process killed that had a buffer.
    lossy: bool,
    /// The ticket that led to each state in `expected.allowed` but the first; none for a batch that
    /// changed nothing, whose ticket is another one's.
    tickets: Vec<Option<Ticket>>,
    side_files: BTreeMap<String, SideFile>,
    counter: u64,
}

impl Runner {
    pub(super) fn new(config: &Config, seed: u64) -> Self {
        let model = Arc::new(Model::default());
        let expected = Expected { allowed: vec![Arc::clone(&model)], ..Expected::default() };
        Self {
            options: config.options(),
            disk: SimDisk::new(seed),
            log: None,
            model,
            expected: Arc::new(Mutex::new(expected)),
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
        let mut runner = Self { disk: disk.clone(), model, expected, ..Self::new(config, 0) };
        runner.counter = 1_000_000 * (1 + life);
        runner.adopt(log);
        runner
    }

    fn adopt(&mut self, log: Log) {
        self.side_files.clear();
        for (name, value) in log.cells() {
            if let CellValue::SideFile(reference) = value {
                self.side_files.insert(name, SideFile(reference));
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

    fn failed(&self, what: &str, error: Error) -> Stop {
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
        let always = self.options.durability == Durability::Always;
        match step {
            Step::Commit(changes) => self.write(changes, always)?,
            Step::Submit(changes) => self.write(changes, false)?,
            Step::Sync => self.whole("sync", Log::sync)?,
            Step::Maintain => self.whole("maintain", Log::maintain)?,
            Step::Reopen => {
                self.whole("close", Log::close)?;
                self.expected.lock().closed = true;
                self.log = None;
                self.open()?;
            }
            Step::Kill => {
                self.kill();
                self.open()?;
            }
        }
        self.note_durable();
        // A read has pending frames handed to the file, so some are left there for a while.
        if self.buffered() && !self.tickets.len().is_multiple_of(READ_EVERY) {
            return Ok(());
        }
        self.read_back()
    }

    fn buffered(&self) -> bool {
        self.options.write_mode_in_force() == WriteMode::Buffered
    }

    /// Number of the newest batch that was written, be it acknowledged or not.
    pub(super) fn newest_sequence(&self) -> u64 {
        self.log.as_ref().map_or(0, |log| log.newest_ticket().sequence())
    }

    /// Stops the process; the disk goes on with what its cache holds.
    pub(super) fn kill(&mut self) {
        self.disk = self.disk.kill();
        self.log = None;
        // Frames that were still in memory went with the process.
        self.lossy |= self.buffered();
        self.tickets.clear();
    }

    /// Cuts the power; the disk goes on with what survives.
    pub(super) fn cut_power(&mut self, persistence: Persistence) {
        self.disk = self.disk.crash_with(persistence);
        self.log = None;
        self.look = None;
        self.lossy = true;
        self.tickets.clear();
    }

    fn log(&self) -> Result<&Log, Stop> {
        self.log.as_ref().ok_or(Stop::Failed(Error::Closed))
    }

    /// Something that makes everything durable.
    fn whole(&mut self, what: &str, act: fn(&Log) -> crate::Result<()>) -> Result<(), Stop> {
        self.fatal = true;
        act(self.log()?).map_err(|error| self.failed(what, error))?;
        self.fatal = false;
        if !self.log()?.newest_ticket().is_durable() {
            return Err(Stop::Violation(format!("not durable after {what}")));
        }
        let mut expected = self.expected.lock();
        expected.allowed = vec![Arc::clone(&self.model)];
        for ticket in self.tickets.drain(..).flatten() {
            expected.acknowledged = ticket.sequence();
        }
        Ok(())
    }

    /// Notes which batches the log reports to be durable.
    fn note_durable(&mut self) {
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
        let newest = expected.allowed.last();
        if self.strict && !self.lossy && newest.is_some_and(|newest| *newest != self.model) {
            return Err(Stop::Violation("a killed process took written batches along".to_owned()));
        }
        *expected = Expected::exactly(&self.model, log.newest_ticket().sequence());
        drop(expected);
        self.adopt(log);
        self.lossy = false;
        Ok(())
    }

    /// Everything in the log is what the model says, as long as it can be read.
    pub(super) fn read_back(&self) -> Result<(), Stop> {
        let log = self.log()?;
        match self.model.difference(log) {
            Ok(None) => {}
            Ok(Some(difference)) => return Err(Stop::Violation(difference)),
            Err(error) => return Err(self.failed("a read", error)),
        }
        let last = self.model.next().checked_sub(1).filter(|last| *last >= self.model.first);
        if let Some(last) = last {
            let got = log.entry(last).map_err(|error| self.failed("a read", error))?;
            if self.model.entry(last).is_none_or(|entry| entry[..] != got[..]) {
                return Err(Stop::Violation(format!("entry {last} is read wrong by itself")));
            }
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
        let (batch, model, side_files) = built;
        let model = Arc::new(model);
        self.expected.lock().allowed.push(Arc::clone(&model));
        let log = self.log()?;
        let written = if wait { log.commit(&batch) } else { log.submit(&batch) };
        match written {
            Ok(ticket) => {
                if wait && !ticket.is_durable() {
                    let sequence = ticket.sequence();
                    return Err(Stop::Violation(format!("batch {sequence} is not durable")));
                }
                if ticket.next() != model.next() || log.next() != model.next() {
                    return Err(Stop::Violation(format!("the next index is {}", ticket.next())));
                }
                self.fatal = false;
                let is_new = self.model != model;
                self.model = model;
                self.side_files = side_files;
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
            Err(error) => Err(self.failed("a batch", error)),
        }
    }

    /// The batch for these changes, and what it leads to.
    fn build(
        &mut self,
        changes: &[Change],
    ) -> Result<(Batch<'static>, Model, BTreeMap<String, SideFile>), Stop> {
        let mut model = (*self.model).clone();
        let mut side_files = self.side_files.clone();
        let mut batch = Batch::new();
        for change in changes {
            match *change {
                Change::Append { count, bytes } => {
                    for _ in 0..count {
                        let limit = self.log()?.entry_bytes_max();
                        let entry = self.content(u64::from(bytes).min(limit));
                        batch.append(entry.clone());
                        model.append(entry);
                    }
                }
                Change::Truncate(back) => {
                    let to = model.next().saturating_sub(back).max(model.first);
                    batch.truncate(to);
                    model.truncate(to);
                }
                Change::Trim(count) => {
                    let to = model.first.saturating_add(count).min(model.next());
                    batch.trim(to);
                    model.trim(to);
                }
                Change::ResetAhead(by) => {
                    let base = model.next() + by;
                    batch.reset(base);
                    model.reset(base);
                }
                Change::ResetBack(by) => {
                    let base = model.first.saturating_sub(by);
                    batch.reset(base);
                    model.reset(base);
                }
                Change::Set { cell, bytes } => {
                    let value = self.content(u64::from(bytes));
                    batch.set(name(cell), value.clone());
                    model.set(&name(cell), Value::Inline(value.into()));
                    side_files.remove(&name(cell));
                }
                Change::Clear(cell) => {
                    batch.clear(name(cell));
                    model.clear(&name(cell));
                    side_files.remove(&name(cell));
                }
                Change::Attach { cell, bytes } => {
                    let value = self.content(u64::from(bytes));
                    let file = self.side_file(&value)?;
                    batch.attach(name(cell), file);
                    model.set(&name(cell), Value::Side(value.into()));
                    side_files.insert(name(cell), file);
                }
                Change::Share { from, to } => {
                    if let (Some(file), Some(value)) = (
                        side_files.get(&name(from)).copied(),
                        model.cells.get(&name(from)).cloned(),
                    ) {
                        batch.attach(name(to), file);
                        model.set(&name(to), value);
                        side_files.insert(name(to), file);
                    }
                }
            }
        }
        Ok((batch, model, side_files))
    }

    fn side_file(&self, bytes: &[u8]) -> Result<SideFile, Stop> {
        let failed = |error: Error| {
            if is_refusal(&error) { Stop::Failed(error) } else { self.failed("a side file", error) }
        };
        let mut writer = self.log()?.side_file_writer().map_err(failed)?;
        writer.write_all(bytes).map_err(|source| failed(Error::io("write", "", source)))?;
        writer.finish().map_err(failed)
    }

    /// Bytes that no other entry has. Half of them differ in their first eight bytes only, so that
    /// sectors of one can pass for those of another.
    fn content(&mut self, len: u64) -> Vec<u8> {
        self.counter += 1;
        let len = crate::format::number::to_usize(len);
        let fill =
            if self.counter.is_multiple_of(2) { 0xa5 } else { self.counter.wrapping_mul(31) };
        let mut bytes: Vec<u8> = Vec::with_capacity(len);
        bytes.extend(self.counter.to_le_bytes().iter().take(len));
        let [fill, ..] = fill.to_le_bytes();
        bytes.resize(len, fill);
        bytes
    }
}

/// The cells that programs use.
fn name(cell: u8) -> String {
    match cell {
        0 => "promise".to_owned(),
        1 => "stopsign".to_owned(),
        2 => "snapshot".to_owned(),
        other => format!("cell-{other}"),
    }
}
