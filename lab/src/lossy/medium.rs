//! The file system without its door: directories and files, names as they are and as they are
//! durable.
//!
//! Owns: names between two directory syncs, space, and the file system after a power cut. Does not
//! own: the bytes of a file (`contents`), requests and faults (`state`).
//!
//! Invariants:
//! - A file or directory has at most one name; a rename is atomic.
//! - The pending changes of a directory, applied to its durable names, give its names.
//! - A sync of a file makes no name durable, and a sync of a directory no byte.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::contents::{Contents, Odds, PAGE_BYTES};
use super::dice::Dice;
use super::injected::Injected;

pub(crate) type Ino = u64;
pub(crate) const ROOT: Ino = 1;

type Table = BTreeMap<OsString, Ino>;

/// A change of names that is not durable yet.
#[derive(Debug, Clone)]
enum Change {
    /// It has this name and no other, and nothing else has it.
    Link { ino: Ino, name: OsString },
    /// It has no name.
    Unlink { ino: Ino },
}

impl Change {
    fn apply(&self, names: &mut Table) {
        match self {
            Self::Link { ino, name } => {
                names.retain(|_, other| other != ino);
                names.insert(name.clone(), *ino);
            }
            Self::Unlink { ino } => names.retain(|_, other| other != ino),
        }
    }
}

/// The names of one directory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    now: Table,
    durable: Table,
    pending: Vec<Change>,
}

impl Names {
    pub(crate) fn find(&self, name: &OsStr) -> Option<Ino> {
        self.now.get(name).copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&OsString, Ino)> {
        self.now.iter().map(|(name, ino)| (name, *ino))
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.pending.push(change);
    }

    pub(crate) fn link(&mut self, ino: Ino, name: &OsStr) {
        self.change(Change::Link { ino, name: name.to_owned() });
    }

    pub(crate) fn unlink(&mut self, ino: Ino) {
        self.change(Change::Unlink { ino });
    }

    /// Makes the first of the pending changes durable.
    pub(crate) fn settle(&mut self, count: usize) {
        for change in self.pending.drain(..count) {
            change.apply(&mut self.durable);
        }
    }

    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }
}

/// A file or a directory.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    File(Contents),
    Directory(Names),
}

/// The whole file system.
#[derive(Debug, Clone)]
pub(crate) struct Medium {
    nodes: BTreeMap<Ino, Node>,
    next: Ino,
    /// Most pages that files may take up.
    pub(crate) capacity: Option<usize>,
}

impl Medium {
    pub(crate) fn new() -> Self {
        let nodes = BTreeMap::from([(ROOT, Node::Directory(Names::default()))]);
        Self { nodes, next: ROOT + 1, capacity: None }
    }

    pub(crate) fn node(&self, ino: Ino) -> Option<&Node> {
        self.nodes.get(&ino)
    }

    pub(crate) fn file(&mut self, ino: Ino) -> Option<&mut Contents> {
        match self.nodes.get_mut(&ino) {
            Some(Node::File(contents)) => Some(contents),
            _ => None,
        }
    }

    pub(crate) fn directory(&mut self, ino: Ino) -> Option<&mut Names> {
        match self.nodes.get_mut(&ino) {
            Some(Node::Directory(names)) => Some(names),
            _ => None,
        }
    }

    /// A new node; it has no name yet.
    pub(crate) fn add(&mut self, node: Node) -> Ino {
        let ino = self.next;
        self.next += 1;
        self.nodes.insert(ino, node);
        ino
    }

    /// Whether something has a name.
    pub(crate) fn is_named(&self, ino: Ino) -> bool {
        ino == ROOT || self.named().any(|(_, named)| named == ino)
    }

    fn named(&self) -> impl Iterator<Item = (&OsString, Ino)> {
        self.nodes
            .values()
            .filter_map(|node| match node {
                Node::Directory(names) => Some(names.iter()),
                Node::File(_) => None,
            })
            .flatten()
    }

    /// Pages in use by files that have a name.
    pub(crate) fn used(&self) -> usize {
        self.named()
            .map(|(_, ino)| match self.nodes.get(&ino) {
                Some(Node::File(contents)) => contents.pages(),
                _ => 1,
            })
            .sum()
    }

    /// Whether so many more pages can be had.
    pub(crate) fn has_room(&self, pages: usize) -> bool {
        pages == 0 || self.capacity.is_none_or(|capacity| self.used() + pages <= capacity)
    }

    /// Bytes in use, rounded up to pages, for people.
    pub(crate) fn free_pages(&self) -> usize {
        let all = self.capacity.unwrap_or((1 << 30) / PAGE_BYTES);
        all.saturating_sub(self.used())
    }

    /// What a restarted machine finds.
    pub(crate) fn after_power_cut(&self, dice: &mut Dice, injected: &mut Injected) -> Self {
        injected.power_cuts += 1;
        let odds = Odds::drawn(dice);
        let mut after = Self { nodes: BTreeMap::new(), next: self.next, capacity: self.capacity };
        let mut wanted = vec![ROOT];
        while let Some(ino) = wanted.pop() {
            let node = match &self.nodes[&ino] {
                Node::File(contents) => Node::File(contents.after_power_cut(odds, dice, injected)),
                Node::Directory(names) => {
                    let names = names.after_power_cut(odds, dice, injected);
                    wanted.extend(names.now.values());
                    Node::Directory(names)
                }
            };
            after.nodes.insert(ino, node);
        }
        after
    }
}

impl Names {
    /// Any of the pending changes survives without any other, or all up to one.
    fn after_power_cut(&self, odds: Odds, dice: &mut Dice, injected: &mut Injected) -> Self {
        let in_order = dice.below(2) == 0;
        let mut durable = self.durable.clone();
        let mut unbroken = true;
        for change in &self.pending {
            unbroken &= odds.survives(dice);
            if if in_order { unbroken } else { odds.survives(dice) } {
                change.apply(&mut durable);
                injected.names_kept += 1;
            } else {
                injected.names_lost += 1;
            }
        }
        Self { now: durable.clone(), durable, pending: Vec::new() }
    }
}
