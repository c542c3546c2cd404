//! The sweeps of exchanged files: small logs of each shape in which files, or slots, are older copies
//! of themselves, and in which segments have each other's names, wrong ones, several, or are those of
//! another log.
//!
//! Owns: what is exchanged, and what is done afterwards: the log goes on where it opens, and a repair
//! takes nothing that could be read. Does not own: the logs, and what may be read of them (`shape`).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::explore::{Subject, Tally, Violation, guarded};
use super::model::Model;
use super::rot::Share;
use super::shape::{Changed, Files, Past, SHAPES, Shape, segment_name};
use crate::batch::Batch;
use crate::error::Error;
use crate::format::names::{METADATA, spare};
use crate::format::{BLOCK_BYTES, SegmentName};
use crate::io::sim::{Moment, SimDisk};
use crate::log::Log;
use crate::repair::{apply_in, plan_in};

/// Puts older copies into a log of one shape: of each file, of each slot, of the metadata file with
/// the tail, of everything; each of every moment of its life.
pub fn sweep_older(
    shape: usize,
    closed: bool,
    seed: u64,
    part: Share,
) -> (Tally, Option<Violation>) {
    sweep(shape, closed, seed, part, |run| {
        let shape = run.shape;
        shape.past.iter().try_for_each(|past| run.older(past))
    })
}

/// Exchanges the segments of a log of one shape: each has every other one's place, a wrong name, a
/// second one, or is one of another log.
pub fn sweep_names(
    shape: usize,
    closed: bool,
    seed: u64,
    part: Share,
) -> (Tally, Option<Violation>) {
    sweep(shape, closed, seed, part, |run| {
        let twin = Shape::build(run.shape.name, closed, !seed)?;
        // Its segments have numbers that go on above those of most shapes.
        let longer = Shape::build("recycled", closed, !seed)?;
        run.swapped()?;
        run.renamed()?;
        run.copied()?;
        [twin, longer].iter().try_for_each(|other| run.foreign(&other.files()))
    })
}

fn sweep(
    shape: usize,
    closed: bool,
    seed: u64,
    part: Share,
    exchange: impl FnOnce(&mut Exchange<'_>) -> Result<(), String>,
) -> (Tally, Option<Violation>) {
    let [first, ..] = SHAPES;
    let name = SHAPES.get(shape).copied().unwrap_or(first);
    let subject = Subject::Small(2 * shape as u64 + u64::from(closed), 0);
    guarded(&subject, seed, |tally| {
        // The log counts once, not with each of its parts.
        tally.programs = u64::from(part.part == 0);
        let shape = Shape::build(name, closed, seed)?;
        let (files, tried, once) = (shape.files(), HashSet::new(), Vec::new());
        exchange(&mut Exchange { shape: &shape, files, share: part, turn: 0, tried, once, tally })
    })
}

struct Exchange<'a> {
    shape: &'a Shape,
    /// The files of the log as they should be.
    files: Files,
    share: Share,
    /// Numbers the exchanges, of which every so many belong to this share.
    turn: u64,
    /// Sums of the directories that were looked at already.
    tried: HashSet<u64>,
    /// What the log was when metadata file and tail were these, if both were exchanged: nothing shows
    /// that it was more since.
    once: Vec<Arc<Model>>,
    tally: &'a mut Tally,
}

/// A file under a name.
type Named<'a> = (&'a str, &'a [u8]);

impl Exchange<'_> {
    fn older(&mut self, past: &Past) -> Result<(), String> {
        for (name, bytes) in &past.files {
            self.put("older copies of a file", &[(name, bytes)])?;
        }
        if past.exists {
            self.all("older copies of everything", "everything", &past.files)?;
        }
        let (Some(old), Some(new)) = (past.files.get(METADATA), self.files.get(METADATA).cloned())
        else {
            return Ok(());
        };
        let tail = past.files.iter().rfind(|(name, _)| segment_name(name).is_some());
        if let Some((name, bytes)) = tail {
            self.once.clone_from(&past.allowed);
            let both = [(METADATA, &old[..]), (name, bytes)];
            let put = self.put("older copies of metadata and tail", &both);
            self.once.clear();
            put?;
        }
        for (slot, other) in [(0, BLOCK_BYTES), (BLOCK_BYTES, 0)] {
            let Some(bytes) = old.get(slot..slot + BLOCK_BYTES) else { continue };
            let mut mixed = new.clone();
            put_bytes(&mut mixed, slot, bytes);
            self.put("older slots", &[(METADATA, &mixed)])?;
            put_bytes(&mut mixed, other, &[0; BLOCK_BYTES]);
            self.put("older slots without the other one", &[(METADATA, &mixed)])?;
        }
        Ok(())
    }

    fn segments(&self) -> Vec<SegmentName> {
        self.files.keys().filter_map(|name| segment_name(name)).collect()
    }

    fn swapped(&mut self) -> Result<(), String> {
        let names: Vec<_> = self.segments().iter().map(ToString::to_string).collect();
        let files = self.files.clone();
        for (at, one) in names.iter().enumerate() {
            for two in names.iter().skip(at + 1) {
                if let (Some(first), Some(second)) = (files.get(one), files.get(two)) {
                    self.put("segments swapped", &[(one, second), (two, first)])?;
                    self.put("segments over another one", &[(one, second)])?;
                    self.put("segments over another one", &[(two, first)])?;
                }
            }
        }
        Ok(())
    }

    /// Other names for a segment: with the bases around its own and those of all others, and with
    /// numbers around its own and after all others.
    fn other_names(&self, name: SegmentName) -> BTreeSet<SegmentName> {
        let segments = self.segments();
        let SegmentName { number, base } = name;
        let around = |it: u64| [it.saturating_sub(1), it.saturating_add(1)];
        let last = segments.last().map_or(number, |last| last.number);
        let bases = segments.iter().map(|it| it.base).chain(around(base)).chain([0]);
        let numbers = around(number).into_iter().chain([last + 1, last + 2]);
        let lies = bases.map(|base| SegmentName { number, base });
        let mut lies: BTreeSet<_> =
            lies.chain(numbers.map(|number| SegmentName { number, base })).collect();
        lies.retain(|lie| lie.number > 0 && !self.files.contains_key(&lie.to_string()));
        lies
    }

    fn renamed(&mut self) -> Result<(), String> {
        for name in self.segments() {
            for lie in self.other_names(name) {
                let mut files = self.files.clone();
                if let Some(bytes) = files.remove(&name.to_string()) {
                    files.insert(lie.to_string(), bytes);
                }
                self.all("segments renamed", &format!("{name} as {lie}"), &files)?;
            }
        }
        Ok(())
    }

    fn copied(&mut self) -> Result<(), String> {
        for name in self.segments() {
            let Some(bytes) = self.files.get(&name.to_string()).cloned() else { continue };
            for lie in self.other_names(name) {
                self.put("segments twice", &[(&lie.to_string(), &bytes)])?;
            }
            self.put("segments as spares", &[(&spare(name.number), &bytes)])?;
        }
        Ok(())
    }

    /// Segments of another log: each in the place of one of this log, and all of them beside it.
    fn foreign(&mut self, other: &Files) -> Result<(), String> {
        let theirs = other.iter().filter(|(name, _)| segment_name(name).is_some());
        let mut all = self.files.clone();
        for (name, bytes) in theirs {
            all.entry(name.clone()).or_insert_with(|| bytes.clone());
            self.put("segments of another log", &[(name, bytes)])?;
            self.put("segments of another log as spares", &[(&spare(1), bytes)])?;
            for own in self.segments() {
                let own = own.to_string();
                self.put("segments of another log", &[(&own, bytes)])?;
                // What a write to another file has left in this one.
                if let Some(mut mixed) = self.files.get(&own).cloned()
                    && let Some(frames) = bytes.get(BLOCK_BYTES..)
                {
                    put_bytes(&mut mixed, BLOCK_BYTES, frames);
                    self.put("frames of another log", &[(&own, &mixed)])?;
                }
            }
        }
        self.all("all segments of another log", "all of them", &all)
    }

    /// Puts files in their places.
    fn put(&mut self, kind: &'static str, put: &[Named<'_>]) -> Result<(), String> {
        let mut files = self.files.clone();
        files.extend(put.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())));
        let names: Vec<_> = put.iter().map(|(name, _)| *name).collect();
        self.all(kind, &names.join(" and "), &files)
    }

    /// Opens a log whose files are these, goes on with it, and has it repaired.
    fn all(&mut self, kind: &'static str, what: &str, files: &Files) -> Result<(), String> {
        let mut sum = DefaultHasher::new();
        files.hash(&mut sum);
        if *files == self.files || !self.tried.insert(sum.finish()) {
            return Ok(());
        }
        self.turn += 1;
        if self.turn % self.share.parts != self.share.part {
            return Ok(());
        }
        self.tally.count(kind);
        let (turn, name, closed) = (self.turn, self.shape.name, self.shape.closed);
        self.look_at(files).map_err(|said| {
            format!("{said}; {kind}: {what}, number {turn} of {name}, closed {closed}")
        })
    }

    fn look_at(&mut self, files: &Files) -> Result<(), String> {
        let (shape, changed) = (self.shape, self.shape.changed(files, &self.once));
        let disk = disk_of(files);
        if let Some((log, model)) = shape.open(&disk, &changed, self.tally)? {
            self.go_on(&disk, log, &model, &changed)?;
        }
        self.repair(files, &changed)
    }

    /// Appends to a log that opened, first little, then what rolls; each time it is killed and opened
    /// again. What could be read is there, with what was appended, and nothing else.
    fn go_on(
        &mut self,
        disk: &SimDisk,
        mut log: Log,
        model: &Model,
        changed: &Changed,
    ) -> Result<(), String> {
        let (mut disk, mut model) = (disk.clone(), model.clone());
        let (before, end) = (readable(&log), model.next());
        for entries in [vec![vec![0xc3; 40]], vec![vec![0xd7; 1200]; 6]] {
            let mut batch = Batch::new();
            for entry in &entries {
                batch.append(entry.clone());
            }
            if let Err(error) = log.commit(&batch) {
                disk.crash_at_call(0, Moment::Before);
                drop(log);
                let explained = changed.is_to_blame(&error);
                self.tally.count("no write beside the damage");
                return if explained { Ok(()) } else { Err(format!("an append: {error}")) };
            }
            for entry in entries {
                model.append(entry);
            }
            disk = disk.kill();
            drop(log);
            log = match Log::open_in(Arc::new(disk.clone()), &self.shape.options) {
                Ok((log, _)) => log,
                Err(error) => return Err(format!("no open after an append: {error}")),
            };
            let bounds = (log.first(), log.next());
            if bounds != (model.first, model.next()) {
                return Err(format!("{bounds:?} after an append, not up to {}", model.next()));
            }
            let now = readable(&log);
            for index in model.first..model.next() {
                let right = model.entry(index).map(|entry| entry.to_vec());
                match now.get(&index) {
                    None if index < end && !before.contains_key(&index) => {}
                    got if got == right.as_ref() => {}
                    got => return Err(format!("entry {index} is {got:?} after an append")),
                }
            }
        }
        disk.crash_at_call(0, Moment::Before);
        self.tally.count("written to, killed, opened again");
        Ok(())
    }

    /// A repair takes nothing that can be read, and brings nothing that was not written.
    fn repair(&mut self, files: &Files, changed: &Changed) -> Result<(), String> {
        let before = readable_of(&disk_of(files), self.shape);
        let disk = disk_of(files);
        let planned = plan_in(Arc::new(disk.clone()));
        let repaired = apply_in(Arc::new(disk.clone()), Arc::new(SimDisk::new(2)));
        for error in [planned.as_ref().err(), repaired.as_ref().err()].into_iter().flatten() {
            if !matches!(error, Error::Damaged { .. } | Error::Missing { .. }) {
                return Err(format!("a repair: {error}"));
            }
        }
        if repaired.is_err() {
            self.tally.count("no repair");
            return Ok(());
        }
        let after = readable_of(&disk, self.shape);
        for (index, entry) in &before {
            if after.get(index) != Some(entry) {
                return Err(format!("a repair takes entry {index}"));
            }
        }
        for (index, entry) in &after {
            if !self.shape.is_known(*index, entry, changed) {
                return Err(format!("a repair brings entry {index}, which is another one"));
            }
        }
        self.tally.count("repaired");
        Ok(())
    }
}

fn put_bytes(file: &mut [u8], at: usize, bytes: &[u8]) {
    for (old, new) in file.iter_mut().skip(at).zip(bytes) {
        *old = *new;
    }
}

fn disk_of(files: &Files) -> SimDisk {
    let files: Vec<_> = files.iter().map(|(name, bytes)| (name.clone(), bytes.clone())).collect();
    SimDisk::from_image(2, &files)
}

/// The entries that can be read.
fn readable(log: &Log) -> BTreeMap<u64, Vec<u8>> {
    let entry = |index| Some((index, log.entry(index).ok()?));
    (log.first()..log.next()).filter_map(entry).collect()
}

/// The same, of a log that may open with holes; none, if it is refused.
fn readable_of(disk: &SimDisk, shape: &Shape) -> BTreeMap<u64, Vec<u8>> {
    let options = shape.options.clone().allow_holes(true);
    let Ok((log, _)) = Log::open_in(Arc::new(disk.clone()), &options) else {
        return BTreeMap::new();
    };
    let found = readable(&log);
    disk.crash_at_call(0, Moment::Before);
    found
}
