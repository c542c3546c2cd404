//! The metadata file: two slots, each in a block of its own, that hold the newest checkpoint.
//!
//! Owns: the order in which slots are written and believed. Does not own: what a checkpoint says
//! (`format::slot`) or when one is due (`log::syncer`).
//!
//! INV-4: a checkpoint is in both slots, durably, before anything relies on it: before an
//! acknowledgement from a segment it names for the first time, and before a file goes that only
//! the checkpoint before it needed. So one unreadable slot never loses anything.

use std::sync::Arc;

use crate::directory::Dir;
use crate::error::{Damage, Error, Result};
use crate::format::error::StructureError;
use crate::format::names::METADATA;
use crate::format::number::to_u64;
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
    /// The tail that the newest checkpoint in both slots names.
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
    /// Creates the file with `checkpoint` in both slots. On return the file is durable, name and
    /// all; a crash before leaves a temporary file or nothing, and there is no log yet.
    pub(crate) fn create(
        dir: &Dir,
        checkpoint: &Checkpoint,
        sync_method: SyncMethod,
    ) -> Result<Self> {
        let (temporary, file) = dir.create(to_u64(METADATA_BYTES), true)?;
        let (generation, tail_number) = (checkpoint.generation, checkpoint.tail_number);
        let (dir, sync_method) = (dir.clone(), for_slots(sync_method));
        let mut metadata = Self { dir: dir.clone(), file, sync_method, generation, tail_number };
        let failed = |op| {
            let temporary = dir.join(&temporary);
            move |source| Error::io(op, temporary, source)
        };
        for _ in 0..2 {
            let (offset, slot) = metadata.next_slot(checkpoint)?;
            metadata.file.write_at(offset, &*slot).map_err(failed("write"))?;
        }
        if !planted(Bug::SlotsNotSynced) {
            // Makes both slots durable at once: there is no other checkpoint that a crash could take.
            // One before this leaves a temporary file.
            let both = 0..to_u64(METADATA_BYTES);
            metadata.file.sync(both, metadata.sync_method).map_err(failed("sync"))?;
        }
        dir.rename(&temporary, METADATA)?;
        // Makes the name durable: the commit point of `create`.
        dir.sync()?;
        Ok(metadata)
    }

    /// Opens the file, which the directory lists with `bytes`, and reads both slots from the medium.
    /// A file that is longer than its two slots costs no more than one that is not.
    pub(crate) fn open(dir: &Dir, bytes: u64, sync_method: SyncMethod) -> Result<(Self, Slots)> {
        let both = Access::Distrust { from: 0, to: to_u64(METADATA_BYTES) };
        let file = dir.open(METADATA, both)?;
        let slots = read_slots(dir, file.as_ref(), bytes)?;
        let (generation, tail_number) = (slots.newest.generation, slots.newest.tail_number);
        let (dir, sync_method) = (dir.clone(), for_slots(sync_method));
        let metadata = Self { dir, file, sync_method, generation, tail_number };
        Ok((metadata, slots))
    }

    /// Writes a checkpoint to both slots, the older one first. On return it is durable twice; a
    /// crash in between leaves at least one slot whole, with this checkpoint or the one before.
    pub(crate) fn write(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        for _ in 0..if planted(Bug::OneSlotOnly) { 1 } else { 2 } {
            let (offset, slot) = self.next_slot(checkpoint)?;
            let bytes = to_u64(SLOT_BYTES);
            let path = || self.dir.join(METADATA);
            if self.sync_method == SyncMethod::Dsync && !planted(Bug::SlotsNotSynced) {
                // Makes this slot durable, as below.
                let written = self.file.write_by(Way::Through, offset, &*slot);
                if !planted(Bug::SlotFailureIgnored) {
                    written.map_err(|source| Error::io("write", path(), source))?;
                }
                continue;
            }
            self.file
                .write_at(offset, &*slot)
                .map_err(|source| Error::io("write", path(), source))?;
            // Makes this slot durable before the other one is touched. A crash before it may tear
            // this slot; the other still holds what was relied on.
            if planted(Bug::SlotsNotSynced) {
                continue;
            }
            let synced = self.file.sync(offset..offset + bytes, self.sync_method);
            if planted(Bug::SlotFailureIgnored) {
                continue;
            }
            synced.map_err(|source| Error::io("sync", path(), source))?;
        }
        self.tail_number = checkpoint.tail_number;
        Ok(())
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

    /// The tail of the newest checkpoint that is in both slots: no crash makes a log go on in a
    /// segment with a lower number.
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
    let mut block = [0; METADATA_BYTES];
    file.read_at(0, &mut block).map_err(|source| Error::io("read", path(), source))?;
    let (a, b) = block.split_at(SLOT_BYTES);
    match (Checkpoint::decode(a), Checkpoint::decode(b)) {
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

/// The metadata file has no map, so a method that works on one does not apply.
fn for_slots(method: SyncMethod) -> SyncMethod {
    match method {
        SyncMethod::Msync => SyncMethod::Fdatasync,
        other => other,
    }
}
