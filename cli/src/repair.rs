//! `indelible repair`: what would be done and lost, and, when told so, doing it.

use std::io::Write;

use indelible::repair::{Obstacle, Plan, apply, plan};

use crate::{Dir, Failure};

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

pub(crate) fn run(args: &Args, out: &mut dyn Write) -> crate::Outcome {
    if args.plan {
        return say(&plan(&args.dir.dir)?, out);
    }
    // The plan first: what cannot be done is explained, not only refused.
    let planned = plan(&args.dir.dir)?;
    if let Some(obstacle) = &planned.obstacle {
        return refuse(obstacle, out);
    }
    let (done, kept) = apply(&args.dir.dir)?;
    let Some(kept) = kept else {
        writeln!(out, "nothing to repair, nothing was changed")?;
        return Ok(());
    };
    writeln!(out, "done")?;
    steps(&done, out)?;
    losses("lost", &done, out)?;
    writeln!(out, "the files as they were are in {}", kept.display())?;
    if done.losses.is_empty() {
        return Ok(());
    }
    writeln!(out, "next: `indelible refill` with the log of a peer")?;
    Ok(())
}

fn say(plan: &Plan, out: &mut dyn Write) -> crate::Outcome {
    if let Some(obstacle) = &plan.obstacle {
        return refuse(obstacle, out);
    }
    if plan.is_empty() {
        writeln!(out, "nothing to repair; a torn end is dropped by the next open")?;
        return Ok(());
    }
    writeln!(out, "would be done")?;
    steps(plan, out)?;
    losses("would be lost", plan, out)?;
    writeln!(out, "a copy of every file that changes would be kept in DIR/repair-<n>")?;
    writeln!(out, "nothing was changed; --apply does it")?;
    Ok(())
}

fn steps(plan: &Plan, out: &mut dyn Write) -> crate::Outcome {
    for step in &plan.steps {
        writeln!(out, "  - {step}")?;
    }
    Ok(())
}

fn losses(title: &str, plan: &Plan, out: &mut dyn Write) -> crate::Outcome {
    if plan.losses.is_empty() {
        writeln!(out, "{title}: nothing")?;
        return Ok(());
    }
    writeln!(out, "{title}")?;
    for loss in &plan.losses {
        writeln!(out, "  - {loss}")?;
    }
    Ok(())
}

fn refuse(obstacle: &Obstacle, out: &mut dyn Write) -> crate::Outcome {
    writeln!(out, "cannot be repaired")?;
    for line in obstacle.to_string().lines() {
        writeln!(out, "  {line}")?;
    }
    writeln!(out, "nothing was changed")?;
    Err(Failure::Said)
}
