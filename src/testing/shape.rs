//! Logs at rest, of each shape, and what may be read of them after something was done to their files.
//!
//! Owns: the shapes, what they have been, and the oracle: what was written, or `Damaged` with a file
//! that was changed and the entries it is about; never something else, and never a torn end where the
//! bytes say that it was acknowledged. Does not own: what is done to the files (`rot`, `exchange`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::config::{CONFIGS, Config};
use super::expected::Expected;
use super::explore::Tally;
use super::model::{Model, Value};
use super::program::{Change, Step};
use super::run::{Runner, Stop};
use crate::error::{Damage, Error};
use crate::format::names::{LOCK, METADATA};
use crate::format::{FileName, SegmentName};
use crate::io::sim::{Moment, Persistence, SimDisk};
use crate::log::Log;
use crate::options::{Options, Witness};
use crate::recovery::Verdict;

/// The files of a log by name.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// Names of the shapes, each of which is swept after a close and after a crash.
pub const SHAPES: [&str; 11] = [
    "fresh",
    "cells",
    "sector frames",
    "rolled",
    "begun",
    "sealed",
    "truncated",
    "trimmed",
    "recycled",
    "side files",
    "torn",
];

fn steps(shape: &str) -> Vec<Step> {
    use Change::{Append, Attach, Set, Trim, Truncate};
    let small = Append { count: 3, bytes: 60 };
    let large = Append { count: 3, bytes: 1200 };
    let cell = Set { cell: 0, bytes: 16 };
    let mut steps = vec![Step::Commit(vec![small, cell])];
    let more = match shape {
        "fresh" => return Vec::new(),
        "cells" => {
            vec![vec![Set { cell: 1, bytes: 900 }], vec![cell], vec![Change::Clear(0), small]]
        }
        // Frames that can pass for each other when a sector goes astray.
        "sector frames" => {
            let sector = |cell| Set { cell, bytes: 470 };
            steps = vec![Step::Commit(vec![sector(0), sector(1), sector(3)])];
            vec![vec![Append { count: 3, bytes: 480 }], vec![small]]
        }
        "sealed" => vec![vec![large], vec![large], vec![large, cell]],
        "truncated" => vec![vec![large], vec![Truncate(4), small], vec![cell, small]],
        "trimmed" => vec![vec![large], vec![large], vec![Trim(5)], vec![small]],
        "recycled" => {
            vec![vec![large], vec![large], vec![Trim(7)], vec![large], vec![Trim(3)], vec![large]]
        }
        "side files" => {
            vec![vec![Attach { cell: 2, bytes: 1500 }, small], vec![Attach { cell: 3, bytes: 10 }]]
        }
        _ => vec![vec![large], vec![small, cell]],
    };
    steps.extend(more.into_iter().map(Step::Commit));
    match shape {
        "recycled" => steps.insert(4, Step::Maintain),
        // Only a segment that no checkpoint names states that the batch before it was durable.
        "begun" => {
            let one = Append { count: 1, bytes: 1200 };
            steps.pop();
            steps.push(Step::Commit(vec![one, one]));
            steps.push(Step::Submit(vec![one]));
        }
        _ => {}
    }
    steps
}

/// What a log has been at some moment.
pub(super) struct Past {
    /// What was durable.
    pub(super) files: Files,
    /// What it was then: what was acknowledged, and what was on its way.
    pub(super) allowed: Vec<Arc<Model>>,
    /// Its creation was acknowledged.
    pub(super) exists: bool,
}

/// What was done to the files of a log, and what it may therefore be taken for.
#[derive(Default)]
pub(super) struct Changed {
    /// The files that are not what they were, or not where.
    names: BTreeSet<String>,
    /// What the log once was, when its files were these.
    like: Vec<Arc<Model>>,
}

impl Changed {
    pub(super) fn one(name: &str) -> Self {
        Self { names: BTreeSet::from([name.to_owned()]), like: Vec::new() }
    }

    /// Whether a file may be blamed: it was changed, or it is not there, or there twice, under a
    /// number that a changed one has. A metadata file that is blamed for being older has younger
    /// files beside it; one that is older may name files that went since.
    fn may_be_blamed(&self, name: &str, reason: &Damage) -> bool {
        let same_number = |changed: &String| changed.get(..16) == name.get(..16);
        match reason {
            Damage::MissingFile if self.names.contains(METADATA) => true,
            Damage::MissingFile | Damage::Ambiguous { .. } => self.names.iter().any(same_number),
            Damage::MetadataOlder { .. } => name == METADATA,
            _ => self.names.contains(name),
        }
    }

    /// Whether entries of a file may be unreadable: only if it was changed itself.
    fn hurts(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Whether an error is damage of a changed file.
    pub(super) fn is_to_blame(&self, error: &Error) -> bool {
        match error {
            Error::Damaged { path, reason, .. } => {
                self.may_be_blamed(&path.to_string_lossy(), reason)
            }
            Error::Poisoned { cause } => self.is_to_blame(cause),
            _ => false,
        }
    }
}

/// A log at rest, and what may be found in it.
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) closed: bool,
    pub(super) disk: SimDisk,
    pub(super) options: Options,
    /// Everything that was acknowledged.
    pub(super) model: Arc<Model>,
    /// The batch whose durability nothing states, because nothing was written after its sync: its
    /// number, and what is left without it. Whatever decays, no other may be lost.
    unproven: Option<(u64, Arc<Model>)>,
    /// Batches that were never acknowledged stand after.
    torn: Option<Arc<Model>>,
    /// The power was cut while the last of them was synced, so it may be whole.
    cut: bool,
    /// What the log has been, the oldest first.
    pub(super) past: Vec<Past>,
}

/// Notes what a log is at each moment.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<Past>>>);

impl Recorder {
    fn record(&self, disk: &SimDisk, expected: &Expected) {
        let files = files_of(disk);
        let mut past = self.0.lock();
        let Expected { allowed, exists, .. } = expected.clone();
        match past.last_mut().filter(|last| last.files == files) {
            Some(last) => {
                last.exists |= exists;
                last.allowed.extend(allowed);
            }
            None => past.push(Past { files, allowed, exists }),
        }
    }

    /// Records before each call of a log that changes the disk.
    fn attach(&self, runner: &mut Runner) {
        let (recorder, expected) = (self.clone(), Arc::clone(&runner.expected));
        runner.look_with(Arc::new(move |disk, _| {
            let now = expected.lock().clone();
            recorder.record(disk, &now);
        }));
    }
}

/// What is durable on a disk, without the lock.
fn files_of(disk: &SimDisk) -> Files {
    disk.durable_image().into_iter().filter(|(name, _)| name != LOCK).collect()
}

/// What puts a batch on media.
type Finish = fn(&Log) -> crate::Result<()>;

/// Batches that a power cut meets.
pub(super) const LOST: u64 = 6;

/// The batch with a number, which is cut short, and the call that puts it on media.
fn lost(number: u64) -> (Vec<Change>, Finish) {
    use Change::{Append, Trim, Truncate};
    let small = Append { count: 3, bytes: 200 };
    match number {
        0 => (vec![Append { count: 1, bytes: 200 }], Log::sync),
        1 => (vec![small], Log::sync),
        // Rolls.
        2 => (vec![Append { count: 4, bytes: 1200 }], Log::sync),
        3 => (vec![Truncate(2), small], Log::sync),
        4 => (vec![Trim(3), small], Log::maintain),
        _ => (vec![small], Log::maintain),
    }
}

/// A log whose power is about to be cut.
struct Doomed {
    runner: Runner,
    /// Everything that was acknowledged.
    model: Arc<Model>,
    /// As in [`Shape`].
    unproven: Option<(u64, Arc<Model>)>,
    finish: Finish,
}

impl Doomed {
    /// Has a log do what it did, each step with a sync of its own, and submit what it will lose.
    fn prepare(name: &str, config: &Config, seed: u64, number: u64) -> Result<Self, String> {
        let (changes, finish) = lost(number);
        let mut runner = Runner::new(config, seed);
        if number > 0 {
            // Frames of many bytes may write over a witness near those before them.
            runner.options = runner.options.clone().witness(Witness::Apart);
        }
        runner.create().map_err(said)?;
        let mut unproven = None;
        for step in steps(name).into_iter().filter(|step| !matches!(step, Step::Submit(_))) {
            let before = Arc::clone(&runner.model);
            runner.step(&step).map_err(said)?;
            runner.step(&Step::Sync).map_err(said)?;
            unproven = Some((runner.newest_sequence(), before));
        }
        let model = Arc::clone(&runner.model);
        runner.step(&Step::Submit(changes)).map_err(said)?;
        Ok(Self { runner, model, unproven, finish })
    }

    fn finish(&self) -> crate::Result<()> {
        self.runner.log.as_ref().map_or(Ok(()), self.finish)
    }
}

impl Shape {
    pub(super) fn build(name: &'static str, closed: bool, seed: u64) -> Result<Self, String> {
        let [config, ..] = &CONFIGS;
        let mut runner = Runner::new(config, seed);
        let recorder = Recorder::default();
        recorder.attach(&mut runner);
        runner.create().map_err(said)?;
        let mut unproven = None;
        for step in steps(name) {
            let before = Arc::clone(&runner.model);
            runner.step(&step).map_err(said)?;
            recorder.record(&runner.disk, &runner.expected.lock());
            unproven = Some((runner.newest_sequence(), before));
        }
        let model = Arc::clone(&runner.model);
        let mut torn = None;
        if name == "torn" {
            for _ in 0..2 {
                let lost = Step::Submit(vec![Change::Append { count: 3, bytes: 200 }]);
                runner.step(&lost).map_err(said)?;
            }
            torn = Some(Arc::clone(&runner.model));
            if closed {
                // The end is torn, found, dropped; then the log is closed.
                runner.cut_power(Persistence::Random(seed));
                runner.open().map_err(said)?;
            }
        }
        if closed {
            runner.step(&Step::Reopen).map_err(said)?;
            let log = runner.log.take().ok_or("no log")?;
            log.close().map_err(|error| error.to_string())?;
            unproven = None;
        }
        let model = if closed { Arc::clone(&runner.model) } else { model };
        let torn = torn.filter(|_| !closed);
        // What was submitted last survives, but for its first sectors.
        let left = if torn.is_some() { Persistence::Mask(!0b11) } else { Persistence::Everything };
        let disk = runner.disk.crash_with(left);
        if torn.is_some() {
            // The frames after the last acknowledged batch state that it was durable.
            unproven = None;
        }
        let (options, cut) = (runner.options.clone(), false);
        let past = std::mem::take(&mut *recorder.0.lock());
        Ok(Self { name, closed, disk, options, model, unproven, torn, cut, past })
    }

    /// A log whose power was cut in the sync after its last acknowledged batch. `cut` says where, and
    /// what it was about to do.
    pub(super) fn cut(
        name: &'static str,
        config: &Config,
        seed: u64,
        cut: u64,
    ) -> Result<Self, String> {
        let (lost, rest) = (cut % LOST, cut / LOST);
        let whole = Doomed::prepare(name, config, seed, lost)?;
        let calls = whole.runner.disk.calls();
        whole.finish().map_err(|error| error.to_string())?;
        let calls = whole.runner.disk.calls() - calls;
        let Doomed { runner, model, unproven, .. } = {
            let doomed = Doomed::prepare(name, config, seed, lost)?;
            let disk = &doomed.runner.disk;
            let moment = if rest.is_multiple_of(2) { Moment::Before } else { Moment::Within };
            disk.crash_at_call(disk.calls() + 1 + rest / 2 % calls.max(1), moment);
            let _cut_short = doomed.finish();
            doomed
        };
        let torn = Some(Arc::clone(&runner.model));
        let disk = runner.disk.crash_with(Persistence::Random(seed ^ cut));
        let (options, closed, cut, past) = (runner.options.clone(), false, true, Vec::new());
        Ok(Self { name, closed, disk, options, model, unproven, torn, cut, past })
    }

    pub(super) fn files(&self) -> Files {
        files_of(&self.disk)
    }

    /// What the log may be taken for if its files are these and not its own: what it was when it had
    /// the same metadata file and the same tail, or one of `once`.
    pub(super) fn changed(&self, files: &Files, once: &[Arc<Model>]) -> Changed {
        let own = self.files();
        let all: BTreeSet<&String> = own.keys().chain(files.keys()).collect();
        let names = all.into_iter().filter(|name| own.get(*name) != files.get(*name));
        let alike = |past: &&Past| deciding(&past.files) == deciding(files);
        let like = self.past.iter().filter(alike).flat_map(|past| &past.allowed).chain(once);
        Changed { names: names.cloned().collect(), like: like.cloned().collect() }
    }

    /// Opens the log although files were changed, and reads everything in it.
    pub(super) fn check(
        &self,
        disk: &SimDisk,
        changed: &Changed,
        tally: &mut Tally,
    ) -> Result<(), String> {
        let opened = self.open(disk, changed, tally)?;
        disk.crash_at_call(0, Moment::Before);
        drop(opened);
        Ok(())
    }

    /// As [`Self::check`]. Returns the log, unless it was rightly refused, and what it is.
    pub(super) fn open(
        &self,
        disk: &SimDisk,
        changed: &Changed,
        tally: &mut Tally,
    ) -> Result<Option<(Log, Arc<Model>)>, String> {
        tally.states += 1;
        match Log::open_in(Arc::new(disk.clone()), &self.options) {
            Ok((log, report)) => {
                let model = self.check_opened(&log, &report.verdict, changed, tally)?;
                Ok(Some((log, model)))
            }
            Err(error) if changed.is_to_blame(&error) => {
                tally.count("refused at open, the right file named");
                Ok(None)
            }
            Err(error) => Err(format!("the open answers: {error}")),
        }
    }

    fn check_opened(
        &self,
        log: &Log,
        verdict: &Verdict,
        changed: &Changed,
        tally: &mut Tally,
    ) -> Result<Arc<Model>, String> {
        let mut model = &self.model;
        let unproven = self.unproven.as_ref();
        if let Some(whole) = self.torn.as_ref().filter(|torn| self.cut && fits(log, torn)) {
            tally.count("batches of a sync that was cut short, whole");
            model = whole;
        } else if let Some(once) = changed.like.iter().rfind(|once| fits(log, once)) {
            tally.count("as it once was, which nothing shows");
            model = once;
        } else if let Verdict::TornTail { sequence, .. } = verdict {
            match unproven.filter(|(number, _)| number == sequence) {
                Some((_, before)) => {
                    tally.count("batches of which nothing is stated, called torn");
                    model = before;
                }
                _ if self.torn.is_some() => {}
                // An older checkpoint finds the torn end once more that was dropped before the close.
                _ if self.name == "torn" && changed.names.contains(METADATA) => {}
                _ => return Err(format!("batch {sequence} is called torn")),
            }
        } else if !fits(log, model)
            && let Some((_, before)) = unproven.filter(|(_, before)| fits(log, before))
        {
            // All of it went with one sector: as if it had never been written.
            tally.count("batches of which nothing is stated, gone");
            model = before;
        } else if self.torn.as_ref().is_some_and(|torn| torn.next() == log.next()) {
            return Err("a torn end was read whole".to_owned());
        }
        let (first, next) = (log.first(), log.next());
        if (first, next) != (model.first, model.next()) {
            return Err(format!("bounds {first}..{next}, {}..{}", model.first, model.next()));
        }
        let damaged = check_entries(log, model, changed)? + check_cells(log, model, changed)?;
        let kind = if damaged == 0 { "everything read" } else { "the damage read as damage" };
        tally.count(kind);
        Ok(Arc::clone(model))
    }

    /// Whether an entry is one that the log may give.
    pub(super) fn is_known(&self, index: u64, entry: &[u8], changed: &Changed) -> bool {
        let mut models = vec![&self.model];
        models.extend(self.unproven.as_ref().map(|(_, before)| before));
        models.extend(self.torn.as_ref().filter(|_| self.cut));
        let trimmed = self.past.iter().filter(|_| index < self.model.first);
        let mut models =
            models.into_iter().chain(&changed.like).chain(trimmed.flat_map(|past| &past.allowed));
        models.any(|model| model.entry(index).is_some_and(|it| it[..] == *entry))
    }
}

/// What decides which batches a log has: the metadata file and the tail.
fn deciding(files: &Files) -> [Option<(&String, &Vec<u8>)>; 2] {
    let tail = files.iter().rfind(|(name, _)| segment_name(name).is_some());
    [files.get_key_value(METADATA), tail]
}

/// What the name of a segment states.
pub(super) fn segment_name(name: &str) -> Option<SegmentName> {
    match FileName::classify(name) {
        FileName::Segment(name) => Some(name),
        _ => None,
    }
}

/// Every entry is what was written, or damage that the changes explain. Returns how many are damaged.
fn check_entries(log: &Log, model: &Model, changed: &Changed) -> Result<u64, String> {
    let mut damaged = 0;
    for index in log.first()..log.next() {
        match log.entry(index) {
            Ok(entry) if model.entry(index).is_some_and(|it| it[..] == entry[..]) => {}
            Ok(_) => return Err(format!("entry {index} is read wrong")),
            Err(error) => {
                check_range(&error, index, changed)?;
                damaged += 1;
            }
        }
    }
    Ok(damaged)
}

/// The same, of the cells.
fn check_cells(log: &Log, model: &Model, changed: &Changed) -> Result<u64, String> {
    let mut damaged = 0;
    for (name, value) in &model.cells {
        match value {
            Value::Inline(bytes) if log.cell(name).as_deref() == Some(bytes) => {}
            Value::Inline(_) => return Err(format!("cell {name} is wrong")),
            Value::Side(bytes) => {
                let reader = log.side_file(name).map_err(|error| error.to_string())?;
                let reader = reader.ok_or_else(|| format!("{name} is gone"))?;
                match reader.read_all() {
                    Ok(got) if got[..] == bytes[..] => {}
                    Ok(_) => return Err(format!("the side file of {name} is read wrong")),
                    Err(error) if changed.is_to_blame(&error) => damaged += 1,
                    Err(error) => return Err(format!("the side file of {name}: {error}")),
                }
            }
        }
    }
    Ok(damaged)
}

/// Whether a log has the bounds and the cells of a model.
fn fits(log: &Log, model: &Model) -> bool {
    let cells = log.cells();
    let same = |name: &String| match model.cells.get(name) {
        Some(Value::Inline(bytes)) => log.cell(name).as_deref() == Some(bytes),
        Some(Value::Side(_)) => log.cell(name).is_none(),
        None => false,
    };
    (log.first(), log.next()) == (model.first, model.next())
        && cells.len() == model.cells.len()
        && cells.iter().all(|(name, _)| same(name))
}

/// An error of a read must be about a changed file and the entry that was asked for.
fn check_range(error: &Error, index: u64, changed: &Changed) -> Result<(), String> {
    match error {
        Error::Damaged { path, indexes: Some(range), .. }
            if changed.hurts(&path.to_string_lossy()) && range.contains(&index) =>
        {
            Ok(())
        }
        other => Err(format!("entry {index}: {other}")),
    }
}

fn said(stop: Stop) -> String {
    match stop {
        Stop::Violation(what) => what,
        Stop::Failed(error) => error.to_string(),
    }
}
