//! The groups of a log from outside: nothing in its directory is locked or changed.
//!
//! Owns: opening them for reading, and what of a peer is taken. Does not own: what that has to show
//! before (`indelible::repair::FromPeer`), the log underneath (`indelible::repair::preview`), nor
//! writing (`transfer`).

use std::ops::Range;
use std::path::Path;

use indelible::inspect::{Progress, decided_in};
use indelible::repair::{FromPeer, Plan, RefillError};
use indelible::store::{Store, StoreEntries as _};
use indelible::{Error, Log, Result};

use crate::envelope::{Event, Record};
use crate::group::Group;
use crate::groups::{FORMAT, Groups};
use crate::maintenance::CHECKPOINTS;
use crate::options::GroupsOptions;
use crate::reserve::Reserve;

/// Most entries that are written again as one batch, and bytes after which it ends.
const BATCH_ENTRIES: usize = 256;
const BATCH_BYTES: usize = 1024 * 1024;

/// What a refill of a group did.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GroupRefilled {
    /// Entries that were put back, and are durable.
    pub put_back: Vec<Range<u64>>,
    /// Entries that still cannot be read.
    pub missing: Vec<Range<u64>>,
    /// Why it did not go on, if something was put back and then something failed.
    pub stopped: Option<Error>,
}

/// An entry of the log underneath: what happened to a group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordSeen<'a> {
    /// The group.
    pub group: u64,
    /// What happened, in words.
    pub said: String,
    /// The cell whose value the payload is, if it is one.
    pub cell: Option<&'a str>,
    /// The bytes that come with it: of an entry, a value, or a part of a side file.
    pub payload: &'a [u8],
}

/// What a side file of the log underneath is to the groups in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SideFileRole {
    /// One of two checkpoints. If it cannot be read, an open lets go of it and takes the other one, and
    /// nothing is lost. Without both there is no open.
    Checkpoint,
    /// Zeros: space that is kept for a full disk. Nothing reads it.
    Reserve,
}

/// What the side file of this cell of the log underneath is to groups, if the cell is theirs.
pub fn side_file_role(cell: &str) -> Option<SideFileRole> {
    if CHECKPOINTS.contains(&cell) {
        return Some(SideFileRole::Checkpoint);
    }
    Reserve::ALL.iter().any(|it| it.cell() == cell).then_some(SideFileRole::Reserve)
}

/// The record that an entry of the log underneath is, if it is one.
pub fn describe_record(bytes: &[u8]) -> Option<RecordSeen<'_>> {
    let Record { group, event } = Record::decode(bytes)?;
    let (said, payload): (String, &[u8]) = match event {
        Event::Create => ("begins".to_owned(), &[]),
        Event::Remove => ("is gone".to_owned(), &[]),
        Event::Entry { index, bytes, again: false } => (format!("entry {index}"), bytes),
        Event::Entry { index, bytes, again: true } => (format!("entry {index} again"), bytes),
        Event::Truncate(to) => (format!("truncated to {to}"), &[]),
        Event::Trim(to) => (format!("trimmed to {to}"), &[]),
        Event::Reset(to) => (format!("reset to {to}"), &[]),
        Event::Set { cell, value } => (format!("cell {cell}"), value),
        Event::Clear { cell } => (format!("cell {cell} cleared"), &[]),
        Event::Part { file, nth, bytes } => (format!("part {nth} of side file {file}"), bytes),
        Event::Attach { cell, file } => {
            (format!("cell {cell} = side file {} of {} bytes", file.id, file.length), &[])
        }
        Event::Page { first, places, .. } => {
            let count = places.len() / crate::page::PLACE_BYTES;
            (format!("page of the {count} entries from {first} on"), &[])
        }
    };
    let cell = if let Event::Set { cell, .. } = event { Some(cell) } else { None };
    Some(RecordSeen { group, said, cell, payload })
}

/// Whether a log holds groups.
pub fn holds_groups(log: &Log) -> bool {
    log.cell(FORMAT).is_some()
}

impl Groups {
    /// The groups in a directory as an open would find them, for reading. Nothing in the directory is
    /// locked or changed, so it may be in use, or on a read-only mount; what is written stays in memory
    /// and ends with the handle. Reads of entries that are lost return [`Error::Hole`] or
    /// [`Error::Damaged`].
    ///
    /// # Errors
    ///
    /// Those of [`indelible::repair::preview`], and of [`Self::from_log`];
    /// [`Error::InvalidArgument`] if the log holds no groups.
    pub fn preview(path: impl AsRef<Path>) -> Result<Self> {
        Self::previewed(indelible::repair::preview(path)?)
    }

    /// The groups in a directory as a repair would leave them, and what the repair would do and lose.
    ///
    /// # Errors
    ///
    /// Those of [`indelible::repair::preview_repaired`], and of [`Self::preview`].
    pub fn preview_repaired(path: impl AsRef<Path>) -> Result<(Self, Plan)> {
        let (log, plan) = indelible::repair::preview_repaired(path)?;
        Ok((Self::previewed(log)?, plan))
    }

    fn previewed(log: Log) -> Result<Self> {
        if !holds_groups(&log) {
            return Err(Error::InvalidArgument { what: "log", reason: "it holds no groups" });
        }
        Self::from_log(log, &GroupsOptions::new())
    }
}

impl Group {
    /// Writes entries again that cannot be read, from a peer's store of the same group. Only
    /// entries before `to` are taken, by default those that the peer states as decided, and only if
    /// entries next to each gap are the same in both; `force` goes beyond what the peer shows,
    /// never beyond a difference. Durable on return. Progress counts entries that were read, before
    /// and after, and those that were put back.
    ///
    /// # Errors
    ///
    /// [`RefillError::Refused`] if the peer is not shown to have the right entries: nothing was
    /// changed. [`RefillError::Log`] for what [`Self::verify`] and [`Self::refill`] return.
    pub fn refill_from(
        &self,
        peer: &impl Store,
        to: Option<u64>,
        force: bool,
        progress: &mut dyn FnMut(Progress),
    ) -> std::result::Result<GroupRefilled, RefillError> {
        let (how, stated) = (FromPeer::new().to(to).force(force), decided_in(peer));
        let limit = how.limit(stated)?.min(peer.next());
        let (mut done, mut total) = (0, self.next().saturating_sub(self.first()).saturating_mul(2));
        let mut more = |entries: u64, wanted: u64| {
            (done, total) = (done + entries, total + wanted);
            progress(Progress::new(done, total.max(done)));
        };
        let gaps = self.verify_counting(&mut |read| more(read, 0))?.entries;
        let gaps: Vec<Range<u64>> = gaps.into_iter().map(|it| it.0).collect();
        for gap in gaps.iter().filter(|gap| gap.start < limit) {
            how.check(gap, stated, &mut |index| {
                let both = payload(self, index).zip(payload(peer, index));
                Ok(both.map(|(here, there)| [here, there]))
            })?;
        }
        let mut put_back: Vec<Range<u64>> = Vec::new();
        let mut stopped = None;
        for gap in &gaps {
            let wanted = gap.start.max(peer.first())..gap.end.min(limit);
            more(0, wanted.end.saturating_sub(wanted.start));
            if let Err(error) = self.take(peer, wanted, &mut put_back, &mut |put| more(put, 0)) {
                if put_back.is_empty() {
                    return Err(error.into());
                }
                stopped = Some(error);
                break;
            }
        }
        // Makes durable what was put back, under every policy. A crash before it leaves gaps, which
        // another refill finds.
        self.log().sync()?;
        let missing = self.verify_counting(&mut |read| more(read, 0))?.entries;
        let missing = missing.into_iter().map(|it| it.0).collect();
        Ok(GroupRefilled { put_back, missing, stopped })
    }

    /// Takes what the peer has of a range.
    fn take(
        &self,
        peer: &impl Store,
        range: Range<u64>,
        put_back: &mut Vec<Range<u64>>,
        tried: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            let (first, mut entries, mut bytes) = (at, Vec::new(), 0);
            while at < range.end && entries.len() < BATCH_ENTRIES && bytes < BATCH_BYTES {
                let Some(entry) = payload(peer, at) else { break };
                bytes += entry.len();
                entries.push(entry);
                at += 1;
            }
            if entries.is_empty() {
                // The peer has it no more than we do.
                at += 1;
                tried(1);
                continue;
            }
            tried(at - first);
            self.refill(first, &entries)?;
            match put_back.last_mut() {
                Some(last) if last.end == first => last.end = at,
                _ => put_back.push(first..at),
            }
        }
        Ok(())
    }
}

/// The bytes of an entry, if they can be read.
fn payload(store: &impl Store, index: u64) -> Option<Vec<u8>> {
    let entries = store.read(index..index.checked_add(1)?).ok()?;
    entries.get(0).map(<[u8]>::to_vec)
}
