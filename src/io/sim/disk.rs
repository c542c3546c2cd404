//! The simulated disk itself: the first half of the door, and what a test does to it.
//!
//! Owns: the handle. Does not own: the state behind it (`machine`) nor what happens to it
//! (`crash`, `fault`, `rot`).

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::crash::{NameOrder, Persistence, Unit, chosen, drawn};
use super::fault::{Call, Counts, Course, Fault, Moment, Op, Repeat};
use super::file::{self, SimFile};
use super::inode::{Fate, Inode};
use super::machine::{Machine, NameOp};
use super::rng::Rng;
use super::rot::Rot;
use crate::format::names;
use crate::io::{Access, Directory, DirectoryEntry, File, Lock, LockRefused, check_name};

/// A simulated disk with one directory; see the [module](super) for what it simulates. A clone is
/// another handle to the same disk.
#[derive(Debug, Clone)]
pub struct SimDisk {
    machine: Arc<Mutex<Machine>>,
}

impl SimDisk {
    /// An empty disk. Everything that is left to chance follows from `seed` and from the calls.
    pub fn new(seed: u64) -> Self {
        Self::from_machine(Machine::new(Rng::new(seed)))
    }

    /// A disk on which these files, by name and contents, are durable.
    pub fn from_image(seed: u64, files: &[(String, Vec<u8>)]) -> Self {
        let mut machine = Machine::new(Rng::new(seed));
        for (name, bytes) in files {
            let name: Arc<str> = Arc::from(name.as_str());
            let number = machine.add(Inode::durable(Arc::clone(&name), bytes));
            machine.names.insert(Arc::clone(&name), number);
            machine.durable.insert(name, number);
        }
        Self::from_machine(machine)
    }

    fn from_machine(machine: Machine) -> Self {
        Self { machine: Arc::new(Mutex::new(machine)) }
    }

    /// All files by name and contents, as reads see them.
    pub fn image(&self) -> Vec<(String, Vec<u8>)> {
        let machine = self.machine.lock();
        let files = machine.names.iter();
        files
            .filter_map(|(name, number)| Some((name, machine.inodes.get(number)?)))
            .map(|(name, inode)| (name.to_string(), inode.cached_bytes()))
            .collect()
    }

    /// All files by name and contents, as they are durable: what [`Persistence::Nothing`] leaves.
    pub fn durable_image(&self) -> Vec<(String, Vec<u8>)> {
        let machine = self.machine.lock();
        let files = machine.durable.iter();
        files
            .filter_map(|(name, number)| Some((name, machine.inodes.get(number)?)))
            .map(|(name, inode)| (name.to_string(), inode.media_bytes()))
            .collect()
    }

    // Crashes.

    /// Cuts the power: this disk stops for good, and the one that is returned is what a restarted
    /// machine finds. Can be called again, for another outcome of the same crash.
    #[must_use = "the disk after the crash is another one"]
    pub fn crash_with(&self, persistence: Persistence) -> Self {
        self.machine.lock().stop();
        self.crash_copy(persistence)
    }

    /// As [`Self::crash_with`]: of what is not durable exactly the units survive that `survives` names.
    ///
    /// # Panics
    ///
    /// If there are more units than a [`Persistence::Mask`] holds.
    #[must_use = "the disk after the crash is another one"]
    pub fn crash_keeping(&self, survives: impl Fn(&Unit) -> bool) -> Self {
        let units = self.units();
        assert!(units.len() <= 64, "{} units are not durable", units.len());
        let kept = units.iter().enumerate().filter(|(_, unit)| survives(unit));
        self.crash_with(Persistence::Mask(kept.fold(0, |mask, (at, _)| mask | 1 << at)))
    }

    /// As [`Self::crash_with`], with every decision taken by `choose`, which returns a number
    /// below its argument: for fuzzers and property tests. 0 is always the older state. It must
    /// not use this disk.
    #[must_use = "the disk after the crash is another one"]
    pub fn crash(&self, choose: &mut dyn FnMut(u64) -> u64) -> Self {
        let mut machine = self.machine.lock();
        machine.stop();
        Self::from_machine(machine.after_power_cut(&mut || chosen(choose)))
    }

    /// What [`Self::crash_with`] would leave if the power were cut now, while this disk runs on.
    #[must_use = "this disk runs on"]
    pub fn crash_copy(&self, persistence: Persistence) -> Self {
        let machine = self.machine.lock();
        let after = match persistence {
            Persistence::Nothing => machine.after_power_cut(&mut || Fate::Old),
            Persistence::Everything => machine.after_power_cut(&mut || Fate::New),
            Persistence::Random(seed) => machine.after_power_cut(&mut drawn(seed)),
            Persistence::Mask(mut mask) => machine.after_power_cut(&mut || {
                let survives = mask & 1 == 1;
                mask >>= 1;
                if survives { Fate::New } else { Fate::Old }
            }),
        };
        Self::from_machine(after)
    }

    /// Kills the process: this disk stops for good. On the one that is returned the cache is as it
    /// was, what was not durable still is not, and the lock is free.
    ///
    /// # Panics
    /// If there is no memory left for the copy.
    #[must_use = "the disk after the kill is another one"]
    #[expect(clippy::expect_used, reason = "a test without memory cannot go on")]
    pub fn kill(&self) -> Self {
        let mut machine = self.machine.lock();
        machine.stop();
        Self::from_machine(machine.after_kill().expect("memory for the cache"))
    }

    /// What [`Self::kill`] would leave if the process were killed now, while this disk runs on.
    ///
    /// # Panics
    /// If there is no memory left for the copy.
    #[must_use = "this disk runs on"]
    #[expect(clippy::expect_used, reason = "a test without memory cannot go on")]
    pub fn kill_copy(&self) -> Self {
        Self::from_machine(self.machine.lock().after_kill().expect("memory for the cache"))
    }

    /// Stops the machine at call number `call`; calls count from 1. From there on every call
    /// through this handle's files and directory fails and changes nothing. Follow it with
    /// [`Self::crash_with`] or [`Self::kill`].
    pub fn crash_at_call(&self, call: u64, moment: Moment) {
        self.machine.lock().script.plan_crash(call, moment);
    }

    /// Whether the machine has stopped.
    pub fn is_down(&self) -> bool {
        self.machine.lock().down
    }

    /// How many independent things a power cut would decide on now: `1 << dirty_units()` masks of
    /// [`Persistence::Mask`] are all the crash states there are, torn sectors aside.
    pub fn dirty_units(&self) -> usize {
        self.machine.lock().units().len()
    }

    /// The same things, each by its name; the first is the lowest bit of a mask.
    pub fn units(&self) -> Vec<Unit> {
        self.machine.lock().units()
    }

    /// Which changes of names may survive a power cut together; [`NameOrder::Any`] at first.
    pub fn set_name_order(&self, order: NameOrder) {
        self.machine.lock().name_order = order;
    }

    // Faults.

    /// Lets call number `call` fail, counted from 1; where that call cannot fail so, the first one
    /// after it that can. See [`Self::counts`] for how many there were so far.
    pub fn fail_call(&self, call: u64, fault: Fault, repeat: Repeat) {
        self.machine.lock().script.plan(call, None, fault, repeat);
    }

    /// Lets the next call of one kind fail.
    pub fn fail_next(&self, op: Op, fault: Fault, repeat: Repeat) {
        self.fail_from(0, op, fault, repeat);
    }

    /// As [`Self::fail_call`], for calls of one kind: a device that takes no more writes lets the
    /// page cache go on, and only syncs tell.
    pub fn fail_from(&self, call: u64, op: Op, fault: Fault, repeat: Repeat) {
        self.machine.lock().script.plan(call, Some(op), fault, repeat);
    }

    /// Forgets every planned fault and crash, and ends `EROFS`.
    pub fn clear_faults(&self) {
        self.machine.lock().script.clear();
    }

    /// The kernel writes a file back by itself and fails: its dirty sectors become clean without
    /// reaching the medium, and the next sync, by whomever, reports it; the one after does not.
    ///
    /// # Errors
    /// There is no such file.
    pub fn fail_writeback(&self, name: &str) -> io::Result<()> {
        let mut machine = self.machine.lock();
        let number = machine.find(name)?;
        let inode = machine.inode(number)?;
        inode.write_back(&(0..usize::MAX), || false);
        inode.latched = true;
        Ok(())
    }

    /// Limits the space for all files, in bytes; `None` takes the limit away. A file that was
    /// created with `allocate` takes its whole length at once, any other up to the highest byte
    /// that was written to it. Stores through maps take none, see [`Self::stray_stores`].
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.machine.lock().capacity = bytes;
    }

    /// Bytes that are in use of [`Self::set_capacity`].
    pub fn used(&self) -> u64 {
        self.machine.lock().used()
    }

    /// How many sectors were synced that had been stored through a map where the file had no space.
    /// On a machine such a store kills the process once the disk is full.
    pub fn stray_stores(&self) -> u64 {
        self.machine.lock().inodes.values().map(|inode| inode.stray).sum()
    }

    /// Damages a file on the medium.
    ///
    /// # Errors
    /// There is no such file, or it has no such byte.
    pub fn rot(&self, name: &str, rot: Rot) -> io::Result<()> {
        let mut machine = self.machine.lock();
        let number = machine.find(name)?;
        if rot == Rot::Remove {
            let op = NameOp::Unlink { inode: number };
            op.apply(&mut machine.names);
            op.apply(&mut machine.durable);
            machine.pending.retain(|op| op.inode() != number);
            return Ok(());
        }
        machine.inode(number)?.rot(rot)
    }

    // What was asked of the disk.

    /// How many calls there were; the number of the last one.
    pub fn calls(&self) -> u64 {
        self.machine.lock().script.counts.calls
    }

    /// How much was asked of the disk so far.
    pub fn counts(&self) -> Counts {
        let machine = self.machine.lock();
        let mut counts = machine.script.counts.clone();
        for (name, number) in &machine.names {
            let syncs = machine.inodes.get(number).map_or(0, |inode| inode.syncs);
            counts.syncs_by_file.insert(name.to_string(), syncs);
        }
        counts
    }

    /// The last calls, at most [`super::TRACE_CALLS_MAX`], the oldest first.
    pub fn trace(&self) -> Vec<Call> {
        self.machine.lock().script.trace()
    }
}

#[derive(Debug)]
struct SimLock {
    machine: Arc<Mutex<Machine>>,
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.machine.lock().locked = false;
    }
}

impl Directory for SimDisk {
    fn list(&self) -> io::Result<Vec<DirectoryEntry>> {
        let machine = &mut *self.machine.lock();
        let course = machine.enter(Op::List, &Arc::from(""))?;
        machine.leave(course)?;
        let files = machine.names.iter();
        Ok(files
            .filter_map(|(name, number)| Some((name, machine.inodes.get(number)?)))
            .map(|(name, inode)| DirectoryEntry::new(&**name, inode.len as u64))
            .collect())
    }

    fn lock(&self) -> Result<Box<dyn Lock>, LockRefused> {
        let machine = &mut *self.machine.lock();
        let course = machine.enter(Op::Lock, &Arc::from("")).map_err(LockRefused::Io)?;
        machine.leave(course).map_err(LockRefused::Io)?;
        if machine.locked {
            return Err(LockRefused::Held(Some(std::process::id())));
        }
        machine.locked = true;
        Ok(Box::new(SimLock { machine: Arc::clone(&self.machine) }))
    }

    fn create(&self, bytes: u64, allocate: bool) -> io::Result<(String, Arc<dyn File>)> {
        let machine = &mut *self.machine.lock();
        let name: Arc<str> = loop {
            let name = names::temporary(machine.rng.next());
            if !machine.names.contains_key(name.as_str()) {
                break Arc::from(name);
            }
        };
        let course = machine.enter(Op::Create, &name)?;
        if matches!(
            course,
            Course::Fails(Fault::Io | Fault::ReadOnly | Fault::Full | Fault::Shortage)
        ) {
            machine.leave(course)?;
        }
        let reserved = if allocate { bytes } else { 0 };
        if reserved > machine.left() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let len = usize::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let inode = machine.add(Inode::new(Arc::clone(&name), len, reserved));
        machine.change_names(NameOp::Link { inode, name: Arc::clone(&name) });
        machine.leave(course)?;
        let file = SimFile::open(&self.machine, machine, inode, Access::Write)?;
        Ok((name.to_string(), file))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        check_name(name)?;
        let machine = &mut *self.machine.lock();
        let name: Arc<str> = Arc::from(name);
        let course = machine.enter(Op::Open, &name)?;
        machine.leave(course)?;
        let inode = machine.find(&name)?;
        if let Access::Distrust { from, to } = access {
            let course = machine.enter(Op::Sync, &name)?;
            file::sync(machine, inode, &(0..usize::MAX), course)?;
            let offset = |at| usize::try_from(at).unwrap_or(usize::MAX);
            machine.inode(inode)?.distrust(offset(from)..offset(to))?;
        }
        SimFile::open(&self.machine, machine, inode, access)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_name(from)?;
        check_name(to)?;
        let machine = &mut *self.machine.lock();
        let course = machine.enter(Op::Rename, &Arc::from(from))?;
        let inode = machine.find(from)?;
        if from != to && !matches!(course, Course::Fails(Fault::Io | Fault::ReadOnly)) {
            machine.change_names(NameOp::Link { inode, name: Arc::from(to) });
        }
        machine.leave(course)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        let machine = &mut *self.machine.lock();
        let course = machine.enter(Op::Remove, &Arc::from(name))?;
        let inode = machine.find(name)?;
        if !matches!(course, Course::Fails(Fault::Io | Fault::ReadOnly)) {
            machine.change_names(NameOp::Unlink { inode });
        }
        machine.leave(course)
    }

    fn sync(&self) -> io::Result<()> {
        let machine = &mut *self.machine.lock();
        let course = machine.enter(Op::SyncDirectory, &Arc::from(""))?;
        let settled = match course {
            Course::Whole => machine.pending.len(),
            Course::Fails(Fault::IoPartial) | Course::Halfway => {
                machine.rng.up_to(machine.pending.len())
            }
            Course::Fails(_) => 0,
        };
        machine.settle_names(settled);
        machine.leave(course)
    }

    fn takes_direct(&self) -> bool {
        true
    }

    /// Returns even when the machine is down: nothing about it can be learnt or changed this way.
    fn random(&self) -> u64 {
        self.machine.lock().rng.next()
    }
}
