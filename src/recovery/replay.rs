//! Replaying the tail: which batches are whole, where they end, and what they add up to.
//!
//! Owns: the walk after the checkpoint, over as many segments as were begun since. Does not own:
//! the verdict (`table`).
//!
//! Steps 4 to 6 of docs/RECOVERY.md, "How an open reads":
//!
//! 4. What comes before the place of the checkpoint was durable. Nothing of it is read but the header
//!    of its last frame, without which the tail is an older copy, and after a close the header of the
//!    first frame after it, with which the metadata file is one.
//! 5. From there on, frame by frame: a frame belongs to the log if it is sound, if its batch is the one
//!    after the last whole one, and if it opens a batch exactly where none is open. Where frames end
//!    and segment `n + 1` states this generation, this end and the next batch, go on in it. The end is
//!    after the last whole batch, which may be some frames or a segment before the place that was
//!    reached.
//! 6. Everything after the end is searched for headers of later batches: the rest up to the block after
//!    the reach, the block of the segment header, and every segment with a higher number. What they
//!    state as durable, and where they stand at all, goes into the table.
//!
//! A batch is applied when its last frame has been seen, so that one which was cut disappears whole.
//! Every byte is checked once, soon after it was read; only a batch that began in an earlier segment is
//! read again to be applied.

use std::ops::Range;
use std::sync::Arc;

use super::table::Searched;
use super::window::Window;
use crate::directory::Dir;
use crate::directory::identity::Uuid;
use crate::error::{Damage, Error, Result};
use crate::format::error::FrameError;
use crate::format::footer::TABLE_ENTRY_BYTES;
use crate::format::frame::{FRAME_HEADER_BYTES, FrameHeader, Salt, peek_header};
use crate::format::kind::{Effect, Span};
use crate::format::number::{to_u64, to_usize};
use crate::format::{BLOCK_BYTES, Checkpoint, SegmentHeader, SegmentName};
use crate::io::{Access, File};
use crate::planted::{Bug, planted};
use crate::segment::durable_part::DurablePart;
use crate::segment::offsets::{Offsets, Units};
use crate::segment::tail::footer_space;
use crate::segment::walk::{Evidence, Found, Part, Policy, Walk, is_quiet, search};
use crate::segment::witness::SECTOR;
use crate::segment::{FRAMES_START, Segment, witness};
use crate::state::State;

/// One segment of the chain that starts with the checkpoint's tail.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) name: SegmentName,
    pub(crate) header: SegmentHeader,
    pub(crate) salt: Salt,
    pub(crate) file: Arc<dyn File>,
    /// Where frames may be: the reach of the checkpoint, or the whole file.
    limit: u64,
    /// Where the walk starts, and the end of what counts. The offsets of entries before are unknown.
    from: u64,
    pub(crate) end: u64,
    /// Where the last frame before the end starts; 0 if there is none.
    pub(crate) last_frame: u64,
    pub(crate) offsets: Offsets,
    /// What comes before `from` was looked at, and its frames are sound.
    looked: bool,
    /// The witnesses in the block of the header.
    apart: Vec<FrameHeader>,
}

impl Link {
    /// Where the block ends in which a witness of the last frames may be; nowhere after a close.
    fn searched_to(&self) -> u64 {
        if self.from >= self.limit {
            return self.limit;
        }
        witness::searched_to(self.limit, self.header.segment_bytes)
    }

    /// Its frames from there on, and the block after where they may be.
    fn window(&self, dir: &Dir) -> Window {
        let (file, path) = (Arc::clone(&self.file), dir.join(&self.name.to_string()));
        Window::new(file, path, self.from..self.searched_to())
    }

    /// What was durable before the checkpoint, if nobody has looked at it. Also where no entry counts
    /// that is in it: once entries follow, a walk has to get past its frames.
    pub(crate) fn durable_part(&self, dir: &Dir) -> Option<DurablePart> {
        let (dir, name, salt) = (dir.clone(), self.name, self.salt.clone());
        let (file, end) = (Arc::clone(&self.file), self.from);
        let any = self.from > FRAMES_START && !self.looked;
        any.then_some(DurablePart { dir, name, salt, file, end })
    }

    /// The header of the frame at an offset, if there is a whole one.
    fn header_at(&self, dir: &Dir, offset: u64) -> Result<Option<FrameHeader>> {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        if offset.saturating_add(to_u64(bytes.len())) > self.header.segment_bytes {
            return Ok(None);
        }
        let path = || dir.join(&self.name.to_string());
        let read = self.file.read_at(offset, &mut bytes);
        read.map_err(|source| Error::io("read", path(), source))?;
        let found = peek_header(&bytes, &self.salt, offset).ok();
        Ok(found.filter(|header| !header.is_witness()))
    }

    /// The batch of the first frame.
    pub(crate) fn first_frame(&self, dir: &Dir) -> Result<Option<u64>> {
        Ok(self.header_at(dir, FRAMES_START)?.map(|header| header.sequence))
    }

    /// The batch that begins at the place of the checkpoint.
    pub(crate) fn batch_after(&self, dir: &Dir) -> Result<Option<u64>> {
        Ok(self.header_at(dir, self.from)?.map(|header| header.sequence))
    }

    /// Refuses a tail without the last frame before the place of the checkpoint: an older copy.
    pub(crate) fn check_last_frame(&self, dir: &Dir, checkpoint: &Checkpoint) -> Result<()> {
        let offset = checkpoint.last_frame;
        if offset == 0 {
            return Ok(());
        }
        let end = |header: &FrameHeader| offset.saturating_add(to_u64(header.frame_bytes()));
        let found = self.header_at(dir, offset)?.filter(|header| {
            end(header) == checkpoint.tail_offset && header.sequence <= checkpoint.sequence
        });
        if found.is_some() {
            return Ok(());
        }
        let path = dir.join(&self.name.to_string());
        let reason = Damage::LastFrame { sequence: checkpoint.sequence };
        Err(Error::Damaged { path, offset, indexes: None, reason })
    }

    /// What the witnesses in the block of the header state.
    fn witnesses(&self, expected: u64) -> impl Iterator<Item = Evidence> + '_ {
        self.apart.iter().map(move |header| Evidence::of(header, 0, expected))
    }

    /// What was found in it after the last whole batch.
    pub(super) fn searched(&self, limit: Option<u64>, found: Evidence) -> Searched {
        Searched { limit, first_sequence: self.header.first_sequence, found }
    }

    /// Refuses entries up to `end` that do not lead to `next`, or whose offset table would not fit
    /// after them: a log begins a new segment before.
    fn check_entries(&self, dir: &Dir, end: u64, count: u64, next: u64) -> Result<()> {
        let base = self.header.base;
        let room = self.header.segment_bytes.saturating_sub(end);
        let limit = room.checked_sub(footer_space(0)).map(|room| room / to_u64(TABLE_ENTRY_BYTES));
        let expected = match limit {
            Some(limit) if count <= limit && base.checked_add(count) == Some(next) => {
                return Ok(());
            }
            Some(limit) => base.saturating_add(count.min(limit)),
            None => base,
        };
        let reason = Damage::Field { field: "next index", expected, got: next };
        let path = dir.join(&self.name.to_string());
        Err(Error::Damaged { path, offset: end, indexes: None, reason })
    }

    /// Looks up the offsets of entries before the checkpoint.
    pub(crate) fn complete_offsets(&mut self, dir: &Dir) -> Result<()> {
        let Some(part) = self.durable_part(dir) else { return Ok(()) };
        let found = part.offsets()?;
        self.offsets.compressed |= found.compressed;
        self.offsets.holes |= found.holes;
        let (expected, got) = (self.offsets.units.count_unknown(), found.units.len());
        if self.offsets.units.learn(&found.units) {
            self.looked = true;
            return Ok(());
        }
        Err(part.too_few(to_u64(expected), to_u64(got)))
    }
}

/// What the tail came to.
#[derive(Debug)]
pub(crate) struct Replayed {
    /// Segments that hold whole batches after the checkpoint, oldest first; the last is the tail.
    pub(crate) links: Vec<Link>,
    pub(crate) state: State,
    /// The last whole batch.
    pub(crate) sequence: u64,
    pub(crate) batches: u64,
    pub(crate) entries: u64,
    pub(crate) scanned: u64,
    /// What stands after the end, segment by segment, and all of it.
    pub(crate) searched: Vec<Searched>,
    pub(crate) after: Evidence,
    /// Bytes from the end to the last one after it that is not zero.
    pub(crate) leftover: u64,
}

impl Replayed {
    /// The newest number that a batch may have been given, dropped ones included: what follows is
    /// numbered above all of them, so that no frame that was dropped ever fits after a new one. The
    /// bytes after the end may be of as many batches as there is room for headers, each torn so that
    /// it cannot be read.
    pub(crate) fn newest_number(&self) -> u64 {
        if planted(Bug::NumbersGivenAgain) {
            return self.sequence;
        }
        let unread = self.leftover.div_ceil(to_u64(FRAME_HEADER_BYTES));
        self.sequence.max(self.after.newest).saturating_add(unread)
    }
}

/// Opens a segment of the chain and reads its header from the medium.
pub(crate) fn open_link(
    dir: &Dir,
    uuid: Uuid,
    name: SegmentName,
    bytes: u64,
    from: u64,
    limit: u64,
) -> Result<Link> {
    // Nothing after the checkpoint means that no sync of it can have failed.
    let believed = from >= limit || planted(Bug::CacheBelieved);
    let to = witness::searched_to(limit, bytes);
    let access = if believed { Access::Write } else { Access::Distrust { from, to } };
    let file = dir.open(&name.to_string(), access)?;
    let mut block = [0; witness::PLACES_END];
    let segment = Segment::sealed(dir, uuid, name, bytes);
    file.read_at(0, &mut block).map_err(|source| Error::io("read", segment.path(), source))?;
    let header = segment.check_header(&block)?;
    let salt = Salt::new(header.generation);
    let from = from.max(FRAMES_START);
    let (end, last_frame, offsets) = (from, 0, Offsets::default());
    let looked = false;
    let apart = witness::in_header_block(&block, &salt).collect();
    Ok(Link { name, header, salt, file, limit, from, end, last_frame, offsets, looked, apart })
}

/// Segments that come after the tail of the checkpoint.
pub(crate) trait Later {
    /// The one file with this number, if its header is readable and that of this log.
    fn link(&self, number: u64) -> Result<Option<Link>>;

    /// Shows every such file with a higher number than this, one at a time.
    fn each_above(&self, number: u64, look: &mut dyn FnMut(Link) -> Result<()>) -> Result<()>;
}

/// Replays what `checkpoint` does not cover. An error says that the tail contradicts the checkpoint,
/// or that it could not be read.
pub(crate) fn replay(
    dir: &Dir,
    checkpoint: &Checkpoint,
    mut tail: Link,
    later: &dyn Later,
) -> Result<Replayed> {
    let before = checkpoint.next.checked_sub(tail.header.base).ok_or_else(|| {
        let (path, offset) = (dir.join(&tail.name.to_string()), checkpoint.tail_offset);
        let (field, expected, got) = ("next index", tail.header.base, checkpoint.next);
        let reason = Damage::Field { field, expected, got };
        Error::Damaged { path, offset, indexes: None, reason }
    })?;
    // Nothing is counted on with a checkpoint that no log writes, whatever its checksum says.
    tail.check_entries(dir, checkpoint.tail_offset, before, checkpoint.next)?;
    tail.offsets.units = Units::unknown(before);
    tail.last_frame = checkpoint.last_frame;
    let mut pass = Pass {
        dir,
        links: vec![tail],
        whole: (0, checkpoint.tail_offset),
        sequence: checkpoint.sequence,
        open_batch: false,
        state: State::from(checkpoint),
        entries: 0,
    };
    let (mut searched, mut scanned) = (Vec::new(), 0);
    let leftover = loop {
        let window = pass.go_through()?;
        scanned += window.len();
        let Some(link) = pass.links.last() else { return Err(NO_SEGMENT) };
        let (end, expected) = (link.end, pass.sequence + 1);
        let found = search(window.part(), &link.salt, end..u64::MAX, expected);
        let mut found = link.witnesses(expected).fold(found, Evidence::merge);
        let generation = link.salt.generation();
        let continues = |next: &Link| {
            next.header.previous_generation == generation
                && next.header.previous_end == end
                && next.header.first_sequence == expected
        };
        let next = if checkpoint.clean { None } else { later.link(link.name.number + 1)? };
        if let Some(next) = next.filter(continues)
            && found.newest < expected
        {
            pass.links.push(next);
            continue;
        }
        if pass.open_batch {
            // Its first frames stand before the place where the search began.
            found.newest = found.newest.max(expected);
        }
        searched.push(link.searched(Some(link.limit), found));
        later.each_above(link.name.number, &mut |segment| {
            let found = search_segment(dir, &segment, expected)?;
            searched.push(segment.searched(None, found));
            Ok(())
        })?;
        break leftover(window.part(), &link.salt, pass.applied_to());
    };
    pass.links.truncate(pass.whole.0 + 1);
    if let Some(last) = pass.links.last_mut() {
        last.end = pass.whole.1;
        last.check_entries(dir, last.end, to_u64(last.offsets.units.len()), pass.state.next)?;
    }
    let Pass { links, sequence, state, entries, .. } = pass;
    Ok(Replayed {
        links,
        state,
        sequence,
        batches: sequence - checkpoint.sequence,
        entries,
        scanned,
        after: Searched::all(&searched),
        searched,
        leftover,
    })
}

/// The walk over the chain, as far as it got.
struct Pass<'a> {
    dir: &'a Dir,
    links: Vec<Link>,
    /// Link and offset after the last whole batch. What comes before is applied.
    whole: (usize, u64),
    /// The last whole batch.
    sequence: u64,
    /// Frames of the one after it were seen.
    open_batch: bool,
    state: State,
    /// How many entries were new.
    entries: u64,
}

/// There is always one.
const NO_SEGMENT: Error = Error::Internal { what: "a replay without a segment" };

impl Pass<'_> {
    /// Walks over the frames of the last link. Returns everything from the end of its last whole batch on.
    fn go_through(&mut self) -> Result<Window> {
        let at = self.links.len().saturating_sub(1);
        let Some(link) = self.links.get(at) else { return Err(NO_SEGMENT) };
        let (salt, limit, mut position) = (link.salt.clone(), link.limit, link.from);
        let mut window = link.window(self.dir);
        loop {
            let part = window.part().up_to(limit);
            let mut walk = Walk::new(part, &salt, position, Policy::Strict);
            let stop = loop {
                match walk.step() {
                    Ok(found) if follows(&found, self.sequence, self.open_batch) => {
                        position = walk.position();
                        self.take_in(at, &found.header, part, position)?;
                    }
                    // Whatever it is that stands here, what is after it decides.
                    Ok(_) => break None,
                    Err(error) => break Some(error),
                }
            };
            let applied_to = self.applied_to();
            window.let_go(applied_to);
            if !matches!(stop, Some(FrameError::Short { .. })) || !window.read_on()? {
                break;
            }
        }
        window.read_all()?;
        Ok(window)
    }

    /// Where frames of the last link begin that are not applied.
    fn applied_to(&self) -> u64 {
        let last = self.links.len().saturating_sub(1);
        let from = self.links.last().map_or(0, |link| link.from);
        if self.whole.0 == last { self.whole.1 } else { from }
    }

    /// Takes in the next frame of the link `at`, which ends at `end`: with the last one of its batch, the
    /// whole batch.
    fn take_in(&mut self, at: usize, header: &FrameHeader, part: Part<'_>, end: u64) -> Result<()> {
        if let Some(link) = self.links.get_mut(at) {
            link.end = end;
        }
        self.open_batch = !header.is_last() && !planted(Bug::LastFrameNotNeeded);
        if self.open_batch {
            return Ok(());
        }
        for nth in self.whole.0..at {
            self.finish(nth)?;
        }
        let from = self.applied_to();
        self.apply(at, part, from..end, Policy::Known)?;
        (self.whole, self.sequence) = ((at, end), header.sequence);
        Ok(())
    }

    /// Applies what is left of a link from which the log has gone on to another one.
    fn finish(&mut self, nth: usize) -> Result<()> {
        let Some(link) = self.links.get(nth) else { return Err(NO_SEGMENT) };
        let from = if self.whole.0 == nth { self.whole.1 } else { link.from };
        let end = link.end;
        if from < end {
            let mut window = link.window(self.dir);
            window.read_all()?;
            self.apply(nth, window.part(), from..end, Policy::Headers)?;
        }
        let (next, dir) = (self.state.next, self.dir);
        self.links.get(nth).map_or(Ok(()), |link| {
            link.check_entries(dir, end, to_u64(link.offsets.units.len()), next)
        })
    }

    /// Applies the frames of a link in a range, which ends with one of them.
    fn apply(
        &mut self,
        nth: usize,
        part: Part<'_>,
        range: Range<u64>,
        policy: Policy,
    ) -> Result<()> {
        let (state, Some(link)) = (&mut self.state, self.links.get_mut(nth)) else {
            return Err(NO_SEGMENT);
        };
        let damaged = |offset, reason| Error::Damaged {
            path: self.dir.join(&link.name.to_string()),
            offset,
            indexes: None,
            reason,
        };
        let mut walk = Walk::new(part, &link.salt, range.start, policy);
        while walk.position() < range.end {
            let at = walk.position();
            let found = walk.step().map_err(|error| damaged(at, error.damage()))?;
            let effect = link
                .offsets
                .apply(link.header.base, &found)
                .map_err(|reason| damaged(at, reason))?;
            link.last_frame = at;
            state.carry_out(&effect).map_err(|reason| damaged(at, reason))?;
            if found.header.is_last() || planted(Bug::CellsCountedWithinABatch) {
                state.end_batch().map_err(|reason| damaged(at, reason))?;
            }
            let is_entry = matches!(effect, Effect::Entries(Span { missing: false, .. }));
            self.entries += u64::from(is_entry);
        }
        Ok(())
    }
}

/// Bytes from `end` to the last one after it that is not zero and of no witness.
fn leftover(part: Part<'_>, salt: &Salt, end: u64) -> u64 {
    let mut rest = part.from(to_usize(end));
    while let Some(last) = last_byte(rest) {
        let start = (end + to_u64(last)) / SECTOR * SECTOR;
        let within = to_usize(start.saturating_sub(end));
        let sector = rest.get(within..).unwrap_or(&[]);
        let is_witness = last < within + FRAME_HEADER_BYTES
            && peek_header(sector, salt, end + to_u64(within))
                .is_ok_and(|header| header.is_witness());
        if !is_witness {
            return to_u64(last) + 1;
        }
        rest = rest.get(..within).unwrap_or(&[]);
    }
    0
}

/// Where the last byte is that is not zero. Most are, so they are looked at in blocks.
fn last_byte(bytes: &[u8]) -> Option<usize> {
    let mut start = bytes.len();
    for block in bytes.rchunks(BLOCK_BYTES) {
        start -= block.len();
        if !is_quiet(block) {
            return block.iter().rposition(|&byte| byte != 0).map(|at| start + at);
        }
    }
    None
}

/// What the headers in a segment that no checkpoint names state.
pub(super) fn search_segment(dir: &Dir, segment: &Link, expected: u64) -> Result<Evidence> {
    if planted(Bug::NextSegmentNotSearched) {
        return Ok(Evidence::default());
    }
    let mut window = segment.window(dir);
    window.read_all()?;
    let found = search(window.part(), &segment.salt, FRAMES_START..u64::MAX, expected);
    Ok(segment.witnesses(expected).fold(found, Evidence::merge))
}

/// Whether a frame is the next one of its batch, or the first one of the next batch.
fn follows(found: &Found<'_>, sequence: u64, open_batch: bool) -> bool {
    !found.header.is_witness()
        && (found.header.sequence == sequence + 1 || planted(Bug::NumbersNotCompared))
        && found.header.is_first() != open_batch
}
