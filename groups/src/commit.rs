//! Writing to the log underneath, and believing it: the one order of all groups.
//!
//! Owns: plan, write, apply, under one lock, so that the records of the log are in the order in
//! which their effects were seen. Does not own: the plan (`plan`), the effects (`state`), what is
//! done from time to time (`maintenance`).
//!
//! Lock order: maintenance, writer, table, one group. A reader takes the last two only. Under
//! `released`, which whoever drops a side file takes, no lock is taken. Whoever holds none of them
//! asks first whether the process was forked.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use indelible::{Batch, Damage, Durability, Error, Log, Result, Ticket};
use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard};

use crate::envelope::Record;
use crate::index::Place;
use crate::maintenance::Maintenance;
use crate::number::to_u64;
use crate::options::GroupsOptions;
use crate::overlay::{Overlay, PENDING};
use crate::plan::{Planned, Planner, Riders, entry_bytes_max};
use crate::reserve::{Kept, Reserve};
use crate::state::{GroupState, Ledger, Member, Misfit, Table, apply, effect, end_batch};

/// What all handles share.
pub(crate) struct Inner {
    pub(crate) log: Log,
    pub(crate) options: GroupsOptions,
    pub(crate) table: RwLock<Table>,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) maintenance: Mutex<Maintenance>,
    pub(crate) counters: Counters,
    /// Side files, each with its group, of which the last handle is gone.
    pub(crate) released: Arc<Mutex<Vec<(u64, u64)>>>,
}

/// What the one who writes has to itself.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) ledger: Ledger,
    pub(crate) planned: Planned,
    /// Records that a full disk has no room for.
    pub(crate) overlay: Overlay,
    /// Space that is kept for a full disk.
    pub(crate) kept: Kept,
    /// The groups in which something was set lazily, and maybe some in which it is written by now.
    pub(crate) lazies: BTreeSet<u64>,
    /// Bytes of frames since the last checkpoint was made.
    pub(crate) since_checkpoint: u64,
    /// Records that callers wrote since reclaim last took note of it: it looks at as many and more.
    pub(crate) owed: u64,
    /// A record was written, or read at the open, whose effect could not be had: what is in memory is
    /// not what is on disk, and must never become a checkpoint.
    failed: Option<Error>,
}

impl Writer {
    pub(crate) fn new(ledger: Ledger) -> Self {
        let kept = Kept::load(&ledger.log);
        Self {
            ledger,
            kept,
            planned: Planned::default(),
            overlay: Overlay::default(),
            lazies: BTreeSet::new(),
            since_checkpoint: 0,
            owed: 0,
            failed: None,
        }
    }

    /// What is in memory is not what is on disk.
    pub(crate) fn fail(&mut self, error: &Error) {
        self.failed = Some(error.clone());
    }

    /// Refuses to go on after that.
    pub(crate) fn usable(&self) -> Result<()> {
        usable(self.failed.as_ref())
    }
}

/// What was counted since the open.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) written_bytes: AtomicU64,
    pub(crate) carried_bytes: AtomicU64,
    pub(crate) carried_records: AtomicU64,
    pub(crate) page_bytes: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) checkpoint_bytes: AtomicU64,
    pub(crate) replayed: AtomicU64,
}

/// Who asks for bytes to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// A caller, with something new.
    Groups,
    /// Reclaim, with what is there already.
    Reclaim,
    /// The index, with a part of it that leaves the memory.
    Index,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The places of all entries are in here.
        f.debug_struct("Inner").field("log", &self.log).finish_non_exhaustive()
    }
}

impl Inner {
    /// Refuses what a log that is closed, poisoned or another process's refuses.
    pub(crate) fn usable(&self) -> Result<()> {
        self.log.submit(&Batch::new()).map(drop)
    }

    /// The groups, for a reader.
    pub(crate) fn table(&self) -> Result<RwLockReadGuard<'_, Table>> {
        self.log.not_forked()?;
        Ok(self.table.read())
    }

    /// What one of them holds, for a reader.
    pub(crate) fn state<'a>(&self, of: &'a Member) -> Result<RwLockReadGuard<'a, GroupState>> {
        self.log.not_forked()?;
        Ok(of.state.read())
    }

    /// The writer, for as long as it is held. Side files that nobody can attach any more are gone.
    pub(crate) fn writer(&self) -> Result<MutexGuard<'_, Writer>> {
        self.log.not_forked()?;
        let mut writer = self.writer.lock();
        let released = std::mem::take(&mut *self.released.lock());
        if !released.is_empty() {
            writer.ledger.released.extend(released);
            end_batch(&self.table, &mut writer.ledger);
        }
        Ok(writer)
    }

    /// Plans a batch, writes it and applies it. Returns its ticket, and the end of `of` after it,
    /// which has to be there: a group of the same id that began later is not this one.
    pub(crate) fn write(
        &self,
        of: Option<&Member>,
        mut plan: impl FnMut(Planner<'_>) -> Result<Riders>,
    ) -> Result<(Ticket, u64)> {
        let mut writer = self.writer()?;
        let written = match self.try_write(&mut writer, of, &mut plan, false) {
            Err(full @ Error::DiskFull { .. }) => {
                let is_short = self.lacks(&writer, Reserve::Checkpoints);
                let has_no_chance = is_short && !writer.planned.entries;
                drop(writer);
                let mut maintenance = self.maintenance.lock();
                // The log would have found what became free meanwhile.
                if has_no_chance && maintenance.refused_at == Some(self.moment(&maintenance)) {
                    return Err(full);
                }
                return self.write_on_a_full_disk(&mut maintenance, of, plan);
            }
            written => written?,
        };
        let due = self.due(&writer);
        drop(writer);
        if due {
            self.maintain_after_write();
        }
        Ok(written)
    }

    /// Writes a batch once, unless it has entries and too little space is kept: it may be `enough`.
    fn try_write(
        &self,
        writer: &mut Writer,
        of: Option<&Member>,
        plan: &mut impl FnMut(Planner<'_>) -> Result<Riders>,
        enough: bool,
    ) -> Result<(Ticket, u64)> {
        of.map_or(Ok(()), Member::alive)?;
        let entry_bytes_max = entry_bytes_max(&self.log);
        let riders = plan(Planner::new(&self.table, entry_bytes_max, &mut writer.planned))?;
        if writer.planned.entries && !enough && self.is_short(writer) {
            let (path, needed) = (self.log.path().to_owned(), self.log.segment_bytes());
            return Err(Error::DiskFull { path, needed });
        }
        let ticket = self.write_planned(writer, For::Groups)?;
        taken(riders);
        let next = of.map_or(0, |member| member.state.read().log.next());
        Ok((ticket, next))
    }

    /// Writes a batch that met a full disk, once there is more room: the checkpoints take over what was
    /// put aside; if that is no help, what no group needs is given back.
    fn write_on_a_full_disk(
        &self,
        maintenance: &mut Maintenance,
        of: Option<&Member>,
        mut plan: impl FnMut(Planner<'_>) -> Result<Riders>,
    ) -> Result<(Ticket, u64)> {
        let enough = self.restore(maintenance)?;
        let mut writer = self.writer()?;
        match self.try_write(&mut writer, of, &mut plan, enough) {
            Err(Error::DiskFull { .. }) => {}
            written => return written,
        }
        if writer.planned.entries || writer.overlay.is_empty() {
            drop(writer);
            let enough = self.make_room(maintenance)?;
            return self.try_write(&mut *self.writer()?, of, &mut plan, enough);
        }
        let _ours = self.log.hold_space()?;
        let taken_over = self.take_over(maintenance, &mut writer);
        let written = taken_over.and_then(|()| self.try_write(&mut writer, of, &mut plan, true));
        drop(writer);
        // Whoever writes is told of its batch alone, as by `maintain_after_write`.
        let _next_time = self.restore(maintenance);
        written
    }

    /// Writes what was set lazily in any group before this was called.
    pub(crate) fn write_lazies(&self) -> Result<()> {
        let groups = self.lazy_groups(&mut *self.writer()?);
        self.write(None, |planner| planner.riders(groups.iter().copied())).map(drop)
    }

    /// The groups in which something waits for a batch, ascending. The others are forgotten.
    pub(crate) fn lazy_groups(&self, writer: &mut Writer) -> Vec<u64> {
        let table = self.table.read();
        let waits = |id: &u64| table.get(id).is_some_and(|it| !it.state.read().lazy.is_empty());
        writer.lazies.retain(waits);
        writer.lazies.iter().copied().collect()
    }

    /// Writes what was planned as one batch of the log, and applies it record by record. What needs
    /// no space goes on when the disk is full.
    pub(crate) fn write_planned(&self, writer: &mut Writer, of: For) -> Result<Ticket> {
        if writer.planned.is_empty() {
            return self.log.submit(&Batch::new());
        }
        match self.write_batch(writer, of) {
            Err(full @ Error::DiskFull { .. }) if !writer.planned.entries => {
                self.put_aside(writer, full)
            }
            written => written,
        }
    }

    /// Writes what was put aside and what was planned.
    pub(crate) fn write_batch(&self, writer: &mut Writer, of: For) -> Result<Ticket> {
        let Writer { ledger, planned, overlay, since_checkpoint, owed, failed, .. } = writer;
        usable(failed.as_ref())?;
        let mut batch = Batch::new();
        for record in overlay.records().chain(planned.records()) {
            batch.append(record);
        }
        let count = to_u64(batch.len());
        if !overlay.is_empty() {
            PENDING.iter().fold(&mut batch, |batch, cell| batch.clear(*cell));
        }
        // The log writes all of it or nothing; the sync that makes it durable comes with the ticket.
        let ticket = self.log.submit(&batch)?;
        if matches!(of, For::Index) {
            // Places leave the memory for these pages. After a failed sync they could not be read, and
            // what they lead to could not either, though it is durable.
            ticket.wait()?;
        }
        if matches!(of, For::Groups) {
            *owed = owed.saturating_add(count);
        }
        let first = ticket.next() - count;
        let aside = overlay.records().len();
        for ((nth, bytes), at) in
            overlay.records().chain(planned.records()).enumerate().zip(first..)
        {
            let place = Place::of(at, bytes);
            *since_checkpoint += u64::from(place.bytes);
            self.counters.wrote(place, of);
            if nth < aside {
                // Its effect was had when it was put aside.
                ledger.regions.wrote(place);
            } else {
                settle(apply_bytes(self, ledger, bytes, place, apply), failed)?;
            }
        }
        end_batch(&self.table, ledger);
        *overlay = Overlay::default();
        Ok(ticket)
    }

    /// Commits what was planned in cells of the log, which need no space: with all that was put
    /// aside before, as records that come after everything in the log.
    fn put_aside(&self, writer: &mut Writer, full: Error) -> Result<Ticket> {
        let Writer { ledger, planned, overlay, failed, .. } = writer;
        let more = overlay.with(planned.records());
        let Some(values) = more.values() else { return Err(full) };
        let mut batch = Batch::new();
        for (nth, cell) in PENDING.into_iter().enumerate() {
            match values.get(nth) {
                Some(value) => batch.set(cell, &value[..]),
                None => batch.clear(cell),
            };
        }
        // Durable on return: on a full disk the log commits cells in its slots.
        let ticket = self.log.submit(&batch)?;
        for bytes in planned.records() {
            settle(apply_bytes(self, ledger, bytes, Place::LOST, effect), failed)?;
        }
        end_batch(&self.table, ledger);
        *overlay = more;
        Ok(ticket)
    }

    /// Waits until a batch is as durable as the log's policy wants it to be on return.
    pub(crate) fn settled(&self, ticket: &Ticket) -> Result<()> {
        if self.log.options().durability_in_force() == Durability::Always {
            ticket.wait()?;
        }
        Ok(())
    }

    /// The number of a side file that nobody has used.
    pub(crate) fn new_file(&self) -> Result<u64> {
        let mut writer = self.writer()?;
        let id = writer.ledger.next_file;
        let limit = u64::MAX - 1;
        let too_large = Error::TooLarge { what: "number of a side file", got: id, limit };
        writer.ledger.next_file = id.checked_add(1).ok_or(too_large)?;
        Ok(id)
    }

    /// Bytes that fit and mean nothing where they are.
    pub(crate) fn damaged(&self, indexes: Option<Range<u64>>, reason: Damage) -> Error {
        Error::Damaged { path: self.log.path().to_owned(), offset: 0, indexes, reason }
    }

    /// Records that do not follow on one another.
    pub(crate) fn misplaced(&self, indexes: Option<Range<u64>>, misfit: Misfit) -> Error {
        let Misfit { field, expected, got } = misfit;
        self.damaged(indexes, Damage::Field { field, expected, got })
    }
}

/// [`apply`] or [`effect`].
type Effect =
    fn(&RwLock<Table>, &mut Ledger, &Record<'_>, Place) -> std::result::Result<(), Misfit>;

/// Refuses to go on after a record whose effect could not be had.
fn usable(failed: Option<&Error>) -> Result<()> {
    failed.map_or(Ok(()), |failed| Err(Error::Poisoned { cause: Arc::new(failed.clone()) }))
}

/// Takes note of an effect that could not be had.
fn settle(applied: Result<()>, failed: &mut Option<Error>) -> Result<()> {
    applied.inspect_err(|error| *failed = Some(error.clone()))
}

/// Applies a record that is at `place` of the log.
pub(crate) fn apply_bytes(
    inner: &Inner,
    ledger: &mut Ledger,
    bytes: &[u8],
    place: Place,
    how: Effect,
) -> Result<()> {
    let at = (!place.is_lost()).then(|| place.at..place.at.saturating_add(1));
    let Some(record) = Record::decode(bytes) else {
        let got = bytes.first().copied().map_or(0, u64::from);
        let reason = Damage::Field { field: "kind of a group's record", expected: 1, got };
        return Err(inner.damaged(at, reason));
    };
    how(&inner.table, ledger, &record, place).map_err(|misfit| inner.misplaced(at, misfit))
}

impl Counters {
    fn wrote(&self, place: Place, of: For) {
        let bytes = u64::from(place.bytes);
        match of {
            For::Groups => self.written_bytes.fetch_add(bytes, Ordering::Relaxed),
            For::Index => self.page_bytes.fetch_add(bytes, Ordering::Relaxed),
            For::Reclaim => {
                self.carried_records.fetch_add(1, Ordering::Relaxed);
                self.carried_bytes.fetch_add(bytes, Ordering::Relaxed)
            }
        };
    }
}

/// Lazily set cells were written. Nobody has set one again since they were planned.
fn taken(riders: Riders) {
    for (member, name) in riders {
        member.state.write().lazy.remove(&name);
    }
}
