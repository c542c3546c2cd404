//! Refilling: missing entries are put back, and once none is missing the log is whole.
//!
//! Owns: writing segments anew with what is given. Does not own: whether the entries are the right
//! ones. Only what is decided, or committed, is the same on every node.
//!
//! Steps, with the lock held on a log that was closed: (1) a tail with holes is written anew under a
//! number of its own, and both slots name it, (2) sealed segments with holes are written anew and
//! replace the old ones, (3) both slots, with the holes that are left. A crash between them leaves
//! a log that counts more holes than it has; the next refill counts again.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::plan::{header_of, is_entry, runs, survey};
use super::rebuild::Rebuilt;
use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::format::{Checkpoint, Kind, SegmentHeader, SegmentName};
use crate::inspect::scene::Scene;
use crate::inspect::survey::{Survey, joined, ranges, total};
use crate::inspect::{os_door, verify};
use crate::io::Directory;
use crate::log::Log;
use crate::options::Options;
use crate::recovery::table::Decision;

/// What a refill did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refilled {
    /// Entries that were put back.
    pub filled: u64,
    /// Entries that are still missing.
    pub missing: Vec<Range<u64>>,
}

/// The entries that are missing from the log in a directory. Changes nothing.
///
/// # Errors
/// As [`verify`](crate::inspect::verify()).
pub fn missing(path: impl AsRef<Path>) -> Result<Vec<Range<u64>>> {
    Ok(joined(verify(path, &mut |_| ())?.holes))
}

/// Puts missing entries back into the log in a directory, which nobody may have open: `entry` is
/// asked for each, and answers nothing for those it does not have. What is put back is durable on
/// return. Once nothing is missing, the log opens as any other.
///
/// The entries must be those that the log had, or that replaced them: take only what is decided,
/// or committed.
///
/// # Errors
/// [`Error::Damaged`] if the log has to be repaired first; [`Error::Locked`];
/// [`Error::TooLarge`] if the entries of a segment do not fit into it any more; whatever `entry`
/// answers; [`Error::DiskFull`], [`Error::Io`].
pub fn refill(
    path: impl AsRef<Path>,
    entry: &mut dyn FnMut(u64) -> Result<Option<Vec<u8>>>,
) -> Result<Refilled> {
    let path = path.as_ref();
    // An ordinary open and close, so that the checkpoint summarises everything.
    Log::open(path, &allowing())?.0.close()?;
    fill_all(&Dir::new(Arc::new(os_door(path)?), path), entry)
}

/// Puts missing entries back into a log behind any I/O door.
///
/// # Errors
/// As [`refill`].
pub fn refill_in(
    directory: Arc<dyn Directory>,
    entry: &mut dyn FnMut(u64) -> Result<Option<Vec<u8>>>,
) -> Result<Refilled> {
    Log::open_in(Arc::clone(&directory), &allowing())?.0.close()?;
    fill_all(&Dir::new(directory, ""), entry)
}

fn allowing() -> Options {
    Options::new().background(false).allow_holes(true)
}

fn fill_all(dir: &Dir, entry: &mut dyn FnMut(u64) -> Result<Option<Vec<u8>>>) -> Result<Refilled> {
    let _lock = dir.lock()?;
    let mut scene = Scene::of(dir)?;
    let missing = || Error::Missing { path: dir.path().to_path_buf() };
    let mut checkpoint = scene.checkpoint().cloned().ok_or_else(missing)?;
    if scene.decision != Decision::OpenClean {
        return Err(scene.observed.refusal.take().unwrap_or_else(missing));
    }
    let mut refilled = Refilled { filled: 0, missing: Vec::new() };
    for (name, live) in scene.live.clone() {
        let survey = survey(dir, &scene, &checkpoint, name, &live)?;
        let holes = survey.holes(&live);
        if holes.is_empty() {
            continue;
        }
        let before = refilled.filled;
        let is_tail = name.number == checkpoint.tail_number;
        let mut header = header_of(dir, &checkpoint, &survey);
        if is_tail {
            header.number = scene.observed.files.segments.keys().max().map_or(1, |last| last + 1);
            header.generation = dir.door().random();
            (header.previous_generation, header.previous_end) = (0, 0);
        }
        let rebuilt = fill(dir, header, &survey, &live, entry, &mut refilled)?;
        if refilled.filled == before {
            continue;
        }
        if is_tail {
            replace_tail(dir, &mut scene, &mut checkpoint, name, header, rebuilt)?;
        } else {
            let next_sequence = survey.footer.map_or(checkpoint.sequence, |it| it.next_sequence);
            dir.put(&name.to_string(), &rebuilt.seal(next_sequence)?)?;
        }
    }
    // Makes the replacements durable before the slots say that they are there.
    dir.sync()?;
    checkpoint.holes = total(&refilled.missing);
    if let Some((metadata, _)) = &mut scene.observed.metadata {
        metadata.write(checkpoint)?;
    }
    refilled.missing = joined(refilled.missing);
    Ok(refilled)
}

/// The entries of a segment, those that are given in the place of holes.
fn fill(
    dir: &Dir,
    header: SegmentHeader,
    survey: &Survey,
    live: &Range<u64>,
    entry: &mut dyn FnMut(u64) -> Result<Option<Vec<u8>>>,
    refilled: &mut Refilled,
) -> Result<Rebuilt> {
    let mut rebuilt = Rebuilt::new(header);
    let mut missing = Vec::new();
    for index in survey.name.base..live.end.max(survey.name.base) {
        match survey.frame(index) {
            Some((_, header, payload)) if is_entry(&header, index) => {
                rebuilt.entry(&header, payload);
            }
            Some((_, header, _)) if header.kind == Kind::Hole && live.contains(&index) => {
                if let Some(payload) = entry(index)? {
                    rebuilt.refill(&payload);
                    refilled.filled += 1;
                } else {
                    rebuilt.hole();
                    missing.push(index);
                }
            }
            Some(_) => rebuilt.hole(),
            None if !live.contains(&index) => rebuilt.hole(),
            None => {
                let offset = survey.place_of(index, header.segment_bytes);
                let reason = survey.reason_at(offset);
                let (path, indexes) = (dir.join(&survey.name.to_string()), Some(index..index + 1));
                return Err(Error::Damaged { path, offset, indexes, reason });
            }
        }
    }
    refilled.missing.extend(ranges(missing.into_iter()));
    Ok(rebuilt)
}

/// The tail goes on under another number, so that the slots name either the old or the new one.
fn replace_tail(
    dir: &Dir,
    scene: &mut Scene,
    checkpoint: &mut Checkpoint,
    old: SegmentName,
    header: SegmentHeader,
    rebuilt: Rebuilt,
) -> Result<()> {
    let name = rebuilt.name();
    let (bytes, end) = rebuilt.tail()?;
    dir.put(&name.to_string(), &bytes)?;
    // Makes the name durable before the slots rely on it.
    dir.sync()?;
    let mut numbers: Vec<u64> = scene.live.iter().map(|(name, _)| name.number).collect();
    numbers.retain(|&each| each != old.number);
    numbers.push(header.number);
    checkpoint.runs = runs(&numbers);
    checkpoint.tail_number = header.number;
    checkpoint.tail_generation = header.generation;
    (checkpoint.tail_offset, checkpoint.reach) = (end, end);
    if let Some((metadata, _)) = &mut scene.observed.metadata {
        metadata.write(checkpoint.clone())?;
    }
    dir.remove(&old.to_string())
}
