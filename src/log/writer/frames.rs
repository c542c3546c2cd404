//! Putting the frames of a batch into the tail, and sealing it where they do not fit.
//!
//! Owns: the encoding of a batch across segments, the roll, and the draft of what readers will see.
//! Does not own: what the frames are (`plan`), when readers see them (`publish`).

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Writer;
use super::plan::{Body, Frame, Load, Plan};
use crate::directory::spares::Spare;
use crate::error::{Error, Result};
use crate::format::cell::encode_cell;
use crate::format::frame::{Flags, FrameHeader, encode_frame, lag, payload_length};
use crate::format::{Kind, Salt, SegmentHeader};
use crate::lazy::LazyCells;
use crate::log::shared::Shared;
use crate::log::syncer::Unsynced;
use crate::segment::{in_units, tail};
use crate::telemetry::stats::add_alone;

/// Encoded bytes of one batch that are collected before they are handed to the file.
const FLUSH_BYTES: usize = 256 * 1024;

/// Most sealed segments that wait for a sync, each with its file open.
const UNSYNCED_SEGMENTS_MAX: u64 = 16;

/// Most sealed segments whose footers wait for a checkpoint, their offsets in memory meanwhile; half as
/// many ask for one.
pub(super) const FOOTERS_AWAITED_MAX: usize = 16;

/// A batch on its way into the tail.
struct Writing<'a> {
    sequence: u64,
    lag: u16,
    /// Frames that are still to come.
    left: usize,
    /// What the next frame says of its place in the batch.
    flags: u8,
    spares: &'a mut Vec<Spare>,
}

impl Shared {
    /// Writes the frames of a plan. On return they are in the file, or wait in memory where the mode
    /// says so; readers see none of them, and the writer's draft says what they are to see. Returns the
    /// batch's number.
    pub(super) fn write_frames(
        &self,
        writer: &mut Writer,
        load: &Load<'_>,
        plan: &Plan,
        spares: &mut Vec<Spare>,
    ) -> Result<u64> {
        let (sequence, lag) = self.next_number(writer);
        writer.unsynced_from.get_or_insert(writer.tail.position());
        let (left, flags) = (plan.frames, Flags::FIRST);
        let mut writing = Writing { sequence, lag, left, flags, spares };
        if plan.is_plain(load) {
            self.write_entries(writer, &mut writing, load)?;
        } else {
            // Taken out, so that their values can be borrowed while frames are written.
            let lazy = std::mem::take(&mut writer.lazy);
            let written = self.write_bodies(writer, &mut writing, &lazy, load, plan);
            writer.lazy = lazy;
            written?;
        }
        self.flush_unless_pending(writer)?;
        Ok(sequence)
    }

    /// The cheap form for entries alone that fit the tail.
    fn write_entries(
        &self,
        writer: &mut Writer,
        writing: &mut Writing<'_>,
        load: &Load<'_>,
    ) -> Result<()> {
        let (sequence, lag, kind) = (writing.sequence, writing.lag, Kind::Entry);
        let (index, flags) = (writer.state.next, writing.flags);
        let mut header = FrameHeader { length: 0, sequence, index, lag, kind, flags };
        for entry in load.entries() {
            let tail = &mut writer.tail;
            let position = tail.position();
            writer.draft.push(in_units(position));
            writing.left -= 1;
            if writing.left == 0 {
                header.flags |= Flags::LAST;
            }
            header.length = payload_length(entry);
            tail.frame_at(position);
            encode_frame(&mut tail.pending, &tail.salt, position, &header, &[entry]);
            header.flags = 0;
            header.index += 1;
            self.flush_if_long(writer)?;
        }
        Ok(())
    }

    /// Any batch: cells that were set lazily first, then its records.
    fn write_bodies(
        &self,
        writer: &mut Writer,
        writing: &mut Writing<'_>,
        lazy: &LazyCells,
        load: &Load<'_>,
        plan: &Plan,
    ) -> Result<()> {
        let mut walk = (!plan.is_straight(load))
            .then(|| Plan::start(&writer.state, self.place(writer), Vec::new()));
        for nth in 0..plan.riders {
            let rider = lazy.nth_rider(nth, &writer.state.cells);
            let Some(rider) = rider else { break };
            let body = Body::of_rider(rider);
            let frame = match &mut walk {
                Some(walk) => walk.rider(&writer.state, rider),
                None => Frame::after(&body, writer.state.next),
            };
            self.write_frame(writer, writing, frame, &body)?;
        }
        let mut next = writer.state.next;
        for (at, body) in load.bodies() {
            let frame = match &mut walk {
                Some(walk) => walk.step(&writer.state, lazy, load, at, &body)?,
                None => Some(Frame::after(&body, next)),
            };
            next = body.next(next);
            if let Some(frame) = frame {
                self.write_frame(writer, writing, frame, &body)?;
            }
        }
        Ok(())
    }

    fn write_frame(
        &self,
        writer: &mut Writer,
        writing: &mut Writing<'_>,
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
        let header = FrameHeader {
            length: 0,
            sequence: writing.sequence,
            index: frame.index,
            lag: writing.lag,
            kind: Kind::Entry,
            flags: std::mem::take(&mut writing.flags),
        };
        match body {
            Body::Entry { compressed, .. } => {
                writer.draft.push(in_units(writer.tail.position()));
                if *compressed {
                    writer.tail.segment.compressed.store(true, Ordering::Relaxed);
                }
            }
            Body::Truncate(_) => {
                writer.tail.note_cut();
                writer.draft.truncate(frame.index, writer.tail.base());
            }
            Body::Reset(_) => {
                writer.tail.note_cut();
                writer.draft.truncate(writer.tail.base(), writer.tail.base());
            }
            Body::Trim(_) | Body::Cell(_) => {}
        }
        let tail = &mut writer.tail;
        let position = tail.position();
        tail.frame_at(position);
        encode(&mut tail.pending, &tail.salt, position, header, body);
        self.flush_if_long(writer)
    }

    /// Hands over the frames of a long batch that are there so far.
    #[inline]
    fn flush_if_long(&self, writer: &mut Writer) -> Result<()> {
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
    fn roll(&self, writer: &mut Writer, writing: &mut Writing<'_>, base: u64) -> Result<()> {
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
            features: 0,
            previous_base: writer.tail.base(),
            replaces: 0,
        };
        let none = Error::Internal { what: "fewer spares than a batch was planned with" };
        let spare = writing.spares.pop().ok_or(none)?;
        let sealed = Arc::clone(&writer.tail.segment);
        writer.tail = tail::begin(&self.dir, &spare, &header, &self.options)?;
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

/// Encodes the frame at `offset` of its segment; `header` comes with everything but kind and length.
fn encode(out: &mut Vec<u8>, salt: &Salt, offset: u64, header: FrameHeader, body: &Body<'_>) {
    let (kind, stored, flag): (_, &[u8], _) = match body {
        Body::Entry { stored, compressed: false, .. } => (Kind::Entry, stored, 0),
        Body::Entry { stored, compressed: true, .. } => (Kind::Entry, stored, Flags::LZ4),
        Body::Truncate(_) => (Kind::Truncate, &[], 0),
        Body::Trim(_) => (Kind::Trim, &[], 0),
        Body::Reset(_) => (Kind::Reset, &[], 0),
        Body::Cell(record) => return encode_cell(out, salt, offset, &header, record),
    };
    let (length, flags) = (payload_length(stored), header.flags | flag);
    let header = FrameHeader { length, kind, flags, ..header };
    encode_frame(out, salt, offset, &header, &[stored]);
}

#[cfg(all(test, feature = "testing", feature = "lz4"))]
#[expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
mod tests {
    use std::collections::BTreeMap;

    use crate::format::number::to_usize;
    use crate::io::sim::{Persistence, SimDisk};
    use crate::io::{Access, Directory};
    use crate::{Batch, Log, Options};

    fn options() -> Options {
        Options::new().tiny_segments(16 * 1024).background(false)
    }

    /// What the segments hold after these batches.
    fn segments(options: &Options, batches: &[Batch<'_>]) -> BTreeMap<String, Vec<u8>> {
        let disk = SimDisk::new(5);
        let log = Log::create_in(std::sync::Arc::new(disk.clone()), options).unwrap();
        for batch in batches {
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
    /// entries alone in the cheap form. Nothing here is long enough to be compressed.
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
