//! The scene: what recovery would find, observed through a directory that cannot be changed.
//!
//! Owns: which segment holds which live entries, also where recovery refuses. Does not own: the
//! observation itself (`recovery`), which is the very one that an open makes.

use std::ops::Range;

use super::{SegmentSeen, StateSeen};
use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::format::footer::{FOOTER_BYTES, table_bytes, table_offset};
use crate::format::frame::Salt;
use crate::format::header::SEGMENT_HEADER_BYTES;
use crate::format::number::{to_u64, to_usize};
use crate::format::{Checkpoint, Footer, SegmentHeader, SegmentName};
use crate::identity::Uuid;
use crate::io::Access;
use crate::options::{SEGMENT_BYTES_MAX, SEGMENTS_MAX, SyncMethod};
use crate::recovery::observe::{Observed, observe};
use crate::recovery::table::{Decision, decide};
use crate::segment::{FRAMES_START, OFFSET_UNIT};

/// What was observed, and what an open would make of it.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) observed: Observed,
    pub(crate) decision: Decision,
    /// The segments that are part of the log and exist, with the entries that count in each.
    pub(crate) live: Vec<(SegmentName, Range<u64>)>,
    /// Segment numbers that the checkpoint names and that are not there.
    pub(crate) absent: Vec<u64>,
}

impl Scene {
    /// Observes a directory; through a read-only one, nothing changes.
    pub(crate) fn of(dir: &Dir) -> Result<Self> {
        let mut observed = observe(dir, SyncMethod::Fdatasync)?;
        observed.look_at_durable_part(dir)?;
        let decision = decide(observed.facts);
        let mut scene = Self { observed, decision, live: Vec::new(), absent: Vec::new() };
        scene.find_live();
        Ok(scene)
    }

    /// Refuses a directory without a log, and a log that this build cannot make sense of.
    pub(crate) fn readable(&self, dir: &Dir) -> Result<()> {
        match (self.decision, &self.observed.refusal) {
            (Decision::NoLog, _) => Err(Error::Missing { path: dir.path().to_path_buf() }),
            (Decision::RefuseVersion, Some(error)) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// The newest readable checkpoint.
    pub(crate) fn checkpoint(&self) -> Option<&Checkpoint> {
        self.observed.metadata.as_ref().map(|(_, slots)| &slots.newest)
    }

    fn find_live(&mut self) {
        let Some(checkpoint) = self.checkpoint().cloned() else { return };
        if checkpoint.creating {
            return;
        }
        let mut names = Vec::new();
        let most = to_usize(SEGMENTS_MAX);
        for number in checkpoint.runs.iter().flat_map(|(first, last)| *first..=*last).take(most) {
            match self.observed.files.segments.get(&number).map(Vec::as_slice) {
                Some([(name, _)]) => names.push(*name),
                _ => self.absent.push(number),
            }
        }
        let (mut first, mut next) = (checkpoint.first, checkpoint.next);
        if let Some(replayed) = &self.observed.replayed {
            names.extend(replayed.links.iter().skip(1).map(|link| link.name));
            (first, next) = (replayed.state.first, replayed.state.next);
        }
        self.live = live_ranges(&names, first, next);
    }

    /// The segment that goes on.
    pub(crate) fn tail_name(&self) -> Option<SegmentName> {
        if let Some(link) = self.observed.replayed.as_ref().and_then(|all| all.links.last()) {
            return Some(link.name);
        }
        let number = self.checkpoint()?.tail_number;
        self.live.iter().map(|(name, _)| *name).find(|name| name.number == number)
    }

    /// Bounds and cells after recovery, or else those of the checkpoint.
    pub(crate) fn state(&self) -> Option<StateSeen> {
        let found = self.checkpoint()?;
        let mut seen = StateSeen {
            uuid: Uuid::from_bytes(found.uuid),
            first: found.first,
            next: found.next,
            holes: found.holes,
            sequence: found.sequence,
            segment_bytes: found.segment_bytes,
            cells: found.cells.clone().into_iter().collect(),
        };
        if let Some(replayed) = &self.observed.replayed {
            let state = &replayed.state;
            (seen.first, seen.next, seen.holes) = (state.first, state.next, state.holes);
            seen.sequence = replayed.sequence;
            seen.cells = (*state.cells).clone().into_iter().collect();
        }
        Some(seen)
    }

    /// The shares of the tail, whose offsets the replay knows.
    pub(super) fn fill_tail(&self, segment: &mut SegmentSeen) {
        let Some(link) = self.observed.replayed.as_ref().and_then(|all| all.links.last()) else {
            let end = self.checkpoint().map_or(FRAMES_START, |found| found.tail_offset);
            segment.share(end, None, None);
            return;
        };
        let offset = |index: u64| {
            let nth = to_usize(index.checked_sub(segment.base)?);
            let unit = link.offsets.units.get(nth..nth + 1)?.first()?;
            Some(u64::from(*unit) * OFFSET_UNIT)
        };
        let (first, behind) = (offset(segment.live.start), offset(segment.live.end));
        segment.holes = link.offsets.holes;
        segment.share(link.end, first, behind);
    }
}

/// The entries that count in each segment: from its base to the lowest base of a later one.
pub(crate) fn live_ranges(
    names: &[SegmentName],
    first: u64,
    next: u64,
) -> Vec<(SegmentName, Range<u64>)> {
    let mut end = next;
    let mut live: Vec<_> = names
        .iter()
        .rev()
        .map(|name| {
            let from = name.base.max(first).min(end);
            let range = from..end.max(from);
            end = end.min(name.base);
            (*name, range)
        })
        .collect();
    live.reverse();
    live
}

/// The shares of a sealed segment, from its header, footer and offset table.
pub(super) fn fill_sealed(dir: &Dir, segment: &mut SegmentSeen) -> Result<()> {
    let bytes = segment.bytes;
    if bytes < to_u64(SEGMENT_HEADER_BYTES + FOOTER_BYTES) || bytes > SEGMENT_BYTES_MAX {
        return Ok(());
    }
    let file = dir.open(&segment.name, Access::Read)?;
    let path = || dir.join(&segment.name);
    let read = |offset, buffer: &mut [u8]| {
        file.read_at(offset, buffer).map_err(|source| Error::io("read", path(), source))
    };
    let mut block = vec![0; SEGMENT_HEADER_BYTES];
    read(0, &mut block)?;
    let header = match SegmentHeader::decode(&block) {
        Ok(header) => header,
        Err(error) => {
            segment.header = Some(error);
            return Ok(());
        }
    };
    let salt = Salt::new(header.generation);
    let mut block = vec![0; FOOTER_BYTES];
    read(bytes - to_u64(FOOTER_BYTES), &mut block)?;
    let footer = match Footer::decode(&block, &salt, bytes) {
        Ok(footer) => footer,
        Err(error) => {
            segment.footer = Some(error);
            return Ok(());
        }
    };
    let mut table = vec![0; table_bytes(footer.count)];
    read(footer.table_start(bytes), &mut table)?;
    if let Err(error) = footer.verify_table(&table) {
        segment.footer = Some(error);
        segment.share(footer.data_end, None, None);
        return Ok(());
    }
    let offset = |index: u64| {
        let nth = to_usize(index.checked_sub(segment.base)?);
        table_offset(&table, nth)
    };
    let (first, behind) = (offset(segment.live.start), offset(segment.live.end));
    segment.holes = footer.flags & crate::format::footer::FOOTER_HOLES != 0;
    segment.share(footer.data_end, first, behind);
    Ok(())
}
