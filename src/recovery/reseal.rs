//! The footers of segments that were sealed after the newest checkpoint.
//!
//! Owns: making sure of them before a checkpoint declares these segments sealed. Does not own: which
//! segments these are (`replay`), nor what a footer says (`segment::tail`).

use super::replay::Replayed;
use crate::directory::{Dir, is_full};
use crate::error::{Error, Result};
use crate::format::Checkpoint;
use crate::format::number::to_u64;
use crate::options::SyncMethod;
use crate::planted::{Bug, planted};
use crate::segment::tail::Seal;

/// Sees that every segment sealed since the checkpoint has its own footer. A crash may have lost
/// it, or left that of a seal which was dropped, whose offsets are those of other frames.
pub(crate) fn reseal(
    dir: &Dir,
    found: &Checkpoint,
    replayed: &Replayed,
    method: SyncMethod,
) -> Result<()> {
    for (link, next) in replayed.links.iter().zip(replayed.links.iter().skip(1)) {
        let bytes = Seal {
            salt: &link.salt,
            base: link.header.base,
            units: link.offsets.units.all().unwrap_or_default(),
            data_end: link.end,
            next_sequence: next.header.first_sequence,
            compressed: link.offsets.compressed,
            holes: link.offsets.holes,
        }
        .encode();
        let start = found.segment_bytes.saturating_sub(to_u64(bytes.len()));
        let failed = |op| move |source| Error::io(op, dir.join(&link.name.to_string()), source);
        let mut there = vec![0; bytes.len()];
        link.file.read_at(start, &mut there).map_err(failed("read"))?;
        if there != bytes && !planted(Bug::NoReseal) {
            match link.file.write_at(start, &bytes) {
                // No footer is there that could be taken for this one, and no space for one: whoever
                // reads the segment walks its frames.
                Err(error) if is_full(&error) && there.iter().all(|&byte| byte == 0) => continue,
                written => written.map_err(failed("write"))?,
            }
            // Makes the footer durable before a checkpoint declares the segment sealed. A crash
            // before it finds the log as this open did.
            link.file.sync(start..found.segment_bytes, method).map_err(failed("sync"))?;
        }
    }
    Ok(())
}
