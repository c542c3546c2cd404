//! Checking many claimed frames of the same bytes without reading them again and again.
//!
//! Owns: whether a claimed frame is sound, at a cost that does not depend on its length. Does not
//! own: where to look (`walk`, `inspect::survey`).
//!
//! A crash can leave headers of frames whose bodies are gone, and hostile bytes can hold one at
//! every step, each claiming all that follows. Reading every body would take time in the square of
//! the bytes; giving up after some would call a crash damage. But CRCs are linear: that of a stretch
//! follows from those of what comes before its two ends, which one pass over the bytes notes at
//! every [`STEP`]. The pass is made only once claims that were false have cost as much as it would.

use byteorder::{ByteOrder, LittleEndian};

use crate::format::frame::{FrameHeader, Salt, decode_frame};

/// Bytes between two noted checksums: what a check reads at each end of a frame, at most; the notes
/// take a 64th of the bytes.
const STEP: usize = 256;
/// The field that a frame's checksum does not cover: itself.
const CRC_BYTES: usize = 4;
/// Unit in which stretches are measured. Every frame is a multiple of it, without its checksum too.
const UNIT: usize = 4;
/// Bits of a length that one table of powers is for.
const DIGIT_BITS: u32 = 7;
const DIGITS: usize = 1 << DIGIT_BITS;

/// Checks frames in one run of bytes.
#[derive(Debug)]
pub(crate) struct Probe<'a> {
    bytes: &'a [u8],
    salt: &'a Salt,
    /// Bytes of false claims that are still read as they come.
    patience: usize,
    sums: Option<Sums>,
}

impl<'a> Probe<'a> {
    pub(crate) fn new(bytes: &'a [u8], salt: &'a Salt) -> Self {
        Self { bytes, salt, patience: bytes.len(), sums: None }
    }

    /// Whether the frame at `at`, whose header was read and checked, is whole and sound.
    pub(crate) fn is_sound(&mut self, at: usize, header: &FrameHeader) -> bool {
        let length = header.frame_bytes();
        let Some(frame) = at.checked_add(length).and_then(|end| self.bytes.get(at..end)) else {
            return false;
        };
        if let Some(sums) = &self.sums {
            let stated = frame.first_chunk::<CRC_BYTES>().map(|crc| LittleEndian::read_u32(crc));
            let (from, to) = (at + CRC_BYTES, at + length);
            return stated == Some(sums.salted(self.bytes, self.salt, from, to));
        }
        let sound = decode_frame(frame, self.salt).is_ok();
        if !sound {
            match self.patience.checked_sub(length) {
                Some(left) => self.patience = left,
                None => self.sums = Some(Sums::of(self.bytes)),
            }
        }
        sound
    }
}

/// What one pass over some bytes notes.
#[derive(Debug)]
struct Sums {
    /// The CRC of everything before each multiple of [`STEP`].
    noted: Vec<u32>,
    /// Factors that move a CRC over so many units of zeros: one table for each digit of their
    /// number.
    powers: [[u32; DIGITS]; 4],
}

impl Sums {
    fn of(bytes: &[u8]) -> Self {
        let mut noted = Vec::with_capacity(bytes.len() / STEP + 1);
        let mut so_far = crc32fast::Hasher::new();
        noted.push(0);
        for chunk in bytes.chunks(STEP) {
            so_far.update(chunk);
            noted.push(so_far.clone().finalize());
        }
        let mut powers = [[ONE; DIGITS]; 4];
        // One bit further is one power of x; the first digit counts units.
        let mut base = (0..UNIT * 8).fold(ONE, |power, _| times_x(power));
        for table in &mut powers {
            let mut power = ONE;
            for slot in table.iter_mut() {
                *slot = power;
                power = product(power, base);
            }
            base = power;
        }
        Self { noted, powers }
    }

    /// The CRC of everything before `to`.
    fn before(&self, bytes: &[u8], to: usize) -> u32 {
        let mark = to / STEP;
        let noted = self.noted.get(mark).copied().unwrap_or_default();
        let mut hasher = crc32fast::Hasher::new_with_initial(noted);
        hasher.update(bytes.get(mark * STEP..to).unwrap_or_default());
        hasher.finalize()
    }

    /// The salted CRC of `from..to`, which must be a multiple of [`UNIT`] long.
    ///
    /// The CRC of two runs of bytes behind each other is that of the first, moved over the length of
    /// the second, plus that of the second. So the second's is the difference; and the salt, in front
    /// of it, is moved as far as what it takes the place of.
    fn salted(&self, bytes: &[u8], salt: &Salt, from: usize, to: usize) -> u32 {
        let in_front = salt.checksum(&[]) ^ self.before(bytes, from);
        self.moved(in_front, (to - from) / UNIT) ^ self.before(bytes, to)
    }

    fn moved(&self, crc: u32, mut units: usize) -> u32 {
        let mut moved = crc;
        for table in &self.powers {
            let power = table.get(units % DIGITS).copied().unwrap_or(ONE);
            moved = product(moved, power);
            units >>= DIGIT_BITS;
        }
        moved
    }
}

/// The polynomial of CRC-32 without its highest term; bits are reflected, as in the CRC itself.
const POLYNOMIAL: u32 = 0xedb8_8320;
/// The polynomial 1.
const ONE: u32 = 1 << 31;

/// A polynomial times x, modulo that of the CRC.
fn times_x(polynomial: u32) -> u32 {
    (polynomial >> 1) ^ if polynomial & 1 == 1 { POLYNOMIAL } else { 0 }
}

/// The product of two polynomials, modulo that of the CRC.
fn product(a: u32, b: u32) -> u32 {
    let (mut sum, mut shifted) = (0, b);
    for bit in (0..u32::BITS).rev() {
        if a >> bit & 1 == 1 {
            sum ^= shifted;
        }
        shifted = times_x(shifted);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Kind;
    use crate::format::frame::encode_frame;

    #[test]
    fn checksum_of_any_stretch_is_that_of_its_bytes() {
        let mut state = 1_u64;
        let mut byte = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            u8::try_from(state >> 56).unwrap()
        };
        let bytes: Vec<u8> = (0..70_000).map(|_| byte()).collect();
        let sums = Sums::of(&bytes);
        let salt = Salt::new(77);
        for from in [0, 4, 252, 256, 260, 4100, 30_004, 65_536] {
            for length in [0, 4, 28, 124, 508, 512, 516, 4092, 65_532, 69_996] {
                let to = from + length;
                if to <= bytes.len() {
                    let direct = salt.checksum(&bytes[from..to]);
                    assert_eq!(sums.salted(&bytes, &salt, from, to), direct, "{from}..{to}");
                }
            }
        }
    }

    #[test]
    fn digits_reach_over_the_longest_frame() {
        let sums = Sums::of(&[]);
        let longest = crate::format::frame::frame_bytes(1024 * 1024 * 1024 - 8192) / UNIT;
        assert!(longest < DIGITS.pow(4));
        // Moved in one go, and in two.
        let (first, second) = (longest / 3, longest - longest / 3);
        let once = sums.moved(0x1234_5678, longest);
        assert_eq!(sums.moved(sums.moved(0x1234_5678, first), second), once);
        // A CRC moved over zeros is what the zeros add to it, beside what they are by themselves.
        let zeros = vec![0; 1_000_000];
        let mut behind = crc32fast::Hasher::new_with_initial(0x1234_5678);
        behind.update(&zeros);
        let moved = sums.moved(0x1234_5678, zeros.len() / UNIT);
        assert_eq!(moved ^ crc32fast::hash(&zeros), behind.finalize());
    }

    #[test]
    fn frames_are_judged_alike_with_patience_and_without() {
        let salt = Salt::new(5);
        let mut bytes = Vec::new();
        let mut places = Vec::new();
        for length in [0, 1, 100, 500, 3000, 9, 20_000] {
            let payload = vec![7; usize::try_from(length).unwrap()];
            let header =
                FrameHeader { length, sequence: 1, index: 0, lag: 0, kind: Kind::Entry, flags: 3 };
            places.push((bytes.len(), header));
            encode_frame(&mut bytes, &salt, &header, &[&payload]);
        }
        let all_sound = |bytes: &[u8], patience: bool| {
            let mut probe = Probe::new(bytes, &salt);
            if !patience {
                probe.sums = Some(Sums::of(bytes));
            }
            places.iter().map(|(at, header)| probe.is_sound(*at, header)).collect::<Vec<_>>()
        };
        assert_eq!(all_sound(&bytes, true), [true; 7]);
        assert_eq!(all_sound(&bytes, false), [true; 7]);
        for at in (0..bytes.len()).step_by(37) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            let judged = all_sound(&damaged, false);
            assert_eq!(judged, all_sound(&damaged, true), "{at}");
            assert_eq!(judged.iter().filter(|sound| !**sound).count(), 1, "{at}");
        }
        let cut = &bytes[..bytes.len() - 8];
        assert_eq!(all_sound(cut, false), all_sound(cut, true));
        assert!(!all_sound(cut, false)[6]);
    }

    #[test]
    fn many_false_claims_are_searched_to_the_end() {
        // Headers that claim everything behind them, at every place where one can stand.
        let salt = Salt::new(9);
        let total = 1 << 15;
        let mut bytes = Vec::with_capacity(total);
        while bytes.len() + 32 < total {
            let length = u32::try_from(total - bytes.len() - 32).unwrap();
            let header =
                FrameHeader { length, sequence: 1, index: 0, lag: 0, kind: Kind::Entry, flags: 3 };
            let mut frame = Vec::new();
            encode_frame(&mut frame, &salt, &header, &[&vec![1; total - bytes.len() - 32]]);
            bytes.extend_from_slice(&frame[..32]);
        }
        bytes.resize(total, 0);
        let mut probe = Probe::new(&bytes, &salt);
        let mut claims = 0;
        for at in (0..bytes.len()).step_by(8) {
            if let Ok(header) = crate::format::frame::peek_header(&bytes[at..], &salt) {
                claims += 1;
                assert!(!probe.is_sound(at, &header));
            }
        }
        assert!(claims >= total / 32 - 1);
        assert!(probe.sums.is_some());
    }
}
