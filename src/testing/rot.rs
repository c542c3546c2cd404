//! The rot sweep: every bit, every sector, every length and every file of small logs of each shape.
//!
//! Owns: the decay. Does not own: the logs, and what may be read of them afterwards (`shape`).

use std::ops::Range;

use super::explore::{Subject, Tally, Violation, guarded};
use super::shape::{Changed, Shape};
use crate::io::sim::{Persistence, Rot};

pub use super::shape::SHAPES;

/// How densely a sweep goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Density {
    /// One bit in so many is flipped; 1 flips every one.
    pub bits: u64,
    /// One length in so many is tried away from the structures.
    pub lengths: u64,
    /// Whether every sector is written over every other one, or over its neighbour only.
    pub misdirect_all: bool,
}

impl Density {
    /// What a test in a debug build can afford.
    pub const SMALL: Self = Self { bits: 97, lengths: 1021, misdirect_all: false };
    /// Everything.
    pub const FULL: Self = Self { bits: 1, lengths: 1, misdirect_all: true };
}

/// One of so many equal parts of a sweep, for several threads and for progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Share {
    /// Which part, from 0.
    pub part: u64,
    /// How many there are.
    pub parts: u64,
}

impl Share {
    /// Everything.
    pub const WHOLE: Self = Self { part: 0, parts: 1 };

    /// Part number `part` of `parts`.
    pub fn new(part: u64, parts: u64) -> Self {
        Self { part, parts }
    }
}

/// Lets a log of one shape decay in every way.
pub fn sweep(
    shape: usize,
    closed: bool,
    seed: u64,
    density: Density,
) -> (Tally, Option<Violation>) {
    sweep_share(shape, closed, seed, density, Share::WHOLE)
}

/// As [`sweep`], one part of it. All parts together are the whole.
pub fn sweep_share(
    shape: usize,
    closed: bool,
    seed: u64,
    density: Density,
    one: Share,
) -> (Tally, Option<Violation>) {
    let [first, ..] = SHAPES;
    let name = SHAPES.get(shape).copied().unwrap_or(first);
    let subject = Subject::Small(2 * shape as u64 + u64::from(closed), 0);
    guarded(&subject, seed, |tally| {
        // The log counts once, not with each of its parts.
        tally.programs = u64::from(one.part == 0);
        let shape = Shape::build(name, closed, seed)?;
        let mut turn = 0;
        for (file, bytes) in shape.files() {
            let mut run =
                One { shape: &shape, file: &file, bytes: &bytes, share: one, turn, tally };
            run.bits(density)?;
            run.sectors(density)?;
            run.blocks()?;
            run.lengths(density)?;
            run.rot("missing files", Rot::Remove)?;
            turn = run.turn;
        }
        Ok(())
    })
}

/// Lets a log of one shape, under one of the [`CONFIGS`](super::config::CONFIGS), whose power was
/// cut in a sync, decay in one bit, sector or block: each of so many places to cut it.
pub fn sweep_cut(
    (shape, config): (usize, usize),
    seed: u64,
    cuts: Range<u64>,
    density: Density,
) -> (Tally, Option<Violation>) {
    let [first, ..] = SHAPES;
    let name = SHAPES.get(shape).copied().unwrap_or(first);
    let subject = Subject::Small(shape as u64, config);
    guarded(&subject, seed, |tally| {
        for cut in cuts {
            tally.programs += 1;
            let shape = Shape::cut(name, subject.config(), seed, cut)?;
            for (file, bytes) in shape.files() {
                let whole = Share::WHOLE;
                let mut run =
                    One { shape: &shape, file: &file, bytes: &bytes, share: whole, turn: 0, tally };
                let told = |what| format!("{what}; cut {cut}");
                run.bits(density).map_err(told)?;
                run.sectors_zeroed().map_err(told)?;
                run.blocks().map_err(told)?;
            }
        }
        Ok(())
    })
}

/// One file of one shape.
struct One<'a> {
    shape: &'a Shape,
    file: &'a str,
    bytes: &'a [u8],
    share: Share,
    /// Numbers the decays, of which every so many belong to this share.
    turn: u64,
    tally: &'a mut Tally,
}

impl One<'_> {
    fn rot(&mut self, kind: &'static str, rot: Rot) -> Result<(), String> {
        self.all(kind, &[rot])
    }

    /// One decay that is several at once.
    fn all(&mut self, kind: &'static str, rots: &[Rot]) -> Result<(), String> {
        self.turn += 1;
        if self.turn % self.share.parts != self.share.part {
            return Ok(());
        }
        let disk = self.shape.disk.crash_copy(Persistence::Nothing);
        for rot in rots {
            disk.rot(self.file, *rot).map_err(|error| format!("{rot:?}: {error}"))?;
        }
        self.tally.count(kind);
        let (name, closed) = (self.shape.name, self.shape.closed);
        self.shape
            .check(&disk, &Changed::one(self.file), self.tally)
            .map_err(|what| format!("{what}; {rots:?} of {}, {name}, closed {closed}", self.file))
    }

    fn blocks(&mut self) -> Result<(), String> {
        let sectors = (self.bytes.len() as u64).div_ceil(512);
        for first in (0..sectors).step_by(8) {
            let block = first..sectors.min(first + 8);
            let sectors: Vec<_> = block.map(|sector| Rot::ZeroSector { sector }).collect();
            self.all("blocks zeroed", &sectors)?;
        }
        Ok(())
    }

    fn bits(&mut self, density: Density) -> Result<(), String> {
        let bits = self.bytes.len() as u64 * 8;
        let step = usize::try_from(density.bits).unwrap_or(1);
        for at in (0..bits).step_by(step) {
            let bit = u8::try_from(at % 8).unwrap_or(0);
            self.rot("bits flipped", Rot::FlipBit { offset: at / 8, bit })?;
        }
        Ok(())
    }

    fn sectors_zeroed(&mut self) -> Result<(), String> {
        for sector in 0..(self.bytes.len() as u64).div_ceil(512) {
            self.rot("sectors zeroed", Rot::ZeroSector { sector })?;
        }
        Ok(())
    }

    fn sectors(&mut self, density: Density) -> Result<(), String> {
        let sectors = (self.bytes.len() as u64).div_ceil(512);
        self.sectors_zeroed()?;
        for sector in 0..sectors {
            self.rot("sectors stale", Rot::StaleSector { sector })?;
            let others = if density.misdirect_all { sectors } else { sectors.min(2) };
            for other in 1..others {
                let from = (sector + other) % sectors;
                self.rot("sectors misdirected", Rot::Misdirected { from, to: sector })?;
            }
        }
        Ok(())
    }

    /// Every length; with a density, some near the start, the end, the header and the footer and
    /// fewer in between.
    fn lengths(&mut self, density: Density) -> Result<(), String> {
        let whole = self.bytes.len() as u64;
        for length in 0..whole {
            let close = length < 40 || whole - length < 140 || length.abs_diff(4096) < 80;
            let one_in = if close { density.lengths.min(8) } else { density.lengths };
            if length.is_multiple_of(one_in) {
                self.rot("files cut", Rot::Cut { bytes: length })?;
            }
        }
        Ok(())
    }
}
