//! What was measured, as it is printed as JSON, compared with an older run, and drawn.
//!
//! Part of the documents that `json` describes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::advice::{ROUNDS_FOR_ADVICE, Verdict, confidence, lines, verdict};
use super::contenders::{Group, Role};
use super::ground::Ground;
use super::statistics::{Interval, Samples, ratio};

/// Confidence of the intervals that are shown.
const SHOWN: f64 = 0.95;

/// One run over one or more directories.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Report {
    /// Name and version of the program.
    pub(super) program: String,
    /// When the run began: UTC, RFC 3339.
    pub(super) date: String,
    pub(super) host: String,
    pub(super) kernel: String,
    pub(super) processors: usize,
    /// Bytes per entry.
    pub(super) entry_bytes: u64,
    pub(super) places: Vec<Place>,
}

/// What was measured in one directory.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct Place {
    pub(super) ground: Ground,
    /// What kept the machine busy when the run began.
    pub(super) busy: Vec<String>,
    /// Rounds in which every contender had its turn.
    pub(super) rounds: usize,
    /// Whether the run ended because the intervals were narrow, and not because time was up.
    pub(super) settled: bool,
    pub(super) rows: Vec<Row>,
    pub(super) roll: Option<Roll>,
    pub(super) neighbour: Option<Neighbour>,
    pub(super) verdict: Verdict,
    pub(super) advice: Vec<String>,
}

/// One contender. Times are in nanoseconds per append.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(super) struct Row {
    pub(super) group: Group,
    pub(super) role: Role,
    pub(super) name: String,
    /// What to write after `Options::new()` to have it.
    pub(super) options: String,
    /// Bytes made durable by one operation.
    pub(super) bytes: u64,
    pub(super) threads: usize,
    pub(super) operations: u64,
    pub(super) operations_per_second: f64,
    pub(super) mean_ns: u64,
    pub(super) p50_ns: u64,
    pub(super) p99_ns: u64,
    pub(super) p999_ns: u64,
    pub(super) max_ns: u64,
    /// Its time as a multiple of the buffered floor of the same bytes.
    pub(super) to_floor: Option<Interval>,
    /// Its time as a share of the default's, as sure as the number of strategies calls for.
    pub(super) to_default: Option<Interval>,
    /// Samples for a picture, in the order they were taken.
    pub(super) strip_ns: Vec<u64>,
}

/// What an append that begins a segment costs.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(super) struct Roll {
    pub(super) rolls: usize,
    /// Median of appends that rolled, in nanoseconds.
    pub(super) rolled_p50_ns: u64,
    /// Median of the other appends of the same size.
    pub(super) other_p50_ns: u64,
}

/// What a neighbour's burst of dirty pages does to durable appends.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(super) struct Neighbour {
    /// Bytes that the neighbour wrote without a sync.
    pub(super) burst_bytes: u64,
    pub(super) before_p50_ns: u64,
    pub(super) during_p50_ns: u64,
    pub(super) during_max_ns: u64,
    /// How long after the burst began an append was still twice as slow as before it.
    pub(super) hurt_ms: u64,
}

/// What one contender is, without its samples.
#[derive(Debug, Clone)]
pub(super) struct Label {
    pub(super) group: Group,
    pub(super) role: Role,
    pub(super) name: String,
    pub(super) options: String,
    pub(super) bytes: u64,
    pub(super) threads: usize,
    /// Place of the floor of the same bytes.
    pub(super) floor: usize,
}

/// The rows of all contenders. `None` for an interval that there were not enough rounds for.
pub(super) fn rows(labels: &[Label], samples: &[Samples]) -> Vec<Row> {
    let strategies = labels.iter().filter(|label| label.role == Role::Strategy).count();
    let default = labels.iter().position(|label| label.role == Role::Default);
    let default = default.and_then(|at| samples.get(at));
    let sure = confidence(strategies);
    let row = |(label, own): (&Label, &Samples)| {
        let floor = samples.get(label.floor);
        let against = |other: Option<&Samples>, sure| ratio(own.rounds(), other?.rounds(), sure);
        Row {
            group: label.group,
            role: label.role,
            name: label.name.clone(),
            options: label.options.clone(),
            bytes: label.bytes,
            threads: label.threads,
            operations: own.operations(),
            operations_per_second: own.rate(),
            mean_ns: own.mean(),
            p50_ns: own.percentile(0.5),
            p99_ns: own.percentile(0.99),
            p999_ns: own.percentile(0.999),
            max_ns: own.percentile(1.0),
            to_floor: against(floor, SHOWN),
            to_default: match label.role {
                Role::Strategy if own.rounds().len() >= ROUNDS_FOR_ADVICE => against(default, sure),
                Role::Strategy | Role::Floor | Role::Default | Role::Policy | Role::Load => None,
            },
            strip_ns: own.strip().to_vec(),
        }
    };
    labels.iter().zip(samples).map(row).collect()
}

impl Place {
    /// Puts a place together, with what follows from its rows.
    pub(super) fn new(ground: Ground, busy: Vec<String>, rows: Vec<Row>) -> Self {
        let verdict = verdict(&rows);
        let advice = lines(&verdict, &rows);
        let (roll, neighbour) = (None, None);
        Self { ground, busy, rounds: 0, settled: false, rows, roll, neighbour, verdict, advice }
    }

    pub(super) fn of(&self, group: Group) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.group == group)
    }
}

/// How much slower or faster each row is than in an older run of the same directory: its name and
/// the ratio of the medians, each as a multiple of its own run's floor.
pub(super) fn compared<'a>(new: &'a Place, old: &'a Place) -> Vec<(&'a Row, &'a Row, f64)> {
    let same = |row: &&'a Row| {
        old.rows.iter().find(|other| {
            (&other.name, other.bytes, other.threads, other.group)
                == (&row.name, row.bytes, row.threads, row.group)
        })
    };
    let pair = |row: &'a Row| {
        let other = same(&row)?;
        Some((row, other, row.to_floor?.mid / other.to_floor?.mid))
    };
    new.rows.iter().filter_map(pair).collect()
}

#[cfg(test)]
pub(super) fn rows_of_times(slices: &[Vec<u64>]) -> Vec<Row> {
    let label = |at: usize| Label {
        group: Group::Durable,
        role: match at {
            0 => Role::Floor,
            1 => Role::Default,
            _ => Role::Strategy,
        },
        name: format!("strategy {at}"),
        options: format!(".strategy({at})"),
        bytes: 256,
        threads: 1,
        floor: 0,
    };
    let labels: Vec<Label> = (0..slices.len()).map(label).collect();
    let samples = slices.iter().map(|times| {
        let mut samples = Samples::new();
        for &time in times {
            samples.slice(&mut [time], time);
        }
        samples
    });
    rows(&labels, &samples.collect::<Vec<_>>())
}
