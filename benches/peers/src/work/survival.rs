//! What an append that was not synced survives: found out, not believed.
//!
//! A child process appends entries without a sync, one by one, and is killed by `SIGKILL`. The peer is
//! opened again, and what it has is compared with what was appended, entry by entry.

use super::{Payloads, Plan, remove, reopen::load_and_die};
use crate::grid::Table;
use crate::peer::{Kind, Mode, Outcome};

/// Fewer bytes than any peer gathers before it writes by itself.
const ENTRIES: usize = 500;
/// raft-engine's entries carry their index in the first bytes.
const COMPARED: std::ops::RangeFrom<usize> = 8..;

/// Writes into each row of `table` what was found for its peer.
pub fn run(plan: &Plan, table: &mut Table) -> Outcome<()> {
    let kinds = plan.kinds(Mode::Unsynced);
    for row in &mut table.rows {
        let Some(kind) = kinds.iter().find(|kind| kind.name == row.name) else { continue };
        let dir = plan.fresh("survival", kind.name)?;
        load_and_die(&plan.dir, &dir, kind.name, ENTRIES, Mode::Unsynced)?;
        row.survives = match found(kind, &dir) {
            Ok(ENTRIES) => "a killed process".to_owned(),
            Ok(found) => format!("no killed process: {found} of {ENTRIES} found"),
            Err(error) => format!("no killed process: {error}"),
        };
        remove(&dir)?;
    }
    Ok(())
}

/// How many of the entries are there, from the first on and byte by byte.
fn found(kind: &Kind, dir: &std::path::Path) -> Outcome<usize> {
    let payloads = Payloads::new();
    let peer = (kind.open)(dir, Mode::Synced)?;
    let count = peer.entries()?.map_or(Ok(ENTRIES), usize::try_from)?.min(ENTRIES);
    if count == 0 {
        return Ok(0);
    }
    let (mut index, mut found) = (0, 0);
    peer.read(0, count)?.each(&mut |entry| {
        let same = entry.get(COMPARED) == payloads.get(index).get(COMPARED);
        found += usize::from(same && found == index);
        index += 1;
    });
    Ok(found)
}
