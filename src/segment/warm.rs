//! The newest frames of the tail, as the writer wrote them: what was just written is read without
//! asking the system for it.
//!
//! Owns: a bounded copy in memory of the end of what was handed to the file, as long as somebody
//! uses it. Does not own: frames that were not handed over yet (`tail`), or what is durable: bytes
//! here may be lost with the process.
//!
//! Bytes are found by segment and offset, and no offset of a segment is ever written twice with other
//! bytes that a reader is told of. So a truncation has nothing to drop here: nobody asks for what it
//! dropped. Whoever asks knows the offset of a frame from the view.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;

use crate::format::frame::{FRAME_HEADER_BYTES, FrameHeader, read_header_unchecked};
use crate::format::number::{to_u64, to_usize, u32_to_usize};
use crate::planted::{Bug, planted};

/// The newest frames of one log.
#[derive(Debug)]
pub(crate) struct Warm {
    bytes_max: usize,
    newest: RwLock<Newest>,
    /// Something was taken in or found since the last look.
    used: AtomicBool,
}

/// Consecutive bytes of one segment file, the last ones that were handed to it.
#[derive(Debug, Default)]
struct Newest {
    /// The segment's number.
    segment: u64,
    /// Offset in the file of the first byte.
    start: u64,
    bytes: VecDeque<u8>,
}

impl Warm {
    /// Keeps at most so many bytes; with zero it keeps nothing.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, newest: RwLock::default(), used: AtomicBool::new(false) }
    }

    /// Lets go of everything, and of its memory, if nothing was taken in or found since this was called
    /// last.
    pub(crate) fn cool(&self) {
        let used = self.used.swap(false, Ordering::Relaxed);
        if !used && self.newest.read().bytes.capacity() > 0 {
            *self.newest.write() = Newest::default();
        }
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.newest.read().bytes.is_empty()
    }

    #[inline]
    fn is_used(&self) {
        // Read first: the line is shared by every reader.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// Takes in whole frames that were handed to a segment file at `offset`, in the order in which
    /// they were. The oldest bytes go if there are too many.
    pub(crate) fn push(&self, segment: u64, offset: u64, bytes: &[u8]) {
        if self.bytes_max == 0 || bytes.is_empty() {
            return;
        }
        self.is_used();
        let mut newest = self.newest.write();
        let newest = &mut *newest;
        let end = newest.start + to_u64(newest.bytes.len());
        if newest.segment != segment || end != offset {
            newest.bytes.clear();
            (newest.segment, newest.start) = (segment, offset);
        }
        let kept = bytes.get(bytes.len().saturating_sub(self.bytes_max)..).unwrap_or_default();
        let gone = (newest.bytes.len() + bytes.len()).saturating_sub(self.bytes_max);
        // All at once: growing step by step would end at twice as much. Pages nobody touched cost
        // nothing.
        if newest.bytes.capacity() == 0 && newest.bytes.try_reserve_exact(self.bytes_max).is_err() {
            return;
        }
        newest.bytes.drain(..gone.min(newest.bytes.len()));
        newest.start += to_u64(gone);
        newest.bytes.extend(kept);
    }

    /// Header and payload of the frame at `offset`; nothing if it is not here.
    pub(crate) fn frame(&self, segment: u64, offset: u64) -> Option<(FrameHeader, Vec<u8>)> {
        let newest = self.newest.read();
        if newest.segment != segment && !planted(Bug::WarmOfAnySegment) {
            return None;
        }
        let at = to_usize(offset.checked_sub(newest.start)?);
        let mut header = [0; FRAME_HEADER_BYTES];
        let (front, back) = newest.part(at, FRAME_HEADER_BYTES)?;
        let (first, rest) = header.split_at_mut(front.len());
        first.copy_from_slice(front);
        rest.copy_from_slice(back);
        let header = read_header_unchecked(&header)?;
        let length = u32_to_usize(header.length);
        let (front, back) = newest.part(at + FRAME_HEADER_BYTES, length)?;
        let mut payload = Vec::with_capacity(length);
        payload.extend_from_slice(front);
        payload.extend_from_slice(back);
        self.is_used();
        Some((header, payload))
    }
}

impl Newest {
    /// `len` bytes from the one numbered `at`, in the two parts in which they lie.
    fn part(&self, at: usize, len: usize) -> Option<(&[u8], &[u8])> {
        let end = at.checked_add(len).filter(|&end| end <= self.bytes.len())?;
        let (front, back) = self.bytes.as_slices();
        let split = front.len();
        let first = front.get(at.min(split)..end.min(split))?;
        Some((first, back.get(at.saturating_sub(split)..end.saturating_sub(split))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Kind;
    use crate::format::frame::{Flags, Salt, encode_frame, frame_bytes};

    /// A frame as if it stood at the beginning: nobody here looks at checksums.
    fn frame(index: u64, payload: &[u8]) -> Vec<u8> {
        let (length, flags) = (u32::try_from(payload.len()).unwrap(), Flags::FIRST | Flags::LAST);
        let header =
            FrameHeader { length, sequence: index + 1, index, lag: 0, kind: Kind::Entry, flags };
        let mut bytes = Vec::new();
        encode_frame(&mut bytes, &Salt::new(7), 0, &header, &[payload]);
        bytes
    }

    #[test]
    fn newest_frames_are_there_wherever_the_memory_wraps_around() {
        let payload = |index: u64| vec![u8::try_from(index % 251).unwrap(); 90];
        let length = to_u64(frame_bytes(90));
        let warm = Warm::new(1000);
        for index in 0..200 {
            warm.push(1, 4096 + index * length, &frame(index, &payload(index)));
            let kept = (1000 / length).min(index + 1);
            for back in 0..=index {
                let wanted = index - back;
                let found = warm.frame(1, 4096 + wanted * length);
                let expected = (back < kept).then(|| payload(wanted));
                assert_eq!(found.map(|(_, bytes)| bytes), expected, "{wanted} of {index}");
            }
        }
        assert!(warm.newest.read().bytes.capacity() < 1100);
    }

    #[test]
    fn what_nobody_asks_for_is_let_go() {
        let warm = Warm::new(4096);
        warm.cool();
        warm.push(1, 4096, &frame(0, b"one"));
        warm.cool();
        assert!(warm.frame(1, 4096).is_some());
        warm.cool();
        assert!(!warm.is_empty());
        warm.cool();
        assert!(warm.is_empty());
        assert_eq!(warm.newest.read().bytes.capacity(), 0);
        warm.push(1, 8192, &frame(1, b"two"));
        assert_eq!(warm.frame(1, 8192).unwrap().1, b"two");
    }

    #[test]
    fn another_segment_and_a_gap_begin_anew() {
        let warm = Warm::new(4096);
        warm.push(1, 4096, &frame(0, b"one"));
        warm.push(2, 4096, &frame(1, b"two"));
        assert!(warm.frame(1, 4096).is_none());
        assert_eq!(warm.frame(2, 4096).unwrap().1, b"two");
        warm.push(2, 8192, &frame(2, b"three"));
        assert!(warm.frame(2, 4096).is_none());
        let (header, payload) = warm.frame(2, 8192).unwrap();
        assert_eq!((header.index, &payload[..]), (2, &b"three"[..]));
        for wild in [0, 4096, 8191, u64::MAX] {
            assert!(warm.frame(2, wild).is_none());
        }
    }

    #[test]
    fn more_bytes_than_are_kept_leave_their_end() {
        let warm = Warm::new(100);
        let (first, last) = (frame(0, &[1; 200]), frame(1, &[2; 8]));
        warm.push(1, 4096, &[first.clone(), last].concat());
        assert!(warm.frame(1, 4096).is_none());
        assert_eq!(warm.frame(1, 4096 + to_u64(first.len())).unwrap().1, [2; 8]);
        let none = Warm::new(0);
        none.push(1, 0, &frame(0, b"x"));
        assert!(none.frame(1, 0).is_none());
    }
}
