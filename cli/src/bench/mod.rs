//! `indelible bench`: what a durable append costs on this very disk, strategy by strategy.
//!
//! Owns: the arguments, and the order of a run. Does not own: who takes part (`contenders`,
//! `floor`), the turns (`turns`), how sure a figure is (`statistics`), what follows (`advice`),
//! what stands under the directory (`ground`), what is printed (`report`, `table`, `picture`,
//! `page`). Works in a directory of its own inside each one it is given, and removes it, also when
//! it fails or is interrupted; `leftover` finds those of runs that were killed.

mod advice;
mod contenders;
mod floor;
mod ground;
mod leftover;
mod page;
mod picture;
mod report;
mod statistics;
mod table;
mod turns;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use self::contenders::io_at;
use self::leftover::Workplace;
pub(crate) use self::report::Report;
use self::report::{Place, rows};
use self::turns::Run;
use crate::exit::Exit;
use crate::interrupt::signals;
use crate::json::{self, Body};
use crate::progress::{Meter, Unit};
use crate::{Failure, How};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directories on the disks to be measured. They are created if need be, and left as they were.
    /// The files in between take about 200 MB.
    #[arg(value_name = "DIR", required = true)]
    dirs: Vec<PathBuf>,
    /// How long to measure each directory at most, in seconds, but for the two rounds that it takes to
    /// tell anything. It ends sooner when more time would change no advice.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Bytes of each entry.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    bytes: u64,
    /// Measures as well how long a burst of 64 MiB by another program hurts.
    #[arg(long)]
    neighbour: bool,
    /// Prints a block of Markdown instead, made to be published.
    #[arg(long, conflicts_with = "json")]
    report: bool,
    /// Compares with the JSON of an older run.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["json", "report"])]
    compare: Option<PathBuf>,
    /// Writes one self-contained page as well.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Draws the durable appends of the first directory into this SVG file as well.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Removes what killed runs left in these directories, and measures nothing.
    #[arg(long, conflicts_with_all = ["report", "compare", "html", "svg", "neighbour"])]
    remove_leftovers: bool,
}

pub(crate) fn run(args: &Args, how: How, out: &mut dyn Write) -> crate::Outcome {
    if args.remove_leftovers {
        return remove_leftovers(&args.dirs, how, out);
    }
    // Not after all that measuring.
    for file in args.html.iter().chain(&args.svg) {
        picture::can_be_written(file)?;
    }
    let old = args.compare.as_deref().map(read_report).transpose()?;
    let report = measure_all(args, how)?;
    if let (Some(file), Some(place)) = (&args.svg, report.places.first()) {
        save(file, &picture::svg(place, report.entry_bytes)?)?;
    }
    if let Some(file) = &args.html {
        save(file, &page::page(&report)?)?;
    }
    if how.json {
        return json::print(out, Body::Bench(Box::new(report)));
    }
    if args.report {
        table::markdown(&report, out)?;
        return Ok(Exit::Sound);
    }
    for place in &report.places {
        table::place(&report, place, out)?;
    }
    if report.places.len() > 1 {
        table::fastest(&report, out)?;
    }
    if let Some(old) = &old {
        table::comparison(&report, old, out)?;
    }
    Ok(Exit::Sound)
}

fn measure_all(args: &Args, how: How) -> Result<Report, Failure> {
    let stop = interruption()?;
    let (host, kernel) = system();
    let mut report = Report {
        program: concat!("indelible ", env!("CARGO_PKG_VERSION")).to_owned(),
        date: today(),
        host,
        kernel,
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        entry_bytes: args.bytes,
        places: Vec::new(),
    };
    for dir in &args.dirs {
        report.places.push(measure(dir, args, how, &stop)?);
    }
    Ok(report)
}

/// Measures in a directory of its own inside `dir`, which it leaves as it was, whatever happens.
fn measure(dir: &Path, args: &Args, how: How, stop: &AtomicBool) -> Result<Place, Failure> {
    let existed = dir.exists();
    if existed && !dir.is_dir() {
        let said = format!("cannot measure in {}: not a directory", dir.display());
        let advice = "name a directory on the disk to be measured";
        return Err(Failure::Refused(said, Some(advice), Exit::Usage));
    }
    std::fs::create_dir_all(dir).map_err(|source| io_failure("create directory", dir, source))?;
    let left = leftover::find(dir).map_err(|source| io_failure("list", dir, source))?;
    for path in left {
        let said =
            format!("{} is what a killed run left: --remove-leftovers removes it", path.display());
        crate::note(how, &said, Exit::Sound);
    }
    let place = Workplace::create(dir)
        .map_err(|source| io_failure("create a directory in", dir, source))?;
    let measured = measure_in(place.path(), dir, args, how, stop);
    drop(place);
    if !existed {
        // Ours, and empty again; if something else is in it by now, it stays.
        let _ignored = std::fs::remove_dir(dir);
    }
    // An error that came with an interruption is its consequence, not news.
    if stop.load(Ordering::Relaxed) { Err(Failure::Interrupted) } else { measured }
}

fn measure_in(
    place: &Path,
    dir: &Path,
    args: &Args,
    how: How,
    stop: &AtomicBool,
) -> Result<Place, Failure> {
    let mut ground = ground::look(dir);
    let busy = ground::busy();
    for line in &busy {
        let said = format!("the machine is busy, and the figures may mislead: {line}");
        crate::note(how, &said, Exit::Sound);
    }
    let what = format!("measuring {}", dir.display());
    let mut meter = Meter::uninterrupted(&what, Unit::Milliseconds, how);
    let mut progress = |done: Duration, total: Duration| meter.at_time(done, total);
    let mut run = Run {
        bytes: usize::try_from(args.bytes).unwrap_or(usize::MAX),
        time: Duration::from_secs(args.seconds),
        stop,
        progress: &mut progress,
    };
    let rounds = turns::rounds(contenders::all(place, run.bytes)?, &mut run)?;
    if !turns::has_figures(&rounds) {
        return Err(io_failure("measure in", dir, std::io::ErrorKind::TimedOut.into()));
    }
    let roll = turns::roll(place, &run)?;
    let neighbour = if args.neighbour { Some(turns::neighbour(place, &run)?) } else { None };
    drop(meter);
    let rows = rows(&rounds.labels, &rounds.samples);
    let floor = rows.first().map_or(0, |row| row.p50_ns);
    ground.warnings.extend(ground::too_fast(&ground, floor));
    let (count, settled) = (rounds.count, rounds.settled);
    Ok(Place { rounds: count, settled, roll, neighbour, ..Place::new(ground, busy, rows) })
}

fn remove_leftovers(dirs: &[PathBuf], how: How, out: &mut dyn Write) -> crate::Outcome {
    let mut removed = Vec::new();
    for dir in dirs {
        for path in leftover::find(dir).map_err(|source| io_failure("list", dir, source))? {
            std::fs::remove_dir_all(&path).map_err(|source| io_failure("remove", &path, source))?;
            removed.push(path.display().to_string());
        }
    }
    if how.json {
        return json::print(out, Body::Removed(removed));
    }
    for path in &removed {
        writeln!(out, "removed {path}")?;
    }
    if removed.is_empty() {
        writeln!(out, "no killed run left anything")?;
    }
    Ok(Exit::Sound)
}

/// A run as `--json` printed it.
fn read_report(file: &Path) -> Result<Report, Failure> {
    /// A document, of which this is all that counts.
    #[derive(serde::Deserialize)]
    struct Kept {
        version: u32,
        bench: Option<Report>,
    }
    let text = std::fs::read_to_string(file).map_err(|source| io_failure("read", file, source))?;
    let wrong = |why: &str| {
        let said = format!("cannot compare with {}: {why}", file.display());
        Failure::Refused(said, Some("give what `indelible bench --json` printed"), Exit::Usage)
    };
    let kept: Kept = serde_json::from_str(&text).map_err(|error| wrong(&error.to_string()))?;
    if kept.version != json::VERSION {
        let (version, known) = (kept.version, json::VERSION);
        return Err(wrong(&format!("it is of version {version}; this build reads {known}")));
    }
    kept.bench.ok_or_else(|| wrong("it is no run of `bench`"))
}

fn save(file: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(file, text).map_err(|source| io_failure("write", file, source))
}

/// A failure at a path that need not be one of a log.
fn io_failure(op: &'static str, path: &Path, source: std::io::Error) -> Failure {
    Failure::Log(io_at(op, path, source))
}

/// Name of the machine, and version of its kernel.
fn system() -> (String, String) {
    let uname = rustix::system::uname();
    let text = |it: &std::ffi::CStr| it.to_string_lossy().into_owned();
    (text(uname.nodename()), text(uname.release()))
}

/// Now, in UTC.
#[expect(clippy::disallowed_methods, reason = "the date of a report")]
fn today() -> String {
    humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string()
}

/// A flag that each of [`signals`] sets, so that the files are removed before the end.
fn interruption() -> std::io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in signals() {
        // Asked a second time, the process ends at once.
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}
