//! The state of a simulated machine: files, names as they are and names as they are durable.
//!
//! Owns: names, the lock, the space, and what a call goes through before it does anything. Does not
//! own: the door itself (`disk`, `file`), crashes (`crash`).
//!
//! Invariants:
//! - A file has at most one current name and at most one durable name.
//! - Replaying all pending name operations on the durable names gives the current names.
//! - Once the machine is down nothing changes it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use super::crash::NameOrder;
use super::fault::{Course, Op, Script, down};
use super::inode::Inode;
use super::rng::Rng;

pub(super) type Names = BTreeMap<Arc<str>, u64>;

/// A change of names that is not durable yet. A file is known by its number.
#[derive(Debug, Clone)]
pub(super) enum NameOp {
    /// The file has this name, and no other; whatever had it before has none.
    Link { inode: u64, name: Arc<str> },
    /// The file has no name.
    Unlink { inode: u64 },
}

impl NameOp {
    pub(super) fn apply(&self, names: &mut Names) {
        match self {
            Self::Link { inode, name } => {
                names.retain(|_, other| other != inode);
                names.insert(Arc::clone(name), *inode);
            }
            Self::Unlink { inode } => names.retain(|_, other| other != inode),
        }
    }

    pub(super) fn inode(&self) -> u64 {
        match self {
            Self::Link { inode, .. } | Self::Unlink { inode } => *inode,
        }
    }
}

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) rng: Rng,
    pub(super) script: Script,
    pub(super) inodes: BTreeMap<u64, Inode>,
    pub(super) next_inode: u64,
    pub(super) names: Names,
    pub(super) durable: Names,
    pub(super) pending: Vec<NameOp>,
    pub(super) locked: bool,
    pub(super) capacity: Option<u64>,
    pub(super) name_order: NameOrder,
    pub(super) down: bool,
}

impl Machine {
    pub(super) fn new(rng: Rng) -> Self {
        Self {
            rng,
            script: Script::default(),
            inodes: BTreeMap::new(),
            next_inode: 0,
            names: Names::new(),
            durable: Names::new(),
            pending: Vec::new(),
            locked: false,
            capacity: None,
            name_order: NameOrder::Any,
            down: false,
        }
    }

    /// What every call goes through first.
    pub(super) fn enter(&mut self, op: Op, name: &Arc<str>) -> io::Result<Course> {
        if self.down {
            return Err(down());
        }
        let Some(course) = self.script.enter(op, name) else {
            self.stop();
            return Err(down());
        };
        course
    }

    /// How a call ends that was to fail or to be cut off, once it has done its part.
    pub(super) fn leave(&mut self, course: Course) -> io::Result<()> {
        match course {
            Course::Whole => Ok(()),
            Course::Fails(fault) => Err(fault.error()),
            Course::Halfway => {
                self.stop();
                Err(down())
            }
        }
    }

    /// Everything stays as it is from now on.
    pub(super) fn stop(&mut self) {
        self.down = true;
        self.inodes.values().for_each(Inode::freeze);
    }

    pub(super) fn find(&self, name: &str) -> io::Result<u64> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn inode(&mut self, inode: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&inode).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn add(&mut self, inode: Inode) -> u64 {
        let number = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(number, inode);
        number
    }

    pub(super) fn change_names(&mut self, op: NameOp) {
        if let NameOp::Link { inode, name } = &op
            && let Some(file) = self.inodes.get_mut(inode)
        {
            file.name = Arc::clone(name);
        }
        op.apply(&mut self.names);
        self.pending.push(op);
    }

    /// Makes the first `count` pending changes of names durable.
    pub(super) fn settle_names(&mut self, count: usize) {
        for op in self.pending.drain(..count.min(self.pending.len())) {
            op.apply(&mut self.durable);
        }
        self.forget_unreachable();
    }

    /// Drops files that no name, handle or crash can lead to any more.
    fn forget_unreachable(&mut self) {
        let reachable: BTreeSet<u64> =
            self.reachable().chain(self.names.values().copied()).collect();
        self.inodes.retain(|number, inode| inode.handles > 0 || reachable.contains(number));
    }

    /// Files that may have a name after a crash.
    pub(super) fn reachable(&self) -> impl Iterator<Item = u64> {
        self.durable.values().copied().chain(self.pending.iter().map(NameOp::inode))
    }

    pub(super) fn used(&self) -> u64 {
        let named = self.names.values().filter_map(|number| self.inodes.get(number));
        named.map(|inode| inode.reserved).sum()
    }

    /// Bytes that are left on the medium.
    pub(super) fn left(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used()))
    }
}
