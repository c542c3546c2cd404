//! Reading structure out of raw bytes, front to back, so that a seed can be written by hand and a
//! mutation stays local. When the bytes run out, zeros follow.

use arbitrary::Unstructured;

/// Reads the fields of an input.
#[derive(Debug)]
pub struct Script<'a>(Unstructured<'a>);

impl<'a> Script<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(Unstructured::new(bytes))
    }

    /// Whether all is read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    pub fn u8(&mut self) -> u8 {
        self.0.arbitrary().unwrap_or(0)
    }

    /// Two bytes.
    pub fn u16(&mut self) -> u16 {
        self.0.arbitrary().unwrap_or(0)
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> u64 {
        self.0.arbitrary().unwrap_or(0)
    }

    /// Up to `count` bytes.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let count = count.min(self.0.len());
        self.0.bytes(count).unwrap_or(&[])
    }

    /// A number that is small, near a power of two or near the top, as often as any other: two
    /// bytes choose among those, or eight follow.
    pub fn number(&mut self) -> u64 {
        let kind = self.u8();
        let small = u64::from(self.u8());
        match kind {
            0..=99 => small,
            100..=163 => {
                1_u64.wrapping_shl(u32::from(kind - 100)).wrapping_add(small).wrapping_sub(8)
            }
            164..=179 => u64::MAX - small,
            180..=199 => small * 8,
            200..=219 => small * 4096,
            _ => self.u64(),
        }
    }

    /// All the rest.
    pub fn rest(self) -> &'a [u8] {
        self.0.take_rest()
    }
}
