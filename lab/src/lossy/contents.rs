//! One file of the file system: its bytes as the kernel was told, and as the medium has them.
//!
//! Owns: sectors between two syncs, and what a power cut makes of them. Does not own: names.
//!
//! Invariants:
//! - A sector is dirty if and only if `between` has it; every state that it went through since the
//!   last sync is kept there, the newest last.
//! - A sync that fails leaves no dirty sector behind: what did not get to the medium is forgotten
//!   here, while the kernel's cache above goes on showing it.

use std::collections::BTreeMap;

use super::dice::Dice;
use super::injected::Injected;

/// Bytes that reach the medium together or not at all, as far as anybody promises.
pub(crate) const SECTOR_BYTES: usize = 512;
/// The unit in which space is taken.
pub(crate) const PAGE_BYTES: usize = 4096;
/// States of one sector that are remembered; the oldest go first.
const STATES_MAX: usize = 8;

type Sector = [u8; SECTOR_BYTES];

/// The bytes of a file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Contents {
    now: Vec<u8>,
    medium: Vec<u8>,
    between: BTreeMap<usize, Vec<Sector>>,
    /// Which pages have space.
    pages: Vec<bool>,
}

/// How much of what was not durable survives a power cut, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Odds {
    /// Sixteenths that are new.
    new: u64,
    /// Sixteenths that are torn.
    torn: u64,
}

impl Odds {
    /// Drawn first, so that cuts which lose nearly nothing and nearly everything are as frequent as
    /// those between.
    pub(crate) fn drawn(dice: &mut Dice) -> Self {
        let new = [0, 1, 4, 8, 8, 12, 15, 16][usize::try_from(dice.below(8)).unwrap()];
        Self { new, torn: dice.below(3) * 4 }
    }

    pub(crate) fn survives(self, dice: &mut Dice) -> bool {
        dice.below(16) < self.new
    }
}

impl Contents {
    pub(crate) fn len(&self) -> usize {
        self.now.len()
    }

    pub(crate) fn read(&self, offset: usize, count: usize) -> &[u8] {
        let end = offset.saturating_add(count).min(self.now.len());
        &self.now[offset.min(end)..end]
    }

    pub(crate) fn pages(&self) -> usize {
        self.pages.iter().filter(|&&taken| taken).count()
    }

    /// Pages without space that `range` touches.
    pub(crate) fn pages_wanted(&self, offset: usize, count: usize) -> usize {
        let pages = offset / PAGE_BYTES..(offset + count).div_ceil(PAGE_BYTES);
        pages.filter(|&page| !self.pages.get(page).copied().unwrap_or_default()).count()
    }

    /// Gives `range` space, without changing its bytes.
    pub(crate) fn reserve(&mut self, offset: usize, count: usize) {
        let end = (offset + count).div_ceil(PAGE_BYTES);
        self.pages.resize(self.pages.len().max(end), false);
        self.pages[offset / PAGE_BYTES..end].fill(true);
    }

    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        self.reserve(offset, bytes.len());
        if end > self.now.len() {
            self.set_len(end);
        }
        self.now[offset..end].copy_from_slice(bytes);
        for sector in offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            let new = sector_of(&self.now, sector);
            let medium = sector_of(&self.medium, sector);
            let states = self.between.entry(sector).or_default();
            if *states.last().unwrap_or(&medium) != new {
                states.push(new);
            }
            if states.len() > STATES_MAX {
                states.remove(0);
            }
            if states.is_empty() {
                self.between.remove(&sector);
            }
        }
    }

    pub(crate) fn set_len(&mut self, len: usize) {
        let old = self.now.len();
        self.now.resize(len, 0);
        self.pages.truncate(len.div_ceil(PAGE_BYTES));
        // What lies after the end now is neither here nor there.
        let kept = self.between.split_off(&len.div_ceil(SECTOR_BYTES));
        drop(kept);
        // Zeros that cover what the medium still has there.
        let covered = len.min(self.medium.len());
        for sector in old.min(covered) / SECTOR_BYTES..covered.div_ceil(SECTOR_BYTES) {
            let new = sector_of(&self.now, sector);
            if new != sector_of(&self.medium, sector) {
                self.between.entry(sector).or_default().push(new);
            }
        }
    }

    /// Puts everything on the medium.
    pub(crate) fn sync(&mut self) {
        self.medium.resize(self.now.len(), 0);
        for &sector in self.between.keys() {
            put(&mut self.medium, sector, &sector_of(&self.now, sector));
        }
        self.between.clear();
    }

    /// A sync that fails: `reaches` says for each dirty sector whether it got to the medium all the
    /// same. Answers how many did not.
    pub(crate) fn sync_and_fail(&mut self, mut reaches: impl FnMut() -> bool) -> u64 {
        let mut lost = 0;
        // The length gets there, as metadata may by itself.
        self.medium.resize(self.now.len().max(self.medium.len()), 0);
        for (sector, _) in std::mem::take(&mut self.between) {
            if reaches() {
                put(&mut self.medium, sector, &sector_of(&self.now, sector));
            } else {
                put(&mut self.now, sector, &sector_of(&self.medium, sector));
                lost += 1;
            }
        }
        lost
    }

    /// The file after a power cut, durable as it is.
    pub(crate) fn after_power_cut(
        &self,
        odds: Odds,
        dice: &mut Dice,
        injected: &mut Injected,
    ) -> Self {
        let mut medium = self.medium.clone();
        if self.now.len() != medium.len() {
            let survives = odds.survives(dice);
            injected.lengths_lost += u64::from(!survives);
            medium.resize(if survives { self.now.len() } else { medium.len() }, 0);
        }
        for (&sector, states) in &self.between {
            let old = sector_of(&self.medium, sector);
            let bytes = survivor(&old, states, odds, dice, injected);
            put(&mut medium, sector, &bytes);
        }
        let mut pages = self.pages.clone();
        pages.truncate(medium.len().div_ceil(PAGE_BYTES));
        Self { now: medium.clone(), medium, between: BTreeMap::new(), pages }
    }
}

/// One sector after a power cut: as it was, as it is, as it was in between, or torn between two of
/// these.
fn survivor(
    old: &Sector,
    states: &[Sector],
    odds: Odds,
    dice: &mut Dice,
    injected: &mut Injected,
) -> Sector {
    let newest = states.len() - 1;
    if dice.below(16) < odds.torn {
        injected.sectors_torn += 1;
        let at = usize::try_from(dice.below(states.len() as u64)).unwrap();
        let before = if at == 0 { old } else { &states[at - 1] };
        let cut = 1 + usize::try_from(dice.below(SECTOR_BYTES as u64 - 1)).unwrap();
        let new_first = dice.below(2) == 0;
        return std::array::from_fn(|byte| {
            if (byte < cut) == new_first { states[at][byte] } else { before[byte] }
        });
    }
    if !odds.survives(dice) {
        injected.sectors_lost += 1;
        return *old;
    }
    if newest > 0 && dice.below(4) == 0 {
        injected.sectors_between += 1;
        return states[usize::try_from(dice.below(newest as u64)).unwrap()];
    }
    injected.sectors_new += 1;
    states[newest]
}

/// A sector, filled up with zeros at the end of the file.
fn sector_of(bytes: &[u8], sector: usize) -> Sector {
    let mut filled = [0; SECTOR_BYTES];
    let start = (sector * SECTOR_BYTES).min(bytes.len());
    let end = (start + SECTOR_BYTES).min(bytes.len());
    filled[..end - start].copy_from_slice(&bytes[start..end]);
    filled
}

/// Replaces what the file has of a sector.
fn put(bytes: &mut [u8], sector: usize, new: &Sector) {
    let start = (sector * SECTOR_BYTES).min(bytes.len());
    let end = (start + SECTOR_BYTES).min(bytes.len());
    bytes[start..end].copy_from_slice(&new[..end - start]);
}
