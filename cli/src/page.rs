//! `indelible inspect --html`: everything about a log on one page, for a report or a colleague.
//!
//! Owns: the page, which needs nothing beside itself. Does not own: any finding.

use indelible::inspect::{
    Finding, Health, Inspection, Outcome, Role, SegmentSeen, StateSeen, Verification, describe_cell,
};
use indelible::{CellValue, Error};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::exit::Exit;
use crate::groups::{Group, Told};
use crate::text::{count, in_use, meaning, numbers, size};

const STYLE: &str = "
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1d2733}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.25rem .75rem .25rem 0;
border-bottom:1px solid #e3e8ee;vertical-align:top}th{font-weight:600;color:#5b6875}
code{font:13px/1.4 ui-monospace,monospace;overflow-wrap:anywhere}
.verdict{display:inline-block;padding:.15rem .7rem;border-radius:1rem;color:#fff;font-weight:600}
.good{background:#2e7d4f}.torn{background:#b07b12}.bad{background:#b3362b}
.bar{position:relative;display:flex;height:1.1rem;background:#eef2f6;border-radius:3px;overflow:hidden;min-width:18rem}
.live{background:#2f6fb3}.trimmed{background:#a9c3dd}.truncated{background:#d99a4e}
.damage{background:#c62f24}.bar .damage{position:absolute;width:4px;height:100%}
.key span{display:inline-block;width:.9rem;height:.9rem;border-radius:2px;margin:0 .3rem 0 1rem;
vertical-align:-.1rem}.free{background:#eef2f6;border:1px solid #cfd8e0}
.muted{color:#5b6875}";

/// The page.
pub(crate) fn page(
    seen: &Inspection,
    checked: &Verification,
    found: &Told<Group>,
    exit: Exit,
) -> String {
    let title = seen.path.display().to_string();
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { "indelible: " (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { code { (title) } }
                p { (verdict(checked, exit)) " " (opens(&seen.outcome)) }
                (summary(seen, checked))
                (findings(checked, seen.state.as_ref()))
                (segments(seen, checked))
                (cells(seen))
                (groups(found))
                (slots(seen))
                (disk(seen))
                p.muted { "indelible " (env!("CARGO_PKG_VERSION")) ", a moment of the past" }
            }
        }
    };
    markup.into_string()
}

fn verdict(checked: &Verification, exit: Exit) -> Markup {
    let (class, text) = match (&checked.health, exit) {
        (Health::Clean, Exit::Sound) => ("good", "sound"),
        (Health::Clean | Health::TornTail { .. }, Exit::Torn) => ("torn", "a torn end"),
        (Health::Incomplete, _) => ("bad", "incomplete"),
        (Health::Clean, _) => ("bad", "refused"),
        (_, Exit::Unreadable) => ("bad", "of a newer build"),
        _ => ("bad", "damaged"),
    };
    html! { span class={ "verdict " (class) } { (text) } }
}

fn opens(outcome: &Outcome) -> Markup {
    html! { "An open " (crate::inspect::outcome(outcome)) "." }
}

fn row(name: &str, value: &str) -> Markup {
    html! { tr { th { (name) } td { (value) } } }
}

fn summary(seen: &Inspection, checked: &Verification) -> Markup {
    html! {
        table {
            @if let Some(state) = &seen.state {
                (row("uuid", &state.uuid.to_string()))
                (row("entries", &format!("{}..{}", state.first, state.next)))
                @if state.holes > 0 { (row("missing since a repair", &state.holes.to_string())) }
                (row("batches", &state.sequence.to_string()))
                (row("segment size", &size(state.segment_bytes)))
            }
            (row("in use", &in_use(seen.use_now)))
            (row("read", &format!(
                "{}, {}",
                size(checked.bytes),
                count(checked.entries, "sound entry", "sound entries"),
            )))
        }
    }
}

fn findings(checked: &Verification, state: Option<&StateSeen>) -> Markup {
    html! {
        h2 { "Findings" }
        @if checked.findings.is_empty() && checked.holes.is_empty() {
            p.muted { "None." }
        } @else {
            table {
                @for finding in &checked.findings {
                    tr {
                        td { code { (finding.error) } br; (meaning(finding, checked, state)) }
                    }
                }
                @for hole in &checked.holes {
                    tr { td { "entries " (hole.start) ".." (hole.end) " are missing since a repair" } }
                }
            }
        }
    }
}

fn segments(seen: &Inspection, checked: &Verification) -> Markup {
    html! {
        h2 { "Segments" }
        p.key.muted {
            span.live {} "live" span.trimmed {} "trimmed"
            span.truncated {} "truncated, or no part of the log" span.free {} "free"
            span.damage {} "a finding"
        }
        table {
            tr { th { "number" } th { "role" } th { "entries" } th { "map" } th { "size" } }
            @for gone in &seen.absent {
                tr { td { (numbers(gone)) } td colspan="4" { b { "missing" } } }
            }
            @for segment in &seen.segments {
                tr {
                    td { (segment.number) }
                    td { (role(segment)) }
                    td { (segment.live.start) ".." (segment.live.end)
                        @if segment.holes { " with holes" } }
                    td { (bar(segment, checked)) }
                    td { (size(segment.bytes)) }
                }
                @if segment.role != Role::Unnamed {
                    @if let Some(error) = &segment.header {
                        tr { td {} td colspan="4" { code { (error) } } }
                    }
                    @if let Some(error) = segment.footer {
                        tr { td {} td colspan="4" { code { (segment.name) ": " (error) } } }
                    }
                }
            }
        }
    }
}

fn role(segment: &SegmentSeen) -> &'static str {
    match segment.role {
        Role::Tail => "tail",
        Role::Sealed => "sealed",
        _ => "unnamed",
    }
}

fn bar(segment: &SegmentSeen, checked: &Verification) -> Markup {
    // Hundredths of a percent, which is as fine as anybody sees.
    let share = |bytes: u64| {
        let share = u128::from(bytes) * 10_000 / u128::from(segment.bytes.max(1));
        format!("{}.{:02}%", share / 100, share % 100)
    };
    let here = |finding: &Finding| match &finding.error {
        Error::Damaged { path, offset, .. } if path.ends_with(&segment.name) => {
            Some((*offset).min(segment.bytes))
        }
        _ => None,
    };
    html! {
        div.bar title=(format!("{} of frames", size(segment.used))) {
            div.trimmed style={ "width:" (share(segment.trimmed)) } {}
            div.live style={ "width:" (share(segment.in_use)) } {}
            div.truncated style={ "width:" (share(segment.truncated)) } {}
            @for place in checked.findings.iter().filter_map(here) {
                div.damage style={ "left:min(" (share(place)) ",100% - 4px)" } {}
            }
        }
    }
}

fn cells(seen: &Inspection) -> Markup {
    let cells = seen.state.as_ref().map(|state| state.cells.as_slice()).unwrap_or_default();
    html! {
        h2 { "Cells" }
        @if cells.is_empty() { p.muted { "None." } }
        table {
            @for (name, value) in cells {
                tr {
                    th { (name) }
                    td { code { @match value {
                        CellValue::Inline(bytes) => (describe_cell(name, bytes)),
                        CellValue::SideFile(file) => {
                            "side file " (file.file_name()) ", " (size(file.length))
                        }
                    } } }
                }
            }
        }
    }
}

fn groups(found: &Told<Group>) -> Markup {
    html! {
        @if let Some(found) = &found.0 {
            h2 { "Groups" }
            @match found {
                Ok(found) => table {
                    @for group in found {
                        tr { th { (group.id()) } td { (group.holds()) } }
                    }
                },
                Err(error) => p { "They cannot be told: " (error) },
            }
        }
    }
}

fn slots(seen: &Inspection) -> Markup {
    html! {
        h2 { "Metadata" }
        table {
            @for slot in &seen.slots {
                tr {
                    th { "slot " (slot.name) }
                    td { @match &slot.checkpoint {
                        Ok(found) => {
                            "checkpoint " (found.generation) ", batch " (found.sequence)
                            ", entries " (found.first) ".." (found.next) ", tail "
                            (found.tail_number) " at byte " (found.tail_offset)
                            @if found.clean { ", closed" }
                            @if found.creating { ", being created" }
                        }
                        Err(error) => { "unreadable: " (error) }
                    } }
                }
            }
        }
    }
}

fn disk(seen: &Inspection) -> Markup {
    let kinds = [
        ("segments", seen.disk.segments),
        ("spares", seen.disk.spares),
        ("side files", seen.disk.side_files),
        ("unfinished", seen.disk.temporary),
        ("not ours", seen.disk.foreign),
    ];
    html! {
        h2 { "Disk" }
        table {
            @for (name, (files, bytes)) in kinds {
                @if files > 0 { (row(name, &format!("{} in {}", size(bytes), count(files, "file", "files")))) }
            }
            (row("altogether", &size(seen.disk.bytes)))
        }
    }
}
