//! `indelible bench`: what an append costs on this very disk, strategy by strategy.
//!
//! Owns: the arguments, the tables. Does not own: who takes part (`contenders`), measuring
//! (`measure`), what follows (`advice`), drawing (`picture`). Works in a directory of its own inside
//! the one it is given, and removes it, also when it fails or is interrupted.

mod advice;
mod contenders;
mod measure;
mod picture;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use self::advice::recommendation;
use self::contenders::{Role, io_at};
use self::measure::{Measured, Report, Run, interruption, measure};
use crate::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A directory on the disk to be measured. It is created if need be, and left as it was. The files
    /// in between take about 150 MB.
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
    if let Some(file) = &args.svg {
        // Not after all that measuring.
        picture::can_be_drawn(file)?;
    }
    let stop = interruption()?;
    let show = std::io::stderr().is_terminal();
    let mut shown = u64::MAX;
    let mut progress = |percent| {
        if show && percent != shown {
            shown = percent;
            bar(percent);
        }
    };
    let report = measure(
        &args.dir,
        Run {
            bytes: usize::try_from(args.bytes).unwrap_or(usize::MAX),
            time: Duration::from_secs(args.seconds),
            stop: &stop,
            progress: &mut progress,
        },
    );
    if show {
        // A clean line for what follows; the terminal may be gone.
        let _unheard = std::io::stderr().write_all(b"\r\x1b[K");
    }
    let report = report?;
    if let Some(file) = &args.svg {
        picture::svg(&report, file)?;
    }
    if args.json {
        writeln!(out, "{}", as_json(&report))?;
        return Ok(());
    }
    tables(&report, out)?;
    for line in recommendation(&report) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// How far the measuring is, on one line that is written over.
fn bar(percent: u64) {
    const WIDTH: u64 = 40;
    let filled = usize::try_from(percent * WIDTH / 100).unwrap_or(0);
    let rest = usize::try_from(WIDTH).unwrap_or(0).saturating_sub(filled);
    let doing = if percent == 0 { "preparing" } else { "measuring" };
    let line = format!("\r{doing} [{}{}] {percent} %", "#".repeat(filled), ".".repeat(rest));
    let _unheard = std::io::stderr().write_all(line.as_bytes());
}

fn tables(report: &Report, out: &mut dyn Write) -> std::io::Result<()> {
    let Report { bytes, rounds, threads, .. } = report;
    writeln!(out, "appends of {bytes} bytes, {rounds} rounds in which all take turns\n")?;
    let durable = [Role::Floor, Role::Default, Role::Strategy];
    table(report, "each durable on return", &durable, out)?;
    table(report, "by append, other promises", &[Role::Policy], out)?;
    writeln!(
        out,
        "  {} threads that share syncs: {:.0} durable appends/s, {:.1} x one thread, {:.1} a sync\n",
        threads.count, threads.rate, threads.gain, threads.per_sync
    )
}

fn table(report: &Report, title: &str, roles: &[Role], out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(
        out,
        "  {title:<41} {:>9} {:>9} {:>9} {:>8}  {}",
        "p50",
        "p99",
        "max",
        "x floor",
        picture::SCALE
    )?;
    for measured in report.of(roles) {
        let mark = if measured.role == Role::Default { " (the default)" } else { "" };
        writeln!(
            out,
            "  {:<41} {:>9} {:>9} {:>9} {:>8.2}  {}",
            format!("{}{mark}", measured.name),
            time(measured.percentile(0.5)),
            time(measured.percentile(0.99)),
            time(measured.percentile(1.0)),
            measured.ratio,
            picture::sparkline(measured),
        )?;
    }
    writeln!(out)
}

/// A duration in the unit that suits it.
fn time(nanoseconds: u64) -> String {
    match nanoseconds {
        0..10_000 => format!("{nanoseconds} ns"),
        10_000..10_000_000 => format!("{} us", nanoseconds / 1000),
        _ => format!("{} ms", nanoseconds / 1_000_000),
    }
}

fn as_json(report: &Report) -> serde_json::Value {
    let one = |measured: &Measured| {
        json!({
            "name": measured.name,
            "options": measured.setting,
            "p50_ns": measured.percentile(0.5),
            "p90_ns": measured.percentile(0.9),
            "p99_ns": measured.percentile(0.99),
            "max_ns": measured.percentile(1.0),
            "ratio_to_floor": measured.ratio,
        })
    };
    let all = |roles: &[Role]| report.of(roles).map(one).collect::<Vec<_>>();
    json!({
        "entry_bytes": report.bytes,
        "rounds": report.rounds,
        "copy_on_write": report.copy_on_write,
        "floor": all(&[Role::Floor]).pop(),
        "strategies": all(&[Role::Default, Role::Strategy]),
        "policies": all(&[Role::Policy]),
        "threads": {
            "count": report.threads.count,
            "appends_per_second": report.threads.rate,
            "gain_over_one": report.threads.gain,
            "appends_per_sync": report.threads.per_sync,
        },
        "recommendation": recommendation(report),
    })
}

/// A failure of a file that is not one of the logs.
fn cannot(op: &'static str, path: &Path, source: std::io::Error) -> Failure {
    Failure::Log(io_at(op, path, source))
}
