//! What the library sees, as JSON values.

use indelible::format::CellValue;
use indelible::inspect::{
    DiskUse, Finding, InUse, Inspection, Meaning, Outcome, Role, SegmentSeen, SlotSeen,
    describe_cell,
};
use serde_json::{Value, json};

use crate::text::hex;

pub(crate) fn inspection(seen: &Inspection) -> Value {
    json!({
        "path": seen.path.display().to_string(),
        "in_use": in_use(seen.use_now),
        "outcome": outcome(&seen.outcome),
        "state": seen.state.as_ref().map(|state| json!({
            "uuid": state.uuid.to_string(),
            "first": state.first,
            "next": state.next,
            "holes": state.holes,
            "sequence": state.sequence,
            "segment_bytes": state.segment_bytes,
            "cells": cells(&state.cells),
        })),
        "slots": seen.slots.iter().map(slot).collect::<Vec<_>>(),
        "segments": seen.segments.iter().map(segment).collect::<Vec<_>>(),
        "side_files": seen.side_files.iter().map(|file| json!({
            "name": file.name, "bytes": file.bytes, "cell": file.cell,
        })).collect::<Vec<_>>(),
        "disk": disk(&seen.disk),
    })
}

fn in_use(use_now: InUse) -> Value {
    match use_now {
        InUse::No => json!({ "open": false }),
        InUse::Yes(pid) => json!({ "open": true, "pid": pid }),
        InUse::Unknown(pid) => json!({ "open": null, "pid": pid }),
        _ => Value::Null,
    }
}

fn outcome(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::NoLog => json!({ "open": "no log" }),
        Outcome::FinishesCreate => json!({ "open": "finishes create" }),
        Outcome::Clean => json!({ "open": "clean" }),
        Outcome::Recovers { batches, entries } => {
            json!({ "open": "recovers", "batches": batches, "entries": entries })
        }
        Outcome::DropsTornTail { path, offset, sequence, bytes } => json!({
            "open": "drops torn tail",
            "path": path.display().to_string(),
            "offset": offset,
            "sequence": sequence,
            "bytes": bytes,
        }),
        Outcome::Refuses(error) => json!({ "open": "refuses", "error": error.to_string() }),
        _ => Value::Null,
    }
}

/// The cells, each with its value and what it says.
pub(crate) fn cells(cells: &[(String, CellValue)]) -> Value {
    cells
        .iter()
        .map(|(name, value)| match value {
            CellValue::Inline(bytes) => json!({
                "name": name, "hex": hex(bytes), "text": describe_cell(name, bytes),
            }),
            CellValue::SideFile(file) => json!({
                "name": name, "side_file": file.file_name(), "bytes": file.length,
            }),
        })
        .collect()
}

fn slot(slot: &SlotSeen) -> Value {
    match &slot.checkpoint {
        Ok(found) => json!({
            "slot": slot.name,
            "valid": true,
            "generation": found.generation,
            "sequence": found.sequence,
            "first": found.first,
            "next": found.next,
            "holes": found.holes,
            "tail_number": found.tail_number,
            "tail_offset": found.tail_offset,
            "reach": found.reach,
            "clean": found.clean,
            "creating": found.creating,
            "runs": found.runs,
        }),
        Err(error) => json!({ "slot": slot.name, "valid": false, "reason": error.to_string() }),
    }
}

fn segment(seen: &SegmentSeen) -> Value {
    json!({
        "name": seen.name,
        "number": seen.number,
        "base": seen.base,
        "bytes": seen.bytes,
        "role": role(seen.role),
        "header": seen.header.map(|error| error.to_string()),
        "footer": seen.footer.map(|error| error.to_string()),
        "first": seen.live.start,
        "next": seen.live.end,
        "used": seen.used,
        "trimmed": seen.trimmed,
        "live": seen.in_use,
        "truncated": seen.truncated,
        "holes": seen.holes,
    })
}

pub(crate) fn role(role: Role) -> &'static str {
    match role {
        Role::Tail => "tail",
        Role::Sealed => "sealed",
        _ => "unnamed",
    }
}

fn disk(disk: &DiskUse) -> Value {
    let kind = |(count, bytes): (u64, u64)| json!({ "files": count, "bytes": bytes });
    json!({
        "segments": kind(disk.segments),
        "spares": kind(disk.spares),
        "side_files": kind(disk.side_files),
        "temporary": kind(disk.temporary),
        "foreign": kind(disk.foreign),
        "bytes": disk.bytes,
    })
}

pub(crate) fn finding(finding: &Finding) -> Value {
    let mut value = json!({
        "error": finding.error.to_string(),
        "meaning": meaning(finding.meaning),
    });
    if let (indelible::Error::Damaged { path, offset, indexes, .. }, Some(fields)) =
        (&finding.error, value.as_object_mut())
    {
        fields.insert("path".to_owned(), json!(path.display().to_string()));
        fields.insert("offset".to_owned(), json!(offset));
        let range = indexes.as_ref().map(|range| [range.start, range.end]);
        fields.insert("entries".to_owned(), json!(range));
    }
    value
}

fn meaning(meaning: Meaning) -> &'static str {
    match meaning {
        Meaning::Redundant => "redundant",
        Meaning::Dead => "dead",
        Meaning::Entries => "entries",
        Meaning::State => "state",
        Meaning::Checkpoint => "checkpoint",
        Meaning::SideFile => "side file",
        _ => "unsupported",
    }
}
