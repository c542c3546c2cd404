//! Damaging files on purpose.

use std::fs;
use std::path::Path;

/// Inverts one byte.
pub(crate) fn flip(path: &Path, offset: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[offset] ^= 0xff;
    fs::write(path, bytes).unwrap();
}

/// Where a text stands in a file.
pub(crate) fn find(path: &Path, text: &str) -> usize {
    let bytes = fs::read(path).unwrap();
    bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap()
}

/// States another version in a structure of `length` bytes at `offset`, soundly.
pub(crate) fn restate_version(path: &Path, offset: usize, length: usize, version: u8) {
    let mut bytes = fs::read(path).unwrap();
    let structure = &mut bytes[offset..offset + length];
    structure[8] = version;
    structure[12..16].fill(0);
    let crc = crc32fast::hash(structure);
    structure[12..16].copy_from_slice(&crc.to_le_bytes());
    fs::write(path, bytes).unwrap();
}
