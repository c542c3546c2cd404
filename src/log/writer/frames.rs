//! Putting the frames of a batch into the tail, and sealing it where they do not fit.
//!
//! Owns: the encoding of a batch across segments, the roll, and the draft of what readers will see.
//! Does not own: what the frames are (`plan`), when readers see them (`write`).
//!
//! Frames are put into memory ahead, while their batch is planned, which may still be refused. Most
//! batches are complete then. One that rolls, that is long, or whose last record comes to no frame is
//! taken back and written anew once all is there that it needs.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Writer;
use super::plan::{Body, Form, Frame, Load, Plan};
use crate::directory::spares::Spare;
use crate::error::{Error, Result};
use crate::format::cell::encode_cell;
use crate::format::frame::{Flags, FrameHeader, encode_frame, lag, payload_length};
use crate::format::number::{to_u64, to_usize};
use crate::format::{Kind, SegmentHeader};
use crate::log::reader::Draft;
use crate::log::shared::Shared;
use crate::log::syncer::Unsynced;
use crate::segment::in_units;
use crate::segment::tail::{self, Tail};
use crate::telemetry::stats::add_alone;

/// Encoded bytes of a batch written anew that are collected before they are handed to the file.
const FLUSH_BYTES: usize = 256 * 1024;

/// Most sealed segments that wait for a sync, each with its file open.
const UNSYNCED_SEGMENTS_MAX: u64 = 16;

/// Most sealed segments whose footers wait for a checkpoint, their offsets in memory meanwhile; half as
/// many ask for one.
pub(super) const FOOTERS_AWAITED_MAX: usize = 16;

/// Most bytes of frames that are put into memory while their batch is planned.
const AHEAD_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// A batch on its way into the tail.
struct Writing {
    sequence: u64,
    lag: u16,
    /// Frames that are still to come.
    left: usize,
    /// What the next frame says of its place in the batch.
    flags: u8,
    spares: Vec<Spare>,
}

/// The tail before a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    pub(super) position: u64,
    last_frame: u64,
    /// Entries in it.
    count: u64,
}

impl Writer {
    /// The tail as it is, and a draft that changes nothing.
    #[inline]
    pub(super) fn before_batch(&mut self) -> Before {
        let (position, last_frame) = (self.tail.position(), self.tail.last_frame());
        let count = self.state.next - self.tail.base();
        self.draft.restart(to_usize(count));
        Before { position, last_frame, count }
    }

    /// Takes back all that was written since, in the same tail.
    pub(super) fn take_back(&mut self, before: &Before) {
        self.tail.rewind(before.position, before.last_frame);
        self.draft.restart(to_usize(before.count));
    }
}

impl Shared {
    /// Goes through the plan of a batch, and puts its frames into memory meanwhile. The plan says
    /// whether they are the whole batch and can stay as they are ([`Form::Ahead`]).
    #[inline]
    pub(super) fn put_ahead(
        &self,
        writer: &mut Writer,
        load: &Load<'_>,
        plan: &mut Plan,
    ) -> Result<()> {
        let (sequence, lag) = self.next_number(writer);
        let Writer { state, lazy, tail, draft, .. } = writer;
        let index = state.next;
        let (mut flags, mut goes_on) = (Flags::FIRST, true);
        plan.go_through(state, lazy, load, |frame, body, is_last| {
            let bytes = to_u64(tail.pending.len()) + frame.bytes;
            goes_on &= frame.roll.is_none() && bytes <= AHEAD_BYTES_MAX;
            if goes_on {
                flags |= if is_last { Flags::LAST } else { 0 };
                put(tail, draft, header(sequence, lag, flags, frame.index), body);
                flags &= !Flags::FIRST;
            }
        })?;
        if plan.form == Form::Plain && plan.bytes <= AHEAD_BYTES_MAX {
            let mut header = header(sequence, lag, flags, index);
            for (nth, entry) in load.entries().enumerate() {
                header.flags |= if nth + 1 == plan.frames { Flags::LAST } else { 0 };
                header.length = payload_length(entry);
                put_entry(tail, draft, &header, entry);
                header.flags = 0;
                header.index += 1;
            }
            flags = Flags::LAST;
        }
        if goes_on && flags & Flags::LAST != 0 {
            plan.form = Form::Ahead;
        }
        Ok(())
    }

    /// Writes the frames of a plan. On return they are in the file, or wait in memory where the mode
    /// says so; readers see none of them, and the writer's draft says what they are to see.
    pub(super) fn write_frames(
        &self,
        writer: &mut Writer,
        load: &Load<'_>,
        plan: &Plan,
        spares: Option<Vec<Spare>>,
        before: &Before,
    ) -> Result<()> {
        writer.unsynced_from.get_or_insert(before.position);
        if plan.form != Form::Ahead {
            writer.take_back(before);
            self.write_anew(writer, load, plan, spares.unwrap_or_default())?;
        }
        self.flush_unless_pending(writer)
    }

    /// Any batch, planned anew: cells that were set lazily first, then its records.
    fn write_anew(
        &self,
        writer: &mut Writer,
        load: &Load<'_>,
        plan: &Plan,
        spares: Vec<Spare>,
    ) -> Result<()> {
        let (sequence, lag) = self.next_number(writer);
        let (left, flags) = (plan.frames, Flags::FIRST);
        let mut writing = Writing { sequence, lag, left, flags, spares };
        let mut walk = Plan::start(&writer.state, self.place(writer), Vec::new());
        // Taken out, so that their values can be borrowed while frames are written.
        let lazy = std::mem::take(&mut writer.lazy);
        let mut write = || {
            for nth in 0..plan.riders {
                let Some(rider) = lazy.nth_rider(nth, &writer.state.cells) else { break };
                let frame = walk.rider(&writer.state, rider);
                self.write_frame(writer, &mut writing, frame, &Body::of_rider(rider))?;
            }
            for (at, body) in load.bodies() {
                if let Some(frame) = walk.step(&writer.state, &lazy, load, at, &body)? {
                    self.write_frame(writer, &mut writing, frame, &body)?;
                }
            }
            Ok(())
        };
        let written = write();
        writer.lazy = lazy;
        written
    }

    fn write_frame(
        &self,
        writer: &mut Writer,
        writing: &mut Writing,
        frame: Frame,
        body: &Body<'_>,
    ) -> Result<()> {
        if let Some(base) = frame.roll {
            self.flush(writer)?;
            self.roll(writer, writing, base)?;
        }
        writing.left -= 1;
        if writing.left == 0 {
            writing.flags |= Flags::LAST;
        }
        let flags = std::mem::take(&mut writing.flags);
        let header = header(writing.sequence, writing.lag, flags, frame.index);
        put(&mut writer.tail, &mut writer.draft, header, body);
        if writer.tail.pending.len() >= FLUSH_BYTES && !self.may_stay_pending(writer) {
            self.flush(writer)?;
        }
        Ok(())
    }

    /// The number of the next batch, and how far that is ahead of the newest durable one.
    fn next_number(&self, writer: &Writer) -> (u64, u16) {
        let sequence = writer.sequence + 1;
        (sequence, self.lag(sequence))
    }

    /// How far a batch is ahead of the newest durable one, as its frames state it.
    pub(super) fn lag(&self, sequence: u64) -> u16 {
        lag(sequence, self.syncer.durable())
    }

    /// Ends the frames of a batch: they go to the file, or wait in memory.
    fn flush_unless_pending(&self, writer: &mut Writer) -> Result<()> {
        if !self.may_stay_pending(writer) {
            self.flush(writer)?;
            writer.tail.publish();
        }
        Ok(())
    }

    /// Seals the tail and begins a new one with a prepared file.
    fn roll(&self, writer: &mut Writer, writing: &mut Writing, base: u64) -> Result<()> {
        let _span = crate::telemetry::trace::roll(self.dir.path());
        writer.note_unsynced_tail();
        // Known since the batch was planned.
        let unknown = Error::Internal { what: "a tail with entries of unknown offset" };
        let units = self.reader.tail_units(&writer.draft).ok_or(unknown)?;
        let footer = writer.tail.seal(&units, writing.sequence)?;
        self.note_footer(writer, footer);
        let header = SegmentHeader {
            uuid: *self.uuid.as_bytes(),
            number: writer.tail.segment.name.number + 1,
            base,
            generation: self.dir.door().random(),
            first_sequence: writing.sequence,
            previous_generation: writer.tail.salt.generation(),
            previous_end: writer.tail.position(),
            segment_bytes: self.segment_bytes,
            previous_base: writer.tail.base(),
            ..SegmentHeader::default()
        };
        let none = Error::Internal { what: "fewer spares than a batch was planned with" };
        let spare = writing.spares.pop().ok_or(none)?;
        let sealed = Arc::clone(&writer.tail.segment);
        let next = tail::begin(&self.dir, &spare, &header, &self.options)?;
        let before = std::mem::replace(&mut writer.tail, next);
        // Empty at a roll: the next tail goes on with the memory that this one allocated.
        writer.tail.pending = before.pending;
        writer.unsynced_from = Some(0);
        writer.begun += 1;
        writer.reach.is_unlimited(self.segment_bytes);
        writer.draft.begin(Arc::clone(&writer.tail.segment));
        // Who reads from it opens it again; who has its map keeps it.
        sealed.shut();
        self.sync_oldest(writer)?;
        add_alone(&self.counters.rolls, 1);
        crate::telemetry::trace::rolled(self.dir.path(), writer.tail.segment.name);
        Ok(())
    }

    /// Has the footer of the tail become durable: with the frames before it, if they wait for a
    /// sync, else with a checkpoint, because nothing relies on it: a walk finds what it says. It
    /// goes with the roll where a walk may not, if the next segment is taken back later and its
    /// header with it; and that of a tail from before the open, in whose place may stand the footer
    /// of a seal that a crash dropped, which must not come back.
    fn note_footer(&self, writer: &mut Writer, range: Range<u64>) {
        let (name, needed) = (writer.tail.segment.name, writer.tail.needs_its_footer());
        let frames_wait = writer.unsynced.last().is_some_and(|unsynced| unsynced.name == name);
        let many = writer.footers.len() >= FOOTERS_AWAITED_MAX || self.options.volatile;
        if frames_wait || needed || many {
            writer.unsynced.push(Unsynced { file: Arc::clone(&writer.tail.file), name, range });
        } else {
            writer.footers.push(name);
        }
    }

    /// Sees that few files stay open for a sync to come, whatever the batch and the policy: the oldest
    /// are synced here and now.
    fn sync_oldest(&self, writer: &mut Writer) -> Result<()> {
        while let Some(oldest) = writer.unsynced.first().map(|dirty| dirty.name)
            && writer.tail.segment.name.number - oldest.number > UNSYNCED_SEGMENTS_MAX
        {
            let _watched = self.watch.enter();
            let of_oldest = writer.unsynced.partition_point(|dirty| dirty.name == oldest);
            for dirty in writer.unsynced.drain(..of_oldest) {
                // Makes frames and a footer durable that the next sync would. A crash before it loses
                // batches that are not acknowledged yet.
                self.without_the_turn(|| dirty.sync(&self.dir, self.options.tail_sync_method()))?;
            }
        }
        Ok(())
    }
}

/// What the header of a frame says of its place in the log; the rest follows from its body.
#[inline]
fn header(sequence: u64, lag: u16, flags: u8, index: u64) -> FrameHeader {
    FrameHeader { length: 0, sequence, index, lag, kind: Kind::Entry, flags }
}

/// Puts a frame into memory after those of the tail, and into the draft what readers are to see of it.
fn put(tail: &mut Tail, draft: &mut Draft, mut header: FrameHeader, body: &Body<'_>) {
    header.kind = match *body {
        Body::Entry { stored, compressed, .. } => {
            if compressed {
                tail.segment.compressed.store(true, Ordering::Relaxed);
                header.flags |= Flags::LZ4;
            }
            header.length = payload_length(stored);
            return put_entry(tail, draft, &header, stored);
        }
        Body::Truncate(to) => {
            tail.note_cut();
            draft.truncate(to, tail.base());
            Kind::Truncate
        }
        Body::Reset(_) => {
            tail.note_cut();
            draft.truncate(tail.base(), tail.base());
            Kind::Reset
        }
        Body::Trim(_) => Kind::Trim,
        Body::Cell(ref record) => {
            let offset = tail.next_frame();
            return encode_cell(&mut tail.pending, &tail.salt, offset, &header, record);
        }
    };
    let offset = tail.next_frame();
    encode_frame(&mut tail.pending, &tail.salt, offset, &header, &[]);
}

/// The same for an entry, whose header is complete.
#[inline]
fn put_entry(tail: &mut Tail, draft: &mut Draft, header: &FrameHeader, stored: &[u8]) {
    let offset = tail.next_frame();
    draft.push(in_units(offset));
    encode_frame(&mut tail.pending, &tail.salt, offset, header, &[stored]);
}

#[cfg(all(test, feature = "testing", feature = "lz4"))]
#[expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
mod tests {
    use std::collections::BTreeMap;

    use crate::format::number::to_usize;
    use crate::io::sim::{Persistence, SimDisk};
    use crate::io::{Access, Directory};
    use crate::{Batch, Error, Log, Options};

    fn options() -> Options {
        Options::new().tiny_segments(16 * 1024).background(false)
    }

    /// What the segments hold after these batches.
    fn segments(options: &Options, batches: &[Batch<'_>]) -> BTreeMap<String, Vec<u8>> {
        let disk = SimDisk::new(5);
        let log = Log::create_in(std::sync::Arc::new(disk.clone()), options).unwrap();
        for batch in batches {
            // What is refused leaves nothing.
            let refused = log.commit(batch.clone().truncate(u64::MAX));
            assert!(matches!(refused, Err(Error::BeyondEnd { .. })), "{refused:?}");
            log.commit(batch).unwrap();
        }
        let listed = Directory::list(&disk).unwrap();
        let segments = listed.into_iter().filter(|file| file.name.strip_suffix(".seg").is_some());
        segments
            .map(|file| {
                let mut bytes = vec![0; to_usize(file.bytes)];
                let opened = disk.open(&file.name, Access::Read).unwrap();
                opened.read_at(0, &mut bytes).unwrap();
                (file.name, bytes)
            })
            .collect()
    }

    /// A log that may compress goes through every batch record by record; one that may not writes
    /// entries alone in the cheap form. Nothing here is long enough to be compressed. A batch whose last
    /// record comes to no frame is written anew after it was planned.
    #[test]
    fn every_form_of_a_batch_writes_the_same_bytes() {
        let mut batches = Vec::new();
        for round in 0..60_usize {
            let mut batch = Batch::new();
            for entry in 0..=(round % 5) {
                batch.append(vec![7; (round * 97 + entry * 31) % 900]);
            }
            if round % 7 == 6 {
                batch.set("vote", vec![1; round % 9]).truncate(round as u64);
            }
            batches.push(batch);
        }
        let cheap = segments(&options(), &batches);
        assert!(cheap.len() > 3, "they roll");
        assert_eq!(cheap, segments(&options().compress_above(Some(1 << 20)), &batches));
        for batch in &mut batches {
            batch.clear("never-set");
        }
        assert_eq!(cheap, segments(&options(), &batches));
    }

    /// The same changes, in frames and in the slots of a full disk, leave the same log.
    #[test]
    fn batch_in_the_slots_has_the_effects_of_one_in_frames() {
        let found = |full: bool| {
            let disk = SimDisk::new(9);
            let log = Log::create_in(std::sync::Arc::new(disk.clone()), &options()).unwrap();
            let mut entries = Batch::new();
            for entry in 0..10_u8 {
                entries.append(vec![entry; 1000]);
            }
            log.commit(&entries).unwrap();
            log.set_lazily("decided", b"9").unwrap();
            if full {
                disk.set_capacity(Some(0));
            }
            let mut batch = Batch::new();
            batch.trim(3).truncate(8).clear("decided");
            for cell in 0..9 {
                batch.set(format!("c{cell}"), vec![1; 300]);
            }
            log.commit(&batch).unwrap();
            assert_eq!(log.stats().slot_commits, u64::from(full));
            let seen = (log.first(), log.next(), log.durable(), log.cells());
            let after = disk.crash_copy(Persistence::Nothing);
            let (log, _) = Log::open_in(std::sync::Arc::new(after), &options()).unwrap();
            assert_eq!((log.first(), log.next(), log.durable(), log.cells()), seen);
            (seen, log.read_to_vec(3..8).unwrap())
        };
        assert_eq!(found(true), found(false));
    }
}
