//! What the records of the log underneath add up to: the groups, and what each of them holds.
//!
//! Owns: the effect of every record, on the group and on the regions, alike for a commit and for a
//! replay. Does not own: whether a batch makes sense (`plan`), nor where the records come from.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indelible::{CellValue, Cells, Change, Error, Log, SideFile, SideFileRef, State};
use parking_lot::RwLock;

use crate::envelope::{Event, Record};
use crate::index::{Index, Piece, Place};
use crate::number::{to_u64, u32_to_usize};
use crate::page::{self, Page, Pages};
use crate::plan::no_such_group;
use crate::regions::Regions;

/// The cell of a group whose cells and bounds may be older than what was acknowledged: when it was
/// opened, records that came after all it knew of were missing from the log, with a hole that a repair
/// left, or gone from its end, as the repair or a checkpoint of them showed. What it promised may be
/// among them.
///
/// As long as a group has the cell, a batch that changes it is refused, so no host goes on by itself.
/// A batch that clears the cell says that the loss is accepted: because the host has another way to
/// know what it promised, or as it begins anew as another member.
///
/// Entries that may have been replaced in the hole are lost with it, and can be refilled: after a hole
/// of n records the n - 1 before the index at which the group's next entry or truncation says that its
/// entries end, or its newest n - 1 if nothing of it follows.
pub const STATE_LOST: &str = "groups.lost";

pub(crate) const STATE_LOST_REASON: &str =
    "changes of its state were lost with a hole of the log: see its cell groups.lost";

/// Refuses the state of a group that may be older than it was.
pub(crate) fn state_kept(state: &State) -> indelible::Result<()> {
    if state.cells().get(STATE_LOST).is_none() {
        return Ok(());
    }
    Err(Error::InvalidArgument { what: "group", reason: STATE_LOST_REASON })
}

/// What a checkpoint takes at most for a group, for a side file, and, but for the first of many, for a
/// place.
const GROUP_BYTES: i64 = 40;
const FILE_BYTES: i64 = 40;
const PLACE_BYTES: i64 = 8;

/// What a checkpoint takes at most for a cell.
fn cell_bytes(name: &str, value: Option<&CellValue>) -> i64 {
    let bytes = match value {
        None => return 0,
        Some(CellValue::Inline(bytes)) => bytes.len(),
        Some(CellValue::SideFile(_)) => 20,
    };
    i64::try_from(name.len() + bytes + 4).unwrap_or(i64::MAX)
}

/// The groups by id.
pub(crate) type Table = HashMap<u64, Arc<Member>>;

/// One group: what its handles and the table share.
pub(crate) struct Member {
    pub(crate) id: u64,
    removed: AtomicBool,
    pub(crate) state: RwLock<GroupState>,
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // All that it holds may be as large as the log.
        let state = if self.state.is_locked() { "<locked>" } else { "<unlocked>" };
        let state = format_args!("{state}");
        f.debug_struct("Member")
            .field("id", &self.id)
            .field("state", &state)
            .finish_non_exhaustive()
    }
}

impl Member {
    pub(crate) fn new(id: u64, state: GroupState) -> Arc<Self> {
        Arc::new(Self { id, removed: AtomicBool::new(false), state: RwLock::new(state) })
    }

    /// Refuses a group that was removed.
    pub(crate) fn alive(&self) -> indelible::Result<()> {
        if self.removed.load(Ordering::Acquire) { Err(no_such_group()) } else { Ok(()) }
    }

    /// The group is gone, with all it holds.
    fn end(&self, regions: &mut Regions) {
        self.removed.store(true, Ordering::Release);
        self.state.write().drop_all(regions);
    }
}

/// What a group holds.
#[derive(Debug, Default)]
pub(crate) struct GroupState {
    /// Bounds and cells.
    pub(crate) log: State,
    pub(crate) index: Index,
    pub(crate) files: BTreeMap<u64, File>,
    /// Cells that were set lazily and wait for a batch.
    pub(crate) lazy: BTreeMap<String, Arc<[u8]>>,
    /// The entries before this one are durable, wherever they have been put since.
    pub(crate) durable_floor: u64,
    /// In a replay: records that were lost since one of the group told where its entries end.
    pub(crate) doubt: u64,
}

/// A side file of a group: its parts are entries of the log underneath.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// Bytes of all parts.
    pub(crate) length: u64,
    pub(crate) parts: Vec<Place>,
    /// What a batch may attach, once the file is finished.
    pub(crate) finished: Option<SideFileRef>,
}

/// What all groups share.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) regions: Regions,
    /// Every side file so far has a smaller number.
    pub(crate) next_file: u64,
    /// Entries of the log underneath that a replay could not read: so much may be missing.
    pub(crate) lost: u64,
    /// Where the last of these ends in the log underneath.
    sound: u64,
    /// Side files, each with its group before it, that a cell let go of since a batch ended.
    pub(crate) released: Vec<(u64, u64)>,
    /// Bytes by which a checkpoint may be larger than the newest, or smaller.
    pub(crate) growth: i64,
    /// The log underneath, for the pages in it.
    pub(crate) log: Log,
}

impl Ledger {
    pub(crate) fn new(regions: Regions, next_file: u64, log: &Log) -> Self {
        let (lost, sound, growth) = (0, 0, 0);
        Self { regions, next_file, lost, sound, released: Vec::new(), growth, log: log.clone() }
    }
}

/// A record that does not follow on those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Misfit {
    pub(crate) field: &'static str,
    pub(crate) expected: u64,
    pub(crate) got: u64,
}

/// Applies one record that was read, or written, at `place`.
pub(crate) fn apply(
    table: &RwLock<Table>,
    ledger: &mut Ledger,
    record: &Record<'_>,
    place: Place,
) -> Result<(), Misfit> {
    ledger.regions.wrote(place);
    effect(table, ledger, record, place)
}

/// The same for a record that is at no place of the log.
pub(crate) fn effect(
    table: &RwLock<Table>,
    ledger: &mut Ledger,
    record: &Record<'_>,
    place: Place,
) -> Result<(), Misfit> {
    let group = record.group;
    let known = table.read().get(&group).cloned();
    match (record.event, known) {
        (Event::Create, Some(_)) if ledger.lost == 0 => Err(misfit("group that begins", 0, group)),
        (Event::Create, known) => {
            // The end of one that is there was lost with a range that could not be read.
            known.inspect(|member| member.end(&mut ledger.regions));
            ledger.growth = ledger.growth.saturating_add(GROUP_BYTES);
            table.write().insert(group, Member::new(group, GroupState::default()));
            Ok(())
        }
        (Event::Remove, Some(member)) => {
            table.write().remove(&group);
            member.end(&mut ledger.regions);
            Ok(())
        }
        (_, Some(member)) => member.state.write().apply(record, place, ledger),
        (Event::Remove, None) if ledger.lost > 0 => Ok(()),
        (event, None) if ledger.lost > 0 => {
            // Its beginning was lost with the range that could not be read.
            let first = match event {
                Event::Entry { index, .. } => index,
                Event::Truncate(to) | Event::Trim(to) => to,
                _ => 0,
            };
            let member = Member::new(group, GroupState::empty(first));
            member.state.write().mark_state_lost();
            let applied = member.state.write().apply(record, place, ledger);
            table.write().insert(group, member);
            applied
        }
        (_, None) => Err(misfit("group", 0, group)),
    }
}

/// Takes note of records that a replay cannot read, of whichever groups they were: nobody knows.
pub(crate) fn records_lost(table: &RwLock<Table>, ledger: &mut Ledger, range: Range<u64>) {
    let count = range.end.saturating_sub(range.start);
    ledger.lost = ledger.lost.saturating_add(count);
    ledger.sound = range.end;
    for member in table.read().values() {
        let mut state = member.state.write();
        state.mark_state_lost();
        state.doubt = state.doubt.saturating_add(count);
    }
}

/// Ends a batch: lets go of the side files that no cell refers to any more. Within the batch they
/// stay, as its next record may take them again.
pub(crate) fn end_batch(table: &RwLock<Table>, ledger: &mut Ledger) {
    for (group, id) in std::mem::take(&mut ledger.released) {
        let Some(member) = table.read().get(&group).cloned() else { continue };
        let mut state = member.state.write();
        if !state.refers_to(id) {
            state.drop_file(id, &mut ledger.regions);
        }
    }
}

impl GroupState {
    /// A group without entries, the next of which is `first`.
    fn empty(first: u64) -> Self {
        let log = State::from_parts(first, first, &Cells::new()).unwrap_or_default();
        Self { log, index: Index::new(first), durable_floor: first, ..Self::default() }
    }

    fn apply(
        &mut self,
        record: &Record<'_>,
        place: Place,
        ledger: &mut Ledger,
    ) -> Result<(), Misfit> {
        if let Event::Entry { index: to, .. } | Event::Truncate(to) | Event::Trim(to) = record.event
        {
            self.reach(to, ledger);
        }
        if let Event::Entry { index: to, again: false, .. } | Event::Truncate(to) = record.event {
            self.settle(to, record.group, ledger);
        }
        if matches!(record.event, Event::Clear { cell: STATE_LOST }) {
            // Whoever accepted the loss did so after an open, which took these for its entries.
            self.settle(self.log.next(), record.group, ledger);
        }
        let Ledger { regions, lost, log, released, next_file, growth, .. } = &mut *ledger;
        let pages = Pages { log, group: record.group };
        let let_go = |id| released.push((record.group, id));
        let dropped = |at, bytes| regions.gone(at, bytes);
        let changes = |changed: indelible::Result<bool>, field, got| match changed {
            Ok(_) => Ok(()),
            Err(error) => Err(misfit(field, expected_by(&error), got)),
        };
        match record.event {
            Event::Entry { index, again, .. } => {
                self.entry((index, again), place, record.group, ledger)
            }
            Event::Truncate(to) => {
                changes(self.log.apply(&Change::Truncate(to)), "end of a truncation", to)?;
                self.index.truncate(to, pages, dropped);
                self.durable_floor = self.durable_floor.min(to);
                Ok(())
            }
            Event::Trim(to) => {
                changes(self.log.apply(&Change::Trim(to)), "first index after a trim", to)?;
                self.index.trim(to, pages, dropped);
                Ok(())
            }
            Event::Reset(base) => {
                self.drop_entries(base, regions);
                Ok(())
            }
            Event::Set { cell, value } => {
                self.cell(cell, &Change::Set(cell, value), growth, let_go)
            }
            Event::Clear { cell } => self.cell(cell, &Change::Clear(cell), growth, let_go),
            Event::Part { file, nth, bytes } => {
                self.part((file, nth), to_u64(bytes.len()), place, ledger)
            }
            Event::Attach { cell, file } => {
                // One without bytes has no part, so this is all that tells of it.
                let known = self.files.entry(file.id).or_default();
                if known.length != file.length && *lost == 0 {
                    return Err(misfit("length of a side file", known.length, file.length));
                }
                known.finished = Some(file);
                *next_file = (*next_file).max(file.id.saturating_add(1));
                let change = Change::Attach(cell, SideFile::from_reference(file));
                self.cell(cell, &change, growth, let_go)
            }
            Event::Page { first, base, places } => {
                let page = Page::new(first, base, place.at, places);
                let places = || page::decode(base, places);
                let within = places().all(|place| regions.start_of(place.at) == Some(base));
                let known = within && self.index.spill(page, places());
                // What was lost with a range that could not be read is not where the page says, and
                // the regions after it begin elsewhere. The places stay in memory then.
                if known || *lost > 0 { Ok(()) } else { Err(misfit("page", base, first)) }
            }
            Event::Create | Event::Remove => Ok(()),
        }
    }

    fn entry(
        &mut self,
        (index, again): (u64, bool),
        place: Place,
        group: u64,
        ledger: &mut Ledger,
    ) -> Result<(), Misfit> {
        let known = (self.log.first()..self.log.next()).contains(&index);
        let Ledger { regions, log, lost, growth, .. } = &mut *ledger;
        *growth = growth.saturating_add(PLACE_BYTES);
        if known && again {
            let dropped = |at, bytes| regions.gone(at, bytes);
            self.index.replace(index, place, Pages { log, group }, dropped);
            regions.live(place);
            return Ok(());
        }
        let next = self.log.next();
        if index != next || again && *lost == 0 {
            return Err(misfit("index of an entry", next, index));
        }
        let appended = self.log.apply(&Change::Append(&[]));
        appended.map_err(|_| misfit("index of an entry", next, index))?;
        self.index.push(place);
        regions.live(place);
        Ok(())
    }

    fn part(
        &mut self,
        (id, nth): (u64, u64),
        bytes: u64,
        place: Place,
        ledger: &mut Ledger,
    ) -> Result<(), Misfit> {
        let file = self.files.entry(id).or_default();
        while to_u64(file.parts.len()) < nth && nth - to_u64(file.parts.len()) <= ledger.lost {
            file.parts.push(Place::LOST);
        }
        let count = to_u64(file.parts.len());
        if nth == count {
            file.parts.push(place);
            file.length = file.length.saturating_add(bytes);
        } else if let Some(known) =
            usize::try_from(nth).ok().and_then(|nth| file.parts.get_mut(nth))
        {
            let before = std::mem::replace(known, place);
            ledger.regions.dead(before);
        } else {
            return Err(misfit("part of a side file", count, nth));
        }
        ledger.next_file = ledger.next_file.max(id.saturating_add(1));
        let file = if count == 0 { FILE_BYTES } else { 0 };
        ledger.growth = ledger.growth.saturating_add(PLACE_BYTES).saturating_add(file);
        ledger.regions.live(place);
        Ok(())
    }

    /// Changes a cell, and tells of the side file that it referred to. All cells together may be too
    /// large until the batch ends; the planner has seen to that.
    fn cell(
        &mut self,
        name: &str,
        change: &Change<'_>,
        growth: &mut i64,
        let_go: impl FnOnce(u64),
    ) -> Result<(), Misfit> {
        let before = self.log.cells().get(name).cloned();
        let changed = self.log.apply(change);
        changed.map_err(|error| misfit("cell", expected_by(&error), to_u64(name.len())))?;
        let bytes = |value: Option<&CellValue>| cell_bytes(name, value);
        let grown = bytes(self.log.cells().get(name)).saturating_sub(bytes(before.as_ref()));
        *growth = growth.saturating_add(grown);
        if let Some(CellValue::SideFile(old)) = before {
            let_go(old.id);
        }
        Ok(())
    }

    /// From here on nobody knows what it promised.
    pub(crate) fn mark_state_lost(&mut self) {
        // It may be one cell too many, which the batch that clears it makes up for.
        let _changed = self.log.apply(&Change::Set(STATE_LOST, &[]));
    }

    /// Refuses cells that no batch leaves, unless it may be a hole that left them.
    pub(crate) fn check(&self) -> Result<(), Misfit> {
        if state_kept(&self.log).is_err() {
            return Ok(());
        }
        self.log.check().map_err(|error| match error {
            Error::TooLarge { got, limit, .. } => misfit("bytes of all cells", limit, got),
            other => misfit("cells", expected_by(&other), 0),
        })
    }

    /// Whether a cell refers to a side file.
    fn refers_to(&self, id: u64) -> bool {
        let mut values = self.log.cells().values();
        values.any(|value| matches!(value, CellValue::SideFile(it) if it.id == id))
    }

    /// Lets go of a side file.
    pub(crate) fn drop_file(&mut self, id: u64, regions: &mut Regions) {
        let gone = self.files.remove(&id).unwrap_or_default();
        gone.parts.into_iter().for_each(|place| regions.dead(place));
    }

    /// Lets go of the side files that nobody can attach any more after an open.
    pub(crate) fn drop_unattached(&mut self, regions: &mut Regions) {
        let unattached: Vec<u64> =
            self.files.keys().copied().filter(|id| !self.refers_to(*id)).collect();
        for id in unattached {
            self.drop_file(id, regions);
        }
    }

    /// Before a record of the entries at `to`: so many as are missing there were lost with a range that
    /// could not be read, or else a reset was.
    fn reach(&mut self, to: u64, ledger: &mut Ledger) {
        if ledger.lost == 0 {
            return;
        }
        if to < self.log.first() || to.saturating_sub(self.log.next()) > ledger.lost {
            self.drop_entries(to, &mut ledger.regions);
        }
        while self.log.next() < to && self.log.apply(&Change::Append(&[])).is_ok() {
            self.index.push(Place::LOST);
        }
    }

    /// The entries end at `to`, the group says after lost records. The first of these may have been a
    /// truncation, and the others entries in the place of those before `to`, which must not be taken for
    /// them: they are lost, but for what was written again after all that was lost.
    pub(crate) fn settle(&mut self, to: u64, group: u64, ledger: &mut Ledger) {
        let doubt = std::mem::take(&mut self.doubt);
        if doubt == 0 {
            return;
        }
        let Ledger { regions, log, sound, .. } = ledger;
        let pages = Pages { log, group };
        // If there are entries from `to` on, a truncation was lost.
        let _changed = self.log.apply(&Change::Truncate(to));
        let from = to.saturating_sub(doubt - 1).max(self.log.first());
        let mut places = Vec::new();
        for piece in self.index.pieces(&(from..to.max(from))) {
            match piece {
                Piece::Places(found) => places.extend(found),
                // What it has is older than it.
                Piece::Page(page) => {
                    let found = (page.at >= *sound).then(|| page.places(pages).ok()).flatten();
                    let lost = || vec![Place::LOST; u32_to_usize(page.count)];
                    places.append(&mut found.unwrap_or_else(lost));
                }
            }
        }
        self.index.truncate(from, pages, |at, bytes| regions.gone(at, bytes));
        for place in places {
            let place = if place.at < *sound { Place::LOST } else { place };
            self.index.push(place);
            regions.live(place);
        }
        self.durable_floor = self.durable_floor.min(from);
    }

    /// Drops every entry; the next is `base`.
    fn drop_entries(&mut self, base: u64, regions: &mut Regions) {
        // A reset is never refused.
        let _changed = self.log.apply(&Change::Reset(base));
        self.index.reset(base, |at, bytes| regions.gone(at, bytes));
        self.durable_floor = base;
        self.doubt = 0;
    }

    fn drop_all(&mut self, regions: &mut Regions) {
        let next = self.log.next();
        self.drop_entries(next, regions);
        for file in std::mem::take(&mut self.files).into_values() {
            file.parts.into_iter().for_each(|place| regions.dead(place));
        }
        *self = Self::empty(next);
    }

    /// The value of a cell as its owner sees it.
    pub(crate) fn value(&self, name: &str) -> Option<Arc<[u8]>> {
        match (self.lazy.get(name), self.log.cells().get(name)) {
            (Some(bytes), _) | (None, Some(CellValue::Inline(bytes))) => Some(Arc::clone(bytes)),
            _ => None,
        }
    }

    /// The state with the lazily set cells in it.
    pub(crate) fn seen(&self) -> State {
        let mut seen = self.log.clone();
        for (name, value) in &self.lazy {
            // They were checked when they were set.
            let _checked = seen.apply(&Change::Set(name, value));
        }
        seen
    }
}

const fn misfit(field: &'static str, expected: u64, got: u64) -> Misfit {
    Misfit { field, expected, got }
}

/// What would have been right instead of what was refused.
fn expected_by(error: &Error) -> u64 {
    match error {
        Error::Trimmed { first, .. } => *first,
        Error::BeyondEnd { next, .. } => *next,
        Error::TooLarge { limit, .. } => *limit,
        _ => 0,
    }
}
