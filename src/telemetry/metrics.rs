//! The figures of a log, published through the `metrics` crate (feature `metrics`).
//!
//! Owns: the names, units and help texts, and what of a histogram was published already. Does not own:
//! when; the host calls [`Publisher::publish`] as often as it likes, for example every ten seconds or
//! before it is scraped.

use metrics::Unit;

use crate::log::Log;
use crate::recovery::Verdict;
use crate::telemetry::stats::{Histogram, Stats};

/// Publishes the figures of one log to the recorder that the host has installed, each labelled with
/// the name of the log.
///
/// Counts are counters, states are gauges; latencies (in seconds) and batch sizes are histograms, which
/// get every value that was recorded since the last call.
///
/// ```
/// # fn main() -> indelible::Result<()> {
/// use indelible::{Log, Options, Publisher};
///
/// let log = Log::in_memory(&Options::new())?;
/// let mut publisher = Publisher::new("node-1");
/// log.append(b"x = 1")?;
/// publisher.publish(&log);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Publisher {
    log: String,
    described: bool,
    /// What the histograms held when they were published last.
    published: Option<Stats>,
}

/// Something that is published: name, unit, what it is, and how to read it.
struct Figure<R> {
    name: &'static str,
    unit: Unit,
    help: &'static str,
    read: R,
}

type Count = fn(&Stats) -> u64;
type State = fn(&Stats) -> f64;
type Values = fn(&Stats) -> &Histogram;

const fn figure<R: Copy>(name: &'static str, unit: Unit, help: &'static str, read: R) -> Figure<R> {
    Figure { name, unit, help, read }
}

/// Figures by name, unit and help text, each with how to read it.
macro_rules! figures {
    ($it:ident: $($name:literal, $unit:ident, $help:literal => $read:expr;)*) => {
        [$(figure($name, Unit::$unit, $help, |$it| $read),)*]
    };
}

const COUNTERS: [Figure<Count>; 21] = figures! { it:
    "indelible_appends_total", Count, "Entries appended." => it.appends;
    "indelible_appended_bytes_total", Bytes, "Payload of appended entries." => it.bytes_appended;
    "indelible_written_bytes_total", Bytes, "Bytes of frames written." => it.bytes_written;
    "indelible_batches_total", Count, "Batches written." => it.batches;
    "indelible_syncs_total", Count, "Syncs that made batches durable." => it.syncs;
    "indelible_checkpoints_total", Count, "Checkpoints written." => it.checkpoints;
    "indelible_slot_commits_total", Count,
        "Batches committed in the metadata file." => it.slot_commits;
    "indelible_rolls_total", Count, "Segments begun because one was full." => it.rolls;
    "indelible_trims_total", Count, "Batches that dropped a prefix." => it.trims;
    "indelible_truncations_total", Count, "Batches that dropped a suffix." => it.truncations;
    "indelible_segments_prepared_total", Count,
        "Segment files prepared from nothing." => it.prepared;
    "indelible_segments_recycled_total", Count, "Segment files used again." => it.recycled;
    "indelible_segments_removed_total", Count, "Segment files removed." => it.removed;
    "indelible_preparer_behind_total", Count,
        "Commits that had to prepare their own segment." => it.preparer_behind;
    "indelible_disk_full_total", Count,
        "Times no segment could be had on a full disk." => it.disk_full;
    "indelible_shortages_total", Count,
        "Times descriptors, memory, threads or maps had run out." => it.shortages;
    "indelible_not_removed_total", Count,
        "Files that nothing refers to and that could not be removed." => it.not_removed;
    "indelible_footers_rebuilt_total", Count,
        "Offset tables rebuilt from the frames." => it.footers_rebuilt;
    "indelible_segments_scrubbed_total", Count, "Sealed segments read and checked." => it.scrubbed;
    "indelible_scrub_findings_total", Count, "Damages found by scrubs." => it.scrub_findings;
    "indelible_stalls_total", Count, "Syncs older than the stall threshold." => it.stalls;
};

#[expect(clippy::cast_precision_loss, reason = "gauges are floating-point numbers")]
const GAUGES: [Figure<State>; 13] = figures! { it:
    "indelible_first_index", Count, "Index of the first entry." => it.first as f64;
    "indelible_next_index", Count, "Exclusive end of the entries." => it.next as f64;
    "indelible_durable_index", Count, "Exclusive end of the durable entries." => it.durable as f64;
    "indelible_written_sequence", Count, "The newest batch written." => it.written_sequence as f64;
    "indelible_durable_sequence", Count,
        "The newest batch that is durable." => it.durable_sequence as f64;
    "indelible_segments", Count, "Segment files that hold the log." => it.segments as f64;
    "indelible_spares", Count, "Segment files ready to be used." => it.spares as f64;
    "indelible_disk_bytes", Bytes, "Space of segments and spares on disk." => it.disk_bytes as f64;
    "indelible_holes", Count,
        "Zero if no entry is missing, else not fewer than are." => it.holes as f64;
    "indelible_entries_per_sync", Count,
        "Entries per sync since the open." => it.entries_per_sync();
    "indelible_sync_running_seconds", Seconds,
        "Age of the oldest sync under way." => it.sync_running.unwrap_or_default().as_secs_f64();
    "indelible_checkpoint_age_seconds", Seconds,
        "Time since the newest checkpoint." => it.checkpoint_age.as_secs_f64();
    "indelible_poisoned", Count,
        "1 if the log refuses writes after a failure." => f64::from(u8::from(it.poisoned));
};

const RECOVERY_VERDICT: (&str, &str) = (
    "indelible_recovery_verdict",
    "How the log was found: 0 created, 1 clean, 2 not closed, 3 not closed and a torn end dropped.",
);
const RECOVERY_SECONDS: (&str, &str) = ("indelible_recovery_seconds", "How long the open took.");

/// A histogram, with the factor from what was recorded to the unit that is published.
const HISTOGRAMS: [(Figure<Values>, f64); 3] = [
    (
        figure("indelible_sync_seconds", Unit::Seconds, "Time a sync took.", |it| &it.sync_latency),
        1e-9,
    ),
    (
        figure(
            "indelible_commit_seconds",
            Unit::Seconds,
            "Time a caller waited until its batch was durable.",
            |it| &it.commit_latency,
        ),
        1e-9,
    ),
    (
        figure(
            "indelible_batch_entries",
            Unit::Count,
            "Entries per batch, rounded down to a power of two.",
            |it| &it.batch_entries,
        ),
        1.0,
    ),
];

impl Publisher {
    /// A publisher for the log that is called `log`. A host with several logs has one for each.
    pub fn new(log: impl Into<String>) -> Self {
        Self { log: log.into(), described: false, published: None }
    }

    /// Publishes every figure as it is now. Units and help texts go with the first call.
    pub fn publish(&mut self, log: &Log) {
        if !std::mem::replace(&mut self.described, true) {
            describe();
        }
        let now = log.stats();
        for figure in &COUNTERS {
            let counter = metrics::counter!(figure.name, "log" => self.log.clone());
            counter.absolute((figure.read)(&now));
        }
        for figure in &GAUGES {
            metrics::gauge!(figure.name, "log" => self.log.clone()).set((figure.read)(&now));
        }
        let report = log.recovery();
        let verdict = match report.verdict {
            Verdict::Created => 0.0,
            Verdict::Clean => 1.0,
            Verdict::Recovered => 2.0,
            Verdict::TornTail { .. } => 3.0,
        };
        metrics::gauge!(RECOVERY_VERDICT.0, "log" => self.log.clone()).set(verdict);
        let seconds = report.elapsed.as_secs_f64();
        metrics::gauge!(RECOVERY_SECONDS.0, "log" => self.log.clone()).set(seconds);
        for (figure, factor) in &HISTOGRAMS {
            let before = self.published.as_ref().map(figure.read);
            self.catch_up(figure.name, (figure.read)(&now), before, *factor);
        }
        self.published = Some(now);
    }

    /// Publishes what a histogram got since it was published last.
    #[expect(clippy::cast_precision_loss, reason = "histograms take floating-point numbers")]
    fn catch_up(
        &self,
        name: &'static str,
        now: &Histogram,
        before: Option<&Histogram>,
        factor: f64,
    ) {
        let published = metrics::histogram!(name, "log" => self.log.clone());
        for (value, count) in now.counts() {
            let new = count.saturating_sub(before.map_or(0, |it| it.count_of(value)));
            if let Ok(new) = usize::try_from(new)
                && new > 0
            {
                published.record_many(value as f64 * factor, new);
            }
        }
    }
}

fn describe() {
    for it in &COUNTERS {
        metrics::describe_counter!(it.name, it.unit, it.help);
    }
    for it in &GAUGES {
        metrics::describe_gauge!(it.name, it.unit, it.help);
    }
    metrics::describe_gauge!(RECOVERY_VERDICT.0, Unit::Count, RECOVERY_VERDICT.1);
    metrics::describe_gauge!(RECOVERY_SECONDS.0, Unit::Seconds, RECOVERY_SECONDS.1);
    for (it, _) in &HISTOGRAMS {
        metrics::describe_histogram!(it.name, it.unit, it.help);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every name with its help text.
    fn all() -> Vec<(&'static str, &'static str)> {
        let mut all: Vec<_> = COUNTERS.iter().map(|it| (it.name, it.help)).collect();
        all.extend(GAUGES.iter().map(|it| (it.name, it.help)));
        all.extend([RECOVERY_VERDICT, RECOVERY_SECONDS]);
        all.extend(HISTOGRAMS.iter().map(|(it, _)| (it.name, it.help)));
        all
    }

    #[test]
    fn the_table_in_operations_lists_every_name_and_no_other() {
        let page = include_str!("../../docs/OPERATIONS.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `indelible_"));
        let listed: Vec<String> = rows
            .filter_map(|row| row.split_once("` |"))
            .map(|(name, rest)| format!("indelible_{name} {}", rest.trim_end_matches('|').trim()))
            .map(|row| row.replace(" | ", " "))
            .collect();
        let published = all().into_iter().map(|(name, help)| format!("{name} {help}"));
        let kinds = [" counter ", " gauge ", " histogram "];
        let without_kind =
            |row: &String| kinds.iter().fold(row.clone(), |row, it| row.replacen(it, " ", 1));
        let listed: Vec<String> = listed.iter().map(without_kind).collect();
        assert_eq!(listed, published.collect::<Vec<_>>());
    }

    #[test]
    fn dashboard_and_rules_name_only_what_is_published() {
        let texts = [
            include_str!("../../docs/monitoring/dashboard.json"),
            include_str!("../../docs/monitoring/rules.yml"),
        ];
        for text in texts {
            let mut found = 0;
            for part in text.split("indelible_").skip(1) {
                let end = part.find(|it: char| !(it.is_ascii_lowercase() || it == '_'));
                let name =
                    format!("indelible_{}", part.get(..end.unwrap_or(part.len())).unwrap_or(""));
                let name = name.strip_suffix("_bucket").unwrap_or(&name);
                assert!(all().iter().any(|(known, _)| *known == name), "{name}");
                found += 1;
            }
            assert!(found >= 6);
        }
    }
}
