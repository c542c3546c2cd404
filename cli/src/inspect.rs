//! `indelible inspect`: a log at a glance.

use std::io::Write;
use std::path::{Path, PathBuf};

use indelible::inspect::{
    Inspection, Outcome, Role, SegmentSeen, StateSeen, describe_cell, verify,
};
use indelible::{CellValue, Verdict};

use crate::exit::Exit;
use crate::groups::{self, Group, Told};
use crate::json::{Body, LogSeen, print};
use crate::page::page;
use crate::progress::{Meter, UNTOUCHED, Unit};
use crate::text::{count, in_use, numbers, refuse_in_log, size};
use crate::{Dir, Failure, How};

/// Characters of the map of one segment.
const MAP_WIDTH: u64 = 32;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    dir: Dir,
    /// Reads every byte as well, and writes one self-contained page with all of it into this file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, how: How, out: &mut dyn Write) -> crate::Outcome {
    if let Some(file) = &args.html {
        refuse_in_log(file, Some(&args.dir.dir))?;
    }
    let seen = indelible::inspect::inspect(&args.dir.dir)?;
    if matches!(seen.outcome, Outcome::NoLog) {
        return Err(indelible::Error::Missing { path: seen.path }.into());
    }
    let exit = judge(&seen);
    let found = groups::found(&args.dir.dir, seen.state.as_ref());
    let exit = match &args.html {
        Some(file) => write_page(args, how, &seen, &found, exit, file)?,
        None => exit,
    };
    if args.html.is_some() && !how.json {
        return Ok(exit);
    }
    if how.json {
        print(out, Body::Inspection(Box::new(LogSeen::new(&seen, groups::listed(&found)))))?;
        return Ok(exit);
    }
    head(&seen, out)?;
    slots(&seen, out)?;
    if let Some(state) = &seen.state {
        cells(state, out)?;
    }
    segments(&seen, out)?;
    files(&seen, out)?;
    groups::say_found(&found, out)?;
    Ok(exit)
}

/// What a log is by what is seen at a glance.
pub(crate) fn judge(seen: &Inspection) -> Exit {
    match &seen.outcome {
        Outcome::Refuses(error) => Exit::of(error),
        _ if seen.latent.is_some() || !seen.absent.is_empty() => Exit::Damaged,
        opens => {
            let torn = matches!(opens, Outcome::DropsTornTail { .. });
            let live = seen.segments.iter().filter(|it| !it.live.is_empty());
            live.filter_map(|it| it.header.as_ref())
                .map(Exit::of)
                .fold(if torn { Exit::Torn } else { Exit::Sound }, Exit::or_worse)
        }
    }
}

/// What is found by reading everything is part of the page, and of its verdict.
fn write_page(
    args: &Args,
    how: How,
    seen: &Inspection,
    found: &Told<Group>,
    exit: Exit,
    file: &Path,
) -> crate::Outcome {
    let mut meter = Meter::new("verify", Unit::Bytes, how, UNTOUCHED);
    let checked = verify(&args.dir.dir, &mut |progress| meter.at(progress));
    drop(meter);
    let checked = checked?;
    let hurt = crate::verify::hurt(&args.dir.dir, &checked, seen.state.as_ref(), how);
    let exit = exit.or_worse(crate::verify::judge(&checked)).or_worse(hurt.judge());
    std::fs::write(file, page(seen, &checked, found, exit)).map_err(|source| {
        let said = format!("cannot write {}: {source}", file.display());
        Failure::Refused(said, None, Exit::Unreadable)
    })?;
    Ok(exit)
}

fn head(seen: &Inspection, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "log       {}", seen.path.display())?;
    if let Some(state) = &seen.state {
        writeln!(out, "uuid      {}", state.uuid)?;
        let entries = count(state.next - state.first, "entry", "entries");
        writeln!(out, "entries   {}..{} ({entries})", state.first, state.next)?;
        if state.holes > 0 {
            writeln!(out, "missing   {}", count(state.holes, "entry", "entries"))?;
        }
        writeln!(out, "batches   {}", state.sequence)?;
    }
    writeln!(out, "in use    {}", in_use(seen.use_now))?;
    writeln!(out, "an open   {}", outcome(&seen.outcome))?;
    if matches!(seen.outcome, Outcome::DropsTornTail { .. }) {
        writeln!(out, "          {}", Verdict::UNNOTICED)?;
    }
    if let Outcome::Refuses(error) = &seen.outcome
        && let Some(advice) = crate::advice(error)
    {
        writeln!(out, "          {advice}")?;
    }
    if let Some(error) = &seen.latent {
        writeln!(out, "and then  {error}")?;
        writeln!(out, "          an open does not look there; the first read or roll is refused")?;
    }
    Ok(())
}

pub(crate) fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::NoLog => "finds no log".to_owned(),
        Outcome::FinishesCreate => "finishes a creation that was cut short".to_owned(),
        Outcome::Clean => "goes on where the close left off".to_owned(),
        Outcome::Recovers { batches: 0, .. } => {
            "goes on: not closed, and whole up to the last checkpoint".to_owned()
        }
        Outcome::Recovers { batches, entries } => {
            let entries = count(*entries, "entry", "entries");
            let batches = count(*batches, "batch", "batches");
            format!("recovers {batches} with {entries}: not closed, and whole")
        }
        Outcome::DropsTornTail { path, offset, sequence, bytes } => {
            let name = path.file_name().unwrap_or(path.as_os_str()).display();
            let bytes = if *bytes > 0 { format!(" ({})", size(*bytes)) } else { String::new() };
            format!(
                "drops a torn end: batch {sequence} in {name} at byte {offset}{bytes}, and nothing shows \
                 that it was acknowledged"
            )
        }
        Outcome::Refuses(error) => format!("refuses: {error}"),
        _ => "unknown".to_owned(),
    }
}

fn slots(seen: &Inspection, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "\nmetadata")?;
    if seen.slots.is_empty() {
        writeln!(out, "  (none)")?;
    }
    for slot in &seen.slots {
        match &slot.checkpoint {
            Ok(found) => writeln!(
                out,
                "  slot {}  checkpoint {}, batch {}, entries {}..{}, tail {} at byte {}{}{}",
                slot.name,
                found.generation,
                found.sequence,
                found.first,
                found.next,
                found.tail_number,
                found.tail_offset,
                if found.clean { ", closed" } else { "" },
                if found.creating { ", being created" } else { "" },
            )?,
            Err(error) => writeln!(out, "  slot {}  unreadable: {error}", slot.name)?,
        }
    }
    Ok(())
}

fn cells(state: &StateSeen, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "\ncells")?;
    if state.cells.is_empty() {
        writeln!(out, "  (none)")?;
    }
    let width = state.cells.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in &state.cells {
        let value = match value {
            CellValue::Inline(bytes) => describe_cell(name, bytes),
            CellValue::SideFile(file) => {
                format!("side file {}, {}", file.file_name(), size(file.length))
            }
        };
        writeln!(out, "  {name:width$}  {value}")?;
    }
    Ok(())
}

fn segments(seen: &Inspection, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "\nsegments  (# live, - trimmed, x truncated, . free)")?;
    if seen.segments.is_empty() {
        writeln!(out, "  (none)")?;
    }
    for gone in &seen.absent {
        let said = match seen.segments.iter().filter(|it| it.number == gone.start).count() {
            0 => "MISSING: the log names it, and there is no such file".to_owned(),
            files => format!("AMBIGUOUS: {files} files claim to be it"),
        };
        writeln!(out, "  {:>6}  {said}", numbers(gone))?;
    }
    for segment in &seen.segments {
        let role = match segment.role {
            Role::Tail => "tail",
            Role::Sealed => "sealed",
            _ => "unnamed",
        };
        let known = seen.state.is_some();
        let range = if segment.role == Role::Unnamed && !known {
            "whether it counts cannot be told".to_owned()
        } else if seen.absent.iter().any(|gone| gone.contains(&segment.number)) {
            format!("whether it counts cannot be told: {}", segment.name)
        } else if segment.role == Role::Unnamed {
            "named by no checkpoint".to_owned()
        } else {
            let holes = if segment.holes { ", with holes" } else { "" };
            format!("entries {}..{}{holes}", segment.live.start, segment.live.end)
        };
        writeln!(
            out,
            "  {:>6}  {role:7} [{}] {:>9}  {range}",
            segment.number,
            map(segment),
            size(segment.bytes),
        )?;
        if segment.role == Role::Unnamed {
            continue;
        }
        if let Some(error) = &segment.header {
            writeln!(out, "          {error}")?;
        }
        if let Some(error) = segment.footer {
            writeln!(out, "          {}: {error}", segment.name)?;
        }
    }
    Ok(())
}

/// One character for every share of the file, rounded so that nothing that is there vanishes.
fn map(segment: &SegmentSeen) -> String {
    let mut map = String::new();
    let mut left = MAP_WIDTH;
    let beyond = if segment.role == Role::Unnamed { '?' } else { 'x' };
    for (bytes, mark) in
        [(segment.trimmed, '-'), (segment.in_use, '#'), (segment.truncated, beyond)]
    {
        let share = u128::from(bytes) * u128::from(MAP_WIDTH) / u128::from(segment.bytes.max(1));
        let share = u64::try_from(share).unwrap_or(MAP_WIDTH);
        let share = share.max(u64::from(bytes > 0)).min(left);
        left -= share;
        map.extend((0..share).map(|_| mark));
    }
    map.extend((0..left).map(|_| '.'));
    map
}

fn files(seen: &Inspection, out: &mut dyn Write) -> std::io::Result<()> {
    if !seen.side_files.is_empty() {
        writeln!(out, "\nside files")?;
    }
    let mut side_files: Vec<_> = seen.side_files.iter().collect();
    side_files.sort_by_key(|file| (file.cell.is_none(), &file.cell, &file.name));
    for file in side_files {
        let cell = file.cell.as_ref().map_or_else(
            || match seen.state {
                Some(_) => "nothing refers to it".to_owned(),
                None => "whether something refers to it cannot be told".to_owned(),
            },
            |cell| format!("value of {cell}"),
        );
        writeln!(out, "  {}  {:>9}  {cell}", file.name, size(file.bytes))?;
    }
    writeln!(out, "\ndisk      {} altogether", size(seen.disk.bytes))?;
    let kinds = [
        ("segments", seen.disk.segments),
        ("spares", seen.disk.spares),
        ("side files", seen.disk.side_files),
        ("unfinished", seen.disk.temporary),
        ("not ours", seen.disk.foreign),
    ];
    for (name, (files, bytes)) in kinds {
        if files > 0 {
            writeln!(out, "  {name:10}  {:>9} in {}", size(bytes), count(files, "file", "files"))?;
        }
    }
    Ok(())
}
