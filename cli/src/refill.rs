//! `indelible refill`: entries that a repair marked as missing, from another node's log.

use std::io::Write;
use std::path::PathBuf;

use indelible::repair::{FromPeer, RefillError, Refilled, Refusal, refill_from};

use crate::exit::Exit;
use crate::json::{Body, RefillDone, print};
use crate::progress::{Meter, Unit};
use crate::text::{count, ranges};
use crate::{Dir, Failure, How};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    dir: Dir,
    /// The directory of another node's log of the same group. It is only read.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Takes only entries before this index. What is decided, or committed, is the same on every
    /// node; what comes after need not be. By default the index that an OmniPaxos log states as
    /// decided; other logs need it stated here.
    #[arg(long, value_name = "INDEX")]
    to: Option<u64>,
    /// Goes beyond what the other log states as decided, and without an entry that shows that both
    /// are of one group. An entry that differs is refused all the same.
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: &Args, how: How, out: &mut dyn Write) -> crate::Outcome {
    let peer = FromPeer::new().to(args.to).force(args.force);
    let mut meter = Meter::new("refill", Unit::Entries, how);
    let done = refill_from(&args.dir.dir, &args.from, &peer, &mut |it| meter.at(it));
    drop(meter);
    let done = done.map_err(|error| match error {
        RefillError::Log(error) => error.into(),
        RefillError::Refused(refusal) => refused(args, &refusal),
        error => Failure::Refused(error.to_string(), None, Exit::Unreadable),
    })?;
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

fn refused(args: &Args, refusal: &Refusal) -> Failure {
    let from = args.from.display();
    let (advice, exit) = match refusal {
        Refusal::Differs { .. } => {
            ("run `indelible compare` on both; nothing was changed", Exit::Damaged)
        }
        Refusal::NothingInCommon { .. } => {
            ("if you are sure that it is, --force; nothing was changed", Exit::Damaged)
        }
        Refusal::Undecided { .. } => {
            ("what is not decided may differ: a smaller --to, or --force", Exit::Usage)
        }
        _ => ("say where to stop with --to", Exit::Usage),
    };
    Failure::Refused(format!("cannot refill from {from}: {refusal}"), Some(advice), exit)
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
    if let Some(error) = &done.stopped {
        writeln!(out, "stopped: {error}")?;
        writeln!(out, "what was put back is durable; run it again to go on")?;
    }
    Ok(())
}
