//! One group: what a log offers to a host, on its own index space.
//!
//! Owns: the public [`Group`]. Does not own: the writing (`commit`), the reading (`read`).

use std::future::IntoFuture;
use std::ops::Range;
use std::sync::Arc;

use indelible::{Batch, CellValue, Change, Completion, Error, Log, Result, Ticket};
use parking_lot::RwLockReadGuard;

use crate::commit::Inner;
use crate::file::{GroupFileReader, GroupFileWriter};
use crate::groups::Groups;
use crate::number::to_u64;
use crate::plan::{Planner, Riders, entry_bytes_max};
use crate::read::{self, Entries};
use crate::state::{GroupState, Member, state_kept};
use crate::stats::GroupStats;

/// A handle of one group. Clones are handles of the same group, and keep its log open.
///
/// Indexes are `u64` and ranges half-open. A new group starts at index 0. Calls on a group that was
/// removed return [`Error::InvalidArgument`]; its bounds are where they were. In a process that was
/// forked from the one that opened the log, calls return [`Error::Forked`], and those that return no
/// error see a group that holds nothing, with bounds of 0.
#[derive(Debug, Clone)]
pub struct Group {
    member: Arc<Member>,
    inner: Arc<Inner>,
}

/// Stands for a batch of one group that was written. Dropping it changes nothing and causes no sync.
#[derive(Debug, Clone)]
pub struct GroupTicket {
    ticket: Ticket,
    next: u64,
}

impl GroupTicket {
    pub(crate) const fn new(ticket: Ticket, next: u64) -> Self {
        Self { ticket, next }
    }

    /// Index the next entry of the group got after this batch.
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Whether the batch is durable. Costs no I/O.
    pub fn is_durable(&self) -> bool {
        self.ticket.is_durable()
    }

    /// Waits until the batch is durable, with the sync of all groups.
    ///
    /// # Errors
    ///
    /// Those of [`Ticket::wait`].
    pub fn wait(&self) -> Result<()> {
        self.ticket.wait()
    }

    /// Calls back once, as [`Ticket::on_durable`].
    pub fn on_durable(self, callback: impl FnOnce(Result<()>) + Send + 'static) {
        self.ticket.on_durable(callback);
    }

    /// The ticket of the log underneath, which counts the batches of all groups.
    pub fn into_ticket(self) -> Ticket {
        self.ticket
    }
}

impl IntoFuture for GroupTicket {
    type Output = Result<()>;
    type IntoFuture = Completion;

    fn into_future(self) -> Completion {
        self.ticket.into_future()
    }
}

impl Group {
    pub(crate) const fn new(inner: Arc<Inner>, member: Arc<Member>) -> Self {
        Self { member, inner }
    }

    /// The id of the group.
    pub fn id(&self) -> u64 {
        self.member.id
    }

    /// The groups that this is one of.
    pub fn groups(&self) -> Groups {
        Groups { inner: Arc::clone(&self.inner) }
    }

    /// The log underneath, for its options, path and counters. Writing to it breaks the groups.
    pub fn log(&self) -> &Log {
        &self.inner.log
    }

    /// Largest entry that a group takes, in bytes.
    pub fn entry_bytes_max(&self) -> u64 {
        entry_bytes_max(&self.inner.log)
    }

    /// Index of the first entry.
    pub fn first(&self) -> u64 {
        self.state().map_or(0, |state| state.log.first())
    }

    /// Index the next entry will get.
    pub fn next(&self) -> u64 {
        self.state().map_or(0, |state| state.log.next())
    }

    /// Exclusive end of the entries that are on media.
    pub fn durable(&self) -> u64 {
        let durable = self.inner.log.durable();
        self.state().map_or(0, |state| state.durable(durable))
    }

    /// Appends one entry, as a batch of its own.
    ///
    /// # Errors
    ///
    /// As [`Self::commit`].
    pub fn append(&self, entry: &[u8]) -> Result<GroupTicket> {
        let (ticket, next) = self.write(|planner| planner.append(self.member.id, entry))?;
        self.inner.settled(&ticket)?;
        Ok(GroupTicket { ticket, next })
    }

    /// Commits a batch. Under [`Durability::Always`](indelible::Durability::Always) it is durable on
    /// return; under the other policies it is written, readable and in order.
    ///
    /// # Errors
    ///
    /// Those of [`Log::commit`]; entries may have 21 bytes less than those of the log.
    /// [`Error::InvalidArgument`] if the group was removed, or for a side file of another group.
    pub fn commit(&self, batch: &Batch<'_>) -> Result<GroupTicket> {
        let ticket = self.submit(batch)?;
        self.inner.settled(&ticket.ticket)?;
        Ok(ticket)
    }

    /// Writes a batch and waits for nothing, whatever the policy. It becomes durable with the next
    /// sync of any group, be it one that its ticket asks for.
    ///
    /// # Errors
    ///
    /// As [`Self::commit`].
    pub fn submit(&self, batch: &Batch<'_>) -> Result<GroupTicket> {
        let (ticket, next) = self.write(|planner| planner.changes(self.member.id, batch))?;
        Ok(GroupTicket { ticket, next })
    }

    /// Sets a cell whose value need not be durable by itself: it goes along with the next batch of
    /// the group, at the latest with [`Self::sync`] or a close. See [`Log::set_lazily`].
    ///
    /// # Errors
    ///
    /// Those of [`Log::set_lazily`], and [`Error::InvalidArgument`] if the group was removed.
    pub fn set_lazily(&self, cell: &str, value: &[u8]) -> Result<()> {
        self.inner.usable()?;
        // A batch that is being planned has seen all cells that are to fit beside its own.
        let mut writer = self.inner.writer()?;
        self.member.alive()?;
        let mut state = self.member.state.write();
        state_kept(&state.log)?;
        if matches!(state.log.cells().get(cell), Some(CellValue::SideFile(_))) {
            let reason = "it refers to a side file; use a batch";
            return Err(Error::InvalidArgument { what: "cell", reason });
        }
        let old = state.value(cell);
        if old.as_deref() == Some(value) {
            return Ok(());
        }
        if old.is_none_or(|old| old.len() < value.len()) {
            let mut seen = state.seen();
            seen.apply(&Change::Set(cell, value))?;
            seen.check()?;
        }
        state.lazy.insert(cell.to_owned(), value.into());
        writer.lazies.insert(self.member.id);
        Ok(())
    }

    /// Makes everything durable that the group has written, and what was set lazily. The sync is
    /// that of all groups.
    ///
    /// # Errors
    ///
    /// Those of [`Log::sync`].
    pub fn sync(&self) -> Result<()> {
        self.write(|planner| planner.riders(std::iter::once(self.member.id)))?;
        self.inner.log.sync()
    }

    /// One entry, copied.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub fn entry(&self, index: u64) -> Result<Vec<u8>> {
        read::entry(&self.inner, &self.member, index)
    }

    /// Entries without copying them, checked before they are handed out. As long as they are held,
    /// no segment that they are in is used again.
    ///
    /// # Errors
    ///
    /// Those of [`Log::read`], with the indexes of the group.
    pub fn read(&self, range: Range<u64>) -> Result<Entries> {
        read::read(&self.inner, &self.member, &range)
    }

    /// The entries from `from` on, to the end the group has at each step.
    pub fn iter(&self, from: u64) -> Iter {
        Iter { group: self.clone(), next: from, failed: false }
    }

    /// The value of a cell; nothing if it is clear or refers to a side file.
    pub fn cell(&self, name: &str) -> Option<Arc<[u8]>> {
        self.state().ok()?.value(name)
    }

    /// Every cell with its value, by name.
    pub fn cells(&self) -> Vec<(String, CellValue)> {
        let Ok(seen) = self.state().map(|state| state.seen()) else { return Vec::new() };
        seen.cells().iter().map(|(name, value)| (name.to_owned(), value.clone())).collect()
    }

    /// Starts a side file: a snapshot, or any value too large for a cell. It becomes part of the
    /// group when it is finished and then attached by a [`Batch`].
    ///
    /// # Errors
    ///
    /// [`Error::Poisoned`], [`Error::Closed`], [`Error::InvalidArgument`] if the group was removed.
    pub fn side_file_writer(&self) -> Result<GroupFileWriter> {
        self.inner.usable()?;
        self.member.alive()?;
        GroupFileWriter::new(&self.inner, &self.member)
    }

    /// The side file that a cell refers to, for reading.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if the group was removed.
    pub fn side_file(&self, cell: &str) -> Result<Option<GroupFileReader>> {
        let state = self.state()?;
        self.member.alive()?;
        Ok(match state.log.cells().get(cell) {
            Some(CellValue::SideFile(file)) => {
                Some(GroupFileReader::new(&self.inner, &self.member, *file))
            }
            _ => None,
        })
    }

    /// What the group holds.
    pub fn stats(&self) -> GroupStats {
        let Ok(state) = self.state() else { return GroupStats::default() };
        let parts = state.files.values().flat_map(|file| &file.parts);
        let parts: u64 = parts.map(|place| u64::from(place.bytes)).sum();
        GroupStats {
            entries: state.log.next() - state.log.first(),
            live_bytes: state.index.live_bytes().saturating_add(parts),
            side_files: to_u64(state.files.len()),
            index_bytes: to_u64(state.index.memory_bytes()),
        }
    }

    pub(crate) fn write(
        &self,
        plan: impl FnMut(Planner<'_>) -> Result<Riders>,
    ) -> Result<(Ticket, u64)> {
        self.inner.write(Some(&self.member), plan)
    }

    pub(crate) fn check_state(&self) -> Result<()> {
        state_kept(&self.state()?.log)
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    fn state(&self) -> Result<RwLockReadGuard<'_, GroupState>> {
        self.inner.state(&self.member)
    }
}

/// Walks over the entries of a group, copying each as [`Group::entry`] does. Made by
/// [`Group::iter`].
#[derive(Debug)]
pub struct Iter {
    group: Group,
    next: u64,
    failed: bool,
}

impl Iterator for Iter {
    type Item = Result<(u64, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let index = self.next;
        match self.group.entry(index) {
            // Also if a truncation took what is next.
            Err(Error::BeyondEnd { .. }) => None,
            Ok(entry) => {
                self.next = index + 1;
                Some(Ok((index, entry)))
            }
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}
