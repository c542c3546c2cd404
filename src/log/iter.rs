//! Walking over the entries of a log.

use super::Log;
use crate::error::Result;
use crate::segment::read::Entries;

/// Entries that [`Iter`] reads at a time.
const ITER_ENTRIES: u64 = 256;

/// Walks over the entries of a log, copying each. Made by [`Log::iter`].
#[derive(Debug)]
pub struct Iter {
    log: Log,
    next: u64,
    chunk: Entries,
    at: usize,
    failed: bool,
}

impl Iter {
    pub(super) fn new(log: Log, from: u64) -> Self {
        Self { log, next: from, chunk: Entries::default(), at: 0, failed: false }
    }
}

impl Iterator for Iter {
    type Item = Result<(u64, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        if self.at >= self.chunk.len() {
            let end = self.log.next().min(self.next.saturating_add(ITER_ENTRIES));
            if self.next >= end {
                return None;
            }
            match self.log.read(self.next..end) {
                Ok(chunk) => (self.chunk, self.at) = (chunk, 0),
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
        let index = self.next;
        let Some(entry) = self.chunk.get(self.at).map(<[u8]>::to_vec) else {
            self.failed = true;
            return Some(Err(self.chunk.unreadable(index)));
        };
        self.at += 1;
        self.next += 1;
        Some(Ok((index, entry)))
    }
}
