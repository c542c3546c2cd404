//! Counting what is missing since a repair.
//!
//! Owns: how many of the entries that a log still has are missing. Does not own: what that means
//! for an open (`log::open`).
//!
//! A checkpoint counts holes, and what is replayed after it adds some; neither knows where they
//! are, so neither can tell what a trim or a truncation took along. The offsets of the segments
//! can. They are only looked at if the count is not zero: a log that was never repaired pays
//! nothing.

use std::ops::Range;

use super::replay::Replayed;
use crate::directory::Dir;
use crate::directory::identity::Uuid;
use crate::error::{Error, Result};
use crate::format::frame::{
    FRAME_HEADER_BYTES, HOLE_PAYLOAD_BYTES, Salt, decode_frame, peek_header,
};
use crate::format::kind::Span;
use crate::format::number::to_usize;
use crate::format::{Checkpoint, SegmentName};
use crate::io::{Access, File};
use crate::segment::{OFFSET_UNIT, Segment};

/// Corrects the count of a log that was replayed; `named` are the segments of its checkpoint. Where
/// a segment cannot be read the count stays: at least nothing is called whole that is not.
pub(crate) fn recount(
    dir: &Dir,
    checkpoint: &Checkpoint,
    named: &[SegmentName],
    replayed: &mut Replayed,
) -> Result<()> {
    let first = replayed.state.first;
    let mut end = replayed.state.next;
    let mut missing = 0;
    let live = |base: u64, end: &mut u64| {
        let live = first.max(base)..*end;
        *end = base.min(*end);
        live
    };
    for link in replayed.links.iter_mut().rev() {
        match link.complete_offsets(dir) {
            Err(Error::Damaged { .. }) => return Ok(()),
            looked => looked?,
        }
        let base = link.header.base;
        let live = live(base, &mut end);
        if link.offsets.holes {
            let units = link.offsets.units.all().unwrap_or_default();
            let unit = |nth| units.get(to_usize(nth)).copied();
            let offset = |index: u64| Some(u64::from(unit(index - base)?) * OFFSET_UNIT);
            match count(dir, &*link.file, link.name, &link.salt, live, &offset)? {
                Some(holes) => missing += holes,
                None => return Ok(()),
            }
        }
    }
    for name in named.iter().rev().filter(|name| name.number != checkpoint.tail_number) {
        let live = live(name.base, &mut end);
        if live.is_empty() {
            continue;
        }
        match holes_of_sealed(dir, checkpoint, *name, live)? {
            Some(holes) => missing += holes,
            None => return Ok(()),
        }
    }
    replayed.state.holes = missing;
    Ok(())
}

fn holes_of_sealed(
    dir: &Dir,
    checkpoint: &Checkpoint,
    name: SegmentName,
    live: Range<u64>,
) -> Result<Option<u64>> {
    let uuid = Uuid::from_bytes(checkpoint.uuid);
    let segment = Segment::sealed(dir, uuid, name, checkpoint.segment_bytes);
    let opened = segment.open(&live).and_then(|(opened, _)| {
        segment.look_up(&opened, live.end)?;
        Ok(opened)
    });
    let opened = match opened {
        Ok(opened) => opened,
        Err(Error::Damaged { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    if name.base.saturating_add(opened.unknown().0) < live.end {
        return Ok(None);
    }
    if !segment.holes.load(std::sync::atomic::Ordering::Relaxed) {
        return Ok(Some(0));
    }
    let file = dir.open(&name.to_string(), Access::Read)?;
    let offset = |index: u64| Some(u64::from(opened.unit(index - name.base)?) * OFFSET_UNIT);
    count(dir, &*file, name, &opened.salt, live, &offset)
}

/// How many of `live` are missing; nothing if a frame that should say so is unreadable.
fn count(
    dir: &Dir,
    file: &dyn File,
    name: SegmentName,
    salt: &Salt,
    live: Range<u64>,
    offset: &dyn Fn(u64) -> Option<u64>,
) -> Result<Option<u64>> {
    let (mut missing, mut index) = (0, live.start);
    let mut frame = [0; FRAME_HEADER_BYTES + HOLE_PAYLOAD_BYTES];
    while index < live.end {
        let Some(offset) = offset(index) else { return Ok(None) };
        file.read_at(offset, &mut frame)
            .map_err(|source| Error::io("read", dir.join(&name.to_string()), source))?;
        let Ok(header) = peek_header(&frame, salt, offset) else { return Ok(None) };
        let payload = frame.get(FRAME_HEADER_BYTES..).unwrap_or_default();
        let Some(hole) = Span::of(&header, payload).filter(|span| span.missing) else {
            index += 1;
            continue;
        };
        if decode_frame(&frame, salt, offset).is_err() {
            return Ok(None);
        }
        // The hole may have been cut at either end.
        let end = hole.range.end.clamp(index + 1, live.end);
        missing += end - index;
        index = end;
    }
    Ok(Some(missing))
}
