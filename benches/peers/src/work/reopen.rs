//! Opening a log of 200 000 entries whose process was killed, and what it takes on the disk.
//!
//! A child process writes the entries durably in batches of 100 and is killed by `SIGKILL`, so
//! nothing of it can tidy up. Each round opens a fresh copy of what it left: a second open of the
//! same files would only see what the first one has repaired. The copies are in the page cache.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::{Payloads, Plan, files, remove, sync_files};
use crate::ENTRY_BYTES;
use crate::grid::{Grid, Table, order};
use crate::peer::{FLOOR, Kind, Mode, Outcome};

const ENTRIES: [usize; 2] = [50_000, 200_000];
const BATCH: usize = 100;

/// The tables of times, of space, and of the memory that the writing took.
pub fn run(plan: &Plan) -> Outcome<[Table; 3]> {
    let kinds = plan.kinds(Mode::Synced);
    let mut times = Grid::new("reopen after a kill", "ms", false, FLOOR);
    let mut space = Grid::new("space on disk after a kill", "MB", false, "payload");
    let mut memory = Grid::new("memory of the process that wrote", "MB", false, FLOOR);
    for entries in ENTRIES {
        let column = format!("{entries} entries");
        space.record("payload", &column, vec![megabytes((entries * ENTRY_BYTES) as u64)]);
        let mut killed = Vec::new();
        for kind in &kinds {
            let dir = plan.fresh(&format!("killed{entries}"), kind.name)?;
            let used = load_and_die(&plan.dir, &dir, kind.name, entries, Mode::Synced)?;
            memory.record(kind.name, &format!("{column}, peak"), vec![used.peak]);
            memory.record(kind.name, &format!("{column}, own at the end"), vec![used.own]);
            // The floor has nothing to open: it keeps no entries.
            let opens = kind.name != FLOOR;
            if opens {
                space.record(kind.name, &column, vec![megabytes(allocated(&dir)?)]);
            }
            killed.push(opens.then_some(dir));
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
    let (times, memory) = (times.table(&names), memory.table(&names));
    names.insert(0, "payload");
    Ok([times, space.table(&names), memory])
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
    let peer = (kind.open)(&copy, Mode::Synced)?;
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
pub fn load_and_die(
    root: &Path,
    dir: &Path,
    peer: &str,
    entries: usize,
    mode: Mode,
) -> Outcome<Memory> {
    let child = Command::new(std::env::current_exe()?)
        .arg(match mode {
            Mode::Synced => "load",
            Mode::Unsynced => "load-unsynced",
        })
        .args(["--only", peer, "--appends", &entries.to_string()])
        .arg("--dir")
        .arg(root)
        .arg(dir)
        .stderr(Stdio::inherit())
        .output()?;
    // Killed means no exit code.
    if child.status.code().is_some() {
        return Err(format!("loading {peer} ended with {}", child.status).into());
    }
    Memory::parse(&String::from_utf8_lossy(&child.stdout))
        .ok_or("it did not tell its memory".into())
}

/// What a process takes, in megabytes.
#[derive(Debug, PartialEq)]
pub struct Memory {
    /// The most that was resident, pages of mapped files and the program itself included.
    peak: f64,
    /// What was resident at the end and belongs to no file: the heap and the stacks.
    own: f64,
}

impl Memory {
    /// Takes it from the last lines of this form in what a child said.
    fn parse(said: &str) -> Option<Self> {
        let kilobytes = |name: &str| {
            let line = said.lines().rev().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()
        };
        let megabytes = |name| Some(kilobytes(name)? * 1024.0 / 1e6);
        Some(Self { peak: megabytes("VmHWM:")?, own: megabytes("RssAnon:")? })
    }
}

/// The child: writes `entries` into `dir`, durably and in batches or one by one without a sync, says
/// what memory it has, and kills itself.
pub fn load(kind: &Kind, dir: &Path, entries: usize, mode: Mode) -> Outcome<()> {
    let payloads = Payloads::new();
    let peer = (kind.open)(dir, mode)?;
    let batch = if mode == Mode::Synced { BATCH } else { 1 };
    for first in (0..entries).step_by(batch) {
        peer.append(0, &payloads.batch(first, batch.min(entries - first)))?;
    }
    println!("{}", std::fs::read_to_string("/proc/self/status")?);
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

#[cfg(test)]
mod tests {
    use super::Memory;

    #[test]
    fn memory_is_read_from_the_status_of_a_process() {
        let said = "noise\nVmHWM:\t   1000 kB\nRssAnon:\t    500 kB\nRssFile:\t 1 kB\n";
        assert_eq!(Memory::parse(said), Some(Memory { peak: 1.024, own: 0.512 }));
        assert_eq!(Memory::parse("noise"), None);
    }
}
