//! The entries of a log as an open would hand them out, one by one.
//!
//! Owns: where each entry is read, through any damage: the places that recovery replayed, else a
//! sound offset table, else whatever a survey of the file finds. Every index between the bounds is
//! accounted for: as an entry, as missing since a repair, or as unreadable with its reason.
//! Does not own: the bounds (`scene`), what a loss means (`verify`).
//!
//! Memory: the offset table of one segment, and one entry.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::placed::Placed;
use super::scene::{Part, Scene};
use super::survey::{Places, Survey};
use super::{StateSeen, is_gone, os_door};
use crate::directory::Dir;
use crate::directory::identity::Uuid;
use crate::error::{Damage, Error, Result};
use crate::format::footer::{FOOTER_BYTES, FOOTER_HOLES, table_bytes, table_offset};
use crate::format::frame::{FrameHeader, Salt};
use crate::format::header::SEGMENT_HEADER_BYTES;
use crate::format::kind::Span;
use crate::format::number::{to_u64, to_usize};
use crate::format::{Checkpoint, Footer, SegmentHeader};
use crate::io::Access;
use crate::segment::{Segment, in_units, with_indexes};

/// What stands for an index of the log, or for several.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum EntrySeen {
    /// An entry that counts.
    Entry {
        /// Its index.
        index: u64,
        /// Its bytes as they were appended, or as they are stored if `packed`.
        payload: Vec<u8>,
        /// Whether the payload is still compressed, because this build cannot decompress it.
        packed: bool,
    },
    /// Entries that are missing since a repair.
    Missing {
        /// Their indexes.
        entries: Range<u64>,
    },
    /// Entries that an open would refuse to read.
    Unreadable {
        /// Their indexes.
        entries: Range<u64>,
        /// Where, and why.
        error: Error,
    },
}

/// Walks over the live entries of a log. Made by [`entries`].
#[derive(Debug)]
pub struct Entries {
    lookup: Lookup,
    range: Range<u64>,
}

/// Every live entry of a log, in order and without a gap. Takes no lock and changes nothing; beside a
/// process that has the log open it is a moment of the past, and what is trimmed meanwhile is left
/// out.
///
/// # Errors
/// [`Error::Missing`], [`Error::UnsupportedVersion`], [`Error::UnsupportedFeature`], [`Error::Io`];
/// [`Error::Damaged`] if no checkpoint says which entries count.
pub fn entries(path: impl AsRef<Path>) -> Result<Entries> {
    let path = path.as_ref();
    Entries::new(Dir::read_only(Arc::new(os_door(path)?), path))
}

/// Every live entry of a log through any I/O door.
///
/// # Errors
/// As [`entries`].
#[cfg(feature = "testing")]
pub fn entries_in(directory: Arc<dyn crate::io::Directory>) -> Result<Entries> {
    Entries::new(Dir::read_only(directory, ""))
}

impl Entries {
    fn new(dir: Dir) -> Result<Self> {
        let lookup = Lookup::new(dir)?;
        let range = lookup.bounds();
        Ok(Self { lookup, range })
    }

    /// The first entry and the end of the entries after recovery.
    pub fn bounds(&self) -> Range<u64> {
        self.lookup.bounds()
    }

    /// Bounds and cells after recovery.
    pub fn state(&self) -> Option<StateSeen> {
        self.lookup.scene.state()
    }

    /// The entries that are still to come.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// Only the entries of `range` that are within the bounds.
    #[must_use]
    pub fn within(mut self, range: Range<u64>) -> Self {
        let bounds = self.bounds();
        let start = range.start.clamp(bounds.start, bounds.end);
        self.range = start..range.end.clamp(start, bounds.end);
        self
    }
}

impl Iterator for Entries {
    type Item = Result<EntrySeen>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.range.is_empty() {
            let index = self.range.start;
            let seen = match self.lookup.get(index) {
                Ok(seen) => seen,
                Err(error) => {
                    self.range.start = self.range.end;
                    return Some(Err(error));
                }
            };
            let clipped = |entries: Range<u64>| index..entries.end.min(self.range.end);
            let seen = match seen {
                Looked::Trimmed(end) => {
                    self.range.start = end.clamp(index + 1, self.range.end);
                    continue;
                }
                Looked::Entry(header, payload) => {
                    let (payload, packed) = plain(&header, payload);
                    EntrySeen::Entry { index, payload, packed }
                }
                Looked::Hole(entries) => EntrySeen::Missing { entries: clipped(entries) },
                Looked::Unreadable(entries, error) => {
                    EntrySeen::Unreadable { entries: clipped(entries), error }
                }
            };
            self.range.start = match &seen {
                EntrySeen::Entry { .. } => index + 1,
                EntrySeen::Missing { entries } | EntrySeen::Unreadable { entries, .. } => {
                    entries.end.max(index + 1)
                }
            };
            return Some(Ok(seen));
        }
        None
    }
}

/// The payload as it was appended, and whether that could not be told.
pub(crate) fn plain(header: &FrameHeader, payload: Vec<u8>) -> (Vec<u8>, bool) {
    if header.is_compressed() {
        let plain = crate::compress::decompress(&payload);
        return plain.map_or_else(|_| (payload, true), |plain| (plain, false));
    }
    (payload, false)
}

/// What is at an index.
#[derive(Debug)]
pub(crate) enum Looked {
    /// Its frame, the payload as it is stored.
    Entry(FrameHeader, Vec<u8>),
    /// From this index on, these are missing since a repair.
    Hole(Range<u64>),
    /// From this index on, these are unreadable.
    Unreadable(Range<u64>, Error),
    /// The file is gone since the directory was looked at; go on here.
    Trimmed(u64),
}

/// Looks entries up, in any order; cheapest in ascending order.
#[derive(Debug)]
pub(crate) struct Lookup {
    pub(crate) dir: Dir,
    pub(crate) scene: Scene,
    checkpoint: Checkpoint,
    open: Option<(usize, Reader)>,
}

impl Lookup {
    pub(crate) fn new(dir: Dir) -> Result<Self> {
        let scene = Scene::of(&dir)?;
        scene.readable(&dir)?;
        Self::at(dir, scene)
    }

    pub(crate) fn at(dir: Dir, scene: Scene) -> Result<Self> {
        let missing = || Error::Missing { path: dir.path().to_path_buf() };
        let Some(checkpoint) = scene.checkpoint().cloned() else {
            return Err(scene.refusal().cloned().unwrap_or_else(missing));
        };
        Ok(Self { dir, scene, checkpoint, open: None })
    }

    pub(crate) fn bounds(&self) -> Range<u64> {
        self.scene.bounds()
    }

    /// What is at `index`, which must be within the bounds.
    pub(crate) fn get(&mut self, index: u64) -> Result<Looked> {
        let parts = &self.scene.parts;
        let holds = |part: &&Part| part.live.contains(&index);
        let at = match &self.open {
            Some((at, _)) if parts.get(*at).as_ref().is_some_and(holds) => *at,
            _ => match parts.iter().position(|part| holds(&part)) {
                Some(at) => at,
                None => return Ok(self.uncovered(index)),
            },
        };
        let Some(part) = parts.get(at).cloned() else { return Ok(self.uncovered(index)) };
        if part.is_gone() {
            let (name, reason) = self.scene.observed.files.lack(part.gone.start);
            return Ok(unreadable(self.dir.join(&name), 0, index..part.live.end, reason));
        }
        if self.open.as_ref().is_none_or(|(open, _)| *open != at) {
            match Reader::open(&self.dir, &self.scene, &self.checkpoint, &part) {
                Ok(reader) => self.open = Some((at, reader)),
                // Trimmed since the directory was listed.
                Err(error) if is_gone(&error) => return Ok(Looked::Trimmed(part.live.end)),
                Err(error) => return Err(error),
            }
        }
        let Some((_, reader)) = &mut self.open else { return Err(Error::Closed) };
        if index >= part.believed().end {
            let offset = reader.place(index).unwrap_or(0);
            let path = self.dir.join(&part.name.to_string());
            return Ok(unreadable(path, offset, index..part.live.end, Damage::MayBeReplaced));
        }
        Ok(reader.get(index, part.believed().end))
    }

    /// An entry before the live ones of a part, whose reader must be open.
    pub(crate) fn get_dead(&mut self, part: &Part, index: u64) -> Looked {
        match &mut self.open {
            Some((_, reader)) => reader.get(index, part.live.start),
            None => Looked::Trimmed(part.live.start),
        }
    }

    /// The header of the segment that was looked at last, if it is readable.
    pub(crate) fn header(&self) -> Option<SegmentHeader> {
        self.open.as_ref().and_then(|(_, reader)| reader.header)
    }

    /// The batch that the segment after the one looked at last begins with, if a footer states it.
    pub(crate) fn next_sequence(&self) -> Option<u64> {
        self.open.as_ref().and_then(|(_, reader)| reader.next_sequence)
    }

    /// Whether the segment that was looked at last may have entries marked as missing.
    pub(crate) fn has_holes(&self) -> bool {
        self.open.as_ref().is_none_or(|(_, reader)| reader.holes)
    }

    /// An entry that the log states and no segment can hold.
    fn uncovered(&self, index: u64) -> Looked {
        let after = self.scene.parts.iter().map(|part| part.live.start);
        let end = after.filter(|&start| start > index).min().unwrap_or(self.bounds().end);
        let path = self.dir.path().to_path_buf();
        let (field, expected, got) = ("base of the first segment", index, end);
        let error = self.scene.refusal().cloned().unwrap_or_else(|| {
            let reason = Damage::Field { field, expected, got };
            Error::Damaged { path, offset: 0, indexes: Some(index..end), reason }
        });
        Looked::Unreadable(index..end, error)
    }
}

fn unreadable(
    path: std::path::PathBuf,
    offset: u64,
    entries: Range<u64>,
    reason: Damage,
) -> Looked {
    let indexes = Some(entries.clone());
    Looked::Unreadable(entries, Error::Damaged { path, offset, indexes, reason })
}

/// Reads the entries of one segment file.
#[derive(Debug)]
pub(crate) struct Reader {
    dir: Dir,
    name: String,
    /// Its header, if that is readable.
    header: Option<SegmentHeader>,
    /// Whether some entries may be marked as missing.
    holes: bool,
    next_sequence: Option<u64>,
    source: Source,
}

/// Where entries are found.
#[derive(Debug)]
enum Source {
    /// At places that the replay, or a sound offset table, states.
    Placed(Places, Placed),
    /// Nowhere: a newer build wrote them.
    Newer(Error),
    /// Wherever they still are; nowhere if nothing states the generation of the frames.
    Surveyed(Box<Survey>, Option<Placed>),
}

impl Reader {
    pub(crate) fn open(
        dir: &Dir,
        scene: &Scene,
        checkpoint: &Checkpoint,
        part: &Part,
    ) -> Result<Self> {
        let name = part.name.to_string();
        let links = scene.observed.replayed.as_ref().map_or(&[][..], |all| &all.links);
        let base = part.name.base;
        if let Some(link) = links.iter().find(|link| link.name == part.name)
            && let Some(units) = link.offsets.units.all()
        {
            let frames = Placed::open(dir, &name, link.salt.clone(), link.end)?;
            let source = Source::Placed(Places::of_all(base, units.to_vec()), frames);
            let (header, holes) = (Some(link.header), link.offsets.holes);
            let next_sequence = None;
            return Ok(Self { dir: dir.clone(), name, header, holes, next_sequence, source });
        }
        let is_sealed = !links.iter().any(|link| link.name == part.name);
        if is_sealed && let Some(reader) = Self::by_table(dir, checkpoint, part)? {
            return Ok(reader);
        }
        let (hints, length) =
            (scene.hints(checkpoint, part.name, &part.live), scene.length_of(part.name));
        let (survey, _) = Survey::read(dir, part.name, length, &hints, &mut |_| ())?;
        let header = survey.header.as_ref().ok().copied();
        if let Err(error @ (Error::UnsupportedVersion { .. } | Error::UnsupportedFeature { .. })) =
            &survey.header
        {
            let (source, next_sequence) = (Source::Newer(error.clone()), None);
            let dir = dir.clone();
            return Ok(Self { dir, name, header, holes: false, next_sequence, source });
        }
        let next_sequence = survey.footer.as_ref().ok().map(|footer| footer.next_sequence);
        let frames = survey.frames(dir)?;
        let source = Source::Surveyed(Box::new(survey), frames);
        Ok(Self { dir: dir.clone(), name, header, holes: true, next_sequence, source })
    }

    /// By the footer and its table, if both are sound.
    fn by_table(dir: &Dir, checkpoint: &Checkpoint, part: &Part) -> Result<Option<Self>> {
        let (name, base, bytes) = (part.name.to_string(), part.name.base, checkpoint.segment_bytes);
        let file = dir.open(&name, Access::Read)?;
        let segment = Segment::sealed(dir, Uuid::from_bytes(checkpoint.uuid), part.name, bytes);
        let mut block = vec![0; SEGMENT_HEADER_BYTES];
        if file.read_at(0, &mut block).is_err() {
            return Ok(None);
        }
        let Ok(header) = segment.check_header(&block) else { return Ok(None) };
        let salt = Salt::new(header.generation);
        let mut block = vec![0; FOOTER_BYTES];
        if file.read_at(bytes.saturating_sub(to_u64(FOOTER_BYTES)), &mut block).is_err() {
            return Ok(None);
        }
        let Ok(footer) = Footer::decode(&block, &salt, bytes) else { return Ok(None) };
        if footer.base != base || base.saturating_add(footer.count) < part.live.end {
            return Ok(None);
        }
        let mut table = vec![0; table_bytes(footer.count)];
        if file.read_at(footer.table_start(bytes), &mut table).is_err()
            || footer.verify_table(&table).is_err()
        {
            return Ok(None);
        }
        let offset = |nth| in_units(table_offset(&table, nth).unwrap_or(0));
        let units = (0..to_usize(footer.count)).map(offset).collect();
        let frames = Placed::open(dir, &name, salt, footer.data_end)?;
        let source = Source::Placed(Places::of_all(base, units), frames);
        let (header, holes) = (Some(header), footer.flags & FOOTER_HOLES != 0);
        let next_sequence = Some(footer.next_sequence);
        Ok(Some(Self { dir: dir.clone(), name, header, holes, next_sequence, source }))
    }

    /// Where the frame of an entry starts, if that is known.
    pub(crate) fn place(&self, index: u64) -> Option<u64> {
        match &self.source {
            Source::Newer(_) => None,
            Source::Placed(places, _) => places.of(index),
            Source::Surveyed(survey, _) => Some(survey.place_of(index)),
        }
    }

    /// What is at `index`; what goes on from there ends at `end`.
    pub(crate) fn get(&mut self, index: u64, end: u64) -> Looked {
        let path = self.dir.join(&self.name);
        let (places, frames) = match &mut self.source {
            Source::Newer(error) => {
                return Looked::Unreadable(index..end.max(index + 1), error.clone());
            }
            Source::Surveyed(survey, frames) => {
                let (Some(_), Some(frames)) = (survey.places.of(index), frames) else {
                    let held = survey.places.end();
                    let gone = |index: &u64| survey.places.of(*index).is_none();
                    let last = (index..end.min(held)).take_while(gone).count();
                    let to = if index >= held { end } else { index + to_u64(last) };
                    let offset = survey.place_of(index);
                    let reason = survey.reason_at(offset);
                    return unreadable(path, offset, index..to.max(index + 1), reason);
                };
                (&survey.places, frames)
            }
            Source::Placed(places, frames) => (&*places, frames),
        };
        let offset = places.of(index).unwrap_or(0);
        let only = index..index.saturating_add(1);
        match frames.frame(offset) {
            Ok((header, payload)) => looked(index, end, header, payload).unwrap_or_else(|| {
                unreadable(path, offset, only, Damage::Misplaced { expected: index })
            }),
            Err(error) => Looked::Unreadable(only.clone(), with_indexes(error, &only)),
        }
    }
}

/// A sound frame, if it stands for the entry.
fn looked(index: u64, end: u64, header: FrameHeader, payload: &[u8]) -> Option<Looked> {
    let span = Span::of(&header, payload).filter(|span| span.range.contains(&index))?;
    Some(if span.missing {
        Looked::Hole(index..span.range.end.min(end).max(index + 1))
    } else {
        Looked::Entry(header, payload.to_vec())
    })
}
