//! What the commands say of the groups that a log holds: which there are, and what each of them lost.
//!
//! Owns: the words. Does not own: how groups are read (`indelible_groups`), nor the log underneath,
//! of which each command says what it says of any log.

use std::io::Write;
use std::path::Path;

use indelible::inspect::StateSeen;
use indelible::{CellValue, Error, Log, Options};
use indelible_groups::{
    GroupDamage, Groups, GroupsOptions, STATE_LOST, SideFileRole, side_file_role,
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::exit::Exit;
use crate::json::{Cell, Span};
use crate::progress::{Meter, UNTOUCHED, Unit};
use crate::text::{count, ranges};
use crate::{Failure, How};

/// The cell that logs with groups have.
const FORMAT: &str = "groups.format";

/// What is to be done about a group that is marked.
pub(crate) const FORGETFUL: &str =
    "changes are refused until the host accepts the loss and clears the cell groups.lost";

/// A group as it would be after an open.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct Group {
    #[serde(rename = "group")]
    id: u64,
    entries: Span,
    cells: Vec<Cell>,
}

/// What a group lost.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct Hurt {
    group: u64,
    /// Its entries that cannot be read.
    entries: Vec<Span>,
    /// Its cells whose side files cannot be read.
    side_files: Vec<String>,
    /// Whether its cells and its bounds may be older than what it acknowledged.
    state: bool,
    /// The first reason; null where a repair has to come first.
    reason: Option<String>,
    #[serde(skip)]
    ranges: Vec<std::ops::Range<u64>>,
}

/// What became of the groups of a log; nothing for a log without groups.
#[derive(Debug)]
pub(crate) struct Told<T>(pub(crate) Option<Result<Vec<T>, Error>>);

/// Whether a log holds groups.
pub(crate) fn are_in(state: Option<&StateSeen>) -> bool {
    state.is_some_and(|state| state.cells.iter().any(|(name, _)| name == FORMAT))
}

/// What a cell refers to, if it is one that groups keep for themselves.
pub(crate) fn refers_to(cell: &str) -> Option<&'static str> {
    Some(match side_file_role(cell)? {
        SideFileRole::Checkpoint => "a checkpoint of the groups",
        SideFileRole::Reserve => "space that the groups keep for a full disk",
        _ => return None,
    })
}

/// What it means for the groups in a log that the side file of this cell is lost, and those of the cells
/// in `lost`; nothing if the cell is not theirs.
pub(crate) fn side_file_lost<'a>(
    cell: &str,
    lost: impl IntoIterator<Item = &'a str>,
    state: Option<&StateSeen>,
) -> Option<&'static str> {
    let is_checkpoint = |cell: &str| side_file_role(cell) == Some(SideFileRole::Checkpoint);
    let all = state.filter(|state| are_in(Some(state)) && is_checkpoint(cell))?.cells.iter();
    let sound = all.filter(|(name, _)| is_checkpoint(name)).count();
    Some(if sound > lost.into_iter().filter(|name| is_checkpoint(name)).count() {
        "the groups lose nothing: their other checkpoint is sound, and the next open takes that"
    } else {
        "the groups cannot be opened without a checkpoint; bring the file back from a backup, or \
         rebuild the node as a new member"
    })
}

/// The groups as an open would find them; if it refuses, as a repair would leave them. And whether
/// that is so.
pub(crate) fn preview(dir: &Path) -> Result<(Groups, bool), Error> {
    match Groups::preview(dir) {
        Err(Error::Damaged { .. }) => Ok((Groups::preview_repaired(dir)?.0, true)),
        opened => opened.map(|groups| (groups, false)),
    }
}

/// One group of a log.
pub(crate) fn one_of(groups: &Groups, id: u64) -> Result<indelible_groups::Group, Failure> {
    const SHOWN: usize = 16;
    groups.group(id).map_err(|_| {
        let ids = groups.ids();
        let mut known: Vec<String> = ids.iter().take(SHOWN).map(u64::to_string).collect();
        if ids.len() > SHOWN {
            known.push(format!("and {} more", ids.len() - SHOWN));
        }
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let said = format!("there is no group {id}; those in the log: {known}");
        Failure::Refused(said, None, Exit::Unreadable)
    })
}

/// Which groups there are.
pub(crate) fn found(dir: &Path, state: Option<&StateSeen>) -> Told<Group> {
    let look = || {
        let (groups, _) = preview(dir)?;
        let seen = groups.ids().into_iter().filter_map(|id| groups.group(id).ok());
        Ok(seen.map(|it| Group::new(it.id(), it.first()..it.next(), &it.cells())).collect())
    };
    Told(are_in(state).then(look))
}

/// What each group lost as the log is now.
pub(crate) fn hurt(dir: &Path, state: Option<&StateSeen>, how: How) -> Told<Hurt> {
    lost(state, how, || preview(dir))
}

/// What each group would have lost after a repair.
pub(crate) fn lost_by_repair(dir: &Path, state: Option<&StateSeen>, how: How) -> Told<Hurt> {
    lost(state, how, || Ok((Groups::preview_repaired(dir)?.0, true)))
}

/// The groups that may have forgotten what they promised, by their cell: nothing else of them is read.
pub(crate) fn marked(dir: &Path, state: Option<&StateSeen>) -> Told<Hurt> {
    let look = || {
        let (groups, _) = preview(dir)?;
        let all = groups.ids().into_iter().filter_map(|id| groups.group(id).ok());
        Ok(all.filter(is_marked).map(|it| Hurt::forgetful(it.id())).collect())
    };
    Told(are_in(state).then(look))
}

/// Whether a group may have forgotten what it promised.
pub(crate) fn is_marked(group: &indelible_groups::Group) -> bool {
    group.cell(STATE_LOST).is_some()
}

fn lost(
    state: Option<&StateSeen>,
    how: How,
    open: impl FnOnce() -> Result<(Groups, bool), Error>,
) -> Told<Hurt> {
    let look = || {
        let (groups, repaired) = open()?;
        let mut meter = Meter::new("groups", Unit::Entries, how, UNTOUCHED);
        let lost = groups.verify_with(&mut |it| meter.at(it))?;
        Ok(lost.iter().map(|it| Hurt::new(it, repaired)).collect())
    };
    Told(are_in(state).then(look))
}

impl Group {
    fn new(id: u64, entries: std::ops::Range<u64>, cells: &[(String, CellValue)]) -> Self {
        let cells = cells.iter().map(|(name, value)| Cell::new(name, value)).collect();
        Self { id, entries: Span::from(&entries), cells }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// What it holds, in words.
    pub(crate) fn holds(&self) -> String {
        let entries = count(self.entries.count(), "entry", "entries");
        let cells = count(u64::try_from(self.cells.len()).unwrap_or(u64::MAX), "cell", "cells");
        format!("entries {} ({entries}), {cells}", self.entries)
    }
}

impl Hurt {
    fn new(damage: &GroupDamage, repaired: bool) -> Self {
        let ranges: Vec<_> = damage.entries.iter().map(|(range, _)| range.clone()).collect();
        let first = damage.entries.iter().map(|(_, error)| error);
        let first = first.chain(damage.side_files.iter().map(|(_, error)| error)).next();
        let is_told = |error: &&Error| !repaired && !matches!(error, Error::Hole { .. });
        Self {
            group: damage.group,
            entries: ranges.iter().map(Span::from).collect(),
            side_files: damage.side_files.iter().map(|(name, _)| name.clone()).collect(),
            state: damage.state,
            reason: first.filter(is_told).map(ToString::to_string),
            ranges,
        }
    }

    /// A group of which nothing is known to be lost.
    fn forgetful(group: u64) -> Self {
        let (entries, side_files, ranges) = (Vec::new(), Vec::new(), Vec::new());
        Self { group, entries, side_files, state: true, reason: None, ranges }
    }

    fn line(&self) -> String {
        let mut lost = Vec::new();
        if !self.ranges.is_empty() {
            lost.push(format!("entries {}", ranges(&self.ranges)));
        }
        lost.extend(self.side_files.iter().map(|name| format!("the side file of {name}")));
        if self.state {
            lost.push("maybe changes of its cells".to_owned());
        }
        format!("{:>8}  {}", self.group, lost.join(", "))
    }
}

impl Told<Hurt> {
    /// What a log is by what its groups lost.
    pub(crate) fn judge(&self) -> Exit {
        match &self.0 {
            Some(Ok(hurt)) if !hurt.is_empty() => Exit::Damaged,
            Some(Err(error @ Error::Damaged { .. })) => Exit::of(error),
            _ => Exit::Sound,
        }
    }
}

/// Says which groups there are.
pub(crate) fn say_found(told: &Told<Group>, out: &mut dyn Write) -> std::io::Result<()> {
    let Some(told) = &told.0 else { return Ok(()) };
    writeln!(out, "\ngroups")?;
    match told {
        Ok(groups) if groups.is_empty() => writeln!(out, "  (none)"),
        Ok(groups) => {
            groups.iter().try_for_each(|it| writeln!(out, "{:>8}  {}", it.id(), it.holds()))
        }
        Err(error) => writeln!(out, "  cannot be told: {error}"),
    }
}

/// Says what each group lost.
pub(crate) fn say_hurt(told: &Told<Hurt>, out: &mut dyn Write) -> std::io::Result<()> {
    match &told.0 {
        None => Ok(()),
        Some(Ok(hurt)) if hurt.is_empty() => writeln!(out, "no group lacks anything"),
        Some(Ok(hurt)) => {
            writeln!(out, "lost by group")?;
            hurt.iter().try_for_each(|it| writeln!(out, "{}", it.line()))
        }
        Some(Err(error)) => writeln!(out, "what the groups lost cannot be told: {error}"),
    }
}

/// For the documents: nothing where it cannot be told.
pub(crate) fn listed<T: Clone>(told: &Told<T>) -> Option<Vec<T>> {
    told.0.as_ref().and_then(|told| told.as_ref().ok()).cloned()
}

/// The log of another node, in which a group is.
pub(crate) enum Peer {
    Group(indelible_groups::Group),
    /// A group that was taken out into a log of its own.
    Log(Log),
}

/// A group in another log, which is only read; if that holds no groups, all of it.
pub(crate) fn peer(dir: &Path, id: u64) -> Result<Peer, Failure> {
    let log = match indelible::repair::preview(dir) {
        Err(Error::Damaged { .. }) => indelible::repair::preview_repaired(dir)?.0,
        log => log?,
    };
    if !indelible_groups::holds_groups(&log) {
        return Ok(Peer::Log(log));
    }
    let groups = Groups::from_log(log, &GroupsOptions::new())?;
    one_of(&groups, id).map(Peer::Group)
}

/// The groups of a log, to be written to. What is missing since a repair is allowed for.
pub(crate) fn open(dir: &Path) -> Result<Groups, Error> {
    let log = Options::new().background(false).allow_holes(true);
    let (log, _) = Log::open(dir, &log)?;
    if !indelible_groups::holds_groups(&log) {
        log.close()?;
        return Err(Error::InvalidArgument { what: "log", reason: "it holds no groups" });
    }
    Groups::from_log(log, &GroupsOptions::new())
}
