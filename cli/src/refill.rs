//! `indelible refill`: entries that a repair marked as missing, from another node's log.

use std::io::Write;
use std::path::{Path, PathBuf};

use indelible::inspect::inspect;
use indelible::repair::{FromPeer, RefillError, Refilled, Refusal, refill_from};
use indelible_groups::GroupRefilled;

use crate::exit::Exit;
use crate::groups::{self, Peer};
use crate::json::{Body, RefillDone, print};
use crate::progress::{GOES_ON, Meter, Unit};
use crate::text::{count, ranges, refuse_same};
use crate::{Dir, Failure, How};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    dir: Dir,
    /// The directory of another node's log of the same group. It is only read.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Takes only entries before this index. What is decided, or committed, is the same on every
    /// node; what comes after need not be. By default what the other log states as decided; one of
    /// d-engine states nothing: give the committed index plus one.
    #[arg(long, value_name = "INDEX")]
    to: Option<u64>,
    /// Puts back what one group of a log of groups lost, from the same group of the other log, or
    /// from a log that the group was taken out into.
    #[arg(long, value_name = "ID")]
    group: Option<u64>,
    /// Goes beyond what the other log states as decided, and without an entry that shows that both
    /// are of one group. An entry that differs is refused all the same.
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: &Args, how: How, out: &mut dyn Write) -> crate::Outcome {
    refuse_same(&args.dir.dir, &args.from)?;
    if let Some(id) = args.group {
        return one_group(args, id, how, out);
    }
    by_group_or_as_a_whole(args)?;
    let peer = FromPeer::new().to(args.to).force(args.force);
    let mut meter = Meter::new("refill", Unit::Entries, how, GOES_ON);
    let done = refill_from(&args.dir.dir, &args.from, &peer, &mut |it| meter.at(it));
    drop(meter);
    let done = done.map_err(|error| failed(args, error))?;
    let exit = match (&done.stopped, done.missing.is_empty()) {
        (Some(error), _) => Exit::of(error),
        (None, true) => Exit::Sound,
        (None, false) => Exit::Damaged,
    };
    if how.json {
        print(out, Body::Refill(RefillDone::from(&done)))?;
        return Ok(exit);
    }
    report(&done, out)?;
    Ok(exit)
}

/// Two nodes hold the same groups and never the same records in the same order. Only a copy of a log
/// of groups can refill it as a whole.
fn by_group_or_as_a_whole(args: &Args) -> Result<(), Failure> {
    let ours = inspect(&args.dir.dir)?.state;
    if !groups::are_in(ours.as_ref()) {
        return Ok(());
    }
    let theirs = inspect(&args.from)?.state;
    if ours.map(|it| it.uuid) == theirs.map(|it| it.uuid) {
        return Ok(());
    }
    let said = format!("{} holds groups: each is refilled by itself", args.dir.dir.display());
    let advice = Some("--group ID; `indelible verify` says which lost something");
    Err(Failure::Refused(said, advice, Exit::Usage))
}

/// One group of a log of groups. Everything else in it stays as it is.
fn one_group(args: &Args, id: u64, how: How, out: &mut dyn Write) -> crate::Outcome {
    let groups = groups::open(&args.dir.dir)?;
    let ours = groups::one_of(&groups, id)?;
    let mut meter = Meter::new("refill", Unit::Entries, how, GOES_ON);
    let mut progress = |it| meter.at(it);
    let done = match groups::peer(&args.from, id)? {
        Peer::Group(peer) => ours.refill_from(&peer, args.to, args.force, &mut progress),
        Peer::Log(peer) => ours.refill_from(&peer, args.to, args.force, &mut progress),
    };
    drop(meter);
    let done = done.map_err(|error| failed(args, error))?;
    let is_marked = groups::is_marked(&ours);
    groups.close()?;
    let exit = match (&done.stopped, done.missing.is_empty() && !is_marked) {
        (Some(error), _) => Exit::of(error),
        (None, true) => Exit::Sound,
        (None, false) => Exit::Damaged,
    };
    if how.json {
        print(out, Body::Refill(RefillDone::of_group(&done, is_marked)))?;
        return Ok(exit);
    }
    report_group(id, &done, is_marked, out)?;
    Ok(exit)
}

fn report_group(
    id: u64,
    done: &GroupRefilled,
    is_marked: bool,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let entries = if is_marked { "has all its entries" } else { "is whole" };
    if done.put_back.is_empty() && done.missing.is_empty() {
        let lacks = if is_marked { "no entry" } else { "nothing" };
        writeln!(out, "group {id} lacks {lacks}, nothing was changed")?;
        return forgetful(is_marked, out);
    }
    let filled: u64 = done.put_back.iter().map(|it| it.end - it.start).sum();
    let which = if filled > 0 { format!(": {}", ranges(&done.put_back)) } else { String::new() };
    writeln!(out, "put back {}{which}", count(filled, "entry", "entries"))?;
    if done.missing.is_empty() {
        writeln!(out, "group {id} {entries}")?;
    } else {
        writeln!(out, "still missing: {}", ranges(&done.missing))?;
    }
    forgetful(is_marked, out)?;
    stopped(done.stopped.as_ref(), out)
}

/// What no refill brings back.
fn forgetful(is_marked: bool, out: &mut dyn Write) -> std::io::Result<()> {
    if is_marked {
        writeln!(out, "it may have lost changes of its cells: {}", groups::FORGETFUL)?;
    }
    Ok(())
}

fn failed(args: &Args, error: RefillError) -> Failure {
    match error {
        RefillError::Log(error) => error.into(),
        RefillError::Refused(refusal) => refused(&args.from, &refusal),
        error => Failure::Refused(error.to_string(), None, Exit::Unreadable),
    }
}

/// Why nothing of a peer was taken, and what can be done.
pub(crate) fn refused(from: &Path, refusal: &Refusal) -> Failure {
    let (advice, exit) = match refusal {
        Refusal::Differs { .. } => {
            ("run `indelible compare` on both; nothing was changed", Exit::Damaged)
        }
        Refusal::NothingInCommon { .. } => {
            ("if you are sure that it is, --force; nothing was changed", Exit::Damaged)
        }
        Refusal::NothingAfter { .. } => {
            ("if all before --to is committed, --force; nothing was changed", Exit::Damaged)
        }
        Refusal::Undecided { .. } => {
            ("what is not decided may differ: a smaller --to, or --force", Exit::Usage)
        }
        _ => ("say where to stop with --to", Exit::Usage),
    };
    let said = format!("cannot refill from {}: {refusal}", from.display());
    Failure::Refused(said, Some(advice), exit)
}

fn report(done: &Refilled, out: &mut dyn Write) -> std::io::Result<()> {
    if done.filled == 0 && done.missing.is_empty() {
        return writeln!(out, "nothing is marked as missing, nothing was changed");
    }
    let filled = count(done.filled, "entry", "entries");
    if done.filled > 0 {
        writeln!(out, "put back {filled}: {}", ranges(&done.put_back))?;
    } else {
        writeln!(out, "put back {filled}")?;
    }
    if done.missing.is_empty() {
        return writeln!(out, "the log is whole");
    }
    writeln!(out, "still missing: {}", ranges(&done.missing))?;
    stopped(done.stopped.as_ref(), out)
}

fn stopped(error: Option<&indelible::Error>, out: &mut dyn Write) -> std::io::Result<()> {
    let Some(error) = error else { return Ok(()) };
    writeln!(out, "stopped: {error}")?;
    if let Some(advice) = crate::advice(error) {
        writeln!(out, "  {advice}")?;
    }
    writeln!(out, "what was put back is durable; then run it again: it goes on")
}
