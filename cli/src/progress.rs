//! Progress of long work on standard error: a bar on a terminal, else a line every few seconds.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indelible::inspect::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::text::size;

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// What is counted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unit {
    Bytes,
    Entries,
}

/// Progress of one piece of work.
pub(crate) struct Meter {
    what: &'static str,
    unit: Unit,
    quiet: bool,
    bar: Option<ProgressBar>,
    started: Instant,
    said: Instant,
}

impl Meter {
    pub(crate) fn new(what: &'static str, unit: Unit, quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            let counted = match unit {
                Unit::Bytes => "{binary_bytes} of {binary_total_bytes}",
                Unit::Entries => "{human_pos} of {human_len} entries",
            };
            let style = format!("{what} {{bar:30}} {counted}, {{eta}} left");
            let plain = |_| ProgressStyle::default_bar();
            bar.with_style(ProgressStyle::with_template(&style).unwrap_or_else(plain))
        });
        let now = now();
        Self { what, unit, quiet, bar, started: now, said: now }
    }

    /// Takes note of how far the work has come.
    pub(crate) fn at(&mut self, progress: Progress) {
        if let Some(bar) = &self.bar {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
            return;
        }
        if self.quiet || self.said.elapsed() < LINE_EVERY {
            return;
        }
        self.said = now();
        let counted = |number| match self.unit {
            Unit::Bytes => size(number),
            Unit::Entries => number.to_string(),
        };
        let unit = if matches!(self.unit, Unit::Entries) { " entries" } else { "" };
        let line = format!(
            "{}: {} of {}{unit} ({} %), about {} s left\n",
            self.what,
            counted(progress.done),
            counted(progress.total),
            u128::from(progress.done) * 100 / u128::from(progress.total.max(1)),
            self.left(progress),
        );
        // Nobody may be listening.
        let _unheard = std::io::stderr().write_all(line.as_bytes());
    }

    /// Seconds until the end, at the pace so far.
    fn left(&self, progress: Progress) -> u128 {
        let rest = u128::from(progress.total.saturating_sub(progress.done));
        self.started.elapsed().as_millis() * rest / u128::from(progress.done.max(1)) / 1000
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the engine is deterministic, its operator is not")]
fn now() -> Instant {
    Instant::now()
}
