//! Writing a batch: from a plan to frames in the tail, visible to readers, not yet durable.
//!
//! Owns: the steps of a batch, what has to come before it, and its effects outside its frames, each
//! once, whichever way it is committed. Does not own: what it comes to (`plan`), its frames
//! (`frames`), durability (`syncer`).
//!
//! Steps (1) and (2) of docs/RECOVERY.md, "Commit of a batch" and "Commit of a batch that rolls":
//!
//! 1. Plan. Entries are compressed before the lock is taken. Under it the plan walks over the
//!    records against the state as it is, and refuses what a log does not take; what changes
//!    nothing ends here and costs nothing. Then the batch gets all it needs of the world outside: a
//!    checkpoint if its frames would go past the reach (INV-5), the space of the tail and a spare
//!    for each roll (INV-9), the offsets of every entry of the tail. The checkpoint is written
//!    without the lock, so the plan is made anew after it. Up to here a failure changes nothing,
//!    and what can be tried again is a refusal. A batch without entries that gets no space goes
//!    into the slots instead (`in_slots`).
//! 2. Write the frames, one after another, and a footer and a header at each roll; then publish all
//!    of them to readers at once. What fails in here poisons, because part of the batch may be in
//!    the file; readers go on with what they had.
//! 3. Not here: the sync that covers the last frame, and, if the batch rolled, the checkpoint that
//!    follows that sync. They are the commit point. A crash before leaves any part of the frames, which
//!    nobody was told of; recovery keeps the batch only if all of it is there.

use std::ops::ControlFlow;

use super::Writer;
use super::frames::{Before, FOOTERS_AWAITED_MAX};
use super::plan::{Load, Place, Plan};
use crate::batch::Record;
use crate::directory::spares::Spare;
use crate::error::{Error, Result};
use crate::format::SideFileRef;
use crate::format::number::to_u64;
use crate::log::shared::Shared;
use crate::options::WriteMode;
use crate::planted::{Bug, planted};
use crate::segment::tail::footer_space;
use crate::telemetry::stats::{add, add_alone};

/// A written batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    pub(crate) sequence: u64,
    pub(crate) next: u64,
}

/// How an attempt to write ended, other than in an error.
enum Attempt {
    Done(Written),
    /// The batch changes nothing: this is the newest one.
    Unchanged(Written),
    /// The tail may not grow this far before another checkpoint.
    NeedsCheckpoint {
        bytes: u64,
    },
    /// The disk is full, but the batch has no entries: the metadata file can carry it.
    NeedsSlots,
    /// The disk is full, and frames of the batch may be in the tail.
    Refused(Error),
}

impl Shared {
    /// Writes a batch. On return it is readable, in order, and not durable.
    pub(crate) fn write(&self, records: &[Record<'_>]) -> Result<Written> {
        let load = Load::new(records, self.options.compress_above);
        let mut awaited = false;
        loop {
            // The lock of the writer may be one that nobody unlocks in a child.
            self.dir.not_forked()?;
            let attempt = self.try_write(&mut self.writer(), &load);
            if attempt.is_err() {
                self.call_back();
            }
            match attempt? {
                Attempt::Done(written) => {
                    self.after_write()?;
                    return Ok(written);
                }
                Attempt::Unchanged(newest) => return Ok(newest),
                // A checkpoint that another thread is writing may be enough: it is awaited first.
                // If there is none, or space is still lacking after it, one is written here.
                Attempt::NeedsCheckpoint { bytes } => {
                    awaited = !awaited && self.await_checkpoint();
                    if !awaited {
                        self.checkpoint(false, bytes)?;
                    }
                }
                Attempt::NeedsSlots => {
                    let written = self.commit_in_slots(&load);
                    if written.is_err() {
                        // As below: its frames may be in the tail as well.
                        self.checkpoint(false, 0)?;
                    }
                    return written;
                }
                Attempt::Refused(error) => {
                    // Declares the number of the refused batch used up. A crash before it may
                    // find the batch, whose caller has not heard of it yet.
                    self.checkpoint(false, 0)?;
                    return Err(error);
                }
            }
        }
    }

    // Most batches are done at the first attempt: what a compiler works out in front of a loop, for all
    // of its rounds, costs them more than a call.
    #[inline(never)]
    fn try_write(&self, writer: &mut Writer, load: &Load<'_>) -> Result<Attempt> {
        self.open_and_sound()?;
        let before = writer.before_batch();
        let (place, touched) = (self.place(writer), std::mem::take(&mut writer.touched));
        let mut plan = Plan::start(&writer.state, place, touched);
        let planned = self
            .put_ahead(writer, load, &mut plan)
            .and_then(|()| self.check_side_files(load, &plan));
        let attempt = match planned.and_then(|()| self.make_room(writer, load, &plan, &before)) {
            Ok(ControlFlow::Continue(spares)) => {
                self.carry_out(writer, load, &plan, spares, &before)
            }
            Ok(ControlFlow::Break(attempt)) => {
                writer.take_back(&before);
                Ok(attempt)
            }
            Err(error) => {
                writer.take_back(&before);
                Err(error)
            }
        };
        // What was there is empty: an assignment would look whether it has to be freed.
        std::mem::swap(&mut writer.touched, &mut plan.touched);
        attempt
    }

    /// Gets all the space a batch needs, and the spares that it rolls, unless it ends here.
    #[inline]
    fn make_room(
        &self,
        writer: &mut Writer,
        load: &Load<'_>,
        plan: &Plan,
        before: &Before,
    ) -> Result<ControlFlow<Attempt, Option<Vec<Spare>>>> {
        // Lazily set cells stay where they are if the batch changes nothing, neither what readers
        // see nor what was written. A batch of nothing is one of theirs.
        if plan.frames == 0 || !plan.changes() && !load.records().is_empty() {
            let (sequence, next) = (writer.sequence, writer.state.next);
            return Ok(ControlFlow::Break(Attempt::Unchanged(Written { sequence, next })));
        }
        let end = if plan.rolls == 0 { plan.place.position } else { self.segment_bytes };
        if !writer.reach.allows(end) {
            let bytes = end - before.position;
            return Ok(ControlFlow::Break(Attempt::NeedsCheckpoint { bytes }));
        }
        // Under policies that do not sync by themselves nothing else bounds what an open has to look
        // at, once a segment was begun that no checkpoint limits.
        if writer.begun > 0 && writer.unstated > 0 && !self.options.volatile {
            let step = self.options.checkpoint_bytes_in_force(self.segment_bytes);
            if writer.unstated + plan.bytes > 2 * step {
                return Ok(ControlFlow::Break(Attempt::NeedsCheckpoint { bytes: plan.bytes }));
            }
        }
        if writer.unlooked && !planted(Bug::SealedUnlooked) {
            // What is written after a frame that cannot be read is lost to the next open, and a
            // seal states the offset of every entry: nothing is written before all of them are known.
            self.index_tail()?;
            writer.unlooked = false;
        }
        if plan.rolls == 0 && end <= writer.tail.space.ready() {
            return Ok(ControlFlow::Continue(None));
        }
        let covered = if self.space_is_held() {
            Err(self.full())
        } else {
            self.cover_tail(writer, plan, before)
        };
        match covered.and_then(|()| self.take_spares(plan)) {
            // No space or no descriptor for one, or as many segments as there may be.
            Err(error)
                if (error.is_shortage() || matches!(error, Error::TooLarge { .. }))
                    && !load.appends()
                    && !plan.must_roll =>
            {
                Ok(ControlFlow::Break(Attempt::NeedsSlots))
            }
            spares => spares.map(|spares| ControlFlow::Continue(Some(spares))),
        }
    }

    /// Writes a batch that has all it needs, and shows it to readers.
    #[inline]
    fn carry_out(
        &self,
        writer: &mut Writer,
        load: &Load<'_>,
        plan: &Plan,
        spares: Option<Vec<Spare>>,
        before: &Before,
    ) -> Result<Attempt> {
        match self.write_frames(writer, load, plan, spares, before) {
            Ok(()) => {
                self.publish(writer, load, plan);
                self.check_invariants_in_debug(writer)?;
                let (sequence, next) = (writer.sequence, writer.state.next);
                Ok(Attempt::Done(Written { sequence, next }))
            }
            Err(error @ Error::DiskFull { .. }) if plan.rolls == 0 && !self.is_buffered() => {
                // A copy-on-write file system refused a plain write. Nothing was published, but
                // frames may have been written, even all of them: their number is never used
                // again, and a checkpoint must say so before anybody hears of the refusal.
                writer.take_back(before);
                writer.tail.note_cut();
                writer.sequence += 1;
                self.syncer.note_written(writer.sequence);
                // A checkpoint that was put together before does not say so, and frees nothing.
                writer.reach.refuse_after(before.position);
                Ok(if load.appends() { Attempt::Refused(error) } else { Attempt::NeedsSlots })
            }
            Err(error) => Err(self.poisoned_by(error)),
        }
    }

    #[inline]
    pub(super) fn place(&self, writer: &Writer) -> Place {
        let base = writer.tail.base();
        Place {
            base,
            count: writer.state.next - base,
            position: writer.tail.position(),
            segment_bytes: self.segment_bytes,
        }
    }

    /// Every side file that is attached must be one that `SideFileWriter::finish` handed out. Most
    /// batches attach none.
    pub(super) fn check_side_files(&self, load: &Load<'_>, plan: &Plan) -> Result<()> {
        if plan.attached == 0 {
            return Ok(());
        }
        for record in load.records() {
            if let Record::Attach(_, file) = record
                && !self.side_files.contains(file.id())
            {
                let reason = "not one of this log, or replaced meanwhile";
                return Err(Error::InvalidArgument { what: "side file", reason });
            }
        }
        Ok(())
    }

    /// Sees that the tail has the space that the batch takes there, with the footer if it rolls.
    fn cover_tail(&self, writer: &Writer, plan: &Plan, before: &Before) -> Result<()> {
        let space = &writer.tail.space;
        let (end, footer) = match plan.sealed {
            None => (plan.place.position, None),
            Some((end, entries)) => (end, Some(self.segment_bytes - footer_space(entries))),
        };
        let short = end > space.ready();
        if short {
            add(&self.counters.preparer_behind, 1);
        }
        let covered = if short { space.extend(before.position, end) } else { Ok(()) };
        covered
            .and_then(|()| match footer {
                Some(start) => space.cover(start..self.segment_bytes),
                None => Ok(()),
            })
            .map_err(|source| self.no_space(&writer.tail.segment.name.to_string(), source))
    }

    /// What a failure to make space means: a full disk refuses the batch, all else poisons.
    fn no_space(&self, name: &str, source: std::io::Error) -> Error {
        let error = self.dir.full_or_io("write", name, self.segment_bytes, source);
        if matches!(error, Error::DiskFull { .. }) {
            add(&self.counters.disk_full, 1);
        }
        self.unless_shortage(error)
    }

    /// As many spares as the batch rolls, prepared here if too few are ready, each with the space
    /// that the batch takes in it. The last one to be used comes first.
    fn take_spares(&self, plan: &Plan) -> Result<Vec<Spare>> {
        let mut spares = Vec::new();
        if plan.rolls == 0 {
            return Ok(spares);
        }
        let segments = to_u64(self.reader.segment_count()) + plan.rolls;
        if segments > self.options.segments_max {
            let limit = self.options.segments_max;
            return Err(Error::TooLarge { what: "segments", got: segments, limit });
        }
        let write = self.options.write_mode_in_force() == WriteMode::Mmap;
        let mut made = 0;
        while to_u64(spares.len()) < plan.rolls {
            let end = if spares.is_empty() { plan.place.position } else { self.segment_bytes };
            let taken = self.spares.take().map_err(|error| self.unless_shortage(error));
            let spare = match taken.transpose() {
                Some(spare) => spare,
                None => self.prepare_in_line().inspect(|_| made += 1),
            };
            let covered = spare.and_then(|spare| {
                let covered = spare.space.extend(0, end.min(self.segment_bytes));
                let refused = covered.map_err(|source| self.no_space(&spare.name, source));
                let mapped = refused.and_then(|()| {
                    let mapped = spare.region(&self.dir, self.segment_bytes, write).map(drop);
                    mapped.map_err(|error| self.unless_shortage(error))
                });
                spares.push(spare);
                mapped
            });
            if let Err(error) = covered {
                // The disk is to be as full as it was.
                let own = spares.split_off(spares.len() - made);
                for spare in &own {
                    self.spares.discard(spare);
                }
                spares.drain(..).for_each(|spare| self.spares.put(spare));
                return Err(error);
            }
        }
        Ok(spares)
    }

    fn prepare_in_line(&self) -> Result<Spare> {
        add(&self.counters.preparer_behind, 1);
        let spare = self.spares.prepare_in_line().map_err(|error| self.unless_shortage(error))?;
        add(&self.counters.prepared, 1);
        Ok(spare)
    }

    /// Poisons the log for any failure that cannot simply be tried again, and counts those that can.
    /// Before the first frame of a batch, and for what a thread of the log does by itself.
    pub(crate) fn unless_shortage(&self, error: Error) -> Error {
        match error {
            Error::DiskFull { .. } => add(&self.counters.disk_full, 1),
            Error::Exhausted { .. } => add(&self.counters.shortages, 1),
            failure => return self.poisoned_by(failure),
        }
        error
    }

    /// Takes over what the batch changed, for writers and for readers.
    pub(super) fn publish(&self, writer: &mut Writer, load: &Load<'_>, plan: &Plan) {
        writer.state.set_bounds(plan.bounds);
        self.reader.show(&mut writer.draft, plan.bounds, &mut writer.dead);
        if self.options.volatile && plan.rolls > 0 {
            // There is no medium: nothing waits for a sync, which might never come.
            self.reader.footers_durable(u64::MAX);
            writer.unsynced.clear();
        }
        self.publish_cells(writer, load, plan);
        if plan.lowest < u64::MAX && !planted(Bug::DurableEndNotLowered) {
            writer.lowest = writer.lowest.min(plan.lowest);
            self.reader.durable_ends_at(plan.lowest);
        }
        if plan.trims {
            self.reader.first_is(writer.state.first);
            crate::telemetry::trace::trimmed(self.dir.path(), writer.state.first);
        }
        let sequence = writer.sequence + 1;
        writer.sequence = sequence;
        writer.unstated += plan.bytes;
        self.syncer.note_written(sequence);
        self.reader.next_is(writer.state.next);
        if self.options.volatile {
            self.syncer.is_durable(sequence);
            self.reader.durable_is(writer.state.next);
        }
        self.ask_for_maintenance(writer, plan.bytes);
        if plan.trims || plan.truncates {
            add_alone(&self.counters.trims, u64::from(plan.trims));
            add_alone(&self.counters.truncations, u64::from(plan.truncates));
        }
        add_alone(&self.counters.batches, 1);
        self.counters.wrote_batch(plan.entries);
        add_alone(&self.counters.appends, plan.entries);
        add_alone(&self.counters.bytes_appended, plan.entry_bytes);
        add_alone(&self.counters.bytes_written, plan.bytes);
    }

    /// Sets the cells: first those that rode along, then the batch's own.
    #[inline]
    fn publish_cells(&self, writer: &mut Writer, load: &Load<'_>, plan: &Plan) {
        let Writer { state, lazy, .. } = writer;
        if !lazy.is_empty() {
            lazy.merge_into(&mut state.cells);
            lazy.taken();
        }
        if !plan.sets_cells() {
            return;
        }
        let had = state.cells.have_side_files();
        let before: Vec<SideFileRef> =
            if had { state.cells.side_files().collect() } else { Vec::new() };
        for (place, name, value) in plan.cells(load) {
            state.cells.put_near(place, name, value);
        }
        if !had && !state.cells.have_side_files() {
            return;
        }
        self.side_files.attached(state.cells.side_files());
        for file in before {
            if state.cells.refer_to(file) {
                continue;
            }
            // From now on nothing can refer to it again: it goes with the next checkpoint.
            if self.side_files.forget(file.id) {
                writer.dead_files.push(file);
            }
            if planted(Bug::SideFileRemovedAtOnce) {
                let _gone = self.dir.remove(&file.file_name());
            }
        }
    }

    /// Notes, with the writer's lock held, what a batch of so many bytes leaves to be done.
    #[inline]
    fn ask_for_maintenance(&self, writer: &mut Writer, bytes: u64) {
        let step = || self.options.checkpoint_bytes_in_force(self.segment_bytes);
        // A tail that is near its end is stated with the roll; but if it was begun since the newest
        // checkpoint, perhaps no sync comes.
        let comes_anyway = writer.reach.includes(self.segment_bytes) && writer.begun == 0;
        // Before another one of that length, so that the one after it need not wait for the slots. The
        // sync of a roll writes a checkpoint by itself.
        let another = if writer.begun == 0 { bytes } else { 0 };
        let due = !self.options.volatile && !comes_anyway && writer.unstated + another > step();
        let leftover = !writer.dead.is_empty()
            || planted(Bug::KeptAsksForCheckpoints) && !writer.kept.is_empty()
            || !writer.dead_files.is_empty()
            || writer.footers.len() >= FOOTERS_AWAITED_MAX / 2;
        if due || leftover || self.side_files.any_unused() {
            self.signals.want_checkpoint();
        }
        if self.options.background {
            self.offer_pending(writer);
            let short = writer.tail.space.is_short(writer.tail.position());
            if writer.tail.comes_near_a_roll() || short {
                self.signals.want_space();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Log, Options};

    #[test]
    fn nothing_piles_up_in_a_log_in_memory_that_only_grows() {
        let log = Log::in_memory(&Options::new().tiny_segments(4096 * 2)).unwrap();
        for _ in 0..200 {
            log.append(&[1; 1500]).unwrap();
        }
        let shared = log.shared();
        assert!(log.stats().rolls >= 90);
        assert!(shared.writer().unsynced.len() <= 1);
        assert_eq!(shared.reader.footers_awaited(), 0);
    }

    #[test]
    fn checkpoint_comes_before_a_long_batch_would_have_to_wait_for_it() {
        let options = Options::new().segment_bytes(1024 * 1024).background(false);
        let options = options.checkpoint_bytes(64 * 1024);
        for (bytes, batches) in [(33 * 1024, 1), (20 * 1024, 3), (1024, 62)] {
            let disk = std::sync::Arc::new(crate::io::sim::SimDisk::new(1));
            let log = Log::create_in(disk, &options).unwrap();
            for nth in 0..batches {
                assert_eq!(log.stats().checkpoints, 0, "{bytes}, {nth}");
                log.append(&vec![1; bytes]).unwrap();
            }
            assert_eq!(log.stats().checkpoints, 1, "{bytes}");
        }
    }

    /// A batch that is longer than the tail may grow is tried again after a checkpoint.
    #[cfg(feature = "lz4")]
    #[test]
    fn entry_is_compressed_once_however_often_its_batch_is_tried() {
        use crate::compress::COMPRESSED;
        use crate::io::sim::SimDisk;
        let options = Options::new().background(false).segment_bytes(1024 * 1024);
        let options = options.checkpoint_bytes(64 * 1024).compress_above(Some(100));
        let log = Log::create_in(std::sync::Arc::new(SimDisk::new(1)), &options).unwrap();
        let mut batch = crate::Batch::new();
        let mut noise = 1_u64;
        for _ in 0..60 {
            // Half of it is noise, so that it stays long.
            let mut entry = vec![0; 8000];
            for byte in entry.iter_mut().take(4000) {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = noise.to_le_bytes()[7];
            }
            batch.append(entry);
        }
        let before = (log.stats().checkpoints, COMPRESSED.get());
        log.commit(&batch).unwrap();
        assert!(log.stats().checkpoints > before.0, "it was not tried again");
        assert_eq!(COMPRESSED.get() - before.1, 60);
    }
}
