//! Refilling: missing entries are put back, and once none is missing the log is whole.
//!
//! Owns: writing segments anew with what is given. Does not own: where it comes from (`from_peer`).
//! Only what is decided, or committed, is the same on every node.
//!
//! Steps, with the lock held on a log that was closed, for each segment with holes: (1) it is
//! written anew under a temporary name; what does not fit goes to further segments, whose numbers
//! were those of lost ones, or follow those of the tail, (2) new names are made durable, and both
//! slots name them: the commit point, (3) a sealed segment takes the place of the old one.
//! At the end both slots say how many holes are left. A crash leaves a log that counts more holes
//! than it has; the next refill counts again.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::plan::{header_anew, runs};
use super::rebuild::{Ready, Rebuilt};
use crate::directory::Dir;
use crate::error::{Error, Result};
use crate::format::frame::{Flags, frame_bytes};
use crate::format::{Checkpoint, SegmentHeader};
use crate::inspect::entries::{Looked, Lookup};
use crate::inspect::scene::{Part, Scene};
use crate::inspect::survey::{joined, total};
use crate::inspect::{Progress, os_door};
use crate::log::Log;
use crate::options::Options;
use crate::recovery::table::Decision;

/// What a refill did.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Refilled {
    /// Entries that were put back, and are durable.
    pub filled: u64,
    /// Which.
    pub put_back: Vec<Range<u64>>,
    /// Entries that are still missing.
    pub missing: Vec<Range<u64>>,
    /// Why it did not go on, if something was put back and then something failed. Refilling again
    /// goes on from there.
    pub stopped: Option<Error>,
}

/// The entries that are missing from the log in a directory. Changes nothing, takes no lock.
///
/// # Errors
/// As [`entries`](crate::inspect::entries()).
pub fn missing(path: impl AsRef<Path>) -> Result<Vec<Range<u64>>> {
    let path = path.as_ref();
    let mut lookup = Lookup::new(Dir::read_only(Arc::new(os_door(path)?), path))?;
    missing_in(&mut lookup)
}

/// The entries that are missing, by the segments that have some.
pub(super) fn missing_in(lookup: &mut Lookup) -> Result<Vec<Range<u64>>> {
    let mut missing = Vec::new();
    if lookup.scene.state().is_none_or(|state| state.holes == 0) {
        return Ok(missing);
    }
    for part in lookup.scene.parts.clone() {
        let mut index = part.live.start;
        while index < part.live.end {
            let looked = lookup.get(index)?;
            if !lookup.has_holes() {
                break;
            }
            index = match looked {
                Looked::Hole(range) => {
                    missing.push(range.clone());
                    range.end
                }
                Looked::Entry(..) => index + 1,
                Looked::Unreadable(range, _) => range.end,
                Looked::Trimmed(end) => end,
            }
            .max(index + 1);
        }
    }
    Ok(joined(missing))
}

/// Puts missing entries back into the log in a directory, which nobody may have open: `entry` is
/// asked for each, in ascending order but for a step back where a segment has to be written again,
/// and returns nothing for those it does not have. What is put back is durable on return. Once
/// nothing is missing, the log opens as any other.
///
/// The entries must be those that the log had, or that replaced them: take only what is decided,
/// or committed. [`refill_from`](super::refill_from) takes them from the log of a peer and checks
/// that it is one.
///
/// # Errors
/// [`Error::Damaged`] if the log has to be repaired first; [`Error::Locked`];
/// [`Error::TooLarge`] if the entries do not fit into the segments there can be;
/// whatever `entry` returns; [`Error::DiskFull`], [`Error::Io`]. If something was put back before,
/// the error is in [`Refilled::stopped`].
pub fn refill(
    path: impl AsRef<Path>,
    entry: &mut dyn FnMut(u64) -> Result<Option<Vec<u8>>>,
) -> Result<Refilled> {
    let path = path.as_ref();
    // An ordinary open and close, so that the checkpoint summarises everything.
    Log::open(path, &allowing())?.0.close()?;
    fill_all(&Dir::new(Arc::new(os_door(path)?), path), entry, &mut |_| ())
}

/// Puts missing entries back into a log through any I/O door.
///
/// # Errors
/// As [`refill`].
#[cfg(feature = "testing")]
pub fn refill_in(
    directory: Arc<dyn crate::io::Directory>,
    entry: &mut dyn FnMut(u64) -> Result<Option<Vec<u8>>>,
) -> Result<Refilled> {
    Log::open_in(Arc::clone(&directory), &allowing())?.0.close()?;
    fill_all(&Dir::new(directory, ""), entry, &mut |_| ())
}

pub(super) fn allowing() -> Options {
    Options::new().background(false).allow_holes(true)
}

/// Puts entries back, segment by segment. Progress counts missing entries.
pub(super) fn fill_all(
    dir: &Dir,
    entry: &mut dyn FnMut(u64) -> Result<Option<Vec<u8>>>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Refilled> {
    let _lock = dir.lock()?;
    let missing = || Error::Missing { path: dir.path().to_path_buf() };
    let mut scene = Scene::of(dir)?;
    let checkpoint = scene.checkpoint().cloned().ok_or_else(missing)?;
    if scene.decision != Decision::OpenClean {
        return Err(scene.refusal().cloned().unwrap_or_else(missing));
    }
    if let Some(error) = scene.latent.take() {
        return Err(error);
    }
    let mut lookup = Lookup::at(dir.clone(), scene)?;
    let wanted = missing_in(&mut lookup)?;
    let mut work = Refill {
        dir,
        numbers: lookup.scene.parts.iter().map(|part| part.name.number).collect(),
        taken: lookup.scene.observed.files.segments.keys().copied().collect(),
        checkpoint,
        put_back: Vec::new(),
        entry,
        progress,
        wanted: total(&wanted),
        asked: 0,
    };
    let mut stopped = None;
    for part in lookup.scene.parts.clone() {
        if !wanted.iter().any(|hole| hole.start < part.live.end && hole.end > part.live.start) {
            continue;
        }
        if let Err(error) = work.part(&mut lookup, &part) {
            if work.put_back.is_empty() {
                return Err(error);
            }
            stopped = Some(error);
            break;
        }
    }
    let put_back = joined(std::mem::take(&mut work.put_back));
    let missing = without(wanted, &put_back);
    work.checkpoint.holes = total(&missing);
    let checkpoint = work.checkpoint;
    let written = write_slots(&mut lookup.scene, &checkpoint);
    if stopped.is_none() {
        written?;
    }
    Ok(Refilled { filled: total(&put_back), put_back, missing, stopped })
}

/// The parts of some ranges that are not in others; both ascend.
fn without(ranges: Vec<Range<u64>>, taken: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut left = Vec::new();
    for range in ranges {
        let mut from = range.start;
        for taken in taken.iter().filter(|it| it.start < range.end && it.end > range.start) {
            if from < taken.start {
                left.push(from..taken.start);
            }
            from = from.max(taken.end);
        }
        if from < range.end {
            left.push(from..range.end);
        }
    }
    left
}

fn write_slots(scene: &mut Scene, checkpoint: &Checkpoint) -> Result<()> {
    match &mut scene.observed.metadata {
        Some((metadata, _)) => metadata.write(checkpoint),
        None => Ok(()),
    }
}

/// A refill under way.
struct Refill<'a> {
    dir: &'a Dir,
    /// The numbers that the slots name.
    numbers: BTreeSet<u64>,
    /// The numbers of all files, named or not.
    taken: BTreeSet<u64>,
    checkpoint: Checkpoint,
    put_back: Vec<Range<u64>>,
    entry: &'a mut dyn FnMut(u64) -> Result<Option<Vec<u8>>>,
    progress: &'a mut dyn FnMut(Progress),
    /// Missing entries, and how many of them were asked for.
    wanted: u64,
    asked: u64,
}

/// A segment written anew, and what went on in others.
struct Poured {
    files: Vec<Ready>,
    put_back: Vec<Range<u64>>,
}

impl Refill<'_> {
    /// Writes one segment anew; plainly, or, where that does not fit, compressed.
    fn part(&mut self, lookup: &mut Lookup, part: &Part) -> Result<()> {
        let is_tail = part.name.number == self.checkpoint.tail_number;
        let asked = self.asked;
        let poured = match self.pour(lookup, part, is_tail, false) {
            Err(Error::TooLarge { .. }) => {
                self.asked = asked;
                self.pour(lookup, part, is_tail, true)?
            }
            poured => poured?,
        };
        if poured.put_back.is_empty() {
            for file in &poured.files {
                file.discard(self.dir);
            }
            return Ok(());
        }
        self.take_places(&mut lookup.scene, part, is_tail, &poured)?;
        self.put_back.extend(poured.put_back);
        Ok(())
    }

    /// The header that a part goes on with.
    fn header(&self, lookup: &mut Lookup, part: &Part, is_tail: bool) -> SegmentHeader {
        let anew = header_anew(self.dir, &self.checkpoint, part.name);
        let last = self.taken.last().copied().unwrap_or(0);
        match lookup.header() {
            _ if is_tail => SegmentHeader { number: last + 1, ..anew },
            Some(header) => header.replaced(anew.generation),
            None => anew,
        }
    }

    /// Copies the entries of a segment, with those that are given in the place of holes.
    fn pour(
        &mut self,
        lookup: &mut Lookup,
        part: &Part,
        is_tail: bool,
        compress: bool,
    ) -> Result<Poured> {
        let mut poured = Poured { files: Vec::new(), put_back: Vec::new() };
        // Opens the reader, whose header is needed.
        lookup.get(part.live.start)?;
        let mut out = Rebuilt::new(self.dir, self.header(lookup, part, is_tail))?;
        let mut number = out.number();
        for index in part.name.base..part.live.end {
            let looked = if part.live.contains(&index) {
                lookup.get(index)?
            } else {
                lookup.get_dead(part, index)
            };
            let (payload, flags, found) = match looked {
                Looked::Entry(found, payload) => (Some(payload), 0, Some(found)),
                Looked::Hole(_) if part.live.contains(&index) => {
                    self.asked += 1;
                    (self.progress)(Progress { done: self.asked, total: self.wanted });
                    let payload = (self.entry)(index)?;
                    if payload.is_some() {
                        note(&mut poured.put_back, index);
                    }
                    let packed = payload.as_deref().filter(|_| compress);
                    match packed.and_then(crate::compress::compress) {
                        Some(packed) => (Some(packed), Flags::LZ4, None),
                        None => (payload, 0, None),
                    }
                }
                Looked::Unreadable(_, error) if part.live.contains(&index) => return Err(error),
                _ => (None, 0, None),
            };
            let fits = match &payload {
                Some(payload) => out.fits(1, frame_bytes(payload.len())),
                None => out.fits_hole(),
            };
            if !fits {
                number = self.number_after(number, is_tail, &out, payload.as_deref())?;
                let name = crate::format::SegmentName { number, base: index };
                let sequence = out.sequence();
                let header = header_anew(self.dir, &self.checkpoint, name);
                let next =
                    Rebuilt::new(self.dir, SegmentHeader { first_sequence: sequence, ..header })?;
                poured.files.push(std::mem::replace(&mut out, next).seal(sequence)?);
            }
            match (payload, found) {
                (Some(payload), Some(found)) => out.entry(&found, &payload)?,
                (Some(payload), None) => out.refill(&payload, flags)?,
                (None, _) => out.hole(),
            }
        }
        let next_sequence = lookup.next_sequence().unwrap_or(out.sequence() + 1);
        poured.files.push(if is_tail { out.tail()? } else { out.seal(next_sequence)? });
        Ok(poured)
    }

    /// A number for what does not fit: of a segment that was lost, or after the last.
    fn number_after(
        &self,
        number: u64,
        is_tail: bool,
        out: &Rebuilt,
        payload: Option<&[u8]>,
    ) -> Result<u64> {
        let next = number + 1;
        if is_tail || !self.numbers.contains(&next) && number < self.checkpoint.tail_number {
            return Ok(next);
        }
        let what = "length of a rebuilt segment";
        let limit = self.checkpoint.segment_bytes;
        let got = out.bytes_with(payload.map_or(0, <[u8]>::len));
        Err(Error::TooLarge { what, got: got.max(limit + 1), limit })
    }

    /// Puts the new files in the place of the old one.
    fn take_places(
        &mut self,
        scene: &mut Scene,
        part: &Part,
        is_tail: bool,
        poured: &Poured,
    ) -> Result<()> {
        let new = poured.files.iter().skip(usize::from(!is_tail));
        for file in new.clone() {
            file.take_place(self.dir)?;
            self.taken.insert(file.name.number);
            self.numbers.insert(file.name.number);
        }
        if is_tail || new.len() > 0 {
            // Makes the new names durable before the slots rely on them. A crash before it leaves
            // files that no checkpoint names.
            self.dir.sync()?;
            if let (true, Some(tail)) = (is_tail, poured.files.last()) {
                self.numbers.remove(&part.name.number);
                self.checkpoint.tail_number = tail.name.number;
                self.checkpoint.tail_generation = tail.generation;
                (self.checkpoint.tail_offset, self.checkpoint.reach) = (tail.end, tail.end);
                self.checkpoint.last_frame = tail.last_frame;
            }
            self.checkpoint.runs = runs(&self.numbers.iter().copied().collect::<Vec<_>>());
            write_slots(scene, &self.checkpoint)?;
        }
        match poured.files.first() {
            Some(sealed) if !is_tail => sealed.take_place(self.dir)?,
            _ => self.dir.remove(&part.name.to_string())?,
        }
        // Makes the replacement durable, so that what is reported as put back is there. A crash
        // before it may bring the segment with the holes back, which the slots still count.
        self.dir.sync()
    }
}

/// One more index at the end of ascending ranges.
fn note(ranges: &mut Vec<Range<u64>>, index: u64) {
    match ranges.last_mut() {
        Some(range) if range.end == index => range.end += 1,
        _ => ranges.push(index..index + 1),
    }
}
