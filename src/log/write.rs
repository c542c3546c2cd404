//! Writing a batch: from a plan to frames in the tail, visible to readers, not yet durable.
//!
//! Owns: the encoding of a batch across segments, the roll, and what readers see of it. Does not
//! own: durability (`sync`), checkpoints (`checkpoint`).
//!
//! Steps: (1) plan, (2) get every segment the batch needs, (3) write frames, (4) publish them to
//! readers. Up to (3) a failure changes nothing. The commit point is not here: it is the sync that
//! covers the last frame, and, if the batch rolled, the checkpoint that follows that sync.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::RwLockWriteGuard;

use super::lazy::Loaded;
use super::plan::{Op, Place, Plan};
use super::shared::{Shared, Writer};
use super::view::View;
use crate::batch::Record;
use crate::error::{Error, Result};
use crate::format::cell::{CellRecord, encode_cell};
use crate::format::frame::{
    Flags, FrameHeader, Kind, LAG_UNSTATED, encode_frame, lag, payload_length,
};
use crate::format::number::{to_u64, to_usize};
use crate::format::{SegmentHeader, SideFileRef};
use crate::options::WriteMode;
use crate::planted::{Bug, planted};
use crate::segment::tail::footer_space;
use crate::segment::{in_units, tail};
use crate::spares::Spare;
use crate::state::{CellValue, Cells};
use crate::stats::{add, add_alone};

/// Encoded bytes of one batch that are gathered before they are handed to the file.
const FLUSH_BYTES: usize = 256 * 1024;

/// Planned frames that are kept room for from one batch to the next.
const OPS_KEPT: usize = 4096;

/// Most sealed segments that wait for a sync, each with its file open.
const UNSYNCED_SEGMENTS_MAX: u64 = 16;

/// A written batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    pub(crate) sequence: u64,
    pub(crate) next: u64,
}

/// A batch that can be written, or what has to come before.
enum Planned {
    Batch { plan: Plan, spares: Vec<Spare> },
    Not(Attempt),
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
        self.dir.not_forked()?;
        let _alarm = self.outermost_alarm();
        loop {
            let attempt = self.try_write(&mut self.writer(), records);
            if attempt.is_err() {
                self.call_back();
            }
            match attempt? {
                Attempt::Done(written) => {
                    self.after_write()?;
                    return Ok(written);
                }
                Attempt::Unchanged(newest) => return Ok(newest),
                Attempt::NeedsCheckpoint { bytes } => self.checkpoint(false, bytes)?,
                Attempt::NeedsSlots => {
                    let written = self.commit_in_slots(records);
                    if written.is_err() {
                        // As below: its frames may be in the tail as well.
                        self.checkpoint(false, 0)?;
                    }
                    return written;
                }
                Attempt::Refused(error) => {
                    // Declares the number of the refused batch used up. A crash before it may
                    // find the batch, whose caller has not heard of it yet.
                    if !planted(Bug::RefusalNotRecorded) {
                        self.checkpoint(false, 0)?;
                    }
                    return Err(error);
                }
            }
        }
    }

    fn try_write(&self, writer: &mut Writer, records: &[Record<'_>]) -> Result<Attempt> {
        self.usable()?;
        let position = (writer.tail.position(), writer.tail.last_frame());
        if let Some(written) = self.append_entries(writer, records) {
            return self.settle_attempt(writer, records, position, 0, written);
        }
        let batch = self.with_riders(writer, records)?;
        let records = batch.records();
        match self.plan(writer, &batch)? {
            Planned::Not(attempt) => Ok(attempt),
            Planned::Batch { plan, mut spares } => {
                let (rolls, mut ops) = (plan.rolls, std::mem::take(&mut writer.ops));
                let written = self.carry_out(writer, records, plan, &mut ops, &mut spares);
                ops.clear();
                ops.shrink_to(OPS_KEPT);
                writer.ops = ops;
                if written.is_ok() {
                    writer.lazy.taken();
                }
                self.settle_attempt(writer, records, position, rolls, written)
            }
        }
    }

    /// How an attempt ended, once its frames were written or not.
    fn settle_attempt(
        &self,
        writer: &mut Writer,
        records: &[Record<'_>],
        (position, last_frame): (u64, u64),
        rolls: u64,
        written: Result<Written>,
    ) -> Result<Attempt> {
        match written {
            Err(error @ Error::DiskFull { .. }) if rolls == 0 && !self.is_buffered() => {
                // A copy-on-write file system refused a plain write. Nothing was published, but
                // frames may have been written, even all of them: their number is never used
                // again, and a checkpoint must say so before anybody hears of the refusal.
                writer.tail.rewind(position, last_frame);
                writer.sequence += 1;
                self.group.written(writer.sequence);
                writer.reach = writer.reach.min(position);
                // A checkpoint that was put together before does not say so, and frees nothing.
                writer.captures += 1;
                Ok(if appends(records) { Attempt::Refused(error) } else { Attempt::NeedsSlots })
            }
            Err(error) => Err(self.poisoned_by(error)),
            Ok(written) => Ok(Attempt::Done(written)),
        }
    }

    /// Plans a batch and gets every segment it needs. Up to here nothing has changed.
    fn plan(&self, writer: &mut Writer, batch: &Loaded<'_>) -> Result<Planned> {
        let records = batch.records();
        self.check_side_files(records)?;
        let place = self.place(writer);
        let (compress_above, ops) = (self.options.compress_above, &mut writer.ops);
        let records_and_riders = (records, batch.riders());
        let plan = Plan::new(&writer.state, place, records_and_riders, compress_above, ops)?;
        if ops.is_empty() {
            let (sequence, next) = (writer.sequence, writer.state.next);
            return Ok(Planned::Not(Attempt::Unchanged(Written { sequence, next })));
        }
        let end = if plan.rolls == 0 { plan.place.position } else { self.segment_bytes };
        if end > writer.reach && !planted(Bug::ReachIgnored) {
            let bytes = end - writer.tail.position();
            return Ok(Planned::Not(Attempt::NeedsCheckpoint { bytes }));
        }
        if plan.rolls > 0 && !planted(Bug::SealedUnlooked) {
            // The seal states the offset of every entry.
            self.index_tail().map_err(|error| self.unless_shortage(error))?;
        }
        let spares = self.cover_tail(writer, &plan).and_then(|()| self.gather_spares(&plan));
        match spares {
            // No space or no descriptor for one, or as many segments as there may be.
            Err(error)
                if (error.is_shortage() || matches!(error, Error::TooLarge { .. }))
                    && !appends(records)
                    && !plan.must_roll =>
            {
                Ok(Planned::Not(Attempt::NeedsSlots))
            }
            spares => Ok(Planned::Batch { plan, spares: spares? }),
        }
    }

    pub(super) fn place(&self, writer: &Writer) -> Place {
        let base = writer.tail.base();
        Place {
            base,
            count: writer.state.next - base,
            position: writer.tail.position(),
            segment_bytes: self.segment_bytes,
        }
    }

    /// Every side file that is attached must be one that `SideFileWriter::finish` handed out.
    pub(super) fn check_side_files(&self, records: &[Record<'_>]) -> Result<()> {
        for record in records {
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
    fn cover_tail(&self, writer: &Writer, plan: &Plan) -> Result<()> {
        let space = &writer.tail.space;
        let (end, footer) = match plan.sealed {
            None => (plan.place.position, None),
            Some((end, entries)) => (end, Some(self.segment_bytes - footer_space(entries))),
        };
        if planted(Bug::SpaceNotAwaited) {
            return Ok(());
        }
        let short = end > space.ready();
        if short {
            add(&self.counters.preparer_behind, 1);
        }
        let covered = if short { space.extend(end) } else { Ok(()) };
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
    fn gather_spares(&self, plan: &Plan) -> Result<Vec<Spare>> {
        let mut spares = Vec::new();
        if plan.rolls == 0 {
            return Ok(spares);
        }
        let segments = to_u64(self.view.read().segment_count()) + plan.rolls;
        if segments > self.options.segments_max {
            let limit = self.options.segments_max;
            return Err(Error::TooLarge { what: "segments", got: segments, limit });
        }
        let write = self.options.write_mode_in_force() == WriteMode::Mmap;
        let mut made = 0;
        while to_u64(spares.len()) < plan.rolls {
            let end = if spares.is_empty() { plan.place.position } else { self.segment_bytes };
            let spare = match self.spares.take() {
                Some(spare) => Ok(spare),
                None => self.prepare_in_line().inspect(|_| made += 1),
            };
            let covered = spare.and_then(|spare| {
                let covered = spare.space.extend(end.min(self.segment_bytes));
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
        let prepared = self.spares.prepare_in_line();
        let spare = prepared.map_err(|error| self.unless_shortage(error))?;
        add(&self.counters.prepared, 1);
        spare.ok_or(Error::Closed)
    }

    /// Poisons the log for any failure that cannot simply be tried again, and counts those that can.
    /// Before the first frame of a batch, and for what a thread of the log does by itself.
    pub(crate) fn unless_shortage(&self, error: Error) -> Error {
        match error {
            Error::DiskFull { .. } => add(&self.counters.disk_full, 1),
            Error::Exhausted { .. } if !planted(Bug::ShortagePoisons) => {
                add(&self.counters.shortages, 1);
            }
            failure => return self.poisoned_by(failure),
        }
        error
    }

    /// Writes the frames of a plan and lets readers see them.
    fn carry_out(
        &self,
        writer: &mut Writer,
        records: &[Record<'_>],
        plan: Plan,
        ops: &mut [Op],
        spares: &mut Vec<Spare>,
    ) -> Result<Written> {
        let mut guard: Option<RwLockWriteGuard<'_, View>> = None;
        let mut before = None;
        let written =
            self.carry_out_in_view(writer, records, plan, ops, spares, &mut guard, &mut before);
        if let (Err(_), Some(mut view), Some(before)) = (&written, guard, before)
            && !planted(Bug::HalfABatchLeftToReaders)
        {
            // The log is poisoned: readers go on with what it was before.
            *view = before;
        }
        written
    }

    /// As [`Self::carry_out`]; takes the view when it first has to change it, and keeps what it was.
    #[expect(clippy::too_many_arguments, reason = "one step of its only caller")]
    fn carry_out_in_view<'a>(
        &'a self,
        writer: &mut Writer,
        records: &[Record<'_>],
        plan: Plan,
        ops: &mut [Op],
        spares: &mut Vec<Spare>,
        guard: &mut Option<RwLockWriteGuard<'a, View>>,
        kept: &mut Option<View>,
    ) -> Result<Written> {
        let (sequence, lag) = self.next_number(writer);
        writer.dirty_from.get_or_insert(writer.tail.position());
        let last = ops.len() - 1;
        let mut applied = 0;
        for at in 0..ops.len() {
            let Some((before, rest)) = ops.split_at_mut_checked(at) else { break };
            let Some(op) = rest.first_mut() else { break };
            if let Some(base) = op.roll {
                self.flush(writer)?;
                let view = guard.get_or_insert_with(|| self.view.write());
                kept.get_or_insert_with(|| view.clone());
                apply(view, before.get(applied..).unwrap_or(&[]), records, writer);
                applied = at;
                let spare = spares.pop().ok_or(Error::Closed)?;
                self.roll(writer, view, &spare, base, sequence)?;
            }
            let mut flags = 0;
            if at == 0 {
                flags |= Flags::FIRST;
            }
            if at == last {
                flags |= Flags::LAST;
            }
            let header =
                FrameHeader { length: 0, sequence, index: op.index, lag, kind: Kind::Entry, flags };
            op.offset = writer.tail.position();
            writer.tail.frame_at(op.offset);
            if let Some(record) = records.get(op.record) {
                let tail = &mut writer.tail;
                encode(&mut tail.pending, &tail.salt, header, record, op);
            }
            if writer.tail.pending.len() >= FLUSH_BYTES && !self.may_stay_pending(writer) {
                self.flush(writer)?;
            }
        }
        self.flush_unless_pending(writer)?;
        let view = guard.get_or_insert_with(|| self.view.write());
        apply(view, ops.get(applied..).unwrap_or(&[]), records, writer);
        self.finish(writer, view, plan, sequence);
        Ok(Written { sequence, next: writer.state.next })
    }

    /// The number of the next batch, and how far that is ahead of the newest durable one.
    pub(super) fn next_number(&self, writer: &Writer) -> (u64, u16) {
        let sequence = writer.sequence + 1;
        (sequence, self.lag(sequence))
    }

    /// How far a batch is ahead of the newest durable one, as its frames state it.
    pub(super) fn lag(&self, sequence: u64) -> u16 {
        match () {
            () if planted(Bug::WatermarkNeverWritten) => LAG_UNSTATED,
            () if planted(Bug::WatermarkAhead) => 0,
            () => lag(sequence, self.group.durable()),
        }
    }

    /// Ends the frames of a batch: they go to the file, or wait in memory.
    pub(super) fn flush_unless_pending(&self, writer: &mut Writer) -> Result<()> {
        if !self.may_stay_pending(writer) {
            self.flush(writer)?;
            writer.tail.publish();
        }
        Ok(())
    }

    /// Seals the tail and begins a new one with a prepared file.
    fn roll(
        &self,
        writer: &mut Writer,
        view: &mut View,
        spare: &Spare,
        base: u64,
        sequence: u64,
    ) -> Result<()> {
        writer.note_tail_dirty();
        // Known since the batch was planned.
        let units = view.tail_units.all().ok_or(Error::Closed)?;
        let footer = writer.tail.seal(units, sequence)?;
        writer.dirty.push(super::shared::Dirty {
            file: Arc::clone(&writer.tail.file),
            name: writer.tail.segment.name,
            range: footer,
        });
        let header = SegmentHeader {
            uuid: *self.uuid.as_bytes(),
            number: writer.tail.segment.name.number + 1,
            base,
            generation: self.dir.door().random(),
            first_sequence: sequence,
            previous_generation: writer.tail.salt.generation(),
            previous_end: writer.tail.position(),
            segment_bytes: self.segment_bytes,
            features: 0,
            previous_base: writer.tail.base(),
            replaces: 0,
        };
        let mode = self.options.write_mode_in_force();
        let sealed = Arc::clone(&writer.tail.segment);
        writer.tail = tail::begin(&self.dir, spare, &header, mode)?;
        writer.dirty_from = Some(if planted(Bug::HeaderNotSynced) { 4096 } else { 0 });
        writer.rolled = true;
        // No checkpoint names this segment yet, so none limits it: see `Shared::capture`.
        writer.reach = self.segment_bytes;
        let dead = view.roll(Arc::clone(&writer.tail.segment));
        writer.dead.extend(dead);
        // Who reads from it opens it again; who has its map keeps it.
        sealed.shut();
        self.sync_oldest(writer)?;
        if self.options.volatile {
            // There is no medium: nothing waits for a sync, which might never come.
            view.footers_durable(u64::MAX);
            writer.dirty.clear();
        }
        add_alone(&self.counters.rolls, 1);
        crate::trace::rolled(self.dir.path(), writer.tail.segment.name);
        Ok(())
    }

    /// Sees that few files stay open for a sync to come, whatever the batch and the policy: the oldest
    /// are synced here and now.
    fn sync_oldest(&self, writer: &mut Writer) -> Result<()> {
        while let Some(oldest) = writer.dirty.first().map(|dirty| dirty.name)
            && writer.tail.segment.name.number - oldest.number > UNSYNCED_SEGMENTS_MAX
            && !planted(Bug::SegmentsStayOpen)
        {
            let _watched = self.watch.enter();
            let of_oldest = writer.dirty.partition_point(|dirty| dirty.name == oldest);
            for dirty in writer.dirty.drain(..of_oldest) {
                // Makes frames and a footer durable that the next sync would. A crash before it loses
                // batches that are not acknowledged yet.
                dirty.sync(&self.dir, self.options.sync_method)?;
            }
        }
        Ok(())
    }

    /// Takes over what the batch changed, for writers and for readers.
    pub(super) fn finish(&self, writer: &mut Writer, view: &mut View, plan: Plan, sequence: u64) {
        let before = std::mem::replace(&mut writer.state, plan.state);
        let state = &writer.state;
        view.next = state.next;
        writer.dead.extend(view.trim(state.first));
        if !Arc::ptr_eq(&before.cells, &state.cells) {
            let mut kept = side_files_of(&state.cells);
            self.side_files.attached(&kept);
            if planted(Bug::SideFileRemovedWhileShared) {
                kept.clear();
            }
            for file in side_files_of(&before.cells).difference(&kept) {
                // From now on nothing can refer to it again: it goes with the next checkpoint.
                self.side_files.forget(file.id);
                if planted(Bug::SideFileRemovedAtOnce) {
                    let _gone = self.dir.remove(&file.file_name());
                    continue;
                }
                writer.dead_files.push(*file);
            }
        }
        if plan.lowest < u64::MAX && !planted(Bug::DurableEndNotLowered) {
            writer.lowest = writer.lowest.min(plan.lowest);
            self.bounds.durable.fetch_min(plan.lowest, Ordering::AcqRel);
        }
        self.bounds.first.store(writer.state.first, Ordering::Release);
        add_alone(&self.counters.trims, u64::from(plan.trims));
        if plan.trims {
            crate::trace::trimmed(self.dir.path(), writer.state.first);
        }
        add_alone(&self.counters.truncations, u64::from(plan.truncates));
        self.count(writer, sequence, plan.entries, plan.entry_bytes, plan.bytes);
    }

    /// Declares a batch written.
    pub(super) fn count(
        &self,
        writer: &mut Writer,
        sequence: u64,
        entries: u64,
        entry_bytes: u64,
        bytes: u64,
    ) {
        writer.sequence = sequence;
        self.group.written(sequence);
        self.bounds.next.store(writer.state.next, Ordering::Release);
        if self.options.volatile {
            self.group.is_durable(sequence);
            self.bounds.durable.store(writer.state.next, Ordering::Release);
        }
        self.ask_for_maintenance(writer);
        add_alone(&self.counters.batches, 1);
        self.counters.wrote_batch(entries);
        add_alone(&self.counters.appends, entries);
        add_alone(&self.counters.bytes_appended, entry_bytes);
        add_alone(&self.counters.bytes_written, bytes);
    }
}

/// Whether a batch has entries.
fn appends(records: &[Record<'_>]) -> bool {
    records.iter().any(|record| matches!(record, Record::Append(_)))
}

/// The side files that cells refer to; several cells may refer to one.
fn side_files_of(cells: &Cells) -> HashSet<SideFileRef> {
    let references = cells.values().filter_map(|value| match value {
        CellValue::SideFile(file) => Some(*file),
        CellValue::Inline(_) => None,
    });
    references.collect()
}

/// Encodes one frame; `header` comes with everything but kind and length.
fn encode(
    out: &mut Vec<u8>,
    salt: &crate::format::Salt,
    header: FrameHeader,
    record: &Record<'_>,
    op: &Op,
) {
    match record {
        Record::Append(entry) => {
            let (bytes, flag) = match &op.compressed {
                Some(compressed) => (compressed.as_slice(), Flags::LZ4),
                None => (entry.as_ref(), 0),
            };
            let (length, flags) = (payload_length(bytes), header.flags | flag);
            encode_frame(out, salt, &FrameHeader { length, flags, ..header }, &[bytes]);
        }
        Record::Truncate(_) => {
            encode_frame(out, salt, &FrameHeader { kind: Kind::Truncate, ..header }, &[]);
        }
        Record::Trim(_) => {
            encode_frame(out, salt, &FrameHeader { kind: Kind::Trim, ..header }, &[]);
        }
        Record::Reset(_) => {
            encode_frame(out, salt, &FrameHeader { kind: Kind::Reset, ..header }, &[]);
        }
        Record::Set(name, value) => {
            encode_cell(out, salt, &header, &CellRecord::Set { name, value });
        }
        Record::Clear(name) => encode_cell(out, salt, &header, &CellRecord::Clear { name }),
        Record::Attach(name, file) => {
            encode_cell(out, salt, &header, &CellRecord::Attach { name, file: file.reference() });
        }
    }
}

/// Brings the offsets of the tail up to date with frames that were written to it.
fn apply(view: &mut View, ops: &[Op], records: &[Record<'_>], writer: &Writer) {
    let base = writer.tail.base();
    for op in ops {
        match records.get(op.record) {
            Some(Record::Append(_)) => {
                view.tail_units.push(in_units(op.offset));
                if op.compressed.is_some() {
                    writer.tail.segment.compressed.store(true, Ordering::Relaxed);
                }
            }
            Some(Record::Truncate(to)) => {
                view.tail_units.truncate(to_usize(to.saturating_sub(base)));
            }
            Some(Record::Reset(_)) => view.tail_units.truncate(0),
            _ => {}
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
        assert!(shared.writer().dirty.len() <= 1);
        assert_eq!(shared.view.read().footers_awaited(), 0);
    }
}
