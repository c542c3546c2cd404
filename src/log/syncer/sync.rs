//! A sync: what was written is put on media, and everybody learns of it.
//!
//! Owns: the order of its steps, and waiting for one. Does not own: who leads (`group`), what there is
//! to sync (`writer::stock`), how a checkpoint is written (`checkpoint`).
//!
//! Steps: (1) take stock under the writer's lock, and hand pending frames to the file, and a
//! witness of what is durable so far after them, (2) sync every unsynced range, oldest first, and
//! the directory if a segment was begun, and see that nobody else was told of a failure in place of
//! this sync, (3) if a segment was begun: write a checkpoint that names it to one slot, (4) move
//! the watermark. Step 2 is the commit point of a batch, or step 3 if it rolled. A crash before it
//! loses batches that nobody was told of. With a checkpoint that comes by itself go the footers
//! that no sync had to wait for.

use std::ops::Range;
use std::sync::Arc;

use super::group::{Next, Turn};
use crate::clock::Moment;
use crate::directory::Dir;
use crate::error::{Error, Result};
use crate::format::SegmentName;
use crate::io::{Access, File};
use crate::log::shared::Shared;
use crate::log::writer::{NextCheckpoint, Stock, Want, WriterGuard};
use crate::options::SyncMethod;
use crate::planted::{Bug, planted};

/// A range of a file that is not durable yet.
#[derive(Debug, Clone)]
pub(crate) struct Unsynced {
    pub(crate) file: Arc<dyn File>,
    pub(crate) name: SegmentName,
    pub(crate) range: Range<u64>,
}

impl Unsynced {
    /// Whether one sync of the other one's file puts this on media as well, whatever the range.
    fn shares_its_file_with(&self, other: &Self) -> bool {
        self.name == other.name
    }

    /// Puts it on media.
    pub(crate) fn sync(&self, dir: &Dir, method: SyncMethod) -> Result<()> {
        let failed = |source| Error::io("sync", dir.join(&self.name.to_string()), source);
        // Makes frames, headers and footers durable. A crash before it loses batches that are not
        // acknowledged yet.
        self.file.sync(self.range.clone(), method).map_err(failed)
    }
}

impl Shared {
    /// Waits until a batch is durable, syncing if nobody else does.
    pub(crate) fn wait_durable(&self, sequence: u64) -> Result<()> {
        if self.syncer.group.durable() >= sequence {
            return Ok(());
        }
        self.dir.not_forked()?;
        let _alarm = self.outermost_alarm();
        let started = Moment::now();
        loop {
            if let Err(poisoned) = self.not_poisoned() {
                self.call_back();
                return Err(poisoned);
            }
            match self.syncer.group.wait(sequence) {
                Next::Durable => {
                    self.counters.waited(started.elapsed());
                    return Ok(());
                }
                Next::LookAgain => {}
                Next::Lead(turn) => {
                    let led = self.lead(turn, None);
                    self.call_back();
                    if let Some(next) = led? {
                        self.finish_checkpoint(next).inspect_err(|_| self.call_back())?;
                    }
                }
            }
        }
    }

    /// Carries out one sync. Returns the checkpoint that came with it, to be finished outside the
    /// turn so that the next sync need not wait for it. Whoever calls this calls back those whose
    /// batch is decided, when it holds no lock.
    pub(super) fn lead(
        &self,
        turn: Turn<'_>,
        want: Option<Want>,
    ) -> Result<Option<NextCheckpoint>> {
        if self.syncer.has_ended() {
            return Err(Error::Closed);
        }
        let _alarm = self.alarm();
        turn.gather(self.options.gather);
        let _watched = self.watch.enter();
        let started = Moment::now();
        let mut writer = self.writer();
        let mut stock = self.take_stock(&mut writer, want);
        turn.took_stock(stock.sequence);
        let syncs = !stock.unsynced.is_empty();
        let result = self.put_stock_on_media(writer, &mut stock);
        let took = started.elapsed();
        if let Err(error) = result {
            return Err(self.poisoned_by(error));
        }
        if syncs {
            self.counters.synced(took);
            crate::telemetry::trace::synced(self.dir.path(), stock.sequence, took);
        }
        {
            let writer = self.writer();
            if planted(Bug::StockTakenLate) {
                (stock.sequence, stock.next) = (writer.sequence(), writer.state().next);
            }
            // In memory everything that was written is durable, also since.
            if !self.options.volatile {
                self.reader.durable_is(stock.next.min(writer.lowest()));
            }
        }
        if let Some(first) = stock.footers.first() {
            // There was no descriptor for some of them.
            stock.footers_end = first.number;
            self.writer().footers_wait(std::mem::take(&mut stock.footers));
        }
        if stock.checkpoint.is_some() {
            self.reader.footers_durable(stock.footers_end);
        }
        turn.finish(stock.sequence, took);
        self.signals.synced();
        Ok(stock.checkpoint)
    }

    /// Hands over what is pending, while others go on after it, syncs everything in stock, and
    /// writes the checkpoint that has to come with it.
    fn put_stock_on_media(&self, writer: WriterGuard<'_>, stock: &mut Stock) -> Result<()> {
        if planted(Bug::SyncBeforeHandOver) {
            drop(writer);
        } else {
            self.hand_over_from(writer, stock.witness.as_ref(), stock.through)?;
        }
        if stock.through {
            // All of it is on the medium.
            stock.unsynced.clear();
        }
        self.sync_footers(stock)?;
        self.put_on_media(stock)?;
        match stock.checkpoint.as_mut() {
            Some(next) if stock.rolled => self.write_slots(next),
            _ => Ok(()),
        }
    }

    /// Makes the footers durable that no sync waited for, and takes them out of stock. For want of
    /// descriptors some are left for later: without a footer a segment is walked.
    fn sync_footers(&self, stock: &mut Stock) -> Result<()> {
        while let Some(name) = stock.footers.first() {
            let name = name.to_string();
            match self.dir.open(&name, Access::Read) {
                Ok(file) => {
                    let failed = |source| Error::io("sync", self.dir.join(&name), source);
                    // Makes footer and offset table durable. A crash before it loses what the frames
                    // say as well.
                    file.sync(0..self.segment_bytes, SyncMethod::Fdatasync).map_err(failed)?;
                }
                // It went with a trim or a truncation.
                Err(error) if error.is_not_found() => {}
                Err(error) if error.is_shortage() => return Ok(()),
                Err(error) => return Err(error),
            }
            stock.footers.remove(0);
        }
        Ok(())
    }

    /// Syncs everything in stock.
    pub(in crate::log) fn put_on_media(&self, stock: &Stock) -> Result<()> {
        let method = self.options.tail_sync_method();
        // One sync of a file covers all of it, unless the method goes by ranges.
        let by_range = matches!(method, SyncMethod::Msync | SyncMethod::Dsync);
        for (at, range) in stock.unsynced.iter().enumerate() {
            let covered =
                stock.unsynced.get(at + 1).is_some_and(|next| next.shares_its_file_with(range));
            if covered && !by_range {
                continue;
            }
            // Makes the range durable. A crash before it loses batches that are not acknowledged yet.
            range.sync(&self.dir, method)?;
        }
        if stock.rolled {
            // Makes the names of new segments durable. A crash before it loses the whole file,
            // in which nothing is acknowledged yet.
            self.dir.sync()?;
        }
        self.nobody_else_was_told()
    }

    /// Syncs a file of the log, or its directory, for somebody who has not got the turn. A failure
    /// poisons before a leader whose sync meets this one calls anything durable.
    ///
    /// The system tells of a failed write-back once for each open file, and leaves the pages clean. Who
    /// has it told may not be the one whose frames are lost: the sync of that one then succeeds.
    pub(in crate::log) fn without_the_turn<T>(
        &self,
        sync: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let _leaders_wait = self.syncer.without_turn.read();
        let _alarm = self.alarm();
        sync().map_err(|error| self.poisoned_by(error))
    }

    /// After the syncs of a leader: waits for whoever may have been told of a failure in their
    /// place, and fails if somebody was.
    fn nobody_else_was_told(&self) -> Result<()> {
        if planted(Bug::FailureToldToAnother) {
            return Ok(());
        }
        drop(self.syncer.without_turn.write());
        self.not_poisoned()
    }
}
