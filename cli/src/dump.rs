//! `indelible dump`: entries, raw frames or state cells, one per line.

use std::io::Write;
use std::ops::Range;

use indelible::CellValue;
use indelible::inspect::{
    EffectSeen, EntrySeen, FrameHeader, FrameSeen, describe_cell, entries, frames, inspect,
};

use crate::decode::{Decoder, Host};
use crate::exit::Exit;
use crate::groups;
use crate::json::{self, Body, print};
use crate::text::{count, hex_lines, preview};
use crate::{Dir, Failure, How};

/// Characters of a payload that are shown without `--hex`.
const PREVIEW: usize = 60;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    dir: Dir,
    /// First index to show.
    #[arg(long, value_name = "INDEX")]
    from: Option<u64>,
    /// Index to stop before.
    #[arg(long, value_name = "INDEX")]
    to: Option<u64>,
    /// Shows every frame as it stands in the files, with offset, batch, kind and checksum verdict.
    #[arg(long, conflicts_with = "state")]
    frames: bool,
    /// Shows payloads whole, in hexadecimal.
    #[arg(long)]
    hex: bool,
    /// Shows the state cells instead.
    #[arg(long)]
    state: bool,
    /// Shows entries as their host wrote them: log id and kind, then the payload.
    #[arg(
        long,
        value_name = "HOST",
        num_args = 0..=1,
        default_missing_value = "auto",
        require_equals = true,
        conflicts_with_all = ["frames", "state", "hex"]
    )]
    decode: Option<Host>,
    /// Shows one group of a log of groups: its entries by its own indexes, or with `--state` its
    /// cells. Without it a log of groups is shown record by record.
    #[arg(long, value_name = "ID", conflicts_with = "frames")]
    group: Option<u64>,
    /// Shows payloads through this shell command, which reads one per line in hexadecimal, and
    /// writes a line for each within ten seconds.
    #[arg(long, value_name = "COMMAND", requires = "decode")]
    payload: Option<String>,
}

pub(crate) fn run(args: &Args, how: How, out: &mut dyn Write) -> crate::Outcome {
    crate::text::check_range(args.from, args.to)?;
    if let Some(id) = args.group {
        group(args, id, how, out)
    } else if args.state {
        state(args, how, out)
    } else if args.frames {
        raw_frames(args, how, out)
    } else {
        live_entries(args, how, out)
    }
}

fn state(args: &Args, how: How, out: &mut dyn Write) -> crate::Outcome {
    let seen = inspect(&args.dir.dir)?;
    let Some(state) = seen.state else {
        return Err(match seen.outcome {
            indelible::inspect::Outcome::Refuses(error) => error.into(),
            _ => indelible::Error::Missing { path: seen.path }.into(),
        });
    };
    cells(args, how, &state.cells, out)
}

fn cells(
    args: &Args,
    how: How,
    cells: &[(String, CellValue)],
    out: &mut dyn Write,
) -> crate::Outcome {
    for (name, value) in cells {
        if how.json {
            print(out, Body::Cell(json::Cell::new(name, value)))?;
            continue;
        }
        match value {
            CellValue::Inline(bytes) if args.hex => {
                writeln!(out, "{name}\n{}", hex_lines(bytes).trim_end())?;
            }
            CellValue::Inline(bytes) => {
                writeln!(out, "{name}  {}", describe_cell(name, bytes))?;
            }
            CellValue::SideFile(file) => {
                writeln!(out, "{name}  side file {} of {} bytes", file.file_name(), file.length)?;
            }
        }
    }
    Ok(Exit::Sound)
}

/// Every entry within the range, and every reason why one is not shown.
fn live_entries(args: &Args, how: How, out: &mut dyn Write) -> crate::Outcome {
    let log = entries(&args.dir.dir)?;
    let bounds = log.bounds();
    let log = log.within(args.from.unwrap_or(0)..args.to.unwrap_or(u64::MAX));
    let none = log.range().is_empty();
    let state = log.state();
    let known = state.as_ref().map(|it| it.cells.as_slice()).unwrap_or_default();
    // Records of groups are of no use to anybody as they are.
    let records =
        (groups::are_in(state.as_ref()) && !args.hex && !how.json).then_some(Host::Groups);
    let decoder = |host| Decoder::new(host, args.payload.as_deref(), known);
    let mut decoder = args.decode.or(records).map(decoder).transpose()?;
    let mut lost = 0;
    for seen in log {
        match seen? {
            EntrySeen::Entry { index, payload, packed: false } => {
                entry(args, how, index, &payload, decoder.as_mut(), out)?;
            }
            EntrySeen::Entry { index, packed: true, .. } => {
                let said = "it is compressed, and cannot be decompressed";
                lost += unreadable(&(index..index + 1), said.to_owned(), how, out)?;
            }
            EntrySeen::Missing { entries } => lost += missing(&entries, how, out)?,
            EntrySeen::Unreadable { entries, error } => {
                lost += unreadable(&entries, error.to_string(), how, out)?;
            }
            _ => {}
        }
    }
    conclude(args, how, &bounds, none, lost, out)
}

/// One group, as the log underneath would be after an open, or, if that is refused, after a repair.
fn group(args: &Args, id: u64, how: How, out: &mut dyn Write) -> crate::Outcome {
    let (all, _) = groups::preview(&args.dir.dir)?;
    let group = groups::one_of(&all, id)?;
    if args.state {
        return cells(args, how, &group.cells(), out);
    }
    let known = group.cells();
    let decoder = |host| Decoder::new(host, args.payload.as_deref(), &known);
    let mut decoder = args.decode.map(decoder).transpose()?;
    let bounds = group.first()..group.next();
    let from = args.from.unwrap_or(0).max(bounds.start);
    let range = from..args.to.unwrap_or(u64::MAX).min(bounds.end).max(from);
    let (none, mut lost) = (range.is_empty(), 0);
    let mut at = range.start;
    while at < range.end {
        let mut seen = at..at + 1;
        match group.entry(at) {
            Ok(payload) => entry(args, how, at, &payload, decoder.as_mut(), out)?,
            Err(indelible::Error::Hole { range: hole, .. }) => {
                seen.end = hole.end.clamp(at + 1, range.end);
                while seen.end < range.end
                    && matches!(group.entry(seen.end), Err(indelible::Error::Hole { .. }))
                {
                    seen.end += 1;
                }
                lost += missing(&seen, how, out)?;
            }
            Err(error) => lost += unreadable(&seen, error.to_string(), how, out)?,
        }
        at = seen.end;
    }
    conclude(args, how, &bounds, none, lost, out)
}

/// What is to be said after the entries: of a range that does not exist, and of what was not shown.
fn conclude(
    args: &Args,
    how: How,
    bounds: &Range<u64>,
    none: bool,
    lost: u64,
    out: &mut dyn Write,
) -> crate::Outcome {
    out.flush()?;
    let beyond = args.from.is_some_and(|from| from < bounds.start || from >= bounds.end)
        || args.to.is_some_and(|to| to > bounds.end || to <= bounds.start);
    let who = if args.group.is_some() { "group" } else { "log" };
    let said = format!("the {who} holds entries {}..{} only", bounds.start, bounds.end);
    if beyond && none {
        let said = format!("there is no entry in that range: {said}");
        return Err(Failure::Refused(said, None, Exit::Unreadable));
    }
    if beyond {
        crate::note(how, &said, Exit::Sound);
    }
    if lost == 0 {
        return Ok(Exit::Sound);
    }
    // The exit code must not say that all is well.
    let lost = count(lost, "entry is", "entries are");
    crate::note(how, &format!("{lost} not shown; see `indelible verify`"), Exit::Damaged);
    Ok(Exit::Damaged)
}

fn entry(
    args: &Args,
    how: How,
    index: u64,
    payload: &[u8],
    decoder: Option<&mut Decoder>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let shown = decoder.map(|it| it.show(index, payload)).transpose()?;
    if how.json {
        print(out, Body::Entry(json::Entry::new(args.group, index, payload, shown)))?;
    } else if let Some(shown) = shown {
        writeln!(out, "{index}  {shown}")?;
    } else if args.hex {
        let lines = hex_lines(payload);
        writeln!(out, "{}", format!("{index}  {} bytes\n{lines}", payload.len()).trim_end())?;
    } else {
        writeln!(out, "{index}  {} bytes  {}", payload.len(), preview(payload, PREVIEW))?;
    }
    Ok(())
}

/// Says that entries are missing. Returns how many.
fn missing(entries: &Range<u64>, how: How, out: &mut dyn Write) -> Result<u64, Failure> {
    if how.json {
        print(out, Body::Missing(json::Span::from(entries)))?;
    } else {
        writeln!(out, "{}..{}  missing since a repair", entries.start, entries.end)?;
    }
    Ok(entries.end - entries.start)
}

/// Says why entries are not shown. Returns how many.
fn unreadable(
    entries: &Range<u64>,
    reason: String,
    how: How,
    out: &mut dyn Write,
) -> Result<u64, Failure> {
    if how.json {
        print(out, Body::Unreadable(json::Unread::new(entries, reason)))?;
    } else {
        writeln!(out, "{}..{}  UNREADABLE: {reason}", entries.start, entries.end)?;
    }
    Ok(entries.end - entries.start)
}

fn raw_frames(args: &Args, how: How, out: &mut dyn Write) -> crate::Outcome {
    let whole = args.from.is_none() && args.to.is_none();
    let range = args.from.unwrap_or(0)..args.to.unwrap_or(u64::MAX);
    let mut seen = frames(&args.dir.dir)?;
    if !whole {
        seen = seen.within(range.clone());
    }
    let (mut unreadable, mut any) = (0_u64, false);
    for seen in seen {
        let seen = seen?;
        unreadable += u64::from(!matches!(seen, FrameSeen::Frame { .. }));
        any |= raw(args, how, &seen, whole, &range, out)?;
    }
    if !whole && !any {
        let said = "there is no frame of entries in that range".to_owned();
        return Err(Failure::Refused(said, None, Exit::Unreadable));
    }
    if unreadable == 0 {
        return Ok(Exit::Sound);
    }
    out.flush()?;
    let places = count(unreadable, "place", "places");
    let said = format!("{places} could not be read; see `indelible verify`");
    crate::note(how, &said, Exit::Damaged);
    Ok(Exit::Damaged)
}

/// Any frame, or a place where one should be. Returns whether that is in the range.
fn raw(
    args: &Args,
    how: How,
    seen: &FrameSeen,
    whole: bool,
    range: &Range<u64>,
    out: &mut dyn Write,
) -> Result<bool, Failure> {
    let (segment, bytes, reason) = match seen {
        FrameSeen::Frame { segment, offset, header, effect, payload, live, packed, .. } => {
            let is_apart =
                |entries: Range<u64>| entries.end <= range.start || entries.start >= range.end;
            if !whole && effect.entries().is_some_and(is_apart) {
                return Ok(false);
            }
            if how.json {
                let frame = json::Frame::new(segment, *offset, header, payload, *live);
                print(out, Body::Frame(frame))?;
                return Ok(true);
            }
            let packed = if *packed { ", shown as it is stored" } else { "" };
            writeln!(
                out,
                "{}{packed}",
                frame_text(args, segment, *offset, (header, effect), payload, *live)
            )?;
            return Ok(true);
        }
        FrameSeen::Unreadable { segment, range, reason } => {
            (segment.clone(), Some(range), reason.to_string())
        }
        FrameSeen::Illegible { segment } => {
            (segment.clone(), None, "no header, and no footer to take its place".to_owned())
        }
        FrameSeen::Absent { numbers, entries, reason } => {
            let held = if entries.is_empty() {
                "no live entries".to_owned()
            } else {
                format!("entries {}..{}", entries.start, entries.end)
            };
            let more = match numbers.end - numbers.start {
                1 => String::new(),
                count => format!(" and the {} after it", count - 1),
            };
            let reason = format!("the file{more} is {reason}; it held {held}");
            (format!("{:016x}-*.seg", numbers.start), None, reason)
        }
        _ => return Ok(false),
    };
    if how.json {
        let bytes = bytes.map(json::Span::from);
        print(out, Body::Gap(json::Gap { segment, bytes, reason }))?;
        return Ok(true);
    }
    match bytes {
        Some(range) => {
            let (start, bytes) = (range.start, range.end - range.start);
            writeln!(out, "{segment} {start:>10}  UNREADABLE, {bytes} bytes: {reason}")?;
        }
        None => writeln!(out, "{segment}  UNREADABLE: {reason}")?,
    }
    Ok(true)
}

fn frame_text(
    args: &Args,
    segment: &str,
    offset: u64,
    (header, effect): (&FrameHeader, &EffectSeen),
    payload: &[u8],
    live: bool,
) -> String {
    let kind = format!("{:?}", header.kind);
    let mut shown = format!(
        "{segment} {offset:>10}  batch {}{}{} lag {}  {kind:8}  crc ok",
        header.sequence,
        if header.is_first() { " first" } else { "" },
        if header.is_last() { " last" } else { "" },
        header.lag,
    );
    let about = match effect {
        EffectSeen::Entry { index } => {
            let (dead, lz4) = (
                if live { "" } else { ", no longer live" },
                if header.is_compressed() { ", lz4" } else { "" },
            );
            let text = if args.hex { String::new() } else { preview(payload, PREVIEW) };
            format!("  {index} of {} bytes{lz4}{dead}  {text}", header.length)
        }
        EffectSeen::Missing { entries } => format!("  {}..{}", entries.start, entries.end),
        EffectSeen::Truncate { to } | EffectSeen::Trim { to } | EffectSeen::Reset { to } => {
            format!("  to {to}")
        }
        EffectSeen::Set { cell, value } => format!("  {cell} = {}", describe_cell(cell, value)),
        EffectSeen::Attach { cell, file } => format!("  {cell} = side file {file}"),
        EffectSeen::Clear { cell } => format!("  {cell}"),
        EffectSeen::Durable { sequence } => format!("  batch {sequence} was durable"),
        EffectSeen::Refused { reason } => format!("  (no log writes this: {reason})"),
        _ => String::new(),
    };
    shown.push_str(&about);
    if args.hex && !payload.is_empty() {
        shown.push('\n');
        shown.push_str(hex_lines(payload).trim_end());
    }
    shown.trim_end().to_owned()
}
