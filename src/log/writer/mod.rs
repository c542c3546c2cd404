//! The writer: one batch at a time, from a plan to frames in the tail that readers see.
//!
//! Owns: the state of the log as it was written, its tail, what is not durable of it, and the lock
//! around these. Nobody outside of this folder sees a field of them. Does not own: durability
//! (`syncer`), what readers see (`reader`).
//!
//! In here: what a batch comes to (`plan`), its steps and effects (`write`), its frames (`frames`),
//! the way of one that a full disk leaves to the metadata file (`in_slots`), lazily set cells
//! (`lazy`), frames on their way from memory to the file (`hand_over`), and what a sync or a
//! checkpoint takes over (`stock`).

mod frames;
mod hand_over;
mod in_slots;
mod lazy;
mod plan;
mod stock;
mod write;

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};

use self::hand_over::OnTheirWay;
use self::plan::Touched;
pub(crate) use self::plan::entry_bytes_max;
pub(super) use self::stock::{NextCheckpoint, Stock, Want};
pub(crate) use self::write::Written;
use super::reader::Draft;
use super::shared::{Alarm, Shared};
use super::syncer::Unsynced;
use crate::format::frame::FrameHeader;
use crate::format::{SegmentName, SideFileRef};
use crate::lazy::LazyCells;
use crate::options::CELLS_BYTES_MAX;
use crate::segment::Segment;
use crate::segment::reach::Reach;
use crate::segment::tail::Tail;
use crate::state::State;

/// The writer's lock, and that of the frames on their way to the file.
#[derive(Debug)]
pub(crate) struct WriterLock {
    /// Locked through [`Shared::writer`].
    writer: Mutex<Writer>,
    /// Held while frames are on their way from memory to the file.
    handing_over: Mutex<OnTheirWay>,
    /// Counts the changes of lazily set cells.
    lazy_version: AtomicU64,
}

/// What only the one who appends may touch.
#[derive(Debug)]
pub(crate) struct Writer {
    state: State,
    lazy: LazyCells,
    tail: Tail,
    /// Sequence of the newest batch written.
    sequence: u64,
    /// How far the tail may grow before another checkpoint.
    reach: Reach,
    /// Nobody has looked yet at what was in the tail when the log was opened.
    unlooked: bool,
    /// What was written since the last sync took stock, oldest first.
    unsynced: Vec<Unsynced>,
    /// Start of the unsynced part of the tail.
    unsynced_from: Option<u64>,
    /// Segments that were begun since a sync last took stock: their names are not durable, and a
    /// checkpoint must name them before anything in them is acknowledged.
    begun: u64,
    /// Bytes of frames that were written since a checkpoint was last put together.
    unstated: u64,
    /// Lowest end that a truncation or reset led to since the last sync took stock.
    lowest: u64,
    /// Segments and side files that nothing refers to since a batch that may not be durable yet.
    dead: Vec<Arc<Segment>>,
    dead_files: Vec<SideFileRef>,
    /// Segments sealed by this process whose frames were durable then: their footers go with the next
    /// checkpoint that comes by itself.
    footers: Vec<SegmentName>,
    /// Dead segments that go on being named, because a checkpoint has no room for more gaps.
    kept: Vec<Arc<Segment>>,
    /// What readers are to see of the batch that is being written.
    draft: Draft,
    /// Space used again and again, for the cells that a batch changes.
    touched: Vec<Touched>,
}

/// The writer, locked. A panic while it is held poisons the log before anybody else gets it: what
/// it guards may be half changed.
#[derive(Debug)]
pub(crate) struct WriterGuard<'a> {
    // Dropped first.
    _alarm: Alarm<'a>,
    writer: MutexGuard<'a, Writer>,
}

impl Deref for WriterGuard<'_> {
    type Target = Writer;

    #[inline]
    fn deref(&self) -> &Writer {
        &self.writer
    }
}

impl DerefMut for WriterGuard<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Writer {
        &mut self.writer
    }
}

impl WriterLock {
    pub(super) fn new(writer: Writer) -> Self {
        let (handing_over, lazy_version) = (Mutex::default(), AtomicU64::new(0));
        Self { writer: Mutex::new(writer), handing_over, lazy_version }
    }

    /// Counts the changes of lazily set cells.
    pub(super) fn lazy_version(&self) -> u64 {
        self.lazy_version.load(Ordering::Acquire)
    }

    /// Runs with no frames on their way to the file.
    pub(super) fn with_nothing_on_its_way(&self, act: impl FnOnce()) {
        let mut on_their_way = self.handing_over.lock();
        // Frames are left here only if the log failed, and a failed log writes no more.
        on_their_way.taken = None;
        act();
    }

    /// A frame that waits in memory; nothing if none of this segment starts at this offset.
    pub(super) fn pending_frame(
        &self,
        segment: u64,
        offset: u64,
    ) -> Option<(FrameHeader, Vec<u8>)> {
        self.writer.lock().tail.pending_frame(segment, offset)
    }

    /// Looks at the writer, also in a log that is poisoned or closed.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Writer) -> T) -> T {
        look(&self.writer.lock())
    }
}

impl Shared {
    /// Locks the writer.
    #[inline]
    pub(crate) fn writer(&self) -> WriterGuard<'_> {
        let writer = self.writer.writer.lock();
        WriterGuard { _alarm: self.alarm(), writer }
    }
}

impl Writer {
    /// The writer of a log that is durable to its end; `kept` are dead segments that are named.
    pub(super) fn new(
        state: State,
        tail: Tail,
        sequence: u64,
        reach: u64,
        kept: Vec<Arc<Segment>>,
    ) -> Self {
        Self {
            state,
            lazy: LazyCells::default(),
            tail,
            sequence,
            reach: Reach::new(reach),
            unlooked: true,
            unsynced: Vec::new(),
            unsynced_from: None,
            begun: 0,
            unstated: 0,
            lowest: u64::MAX,
            dead: Vec::new(),
            dead_files: Vec::new(),
            footers: Vec::new(),
            kept,
            draft: Draft::default(),
            touched: Vec::new(),
        }
    }

    /// What the batches written so far come to.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// The segment that is being written.
    pub(crate) fn tail(&self) -> &Tail {
        &self.tail
    }

    /// Number of the newest batch.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Lowest end that a truncation or reset led to since the last sync took stock.
    pub(super) fn lowest(&self) -> u64 {
        self.lowest
    }

    /// What a look at the writer alone finds wrong.
    pub(super) fn broken_invariant(&self) -> Option<&'static str> {
        let position = self.tail.position();
        let broken = |holds: bool, what| (!holds).then_some(what);
        broken(self.reach.includes(position), "INV-5: a frame is past the reach of the checkpoint")
            .or_else(|| {
                let what = "INV-9: a frame is where the file has no space";
                broken(position <= self.tail.space.ready(), what)
            })
            .or_else(|| {
                let what = "the cells are larger than a slot has room for";
                broken(self.state.cells.bytes() <= CELLS_BYTES_MAX, what)
            })
    }

    #[cfg(test)]
    pub(crate) fn tail_mut(&mut self) -> &mut Tail {
        &mut self.tail
    }

    #[cfg(test)]
    pub(super) fn lower_reach(&mut self, reach: u64) {
        self.reach = Reach::new(reach);
    }

    /// Takes back footers that could not be made durable yet.
    pub(super) fn footers_wait(&mut self, footers: Vec<SegmentName>) {
        self.footers.splice(0..0, footers);
    }

    /// Moves the unsynced part of the tail to the list of unsynced ranges.
    fn note_unsynced_tail(&mut self) {
        let end = self.tail.unsynced_end();
        if let Some(from) = self.unsynced_from.take()
            && from < end
        {
            let (file, name) = (Arc::clone(&self.tail.file), self.tail.segment.name);
            self.unsynced.push(Unsynced { file, name, range: from..end });
        }
    }
}
