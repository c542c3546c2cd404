//! Progress of long work on standard error: a bar on a terminal, else a line every few seconds.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indelible::inspect::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use schemars::JsonSchema;
use serde::Serialize;
use signal_hook::low_level::emulate_default_handler;

use crate::How;
use crate::exit::Exit;
use crate::interrupt::Interruption;
use crate::json::{Advance, Body, print};
use crate::text::size;

/// What is left of work that only looks, when it is interrupted.
pub(crate) const UNTOUCHED: &str = "everything is as it was";
/// The same of work on a log that goes on where it stopped.
pub(crate) const GOES_ON: &str = "run it again: it goes on";

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// What is counted.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    Bytes,
    Entries,
    /// Of time, of which the work takes no more.
    Milliseconds,
}

/// Progress of one piece of work.
pub(crate) struct Meter {
    what: String,
    unit: Unit,
    how: How,
    bar: Option<ProgressBar>,
    interruption: Option<&'static Interruption>,
    left: String,
    started: Instant,
    said: Instant,
}

impl Meter {
    /// Shows how far the work has come, and ends the process when it is interrupted: with the signal,
    /// and after it has said what is `left`.
    pub(crate) fn new(what: &str, unit: Unit, how: How, left: &str) -> Self {
        let mut meter = Self::uninterrupted(what, unit, how);
        (meter.interruption, meter.left) = (Interruption::watch(), left.to_owned());
        meter
    }

    /// As [`Self::new`], for work that sees to interruptions by itself.
    pub(crate) fn uninterrupted(what: &str, unit: Unit, how: How) -> Self {
        let bar = (!how.quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            let counted = match unit {
                Unit::Bytes => "{binary_bytes} of {binary_total_bytes}",
                Unit::Entries => "{human_pos} of {human_len} entries",
                Unit::Milliseconds => "{percent} %",
            };
            let style = format!("{{msg}} {{bar:30}} {counted}, {{eta}} left");
            let plain = |_| ProgressStyle::default_bar();
            bar.with_style(ProgressStyle::with_template(&style).unwrap_or_else(plain))
                .with_message(what.to_owned())
        });
        let now = now();
        let (interruption, left) = (None, String::new());
        Self { what: what.to_owned(), unit, how, bar, interruption, left, started: now, said: now }
    }

    /// Takes note of how far the work has come.
    pub(crate) fn at(&mut self, progress: Progress) {
        self.to(progress.done, progress.total);
    }

    /// Takes note of how much of the time for it is over.
    pub(crate) fn at_time(&mut self, over: Duration, all: Duration) {
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.to(milliseconds(over.min(all)), milliseconds(all));
    }

    fn to(&mut self, done: u64, total: u64) {
        self.show(done, total);
        if let Some(signal) = self.interruption.and_then(Interruption::asked) {
            if let Some(bar) = &self.bar {
                bar.finish_and_clear();
            }
            let said = format!("interrupted; {}", self.left);
            crate::note(self.how, &said, Exit::Interrupted);
            let _does_not_return = emulate_default_handler(signal);
        }
    }

    fn show(&mut self, done: u64, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
            return;
        }
        if self.how.quiet || self.said.elapsed() < LINE_EVERY {
            return;
        }
        self.said = now();
        let left = self.left(done, total);
        let mut out = std::io::stderr();
        // Nobody may be listening.
        if self.how.json {
            let (what, unit) = (self.what.clone(), self.unit);
            let advance = Advance { what, unit, done, total, seconds_left: left };
            let _unheard = print(&mut out, Body::Progress(advance));
            return;
        }
        let percent = u128::from(done) * 100 / u128::from(total.max(1));
        let counted = match self.unit {
            Unit::Bytes => format!("{} of {} ({percent} %)", size(done), size(total)),
            Unit::Entries => format!("{done} of {total} entries ({percent} %)"),
            Unit::Milliseconds => format!("{percent} %"),
        };
        let line = format!("{}: {counted}, about {left} s left\n", self.what);
        let _unheard = out.write_all(line.as_bytes());
    }

    /// Seconds until the end, at the pace so far.
    fn left(&self, done: u64, total: u64) -> u64 {
        let rest = u128::from(total.saturating_sub(done));
        let left = self.started.elapsed().as_millis() * rest / u128::from(done.max(1)) / 1000;
        u64::try_from(left).unwrap_or(u64::MAX)
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.interruption.inspect(|it| it.over());
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the engine is deterministic, its operator is not")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
