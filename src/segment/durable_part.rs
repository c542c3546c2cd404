//! The part of a tail that was durable before its log was opened.
//!
//! Owns: walking over its frames for their offsets, when somebody needs them: a read, a roll, the
//! maintenance thread soon after the open. Does not own: what comes after it (`recovery`).
//!
//! Nothing in it can be torn, so an open has nothing to decide there; like a sealed segment, it is
//! checked when it is read, and what cannot be read is damage.

use std::sync::Arc;

use super::offsets::Offsets;
use super::walk::Headers;
use crate::directory::Dir;
use crate::error::{Damage, Error, Result};
use crate::format::SegmentName;
use crate::format::frame::Salt;
use crate::io::File;
use crate::planted::{Bug, planted};

/// The frames of a tail before the place of a checkpoint.
#[derive(Debug, Clone)]
pub(crate) struct DurablePart {
    pub(crate) dir: Dir,
    pub(crate) name: SegmentName,
    pub(crate) salt: Salt,
    pub(crate) file: Arc<dyn File>,
    /// The place of the checkpoint, where the last frame ends.
    pub(crate) end: u64,
}

impl DurablePart {
    /// The offsets of its entries. The frames must be sound and lead to its end exactly; their
    /// payloads are checked when they are read.
    pub(crate) fn offsets(&self) -> Result<Offsets> {
        let mut offsets = Offsets::default();
        let mut headers = Headers::new(&*self.file, &self.salt, self.end);
        while headers.position() < self.end {
            let at = headers.position();
            let step = headers.step().map_err(|source| Error::io("read", self.path(), source))?;
            let found = match step {
                Err(_) if planted(Bug::UnreadableFrameEndsTheLook) => break,
                step => step.map_err(|error| self.damaged(at, error.damage()))?,
            };
            offsets.apply(self.name.base, &found).map_err(|reason| self.damaged(at, reason))?;
        }
        Ok(offsets)
    }

    /// The error for a part that has fewer entries than the checkpoint after it counts.
    pub(crate) fn too_few(&self, expected: u64, got: u64) -> Error {
        let base = self.name.base;
        let (expected, got) = (base.saturating_add(expected), base.saturating_add(got));
        self.damaged(self.end, Damage::Field { field: "next index", expected, got })
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.join(&self.name.to_string())
    }

    fn damaged(&self, offset: u64, reason: Damage) -> Error {
        Error::Damaged { path: self.path(), offset, indexes: None, reason }
    }
}
