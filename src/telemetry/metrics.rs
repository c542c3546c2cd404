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

const COUNTERS: [Figure<Count>; 21] = [
    figure("indelible_appends_total", Unit::Count, "Entries appended.", |it| it.appends),
    figure("indelible_appended_bytes_total", Unit::Bytes, "Payload of appended entries.", |it| {
        it.bytes_appended
    }),
    figure("indelible_written_bytes_total", Unit::Bytes, "Bytes of frames written.", |it| {
        it.bytes_written
    }),
    figure("indelible_batches_total", Unit::Count, "Batches written.", |it| it.batches),
    figure("indelible_syncs_total", Unit::Count, "Syncs that made batches durable.", |it| it.syncs),
    figure("indelible_checkpoints_total", Unit::Count, "Checkpoints written.", |it| it.checkpoints),
    figure(
        "indelible_slot_commits_total",
        Unit::Count,
        "Batches committed in the metadata file.",
        |it| it.slot_commits,
    ),
    figure("indelible_rolls_total", Unit::Count, "Segments begun because one was full.", |it| {
        it.rolls
    }),
    figure("indelible_trims_total", Unit::Count, "Batches that dropped a prefix.", |it| it.trims),
    figure("indelible_truncations_total", Unit::Count, "Batches that dropped a suffix.", |it| {
        it.truncations
    }),
    figure(
        "indelible_segments_prepared_total",
        Unit::Count,
        "Segment files prepared from nothing.",
        |it| it.prepared,
    ),
    figure("indelible_segments_recycled_total", Unit::Count, "Segment files used again.", |it| {
        it.recycled
    }),
    figure("indelible_segments_removed_total", Unit::Count, "Segment files removed.", |it| {
        it.removed
    }),
    figure(
        "indelible_preparer_behind_total",
        Unit::Count,
        "Commits that had to prepare their own segment.",
        |it| it.preparer_behind,
    ),
    figure(
        "indelible_disk_full_total",
        Unit::Count,
        "Times no segment could be had on a full disk.",
        |it| it.disk_full,
    ),
    figure(
        "indelible_shortages_total",
        Unit::Count,
        "Times descriptors, memory, threads or maps had run out.",
        |it| it.shortages,
    ),
    figure(
        "indelible_not_removed_total",
        Unit::Count,
        "Files that nothing refers to and that could not be removed.",
        |it| it.not_removed,
    ),
    figure(
        "indelible_footers_rebuilt_total",
        Unit::Count,
        "Offset tables rebuilt from the frames.",
        |it| it.footers_rebuilt,
    ),
    figure(
        "indelible_segments_scrubbed_total",
        Unit::Count,
        "Sealed segments read and checked.",
        |it| it.scrubbed,
    ),
    figure("indelible_scrub_findings_total", Unit::Count, "Damages found by scrubs.", |it| {
        it.scrub_findings
    }),
    figure("indelible_stalls_total", Unit::Count, "Syncs older than the stall threshold.", |it| {
        it.stalls
    }),
];

#[expect(clippy::cast_precision_loss, reason = "gauges are floating-point numbers")]
const GAUGES: [Figure<State>; 13] = [
    figure("indelible_first_index", Unit::Count, "Index of the first entry.", |it| it.first as f64),
    figure("indelible_next_index", Unit::Count, "Exclusive end of the entries.", |it| {
        it.next as f64
    }),
    figure("indelible_durable_index", Unit::Count, "Exclusive end of the durable entries.", |it| {
        it.durable as f64
    }),
    figure("indelible_written_sequence", Unit::Count, "The newest batch written.", |it| {
        it.written_sequence as f64
    }),
    figure("indelible_durable_sequence", Unit::Count, "The newest batch that is durable.", |it| {
        it.durable_sequence as f64
    }),
    figure("indelible_segments", Unit::Count, "Segment files that hold the log.", |it| {
        it.segments as f64
    }),
    figure("indelible_spares", Unit::Count, "Segment files ready to be used.", |it| {
        it.spares as f64
    }),
    figure("indelible_disk_bytes", Unit::Bytes, "Space of segments and spares on disk.", |it| {
        it.disk_bytes as f64
    }),
    figure(
        "indelible_holes",
        Unit::Count,
        "Zero if no entry is missing, else not fewer than are.",
        |it| it.holes as f64,
    ),
    figure(
        "indelible_entries_per_sync",
        Unit::Count,
        "Entries per sync since the open.",
        Stats::entries_per_sync,
    ),
    figure(
        "indelible_sync_running_seconds",
        Unit::Seconds,
        "Age of the oldest sync under way.",
        |it| it.sync_running.unwrap_or_default().as_secs_f64(),
    ),
    figure(
        "indelible_checkpoint_age_seconds",
        Unit::Seconds,
        "Time since the newest checkpoint.",
        |it| it.checkpoint_age.as_secs_f64(),
    ),
    figure(
        "indelible_poisoned",
        Unit::Count,
        "1 if the log refuses writes after a failure.",
        |it| f64::from(u8::from(it.poisoned)),
    ),
];

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
