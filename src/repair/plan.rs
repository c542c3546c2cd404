//! Planning a repair from what can still be read, and carrying the plan out.
//!
//! Owns: which segments are written anew, and what the checkpoint says then. Does not own: the
//! bytes (`rebuild`), the tail (`salvage`). The order of steps is in the module above.

use std::collections::BTreeMap;
use std::ops::Range;

use super::rebuild::{Ready, Rebuilt};
use super::salvage::Salvaged;
use super::{LOST_BATCHES, Loss, Obstacle, Plan, Step, Tally};
use crate::directory::Dir;
use crate::error::{Damage, Error, Result};
use crate::format::footer::TABLE_ENTRY_BYTES;
use crate::format::header::{REPLACES_UNKNOWN, SEGMENT_HEADER_BYTES};
use crate::format::names::METADATA;
use crate::format::number::to_u64;
use crate::format::slot::{CELLS_BYTES_MAX, METADATA_BYTES, cells_bytes};
use crate::format::{CellValue, Checkpoint, FileName, SegmentHeader, SegmentName, SideFileRef};
use crate::inspect::Progress;
use crate::inspect::scene::{Part, Scene, live_ranges};
use crate::inspect::survey::{Survey, joined, ranges, total};
use crate::inspect::verify::side_files;
use crate::recovery::table::{Decision, SegmentsFact};
use crate::segment::offsets::SPAN_MAX;
use crate::segment::tail::footer_space;

/// Bytes kept for the Hole frames of a segment that holds nothing else.
const HOLE_ROOM: u64 = 4096;

/// A plan with all that is needed to carry it out.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) plan: Plan,
    checkpoint: Checkpoint,
    /// Sealed segments to be written anew, and what is unreadable in each. They are read again then: a
    /// plan holds one at a time.
    rebuild: Vec<(Part, Vec<Range<u64>>)>,
    /// Segments to be written although there is nothing left of them.
    recreate: Vec<(SegmentName, u64)>,
    tail: Option<(Salvaged, SegmentHeader)>,
    /// Side files to be written.
    sides: Vec<SideFileRef>,
}

/// What a plan adds up.
#[derive(Debug, Default)]
struct Sums {
    lost: Vec<Range<u64>>,
    given_up: Vec<Range<u64>>,
    holes: u64,
}

impl Work {
    pub(super) fn of(dir: &Dir, scene: &Scene, progress: &mut dyn FnMut(Progress)) -> Result<Self> {
        scene.readable(dir)?;
        let mut work = Self {
            plan: Plan { obstacle: obstacle(dir, scene), ..Plan::default() },
            checkpoint: scene.checkpoint().cloned().unwrap_or_default(),
            rebuild: Vec::new(),
            recreate: Vec::new(),
            tail: None,
            sides: Vec::new(),
        };
        if work.plan.obstacle.is_some() || work.checkpoint.creating {
            return Ok(work);
        }
        work.find(dir, scene, progress)?;
        Ok(work)
    }

    fn find(&mut self, dir: &Dir, scene: &Scene, progress: &mut dyn FnMut(Progress)) -> Result<()> {
        let found = self.checkpoint.clone();
        let is_tail = |part: &&Part| part.name.number == found.tail_number && !part.is_gone();
        let Some(tail) = scene.parts.iter().rfind(is_tail).map(|part| part.name) else {
            return Ok(());
        };
        let salvaged = Salvaged::of(dir, scene, &found, tail)?;
        if let Err(reason) = salvaged.state.end_batch() {
            // A change of a cell is lost, and nobody knows which of the others it was about.
            let (path, offset) = (dir.join(&tail.to_string()), found.tail_offset);
            let error = Error::Damaged { path, offset, indexes: None, reason };
            self.plan.obstacle = Some(Obstacle::Tail(error));
            return Ok(());
        }
        self.side_files(dir, scene, &salvaged)?;
        let names: Vec<SegmentName> = scene.parts.iter().map(|part| part.name).collect();
        let live = live_ranges(&names, salvaged.state.first, salvaged.state.next);
        // All that is needed of the tail's bytes, before those of other segments are read.
        let tail_live = live.iter().find(|(name, _)| *name == tail).map(|(_, live)| live.clone());
        let tail_live = tail_live.filter(|live| live.end.saturating_sub(tail.base) <= SPAN_MAX);
        let tail_live = tail_live.unwrap_or(0..0);
        let tail_missing = salvaged.places.missing(&tail_live);
        let tail_holes = total(&salvaged.places.holes(&tail_live));
        let mut numbers = Vec::new();
        let mut sums = Sums::default();
        let total_bytes = found.segment_bytes.saturating_mul(to_u64(names.len()));
        let mut done = 0;
        for (part, (name, live)) in scene.parts.iter().zip(live) {
            let part = &Part { live: live.clone(), ..part.clone() };
            if part.is_gone() {
                numbers.extend(self.recreate(dir, &found, part)?);
                sums.holes += live.end - live.start;
                sums.lost.push(live);
                continue;
            }
            numbers.push(name.number);
            if live.end.saturating_sub(name.base) > SPAN_MAX {
                return Err(too_many(dir, SPAN_MAX, live.end - name.base));
            }
            if name == tail {
                sums.holes += total(&tail_missing) + tail_holes;
                if salvaged.needed {
                    self.replace_tail(dir, scene, name, &tail_missing);
                    sums.lost.extend(tail_missing.clone());
                }
            } else {
                self.sealed(dir, scene, &found, part, &mut sums)?;
            }
            done += found.segment_bytes;
            progress(Progress { done, total: total_bytes });
        }
        if !sums.lost.is_empty() {
            self.plan.losses.push(Loss::Entries(joined(sums.lost)));
        }
        if !sums.given_up.is_empty() {
            self.plan.losses.push(Loss::Replaceable(joined(sums.given_up)));
        }
        self.plan.losses.extend(salvaged.lost.clone().map(Loss::Batches));
        self.plan.losses.extend(salvaged.unknown.map(Loss::Unknown));
        self.conclude(&found, numbers, salvaged, sums.holes);
        Ok(())
    }

    /// Looks at the side files that the log will refer to.
    fn side_files(&mut self, dir: &Dir, scene: &Scene, salvaged: &Salvaged) -> Result<()> {
        for it in side_files(dir, scene, salvaged.state.cells.to_map(), &mut |_| ())? {
            let (file, cell, is_zeros) =
                (it.reference.file_name(), &it.cell, it.reference.is_zeros());
            if !is_zeros {
                self.plan.losses.push(Loss::SideFile { file: file.clone(), cell: cell.clone() });
            }
            // What cannot be made as it was, and is no hindrance, stays for whoever can read more of it.
            let wanted = it.is_refused() || is_zeros && matches!(it.error, Error::Damaged { .. });
            if wanted && !self.sides.contains(&it.reference) {
                self.plan.steps.push(Step::SideFile { file, cell: it.cell });
                self.sides.push(it.reference);
            }
        }
        Ok(())
    }

    /// Looks at a sealed segment, which may have to be written anew.
    fn sealed(
        &mut self,
        dir: &Dir,
        scene: &Scene,
        found: &Checkpoint,
        part: &Part,
        sums: &mut Sums,
    ) -> Result<()> {
        let survey = survey(dir, scene, found, part.name, &part.live)?;
        if let Err(error @ (Error::UnsupportedVersion { .. } | Error::UnsupportedFeature { .. })) =
            survey.header
        {
            return Err(error);
        }
        let (believed, given_up) = (part.believed(), part.given_up());
        let missing = survey.places.missing(&believed);
        sums.holes += total(&missing) + total(&survey.places.holes(&believed));
        sums.holes += given_up.end - given_up.start;
        // A segment whose roll was dropped has no footer that counts, and goes on as it is.
        let begun = part.name.number > found.tail_number;
        let wrong = survey.header.is_err()
            || survey.footer.is_err()
            || survey.has_wrong_length()
            || !missing.is_empty()
            || !given_up.is_empty();
        if wrong && !begun {
            sums.lost.extend(missing.clone());
            self.rebuild.push((part.clone(), missing.clone()));
            let mut marked = missing;
            if !given_up.is_empty() {
                sums.given_up.push(given_up.clone());
                marked.push(given_up);
            }
            let (segment, missing) = (part.name.to_string(), joined(marked));
            self.plan.steps.push(Step::Rebuild { segment, missing });
        }
        Ok(())
    }

    /// Segments of nothing but marks in the place of those that are not there: as few as their
    /// offset tables allow, spread over the numbers. Returns their numbers.
    fn recreate(&mut self, dir: &Dir, found: &Checkpoint, part: &Part) -> Result<Vec<u64>> {
        let count = part.live.end.saturating_sub(part.name.base);
        let room = found.segment_bytes - to_u64(SEGMENT_HEADER_BYTES) - HOLE_ROOM;
        let most = room.saturating_sub(footer_space(0)) / to_u64(TABLE_ENTRY_BYTES);
        let files = count.div_ceil(most.max(1)).max(1);
        let numbers = part.gone.end - part.gone.start;
        if files > numbers {
            return Err(too_many(dir, most.saturating_mul(numbers), count));
        }
        let each = count.div_ceil(files);
        let mut named = Vec::new();
        for nth in 0..files {
            let number = part.gone.start + nth * numbers / files;
            let base = part.name.base + nth * each;
            let end = part.live.end.min(base + each);
            let missing = base.max(part.live.start).min(end)..end;
            self.plan.steps.push(Step::Recreate { number, missing });
            self.recreate.push((SegmentName { number, base }, end));
            named.push(number);
        }
        Ok(named)
    }

    fn replace_tail(
        &mut self,
        dir: &Dir,
        scene: &Scene,
        tail: SegmentName,
        missing: &[Range<u64>],
    ) {
        let number = scene.observed.files.next_number();
        let segment = tail.to_string();
        self.plan.steps.push(Step::ReplaceTail { segment, number, missing: missing.to_vec() });
        self.checkpoint.tail_number = number;
        self.checkpoint.tail_generation = dir.door().random();
    }

    /// What the slots will say.
    fn conclude(
        &mut self,
        found: &Checkpoint,
        mut numbers: Vec<u64>,
        salvaged: Salvaged,
        holes: u64,
    ) {
        self.checkpoint.holes = holes;
        if salvaged.needed {
            // The new tail may have no earlier number in front of it that is not named.
            numbers.retain(|&number| number < found.tail_number);
            numbers.push(self.checkpoint.tail_number);
            let state = &salvaged.state;
            self.checkpoint.first = state.first;
            self.checkpoint.next = state.next;
            self.checkpoint.cells = state.cells.to_map();
            let unknown = salvaged.unknown.map(|first| first..first + 1);
            if let Some(lost) = salvaged.lost.clone().or(unknown) {
                mark_lost(&mut self.checkpoint.cells, &lost);
            }
            self.checkpoint.sequence = salvaged.sequence.max(salvaged.claimed);
            self.checkpoint.clean = true;
            let name =
                SegmentName { number: self.checkpoint.tail_number, base: salvaged.name.base };
            let generation = self.checkpoint.tail_generation;
            let header = header(found, name, generation, found.tail_generation);
            self.tail = Some((salvaged, header));
        } else {
            numbers.retain(|&number| number <= found.tail_number);
        }
        self.checkpoint.runs = runs(&numbers);
    }

    /// How many bytes of segments [`Self::keep`] copies and [`Self::carry_out`] writes.
    pub(super) fn bytes(&self, dir: &Dir, scene: &Scene) -> u64 {
        let kept: u64 = self.kept(dir, scene).map(|name| scene.length_of(name)).sum();
        let kept = self.kept_sides(scene).map(|(_, length)| length).fold(kept, u64::saturating_add);
        let written = self.recreate.len() + self.rebuild.len() + self.tail.iter().len();
        let sides = self.sides.iter().map(|file| file.length).fold(kept, u64::saturating_add);
        sides.saturating_add(self.checkpoint.segment_bytes.saturating_mul(to_u64(written)))
    }

    /// The segments of which a copy is kept: those that change, and, where one is not there, those that
    /// no slot names, which an open removes. One of them may be it.
    fn kept<'a>(
        &'a self,
        dir: &'a Dir,
        scene: &'a Scene,
    ) -> impl Iterator<Item = SegmentName> + 'a {
        let changed = self.rebuild.iter().map(|(part, _)| part.name);
        let tail = self.tail.iter().map(|(salvaged, _)| salvaged.name);
        let all = scene.observed.files.segments.values().flatten().map(|(name, _)| *name);
        let is_part = |name| scene.parts.iter().any(|part| part.name == name && !part.is_gone());
        let unnamed = all.filter(move |name| !self.recreate.is_empty() && !is_part(*name));
        let is_ours = |name: &SegmentName| {
            !matches!(dir.segment_header(&name.to_string()),
                Ok(Ok(header)) if header.uuid != self.checkpoint.uuid)
        };
        changed.chain(tail).chain(unnamed.filter(is_ours))
    }

    /// The side files of which a copy is kept, with their lengths.
    fn kept_sides<'a>(&'a self, scene: &'a Scene) -> impl Iterator<Item = (String, u64)> + 'a {
        let sides = &scene.observed.files.sides;
        self.sides.iter().filter_map(|file| Some((file.file_name(), *sides.get(&file.id)?)))
    }

    /// Copies every file that will change, and where a segment is missing those that no slot names. The
    /// copies and their names are durable on return.
    pub(super) fn keep(
        &self,
        dir: &Dir,
        scene: &Scene,
        kept: &Dir,
        tally: &mut Tally<'_>,
    ) -> Result<()> {
        let metadata = to_u64(METADATA_BYTES);
        dir.copy_to(kept, METADATA, metadata, &mut |_| ())?;
        let segments = self.kept(dir, scene).map(|name| (name.to_string(), scene.length_of(name)));
        for (name, length) in segments.chain(self.kept_sides(scene)) {
            dir.copy_to(kept, &name, length, &mut |bytes| tally.add(bytes))?;
        }
        // Makes the copies' names durable before anything changes.
        kept.sync()
    }

    /// Does what the plan says.
    pub(super) fn carry_out(
        self,
        dir: &Dir,
        mut scene: Scene,
        tally: &mut Tally<'_>,
    ) -> Result<()> {
        let found = scene.checkpoint().cloned().unwrap_or_default();
        let mut checkpoint = self.checkpoint;
        for file in &self.sides {
            // What is not as it was needs no space.
            let length = (file.length, file.is_zeros() && file.length > 0);
            dir.make(&file.file_name(), length, |_, _| Ok(()))?;
            tally.add(file.length);
        }
        if let Some((salvaged, header)) = &self.tail {
            let mut frames = salvaged.frames(dir)?;
            let mut rebuilt = Rebuilt::new(dir, *header)?;
            for index in header.base..checkpoint.next {
                match salvaged.places.of_entry(index) {
                    Some(offset) => {
                        let (found, payload) = frames.entry(offset, index)?;
                        rebuilt.entry(&found, payload)?;
                    }
                    None => rebuilt.hole(),
                }
            }
            let ready = rebuilt.tail()?;
            (checkpoint.tail_offset, checkpoint.reach) = (ready.end, ready.end);
            checkpoint.last_frame = ready.last_frame;
            ready.take_place(dir)?;
            tally.add(found.segment_bytes);
        }
        // Makes the new names durable before the slots rely on them.
        dir.sync()?;
        if let Some((metadata, _)) = &mut scene.observed.metadata {
            metadata.write(&checkpoint)?;
        }
        for (name, end) in &self.recreate {
            let mut rebuilt = Rebuilt::new(dir, header_anew(dir, &found, *name))?;
            (name.base..*end).for_each(|_| rebuilt.hole());
            rebuilt.seal(found.sequence + 1)?.take_place(dir)?;
            tally.add(found.segment_bytes);
        }
        for (part, missing) in &self.rebuild {
            let survey = survey(dir, &scene, &found, part.name, &part.live)?;
            // The slots count what was missing when it was planned.
            if let Some(error) = unsteady(dir, &survey, part, missing) {
                return Err(error);
            }
            rebuild(dir, &found, &survey, part)?.take_place(dir)?;
            tally.add(found.segment_bytes);
        }
        if let Some((salvaged, _)) = &self.tail {
            dir.remove(&salvaged.name.to_string())?;
        }
        // Makes the replacements durable. A crash before this may bring damaged files back, in a
        // log that says it is incomplete.
        dir.sync()
    }
}

/// Leaves the cell that tells of lost batches, if there is room for it.
fn mark_lost(cells: &mut BTreeMap<String, CellValue>, lost: &Range<u64>) {
    let value = [lost.start.to_le_bytes(), lost.end.to_le_bytes()].concat();
    let mut marked = cells.clone();
    marked.insert(LOST_BATCHES.to_owned(), CellValue::Inline(value.into()));
    if cells_bytes(&marked) <= CELLS_BYTES_MAX {
        *cells = marked;
    }
}

/// The checkpoint is sound, and is not of this log: no segments hold that many entries.
fn too_many(dir: &Dir, expected: u64, got: u64) -> Error {
    let reason = Damage::Field { field: "entries of a segment", expected, got };
    Error::Damaged { path: dir.join(METADATA), offset: 0, indexes: None, reason }
}

/// What is in the way of any repair.
fn obstacle(dir: &Dir, scene: &Scene) -> Option<Obstacle> {
    let refusal = || {
        let path = dir.path().to_path_buf();
        scene.refusal().cloned().unwrap_or(Error::Missing { path })
    };
    if let Some(error) = displaced(dir, scene) {
        return Some(Obstacle::NotAFile(error));
    }
    let mut gone = scene.parts.iter().filter(|part| part.is_gone()).map(|part| &part.gone);
    if let Some(numbers) = gone.clone().find_map(|numbers| {
        scene.observed.files.segments.range(numbers.clone()).next().map(|(number, _)| *number)
    }) {
        return Some(Obstacle::Ambiguous { number: numbers });
    }
    if scene.decision == Decision::RefuseOlder {
        return Some(Obstacle::Stale(refusal()));
    }
    let tail = scene.checkpoint().map_or(0, |found| found.tail_number);
    if gone.any(|numbers| numbers.contains(&tail)) {
        let (name, reason) = scene.observed.files.lack(tail);
        let path = dir.join(&name);
        let error = Error::Damaged { path, offset: 0, indexes: None, reason };
        return Some(Obstacle::Tail(error));
    }
    if scene.observed.seen.segments == SegmentsFact::OfAnother {
        return Some(Obstacle::OfAnother(refusal()));
    }
    let unreadable = scene.decision == Decision::RefuseMetadata;
    unreadable.then(|| Obstacle::Checkpoint(refusal()))
}

/// The error for something else that stands under the name of a file that the log needs. What a link
/// leads to may be that file, and a repair would put another one in its place.
fn displaced(dir: &Dir, scene: &Scene) -> Option<Error> {
    let state = scene.state();
    let refers = |name: &str| {
        let mut cells = state.iter().flat_map(|state| &state.cells);
        cells.any(
            |(_, value)| matches!(value, CellValue::SideFile(file) if file.file_name() == name),
        )
    };
    let mut displacing = scene.observed.files.displacing.iter();
    let (name, what) = displacing.find(|(name, _)| match FileName::classify(name) {
        FileName::Metadata => true,
        FileName::Segment(it) => scene.checkpoint().is_some_and(|found| found.names(it.number)),
        _ => refers(name),
    })?;
    let (path, reason) = (dir.join(name), Damage::NotAFile { what });
    Some(Error::Damaged { path, offset: 0, indexes: None, reason })
}

pub(super) fn survey(
    dir: &Dir,
    scene: &Scene,
    found: &Checkpoint,
    name: SegmentName,
    live: &Range<u64>,
) -> Result<Survey> {
    let (length, hints) = (scene.length_of(name), scene.hints(found, name, live));
    Survey::read(dir, name, length, &hints, &mut |_| ()).map(|(survey, _)| survey)
}

/// The error for a segment in which other entries are unreadable than when its repair was planned.
fn unsteady(dir: &Dir, survey: &Survey, part: &Part, planned: &[Range<u64>]) -> Option<Error> {
    let missing = survey.places.missing(&part.believed());
    let differs = missing
        .iter()
        .chain(planned)
        .find(|range| !(missing.contains(range) && planned.contains(range)))?;
    let (path, offset) = (dir.join(&survey.name.to_string()), survey.place_of(differs.start));
    let (indexes, reason) = (Some(differs.clone()), Damage::Unsteady);
    Some(Error::Damaged { path, offset, indexes, reason })
}

/// A sealed segment with what is readable of it.
fn rebuild(dir: &Dir, found: &Checkpoint, survey: &Survey, part: &Part) -> Result<Ready> {
    let mut rebuilt = Rebuilt::new(dir, header_of(dir, found, survey))?;
    let mut frames = survey.frames(dir)?;
    let mut sequence = found.sequence;
    for index in survey.name.base..part.live.end.max(survey.name.base) {
        let place = survey.places.of_entry(index).filter(|_| index < part.certain);
        match (place, &mut frames) {
            (Some(offset), Some(frames)) => {
                let (header, payload) = frames.entry(offset, index)?;
                sequence = header.sequence;
                rebuilt.entry(&header, payload)?;
            }
            _ => rebuilt.hole(),
        }
    }
    rebuilt.seal(survey.footer.map_or(sequence + 1, |footer| footer.next_sequence))
}

/// The header a segment had, or as much of it as is known, for a file with other frames. Its
/// generation is new: the next segment states the end of the frames of the old one.
fn header_of(dir: &Dir, found: &Checkpoint, survey: &Survey) -> SegmentHeader {
    let anew = header_anew(dir, found, survey.name);
    match &survey.header {
        Ok(header) => header.replaced(anew.generation),
        Err(_) => anew,
    }
}

pub(super) fn header_anew(dir: &Dir, found: &Checkpoint, name: SegmentName) -> SegmentHeader {
    header(found, name, dir.door().random(), REPLACES_UNKNOWN)
}

fn header(found: &Checkpoint, name: SegmentName, generation: u64, replaces: u64) -> SegmentHeader {
    SegmentHeader {
        uuid: found.uuid,
        number: name.number,
        base: name.base,
        generation,
        segment_bytes: found.segment_bytes,
        replaces,
        ..SegmentHeader::default()
    }
}

/// First and last number of each run.
pub(super) fn runs(numbers: &[u64]) -> Vec<(u64, u64)> {
    ranges(numbers.iter().copied()).into_iter().map(|range| (range.start, range.end - 1)).collect()
}
