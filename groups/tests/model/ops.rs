//! What tests do to groups, and what should come of it: the same steps, carried out on groups and
//! on maps in memory.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;

use indelible::io::sim::SimDisk;
use indelible::{Batch, CellValue, Durability, Error, Log, Options, Result, SideFile};
use indelible_groups::{Group, GroupBatch, Groups, GroupsOptions};

/// One step. Numbers choose among what is there when it is carried out.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Create(u64),
    Remove(u64),
    Append {
        group: u64,
        count: u64,
        bytes: usize,
    },
    /// Drops so many at the end and appends so many, with a cell, as one batch.
    Replace {
        group: u64,
        back: u64,
        count: u64,
    },
    Trim {
        group: u64,
        count: u64,
    },
    Reset {
        group: u64,
        ahead: u64,
    },
    Set {
        group: u64,
        cell: u8,
        value: u8,
    },
    Clear {
        group: u64,
        cell: u8,
    },
    /// With no bytes, an empty one.
    Snapshot {
        group: u64,
        bytes: usize,
    },
    /// Clears the snapshot and attaches the same side file again, as one batch.
    Retake {
        group: u64,
    },
    /// Sets a large cell and then clears another, as one batch: with both of them all cells may be
    /// too large.
    Large {
        group: u64,
        cell: u8,
    },
    /// Appends more entries than one step of reclaim looks at, and trims nearly all, as one batch.
    Many {
        group: u64,
    },
    Lazily {
        group: u64,
        value: u8,
    },
    /// An entry moves from one group to another, as one batch over both.
    Move {
        from: u64,
        to: u64,
    },
    Sync,
    Maintain,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GroupModel {
    pub(crate) first: u64,
    pub(crate) entries: Vec<Vec<u8>>,
    pub(crate) cells: BTreeMap<String, Vec<u8>>,
    pub(crate) lazy: BTreeMap<String, Vec<u8>>,
}

/// What is expected to be durable once everything so far is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) groups: BTreeMap<u64, GroupModel>,
    /// Makes every entry another one.
    pub(crate) counter: u64,
}

fn entry(group: u64, number: u64, bytes: usize) -> Vec<u8> {
    let mut entry = format!("{group}/{number}/").into_bytes();
    entry.resize(bytes.max(entry.len()), u8::try_from(number % 251).unwrap());
    entry
}

impl GroupModel {
    fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// The lazily set cells go along with a batch that changes something.
    fn ride(&mut self) {
        self.cells.append(&mut self.lazy);
    }

    fn seen(&self) -> BTreeMap<String, Vec<u8>> {
        let mut seen = self.cells.clone();
        seen.extend(self.lazy.clone());
        seen
    }

    fn set(&mut self, cell: &str, value: Vec<u8>) {
        let same = self.seen().get(cell) == Some(&value);
        if !same || self.lazy.contains_key(cell) {
            self.ride();
        }
        self.cells.insert(cell.to_owned(), value);
    }
}

impl Model {
    /// Carries a step out on both. The model has it also if the groups fail: whether it survives is
    /// open then.
    pub(crate) fn run(&mut self, groups: &Groups, op: &Op) -> Result<()> {
        match *op {
            Op::Create(id) => {
                let known = self.groups.contains_key(&id);
                self.groups.entry(id).or_default();
                refused_if(known, groups.create_group(id))
            }
            Op::Remove(id) => {
                let known = self.groups.remove(&id).is_some();
                refused_if(!known, groups.remove_group(id))
            }
            Op::Move { from, to } => self.move_entry(groups, from, to),
            Op::Sync => {
                self.groups.values_mut().for_each(GroupModel::ride);
                groups.sync()
            }
            Op::Maintain => groups.maintain(),
            Op::Append { group, .. }
            | Op::Replace { group, .. }
            | Op::Trim { group, .. }
            | Op::Reset { group, .. }
            | Op::Set { group, .. }
            | Op::Clear { group, .. }
            | Op::Snapshot { group, .. }
            | Op::Retake { group }
            | Op::Large { group, .. }
            | Op::Many { group }
            | Op::Lazily { group, .. } => {
                let Some(model) = self.groups.get_mut(&group) else {
                    return refused_if(true, groups.group(group));
                };
                // A failed group is gone from the map only if the log is closed or worse.
                let handle = groups.group(group)?;
                change(model, &mut self.counter, &handle, op)
            }
        }
    }

    fn move_entry(&mut self, groups: &Groups, from: u64, to: u64) -> Result<()> {
        let has = |id: &u64| self.groups.contains_key(id);
        if from == to || !has(&from) || !has(&to) {
            return Ok(());
        }
        let Some(moved) = self.groups.get_mut(&from).and_then(|model| {
            let moved = model.entries.pop()?;
            model.ride();
            Some(moved)
        }) else {
            return Ok(());
        };
        let end = self.groups[&from].next();
        let (mut drops, mut takes) = (Batch::new(), Batch::new());
        drops.truncate(end);
        takes.append(&moved[..]).set("moved", moved.clone());
        let mut both = GroupBatch::new();
        both.change(from, &drops).change(to, &takes);
        let model = self.groups.get_mut(&to).unwrap();
        model.ride();
        model.entries.push(moved.clone());
        model.cells.insert("moved".into(), moved.clone());
        groups.commit(&both).map(drop)
    }

    /// What the groups hold, as this model would have it.
    pub(crate) fn observed(groups: &Groups) -> Result<BTreeMap<u64, GroupModel>> {
        let mut found = BTreeMap::new();
        for id in groups.ids() {
            let group = groups.group(id)?;
            let mut model = GroupModel { first: group.first(), ..GroupModel::default() };
            for entry in group.iter(group.first()) {
                model.entries.push(entry?.1);
            }
            for (name, _) in group.cells() {
                let value = match group.cell(&name) {
                    Some(value) => value.to_vec(),
                    None => group.side_file(&name)?.unwrap().read_all()?,
                };
                model.cells.insert(name, value);
            }
            found.insert(id, model);
        }
        Ok(found)
    }

    /// What is seen while the log is open: with the lazily set cells.
    pub(crate) fn seen(&self) -> BTreeMap<u64, GroupModel> {
        let mut seen = self.groups.clone();
        seen.values_mut().for_each(GroupModel::ride);
        seen
    }

    /// What is there after a crash: without the lazily set cells that went along with nothing.
    pub(crate) fn durable(&self) -> BTreeMap<u64, GroupModel> {
        let mut durable = self.groups.clone();
        for model in durable.values_mut() {
            model.lazy.clear();
        }
        durable
    }
}

fn change(model: &mut GroupModel, counter: &mut u64, group: &Group, op: &Op) -> Result<()> {
    let mut new = |bytes: usize| {
        *counter += 1;
        entry(group.id(), *counter, bytes)
    };
    let mut batch = Batch::new();
    match *op {
        Op::Append { count, bytes, .. } => {
            let entries: Vec<_> = (0..count).map(|_| new(bytes)).collect();
            for entry in &entries {
                batch.append(entry.clone());
            }
            if !entries.is_empty() {
                model.ride();
            }
            model.entries.extend(entries);
        }
        Op::Replace { back, count, .. } => {
            let kept =
                model.entries.len() - usize::try_from(back).unwrap().min(model.entries.len());
            batch.truncate(model.first + kept as u64);
            model.entries.truncate(kept);
            model.ride();
            let term = new(12);
            batch.set("term", term.clone());
            model.cells.insert("term".into(), term);
            for _ in 0..count {
                let entry = new(70);
                batch.append(entry.clone());
                model.entries.push(entry);
            }
        }
        Op::Trim { count, .. } => {
            let gone = usize::try_from(count).unwrap().min(model.entries.len());
            batch.trim(model.first + gone as u64);
            if gone > 0 {
                model.ride();
            }
            model.entries.drain(..gone);
            model.first += gone as u64;
        }
        Op::Reset { ahead, .. } => {
            let base = model.next() + ahead;
            batch.reset(base);
            if base != model.first || !model.entries.is_empty() {
                model.ride();
            }
            model.entries.clear();
            model.first = base;
        }
        Op::Many { .. } => many(model, &mut new, &mut batch),
        Op::Lazily { value, .. } => {
            let value = vec![value; 8];
            if model.seen().get("decided") != Some(&value) {
                model.lazy.insert("decided".into(), value.clone());
            }
            return group.set_lazily("decided", &value);
        }
        _ => return change_cells(model, &mut new, group, op),
    }
    group.commit(&batch).map(drop)
}

/// More entries than a step of maintenance looks at, all of which but a few are trimmed at once.
fn many(model: &mut GroupModel, new: &mut impl FnMut(usize) -> Vec<u8>, batch: &mut Batch<'_>) {
    const ENTRIES: usize = 600;
    const KEPT: usize = 4;
    model.ride();
    for _ in 0..ENTRIES {
        let entry = new(8);
        batch.append(entry.clone());
        model.entries.push(entry);
    }
    let gone = model.entries.len() - KEPT;
    model.entries.drain(..gone);
    model.first += gone as u64;
    batch.trim(model.first);
}

fn change_cells(
    model: &mut GroupModel,
    new: &mut impl FnMut(usize) -> Vec<u8>,
    group: &Group,
    op: &Op,
) -> Result<()> {
    let mut batch = Batch::new();
    match *op {
        Op::Set { cell, value, .. } => {
            let name = format!("cell.{}", cell % 3);
            batch.set(name.clone(), vec![value; 9]);
            model.set(&name, vec![value; 9]);
        }
        Op::Clear { cell, .. } => {
            let name = format!("cell.{}", cell % 3);
            batch.clear(name.clone());
            if model.seen().contains_key(&name) {
                model.ride();
            }
            model.cells.remove(&name);
        }
        Op::Snapshot { bytes, .. } => {
            let contents = if bytes == 0 { Vec::new() } else { new(bytes) };
            let mut file = group.side_file_writer()?;
            let written = file.write_all(&contents);
            model.ride();
            model.cells.insert("snapshot".into(), contents);
            written.map_err(|error| error.downcast::<Error>().unwrap())?;
            batch.attach("snapshot", file.finish()?);
        }
        Op::Retake { .. } => {
            let cells = group.cells().into_iter();
            for (name, value) in cells.filter(|(name, _)| name == "snapshot") {
                let CellValue::SideFile(file) = value else { panic!("{value:?}") };
                batch.clear(name.clone()).attach(name, SideFile::from_reference(file));
                model.ride();
            }
        }
        Op::Large { cell, .. } => {
            let [set, cleared] = [cell % 4, (cell % 4 + 1) % 4].map(|nth| format!("large.{nth}"));
            let value = vec![cell / 4; 900];
            batch.set(set.clone(), value.clone()).clear(cleared.clone());
            model.set(&set, value);
            if model.seen().contains_key(&cleared) {
                model.ride();
            }
            model.cells.remove(&cleared);
        }
        _ => return Ok(()),
    }
    group.commit(&batch).map(drop)
}

/// A step that the groups have to refuse as an argument, or else to carry out.
fn refused_if<V: std::fmt::Debug>(refused: bool, answer: Result<V>) -> Result<()> {
    match answer {
        Err(Error::InvalidArgument { .. }) if refused => Ok(()),
        Ok(answer) if refused => panic!("{answer:?} instead of a refusal"),
        other => other.map(drop),
    }
}

pub(crate) fn log_options(durability: Durability) -> Options {
    Options::new().background(false).tiny_segments(8 * 1024).durability(durability)
}

pub(crate) fn options(durability: Durability) -> GroupsOptions {
    GroupsOptions::new().log(log_options(durability)).checkpoint_bytes(4 * 1024)
}

pub(crate) fn open(disk: &SimDisk, durability: Durability) -> Result<Groups> {
    let (log, _) = Log::open_or_create_in(Arc::new(disk.clone()), &log_options(durability))?;
    Groups::from_log(log, &options(durability))
}
