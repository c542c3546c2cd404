//! One page with everything that happened in a run; it needs nothing else.
//!
//! Owns: what is drawn where. Does not own: the figures (`load`, `timeline`, `report`).

use std::fmt::Write as _;
use std::time::Duration;

use omnipaxos::util::NodeId;

use crate::history::Seen;
use crate::timeline::{Condition, Lane};

/// What there is to show. Times are since the start of the run.
pub(crate) struct Page<'a> {
    pub(crate) title: String,
    /// Lines of the summary.
    pub(crate) facts: &'a [String],
    pub(crate) seen: &'a [Seen],
    pub(crate) lanes: &'a [(NodeId, Lane)],
    pub(crate) events: &'a [(Duration, String)],
    pub(crate) end: Duration,
}

const LEFT: f64 = 90.0;
const WIDTH: f64 = 1000.0;
const CHART: f64 = 130.0;
const LANE: f64 = 22.0;
const GAP: f64 = 34.0;
/// Where the first chart begins, below the numbers of the events.
const TOP: f64 = 48.0;
const BUCKETS: u32 = 200;

const STYLE: &str = "\
body{font:15px/1.45 system-ui,sans-serif;margin:24px auto;max-width:1130px;padding:0 12px;
color:#1c2430;background:#fff}
h1{font-size:22px;margin:0 0 4px}pre{background:#f3f5f8;padding:10px 12px;overflow:auto}
svg{width:100%;height:auto}svg text{font-size:12px;fill:#4a5564}
table{border-collapse:collapse}td{padding:2px 12px 2px 0;vertical-align:top}
td:nth-child(-n+2){text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.leads{fill:#1b7f5c}.follows{fill:#a9cbe8}.silent{fill:#d9482b}.outside{fill:#cfd4da}
.rate{fill:#3b78b8}.half{stroke:#3b78b8}.most{stroke:#d98a1f}.line{fill:none;stroke-width:1.6}
.grid{stroke:#e3e7ec}.event{stroke:#7a3fa0;stroke-dasharray:3 3;stroke-opacity:.6}
text.mark{fill:#7a3fa0;font-weight:600}
@media(prefers-color-scheme:dark){body{color:#dfe5ec;background:#14181d}pre{background:#1e242b}
svg text{fill:#9fabb8}.grid{stroke:#2a323b}.outside{fill:#4b5560}.event{stroke:#c79be3}
text.mark{fill:#c79be3}}";

/// What was decided in one slice of the run.
#[derive(Debug, Clone, Default)]
struct Bucket {
    latencies: Vec<f64>,
}

impl Bucket {
    fn quantile(&self, quantile: f64) -> Option<f64> {
        let mut sorted = self.latencies.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        // A share of a count is a count.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1")]
        let at = (float(last) * quantile) as usize;
        sorted.get(at).copied()
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^52")]
fn float(count: usize) -> f64 {
    count as f64
}

impl Page<'_> {
    pub(crate) fn render(&self) -> String {
        let mut out = String::new();
        let title = escaped(&self.title);
        let facts = escaped(&self.facts.join("\n"));
        let _infallible = write!(
            out,
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\
             <style>{STYLE}</style><h1>{title}</h1><pre>{facts}</pre>{}<table>",
            self.drawing()
        );
        for (number, (at, text)) in (1..).zip(self.events) {
            let (at, text) = (at.as_secs_f64(), escaped(text));
            let _infallible = write!(out, "<tr><td>{number}<td>{at:.2} s<td>{text}</tr>");
        }
        out.push_str("</table></html>\n");
        out
    }

    fn x(&self, at: f64) -> f64 {
        LEFT + WIDTH * at / self.end.as_secs_f64().max(0.001)
    }

    fn drawing(&self) -> String {
        let lanes_top = TOP + 2.0 * (CHART + GAP) - 24.0;
        let bottom = lanes_top + LANE * float(self.lanes.len());
        let mut out = String::new();
        let _infallible = write!(
            out,
            "<svg viewBox=\"0 0 {} {}\" role=\"img\">",
            LEFT + WIDTH + 20.0,
            bottom + 42.0
        );
        let buckets = self.buckets();
        self.rates(&mut out, &buckets, TOP);
        self.latencies(&mut out, &buckets, TOP + CHART + GAP);
        for (row, (id, lane)) in self.lanes.iter().enumerate() {
            self.lane(&mut out, *id, lane, lanes_top + LANE * float(row) + 24.0);
        }
        self.axis(&mut out, bottom + 24.0);
        for (number, (at, text)) in (1..).zip(self.events) {
            let (x, text) = (self.x(at.as_secs_f64()), escaped(text));
            let high = if number % 2 == 0 { 24.0 } else { 12.0 };
            let _infallible = write!(
                out,
                "<g><title>{text}</title><line class=\"event\" x1=\"{x:.1}\" x2=\"{x:.1}\" \
                 y1=\"{TOP}\" y2=\"{:.1}\"/><text class=\"mark\" x=\"{x:.1}\" y=\"{high}\" \
                 text-anchor=\"middle\">{number}</text></g>",
                bottom + 20.0
            );
        }
        out.push_str("</svg>");
        out
    }

    fn bucket_seconds(&self) -> f64 {
        (self.end.as_secs_f64() / f64::from(BUCKETS)).max(0.001)
    }

    fn buckets(&self) -> Vec<Bucket> {
        let mut buckets = vec![Bucket::default(); BUCKETS as usize + 1];
        for it in self.seen {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "few")]
            let at = (it.returned.as_secs_f64() / self.bucket_seconds()) as usize;
            if let Some(bucket) = buckets.get_mut(at) {
                bucket.latencies.push((it.returned.saturating_sub(it.begun)).as_secs_f64() * 1e3);
            }
        }
        buckets
    }

    fn rates(&self, out: &mut String, buckets: &[Bucket], top: f64) {
        let seconds = self.bucket_seconds();
        let rate = |bucket: &Bucket| float(bucket.latencies.len()) / seconds;
        let most = buckets.iter().map(rate).fold(1.0, f64::max);
        label(out, top, "decided per second");
        for (share, value) in [(1.0, most), (0.5, most / 2.0), (0.0, 0.0)] {
            grid(out, top + CHART * (1.0 - share), &format!("{value:.0}"));
        }
        for (at, bucket) in buckets.iter().enumerate() {
            let high = CHART * rate(bucket) / most;
            let _infallible = write!(
                out,
                "<rect class=\"rate\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.2}\" height=\"{high:.1}\"/>",
                self.x(float(at) * seconds),
                top + CHART - high,
                WIDTH / f64::from(BUCKETS)
            );
        }
    }

    /// Median and longest, in milliseconds, each decade as high as the other.
    fn latencies(&self, out: &mut String, buckets: &[Bucket], top: f64) {
        const DECADES: f64 = 5.0;
        let y = |millis: f64| {
            let share = (millis.max(0.1).log10() + 1.0) / DECADES;
            top + CHART * (1.0 - share.clamp(0.0, 1.0))
        };
        label(out, top, "latency: median (blue) and longest (orange)");
        for (millis, text) in [
            (0.1, "0.1 ms"),
            (1.0, "1 ms"),
            (10.0, "10 ms"),
            (100.0, "100 ms"),
            (1e3, "1 s"),
            (1e4, "10 s"),
        ] {
            grid(out, y(millis), text);
        }
        for (class, quantile) in [("half", 0.5), ("most", 1.0)] {
            let mut path = String::new();
            let mut step = 'M';
            for (at, bucket) in buckets.iter().enumerate() {
                let Some(millis) = bucket.quantile(quantile) else {
                    step = 'M';
                    continue;
                };
                let x = self.x((float(at) + 0.5) * self.bucket_seconds());
                let _infallible = write!(path, "{step}{x:.1} {:.1}h.1", y(millis));
                step = 'L';
            }
            let _infallible = write!(out, "<path class=\"line {class}\" d=\"{path}\"/>");
        }
    }

    fn lane(&self, out: &mut String, id: NodeId, lane: &Lane, top: f64) {
        let ends = lane.iter().skip(1).map(|(at, _)| *at).chain([self.end]);
        for ((from, condition), to) in lane.iter().zip(ends) {
            let (class, words) = match condition {
                Condition::Leads => ("leads", "leads"),
                Condition::Follows => ("follows", "follows"),
                Condition::Silent => ("silent", "does not answer"),
                Condition::Outside => ("outside", "is no member"),
            };
            let (from, to) = (from.as_secs_f64(), to.as_secs_f64());
            let _infallible = write!(
                out,
                "<rect class=\"{class}\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.2}\" height=\"{:.1}\">\
                 <title>node {id} {words}, {from:.2} s to {to:.2} s</title></rect>",
                self.x(from),
                (self.x(to) - self.x(from)).max(0.5),
                LANE - 5.0
            );
        }
        let _infallible = write!(
            out,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">node {id}</text>",
            LEFT - 8.0,
            top + 13.0
        );
        if top > 0.0 && id == self.lanes.first().map_or(0, |(first, _)| *first) {
            label(
                out,
                top,
                "nodes: leads (green), follows (blue), does not answer (red), no member (grey)",
            );
        }
    }

    fn axis(&self, out: &mut String, y: f64) {
        let end = self.end.as_secs_f64();
        let steps = [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 300.0, 1_800.0];
        let step = steps.into_iter().find(|step| end / step <= 16.0).unwrap_or(7_200.0);
        let mut at = 0.0;
        while at <= end {
            let _infallible = write!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{at} s</text>",
                self.x(at),
                y + 12.0
            );
            at += step;
        }
    }
}

fn label(out: &mut String, top: f64, text: &str) {
    let _infallible = write!(out, "<text x=\"{LEFT}\" y=\"{:.1}\">{text}</text>", top - 6.0);
}

fn grid(out: &mut String, y: f64, text: &str) {
    let _infallible = write!(
        out,
        "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
         <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
        LEFT + WIDTH,
        LEFT - 8.0,
        y + 4.0
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
