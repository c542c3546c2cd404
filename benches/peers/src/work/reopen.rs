//! Opening a log of 200 000 entries whose process was killed, and what it takes on the disk.
//!
//! A child process writes the entries durably in batches of 100 and is killed by `SIGKILL`, so
//! nothing of it can tidy up. Each round opens a fresh copy of what it left: a second open of the
//! same files would only see what the first one has repaired. The copies are in the page cache.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use super::{Payloads, Plan, files, remove, sync_files};
use crate::ENTRY_BYTES;
use crate::grid::{Grid, Table, order};
use crate::peer::{FLOOR, Kind, Mode, Outcome};

const ENTRIES: [usize; 2] = [50_000, 200_000];
const BATCH: usize = 100;

/// The tables of times and of space.
pub fn run(plan: &Plan) -> Outcome<[Table; 2]> {
    let kinds: Vec<Kind> = plan.kinds().into_iter().filter(|kind| kind.name != FLOOR).collect();
    let mut times = Grid::new("reopen after a kill", "ms", false, FLOOR);
    let mut space = Grid::new("space on disk after a kill", "MB", false, "payload");
    for entries in ENTRIES {
        let column = format!("{entries} entries");
        space.record("payload", &column, vec![megabytes((entries * ENTRY_BYTES) as u64)]);
        let mut killed = Vec::new();
        for kind in &kinds {
            let dir = plan.fresh(&format!("killed{entries}"), kind.name)?;
            load_and_die(&plan.dir, &dir, kind.name, entries)?;
            space.record(kind.name, &column, vec![megabytes(allocated(&dir)?)]);
            killed.push(Some(dir));
        }
        for round in 0..plan.rounds.min(9) {
            times.next_round();
            for at in order(kinds.len(), round) {
                let Some(dir) = &killed[at] else { continue };
                match reopen(&kinds[at], dir, entries) {
                    Ok(time) => times.record(kinds[at].name, &column, vec![time]),
                    Err(error) => {
                        eprintln!("reopen: {} falls out: {error}", kinds[at].name);
                        killed[at] = None;
                    }
                }
            }
        }
        for kind in &kinds {
            remove(&plan.dir.join(format!("killed{entries}-{}", kind.name)))?;
        }
    }
    let mut names: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
    let times = times.table(&names);
    names.insert(0, "payload");
    Ok([times, space.table(&names)])
}

/// Milliseconds to open a copy of `killed` and to know how many entries it has.
fn reopen(kind: &Kind, killed: &Path, entries: usize) -> Outcome<f64> {
    let copy = killed.with_extension("copy");
    remove(&copy)?;
    let copied =
        Command::new("cp").args(["-a", "--sparse=auto"]).arg(killed).arg(&copy).status()?;
    if !copied.success() {
        return Err("cp failed".into());
    }
    // Nothing of the copying is left to be written while the clock runs.
    sync_files(&copy)?;
    let start = Instant::now();
    let peer = (kind.open)(&copy, Mode::Synced)?.ok_or("has no synced mode")?;
    let found = peer.entries()?;
    let elapsed = start.elapsed();
    drop(peer);
    remove(&copy)?;
    match found {
        Some(found) if found != entries as u64 => {
            Err(format!("{found} entries instead of {entries}").into())
        }
        _ => Ok(elapsed.as_secs_f64() * 1e3),
    }
}

/// Runs this program again as the child that [`load`]s and is killed.
fn load_and_die(root: &Path, dir: &Path, peer: &str, entries: usize) -> Outcome<()> {
    let status = Command::new(std::env::current_exe()?)
        .arg("load")
        .args(["--only", peer, "--appends", &entries.to_string()])
        .arg("--dir")
        .arg(root)
        .arg(dir)
        .status()?;
    // Killed means no exit code.
    if status.code().is_some() {
        return Err(format!("loading {peer} ended with {status}").into());
    }
    Ok(())
}

/// The child: writes `entries` durably into `dir`, then kills itself.
pub fn load(kind: &Kind, dir: &Path, entries: usize) -> Outcome<()> {
    let payloads = Payloads::new();
    let peer = (kind.open)(dir, Mode::Synced)?.ok_or("has no synced mode")?;
    for first in (0..entries).step_by(BATCH) {
        peer.append(0, &payloads.batch(first, BATCH.min(entries - first)))?;
    }
    Command::new("kill").arg("-KILL").arg(std::process::id().to_string()).status()?;
    Err("still alive".into())
}

/// Bytes of the blocks that the files below `dir` take: holes are free, prepared space is not.
fn allocated(dir: &Path) -> Outcome<u64> {
    files(dir)?.iter().map(|path| Ok(path.metadata()?.blocks() * 512)).sum()
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
