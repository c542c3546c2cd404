//! Space that is kept for a full disk: side files of the log that mean nothing, and are let go of
//! when their space is needed.
//!
//! Owns: how much is kept, taking it and letting it go. Does not own: what becomes of it (`maintenance`),
//! nor the refusal of entries as long as there is too little (`commit`).

use std::io::Write as _;

use indelible::{Batch, CellValue, Error, Log, Result, SideFile};

use crate::commit::{Inner, Writer};
use crate::maintenance::{CHECKPOINTS, Maintenance};
use crate::number::{to_u64, to_usize};

/// What space is kept for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reserve {
    /// Both checkpoints, which take over what was put aside: so that cells and bounds can change for
    /// as long as the disk stays full. What is written there takes the place of what was there
    /// before, so it never gets less.
    Checkpoints,
    /// What is carried out of the oldest region, so that space comes back. It becomes space of the
    /// log: the segment that goes then.
    Carry,
}

impl Reserve {
    pub(crate) const ALL: [Self; 2] = [Self::Checkpoints, Self::Carry];

    /// The cell of the log that refers to it.
    pub(crate) const fn cell(self) -> &'static str {
        match self {
            Self::Checkpoints => "groups.reserve.checkpoints",
            Self::Carry => "groups.reserve.carry",
        }
    }
}

/// Space of a carry that is not for what is carried: a header, and the blocks that the file system
/// rounds up to.
const CARRY_EXTRA_BYTES: u64 = 16 * 1024;
/// What a checkpoint may have beside what is counted: its header, and its regions.
const CHECKPOINT_EXTRA_BYTES: u64 = 512;
/// Bytes by which a checkpoint may grow while the disk is full: so much of the bytes of log between
/// two checkpoints, but not less than the one and not more than the other.
const GROWTH_SHARE: u64 = 64;
const GROWTH_BYTES: (u64, u64) = (16 * 1024, 256 * 1024);
/// Bytes of zeros that are written at a time.
const FILL_BYTES: usize = 4096;

/// How much is kept, and what says how much has to be.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    checkpoints: u64,
    carry: u64,
    /// Bytes of the larger one of the newest checkpoints.
    pub(crate) checkpoint_bytes: u64,
}

impl Kept {
    /// What the cells of a log say.
    pub(crate) fn load(log: &Log) -> Self {
        let cells = log.cells();
        let bytes = |name: &str| {
            let found = cells.iter().find(|(cell, _)| cell == name);
            found.map_or(0, |(_, value)| match value {
                CellValue::SideFile(file) => file.length,
                CellValue::Inline(_) => 0,
            })
        };
        Self {
            checkpoints: bytes(Reserve::Checkpoints.cell()),
            carry: bytes(Reserve::Carry.cell()),
            checkpoint_bytes: CHECKPOINTS.map(bytes).into_iter().max().unwrap_or(0),
        }
    }

    pub(crate) const fn of(&self, reserve: Reserve) -> u64 {
        match reserve {
            Reserve::Checkpoints => self.checkpoints,
            Reserve::Carry => self.carry,
        }
    }

    const fn set(&mut self, reserve: Reserve, bytes: u64) {
        match reserve {
            Reserve::Checkpoints => self.checkpoints = bytes,
            Reserve::Carry => self.carry = bytes,
        }
    }
}

/// Where the log began, and the position of the newest checkpoint.
pub(crate) type Moment = (u64, Option<u64>);

/// What came of taking space.
enum Filled {
    /// It was there.
    All(SideFile),
    /// There is as much, and the next bytes were refused.
    UpTo(u64),
}

impl Inner {
    /// Bytes that have to be kept before more entries are taken.
    fn needed(&self, writer: &Writer, reserve: Reserve) -> u64 {
        match reserve {
            Reserve::Checkpoints => checkpoint_bytes(writer).saturating_mul(2),
            // There is nothing to be emptied before.
            Reserve::Carry if writer.ledger.regions.iter().len() < 3 => 0,
            Reserve::Carry => self.log.segment_bytes() / 8 + CARRY_EXTRA_BYTES,
        }
    }

    /// Bytes that are to be kept where there is space for them, and how many are kept once there are
    /// fewer, or more than twice as many.
    fn wanted(&self, writer: &Writer, reserve: Reserve) -> (u64, u64) {
        let needed = self.needed(writer, reserve);
        match reserve {
            Reserve::Checkpoints => {
                let (least, most) = GROWTH_BYTES;
                let growth = (self.checkpoint_bytes() / GROWTH_SHARE).clamp(least, most);
                // Both of them grow, and what is left has to be enough for both again.
                let wanted = needed.saturating_add(growth.saturating_mul(4));
                // And that is to be enough for longer.
                let more = wanted.saturating_add(checkpoint_bytes(writer));
                (wanted, more)
            }
            Reserve::Carry => (needed, needed),
        }
    }

    /// Bytes up to which a region may have live ones if it is emptied into what is kept. The rest is
    /// for the footer of the segment that is full, and for the header of the next.
    pub(crate) fn carry_bytes_max(&self) -> u64 {
        self.log.segment_bytes() / 16
    }

    /// Whether less is kept than has to be.
    pub(crate) fn is_short(&self, writer: &Writer) -> bool {
        Reserve::ALL.into_iter().any(|reserve| self.lacks(writer, reserve))
    }

    /// Whether less is kept for this than has to be.
    pub(crate) fn lacks(&self, writer: &Writer, reserve: Reserve) -> bool {
        writer.kept.of(reserve) < self.needed(writer, reserve)
    }

    /// What has to change before it is worth looking for space again.
    pub(crate) fn moment(&self, maintenance: &Maintenance) -> Moment {
        (self.log.first(), maintenance.positions.iter().flatten().max().copied())
    }

    /// Keeps what is wanted, or as much as there is space for. Returns whether that is enough for more
    /// entries.
    pub(crate) fn restore(&self, maintenance: &mut Maintenance) -> Result<bool> {
        let moment = self.moment(maintenance);
        let short_at = maintenance.short_at.take();
        let mut enough = true;
        for reserve in Reserve::ALL {
            let (mut kept, needed, (wanted, more)) = {
                let writer = self.writer()?;
                let needed = self.needed(&writer, reserve);
                (writer.kept.of(reserve), needed, self.wanted(&writer, reserve))
            };
            let is_too_large = reserve == Reserve::Checkpoints && kept / 2 > more;
            if kept >= wanted && !is_too_large {
                continue;
            }
            // A carry goes into a spare segment as well.
            let does_without = reserve == Reserve::Carry && self.log.stats().spares > 0;
            if does_without && short_at == Some(moment) {
                maintenance.short_at = short_at;
                continue;
            }
            let mut filled = self.fill(more)?;
            if let Filled::UpTo(reached) = filled
                && reached > kept
            {
                filled = self.fill(reached)?;
            }
            if let Filled::All(file) = filled {
                kept = file.bytes();
                let mut batch = Batch::new();
                batch.attach(reserve.cell(), file);
                // Becomes durable with the next sync. A crash before it leaves what was kept before.
                self.log.submit(&batch)?;
                self.writer()?.kept.set(reserve, kept);
            }
            if kept < wanted {
                maintenance.short_at = Some(moment);
            }
            if kept < needed && !does_without {
                enough = false;
                break;
            }
        }
        Ok(enough)
    }

    /// Takes so many bytes of space, or finds how many there are.
    fn fill(&self, bytes: u64) -> Result<Filled> {
        let mut file = match self.log.side_file_writer() {
            // Not even for the name of one.
            Err(Error::DiskFull { .. }) => return Ok(Filled::UpTo(0)),
            file => file?,
        };
        let zeros = [0; FILL_BYTES];
        let mut reached = 0;
        let mut take = |bytes: u64| {
            let (zeros, _) = zeros.split_at(to_usize(bytes).min(FILL_BYTES));
            file.write_all(zeros).and_then(|()| file.flush()).map_err(|error| self.unwrapped(error))
        };
        while reached < bytes {
            let step = (bytes - reached).min(to_u64(FILL_BYTES));
            match take(step) {
                Ok(()) => reached += step,
                Err(Error::DiskFull { .. }) => return Ok(Filled::UpTo(reached)),
                Err(error) => return Err(error),
            }
        }
        match file.finish() {
            Ok(file) => Ok(Filled::All(file)),
            Err(Error::DiskFull { .. }) => {
                Ok(Filled::UpTo(reached.saturating_sub(to_u64(FILL_BYTES))))
            }
            Err(error) => Err(error),
        }
    }

    /// Lets go of what is kept. On return its space is free.
    pub(crate) fn release(&self, writer: &mut Writer, reserve: Reserve) -> Result<()> {
        writer.kept.set(reserve, 0);
        let mut batch = Batch::new();
        batch.clear(reserve.cell());
        self.log.submit(&batch)?;
        // Makes durable that no cell refers to it, and removes it. A crash before leaves it kept.
        self.log.checkpoint()
    }
}

/// What the next checkpoint takes at most.
const fn checkpoint_bytes(writer: &Writer) -> u64 {
    let grown = writer.kept.checkpoint_bytes.saturating_add_signed(writer.ledger.growth);
    grown.saturating_add(CHECKPOINT_EXTRA_BYTES)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use indelible::io::sim::SimDisk;
    use indelible::{Error, Log, Options, Result};

    use super::*;
    use crate::{Group, Groups, GroupsOptions};

    fn set(group: &Group, value: u8) -> Result<()> {
        let mut batch = Batch::new();
        batch.set("promise", vec![value; 100]);
        group.commit(&batch).map(drop)
    }

    /// A hundred groups.
    fn hundred(disk: &SimDisk) -> (Groups, Vec<Group>) {
        let options = Options::new().background(false).tiny_segments(16 * 1024);
        let (log, _) = Log::open_or_create_in(Arc::new(disk.clone()), &options).unwrap();
        let options = GroupsOptions::new().checkpoint_bytes(16 * 1024);
        let groups = Groups::from_log(log, &options).unwrap();
        let handles = (0..100).map(|id| groups.create_group(id).unwrap()).collect();
        (groups, handles)
    }

    fn kept(groups: &Groups) -> u64 {
        groups.inner.writer().unwrap().kept.of(Reserve::Checkpoints)
    }

    #[test]
    fn what_dropped_groups_needed_is_given_back() {
        let disk = SimDisk::new(2);
        let (groups, handles) = hundred(&disk);
        let mut batch = Batch::new();
        for nth in 0..3 {
            batch.set(format!("cell.{nth}"), vec![1; 900]);
        }
        for group in &handles {
            group.commit(&batch).unwrap();
        }
        groups.maintain().unwrap();
        let before = (kept(&groups), disk.used());
        assert!(before.0 > 100 * 3 * 900 * 2, "{before:?}");
        groups.ids().into_iter().skip(1).for_each(|id| groups.remove_group(id).unwrap());
        groups.maintain().unwrap();
        let after = (kept(&groups), disk.used());
        assert!(after.0 < before.0 / 4 && after.1 < before.1 - before.0 / 2, "{after:?}");
        let inner = &groups.inner;
        assert!(!inner.is_short(&inner.writer().unwrap()));
        // It is not written anew each time.
        groups.maintain().unwrap();
        assert_eq!(kept(&groups), after.0);
    }

    /// Others took what was kept: what finds no space in the log finds none for checkpoints either.
    #[test]
    fn refused_promises_cost_no_checkpoint_each() {
        let disk = SimDisk::new(3);
        let (groups, handles) = hundred(&disk);
        disk.set_capacity(Some(disk.used() - kept(&groups)));
        let refused = (0..10).any(|value| handles.iter().any(|group| set(group, value).is_err()));
        assert!(refused && kept(&groups) == 0);
        let before = disk.calls();
        for group in &handles {
            // Some may still be put aside in the place of others.
            let _refused = set(group, 11);
        }
        let calls = disk.calls() - before;
        assert!(calls < 10 * 100, "{calls} calls");
        disk.set_capacity(None);
        for group in &handles {
            set(group, 12).unwrap();
        }
        assert!(kept(&groups) > 0);
    }

    /// Others take some of the space that a take-over lets go of, and it fails.
    #[test]
    fn failed_take_over_keeps_what_is_left_and_stays_due() {
        let disk = SimDisk::new(1);
        let (groups, handles) = hundred(&disk);
        let busy = handles.last().unwrap();
        disk.set_capacity(Some(disk.used() + 200 * 1024));
        while busy.append(&[1; 300]).is_ok() {}
        let inner = &groups.inner;
        while inner.writer().unwrap().overlay.is_empty() {
            set(busy, 1).unwrap();
        }
        let state = || {
            let writer = inner.writer().unwrap();
            (writer.since_checkpoint, writer.kept.of(Reserve::Checkpoints))
        };
        // As if the tail had had room for some of it.
        inner.writer().unwrap().since_checkpoint = 1000;
        let (since, kept) = state();
        let room = inner.writer().unwrap().kept.checkpoint_bytes + 4096;
        disk.set_capacity(Some(disk.used() - kept + room));
        let refused = handles.iter().map(|group| set(group, 2)).find_map(Result::err);
        assert!(matches!(refused, Some(Error::DiskFull { .. })), "{refused:?}");
        let (since_then, left) = state();
        assert_eq!(since_then, since);
        assert!(left > 0 && left < kept, "{left} of {kept} bytes");
        disk.set_capacity(None);
        for group in &handles {
            set(group, 3).unwrap();
        }
        busy.append(&[1; 300]).unwrap();
        assert!(state().1 >= kept);
        assert!(inner.writer().unwrap().overlay.is_empty());
    }
}
