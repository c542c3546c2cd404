//! The space of one segment file: made ready a little ahead of what is written to it.
//!
//! Owns: which part of a file a frame or a footer may be put into, and making more of it ready. Does
//! not own: when (`log::background` ahead of need, `log::writer` in line), nor the file's length,
//! which is that of a segment from the start; what was never made ready reads as zeros.
//!
//! INV-9: nothing is stored or written past what is ready, so neither can meet a full disk. A full
//! disk is met here instead, where nothing has changed yet.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::directory::is_full;
use crate::error::Error;
use crate::format::number::to_usize;
use crate::io::aligned::Aligned;
use crate::io::{File, Way};
use crate::options::{Preparation, SyncMethod};
use crate::planted::{Bug, planted};

/// Bytes in which space is counted: a page, which no two kinds of writes share.
const BLOCK_BYTES: u64 = 4 * 1024;

/// Bytes after which the preparer waits for the device, so that it never has much of it in its
/// queue, and a commit that syncs the same file little to put on media that is not its own.
const STEP_BYTES: u64 = 256 * 1024;

/// Least and most bytes that are kept ready ahead of the frames; between them it is a part of what
/// was written, so that a small log is small.
const AHEAD_BYTES_MIN: u64 = 512 * 1024;
const AHEAD_BYTES_MAX: u64 = 8 * 1024 * 1024;
const AHEAD_PART: u64 = 10;

/// From this many bytes on a commit that waits for its space has it reserved, not filled: it will write
/// all of it anyway.
const RESERVE_BYTES_MIN: u64 = 64 * 1024;

/// Direct syncs of this many bytes and more find their space reserved, not filled. To note that its
/// blocks are in use costs such a write little; zeros are as many bytes again for the device. A write
/// by the page cache waits for a thread of the kernel that notes it, which costs more than zeros do.
const LARGE_SYNC_BYTES: u64 = STEP_BYTES;

/// Bytes after the end of frames that their witness takes: the rest of the last block, and the next.
const WITNESS_BYTES: u64 = 2 * BLOCK_BYTES;

/// Batches of the largest kind that are kept ready ahead once several had to make their own space.
const BATCHES_AHEAD: u64 = 4;

/// The space of one file.
#[derive(Debug)]
pub(crate) struct Space {
    file: Arc<dyn File>,
    bytes: u64,
    preparation: Preparation,
    /// What is written to it goes past the page cache.
    direct: bool,
    /// Everything before this has its space.
    ready: AtomicU64,
    /// How many commits had to make their own space, and the most bytes that one of them needed.
    missed: AtomicU64,
    needed: AtomicU64,
    /// Bytes that a sync puts on media: the average, of which the newest one is a quarter.
    sync_bytes: AtomicU64,
    /// Held by whoever makes space ready; whether the segment was sealed, and no more is wanted.
    sealed: Mutex<bool>,
}

impl Space {
    /// The space of a file of `bytes`, of which everything before `ready` has it.
    pub(crate) fn new(
        file: Arc<dyn File>,
        bytes: u64,
        preparation: Preparation,
        ready: u64,
    ) -> Self {
        let ready = if preparation == Preparation::Sparse { bytes } else { ready.min(bytes) };
        let (ready, sealed) = (AtomicU64::new(ready), Mutex::new(false));
        let (missed, needed) = (AtomicU64::new(0), AtomicU64::new(0));
        let (direct, sync_bytes) = (false, AtomicU64::new(0));
        Self { file, bytes, preparation, direct, ready, missed, needed, sync_bytes, sealed }
    }

    /// The same for a file that is written directly: what is made ready takes no page cache either.
    pub(crate) fn direct(self) -> Self {
        Self { direct: true, ..self }
    }

    /// Takes the descriptor that direct writes need, if there are to be any: none does later.
    pub(crate) fn open(&self) -> io::Result<()> {
        if self.direct { self.file.write_by(Way::Direct, 0, &[]) } else { Ok(()) }
    }

    pub(crate) fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// Exclusive end of what has its space.
    #[inline]
    pub(crate) fn ready(&self) -> u64 {
        self.ready.load(Ordering::Acquire)
    }

    /// Forgets that there is space from `to` on.
    #[cfg(test)]
    pub(crate) fn lower(&self, to: u64) {
        self.ready.store(to, Ordering::Release);
    }

    /// Whether more should be made ready after frames that end at `position`.
    #[inline]
    pub(crate) fn is_short(&self, position: u64) -> bool {
        let ready = self.ready();
        ready < self.bytes && position + self.ahead(position) / 2 > ready
    }

    /// Notes that a sync puts so many bytes on media. Called by one thread at a time.
    pub(crate) fn is_synced_by(&self, bytes: u64) {
        let average = (3 * self.sync_bytes.load(Ordering::Relaxed) + bytes) / 4;
        self.sync_bytes.store(average, Ordering::Relaxed);
    }

    /// Whether space is filled with zeros; else it is reserved.
    fn is_filled(&self) -> bool {
        let large = self.sync_bytes.load(Ordering::Relaxed) >= LARGE_SYNC_BYTES;
        self.preparation == Preparation::ZeroFill && !(self.direct && large)
    }

    /// Makes ready what there should be after frames that end at `position`, step by step; what is
    /// filled in a step is on the medium after it. `stop` is asked between steps. Returns whether
    /// there is that much.
    ///
    /// The page cache is synced by way of `sync`: a failure there is the failure of whatever was
    /// written to the file, which cannot be tried again.
    pub(crate) fn prepare(
        &self,
        position: u64,
        stop: &dyn Fn() -> bool,
        sync: &Syncing<'_>,
    ) -> Result<bool, Failed> {
        let to = (position + self.ahead(position)).min(self.bytes);
        loop {
            let sealed = self.sealed.lock();
            let from = self.ready();
            if *sealed || from >= to {
                return Ok(true);
            }
            if stop() {
                return Ok(false);
            }
            let filled = self.is_filled();
            let at_once = if filled { STEP_BYTES } else { to - from };
            let end = (from + at_once).min(to).next_multiple_of(BLOCK_BYTES).min(self.bytes);
            if self.direct && filled {
                self.fill_directly(from..end).map_err(Failed::Write)?;
            } else {
                self.file.allocate(from..end, filled).map_err(Failed::Write)?;
            }
            if filled && !self.direct {
                // Makes the filled blocks durable, so that no sync of frames has to. A crash
                // before this leaves zeros or nothing, which reads as zeros.
                sync(&|| self.file.sync(from..end, SyncMethod::Fdatasync)).map_err(Failed::Sync)?;
            }
            self.ready.store(end, Ordering::Release);
        }
    }

    /// Makes a range ready here and now, for what is written next: it becomes durable with that.
    pub(crate) fn cover(&self, range: Range<u64>) -> io::Result<()> {
        let _sealed = self.sealed.lock();
        let ready = self.ready();
        let end = range.end.next_multiple_of(BLOCK_BYTES).min(self.bytes);
        if end > ready && !planted(Bug::SpaceNotAwaited) {
            let from = range.start.max(ready);
            // A direct write is to come: zeros in the page cache would be written before it.
            let large = end - from >= RESERVE_BYTES_MIN + AHEAD_BYTES_MIN / 2;
            let filled = self.is_filled() && !self.direct && !large;
            self.file.allocate(from..end, filled)?;
            if range.start <= ready {
                self.ready.store(end, Ordering::Release);
            }
        }
        Ok(())
    }

    /// As [`Self::cover`], from the end of the frames up to `end`; more, if there is more, so that the
    /// next one finds it.
    pub(crate) fn extend(&self, position: u64, end: u64) -> io::Result<()> {
        if end <= self.ready() {
            return Ok(());
        }
        // A new file has nothing before it that could have been too slow.
        if position > 0 {
            self.missed.fetch_add(1, Ordering::Relaxed);
            let needed = end.saturating_sub(position).saturating_add(WITNESS_BYTES);
            self.needed.fetch_max(needed, Ordering::Relaxed);
        }
        match self.cover(0..end + self.ahead(end) / 2) {
            Err(error) if is_full(&error) => self.cover(0..end),
            covered => covered,
        }
    }

    /// Bytes that are kept ready after frames that end at `position`: a part of what was written, and
    /// some batches if they outrun the preparer. One that does so once says nothing of the next.
    fn ahead(&self, position: u64) -> u64 {
        let again = self.missed.load(Ordering::Relaxed).saturating_sub(1).min(BATCHES_AHEAD);
        let batches = self.needed.load(Ordering::Relaxed).saturating_mul(again);
        (position / AHEAD_PART).max(batches).clamp(AHEAD_BYTES_MIN, AHEAD_BYTES_MAX)
    }

    /// Ends the making ready: what is after the frames belongs to the footer from here on.
    pub(crate) fn seal(&self) {
        *self.sealed.lock() = true;
    }

    /// Zero-fills past the page cache; on return the zeros are on the medium. What fails is about them
    /// alone: a direct write that fails says so to whoever made it.
    fn fill_directly(&self, range: Range<u64>) -> io::Result<()> {
        // Where blocks are reserved a direct write keeps none to another part of the file waiting.
        self.file.allocate(range.clone(), false)?;
        // The last block of the frames is theirs to write, and is written whole.
        let from = range.start.next_multiple_of(BLOCK_BYTES).min(range.end);
        let mut memory = Aligned::default();
        let zeros = memory.bytes(to_usize(range.end - from))?;
        zeros.fill(0);
        self.file.write_by(Way::DirectThrough, from, zeros)
    }
}

/// How a log has a file synced that others may be syncing as well, given the sync.
pub(crate) type Syncing<'a> = dyn Fn(&dyn Fn() -> io::Result<()>) -> crate::error::Result<()> + 'a;

/// What went wrong while space was made ready.
#[derive(Debug)]
pub(crate) enum Failed {
    Write(io::Error),
    Sync(Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Directory;
    use crate::io::sim::SimDisk;
    use crate::segment::witness::place;

    const BYTES: u64 = 4 * 1024 * 1024;

    fn alone(sync: &dyn Fn() -> io::Result<()>) -> crate::error::Result<()> {
        sync().map_err(|source| Error::io("sync", "", source))
    }

    fn file(disk: &SimDisk) -> Arc<dyn File> {
        disk.create(BYTES, false).unwrap().1
    }

    #[test]
    fn space_is_made_ready_a_step_ahead_and_never_past_the_file() {
        let disk = SimDisk::new(1);
        let space = Space::new(file(&disk), BYTES, Preparation::ZeroFill, 0);
        assert!(space.is_short(0));
        assert!(space.prepare(4096, &|| false, &alone).unwrap());
        assert_eq!(space.ready(), 4096 + AHEAD_BYTES_MIN);
        assert_eq!(disk.used(), space.ready());
        assert!(!space.is_short(4096));
        assert!(space.is_short(space.ready()));
        assert!(space.prepare(BYTES - 10, &|| false, &alone).unwrap());
        assert_eq!((space.ready(), disk.used()), (BYTES, BYTES));
        assert!(!space.is_short(BYTES));
    }

    #[test]
    fn what_is_there_is_never_filled() {
        let disk = SimDisk::new(1);
        let file = file(&disk);
        file.write_at(0, &[7; 5000]).unwrap();
        let space = Space::new(Arc::clone(&file), BYTES, Preparation::ZeroFill, 5000);
        space.prepare(5000, &|| false, &alone).unwrap();
        let footer = BYTES - 100..BYTES;
        space.cover(footer.clone()).unwrap();
        assert!(space.ready() < footer.start);
        space.seal();
        file.write_at(footer.start, &[9; 100]).unwrap();
        assert!(space.prepare(BYTES, &|| false, &alone).unwrap());
        let mut bytes = vec![1; to_usize(BYTES)];
        file.read_at(0, &mut bytes).unwrap();
        assert!(bytes[..5000].iter().all(|&byte| byte == 7));
        assert!(bytes[5000..to_usize(footer.start)].iter().all(|&byte| byte == 0));
        assert!(bytes[to_usize(footer.start)..].iter().all(|&byte| byte == 9));
    }

    /// Each of large batches leaves room for its witness, also the last one that the space is ready for.
    #[test]
    fn space_ahead_of_batches_has_room_for_their_witnesses() {
        let (disk, batch) = (SimDisk::new(1), 300_000);
        let space = Space::new(file(&disk), BYTES, Preparation::ZeroFill, 0);
        let mut position = 4096;
        for missed in 1..=3 {
            space.lower(position);
            space.extend(position, position + batch).unwrap();
            position += batch;
            space.prepare(position, &|| false, &alone).unwrap();
            let ready = space.ready();
            let (mut end, mut batches) = (position, 0);
            while end + batch <= ready {
                end += batch;
                batches += 1;
            }
            assert!(batches >= missed - 1, "{batches}");
            assert!(place(end, false, ready, false) > end, "{missed}");
        }
    }

    /// Where direct syncs are large, what is made ready for them is not written a second time; and it
    /// is again once they are small.
    #[test]
    fn space_for_large_direct_syncs_is_reserved_and_not_filled() {
        for direct in [false, true] {
            let disk = SimDisk::new(1);
            let space = Space::new(file(&disk), BYTES, Preparation::ZeroFill, 0);
            let space = if direct { space.direct() } else { space };
            let syncs_for = |position: u64| {
                let before = disk.counts().syncs;
                assert!(space.prepare(position, &|| false, &alone).unwrap());
                assert_eq!(disk.used(), space.ready());
                disk.counts().syncs - before
            };
            let steps = AHEAD_BYTES_MIN / STEP_BYTES;
            assert_eq!(syncs_for(0), steps, "{direct}");
            space.is_synced_by(4 * LARGE_SYNC_BYTES);
            assert_eq!(syncs_for(AHEAD_BYTES_MIN), if direct { 0 } else { steps });
            assert_eq!(space.ready(), 2 * AHEAD_BYTES_MIN);
            space.is_synced_by(28 * 1024);
            assert_eq!(syncs_for(2 * AHEAD_BYTES_MIN), steps, "{direct}");
        }
    }

    #[test]
    fn full_disk_leaves_what_was_ready() {
        let disk = SimDisk::new(1);
        let space = Space::new(file(&disk), BYTES, Preparation::ZeroFill, 0);
        space.cover(0..4096).unwrap();
        disk.set_capacity(Some(100_000));
        let refused = space.cover(0..200_000).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        assert!(matches!(space.prepare(0, &|| false, &alone), Err(Failed::Write(_))));
        assert_eq!(space.ready(), 4096);
        disk.set_capacity(None);
        space.cover(0..200_000).unwrap();
        assert_eq!(space.ready(), 200_000_u64.next_multiple_of(4096));
    }
}
