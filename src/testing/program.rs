//! Programs: what is done to a log under test, as data.
//!
//! Owns: the steps, the small alphabet whose words are enumerated, the programs drawn from a seed.
//! Does not own: carrying them out (`run`).

use std::ops::Range;

use super::config::Config;
use crate::io::sim::rng::Rng;

/// One change in a batch. Positions are relative, so that every program fits every log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Appends `count` entries of `bytes` bytes each.
    Append {
        /// How many.
        count: u32,
        /// Length of each, cut to what the segment size allows.
        bytes: u32,
    },
    /// Drops the last `u64` entries, at most all.
    Truncate(u64),
    /// Drops the first `u64` entries, at most all.
    Trim(u64),
    /// Drops every entry and goes on this far after the end.
    ResetAhead(u64),
    /// Drops every entry and goes on this far before the first one.
    ResetBack(u64),
    /// Sets a cell to a new value of some length.
    Set {
        /// Which one.
        cell: u8,
        /// Length of the value.
        bytes: u16,
    },
    /// Sets a cell to a short value that follows from this number, so that it may have it already,
    /// or have it again.
    SetAgain {
        /// Which one.
        cell: u8,
        /// Which value.
        value: u8,
    },
    /// Clears a cell.
    Clear(u8),
    /// Writes a side file of some length and attaches it.
    Attach {
        /// To which cell.
        cell: u8,
        /// Length of the file.
        bytes: u32,
    },
    /// Attaches the side file of one cell to another one as well.
    Share {
        /// The cell that has it.
        from: u8,
        /// The cell that gets it.
        to: u8,
    },
}

/// A cell that is set lazily, and to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lazily {
    /// A new value.
    New {
        /// Which cell.
        cell: u8,
        /// Length of the value.
        bytes: u16,
    },
    /// A value that it may have already, or had before; see [`Change::SetAgain`].
    Again {
        /// Which cell.
        cell: u8,
        /// Which value.
        value: u8,
    },
}

/// One step of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Commits a batch.
    Commit(Vec<Change>),
    /// Submits a batch without waiting for it.
    Submit(Vec<Change>),
    /// Sets cells lazily, one after the other.
    SetLazily(Vec<Lazily>),
    /// Syncs.
    Sync,
    /// Does what background threads would do.
    Maintain,
    /// Closes the log and opens it again.
    Reopen,
    /// Kills the process and opens the log again.
    Kill,
}

impl Step {
    /// Whether it writes a batch.
    pub(super) fn is_batch(&self) -> bool {
        matches!(self, Self::Commit(_) | Self::Submit(_))
    }
}

/// Steps, and how many of them only prepare the ground.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Program {
    /// All steps in order.
    pub steps: Vec<Step>,
    /// How many of them are not themselves explored.
    pub prelude: usize,
}

/// Number of words in the alphabet.
pub const WORDS: u64 = 28;

/// Cells for large values. Three of them fit a slot, beside all others.
pub(super) const LARGE_CELLS: Range<u8> = 5..9;

/// Length of such a value.
pub(super) const LARGE_BYTES: u16 = 1000;

/// The alphabet of the exhaustive exploration: one of each kind of mutation, and the shapes of it
/// that take different ways through the engine.
fn word(number: u64) -> Step {
    use Change::{
        Append, Attach, Clear, ResetAhead, ResetBack, Set, SetAgain, Share, Trim, Truncate,
    };
    let small = Append { count: 1, bytes: 40 };
    match number {
        0 => Step::Commit(vec![small]),
        1 => Step::Commit(vec![Append { count: 3, bytes: 900 }]),
        2 => Step::Commit(vec![Append { count: 7, bytes: 1300 }]),
        3 => Step::Commit(vec![Truncate(1)]),
        4 => Step::Commit(vec![Truncate(1000)]),
        5 => Step::Commit(vec![Truncate(4), Append { count: 2, bytes: 700 }]),
        6 => Step::Commit(vec![Trim(3)]),
        7 => Step::Commit(vec![Trim(1000)]),
        8 => Step::Commit(vec![ResetAhead(100)]),
        9 => Step::Commit(vec![ResetBack(2), small]),
        10 => Step::Commit(vec![Set { cell: 0, bytes: 16 }]),
        11 => Step::Commit(vec![Set { cell: 1, bytes: 600 }, small, Set { cell: 0, bytes: 16 }]),
        12 => Step::Commit(vec![Clear(0)]),
        13 => Step::Commit(vec![Attach { cell: 2, bytes: 1500 }, Trim(2)]),
        14 => Step::Commit(vec![Share { from: 2, to: 3 }, Clear(2)]),
        15 => Step::Submit(vec![Append { count: 2, bytes: 300 }, Set { cell: 0, bytes: 16 }]),
        16 => Step::Submit(vec![Append { count: 1, bytes: 2500 }]),
        17 => Step::Submit(vec![Truncate(2), Trim(1)]),
        18 => Step::Sync,
        19 => Step::Maintain,
        20 => Step::Reopen,
        21 => Step::Kill,
        22 => Step::SetLazily(vec![Lazily::New { cell: 0, bytes: 16 }]),
        23 => Step::SetLazily(vec![Lazily::Again { cell: 0, value: 1 }]),
        24 => {
            let long = Lazily::New { cell: 1, bytes: 700 };
            Step::SetLazily(vec![long, Lazily::New { cell: 4, bytes: 0 }])
        }
        25 => Step::Commit(vec![SetAgain { cell: 0, value: 1 }]),
        // Changes nothing, unless another step has set it.
        26 => Step::Commit(vec![Clear(4)]),
        // On its way more cells than a slot has room for, and all it has room for at its end.
        _ => {
            let sets = LARGE_CELLS.map(|cell| Set { cell, bytes: LARGE_BYTES });
            Step::Commit(sets.chain([Clear(LARGE_CELLS.start)]).collect())
        }
    }
}

/// The grounds on which small programs start.
fn prelude(number: u64) -> Vec<Step> {
    use Change::{Append, Attach, Set, Trim};
    match number {
        0 => Vec::new(),
        _ => vec![
            Step::Commit(vec![Append { count: 6, bytes: 800 }, Set { cell: 0, bytes: 16 }]),
            Step::Commit(vec![Attach { cell: 2, bytes: 700 }, Append { count: 3, bytes: 300 }]),
            Step::Commit(vec![Trim(1)]),
        ],
    }
}

/// Number of grounds.
pub const PRELUDES: u64 = 2;

/// How many small programs there are with exactly `steps` steps.
pub fn count_of(steps: u32) -> u64 {
    WORDS.pow(steps) * PRELUDES
}

impl Program {
    /// A program of these steps, all of which are explored.
    pub fn new(steps: Vec<Step>) -> Self {
        Self { steps, prelude: 0 }
    }

    /// The small program with a number: all of one step come first, then those of two, and so on.
    pub fn numbered(mut number: u64) -> Self {
        let mut length = 1;
        while number >= count_of(length) {
            number -= count_of(length);
            length += 1;
        }
        let mut steps = prelude(number % PRELUDES);
        number /= PRELUDES;
        let prelude = steps.len();
        for _ in 0..length {
            steps.push(word(number % WORDS));
            number /= WORDS;
        }
        Self { steps, prelude }
    }

    /// A program drawn from a seed.
    pub fn drawn(seed: u64, config: &Config) -> Self {
        let mut rng = Rng::new(seed);
        let count = 2 + rng.below(11);
        let steps = (0..count).map(|_| draw_step(&mut rng, config)).collect();
        Self { steps, prelude: 0 }
    }
}

fn draw_step(rng: &mut Rng, config: &Config) -> Step {
    let buffered = config.write_mode.defers_writes();
    match rng.below(24) {
        // More that leaves frames in memory, and less that drives them out.
        0..=4 if buffered && rng.coin() => Step::Submit(draw_batch(rng, config)),
        0 => Step::Sync,
        1 | 2 => Step::Maintain,
        3 => Step::Reopen,
        4 => Step::Kill,
        5..=9 => Step::Submit(draw_batch(rng, config)),
        20..=23 => Step::SetLazily((0..=rng.below(3)).map(|_| draw_lazily(rng)).collect()),
        _ => Step::Commit(draw_batch(rng, config)),
    }
}

fn draw_lazily(rng: &mut Rng) -> Lazily {
    let cell = u8::try_from(rng.below(5)).unwrap_or(0);
    if rng.coin() {
        return Lazily::Again { cell, value: u8::try_from(rng.below(3)).unwrap_or(0) };
    }
    let bytes = [0, 1, 8, 16, 24, 600].get(rng.up_to(5)).copied().unwrap_or(0);
    // The big ones share a cell, so that all together fit.
    Lazily::New { cell: if bytes > 100 { 1 } else { cell }, bytes }
}

fn draw_batch(rng: &mut Rng, config: &Config) -> Vec<Change> {
    (0..=rng.below(4)).map(|_| draw_change(rng, config)).collect()
}

fn draw_change(rng: &mut Rng, config: &Config) -> Change {
    let cell = |rng: &mut Rng| u8::try_from(rng.below(4)).unwrap_or(0);
    let large = |rng: &mut Rng| LARGE_CELLS.start + cell(rng);
    match rng.below(17) {
        0..=5 => draw_append(rng, config),
        6 | 7 => Change::Truncate(rng.below(9)),
        8 | 9 => Change::Trim(rng.below(9)),
        10 if rng.coin() => Change::ResetAhead(rng.below(3) * 50),
        10 => Change::ResetBack(rng.below(4)),
        11 | 12 => {
            let bytes = [0, 1, 8, 16, 24, 300, LARGE_BYTES].get(rng.up_to(6)).copied().unwrap_or(0);
            let cell = match bytes {
                LARGE_BYTES => large(rng),
                101.. => 1,
                _ => cell(rng),
            };
            Change::Set { cell, bytes }
        }
        13 if rng.coin() => Change::Clear(large(rng)),
        13 => Change::Clear(cell(rng)),
        14 => {
            let bytes = [0, 1, 511, 512, 513, 3000].get(rng.up_to(5)).copied().unwrap_or(0);
            Change::Attach { cell: cell(rng), bytes }
        }
        15 => {
            let value = u8::try_from(rng.below(3)).unwrap_or(0);
            Change::SetAgain { cell: cell(rng), value }
        }
        _ => Change::Share { from: cell(rng), to: cell(rng) },
    }
}

fn draw_append(rng: &mut Rng, config: &Config) -> Change {
    let limit = u32::try_from(config.segment_bytes).unwrap_or(u32::MAX);
    let small = config.write_mode.defers_writes() && rng.coin();
    let bytes = match rng.below(8) {
        // So that several batches fit a buffer of a quarter of a segment.
        _ if small => rng.below(200),
        0 => 0,
        1 | 2 => rng.below(64),
        3 | 4 => rng.below(600),
        5 | 6 => rng.below(2000),
        _ => rng.below(u64::from(limit)),
    };
    let many = if bytes > 1500 { 3 } else { 8 };
    let count = 1 + if rng.coin() { 0 } else { rng.below(many) };
    Change::Append {
        count: u32::try_from(count).unwrap_or(1),
        bytes: u32::try_from(bytes).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_programs_are_numbered_without_repetition() {
        let one: Vec<_> = (0..count_of(1)).map(Program::numbered).collect();
        assert!(one.iter().all(|program| program.steps.len() == program.prelude + 1));
        let two: Vec<_> = (count_of(1)..count_of(1) + count_of(2)).map(Program::numbered).collect();
        assert!(two.iter().all(|program| program.steps.len() == program.prelude + 2));
        for (at, program) in two.iter().enumerate() {
            assert!(!two[..at].contains(program), "{program:?}");
        }
    }
}
