//! How the medium of a simulated disk decays.

/// Damage to one file on the medium, without any error from the disk.
///
/// A sector has 512 bytes. What the cache holds of it is damaged too, as if the page had been
/// evicted, unless it is dirty or somebody borrows it through a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rot {
    /// One bit turns over.
    FlipBit {
        /// The byte, from the start of the file.
        offset: u64,
        /// The bit in it, modulo 8.
        bit: u8,
    },
    /// One sector reads as zeros.
    ZeroSector {
        /// Its number in the file.
        sector: u64,
    },
    /// The last write of one sector was lost, although it was reported done: the sector holds what
    /// it held before.
    StaleSector {
        /// Its number in the file.
        sector: u64,
    },
    /// The bytes of one sector were written over another as well.
    Misdirected {
        /// The sector whose bytes it were.
        from: u64,
        /// The sector that now has them.
        to: u64,
    },
    /// The file ends before this byte.
    Cut {
        /// Its length from now on; not longer than it was.
        bytes: u64,
    },
    /// The file is gone.
    Remove,
}
