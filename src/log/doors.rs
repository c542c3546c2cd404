//! What only tests ask of a log: to be on another disk than the system's, and what it wrote last.
//!
//! Owns: nothing; a call whose name ends with `_in` is that without it, through any I/O door.

use std::sync::Arc;

use super::backup::{Backup, Links};
use super::{Log, open, open_or_create};
use crate::directory::Dir;
use crate::error::Result;
use crate::io::Directory;
use crate::log::ticket::Ticket;
use crate::options::Options;
use crate::recovery::RecoveryReport;

impl Log {
    /// Creates a log through any I/O door.
    ///
    /// # Errors
    ///
    /// As [`Self::create`].
    pub fn create_in(directory: Arc<dyn Directory>, options: &Options) -> Result<Self> {
        Self::start(Dir::new(directory, ""), options, open::create)
    }

    /// Opens a log through any I/O door.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_in(
        directory: Arc<dyn Directory>,
        options: &Options,
    ) -> Result<(Self, RecoveryReport)> {
        Self::start(Dir::new(directory, ""), options, open::open).map(Self::reported)
    }

    /// Opens or creates a log through any I/O door.
    ///
    /// # Errors
    ///
    /// As [`Self::open_or_create`].
    pub fn open_or_create_in(
        directory: Arc<dyn Directory>,
        options: &Options,
    ) -> Result<(Self, RecoveryReport)> {
        let again = Arc::clone(&directory);
        open_or_create(
            || Self::open_in(Arc::clone(&again), options),
            || Self::create_in(directory, options),
        )
    }

    /// The newest ticket: that of the last batch written.
    pub fn newest_ticket(&self) -> Ticket {
        self.newest()
    }

    /// Makes a copy through any I/O door; every file is copied.
    ///
    /// # Errors
    /// As [`Self::backup`].
    pub fn backup_in(&self, to: Arc<dyn Directory>) -> Result<Backup> {
        self.shared().backup(&Dir::new(to, ""), &Links { from: None, to: None })
    }
}
