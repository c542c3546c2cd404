//! `indelible verify`: every byte, and what is wrong with it.

use std::io::Write;
use std::path::Path;

use indelible::inspect::{Health, InUse, Meaning, StateSeen, Verification, inspect};
use indelible::{Error, Verdict};

use crate::exit::Exit;
use crate::groups::{self, Hurt, Told};
use crate::json::{Body, Checked, print};
use crate::progress::{Meter, UNTOUCHED, Unit};
use crate::text::{count, finding, size};
use crate::{Dir, How};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    dir: Dir,
}

pub(crate) fn run(args: &Args, how: How, out: &mut dyn Write) -> crate::Outcome {
    let mut meter = Meter::new("verify", Unit::Bytes, how, UNTOUCHED);
    let seen = indelible::inspect::verify(&args.dir.dir, &mut |progress| meter.at(progress))?;
    drop(meter);
    let state = inspect(&args.dir.dir)?.state;
    let hurt = hurt(&args.dir.dir, &seen, state.as_ref(), how);
    if how.json {
        print(out, Body::Verification(Checked::new(&seen, groups::listed(&hurt))))?;
    } else {
        report(&seen, state.as_ref(), &hurt, out)?;
    }
    Ok(judge(&seen).or_worse(hurt.judge()))
}

/// What a log is by all its bytes.
pub(crate) fn judge(seen: &Verification) -> Exit {
    match seen.health {
        Health::Clean => Exit::Sound,
        Health::TornTail { .. } => Exit::Torn,
        Health::Damaged if is_only_newer(seen) => Exit::Unreadable,
        _ => Exit::Damaged,
    }
}

/// What groups lost. Where nothing of the log is lost, they may have forgotten something all the same.
pub(crate) fn hurt(
    dir: &Path,
    seen: &Verification,
    state: Option<&StateSeen>,
    how: How,
) -> Told<Hurt> {
    if !seen.holes.is_empty() || seen.findings.iter().any(|it| it.meaning.is_loss()) {
        return groups::hurt(dir, state, how);
    }
    let marked = groups::marked(dir, state);
    if matches!(&marked.0, Some(Ok(none)) if none.is_empty()) { Told(None) } else { marked }
}

/// Whether nothing is wrong but that a newer build has to read it.
fn is_only_newer(seen: &Verification) -> bool {
    let mut losses = seen.findings.iter().map(|it| it.meaning).filter(|it| it.is_loss());
    losses.all(|meaning| meaning == Meaning::Unsupported)
}

fn report(
    seen: &Verification,
    state: Option<&StateSeen>,
    hurt: &Told<Hurt>,
    out: &mut dyn Write,
) -> std::io::Result<()> {
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
        write!(out, "{}", finding(found, seen, state))?;
        let is_slot =
            matches!(&found.error, Error::Damaged { path, .. } if path.ends_with("metadata"));
        if seen.closed && found.meaning == Meaning::Redundant && is_slot {
            writeln!(out, "    the log was closed, so no crash explains it: look at the disk")?;
        }
    }
    if !seen.holes.is_empty() {
        let holes = crate::text::ranges(&seen.holes);
        writeln!(out, "  entries {holes} are missing since a repair")?;
    }
    groups::say_hurt(hurt, out)?;
    match &seen.health {
        Health::Clean if matches!(&hurt.0, Some(Ok(hurt)) if !hurt.is_empty()) => {
            writeln!(out, "INCOMPLETE: every byte is sound; {}", groups::FORGETFUL)?;
        }
        Health::Clean => writeln!(out, "CLEAN")?,
        Health::TornTail { path, offset } => {
            let path = path.display();
            writeln!(out, "TORN TAIL in {path} at byte {offset}")?;
            writeln!(
                out,
                "  as a crash leaves it; the next open drops it, nothing shows that it was acknowledged"
            )?;
            writeln!(out, "  {}", Verdict::UNNOTICED)?;
        }
        Health::Incomplete if matches!(&hurt.0, Some(Ok(hurt)) if hurt.is_empty()) => {
            writeln!(
                out,
                "INCOMPLETE: what is missing is no group's any more; it goes with a trim"
            )?;
        }
        Health::Incomplete => writeln!(out, "INCOMPLETE: refill it from a peer")?,
        _ if is_only_newer(seen) => {
            writeln!(out, "NEWER: the rest is sound; use the build that wrote it")?;
        }
        _ => writeln!(out, "DAMAGED")?,
    }
    Ok(())
}
