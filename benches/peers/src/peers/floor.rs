//! The floor: what the disk and the system calls cost when nothing at all is kept in order.
//!
//! One file whose blocks were all written with zeros and synced beforehand, so that a sync moves
//! data only and no extent has to be converted. At its end the writes start over: overwriting
//! costs the same. Concurrent callers take turns, each with its own sync.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

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
    let path = dir.join("floor");
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
    Ok(Box::new(Floor { file, durable: mode == Mode::Synced, tail: Mutex::default() }))
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
