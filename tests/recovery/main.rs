//! What stands after a crash, a failure of the disk, a full disk, or rot: each where it happens.

pub(crate) mod cells;
mod crash;
pub(crate) mod evidence;
mod faults;
pub(crate) mod footers;
mod full_disk;
mod long_tails;
pub(crate) mod meetings;
pub(crate) mod regressions;
mod rot;
