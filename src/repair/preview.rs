//! A log as an open, or a repair and then an open, would leave it, while nothing on disk changes.
//!
//! Owns: opening a directory behind a door that keeps every change in memory. Does not own: what an
//! open or a repair does.

use std::path::Path;
use std::sync::Arc;

use super::refill::allowing;
use super::{Obstacle, Plan, Repair};
use crate::directory::Dir;
use crate::error::{Error, Result};
use crate::inspect::{generation, os_door};
use crate::io::overlay::Overlay;
use crate::log::Log;

/// How often a directory is looked at again, when it changed under the look.
const ATTEMPTS: usize = 16;

/// The log in a directory as an open would recover it, for reading. Nothing in the directory is
/// locked or changed, so it may be in use, or on a read-only mount; what is written to the returned
/// log, by the recovery or by the caller, stays in memory and ends with it. It takes as much memory as
/// the tail holds. Reads of entries that are missing return [`Error::Hole`].
///
/// # Errors
/// As [`Log::open`], but for [`Error::Locked`] and [`Error::Incomplete`].
pub fn preview(path: impl AsRef<Path>) -> Result<Log> {
    let path = path.as_ref();
    for _ in 1..ATTEMPTS {
        let newest = || Ok(generation(&Dir::read_only(Arc::new(os_door(path)?), path)));
        let before = newest()?;
        match Log::open_at(overlaid(path)?, &allowing()) {
            // What looked wrong may only have been new: the log moved on while it was read.
            Err(_) if before != newest()? => {}
            opened => return opened,
        }
    }
    Log::open_at(overlaid(path)?, &allowing())
}

/// The log in a directory as a repair would leave it, and what that would do and lose. As
/// [`preview`], at the price of memory for the segments that a repair writes anew.
///
/// # Errors
/// As [`plan`](super::plan()) and [`preview`]; [`Error::Damaged`] if there is an obstacle.
pub fn preview_repaired(path: impl AsRef<Path>) -> Result<(Log, Plan)> {
    let dir = overlaid(path.as_ref())?;
    let repair = Repair::of(dir.clone(), &mut |_| ())?;
    if let Some(Obstacle::Ambiguous { .. }) = repair.plan().obstacle {
        let reason = "several files claim to be one segment";
        return Err(Error::InvalidArgument { what: "log", reason });
    }
    let plan = repair.apply(|| Ok(None), &mut |_| ())?;
    Ok((Log::open_at(dir, &allowing())?, plan))
}

fn overlaid(path: &Path) -> Result<Dir> {
    Ok(Dir::new(Arc::new(Overlay::new(Arc::new(os_door(path)?))), path))
}
