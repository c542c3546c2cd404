//! `indelible dump`: entries, raw frames or state cells, one a line.

use std::io::Write;
use std::ops::Range;

use indelible::format::cell::decode_cell;
use indelible::format::frame::decode_hole;
use indelible::format::{CellRecord, FrameHeader, Kind};
use indelible::inspect::{FrameSeen, describe_cell, frames, inspect};
use serde_json::{Value, json};

use crate::text::{hex, hex_lines, preview};
use crate::{Dir, Failure};

/// Characters of a payload that are shown without `--hex`.
const PREVIEW: usize = 60;

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
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
    /// Prints one JSON object a line.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, out: &mut dyn Write) -> crate::Outcome {
    if args.state {
        return state(args, out);
    }
    let whole = args.from.is_none() && args.to.is_none();
    let range = args.from.unwrap_or(0)..args.to.unwrap_or(u64::MAX);
    let mut seen = frames(&args.dir.dir)?;
    if let Some(refusal) = seen.refusal().filter(|_| !args.frames) {
        return Err(refusal.clone().into());
    }
    if !(args.frames && whole) {
        seen = seen.within(range.clone());
    }
    let mut unreadable = 0_u64;
    for seen in seen {
        let seen = seen?;
        unreadable += u64::from(!matches!(seen, FrameSeen::Frame { .. }));
        let shown =
            if args.frames { raw(args, &seen, whole, &range) } else { entry(args, &seen, &range) };
        if let Some(shown) = shown {
            writeln!(out, "{shown}")?;
        }
    }
    if unreadable > 0 {
        // Entries may be missing above: the exit code must not say that all is well.
        out.flush()?;
        let places = crate::text::count(unreadable, "place", "places");
        let said = format!("indelible: {places} could not be read; see `indelible verify`\n");
        std::io::stderr().write_all(said.as_bytes())?;
        return Err(Failure::Said);
    }
    Ok(())
}

fn state(args: &Args, out: &mut dyn Write) -> crate::Outcome {
    let seen = inspect(&args.dir.dir)?;
    let Some(state) = seen.state else {
        return Err(match seen.outcome {
            indelible::inspect::Outcome::Refuses(error) => error.into(),
            _ => indelible::Error::Missing { path: seen.path }.into(),
        });
    };
    for (name, value) in &state.cells {
        if args.json {
            let cell = crate::json::cells(&[(name.clone(), value.clone())]);
            writeln!(out, "{}", cell.get(0).unwrap_or(&Value::Null))?;
            continue;
        }
        match value {
            indelible::CellValue::Inline(bytes) if args.hex => {
                writeln!(out, "{name}\n{}", hex_lines(bytes).trim_end())?;
            }
            indelible::CellValue::Inline(bytes) => {
                writeln!(out, "{name}  {}", describe_cell(name, bytes))?;
            }
            indelible::CellValue::SideFile(file) => {
                writeln!(out, "{name}  side file {} of {} bytes", file.file_name(), file.length)?;
            }
        }
    }
    Ok(())
}

/// A live entry or hole within the range.
fn entry(args: &Args, seen: &FrameSeen, range: &Range<u64>) -> Option<String> {
    let FrameSeen::Frame { header, payload, live: true, .. } = seen else { return None };
    let index = header.index;
    match header.kind {
        Kind::Entry if range.contains(&index) => Some(if args.json {
            json!({ "index": index, "bytes": payload.len(), "hex": hex(payload) }).to_string()
        } else if args.hex {
            let lines = hex_lines(payload);
            format!("{index}  {} bytes\n{lines}", payload.len()).trim_end().to_owned()
        } else {
            format!("{index}  {} bytes  {}", payload.len(), preview(payload, PREVIEW))
        }),
        Kind::Hole => {
            let end = decode_hole(payload)?;
            if index >= range.end || end <= range.start {
                return None;
            }
            Some(if args.json {
                json!({ "missing": [index, end] }).to_string()
            } else {
                format!("{index}..{end}  missing since a repair")
            })
        }
        _ => None,
    }
}

/// Any frame, or a place where one should be.
fn raw(args: &Args, seen: &FrameSeen, whole: bool, range: &Range<u64>) -> Option<String> {
    let text = match seen {
        FrameSeen::Frame { segment, offset, header, payload, live, .. } => {
            let indexed = matches!(header.kind, Kind::Entry | Kind::Hole);
            if !whole && indexed && !range.contains(&header.index) {
                return None;
            }
            if args.json {
                return Some(frame_json(segment, *offset, header, payload, *live).to_string());
            }
            frame_text(args, segment, *offset, header, payload, *live)
        }
        FrameSeen::Unreadable { segment, range, reason } => {
            if args.json {
                let bytes = [range.start, range.end];
                let reason = reason.to_string();
                return Some(
                    json!({ "segment": segment, "unreadable": bytes, "reason": reason })
                        .to_string(),
                );
            }
            let bytes = range.end - range.start;
            format!("{segment} {:>10}  UNREADABLE, {bytes} bytes: {reason}", range.start)
        }
        FrameSeen::Illegible { segment } if args.json => {
            json!({ "segment": segment, "unreadable": "all" }).to_string()
        }
        FrameSeen::Illegible { segment } => {
            format!("{segment}  UNREADABLE: no header, and no footer to take its place")
        }
        _ => return None,
    };
    Some(text)
}

fn frame_text(
    args: &Args,
    segment: &str,
    offset: u64,
    header: &FrameHeader,
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
    let about = match header.kind {
        Kind::Entry => {
            let (dead, lz4) = (
                if live { "" } else { ", no longer live" },
                if header.is_compressed() { ", lz4" } else { "" },
            );
            let text = if args.hex { String::new() } else { preview(payload, PREVIEW) };
            format!("  {} of {} bytes{lz4}{dead}  {text}", header.index, header.length)
        }
        Kind::Truncate | Kind::Trim | Kind::Reset => format!("  to {}", header.index),
        Kind::Witness => format!("  batch {} was durable", header.durable_sequence()),
        Kind::Hole => format!("  {}..{}", header.index, decode_hole(payload).unwrap_or(0)),
        Kind::Set | Kind::Clear | Kind::Attach => match decode_cell(header.kind, payload) {
            Ok(Some(CellRecord::Set { name, value })) => {
                format!("  {name} = {}", describe_cell(name, value))
            }
            Ok(Some(CellRecord::Attach { name, file })) => {
                format!("  {name} = side file {}", file.file_name())
            }
            Ok(Some(CellRecord::Clear { name })) => format!("  {name}"),
            _ => "  (not a state cell)".to_owned(),
        },
    };
    shown.push_str(&about);
    if args.hex && !payload.is_empty() {
        shown.push('\n');
        shown.push_str(hex_lines(payload).trim_end());
    }
    shown.trim_end().to_owned()
}

fn frame_json(
    segment: &str,
    offset: u64,
    header: &FrameHeader,
    payload: &[u8],
    live: bool,
) -> Value {
    json!({
        "segment": segment,
        "offset": offset,
        "kind": format!("{:?}", header.kind),
        "batch": header.sequence,
        "first": header.is_first(),
        "last": header.is_last(),
        "lag": header.lag,
        "index": header.index,
        "length": header.length,
        "lz4": header.is_compressed(),
        "live": live,
        "hex": hex(payload),
    })
}
