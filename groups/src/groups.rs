//! All groups of one log: opening them, and what concerns more than one.
//!
//! Owns: the open, which is the newest checkpoint and what came after it, and the public [`Groups`].
//! Does not own: writing (`commit`), nor one group (`group`).

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use indelible::repair::LOST_BATCHES;
use indelible::{Batch, Damage, Error, Log, Result, Ticket};
use parking_lot::{Mutex, RwLock};

use crate::batch::GroupBatch;
use crate::checkpoint::{self, Checkpoint};
use crate::commit::{Counters, Inner, Writer, apply_bytes};
use crate::envelope::{Event, Record};
use crate::group::Group;
use crate::index::Place;
use crate::maintenance::{CHECKPOINTS, Maintenance};
use crate::number::to_u64;
use crate::options::GroupsOptions;
use crate::overlay::Overlay;
use crate::plan::no_such_group;
use crate::planted::{Bug, planted};
use crate::regions::Regions;
use crate::state::{Ledger, Member, STATE_LOST, Table, apply, effect, records_lost};
use crate::stats::GroupsStats;

/// The cell that says whose log this is.
pub(crate) const FORMAT: &str = "groups.format";
/// The version of docs/GROUPS.md.
const FORMAT_VERSION: u32 = 1;
/// Most entries of the log that a replay reads at a time.
const REPLAY_ENTRIES: u64 = 1024;

/// Many groups in one log. Clones, and the handles of groups, keep the same log open; the last one
/// to go closes it as well as it can, so call [`Self::close`] to hear of errors.
#[derive(Debug, Clone)]
pub struct Groups {
    pub(crate) inner: Arc<Inner>,
}

impl Groups {
    /// Creates a log in `path` for groups. On return it is durable.
    ///
    /// # Errors
    ///
    /// Those of [`Log::create`].
    pub fn create(path: impl AsRef<Path>, options: &GroupsOptions) -> Result<Self> {
        options.validate()?;
        Self::from_log(Log::create(path, &options.log)?, options)
    }

    /// Opens the log of groups in `path`. On return everything the groups hold is durable. How the
    /// log was found is in [`Log::recovery`] of [`Self::log`].
    ///
    /// # Errors
    ///
    /// Those of [`Log::open`] and [`Self::from_log`].
    pub fn open(path: impl AsRef<Path>, options: &GroupsOptions) -> Result<Self> {
        options.validate()?;
        let (log, _report) = Log::open(path, &options.log)?;
        Self::from_log(log, options)
    }

    /// Opens the log of groups in `path`, or creates one if there never was any; see
    /// [`Log::open_or_create`] for when not to.
    ///
    /// # Errors
    ///
    /// Those of [`Self::open`] and [`Self::create`].
    pub fn open_or_create(path: impl AsRef<Path>, options: &GroupsOptions) -> Result<Self> {
        options.validate()?;
        let (log, _report) = Log::open_or_create(path, &options.log)?;
        Self::from_log(log, options)
    }

    /// Groups in memory, with the same behaviour and nothing on disk.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`].
    pub fn in_memory(options: &GroupsOptions) -> Result<Self> {
        options.validate()?;
        Self::from_log(Log::in_memory(&options.log)?, options)
    }

    /// Takes a log that is open already: one of groups, or an empty one, which becomes one. Nobody
    /// else may write to it.
    ///
    /// A replay reads what was written since the newest checkpoint, and nothing before. If that one
    /// is damaged, the one before it is taken, with the longer replay that goes with it. One that is of
    /// records which the log has no more shows that they are lost, as does the cell
    /// [`LOST_BATCHES`] of a repair: every group is marked then, see
    /// [`STATE_LOST`](crate::STATE_LOST).
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if both checkpoints or a record after them cannot be read,
    /// [`Error::InvalidArgument`] if the log is a host's own, or if a repair took off more of it than
    /// came after both checkpoints and what came before is trimmed, [`Error::UnsupportedVersion`],
    /// [`Error::InvalidOption`], [`Error::Io`], [`Error::DiskFull`] if there is no space for such marks.
    pub fn from_log(log: Log, options: &GroupsOptions) -> Result<Self> {
        options.validate()?;
        claim(&log)?;
        let (checkpoint, positions) = newest_checkpoint(&log)?;
        forget_unusable(&log, positions)?;
        let Checkpoint { position, ledger, table } = checkpoint;
        let end = log.next();
        let [gone, positions] =
            [true, false].map(|is_gone| positions.map(|at| at.filter(|at| (*at > end) == is_gone)));
        let inner = Arc::new(Inner {
            options: options.clone(),
            table: RwLock::new(table),
            writer: Mutex::new(Writer::new(ledger)),
            maintenance: Mutex::new(Maintenance::new(positions)),
            counters: Counters::default(),
            released: Arc::default(),
            log,
        });
        // What was replayed in part is dropped without a checkpoint: it would be one of half a log.
        replay(&inner, position, gone).inspect_err(|error| inner.writer.lock().fail(error))?;
        Ok(Self { inner })
    }

    /// Begins a group. Durable as the log's policy has it.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if it exists; those of [`Log::commit`].
    pub fn create_group(&self, id: u64) -> Result<Group> {
        let mut batch = GroupBatch::new();
        batch.create(id);
        self.commit(&batch)?;
        self.group(id)
    }

    /// Drops a group and all that it holds. Handles of it go on saying that it does not exist.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if it does not exist; those of [`Log::commit`].
    pub fn remove_group(&self, id: u64) -> Result<()> {
        let mut batch = GroupBatch::new();
        batch.remove(id);
        self.commit(&batch).map(drop)
    }

    /// A handle of a group.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if there is no such group.
    pub fn group(&self, id: u64) -> Result<Group> {
        let member = self.inner.table()?.get(&id).cloned();
        let member = member.ok_or_else(no_such_group)?;
        Ok(Group::new(Arc::clone(&self.inner), member))
    }

    /// A handle of a group, which begins if it does not exist.
    ///
    /// # Errors
    ///
    /// Those of [`Self::create_group`].
    pub fn open_or_create_group(&self, id: u64) -> Result<Group> {
        match self.group(id) {
            Err(Error::InvalidArgument { .. }) => match self.create_group(id) {
                // Another thread began it meanwhile.
                Err(Error::InvalidArgument { .. }) => self.group(id),
                created => created,
            },
            found => found,
        }
    }

    /// The ids of the groups there are, ascending; none in a process that was forked from the one that
    /// opened the log.
    pub fn ids(&self) -> Vec<u64> {
        let Ok(table) = self.inner.table() else { return Vec::new() };
        let mut ids: Vec<u64> = table.keys().copied().collect();
        drop(table);
        ids.sort_unstable();
        ids
    }

    /// Commits a batch over any number of groups: all of it, or nothing, survives a crash. Under
    /// [`Durability::Always`](indelible::Durability::Always) it is durable on return. Readers may
    /// see the new state of one group before that of another.
    ///
    /// # Errors
    ///
    /// Those of [`Log::commit`], and [`Error::InvalidArgument`] for a group that does not exist, or
    /// that exists already: nothing was changed.
    pub fn commit(&self, batch: &GroupBatch<'_>) -> Result<Ticket> {
        let ticket = self.submit(batch)?;
        self.inner.settled(&ticket)?;
        Ok(ticket)
    }

    /// Writes a batch over any number of groups and waits for nothing.
    ///
    /// # Errors
    ///
    /// As [`Self::commit`].
    pub fn submit(&self, batch: &GroupBatch<'_>) -> Result<Ticket> {
        self.inner.write(None, |planner| planner.batch(batch)).map(|(ticket, _)| ticket)
    }

    /// Makes everything durable that any group has written, and what was set lazily.
    ///
    /// # Errors
    ///
    /// Those of [`Log::sync`].
    pub fn sync(&self) -> Result<()> {
        self.inner.write_lazies()?;
        self.inner.log.sync()
    }

    /// Does now what is otherwise done beside writes: a checkpoint, and giving back what no group
    /// needs. On return everything written is durable.
    ///
    /// # Errors
    ///
    /// [`Error::DiskFull`], [`Error::Io`], [`Error::Poisoned`], [`Error::Closed`].
    pub fn maintain(&self) -> Result<()> {
        self.inner.maintain()
    }

    /// Closes the groups and their log: everything is durable, and the next open replays nothing.
    ///
    /// # Errors
    ///
    /// Those of [`Log::close`].
    pub fn close(&self) -> Result<()> {
        self.inner.close()
    }

    /// The log underneath, for reading, backups and counters. Writing to it breaks the groups.
    pub fn log(&self) -> &Log {
        &self.inner.log
    }

    /// What all groups hold, and what was counted. In a process that was forked from the one that opened
    /// the log they hold nothing.
    pub fn stats(&self) -> GroupsStats {
        let inner = &self.inner;
        let (bytes, live_bytes) = inner.writer().map_or((0, 0), |it| it.ledger.regions.sums());
        let (groups, index_bytes) = inner.table().map_or((0, 0), |table| {
            let index = |it: &Arc<Member>| to_u64(it.state.read().index.memory_bytes());
            (to_u64(table.len()), table.values().map(index).sum())
        });
        let counters = &inner.counters;
        GroupsStats {
            log: inner.log.stats(),
            groups,
            bytes,
            live_bytes,
            written_bytes: counters.written_bytes.load(Ordering::Relaxed),
            carried_bytes: counters.carried_bytes.load(Ordering::Relaxed),
            carried_records: counters.carried_records.load(Ordering::Relaxed),
            page_bytes: counters.page_bytes.load(Ordering::Relaxed),
            checkpoints: counters.checkpoints.load(Ordering::Relaxed),
            checkpoint_bytes: counters.checkpoint_bytes.load(Ordering::Relaxed),
            replayed: counters.replayed.load(Ordering::Relaxed),
            index_bytes,
        }
    }
}

impl Inner {
    pub(crate) fn close(&self) -> Result<()> {
        self.log.not_forked()?;
        let lazies = self.write_lazies();
        let mut maintenance = self.maintenance.lock();
        let written = lazies.and_then(|()| {
            let position = maintenance.positions.iter().flatten().max();
            if position != Some(&self.log.next()) {
                self.write_checkpoint(&mut maintenance)?;
            }
            Ok(())
        });
        // Without a checkpoint the next open replays more. What there is to say of a log that failed,
        // or was closed before, its own close says.
        match (self.log.close(), written) {
            (Ok(()), Err(error @ (Error::Io { .. } | Error::Poisoned { .. }))) => Err(error),
            (closed, _) => closed,
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Nobody is left to hear of an error; what was acknowledged is durable already.
        let _unheard = self.close();
    }
}

/// Makes sure that the log is one of groups; an empty one becomes one.
fn claim(log: &Log) -> Result<()> {
    let path = || log.path().to_owned();
    if let Some(cell) = log.cell(FORMAT) {
        let found = cell.as_ref().try_into().map_or(0, u32::from_le_bytes);
        if found != FORMAT_VERSION {
            let supported = FORMAT_VERSION;
            return Err(Error::UnsupportedVersion { path: path(), found, supported });
        }
        return Ok(());
    }
    if log.next() != 0 || !log.cells().is_empty() {
        let reason = if log.cell(LOST_BATCHES).is_some() {
            "what made it one of groups was lost before a repair: begin anew as another member"
        } else {
            "it holds the state of one host, not groups"
        };
        return Err(Error::InvalidArgument { what: "log", reason });
    }
    let mut batch = Batch::new();
    batch.set(FORMAT, FORMAT_VERSION.to_le_bytes().to_vec());
    log.submit(&batch)?;
    // The log is one of groups before any group is in it. A crash before this leaves an empty log,
    // which the next open makes one again.
    log.sync()
}

/// The newest checkpoint that can be used, and the position of each: also of one that is beyond the end
/// of the log, but of no other that cannot be used.
fn newest_checkpoint(log: &Log) -> Result<(Checkpoint, [Option<u64>; 2])> {
    let mut positions = [None; 2];
    let mut newest: Option<Checkpoint> = None;
    let (mut damaged, mut is_gone) = (None, false);
    for (cell, position) in CHECKPOINTS.iter().zip(&mut positions) {
        let read = match log.side_file(cell) {
            Ok(None) => continue,
            Ok(Some(file)) => file.read_all(),
            Err(error) => Err(error),
        };
        let found = read.and_then(|bytes| {
            // It proves that there were records which the log has no more.
            *position = checkpoint::position(&bytes).filter(|at| *at > log.next());
            checkpoint::decode(&bytes, log).ok_or_else(|| {
                let reason = Damage::Magic { structure: "checkpoint of groups" };
                Error::Damaged { path: log.path().to_owned(), offset: 0, indexes: None, reason }
            })
        });
        match found {
            Ok(found) => {
                *position = Some(found.position);
                let older = planted(Bug::OlderCheckpoint);
                let (at, before) = (found.position, newest.as_ref().map(|newest| newest.position));
                if before.is_none_or(|before| (before < at) != older) {
                    newest = Some(found);
                }
                if let Some(newest) = newest.as_mut().filter(|_| older) {
                    newest.position = newest.position.max(at).max(before.unwrap_or(0));
                }
            }
            Err(Error::Damaged { .. }) if position.is_some() => is_gone = true,
            // One that the device does not give is as good as one with wrong bytes.
            Err(error @ (Error::Damaged { .. } | Error::Io { .. })) => damaged = Some(error),
            Err(error) => return Err(error),
        }
    }
    match (newest, damaged) {
        (Some(newest), _) => Ok((newest, positions)),
        (None, Some(damaged)) => Err(damaged),
        // What they say of records before its beginning nothing else says.
        (None, None) if is_gone && log.first() > 0 => {
            let reason = "a repair took off more than came after the checkpoints of its groups: \
                restore a backup, or begin anew as another member";
            Err(Error::InvalidArgument { what: "log", reason })
        }
        (None, None) => {
            let regions = Regions::new(0, log.segment_bytes());
            let ledger = Ledger::new(regions, 0, log);
            Ok((Checkpoint { position: 0, ledger, table: Table::new() }, positions))
        }
    }
}

/// Lets go of checkpoints that cannot be used. The next ones take their places, and until then nothing
/// is trimmed.
fn forget_unusable(log: &Log, positions: [Option<u64>; 2]) -> Result<()> {
    let mut batch = Batch::new();
    let cells = CHECKPOINTS.into_iter().zip(positions);
    for (cell, _) in cells.filter(|(_, position)| position.is_none()) {
        batch.clear(cell);
    }
    // Durable before anything is written: what cannot be read now must not be taken once it can.
    log.submit(&batch)?.wait()
}

/// Applies what was written from `position` on. Checkpoints whose positions are in `gone` are of records
/// that a repair took off the end of the log.
fn replay(inner: &Inner, position: u64, gone: [Option<u64>; 2]) -> Result<()> {
    let mut maintenance = inner.maintenance.lock();
    let mut writer = inner.writer.lock();
    let writer = &mut *writer;
    let end = inner.log.next();
    replay_records(inner, writer, position..end)?;
    writer.overlay = Overlay::load(&inner.log).ok_or_else(|| {
        let reason = Damage::Magic { structure: "list of records in cells" };
        inner.damaged(None, reason)
    })?;
    let is_gone = gone.iter().any(Option::is_some) || inner.log.cell(LOST_BATCHES).is_some();
    // What was put aside came after all that is gone, and may not fit without it.
    let fits_not = is_gone && !writer.overlay.is_empty();
    if fits_not {
        writer.ledger.lost = writer.ledger.lost.max(1);
        inner.table.read().values().for_each(|it| it.state.write().mark_state_lost());
    } else if is_gone {
        mark_gone(inner, gone)?;
        replay_records(inner, writer, end..inner.log.next())?;
    }
    for bytes in writer.overlay.records() {
        apply_bytes(inner, &mut writer.ledger, bytes, Place::LOST, effect)?;
    }
    writer.ledger.lost = 0;
    writer.ledger.regions.trimmed(inner.log.first());
    // Nothing was let go of on the way: what was put aside is not in the order it came in.
    writer.ledger.released.clear();
    for member in inner.table.read().values() {
        let mut state = member.state.write();
        // If nothing of the group came after what was lost, its entries end where they did.
        let next = state.log.next();
        state.settle(next, member.id, &mut writer.ledger);
        state.check().map_err(|misfit| inner.misplaced(None, misfit))?;
        state.drop_unattached(&mut writer.ledger.regions);
        // The log made everything it holds durable when it was opened.
        state.durable_floor = state.log.next();
    }
    if fits_not {
        // Has it count in the checkpoints, and every mark with it. A crash before leaves the proof.
        inner.take_over(&mut maintenance, writer)?;
    }
    Ok(())
}

/// Writes into every group that its state may be lost, and lets go of the checkpoints that prove it, and
/// of what a repair left to say so.
fn mark_gone(inner: &Inner, gone: [Option<u64>; 2]) -> Result<()> {
    let mut ids: Vec<u64> = inner.table.read().keys().copied().collect();
    ids.sort_unstable();
    let mut batch = Batch::new();
    for group in ids {
        let mut bytes = Vec::new();
        let event = Event::Set { cell: STATE_LOST, value: &[] };
        Record { group, event }.encode(&mut bytes);
        batch.append(bytes);
    }
    for (cell, _) in CHECKPOINTS.into_iter().zip(gone).filter(|(_, at)| at.is_some()) {
        batch.clear(cell);
    }
    batch.clear(LOST_BATCHES);
    // Durable before anything else is written: once the log had as many records again, one of these
    // checkpoints would count as the newest. A crash before leaves the proof, and the next open as wise.
    inner.log.submit(&batch)?.wait()
}

/// Applies the records of a range of the log.
fn replay_records(inner: &Inner, writer: &mut Writer, range: Range<u64>) -> Result<()> {
    let Range { start: mut at, end } = range;
    while at < end {
        let to = end.min(at.saturating_add(REPLAY_ENTRIES));
        let entries = match inner.log.read(at..to) {
            Ok(entries) => entries,
            // Opened with holes, so what is missing is to be refilled, group by group.
            Err(Error::Hole { range, .. }) if range.start <= at => {
                let to = range.end.min(end).max(at + 1);
                records_lost(&inner.table, &mut writer.ledger, at..to);
                at = to;
                continue;
            }
            Err(Error::Hole { range, .. }) => inner.log.read(at..range.start)?,
            Err(error) => return Err(error),
        };
        for (bytes, at) in entries.iter().zip(at..) {
            let place = Place::of(at, bytes);
            writer.since_checkpoint += u64::from(place.bytes);
            apply_bytes(inner, &mut writer.ledger, bytes, place, apply)?;
        }
        at += to_u64(entries.len());
        inner.counters.replayed.fetch_add(to_u64(entries.len()), Ordering::Relaxed);
    }
    Ok(())
}
