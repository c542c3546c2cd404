//! The floors: the least that a durable write of some bytes can cost on a file system, without a log.
//!
//! Both write onto space that was zero-filled and synced before. The buffered one is `pwrite` and
//! `fdatasync`; the direct one is a single `pwritev2` with `RWF_DSYNC` past the page cache, in whole
//! blocks from aligned memory.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "what the file system does without the engine"
)]

use std::fs::File;
use std::io::{Error, Result};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Block that direct writes are whole multiples of.
const BLOCK: usize = 4096;
/// Bytes of one zero-filling write: larger ones leave larger folios, which a small sync writes back.
const FILL_BYTES: usize = 4096;

/// A file that is written and synced over and over.
#[derive(Debug)]
pub(super) struct Floor {
    file: File,
    /// Aligned within: see `from`.
    memory: Vec<u8>,
    from: usize,
    bytes: usize,
    direct: bool,
    at: u64,
    file_bytes: u64,
}

impl Floor {
    /// Prepares a file for writes of `bytes`. An error of kind `InvalidInput` or `Unsupported` if it
    /// is to be direct, and the file system does not let it.
    pub(super) fn prepare(path: &Path, bytes: usize, direct: bool) -> Result<Self> {
        let file = File::options().create_new(true).read(true).write(true).open(path)?;
        let bytes = if direct { bytes.next_multiple_of(BLOCK) } else { bytes };
        let file_bytes = u64::try_from((bytes * 4).max(1 << 22)).map_err(Error::other)?;
        let zeros = vec![0; FILL_BYTES];
        let mut at = 0;
        while at < file_bytes {
            file.write_all_at(&zeros, at)?;
            at += zeros.len() as u64;
        }
        file.sync_all()?;
        let file = if direct { open_direct(path)? } else { file };
        let memory = vec![0x5a; bytes + BLOCK];
        let from = memory.as_ptr().align_offset(BLOCK);
        let mut floor = Self { file, memory, from, bytes, direct, at: 0, file_bytes };
        floor.write()?;
        Ok(floor)
    }

    /// Writes the bytes at the next place. They are durable on return.
    pub(super) fn write(&mut self) -> Result<()> {
        let bytes = self.memory.get(self.from..self.from + self.bytes).unwrap_or_default();
        if self.direct {
            write_direct(&self.file, bytes, self.at)?;
        } else {
            self.file.write_all_at(bytes, self.at)?;
            self.file.sync_data()?;
        }
        self.at += self.bytes as u64;
        if self.at + self.bytes as u64 > self.file_bytes {
            self.at = 0;
        }
        Ok(())
    }
}

#[cfg(target_os = "linux")]
fn open_direct(path: &Path) -> Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDWR | OFlags::DIRECT | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

/// Writes whole blocks from aligned memory past the page cache. They are durable on return.
#[cfg(target_os = "linux")]
fn write_direct(file: &File, bytes: &[u8], at: u64) -> Result<()> {
    use rustix::io::{Errno, ReadWriteFlags};
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        let (slices, at) = ([std::io::IoSlice::new(rest)], at + done as u64);
        match rustix::io::pwritev2(file, &slices, at, ReadWriteFlags::DSYNC) {
            Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
            Ok(written) => done += written,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn open_direct(_: &Path) -> Result<File> {
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
fn write_direct(_: &File, _: &[u8], _: u64) -> Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_writes_round_and_round_in_its_file() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("floor");
        let mut floor = Floor::prepare(&path, 1 << 20, false).unwrap();
        for _ in 0..9 {
            floor.write().unwrap();
        }
        assert_eq!(path.metadata().unwrap().len(), 1 << 22);
        assert!(std::fs::read(&path).unwrap().iter().all(|&byte| byte == 0x5a));
    }
}
