//! Observing: what is in the directory, turned into the facts that the table decides on.
//!
//! Owns: reading the directory, the slots and the tail. Does not own: any decision. Changes
//! nothing, but for what `Access::Distrust` makes durable that was written already.

use std::collections::BTreeMap;

use super::holes::recount;
use super::replay::{Link, Replayed, open_link, replay};
use super::table::{Facts, MetadataFact, SegmentsFact, SideFilesFact, TailFact};
use crate::dir::Dir;
use crate::error::{Damage, Error, Result};
use crate::format::names::METADATA;
use crate::format::{Checkpoint, FileName, SegmentName};
use crate::identity::Uuid;
use crate::metadata::{Metadata, Slots};
use crate::options::{SEGMENTS_MAX, SyncMethod};
use crate::planted::{Bug, planted};
use crate::state::CellValue;

/// The files of a directory, by what they are.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pub(crate) metadata: Option<u64>,
    pub(crate) segments: BTreeMap<u64, Vec<(SegmentName, u64)>>,
    pub(crate) spares: Vec<(String, u64)>,
    pub(crate) sides: BTreeMap<u64, u64>,
    pub(crate) temporaries: Vec<String>,
    /// Names of what is nobody's here, be they those of files or not.
    pub(crate) foreign: Vec<String>,
}

impl Files {
    pub(crate) fn list(dir: &Dir) -> Result<Self> {
        let mut files = Self::default();
        for entry in dir.list_everything()? {
            match if entry.plain { FileName::classify(&entry.name) } else { FileName::Foreign } {
                FileName::Metadata => files.metadata = Some(entry.bytes),
                FileName::Segment(name) => {
                    files.segments.entry(name.number).or_default().push((name, entry.bytes));
                }
                FileName::Spare(_) => files.spares.push((entry.name, entry.bytes)),
                FileName::Side(id) => {
                    files.sides.insert(id, entry.bytes);
                }
                FileName::Temporary => files.temporaries.push(entry.name),
                FileName::Foreign => files.foreign.push(entry.name),
                FileName::Lock => {}
            }
        }
        Ok(files)
    }

    /// Whether there are traces of a log.
    pub(crate) fn any(&self) -> bool {
        self.metadata.is_some() || !self.segments.is_empty() || !self.sides.is_empty()
    }

    /// The one segment file with this number.
    fn segment(&self, number: u64) -> Option<(SegmentName, u64)> {
        match self.segments.get(&number).map(Vec::as_slice) {
            Some([only]) => Some(*only),
            _ => None,
        }
    }
}

/// Everything an open has to know.
#[derive(Debug)]
pub(crate) struct Observed {
    pub(crate) facts: Facts,
    pub(crate) files: Files,
    pub(crate) metadata: Option<(Metadata, Slots)>,
    /// Segments the checkpoint names, ascending by number.
    pub(crate) segments: Vec<SegmentName>,
    pub(crate) replayed: Option<Replayed>,
    /// The error that a refusal returns.
    pub(crate) refusal: Option<Error>,
    /// What is wrong with the tail, also where something else is the reason of the refusal.
    pub(crate) tail_error: Option<Error>,
}

/// Looks at a directory whose lock is held. An error here means that something could not be read
/// at all; what was read and is wrong becomes a fact.
pub(crate) fn observe(dir: &Dir, sync_method: SyncMethod) -> Result<Observed> {
    let files = Files::list(dir)?;
    let none = files.segments.is_empty() && files.sides.is_empty();
    let facts = Facts {
        metadata: MetadataFact::Absent,
        segments: if none { SegmentsFact::None } else { SegmentsFact::Present },
        tail: TailFact::Whole,
        side_files: SideFilesFact::Present,
    };
    let (metadata, segments, replayed) = (None, Vec::new(), None);
    let (refusal, tail_error) = (None, None);
    let mut observed = Observed { facts, files, metadata, segments, replayed, refusal, tail_error };
    let Some(bytes) = observed.files.metadata else {
        let reason = Damage::MissingFile;
        let path = dir.join(METADATA);
        observed.refusal = Some(Error::Damaged { path, offset: 0, indexes: None, reason });
        return Ok(observed);
    };
    match Metadata::open(dir, bytes, sync_method) {
        Ok(metadata) => observed.look_further(dir, metadata)?,
        Err(error) => {
            observed.facts.metadata = match &error {
                Error::UnsupportedVersion { .. } | Error::UnsupportedFeature { .. } => {
                    MetadataFact::Unsupported
                }
                Error::Damaged { .. } => MetadataFact::Unreadable,
                _ => return Err(error),
            };
            observed.refusal = Some(error);
        }
    }
    Ok(observed)
}

impl Observed {
    fn look_further(&mut self, dir: &Dir, metadata: (Metadata, Slots)) -> Result<()> {
        let checkpoint = metadata.1.newest.clone();
        self.metadata = Some(metadata);
        self.facts.metadata = match (checkpoint.creating, checkpoint.clean) {
            (true, _) => MetadataFact::Creating,
            (false, true) => MetadataFact::Clean,
            (false, false) => MetadataFact::Open,
        };
        if checkpoint.creating {
            return Ok(());
        }
        let missing;
        (self.segments, missing) = named_segments(dir, &checkpoint, &self.files);
        if let Some(error) = missing {
            // The tail is looked at all the same: what it says is still true, for whoever repairs.
            self.facts.segments = SegmentsFact::SomeMissing;
            self.refusal = Some(error);
        }
        self.look_at_tail(dir, &checkpoint)?;
        if let Some(replayed) = self.replayed.as_mut().filter(|it| it.state.holes > 0) {
            recount(dir, &checkpoint, &self.segments, replayed)?;
        }
        // Behind a torn end the state is as good as any, and so must its side files be.
        if matches!(self.facts.tail, TailFact::Whole | TailFact::Torn)
            && let Some(replayed) = &self.replayed
            && let Some(error) = missing_side_file(dir, replayed, &self.files)
        {
            self.facts.side_files = SideFilesFact::SomeMissing;
            self.refusal.get_or_insert(error);
        }
        // A torn end is refused for nothing of its own, so it comes last.
        if self.refusal.is_none() {
            self.refusal.clone_from(&self.tail_error);
        }
        Ok(())
    }

    fn look_at_tail(&mut self, dir: &Dir, checkpoint: &Checkpoint) -> Result<()> {
        let tail = match open_tail(dir, checkpoint, &self.segments) {
            Err(error @ (Error::Io { .. } | Error::Exhausted { .. })) => return Err(error),
            Err(error) => {
                self.facts.tail = TailFact::Unreadable;
                self.tail_error = Some(error);
                return Ok(());
            }
            Ok(tail) => tail,
        };
        let files = &self.files;
        let uuid = Uuid::from_bytes(checkpoint.uuid);
        let bytes = checkpoint.segment_bytes;
        let next_link = |number| {
            let Some((name, _)) = files.segment(number).filter(|(_, length)| *length == bytes)
            else {
                return Ok(None);
            };
            match open_link(dir, uuid, name, bytes, 0, bytes) {
                Ok(link) => Ok(Some(link)),
                Err(Error::Damaged { .. }) => Ok(None),
                Err(_) if planted(Bug::UnopenedSegmentSkipped) => Ok(None),
                // It may be as good as any: a batch in it would be dropped without a word.
                Err(error) => Err(error),
            }
        };
        match replay(dir, checkpoint, tail, &next_link) {
            Err(error) if !matches!(error, Error::Damaged { .. }) => return Err(error),
            Err(error) => {
                self.facts.tail = TailFact::Contradicts;
                self.tail_error = Some(error);
            }
            Ok(replayed) => {
                let expected = replayed.sequence + 1;
                let durable = replayed.behind.durable;
                self.facts.tail = if durable >= expected {
                    TailFact::Acknowledged
                } else if replayed.stopped.is_some() {
                    TailFact::Torn
                } else {
                    TailFact::Whole
                };
                if self.facts.tail != TailFact::Whole {
                    self.tail_error = Some(lost_batch(dir, &replayed, expected, durable));
                }
                self.replayed = Some(replayed);
            }
        }
        Ok(())
    }
}

impl Observed {
    /// Looks at what an open leaves for later: the durable part of the tail. If that is unreadable a
    /// log opens, reads of its entries are refused, and it is poisoned as soon as it has to look
    /// there. Returns that error; what was replayed counts as before.
    pub(crate) fn look_at_durable_part(&mut self, dir: &Dir) -> Result<Option<Error>> {
        let looked = match &mut self.replayed {
            Some(Replayed { links, .. }) => {
                links.iter_mut().try_for_each(|link| link.complete_offsets(dir))
            }
            None => Ok(()),
        };
        match looked {
            Err(error @ Error::Damaged { .. }) => Ok(Some(error)),
            looked => looked.map(|()| None),
        }
    }
}

/// The files of the segments that a checkpoint names: one each, of the right length, and bases
/// that hold the entries. Returns those that are there, and what is wrong with the others.
fn named_segments(
    dir: &Dir,
    checkpoint: &Checkpoint,
    files: &Files,
) -> (Vec<SegmentName>, Option<Error>) {
    let damaged = |name: String, reason| {
        let indexes = None;
        Error::Damaged { path: dir.join(&name), offset: 0, indexes, reason }
    };
    let missing = |number: u64| damaged(format!("{number:016x}-*.seg"), Damage::MissingFile);
    let is_tail = |name: &SegmentName| name.number == checkpoint.tail_number;
    let (mut names, mut wrong) = (Vec::new(), None);
    for (first, last) in &checkpoint.runs {
        let count = last.saturating_sub(*first).saturating_add(1);
        if count > SEGMENTS_MAX {
            let reason = Damage::Field { field: "segments", expected: SEGMENTS_MAX, got: count };
            return (names, Some(damaged(METADATA.to_owned(), reason)));
        }
        let mut expected = *first;
        for &number in files.segments.range(*first..=*last).map(|(number, _)| number) {
            let Some((name, bytes)) = files.segment(number) else { continue };
            if number != expected {
                wrong.get_or_insert_with(|| missing(expected));
            }
            expected = number + 1;
            if bytes == checkpoint.segment_bytes {
                names.push(name);
            } else {
                let reason = Damage::Length { expected: checkpoint.segment_bytes, got: bytes };
                wrong.get_or_insert_with(|| damaged(name.to_string(), reason));
            }
        }
        if expected <= *last {
            wrong.get_or_insert_with(|| missing(expected));
        }
    }
    if planted(Bug::MissingSegmentIgnored) && names.last().is_some_and(is_tail) {
        wrong = None;
    }
    if wrong.is_some() {
        return (names, wrong);
    }
    let mut lowest = u64::MAX;
    let mut first_live = checkpoint.next;
    for name in names.iter().rev() {
        if name.base < lowest {
            lowest = name.base;
            first_live = name.base;
        }
    }
    if first_live > checkpoint.first {
        let (expected, got) = (checkpoint.first, first_live);
        let reason = Damage::Field { field: "base of the first segment", expected, got };
        let name = names.first().map_or_else(|| METADATA.to_owned(), ToString::to_string);
        wrong = Some(damaged(name, reason));
    }
    (names, wrong)
}

fn open_tail(dir: &Dir, checkpoint: &Checkpoint, segments: &[SegmentName]) -> Result<Link> {
    let name = segments
        .last()
        .filter(|name| name.number == checkpoint.tail_number)
        .ok_or_else(|| Error::Missing { path: dir.path().to_path_buf() })?;
    let link = open_link(
        dir,
        Uuid::from_bytes(checkpoint.uuid),
        *name,
        checkpoint.segment_bytes,
        checkpoint.tail_offset,
        // A close leaves nothing behind its checkpoint, so there is nothing to look for.
        if checkpoint.clean { checkpoint.tail_offset } else { checkpoint.reach },
    )?;
    if link.header.generation != checkpoint.tail_generation {
        let (expected, got) = (checkpoint.tail_generation, link.header.generation);
        let reason = Damage::Field { field: "generation", expected, got };
        let path = dir.join(&name.to_string());
        return Err(Error::Damaged { path, offset: 0, indexes: None, reason });
    }
    Ok(link)
}

/// The error for a batch that cannot be read although it should be there.
fn lost_batch(dir: &Dir, replayed: &Replayed, expected: u64, durable: u64) -> Error {
    let (path, offset) = match replayed.links.last() {
        Some(link) => (dir.join(&link.name.to_string()), link.end),
        None => (dir.path().to_path_buf(), 0),
    };
    let reason = Damage::AcknowledgedFrame { sequence: expected, durable: durable.max(expected) };
    Error::Damaged { path, offset, indexes: Some(replayed.state.next..u64::MAX), reason }
}

fn missing_side_file(dir: &Dir, replayed: &Replayed, files: &Files) -> Option<Error> {
    replayed.state.cells.values().find_map(|value| {
        let CellValue::SideFile(reference) = value else { return None };
        if planted(Bug::MissingSideFileIgnored) {
            return None;
        }
        let reason = match files.sides.get(&reference.id) {
            None => Damage::MissingFile,
            Some(&got) if got != reference.length => {
                Damage::Length { expected: reference.length, got }
            }
            Some(_) => return None,
        };
        let path = dir.join(&reference.file_name());
        Some(Error::Damaged { path, offset: 0, indexes: None, reason })
    })
}
