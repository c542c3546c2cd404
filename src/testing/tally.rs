//! What an exploration or a sweep has done and found.
//!
//! Owns: the numbers, the violations, and the guard that makes one of a panic. Does not own: what is
//! counted.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::explore::Subject;

/// What was done, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// Programs.
    pub programs: u64,
    /// Crash states that were recovered and checked.
    pub states: u64,
    /// Those by what happened: the call that the crash came before, and what survived.
    pub kinds: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Adds another tally.
    pub fn add(&mut self, other: &Self) {
        self.programs += other.programs;
        self.states += other.states;
        for (kind, count) in &other.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
    }

    pub(super) fn count(&mut self, kind: &'static str) {
        self.count_many(kind, 1);
    }

    pub(super) fn count_many(&mut self, kind: &'static str, count: u64) {
        *self.kinds.entry(kind).or_default() += count;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} programs, {} states", self.programs, self.states)?;
        for (kind, count) in &self.kinds {
            write!(f, ", {kind} {count}")?;
        }
        Ok(())
    }
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The program, in the form that replays it.
    pub subject: String,
    /// The seed of the exploration.
    pub seed: u64,
    /// What went wrong, and where.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (subject {}, seed {})", self.what, self.subject, self.seed)
    }
}

/// Runs a check, panics included, and makes a violation of what it says.
pub(super) fn guarded(
    subject: &Subject,
    seed: u64,
    check: impl FnOnce(&mut Tally) -> Result<(), String>,
) -> (Tally, Option<Violation>) {
    let mut tally = Tally { programs: 1, ..Tally::default() };
    let ran = catch_unwind(AssertUnwindSafe(|| check(&mut tally)));
    let what = match ran {
        Ok(Ok(())) => return (tally, None),
        Ok(Err(what)) => what,
        Err(_) => "a panic, printed above".to_owned(),
    };
    (tally, Some(Violation { subject: subject.to_string(), seed, what }))
}
