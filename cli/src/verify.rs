//! `indelible verify`: every byte, and what is wrong with it.

use std::io::{IsTerminal, Write};

use indelible::inspect::{Health, InUse, Progress, Verification};
use serde_json::json;

use crate::text::{count, finding, size};
use crate::{Dir, Failure};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    dir: Dir,
    /// Prints one JSON object instead.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, out: &mut dyn Write) -> crate::Outcome {
    let mut shown = u64::MAX;
    let show = std::io::stderr().is_terminal();
    let seen = indelible::inspect::verify(&args.dir.dir, &mut |progress| {
        if show {
            progress_line(progress, &mut shown);
        }
    })?;
    if show {
        // A clean line for what follows; the terminal may be gone.
        let _unheard = std::io::stderr().write_all(b"\r\x1b[K");
    }
    if args.json {
        writeln!(out, "{}", as_json(&seen))?;
    } else {
        report(&seen, out)?;
    }
    let sound = matches!(seen.health, Health::Clean | Health::TornTail { .. });
    if sound { Ok(()) } else { Err(Failure::Said) }
}

fn progress_line(progress: Progress, shown: &mut u64) {
    let percent = progress.done * 100 / progress.total.max(1);
    if percent != *shown {
        *shown = percent;
        let line = format!("\rverifying: {percent} % of {}", size(progress.total));
        let _unheard = std::io::stderr().write_all(line.as_bytes());
    }
}

pub(crate) fn report(seen: &Verification, out: &mut dyn Write) -> crate::Outcome {
    writeln!(
        out,
        "read {}: {}, {}",
        size(seen.bytes),
        count(seen.segments, "segment", "segments"),
        count(seen.entries, "sound entry", "sound entries"),
    )?;
    if let InUse::Yes(pid) = seen.use_now {
        let by = pid.map(|pid| format!(" by process {pid}")).unwrap_or_default();
        writeln!(
            out,
            "the log is in use{by}: this is a moment of the past, and nothing was locked"
        )?;
    }
    for found in &seen.findings {
        write!(out, "{}", finding(found))?;
    }
    for hole in &seen.holes {
        writeln!(out, "  entries {}..{} are missing since a repair", hole.start, hole.end)?;
    }
    match &seen.health {
        Health::Clean => writeln!(out, "CLEAN")?,
        Health::TornTail { path, offset } => {
            let path = path.display();
            writeln!(out, "TORN TAIL in {path} at byte {offset}")?;
            writeln!(out, "  as a crash leaves it; the next open drops it, nobody was told of it")?;
        }
        Health::Incomplete => writeln!(out, "INCOMPLETE: refill it from a peer")?,
        _ => writeln!(out, "DAMAGED")?,
    }
    Ok(())
}

fn as_json(seen: &Verification) -> serde_json::Value {
    let (health, torn) = match &seen.health {
        Health::Clean => ("clean", None),
        Health::TornTail { path, offset } => {
            ("torn tail", Some(json!({ "path": path.display().to_string(), "offset": offset })))
        }
        Health::Incomplete => ("incomplete", None),
        _ => ("damaged", None),
    };
    json!({
        "health": health,
        "torn": torn,
        "findings": seen.findings.iter().map(crate::json::finding).collect::<Vec<_>>(),
        "holes": seen.holes.iter().map(|hole| [hole.start, hole.end]).collect::<Vec<_>>(),
        "entries": seen.entries,
        "segments": seen.segments,
        "bytes": seen.bytes,
    })
}
