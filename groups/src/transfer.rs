//! Moving in and out, and healing: copies between stores, what is damaged, refilling it.
//!
//! Owns: the order that makes an interrupted copy recognisable, and which entries a refill may
//! replace. Does not own: what is done about a damaged log as a whole (`indelible::repair`).

use std::ops::Range;

use indelible::inspect::Progress;
use indelible::store::{Store, StoreEntries as _};
use indelible::{Batch, CellValue, Error, Result};

use crate::envelope::{Event, Record};
use crate::group::{Group, GroupTicket};
use crate::groups::Groups;
use crate::number::to_u64;
use crate::plan::entry_bytes_max;
use crate::state::{STATE_LOST, STATE_LOST_REASON};

/// The cell of a store that a copy into has not ended.
const COPYING: &str = "groups.copying";
/// Most entries that are copied as one batch, and bytes after which it ends.
const COPY_ENTRIES: u64 = 1024;
const COPY_BYTES: usize = 1024 * 1024;

/// What [`copy`] copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Copied {
    /// Index of the first entry.
    pub first: u64,
    /// Exclusive end of the entries.
    pub next: u64,
    /// Cells, those with side files included.
    pub cells: u64,
}

/// Copies everything a store holds, entry for entry and cell for cell, into an empty one: a group
/// into a log of its own, or a log into a group. Nobody may write to either meanwhile. On return the
/// copy is durable.
///
/// If it fails or the process ends on the way, the target is refused by every adapter, and by this:
/// remove it and copy again.
///
/// ```
/// # use indelible::{Log, Options};
/// # use indelible_groups::{Groups, GroupsOptions, copy};
/// # fn main() -> indelible::Result<()> {
/// let groups = Groups::in_memory(&GroupsOptions::new())?;
/// let group = groups.create_group(7)?;
/// group.append(b"entry")?;
/// let log = Log::in_memory(&Options::new())?;
/// copy(&group, &log)?; // out
/// copy(&log, &groups.create_group(8)?)?; // and in
/// assert_eq!(groups.group(8)?.entry(0)?, b"entry");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`Error::InvalidArgument`] if the target is not empty, or the source is an unfinished copy; those
/// of reading the one and writing the other.
pub fn copy(from: &impl Store, to: &impl Store) -> Result<Copied> {
    // A group looks empty in a forked child, which is to be refused.
    from.read(0..0)?;
    if to.first() != 0 || to.next() != 0 || !to.cells().is_empty() {
        return Err(Error::InvalidArgument { what: "target", reason: "it is not empty" });
    }
    if from.cell(COPYING).is_some() {
        let reason = "a copy into it has not ended";
        return Err(Error::InvalidArgument { what: "source", reason });
    }
    if from.cell(STATE_LOST).is_some() {
        return Err(Error::InvalidArgument { what: "source", reason: STATE_LOST_REASON });
    }
    let (first, next) = (from.first(), from.next());
    let mut batch = Batch::new();
    batch.set(COPYING, &[][..]).reset(first);
    to.submit(&batch)?;
    // Makes the mark durable before anything that it marks.
    to.sync()?;
    let mut at = first;
    while at < next {
        let entries = from.read(at..next.min(at.saturating_add(COPY_ENTRIES)))?;
        let mut bytes = 0_usize;
        let mut batch = Batch::new();
        for entry in entries.iter() {
            if bytes >= COPY_BYTES {
                break;
            }
            bytes = bytes.saturating_add(entry.len());
            batch.append(entry);
            at += 1;
        }
        to.submit(&batch)?;
    }
    let mut batch = Batch::new();
    let cells = from.cells();
    for (name, value) in &cells {
        match value {
            CellValue::Inline(value) => batch.set(name.as_str(), value.to_vec()),
            CellValue::SideFile(_) => {
                let bytes = from.read_side_file(name)?.unwrap_or_default();
                batch.attach(name.as_str(), to.write_side_file(&bytes)?)
            }
        };
    }
    batch.clear(COPYING);
    to.submit(&batch)?;
    // The commit point: everything is durable, the end of the mark with it.
    to.sync()?;
    Ok(Copied { first, next, cells: to_u64(cells.len()) })
}

/// What of a group cannot be read.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GroupDamage {
    /// The group.
    pub group: u64,
    /// Ranges of its entries, each with what the first of them failed with.
    pub entries: Vec<(Range<u64>, Error)>,
    /// Cells whose side file cannot be read, each with what it failed with.
    pub side_files: Vec<(String, Error)>,
    /// Whether its cells and its bounds may be older than they were: see [`STATE_LOST`].
    pub state: bool,
}

impl GroupDamage {
    fn is_none(&self) -> bool {
        self.entries.is_empty() && self.side_files.is_empty() && !self.state
    }
}

impl Groups {
    /// Reads everything that every group holds, and names what cannot be read, group by group. The
    /// others are not hurt, and go on.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`], [`Error::Poisoned`].
    pub fn verify(&self) -> Result<Vec<GroupDamage>> {
        self.verify_with(&mut |_| ())
    }

    /// As [`Self::verify`], with the entries that were read.
    ///
    /// # Errors
    ///
    /// As [`Self::verify`].
    pub fn verify_with(&self, progress: &mut dyn FnMut(Progress)) -> Result<Vec<GroupDamage>> {
        self.log().not_forked()?;
        let groups = self.ids().into_iter().filter_map(|id| self.group(id).ok());
        let groups: Vec<Group> = groups.collect();
        let total = groups.iter().map(|it| it.next().saturating_sub(it.first())).sum();
        let (mut found, mut done) = (Vec::new(), 0);
        for group in groups {
            let read = &mut |entries| {
                done += entries;
                progress(Progress::new(done, total));
            };
            match group.verify_counting(read) {
                Ok(damage) if damage.is_none() => {}
                Ok(damage) => found.push(damage),
                // It was removed meanwhile.
                Err(Error::InvalidArgument { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}

impl Group {
    /// Reads everything the group holds, and names what cannot be read.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`], [`Error::Poisoned`], [`Error::InvalidArgument`] if the group was removed.
    pub fn verify(&self) -> Result<GroupDamage> {
        self.verify_counting(&mut |_| ())
    }

    /// Tells how many entries more were read.
    pub(crate) fn verify_counting(&self, read: &mut dyn FnMut(u64)) -> Result<GroupDamage> {
        self.log().not_forked()?;
        let mut damage = GroupDamage {
            group: self.id(),
            entries: Vec::new(),
            side_files: Vec::new(),
            state: self.cell(STATE_LOST).is_some(),
        };
        let mut at = self.first();
        while at < self.next() {
            let end = self.next().min(at.saturating_add(COPY_ENTRIES));
            if matches!(self.read(at..end), Err(ref error) if is_damage(error)?) {
                (at..end).try_for_each(|index| self.verify_entry(index, &mut damage))?;
            }
            read(end - at);
            at = end;
        }
        for (name, value) in self.cells() {
            if let CellValue::SideFile(_) = value
                && let Err(error) = self.read_side_file(&name)
                && is_damage(&error)?
            {
                damage.side_files.push((name, error));
            }
        }
        Ok(damage)
    }

    fn verify_entry(&self, index: u64, damage: &mut GroupDamage) -> Result<()> {
        let Err(error) = self.read(index..index + 1) else { return Ok(()) };
        if is_damage(&error)? {
            match damage.entries.last_mut() {
                Some((range, _)) if range.end == index => range.end += 1,
                _ => damage.entries.push((index..index + 1, error)),
            }
        }
        Ok(())
    }

    /// Writes entries again that cannot be read, from a peer that has them: those of `first` and
    /// after. Entries that can be read are left as they are, and have to be equal. Durable as the
    /// log's policy has it.
    ///
    /// # Errors
    ///
    /// [`Error::Trimmed`], [`Error::BeyondEnd`]; [`Error::InvalidArgument`] if an entry that can be
    /// read is another one: the peer is of another history, and nothing was changed. Those of
    /// [`Group::commit`].
    pub fn refill(&self, first: u64, entries: &[impl AsRef<[u8]>]) -> Result<GroupTicket> {
        let mut missing = Vec::new();
        for (entry, index) in entries.iter().map(AsRef::as_ref).zip(first..) {
            let limit = entry_bytes_max(self.log());
            let got = to_u64(entry.len());
            if got > limit {
                return Err(Error::TooLarge { what: "entry bytes", got, limit });
            }
            if self.lacks(index, entry)? {
                missing.push((index, entry));
            }
        }
        let (ticket, next) = self.write(|planner| {
            // Nobody writes from here on. What changed before is looked at again: an entry that took
            // the place of a damaged one must not be overwritten.
            let (first, next) = (self.first(), self.next());
            let mut again = Vec::with_capacity(missing.len());
            // One that was trimmed or truncated meanwhile is needed no more.
            missing.retain(|(index, _)| (first..next).contains(index));
            for &(index, bytes) in &missing {
                if self.lacks(index, bytes)? {
                    let event = Event::Entry { index, bytes, again: true };
                    again.push(Record { group: self.id(), event });
                }
            }
            planner.records(again.into_iter())
        })?;
        self.inner().settled(&ticket)?;
        Ok(GroupTicket::new(ticket, next))
    }

    /// Whether an entry cannot be read that should be this one; refuses another one.
    fn lacks(&self, index: u64, entry: &[u8]) -> Result<bool> {
        match self.read(index..index.saturating_add(1)) {
            Ok(found) if found.get(0) == Some(entry) => Ok(false),
            Ok(_) => {
                let reason = "an entry that can be read is another one";
                Err(Error::InvalidArgument { what: "refill", reason })
            }
            Err(error) if is_damage(&error)? => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// Whether an error is about these bytes; one that says that they are needed no more is none. Any
/// other is handed on: it leaves open what they are.
fn is_damage(error: &Error) -> Result<bool> {
    match error {
        Error::Damaged { .. }
        | Error::Hole { .. }
        | Error::Io { .. }
        | Error::UnsupportedFeature { .. } => Ok(true),
        Error::Trimmed { .. } | Error::BeyondEnd { .. } | Error::InvalidArgument { .. } => {
            Ok(false)
        }
        _ => Err(error.clone()),
    }
}
