//! What a peer must be able to do to take part, and the list of those that do.
//!
//! Owns: the trait, the two modes, the register. Does not own: what is measured (`work`), how one
//! peer does it (`peers::*`).
//!
//! A peer is opened the way its own documentation recommends, with its default options, except
//! where a comment at the option says why. A peer without a mode takes no part in the works that
//! need it, and is named below their tables.

use std::error::Error;
use std::path::Path;

use crate::owned::{Owned, Seen};
use crate::peers;

/// The result of whatever a peer does; each has an error type of its own.
pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// An open peer.
pub type Opened = Outcome<Box<dyn Peer>>;

/// When an append may return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// When the peer says that the entries survive a power cut.
    Synced,
    /// As soon as the peer lets it: its fastest way to append, whatever that survives.
    Unsynced,
}

/// One open log, store or file.
pub trait Peer: Send + Sync {
    /// Appends `entries` in order, as one batch where the peer has batches. `lane` numbers the
    /// calling thread: a store of many logs (raft-engine) gives each lane its own.
    fn append(&self, lane: usize, entries: &[&[u8]]) -> Outcome<()>;

    /// Makes everything appended so far as durable as the peer can.
    fn flush(&self) -> Outcome<()>;

    /// `count` entries of lane 0 from the `first`-th on, in the cheapest form in which the reader can
    /// keep them.
    fn read(&self, first: u64, count: usize) -> Outcome<Box<dyn Owned>>;

    /// Looks at the same entries without copying them, where the peer can.
    fn look(&self, first: u64, count: usize) -> Option<Outcome<Seen>> {
        let _ = (first, count);
        None
    }

    /// How many entries of lane 0 the peer has, if it knows. Asked after an open, so that an open
    /// which only postponed its work is timed together with it.
    fn entries(&self) -> Outcome<Option<u64>>;
}

/// A peer that can be opened.
#[derive(Clone, Copy)]
pub struct Kind {
    /// The name in tables and in `--only`.
    pub name: &'static str,
    /// What a reader of the table has to know.
    pub note: &'static str,
    /// The modes it has.
    pub modes: &'static [Mode],
    /// Opens it in a directory that exists.
    pub open: fn(&Path, Mode) -> Opened,
}

impl Kind {
    pub fn has(&self, mode: Mode) -> bool {
        self.modes.contains(&mode)
    }
}

const BOTH: &[Mode] = &[Mode::Synced, Mode::Unsynced];

/// The name of the peer that all others are divided by.
pub const FLOOR: &str = "floor";

/// The floor of direct writes.
pub const FLOOR_DIRECT: &str = "floor-direct";

/// Every peer, the floors first.
pub const KINDS: &[Kind] = &[
    Kind {
        name: FLOOR,
        note: "pwrite onto zero-filled space, fdatasync; no framing, no checksum, no index",
        modes: BOTH,
        open: peers::floor::open,
    },
    Kind {
        name: FLOOR_DIRECT,
        note: "the same in whole blocks past the page cache, durable on return (RWF_DSYNC)",
        modes: &[Mode::Synced],
        open: peers::floor::open_direct,
    },
    Kind {
        name: "indelible",
        note: "as it comes: Always when synced; Os when not, gathered in memory",
        modes: BOTH,
        open: peers::indelible::open,
    },
    Kind {
        name: "indelible-os",
        note: "Os, as it comes: appends that are not synced and survive the process",
        modes: &[Mode::Unsynced],
        open: peers::indelible::open_os,
    },
    Kind {
        name: "indelible-mmap",
        note: "Always, stored through the map; when not synced that is indelible-os",
        modes: &[Mode::Synced],
        open: peers::indelible::open_mmap,
    },
    Kind {
        name: "indelible-pwrite",
        note: "one pwrite a batch; Always when synced, Os when not",
        modes: BOTH,
        open: peers::indelible::open_pwrite,
    },
    Kind {
        name: "raft-engine",
        note: "one raft group a thread (one group takes no concurrent appends)",
        modes: BOTH,
        open: peers::raft_engine::open,
    },
    Kind {
        name: "raft-log",
        note: "default 1 ms gather; unsynced appends stay in the process's memory",
        modes: BOTH,
        open: peers::raft_log::open,
    },
    Kind {
        name: "raft-log-nowait",
        note: "without the gather",
        modes: BOTH,
        open: peers::raft_log::open_nowait,
    },
    #[cfg(feature = "rocksdb")]
    Kind { name: "rocksdb", note: "WAL, sync on or off", modes: BOTH, open: peers::rocks::open },
    Kind {
        name: "okaywal",
        note: "no unsynced appends; the host keeps the index (24 bytes an entry)",
        modes: &[Mode::Synced],
        open: peers::okaywal::open,
    },
    Kind {
        name: "fjall",
        note: "journal, PersistMode::SyncData or none",
        modes: BOTH,
        open: peers::fjall::open,
    },
    Kind {
        name: "sled",
        note: "flush() after each batch; unsynced appends stay in the process's memory",
        modes: BOTH,
        open: peers::sled::open,
    },
    Kind {
        name: "redb",
        note: "a transaction a batch; Durability::Immediate or None",
        modes: BOTH,
        open: peers::redb::open,
    },
    Kind {
        name: "commitlog",
        note: "flush() after each batch: see the sync calls",
        modes: BOTH,
        open: peers::commitlog::open,
    },
    Kind {
        name: "wal-db",
        note: "one file, its own group commit; the host keeps the positions (8 bytes an entry)",
        modes: BOTH,
        open: peers::wal_db::open,
    },
    Kind {
        name: "wal-db-segments",
        note: "the same in segments of 64 MiB",
        modes: BOTH,
        open: peers::wal_db::open_segmented,
    },
    Kind {
        name: "walrus",
        note: "SyncEach or NoFsync; reads move one cursor forward and cannot start at an index",
        modes: BOTH,
        open: peers::walrus::open,
    },
];
