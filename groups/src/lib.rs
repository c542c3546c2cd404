//! Many consensus groups in one log of [`indelible`], with one sync for all of them.
//!
//! A machine that runs tens to thousands of consensus groups would pay a sync for each if each had a
//! log of its own. [`Groups`] keeps them in one [`Log`](indelible::Log), through its public API: each
//! [`Group`] has its own index space, its own cells and side files, and offers what a log offers to a
//! host; commits of different groups share the syncs of the log. A group costs no thread, no
//! descriptor and no file. docs/GROUPS.md has the layout, and says when to use one log and when groups.
//!
//! ```
//! # fn main() -> indelible::Result<()> {
//! # let directory = tempfile::tempdir().unwrap();
//! # let path = directory.path().join("node-1");
//! use indelible::Batch;
//! use indelible_groups::{Groups, GroupsOptions};
//!
//! let groups = Groups::open_or_create(&path, &GroupsOptions::new())?;
//! let shard = groups.open_or_create_group(7)?;
//!
//! let mut batch = Batch::new();
//! batch.set("promise", b"ballot 7").append(b"x = 1").append(b"y = 2");
//! shard.commit(&batch)?; // all of it, or nothing, durable on return, with one sync
//!
//! assert_eq!(shard.entry(1)?, b"y = 2");
//! groups.close()?;
//! # Ok(())
//! # }
//! ```

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

mod batch;
mod checkpoint;
mod commit;
mod envelope;
mod file;
mod group;
mod groups;
mod index;
mod inspect;
mod maintenance;
mod number;
mod options;
mod overlay;
mod page;
mod plan;
mod planted;
mod read;
mod regions;
mod reserve;
mod state;
mod stats;
mod store;
mod transfer;

/// Bugs that can be planted (feature `sabotage`).
#[cfg(feature = "sabotage")]
pub mod sabotage {
    pub use crate::planted::{BUGS, Bug, enable};
}

pub use batch::GroupBatch;
pub use file::{GroupFileReader, GroupFileWriter};
pub use group::{Group, GroupTicket, Iter};
pub use groups::Groups;
pub use inspect::{
    GroupRefilled, RecordSeen, SideFileRole, describe_record, holds_groups, side_file_role,
};
pub use options::GroupsOptions;
pub use read::Entries;
pub use state::STATE_LOST;
pub use stats::{GroupStats, GroupsStats};
pub use transfer::{Copied, GroupDamage, copy};
