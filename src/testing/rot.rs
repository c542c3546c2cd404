//! The rot sweep: every bit, every sector, every length and every file of small logs of each shape.
//!
//! Owns: the shapes, the decay, and what may be answered afterwards: what was written, or `Damaged`
//! with the file and the entries it is about; never something else, and never a torn end where the
//! bytes say that it was acknowledged.

use std::sync::Arc;

use super::config::CONFIGS;
use super::explore::{Subject, Tally, Violation, guarded};
use super::model::{Model, Value};
use super::program::{Change, Step};
use super::run::{Runner, Stop};
use crate::error::{Damage, Error};
use crate::io::sim::{Moment, Persistence, Rot, SimDisk};
use crate::log::Log;
use crate::options::Options;
use crate::recovery::Verdict;

/// How densely a sweep goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Density {
    /// One bit in so many is flipped; 1 flips every one.
    pub bits: u64,
    /// One length in so many is tried away from the structures.
    pub lengths: u64,
    /// Whether every sector is written over every other one, or over its neighbour only.
    pub misdirect_all: bool,
}

impl Density {
    /// What a test in a debug build can afford.
    pub const SMALL: Self = Self { bits: 97, lengths: 1021, misdirect_all: false };
    /// Everything.
    pub const FULL: Self = Self { bits: 1, lengths: 1, misdirect_all: true };
}

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

/// A log at rest, and what may be found in it.
struct Shape {
    name: &'static str,
    closed: bool,
    disk: SimDisk,
    options: Options,
    /// Everything that was acknowledged.
    model: Arc<Model>,
    /// The batch whose durability nothing states, because nothing was written after its sync: its
    /// number, and what is left without it. Whatever decays, no other may be lost.
    unproven: Option<(u64, Arc<Model>)>,
    /// Batches that were never acknowledged stand behind.
    torn: Option<Arc<Model>>,
    /// The power was cut while the last of them was synced, so it may be whole.
    cut: bool,
}

impl Shape {
    fn build(name: &'static str, closed: bool, seed: u64) -> Result<Self, String> {
        let [config, ..] = &CONFIGS;
        let mut runner = Runner::new(config, seed);
        runner.create().map_err(said)?;
        let mut unproven = None;
        for step in steps(name) {
            let before = Arc::clone(&runner.model);
            runner.step(&step).map_err(said)?;
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
            // The frames behind the last acknowledged batch state that it was durable.
            unproven = None;
        }
        let (options, cut) = (runner.options.clone(), false);
        Ok(Self { name, closed, disk, options, model, unproven, torn, cut })
    }

    /// A log whose power was cut in the sync behind its last acknowledged batch. `cut` says where.
    fn cut(name: &'static str, seed: u64, cut: u64) -> Result<Self, String> {
        let [config, ..] = &CONFIGS;
        let mut runner = Runner::new(config, seed);
        runner.create().map_err(said)?;
        let mut unproven = None;
        for step in steps(name).into_iter().filter(|step| !matches!(step, Step::Submit(_))) {
            let before = Arc::clone(&runner.model);
            runner.step(&step).map_err(said)?;
            unproven = Some((runner.newest_sequence(), before));
        }
        let model = Arc::clone(&runner.model);
        let count = if cut.is_multiple_of(3) { 1 } else { 3 };
        let lost = Step::Submit(vec![Change::Append { count, bytes: 200 }]);
        runner.step(&lost).map_err(said)?;
        let torn = Some(Arc::clone(&runner.model));
        let moment = if cut.is_multiple_of(2) { Moment::Before } else { Moment::Within };
        runner.disk.crash_at_call(runner.disk.calls() + 1 + cut % 4, moment);
        let _cut_short = runner.log().map_err(said)?.sync();
        let disk = runner.disk.crash_with(Persistence::Random(seed ^ cut));
        let (options, closed, cut) = (runner.options.clone(), false, true);
        Ok(Self { name, closed, disk, options, model, unproven, torn, cut })
    }

    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let mut files = self.disk.durable_image();
        files.retain(|(name, _)| name != "lock");
        files
    }

    /// Opens the log although `file` has decayed, and reads everything in it.
    fn check(&self, disk: &SimDisk, file: &str, tally: &mut Tally) -> Result<(), String> {
        tally.states += 1;
        let log = match Log::open_in(Arc::new(disk.clone()), &self.options) {
            Ok((log, report)) => {
                self.check_opened(&log, &report.verdict, file, tally)?;
                log
            }
            Err(Error::Damaged { path, reason, .. }) => {
                let named = path.to_string_lossy();
                let missing = reason == Damage::MissingFile;
                if named != file && !(missing && named.get(..16) == file.get(..16)) {
                    return Err(format!("{named} is blamed: {reason}"));
                }
                tally.count("refused at open, the right file named");
                return Ok(());
            }
            Err(error) => return Err(format!("the open answers: {error}")),
        };
        disk.crash_at_call(0, Moment::Before);
        drop(log);
        Ok(())
    }

    fn check_opened(
        &self,
        log: &Log,
        verdict: &Verdict,
        file: &str,
        tally: &mut Tally,
    ) -> Result<(), String> {
        let mut model = &self.model;
        let unproven = self.unproven.as_ref();
        if let Some(whole) = self.torn.as_ref().filter(|torn| self.cut && fits(log, torn)) {
            tally.count("batches of a sync that was cut short, whole");
            model = whole;
        } else if let Verdict::TornTail { sequence, .. } = verdict {
            match unproven.filter(|(number, _)| number == sequence) {
                Some((_, before)) => {
                    tally.count("batches of which nothing is stated, called torn");
                    model = before;
                }
                _ if self.torn.is_some() => {}
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
        let mut damaged = 0;
        for index in first..next {
            match log.entry(index) {
                Ok(entry) if model.entry(index).is_some_and(|it| it[..] == entry[..]) => {}
                Ok(_) => return Err(format!("entry {index} is read wrong")),
                Err(error) => {
                    check_range(&error, index, file)?;
                    damaged += 1;
                }
            }
        }
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
                        Err(Error::Damaged { path, .. }) if path.to_string_lossy() == file => {
                            damaged += 1;
                        }
                        Err(error) => return Err(format!("the side file of {name}: {error}")),
                    }
                }
            }
        }
        let kind = if damaged == 0 { "everything read" } else { "the damage read as damage" };
        tally.count(kind);
        Ok(())
    }
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

/// An error of a read must be about the decayed file and the entry that was asked for.
fn check_range(error: &Error, index: u64, file: &str) -> Result<(), String> {
    match error {
        Error::Damaged { path, indexes: Some(range), .. }
            if path.to_string_lossy() == file && range.contains(&index) =>
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

/// One of so many equal parts of a sweep, for several threads and for progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Share {
    /// Which part, from 0.
    pub part: u64,
    /// How many there are.
    pub parts: u64,
}

impl Share {
    /// Everything.
    pub const WHOLE: Self = Self { part: 0, parts: 1 };

    /// Part number `part` of `parts`.
    pub fn new(part: u64, parts: u64) -> Self {
        Self { part, parts }
    }
}

/// Lets a log of one shape decay in every way.
pub fn sweep(
    shape: usize,
    closed: bool,
    seed: u64,
    density: Density,
) -> (Tally, Option<Violation>) {
    sweep_share(shape, closed, seed, density, Share::WHOLE)
}

/// As [`sweep`], one part of it. All parts together are the whole.
pub fn sweep_share(
    shape: usize,
    closed: bool,
    seed: u64,
    density: Density,
    one: Share,
) -> (Tally, Option<Violation>) {
    let [first, ..] = SHAPES;
    let name = SHAPES.get(shape).copied().unwrap_or(first);
    let subject = Subject::Small(2 * shape as u64 + u64::from(closed), 0);
    guarded(&subject, seed, |tally| {
        // The log counts once, not with each of its parts.
        tally.programs = u64::from(one.part == 0);
        let shape = Shape::build(name, closed, seed)?;
        let mut turn = 0;
        for (file, bytes) in shape.files() {
            let mut run =
                One { shape: &shape, file: &file, bytes: &bytes, share: one, turn, tally };
            run.bits(density)?;
            run.sectors(density)?;
            run.blocks()?;
            run.lengths(density)?;
            run.rot("missing files", Rot::Remove)?;
            turn = run.turn;
        }
        Ok(())
    })
}

/// Lets a log of one shape, whose power was cut in a sync, decay in one bit, sector or block: each
/// of so many places to cut it.
pub fn sweep_cut(
    shape: usize,
    seed: u64,
    cuts: u64,
    density: Density,
) -> (Tally, Option<Violation>) {
    let [first, ..] = SHAPES;
    let name = SHAPES.get(shape).copied().unwrap_or(first);
    let subject = Subject::Small(shape as u64, 0);
    guarded(&subject, seed, |tally| {
        for cut in 0..cuts {
            tally.programs += 1;
            let shape = Shape::cut(name, seed, cut)?;
            for (file, bytes) in shape.files() {
                let whole = Share::WHOLE;
                let mut run =
                    One { shape: &shape, file: &file, bytes: &bytes, share: whole, turn: 0, tally };
                let told = |what| format!("{what}; cut {cut}");
                run.bits(density).map_err(told)?;
                run.sectors_zeroed().map_err(told)?;
                run.blocks().map_err(told)?;
            }
        }
        Ok(())
    })
}

/// One file of one shape.
struct One<'a> {
    shape: &'a Shape,
    file: &'a str,
    bytes: &'a [u8],
    share: Share,
    /// Numbers the decays, of which every so many belong to this share.
    turn: u64,
    tally: &'a mut Tally,
}

impl One<'_> {
    fn rot(&mut self, kind: &'static str, rot: Rot) -> Result<(), String> {
        self.all(kind, &[rot])
    }

    /// One decay that is several at once.
    fn all(&mut self, kind: &'static str, rots: &[Rot]) -> Result<(), String> {
        self.turn += 1;
        if self.turn % self.share.parts != self.share.part {
            return Ok(());
        }
        let disk = self.shape.disk.crash_copy(Persistence::Nothing);
        for rot in rots {
            disk.rot(self.file, *rot).map_err(|error| format!("{rot:?}: {error}"))?;
        }
        self.tally.count(kind);
        let (name, closed) = (self.shape.name, self.shape.closed);
        self.shape
            .check(&disk, self.file, self.tally)
            .map_err(|what| format!("{what}; {rots:?} of {}, {name}, closed {closed}", self.file))
    }

    fn blocks(&mut self) -> Result<(), String> {
        let sectors = (self.bytes.len() as u64).div_ceil(512);
        for first in (0..sectors).step_by(8) {
            let block = first..sectors.min(first + 8);
            let sectors: Vec<_> = block.map(|sector| Rot::ZeroSector { sector }).collect();
            self.all("blocks zeroed", &sectors)?;
        }
        Ok(())
    }

    fn bits(&mut self, density: Density) -> Result<(), String> {
        let bits = self.bytes.len() as u64 * 8;
        let step = usize::try_from(density.bits).unwrap_or(1);
        for at in (0..bits).step_by(step) {
            let bit = u8::try_from(at % 8).unwrap_or(0);
            self.rot("bits flipped", Rot::FlipBit { offset: at / 8, bit })?;
        }
        Ok(())
    }

    fn sectors_zeroed(&mut self) -> Result<(), String> {
        for sector in 0..(self.bytes.len() as u64).div_ceil(512) {
            self.rot("sectors zeroed", Rot::ZeroSector { sector })?;
        }
        Ok(())
    }

    fn sectors(&mut self, density: Density) -> Result<(), String> {
        let sectors = (self.bytes.len() as u64).div_ceil(512);
        self.sectors_zeroed()?;
        for sector in 0..sectors {
            self.rot("sectors stale", Rot::StaleSector { sector })?;
            let others = if density.misdirect_all { sectors } else { sectors.min(2) };
            for other in 1..others {
                let from = (sector + other) % sectors;
                self.rot("sectors misdirected", Rot::Misdirected { from, to: sector })?;
            }
        }
        Ok(())
    }

    /// Every length; with a density, some near the start, the end, the header and the footer and
    /// fewer in between.
    fn lengths(&mut self, density: Density) -> Result<(), String> {
        let whole = self.bytes.len() as u64;
        for length in 0..whole {
            let close = length < 40 || whole - length < 140 || length.abs_diff(4096) < 80;
            let one_in = if close { density.lengths.min(8) } else { density.lengths };
            if length.is_multiple_of(one_in) {
                self.rot("files cut", Rot::Cut { bytes: length })?;
            }
        }
        Ok(())
    }
}
