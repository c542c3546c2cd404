//! What a peer must be able to do to take part, and the list of those that do.
//!
//! Owns: the trait, the two modes, the register. Does not own: what is measured (`work`), how one
//! peer does it (`peers::*`).
//!
//! A peer is opened the way its own documentation recommends, with its default options, except
//! where a comment at the option says why. What one peer cannot do it answers with `None`; that
//! is shown as a dash and never as a time.

use std::error::Error;
use std::path::Path;

use crate::peers;

/// The result of whatever a peer does; each has an error type of its own.
pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// An open peer, or `None` if it has no such mode.
pub type Opened = Outcome<Option<Box<dyn Peer>>>;

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

    /// Owned copies of `count` entries of lane 0 from the `first`-th on.
    fn read(&self, first: u64, count: usize) -> Outcome<Vec<Vec<u8>>>;

    /// Shows the same entries without copying them, where the peer can. Returns the bytes seen.
    fn read_borrowed(&self, first: u64, count: usize) -> Option<Outcome<usize>> {
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
    /// Opens it in a directory that exists.
    pub open: fn(&Path, Mode) -> Opened,
}

/// The name of the peer that all others are divided by.
pub const FLOOR: &str = "floor";

/// Every peer, the floor first.
pub const KINDS: &[Kind] = &[
    Kind {
        name: FLOOR,
        note: "pwrite onto zero-filled space, fdatasync; no framing, no checksum, no index",
        open: peers::floor::open,
    },
    Kind {
        name: "indelible",
        note: "mmap + fdatasync; Always when synced, Os when not",
        open: peers::indelible::open_mmap,
    },
    Kind {
        name: "indelible-pwrite",
        note: "the same, written with pwrite",
        open: peers::indelible::open_pwrite,
    },
    Kind {
        name: "indelible-barrier",
        note: "Barrier: commit, then sync() when synced; unsynced without the sync",
        open: peers::indelible::open_barrier,
    },
    Kind {
        name: "raft-engine",
        note: "one raft group a thread (one group takes no concurrent appends)",
        open: peers::raft_engine::open,
    },
    Kind {
        name: "raft-log",
        note: "default 1 ms gather; unsynced appends stay in the process's memory",
        open: peers::raft_log::open,
    },
    Kind {
        name: "raft-log-nowait",
        note: "without the gather",
        open: peers::raft_log::open_nowait,
    },
    #[cfg(feature = "rocksdb")]
    Kind { name: "rocksdb", note: "WAL, sync on or off", open: peers::rocks::open },
    Kind {
        name: "okaywal",
        note: "no unsynced appends; the host keeps the index (24 bytes an entry)",
        open: peers::okaywal::open,
    },
    Kind {
        name: "fjall",
        note: "journal, PersistMode::SyncData or none",
        open: peers::fjall::open,
    },
    Kind {
        name: "sled",
        note: "flush() after each batch; unsynced appends stay in the process's memory",
        open: peers::sled::open,
    },
    Kind {
        name: "redb",
        note: "a transaction a batch; Durability::Immediate or None",
        open: peers::redb::open,
    },
    Kind {
        name: "commitlog",
        note: "flush() after each batch: see the sync calls",
        open: peers::commitlog::open,
    },
    Kind {
        name: "walrus",
        note: "SyncEach or NoFsync; reads move one cursor forward and cannot start at an index",
        open: peers::walrus::open,
    },
];
