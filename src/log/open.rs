//! Creating and opening: from a directory to an open log.
//!
//! Owns: carrying out what recovery decided. Does not own: the decision.
//!
//! Steps of a create: (1) a first segment without a header, then the metadata file, marked as being
//! created, (2) one sync of the directory for both names, (3) the header, (4) both slots again without
//! the mark. The commit point is the name of the metadata file: after it, an open finishes what is
//! left. Nothing is acknowledged before (4). A segment without a header, beside no metadata file, is
//! what a crash before (2) may leave, and junk (`recovery::observe`). All that the system may have too
//! little of is taken before the commit point, so that a shortage leaves no log.
//!
//! Steps of an open, as docs/RECOVERY.md, "How an open reads", numbers them:
//!
//! * 1 to 6, in `recovery`: see what there is (`observe`, `replay`), and decide by the table (`table`).
//!   Nothing was changed so far, and a refusal changes nothing.
//! * 7, in here: go on after the last whole batch. The next one is numbered above every number that was
//!   seen in frames which are dropped, so that none of them ever fits after it. (a) A segment that was
//!   sealed since the checkpoint gets the footer that its frames call for. (b) The directory is synced,
//!   if segments were begun since: the checkpoint may name no file whose own name can be lost. (c) A
//!   checkpoint of what was recovered goes to both slots: the commit point. It moves the place after
//!   which the next open looks, and the reach up to which frames may be written from now on (INV-5).
//!   (d) What nothing refers to is removed, and the directory synced.
//!
//! A crash before (c) finds the log as this open did: (a) writes only where no frame is, and (b) makes
//! durable what was there. A crash after (c) leaves junk, which the next open removes.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::reader::{Reader, View};
use super::shared::Shared;
use super::signals::Signals;
use super::syncer::Syncer;
use super::watch::Watch;
use super::writer::{Writer, WriterLock};
use crate::clock::Moment;
use crate::directory::Dir;
use crate::directory::foreign;
use crate::directory::identity::Uuid;
use crate::directory::metadata::Metadata;
use crate::directory::side_file::SideFiles;
use crate::directory::spares::{Spare, Spares};
use crate::error::{Error, Result};
use crate::format::header::SEGMENT_HEADER_BYTES;
use crate::format::names::{LOCK, METADATA};
use crate::format::number::to_u64;
use crate::format::{Checkpoint, FIRST_SEGMENT, SegmentHeader, SegmentName};
use crate::io::{Access, Lock};
use crate::options::{Options, Preparation, WriteMode};
use crate::recovery::observe::{Files, Observed, observe};
use crate::recovery::replay::Replayed;
use crate::recovery::reseal::reseal;
use crate::recovery::table::{Decision, decide};
use crate::recovery::{RecoveryReport, Verdict};
use crate::segment::durable_part::DurablePart;
use crate::segment::offsets::Units;
use crate::segment::tail::{Tail, take_name, write_header};
use crate::segment::{FRAMES_START, Segment};
use crate::state::{CellValue, State};
use crate::telemetry::stats::Counters;

/// What a log consists of once it was created or recovered.
struct Parts {
    metadata: Metadata,
    checkpoint: Checkpoint,
    state: State,
    sequence: u64,
    tail: Tail,
    view: View,
    unindexed: Option<DurablePart>,
    /// Segments that hold nothing live and are still named.
    dead: Vec<Arc<Segment>>,
    spares: Spares,
    report: RecoveryReport,
}

/// Creates a log in a directory that has none.
pub(super) fn create(dir: Dir, options: &Options) -> Result<Arc<Shared>> {
    let _span = crate::telemetry::trace::open(dir.path());
    options.validate()?;
    check_direct(&dir, options)?;
    let started = Moment::now();
    // Before the lock is taken as well, so that nothing is left in a directory that is not ours.
    vacant(&dir, options)?;
    let lock = dir.lock()?;
    clear(&dir, options)?;
    let parts = begin(&dir, options, started).inspect_err(|_| {
        // What is left of it is junk, unless it is a log by now: then all of it stays.
        let _best_effort = clear(&dir, options);
    })?;
    Ok(build(dir, options, parts, lock))
}

/// Makes the files of a new log.
fn begin(dir: &Dir, options: &Options, started: Moment) -> Result<Parts> {
    let checkpoint = Checkpoint {
        uuid: *Uuid::random(dir.door()).as_bytes(),
        tail_number: FIRST_SEGMENT,
        tail_generation: dir.door().random(),
        tail_offset: FRAMES_START,
        reach: FRAMES_START,
        segment_bytes: options.segment_bytes,
        creating: true,
        runs: vec![(FIRST_SEGMENT, FIRST_SEGMENT)],
        ..Checkpoint::default()
    };
    let first = First::new(dir, options, &checkpoint)?;
    let metadata = Metadata::create(dir, &checkpoint, options.sync_method_in_force())?;
    // There is a log from here on, so this create cannot be made again.
    finish_create(dir, options, (metadata, checkpoint), first, started)
        .map_err(Error::with_unknown_outcome)
}

/// Removes what a create that was cut short left in a directory that has no log.
fn clear(dir: &Dir, options: &Options) -> Result<()> {
    let files = vacant(dir, options)?;
    dir.remove_junk(files.temporaries.into_iter().chain(names(files.spares)));
    Ok(())
}

/// The files of a directory in which a log can be created: none of another log, and nobody else's.
fn vacant(dir: &Dir, options: &Options) -> Result<Files> {
    let mut files = Files::list(dir)?;
    if files.any() {
        return Err(Error::AlreadyExists { path: dir.path().to_path_buf() });
    }
    if foreign::has_the_name_of_a_lock(dir, files.lock)? {
        files.foreign.push(LOCK.to_owned());
    }
    match foreign::refusal(dir, &files.foreign) {
        Some(refusal) if !options.beside_foreign_files => Err(refusal),
        _ => Ok(files),
    }
}

/// Opens the log in a directory.
pub(super) fn open(dir: Dir, options: &Options) -> Result<Arc<Shared>> {
    let _span = crate::telemetry::trace::open(dir.path());
    options.validate()?;
    check_direct(&dir, options)?;
    let started = Moment::now();
    // Only where it has no metadata file is the directory listed before the lock is there to be made.
    if dir.open(METADATA, Access::Read).is_err() && !Files::list(&dir)?.any() {
        return Err(Error::Missing { path: dir.path().to_path_buf() });
    }
    let lock = dir.lock()?;
    let observed = observe(&dir, options.sync_method_in_force())?;
    let decision = decide(&observed.seen);
    let parts = match decision {
        Decision::NoLog => return Err(Error::Missing { path: dir.path().to_path_buf() }),
        Decision::RefuseMetadata
        | Decision::RefuseVersion
        | Decision::RefuseSegment
        | Decision::RefuseOlder
        | Decision::RefuseTail
        | Decision::RefuseSideFile => {
            let unstated = Error::Internal { what: "a refusal without a reason" };
            return Err(observed.refusal(decision).cloned().unwrap_or(unstated));
        }
        Decision::FinishCreate => resume_create(&dir, options, observed, started)?,
        Decision::OpenClean | Decision::OpenRecovered | Decision::OpenTorn => {
            recover(&dir, options, observed, decision, started)?
        }
    };
    Ok(build(dir, options, parts, lock))
}

/// Refuses direct writes where they cannot be had.
fn check_direct(dir: &Dir, options: &Options) -> Result<()> {
    if options.write_mode_in_force() == WriteMode::Direct && !dir.door().takes_direct() {
        let reason = "the file system takes no direct writes";
        return Err(Error::InvalidOption { option: "write_mode", reason });
    }
    Ok(())
}

/// Finishes a create that was cut short: whatever there is of a first segment is made anew.
fn resume_create(
    dir: &Dir,
    options: &Options,
    observed: Observed,
    started: Moment,
) -> Result<Parts> {
    let Some((metadata, slots)) = observed.metadata else {
        return Err(Error::Internal { what: "a decision about a log without metadata" });
    };
    let files = observed.files;
    for (name, _) in files.segments.into_values().flatten() {
        // One that stayed would be taken for a segment of the log.
        dir.remove(&name.to_string())?;
    }
    dir.remove_junk(files.temporaries.into_iter().chain(names(files.spares)));
    // Makes the removals durable, so that the new first segment is the only one. A crash before
    // this finds the create unfinished again.
    dir.sync()?;
    let first = First::new(dir, options, &slots.newest)?;
    finish_create(dir, options, (metadata, slots.newest), first, started)
}

/// The first segment of a log that is being created: it has its name, and no header.
struct First {
    spares: Spares,
    spare: Spare,
    header: SegmentHeader,
    tail: Tail,
}

impl First {
    fn new(dir: &Dir, options: &Options, checkpoint: &Checkpoint) -> Result<Self> {
        let spares = new_spares(dir, options, checkpoint.segment_bytes);
        let spare = spares.prepare_in_line()?;
        let header = SegmentHeader {
            uuid: checkpoint.uuid,
            number: checkpoint.tail_number,
            base: checkpoint.first,
            generation: checkpoint.tail_generation,
            first_sequence: checkpoint.sequence + 1,
            segment_bytes: checkpoint.segment_bytes,
            ..SegmentHeader::default()
        };
        let tail = take_name(dir, &spare, &header, options)?;
        Ok(Self { spares, spare, header, tail })
    }
}

/// Begins the first segment, then takes back the mark of a log being created. The name of the metadata
/// file becomes durable on the way.
fn finish_create(
    dir: &Dir,
    options: &Options,
    (mut metadata, mut checkpoint): (Metadata, Checkpoint),
    First { spares, spare, header, tail }: First,
    started: Moment,
) -> Result<Parts> {
    // Makes the names of the metadata file and the segment durable: the commit point of `create`.
    // A crash before this leaves either without the other; the segment has no header then.
    dir.sync()?;
    write_header(dir, &spare, &header)?;
    let path = || dir.join(&tail.segment.name.to_string());
    // Makes the header durable, so that the checkpoint may rely on it. A crash before this leaves a
    // log that is still being created.
    tail.file
        .sync(0..to_u64(SEGMENT_HEADER_BYTES), options.sync_method_in_force())
        .map_err(|source| Error::io("sync", path(), source))?;
    checkpoint.creating = false;
    checkpoint.reach = reach(options, &checkpoint, FRAMES_START);
    metadata.write(&checkpoint)?;
    let mut view = View::new(checkpoint.first, checkpoint.next);
    view.begin(Arc::clone(&tail.segment), Units::default(), &mut Vec::new());
    Ok(Parts {
        metadata,
        state: State { first: checkpoint.first, next: checkpoint.next, ..State::default() },
        sequence: checkpoint.sequence,
        view,
        unindexed: None,
        dead: Vec::new(),
        checkpoint,
        tail,
        spares,
        report: RecoveryReport::created(started.elapsed()),
    })
}

/// Goes on with a log that was found.
fn recover(
    dir: &Dir,
    options: &Options,
    observed: Observed,
    decision: Decision,
    started: Moment,
) -> Result<Parts> {
    let unread = Error::Internal { what: "a decision to open a log that was not read" };
    let (Some((mut metadata, slots)), Some(mut replayed)) = (observed.metadata, observed.replayed)
    else {
        return Err(unread);
    };
    let found = slots.newest;
    if replayed.state.holes > 0 && !options.allow_holes {
        let path = dir.path().to_path_buf();
        return Err(Error::Incomplete { path, count: replayed.state.holes });
    }
    let sequence = replayed.newest_number();
    if let [first, _, ..] = replayed.links.as_mut_slice() {
        // It was sealed since the checkpoint, so its footer is to be made sure of.
        first.complete_offsets(dir)?;
    }
    let spares = new_spares(dir, options, found.segment_bytes);
    let tail = open_tail(dir, options, &found, &mut replayed, &spares)?;
    let unindexed = replayed.links.last().and_then(|link| link.durable_part(dir));
    let (view, mut dead) = view_of(dir, &found, &observed.segments, &mut replayed, &tail);
    let (runs, kept) = view.runs(&mut dead);
    let checkpoint = Checkpoint {
        generation: 0,
        sequence,
        first: replayed.state.first,
        next: replayed.state.next,
        tail_number: tail.segment.name.number,
        tail_generation: tail.salt.generation(),
        tail_offset: tail.position(),
        reach: reach(options, &found, tail.position()),
        last_frame: tail.last_frame(),
        clean: false,
        holes: replayed.state.holes,
        runs,
        cells: replayed.state.cells.to_map(),
        ..found
    };
    // Step 7, (a) to (d).
    reseal(dir, &found, &replayed, options.sync_method_in_force())?;
    if replayed.links.len() > 1 {
        // Makes the names of segments begun since the last checkpoint durable, before the next one
        // names them. A crash before this finds the log as this open did.
        dir.sync()?;
    }
    // The commit point.
    metadata.write(&checkpoint)?;
    let (removed, not_removed) = tidy(dir, options, &observed.files, &checkpoint, &spares, &dead)?;
    let report = RecoveryReport {
        verdict: verdict(dir, decision, &replayed),
        batches_replayed: replayed.batches,
        entries_replayed: replayed.entries,
        bytes_scanned: replayed.scanned,
        segments: to_u64(view.segment_count()),
        removed,
        not_removed,
        slot_rewritten: slots.unreadable.is_some(),
        leftover_bytes: replayed.leftover,
        elapsed: started.elapsed(),
    };
    let state = replayed.state;
    let dead = kept;
    Ok(Parts { metadata, checkpoint, state, sequence, tail, view, unindexed, dead, spares, report })
}

/// Maps the segment that goes on as the tail.
fn open_tail(
    dir: &Dir,
    options: &Options,
    found: &Checkpoint,
    replayed: &mut Replayed,
    spares: &Spares,
) -> Result<Tail> {
    let link =
        replayed.links.last_mut().ok_or(Error::Internal { what: "a replay without a tail" })?;
    let name = link.name;
    let write = options.write_mode_in_force() == WriteMode::Mmap;
    let region = link
        .file
        .map(found.segment_bytes, write)
        .map_err(|source| Error::io("map", dir.join(&name.to_string()), source))?;
    region.keep_back(SEGMENT_HEADER_BYTES);
    region.publish(crate::format::number::to_usize(link.end));
    let uuid = Uuid::from_bytes(found.uuid);
    let salt = link.salt.clone();
    let mapped = (Arc::clone(&link.file), region);
    let segment = Segment::with_region(dir, uuid, name, mapped, salt.clone());
    let order = std::sync::atomic::Ordering::Relaxed;
    segment.compressed.store(link.offsets.compressed, order);
    segment.holes.store(link.offsets.holes, order);
    // What was made ready after the frames is not known any more.
    let space = spares.space(Arc::clone(&link.file), link.end);
    space.open().map_err(|source| Error::io("open", dir.join(&name.to_string()), source))?;
    let mut tail = Tail::new(Arc::new(segment), space, salt, link.end, options)?;
    tail.frame_at(link.last_frame);
    Ok(tail)
}

/// The view of a recovered log, and the segments that hold nothing live.
fn view_of(
    dir: &Dir,
    found: &Checkpoint,
    named: &[SegmentName],
    replayed: &mut Replayed,
    tail: &Tail,
) -> (View, Vec<Arc<Segment>>) {
    let (first, next) = (replayed.state.first, replayed.state.next);
    let last = replayed.links.last_mut();
    let units = last.map_or_else(Units::default, |link| std::mem::take(&mut link.offsets.units));
    let mut view = View::new(first, next);
    let uuid = Uuid::from_bytes(found.uuid);
    let begun = replayed.links.iter().skip(1).map(|link| link.name);
    let mut dead = Vec::new();
    for name in named.iter().copied().chain(begun) {
        let segment = if name == tail.segment.name {
            Arc::clone(&tail.segment)
        } else {
            Arc::new(Segment::sealed(dir, uuid, name, found.segment_bytes))
        };
        view.begin(segment, Units::default(), &mut dead);
    }
    view.trim(first, &mut dead);
    view.set_tail_units(units);
    (view, dead)
}

/// Removes what nothing refers to, and takes over spares. Returns what it removed, and what stays.
fn tidy(
    dir: &Dir,
    options: &Options,
    files: &Files,
    checkpoint: &Checkpoint,
    spares: &Spares,
    dead: &[Arc<Segment>],
) -> Result<(Vec<String>, Vec<String>)> {
    let (mut gone, mut junk) = (Vec::new(), Vec::new());
    for (name, _) in files.segments.values().flatten() {
        if name.number > checkpoint.tail_number {
            // The log will have a segment of this number, and there must not be two.
            dir.remove(&name.to_string())?;
            gone.push(name.to_string());
        } else if !checkpoint.names(name.number) || dead.iter().any(|segment| segment.name == *name)
        {
            junk.push(name.to_string());
        }
    }
    for (name, bytes) in &files.spares {
        let fits = *bytes == checkpoint.segment_bytes && spares.count() < options.spares;
        let (uuid, tail) = (checkpoint.uuid, checkpoint.tail_generation);
        if !(fits && spares.adopt(name.clone(), uuid, tail).unwrap_or(false)) {
            junk.push(name.clone());
        }
    }
    let referred: HashSet<u64> = side_files(checkpoint).collect();
    for id in files.sides.keys().filter(|id| !referred.contains(id)) {
        junk.push(crate::format::names::side_file(*id));
    }
    spares.leave(&files.temporaries);
    let mut stays = if options.background { Vec::new() } else { spares.remove_leftovers() };
    stays.extend(dir.remove_junk(junk.iter().cloned()));
    gone.extend(junk);
    if !gone.is_empty() {
        // Makes the removals durable, so that a new segment never meets an old one with its
        // number. A crash before this only leaves the junk for the next open.
        dir.sync()?;
    }
    gone.extend_from_slice(&files.temporaries);
    gone.retain(|name| !stays.contains(name));
    Ok((gone, stays))
}

fn verdict(dir: &Dir, decision: Decision, replayed: &Replayed) -> Verdict {
    match (decision, replayed.links.last()) {
        (Decision::OpenClean, _) => Verdict::Clean,
        (Decision::OpenTorn, Some(link)) => Verdict::TornTail {
            path: dir.join(&link.name.to_string()),
            offset: link.end,
            sequence: replayed.sequence + 1,
            bytes: replayed.after.end.saturating_sub(link.end),
        },
        _ => Verdict::Recovered,
    }
}

fn side_files(checkpoint: &Checkpoint) -> impl Iterator<Item = u64> + '_ {
    checkpoint.cells.values().filter_map(|value| match value {
        CellValue::SideFile(reference) => Some(reference.id),
        CellValue::Inline(_) => None,
    })
}

fn names(spares: Vec<(String, u64)>) -> impl Iterator<Item = String> {
    spares.into_iter().map(|(name, _)| name)
}

fn new_spares(dir: &Dir, options: &Options, segment_bytes: u64) -> Spares {
    let in_memory = options.volatile.then_some(Preparation::Sparse);
    let preparation = in_memory.unwrap_or(options.preparation_in_force());
    let direct = options.write_mode_in_force() == WriteMode::Direct;
    Spares::new(dir, segment_bytes, (preparation, direct), options.spares)
}

/// How far the tail may grow under a checkpoint at `position`.
fn reach(options: &Options, checkpoint: &Checkpoint, position: u64) -> u64 {
    let step = options.checkpoint_bytes_in_force(checkpoint.segment_bytes);
    position.saturating_add(step.saturating_mul(2)).min(checkpoint.segment_bytes)
}

fn build(dir: Dir, options: &Options, parts: Parts, lock: Box<dyn Lock>) -> Arc<Shared> {
    let Parts {
        metadata,
        checkpoint,
        state,
        sequence,
        tail,
        view,
        unindexed,
        dead,
        spares,
        report,
    } = parts;
    let attached = SideFiles::new(side_files(&checkpoint));
    let writer = Writer::new(state, tail, sequence, checkpoint.reach, dead);
    // Segments in memory need no copy of what is in them.
    let warm_bytes = if options.volatile { 0 } else { options.warm_bytes };
    Arc::new(Shared {
        dir,
        uuid: Uuid::from_bytes(checkpoint.uuid),
        options: options.clone(),
        segment_bytes: checkpoint.segment_bytes,
        report,
        writer: WriterLock::new(writer),
        syncer: Syncer::new(metadata, sequence),
        reader: Reader::new(view, unindexed, warm_bytes),
        spares,
        side_files: Arc::new(attached),
        counters: Counters::new(),
        signals: Signals::default(),
        watch: Watch::default(),
        poison: OnceLock::new(),
        closed: AtomicBool::new(false),
        preparing: Mutex::new(()),
        space_held: AtomicUsize::new(0),
        lock: Mutex::new(Some(lock)),
    })
}
