//! The simulated disk: a door to a directory that can be crashed and that fails on demand.
//!
//! [`SimDisk`] implements [`Directory`](super::Directory), so a log runs on it through
//! `Log::create_in` and its kin; a test then cuts the power, kills the process, lets calls fail or
//! bits rot, and opens the log again on what is left. Everything follows from one seed and from the
//! calls that were made: run the log with `Options::background(false)`, and a failure replays.
//!
//! # What is simulated
//!
//! Each file has three lives: what the *cache* holds, which reads and maps see; what it held when
//! it was last *written back*; and what the *medium* holds. Names have two: as they are, and as
//! they are durable.
//!
//! - A sync of a file makes its bytes and its length durable, and no name. A sync of the directory
//!   makes names durable, and no bytes. [`SyncMethod::Msync`](crate::SyncMethod) and `Dsync` cover
//!   exactly their range. Real file systems often do more; nobody promises it.
//! - A power cut ([`SimDisk::crash_with`]) decides by itself on every 512-byte sector that is not
//!   durable (old, new, or cut at any byte), on every length and on every change of a name.
//! - A sync that fails makes its sectors clean all the same: the next one reports success and
//!   writes nothing, and only [`Access::Distrust`](super::Access) shows what the medium has.
//! - A killed process ([`SimDisk::kill`]) leaves the cache as it is and the lock free.
//! - A full disk ([`SimDisk::set_capacity`]) is met at any byte of a write.
//! - Decay ([`Rot`]) changes the medium without an error.
//!
//! # Example
//!
//! ```
//! use indelible::SyncMethod;
//! use indelible::io::sim::{Persistence, SimDisk};
//! use indelible::io::{Access, Directory};
//!
//! let disk = SimDisk::new(1);
//! let (name, file) = disk.create(0, false)?;
//! file.write_at(0, b"ink")?;
//! file.sync(0..3, SyncMethod::Fdatasync)?;
//! disk.rename(&name, "ledger")?;
//!
//! // The bytes are durable, the name is not.
//! assert!(disk.crash_copy(Persistence::Nothing).list()?.is_empty());
//! disk.sync()?;
//! let after = disk.crash_with(Persistence::Nothing);
//! let mut bytes = [0; 3];
//! after.open("ledger", Access::Read)?.read_at(0, &mut bytes)?;
//! assert_eq!(&bytes, b"ink");
//! # Ok::<(), std::io::Error>(())
//! ```

mod contents;
mod crash;
mod disk;
mod fault;
mod file;
mod inode;
mod machine;
pub(crate) mod rng;
mod rot;

pub use contents::SECTOR_BYTES;
pub use crash::{NameOrder, Persistence, Unit};
pub use disk::SimDisk;
pub use fault::{Call, Counts, Fault, Moment, Op, Repeat, TRACE_CALLS_MAX};
pub use rot::Rot;
