//! The peers, one file each.

pub mod commitlog;
pub mod fjall;
pub mod floor;
pub mod indelible;
pub mod okaywal;
pub mod raft_engine;
pub mod raft_log;
pub mod redb;
#[cfg(feature = "rocksdb")]
pub mod rocks;
pub mod sled;
pub mod wal_db;
pub mod walrus;
