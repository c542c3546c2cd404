//! The frames of a log one by one, sound or not, as they stand in the files.
//!
//! Owns: the order (segment by segment) and the walk past damage. Does not own: what they add up to.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::vec::IntoIter;

use super::entries::plain;
use super::scene::{Part, Scene};
use super::survey::{Hints, Survey};
use super::window::Window;
use super::{Role, is_gone, os_door};
use crate::directory::Dir;
use crate::directory::identity::Uuid;
use crate::error::{Damage, Error, Result};
use crate::format::kind::Effect;
use crate::format::number::to_u64;
use crate::format::{CellRecord, FrameHeader};
use crate::segment::FRAMES_START;
use crate::segment::walk::{Found, Source as _, Step, past_gaps};

/// What a sound frame does to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EffectSeen {
    /// It holds an entry.
    Entry {
        /// Its index.
        index: u64,
    },
    /// Entries are missing since a repair.
    Missing {
        /// Their indexes.
        entries: Range<u64>,
    },
    /// Entries from an index on are dropped.
    Truncate {
        /// The index.
        to: u64,
    },
    /// Entries before an index are dropped.
    Trim {
        /// The index.
        to: u64,
    },
    /// Every entry is dropped; the next one gets an index.
    Reset {
        /// The index.
        to: u64,
    },
    /// A state cell gets a value.
    Set {
        /// The name of the cell.
        cell: String,
        /// Its bytes.
        value: Vec<u8>,
    },
    /// A state cell gets a side file as its value.
    Attach {
        /// The name of the cell.
        cell: String,
        /// The name of the file.
        file: String,
    },
    /// A state cell is removed.
    Clear {
        /// The name of the cell.
        cell: String,
    },
    /// None: it belongs to no batch, and repeats what was durable.
    Durable {
        /// The newest batch that was.
        sequence: u64,
    },
    /// None: no log writes this.
    Refused {
        /// Why.
        reason: Damage,
    },
}

impl EffectSeen {
    fn of(found: &Found<'_>) -> Self {
        if found.header.is_witness() {
            return Self::Durable { sequence: found.header.durable_sequence() };
        }
        match found.effect() {
            Ok(Effect::Entries(span)) if span.missing => Self::Missing { entries: span.range },
            Ok(Effect::Entries(span)) => Self::Entry { index: span.range.start },
            Ok(Effect::Truncate(to)) => Self::Truncate { to },
            Ok(Effect::Trim(to)) => Self::Trim { to },
            Ok(Effect::Reset(to)) => Self::Reset { to },
            Ok(Effect::Cell(cell)) => match cell.record() {
                Ok(CellRecord::Set { name, value }) => {
                    Self::Set { cell: name.to_owned(), value: value.to_vec() }
                }
                Ok(CellRecord::Attach { name, file }) => {
                    Self::Attach { cell: name.to_owned(), file: file.file_name() }
                }
                Ok(CellRecord::Clear { name }) => Self::Clear { cell: name.to_owned() },
                Err(error) => Self::Refused { reason: Damage::Cell(error) },
            },
            Err(reason) => Self::Refused { reason },
        }
    }

    /// The indexes that it stands for; none unless it holds an entry, or marks some as missing.
    pub fn entries(&self) -> Option<Range<u64>> {
        match self {
            Self::Entry { index } => Some(*index..index.saturating_add(1)),
            Self::Missing { entries } => Some(entries.clone()),
            _ => None,
        }
    }
}

/// What stands at one place of a segment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum FrameSeen {
    /// A sound frame.
    Frame {
        /// The segment file.
        segment: String,
        /// Where the frame starts.
        offset: u64,
        /// What it says about itself.
        header: FrameHeader,
        /// What it does.
        effect: EffectSeen,
        /// Its payload; entries are decompressed if this build can.
        payload: Vec<u8>,
        /// Whether the payload is still compressed, because this build cannot decompress it.
        packed: bool,
        /// Whether it is an entry that still counts.
        live: bool,
    },
    /// Bytes that are no sound frame although frames follow, or must.
    Unreadable {
        /// The segment file.
        segment: String,
        /// The bytes.
        range: Range<u64>,
        /// What is wrong with the first of them.
        reason: Damage,
    },
    /// A segment of which nothing can be read.
    Illegible {
        /// The segment file.
        segment: String,
    },
    /// Segments that the log names and that are not there.
    Absent {
        /// Their numbers.
        numbers: Range<u64>,
        /// The live entries they held, as far as it is known.
        entries: Range<u64>,
        /// Why they count as not there: no file, or several that claim to be one of them.
        reason: Damage,
    },
}

/// Walks over every frame of a log, oldest segment first. Made by [`frames`].
#[derive(Debug)]
pub struct Frames {
    dir: Dir,
    scene: Scene,
    segments: IntoIter<(Part, u64, Role)>,
    ready: IntoIter<FrameSeen>,
}

/// Every frame of the segments of a log.
///
/// # Errors
/// [`Error::Missing`], [`Error::UnsupportedVersion`], [`Error::UnsupportedFeature`], [`Error::Io`].
pub fn frames(path: impl AsRef<Path>) -> Result<Frames> {
    let path = path.as_ref();
    Frames::new(Dir::read_only(Arc::new(os_door(path)?), path))
}

/// Every frame of a log through any I/O door.
///
/// # Errors
/// As [`frames`].
#[cfg(feature = "testing")]
pub fn frames_in(directory: Arc<dyn crate::io::Directory>) -> Result<Frames> {
    Frames::new(Dir::read_only(directory, ""))
}

impl Frames {
    fn new(dir: Dir) -> Result<Self> {
        let scene = Scene::of(&dir)?;
        scene.readable(&dir)?;
        let tail = scene.tail_name();
        let mut segments = Vec::new();
        for (name, bytes) in scene.observed.files.segments.values().flatten() {
            let part = scene.parts.iter().find(|part| part.name == *name && !part.is_gone());
            let role = match part {
                None => Role::Unnamed,
                Some(_) if tail == Some(*name) => Role::Tail,
                Some(_) => Role::Sealed,
            };
            let live = name.base..name.base;
            let unnamed = Part { name: *name, live, certain: u64::MAX, gone: 0..0 };
            segments.push((part.cloned().unwrap_or(unnamed), *bytes, role));
        }
        let gone = scene.parts.iter().filter(|part| part.is_gone());
        segments.extend(gone.map(|part| (part.clone(), 0, Role::Sealed)));
        segments.sort_by_key(|(part, _, _)| part.name);
        let (segments, ready) = (segments.into_iter(), Vec::new().into_iter());
        Ok(Self { dir, scene, segments, ready })
    }

    /// Why it cannot be told which entries count, if the checkpoint is unreadable.
    pub fn refusal(&self) -> Option<&Error> {
        match self.scene.checkpoint() {
            None => self.scene.refusal(),
            Some(_) => None,
        }
    }

    /// Only the segments that can hold live entries of `range`.
    #[must_use]
    pub fn within(mut self, range: Range<u64>) -> Self {
        let wanted: Vec<_> = self
            .segments
            .filter(|(part, _, _)| part.live.start < range.end && part.live.end > range.start)
            .collect();
        self.segments = wanted.into_iter();
        self
    }

    fn load(&self, part: &Part, bytes: u64, role: Role) -> Result<Vec<FrameSeen>> {
        let (name, live) = (part.name, &part.live);
        if part.is_gone() {
            let (numbers, entries) = (part.gone.clone(), live.clone());
            let (_, reason) = self.scene.observed.files.lack(numbers.start);
            return Ok(vec![FrameSeen::Absent { numbers, entries, reason }]);
        }
        let progress = &mut |_| ();
        let mut file = Window::open(&self.dir, &name.to_string(), bytes, progress)?;
        let checkpoint = self.scene.checkpoint();
        let length = to_u64(file.end());
        let known = checkpoint.map(|found| self.scene.hints(found, name, live));
        let known = known.filter(|_| role != Role::Unnamed);
        let hints = Hints {
            uuid: Uuid::from_bytes(checkpoint.map_or([0; 16], |found| found.uuid)),
            segment_bytes: length,
            generation: None,
            live_end: live.end,
            tail_end: known.as_ref().and_then(|known| known.tail_end),
            settled: known.as_ref().and_then(|known| known.settled),
            sealed_end: known.as_ref().and_then(|known| known.sealed_end),
        };
        let survey = Survey::of(&self.dir, name, &mut file, &hints);
        let segment = name.to_string();
        let Some(salt) = &survey.salt else {
            return Ok(vec![FrameSeen::Illegible { segment }]);
        };
        let (limit, exact) = match (role, survey.stated_end) {
            (Role::Tail, _) | (_, None) => (length, false),
            (Role::Sealed, Some(end)) => (end, true),
            (_, Some(end)) => (end, false),
        };
        let mut seen = Vec::new();
        let mut walk = past_gaps(&mut file, salt, FRAMES_START..limit, exact);
        while let Some(step) = walk.step() {
            seen.push(match step {
                Step::Frame(found) => {
                    let (Found { offset, header, payload }, effect) =
                        (found, EffectSeen::of(&found));
                    let here = survey.places.of(header.index) == Some(offset);
                    let live = part.believed().contains(&header.index) && here;
                    let (payload, packed) = plain(&header, payload.to_vec());
                    let segment = segment.clone();
                    FrameSeen::Frame { segment, offset, header, effect, payload, packed, live }
                }
                Step::Gap { offset, end, reason, .. } => FrameSeen::Unreadable {
                    segment: segment.clone(),
                    range: offset..end,
                    reason: reason.damage(),
                },
            });
        }
        Ok(seen)
    }
}

impl Iterator for Frames {
    type Item = Result<FrameSeen>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(seen) = self.ready.next() {
                return Some(Ok(seen));
            }
            let (part, bytes, role) = self.segments.next()?;
            match self.load(&part, bytes, role) {
                Ok(seen) => self.ready = seen.into_iter(),
                // Trimmed since the directory was listed.
                Err(error) if is_gone(&error) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
