//! A file system of our own, which loses, tears and reorders what was not synced, fails, is slow, and
//! fills up. The lanes of `real_disk` and the program `lossy` share it.
//!
//! Owns: what becomes of bytes and names. Does not own: who is put through it.

pub(crate) mod contents;
pub(crate) mod dice;
pub(crate) mod injected;
pub(crate) mod medium;
pub(crate) mod mount;
pub(crate) mod server;
pub(crate) mod state;
