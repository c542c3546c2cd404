//! The edge of a tail that is written directly: the block in which its frames end, and the one after
//! it, where the witness is. One write of whole blocks takes frames and witness along.
//!
//! Owns: what these two blocks hold. Does not own: when they are written, and what is durable.
//!
//! A write begins with the block that the one before ended in, and repeats what that had put there;
//! between the frames and the witness it repeats the witness before, which is in another sector, and
//! else zeros. So a block is written again as it fills, and each of its sectors is then either as it
//! was or has the same bytes and more after them: a crash cannot take away what was durable
//! (docs/RECOVERY.md, M1 and M2). A page cache does the same with every synced write of less than a
//! page.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::witness::{Encoded, Testimony};
use crate::format::number::{to_u64, to_usize};
use crate::io::aligned::{Aligned, BLOCK_BYTES};
use crate::io::{File, Way};
use crate::options::SyncMethod;
use crate::planted::{Bug, planted};

/// Bytes of one write; more is cut into such pieces.
const PIECE_BYTES: usize = 4 * 1024 * 1024;

/// The edge of one file.
#[derive(Debug)]
pub(crate) struct Edge {
    file: Arc<dyn File>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Where the block starts in which the bytes put so far end, and what was put into it.
    start: u64,
    last: Vec<u8>,
    /// The witnesses after those bytes, with their offsets.
    witnesses: Vec<(u64, Encoded)>,
    memory: Aligned,
}

impl Edge {
    /// The edge of a file whose bytes end at `end`: what its last block holds is read. What witnesses
    /// there are after it speak of what a checkpoint has stated since.
    pub(crate) fn new(file: &Arc<dyn File>, end: u64) -> io::Result<Self> {
        let start = block_start(end);
        let mut last = vec![0; to_usize(end - start)];
        file.read_at(start, &mut last)?;
        let (witnesses, memory) = (Vec::new(), Aligned::default());
        let state = Mutex::new(State { start, last, witnesses, memory });
        Ok(Self { file: Arc::clone(file), state })
    }

    /// Writes `bytes` at `offset`, which is not before the end of what was put so far, and a witness
    /// after them. With `through` all of it is durable on return.
    pub(crate) fn put(
        &self,
        offset: u64,
        bytes: &[u8],
        witness: Option<&Testimony>,
        through: bool,
    ) -> io::Result<()> {
        if bytes.is_empty() && witness.is_none() {
            return Ok(());
        }
        let state = &mut *self.state.lock();
        state.begin(offset);
        let through = through && !planted(Bug::NotWrittenThrough);
        let (start, end) = (state.start, offset + to_u64(bytes.len()));
        let after = end.next_multiple_of(to_u64(BLOCK_BYTES));
        // A witness in the header's block is far from here.
        let near = witness.filter(|witness| witness.offset >= after);
        state.testify(end, near);
        let written_to = near.map_or(end, |witness| witness.range().end);
        let total = to_usize(written_to - start);
        let one_piece = total <= PIECE_BYTES;
        // Of several writes none is durable by itself: one sync after the last is for all of them.
        let one_write = one_piece && near.is_some() == witness.is_some();
        let way = if through && one_write { Way::DirectThrough } else { Way::Direct };
        let mut at = start;
        let mut rest = bytes;
        while at < written_to {
            let len = to_usize(written_to - at).min(PIECE_BYTES);
            rest = state.fill(at, len, rest)?;
            let blocks = state.memory.bytes(len.next_multiple_of(BLOCK_BYTES))?;
            self.file.write_by(way, at, blocks)?;
            at += to_u64(len);
        }
        state.keep(end, bytes);
        if let Some(far) = witness.filter(|_| near.is_none()) {
            super::tail::write_witness(self.file.as_ref(), far)?;
        }
        if through && !one_write {
            // Makes durable what was not written through. A crash before this loses any part of
            // frames that nobody was told of.
            self.file.sync(start..end, SyncMethod::Fdatasync)?;
        }
        Ok(())
    }
}

impl State {
    /// Has `last` hold everything before `offset` in its block.
    fn begin(&mut self, offset: u64) {
        let start = block_start(offset);
        if start != self.start || planted(Bug::LastBlockForgotten) {
            (self.start, self.last) = (start, Vec::new());
        }
        self.last.resize(to_usize(offset - start), 0);
    }

    /// Adds a witness, in place of one that was where it is. Those that frames up to `end` came over
    /// are gone.
    fn testify(&mut self, end: u64, witness: Option<&Testimony>) {
        let place = witness.map(|witness| witness.offset);
        self.witnesses.retain(|(offset, _)| *offset >= end && Some(*offset) != place);
        self.witnesses.extend(witness.map(|witness| (witness.offset, witness.bytes)));
    }

    /// Fills the memory with what the file is to hold from `at` on: what the last block held, bytes,
    /// and witnesses. Returns the bytes that did not fit.
    fn fill<'a>(&mut self, at: u64, len: usize, bytes: &'a [u8]) -> io::Result<&'a [u8]> {
        let head = if at == self.start { self.last.len() } else { 0 };
        let (now, later) = bytes.split_at(bytes.len().min(len - head.min(len)));
        let memory = self.memory.bytes(len.next_multiple_of(BLOCK_BYTES))?;
        let (front, after) = memory.split_at_mut(head);
        front.copy_from_slice(self.last.get(..head).unwrap_or_default());
        let (body, padding) = after.split_at_mut(now.len());
        body.copy_from_slice(now);
        padding.fill(0);
        if later.is_empty() {
            for (offset, bytes) in &self.witnesses {
                let place = offset.checked_sub(at).map(to_usize);
                let room =
                    place.and_then(|place| memory.get_mut(place..place.checked_add(bytes.len())?));
                if let Some(room) = room {
                    room.copy_from_slice(bytes);
                }
            }
        }
        Ok(later)
    }

    /// Keeps what the block holds in which the bytes end.
    fn keep(&mut self, end: u64, bytes: &[u8]) {
        let start = block_start(end);
        if start == self.start {
            self.last.extend_from_slice(bytes);
        } else {
            let kept = bytes.len() - to_usize(end - start).min(bytes.len());
            self.last = bytes.get(kept..).unwrap_or_default().to_vec();
            self.start = start;
        }
    }
}

fn block_start(offset: u64) -> u64 {
    offset - offset % to_u64(BLOCK_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Salt;
    use crate::io::sim::{Persistence, SimDisk};
    use crate::io::{Access, Directory};
    use crate::segment::witness::place;

    const BYTES: usize = 32 * 1024 * 1024;

    /// A file that is durable, with its name.
    fn durable() -> (SimDisk, String, Arc<dyn File>) {
        let disk = SimDisk::new(1);
        let (name, file) = disk.create(to_u64(BYTES), true).unwrap();
        file.sync(0..to_u64(BYTES), SyncMethod::Fsync).unwrap();
        disk.sync().unwrap();
        (disk, name, file)
    }

    #[test]
    fn witness_that_stands_apart_is_durable_with_the_sync_of_its_frames() {
        let (disk, name, file) = durable();
        let (frames, syncs) = ([7; 100], disk.counts().syncs);
        let offset = place(8292, false, to_u64(BYTES), true);
        let witness = Testimony::new(offset, &Salt::new(7), 1, 1);
        let edge = Edge::new(&file, 8192).unwrap();
        edge.put(8192, &frames, Some(&witness), true).unwrap();
        assert_eq!(disk.counts().syncs, syncs + 1);
        let after = disk.crash_with(Persistence::Nothing).open(&name, Access::Read).unwrap();
        let (mut found, mut testified) = ([0; 100], Encoded::default());
        after.read_at(8192, &mut found).unwrap();
        after.read_at(offset, &mut testified).unwrap();
        assert_eq!((found, testified), (frames, witness.bytes));
    }

    /// However it was cut; and so are the two newest witnesses, as long as no frame came over them.
    #[test]
    fn what_is_put_is_there_and_durable() {
        let (disk, name, file) = durable();
        let mut edge = Edge::new(&file, 0).unwrap();
        let expected: Vec<u8> = (0..BYTES).map(|at| 1 + u8::try_from(at % 251).unwrap()).collect();
        let salt = Salt::new(7);
        let (mut at, mut newest) = (0, Vec::<Testimony>::new());
        let lengths = [1, 100, 200, 3795, 4096, 8191, 3, PIECE_BYTES, 2 * PIECE_BYTES + 17, 5, 6];
        for (nth, len) in lengths.into_iter().enumerate() {
            let end = to_u64(at + len);
            let offset = place(end, nth % 2 == 0, to_u64(BYTES), false);
            let witness = Testimony::new(offset, &salt, to_u64(nth), 1);
            edge.put(to_u64(at), &expected[at..at + len], Some(&witness), true).unwrap();
            at += len;
            newest.retain(|old| old.offset >= end && old.offset != offset);
            newest.push(witness);
            let after = disk.crash_copy(Persistence::Nothing);
            let after = after.open(&name, Access::Read).unwrap();
            let mut found = vec![0; at];
            after.read_at(0, &mut found).unwrap();
            assert!(found == expected[..at], "{nth}");
            for witness in newest.iter().rev().take(2) {
                let mut found = vec![0; witness.bytes.len()];
                after.read_at(witness.offset, &mut found).unwrap();
                assert!(found == witness.bytes, "{nth}");
            }
            if nth % 4 == 3 {
                edge = Edge::new(&file, to_u64(at)).unwrap();
                newest.clear();
            }
        }
        let far = BYTES - 5000;
        edge.put(to_u64(far), &expected[far..], None, true).unwrap();
        let after = disk.crash_with(Persistence::Nothing).open(&name, Access::Read).unwrap();
        let mut found = vec![0; 5000];
        after.read_at(to_u64(far), &mut found).unwrap();
        assert!(found == expected[far..]);
    }
}
