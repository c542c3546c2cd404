//! Planning a repair from what can still be read, and carrying the plan out.
//!
//! Owns: which segments are written anew, and what the checkpoint says then. Does not own: the
//! bytes (`rebuild`), the tail (`salvage`). The order of steps is in the module above.

use std::collections::BTreeMap;
use std::ops::Range;

use super::rebuild::Rebuilt;
use super::salvage::Salvaged;
use super::{Loss, Obstacle, Plan, Step};
use crate::dir::Dir;
use crate::error::{Damage, Error, Result};
use crate::format::names::METADATA;
use crate::format::number::to_u64;
use crate::format::slot::METADATA_BYTES;
use crate::format::{Checkpoint, SegmentHeader, SegmentName};
use crate::inspect::scene::{Scene, live_ranges};
use crate::inspect::survey::{SPAN_MAX, Survey, joined, ranges, read_file, total};
use crate::recovery::table::{Decision, MetadataFact, TailFact};

/// A plan with all that is needed to carry it out.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) plan: Plan,
    checkpoint: Checkpoint,
    /// Sealed segments to be written anew, with the entries that count in them.
    rebuild: Vec<(SegmentName, Range<u64>)>,
    /// Segments to be written although there is nothing left of them.
    recreate: Vec<(SegmentName, Range<u64>)>,
    /// Segments in front of those, with the end of what is certain in them.
    certain: BTreeMap<SegmentName, u64>,
    tail: Option<(Salvaged, SegmentHeader)>,
}

impl Work {
    pub(super) fn of(dir: &Dir, scene: &Scene) -> Result<Self> {
        scene.readable(dir)?;
        let mut work = Self {
            plan: Plan { obstacle: obstacle(dir, scene), ..Plan::default() },
            checkpoint: scene.checkpoint().cloned().unwrap_or_default(),
            rebuild: Vec::new(),
            recreate: Vec::new(),
            certain: BTreeMap::new(),
            tail: None,
        };
        if work.plan.obstacle.is_some() || work.checkpoint.creating {
            return Ok(work);
        }
        work.find(dir, scene)?;
        Ok(work)
    }

    fn find(&mut self, dir: &Dir, scene: &Scene) -> Result<()> {
        let found = self.checkpoint.clone();
        let mut names = scene.live.iter().map(|(name, _)| *name);
        let Some(tail_name) = names.rfind(|name| name.number == found.tail_number) else {
            return Ok(());
        };
        let salvaged = Salvaged::of(dir, scene, &found, tail_name)?;
        let (first, next) = (salvaged.state.first, salvaged.state.next);
        let mut names: Vec<SegmentName> = scene.live.iter().map(|(name, _)| *name).collect();
        let gone = self.stand_in(dir, scene, &mut names, first)?;
        let live = live_ranges(&names, first, next);
        let mut lost: Vec<Range<u64>> = Vec::new();
        let mut holes = 0;
        for (name, live) in &live {
            if live.end.saturating_sub(name.base) > SPAN_MAX {
                // No segment holds that many: the checkpoint is sound, and is not of this log.
                let (expected, got) = (SPAN_MAX, live.end - name.base);
                let reason = Damage::Field { field: "entries of a segment", expected, got };
                let path = dir.join(METADATA);
                return Err(Error::Damaged { path, offset: 0, indexes: None, reason });
            }
            if gone.contains(name) {
                self.plan.steps.push(Step::Recreate { number: name.number, missing: live.clone() });
                self.recreate.push((*name, live.clone()));
                holes += live.end - live.start;
                lost.push(live.clone());
            } else if *name == tail_name {
                let missing = ranges(live.clone().filter(|&index| salvaged.entry(index).is_none()));
                holes += total(&missing) + salvaged.holes(live);
                if salvaged.needed {
                    self.replace_tail(dir, scene, &found, &missing);
                    lost.extend(missing);
                }
            } else if self.sealed(dir, scene, &found, *name, live, &mut lost, &mut holes)? {
                self.rebuild.push((*name, live.clone()));
            }
        }
        if !lost.is_empty() {
            self.plan.losses.push(Loss::Entries(joined(lost)));
        }
        self.plan.losses.extend(salvaged.lost.clone().map(Loss::Batches));
        self.conclude(&found, &names, salvaged, holes);
        Ok(())
    }

    /// Looks at a sealed segment; whether it has to be written anew.
    #[expect(clippy::too_many_arguments, reason = "one pass, three sums")]
    fn sealed(
        &mut self,
        dir: &Dir,
        scene: &Scene,
        found: &Checkpoint,
        name: SegmentName,
        live: &Range<u64>,
        lost: &mut Vec<Range<u64>>,
        holes: &mut u64,
    ) -> Result<bool> {
        let survey = survey(dir, scene, found, name, live)?;
        if let Err(error @ (Error::UnsupportedVersion { .. } | Error::UnsupportedFeature { .. })) =
            survey.header
        {
            return Err(error);
        }
        let certain = self.certain.get(&name).map_or(live.end, |&end| end.min(live.end));
        let mut missing = survey.missing(&(live.start..certain));
        if certain < live.end {
            missing.push(certain..live.end);
            missing = joined(missing);
        }
        *holes += total(&missing) + total(&survey.holes(&(live.start..certain)));
        // A segment whose roll was dropped has no footer that counts, and goes on as it is.
        let begun = name.number > found.tail_number;
        let wrong = survey.header.is_err() || survey.footer.is_err() || !missing.is_empty();
        if wrong && !begun {
            lost.extend(missing.clone());
            self.plan.steps.push(Step::Rebuild { segment: name.to_string(), missing });
        }
        Ok(wrong && !begun)
    }

    /// Puts a name in the place of segments that are not there. Which entries they had is not
    /// known: a truncation may have led into them. So only the first entry of the segment before is
    /// certain; the others may have been replaced, and are marked as missing where they stand.
    fn stand_in(
        &mut self,
        dir: &Dir,
        scene: &Scene,
        names: &mut Vec<SegmentName>,
        first: u64,
    ) -> Result<Vec<SegmentName>> {
        let found = self.checkpoint.clone();
        let mut gone = Vec::new();
        let mut previous = None;
        for &number in &scene.absent {
            let follows = previous.is_some_and(|before: u64| before + 1 == number);
            previous = Some(number);
            if follows {
                continue;
            }
            let at = names.partition_point(|name| name.number < number);
            let mut base = first;
            if let Some(before) = at.checked_sub(1).and_then(|at| names.get(at)).copied() {
                let certain = before.base.max(first) + 1;
                // What it ever held, whatever the log expects of it now.
                let held = survey(dir, scene, &found, before, &(before.base..before.base))?;
                let end = names.get(at).map_or(u64::MAX, |after| after.base);
                base = held.entries_end().min(end).max(certain);
                self.certain.insert(before, certain);
            }
            let name = SegmentName { number, base };
            names.insert(at, name);
            gone.push(name);
        }
        Ok(gone)
    }

    fn replace_tail(
        &mut self,
        dir: &Dir,
        scene: &Scene,
        found: &Checkpoint,
        missing: &[Range<u64>],
    ) {
        let number = scene.observed.files.segments.keys().max().map_or(1, |last| last + 1);
        let segment = scene
            .live
            .iter()
            .find(|(name, _)| name.number == found.tail_number)
            .map_or_else(String::new, |(name, _)| name.to_string());
        self.plan.steps.push(Step::ReplaceTail { segment, number, missing: missing.to_vec() });
        self.checkpoint.tail_number = number;
        self.checkpoint.tail_generation = dir.door().random();
    }

    /// What the slots will say.
    fn conclude(
        &mut self,
        found: &Checkpoint,
        names: &[SegmentName],
        salvaged: Salvaged,
        holes: u64,
    ) {
        let mut numbers: Vec<u64> = names.iter().map(|name| name.number).collect();
        self.checkpoint.holes = holes;
        if salvaged.needed {
            // The new tail may have no earlier number in front of it that is not named.
            numbers.retain(|&number| number < found.tail_number);
            numbers.push(self.checkpoint.tail_number);
            let state = &salvaged.state;
            self.checkpoint.first = state.first;
            self.checkpoint.next = state.next;
            self.checkpoint.cells = (*state.cells).clone();
            self.checkpoint.sequence = salvaged.sequence.max(salvaged.claimed);
            self.checkpoint.clean = true;
            let header = SegmentHeader {
                uuid: found.uuid,
                number: self.checkpoint.tail_number,
                base: salvaged.name.base,
                generation: self.checkpoint.tail_generation,
                first_sequence: 0,
                previous_generation: 0,
                previous_end: 0,
                segment_bytes: found.segment_bytes,
                features: 0,
            };
            self.tail = Some((salvaged, header));
        } else {
            numbers.retain(|&number| number <= found.tail_number);
        }
        self.checkpoint.runs = runs(&numbers);
    }

    /// Does what the plan says.
    pub(super) fn carry_out(mut self, dir: &Dir, mut scene: Scene, kept: &Dir) -> Result<Plan> {
        let found = scene.checkpoint().cloned().unwrap_or_default();
        self.keep(dir, &scene, kept)?;
        if let Some((salvaged, header)) = &self.tail {
            let mut rebuilt = Rebuilt::new(*header);
            for index in header.base..self.checkpoint.next {
                match salvaged.entry(index).filter(|(found, _)| is_entry(found, index)) {
                    Some((found, payload)) => rebuilt.entry(&found, payload),
                    None => rebuilt.hole(),
                }
            }
            let name = rebuilt.name();
            let (bytes, end) = rebuilt.tail()?;
            (self.checkpoint.tail_offset, self.checkpoint.reach) = (end, end);
            dir.put(&name.to_string(), &bytes)?;
        }
        // Makes the new names durable before the slots rely on them.
        dir.sync()?;
        if let Some((metadata, _)) = &mut scene.observed.metadata {
            metadata.write(self.checkpoint.clone())?;
        }
        for (name, live) in &self.recreate {
            let mut rebuilt = Rebuilt::new(header_anew(dir, &found, *name));
            (name.base..live.end).for_each(|_| rebuilt.hole());
            dir.put(&name.to_string(), &rebuilt.seal(found.sequence + 1)?)?;
        }
        for (name, live) in &self.rebuild {
            let survey = survey(dir, &scene, &found, *name, live)?;
            let certain = self.certain.get(name).copied().unwrap_or(u64::MAX);
            let bytes = rebuild(dir, &found, &survey, live, certain)?;
            dir.put(&name.to_string(), &bytes)?;
        }
        if let Some((salvaged, _)) = &self.tail {
            dir.remove(&salvaged.name.to_string())?;
        }
        // Makes the replacements durable. A crash before this may bring damaged files back, in a
        // log that says it is incomplete.
        dir.sync()?;
        Ok(self.plan)
    }

    /// Copies every file that will change.
    fn keep(&self, dir: &Dir, scene: &Scene, kept: &Dir) -> Result<()> {
        let metadata = to_u64(METADATA_BYTES);
        dir.copy_to(kept, METADATA, metadata, metadata)?;
        let tail = self.tail.iter().map(|(salvaged, _)| salvaged.name);
        for name in self.rebuild.iter().map(|(name, _)| *name).chain(tail) {
            let length = scene.length_of(name);
            dir.copy_to(kept, &name.to_string(), length, length)?;
        }
        // Makes the copies' names durable before anything changes.
        kept.sync()?;
        dir.sync()
    }
}

/// What is in the way of any repair.
fn obstacle(dir: &Dir, scene: &Scene) -> Option<Obstacle> {
    let refusal = || {
        let path = dir.path().to_path_buf();
        scene.observed.refusal.clone().unwrap_or(Error::Missing { path })
    };
    let facts = &scene.observed.facts;
    let files = &scene.observed.files.segments;
    if let Some(&number) = scene.absent.iter().find(|number| files.contains_key(number)) {
        return Some(Obstacle::Ambiguous { number });
    }
    let checkpoint = scene.checkpoint();
    let tail = checkpoint.map(|found| found.tail_number);
    if tail.is_some_and(|tail| scene.absent.contains(&tail)) {
        let path = dir.join(&format!("{:016x}-*.seg", tail.unwrap_or(0)));
        let reason = Damage::MissingFile;
        return Some(Obstacle::Tail(Error::Damaged { path, offset: 0, indexes: None, reason }));
    }
    match scene.decision {
        Decision::RefuseMetadata => Some(Obstacle::Checkpoint(refusal())),
        Decision::RefuseSideFile => Some(Obstacle::SideFile(refusal())),
        Decision::RefuseTail
            if facts.metadata == MetadataFact::Clean
                && matches!(facts.tail, TailFact::Torn | TailFact::Acknowledged) =>
        {
            Some(Obstacle::Stale(refusal()))
        }
        _ => None,
    }
}

pub(super) fn survey(
    dir: &Dir,
    scene: &Scene,
    found: &Checkpoint,
    name: SegmentName,
    live: &Range<u64>,
) -> Result<Survey> {
    let length = scene.length_of(name);
    let file = read_file(dir, &name.to_string(), length, &mut |_| ())?;
    Ok(Survey::of(dir, name, file, &scene.hints(found, name, live)))
}

/// A sealed segment with what is readable of it.
fn rebuild(
    dir: &Dir,
    found: &Checkpoint,
    survey: &Survey,
    live: &Range<u64>,
    certain: u64,
) -> Result<Vec<u8>> {
    let mut rebuilt = Rebuilt::new(header_of(dir, found, survey));
    let mut sequence = found.sequence;
    for index in survey.name.base..live.end.max(survey.name.base) {
        match survey.frame(index).filter(|(_, header, _)| is_entry(header, index)) {
            Some((_, header, payload)) if index < certain => {
                sequence = header.sequence;
                rebuilt.entry(&header, payload);
            }
            _ => rebuilt.hole(),
        }
    }
    rebuilt.seal(survey.footer.map_or(sequence + 1, |footer| footer.next_sequence))
}

pub(super) fn is_entry(header: &crate::format::FrameHeader, index: u64) -> bool {
    header.kind == crate::format::Kind::Entry && header.index == index
}

/// The header a segment had, or as much of it as is known, for a file with other frames. Its
/// generation is new: the next segment states the end of the frames of the old one.
pub(super) fn header_of(dir: &Dir, found: &Checkpoint, survey: &Survey) -> SegmentHeader {
    let anew = header_anew(dir, found, survey.name);
    match &survey.header {
        Ok(header) => SegmentHeader { generation: anew.generation, ..*header },
        Err(_) => anew,
    }
}

fn header_anew(dir: &Dir, found: &Checkpoint, name: SegmentName) -> SegmentHeader {
    SegmentHeader {
        uuid: found.uuid,
        number: name.number,
        base: name.base,
        generation: dir.door().random(),
        first_sequence: 0,
        previous_generation: 0,
        previous_end: 0,
        segment_bytes: found.segment_bytes,
        features: 0,
    }
}

/// First and last number of each run.
pub(super) fn runs(numbers: &[u64]) -> Vec<(u64, u64)> {
    ranges(numbers.iter().copied()).into_iter().map(|range| (range.start, range.end - 1)).collect()
}
