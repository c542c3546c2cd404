//! A write of the host, worked out before anything is written: what it leaves behind, and whether
//! that may be.
//!
//! Owns: the edge rules of docs/ADAPTERS.md, and the order plan, check, side files, batch, mirror. A
//! plan that is refused has touched nothing. Does not own: encoding values (`storage`).

use std::ops::Range;

use omnipaxos::ballot_leader_election::Ballot;

use super::encoding;
use super::error::{StorageError, Value};
use super::state::{self, State};
use crate::Batch;
use crate::Ticket;
use crate::error::Error;
use crate::options::CELL_VALUE_BYTES_MAX;
use crate::store::Store;

/// Largest buffers that are kept for the next write: bytes of encoded values, and changes.
pub(super) const SCRATCH_BYTES_KEPT: usize = 1024 * 1024;
const STEPS_KEPT: usize = 4096;

/// What a plan is made in.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    steps: Vec<Step>,
    scratch: Vec<u8>,
}

/// One change, with its bytes in the scratch buffer.
#[derive(Debug)]
enum Step {
    Append(Range<usize>),
    Truncate(u64),
    Trim(u64),
    Reset(u64),
    Set(&'static str, Range<usize>),
    Clear(&'static str),
}

/// What a written plan amounted to, for the statistics.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Effects {
    pub(super) snapshot_bytes: Option<u64>,
    pub(super) entries_trimmed: Option<u64>,
    pub(super) entries_truncated: u64,
    pub(super) reset: bool,
}

/// Changes in the host's order, applied to a copy of the state as they come.
#[derive(Debug)]
pub(super) struct Plan {
    state: State,
    first: u64,
    next: u64,
    /// Of the log: the largest entry, and the size of a segment.
    limits: (u64, u64),
    steps: Vec<Step>,
    scratch: Vec<u8>,
    /// Whether anything but the decided index changes, which alone need not be durable.
    binding: bool,
    effects: Effects,
}

impl Plan {
    /// An empty plan on the present state, in buffers to be used again.
    pub(super) fn new(state: State, log: &impl Store, buffers: Buffers) -> Self {
        let Buffers { mut steps, mut scratch } = buffers;
        steps.clear();
        scratch.clear();
        let (first, next) = (log.first(), log.next());
        let limits = (log.entry_bytes_max(), log.log().segment_bytes());
        let (binding, effects) = (false, Effects::default());
        Self { state, first, next, limits, steps, scratch, binding, effects }
    }

    /// Appends what `encode` writes as one entry; it is told the entry's index. Returns that, and how
    /// many bytes there were.
    pub(super) fn append(
        &mut self,
        encode: impl FnOnce(u64, &mut Vec<u8>) -> Result<(), StorageError>,
    ) -> Result<(u64, usize), StorageError> {
        let index = self.next;
        let bytes = self.encoded(|out| encode(index, out))?;
        let length = bytes.len();
        fits(Value::Entry(index), length, self.limits)?;
        self.step(Step::Append(bytes));
        self.next += 1;
        Ok((index, length))
    }

    /// Makes room for `count` entries that are to follow at index `from`.
    pub(super) fn prefix(&mut self, from: u64, count: usize) -> Result<(), StorageError> {
        let floor = self.first.max(self.state.compacted);
        if from < floor {
            return Err(Error::Trimmed { wanted: from, first: floor }.into());
        }
        if from > self.next {
            // Upstream asks for this with nothing to append where it has counted a stop sign.
            let gap = Error::NonContiguous { expected: self.next, got: from };
            return if count == 0 { Ok(()) } else { Err(gap.into()) };
        }
        if from < self.next {
            self.effects.entries_truncated += self.next - from;
            self.step(Step::Truncate(from));
            self.next = from;
        }
        Ok(())
    }

    pub(super) fn promise(&mut self, ballot: Ballot) {
        if self.state.promise != Some(ballot) {
            self.state.promise = Some(ballot);
            self.set(state::PROMISE, &encoding::ballot(&ballot));
        }
    }

    pub(super) fn accepted(&mut self, ballot: Ballot) {
        if self.state.accepted != Some(ballot) {
            self.state.accepted = Some(ballot);
            self.set(state::ACCEPTED, &encoding::ballot(&ballot));
        }
    }

    pub(super) fn decided(&mut self, index: u64) {
        if self.state.decided != index {
            self.state.decided = index;
            let binding = self.binding;
            self.set(state::DECIDED, &index.to_le_bytes());
            self.binding = binding;
        }
    }

    pub(super) fn compacted(&mut self, index: u64) {
        if self.state.compacted != index {
            self.state.compacted = index;
            self.set(state::COMPACTED, &index.to_le_bytes());
        }
    }

    /// Drops the entries before `to`. Past the end there is nothing left to keep: a snapshot is
    /// being installed, and the log goes on at `to`.
    pub(super) fn trim(&mut self, to: u64) {
        if to <= self.first {
            return;
        }
        let dropped = to.min(self.next) - self.first;
        *self.effects.entries_trimmed.get_or_insert(0) += dropped;
        if to > self.next {
            self.effects.reset = true;
            self.step(Step::Reset(to));
            self.next = to;
        } else {
            self.step(Step::Trim(to));
        }
        self.first = to;
    }

    /// Sets the stop sign to what `encode` writes.
    pub(super) fn stopsign(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let bytes = self.encoded(encode)?;
        self.state.stopsign = true;
        self.step(Step::Set(state::STOPSIGN, bytes));
        Ok(())
    }

    pub(super) fn no_stopsign(&mut self) {
        if self.state.stopsign {
            self.state.stopsign = false;
            self.step(Step::Clear(state::STOPSIGN));
        }
    }

    /// Sets the snapshot to what `encode` writes.
    pub(super) fn snapshot(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let bytes = self.encoded(encode)?;
        self.effects.snapshot_bytes = Some(bytes.len() as u64);
        self.state.snapshot = true;
        self.step(Step::Set(state::SNAPSHOT, bytes));
        Ok(())
    }

    pub(super) fn no_snapshot(&mut self) {
        if self.state.snapshot {
            self.state.snapshot = false;
            self.step(Step::Clear(state::SNAPSHOT));
        }
    }

    /// Forgets everything, as if the log had just been created.
    pub(super) fn start_over(&mut self) {
        for cell in [state::PROMISE, state::ACCEPTED, state::DECIDED, state::COMPACTED] {
            self.step(Step::Clear(cell));
        }
        self.step(Step::Clear(state::STOPSIGN));
        self.step(Step::Clear(state::SNAPSHOT));
        self.step(Step::Reset(0));
        self.state = State::default();
        (self.first, self.next) = (0, 0);
    }

    /// Marks the log as one that a migration is being written to, or as whole.
    pub(super) fn migrating(&mut self, under_way: bool) {
        if under_way {
            self.set(state::MIGRATING, &[]);
        } else {
            self.step(Step::Clear(state::MIGRATING));
        }
    }

    /// Checks what the plan leaves behind, then writes it as one batch. Only the decided index: it
    /// rides along with the next batch. Anything else: durable as the log's policy has it, or
    /// `later`, with the next barrier.
    pub(super) fn write(
        &self,
        log: &impl Store,
        later: bool,
    ) -> Result<Option<Written>, StorageError> {
        self.check()?;
        if self.steps.is_empty() {
            return Ok(None);
        }
        let binding = match self.steps.as_slice() {
            _ if !self.binding => {
                self.state.write_decided(log)?;
                None
            }
            _ if later => Some(log.submit(&self.batch(log)?)?),
            [Step::Append(entry)] => Some(log.append(self.bytes(entry))?),
            _ => Some(log.commit(&self.batch(log)?)?),
        };
        Ok(Some(Written { state: self.state, binding, effects: self.effects }))
    }

    /// The buffers, to be used again unless they have become large.
    pub(super) fn into_buffers(self) -> Buffers {
        let Self { steps, scratch, .. } = self;
        let large = scratch.capacity() > SCRATCH_BYTES_KEPT || steps.capacity() > STEPS_KEPT;
        if large { Buffers::default() } else { Buffers { steps, scratch } }
    }

    fn check(&self) -> Result<(), StorageError> {
        self.state.check(self.next)
    }

    fn batch(&self, log: &impl Store) -> Result<Batch<'_>, StorageError> {
        let mut batch = Batch::new();
        for step in &self.steps {
            match step {
                Step::Append(bytes) => batch.append(self.bytes(bytes)),
                Step::Truncate(to) => batch.truncate(*to),
                Step::Trim(to) => batch.trim(*to),
                Step::Reset(base) => batch.reset(*base),
                Step::Clear(cell) => batch.clear(*cell),
                Step::Set(cell, bytes) if bytes.len() <= CELL_VALUE_BYTES_MAX => {
                    batch.set(*cell, self.bytes(bytes))
                }
                Step::Set(cell, bytes) => {
                    // Durable and named before a frame refers to it. A crash before the batch is
                    // durable leaves an orphan, which the next open removes.
                    batch.attach(*cell, log.write_side_file(self.bytes(bytes))?)
                }
            };
        }
        Ok(batch)
    }

    fn set(&mut self, cell: &'static str, value: &[u8]) {
        let start = self.scratch.len();
        self.scratch.extend_from_slice(value);
        self.step(Step::Set(cell, start..self.scratch.len()));
    }

    fn step(&mut self, step: Step) {
        self.binding = true;
        self.steps.push(step);
    }

    fn encoded(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), StorageError>,
    ) -> Result<Range<usize>, StorageError> {
        let start = self.scratch.len();
        encode(&mut self.scratch)?;
        Ok(start..self.scratch.len())
    }

    fn bytes(&self, range: &Range<usize>) -> &[u8] {
        self.scratch.get(range.clone()).unwrap_or_default()
    }
}

/// Refuses an entry that no segment takes.
pub(super) fn fits(
    value: Value,
    bytes: usize,
    (limit, segment_bytes): (u64, u64),
) -> Result<(), StorageError> {
    match bytes as u64 {
        got if got > limit => Err(StorageError::EntryTooLarge { value, got, limit, segment_bytes }),
        _ => Ok(()),
    }
}

/// A plan that the log has taken.
#[derive(Debug)]
pub(super) struct Written {
    /// The state from now on.
    pub(super) state: State,
    /// What has to be durable before the host's messages leave, if anything.
    pub(super) binding: Option<Ticket>,
    pub(super) effects: Effects,
}
