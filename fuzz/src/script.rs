//! Reading structure out of raw bytes, front to back, so that a seed can be written by hand and a
//! mutation stays local. When the bytes run out, zeros follow.

/// Reads the fields of an input.
#[derive(Debug)]
pub struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether all is read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.bytes(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    /// One byte.
    pub fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// Two bytes.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// Up to `count` bytes.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
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
        self.0
    }
}
