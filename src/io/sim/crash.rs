//! What is left of a simulated machine after its power was cut, or its process killed.
//!
//! Owns: the units of what is not durable, and who decides what becomes of each. Does not own: how
//! a unit of a file survives (`inode`).
//!
//! The model: since its last sync each 512-byte sector of a file is independently old, new, or cut
//! at some byte between the two; its length is old, new or between; and of the changes of names
//! since the last directory sync any subset survives, or any prefix. A rename is atomic.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::contents::SECTOR_BYTES;
use super::fault::Script;
use super::inode::{Fate, Inode};
use super::machine::{Machine, NameOp, Names};
use super::rng::Rng;

/// Which changes of names can survive together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::exhaustive_enums, reason = "there is nothing between the two")]
pub enum NameOrder {
    /// Any of them without any other: what POSIX promises, which is nothing.
    #[default]
    Any,
    /// None without all earlier ones: what file systems with one ordered journal do.
    Prefix,
}

/// What survives a power cut of what was not durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Persistence {
    /// Nothing.
    Nothing,
    /// Everything, as if all had been synced.
    Everything,
    /// A random part, sectors that are neither old nor new among it.
    Random(u64),
    /// The units with a one in this mask; unit 0 is the lowest bit, and units past 63 do not
    /// survive. See [`super::SimDisk::dirty_units`].
    Mask(u64),
}

/// One thing that a power cut decides on by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unit {
    /// The length of a file.
    Length {
        /// The name it has, or had last.
        name: Arc<str>,
    },
    /// One sector of a file.
    Sector {
        /// The name it has, or had last.
        name: Arc<str>,
        /// The number of the sector in the file.
        sector: u64,
    },
    /// A file got this name by creation or rename, and lost the one it had.
    Link {
        /// The new name.
        name: Arc<str>,
    },
    /// A file lost its name.
    Unlink {
        /// The name it had last.
        name: Arc<str>,
    },
}

impl Machine {
    /// Files whose contents a crash decides on, in order.
    fn at_stake(&self) -> impl Iterator<Item = (u64, &Inode)> {
        let reachable: BTreeSet<u64> = self.reachable().collect();
        reachable.into_iter().filter_map(|number| Some((number, self.inodes.get(&number)?)))
    }

    /// Everything a power cut decides on, in the order in which it is decided.
    pub(super) fn units(&self) -> Vec<Unit> {
        let mut units = Vec::new();
        for (_, inode) in self.at_stake() {
            let name = || Arc::clone(&inode.name);
            if inode.length_is_dirty() {
                units.push(Unit::Length { name: name() });
            }
            let sectors = inode.dirty_sectors().into_iter();
            units.extend(sectors.map(|s| Unit::Sector { name: name(), sector: s as u64 }));
        }
        units.extend(self.pending.iter().map(|op| match op {
            NameOp::Link { name, .. } => Unit::Link { name: Arc::clone(name) },
            NameOp::Unlink { inode } => Unit::Unlink {
                name: self.inodes.get(inode).map_or_else(|| "".into(), |it| Arc::clone(&it.name)),
            },
        }));
        units
    }

    /// The machine after a power cut, for each unit of which `fate` is asked once and in order.
    pub(super) fn after_power_cut(&self, fate: &mut dyn FnMut() -> Fate) -> Self {
        let mut after = self.successor(Script::default());
        for (number, inode) in self.at_stake() {
            after.inodes.insert(number, inode.after_power_cut(fate));
        }
        let mut names = self.durable.clone();
        let mut unbroken = true;
        for op in &self.pending {
            let survives = !matches!(fate(), Fate::Old);
            unbroken &= survives;
            if survives && (unbroken || self.name_order == NameOrder::Any) {
                op.apply(&mut names);
            }
        }
        after.take_names(names);
        after.durable = after.names.clone();
        let names = &after.names;
        after.inodes.retain(|number, _| names.values().any(|named| named == number));
        after
    }

    /// The machine with its process gone: the cache stays, locks and handles do not.
    pub(super) fn after_kill(&self) -> std::io::Result<Self> {
        let mut after = self.successor(self.script.after_kill());
        let mut reachable: BTreeSet<u64> = self.reachable().collect();
        reachable.extend(self.names.values());
        for number in reachable {
            if let Some(inode) = self.inodes.get(&number) {
                after.inodes.insert(number, inode.after_kill()?);
            }
        }
        after.names = self.names.clone();
        after.durable = self.durable.clone();
        after.pending.clone_from(&self.pending);
        Ok(after)
    }

    fn successor(&self, script: Script) -> Self {
        Self {
            script,
            next_inode: self.next_inode,
            capacity: self.capacity,
            name_order: self.name_order,
            ..Self::new(self.rng.fork())
        }
    }

    fn take_names(&mut self, names: Names) {
        for (name, number) in &names {
            if let Some(inode) = self.inodes.get_mut(number) {
                inode.name = Arc::clone(name);
            }
        }
        self.names = names;
    }
}

/// Asks `choose` for a number below its argument, and again for the byte where a sector is cut.
pub(super) fn chosen(choose: &mut dyn FnMut(u64) -> u64) -> Fate {
    let last = SECTOR_BYTES as u64 - 1;
    match choose(4) % 4 {
        0 => Fate::Old,
        1 => Fate::New,
        way => {
            let cut = usize::try_from(1 + choose(last) % last).unwrap_or(1);
            Fate::Torn { cut, new_first: way == 2 }
        }
    }
}

/// Draws fates from a seed. How much survives on the whole is drawn first, so that crashes which
/// lose nearly nothing and nearly everything are as frequent as those between.
pub(super) fn drawn(seed: u64) -> impl FnMut() -> Fate {
    let mut rng = Rng::new(seed);
    let sixteenths = [0, 1, 4, 8, 8, 12, 15, 16];
    let index = usize::try_from(rng.below(8)).unwrap_or(0);
    let odds: u64 = sixteenths.get(index).copied().unwrap_or(8);
    let torn: u64 = rng.below(3) * 4;
    move || {
        let new = rng.below(16) < odds;
        if rng.below(16) < torn {
            let cut = rng.up_to(SECTOR_BYTES - 2) + 1;
            return Fate::Torn { cut, new_first: rng.coin() };
        }
        if new { Fate::New } else { Fate::Old }
    }
}
