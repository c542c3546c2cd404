//! The current snapshot of a state machine, in the log of its node: a side file on a cell.
//!
//! Owns: which of two snapshots stays. Does not own: what is in one; that is the application's.
//!
//! Invariant: a snapshot is never replaced by one that covers less. The host installs snapshots while
//! others are built, and an older one that ends later must not win.

use std::sync::Arc;

use indelible::codec::Postcard;
use indelible::store::Store;
use indelible::typed::{Failure, decode, encode};
use indelible::{Batch, Log};
use parking_lot::Mutex;

/// Cell of the bytes of the current snapshot.
const BYTES: &str = "openraft.snapshot";
/// Cell of the index of the last entry it covers.
const INDEX: &str = "openraft.snapshot-index";

/// Keeps the newest snapshot. Clones share it; make all of them from one.
#[derive(Debug, Clone)]
pub struct Snapshots<S = Log> {
    log: S,
    one_at_a_time: Arc<Mutex<()>>,
}

impl<S: Store> Snapshots<S> {
    /// The snapshots in a log that a store of this crate was opened on before.
    pub fn new(log: S) -> Self {
        Self { log, one_at_a_time: Arc::default() }
    }

    /// Makes a snapshot durable and current, unless the current one covers more entries. `last` is the
    /// index of the last entry it covers, if it covers any. Returns whether it is current now. Blocks
    /// for as long as it takes to write it.
    ///
    /// # Errors
    ///
    /// [`Failure::Log`]: the current one is as it was.
    pub fn keep(&self, last: Option<u64>, bytes: &[u8]) -> Result<bool, Failure> {
        let _one = self.one_at_a_time.lock();
        if self.last()? > last {
            return Ok(false);
        }
        let file = self.log.write_side_file(bytes)?;
        let mut batch = Batch::new();
        batch.attach(BYTES, file).set(INDEX, encode::<Postcard, _>(INDEX, &last)?);
        self.log.submit(&batch)?.wait()?;
        Ok(true)
    }

    /// The bytes of the current snapshot, checked; none if there is none.
    ///
    /// # Errors
    ///
    /// [`Failure::Log`] if they cannot be read or are damaged.
    pub fn current(&self) -> Result<Option<Vec<u8>>, Failure> {
        Ok(self.log.read_side_file(BYTES)?)
    }

    /// The index of the last entry that the current snapshot covers.
    fn last(&self) -> Result<Option<u64>, Failure> {
        match self.log.cell(INDEX) {
            Some(bytes) => decode::<Postcard, Option<u64>>(INDEX, &bytes),
            None => Ok(None),
        }
    }
}
