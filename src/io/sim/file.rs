//! The second half of the door, simulated: one open file.
//!
//! Owns: what reads, writes, syncs and maps do, and what becomes of them when they are to fail.
//! Does not own: the bytes (`inode`), the plan (`fault`).

use std::io;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use super::fault::{Course, Fault, Op};
use super::machine::Machine;
use crate::io::aligned::BLOCK_BYTES;
use crate::io::map::Region;
use crate::io::{Access, File, Way, zero_fill};
use crate::options::SyncMethod;

#[derive(Debug)]
pub(super) struct SimFile {
    machine: Arc<Mutex<Machine>>,
    inode: u64,
    write: bool,
}

impl SimFile {
    /// Opens a file; `machine` is what the mutex guards.
    pub(super) fn open(
        mutex: &Arc<Mutex<Machine>>,
        machine: &mut Machine,
        inode: u64,
        access: Access,
    ) -> io::Result<Arc<dyn File>> {
        machine.inode(inode)?.handles += 1;
        let machine = Arc::clone(mutex);
        Ok(Arc::new(Self { machine, inode, write: access != Access::Read }))
    }

    fn enter(&self, machine: &mut Machine, op: Op) -> io::Result<Course> {
        let name = Arc::clone(&machine.inode(self.inode)?.name);
        machine.enter(op, &name)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if let Ok(inode) = self.machine.lock().inode(self.inode) {
            inode.handles -= 1;
        }
    }
}

impl File for SimFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let machine = &mut *self.machine.lock();
        let course = self.enter(machine, Op::Read)?;
        machine.leave(course)?;
        machine.script.counts.bytes_read += buffer.len() as u64;
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        machine.inode(self.inode)?.read(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let machine = &mut *self.machine.lock();
        let course = self.enter(machine, Op::Write)?;
        if !self.write {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        machine.script.counts.bytes_written += bytes.len() as u64;
        let index = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let end = offset.checked_add(bytes.len() as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        let reserved = machine.inode(self.inode)?.reserved;
        let limit = reserved.saturating_add(machine.left());
        let fits = usize::try_from(limit.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = match course {
            Course::Whole => bytes.len(),
            Course::Fails(Fault::Io | Fault::ReadOnly) => 0,
            Course::Fails(_) | Course::Halfway => machine.rng.up_to(bytes.len()),
        };
        let stored = bytes.get(..count.min(fits)).unwrap_or(bytes);
        let inode = machine.inode(self.inode)?;
        inode.write(index, stored)?;
        if !stored.is_empty() {
            inode.reserved = reserved.max(end.min(offset + stored.len() as u64));
        }
        machine.leave(course)?;
        if stored.len() < bytes.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    /// As on a machine, each sector becomes what is written or stays what it was. What a block repeats
    /// of the bytes before must be the same: whoever has those published refuses to see them change.
    /// Of no bytes it is like an open.
    fn write_by(&self, way: Way, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let range = offset..offset.saturating_add(bytes.len() as u64);
        if way == Way::Through {
            self.write_at(offset, bytes)?;
            return self.sync(range, SyncMethod::Dsync);
        }
        if bytes.is_empty() {
            let machine = &mut *self.machine.lock();
            let course = self.enter(machine, Op::Open)?;
            return machine.leave(course);
        }
        let unaligned = |at: u64| !at.is_multiple_of(BLOCK_BYTES as u64);
        if unaligned(range.start) || unaligned(range.end) || unaligned(bytes.as_ptr().addr() as u64)
        {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not whole blocks"));
        }
        let mut there = vec![0; bytes.len()];
        let same = {
            let machine = &mut *self.machine.lock();
            machine.inode(self.inode)?.read(usize_of(offset)?, &mut there)?;
            there.iter().zip(bytes).take_while(|(old, new)| old == new).count()
        };
        self.write_at(offset + same as u64, bytes.get(same..).unwrap_or_default())?;
        if way == Way::Direct { Ok(()) } else { self.sync(range, SyncMethod::Dsync) }
    }

    /// Without `fill` nothing is written: what was there stays.
    fn allocate(&self, range: Range<u64>, fill: bool) -> io::Result<()> {
        if fill || range.is_empty() {
            return zero_fill(self, range);
        }
        let machine = &mut *self.machine.lock();
        let course = self.enter(machine, Op::Write)?;
        machine.leave(course)?;
        let reserved = machine.inode(self.inode)?.reserved;
        if range.end > reserved.saturating_add(machine.left()) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let inode = machine.inode(self.inode)?;
        inode.reserved = reserved.max(range.end);
        Ok(())
    }

    /// `Msync` and `Dsync` are taken at their word: nothing outside the range becomes durable.
    fn sync(&self, range: Range<u64>, method: SyncMethod) -> io::Result<()> {
        let machine = &mut *self.machine.lock();
        let course = self.enter(machine, Op::Sync)?;
        let range = match method {
            SyncMethod::Fdatasync | SyncMethod::Fsync => 0..usize::MAX,
            SyncMethod::Msync | SyncMethod::Dsync => {
                usize::try_from(range.start).unwrap_or(usize::MAX)
                    ..usize::try_from(range.end).unwrap_or(usize::MAX)
            }
            SyncMethod::FullFsync => return Err(io::ErrorKind::Unsupported.into()),
        };
        sync(machine, self.inode, &range, course)
    }

    fn map(&self, bytes: u64, write: bool) -> io::Result<Region> {
        let machine = &mut *self.machine.lock();
        let course = self.enter(machine, Op::Map)?;
        machine.leave(course)?;
        if write && !self.write {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let len = usize::try_from(bytes).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        machine.inode(self.inode)?.map(len, write)
    }
}

fn usize_of(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof.into())
}

/// Puts a range of a file on the medium, as far as `course` lets it.
pub(super) fn sync(
    machine: &mut Machine,
    inode: u64,
    range: &Range<usize>,
    course: Course,
) -> io::Result<()> {
    let mut rng = machine.rng.clone();
    let file = machine.inode(inode)?;
    match course {
        Course::Whole => {
            file.write_back(range, || true);
            file.settle_length();
            if std::mem::take(&mut file.latched) {
                return Err(Fault::Io.error());
            }
            file.syncs += 1;
        }
        Course::Fails(Fault::IoPartial) => file.write_back(range, || rng.coin()),
        Course::Fails(_) => file.write_back(range, || false),
        Course::Halfway => {
            // The machine stops: what did not get there stays dirty, and the crash decides.
            let chance = rng.next();
            file.write_back_some(range, || rng.next() < chance);
        }
    }
    machine.rng = rng;
    machine.leave(course)
}
