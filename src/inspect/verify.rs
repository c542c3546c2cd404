//! Verifying: every byte that counts is read and checked, and what is wrong is put into words.
//!
//! Owns: what a damage means for the safety of the log. Does not own: reading past it (`survey`).
//! Changes nothing, takes no lock.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::misnamed::{misnamed, view};
use super::scene::{Part, Scene};
use super::survey::{Hints, Survey};
use super::{InUse, generation, in_use, is_gone, os_door, slots};
use crate::directory::Dir;
use crate::directory::identity::Uuid;
use crate::error::{Damage, Error, Result};
use crate::format::names::METADATA;
use crate::format::number::to_u64;
use crate::format::slot::METADATA_BYTES;
use crate::format::{CellValue, Checkpoint, SegmentName, SideFileRef};
use crate::recovery::table::{AfterFact, Decision, MetadataFact, SegmentsFact, TailFact};

/// How often a log that is in use is looked at again, when it changed under the look.
const ATTEMPTS: usize = 16;
/// How often if its checkpoint stayed the same: frames may have been read half written.
const ATTEMPTS_WHILE_STILL: usize = 3;

/// How far a verification has come, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes read so far.
    pub done: u64,
    /// Bytes to be read altogether, as far as it is known.
    pub total: u64,
}

impl Progress {
    /// So far, and altogether.
    pub fn new(done: u64, total: u64) -> Self {
        Self { done, total }
    }
}

/// What a damage means for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Meaning {
    /// The bytes only repeat what others say.
    Redundant,
    /// The bytes are part of a segment but of nothing that still counts.
    Dead,
    /// Acknowledged entries cannot be read.
    Entries,
    /// The end of the log cannot be read: entries, and state such as a promise or a vote.
    State,
    /// The checkpoint cannot be read: no bound and no state of the log is certain.
    Checkpoint,
    /// Nothing is lost, and the log is refused, or poisoned at the next roll, until a repair.
    Blocking,
    /// A side file cannot be read: a snapshot, or another large value.
    SideFile,
    /// Something else stands under the name of a file of the log, and what was in the file is not
    /// known here.
    Displaced,
    /// Nothing is wrong as far as this build can tell: a newer one has to read this.
    Unsupported,
}

impl Meaning {
    /// Whether anything that was acknowledged is affected.
    pub fn is_loss(self) -> bool {
        !matches!(self, Self::Redundant | Self::Dead)
    }
}

impl fmt::Display for Meaning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redundant => "nothing is lost: these bytes repeat what others say",
            Self::Dead => "nothing is lost: no entry that still counts is here",
            Self::Entries => {
                "acknowledged entries are unreadable; repair marks them, refill brings them back \
                 from a peer or a backup"
            }
            Self::State => {
                "the newest batches are unreadable: entries, and perhaps a promise or a vote, that \
                 this node acknowledged; it must not take part as if it remembered them"
            }
            Self::Checkpoint => {
                "what this node promised cannot be told; rebuild the node as a new member"
            }
            Self::Blocking => {
                "nothing is lost, but the log cannot go on like this; `repair --plan` says what to do"
            }
            Self::SideFile => {
                "what a cell refers to is unreadable; bring the file back from a backup, or, if it \
                 was a snapshot, rebuild the node from its peers"
            }
            Self::Displaced => {
                "nothing is lost if the file is put back; if it is gone, move this away and verify \
                 again: it says what is lost"
            }
            Self::Unsupported => "nothing is wrong with the log; use the build that wrote it",
        })
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Finding {
    /// The file, the offset, the entries, the reason.
    pub error: Error,
    /// What it means.
    pub meaning: Meaning,
    /// The cell that refers to the file, if it is a side file.
    pub cell: Option<String>,
}

/// The outcome of a verification.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// Everything that counts is readable.
    Clean,
    /// As `Clean`, and the end is unfinished, as a crash leaves it. An open drops it; nothing shows
    /// that it was acknowledged.
    TornTail {
        /// The segment file.
        path: PathBuf,
        /// Where the unfinished end starts.
        offset: u64,
    },
    /// Everything is readable, but for entries that are marked as missing since a repair.
    Incomplete,
    /// Something that was acknowledged is unreadable.
    Damaged,
}

/// What a verification found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Verification {
    /// The outcome.
    pub health: Health,
    /// Everything that is wrong, also where nothing is lost by it.
    pub findings: Vec<Finding>,
    /// Entries that are missing since a repair, and have to be refilled.
    pub holes: Vec<Range<u64>>,
    /// Entries that were read and found sound.
    pub entries: u64,
    /// Segments that were read.
    pub segments: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Whether the log is open somewhere: then this is a moment of the past.
    pub use_now: InUse,
    /// Whether the newest checkpoint was written by a close: no crash explains what is wrong then.
    pub closed: bool,
}

/// Reads and checks every byte of the log in a directory that counts.
///
/// # Errors
/// [`Error::Missing`] if there is no log, [`Error::UnsupportedVersion`] or
/// [`Error::UnsupportedFeature`] if this build cannot tell, [`Error::Io`] if the directory cannot be
/// read. Damage is no error here.
pub fn verify(path: impl AsRef<Path>, progress: &mut dyn FnMut(Progress)) -> Result<Verification> {
    let path = path.as_ref();
    let door = os_door(path)?;
    let locked = door.locked();
    verify_dir(&Dir::read_only(Arc::new(door), path), locked, progress)
}

/// Verifies a log through any I/O door.
///
/// # Errors
/// As [`verify`].
#[cfg(feature = "testing")]
pub fn verify_in(
    directory: Arc<dyn crate::io::Directory>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Verification> {
    verify_dir(&Dir::read_only(directory, ""), None, progress)
}

/// Verifies a log in a directory that is only looked at.
pub(crate) fn verify_dir(
    dir: &Dir,
    locked: Option<bool>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Verification> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let before = generation(dir);
        let result = once(dir, locked, progress);
        let moved = before != generation(dir);
        match result {
            // Trimmed between two looks at it.
            Err(error) if is_gone(&error) && attempt < ATTEMPTS => {}
            Ok(mut seen) if seen.health == Health::Damaged => {
                // What looked wrong may only have been new: the log moved on while it was read.
                let unsure = moved || locked == Some(true) && attempt < ATTEMPTS_WHILE_STILL;
                if !unsure || attempt >= ATTEMPTS {
                    if moved {
                        forget_what_went(dir, &mut seen);
                    }
                    return Ok(seen);
                }
            }
            other => return other,
        }
    }
}

/// Drops findings about segments that are not part of the log any more.
fn forget_what_went(dir: &Dir, seen: &mut Verification) {
    let Ok(slots) = slots(dir) else { return };
    let newest = slots.into_iter().filter_map(|slot| slot.checkpoint.ok());
    let Some(found) = newest.max_by_key(|found| found.generation) else { return };
    seen.findings.retain(|finding| {
        let Error::Damaged { path, .. } = &finding.error else { return true };
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.split_once('-').and_then(|(hex, _)| u64::from_str_radix(hex, 16).ok());
        number.is_none_or(|number| found.names(number))
    });
    if !seen.findings.iter().any(|finding| finding.meaning.is_loss()) {
        seen.health = if seen.holes.is_empty() { Health::Clean } else { Health::Incomplete };
    }
}

fn once(
    dir: &Dir,
    locked: Option<bool>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Verification> {
    // What is under a wrong name is read as what it is; the name is a finding of its own.
    let misnamed = misnamed(dir)?;
    let dir = &view(dir, &misnamed);
    let scene = Scene::of(dir)?;
    scene.readable(dir)?;
    let mut check = Check {
        dir,
        scene: &scene,
        seen: Verification {
            health: Health::Clean,
            findings: Vec::new(),
            holes: Vec::new(),
            entries: 0,
            segments: 0,
            bytes: to_u64(METADATA_BYTES),
            use_now: in_use(dir, locked),
            closed: scene.checkpoint().is_some_and(|found| found.clean),
        },
        total: to_u64(METADATA_BYTES),
        progress,
    };
    for it in &misnamed {
        check.find(it.error(dir), Meaning::Blocking);
    }
    check.metadata()?;
    if let Some(checkpoint) = scene.checkpoint() {
        check.count_total(checkpoint);
        for part in &scene.parts {
            if part.is_gone() {
                check.gone(checkpoint, part);
            } else {
                check.segment(checkpoint, part)?;
            }
        }
        check.side_files()?;
    }
    check.refusal();
    let mut seen = check.seen;
    if seen.findings.iter().any(|finding| finding.meaning.is_loss()) {
        seen.health = Health::Damaged;
    } else if !seen.holes.is_empty() {
        seen.health = Health::Incomplete;
    } else if scene.decision == Decision::OpenTorn
        && let Some(link) = scene.observed.replayed.as_ref().and_then(|all| all.links.last())
    {
        seen.health = Health::TornTail { path: dir.join(&link.name.to_string()), offset: link.end };
    }
    Ok(seen)
}

struct Check<'a> {
    dir: &'a Dir,
    scene: &'a Scene,
    seen: Verification,
    total: u64,
    progress: &'a mut dyn FnMut(Progress),
}

impl Check<'_> {
    fn find(&mut self, error: Error, meaning: Meaning) {
        self.find_of(None, error, meaning);
    }

    fn find_of(&mut self, cell: Option<String>, error: Error, meaning: Meaning) {
        let meaning = match &error {
            // Nobody looks where a link leads.
            Error::Damaged { reason: Damage::NotAFile { .. }, .. } => Meaning::Displaced,
            _ => meaning,
        };
        self.seen.findings.push(Finding { error, meaning, cell });
    }

    fn read(&mut self, name: SegmentName, bytes: u64, hints: &Hints) -> Result<Survey> {
        let (total, done) = (self.total, &mut self.seen.bytes);
        let progress = &mut self.progress;
        let (survey, failures) = Survey::read(self.dir, name, bytes, hints, &mut |read| {
            *done += read;
            progress(Progress { done: *done, total: total.max(*done) });
        })?;
        for error in failures {
            self.find(error, Meaning::Dead);
        }
        Ok(survey)
    }

    fn count_total(&mut self, checkpoint: &Checkpoint) {
        let sides: u64 = self.scene.observed.files.sides.values().sum();
        self.total += checkpoint.segment_bytes * to_u64(self.scene.parts.len()) + sides;
    }

    /// One slot that cannot be read is what a crash during a checkpoint leaves.
    fn metadata(&mut self) -> Result<()> {
        if self.scene.checkpoint().is_none() {
            return Ok(());
        }
        for (nth, slot) in slots(self.dir)?.into_iter().enumerate() {
            if let Err(error) = slot.checkpoint {
                let offset = to_u64(nth) * to_u64(METADATA_BYTES / 2);
                self.find(error.into_error(self.dir.join(METADATA), offset), Meaning::Redundant);
            }
        }
        Ok(())
    }

    /// Segments the checkpoint names that are not there.
    fn gone(&mut self, checkpoint: &Checkpoint, part: &Part) {
        let mut indexes = Some(part.live.clone()).filter(|live| !live.is_empty());
        let meaning = match indexes {
            _ if part.gone.contains(&checkpoint.tail_number) => Meaning::State,
            Some(_) => Meaning::Entries,
            None => Meaning::Blocking,
        };
        for number in part.gone.clone() {
            let (name, reason) = self.scene.observed.files.lack(number);
            let (path, indexes) = (self.dir.join(&name), indexes.take());
            // One of the files is the segment, and a repair does not choose.
            let meaning = match reason {
                Damage::Ambiguous { .. } => Meaning::Blocking,
                _ => meaning,
            };
            self.find(Error::Damaged { path, offset: 0, indexes, reason }, meaning);
        }
    }

    fn segment(&mut self, checkpoint: &Checkpoint, part: &Part) -> Result<()> {
        let (name, live) = (part.name, &part.believed());
        let length = self.scene.length_of(name);
        let hints = self.scene.hints(checkpoint, name, &part.live);
        let survey = self.read(name, length, &hints)?;
        let path = || self.dir.join(&name.to_string());
        self.seen.segments += 1;
        if let Err(error) = &survey.header {
            let meaning = match error {
                Error::UnsupportedVersion { .. } | Error::UnsupportedFeature { .. } => {
                    Meaning::Unsupported
                }
                _ if live.is_empty() => Meaning::Dead,
                _ if survey.salt.is_some() && survey.places.missing(live).is_empty() => {
                    Meaning::Blocking
                }
                _ => Meaning::Entries,
            };
            let error = match meaning {
                Meaning::Entries => crate::segment::with_indexes(error.clone(), live),
                _ => error.clone(),
            };
            self.find(error, meaning);
            if meaning == Meaning::Unsupported {
                return Ok(());
            }
        }
        // Where a file was cut short, or goes on, that is the finding.
        let sealed = hints.tail_end.is_none() && length == checkpoint.segment_bytes;
        if let (true, Ok(_), Err(error)) = (sealed, &survey.header, &survey.footer) {
            let offset = checkpoint.segment_bytes.saturating_sub(64);
            self.find(error.into_error(path(), offset), Meaning::Redundant);
        }
        let missing = survey.places.missing(live);
        for range in &missing {
            let offset = survey.place_of(range.start);
            let reason = survey.reason_at(offset);
            let indexes = Some(range.clone());
            let error = Error::Damaged { path: path(), offset, indexes, reason };
            self.find(error, Meaning::Entries);
        }
        if missing.is_empty() {
            for gap in &survey.gaps {
                let (offset, reason) = (gap.range.start, gap.reason.damage());
                let error = Error::Damaged { path: path(), offset, indexes: None, reason };
                self.find(error, Meaning::Dead);
            }
        }
        let given_up = part.given_up();
        if !given_up.is_empty() {
            let offset = survey.place_of(given_up.start);
            let (indexes, reason) = (Some(given_up), Damage::MayBeReplaced);
            self.find(Error::Damaged { path: path(), offset, indexes, reason }, Meaning::Entries);
        }
        let latent = self.scene.latent.clone().filter(|_| hints.settled.is_some());
        if let (Some(error), true) = (latent, missing.is_empty()) {
            self.find(error, Meaning::Blocking);
        }
        self.seen.holes.extend(survey.places.holes(live));
        self.seen.entries += survey.places.readable(live);
        Ok(())
    }

    fn side_files(&mut self) -> Result<()> {
        let (total, done) = (self.total, &mut self.seen.bytes);
        let progress = &mut self.progress;
        let cells = self.scene.state().map(|state| state.cells).unwrap_or_default();
        let damaged = side_files(self.dir, self.scene, cells, &mut |read| {
            *done += read;
            progress(Progress { done: *done, total: total.max(*done) });
        })?;
        for it in damaged {
            let meaning = it.meaning();
            self.find_of(Some(it.cell), it.error, meaning);
        }
        Ok(())
    }

    fn found_loss(&self) -> bool {
        self.seen.findings.iter().any(|finding| finding.meaning.is_loss())
    }

    /// What an open would refuse, unless it was found already.
    fn refusal(&mut self) {
        let observed = &self.scene.observed;
        let Some(error) = self.scene.refusal().cloned() else { return };
        let meaning = match self.scene.decision {
            Decision::RefuseMetadata | Decision::RefuseOlder => Meaning::Checkpoint,
            Decision::RefuseVersion => Meaning::Unsupported,
            Decision::RefuseSegment | Decision::RefuseTail | Decision::RefuseSideFile => {
                let is_there = self.scene.tail_name().is_some();
                let tail = observed.wrong.tail.clone().filter(|_| is_there);
                let facts = observed.seen.facts();
                let wrong = facts.tail != TailFact::Readable
                    || facts.after == AfterFact::Durable
                    || facts.after == AfterFact::Later && facts.metadata == MetadataFact::Clean;
                if let Some(error) = tail.filter(|_| wrong) {
                    self.find(error, Meaning::State);
                }
                match (self.scene.decision, &error) {
                    _ if facts.segments == SegmentsFact::OfAnother => Meaning::Blocking,
                    _ if self.found_loss() => return,
                    (Decision::RefuseSideFile, _) => Meaning::SideFile,
                    (_, Error::Damaged { reason: Damage::Length { .. }, .. }) => Meaning::Blocking,
                    _ => Meaning::Entries,
                }
            }
            _ => return,
        };
        self.find(error, meaning);
    }
}

/// What is wrong with a side file.
#[derive(Debug)]
pub(crate) struct SideFileDamage {
    /// A cell that refers to it.
    pub(crate) cell: String,
    pub(crate) reference: SideFileRef,
    pub(crate) error: Error,
}

impl SideFileDamage {
    /// Whether an open refuses the log for it: the file is not there, or has not its length.
    pub(crate) fn is_refused(&self) -> bool {
        let Error::Damaged { reason, .. } = &self.error else { return false };
        matches!(reason, Damage::MissingFile | Damage::Length { .. })
    }

    fn meaning(&self) -> Meaning {
        match (self.reference.is_zeros(), self.is_refused()) {
            (false, _) => Meaning::SideFile,
            (true, true) => Meaning::Blocking,
            (true, false) => Meaning::Redundant,
        }
    }
}

/// What is wrong with the side files that these cells refer to.
pub(crate) fn side_files(
    dir: &Dir,
    scene: &Scene,
    cells: impl IntoIterator<Item = (String, CellValue)>,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<SideFileDamage>> {
    let mut damaged = Vec::new();
    for (cell, value) in cells {
        let CellValue::SideFile(reference) = value else { continue };
        let name = reference.file_name();
        let path = || dir.join(&name);
        let reason = match scene.observed.files.damage_of(&reference) {
            Some(reason) => reason,
            None => match checksum(dir, &name, reference.length, progress) {
                // Nothing is known of its bytes.
                Err(error) if is_gone(&error) || error.is_shortage() => return Err(error),
                Err(error) => {
                    damaged.push(SideFileDamage { cell, reference, error });
                    continue;
                }
                Ok(expected) if expected != reference.crc => {
                    let (structure, got) = ("side file", reference.crc);
                    Damage::Checksum { structure, expected, got }
                }
                Ok(_) => continue,
            },
        };
        let error = Error::Damaged { path: path(), offset: 0, indexes: None, reason };
        damaged.push(SideFileDamage { cell, reference, error });
    }
    Ok(damaged)
}

/// The CRC of a file of any length.
fn checksum(dir: &Dir, name: &str, bytes: u64, progress: &mut dyn FnMut(u64)) -> Result<u32> {
    let file = dir.open(name, crate::io::Access::Read)?;
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 1024 * 1024];
    let mut at = 0;
    while at < bytes {
        let length = crate::format::number::to_usize(bytes - at).min(buffer.len());
        let (piece, _) = buffer.split_at_mut(length);
        file.read_at(at, piece).map_err(|source| Error::io("read", dir.join(name), source))?;
        hasher.update(piece);
        at += to_u64(length);
        progress(to_u64(length));
    }
    Ok(hasher.finalize())
}

impl Scene {
    /// Length of a segment file.
    pub(crate) fn length_of(&self, name: SegmentName) -> u64 {
        let files = self.observed.files.segments.get(&name.number);
        files
            .and_then(|files| files.iter().find(|(found, _)| *found == name))
            .map_or(0, |(_, bytes)| *bytes)
    }

    /// What is known of a segment from elsewhere.
    pub(crate) fn hints(
        &self,
        checkpoint: &Checkpoint,
        name: SegmentName,
        live: &Range<u64>,
    ) -> Hints {
        let is_tail = self.tail_name() == Some(name);
        let is_settled = name.number == checkpoint.tail_number;
        let links = self.observed.replayed.as_ref().map_or(&[][..], |all| &all.links);
        let link = links.last();
        let begun =
            links.split_last().and_then(|(_, sealed)| sealed.iter().find(|it| it.name == name));
        let tail_end = is_tail.then_some(link.map_or(checkpoint.tail_offset, |link| link.end));
        let generation =
            (name.number == checkpoint.tail_number).then_some(checkpoint.tail_generation);
        Hints {
            uuid: Uuid::from_bytes(checkpoint.uuid),
            segment_bytes: checkpoint.segment_bytes,
            generation,
            live_end: live.end,
            tail_end,
            settled: is_settled.then_some((checkpoint.tail_offset, checkpoint.next)),
            sealed_end: begun.map(|link| link.end),
        }
    }
}
