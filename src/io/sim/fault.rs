//! What a simulated disk is told to do wrong, when, and what it remembers of the calls it got.
//!
//! Owns: the kinds of calls and faults, the plan, the counters, the trace. Does not own: what a
//! fault does to bytes and names (`file`, `disk`).

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How many calls a trace remembers.
pub const TRACE_CALLS_MAX: usize = 1 << 14;

/// A kind of call through the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Op {
    /// `Directory::list`
    List,
    /// `Directory::lock`
    Lock,
    /// `Directory::create`
    Create,
    /// `Directory::open`; with `Access::Distrust` a [`Op::Sync`] of its own follows.
    Open,
    /// `Directory::rename`
    Rename,
    /// `Directory::remove`
    Remove,
    /// `Directory::sync`
    SyncDirectory,
    /// `File::read_at`
    Read,
    /// `File::write_at`
    Write,
    /// `File::sync`
    Sync,
    /// `File::map`
    Map,
}

impl Op {
    /// Whether the call can change anything.
    pub fn changes(self) -> bool {
        !matches!(self, Self::List | Self::Lock | Self::Open | Self::Read | Self::Map)
    }

    /// Whether the call takes a descriptor or memory from the system.
    fn takes_a_share(self) -> bool {
        matches!(self, Self::List | Self::Lock | Self::Create | Self::Open | Self::Map)
    }

    /// Whether the call can meet a full disk.
    fn needs_space(self) -> bool {
        matches!(self, Self::Create | Self::Write | Self::Sync)
    }
}

/// What goes wrong in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// `EIO`, and the call did nothing. A sync marks its sectors clean all the same, so that the
    /// next one reports success without having written them: that is what kernels do.
    Io,
    /// `EIO` after part of the call was done: a write stored some of its bytes, a sync put some of
    /// its sectors on the medium, a directory sync some of its names; a creation, rename or
    /// removal was done although it says it was not.
    IoPartial,
    /// As [`Fault::Io`]; from then on every call that changes anything returns `EROFS`.
    ReadOnly,
    /// `ENOSPC`: a write stored some of its bytes; a sync is as with [`Fault::Io`]. Calls that need
    /// no space are spared.
    Full,
    /// `EMFILE`, and the call did nothing. Calls that take no descriptor and no memory are spared.
    Shortage,
    /// The call takes so long, in real time, and works. The disk does nothing else meanwhile: other
    /// calls wait for it.
    Delay(Duration),
}

/// How often a fault happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no third")]
pub enum Repeat {
    /// In one call.
    Once,
    /// In that call and in every later one.
    Forever,
}

/// Where in a call the machine stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the call has returned is before the next one")]
pub enum Moment {
    /// Before it did anything.
    Before,
    /// When it was half done, as with [`Fault::IoPartial`].
    Within,
}

/// One call, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call {
    /// Its number; the first call has 1.
    pub number: u64,
    /// Its kind.
    pub op: Op,
    /// The file it was about; empty for the directory.
    pub name: Arc<str>,
}

/// How much was asked of a disk since it began, or since the crash it came out of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Calls of every kind.
    pub calls: u64,
    /// Listings of the directory.
    pub lists: u64,
    /// Reads by position.
    pub reads: u64,
    /// Bytes in those reads.
    pub bytes_read: u64,
    /// Writes.
    pub writes: u64,
    /// Bytes in those writes.
    pub bytes_written: u64,
    /// Syncs of files.
    pub syncs: u64,
    /// Syncs of the directory.
    pub directory_syncs: u64,
    /// Syncs that succeeded, for each file that has a name now.
    pub syncs_by_file: BTreeMap<String, u64>,
    /// Calls that [`Fault::Delay`] held up.
    pub delays: u64,
    /// Faults that happened, delays among them. A test that injects should see this move.
    pub faults: u64,
}

/// What one call is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    /// All of it.
    Whole,
    /// As the fault says.
    Fails(Fault),
    /// Half of it, and then the machine stops.
    Halfway,
}

#[derive(Debug, Clone, Copy)]
struct Planned {
    from: u64,
    op: Option<Op>,
    fault: Fault,
    repeat: Repeat,
}

/// The plan, the counters and the trace of one disk.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) counts: Counts,
    planned: Vec<Planned>,
    crash_at: Option<(u64, Moment)>,
    read_only: bool,
    trace: VecDeque<Call>,
}

impl Script {
    pub(super) fn plan(&mut self, from: u64, op: Option<Op>, fault: Fault, repeat: Repeat) {
        self.planned.push(Planned { from, op, fault, repeat });
    }

    pub(super) fn plan_crash(&mut self, call: u64, moment: Moment) {
        self.crash_at = Some((call, moment));
    }

    pub(super) fn clear(&mut self) {
        self.planned.clear();
        self.crash_at = None;
        self.read_only = false;
    }

    pub(super) fn trace(&self) -> Vec<Call> {
        self.trace.iter().cloned().collect()
    }

    /// The script of the next process on the same machine.
    pub(super) fn after_kill(&self) -> Self {
        Self { read_only: self.read_only, ..Self::default() }
    }

    /// Counts a call and says what becomes of it; `None` if the machine stops before it.
    pub(super) fn enter(&mut self, op: Op, name: &Arc<str>) -> Option<io::Result<Course>> {
        self.counts.calls += 1;
        let number = self.counts.calls;
        match op {
            Op::List => self.counts.lists += 1,
            Op::Read => self.counts.reads += 1,
            Op::Write => self.counts.writes += 1,
            Op::Sync => self.counts.syncs += 1,
            Op::SyncDirectory => self.counts.directory_syncs += 1,
            _ => {}
        }
        if self.trace.len() == TRACE_CALLS_MAX {
            self.trace.pop_front();
        }
        self.trace.push_back(Call { number, op, name: Arc::clone(name) });
        match self.crash_at {
            Some((call, Moment::Before)) if number >= call => return None,
            Some((call, Moment::Within)) if number >= call => return Some(Ok(Course::Halfway)),
            _ => {}
        }
        if self.read_only && op.changes() {
            return Some(Err(io::ErrorKind::ReadOnlyFilesystem.into()));
        }
        Some(Ok(self.fault(op, number)))
    }

    fn fault(&mut self, op: Op, number: u64) -> Course {
        let due = self.planned.iter().position(|planned| {
            number >= planned.from
                && planned.op.is_none_or(|only| only == op)
                && (planned.fault != Fault::Full || op.needs_space())
                && (planned.fault != Fault::ReadOnly || op.changes())
                && (planned.fault != Fault::Shortage || op.takes_a_share())
        });
        let Some(planned) = due.and_then(|at| self.planned.get(at).copied().map(|it| (at, it)))
        else {
            return Course::Whole;
        };
        let (at, planned) = planned;
        if planned.repeat == Repeat::Once {
            self.planned.remove(at);
        }
        self.counts.faults += 1;
        match planned.fault {
            Fault::Delay(time) => {
                self.counts.delays += 1;
                std::thread::sleep(time);
                return Course::Whole;
            }
            Fault::ReadOnly => self.read_only = true,
            Fault::Io | Fault::IoPartial | Fault::Full | Fault::Shortage => {}
        }
        Course::Fails(planned.fault)
    }
}

impl Fault {
    /// What the caller gets to see.
    pub(super) fn error(self) -> io::Error {
        match self {
            Self::Full => io::ErrorKind::StorageFull.into(),
            Self::Shortage => io::Error::from_raw_os_error(libc::EMFILE),
            Self::Io | Self::IoPartial | Self::ReadOnly | Self::Delay(_) => {
                io::Error::from_raw_os_error(libc::EIO)
            }
        }
    }
}

/// What every call returns once the machine has stopped.
pub(super) fn down() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the simulated machine is down")
}
