//! The metadata file: two slots, each in a block of its own, that hold the newest checkpoint.
//!
//! Owns: the order in which slots are written and believed. Does not own: what a checkpoint says
//! (`format::slot`) or when one is due (`log::syncer`).
//!
//! INV-4: both slots hold a checkpoint that leads to everything acknowledged. One that names a new
//! segment is in one slot, durably, before an acknowledgement from that segment: the other slot leads
//! there by the segment before. It is in both before a file goes that only the checkpoint before it
//! needed. So one unreadable slot never loses anything.

use std::io;
use std::sync::Arc;

use crate::directory::Dir;
use crate::error::{Damage, Error, Result};
use crate::format::error::StructureError;
use crate::format::names::METADATA;
use crate::format::number::{to_u64, to_usize};
use crate::format::slot::{METADATA_BYTES, SLOT_BYTES};
use crate::format::{Checkpoint, VERSION};
use crate::io::{Access, File, Way};
use crate::options::SyncMethod;
use crate::planted::{Bug, planted};

/// The open metadata file.
#[derive(Debug)]
pub(crate) struct Metadata {
    dir: Dir,
    file: Arc<dyn File>,
    sync_method: SyncMethod,
    generation: u64,
    /// The tails that the newest checkpoint and the one in the other slot name.
    newest_tail: u64,
    tail_number: u64,
}

/// What was found in the metadata file.
#[derive(Debug)]
pub(crate) struct Slots {
    /// The newest readable checkpoint.
    pub(crate) newest: Checkpoint,
    /// Why the other slot is not readable, if it is not.
    pub(crate) unreadable: Option<StructureError>,
}

impl Metadata {
    /// Creates the file with `checkpoint` in both slots, and names it. On return the bytes are durable;
    /// the name is after a sync of the directory, and until then there may be no log yet.
    pub(crate) fn create(
        dir: &Dir,
        checkpoint: &Checkpoint,
        sync_method: SyncMethod,
    ) -> Result<Self> {
        let (temporary, file) = dir.create(to_u64(METADATA_BYTES), true)?;
        let (generation, newest_tail) = (checkpoint.generation, checkpoint.tail_number);
        let (tail_number, sync_method) = (newest_tail, for_slots(sync_method));
        let dir = dir.clone();
        let mut metadata = Self { dir, file, sync_method, generation, newest_tail, tail_number };
        let mut both = [0; METADATA_BYTES];
        for _ in 0..2 {
            let (offset, slot) = metadata.next_slot(checkpoint)?;
            let (start, end) = (to_usize(offset), to_usize(offset) + SLOT_BYTES);
            if let Some(room) = both.get_mut(start..end) {
                room.copy_from_slice(&*slot);
            }
        }
        // Makes both slots durable at once: there is no other checkpoint that a crash could take. One
        // before this leaves a temporary file.
        metadata.put(0, &both, |op, source| {
            metadata.dir.full_or_io(op, &temporary, to_u64(METADATA_BYTES), source)
        })?;
        metadata.dir.rename(&temporary, METADATA)?;
        Ok(metadata)
    }

    /// Opens the file, which the directory lists with `bytes`, and reads both slots from the medium.
    /// A file that is longer than its two slots costs no more than one that is not.
    pub(crate) fn open(dir: &Dir, bytes: u64, sync_method: SyncMethod) -> Result<(Self, Slots)> {
        let both = Access::Distrust { from: 0, to: to_u64(METADATA_BYTES) };
        let file = dir.open(METADATA, both)?;
        let slots = read_slots(dir, file.as_ref(), bytes)?;
        let (generation, newest_tail) = (slots.newest.generation, slots.newest.tail_number);
        let (dir, sync_method) = (dir.clone(), for_slots(sync_method));
        // Whatever the other slot says: an open writes both before the log goes on.
        let tail_number = newest_tail;
        let metadata = Self { dir, file, sync_method, generation, newest_tail, tail_number };
        Ok((metadata, slots))
    }

    /// Writes a checkpoint to both slots, the older one first. On return it is durable twice; a
    /// crash in between leaves at least one slot whole, with this checkpoint or the one before.
    pub(crate) fn write(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.write_one(checkpoint)?;
        if !planted(Bug::OneSlotOnly) {
            self.write_one(checkpoint)?;
        }
        Ok(())
    }

    /// Writes a checkpoint to the older slot. On return it is durable once; a crash before may tear
    /// that slot, and the other one still holds what was relied on.
    pub(crate) fn write_one(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let (offset, slot) = self.next_slot(checkpoint)?;
        let of_a_roll = checkpoint.tail_number != self.newest_tail;
        if !(of_a_roll && planted(Bug::NoCheckpointOnRoll)) {
            // Makes this slot durable before the other one is touched.
            self.put(offset, &*slot, |op, source| Error::io(op, self.dir.join(METADATA), source))?;
        }
        self.tail_number = std::mem::replace(&mut self.newest_tail, checkpoint.tail_number);
        Ok(())
    }

    /// Writes bytes of the file, durably. `failed` is told what failed, as a verb.
    fn put(
        &self,
        offset: u64,
        bytes: &[u8],
        failed: impl Fn(&'static str, io::Error) -> Error,
    ) -> Result<()> {
        let unsynced = planted(Bug::SlotsNotSynced);
        if self.sync_method == SyncMethod::Dsync && !unsynced {
            // Makes the bytes durable, as below.
            let written = self.file.write_by(Way::Through, offset, bytes);
            let written = written.map_err(|source| failed("write", source));
            return if planted(Bug::SlotFailureIgnored) { Ok(()) } else { written };
        }
        self.file.write_at(offset, bytes).map_err(|source| failed("write", source))?;
        if unsynced {
            return Ok(());
        }
        // Makes the bytes durable. What a crash before this leaves, the callers say.
        let synced = self.file.sync(offset..offset + to_u64(bytes.len()), self.sync_method);
        if planted(Bug::SlotFailureIgnored) {
            Ok(())
        } else {
            synced.map_err(|source| failed("sync", source))
        }
    }

    /// The next slot to be written, and where: consecutive generations alternate.
    fn next_slot(&mut self, checkpoint: &Checkpoint) -> Result<(u64, Box<[u8; SLOT_BYTES]>)> {
        self.generation += 1;
        let clean = match () {
            () if planted(Bug::AlwaysClean) => true,
            () if planted(Bug::NeverClean) => false,
            () => checkpoint.clean,
        };
        let numbered = Checkpoint { generation: self.generation, clean, ..checkpoint.clone() };
        Ok(((self.generation % 2) * to_u64(SLOT_BYTES), numbered.encode()?))
    }

    /// The tail of the older checkpoint that is in a slot: no crash makes a log go on in a segment with
    /// a lower number.
    pub(crate) fn tail_number(&self) -> u64 {
        self.tail_number
    }
}

/// Reads both slots through any open file. Both unreadable is damage; one unreadable is what a
/// crash during a checkpoint leaves.
pub(crate) fn read_slots(dir: &Dir, file: &dyn File, bytes: u64) -> Result<Slots> {
    let path = || dir.join(METADATA);
    let expected = to_u64(METADATA_BYTES);
    if bytes != expected {
        let reason = Damage::Length { expected, got: bytes };
        return Err(Error::Damaged { path: path(), offset: 0, indexes: None, reason });
    }
    match (read_slot(dir, file, 0)?, read_slot(dir, file, to_u64(SLOT_BYTES))?) {
        (Ok(a), Ok(b)) => {
            let newest = if a.generation > b.generation { a } else { b };
            Ok(Slots { newest, unreadable: None })
        }
        (Err(StructureError::Version(found)), _) | (_, Err(StructureError::Version(found))) => {
            Err(Error::UnsupportedVersion { path: path(), found, supported: VERSION })
        }
        (Err(error @ StructureError::Features(_)), _) => Err(error.into_error(path(), 0)),
        (_, Err(error @ StructureError::Features(_))) => {
            Err(error.into_error(path(), to_u64(SLOT_BYTES)))
        }
        (Ok(newest), Err(error)) | (Err(error), Ok(newest)) => {
            Ok(Slots { newest, unreadable: Some(error) })
        }
        (Err(_), Err(_)) => {
            let reason = Damage::BothSlots;
            Err(Error::Damaged { path: path(), offset: 0, indexes: None, reason })
        }
    }
}

/// Bytes of a slot that are read first. Few have more than that, and zeros after it.
const HEAD_BYTES: usize = 1024;

/// Reads one slot. If its check says that what follows the head is no zeros, or if somebody wants to
/// know what is in the files and not to go on with the log, all of it is read.
fn read_slot(
    dir: &Dir,
    file: &dyn File,
    offset: u64,
) -> Result<std::result::Result<Checkpoint, StructureError>> {
    let mut slot = [0; SLOT_BYTES];
    let read = |room: &mut [u8]| {
        file.read_at(offset, room).map_err(|source| Error::io("read", dir.join(METADATA), source))
    };
    if !dir.is_read_only() {
        read(slot.split_at_mut(HEAD_BYTES).0)?;
        if let Ok(checkpoint) = Checkpoint::decode(&slot) {
            return Ok(Ok(checkpoint));
        }
    }
    read(&mut slot)?;
    Ok(Checkpoint::decode(&slot))
}

/// The metadata file has no map, so a method that works on one does not apply.
fn for_slots(method: SyncMethod) -> SyncMethod {
    match method {
        SyncMethod::Msync => SyncMethod::Fdatasync,
        other => other,
    }
}
