//! `indelible compare`: whether two logs hold the same entries.

use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;

use indelible::inspect::{Comparison, compare, compare_stores};

use crate::How;
use crate::exit::Exit;
use crate::groups::{self, Peer};
use crate::json::{Body, Difference, print};
use crate::progress::{Meter, UNTOUCHED, Unit};
use crate::text::{count, refuse_same};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory of a log.
    #[arg(value_name = "A")]
    a: PathBuf,
    /// The directory of another log of the same group.
    #[arg(value_name = "B")]
    b: PathBuf,
    /// First index to compare.
    #[arg(long, value_name = "INDEX")]
    from: Option<u64>,
    /// Index to stop before. By default what both logs state as decided, or else what both have:
    /// entries that are not decided may rightly differ.
    #[arg(long, value_name = "INDEX")]
    to: Option<u64>,
    /// Entries that one checksum covers.
    #[arg(long, value_name = "ENTRIES", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    step: u64,
    /// Compares one group of two logs of groups; if the second log holds none, the group with all of
    /// it.
    #[arg(long, value_name = "ID")]
    group: Option<u64>,
    /// Prints the checksums of all ranges, not only of those that differ.
    #[arg(long)]
    sums: bool,
}

pub(crate) fn run(args: &Args, how: How, out: &mut dyn Write) -> crate::Outcome {
    crate::text::check_range(args.from, args.to)?;
    refuse_same(&args.a, &args.b)?;
    let mut meter = Meter::new("compare", Unit::Entries, how, UNTOUCHED);
    let range = (args.from, args.to);
    let mut progress = |it| meter.at(it);
    let seen = match args.group {
        None => compare(&args.a, &args.b, range, args.step, &mut progress)?,
        Some(id) => {
            let (ours, _) = groups::preview(&args.a)?;
            let ours = groups::one_of(&ours, id)?;
            match groups::peer(&args.b, id)? {
                Peer::Group(peer) => compare_stores(&ours, &peer, range, args.step, &mut progress)?,
                Peer::Log(peer) => compare_stores(&ours, &peer, range, args.step, &mut progress)?,
            }
        }
    };
    drop(meter);
    let exit = match (&seen.difference, &seen.unreadable) {
        _ if seen.entries.is_empty() => Exit::Unreadable,
        (None, [a, b]) if a.is_empty() && b.is_empty() => Exit::Sound,
        _ => Exit::Damaged,
    };
    if how.json {
        print(out, Body::Comparison(Difference::from(&seen)))?;
        return Ok(exit);
    }
    report(args, &seen, out)?;
    Ok(exit)
}

fn report(args: &Args, seen: &Comparison, out: &mut dyn Write) -> std::io::Result<()> {
    let [a, b] = &seen.bounds;
    writeln!(out, "A  entries {}{}  {}", shown(a), stated(seen.decided[0]), args.a.display())?;
    writeln!(out, "B  entries {}{}  {}", shown(b), stated(seen.decided[1]), args.b.display())?;
    for range in &seen.ranges {
        let [a, b] = range.sums;
        if args.sums || a != b {
            let sum =
                |sum: Option<u32>| sum.map_or("unreadable".to_owned(), |sum| format!("{sum:08x}"));
            writeln!(out, "  {}  A {}  B {}", shown(&range.entries), sum(a), sum(b))?;
        }
    }
    for (side, unreadable) in ["A", "B"].into_iter().zip(&seen.unreadable) {
        for (range, reason) in unreadable {
            writeln!(out, "  {} of {side} cannot be compared: {reason}", shown(range))?;
        }
    }
    if let Some(found) = &seen.difference {
        let [a, b] = found.bytes;
        writeln!(
            out,
            "DIFFERENT from entry {} on: {a} bytes in A, {b} in B, first different byte {}",
            found.index, found.at
        )?;
        let stated = seen.decided.iter().flatten().min();
        if stated.map_or(args.to.is_none(), |&end| found.index >= end) {
            writeln!(out, "  nothing states that it is decided: it may rightly differ")?;
            writeln!(out, "  --to stops before it")?;
        }
        return Ok(());
    }
    if seen.entries.is_empty() {
        writeln!(out, "NOTHING IN COMMON: no entry is in both logs below what is decided")?;
    } else if seen.same < seen.entries.end - seen.entries.start {
        let same = count(seen.same, "entry", "entries");
        writeln!(out, "THE SAME as far as they can be read: {same} of {}", shown(&seen.entries))?;
    } else {
        let same = count(seen.same, "entry", "entries");
        writeln!(out, "THE SAME: {same} of {}", shown(&seen.entries))?;
    }
    Ok(())
}

fn stated(decided: Option<u64>) -> String {
    decided.map(|index| format!(", decided before {index}")).unwrap_or_default()
}

fn shown(range: &Range<u64>) -> String {
    format!("{}..{}", range.start, range.end)
}
