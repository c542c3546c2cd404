//! What a run says, while it runs and at its end.
//!
//! Owns: the words and the arithmetic of the numbers. Does not own: the last line's truth
//! (`check`).

use std::cell::RefCell;
use std::time::{Duration, Instant};

use crate::check::Verdict;
use crate::cluster::Restart;
use crate::kills::Kill;
use crate::load::Ledger;

#[derive(Debug)]
pub(crate) struct Report {
    quiet: bool,
    started: Instant,
    /// What happened, and when since the start.
    events: RefCell<Vec<(Duration, String)>>,
    /// The lines of the summary.
    facts: RefCell<Vec<String>>,
    recoveries: RefCell<Vec<Recovery>>,
}

/// One restart of one node.
#[derive(Debug, Clone, Copy)]
struct Recovery {
    open: Duration,
    answered: Duration,
    /// Unknown where all nodes were checked together.
    caught_up: Option<Duration>,
    /// The log dropped an unfinished, never acknowledged end.
    torn: bool,
}

impl Report {
    pub(crate) fn new(quiet: bool, started: Instant) -> Self {
        Self {
            quiet,
            started,
            events: RefCell::default(),
            facts: RefCell::default(),
            recoveries: RefCell::default(),
        }
    }

    /// A line of progress.
    pub(crate) fn say(&self, text: &str) {
        if !self.quiet {
            println!("[{:6.2} s] {text}", self.started.elapsed().as_secs_f64());
        }
    }

    /// Something that happened to the cluster.
    pub(crate) fn event(&self, text: String) {
        self.event_at(self.started.elapsed(), text);
    }

    /// Something that happened a while ago.
    fn event_at(&self, at: Duration, text: String) {
        self.say(&text);
        self.events.borrow_mut().push((at, text));
    }

    pub(crate) fn events(&self) -> Vec<(Duration, String)> {
        self.events.borrow().clone()
    }

    /// A line of the summary, which is said however quiet the run is.
    pub(crate) fn fact(&self, text: String) {
        println!("{text}");
        self.facts.borrow_mut().push(text);
    }

    pub(crate) fn facts(&self) -> Vec<String> {
        self.facts.borrow().clone()
    }

    pub(crate) fn progress(&self, acknowledged: u64, entries: u64, in_flight: usize) {
        self.say(&format!("{acknowledged} of {entries} acknowledged, {in_flight} in flight"));
    }

    pub(crate) fn undisturbed(&self, entries: u64, took: Duration, ledger: &Ledger, syncs: &[u64]) {
        let latency = |quantile| nanos(ledger.latency.value_at_quantile(quantile));
        self.fact(format!(
            "all nodes up:  {} decided entries/s, latency p50 {} p99 {}",
            rate(entries, took),
            millis(latency(0.5)),
            millis(latency(0.99)),
        ));
        let per_entry: Vec<String> =
            syncs.iter().map(|syncs| format!("{:.4}", ratio(*syncs, entries))).collect();
        self.fact(format!(
            "               syncs per decided entry, node by node: {}",
            per_entry.join(" ")
        ));
    }

    pub(crate) fn kill(&self, kill: &Kill) {
        for restart in &kill.restarts {
            self.recovered(restart, Some(kill.caught_up));
        }
        self.event_at(kill.at - self.started, kill.describe());
    }

    pub(crate) fn recovered(&self, restart: &Restart, caught_up: Option<Duration>) {
        let open = Duration::from_micros(restart.status.recovered.open_us);
        self.recoveries.borrow_mut().push(Recovery {
            open,
            answered: restart.answered,
            caught_up,
            torn: restart.status.recovered.verdict.starts_with("TornTail"),
        });
    }

    pub(crate) fn replaced(&self, old: u64, new: u64, members: &str, took: Duration) {
        self.event(format!(
            "node {old} killed for good, node {new} in its place: {members}, after {}",
            millis(took)
        ));
    }

    pub(crate) fn wrote(&self, entries: u64, took: Duration, ledger: &Ledger) {
        let events = self.events.borrow().len();
        if events > 0 {
            let latency = |quantile| nanos(ledger.latency.value_at_quantile(quantile));
            self.fact(format!(
                "disturbed:     {} decided entries/s in all {:.1} s, latency p50 {} p99 {}",
                rate(entries, took),
                took.as_secs_f64(),
                millis(latency(0.5)),
                millis(latency(0.99)),
            ));
            self.fact(format!(
                "               longest time without an acknowledgement {}, {} entries sent again",
                millis(ledger.longest_pause),
                ledger.sent_again,
            ));
        }
    }

    pub(crate) fn checked(&self, took: Duration) {
        self.say(&format!(
            "every node has recovered and applied everything after {}",
            millis(took)
        ));
    }

    pub(crate) fn summary(&self, verdict: &Verdict, forgotten: u64) {
        let recoveries = self.recoveries.borrow();
        let spread = |name: &str, mut times: Vec<Duration>| {
            times.sort_unstable();
            if let (Some(median), Some(most)) = (times.get(times.len() / 2), times.last()) {
                self.fact(format!("{name} p50 {} max {}", millis(*median), millis(*most)));
            }
        };
        self.fact(format!(
            "recoveries:    {}, unfinished ends dropped {}, promises or accepted entries forgotten \
             {forgotten}",
            recoveries.len(),
            recoveries.iter().filter(|recovery| recovery.torn).count(),
        ));
        spread("               log open  ", recoveries.iter().map(|r| r.open).collect());
        spread("               answering ", recoveries.iter().map(|r| r.answered).collect());
        spread(
            "               caught up ",
            recoveries.iter().filter_map(|r| r.caught_up).collect(),
        );
        self.fact(format!("sent again and decided twice, applied once: {}", verdict.repeated));
        for note in &verdict.notes {
            self.fact(format!("FOUND: {note}"));
        }
        self.fact(format!(
            "acknowledged {}, lost {}, diverged {}",
            verdict.acknowledged, verdict.lost, verdict.diverged
        ));
    }
}

pub(crate) fn millis(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1_000.0;
    if millis < 10.0 { format!("{millis:.2} ms") } else { format!("{millis:.0} ms") }
}

fn nanos(nanos: u64) -> Duration {
    Duration::from_nanos(nanos)
}

fn rate(count: u64, took: Duration) -> String {
    format!("{:.0}", ratio(count, 1) / took.as_secs_f64().max(1e-9))
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^52")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}
