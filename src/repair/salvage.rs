//! Salvaging the tail: what its frames still say, before and after the checkpoint's place.
//!
//! Owns: reading on past a damage that recovery stops at. Does not own: whether that is to be done
//! (`plan`).
//!
//! Of a log that opens, what the open would go on with counts. Else batches that are proved to have
//! been durable count frame by frame, whatever of them is readable; after the last of those,
//! batches count whole and without a gap, as in recovery.

use std::collections::HashSet;
use std::ops::Range;

use crate::directory::Dir;
use crate::directory::identity::Uuid;
use crate::error::{Error, Result};
use crate::format::error::FrameError;
use crate::format::frame::Salt;
use crate::format::header::SEGMENT_HEADER_BYTES;
use crate::format::kind::Effect;
use crate::format::number::{to_u64, to_usize};
use crate::format::{Checkpoint, FrameHeader, SegmentName};
use crate::inspect::placed::Placed;
use crate::inspect::scene::Scene;
use crate::inspect::survey::{Offsets, Places};
use crate::inspect::window::Window;
use crate::recovery::replay::Replayed;
use crate::recovery::table::{Decision, Searched};
use crate::segment::walk::{Evidence, Found, Part, Source as _, Step, past_gaps, search};
use crate::segment::{FRAMES_START, Segment, witness};
use crate::state::State;

/// What is left of a tail.
#[derive(Debug)]
pub(super) struct Salvaged {
    pub(super) name: SegmentName,
    /// Length of the file in bytes, and the salt of its frames.
    length: u64,
    salt: Salt,
    /// Where the entries are that can be read.
    pub(super) places: Places,
    /// Bounds and cells with everything that is readable applied.
    pub(super) state: State,
    /// The last batch that counts.
    pub(super) sequence: u64,
    /// No batch up to this one may be written again.
    pub(super) claimed: u64,
    /// Batches known to have been durable that are not whole: from the first to after the last.
    pub(super) lost: Option<Range<u64>>,
    /// The first batch that may have been, where nobody knows whether there were any.
    pub(super) unknown: Option<u64>,
    /// The tail cannot go on as it is.
    pub(super) needed: bool,
}

impl Salvaged {
    pub(super) fn of(
        dir: &Dir,
        scene: &Scene,
        checkpoint: &Checkpoint,
        name: SegmentName,
    ) -> Result<Self> {
        let length = scene.length_of(name);
        let progress = &mut |_| ();
        let mut file = Window::open(dir, &name.to_string(), length, progress)?;
        let uuid = Uuid::from_bytes(checkpoint.uuid);
        let segment = Segment::sealed(dir, uuid, name, checkpoint.segment_bytes);
        let header = segment.check_header(file.get(0, SEGMENT_HEADER_BYTES));
        if let Err(error @ (Error::UnsupportedVersion { .. } | Error::UnsupportedFeature { .. })) =
            header
        {
            return Err(error);
        }
        let header_is_sound =
            header.is_ok_and(|header| header.generation == checkpoint.tail_generation);
        let sound = header_is_sound && length == checkpoint.segment_bytes;
        let salt = Salt::new(checkpoint.tail_generation);
        let mut offsets = Offsets::new(name.base);
        let limit = checkpoint.tail_offset;
        let mut walk = past_gaps(&mut file, &salt, FRAMES_START..limit, true);
        // Whether a header is readable next to the checkpoint's place: that of the last frame before it,
        // or of the segment. Nothing that is older has it.
        let mut reaches = header_is_sound;
        while let Some(step) = walk.step() {
            reaches = !matches!(step, Step::Gap { header: None, .. });
            offsets.note(&step);
        }
        // Of a file that was cut short, the rest is as lost as any gap.
        offsets.lost(limit.saturating_sub(to_u64(file.end()).max(FRAMES_START)));
        offsets.is_at(checkpoint.next);
        let mut reading = Reading {
            offsets,
            state: State::from(checkpoint),
            sequence: checkpoint.sequence,
            claimed: checkpoint.sequence,
            lost: None,
        };
        // Segments that were begun since are lost with a tail that has to be replaced.
        let from = reading.state.first.max(name.base);
        let is_whole = (from..checkpoint.next).all(|index| reading.offsets.is_known(index));
        match scene.opens().filter(|replayed| is_whole || replayed.links.len() == 1) {
            Some(replayed) => reading.take_replayed(&mut file, &salt, replayed, checkpoint),
            None if checkpoint.clean => {}
            None => reading.read_on(&mut file, &salt, scene, checkpoint),
        }
        if let Some(replayed) = scene.opens().filter(|it| !is_whole && it.links.len() > 1) {
            // With the tail go the segments after it, whatever is in them.
            reading.claimed = reading.claimed.max(replayed.newest_number());
            let from = reading.lost.as_ref().map_or(checkpoint.sequence + 1, |lost| lost.start);
            reading.lost = Some(from..replayed.sequence.max(from).saturating_add(1));
        }
        let Reading { offsets, state, sequence, claimed, lost } = reading;
        // After the checkpoint there may have been anything, in a file that was cut short, and where
        // nothing is readable on either side of its place.
        let cut = to_u64(file.end()) < checkpoint.reach;
        let bare = !reaches && sequence == checkpoint.sequence && scene.opens().is_none();
        let unknown = (!checkpoint.clean && (cut || bare)).then_some(sequence + 1);
        let places = offsets.into_places();
        let from = state.first.max(name.base);
        // Nothing is written after frames that a walk does not get past, be there entries or none.
        let needed = !sound
            || scene.decision == Decision::RefuseTail
            || scene.latent.is_some()
            || lost.is_some()
            || !places.missing(&(from..places.end())).is_empty();
        Ok(Self { name, length, salt, places, state, sequence, claimed, lost, unknown, needed })
    }

    /// The file once more, for the entries at the places that were found.
    pub(super) fn frames(&self, dir: &Dir) -> Result<Placed> {
        Placed::open(dir, &self.name.to_string(), self.salt.clone(), self.length)
    }
}

/// A tail that is being looked at.
struct Reading {
    offsets: Offsets,
    state: State,
    sequence: u64,
    claimed: u64,
    lost: Option<Range<u64>>,
}

impl Reading {
    /// What an open would go on with: whole batches, in this segment and in those after it.
    fn take_replayed(
        &mut self,
        file: &mut Window<'_>,
        salt: &Salt,
        replayed: &Replayed,
        checkpoint: &Checkpoint,
    ) {
        let end = replayed.links.first().map_or(checkpoint.tail_offset, |link| link.end);
        let mut walk = past_gaps(file, salt, checkpoint.tail_offset..end, true);
        while let Some(step) = walk.step() {
            self.offsets.note(&step);
        }
        self.state = replayed.state.clone();
        self.sequence = replayed.sequence;
        self.claimed = replayed.newest_number();
    }

    /// After the checkpoint's place, all of which is in memory meanwhile.
    fn read_on(
        &mut self,
        file: &mut Window<'_>,
        salt: &Salt,
        scene: &Scene,
        checkpoint: &Checkpoint,
    ) {
        let (start, reach) = (checkpoint.tail_offset, checkpoint.reach);
        let witnesses = witness::in_header_block(file.get(0, SEGMENT_HEADER_BYTES), salt);
        let witnesses: Vec<FrameHeader> = witnesses.collect();
        let searched = start..witness::searched_to(reach, checkpoint.segment_bytes).max(reach);
        let bytes = file.get(start, to_usize(searched.end.saturating_sub(start)));
        let part = Part { bytes, start };
        let mut steps = Vec::new();
        let mut walk = past_gaps(part, salt, start..reach, false);
        while let Some(step) = walk.step() {
            steps.push(match step {
                // Of a batch that was dropped before the checkpoint: no part of the log.
                Step::Frame(found) if found.header.sequence <= checkpoint.sequence => {
                    let (offset, end) = (found.offset, found.end());
                    Step::Gap { offset, end, header: None, reason: FrameError::End }
                }
                Step::Frame(found) => Step::Frame(found.within(part)),
                Step::Gap { offset, end, header, reason } => {
                    Step::Gap { offset, end, header, reason }
                }
            });
        }
        let evidence = Searched::all(&scene.observed.seen.searched);
        // What the headers here state, witnesses among them.
        let expected = checkpoint.sequence + 1;
        let evidence = witnesses
            .iter()
            .map(|header| Evidence::of(header, 0, expected))
            .fold(search(part, salt, searched, expected), Evidence::merge)
            .merge(evidence);
        let proved = evidence.durable;
        self.claimed = self.claimed.max(evidence.newest).max(proved);
        let mut rest = steps.as_slice();
        let is_proved = |step: &Step<'_>| sequence_of(step).is_some_and(|number| number <= proved);
        let lenient = rest.iter().rposition(is_proved).map_or(0, |last| last + 1);
        if let Some((front, after)) = rest.split_at_checked(lenient) {
            let newest = front.iter().filter_map(sequence_of).max().unwrap_or(0);
            self.take_lenient(front, checkpoint.sequence, proved);
            if newest < proved && checkpoint.sequence < proved {
                // The last of them left no trace here. It may have replaced any entry of the tail.
                self.offsets.lost(checkpoint.segment_bytes);
                self.offsets.is_at(self.state.next);
            }
            rest = after;
        }
        self.take_whole(rest);
        self.state.first = self.state.first.min(self.state.next);
    }

    /// Everything readable of batches that are known to have been durable.
    fn take_lenient(&mut self, steps: &[Step<'_>], before: u64, proved: u64) {
        let mut whole = HashSet::new();
        let mut open = None;
        for step in steps {
            match step {
                Step::Gap { .. } => {
                    open = None;
                    self.offsets.note(step);
                }
                Step::Frame(found) => {
                    let header = &found.header;
                    if header.is_first() {
                        open = Some(header.sequence);
                    }
                    if header.is_last() && open == Some(header.sequence) {
                        whole.insert(header.sequence);
                    }
                    self.take(found);
                    self.sequence = self.sequence.max(header.sequence);
                }
            }
        }
        // Both searches end after as many steps as there are whole batches.
        let mut all = before + 1..=proved;
        if let Some(first) = all.find(|number| !whole.contains(number)) {
            let last = (first..=proved).rev().find(|number| !whole.contains(number));
            self.lost = Some(first..last.unwrap_or(first).saturating_add(1));
        }
        self.sequence = self.sequence.max(proved);
    }

    /// Whole batches that follow without a gap.
    fn take_whole(&mut self, steps: &[Step<'_>]) {
        let mut from = 0;
        for (at, step) in steps.iter().enumerate() {
            let Step::Frame(Found { header, .. }) = step else { return };
            let expected = self.sequence + 1;
            if header.sequence != expected || header.is_first() != (at == from) {
                return;
            }
            if header.is_last() {
                for step in steps.get(from..=at).unwrap_or(&[]) {
                    if let Step::Frame(found) = step {
                        self.take(found);
                    }
                }
                self.sequence = expected;
                from = at + 1;
            }
        }
    }

    /// The effect of one frame. What makes no sense is left out: the log is damaged as it is.
    fn take(&mut self, found: &Found<'_>) {
        self.offsets.note(&Step::Frame(*found));
        if let Ok(effect) = found.effect() {
            // A trim goes no further than the entries that there were, also where they are lost.
            if let Effect::Trim(to) = effect {
                self.state.next = self.state.next.max(to);
            }
            let _left_out = self.state.carry_out(&effect);
        }
        self.state.next = self.offsets.next();
    }
}

fn sequence_of(step: &Step<'_>) -> Option<u64> {
    match step {
        Step::Frame(found) => Some(found.header.sequence),
        Step::Gap { .. } => None,
    }
}
