//! Handing pending frames to the file: by a sync, by a reader who wants them, when there are many.
//!
//! Owns: when frames leave the memory of the process under `Buffered` and `Direct`; under the other
//! modes nothing is pending between two batches. Does not own: how (`segment::tail`), nor durability.
//!
//! One thread at a time hands over, and in the order in which frames were written, because it takes
//! `handing_over` before it lets the writer's lock go, and begins with what a writer took out for
//! the flusher. Whoever has done that knows that everything taken before is in the file, or that the
//! log is poisoned.

use std::mem::take;

use parking_lot::MutexGuard;

use super::{Writer, WriterGuard};
use crate::error::{Error, Result};
use crate::format::number::{to_u64, to_usize};
use crate::log::shared::Shared;
use crate::options::Durability;
use crate::planted::{Bug, planted};
use crate::segment::tail::{Pending, write_witness};
use crate::segment::witness::Testimony;

/// Pending bytes at which they are handed over without being asked for.
const PENDING_BYTES: usize = 256 * 1024;

/// The same in a log in memory, where a hand-over costs no call and what was just written is still in
/// the processor's cache.
const PENDING_BYTES_VOLATILE: usize = 2 * 1024;

/// How many times that much may be pending while the flusher has not come round to it.
const PENDING_FACTOR_MAX: usize = 8;

/// Frames between the memory of the tail and its file.
#[derive(Debug, Default)]
pub(super) struct OnTheirWay {
    /// Taken out by a writer, for the flusher or whoever comes first.
    pub(super) taken: Option<Pending>,
    /// A buffer for the next ones.
    empty: Vec<u8>,
}

impl Shared {
    /// Hands everything written so far to the file, and lets readers see it. Nothing becomes durable.
    pub(crate) fn hand_over(&self) -> Result<()> {
        self.hand_over_from(self.writer(), None, false)
    }

    /// As [`Self::hand_over`]; lets the writer's lock go as soon as the frames are taken. A witness
    /// is written after them while nobody else can write there: what comes next may go over it.
    /// With `through` all of that is durable on return.
    pub(in crate::log) fn hand_over_from(
        &self,
        mut writer: WriterGuard<'_>,
        witness: Option<&Testimony>,
        through: bool,
    ) -> Result<()> {
        if !self.is_buffered() {
            self.not_poisoned()?;
            let Some(witness) = witness else { return Ok(()) };
            return write_witness(writer.tail.file.as_ref(), witness).map_err(|source| {
                self.poisoned_by(Error::io("write", writer.tail.segment.path(), source))
            });
        }
        let mut on_their_way = self.writer.handing_over.lock();
        let _alarm = self.alarm();
        let pending = writer.tail.take_pending(take(&mut on_their_way.empty));
        drop(writer);
        self.hand_over_taken(&mut on_their_way)?;
        let hand_over = || pending.hand_over(self.reader.warm(), witness, through);
        let (empty, handed) = if planted(Bug::HandedOverOutOfOrder) {
            MutexGuard::unlocked(&mut on_their_way, hand_over)
        } else {
            hand_over()
        };
        on_their_way.empty = empty;
        handed.map_err(|error| self.poisoned_by(error))
    }

    /// Takes pending frames out for the flusher if there are enough, and no others are on their way.
    /// So it need not ask for the writer's lock, which one who appends without a pause never lets go
    /// for long.
    pub(super) fn offer_pending(&self, writer: &mut Writer) {
        // Where whoever commits syncs at once, frames and sync are one write.
        let wanted = self.is_buffered() && self.options.durability != Durability::Always;
        if wanted && writer.tail.pending.len() >= self.enough_pending() {
            self.take_pending_out(writer);
        }
    }

    fn take_pending_out(&self, writer: &mut Writer) {
        if let Some(mut on_their_way) = self.writer.handing_over.try_lock()
            && on_their_way.taken.is_none()
        {
            let empty = take(&mut on_their_way.empty);
            on_their_way.taken = Some(writer.tail.take_pending(empty));
            drop(on_their_way);
            self.signals.want_hand_over();
        }
    }

    /// Hands to the file what writers took out for the flusher.
    pub(in crate::log) fn hand_over_offered(&self) -> Result<()> {
        let mut on_their_way = self.writer.handing_over.lock();
        let _alarm = self.alarm();
        self.hand_over_taken(&mut on_their_way)?;
        drop(on_their_way);
        // What was appended meanwhile nobody could take out. One who has the lock does it itself.
        if let Some(mut writer) = self.writer.writer.try_lock() {
            self.offer_pending(&mut writer);
        }
        Ok(())
    }

    /// The same for whoever has more to hand over. In a log that is poisoned, or is by this, nothing
    /// more may go to the file.
    fn hand_over_taken(&self, on_their_way: &mut OnTheirWay) -> Result<()> {
        self.not_poisoned()?;
        let Some(taken) = on_their_way.taken.take() else { return Ok(()) };
        let (empty, handed) = taken.hand_over(self.reader.warm(), None, false);
        on_their_way.empty = empty;
        handed.map_err(|error| self.poisoned_by(error))
    }

    /// Hands everything pending to the file with the writer's lock held. Readers see it when the tail
    /// publishes it.
    pub(super) fn flush(&self, writer: &mut Writer) -> Result<()> {
        let bytes = to_u64(writer.tail.pending.len());
        let in_order = self.is_buffered() && !planted(Bug::RollOvertakesHandOver);
        let mut in_order = in_order.then(|| self.writer.handing_over.lock());
        if let Some(on_their_way) = &mut in_order {
            // First those taken out before: these must not be written after a gap, so a failure ends it.
            self.hand_over_taken(on_their_way)?;
        }
        writer.tail.flush(self.reader.warm()).map_err(|source| {
            self.dir.full_or_io("write", &writer.tail.segment.name.to_string(), bytes, source)
        })
    }

    /// Whether a batch may stay in memory until somebody needs it. One that is long enough goes to
    /// the file anyway, by the flusher as long as it keeps up.
    #[inline]
    pub(super) fn may_stay_pending(&self, writer: &Writer) -> bool {
        if !self.is_buffered() {
            return false;
        }
        let factor = if self.options.background { PENDING_FACTOR_MAX } else { 1 };
        writer.tail.pending.len() < self.enough_pending() * factor
    }

    /// Pending bytes that are worth a write of their own.
    fn enough_pending(&self) -> usize {
        let most = if self.options.volatile { PENDING_BYTES_VOLATILE } else { PENDING_BYTES };
        // A quarter of a small segment, so that tests in tiny ones meet it.
        most.min(to_usize(self.segment_bytes / 4))
    }

    pub(super) fn is_buffered(&self) -> bool {
        self.options.write_mode_in_force().defers_writes()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::io::sim::{Fault, Op, Persistence, Repeat, SimDisk};
    use crate::{Durability, Error, Log, Options};

    const ENTRY: [u8; 3000] = [7; 3000];

    fn options() -> Options {
        let options = Options::new().tiny_segments(4096 * 4).background(false);
        options.durability(Durability::Barrier)
    }

    /// A log with two entries, of which the first was taken out for the flusher, which does not come.
    fn one_taken_out(disk: &SimDisk) -> Log {
        let log = Log::create_in(Arc::new(disk.clone()), &options()).unwrap();
        log.append(&ENTRY).unwrap();
        log.shared().take_pending_out(&mut log.shared().writer());
        log.append(&ENTRY).unwrap();
        assert!(log.shared().writer.handing_over.lock().taken.is_some());
        log
    }

    #[test]
    fn frames_taken_out_go_to_the_file_before_those_that_follow() {
        let ways: [fn(&Log); 4] = [
            |log| log.shared().hand_over_offered().unwrap(),
            |log| log.hand_over().unwrap(),
            // Makes both durable.
            |log| log.sync().unwrap(),
            // As a roll does.
            |log| {
                let mut writer = log.shared().writer();
                log.shared().flush(&mut writer).unwrap();
                writer.tail.publish();
            },
        ];
        for (nth, way) in ways.into_iter().enumerate() {
            let disk = SimDisk::new(1);
            let log = one_taken_out(&disk);
            way(&log);
            assert!(log.shared().writer.handing_over.lock().taken.is_none(), "{nth}");
            assert_eq!(log.read_to_vec(0..2).unwrap(), [ENTRY; 2], "{nth}");
            // Makes both durable, whichever way they got there: the crash loses nothing.
            log.sync().unwrap();
            let after = disk.crash_with(Persistence::Nothing);
            let (log, _report) = Log::open_in(Arc::new(after), &options()).unwrap();
            assert_eq!(log.read_to_vec(0..2).unwrap(), [ENTRY; 2], "{nth}");
        }
    }

    #[test]
    fn flusher_takes_out_what_piled_up_while_it_was_away() {
        let options = options().tiny_segments(4096 * 16).background(true);
        let log = Log::create_in(Arc::new(SimDisk::new(1)), &options).unwrap();
        let away = log.shared().writer.handing_over.lock();
        (0..10).for_each(|_| drop(log.append(&ENTRY).unwrap()));
        drop(away);
        assert!(log.shared().writer().tail.pending.len() >= log.shared().enough_pending());
        log.shared().hand_over_offered().unwrap();
        assert!(log.shared().writer().tail.pending.is_empty());
    }

    #[test]
    fn nothing_follows_frames_taken_out_that_do_not_get_there() {
        let disk = SimDisk::new(1);
        let log = one_taken_out(&disk);
        disk.fail_next(Op::Write, Fault::Io, Repeat::Once);
        // Makes nothing durable: the write before it fails.
        assert!(matches!(log.sync(), Err(Error::Io { .. })));
        let writes = disk.counts().writes;
        assert!(matches!(log.append(&ENTRY), Err(Error::Poisoned { .. })));
        drop(log);
        assert_eq!(disk.counts().writes, writes);
        let (log, _report) = Log::open_in(Arc::new(disk), &options()).unwrap();
        assert_eq!(log.next(), 0);
    }

    #[test]
    fn memory_of_pending_frames_outlives_a_roll() {
        let log = Log::create_in(Arc::new(SimDisk::new(1)), &options()).unwrap();
        let capacity = || log.shared().writer().tail.pending.capacity();
        let mut before = 0;
        while log.stats().rolls == 0 {
            before = capacity();
            log.append(&ENTRY).unwrap();
        }
        assert!(before > 2 * ENTRY.len() && capacity() >= before, "{before}, {}", capacity());
    }
}
