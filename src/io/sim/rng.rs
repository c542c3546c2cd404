//! The only source of chance in a simulation: splitmix64, 64 bits of state, one seed.

/// A stream of numbers that depends on nothing but its seed.
#[derive(Debug, Clone)]
pub(crate) struct Rng {
    state: u64,
}

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `count - 1`; 0 if there is nothing to choose from.
    pub(crate) fn below(&mut self, count: u64) -> u64 {
        self.next().checked_rem(count).unwrap_or(0)
    }

    /// A number from 0 to `count`, both included.
    pub(crate) fn up_to(&mut self, count: usize) -> usize {
        usize::try_from(self.below((count as u64).saturating_add(1))).unwrap_or(0)
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }

    /// A stream of its own that begins where this one stands, without moving it.
    pub(crate) fn fork(&self) -> Self {
        let mut fork = Self::new(self.state ^ 0x5bf0_3635_d1d2_b4a1);
        fork.next();
        Self::new(fork.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_gives_same_stream_and_forks_differ() {
        let (mut a, mut b) = (Rng::new(7), Rng::new(7));
        let mut fork = a.fork();
        assert_eq!(a.next(), b.next());
        assert_ne!(fork.next(), b.next());
        assert_eq!(a.below(0), 0);
        assert!((0..100).all(|_| a.below(3) < 3 && a.up_to(2) <= 2));
    }
}
