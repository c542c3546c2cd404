//! The file system under its lock: the medium, what is to go wrong, and what went wrong.
//!
//! Owns: every request that changes anything, by number, and what becomes of it. Does not own: the
//! kernel's protocol (`server`).
//!
//! Invariant: once the power is off nothing changes any more; every request answers `EIO`.

use std::ffi::OsStr;
use std::time::Duration;

use fuser::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::contents::{Contents, SECTOR_BYTES};
use super::dice::Dice;
use super::injected::Injected;
use super::medium::{Ino, Medium, Names, Node};

/// A kind of request that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Create,
    SetLength,
    Write,
    Sync,
    Rename,
    Remove,
    SyncDirectory,
    Read,
}

impl Call {
    pub(crate) const ALL: [Self; 8] = [
        Self::Create,
        Self::SetLength,
        Self::Write,
        Self::Sync,
        Self::Rename,
        Self::Remove,
        Self::SyncDirectory,
        Self::Read,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::SetLength => "set length",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::SyncDirectory => "directory sync",
            Self::Read => "read",
        }
    }
}

/// What goes wrong next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Nothing.
    Sound,
    /// The process is killed at its n-th request that changes anything. With `power`, neither that
    /// nor anything else is done any more; without, the kernel goes on and still writes back what
    /// the process left in its maps.
    Kill { at: u64, power: bool },
    /// The n-th call of a kind answers `EIO`, and with `forever` every later one of that kind.
    /// With `partial`, some of it is done all the same. With `kill`, the process does not live to
    /// see it.
    Fail { call: Call, nth: u64, forever: bool, partial: bool, kill: bool },
}

/// What a request is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    Whole,
    /// Some of it, and then answer `EIO`.
    Part,
    /// Nothing, and answer `EIO`.
    Nothing,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) medium: Medium,
    pub(crate) injected: Injected,
    plan: Plan,
    /// Requests that change anything since the plan was made; calls of the kind that is to fail.
    changes: u64,
    calls: u64,
    /// Faults since the plan was made.
    pub(crate) faults: u64,
    off: bool,
    /// How much longer than it has to a sync of a file takes.
    pub(crate) sync_delay: Duration,
    victim: Option<Pid>,
    dice: Dice,
}

type Answer<T> = Result<T, Errno>;

impl State {
    pub(crate) fn new(dice: Dice) -> Self {
        Self {
            medium: Medium::new(),
            injected: Injected::default(),
            plan: Plan::Sound,
            changes: 0,
            calls: 0,
            faults: 0,
            off: false,
            sync_delay: Duration::ZERO,
            victim: None,
            dice,
        }
    }

    /// From now on requests are counted towards this plan.
    pub(crate) fn plan(&mut self, plan: Plan) {
        (self.plan, self.changes, self.calls, self.faults) = (plan, 0, 0, 0);
    }

    /// The process that a plan may kill.
    pub(crate) fn set_victim(&mut self, victim: Pid) {
        self.victim = Some(victim);
    }

    /// Nobody may be killed any more, because the process is going to be waited for; answers
    /// whether it was.
    pub(crate) fn take_victim(&mut self) -> bool {
        self.victim.take().is_none()
    }

    /// The power goes off and comes back. Nobody has the file system mounted.
    pub(crate) fn cut_power(&mut self) {
        self.medium = self.medium.after_power_cut(&mut self.dice, &mut self.injected);
        self.off = false;
        self.plan(Plan::Sound);
    }

    /// The power goes off: nothing changes any more, and nothing answers.
    pub(crate) fn switch_off(&mut self) {
        self.off = true;
    }

    /// Nothing answers until the power is cut properly.
    pub(crate) fn is_off(&self) -> bool {
        self.off
    }

    fn kill(&mut self) {
        if let Some(victim) = self.victim.take() {
            self.injected.kills += 1;
            // It is a child that nobody has waited for, so the number is still its own.
            kill_process(victim, Signal::KILL).unwrap();
        }
    }

    /// What every request goes through that a plan can be about.
    fn enter(&mut self, call: Call) -> Answer<Course> {
        if self.off {
            return Err(Errno::EIO);
        }
        self.changes += u64::from(call != Call::Read);
        match self.plan {
            Plan::Kill { at, power } if self.changes >= at => {
                self.kill();
                self.off = power;
                self.plan = Plan::Sound;
                // A killed process waits for the request it has made: the kernel carries it out.
                if power { Err(Errno::EIO) } else { Ok(Course::Whole) }
            }
            Plan::Fail { call: failing, nth, forever, partial, kill } if call == failing => {
                self.calls += 1;
                if self.calls < nth || (self.calls > nth && !forever) {
                    return Ok(Course::Whole);
                }
                self.faults += 1;
                *self.injected.eio.entry(call.name()).or_default() += 1;
                if kill {
                    self.kill();
                }
                Ok(if partial { Course::Part } else { Course::Nothing })
            }
            _ => Ok(Course::Whole),
        }
    }

    fn full(&mut self, call: Call) -> Errno {
        *self.injected.enospc.entry(call.name()).or_default() += 1;
        Errno::ENOSPC
    }

    pub(crate) fn directory(&mut self, ino: Ino) -> Answer<&mut Names> {
        self.medium.directory(ino).ok_or(Errno::ENOTDIR)
    }

    pub(crate) fn file(&mut self, ino: Ino) -> Answer<&mut Contents> {
        self.medium.file(ino).ok_or(Errno::EISDIR)
    }

    pub(crate) fn create(&mut self, parent: Ino, name: &OsStr, node: Node) -> Answer<Ino> {
        if self.directory(parent)?.find(name).is_some() {
            return Err(Errno::EEXIST);
        }
        let course = self.enter(Call::Create)?;
        if course == Course::Nothing {
            return Err(Errno::EIO);
        }
        let ino = self.medium.add(node);
        self.directory(parent)?.link(ino, name);
        done(course).map(|()| ino)
    }

    pub(crate) fn remove(&mut self, parent: Ino, name: &OsStr) -> Answer<()> {
        let ino = self.directory(parent)?.find(name).ok_or(Errno::ENOENT)?;
        if let Some(Node::Directory(names)) = self.medium.node(ino)
            && names.iter().next().is_some()
        {
            return Err(Errno::ENOTEMPTY);
        }
        let course = self.enter(Call::Remove)?;
        if course != Course::Nothing {
            self.directory(parent)?.unlink(ino);
        }
        done(course)
    }

    pub(crate) fn rename(&mut self, parent: Ino, from: &OsStr, to: &OsStr) -> Answer<()> {
        let ino = self.directory(parent)?.find(from).ok_or(Errno::ENOENT)?;
        let course = self.enter(Call::Rename)?;
        if course != Course::Nothing {
            self.directory(parent)?.link(ino, to);
        }
        done(course)
    }

    pub(crate) fn sync_directory(&mut self, ino: Ino) -> Answer<()> {
        let course = self.enter(Call::SyncDirectory)?;
        let pending = self.directory(ino)?.pending();
        let count = match course {
            Course::Whole => pending,
            Course::Part => usize::try_from(self.dice.below(pending as u64 + 1)).unwrap(),
            Course::Nothing => 0,
        };
        self.directory(ino)?.settle(count);
        self.injected.directory_syncs += u64::from(course == Course::Whole);
        done(course)
    }

    pub(crate) fn read(&mut self, ino: Ino, offset: u64, count: u32) -> Answer<&[u8]> {
        done(self.enter(Call::Read)?)?;
        let (offset, count) = (position(offset)?, position(count.into())?);
        Ok(self.file(ino)?.read(offset, count))
    }

    /// `cached`: the kernel writes back its own cache, which shows these bytes whatever happens.
    pub(crate) fn write(
        &mut self,
        ino: Ino,
        offset: u64,
        bytes: &[u8],
        cached: bool,
    ) -> Answer<()> {
        let offset = position(offset)?;
        let course = self.enter(Call::Write)?;
        let bytes = match course {
            Course::Whole => bytes,
            Course::Part => &bytes[..usize::try_from(self.dice.below(bytes.len() as u64)).unwrap()],
            Course::Nothing => &[],
        };
        if cached && course != Course::Whole {
            self.injected.cached_only += (bytes.len() / SECTOR_BYTES) as u64;
        }
        let wanted = self.file(ino)?.pages_wanted(offset, bytes.len());
        if !self.medium.has_room(wanted) {
            return Err(self.full(Call::Write));
        }
        if !bytes.is_empty() {
            self.file(ino)?.write(offset, bytes);
        }
        done(course)
    }

    pub(crate) fn set_len(&mut self, ino: Ino, len: u64) -> Answer<()> {
        let len = position(len)?;
        let course = self.enter(Call::SetLength)?;
        if course != Course::Nothing {
            self.file(ino)?.set_len(len);
        }
        done(course)
    }

    /// Gives space to a range, which becomes part of the file.
    pub(crate) fn reserve(&mut self, ino: Ino, offset: u64, count: u64) -> Answer<()> {
        let (offset, count) = (position(offset)?, position(count)?);
        let course = self.enter(Call::SetLength)?;
        let wanted = self.file(ino)?.pages_wanted(offset, count);
        if !self.medium.has_room(wanted) {
            return Err(self.full(Call::SetLength));
        }
        if course != Course::Nothing {
            let file = self.file(ino)?;
            file.reserve(offset, count);
            if offset + count > file.len() {
                file.set_len(offset + count);
            }
        }
        done(course)
    }

    pub(crate) fn sync(&mut self, ino: Ino) -> Answer<()> {
        let course = self.enter(Call::Sync)?;
        let Some(file) = self.medium.file(ino) else { return Err(Errno::EISDIR) };
        match course {
            Course::Whole => {
                file.sync();
                self.injected.syncs += 1;
            }
            Course::Part => {
                let dice = &mut self.dice;
                self.injected.cached_only += file.sync_and_fail(|| dice.below(2) == 0);
            }
            Course::Nothing => self.injected.cached_only += file.sync_and_fail(|| false),
        }
        done(course)
    }
}

fn done(course: Course) -> Answer<()> {
    if course == Course::Whole { Ok(()) } else { Err(Errno::EIO) }
}

/// Files here are small.
fn position(value: u64) -> Answer<usize> {
    usize::try_from(value).ok().filter(|&it| it < 1 << 30).ok_or(Errno::EFBIG)
}
