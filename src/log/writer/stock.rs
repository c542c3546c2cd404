//! Taking stock: what a sync puts on media, and what a checkpoint states.
//!
//! Owns: handing these out of the writer's state, with its lock held, so that others may write on.
//! Does not own: what becomes of them (`syncer`, `backup`).

use std::sync::Arc;

use super::Writer;
use crate::error::Result;
use crate::format::{Checkpoint, SegmentName, SideFileRef};
use crate::log::reader::Runs;
use crate::log::shared::Shared;
use crate::log::syncer::Unsynced;
use crate::options::{SyncMethod, Witness};
use crate::segment::Segment;
use crate::segment::witness::Testimony;

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
    pub(crate) sequence: u64,
    pub(crate) next: u64,
    pub(crate) unsynced: Vec<Unsynced>,
    pub(crate) rolled: bool,
    pub(crate) checkpoint: Option<NextCheckpoint>,
    /// Sealed segments of which nothing but the footer may be missing on the medium.
    pub(crate) footers: Vec<SegmentName>,
    /// Every footer before this segment is durable afterwards.
    pub(crate) footers_end: u64,
    /// What goes after the frames; a checkpoint says as much by itself.
    pub(crate) witness: Option<Testimony>,
    /// All of it waits in memory, and is written so that it is durable at once.
    pub(crate) through: bool,
}

/// A checkpoint, and what goes once it is durable.
#[derive(Debug)]
pub(crate) struct NextCheckpoint {
    pub(crate) number: u64,
    pub(crate) lazy_version: u64,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) dead: Vec<Arc<Segment>>,
    pub(crate) dead_files: Vec<SideFileRef>,
    /// It comes with the sync of a roll, and with nothing else: one slot is enough.
    pub(crate) for_roll: bool,
    /// It is in as many slots as it needs.
    pub(crate) in_slots: bool,
}

impl Stock {
    /// Gives back what the checkpoint in it would have let go: another one takes its place.
    pub(super) fn give_back(self, writer: &mut Writer) {
        if let Some(next) = self.checkpoint {
            writer.dead.extend(next.dead);
            writer.dead_files.extend(next.dead_files);
        }
    }
}

impl Shared {
    /// Takes stock of what was written and is not on its way to the medium yet.
    pub(crate) fn take_stock(&self, writer: &mut Writer, want: Option<Want>) -> Stock {
        writer.note_unsynced_tail();
        writer.lowest = u64::MAX;
        let unsynced = std::mem::take(&mut writer.unsynced);
        if let Some(newest) = unsynced.last() {
            writer.tail.space.is_synced_by(newest.range.end - newest.range.start);
        }
        let rolled = std::mem::take(&mut writer.begun) > 0;
        let (sequence, next) = (writer.sequence, writer.state.next);
        let footers = match want {
            Some(_) => std::mem::take(&mut writer.footers),
            None => Vec::new(),
        };
        let footers_end = writer.footers.first().unwrap_or(&writer.tail.segment.name).number;
        let mut checkpoint = (rolled || want.is_some())
            .then(|| self.next_checkpoint(writer, want.unwrap_or_default()));
        if let Some(next) = &mut checkpoint {
            next.for_roll = want.is_none();
        }
        let tail = &writer.tail;
        let through = self.options.writes_through()
            && matches!(unsynced.as_slice(), [all] if all.name == tail.segment.name
                && all.range == tail.pending_range());
        let witness = None;
        let mut stock = Stock {
            sequence,
            next,
            unsynced,
            rolled,
            checkpoint,
            footers,
            footers_end,
            witness,
            through,
        };
        self.call_witness(writer, &mut stock);
        stock
    }

    /// Adds a witness of what is durable so far to a sync without a checkpoint.
    fn call_witness(&self, writer: &mut Writer, stock: &mut Stock) {
        let Some(newest) = stock.unsynced.last_mut() else { return };
        let wanted = self.options.witness != Witness::None;
        if stock.checkpoint.is_some() || self.options.volatile || !wanted {
            return;
        }
        let method = self.options.tail_sync_method();
        // Frames may come to stand after these while the range of a `Dsync` is written again.
        let again = method == SyncMethod::Dsync && !stock.through;
        let apart = self.options.witness == Witness::Apart || again;
        let lag = self.lag(stock.sequence);
        let witness = writer.tail.testify(stock.sequence, lag, apart);
        let range = witness.range();
        if range.start >= newest.range.end {
            newest.range.end = range.end;
        } else if matches!(method, SyncMethod::Msync | SyncMethod::Dsync) {
            // These put on the medium what they are told to, and no more.
            let (file, name) = (Arc::clone(&newest.file), newest.name);
            stock.unsynced.push(Unsynced { file, name, range });
        }
        stock.witness = Some(witness);
    }

    /// A checkpoint of the log as it was written so far. From here on the tail is limited by what it
    /// will say, and until it is durable by what the one before says (INV-5).
    pub(super) fn next_checkpoint(&self, writer: &mut Writer, want: Want) -> NextCheckpoint {
        writer.unstated = 0;
        writer.dead_files.extend(self.side_files.take_unused());
        let mut dead = std::mem::take(&mut writer.dead);
        dead.append(&mut writer.kept);
        let (runs, kept) = self.reader.runs(&mut dead);
        writer.kept = kept;
        let step = self.options.checkpoint_bytes_in_force(self.segment_bytes);
        let position = writer.tail.position();
        let reach = position.saturating_add(want.bytes.max(step.saturating_mul(2)));
        let reach = reach.min(self.segment_bytes);
        let number = writer.reach.is_to_be(reach);
        NextCheckpoint {
            number,
            lazy_version: writer.lazy.version,
            checkpoint: self.checkpoint_of(writer, runs, reach, want.clean),
            dead,
            dead_files: std::mem::take(&mut writer.dead_files),
            for_roll: false,
            in_slots: false,
        }
    }

    /// The log as it was written so far, be it durable or not, for a copy of it, and its segments, the
    /// tail last: as long as they are held no file of theirs is used again.
    pub(crate) fn stock_for_a_copy(
        &self,
        writer: &mut Writer,
    ) -> Result<(Checkpoint, Vec<Arc<Segment>>)> {
        // On a failure frames are gone that others count on.
        self.flush(writer).map_err(|error| self.poisoned_by(error))?;
        // Named as a checkpoint would name them; with too many gaps that includes dead ones, whose
        // files are there.
        let mut dead = [writer.dead.as_slice(), &writer.kept].concat();
        let (runs, mut segments) = self.reader.runs(&mut dead);
        segments.extend(self.reader.segments());
        Ok((self.checkpoint_of(writer, runs, writer.tail.position(), true), segments))
    }

    /// What a checkpoint says that names these segments.
    fn checkpoint_of(&self, writer: &Writer, runs: Runs, reach: u64, clean: bool) -> Checkpoint {
        let state = &writer.state;
        Checkpoint {
            uuid: *self.uuid.as_bytes(),
            generation: 0,
            sequence: writer.sequence,
            first: state.first,
            next: state.next,
            tail_number: writer.tail.segment.name.number,
            tail_generation: writer.tail.salt.generation(),
            tail_offset: writer.tail.position(),
            reach,
            last_frame: writer.tail.last_frame(),
            segment_bytes: self.segment_bytes,
            clean,
            creating: false,
            holes: state.holes,
            runs,
            cells: writer.lazy.stated_over(&state.cells).to_map(),
        }
    }
}

impl Writer {
    /// A checkpoint is in both slots: the tail may grow as far as it says, unless something that limits
    /// the tail came since, another checkpoint or a refused batch.
    pub(crate) fn is_stated_by(&mut self, next: &NextCheckpoint) {
        if self.tail.segment.name.number == next.checkpoint.tail_number {
            self.reach.is_stated(next.number, next.checkpoint.reach);
        }
    }
}
