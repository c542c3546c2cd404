//! What was injected, counted by kind: a lane that injected nothing has shown nothing.

use std::collections::BTreeMap;
use std::fmt;

/// The counts of a lane.
#[derive(Debug, Clone, Default)]
pub(crate) struct Injected {
    /// Power cuts, and processes that were killed for one or without one.
    pub(crate) power_cuts: u64,
    pub(crate) kills: u64,
    /// Dirty sectors at a power cut, by what became of them.
    pub(crate) sectors_lost: u64,
    pub(crate) sectors_torn: u64,
    pub(crate) sectors_between: u64,
    pub(crate) sectors_new: u64,
    pub(crate) lengths_lost: u64,
    /// Changes of names that were not durable, by what became of them.
    pub(crate) names_lost: u64,
    pub(crate) names_kept: u64,
    /// Calls that answered `EIO`, by kind.
    pub(crate) eio: BTreeMap<&'static str, u64>,
    /// Sectors that a failed sync or write did not put on the medium, and the kernel's cache has.
    pub(crate) cached_only: u64,
    /// Calls that answered `ENOSPC`, by kind.
    pub(crate) enospc: BTreeMap<&'static str, u64>,
    /// Syncs that were carried out: of files, of directories.
    pub(crate) syncs: u64,
    pub(crate) directory_syncs: u64,
}

impl Injected {
    pub(crate) fn add(&mut self, other: &Self) {
        self.power_cuts += other.power_cuts;
        self.kills += other.kills;
        self.sectors_lost += other.sectors_lost;
        self.sectors_torn += other.sectors_torn;
        self.sectors_between += other.sectors_between;
        self.sectors_new += other.sectors_new;
        self.lengths_lost += other.lengths_lost;
        self.names_lost += other.names_lost;
        self.names_kept += other.names_kept;
        self.cached_only += other.cached_only;
        self.syncs += other.syncs;
        self.directory_syncs += other.directory_syncs;
        for (mine, others) in [(&mut self.eio, &other.eio), (&mut self.enospc, &other.enospc)] {
            for (kind, count) in others {
                *mine.entry(kind).or_default() += count;
            }
        }
    }
}

impl fmt::Display for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} power cuts, {} kills; sectors: {} lost, {} torn, {} in between, {} new; {} lengths \
             lost; names: {} lost, {} kept",
            self.power_cuts,
            self.kills,
            self.sectors_lost,
            self.sectors_torn,
            self.sectors_between,
            self.sectors_new,
            self.lengths_lost,
            self.names_lost,
            self.names_kept
        )?;
        if !self.eio.is_empty() {
            write!(f, "; EIO: {:?}, {} sectors in the cache only", self.eio, self.cached_only)?;
        }
        if !self.enospc.is_empty() {
            write!(f, "; ENOSPC: {:?}", self.enospc)?;
        }
        write!(f, "; {} syncs, {} of directories", self.syncs, self.directory_syncs)
    }
}
