//! A checkpoint: both slots record what is durable, and what only the one before needed goes.
//!
//! Owns: the order of its steps. Does not own: what it says (`writer::stock`), the slots
//! (`directory::metadata`).
//!
//! Steps: a sync (`sync`), then (5) both slots, (6) the files that only the checkpoint before
//! needed are recycled or removed. A crash after (5) leaves junk that the next open removes. The
//! sync of a roll has written one slot; the other one follows before (6), and only if there is such
//! a file.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;

use crate::error::{Error, Result};
use crate::format::SideFileRef;
use crate::format::number::to_u64;
use crate::log::shared::Shared;
use crate::log::syncer::NewestCheckpoint;
use crate::log::writer::{NextCheckpoint, Want};
use crate::planted::{Bug, planted};
use crate::segment::Segment;
use crate::telemetry::stats::add;

/// How many recycled spares are kept beyond those that are prepared anyway.
const RECYCLED_SPARES: usize = 2;

impl Shared {
    /// Makes everything written so far durable and records it in both slots.
    pub(crate) fn checkpoint(&self, clean: bool, bytes: u64) -> Result<()> {
        self.dir.not_forked()?;
        let _span = crate::telemetry::trace::checkpoint(self.dir.path());
        let _alarm = self.outermost_alarm();
        // Before the turn, so that whoever comes out of here knows that all of a checkpoint before
        // is done, its files included.
        let checkpointing = self.syncer.checkpointing.lock();
        if !clean && self.closed.load(Ordering::Acquire) && !planted(Bug::CloseOvertaken) {
            // The last checkpoint of a log that is closed says so, and none comes after it.
            return Err(Error::Closed);
        }
        let turn = self.syncer.turn();
        let led = self.lead(turn, Some(Want { clean, bytes })).and_then(|next| match next {
            Some(next) => self.finish_locked(next, &checkpointing),
            None => Ok(()),
        });
        drop(checkpointing);
        self.call_back();
        led
    }

    /// Waits for the checkpoint that another thread is writing. Returns whether there was one.
    pub(crate) fn await_checkpoint(&self) -> bool {
        if self.syncer.checkpointing.try_lock().is_some() {
            return false;
        }
        drop(self.syncer.checkpointing.lock());
        true
    }

    /// Writes a checkpoint to both slots, or to one for a roll, unless a newer one is there already. A
    /// failure poisons.
    pub(in crate::log) fn write_slots(&self, next: &mut NextCheckpoint) -> Result<()> {
        self.in_slots(|newest| {
            if newest.number >= next.number {
                return Ok(());
            }
            if next.for_roll {
                newest.file.write_one(&next.checkpoint)?;
                newest.in_both = newest.number;
                newest.in_one = Some(next.checkpoint.clone());
            } else {
                newest.file.write(&next.checkpoint)?;
                newest.in_both = next.number;
                newest.in_one = None;
            }
            newest.number = next.number;
            newest.sequence = next.checkpoint.sequence;
            newest.lazy_version = next.lazy_version;
            self.counters.wrote_checkpoint();
            Ok(())
        })?;
        next.in_slots = true;
        Ok(())
    }

    /// Writes slots, one thread at a time. The log is poisoned before another one can: after a slot of
    /// which nobody knows what it holds the other one is all there is, and is not touched.
    fn in_slots(&self, write: impl FnOnce(&mut NewestCheckpoint) -> Result<()>) -> Result<()> {
        let _watched = self.watch.enter();
        let mut newest = self.syncer.newest.lock();
        let _alarm = self.alarm();
        self.not_poisoned()?;
        write(&mut newest).map_err(|error| self.poisoned_by(error))
    }

    /// Sees that no slot has an older checkpoint than this: by writing the newest one, which is that of
    /// a roll, to the other slot as well. A failure poisons.
    fn write_other_slot(&self, next: &NextCheckpoint) -> Result<()> {
        self.in_slots(|newest| {
            if newest.in_both < next.number
                && let Some(checkpoint) = newest.in_one.take()
            {
                newest.file.write_one(&checkpoint)?;
                newest.in_both = newest.number;
            }
            Ok(())
        })
    }

    /// Writes a checkpoint if that was not done yet, and lets go of what it made superfluous.
    pub(in crate::log) fn finish_checkpoint(&self, next: NextCheckpoint) -> Result<()> {
        let checkpointing = self.syncer.checkpointing.lock();
        if self.syncer.has_ended() {
            // The directory may be somebody else's by now. What is left in it goes with the next open.
            return Ok(());
        }
        self.finish_locked(next, &checkpointing)
    }

    fn finish_locked(&self, mut next: NextCheckpoint, _one: &MutexGuard<'_, ()>) -> Result<()> {
        let _alarm = self.alarm();
        if !next.in_slots && !planted(Bug::ReclaimBeforeCheckpoint) {
            self.write_slots(&mut next)?;
        }
        let nothing_goes = next.dead.is_empty() && next.dead_files.is_empty();
        // Files go which the older checkpoint needs; or both slots are wanted, and a roll came between.
        if !(next.for_roll && nothing_goes) {
            self.write_other_slot(&next)?;
        }
        {
            let mut writer = self.writer();
            writer.is_stated_by(&next);
            self.check_invariants_in_debug(&writer)?;
        }
        self.reclaim(next.dead, &next.dead_files);
        Ok(())
    }

    /// Recycles or removes files that no durable checkpoint and no frame after it refers to. One that
    /// cannot be removed stays, and is counted: the next open tries again.
    fn reclaim(&self, dead: Vec<Arc<Segment>>, dead_files: &[SideFileRef]) {
        for segment in dead {
            let name = segment.name.to_string();
            let wanted = self.spares.count() < self.options.spares + RECYCLED_SPARES;
            // A segment that a borrowed read still holds must keep its bytes: its name goes, its
            // map stays.
            let (ready, known) = (segment.ready(), segment.may_be_used_again());
            let unused = Arc::into_inner(segment).is_some() && known;
            // Neither is one that cannot be opened or renamed now of any use as a spare.
            let may_recycle = self.options.recycle && wanted && unused;
            if may_recycle && self.spares.recycle(&name, ready).unwrap_or(false) {
                add(&self.counters.recycled, 1);
            } else if self.remove(name) {
                add(&self.counters.removed, 1);
            }
        }
        for file in dead_files {
            self.side_files.forget(file.id);
            self.remove(file.file_name());
        }
    }

    /// Removes a file that nothing refers to. Returns whether it is gone.
    fn remove(&self, name: String) -> bool {
        let stays = self.dir.remove_junk([name]);
        add(&self.counters.not_removed, to_u64(stays.len()));
        stays.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::io::sim::SimDisk;
    use crate::{Log, Options};

    /// A batch that comes to the reach while a checkpoint is being written goes on after that one.
    #[test]
    fn batch_waits_for_a_checkpoint_instead_of_writing_another_one() {
        let options = Options::new().segment_bytes(1024 * 1024).background(false);
        let log = Log::create_in(Arc::new(SimDisk::new(1)), &options).unwrap();
        log.append(b"one").unwrap();
        {
            let mut writer = log.shared().writer();
            let position = writer.tail().position();
            writer.lower_reach(position);
        }
        let (shared, before) = (log.shared(), log.stats().checkpoints);
        let checkpointing = shared.syncer.checkpointing.lock();
        let writer = log.clone();
        let other = std::thread::spawn(move || writer.append(b"two").map(drop));
        // It comes to wait.
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!((log.next(), other.is_finished()), (1, false));
        let next = shared.lead(shared.syncer.turn(), Some(Want::default())).unwrap().unwrap();
        shared.finish_locked(next, &checkpointing).unwrap();
        drop(checkpointing);
        other.join().unwrap().unwrap();
        assert_eq!((log.next(), log.stats().checkpoints), (2, before + 1));
    }
}
