//! Syncs and checkpoints: taking stock of what was written, putting it on media, recording it.
//!
//! Owns: the order of these steps, and what goes once a checkpoint no longer needs it. Does not
//! own: who leads (`sync`), the slots (`metadata`).
//!
//! Steps of a sync: (1) take stock under the writer's lock, and hand pending frames to the file,
//! and a witness of what is durable so far behind them, (2) sync every unsynced range, oldest first, (3) if a segment was begun: sync the directory and
//! write a checkpoint that names it, (4) move the watermark. Step 2 is the commit point of a batch, or
//! step 3 if it rolled. A crash before it loses batches that nobody was told of.
//!
//! Steps of a checkpoint: a sync as above, then (5) both slots, (6) the files that only the
//! checkpoint before needed are recycled or removed. A crash after (5) leaves junk that the next
//! open removes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;

use super::shared::{Dirty, Shared, Writer, WriterGuard};
use crate::clock::Moment;
use crate::error::{Error, Result};
use crate::format::number::to_u64;
use crate::format::{Checkpoint, SideFileRef};
use crate::log::sync::{Next, Turn};
use crate::options::{SyncMethod, Witness};
use crate::planted::{Bug, planted};
use crate::segment::Segment;
use crate::segment::witness::Testimony;
use crate::telemetry::stats::add;

/// How many recycled spares are kept beyond those that are prepared anyway.
const RECYCLED_SPARES: usize = 2;

/// What a checkpoint is wanted for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Want {
    /// The log is being closed: nothing follows.
    pub(crate) clean: bool,
    /// Bytes that must fit into the tail before the next one.
    pub(crate) bytes: u64,
}

/// What a sync has to put on media.
#[derive(Debug)]
pub(crate) struct Stock {
    sequence: u64,
    next: u64,
    dirty: Vec<Dirty>,
    rolled: bool,
    captured: Option<Captured>,
    /// What goes behind the frames; a checkpoint says as much by itself.
    witness: Option<Testimony>,
    /// All of it waits in memory, and is written so that it is durable at once.
    through: bool,
}

/// A checkpoint, and what goes once it is durable.
#[derive(Debug)]
pub(crate) struct Captured {
    number: u64,
    lazy_version: u64,
    checkpoint: Checkpoint,
    dead: Vec<Arc<Segment>>,
    dead_files: Vec<SideFileRef>,
    written: bool,
}

impl Stock {
    /// Gives back what the checkpoint in it would have let go: another one takes its place.
    pub(crate) fn give_back(self, writer: &mut Writer) {
        if let Some(captured) = self.captured {
            writer.dead.extend(captured.dead);
            writer.dead_files.extend(captured.dead_files);
        }
    }
}

impl Shared {
    /// Waits until a batch is durable, syncing if nobody else does.
    pub(crate) fn wait_durable(&self, sequence: u64) -> Result<()> {
        if self.group.durable() >= sequence {
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
            match self.group.wait(sequence) {
                Next::Durable => {
                    self.counters.waited(started.elapsed());
                    return Ok(());
                }
                Next::LookAgain => {}
                Next::Lead(turn) => {
                    let led = self.lead(turn, None);
                    self.call_back();
                    if let Some(captured) = led? {
                        self.settle(captured).inspect_err(|_| self.call_back())?;
                    }
                }
            }
        }
    }

    /// Makes everything written so far durable and records it in both slots.
    pub(crate) fn checkpoint(&self, clean: bool, bytes: u64) -> Result<()> {
        self.dir.not_forked()?;
        let _span = crate::telemetry::trace::checkpoint(self.dir.path());
        let _alarm = self.outermost_alarm();
        // Before the turn, so that whoever comes out of here knows that all of a checkpoint before
        // is done, its files included.
        let settling = self.settling.lock();
        if !clean && self.closed.load(Ordering::Acquire) && !planted(Bug::CloseOvertaken) {
            // The last checkpoint of a log that is closed says so, and none comes after it.
            return Err(Error::Closed);
        }
        let turn = self.group.turn();
        let led =
            self.lead(turn, Some(Want { clean, bytes })).and_then(|captured| match captured {
                Some(captured) => self.settle_locked(captured, &settling),
                None => Ok(()),
            });
        drop(settling);
        self.call_back();
        led
    }

    /// Carries out one sync. Returns the checkpoint that came with it, to be settled outside the
    /// turn so that the next sync need not wait for it. Whoever calls this calls back those whose
    /// batch is decided, when it holds no lock.
    fn lead(&self, turn: Turn<'_>, want: Option<Want>) -> Result<Option<Captured>> {
        if self.ended.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        let _alarm = self.alarm();
        turn.gather(self.options.gather);
        let _watched = self.watch.enter();
        let started = Moment::now();
        let mut writer = self.writer();
        let mut stock = self.capture(&mut writer, want);
        turn.took_stock(stock.sequence);
        let syncs = !stock.dirty.is_empty();
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
                (stock.sequence, stock.next) = (writer.sequence, writer.state.next);
            }
            // In memory everything that was written is durable, also since.
            if !self.options.volatile {
                self.bounds.durable.store(stock.next.min(writer.lowest), Ordering::Release);
            }
        }
        if stock.rolled
            && let Some(captured) = &stock.captured
        {
            self.view.write().footers_durable(captured.checkpoint.tail_number);
        }
        turn.finish(stock.sequence, took);
        self.signals.synced();
        Ok(stock.captured)
    }

    /// Hands over what is pending, while others go on behind it, syncs everything in stock, and
    /// writes the checkpoint that has to come with it.
    fn put_stock_on_media(&self, writer: WriterGuard<'_>, stock: &mut Stock) -> Result<()> {
        if planted(Bug::SyncBeforeHandOver) {
            drop(writer);
            self.put_on_media(stock)?;
            self.hand_over()?;
        } else {
            self.hand_over_from(writer, stock.witness.as_ref(), stock.through)?;
            if stock.through {
                // All of it is on the medium.
                stock.dirty.clear();
            }
            self.put_on_media(stock)?;
        }
        match stock.captured.as_mut() {
            Some(captured) if stock.rolled && !planted(Bug::NoCheckpointOnRoll) => {
                self.write_slots(captured)
            }
            _ => Ok(()),
        }
    }

    /// Takes stock of what was written and is not on its way to the medium yet.
    pub(crate) fn capture(&self, writer: &mut Writer, want: Option<Want>) -> Stock {
        writer.note_tail_dirty();
        writer.lowest = u64::MAX;
        let dirty = std::mem::take(&mut writer.dirty);
        let rolled = std::mem::take(&mut writer.begun) > 0;
        let (sequence, next) = (writer.sequence, writer.state.next);
        let captured =
            (rolled || want.is_some()).then(|| self.put_together(writer, want.unwrap_or_default()));
        let tail = &writer.tail;
        let through = self.options.writes_through()
            && matches!(dirty.as_slice(), [all] if all.name == tail.segment.name
                && all.range == tail.pending_range());
        let mut stock = Stock { sequence, next, dirty, rolled, captured, witness: None, through };
        self.call_witness(writer, &mut stock);
        stock
    }

    /// Adds a witness of what is durable so far to a sync without a checkpoint.
    fn call_witness(&self, writer: &mut Writer, stock: &mut Stock) {
        let Some(dirty) = stock.dirty.last_mut() else { return };
        let wanted = self.options.witness != Witness::None && !planted(Bug::NoWitness);
        if stock.captured.is_some() || self.options.volatile || !wanted {
            return;
        }
        let method = self.options.tail_sync_method();
        // Frames may come to stand behind these while the range of a `Dsync` is written again.
        let again = method == SyncMethod::Dsync && !stock.through;
        let apart = self.options.witness == Witness::Apart || again;
        let lag = self.lag(stock.sequence);
        let witness = writer.tail.testify(stock.sequence, lag, apart);
        let range = witness.range();
        if range.start >= dirty.range.end {
            dirty.range.end = range.end;
        } else if matches!(method, SyncMethod::Msync | SyncMethod::Dsync) {
            // These put on the medium what they are told to, and no more.
            let (file, name) = (Arc::clone(&dirty.file), dirty.name);
            stock.dirty.push(Dirty { file, name, range });
        }
        stock.witness = Some(witness);
    }

    /// A checkpoint of the log as it was written so far. From here on the tail is limited by what it
    /// will say, and until it is durable by what the one before says (INV-5).
    pub(crate) fn put_together(&self, writer: &mut Writer, want: Want) -> Captured {
        writer.captures += 1;
        writer.unstated = 0;
        writer.dead_files.extend(self.side_files.take_unused());
        let mut dead = std::mem::take(&mut writer.dead);
        dead.append(&mut writer.kept);
        let (runs, kept) = self.view.read().runs(&mut dead);
        writer.kept = kept;
        let state = &writer.state;
        let overlooked = planted(Bug::LazyValueNotInCheckpoint);
        let cells = if overlooked { state.cells.to_map() } else { writer.cells().to_map() };
        let step = self.options.checkpoint_bytes_in_force(self.segment_bytes);
        let position = writer.tail.position();
        let reach = position.saturating_add(want.bytes.max(step.saturating_mul(2)));
        let reach = reach.min(self.segment_bytes);
        if !planted(Bug::ReachLoweredLate) {
            writer.reach = writer.reach.min(reach);
        }
        let checkpoint = Checkpoint {
            uuid: *self.uuid.as_bytes(),
            generation: 0,
            sequence: writer.sequence,
            first: state.first,
            next: state.next,
            tail_number: writer.tail.segment.name.number,
            tail_generation: writer.tail.salt.generation(),
            tail_offset: position,
            reach,
            last_frame: writer.tail.last_frame(),
            segment_bytes: self.segment_bytes,
            clean: want.clean && !planted(Bug::NeverClean) || planted(Bug::AlwaysClean),
            creating: false,
            holes: state.holes,
            runs,
            cells,
        };
        Captured {
            number: writer.captures,
            lazy_version: writer.lazy.version,
            checkpoint,
            dead,
            dead_files: std::mem::take(&mut writer.dead_files),
            written: false,
        }
    }

    /// Syncs everything in stock.
    pub(crate) fn put_on_media(&self, stock: &Stock) -> Result<()> {
        let count = if planted(Bug::SyncNewestRangeOnly) { 1 } else { usize::MAX };
        let count = if planted(Bug::AcknowledgeBeforeSync) { 0 } else { count };
        let method = self.options.tail_sync_method();
        // One sync of a file covers all of it, unless the method goes by ranges.
        let by_range = matches!(method, SyncMethod::Msync | SyncMethod::Dsync);
        for (at, dirty) in stock.dirty.iter().enumerate().rev().take(count).rev() {
            let covered = stock.dirty.get(at + 1).is_some_and(|next| next.name == dirty.name);
            if covered && !by_range {
                continue;
            }
            // Makes the range durable. A crash before it loses batches that are not acknowledged yet.
            dirty.sync(&self.dir, method)?;
        }
        if stock.rolled && !planted(Bug::NoDirectorySyncOnRoll) {
            // Makes the names of new segments durable. A crash before it loses the whole file,
            // in which nothing is acknowledged yet.
            self.dir.sync()?;
        }
        Ok(())
    }

    /// Writes a checkpoint to both slots, unless a newer one is there already.
    pub(crate) fn write_slots(&self, captured: &mut Captured) -> Result<()> {
        let _watched = self.watch.enter();
        let mut metadata = self.metadata.lock();
        let _alarm = self.alarm();
        if metadata.capture < captured.number {
            metadata.file.write(&captured.checkpoint)?;
            metadata.capture = captured.number;
            metadata.sequence = captured.checkpoint.sequence;
            metadata.lazy_version = captured.lazy_version;
            self.counters.wrote_checkpoint();
        }
        captured.written = true;
        Ok(())
    }

    /// Writes a checkpoint if that was not done yet, and lets go of what it made superfluous.
    pub(crate) fn settle(&self, captured: Captured) -> Result<()> {
        let settling = self.settling.lock();
        if self.ended.load(Ordering::Acquire) {
            // The directory may be somebody else's by now. What is left in it goes with the next open.
            return Ok(());
        }
        self.settle_locked(captured, &settling)
    }

    fn settle_locked(&self, mut captured: Captured, _one: &MutexGuard<'_, ()>) -> Result<()> {
        let _alarm = self.alarm();
        if planted(Bug::ReclaimBeforeCheckpoint) {
            let dead = std::mem::take(&mut captured.dead);
            let dead_files = std::mem::take(&mut captured.dead_files);
            self.reclaim(dead, &dead_files);
        }
        if !captured.written {
            self.write_slots(&mut captured).map_err(|error| self.poisoned_by(error))?;
        }
        {
            let mut writer = self.writer();
            // Nothing that limits the tail came since: no other checkpoint, no refused batch.
            let newest = writer.captures == captured.number || planted(Bug::RefusalOvertaken);
            if newest && writer.tail.segment.name.number == captured.checkpoint.tail_number {
                writer.reach = captured.checkpoint.reach;
            }
            self.check_invariants_in_debug(&writer)?;
        }
        self.reclaim(captured.dead, &captured.dead_files);
        Ok(())
    }

    /// Recycles or removes files that no durable checkpoint and no frame after it refers to. One that
    /// cannot be removed stays, and is counted: the next open tries again.
    fn reclaim(&self, dead: Vec<Arc<Segment>>, dead_files: &[SideFileRef]) {
        for segment in dead {
            let name = segment.name.to_string();
            let wanted = self.spares.count() < self.options.spares + RECYCLED_SPARES;
            // A segment that a borrowed read still holds must keep its bytes: its name goes, its
            // map stays. What was there when the log was opened may be held by reads of the life
            // before, in this process.
            let known = segment.name.number > self.tail_at_open || planted(Bug::OldSegmentRecycled);
            let ready = segment.ready();
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
        if !stays.is_empty() && planted(Bug::JunkIsFatal) {
            self.poisoned_by(Error::Closed);
        }
        stays.is_empty()
    }
}
