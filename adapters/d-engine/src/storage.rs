//! [`DEngineStorage`]: one d-engine node's log and hard state in one directory.
//!
//! Owns: opening, and what makes a log one of d-engine's. Does not own: the mutations (`log_store`,
//! `meta_store`).
//!
//! A log becomes d-engine's by one batch that sets the cell `d-engine` and lets indexes start at 1.
//! A crash before it leaves a log without cells and entries, which the next open makes d-engine's. A
//! log that holds anything but lacks the cell belongs to somebody else and is refused.
//!
//! Every store holds a handle of the log, so the directory stays locked until the last one drops.

use std::path::Path;
use std::sync::Arc;

use d_engine_core::{MetaStore, StorageEngine};
use indelible::store::Store;
use indelible::{Batch, Error, Log, Options};

use crate::convert::{FORMAT, FORMAT_CELL, INDEX_MIN};
use crate::error::{HostResult, to_host};
use crate::{DEngineLog, DEngineMeta};

/// The `StorageEngine` of d-engine.
#[derive(Debug, Clone)]
pub struct DEngineStorage<S = Log> {
    log_store: Arc<DEngineLog<S>>,
    meta_store: Arc<DEngineMeta<S>>,
}

impl DEngineStorage {
    /// Creates the storage of a node that has never run before, in the directory `path`.
    ///
    /// # Errors
    /// `AlreadyExists` if there is a log; that node must be opened, since it may have voted.
    pub fn create(path: impl AsRef<Path>, options: &Options) -> HostResult<Self> {
        Self::from_log(Log::create(path, options).map_err(to_host)?)
    }

    /// Opens the storage of a node that has run before, and reads all of it once.
    ///
    /// # Errors
    /// `NotFound` if there is none; `ResourceBusy` if it is in use; fatal if anything that was
    /// acknowledged cannot be read back. Nothing is changed in any of these cases.
    pub fn open(path: impl AsRef<Path>, options: &Options) -> HostResult<Self> {
        Self::from_log(Log::open(path, options).map_err(to_host)?.0)
    }

    /// Opens the storage of a node, or creates it if there is none: a node whose directory got lost
    /// starts anew under its old name, and may vote twice in a term.
    ///
    /// # Errors
    /// As [`Self::open`], except that there may be none.
    pub fn open_or_create(path: impl AsRef<Path>, options: &Options) -> HostResult<Self> {
        Self::from_log(Log::open_or_create(path, options).map_err(to_host)?.0)
    }

    /// A storage that is gone with its last handle, for tests.
    ///
    /// # Errors
    /// Fatal if the system has no memory to give.
    pub fn in_memory() -> HostResult<Self> {
        Self::from_log(Log::in_memory(&Options::new()).map_err(to_host)?)
    }
}

impl<S: Store> DEngineStorage<S> {
    /// The storage in a log that is open already, by whatever door: the way to run a node on the
    /// simulated disk, or in a group of a log that many nodes share.
    ///
    /// # Errors
    /// `InvalidInput` if the log belongs to another host, `Unsupported` if a newer version of this
    /// crate wrote it; fatal if anything in it cannot be read back.
    pub fn from_log(log: S) -> HostResult<Self> {
        adopt(&log).map_err(to_host)?;
        let log_store = DEngineLog::new(log.clone());
        let meta_store = DEngineMeta::new(log);
        log_store.check()?;
        meta_store.load_hard_state()?;
        Ok(Self { log_store: Arc::new(log_store), meta_store: Arc::new(meta_store) })
    }

    /// The log below: for its statistics, its recovery report, maintenance, and an orderly close.
    /// Writing to it other than through the stores breaks them.
    pub fn log(&self) -> &S {
        self.log_store.log()
    }
}

impl<S: Store> StorageEngine for DEngineStorage<S> {
    type LogStore = DEngineLog<S>;
    type MetaStore = DEngineMeta<S>;

    fn log_store(&self) -> Arc<DEngineLog<S>> {
        Arc::clone(&self.log_store)
    }

    fn meta_store(&self) -> Arc<DEngineMeta<S>> {
        Arc::clone(&self.meta_store)
    }
}

/// Makes a new log d-engine's; refuses one that is not.
fn adopt(log: &impl Store) -> indelible::Result<()> {
    log.check_state()?;
    match log.cell(FORMAT_CELL).as_deref() {
        Some([FORMAT]) => Ok(()),
        Some(&[found]) => Err(Error::UnsupportedVersion {
            path: log.log().path().to_path_buf(),
            found: found.into(),
            supported: FORMAT.into(),
        }),
        None if log.next() == 0 && log.cells().is_empty() => {
            let mut batch = Batch::new();
            batch.reset(INDEX_MIN).set(FORMAT_CELL, vec![FORMAT]);
            log.submit(&batch)?.wait()
        }
        _ => Err(Error::InvalidArgument { what: "log", reason: "it belongs to another host" }),
    }
}
