//! [`DEngineMeta`]: term and vote, in a state cell of the log.
//!
//! Owns: the cell `hard-state`. A hard state is durable when `save_hard_state` returns; it is one
//! small batch in the same stream as the entries, so its sync makes them durable too. A crash in the
//! middle leaves the former hard state. Saving what is saved already costs no I/O.

use async_trait::async_trait;
use d_engine_core::{HardState, MetaStore};
use indelible::store::Store;
use indelible::{Batch, Log};

use crate::convert::{HARD_STATE_CELL, decode_hard_state, encode_hard_state};
use crate::error::{HostResult, to_host};

/// The `MetaStore` of d-engine.
#[derive(Debug)]
pub struct DEngineMeta<S = Log> {
    log: S,
}

impl<S: Store> DEngineMeta<S> {
    pub(crate) fn new(log: S) -> Self {
        Self { log }
    }
}

#[async_trait]
impl<S: Store> MetaStore for DEngineMeta<S> {
    fn save_hard_state(&self, state: &HardState) -> HostResult<()> {
        let mut batch = Batch::new();
        batch.set(HARD_STATE_CELL, encode_hard_state(state));
        self.log.submit(&batch).and_then(|ticket| ticket.wait()).map_err(to_host)
    }

    fn load_hard_state(&self) -> HostResult<Option<HardState>> {
        self.log.cell(HARD_STATE_CELL).map(|bytes| decode_hard_state(&bytes)).transpose()
    }

    fn flush(&self) -> HostResult<()> {
        self.log.sync().map_err(to_host)
    }

    async fn flush_async(&self) -> HostResult<()> {
        self.flush()
    }
}
