//! Walking over the entries of a log.

use crate::error::{Error, Result};
use crate::log::Log;
use crate::segment::entries::OwnedEntries;

/// Bytes that [`Iter`] reads at a time, if no entry is longer.
const ITER_BYTES: u64 = 256 * 1024;

/// Walks over the entries of a log, copying each. Made by [`Log::iter`].
#[derive(Debug)]
pub struct Iter {
    log: Log,
    next: u64,
    chunk: OwnedEntries,
    at: usize,
    failed: bool,
}

impl Iter {
    pub(in crate::log) fn new(log: Log, from: u64) -> Self {
        Self { log, next: from, chunk: OwnedEntries::default(), at: 0, failed: false }
    }

    /// The entries from the next one on, as far as the log has them.
    fn read(&self) -> Result<OwnedEntries> {
        loop {
            let end = self.log.next();
            if self.next >= end {
                return Ok(OwnedEntries::default());
            }
            match self.log.shared().read_owned_within(&(self.next..end), ITER_BYTES) {
                // A truncation came in between: the log ends earlier now.
                Err(Error::BeyondEnd { .. }) => {}
                read => return read,
            }
        }
    }
}

impl Iterator for Iter {
    type Item = Result<(u64, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        // What was read before a fork is not the child's either.
        let ready = self.log.shared().dir.not_forked().and_then(|()| {
            if self.at >= self.chunk.len() {
                (self.chunk, self.at) = (self.read()?, 0);
            }
            Ok(())
        });
        if let Err(error) = ready {
            self.failed = true;
            return Some(Err(error));
        }
        let (index, entry) = (self.next, self.chunk.get(self.at)?.to_vec());
        self.at += 1;
        self.next += 1;
        Some(Ok((index, entry)))
    }
}
