//! Planning a batch over groups: what it changes and which records say so, before anything is
//! written.
//!
//! Owns: every refusal of a batch, by the rules of a log (`indelible::State`). Does not own: the
//! writing (`commit`), nor the effect of the records (`state`).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;
use std::sync::Arc;

use indelible::{Batch, Cells, Change, Error, Log, Result, State};
use parking_lot::RwLock;

use crate::batch::{GroupBatch, Step};
use crate::envelope::{ENVELOPE_BYTES_MAX, Event, Record};
use crate::number::to_u64;
use crate::planted::{Bug, planted};
use crate::state::{Member, STATE_LOST, Table, state_kept};

/// The records of a batch, each a range of one buffer.
#[derive(Debug, Default)]
pub(crate) struct Planned {
    pub(crate) bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Whether an entry is among them: such a batch needs space.
    pub(crate) entries: bool,
}

impl Planned {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.entries = false;
    }

    pub(crate) fn push(&mut self, record: &Record<'_>) {
        record.encode(&mut self.bytes);
        self.ends.push(self.bytes.len());
        let event = record.event;
        self.entries |=
            matches!(event, Event::Entry { .. } | Event::Part { .. } | Event::Page { .. });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes of each record.
    pub(crate) fn records(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let range = |(start, end): (usize, &usize)| -> Range<usize> { start..*end };
        starts.zip(&self.ends).map(range).map(|range| self.bytes.get(range).unwrap_or_default())
    }
}

/// A group as the batch leaves it so far.
#[derive(Debug, Default)]
struct Copy {
    exists: bool,
    /// Its bounds, without its cells.
    bounds: State,
    /// Its cells, once the batch changes one, or if some were set lazily or may be lost.
    cells: Option<State>,
    /// Those that exist before the batch; of it the cells and side files are asked.
    member: Option<Arc<Member>>,
    /// Lazily set cells that have not been put in front of its records yet.
    riders: Vec<(String, Arc<[u8]>)>,
    /// Whether the batch changes it.
    changed: bool,
    /// Its state may be lost, and no record of the batch says yet that this is accepted.
    doubtful: bool,
}

/// Lazily set cells that a batch takes along: group and name.
pub(crate) type Riders = Vec<(Arc<Member>, String)>;

/// A plan under way.
#[derive(Debug)]
pub(crate) struct Planner<'p> {
    table: &'p RwLock<Table>,
    entry_bytes_max: u64,
    copies: BTreeMap<u64, Copy>,
    planned: &'p mut Planned,
    riders: Riders,
}

impl<'p> Planner<'p> {
    pub(crate) fn new(
        table: &'p RwLock<Table>,
        entry_bytes_max: u64,
        planned: &'p mut Planned,
    ) -> Self {
        planned.clear();
        Self { table, entry_bytes_max, copies: BTreeMap::new(), planned, riders: Vec::new() }
    }

    /// Plans a whole batch. Returns the lazily set cells that go along.
    pub(crate) fn batch(mut self, batch: &GroupBatch<'_>) -> Result<Riders> {
        for (group, step) in &batch.steps {
            self.step(*group, step)?;
        }
        self.finish()
    }

    /// Plans the changes of one group.
    pub(crate) fn changes(mut self, group: u64, batch: &Batch<'_>) -> Result<Riders> {
        batch.changes().try_for_each(|change| self.change(group, &change))?;
        self.finish()
    }

    /// Plans one entry of one group.
    pub(crate) fn append(mut self, group: u64, entry: &[u8]) -> Result<Riders> {
        self.change(group, &Change::Append(entry))?;
        self.finish()
    }

    /// Plans what waits in some groups, and nothing else.
    pub(crate) fn riders(mut self, groups: impl Iterator<Item = u64>) -> Result<Riders> {
        groups.for_each(|group| self.load(group));
        self.finish()
    }

    /// Plans records that change nothing that could refuse them.
    pub(crate) fn records<'r>(self, records: impl Iterator<Item = Record<'r>>) -> Result<Riders> {
        records.for_each(|record| self.planned.push(&record));
        self.finish()
    }

    fn finish(mut self) -> Result<Riders> {
        let changed = self.copies.values().filter(|copy| copy.changed);
        for state in changed.filter_map(|copy| copy.cells.as_ref()) {
            state.check()?;
            state_kept(state)?;
        }
        Ok(std::mem::take(&mut self.riders))
    }

    fn step(&mut self, group: u64, step: &Step<'_>) -> Result<()> {
        match step {
            Step::Change(batch) => {
                batch.changes().try_for_each(|change| self.change(group, &change))
            }
            Step::Create => {
                let copy = self.copy(group);
                if copy.exists {
                    let reason = "there is such a group already";
                    return Err(Error::InvalidArgument { what: "group", reason });
                }
                *copy = Copy { exists: true, ..Copy::default() };
                self.planned.push(&Record { group, event: Event::Create });
                Ok(())
            }
            Step::Remove => {
                let copy = self.copy(group);
                if !copy.exists {
                    return Err(no_such_group());
                }
                *copy = Copy::default();
                self.planned.push(&Record { group, event: Event::Remove });
                Ok(())
            }
        }
    }

    fn change(&mut self, group: u64, change: &Change<'_>) -> Result<()> {
        let entry_bytes_max = self.entry_bytes_max;
        let copy = self.copy(group);
        if !copy.exists {
            return Err(no_such_group());
        }
        if let Change::Append(entry) = change {
            let limit = entry_bytes_max;
            let got = to_u64(entry.len());
            if got > limit {
                return Err(Error::TooLarge { what: "entry bytes", got, limit });
            }
        }
        if let Change::Attach(_, file) = change {
            let member = copy.member.as_ref();
            let known = member.is_some_and(|member| {
                let state = member.state.read();
                let found = state.files.get(&file.reference().id);
                found.is_some_and(|found| found.finished == Some(file.reference()))
            });
            if !known {
                let reason = "it was not finished in this group, or is gone";
                return Err(Error::InvalidArgument { what: "side file", reason });
            }
        }
        let index = copy.bounds.next();
        let (changed, names_a_rider) = match change {
            Change::Set(name, _) | Change::Clear(name) | Change::Attach(name, _) => {
                let names_a_rider = copy.riders.iter().any(|(rider, _)| rider == name);
                (copy.cells().apply(change)?, names_a_rider)
            }
            _ => (copy.bounds.apply(change)?, false),
        };
        copy.changed |= changed;
        let doubtful = copy.doubtful;
        copy.doubtful &= !changed;
        if (changed || names_a_rider) && !copy.riders.is_empty() {
            let (member, riders) = (copy.member.clone(), std::mem::take(&mut copy.riders));
            self.ride(group, member, riders);
        }
        if changed && doubtful {
            // First, whatever the order in the batch, which is refused if it does not clear the cell: a
            // replay that meets the hole again then takes the others as they are.
            self.planned.push(&Record { group, event: Event::Clear { cell: STATE_LOST } });
        }
        if changed {
            self.planned.push(&Record { group, event: event(change, index) });
        }
        Ok(())
    }

    /// Puts lazily set cells in front of the first record of their group.
    fn ride(&mut self, group: u64, member: Option<Arc<Member>>, riders: Vec<(String, Arc<[u8]>)>) {
        let Some(member) = member else { return };
        for (cell, value) in riders {
            let event = Event::Set { cell: &cell, value: &value };
            if !planted(Bug::RidersLeft) {
                self.planned.push(&Record { group, event });
            }
            self.riders.push((Arc::clone(&member), cell));
        }
    }

    /// Puts the lazily set cells of a group on the way.
    fn load(&mut self, group: u64) {
        let copy = self.copy(group);
        let (member, riders) = (copy.member.clone(), std::mem::take(&mut copy.riders));
        self.ride(group, member, riders);
    }

    fn copy(&mut self, group: u64) -> &mut Copy {
        let member = || self.table.read().get(&group).cloned();
        match self.copies.entry(group) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(Copy::of(member())),
        }
    }
}

impl Copy {
    fn of(member: Option<Arc<Member>>) -> Self {
        let Some(member) = member else { return Self::default() };
        let group = member.state.read();
        let (first, next) = (group.log.first(), group.log.next());
        let bounds = State::from_parts(first, next, &Cells::new()).unwrap_or_default();
        let riders = group.lazy.iter().map(|(name, value)| (name.clone(), Arc::clone(value)));
        let riders: Vec<_> = riders.collect();
        let doubtful = state_kept(&group.log).is_err();
        let wanted = !riders.is_empty() || doubtful;
        let cells = wanted.then(|| group.seen());
        drop(group);
        Self { exists: true, bounds, cells, member: Some(member), riders, changed: false, doubtful }
    }

    /// Its cells, to be changed.
    fn cells(&mut self) -> &mut State {
        let Self { cells, member, .. } = self;
        cells.get_or_insert_with(|| {
            member.as_ref().map_or_else(State::default, |member| member.state.read().log.clone())
        })
    }
}

fn event<'a>(change: &Change<'a>, index: u64) -> Event<'a> {
    match *change {
        Change::Append(bytes) => Event::Entry { index, bytes, again: false },
        Change::Truncate(to) => Event::Truncate(to),
        Change::Trim(to) => Event::Trim(to),
        Change::Reset(base) => Event::Reset(base),
        Change::Set(cell, value) => Event::Set { cell, value },
        Change::Clear(cell) => Event::Clear { cell },
        Change::Attach(cell, ref file) => Event::Attach { cell, file: file.reference() },
    }
}

/// Largest entry of a group in this log, in bytes.
pub(crate) fn entry_bytes_max(log: &Log) -> u64 {
    log.entry_bytes_max().saturating_sub(to_u64(ENVELOPE_BYTES_MAX))
}

pub(crate) const fn no_such_group() -> Error {
    Error::InvalidArgument { what: "group", reason: "there is no such group" }
}
