//! The counters of a log, published through the `metrics` crate (feature `metrics`).
//!
//! Owns: the names. Does not own: when; the host calls [`Stats::publish`] as often as it likes.

use crate::stats::Stats;

impl Stats {
    /// Publishes every number to the recorder that the host has installed, labelled with the name
    /// of the log: counts as `indelible_*_total`, states as gauges, sync latency in seconds as the
    /// quantiles of all syncs since the log was opened.
    #[expect(clippy::cast_precision_loss, reason = "gauges are floating-point numbers")]
    pub fn publish(&self, log: &str) {
        let counts = [
            ("indelible_appends_total", self.appends),
            ("indelible_appended_bytes_total", self.bytes_appended),
            ("indelible_written_bytes_total", self.bytes_written),
            ("indelible_batches_total", self.batches),
            ("indelible_syncs_total", self.syncs),
            ("indelible_checkpoints_total", self.checkpoints),
            ("indelible_slot_commits_total", self.slot_commits),
            ("indelible_rolls_total", self.rolls),
            ("indelible_trims_total", self.trims),
            ("indelible_truncations_total", self.truncations),
            ("indelible_segments_prepared_total", self.prepared),
            ("indelible_segments_recycled_total", self.recycled),
            ("indelible_segments_removed_total", self.removed),
            ("indelible_preparer_behind_total", self.preparer_behind),
            ("indelible_disk_full_total", self.disk_full),
            ("indelible_footers_rebuilt_total", self.footers_rebuilt),
            ("indelible_segments_scrubbed_total", self.scrubbed),
            ("indelible_scrub_findings_total", self.scrub_findings),
            ("indelible_stalls_total", self.stalls),
        ];
        for (name, value) in counts {
            metrics::counter!(name, "log" => log.to_owned()).absolute(value);
        }
        let running = self.sync_running.map_or(0.0, |age| age.as_secs_f64());
        let gauges = [
            ("indelible_segments", self.segments as f64),
            ("indelible_spares", self.spares as f64),
            ("indelible_written_sequence", self.written_sequence as f64),
            ("indelible_durable_sequence", self.durable_sequence as f64),
            ("indelible_entries_per_sync", self.entries_per_sync()),
            ("indelible_sync_running_seconds", running),
            ("indelible_poisoned", f64::from(u8::from(self.poisoned))),
        ];
        for (name, value) in gauges {
            metrics::gauge!(name, "log" => log.to_owned()).set(value);
        }
        for (quantile, label) in [(0.5, "0.5"), (0.99, "0.99"), (0.999, "0.999"), (1.0, "1")] {
            let seconds = self.sync_latency.value_at_quantile(quantile) as f64 / 1e9;
            metrics::gauge!(
                "indelible_sync_latency_seconds", "log" => log.to_owned(), "quantile" => label
            )
            .set(seconds);
        }
    }
}
