//! `indelible inspect`: a log at a glance.

use std::io::Write;

use indelible::format::CellValue;
use indelible::inspect::{Inspection, Outcome, Role, SegmentSeen, StateSeen, describe_cell};

use crate::text::{count, in_use, size};
use crate::{Dir, json};

/// Characters of the map of one segment.
const MAP_WIDTH: u64 = 32;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    dir: Dir,
    /// Prints one JSON object instead.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, out: &mut dyn Write) -> crate::Outcome {
    let seen = indelible::inspect::inspect(&args.dir.dir)?;
    if matches!(seen.outcome, Outcome::NoLog) {
        return Err(indelible::Error::Missing { path: seen.path }.into());
    }
    if args.json {
        writeln!(out, "{}", json::inspection(&seen))?;
        return Ok(());
    }
    head(&seen, out)?;
    slots(&seen, out)?;
    if let Some(state) = &seen.state {
        cells(state, out)?;
    }
    segments(&seen, out)?;
    files(&seen, out)
}

fn head(seen: &Inspection, out: &mut dyn Write) -> crate::Outcome {
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
    if let Outcome::Refuses(error) = &seen.outcome
        && let Some(advice) = crate::advice(error)
    {
        writeln!(out, "          {advice}")?;
    }
    Ok(())
}

fn outcome(outcome: &Outcome) -> String {
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
                "drops a torn end: batch {sequence} in {name} at byte {offset}{bytes}, which was \
                 never acknowledged"
            )
        }
        Outcome::Refuses(error) => format!("refuses: {error}"),
        _ => "unknown".to_owned(),
    }
}

fn slots(seen: &Inspection, out: &mut dyn Write) -> crate::Outcome {
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

pub(crate) fn cells(state: &StateSeen, out: &mut dyn Write) -> crate::Outcome {
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

fn segments(seen: &Inspection, out: &mut dyn Write) -> crate::Outcome {
    writeln!(out, "\nsegments  (# live, - trimmed, x truncated, . free)")?;
    if seen.segments.is_empty() {
        writeln!(out, "  (none)")?;
    }
    for segment in &seen.segments {
        let role = json::role(segment.role);
        let range = if segment.role == Role::Unnamed {
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
        for error in [segment.header, segment.footer].into_iter().flatten() {
            if segment.role != Role::Unnamed {
                writeln!(out, "          {}: {error}", segment.name)?;
            }
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

fn files(seen: &Inspection, out: &mut dyn Write) -> crate::Outcome {
    if !seen.side_files.is_empty() {
        writeln!(out, "\nside files")?;
    }
    for file in &seen.side_files {
        let cell = file
            .cell
            .as_ref()
            .map_or_else(|| "nothing refers to it".to_owned(), |cell| format!("value of {cell}"));
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
