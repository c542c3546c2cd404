//! Observing: what is in the directory, read into what the table decides on.
//!
//! Steps 1 to 6 of docs/RECOVERY.md, "How an open reads": (1) list the directory, (2) read both slots
//! from the medium, (3) see that every segment the checkpoint names is there once, with the right
//! length, and that those whose base takes entries from others have the header their name says, (4) to
//! (6) replay the tail and search after it (`replay`). What was seen is noted for each; nothing is left
//! out because something else refuses the log already.
//!
//! Owns: reading the directory, the slots and the tail. Does not own: any decision. Changes
//! nothing, but for what `Access::Distrust` makes durable that was written already.

use std::collections::BTreeMap;

use super::holes::recount;
use super::replay::{Later, Link, Replayed, open_link, replay, search_segment};
use super::table::{
    AfterFact, Decision, MetadataFact, Searched, Seen, SegmentsFact, SideFilesFact, TailFact,
};
use crate::directory::Dir;
use crate::directory::identity::Uuid;
use crate::directory::metadata::{Metadata, Slots};
use crate::error::{Damage, Error, Result};
use crate::format::header::SEGMENT_HEADER_USED_BYTES;
use crate::format::names::METADATA;
use crate::format::number::{to_u64, to_usize};
use crate::format::{Checkpoint, FIRST_SEGMENT, FileName, SegmentName, SideFileRef};
use crate::io::Access;
use crate::options::{SEGMENT_BYTES_MAX, SEGMENTS_MAX, SyncMethod};
use crate::planted::{Bug, planted};
use crate::segment::Segment;

/// The files of a directory, by what they are.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pub(crate) metadata: Option<u64>,
    /// Bytes of the file `lock`; 0 without one.
    pub(crate) lock: u64,
    pub(crate) segments: BTreeMap<u64, Vec<(SegmentName, u64)>>,
    pub(crate) spares: Vec<(String, u64)>,
    pub(crate) sides: BTreeMap<u64, u64>,
    pub(crate) temporaries: Vec<String>,
    /// What stands under names that files of a log have, and is no plain file.
    pub(crate) displacing: BTreeMap<String, &'static str>,
    /// Names of what is nobody's here, be they those of files or not.
    pub(crate) foreign: Vec<String>,
}

impl Files {
    pub(crate) fn list(dir: &Dir) -> Result<Self> {
        let mut files = Self::default();
        for entry in dir.list_everything()? {
            let mut kind = FileName::classify(&entry.name);
            if let Some(what) = entry.other {
                if matches!(kind, FileName::Metadata | FileName::Segment(_) | FileName::Side(_)) {
                    files.displacing.insert(entry.name.clone(), what);
                }
                kind = FileName::Foreign;
            }
            match kind {
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
                FileName::Lock => files.lock = entry.bytes,
            }
        }
        files.forget_unborn(dir)?;
        Ok(files)
    }

    /// What is wrong with a side file, as far as its length tells.
    pub(crate) fn damage_of(&self, file: &SideFileRef) -> Option<Damage> {
        match self.sides.get(&file.id) {
            None => Some(self.absence(&file.file_name())),
            Some(&got) if got != file.length => Some(Damage::Length { expected: file.length, got }),
            Some(_) => None,
        }
    }

    /// Takes a first segment that was never begun for the unfinished file that it is. A create gives
    /// metadata file and segment their names with one sync, and writes to the segment only after it;
    /// so a crash before may leave the segment alone, and then it holds nothing but zeros.
    fn forget_unborn(&mut self, dir: &Dir) -> Result<()> {
        let alone = self.metadata.is_none() && self.sides.is_empty() && self.displacing.is_empty();
        let alone = alone && self.segments.len() == 1;
        let Some((name, bytes)) = self.segment(FIRST_SEGMENT).filter(|_| alone) else {
            return Ok(());
        };
        // Not even its length is sure to be there.
        if name.base == 0 && bytes <= SEGMENT_BYTES_MAX && is_zero(dir, &name.to_string(), bytes)? {
            self.segments.clear();
            self.temporaries.push(name.to_string());
        }
        Ok(())
    }

    /// Whether there are traces of a log.
    pub(crate) fn any(&self) -> bool {
        (self.metadata.is_some() || self.any_besides()) && !planted(Bug::CreateOverALog)
    }

    /// Whether there are traces of a log beside its metadata file.
    fn any_besides(&self) -> bool {
        !(self.segments.is_empty() && self.sides.is_empty() && self.displacing.is_empty())
    }

    /// Why there is no file of this name.
    fn absence(&self, name: &str) -> Damage {
        let displacing = self.displacing.get(name);
        displacing.map_or(Damage::MissingFile, |what| Damage::NotAFile { what })
    }

    /// What stands under names of segments, and is no plain file.
    fn displaced_segments(&self) -> impl Iterator<Item = SegmentName> + '_ {
        self.displacing.keys().filter_map(|name| match FileName::classify(name) {
            FileName::Segment(name) => Some(name),
            _ => None,
        })
    }

    /// The first number above those of all segments, whatever has their names.
    #[cfg(feature = "tools")]
    pub(crate) fn next_number(&self) -> u64 {
        let displaced = self.displaced_segments().map(|name| name.number);
        let taken = self.segments.keys().copied().chain(displaced);
        taken.filter_map(|number| number.checked_add(1)).max().unwrap_or(FIRST_SEGMENT)
    }

    /// Why there is not the one segment file with this number, and the name to blame.
    pub(crate) fn lack(&self, number: u64) -> (String, Damage) {
        let files = self.segments.get(&number).map_or(0, |files| to_u64(files.len()));
        let displaced = self.displaced_segments().find(|name| name.number == number);
        let name = displaced.map_or_else(|| format!("{number:016x}-*.seg"), |it| it.to_string());
        let reason = if files > 0 { Damage::Ambiguous { files } } else { self.absence(&name) };
        (name, reason)
    }

    /// The one segment file with this number.
    fn segment(&self, number: u64) -> Option<(SegmentName, u64)> {
        match self.segments.get(&number).map(Vec::as_slice) {
            Some([only]) => Some(*only),
            _ => None,
        }
    }
}

/// Whether a file reads as zeros to its end.
fn is_zero(dir: &Dir, name: &str, bytes: u64) -> Result<bool> {
    const CHUNK_BYTES: u64 = 64 * 1024;
    let file = dir.open(name, Access::Read)?;
    let mut chunk = vec![0; to_usize(bytes.min(CHUNK_BYTES))];
    let mut at = 0;
    while at < bytes {
        let length = (bytes - at).min(CHUNK_BYTES);
        let part = chunk.get_mut(..to_usize(length)).unwrap_or_default();
        file.read_at(at, part).map_err(|source| Error::io("read", dir.join(name), source))?;
        if part.iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
        at += length;
    }
    Ok(true)
}

/// Everything an open has to know.
#[derive(Debug)]
pub(crate) struct Observed {
    pub(crate) seen: Seen,
    pub(crate) files: Files,
    pub(crate) metadata: Option<(Metadata, Slots)>,
    /// Segments the checkpoint names, ascending by number.
    pub(crate) segments: Vec<SegmentName>,
    pub(crate) replayed: Option<Replayed>,
    pub(crate) wrong: Wrong,
}

/// What is wrong with each part of a log. The table says whether it is refused for that.
#[derive(Debug, Default)]
pub(crate) struct Wrong {
    metadata: Option<Error>,
    segments: Option<Error>,
    /// The metadata file is older than the log.
    older: Option<Error>,
    /// With the tail, or with its end, which is also there if that is only torn.
    pub(crate) tail: Option<Error>,
    side_file: Option<Error>,
}

/// Looks at a directory whose lock is held. An error here means that something could not be read
/// at all; what was read and is wrong is noted.
pub(crate) fn observe(dir: &Dir, sync_method: SyncMethod) -> Result<Observed> {
    let files = Files::list(dir)?;
    let seen = Seen {
        metadata: MetadataFact::Absent,
        segments: if files.any_besides() { SegmentsFact::Present } else { SegmentsFact::None },
        tail: TailFact::Readable,
        sequence: 0,
        searched: Vec::new(),
        excluded: None,
        side_files: SideFilesFact::Present,
    };
    let (metadata, segments, replayed) = (None, Vec::new(), None);
    let wrong = Wrong::default();
    let mut observed = Observed { seen, files, metadata, segments, replayed, wrong };
    let Some(bytes) = observed.files.metadata else {
        let (path, reason) = (dir.join(METADATA), observed.files.absence(METADATA));
        observed.wrong.metadata = Some(Error::Damaged { path, offset: 0, indexes: None, reason });
        return Ok(observed);
    };
    match Metadata::open(dir, bytes, sync_method) {
        Ok(metadata) => observed.look_further(dir, metadata)?,
        Err(error) => {
            observed.seen.metadata = match &error {
                Error::UnsupportedVersion { .. } | Error::UnsupportedFeature { .. } => {
                    MetadataFact::Unsupported
                }
                Error::Damaged { .. } => MetadataFact::Unreadable,
                _ => return Err(error),
            };
            observed.wrong.metadata = Some(error);
        }
    }
    Ok(observed)
}

impl Observed {
    /// Steps 3 to 6, with a checkpoint at hand. What is wrong in one of them keeps none of the others
    /// from being looked at, as far as it can be: a repair and `verify` want to know all of it.
    fn look_further(&mut self, dir: &Dir, metadata: (Metadata, Slots)) -> Result<()> {
        let checkpoint = metadata.1.newest.clone();
        self.metadata = Some(metadata);
        self.seen.sequence = checkpoint.sequence;
        self.seen.metadata = match (checkpoint.creating, checkpoint.clean) {
            (true, _) => MetadataFact::Creating,
            (false, true) => MetadataFact::Clean,
            (false, false) => MetadataFact::Open,
        };
        if let Some(error) = of_another(dir, &checkpoint, &self.files)? {
            self.seen.segments = SegmentsFact::OfAnother;
            self.wrong.segments = Some(error);
        }
        if checkpoint.creating {
            return self.look_for_frames(dir, &checkpoint);
        }
        let missing;
        (self.segments, missing) = named_segments(dir, &checkpoint, &self.files);
        if let Some(error) = missing {
            // The tail is looked at all the same: what it says is still true, for whoever repairs.
            self.seen.segments = SegmentsFact::SomeMissing;
            self.wrong.segments = Some(error);
        }
        // Steps 4 to 6.
        self.look_at_tail(dir, &checkpoint)?;
        if let Some(replayed) = self.replayed.as_mut().filter(|it| it.state.holes > 0) {
            recount(dir, &checkpoint, &self.segments, replayed)?;
        }
        if self.seen.segments == SegmentsFact::Present
            && let Some(replayed) = &self.replayed
            && let Some(error) = misnamed(dir, &checkpoint, &self.segments, replayed)?
        {
            self.seen.segments = SegmentsFact::Misnamed;
            self.wrong.segments = Some(error);
        }
        // After a torn end the state is as good as any, and so must its side files be.
        if self.seen.facts().after != AfterFact::Durable
            && let Some(replayed) = &self.replayed
            && let Some(error) = missing_side_file(dir, replayed, &self.files)
        {
            self.seen.side_files = SideFilesFact::SomeMissing;
            self.wrong.side_file = Some(error);
        }
        self.wrong.older = self.seen.beyond().map(|found| older(dir, &checkpoint, found));
        Ok(())
    }

    /// In a log that is only being created there are none; a metadata file of that time, put under a
    /// log that was used since, must not have it created again.
    fn look_for_frames(&mut self, dir: &Dir, checkpoint: &Checkpoint) -> Result<()> {
        let later = Directory { dir, checkpoint, files: &self.files };
        later.each_above(0, &mut |segment| {
            self.seen.excluded = segment.first_frame(dir)?.or(self.seen.excluded);
            Ok(())
        })?;
        self.wrong.older = self.seen.beyond().map(|found| older(dir, checkpoint, found));
        Ok(())
    }

    /// Steps 4 to 6: the header of the tail and the last frame before the checkpoint's place, then what
    /// is after it. Only what was read is noted here; whether it is a torn end or damage, and whether
    /// the checkpoint is the newest, follows in the table.
    fn look_at_tail(&mut self, dir: &Dir, checkpoint: &Checkpoint) -> Result<()> {
        let later = Directory { dir, checkpoint, files: &self.files };
        let tail = match open_tail(dir, checkpoint, &self.segments, &self.files) {
            Err(error @ (Error::Io { .. } | Error::Exhausted { .. })) => return Err(error),
            Err(error) => {
                self.seen.tail = TailFact::Unreadable;
                self.wrong.tail = Some(error);
                self.seen.searched = search_unnamed(dir, checkpoint, &later)?;
                return Ok(());
            }
            Ok(tail) => tail,
        };
        let at_place = if checkpoint.clean { tail.batch_after(dir)? } else { None };
        match replay(dir, checkpoint, tail, &later) {
            Err(error) if !matches!(error, Error::Damaged { .. }) => return Err(error),
            Err(error) => {
                self.seen.tail = TailFact::Contradicts;
                self.wrong.tail = Some(error);
                self.seen.searched = search_unnamed(dir, checkpoint, &later)?;
            }
            Ok(replayed) => {
                self.seen.sequence = replayed.sequence;
                self.seen.searched.clone_from(&replayed.searched);
                self.seen.excluded = at_place;
                if self.seen.facts().after != AfterFact::Nothing {
                    self.wrong.tail = Some(lost_batch(dir, &replayed));
                }
                self.replayed = Some(replayed);
            }
        }
        Ok(())
    }
}

impl Observed {
    /// The error for a log that is refused, by what it is refused for.
    pub(crate) fn refusal(&self, decision: Decision) -> Option<&Error> {
        match decision {
            Decision::RefuseMetadata | Decision::RefuseVersion => self.wrong.metadata.as_ref(),
            Decision::RefuseSegment => self.wrong.segments.as_ref(),
            Decision::RefuseOlder => self.wrong.older.as_ref(),
            Decision::RefuseTail => self.wrong.tail.as_ref(),
            Decision::RefuseSideFile => self.wrong.side_file.as_ref(),
            Decision::NoLog
            | Decision::FinishCreate
            | Decision::OpenClean
            | Decision::OpenRecovered
            | Decision::OpenTorn => None,
        }
    }

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

/// Searches the segments that no checkpoint names, where the tail does not lead to them.
fn search_unnamed(
    dir: &Dir,
    checkpoint: &Checkpoint,
    later: &Directory<'_>,
) -> Result<Vec<Searched>> {
    let mut searched = Vec::new();
    later.each_above(checkpoint.tail_number, &mut |segment| {
        let found = search_segment(dir, &segment, checkpoint.sequence + 1)?;
        searched.push(segment.searched(None, found));
        Ok(())
    })?;
    Ok(searched)
}

/// The segments in a directory after the tail of a checkpoint.
struct Directory<'a> {
    dir: &'a Dir,
    checkpoint: &'a Checkpoint,
    files: &'a Files,
}

impl Directory<'_> {
    fn open(&self, (name, length): (SegmentName, u64)) -> Result<Option<Link>> {
        let bytes = self.checkpoint.segment_bytes;
        if length != bytes {
            return Ok(None);
        }
        match open_link(self.dir, Uuid::from_bytes(self.checkpoint.uuid), name, bytes, 0, bytes) {
            Ok(link) => Ok(Some(link)),
            Err(Error::Damaged { .. }) => Ok(None),
            Err(_) if planted(Bug::UnopenedSegmentSkipped) => Ok(None),
            // It may be as good as any: a batch in it would be dropped without a word.
            Err(error) => Err(error),
        }
    }
}

impl Later for Directory<'_> {
    fn link(&self, number: u64) -> Result<Option<Link>> {
        self.files.segment(number).map_or(Ok(None), |found| self.open(found))
    }

    fn each_above(&self, number: u64, look: &mut dyn FnMut(Link) -> Result<()>) -> Result<()> {
        let above = self.files.segments.range(number.saturating_add(1)..);
        for &found in above.flat_map(|(_, found)| found) {
            self.open(found)?.map_or(Ok(()), &mut *look)?;
        }
        Ok(())
    }
}

/// The error for a file that an open would remove, because it is no segment of this log, and that has
/// the header of one of another log: somebody has moved it here. Few files are looked at: those that no
/// checkpoint names.
fn of_another(dir: &Dir, checkpoint: &Checkpoint, files: &Files) -> Result<Option<Error>> {
    let named = |number: u64| !checkpoint.creating && checkpoint.names(number);
    let uuid = Uuid::from_bytes(checkpoint.uuid);
    let unnamed = files.segments.iter().filter(|(number, _)| !named(**number));
    for (name, bytes) in unnamed.flat_map(|(_, found)| found) {
        if *bytes < to_u64(SEGMENT_HEADER_USED_BYTES) || planted(Bug::OtherLogsOverlooked) {
            continue;
        }
        let header = dir.segment_header(&name.to_string())?;
        if let Some(header) = header.ok().filter(|header| header.uuid != checkpoint.uuid) {
            let segment = Segment::sealed(dir, uuid, *name, checkpoint.segment_bytes);
            return Ok(segment.compare(&header).err());
        }
    }
    Ok(None)
}

/// The error for a segment that takes entries from others, by its name, and is not what that says.
/// Where nothing is taken, reads look at the headers themselves.
fn misnamed(
    dir: &Dir,
    checkpoint: &Checkpoint,
    named: &[SegmentName],
    replayed: &Replayed,
) -> Result<Option<Error>> {
    if planted(Bug::NamesBelieved) {
        return Ok(None);
    }
    // Two kinds of segments take entries away by their name alone: the one that the first entry is in
    // makes all before it dead, and one whose base is not above that of an earlier one replaces its
    // end. If such a name lies, acknowledged entries are gone without a word; so its header is asked.
    let first = replayed.state.first;
    // Those before it hold nothing live, if it begins where it says.
    let holds_first = named.iter().rposition(|name| name.base <= first).filter(|at| *at > 0);
    let mut highest = None;
    let takes = named.iter().enumerate().filter(|(at, name)| {
        let replaces = highest.is_some_and(|highest| highest >= name.base);
        highest = highest.max(Some(name.base));
        replaces || holds_first == Some(*at)
    });
    // And one whose base is that of a later one, or above it, gives away all its own.
    let mut lowest = u64::MAX;
    let is_empty = named.iter().rev().filter(|name| {
        let gives_all = name.base >= lowest;
        lowest = lowest.min(name.base);
        gives_all
    });
    let uuid = Uuid::from_bytes(checkpoint.uuid);
    let taking = takes.map(|(_, name)| (name, true));
    let decisive = taking.chain(is_empty.map(|name| (name, false)));
    for (name, takes) in decisive.filter(|(name, _)| name.number != checkpoint.tail_number) {
        let segment = Segment::sealed(dir, uuid, *name, checkpoint.segment_bytes);
        match segment.read_header() {
            Err(error @ Error::Damaged { .. }) if takes || contradicts(&error) => {
                return Ok(Some(error));
            }
            // Nothing in it counts, whatever became of its header.
            Err(Error::Damaged { .. }) => {}
            header => header.map(drop)?,
        }
    }
    Ok(None)
}

/// Whether a header can be read, and is not that of the segment.
fn contradicts(error: &Error) -> bool {
    let Error::Damaged { reason, .. } = error else { return false };
    matches!(reason, Damage::Field { .. } | Damage::Identity { .. })
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
    let missing = |number: u64| {
        let (name, reason) = files.lack(number);
        damaged(name, reason)
    };
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
    // A segment ends where the lowest base of any later one begins (INV-1). So, going back from the
    // tail, the last one that begins lower than all after it holds the first entries.
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

fn open_tail(
    dir: &Dir,
    checkpoint: &Checkpoint,
    segments: &[SegmentName],
    files: &Files,
) -> Result<Link> {
    let number = checkpoint.tail_number;
    let Some(name) = segments.last().filter(|name| name.number == number) else {
        let (name, reason) = match files.segment(number) {
            Some((name, got)) => {
                (name.to_string(), Damage::Length { expected: checkpoint.segment_bytes, got })
            }
            None => files.lack(number),
        };
        return Err(Error::Damaged { path: dir.join(&name), offset: 0, indexes: None, reason });
    };
    let link = open_link(
        dir,
        Uuid::from_bytes(checkpoint.uuid),
        *name,
        checkpoint.segment_bytes,
        checkpoint.tail_offset,
        // A close leaves nothing after its checkpoint, so there is nothing to look for.
        if checkpoint.clean { checkpoint.tail_offset } else { checkpoint.reach },
    )?;
    if link.header.generation != checkpoint.tail_generation {
        let (expected, got) = (checkpoint.tail_generation, link.header.generation);
        let reason = Damage::Field { field: "generation", expected, got };
        let path = dir.join(&name.to_string());
        return Err(Error::Damaged { path, offset: 0, indexes: None, reason });
    }
    link.check_last_frame(dir, checkpoint)?;
    Ok(link)
}

/// The error for a metadata file that is not the newest there was: a frame of this batch stands where
/// it says that there is none.
fn older(dir: &Dir, checkpoint: &Checkpoint, found: u64) -> Error {
    let reason = Damage::MetadataOlder { checkpoint: checkpoint.sequence, found };
    Error::Damaged { path: dir.join(METADATA), offset: 0, indexes: None, reason }
}

/// The error for a batch that cannot be read although it should be there.
fn lost_batch(dir: &Dir, replayed: &Replayed) -> Error {
    let (expected, durable) = (replayed.sequence + 1, replayed.after.durable);
    let (path, offset) = match replayed.links.last() {
        Some(link) => (dir.join(&link.name.to_string()), link.end),
        None => (dir.path().to_path_buf(), 0),
    };
    let reason = Damage::AcknowledgedFrame { sequence: expected, durable: durable.max(expected) };
    Error::Damaged { path, offset, indexes: Some(replayed.state.next..u64::MAX), reason }
}

fn missing_side_file(dir: &Dir, replayed: &Replayed, files: &Files) -> Option<Error> {
    replayed.state.cells.side_files().find_map(|file| {
        if planted(Bug::MissingSideFileIgnored) {
            return None;
        }
        let (reason, path) = (files.damage_of(&file)?, dir.join(&file.file_name()));
        Some(Error::Damaged { path, offset: 0, indexes: None, reason })
    })
}
