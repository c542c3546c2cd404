//! Committing a batch in the metadata file, when the disk is full and it has no entries.
//!
//! Owns: that way of a batch, which writes no frame. Does not own: which batch goes this way
//! (`write`), the slots (`metadata`).

use std::time::Duration;

use super::plan::{Load, Plan};
use super::stock::{NextCheckpoint, Want};
use super::write::Written;
use crate::error::{Error, Result};
use crate::format::number::to_usize;
use crate::log::shared::Shared;
use crate::telemetry::stats::add;

impl Shared {
    /// Commits a batch without entries although no segment can be had for it: the checkpoint is
    /// its commit point, and the metadata file has had its space since the log was created.
    pub(super) fn commit_in_slots(&self, load: &Load<'_>) -> Result<Written> {
        let turn = self.syncer.turn();
        let written = self.commit_in_slots_in_turn(load);
        match &written {
            Ok((written, _)) => turn.finish(written.sequence, Duration::ZERO),
            Err(_) => drop(turn),
        }
        let committed = written.and_then(|(written, next)| {
            self.finish_checkpoint(next)?;
            Ok(written)
        });
        self.call_back();
        committed
    }

    fn commit_in_slots_in_turn(&self, load: &Load<'_>) -> Result<(Written, NextCheckpoint)> {
        let mut writer = self.writer();
        let writer = &mut *writer;
        self.open_and_sound()?;
        // Others wrote while this one waited for its turn.
        let mut plan = Plan::start(&writer.state, self.place(writer), Vec::new());
        plan.go_through(&writer.state, &writer.lazy, load, |_, _, _| ())?;
        self.check_side_files(load, &plan)?;
        if plan.must_roll {
            return Err(self.full());
        }
        // Everything before it first: a checkpoint states what is durable.
        let before = self.take_stock(writer, None);
        self.flush(writer)
            .and_then(|()| self.put_on_media(&before))
            .map_err(|error| self.poisoned_by(error))?;
        writer.tail.publish();
        // It may lower the end, and no frame says so.
        writer.tail.note_cut();
        let base = writer.tail.base();
        let kept = plan.lowest.min(plan.bounds.next).saturating_sub(base);
        writer.draft.restart(to_usize(kept));
        self.publish(writer, load, &plan);
        before.give_back(writer);
        let mut next = self.next_checkpoint(writer, Want::default());
        // This is the checkpoint that the batch asks for.
        self.signals.take_checkpoint();
        self.write_slots(&mut next)?;
        self.reader.durable_is(writer.state.next);
        self.check_invariants_in_debug(writer)?;
        add(&self.counters.slot_commits, 1);
        let written = Written { sequence: writer.sequence, next: writer.state.next };
        Ok((written, next))
    }

    /// There is no space for another segment.
    pub(super) fn full(&self) -> Error {
        Error::DiskFull { path: self.dir.path().to_path_buf(), needed: self.segment_bytes }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::io::sim::SimDisk;
    use crate::{Batch, Error, Log, Options};

    #[test]
    fn log_takes_no_space_as_long_as_it_is_held() {
        let options = Options::new().background(false).tiny_segments(8 * 1024);
        let disk = SimDisk::new(1);
        let log = Log::create_in(Arc::new(disk.clone()), &options).unwrap();
        let held = log.hold_space().unwrap();
        let append = || loop {
            match log.append(&[1; 500]) {
                Ok(_) => {}
                Err(Error::DiskFull { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        };
        append();
        let used = disk.used();
        for value in 0..200 {
            let mut batch = Batch::new();
            batch.set("promise", vec![value; 100]);
            log.commit(&batch).unwrap();
        }
        assert_eq!(disk.used(), used);
        assert!(log.stats().slot_commits > 100);
        log.maintain().unwrap();
        assert_eq!(disk.used(), used);
        drop(held);
        log.maintain().unwrap();
        assert!(disk.used() > used);
        let used = disk.used();
        for _ in 0..16 {
            log.append(&[1; 500]).unwrap();
        }
        assert!(disk.used() > used);
        assert_eq!(log.cell("promise").as_deref(), Some(&[199; 100][..]));
    }
}
