//! The works that peers are measured at, one file each, and what they share.

pub mod reads;
pub mod reopen;
pub mod survival;
pub mod synced;
pub mod threads;
pub mod unsynced;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::ENTRY_BYTES;
use crate::grid::Table;
use crate::peer::{KINDS, Kind, Mode, Outcome, Peer};

/// What a run was asked to do.
pub struct Plan {
    /// Where the logs go; every peer gets a directory of its own below.
    pub dir: PathBuf,
    /// Fewer and smaller rounds: to see that it works, not to quote.
    pub quick: bool,
    pub rounds: usize,
    /// Names of the peers that take part; empty for all.
    pub only: Vec<String>,
}

impl Plan {
    /// The peers that take part in what needs `mode`.
    pub fn kinds(&self, mode: Mode) -> Vec<Kind> {
        self.all_kinds().into_iter().filter(|kind| kind.has(mode)).collect()
    }

    /// The peers that were asked for and lack `mode`.
    pub fn without(&self, mode: Mode) -> Vec<String> {
        let kinds = self.all_kinds().into_iter().filter(|kind| !kind.has(mode));
        kinds.map(|kind| kind.name.to_owned()).collect()
    }

    fn all_kinds(&self) -> Vec<Kind> {
        let wanted = |kind: &&Kind| {
            // The floor always takes part: everything is divided by it.
            kind.name == crate::peer::FLOOR
                || self.only.is_empty()
                || self.only.iter().any(|name| name == kind.name)
        };
        KINDS.iter().filter(wanted).copied().collect()
    }

    /// Waits until what was begun by opening the peers is over: files being prepared, blocks being
    /// written. None of it belongs to the time of whoever comes first.
    pub fn settle(&self) -> Outcome<()> {
        for _ in 0..2 {
            sync_files(&self.dir)?;
            std::thread::sleep(Duration::from_millis(if self.quick { 500 } else { 2000 }));
        }
        Ok(())
    }

    /// A fresh directory for one peer in one work.
    pub fn fresh(&self, work: &str, peer: &str) -> Outcome<PathBuf> {
        let dir = self.dir.join(format!("{work}-{peer}"));
        remove(&dir)?;
        std::fs::create_dir_all(&dir)?;
        Ok(dir)
    }
}

/// Every file below `dir`. One that goes while it is being looked for is left out.
pub fn files(dir: &Path) -> Outcome<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for item in std::fs::read_dir(dir)? {
            let path = item?.path();
            if path.is_dir() {
                left.push(path);
            } else {
                files.push(path);
            }
        }
    }
    Ok(files)
}

/// Has nothing of the files below `dir` left to be written. Not a sync of the file system, which
/// would wait for what all others write as well.
pub fn sync_files(dir: &Path) -> Outcome<()> {
    for path in files(dir)? {
        match std::fs::File::open(path) {
            Ok(file) => file.sync_all()?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

pub fn remove(dir: &Path) -> Outcome<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// An open peer, or one that fell out: told once, then silent.
pub struct Contestant {
    pub name: &'static str,
    peer: Option<Box<dyn Peer>>,
    dir: PathBuf,
}

/// The table of a work that needs `mode`, and the end of those who took part.
pub fn finish(
    plan: &Plan,
    mode: Mode,
    grid: &crate::grid::Grid,
    contestants: Vec<Contestant>,
) -> Outcome<Table> {
    let names: Vec<&str> = contestants.iter().map(|contestant| contestant.name).collect();
    contestants.into_iter().try_for_each(Contestant::dismiss)?;
    Ok(Table { absent: plan.without(mode), ..grid.table(&names) })
}

impl Contestant {
    /// Opens every peer of the plan that has `mode`, each in a fresh directory.
    pub fn all(plan: &Plan, work: &str, mode: Mode) -> Outcome<Vec<Self>> {
        let mut contestants = Vec::new();
        for kind in plan.kinds(mode) {
            let dir = plan.fresh(work, kind.name)?;
            let peer = (kind.open)(&dir, mode).inspect_err(|error| {
                eprintln!("{work}: {} cannot be opened: {error}", kind.name);
            });
            contestants.push(Self { name: kind.name, peer: peer.ok(), dir });
        }
        plan.settle()?;
        Ok(contestants)
    }

    /// Lets the peer do something; an error takes it out of this work.
    pub fn turn<T>(&mut self, what: impl FnOnce(&dyn Peer) -> Outcome<T>) -> Option<T> {
        match what(self.peer.as_deref()?) {
            Ok(value) => Some(value),
            Err(error) => {
                eprintln!("{} falls out: {error}", self.name);
                self.peer = None;
                None
            }
        }
    }

    /// Closes the peer and removes its files.
    pub fn dismiss(self) -> Outcome<()> {
        drop(self.peer);
        remove(&self.dir)
    }
}

/// Entries to append: random bytes, because zeros or text would flatter those that compress.
pub struct Payloads(Vec<u8>);

const PAYLOADS: usize = 1024;

impl Payloads {
    pub fn new() -> Self {
        let mut state = 0x2545_F491_4F6C_DD1D_u64;
        let bytes = (0..PAYLOADS * ENTRY_BYTES / 8).flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        Self(bytes.collect())
    }

    /// The payload number `index`, starting over after the last.
    pub fn get(&self, index: usize) -> &[u8] {
        let start = index % PAYLOADS * ENTRY_BYTES;
        &self.0[start..start + ENTRY_BYTES]
    }

    pub fn batch(&self, first: usize, count: usize) -> Vec<&[u8]> {
        (first..first + count).map(|index| self.get(index)).collect()
    }
}
