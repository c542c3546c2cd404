//! Whether this node is fit to lead, and to accept: its disk may hang, or be full.
//!
//! Owns: what is known about the disk, and who is asked to lead instead. Does not own: who does what
//! about it (`node`), what an entry needs (`indelible`).
//!
//! A disk that hangs holds the node's own loop up, in a sync. So the one who asks another node to lead
//! is the log's stall watch, on its own thread.
//!
//! OmniPaxos panics if its storage returns an error, and a full disk is one. So a node whose disk has
//! little room lets nothing come to OmniPaxos that would be written as an entry, and tells it when it
//! missed something. Promises need no room.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use omnipaxos::messages::Message;
use omnipaxos::messages::sequence_paxos::PaxosMsg;
use omnipaxos::util::LogSync;
use parking_lot::Mutex;

use crate::kv::Command;
use crate::net::Link;
use crate::protocol::PeerFrame;
use crate::wire::Paxos;

/// A sync that takes longer is a reason not to lead. Less than the time after which the others look for
/// a leader by themselves.
pub(crate) const HANGS: Duration = Duration::from_millis(100);
/// How long what is known about the room stays true.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Bytes of an entry beside its key and value, at most.
const ENTRY_BYTES: usize = 64;

/// The way to somebody else who can lead.
#[derive(Debug, Default)]
pub(crate) struct Deputy {
    link: Mutex<Option<Arc<Link>>>,
    /// Times that somebody was asked.
    asked: AtomicU64,
}

impl Deputy {
    /// Names the deputy of a node that leads; nobody for one that does not.
    pub(crate) fn name(&self, link: Option<&Arc<Link>>) {
        *self.link.lock() = link.cloned();
    }

    /// Asks the deputy to lead. Does not block.
    pub(crate) fn ask(&self) {
        if let Some(link) = self.link.lock().take() {
            link.send(PeerFrame::Lead.to_bytes());
            self.asked.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

/// The room for entries.
#[derive(Debug)]
pub(crate) struct Room {
    looked: Option<Instant>,
    bytes: u64,
    full: bool,
}

impl Room {
    pub(crate) fn new() -> Self {
        Self { looked: None, bytes: u64::MAX, full: false }
    }

    /// Whether entries are refused.
    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    /// Looks again, now and then. Below two segments nothing is accepted, until there are six. `spares`
    /// tells how many bytes the log has ready. Returns whether there has come to be room.
    pub(crate) fn look(
        &mut self,
        log: &Path,
        spares: impl FnOnce() -> u64,
        segment_bytes: u64,
    ) -> bool {
        if self.looked.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return false;
        }
        self.looked = Some(Instant::now());
        let Ok(disk) = rustix::fs::statvfs(log) else { return false };
        self.bytes = (disk.f_bavail * disk.f_frsize).saturating_add(spares());
        let was = self.full;
        let least = if was { 6 * segment_bytes } else { 2 * segment_bytes };
        self.full = self.bytes < least;
        was && !self.full
    }

    /// Whether a message may be handled: not if it would have entries written for which there is no
    /// room.
    pub(crate) fn admits(&mut self, message: &Paxos, segment_bytes: u64) -> bool {
        let Some(bytes) = entry_bytes(message) else { return true };
        if self.bytes < (bytes as u64).saturating_add(segment_bytes) {
            self.full = true;
        }
        !self.full
    }
}

/// What a message would have written as entries; `None` for one that brings no entries.
fn entry_bytes(message: &Paxos) -> Option<usize> {
    let Message::SequencePaxos(paxos) = message else { return None };
    let commands = |commands: &[Command]| commands.iter().map(size).sum::<usize>();
    let log_sync = |sync: &LogSync<Command>| {
        let snapshot = usize::from(sync.decided_snapshot.is_some()) * SNAPSHOT_BYTES;
        snapshot + commands(&sync.suffix)
    };
    match &paxos.msg {
        PaxosMsg::Promise(m) => Some(m.log_sync.as_ref().map_or(0, log_sync)),
        PaxosMsg::AcceptSync(m) => Some(log_sync(&m.log_sync)),
        PaxosMsg::AcceptDecide(m) => Some(commands(&m.entries)),
        PaxosMsg::ProposalForward(entries) => Some(commands(entries)),
        // What it decides may not have come here.
        PaxosMsg::Decide(_) | PaxosMsg::AcceptStopSign(_) | PaxosMsg::ForwardStopSign(_) => Some(0),
        _ => None,
    }
}

/// What a snapshot is taken to need.
const SNAPSHOT_BYTES: usize = 256 * 1024;

fn size(command: &Command) -> usize {
    ENTRY_BYTES
        + match command {
            Command::Put { key, value, .. } => key.len() + value.len(),
            Command::Look { key, .. } => key.len(),
        }
}
