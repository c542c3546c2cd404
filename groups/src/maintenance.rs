//! What is done from time to time: checkpoints, and giving back what no group needs.
//!
//! Owns: when, and in which order. Does not own: the bytes of a checkpoint (`checkpoint`).
//!
//! - **Checkpoint.** (1) Under the writer's lock, all groups at the end of the log are put into
//!   bytes; (2) they become a side file, durable; (3) a batch attaches it in place of the older of
//!   the two there are. The commit point is (3), which the log orders after every batch that (1) saw.
//! - **Carry.** What groups still need of the oldest region is written again, as one batch of the
//!   log for each step; the new places count from there on.
//! - **Trim.** The log is trimmed to the next region once nothing in the oldest is live, and only up
//!   to the older checkpoint: what came before is in both. The log orders the trim after the carries.
//!
//! A crash between any two of these leaves records that count twice nowhere: a replay meets the
//! same records in the same order.

use std::io::{ErrorKind, Write as _};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use indelible::repair::LOST_BATCHES;
use indelible::{Batch, Error, Result, SideFile};

use crate::checkpoint;
use crate::commit::{For, Inner, Writer};
use crate::envelope::{Event, Record};
use crate::index::Piece;
use crate::number::to_u64;
use crate::overlay::{Overlay, PENDING};
use crate::page::Pages;
use crate::planted::{Bug, planted};
use crate::regions::Region;
use crate::reserve::{Moment, Reserve};
use crate::state::GroupState;

/// The cells of the log that refer to the two newest checkpoints.
pub(crate) const CHECKPOINTS: [&str; 2] = ["groups.checkpoint.a", "groups.checkpoint.b"];

/// Most bytes of log between two checkpoints, unless it is told otherwise.
const CHECKPOINT_BYTES_DEFAULT: u64 = 32 * 1024 * 1024;
/// Entries of the log that reclaim looks at for each that was written, as far as it is worth it:
/// so it gets through the log before as much has been written again.
const LOOKS_PER_RECORD: u64 = 2;
/// Most entries of the log that one step of a carry looks at.
const CARRY_ENTRIES: u64 = 512;
/// Bytes after which a step of a carry ends.
const CARRY_BYTES: usize = 64 * 1024;

/// What maintenance knows from one time to the next.
#[derive(Debug, Default)]
pub(crate) struct Maintenance {
    /// Where the replay of each checkpoint begins; nothing if there is none.
    pub(crate) positions: [Option<u64>; 2],
    /// Where the carry of the oldest region goes on.
    cursor: u64,
    /// What groups have before this entry of the log is in pages, as far as it is worth one.
    pub(crate) spilled: u64,
    /// The end of a region of which everything readable was carried and something is still needed:
    /// a damaged range. It stays until the group trims or refills what it lost there.
    blocked: u64,
    /// When there was too little space to be kept, if there still is.
    pub(crate) short_at: Option<Moment>,
    /// When there was too little space to take over what was put aside, if there still is.
    pub(crate) refused_at: Option<Moment>,
}

impl Maintenance {
    /// Nothing under way.
    pub(crate) fn new(positions: [Option<u64>; 2]) -> Self {
        Self { positions, ..Self::default() }
    }

    /// The log may be trimmed up to here: both checkpoints cover what is before.
    fn bound(&self) -> u64 {
        let [a, b] = self.positions;
        a.zip(b).map_or(0, |(a, b)| a.min(b))
    }

    /// The place of the older checkpoint.
    fn older(&self) -> usize {
        usize::from(self.positions[0] > self.positions[1])
    }
}

impl Inner {
    /// Bytes of log between two checkpoints.
    pub(crate) fn checkpoint_bytes(&self) -> u64 {
        let default = || (self.log.segment_bytes() / 2).min(CHECKPOINT_BYTES_DEFAULT);
        self.options.checkpoint_bytes.unwrap_or_else(default)
    }

    /// Whether there may be something to do.
    pub(crate) fn due(&self, writer: &Writer) -> bool {
        writer.since_checkpoint >= self.checkpoint_bytes()
            || self.is_short(writer)
            || writer.ledger.regions.oldest().is_some_and(|(region, _)| self.wants(writer, region))
    }

    /// Whether the oldest region is to be emptied or given back.
    fn wants(&self, writer: &Writer, oldest: Region) -> bool {
        if oldest.live == 0 {
            return true;
        }
        let percent = |whole: u64, percent: u64| u128::from(whole) * u128::from(percent) / 100;
        let carried = self.counters.carried_bytes.load(Ordering::Relaxed);
        let written = self.counters.written_bytes.load(Ordering::Relaxed);
        let affordable = u128::from(carried) < percent(written, self.options.carry_share_percent);
        let below = percent(oldest.bytes, self.options.carry_below_percent);
        u128::from(oldest.live) < below && affordable || self.is_too_large(writer)
    }

    /// Whether the log is larger than it may be.
    fn is_too_large(&self, writer: &Writer) -> bool {
        let (bytes, live) = writer.ledger.regions.sums();
        // Beside this it takes a segment at each end, of which a part counts, and what is written
        // until the next two checkpoints: four segments in all.
        bytes > live.saturating_mul(2).saturating_add(self.log.segment_bytes())
    }

    /// Does what is due after a write; the next write tries again what could not be done.
    pub(crate) fn maintain_after_write(&self) {
        if let Some(mut maintenance) = self.maintenance.try_lock() {
            // Whoever wrote was not told yet that its batch is durable, but it is written: a failure
            // here is not one of that batch. A failed write or sync has poisoned the log, which the
            // next call answers with; a full disk is met again.
            let _next_time = self.step(&mut maintenance);
        }
    }

    fn step(&self, maintenance: &mut Maintenance) -> Result<()> {
        let (owed, since_checkpoint) = {
            let mut writer = self.writer()?;
            (std::mem::take(&mut writer.owed), writer.since_checkpoint)
        };
        // One large batch may be worth both, without which nothing of it could be given back.
        let due = since_checkpoint / self.checkpoint_bytes();
        match CHECKPOINTS.iter().zip(0..due).try_for_each(|_| self.write_checkpoint(maintenance)) {
            // What is given back may be the room that it needs. Records that were put aside are
            // durable, and come after all of the log.
            Ok(()) | Err(Error::DiskFull { .. }) => {}
            Err(error) => return Err(error),
        }
        // Where nothing was given back since, and little written, there is as little as before.
        if maintenance.short_at != Some(self.moment(maintenance)) {
            self.restore(maintenance)?;
        }
        let mut looks = owed.saturating_mul(LOOKS_PER_RECORD);
        // What is written meanwhile comes after both checkpoints, and is not looked at.
        while self.reclaim_step(maintenance, &mut looks)? {}
        Ok(())
    }

    /// Does all there is to do: writes a checkpoint unless nothing was written since the last, empties
    /// regions that are worth it, and gives back what is dead.
    pub(crate) fn maintain(&self) -> Result<()> {
        self.log.not_forked()?;
        let mut maintenance = self.maintenance.lock();
        let full = match self.write_checkpoints(&mut maintenance) {
            // What is given back may be the room that they need.
            Err(Error::DiskFull { .. }) => true,
            written => written.map(|()| false)?,
        };
        self.reclaim(&mut maintenance)?;
        if full {
            self.write_checkpoints(&mut maintenance)?;
            self.reclaim(&mut maintenance)?;
        }
        self.restore(&mut maintenance)?;
        drop(maintenance);
        self.log.maintain()
    }

    /// Gives back what no group needs, as far as it can be, and keeps again what has to be kept.
    /// Returns whether there was space for it.
    pub(crate) fn make_room(&self, maintenance: &mut Maintenance) -> Result<bool> {
        for part in [Self::write_checkpoints, Self::reclaim] {
            match part(self, maintenance) {
                Ok(()) | Err(Error::DiskFull { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        // Has the files of what was trimmed go, durably.
        self.log.checkpoint()?;
        self.restore(maintenance)
    }

    /// Writes both checkpoints, so that the log can be trimmed up to here; once each, however much
    /// others write.
    fn write_checkpoints(&self, maintenance: &mut Maintenance) -> Result<()> {
        for _ in CHECKPOINTS {
            let current = |position: &Option<u64>| *position == Some(self.log.next());
            let aside = !self.writer()?.overlay.is_empty();
            if aside || !maintenance.positions.iter().all(current) {
                self.write_checkpoint(maintenance)?;
            }
        }
        Ok(())
    }

    /// Gives back what can be given back.
    fn reclaim(&self, maintenance: &mut Maintenance) -> Result<()> {
        let mut looks = u64::MAX;
        while self.reclaim_step(maintenance, &mut looks)? {}
        Ok(())
    }

    /// Writes a checkpoint. On return it is durable. If it fails, the next one is due as before.
    pub(crate) fn write_checkpoint(&self, maintenance: &mut Maintenance) -> Result<()> {
        let aside = !self.writer()?.overlay.is_empty();
        let mut ours = aside.then(|| self.log.hold_space()).transpose()?;
        let mut written = self.try_write_checkpoint(maintenance);
        if matches!(written, Err(Error::DiskFull { .. })) {
            ours = Some(self.log.hold_space()?);
            self.release(&mut *self.writer()?, Reserve::Checkpoints)?;
            written = self.try_write_checkpoint(maintenance);
            // Has the file go that it took the place of.
            self.log.checkpoint()?;
        }
        if ours.is_some() {
            self.restore(maintenance)?;
        }
        written
    }

    fn try_write_checkpoint(&self, maintenance: &mut Maintenance) -> Result<()> {
        match self.spill(maintenance) {
            // It stays in memory and in the checkpoint, which may find room in what was set apart.
            Ok(()) | Err(Error::DiskFull { .. }) => {}
            Err(error) => return Err(error),
        }
        let (position, covered, bytes) = {
            let mut writer = self.writer()?;
            writer.usable()?;
            if !writer.overlay.is_empty() {
                return self.take_over(maintenance, &mut writer);
            }
            // Forgets those that were removed, be there ever so many.
            drop(self.lazy_groups(&mut writer));
            let position = self.log.next() + u64::from(planted(Bug::PositionAhead));
            (position, writer.since_checkpoint, self.encode(&mut writer, position))
        };
        let file = self.checkpoint_file(&bytes)?;
        let older = maintenance.older();
        let cell = CHECKPOINTS.get(older).copied().unwrap_or_default();
        let mut batch = Batch::new();
        batch.attach(cell, file);
        // Makes the checkpoint count, and every batch before it durable. A crash before this leaves
        // the two that were there.
        self.log.submit(&batch)?.wait()?;
        if let Some(known) = maintenance.positions.get_mut(older) {
            *known = Some(position);
        }
        let mut writer = self.writer()?;
        // More may have been written meanwhile.
        writer.since_checkpoint = writer.since_checkpoint.saturating_sub(covered);
        self.counted_checkpoint(1, &bytes);
        Ok(())
    }

    fn counted_checkpoint(&self, count: u64, bytes: &[u8]) {
        self.counters.checkpoints.fetch_add(count, Ordering::Relaxed);
        self.counters.checkpoint_bytes.fetch_add(count * to_u64(bytes.len()), Ordering::Relaxed);
    }

    /// The bytes of a checkpoint of all that was written so far.
    fn encode(&self, writer: &mut Writer, position: u64) -> Vec<u8> {
        let bytes = checkpoint::encode(position, &writer.ledger, &self.table);
        // Whether or not it finds room, what is kept has to be enough for it.
        writer.ledger.growth = 0;
        writer.kept.checkpoint_bytes = to_u64(bytes.len());
        bytes
    }

    fn checkpoint_file(&self, bytes: &[u8]) -> Result<SideFile> {
        let mut file = self.log.side_file_writer()?;
        file.write_all(bytes).map_err(|error| self.unwrapped(error))?;
        // Makes the checkpoint durable before anything refers to it. A crash before this leaves junk
        // that the next open of the log removes.
        file.finish()
    }

    /// Writes both checkpoints, with the effect of what was put aside, which is in none of them
    /// otherwise: so it needs its cells no more. On return they are durable. It is done with what is
    /// kept for it if there is no other space.
    pub(crate) fn take_over(
        &self,
        maintenance: &mut Maintenance,
        writer: &mut Writer,
    ) -> Result<()> {
        writer.usable()?;
        let position = self.log.next();
        let bytes = self.encode(writer, position);
        let both = || Ok([self.checkpoint_file(&bytes)?, self.checkpoint_file(&bytes)?]);
        let mut files = both();
        if matches!(files, Err(Error::DiskFull { .. })) && writer.kept.of(Reserve::Checkpoints) > 0
        {
            self.release(writer, Reserve::Checkpoints)?;
            files = both();
        }
        if matches!(files, Err(Error::DiskFull { .. })) {
            // Has the file go that found room alone.
            self.log.checkpoint()?;
            maintenance.refused_at = Some(self.moment(maintenance));
        }
        let mut batch = Batch::new();
        if !planted(Bug::PendingKept) {
            PENDING.iter().fold(&mut batch, |batch, cell| batch.clear(*cell));
        }
        if planted(Bug::PendingClearedFirst) {
            self.log.submit(&batch)?.wait()?;
        }
        for (cell, file) in CHECKPOINTS.into_iter().zip(files?) {
            batch.attach(cell, file);
        }
        // Groups that were opened after a repair are marked in these.
        batch.clear(LOST_BATCHES);
        // Makes the checkpoints count, and what was put aside count no more, at once. A crash before
        // this leaves the two that were there, and the cells.
        self.log.submit(&batch)?.wait()?;
        writer.overlay = Overlay::default();
        writer.since_checkpoint = 0;
        self.counted_checkpoint(2, &bytes);
        maintenance.positions = [Some(position); 2];
        maintenance.refused_at = None;
        // Has the files go that these took the place of.
        self.log.checkpoint()
    }

    /// One step of giving back, which looks at so many entries of the log, or at as many as it takes
    /// as long as the log is too large. Returns whether another one may get further.
    fn reclaim_step(&self, maintenance: &mut Maintenance, looks: &mut u64) -> Result<bool> {
        let mut writer = self.writer()?;
        writer.usable()?;
        let Some((region, end)) = writer.ledger.regions.oldest() else { return Ok(false) };
        if end > maintenance.bound() || !self.wants(&writer, region) {
            return Ok(false);
        }
        if region.live == 0 || planted(Bug::TrimBeforeCarry) {
            let mut batch = Batch::new();
            batch.trim(end);
            // Becomes durable with the next sync, and never before what was carried out of there. A
            // crash before it leaves the region in place, dead.
            self.log.submit(&batch)?;
            writer.ledger.regions.trimmed(end);
            return Ok(true);
        }
        if maintenance.blocked == end || *looks == 0 && !self.is_too_large(&writer) {
            return Ok(false);
        }
        maintenance.cursor = maintenance.cursor.max(region.start);
        if maintenance.cursor >= end {
            (maintenance.cursor, maintenance.blocked) = (0, end);
            return Ok(false);
        }
        let from = maintenance.cursor;
        let carried = self.carry(&mut writer, region.start, from..end);
        maintenance.cursor = match carried {
            Err(Error::DiskFull { .. })
                if writer.kept.of(Reserve::Carry) > 0 && region.live <= self.carry_bytes_max() =>
            {
                self.release(&mut writer, Reserve::Carry)?;
                self.carry(&mut writer, region.start, from..end)?
            }
            carried => carried?,
        };
        *looks = looks.saturating_sub(maintenance.cursor - from);
        Ok(true)
    }

    /// Writes again what is still needed of a range of the region that starts at `base`, or of the
    /// first entries of it. Returns how far it got.
    fn carry(&self, writer: &mut Writer, base: u64, range: Range<u64>) -> Result<u64> {
        writer.planned.clear();
        let end = range.end.min(range.start.saturating_add(CARRY_ENTRIES));
        let mut at = range.start;
        while at < end && writer.planned.bytes.len() < CARRY_BYTES {
            let entry = match self.log.entry(at) {
                Ok(entry) => entry,
                // Nobody can carry what nobody can read. Whoever needs it keeps the region.
                Err(Error::Damaged { .. } | Error::Hole { .. } | Error::Io { .. }) => {
                    at += 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if let Some(record) = Record::decode(&entry)
                && self.is_needed(&record, at, base)?
            {
                writer.planned.push(&record.again());
            }
            at += 1;
        }
        if !writer.planned.is_empty() {
            // Becomes durable with the next sync, and before the trim that relies on it.
            self.write_planned(writer, For::Reclaim)?;
        }
        Ok(at)
    }

    /// Whether a group still has what is at `at`, in the region that starts at `base`. State is not
    /// needed: the checkpoints have it.
    fn is_needed(&self, record: &Record<'_>, at: u64, base: u64) -> Result<bool> {
        let Some(member) = self.table.read().get(&record.group).cloned() else { return Ok(false) };
        let mut state = member.state.write();
        let place = match record.event {
            Event::Entry { index, .. } => {
                // It will have another place, which is durable later.
                state.durable_floor = state.durable(self.log.durable());
                let pages = Pages { log: &self.log, group: record.group };
                match state.index.pieces(&(index..index.saturating_add(1))).pop() {
                    Some(Piece::Places(places)) => places.first().copied(),
                    Some(Piece::Page(page)) if page.base == base => match page.places(pages) {
                        Ok(places) => places.first().copied(),
                        // Nobody knows whether it is this one, so the region stays.
                        Err(Error::Damaged { .. } | Error::Hole { .. } | Error::Io { .. }) => None,
                        Err(error) => return Err(error),
                    },
                    Some(Piece::Page(_)) | None => None,
                }
            }
            Event::Part { file, nth, .. } => {
                let parts = state.files.get(&file).map(|file| &file.parts);
                parts
                    .zip(usize::try_from(nth).ok())
                    .and_then(|(parts, nth)| parts.get(nth).copied())
            }
            _ => None,
        };
        Ok(place.is_some_and(|place| place.at == at))
    }

    /// What a side file of the log failed with.
    pub(crate) fn unwrapped(&self, error: std::io::Error) -> Error {
        let path = self.log.path().to_owned();
        error.downcast::<Error>().unwrap_or_else(|source| match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                Error::DiskFull { path, needed: 0 }
            }
            _ => Error::Io { op: "write", path, source: Arc::new(source) },
        })
    }
}

impl GroupState {
    /// Exclusive end of the entries that are on media, where those of the log are up to `durable`.
    pub(crate) fn durable(&self, durable: u64) -> u64 {
        let next = self.log.next();
        let pending = self.index.newest_from(durable);
        next.saturating_sub(pending).max(self.durable_floor)
    }
}
