//! A conformance kit for OmniPaxos storages: checks any `Storage<T>` against what OmniPaxos relies
//! on, index by index, and names what does not hold.
//!
//! Owns: the list of checks, running them, the report. Does not own: what the rules are for (the
//! docs/ADAPTERS.md of `indelible`). The kit knows nothing about how a storage is made: it is given
//! a way to make a fresh one and, if there is one, a way to close and reopen one.
//!
//! ```
//! use omnipaxos::storage::{Entry, Snapshot, Storage};
//! use omnipaxos_conformance::Conformance;
//!
//! #[derive(Clone, Debug, PartialEq)]
//! struct Number(u64);
//! #[derive(Clone, Debug, PartialEq)]
//! struct Sum(u64);
//! impl Entry for Number { type Snapshot = Sum; }
//! impl Snapshot<Number> for Sum {
//!     fn create(entries: &[Number]) -> Self { Sum(entries.iter().map(|number| number.0).sum()) }
//!     fn merge(&mut self, delta: Self) { self.0 += delta.0; }
//!     fn use_snapshots() -> bool { true }
//! }
//!
//! fn assert_conforms<S: Storage<Number>>(fresh: impl FnMut() -> S + 'static) {
//!     let report = Conformance::new(fresh, Number).snapshots(Sum).run();
//!     assert!(report.holds(), "{report}");
//! }
//! ```

use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use omnipaxos::ClusterConfig;
use omnipaxos::ballot_leader_election::Ballot;
use omnipaxos::storage::{Entry, StopSign, Storage};
use omnipaxos::util::FlexibleQuorum;

mod atomic;
mod compaction;
mod entries;
mod model;
mod reopen;
mod state;

/// What a check returns: nothing, or what was wrong.
type Outcome = Result<(), Box<dyn Error>>;

/// Fails the check unless two values are equal.
macro_rules! same {
    ($got:expr, $expected:expr, $($what:tt)+) => {
        match (&$got, &$expected) {
            (got, expected) if *got == *expected => {}
            (got, expected) => {
                let what = format!($($what)+);
                return Err(format!("{what}: expected {expected:?}, got {got:?}").into());
            }
        }
    };
}

/// Fails the check unless a call was refused.
macro_rules! refused {
    ($call:expr, $($what:tt)+) => {
        if let Ok(answer) = $call {
            let what = format!($($what)+);
            return Err(format!("{what}: expected an error, got {answer:?}").into());
        }
    };
}

use {refused, same};

/// Entries the kit can compare, and whose snapshots it can. Every such type has it.
pub trait Compared: Entry<Snapshot: PartialEq> + PartialEq {}

impl<T: Entry<Snapshot: PartialEq> + PartialEq> Compared for T {}

/// A run of the kit, as configured so far.
pub struct Conformance<T: Entry, S> {
    fresh: Box<dyn FnMut() -> S>,
    reopen: Option<Box<dyn FnMut(S) -> S>>,
    entry: Box<dyn Fn(u64) -> T>,
    snapshot: Option<Box<dyn Fn(u64) -> T::Snapshot>>,
    exceptions: Vec<String>,
    seed: u64,
}

impl<T: Compared, S: Storage<T>> Conformance<T, S> {
    /// Checks the storages that `fresh` makes, each empty and independent of those before, with
    /// entries that `entry` makes: different numbers must give unequal entries.
    pub fn new(fresh: impl FnMut() -> S + 'static, entry: impl Fn(u64) -> T + 'static) -> Self {
        Self {
            fresh: Box::new(fresh),
            reopen: None,
            entry: Box::new(entry),
            snapshot: None,
            exceptions: Vec::new(),
            seed: 1,
        }
    }

    /// Also checks what survives a restart: `reopen` closes a storage and opens it again.
    #[must_use]
    pub fn reopening(mut self, reopen: impl FnMut(S) -> S + 'static) -> Self {
        self.reopen = Some(Box::new(reopen));
        self
    }

    /// Also checks snapshots, with those that `snapshot` makes: different numbers must give unequal
    /// snapshots.
    #[must_use]
    pub fn snapshots(mut self, snapshot: impl Fn(u64) -> T::Snapshot + 'static) -> Self {
        self.snapshot = Some(Box::new(snapshot));
        self
    }

    /// Names checks that the storage is known not to pass. If it does pass one, that is a failure:
    /// the exception is out of date.
    #[must_use]
    pub fn except(mut self, names: &[&str]) -> Self {
        self.exceptions.extend(names.iter().map(|name| (*name).to_owned()));
        self
    }

    /// The seed of the checks that draw random histories, 1 by default.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Runs every check. A storage that panics has failed the check.
    pub fn run(mut self) -> Report {
        let mut report = Report { findings: Vec::new() };
        for check in checks::<T, S>() {
            let outcome = self.outcome(&check);
            let excepted = self.exceptions.iter().any(|name| name == check.name);
            let result = match (outcome, excepted) {
                (None, _) => Finding::Skipped,
                (Some(Ok(())), false) => Finding::Held,
                (Some(Err(_)), true) => Finding::Excepted,
                (Some(Ok(())), true) => {
                    Finding::Failed("holds, but is named as an exception".into())
                }
                (Some(Err(error)), false) => Finding::Failed(error.to_string()),
            };
            report.findings.push((check.name, result));
        }
        report
    }

    fn outcome(&mut self, check: &Check<T, S>) -> Option<Outcome> {
        if check.needs.reopen && self.reopen.is_none()
            || check.needs.snapshots && self.snapshot.is_none()
        {
            return None;
        }
        let checked = catch_unwind(AssertUnwindSafe(|| (check.run)(self)));
        Some(checked.unwrap_or_else(|panic| Err(panic_message(&*panic).into())))
    }

    fn fresh(&mut self) -> S {
        (self.fresh)()
    }

    /// A storage with entries `0..count`, and those entries.
    fn filled(&mut self, count: u64) -> Result<(S, Vec<T>), Box<dyn Error>> {
        let mut storage = self.fresh();
        let entries = self.entries(0..count);
        storage.append_entries(entries.clone())?;
        Ok((storage, entries))
    }

    fn entry(&self, number: u64) -> T {
        (self.entry)(number)
    }

    fn entries(&self, numbers: std::ops::Range<u64>) -> Vec<T> {
        numbers.map(|number| self.entry(number)).collect()
    }

    fn snapshot(&self, number: u64) -> Option<T::Snapshot> {
        self.snapshot.as_ref().map(|snapshot| snapshot(number))
    }

    /// Closes and reopens, or gives the storage back as it is if it cannot be reopened.
    fn reopened(&mut self, storage: S) -> S {
        match &mut self.reopen {
            Some(reopen) => reopen(storage),
            None => storage,
        }
    }
}

impl<T: Entry, S> fmt::Debug for Conformance<T, S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Conformance")
            .field("reopening", &self.reopen.is_some())
            .field("snapshots", &self.snapshot.is_some())
            .field("exceptions", &self.exceptions)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

/// What became of every check.
#[derive(Debug, Clone)]
pub struct Report {
    findings: Vec<(&'static str, Finding)>,
}

/// What became of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// It held.
    Held,
    /// It did not hold: why.
    Failed(String),
    /// It did not hold, and was named as an exception.
    Excepted,
    /// It needs reopening or snapshots, and the kit was given no way to do that.
    Skipped,
}

impl Report {
    /// Whether no check failed.
    pub fn holds(&self) -> bool {
        !self.findings.iter().any(|(_, finding)| matches!(finding, Finding::Failed(_)))
    }

    /// Every check by name, and what became of it.
    pub fn findings(&self) -> impl Iterator<Item = (&'static str, &Finding)> {
        self.findings.iter().map(|(name, finding)| (*name, finding))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, finding) in &self.findings {
            match finding {
                Finding::Held => writeln!(formatter, "held      {name}")?,
                Finding::Failed(why) => writeln!(formatter, "FAILED    {name}: {why}")?,
                Finding::Excepted => writeln!(formatter, "excepted  {name}")?,
                Finding::Skipped => writeln!(formatter, "skipped   {name}")?,
            }
        }
        Ok(())
    }
}

/// One rule that is checked.
struct Check<T: Entry, S> {
    name: &'static str,
    needs: Needs,
    run: fn(&mut Conformance<T, S>) -> Outcome,
}

#[derive(Clone, Copy, Default)]
struct Needs {
    reopen: bool,
    snapshots: bool,
}

fn checks<T: Compared, S: Storage<T>>() -> Vec<Check<T, S>> {
    const NOTHING: Needs = Needs { reopen: false, snapshots: false };
    const SNAPSHOTS: Needs = Needs { reopen: false, snapshots: true };
    const REOPEN: Needs = Needs { reopen: true, snapshots: false };
    const BOTH: Needs = Needs { reopen: true, snapshots: true };
    macro_rules! list {
        ($($module:ident::$name:ident, $needs:expr;)+) => {
            vec![$(Check { name: stringify!($name), needs: $needs, run: $module::$name },)+]
        };
    }
    list! {
        entries::fresh_store_is_empty, NOTHING;
        entries::entries_are_appended_one_by_one, NOTHING;
        entries::entries_are_appended_together, NOTHING;
        entries::append_of_nothing_changes_nothing, NOTHING;
        entries::entries_between_any_two_indexes, NOTHING;
        entries::suffix_from_any_index, NOTHING;
        entries::append_on_prefix_at_every_index, NOTHING;
        entries::append_on_prefix_of_nothing_at_the_end, NOTHING;
        entries::append_on_prefix_of_nothing_after_a_stopsign, NOTHING;
        entries::append_on_prefix_beyond_the_end_is_refused, NOTHING;
        entries::append_on_prefix_below_the_start_is_refused, NOTHING;
        state::promise_is_kept, NOTHING;
        state::accepted_round_is_kept, NOTHING;
        state::decided_index_is_kept, NOTHING;
        state::decided_index_counts_the_stopsign, NOTHING;
        state::stopsign_is_kept_and_cleared, NOTHING;
        state::snapshot_is_kept_and_cleared, SNAPSHOTS;
        compaction::trim_at_every_index, NOTHING;
        compaction::trim_at_or_below_the_start_is_ignored, NOTHING;
        compaction::trim_of_everything_keeps_the_next_index, NOTHING;
        compaction::trim_beyond_the_end_moves_the_log, NOTHING;
        compaction::entries_below_the_compacted_index_are_refused, NOTHING;
        compaction::suffix_from_below_the_compacted_index_is_refused, NOTHING;
        compaction::log_len_counts_from_the_compacted_index, NOTHING;
        atomic::operations_apply_in_order, NOTHING;
        atomic::nothing_may_be_written, NOTHING;
        atomic::accept_sync_replaces_the_suffix, NOTHING;
        atomic::accept_sync_installs_a_snapshot, SNAPSHOTS;
        atomic::refused_operations_change_nothing, NOTHING;
        model::random_histories_match_the_model, NOTHING;
        reopen::every_kind_of_write_survives, REOPEN;
        reopen::snapshots_survive, BOTH;
        reopen::clearing_survives, REOPEN;
        reopen::the_next_index_survives_trimming_everything, REOPEN;
        reopen::random_histories_survive, REOPEN;
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panicked: {}", text.unwrap_or_default())
}

fn ballot(number: u32) -> Ballot {
    Ballot { config_id: number % 3, n: number, priority: number / 2, pid: u64::from(number) << 33 }
}

/// Stop signs of every shape.
fn stopsigns() -> Vec<StopSign> {
    let quorum = FlexibleQuorum { read_quorum_size: 3, write_quorum_size: 2 };
    let shapes = [
        (vec![1], None, None),
        (vec![1, 2, 3], None, Some(vec![])),
        (vec![u64::MAX, 1, 2, 3], Some(quorum), Some(vec![0xff; 3])),
        ((1..500).collect(), Some(quorum), Some(vec![7; 5000])),
    ];
    let mut all = Vec::new();
    for (nodes, flexible_quorum, metadata) in shapes {
        let next_config = ClusterConfig { configuration_id: 2, nodes, flexible_quorum };
        all.push(StopSign { next_config, metadata });
    }
    all
}

fn stopsign() -> StopSign {
    let next_config =
        ClusterConfig { configuration_id: 2, nodes: vec![1, 2, 3], flexible_quorum: None };
    StopSign { next_config, metadata: None }
}
