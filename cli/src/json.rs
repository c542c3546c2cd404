//! What the commands print with `--json`: one document, or one per line.
//!
//! Owns: the types, which are the schema `docs/schema/indelible-1.json`; a test compares them.
//! Does not own: any finding.

mod dump;

use std::io::Write;
use std::ops::Range;

use indelible::CellValue;
use indelible::inspect::{
    Comparison, Finding, InUse, Inspection, Meaning, Outcome, Role, SegmentSeen, SlotSeen,
    Verification, describe_cell,
};
use indelible::repair::{Loss, Plan, Refilled, Step};
use indelible_groups::GroupRefilled;
use schemars::JsonSchema;
use serde::Serialize;

pub(crate) use self::dump::{Entry, Frame, Gap};
use crate::bench::Report;
use crate::exit::Exit;
use crate::groups::{Group, Hurt};
use crate::progress::Unit;
use crate::text::hex;

/// The version of the documents. A field may be added without another one; none changes or goes.
pub(crate) const VERSION: u32 = 1;

/// What is printed.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Document {
    /// The version of this schema.
    version: u32,
    /// What it is, in the field of the same name.
    #[serde(flatten)]
    body: Body,
}

/// The kinds of documents.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Body {
    /// Of `inspect`.
    Inspection(Box<LogSeen>),
    /// Of `verify`.
    Verification(Checked),
    /// Of `compare`.
    Comparison(Difference),
    /// Of `backup`.
    Backup(Made),
    /// Of `repair --plan`.
    Plan(Planned),
    /// Of `repair --apply`.
    Repair(Planned),
    /// Of `refill`.
    Refill(RefillDone),
    /// Of `dump`: one entry.
    Entry(Entry),
    /// Of `dump`: entries that are missing since a repair.
    Missing(Span),
    /// Of `dump`: entries that cannot be read.
    Unreadable(Unread),
    /// Of `dump --frames`: one frame.
    Frame(Frame),
    /// Of `dump --frames`: a place without a sound frame, a whole segment, or one that is not there.
    Gap(Gap),
    /// Of `dump --state`: one cell.
    Cell(Cell),
    /// Of `bench`.
    Bench(Box<Report>),
    /// Of `bench --remove-leftovers`: the directories that were removed.
    Removed(Vec<String>),
    /// How far long work has come, on standard error where that is no terminal.
    Progress(Advance),
    /// A command that failed, or a note beside its output, on standard error.
    Error(Failed),
}

/// A half-open range.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct Span {
    first: u64,
    next: u64,
}

impl Span {
    pub(crate) fn count(&self) -> u64 {
        self.next.saturating_sub(self.first)
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}..{}", self.first, self.next)
    }
}

impl From<&Range<u64>> for Span {
    fn from(range: &Range<u64>) -> Self {
        Self { first: range.start, next: range.end }
    }
}

fn spans(ranges: &[Range<u64>]) -> Vec<Span> {
    ranges.iter().map(Span::from).collect()
}

/// An error: a damage with its place, or anything else.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct Failed {
    /// In words.
    message: String,
    /// What to do about it, if there is a rule.
    advice: Option<String>,
    /// The exit code that goes with it.
    exit: u8,
    /// Of a damage: the file.
    path: Option<String>,
    /// Of a damage: its first byte.
    offset: Option<u64>,
    /// Of a damage: the entries, if they are known. `next` is 2^64 - 1 if there is no known end.
    entries: Option<Span>,
}

impl Failed {
    pub(crate) fn new(message: String, advice: Option<&str>, exit: Exit) -> Self {
        let (advice, exit) = (advice.map(str::to_owned), exit.code());
        Self { message, advice, exit, path: None, offset: None, entries: None }
    }
}

impl From<&indelible::Error> for Failed {
    fn from(error: &indelible::Error) -> Self {
        let mut failed = Self::new(error.to_string(), crate::advice(error), Exit::of(error));
        if let indelible::Error::Damaged { path, offset, indexes, .. } = error {
            failed.path = Some(path.display().to_string());
            failed.offset = Some(*offset);
            failed.entries = indexes.as_ref().map(Span::from);
        }
        failed
    }
}

/// A log as `inspect` sees it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct LogSeen {
    path: String,
    /// Whether a process has it open; null if that cannot be told.
    in_use: Option<bool>,
    /// That process, or the last one.
    process: Option<u32>,
    /// What an open would do.
    open: Open,
    /// What an open would not notice, and the first read or roll after it.
    latent: Option<Failed>,
    /// Bounds and cells after that open.
    state: Option<State>,
    slots: Vec<SlotState>,
    segments: Vec<Segment>,
    /// Numbers of segments that are not there.
    absent: Vec<Span>,
    side_files: Vec<SideFile>,
    disk: Disk,
    /// The groups in the log; null if it holds none, or they cannot be told.
    groups: Option<Vec<Group>>,
}

/// What an open would do.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "does")]
enum Open {
    /// There is no log.
    FindsNone,
    /// It ends a creation that was cut short.
    FinishesCreate,
    /// It goes on where the close left off.
    GoesOn,
    /// It replays whole batches.
    Recovers { batches: u64, entries: u64 },
    /// It drops an unfinished end.
    DropsTornEnd { path: String, offset: u64, batch: u64, bytes: u64 },
    /// It refuses.
    Refuses { error: Failed },
}

#[derive(Debug, Serialize, JsonSchema)]
struct State {
    uuid: String,
    first: u64,
    next: u64,
    /// Entries that are missing since a repair.
    holes: u64,
    /// The last batch.
    batch: u64,
    segment_bytes: u64,
    cells: Vec<Cell>,
}

/// A state cell: its bytes, or a side file.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct Cell {
    name: String,
    hex: Option<String>,
    /// What the bytes say.
    text: Option<String>,
    side_file: Option<String>,
    bytes: u64,
}

impl Cell {
    pub(crate) fn new(name: &str, value: &CellValue) -> Self {
        let name = name.to_owned();
        match value {
            CellValue::Inline(bytes) => Self {
                hex: Some(hex(bytes)),
                text: Some(describe_cell(&name, bytes)),
                side_file: None,
                bytes: number(bytes.len()),
                name,
            },
            CellValue::SideFile(file) => {
                let (side_file, bytes) = (Some(file.file_name()), file.length);
                Self { name, hex: None, text: None, side_file, bytes }
            }
        }
    }
}

fn number(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// A metadata slot: a checkpoint, or the reason why there is none.
#[derive(Debug, Serialize, JsonSchema)]
struct SlotState {
    slot: char,
    reason: Option<String>,
    checkpoint: Option<Checkpoint>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Checkpoint {
    generation: u64,
    batch: u64,
    first: u64,
    next: u64,
    holes: u64,
    tail_number: u64,
    tail_offset: u64,
    reach: u64,
    clean: bool,
    creating: bool,
}

impl From<&SlotSeen> for SlotState {
    fn from(seen: &SlotSeen) -> Self {
        let checkpoint = seen.checkpoint.as_ref().ok().map(|found| Checkpoint {
            generation: found.generation,
            batch: found.sequence,
            first: found.first,
            next: found.next,
            holes: found.holes,
            tail_number: found.tail_number,
            tail_offset: found.tail_offset,
            reach: found.reach,
            clean: found.clean,
            creating: found.creating,
        });
        let reason = seen.checkpoint.as_ref().err().map(ToString::to_string);
        Self { slot: seen.name, reason, checkpoint }
    }
}

/// A segment file. `trimmed + live + truncated` bytes are `used`.
#[derive(Debug, Serialize, JsonSchema)]
struct Segment {
    name: String,
    number: u64,
    base: u64,
    bytes: u64,
    role: SegmentRole,
    /// Why its header is not to be believed.
    header: Option<String>,
    /// Why its footer is not to be believed.
    footer: Option<String>,
    entries: Span,
    used: u64,
    trimmed: u64,
    live: u64,
    truncated: u64,
    holes: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum SegmentRole {
    Tail,
    Sealed,
    /// No checkpoint names it.
    Unnamed,
}

impl From<&SegmentSeen> for Segment {
    fn from(seen: &SegmentSeen) -> Self {
        Self {
            name: seen.name.clone(),
            number: seen.number,
            base: seen.base,
            bytes: seen.bytes,
            role: match seen.role {
                Role::Tail => SegmentRole::Tail,
                Role::Sealed => SegmentRole::Sealed,
                _ => SegmentRole::Unnamed,
            },
            header: seen.header.as_ref().map(ToString::to_string),
            footer: seen.footer.map(|error| error.to_string()),
            entries: Span::from(&seen.live),
            used: seen.used,
            trimmed: seen.trimmed,
            live: seen.in_use,
            truncated: seen.truncated,
            holes: seen.holes,
        }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
struct SideFile {
    name: String,
    bytes: u64,
    /// The cell that refers to it.
    cell: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Disk {
    segments: Files,
    spares: Files,
    side_files: Files,
    temporary: Files,
    foreign: Files,
    bytes: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Files {
    files: u64,
    bytes: u64,
}

impl From<(u64, u64)> for Files {
    fn from((files, bytes): (u64, u64)) -> Self {
        Self { files, bytes }
    }
}

impl LogSeen {
    pub(crate) fn new(seen: &Inspection, groups: Option<Vec<Group>>) -> Self {
        let (in_use, process) = match seen.use_now {
            InUse::No => (Some(false), None),
            InUse::Yes(pid) => (Some(true), pid),
            InUse::Unknown(pid) => (None, pid),
            _ => (None, None),
        };
        let disk = &seen.disk;
        Self {
            path: seen.path.display().to_string(),
            in_use,
            process,
            open: Open::from(&seen.outcome),
            latent: seen.latent.as_ref().map(Failed::from),
            state: seen.state.as_ref().map(|state| State {
                uuid: state.uuid.to_string(),
                first: state.first,
                next: state.next,
                holes: state.holes,
                batch: state.sequence,
                segment_bytes: state.segment_bytes,
                cells: state.cells.iter().map(|(name, value)| Cell::new(name, value)).collect(),
            }),
            slots: seen.slots.iter().map(SlotState::from).collect(),
            segments: seen.segments.iter().map(Segment::from).collect(),
            absent: spans(&seen.absent),
            side_files: seen
                .side_files
                .iter()
                .map(|file| SideFile {
                    name: file.name.clone(),
                    bytes: file.bytes,
                    cell: file.cell.clone(),
                })
                .collect(),
            disk: Disk {
                segments: disk.segments.into(),
                spares: disk.spares.into(),
                side_files: disk.side_files.into(),
                temporary: disk.temporary.into(),
                foreign: disk.foreign.into(),
                bytes: disk.bytes,
            },
            groups,
        }
    }
}

impl From<&Outcome> for Open {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::FinishesCreate => Self::FinishesCreate,
            Outcome::Clean => Self::GoesOn,
            Outcome::Recovers { batches, entries } => {
                Self::Recovers { batches: *batches, entries: *entries }
            }
            Outcome::DropsTornTail { path, offset, sequence, bytes } => Self::DropsTornEnd {
                path: path.display().to_string(),
                offset: *offset,
                batch: *sequence,
                bytes: *bytes,
            },
            Outcome::Refuses(error) => Self::Refuses { error: error.into() },
            _ => Self::FindsNone,
        }
    }
}

/// What `verify` found.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Checked {
    health: Health,
    /// Of a torn end: the file, and where it starts.
    torn_path: Option<String>,
    torn_offset: Option<u64>,
    findings: Vec<Found>,
    /// Entries that are missing since a repair.
    holes: Vec<Span>,
    entries: u64,
    segments: u64,
    bytes: u64,
    /// What groups lost; null if the log holds none, they lost nothing, or it cannot be told.
    groups: Option<Vec<Hurt>>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Health {
    Clean,
    TornTail,
    Incomplete,
    Damaged,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Found {
    error: Failed,
    meaning: Means,
    /// Of a side file: the cell that refers to it.
    cell: Option<String>,
}

/// What a finding means, as docs/OPERATIONS.md explains.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Means {
    Redundant,
    Dead,
    Blocking,
    Entries,
    State,
    Checkpoint,
    SideFile,
    Displaced,
    Unsupported,
}

impl From<&Finding> for Found {
    fn from(finding: &Finding) -> Self {
        let meaning = match finding.meaning {
            Meaning::Redundant => Means::Redundant,
            Meaning::Dead => Means::Dead,
            Meaning::Blocking => Means::Blocking,
            Meaning::Entries => Means::Entries,
            Meaning::State => Means::State,
            Meaning::Checkpoint => Means::Checkpoint,
            Meaning::SideFile => Means::SideFile,
            Meaning::Displaced => Means::Displaced,
            _ => Means::Unsupported,
        };
        Self { error: Failed::from(&finding.error), meaning, cell: finding.cell.clone() }
    }
}

impl Checked {
    pub(crate) fn new(seen: &Verification, groups: Option<Vec<Hurt>>) -> Self {
        use indelible::inspect::Health as Seen;
        let (health, torn) = match &seen.health {
            Seen::Clean => (Health::Clean, None),
            Seen::TornTail { path, offset } => (Health::TornTail, Some((path, *offset))),
            Seen::Incomplete => (Health::Incomplete, None),
            _ => (Health::Damaged, None),
        };
        Self {
            health,
            torn_path: torn.map(|(path, _)| path.display().to_string()),
            torn_offset: torn.map(|(_, offset)| offset),
            findings: seen.findings.iter().map(Found::from).collect(),
            holes: spans(&seen.holes),
            entries: seen.entries,
            segments: seen.segments,
            bytes: seen.bytes,
            groups,
        }
    }
}

/// What `compare` found.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Difference {
    /// The entries that were compared.
    entries: Span,
    /// The first log states those before it as decided, or committed; null if it states none.
    decided_a: Option<u64>,
    /// The same of the second.
    decided_b: Option<u64>,
    /// Entries that are the same.
    same: u64,
    /// The first entry that is not.
    differs_at: Option<u64>,
    /// Its first byte that is not.
    byte: Option<u64>,
    ranges: Vec<Sums>,
    /// In the first log.
    unreadable_a: Vec<Unread>,
    /// In the second.
    unreadable_b: Vec<Unread>,
}

/// The checksums of some entries in both logs; null where some cannot be read.
#[derive(Debug, Serialize, JsonSchema)]
struct Sums {
    entries: Span,
    a: Option<u32>,
    b: Option<u32>,
}

/// Entries that cannot be read, and why.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Unread {
    entries: Span,
    reason: String,
}

impl Unread {
    pub(crate) fn new(entries: &Range<u64>, reason: String) -> Self {
        Self { entries: entries.into(), reason }
    }
}

impl From<&Comparison> for Difference {
    fn from(seen: &Comparison) -> Self {
        let unread = |side: &[(Range<u64>, String)]| {
            side.iter().map(|(range, reason)| Unread::new(range, reason.clone())).collect()
        };
        let [a, b] = &seen.unreadable;
        Self {
            entries: Span::from(&seen.entries),
            decided_a: seen.decided[0],
            decided_b: seen.decided[1],
            same: seen.same,
            differs_at: seen.difference.as_ref().map(|it| it.index),
            byte: seen.difference.as_ref().map(|it| it.at),
            ranges: seen
                .ranges
                .iter()
                .map(|it| Sums { entries: Span::from(&it.entries), a: it.sums[0], b: it.sums[1] })
                .collect(),
            unreadable_a: unread(a),
            unreadable_b: unread(b),
        }
    }
}

/// What `backup` made.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Made {
    uuid: String,
    destination: String,
    entries: Span,
    linked: u64,
    copied: u64,
    bytes_copied: u64,
    entries_verified: u64,
}

impl Made {
    pub(crate) fn new(copy: &indelible::Backup, destination: String) -> Self {
        Self {
            uuid: copy.uuid.to_string(),
            destination,
            entries: Span::from(&(copy.first..copy.next)),
            linked: copy.linked,
            copied: copy.copied,
            bytes_copied: copy.bytes_copied,
            entries_verified: copy.entries_verified,
        }
    }
}

/// A repair, planned or done.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Planned {
    /// Why nothing can be done.
    obstacle: Option<String>,
    steps: Vec<Does>,
    losses: Vec<Lost>,
    /// Where the files are as they were.
    kept: Option<String>,
    /// What groups lose; null if the log holds none, or it cannot be told.
    groups: Option<Vec<Hurt>>,
}

/// One step of a repair.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "does")]
enum Does {
    /// A file gets the name back that its header states.
    Rename { segment: String, to: String },
    /// A segment is written anew, with entries marked as missing.
    Rebuild { segment: String, missing: Vec<Span> },
    /// One that is not there is written, all entries marked as missing.
    Recreate { number: u64, missing: Span },
    /// What is left of the tail goes to a new segment.
    ReplaceTail { segment: String, number: u64, missing: Vec<Span> },
    /// A side file is written anew, filled with zeros.
    SideFile { file: String, cell: String },
}

/// Something that is lost.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "what")]
enum Lost {
    Entries {
        ranges: Vec<Span>,
    },
    /// Readable, and given up: a missing segment may have replaced them.
    Replaceable {
        ranges: Vec<Span>,
    },
    Batches {
        first: u64,
        next: u64,
    },
    /// From this one on, if there were any: nobody can tell.
    Unknown {
        first: u64,
    },
    /// What a cell refers to.
    SideFile {
        file: String,
        cell: String,
    },
}

impl Planned {
    pub(crate) fn new(plan: &Plan, kept: Option<String>, groups: Option<Vec<Hurt>>) -> Self {
        let steps = plan.steps.iter().filter_map(|step| match step {
            Step::Rename { segment, to } => {
                Some(Does::Rename { segment: segment.clone(), to: to.clone() })
            }
            Step::Rebuild { segment, missing } => {
                Some(Does::Rebuild { segment: segment.clone(), missing: spans(missing) })
            }
            Step::Recreate { number, missing } => {
                Some(Does::Recreate { number: *number, missing: Span::from(missing) })
            }
            Step::ReplaceTail { segment, number, missing } => {
                let (segment, missing) = (segment.clone(), spans(missing));
                Some(Does::ReplaceTail { segment, number: *number, missing })
            }
            Step::SideFile { file, cell } => {
                Some(Does::SideFile { file: file.clone(), cell: cell.clone() })
            }
            _ => None,
        });
        let losses = plan.losses.iter().filter_map(|loss| match loss {
            Loss::Entries(ranges) => Some(Lost::Entries { ranges: spans(ranges) }),
            Loss::Replaceable(ranges) => Some(Lost::Replaceable { ranges: spans(ranges) }),
            Loss::Batches(range) => Some(Lost::Batches { first: range.start, next: range.end }),
            Loss::Unknown(first) => Some(Lost::Unknown { first: *first }),
            Loss::SideFile { file, cell } => {
                Some(Lost::SideFile { file: file.clone(), cell: cell.clone() })
            }
            _ => None,
        });
        Self {
            obstacle: plan.obstacle.as_ref().map(ToString::to_string),
            steps: steps.collect(),
            losses: losses.collect(),
            kept,
            groups,
        }
    }
}

/// What `refill` did.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RefillDone {
    filled: u64,
    put_back: Vec<Span>,
    missing: Vec<Span>,
    /// Of a group: whether its cells and its bounds may be older than what it acknowledged.
    state: bool,
    /// Why it did not go on.
    stopped: Option<Failed>,
}

impl From<&Refilled> for RefillDone {
    fn from(done: &Refilled) -> Self {
        Self {
            filled: done.filled,
            put_back: spans(&done.put_back),
            missing: spans(&done.missing),
            state: false,
            stopped: done.stopped.as_ref().map(Failed::from),
        }
    }
}

impl RefillDone {
    pub(crate) fn of_group(done: &GroupRefilled, state: bool) -> Self {
        Self {
            filled: done.put_back.iter().map(|range| range.end - range.start).sum(),
            put_back: spans(&done.put_back),
            missing: spans(&done.missing),
            state,
            stopped: done.stopped.as_ref().map(Failed::from),
        }
    }
}

/// How far a piece of work has come.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Advance {
    pub(crate) what: String,
    pub(crate) unit: Unit,
    pub(crate) done: u64,
    pub(crate) total: u64,
    /// At the pace so far.
    pub(crate) seconds_left: u64,
}

/// Writes one document, on a line of its own.
pub(crate) fn print(out: &mut dyn Write, body: Body) -> crate::Outcome {
    let document = Document { version: VERSION, body };
    serde_json::to_writer(&mut *out, &document).map_err(std::io::Error::from)?;
    writeln!(out)?;
    Ok(Exit::Sound)
}

#[cfg(test)]
mod tests {
    use super::{Document, VERSION};

    #[test]
    fn the_schema_in_the_documents_is_that_of_the_types() {
        let schema = schemars::schema_for!(Document);
        let shown = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        let path = format!("{}/docs/schema/indelible-{VERSION}.json", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("INDELIBLE_BLESS").is_some() {
            std::fs::write(&path, &shown).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == shown, "{path} differs (INDELIBLE_BLESS=1 accepts it)");
    }
}
