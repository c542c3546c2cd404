//! Rot: every file of logs with groups that were checkpointed, paged, carried and trimmed decays, after a
//! close, a kill and a power cut. What is acknowledged reads right or is named, group by group; the others
//! go on; a repair forgets nothing without a mark.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use indelible::io::mem::MemDirectory;
use indelible::io::sim::{Moment, Persistence, Rot, SimDisk};
use indelible::{Durability, Error, Log, repair};
use indelible_groups::{Group, Groups, STATE_LOST};

use crate::crash::{About, program, run};
use crate::ops::{GroupModel, Model, log_options, open, options};

/// Bytes of a sector, and sectors of a block.
const SECTOR: u64 = 512;
const BLOCK_SECTORS: u64 = 8;
/// Steps between two moments of which there are older copies.
const OLDER_STEPS: usize = 16;

/// Files by name.
type Files = Vec<(String, Vec<u8>)>;

/// How a log came to rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Closed,
    Killed,
    /// The power was cut in the middle of a call, after so many percent of them.
    Cut(u64),
}

/// How densely files decay: one bit, sector and length of so many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Density {
    pub(crate) bits: usize,
    pub(crate) sectors: usize,
    pub(crate) lengths: usize,
}

/// What became of the logs.
#[derive(Debug, Default)]
pub(crate) struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    fn count(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counts: Vec<_> = self.0.iter().map(|(what, count)| format!("{what} {count}")).collect();
        f.write_str(&counts.join(", "))
    }
}

/// Everything a group ever held: entries by index, cells by name.
#[derive(Debug, Default)]
struct Ever {
    entries: BTreeSet<(u64, Vec<u8>)>,
    cells: BTreeSet<(String, Vec<u8>)>,
}

/// A log at rest, and what it has been.
struct Scene {
    disk: SimDisk,
    /// After each step. What was acknowledged is in all of those from `floor` on.
    models: Vec<BTreeMap<u64, GroupModel>>,
    floor: usize,
    ever: BTreeMap<u64, Ever>,
    /// Files at earlier moments, each with the number of steps there were.
    older: Vec<(usize, Files)>,
    /// Nothing can be taken for the unfinished end of a write.
    closed: bool,
}

/// What is there of a group; nothing in the place of what cannot be read.
struct Found {
    first: u64,
    entries: Vec<Option<Vec<u8>>>,
    cells: BTreeMap<String, Option<Vec<u8>>>,
    /// Its state is marked as one that may be older.
    lost: bool,
}

impl Scene {
    fn new(seed: u64, end: End) -> Self {
        let steps = About::Carry.program(seed);
        let disk = SimDisk::new(seed);
        let mut older = Vec::new();
        let (models, floor, left) = if let End::Cut(percent) = end {
            let rehearsal = SimDisk::new(seed);
            run(&rehearsal, &steps, Durability::Always);
            let call = rehearsal.calls() * percent / 100;
            disk.crash_at_call(call, Moment::Within);
            let outcome = run(&disk, &steps, Durability::Always);
            let left = disk.crash_copy(Persistence::Random(call));
            (outcome.models, outcome.acknowledged, left)
        } else {
            let groups = open(&disk, Durability::Always).unwrap();
            let mut model = Model::default();
            let mut models = Vec::new();
            for (step, op) in program(seed).iter().enumerate() {
                model.run(&groups, op).unwrap();
                models.push(model.clone());
                if step % OLDER_STEPS == OLDER_STEPS - 1 {
                    older.push((step, disk.durable_image()));
                }
            }
            let mut floor = models.len() - 1;
            if end == End::Closed {
                groups.close().unwrap();
                models.push(Model { groups: model.seen(), counter: 0 });
                floor += 1;
            }
            (models, floor, disk.crash_copy(Persistence::Nothing))
        };
        let models: Vec<_> = models.iter().map(Model::durable).collect();
        let mut ever: BTreeMap<u64, Ever> = BTreeMap::new();
        for (id, group) in models.iter().flatten() {
            let ever = ever.entry(*id).or_default();
            ever.entries.extend((group.first..).zip(group.entries.iter().cloned()));
            ever.cells.extend(group.cells.clone());
        }
        Self { disk: left, models, floor, ever, older, closed: end == End::Closed }
    }

    /// Lets every file decay in every way, one at a time.
    fn sweep(&self, density: Density, tally: &mut Tally) -> Result<(), String> {
        for (name, bytes) in self.disk.durable_image() {
            let length = bytes.len() as u64;
            let sectors = length.div_ceil(SECTOR);
            let one = |rot| vec![rot];
            let bits = (0..length * 8)
                .step_by(density.bits)
                .map(|at| one(Rot::FlipBit { offset: at / 8, bit: u8::try_from(at % 8).unwrap() }));
            let some = || (0..sectors).step_by(density.sectors);
            let zeroed = some().map(|sector| one(Rot::ZeroSector { sector }));
            let stale = some().map(|sector| one(Rot::StaleSector { sector }));
            let astray =
                some().map(|from| one(Rot::Misdirected { from, to: (from + 1) % sectors }));
            let block = |at: u64| at..sectors.min(at + BLOCK_SECTORS);
            let blocks = (0..sectors.div_ceil(BLOCK_SECTORS)).map(|nth| {
                block(nth * BLOCK_SECTORS).map(|sector| Rot::ZeroSector { sector }).collect()
            });
            let cuts = (0..length).step_by(density.lengths).map(|bytes| one(Rot::Cut { bytes }));
            let all: [(_, &mut dyn Iterator<Item = Vec<Rot>>); 7] = [
                ("bits flipped", &mut { bits }),
                ("sectors zeroed", &mut { zeroed }),
                ("sectors stale", &mut { stale }),
                ("sectors misdirected", &mut { astray }),
                ("blocks zeroed", &mut { blocks }),
                ("files cut", &mut { cuts }),
                ("files missing", &mut std::iter::once(one(Rot::Remove))),
            ];
            for (kind, rots) in all {
                for rots in rots {
                    let disk = self.disk.crash_copy(Persistence::Nothing);
                    for rot in &rots {
                        disk.rot(&name, *rot).map_err(|error| format!("{rot:?}: {error}"))?;
                    }
                    tally.count(kind);
                    let floor = self.floor.saturating_sub(usize::from(!self.closed));
                    self.guarded(&disk, floor, tally)
                        .map_err(|wrong| format!("{rots:?} of {name}: {wrong}"))?;
                }
            }
        }
        Ok(())
    }

    /// Puts an older copy of each file in its place, of each moment.
    fn sweep_older(&self, tally: &mut Tally) -> Result<(), String> {
        let now = self.disk.durable_image();
        for (step, files) in &self.older {
            for (name, bytes) in files {
                let mut image = now.clone();
                let Some((_, place)) = image.iter_mut().find(|(found, _)| found == name) else {
                    continue;
                };
                if std::mem::replace(place, bytes.clone()) == *bytes {
                    continue;
                }
                tally.count("older copies");
                // A tail of before, with a checkpoint that is no newer, is a log of before.
                self.guarded(&SimDisk::from_image(1, &image), *step, tally)
                    .map_err(|wrong| format!("{name} of step {step}: {wrong}"))?;
            }
        }
        Ok(())
    }

    fn guarded(&self, disk: &SimDisk, floor: usize, tally: &mut Tally) -> Result<(), String> {
        let checked = catch_unwind(AssertUnwindSafe(|| self.check(disk, floor, tally)));
        checked.unwrap_or_else(|_| Err("it panicked".to_owned()))
    }

    /// Opens what is left, and a repaired copy of it.
    fn check(&self, disk: &SimDisk, floor: usize, tally: &mut Tally) -> Result<(), String> {
        let copy = disk.crash_copy(Persistence::Nothing);
        match reopen(disk, false) {
            Ok(groups) => self.check_opened(&groups, floor, tally)?,
            Err(error) => refused(&error).map(|()| tally.count("refused"))?,
        }
        let kept = Arc::new(MemDirectory::new());
        match repair::apply_in(Arc::new(copy.clone()), kept) {
            Ok(plan) if plan.obstacle.is_some() => tally.count("cannot be repaired"),
            Ok(plan) => match reopen(&copy, true) {
                Ok(groups) => self
                    .check_repaired(&groups, floor, tally)
                    .map_err(|wrong| format!("{wrong}, after {plan:?}"))?,
                Err(error) => refused(&error).map(|()| tally.count("refused when repaired"))?,
            },
            Err(error) => refused(&error).map(|()| tally.count("repair refused"))?,
        }
        Ok(())
    }

    /// All of it is what some step left, but for what is named; and a peer heals it.
    fn check_opened(&self, groups: &Groups, floor: usize, tally: &mut Tally) -> Result<(), String> {
        let found = observed(groups)?;
        let is_left = |model: &BTreeMap<u64, GroupModel>| {
            found.keys().eq(model.keys()) && found.iter().all(|(id, it)| it.is(&model[id]))
        };
        let Some(step) = self.models.iter().rposition(is_left).filter(|step| *step >= floor) else {
            let told: Vec<_> =
                found.iter().map(|(id, it)| (id, it.first, it.entries.len())).collect();
            let back = self.models.iter().rposition(is_left);
            return Err(format!("{told:?} is of step {back:?}, before {floor}"));
        };
        let damage = groups.verify().map_err(|error| error.to_string())?;
        let named: BTreeMap<u64, Vec<Range<u64>>> = damage
            .iter()
            .map(|it| (it.group, it.entries.iter().map(|(range, _)| range.clone()).collect()))
            .collect();
        for (id, it) in &found {
            let named = named.get(id).map_or(&[][..], Vec::as_slice);
            let is_named = |index: &u64| named.iter().any(|range| range.contains(index));
            let hurt =
                |index: &u64| it.entries[usize::try_from(index - it.first).unwrap()].is_none();
            let all = it.first..it.first + it.entries.len() as u64;
            if all.clone().any(|index| is_named(&index) != hurt(&index)) {
                return Err(format!("group {id} is hurt otherwise than in {named:?}"));
            }
            let group = groups.group(*id).map_err(|error| error.to_string())?;
            for index in all.filter(hurt) {
                let at = usize::try_from(index - it.first).unwrap();
                let peer = &self.models[step][id].entries[at];
                match group.refill(index, &[peer]) {
                    Ok(_) if group.entry(index).ok().as_ref() == Some(peer) => {
                        tally.count("put back");
                    }
                    // The tail cannot be sealed, and there is no room in it.
                    Err(Error::Damaged { .. }) => tally.count("refill refused"),
                    other => return Err(format!("refill of {index} of group {id}: {other:?}")),
                }
            }
        }
        tally.count(if damage.is_empty() { "opened whole" } else { "opened, and named" });
        if step < self.floor {
            tally.count("taken for an unfinished end");
        }
        Ok(())
    }

    /// What was lost in a repair is marked, whatever of which group it was.
    fn check_repaired(
        &self,
        groups: &Groups,
        floor: usize,
        tally: &mut Tally,
    ) -> Result<(), String> {
        let found = observed(groups)?;
        let last = &self.models[self.models.len() - 1];
        let marked = found.values().filter(|it| it.lost).count();
        for (id, it) in &found {
            let possible = self.models.iter().skip(floor).filter_map(|model| model.get(id));
            let is_left = possible.into_iter().any(|model| it.is(model));
            if !it.lost && !is_left {
                return Err(format!("group {id} forgot something and is not marked"));
            }
            self.check_known(*id, it)?;
        }
        if let Some(id) = last.keys().find(|id| !found.contains_key(id) && marked == 0) {
            return Err(format!("group {id} is gone, and nothing is marked"));
        }
        tally.count(if marked > 0 { "repaired, and marked" } else { "repaired" });
        Ok(())
    }

    /// Nothing is there that never was.
    fn check_known(&self, id: u64, it: &Found) -> Result<(), String> {
        let nothing = Ever::default();
        let ever = self.ever.get(&id).unwrap_or(&nothing);
        for (entry, index) in it.entries.iter().zip(it.first..) {
            if let Some(entry) = entry
                && !ever.entries.contains(&(index, entry.clone()))
            {
                return Err(format!("entry {index} of group {id} never was there"));
            }
        }
        for (name, value) in &it.cells {
            if let Some(value) = value
                && !ever.cells.contains(&(name.clone(), value.clone()))
            {
                return Err(format!("value of cell {name} of group {id} never was there"));
            }
        }
        Ok(())
    }
}

impl Found {
    /// Whether it is this, but for what cannot be read.
    fn is(&self, model: &GroupModel) -> bool {
        let same = |found: &Option<Vec<u8>>, expected: &Vec<u8>| {
            found.as_ref().is_none_or(|found| found == expected)
        };
        self.first == model.first
            && self.entries.len() == model.entries.len()
            && self.entries.iter().zip(&model.entries).all(|(found, it)| same(found, it))
            && self.cells.keys().eq(model.cells.keys())
            && self.cells.values().zip(model.cells.values()).all(|(found, it)| same(found, it))
    }

    fn of(group: &Group) -> Result<Self, String> {
        let mut found =
            Self { first: group.first(), entries: Vec::new(), cells: BTreeMap::new(), lost: false };
        for index in group.first()..group.next() {
            found.entries.push(readable(group.entry(index))?);
        }
        for (name, _) in group.cells() {
            if name == STATE_LOST {
                found.lost = true;
                continue;
            }
            let value = match group.cell(&name) {
                Some(value) => Some(value.to_vec()),
                None => readable(group.side_file(&name).and_then(|file| file.unwrap().read_all()))?,
            };
            found.cells.insert(name, value);
        }
        Ok(found)
    }
}

fn observed(groups: &Groups) -> Result<BTreeMap<u64, Found>, String> {
    let group = |id| Ok((id, Found::of(&groups.group(id).unwrap())?));
    groups.ids().into_iter().map(group).collect()
}

/// What was read, or nothing if an error names it as damaged or missing.
fn readable(read: indelible::Result<Vec<u8>>) -> Result<Option<Vec<u8>>, String> {
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(Error::Damaged { .. } | Error::Hole { .. }) => Ok(None),
        Err(error) => Err(format!("read: {error}")),
    }
}

/// An open or a repair says what is damaged, in an error that is about that.
fn refused(error: &Error) -> Result<(), String> {
    match error {
        Error::Damaged { .. }
        | Error::Missing { .. }
        | Error::Incomplete { .. }
        | Error::UnsupportedVersion { .. }
        | Error::UnsupportedFeature { .. } => Ok(()),
        other => Err(format!("refused with {other:?}")),
    }
}

fn reopen(disk: &SimDisk, holes: bool) -> indelible::Result<Groups> {
    let log = log_options(Durability::Always).allow_holes(holes);
    let (log, _) = Log::open_in(Arc::new(disk.clone()), &log)?;
    Groups::from_log(log, &options(Durability::Always))
}

/// Lets the log of one program decay after it came to rest.
pub(crate) fn explore(
    seed: u64,
    end: End,
    density: Density,
    tally: &mut Tally,
) -> Result<(), String> {
    let told = |wrong| format!("seed {seed}, {end:?}: {wrong}");
    let scene = Scene::new(seed, end);
    scene.sweep(density, tally).map_err(told)?;
    scene.sweep_older(tally).map_err(told)
}

#[cfg(not(feature = "sabotage"))]
#[test]
fn rot_is_named_group_by_group_and_nothing_is_forgotten() {
    let mut tally = Tally::default();
    let density = Density { bits: 9973, sectors: 5, lengths: 4093 };
    for end in [End::Closed, End::Killed, End::Cut(15), End::Cut(70)] {
        explore(1, end, density, &mut tally).unwrap_or_else(|wrong| panic!("{wrong}"));
    }
    for what in ["refused", "opened, and named", "opened whole", "repaired, and marked"] {
        assert!(tally.0.contains_key(what), "{what}: {tally}");
    }
}
