//! The scene: what recovery would find, observed through a directory that cannot be changed.
//!
//! Owns: which segment holds which live entries, also where recovery refuses. Does not own: the
//! observation itself (`recovery`), which is the very one that an open makes.

use std::ops::Range;

use super::StateSeen;
use super::survey::Survey;
use crate::directory::Dir;
use crate::directory::identity::Uuid;
use crate::error::{Error, Result};
use crate::format::{Checkpoint, SegmentName};
use crate::options::SyncMethod;
use crate::recovery::observe::{Observed, observe};
use crate::recovery::replay::Replayed;
use crate::recovery::table::{Decision, decide};
use crate::segment::Segment;

/// What was observed, and what an open would make of it.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) observed: Observed,
    pub(crate) decision: Decision,
    /// The parts of the log in the order of their numbers, those that are not there included.
    pub(crate) parts: Vec<Part>,
    /// What an open does not look at, and the first read or roll after it will: damage in the
    /// durable part of the tail.
    pub(crate) latent: Option<Error>,
}

/// A segment of the log, or several that are not there.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// Number and base; of those that are not there the first number, and a base that stands in.
    pub(crate) name: SegmentName,
    /// The entries that count here.
    pub(crate) live: Range<u64>,
    /// From this entry on a missing segment may have replaced what the file holds.
    pub(crate) certain: u64,
    /// The numbers that are not there; empty if the file is.
    pub(crate) gone: Range<u64>,
}

/// What stands in for segments that are not there.
struct StandIn {
    /// Their numbers.
    gone: Range<u64>,
    /// The segment before, and the end of what is certain in it.
    certain: Option<(SegmentName, u64)>,
}

impl Part {
    /// Whether there is no file.
    pub(crate) fn is_gone(&self) -> bool {
        !self.gone.is_empty()
    }

    /// The live entries of which the file is to be believed.
    pub(crate) fn believed(&self) -> Range<u64> {
        self.live.start..self.live.end.min(self.certain).max(self.live.start)
    }

    /// The live entries that the file holds and that a missing segment may have replaced.
    pub(crate) fn given_up(&self) -> Range<u64> {
        self.believed().end..self.live.end
    }
}

impl Scene {
    /// Observes a directory; through a read-only one, nothing changes.
    pub(crate) fn of(dir: &Dir) -> Result<Self> {
        let mut observed = observe(dir, SyncMethod::Fdatasync)?;
        let latent = observed.look_at_durable_part(dir)?;
        let decision = decide(&observed.seen);
        let mut scene = Self { observed, decision, parts: Vec::new(), latent };
        scene.find_parts(dir)?;
        Ok(scene)
    }

    /// Refuses a directory without a log, and a log that this build cannot make sense of.
    pub(crate) fn readable(&self, dir: &Dir) -> Result<()> {
        match (self.decision, self.refusal()) {
            (Decision::NoLog, _) => Err(Error::Missing { path: dir.path().to_path_buf() }),
            (Decision::RefuseVersion, Some(error)) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// What an open would refuse the log for.
    pub(crate) fn refusal(&self) -> Option<&Error> {
        self.observed.refusal(self.decision)
    }

    /// What an open would go on with, if it would not refuse the log for more than its side files.
    pub(crate) fn opens(&self) -> Option<&Replayed> {
        let opens = matches!(
            self.decision,
            Decision::OpenClean
                | Decision::OpenRecovered
                | Decision::OpenTorn
                | Decision::RefuseSideFile
        );
        self.observed.replayed.as_ref().filter(|_| opens)
    }

    /// The newest readable checkpoint.
    pub(crate) fn checkpoint(&self) -> Option<&Checkpoint> {
        self.observed.metadata.as_ref().map(|(_, slots)| &slots.newest)
    }

    /// Bounds after recovery, or else those of the checkpoint.
    pub(crate) fn bounds(&self) -> Range<u64> {
        match (&self.observed.replayed, self.checkpoint()) {
            (Some(replayed), _) => replayed.state.first..replayed.state.next,
            (None, Some(found)) => found.first..found.next,
            (None, None) => 0..0,
        }
    }

    fn find_parts(&mut self, dir: &Dir) -> Result<()> {
        let Some(checkpoint) = self.checkpoint().filter(|found| !found.creating).cloned() else {
            return Ok(());
        };
        let (mut names, mut absent) = (Vec::new(), Vec::new());
        for &(first, last) in &checkpoint.runs {
            let mut expected = first;
            for (&number, files) in self.observed.files.segments.range(first..=last) {
                let &[(name, _)] = files.as_slice() else { continue };
                if expected < number {
                    absent.push(expected..number);
                }
                names.push(name);
                expected = number + 1;
            }
            if expected <= last {
                absent.push(expected..last + 1);
            }
        }
        if let Some(replayed) = &self.observed.replayed {
            names.extend(replayed.links.iter().skip(1).map(|link| link.name));
        }
        let bounds = self.bounds();
        let mut found = Vec::new();
        for gone in absent {
            found.push(self.stand_in(dir, &checkpoint, &mut names, gone, bounds.start)?);
        }
        for (name, live) in live_ranges(&names, bounds.start, bounds.end) {
            let mut part = Part { name, live, certain: u64::MAX, gone: 0..0 };
            for it in &found {
                if it.gone.start == name.number {
                    part.gone = it.gone.clone();
                }
                if let Some((before, end)) = it.certain.filter(|(before, _)| *before == name) {
                    part.certain = part.certain.min(end.max(before.base));
                }
            }
            self.parts.push(part);
        }
        Ok(())
    }

    /// Puts a name in the place of segments that are not there, and says by their numbers how
    /// far the segment before is certain. The header of the one after states the base of a single
    /// one. Else which entries they had is not known: a truncation may have led into them, and only
    /// the first entry before cannot have been replaced by it.
    fn stand_in(
        &self,
        dir: &Dir,
        checkpoint: &Checkpoint,
        names: &mut Vec<SegmentName>,
        gone: Range<u64>,
        first: u64,
    ) -> Result<StandIn> {
        let at = names.partition_point(|name| name.number < gone.start);
        let after = names.get(at).copied();
        let (mut base, mut certain) = (first, None);
        if let Some(before) = at.checked_sub(1).and_then(|at| names.get(at)).copied() {
            let stated = after.filter(|_| gone.end - gone.start == 1).and_then(|after| {
                stated_base(dir, checkpoint, after).filter(|&base| base >= before.base)
            });
            base = if let Some(base) = stated {
                base
            } else {
                // What it ever held, whatever the log expects of it now.
                let held = self.held(dir, checkpoint, before)?;
                let end = before.base.max(first).saturating_add(1);
                certain = Some((before, end));
                held.min(after.map_or(u64::MAX, |after| after.base)).max(end)
            };
        }
        names.insert(at, SegmentName { number: gone.start, base });
        Ok(StandIn { gone, certain })
    }

    /// Exclusive end of the entries that a segment file holds, whether they count or not.
    fn held(&self, dir: &Dir, checkpoint: &Checkpoint, name: SegmentName) -> Result<u64> {
        let hints = self.hints(checkpoint, name, &(name.base..name.base));
        let (survey, _) = Survey::read(dir, name, self.length_of(name), &hints, &mut |_| ())?;
        Ok(survey.places.end())
    }

    /// The segment that goes on.
    pub(crate) fn tail_name(&self) -> Option<SegmentName> {
        if let Some(link) = self.observed.replayed.as_ref().and_then(|all| all.links.last()) {
            return Some(link.name);
        }
        let number = self.checkpoint()?.tail_number;
        self.parts
            .iter()
            .find(|part| part.name.number == number && !part.is_gone())
            .map(|it| it.name)
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
            seen.cells = state.cells.to_map().into_iter().collect();
        }
        Some(seen)
    }
}

/// The base of the segment before, as the header of a segment states it.
fn stated_base(dir: &Dir, checkpoint: &Checkpoint, name: SegmentName) -> Option<u64> {
    let uuid = Uuid::from_bytes(checkpoint.uuid);
    let segment = Segment::sealed(dir, uuid, name, checkpoint.segment_bytes);
    let header = segment.read_header().ok()?;
    (header.previous_generation != 0).then_some(header.previous_base)
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
