//! `indelible repair`: what would be done and lost, and, when told so, doing it.

use std::io::Write;
use std::path::Path;

use indelible::Error;
use indelible::inspect::{Outcome as Open, StateSeen, inspect};
use indelible::repair::{Loss, Obstacle, Plan, Repair, Step, plan_with};

use crate::exit::Exit;
use crate::groups::{self, Hurt, Told};
use crate::inspect::judge;
use crate::json::{Body, Planned, print};
use crate::progress::{GOES_ON, Meter, UNTOUCHED, Unit};
use crate::{Dir, Failure, How};

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true)))]
pub(crate) struct Args {
    #[command(flatten)]
    dir: Dir,
    /// Says what would be done, and what would be lost. Writes nothing.
    #[arg(long, group = "what")]
    plan: bool,
    /// Does it, and keeps a copy of every file it changes in DIR/repair-<n>.
    #[arg(long, group = "what")]
    apply: bool,
}

pub(crate) fn run(args: &Args, how: How, out: &mut dyn Write) -> crate::Outcome {
    let mut meter = Meter::new("reading", Unit::Bytes, how, UNTOUCHED);
    if args.plan {
        let plan = plan_with(&args.dir.dir, &mut |it| meter.at(it))?;
        drop(meter);
        let exit = judge_plan(args, &plan)?;
        let state = inspect(&args.dir.dir)?.state;
        let lost = lost_by_group(args, how, &plan, groups::lost_by_repair)?;
        if how.json {
            print(out, Body::Plan(Planned::new(&plan, None, groups::listed(&lost))))?;
        } else {
            say(&plan, state.as_ref(), &lost, exit, out)?;
        }
        return Ok(exit);
    }
    let repair = Repair::prepare(&args.dir.dir, &mut |it| meter.at(it))?;
    drop(meter);
    // What cannot be done is explained, not only refused.
    if repair.plan().obstacle.is_some() || repair.plan().is_empty() {
        let exit = judge_plan(args, repair.plan())?;
        if how.json {
            print(out, Body::Repair(Planned::new(repair.plan(), None, None)))?;
        } else if let Some(obstacle) = &repair.plan().obstacle {
            refuse(obstacle, out)?;
        } else if repair.plan().losses.is_empty() {
            writeln!(out, "nothing to repair, nothing was changed")?;
        } else {
            let state = inspect(&args.dir.dir)?.state;
            lost_for_good(repair.plan(), state.as_ref(), &Told(None), out)?;
        }
        return Ok(exit);
    }
    let mut meter = Meter::new("writing", Unit::Bytes, how, GOES_ON);
    let (done, kept) = repair.carry_out(&mut |it| meter.at(it)).map_err(cut_short)?;
    drop(meter);
    let kept = kept.map(|kept| kept.display().to_string());
    let lost = lost_by_group(args, how, &done, groups::hurt)?;
    let seen = inspect(&args.dir.dir)?;
    let exit = if done.losses.is_empty() { judge(&seen) } else { Exit::Damaged };
    if how.json {
        print(out, Body::Repair(Planned::new(&done, kept, groups::listed(&lost))))?;
        return Ok(exit);
    }
    writeln!(out, "done")?;
    steps(&done, out)?;
    losses("lost", &done, seen.state.as_ref(), out)?;
    groups::say_hurt(&lost, out)?;
    if let Some(kept) = kept {
        writeln!(out, "the files as they were are in {kept}")?;
    }
    let lacks = matches!(&seen.outcome, Open::Refuses(Error::Incomplete { .. }));
    if done.losses.is_empty() && lacks {
        writeln!(out, "entries are missing since an earlier repair")?;
    }
    let by_peers = |loss: &Loss| matches!(loss, Loss::Entries(_) | Loss::Replaceable(_));
    if done.losses.iter().any(by_peers) || lacks {
        let which = if lost.0.is_some() { " --group ID" } else { "" };
        writeln!(out, "next: `indelible refill{which}` with the log of a peer")?;
    }
    Ok(exit)
}

/// What a repair takes from groups, if it takes anything.
fn lost_by_group(
    args: &Args,
    how: How,
    plan: &Plan,
    look: fn(&Path, Option<&StateSeen>, How) -> Told<Hurt>,
) -> Result<Told<Hurt>, Error> {
    if plan.losses.is_empty() {
        return Ok(Told(None));
    }
    Ok(look(&args.dir.dir, inspect(&args.dir.dir)?.state.as_ref(), how))
}

/// Damage, as `verify` has it, if something is lost, or the log cannot go on without the repair. A
/// file that is only written anew is judged by itself: a table repeats what frames say, and a checksum
/// may tell all of a side file.
fn judge_plan(args: &Args, plan: &Plan) -> Result<Exit, Error> {
    let is_needed = |step: &Step| !matches!(step, Step::Rebuild { .. } | Step::SideFile { .. });
    if plan.obstacle.is_some() || !plan.losses.is_empty() || plan.steps.iter().any(is_needed) {
        return Ok(Exit::Damaged);
    }
    Ok(judge(&inspect(&args.dir.dir)?))
}

/// A repair that met the full disk half way goes on where it stopped.
fn cut_short(error: Error) -> Failure {
    match error {
        Error::DiskFull { .. } => {
            let advice = Some("free space and run it again: it goes on");
            Failure::Refused(error.to_string(), advice, Exit::of(&error))
        }
        error => error.into(),
    }
}

fn say(
    plan: &Plan,
    state: Option<&StateSeen>,
    lost: &Told<Hurt>,
    exit: Exit,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    if let Some(obstacle) = &plan.obstacle {
        return refuse(obstacle, out);
    }
    if plan.is_empty() && !plan.losses.is_empty() {
        return lost_for_good(plan, state, lost, out);
    }
    if plan.is_empty() {
        return match exit {
            Exit::Torn => writeln!(out, "nothing to repair; the next open drops the torn end"),
            Exit::Damaged => {
                writeln!(out, "nothing to repair; entries are missing since an earlier repair")?;
                writeln!(out, "next: `indelible refill` with the log of a peer")
            }
            _ => writeln!(out, "nothing to repair"),
        };
    }
    writeln!(out, "would be done")?;
    steps(plan, out)?;
    losses("would be lost", plan, state, out)?;
    groups::say_hurt(lost, out)?;
    if plan.steps.iter().any(|step| !matches!(step, Step::Rename { .. })) {
        writeln!(out, "a copy of every file that changes would be kept in DIR/repair-<n>")?;
    }
    writeln!(out, "nothing was changed; --apply does it")
}

fn steps(plan: &Plan, out: &mut dyn Write) -> std::io::Result<()> {
    for step in &plan.steps {
        writeln!(out, "  - {step}")?;
    }
    Ok(())
}

/// Says what cannot be read, where the log opens without a repair and none brings it back.
fn lost_for_good(
    plan: &Plan,
    state: Option<&StateSeen>,
    lost: &Told<Hurt>,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    losses("unreadable, and no repair changes that", plan, state, out)?;
    groups::say_hurt(lost, out)?;
    writeln!(out, "nothing was changed")
}

fn losses(
    title: &str,
    plan: &Plan,
    state: Option<&StateSeen>,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    if plan.losses.is_empty() {
        return writeln!(out, "{title}: nothing");
    }
    writeln!(out, "{title}")?;
    let cells = plan.losses.iter().filter_map(|loss| match loss {
        Loss::SideFile { cell, .. } => Some(cell.as_str()),
        _ => None,
    });
    for loss in &plan.losses {
        let of_groups = match loss {
            Loss::SideFile { file, cell } => groups::side_file_lost(cell, cells.clone(), state)
                .map(|means| format!("{file}, of the cell {cell}: {means}")),
            _ => None,
        };
        writeln!(out, "  - {}", of_groups.unwrap_or_else(|| loss.to_string()))?;
    }
    Ok(())
}

fn refuse(obstacle: &Obstacle, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "cannot be repaired")?;
    for line in obstacle.to_string().lines() {
        writeln!(out, "  {line}")?;
    }
    writeln!(out, "nothing was changed")
}
