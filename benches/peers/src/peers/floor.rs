//! The floors: what the disk and the system calls cost when nothing at all is kept in order, through
//! the page cache and past it.
//!
//! One file whose blocks were all written with zeros and synced beforehand, so that a sync moves
//! data only and no extent has to be converted. At its end the writes start over: overwriting
//! costs the same. Concurrent callers take turns, each with its own sync.

use std::fs::{File, OpenOptions};
use std::io::IoSlice;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::OFlags;
use rustix::io::ReadWriteFlags;

use crate::ENTRY_BYTES;
use crate::owned::{Joined, Owned};
use crate::peer::{Mode, Opened, Outcome, Peer};

const FILE_BYTES: u64 = 64 * 1024 * 1024;

struct Floor {
    file: File,
    durable: bool,
    tail: Mutex<Tail>,
}

#[derive(Default)]
struct Tail {
    offset: u64,
    buffer: Vec<u8>,
}

pub fn open(dir: &Path, mode: Mode) -> Opened {
    let file = zero_filled(&dir.join("floor"))?;
    Ok(Box::new(Floor { file, durable: mode == Mode::Synced, tail: Mutex::default() }))
}

/// Of direct writes; refused where the file system takes none.
pub fn open_direct(dir: &Path, _mode: Mode) -> Opened {
    let path = dir.join("floor");
    let read = zero_filled(&path)?;
    let direct = i32::try_from(OFlags::DIRECT.bits())?;
    let file = OpenOptions::new().write(true).custom_flags(direct).open(path)?;
    Ok(Box::new(Direct { file, read, tail: Mutex::default() }))
}

/// The file, made and filled if it is not there.
fn zero_filled(path: &Path) -> Outcome<File> {
    let fresh = !path.exists();
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    if fresh {
        // In small writes: after large ones the page cache holds large folios, and each later
        // 256-byte write would put a whole one on the disk.
        let zeros = [0; 4 * 1024];
        for offset in (0..FILE_BYTES).step_by(zeros.len()) {
            file.write_all_at(&zeros, offset)?;
        }
        file.sync_all()?;
    }
    Ok(file)
}

impl Peer for Floor {
    fn append(&self, _lane: usize, entries: &[&[u8]]) -> Outcome<()> {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let Tail { offset, buffer } = &mut *tail;
        let bytes = if let [entry] = entries {
            *entry
        } else {
            buffer.clear();
            for entry in entries {
                buffer.extend_from_slice(entry);
            }
            buffer
        };
        if *offset + bytes.len() as u64 > FILE_BYTES {
            *offset = 0;
        }
        self.file.write_all_at(bytes, *offset)?;
        *offset += bytes.len() as u64;
        if self.durable {
            self.file.sync_data()?;
        }
        Ok(())
    }

    fn flush(&self) -> Outcome<()> {
        Ok(self.file.sync_data()?)
    }

    fn read(&self, first: u64, count: usize) -> Outcome<Box<dyn Owned>> {
        let mut bytes = vec![0; count * ENTRY_BYTES];
        let offset = (first * ENTRY_BYTES as u64).min(FILE_BYTES - bytes.len() as u64);
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(Box::new(Joined::packed(bytes, ENTRY_BYTES)))
    }

    fn entries(&self) -> Outcome<Option<u64>> {
        Ok(None)
    }
}

/// Bytes of a block of direct writes.
const BLOCK_BYTES: usize = 4096;

struct Direct {
    file: File,
    read: File,
    tail: Mutex<Tail>,
}

impl Peer for Direct {
    /// Writes the blocks that the entries take after the last ones.
    fn append(&self, _lane: usize, entries: &[&[u8]]) -> Outcome<()> {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let Tail { offset, buffer } = &mut *tail;
        let bytes: usize = entries.iter().map(|entry| entry.len()).sum();
        if *offset + bytes as u64 > FILE_BYTES {
            *offset = 0;
        }
        let within = usize::try_from(*offset % BLOCK_BYTES as u64)?;
        let len = (within + bytes).next_multiple_of(BLOCK_BYTES);
        buffer.resize(buffer.len().max(len + BLOCK_BYTES), 0);
        let start = buffer.as_ptr().align_offset(BLOCK_BYTES);
        let blocks = buffer.get_mut(start..start + len).ok_or("no aligned memory")?;
        let mut at = within;
        for entry in entries {
            blocks.get_mut(at..at + entry.len()).ok_or("too little memory")?.copy_from_slice(entry);
            at += entry.len();
        }
        let slices = [IoSlice::new(blocks)];
        let from = *offset - within as u64;
        let written = rustix::io::pwritev2(&self.file, &slices, from, ReadWriteFlags::DSYNC)?;
        *offset += bytes as u64;
        if written == len { Ok(()) } else { Err("a short write".into()) }
    }

    fn flush(&self) -> Outcome<()> {
        Ok(self.file.sync_data()?)
    }

    fn read(&self, first: u64, count: usize) -> Outcome<Box<dyn Owned>> {
        let mut bytes = vec![0; count * ENTRY_BYTES];
        let offset = (first * ENTRY_BYTES as u64).min(FILE_BYTES - bytes.len() as u64);
        self.read.read_exact_at(&mut bytes, offset)?;
        Ok(Box::new(Joined::packed(bytes, ENTRY_BYTES)))
    }

    fn entries(&self) -> Outcome<Option<u64>> {
        Ok(None)
    }
}
