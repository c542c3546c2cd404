//! `indelible bench`: what a durable append costs on this very disk, strategy by strategy.
//!
//! Owns: the arguments, the report, the recommendation. Does not own: measuring (`measure`) and
//! drawing (`picture`). Works in a directory of its own inside the one it is given, and removes it.

mod measure;
mod picture;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use self::measure::{Measured, Report, measure};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A directory on the disk to be measured. It is created if need be, and left as it was.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// How long to measure, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Bytes of each entry.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    bytes: u64,
    /// Prints one JSON object instead.
    #[arg(long)]
    json: bool,
    /// Draws the latencies into this SVG file as well.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, out: &mut dyn Write) -> crate::Outcome {
    let show = std::io::stderr().is_terminal();
    let mut shown = u64::MAX;
    let bytes = usize::try_from(args.bytes).unwrap_or(usize::MAX);
    let report = measure(&args.dir, bytes, Duration::from_secs(args.seconds), &mut |percent| {
        if show && percent != shown {
            shown = percent;
            progress(percent);
        }
    })?;
    if show {
        // A clean line for what follows; the terminal may be gone.
        let _unheard = std::io::stderr().write_all(b"\r\x1b[K");
    }
    if let Some(file) = &args.svg {
        picture::svg(&report, file)?;
    }
    if args.json {
        writeln!(out, "{}", as_json(&report))?;
        return Ok(());
    }
    table(&report, out)?;
    for line in recommendation(&report) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

fn progress(percent: u64) {
    const WIDTH: u64 = 40;
    let filled = usize::try_from(percent * WIDTH / 100).unwrap_or(0);
    let rest = usize::try_from(WIDTH).unwrap_or(0).saturating_sub(filled);
    let line = format!("\rmeasuring [{}{}] {percent} %", "#".repeat(filled), ".".repeat(rest));
    let _unheard = std::io::stderr().write_all(line.as_bytes());
}

fn table(report: &Report, out: &mut dyn Write) -> std::io::Result<()> {
    let Report { bytes, rounds, .. } = report;
    writeln!(out, "durable appends of {bytes} bytes, {rounds} of each, in turns\n")?;
    writeln!(
        out,
        "  {:<30} {:>9} {:>9} {:>9} {:>8}  1 us to 100 ms",
        "", "p50", "p99", "max", "x floor"
    )?;
    for measured in report.all() {
        writeln!(
            out,
            "  {:<30} {:>9} {:>9} {:>9} {:>8.2}  {}",
            measured.name,
            time(measured.percentile(0.5)),
            time(measured.percentile(0.99)),
            time(measured.percentile(1.0)),
            report.ratio(measured),
            picture::sparkline(measured),
        )?;
    }
    let threads = &report.threads;
    writeln!(
        out,
        "\n  {} threads that share syncs: {:.0} durable appends/s, {:.1} x one thread, {:.1} a sync\n",
        threads.count, threads.rate, threads.gain, threads.per_sync
    )
}

/// A duration in the unit that suits it.
fn time(nanoseconds: u64) -> String {
    match nanoseconds {
        0..10_000 => format!("{nanoseconds} ns"),
        10_000..10_000_000 => format!("{} us", nanoseconds / 1000),
        _ => format!("{} ms", nanoseconds / 1_000_000),
    }
}

/// What follows from the figures, in plain words.
fn recommendation(report: &Report) -> Vec<String> {
    /// Below this a sync cannot have reached a device.
    const UNBELIEVABLE_NS: u64 = 5_000;
    /// Above this a host that can batch should.
    const SLOW_NS: u64 = 1_000_000;
    /// A strategy must be this much faster than the default to be worth a setting.
    const WORTH_IT: f64 = 0.9;

    let mut lines = Vec::new();
    let floor = report.floor.percentile(0.5);
    if floor < UNBELIEVABLE_NS {
        lines.push(
            "A sync here takes no time at all: this is memory, or a disk that does not wait. What is \
             acknowledged here does not survive a power cut."
                .to_owned(),
        );
    }
    if report.copy_on_write {
        lines.push(
            "This file system copies on write: the engine uses Pwrite here whatever it is told."
                .to_owned(),
        );
    }
    let best = report.strategies.iter().min_by_key(|measured| measured.percentile(0.5));
    match (best, report.strategies.first()) {
        (Some(best), Some(default)) if report.ratio(best) < report.ratio(default) * WORTH_IT => {
            lines.push(format!(
                "Recommendation: {} is the fastest here, {:.0} % below the default ({}).",
                best.name,
                (1.0 - report.ratio(best) / report.ratio(default)) * 100.0,
                default.name
            ));
        }
        (_, Some(default)) => lines.push(format!(
            "Recommendation: keep the default ({}); nothing is faster here by a tenth.",
            default.name
        )),
        _ => {}
    }
    if floor > SLOW_NS {
        lines.push(format!(
            "A sync costs {}: let the host batch (Durability::Barrier, one sync a loop turn), or append \
             from several threads.",
            time(floor)
        ));
    }
    lines
}

fn as_json(report: &Report) -> serde_json::Value {
    let one = |measured: &Measured| {
        json!({
            "name": measured.name,
            "p50_ns": measured.percentile(0.5),
            "p90_ns": measured.percentile(0.9),
            "p99_ns": measured.percentile(0.99),
            "max_ns": measured.percentile(1.0),
            "ratio_to_floor": report.ratio(measured),
        })
    };
    json!({
        "entry_bytes": report.bytes,
        "appends_each": report.rounds,
        "copy_on_write": report.copy_on_write,
        "floor": one(&report.floor),
        "strategies": report.strategies.iter().map(one).collect::<Vec<_>>(),
        "threads": {
            "count": report.threads.count,
            "appends_per_second": report.threads.rate,
            "gain_over_one": report.threads.gain,
            "appends_per_sync": report.threads.per_sync,
        },
        "recommendation": recommendation(report),
    })
}
