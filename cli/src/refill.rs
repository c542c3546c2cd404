//! `indelible refill`: entries that a repair marked as missing, from another node's log.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use indelible::format::Kind;
use indelible::inspect::{FrameSeen, frames, inspect};
use indelible::repair::{missing, refill};

use crate::text::count;
use crate::{Dir, Failure};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    dir: Dir,
    /// The directory of another node's log of the same group.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Takes only entries before this index. What is decided, or committed, is the same on every
    /// node; what comes after need not be. By default the index that an OmniPaxos log states as
    /// decided; other logs need it stated here.
    #[arg(long, value_name = "INDEX")]
    to: Option<u64>,
}

pub(crate) fn run(args: &Args, out: &mut dyn Write) -> crate::Outcome {
    let ranges = missing(&args.dir.dir)?;
    if ranges.is_empty() {
        writeln!(out, "nothing is marked as missing, nothing was changed")?;
        return Ok(());
    }
    let Some(limit) = args.to.map_or_else(|| decided(&args.from), |to| Ok(Some(to)))? else {
        let said = format!(
            "indelible: {} does not state what is decided; say so with --to\n",
            args.from.display()
        );
        std::io::stderr().write_all(said.as_bytes())?;
        return Err(Failure::Said);
    };
    let mut found = BTreeMap::new();
    for range in ranges {
        let range = range.start..range.end.min(limit);
        for seen in frames(&args.from)?.within(range.clone()) {
            if let FrameSeen::Frame { header, payload, packed: false, live: true, .. } = seen?
                && header.kind == Kind::Entry
                && range.contains(&header.index)
            {
                found.insert(header.index, payload);
            }
        }
    }
    let refilled = refill(&args.dir.dir, &mut |index| Ok(found.get(&index).cloned()))?;
    writeln!(out, "put back {}", count(refilled.filled, "entry", "entries"))?;
    if refilled.missing.is_empty() {
        writeln!(out, "the log is whole")?;
        return Ok(());
    }
    for range in &refilled.missing {
        writeln!(out, "still missing: {}..{}", range.start, range.end)?;
    }
    Err(Failure::Said)
}

/// What the other log states as decided, if it is one of OmniPaxos.
fn decided(path: &Path) -> Result<Option<u64>, indelible::Error> {
    let Some(state) = inspect(path)?.state else { return Ok(None) };
    let cell = state.cells.into_iter().find(|(name, _)| name == "omnipaxos.decided");
    Ok(match cell {
        Some((_, indelible::CellValue::Inline(bytes))) => {
            <[u8; 8]>::try_from(&*bytes).ok().map(u64::from_le_bytes)
        }
        _ => None,
    })
}
