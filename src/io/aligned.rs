//! Memory whose address is that of a block, which is what a direct write takes.

use std::io;

/// Unit of direct writes, in bytes, and the alignment of their memory: no file system in use wants
/// more.
pub(crate) const BLOCK_BYTES: usize = 4096;

/// Memory that is used again and again.
#[derive(Debug, Default)]
pub(crate) struct Aligned(Vec<u8>);

impl Aligned {
    /// So many bytes, with whatever they held before.
    pub(crate) fn bytes(&mut self, len: usize) -> io::Result<&mut [u8]> {
        if self.0.len() < len + BLOCK_BYTES {
            self.0 = vec![0; len + BLOCK_BYTES];
        }
        let start = self.0.as_ptr().align_offset(BLOCK_BYTES);
        let end = start.checked_add(len).ok_or(io::ErrorKind::OutOfMemory)?;
        self.0.get_mut(start..end).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_begins_where_a_block_does() {
        let mut memory = Aligned::default();
        for len in [1, BLOCK_BYTES, 100_000, 5] {
            let bytes = memory.bytes(len).unwrap();
            assert_eq!((bytes.len(), bytes.as_ptr().addr() % BLOCK_BYTES), (len, 0));
        }
    }
}
