//! The witness: what the sync before made durable, written with every sync in another block than
//! the frames that it speaks of.
//!
//! Owns: where a witness stands, and its bytes. Does not own: when one is written
//! (`log::writer::hand_over`) or what it proves (`recovery`).
//!
//! The newest acknowledged batches of a tail stand in the same block, and each says that those
//! before it were durable. One bad sector there would take the batches and all that proves them. So
//! a sync leaves one frame of kind Witness after them, in the next block: it is of no batch, and
//! the next frames are written over it. Two places take turns, in sectors of their own, so that the
//! newest witness on the medium stays whole while the next one is written. At the very end of a
//! segment, and for [`Witness::Apart`](crate::options::Witness::Apart), they are in the block of the
//! segment header, where no frame ever comes.

use std::ops::Range;

use crate::format::frame::{FRAME_HEADER_BYTES, FrameHeader, Salt, decode_frame, encode_frame};
use crate::format::number::{to_u64, to_usize};
use crate::format::{BLOCK_BYTES, Kind};
use crate::planted::{Bug, planted};

/// What a disk replaces at once, at the least.
pub(crate) const SECTOR: u64 = 512;
const BLOCK: u64 = BLOCK_BYTES as u64;

/// The two places of a witness in its block. The first sector is left to the segment header, and
/// to frames that end with the block before.
const PLACES: [u64; 2] = [SECTOR, 2 * SECTOR];

/// Exclusive end of what is in a block of a segment header: the header, and witnesses.
pub(crate) const PLACES_END: usize = 1024 + FRAME_HEADER_BYTES;
const _: () = assert!(PLACES[1] == 1024);

/// Where a witness of frames that end at `end` stands, if the file may be written up to `ready`:
/// `turn` says in which of the two places.
pub(crate) fn place(end: u64, turn: bool, ready: u64, apart: bool) -> u64 {
    let [first, second] = PLACES;
    let within = if turn { second } else { first };
    let after = end.next_multiple_of(BLOCK);
    let fits = after.saturating_add(BLOCK) <= ready;
    if fits && !apart { after + within } else { within }
}

/// Where the block ends that the witness of frames up to `end` may be in, at most `segment_bytes`.
pub(crate) fn searched_to(end: u64, segment_bytes: u64) -> u64 {
    end.next_multiple_of(BLOCK).saturating_add(BLOCK).min(segment_bytes)
}

/// The whole witnesses in the block of a segment header.
pub(crate) fn in_header_block<'a>(
    block: &'a [u8],
    salt: &'a Salt,
) -> impl Iterator<Item = FrameHeader> + 'a {
    PLACES.into_iter().filter_map(|at| {
        let (found, ..) = decode_frame(block.get(to_usize(at)..)?, salt, at).ok()?;
        found.is_witness().then_some(found)
    })
}

/// A witness as it stands in the file.
pub(crate) type Encoded = [u8; FRAME_HEADER_BYTES];

/// A witness that is to be written.
#[derive(Debug)]
pub(crate) struct Testimony {
    pub(crate) offset: u64,
    pub(crate) bytes: Encoded,
    /// The one before, with its offset.
    pub(crate) before: Option<(u64, Encoded)>,
}

impl Testimony {
    /// That batches before `sequence` were durable as far as `lag` says.
    pub(crate) fn new(offset: u64, salt: &Salt, sequence: u64, lag: u16) -> Self {
        let (length, index, kind, flags) = (0, 0, Kind::Witness, 0);
        let mut encoded = Vec::with_capacity(FRAME_HEADER_BYTES);
        let header = FrameHeader { length, sequence, index, lag, kind, flags };
        encode_frame(&mut encoded, salt, offset, &header, &[]);
        let bytes = Encoded::try_from(encoded).unwrap_or_default();
        let bytes = if planted(Bug::NoWitness) { Encoded::default() } else { bytes };
        Self { offset, bytes, before: None }
    }

    pub(crate) fn range(&self) -> Range<u64> {
        self.offset..self.offset + to_u64(self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn witness_never_shares_a_block_with_the_last_frame_nor_a_sector_with_the_one_before() {
        let bytes = 16 * BLOCK;
        for end in (BLOCK..=bytes).step_by(8) {
            let [one, other] = [false, true].map(|turn| place(end, turn, bytes, false));
            for at in [one, other] {
                assert_ne!(at / BLOCK, (end - 1) / BLOCK, "{end}");
                assert!(at != end && at + 32 <= bytes, "{end}");
                assert!(at >= SECTOR, "{end}: the header is there");
            }
            assert_ne!(one / SECTOR, other / SECTOR, "{end}");
            assert!(place(end, false, bytes, true) < BLOCK, "{end}");
        }
    }
}
