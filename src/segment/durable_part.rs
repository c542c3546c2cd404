//! The part of a tail that was durable before its log was opened.
//!
//! Owns: walking over its frames for their offsets, when somebody needs them: a read, a roll, the
//! maintenance thread soon after the open. Does not own: what comes behind it (`recovery`).
//!
//! Nothing in it can be torn, so an open has nothing to decide there; like a sealed segment, it is
//! checked when it is read, and what cannot be read is damage.

use std::sync::Arc;

use super::FRAMES_START;
use super::offsets::Offsets;
use super::walk::{Found, Part};
use crate::dir::Dir;
use crate::error::{Damage, Error, Result};
use crate::format::SegmentName;
use crate::format::frame::{FRAME_HEADER_BYTES, HOLE_PAYLOAD_BYTES, Salt, peek_header};
use crate::format::number::{to_u64, to_usize};
use crate::io::File;
use crate::planted::{Bug, planted};

/// Bytes that are looked at together: few enough to stay in the processor's cache from the copy to
/// the look.
const WINDOW_BYTES: u64 = 64 * 1024;

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
        let (mut window, mut start) = (Vec::new(), FRAMES_START);
        let mut at = FRAMES_START;
        while at < self.end {
            let seen = FRAME_HEADER_BYTES + HOLE_PAYLOAD_BYTES;
            let part = Part { bytes: &window, start };
            let rest = part.from(to_usize(at));
            if rest.len() < seen && start + to_u64(window.len()) < self.end {
                start = at;
                window.resize(to_usize(WINDOW_BYTES.min(self.end - at)), 0);
                self.file
                    .read_at(at, &mut window)
                    .map_err(|source| Error::io("read", self.path(), source))?;
                continue;
            }
            let header = match peek_header(rest, &self.salt) {
                Err(_) if planted(Bug::UnreadableFrameEndsTheLook) => break,
                header => header.map_err(|error| self.damaged(at, error.damage()))?,
            };
            let payload = rest.get(FRAME_HEADER_BYTES..seen).unwrap_or(&[]);
            offsets
                .apply(self.name.base, &Found { offset: at, header, payload })
                .map_err(|reason| self.damaged(at, reason))?;
            at += to_u64(header.frame_bytes());
        }
        if at != self.end && !planted(Bug::UnreadableFrameEndsTheLook) {
            let (field, expected, got) = ("end of a frame", self.end, at);
            return Err(self.damaged(at, Damage::Field { field, expected, got }));
        }
        Ok(offsets)
    }

    /// The error for a part that has fewer entries than the checkpoint behind it counts.
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
