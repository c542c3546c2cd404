//! Bytes by the sector, shared between disks until they are changed.
//!
//! Owns: storage that is cheap to clone, so that a disk can be crashed into thousands of others.
//! Does not own: lengths. Every sector exists; those never written are zeros.

use std::sync::Arc;

/// Bytes that reach the medium together or not at all, as far as anybody promises.
pub const SECTOR_BYTES: usize = 512;

const CHUNK_BYTES: usize = 8 * SECTOR_BYTES;
const SECTORS_PER_CHUNK: usize = CHUNK_BYTES / SECTOR_BYTES;
static ZEROS: [u8; CHUNK_BYTES] = [0; CHUNK_BYTES];

/// What a file holds in one of its lives: in the cache, at the last write-back, on the medium.
#[derive(Debug, Clone, Default)]
pub(super) struct Contents {
    /// `None` is all zeros, as is everything past the end.
    chunks: Arc<Vec<Option<Arc<[u8; CHUNK_BYTES]>>>>,
}

impl Contents {
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let mut contents = Self::default();
        for (sector, piece) in bytes.chunks(SECTOR_BYTES).enumerate() {
            contents.write_sector(sector, piece);
        }
        contents
    }

    fn chunk(&self, chunk: usize) -> &[u8; CHUNK_BYTES] {
        match self.chunks.get(chunk) {
            Some(Some(bytes)) => bytes,
            _ => &ZEROS,
        }
    }

    pub(super) fn sector(&self, sector: usize) -> &[u8] {
        let at = sector % SECTORS_PER_CHUNK * SECTOR_BYTES;
        self.chunk(sector / SECTORS_PER_CHUNK).get(at..at + SECTOR_BYTES).unwrap_or_default()
    }

    /// Replaces the first bytes of a sector, at most all of them.
    pub(super) fn write_sector(&mut self, sector: usize, bytes: &[u8]) {
        let chunk = sector / SECTORS_PER_CHUNK;
        let at = sector % SECTORS_PER_CHUNK * SECTOR_BYTES;
        let Some(old) = self.sector(sector).get(..bytes.len()) else {
            return;
        };
        if old == bytes {
            return;
        }
        let chunks = Arc::make_mut(&mut self.chunks);
        if chunks.len() <= chunk {
            chunks.resize(chunk + 1, None);
        }
        if let Some(slot) = chunks.get_mut(chunk) {
            let shared = slot.get_or_insert_with(|| Arc::new(ZEROS));
            if let Some(target) = Arc::make_mut(shared).get_mut(at..at + bytes.len()) {
                target.copy_from_slice(bytes);
            }
        }
    }

    /// Fills `buffer` from `offset`.
    pub(super) fn read(&self, offset: usize, buffer: &mut [u8]) {
        let mut rest = buffer;
        let mut at = offset;
        while !rest.is_empty() {
            let chunk = self.chunk(at / CHUNK_BYTES);
            let from = chunk.get(at % CHUNK_BYTES..).unwrap_or_default();
            let take = from.len().min(rest.len());
            let Some((now, later)) = rest.split_at_mut_checked(take) else {
                return;
            };
            now.copy_from_slice(from.get(..take).unwrap_or_default());
            rest = later;
            at += take;
        }
    }

    pub(super) fn to_vec(&self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.read(0, &mut bytes);
        bytes
    }

    /// Every chunk that was ever written, with its offset.
    pub(super) fn written(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.chunks.iter().enumerate().filter_map(|(index, chunk)| {
            let bytes: &[u8] = chunk.as_deref()?;
            Some((index * CHUNK_BYTES, bytes))
        })
    }

    /// The sectors from `from` on in which the two differ.
    pub(super) fn differing(&self, other: &Self, from: usize) -> Vec<usize> {
        let mut sectors = Vec::new();
        if Arc::ptr_eq(&self.chunks, &other.chunks) {
            return sectors;
        }
        let first = from / SECTORS_PER_CHUNK;
        for chunk in first..self.chunks.len().max(other.chunks.len()) {
            if std::ptr::eq(self.chunk(chunk), other.chunk(chunk)) {
                continue;
            }
            let range = chunk * SECTORS_PER_CHUNK..(chunk + 1) * SECTORS_PER_CHUNK;
            sectors.extend(range.filter(|&s| s >= from && self.sector(s) != other.sector(s)));
        }
        sectors
    }

    /// Makes everything from `len` on zeros.
    pub(super) fn cut(&mut self, len: usize) {
        let needed = len.div_ceil(CHUNK_BYTES);
        if needed < self.chunks.len() {
            Arc::make_mut(&mut self.chunks).truncate(needed);
        }
        let first = len / SECTOR_BYTES;
        let kept = len % SECTOR_BYTES;
        let end = self.chunks.len() * SECTORS_PER_CHUNK;
        for sector in first..end {
            let mut bytes = [0; SECTOR_BYTES];
            if sector == first {
                for (to, from) in bytes.iter_mut().zip(self.sector(sector)).take(kept) {
                    *to = *from;
                }
            }
            self.write_sector(sector, &bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_are_independent_and_zeros_are_free() {
        let mut one = Contents::from_bytes(&vec![0; 100_000]);
        assert_eq!(one.written().count(), 0);
        one.write_sector(20, &[1; SECTOR_BYTES]);
        let mut two = one.clone();
        assert!(one.differing(&two, 0).is_empty());
        two.write_sector(20, &[2; 10]);
        assert_eq!(one.differing(&two, 0), [20]);
        assert!(one.differing(&two, 21).is_empty());
        assert_eq!(one.sector(20), [1; SECTOR_BYTES]);
        assert_eq!(
            two.to_vec(20 * SECTOR_BYTES + 11)[20 * SECTOR_BYTES..],
            [2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1]
        );
    }

    #[test]
    fn cut_zeroes_from_the_very_byte() {
        let mut contents = Contents::from_bytes(&[9; 10_000]);
        contents.cut(5_001);
        let bytes = contents.to_vec(10_000);
        assert!(bytes[..5_001].iter().all(|&byte| byte == 9));
        assert!(bytes[5_001..].iter().all(|&byte| byte == 0));
    }
}
