//! Side files of a group: large values, as parts in the log underneath.
//!
//! Owns: streaming them in and out. Does not own: the reference, which is a record and thus atomic
//! with the rest of its batch, nor where the parts are (`state`).

use std::io::{self, Read, Write};
use std::iter::once;
use std::sync::Arc;

use indelible::{Damage, Error, Result, SideFile, SideFileRef};

use crate::commit::Inner;
use crate::envelope::{Event, Record};
use crate::index::Place;
use crate::number::{to_u64, to_usize};
use crate::plan::entry_bytes_max;
use crate::state::Member;

/// Most bytes of one part.
const PART_BYTES: usize = 256 * 1024;

/// Takes the bytes of a side file as they come. Dropped unfinished, it leaves nothing that counts.
#[derive(Debug)]
pub struct GroupFileWriter {
    inner: Arc<Inner>,
    member: Arc<Member>,
    id: u64,
    parts: u64,
    length: u64,
    part_bytes: usize,
    buffer: Vec<u8>,
    hasher: crc32fast::Hasher,
    finished: bool,
}

impl GroupFileWriter {
    pub(crate) fn new(inner: &Arc<Inner>, member: &Arc<Member>) -> Result<Self> {
        let id = inner.new_file()?;
        let limit = to_usize(entry_bytes_max(&inner.log));
        Ok(Self {
            inner: Arc::clone(inner),
            member: Arc::clone(member),
            id,
            parts: 0,
            length: 0,
            part_bytes: PART_BYTES.min(limit),
            buffer: Vec::new(),
            hasher: crc32fast::Hasher::new(),
            finished: false,
        })
    }

    /// Ends the file. On return it may be attached to a cell of its group, and becomes durable with
    /// the batch that does. If the last clone of what this returns is dropped before, it is gone.
    ///
    /// # Errors
    ///
    /// [`Error::DiskFull`], [`Error::Io`], [`Error::Poisoned`], [`Error::Closed`]; the file is gone
    /// then.
    pub fn finish(mut self) -> Result<SideFile> {
        self.write_part()?;
        let crc = self.hasher.clone().finalize();
        let reference = SideFileRef { id: self.id, length: self.length, crc };
        let mut state = self.member.state.write();
        state.files.entry(self.id).or_default().finished = Some(reference);
        drop(state);
        self.finished = true;
        let (group, released) = (self.member.id, Arc::clone(&self.inner.released));
        Ok(SideFile::with_release(reference, move |file| released.lock().push((group, file.id))))
    }

    /// Writes what has come since the last part. Asks first, also if that is nothing: [`Self::finish`]
    /// takes a lock afterwards.
    fn write_part(&mut self) -> Result<()> {
        self.inner.usable()?;
        if self.buffer.is_empty() {
            return Ok(());
        }
        let event = Event::Part { file: self.id, nth: self.parts, bytes: &self.buffer };
        let record = Record { group: self.member.id, event };
        self.inner.write(Some(&self.member), |planner| planner.records(once(record)))?;
        self.parts += 1;
        self.length += to_u64(self.buffer.len());
        self.buffer.clear();
        Ok(())
    }
}

impl Write for GroupFileWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() >= self.part_bytes {
            self.flush()?;
        }
        let room = self.part_bytes.saturating_sub(self.buffer.len()).min(bytes.len());
        let (taken, _) = bytes.split_at(room);
        self.buffer.extend_from_slice(taken);
        self.hasher.update(taken);
        Ok(room)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_part().map_err(io::Error::other)
    }
}

impl Drop for GroupFileWriter {
    fn drop(&mut self) {
        // In a forked child the file is the parent's.
        if !self.finished && self.inner.log.not_forked().is_ok() {
            self.inner.released.lock().push((self.member.id, self.id));
        }
    }
}

/// Streams a side file of a group out. The bytes are checked as they pass: a read of damaged ones
/// fails with our [`Error`] inside.
#[derive(Debug)]
pub struct GroupFileReader {
    inner: Arc<Inner>,
    member: Arc<Member>,
    file: SideFileRef,
    nth: usize,
    part: Vec<u8>,
    taken: usize,
    read: u64,
    hasher: crc32fast::Hasher,
}

impl GroupFileReader {
    pub(crate) fn new(inner: &Arc<Inner>, member: &Arc<Member>, file: SideFileRef) -> Self {
        Self {
            inner: Arc::clone(inner),
            member: Arc::clone(member),
            file,
            nth: 0,
            part: Vec::new(),
            taken: 0,
            read: 0,
            hasher: crc32fast::Hasher::new(),
        }
    }

    /// Its length in bytes.
    pub const fn bytes(&self) -> u64 {
        self.file.length
    }

    /// The whole rest of the file in memory, checked.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if the bytes are not those that were written, [`Error::Hole`],
    /// [`Error::Io`], [`Error::Forked`]; [`Error::InvalidArgument`] if the file was replaced meanwhile.
    pub fn read_all(mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(part) = self.left()? {
            bytes.extend_from_slice(part);
            self.taken = usize::MAX;
        }
        Ok(bytes)
    }

    /// What is left of this part, or the next part; nothing at the end.
    fn left(&mut self) -> Result<Option<&[u8]>> {
        // A part that was read before a fork is not the child's either.
        self.inner.log.not_forked()?;
        let length = part_of(&self.part, &self.member, self.file.id).map_or(0, <[u8]>::len);
        if self.taken >= length && !self.next_part()? {
            return self.check_end().map(|()| None);
        }
        let part = part_of(&self.part, &self.member, self.file.id).unwrap_or_default();
        Ok(Some(part.get(self.taken..).unwrap_or_default()))
    }

    /// Brings in the next part, if there is one.
    fn next_part(&mut self) -> Result<bool> {
        loop {
            let Some(place) = self.place(self.nth)? else { return Ok(false) };
            match self.read_part(place) {
                Ok(()) => break,
                // Carried forward meanwhile.
                Err(_) if self.place(self.nth)? != Some(place) => {}
                Err(error) => return Err(error),
            }
        }
        let part = part_of(&self.part, &self.member, self.file.id).unwrap_or_default();
        self.hasher.update(part);
        self.read = self.read.saturating_add(to_u64(part.len()));
        (self.nth, self.taken) = (self.nth + 1, 0);
        Ok(true)
    }

    fn read_part(&mut self, place: Place) -> Result<()> {
        if place.is_lost() {
            return Err(self.damaged("part of a side file", 1, 0));
        }
        let part = self.inner.log.entry(place.at);
        self.part = part.map_err(|error| match error {
            Error::Trimmed { .. } | Error::BeyondEnd { .. } => {
                self.damaged("part of a side file", 1, 0)
            }
            other => other,
        })?;
        match part_of(&self.part, &self.member, self.file.id) {
            Some(part) if !part.is_empty() => Ok(()),
            _ => Err(self.damaged("part of a side file", self.file.id, place.at)),
        }
    }

    fn place(&self, nth: usize) -> Result<Option<Place>> {
        let state = self.inner.state(&self.member)?;
        let Some(file) = state.files.get(&self.file.id) else {
            let reason = "it was replaced while it was read";
            return Err(Error::InvalidArgument { what: "side file", reason });
        };
        Ok(file.parts.get(nth).copied())
    }

    fn check_end(&self) -> Result<()> {
        if self.read != self.file.length {
            return Err(self.damaged("side file bytes", self.file.length, self.read));
        }
        let expected = self.hasher.clone().finalize();
        if expected == self.file.crc {
            return Ok(());
        }
        let reason = Damage::Checksum { structure: "side file", expected, got: self.file.crc };
        let path = self.inner.log.path().to_owned();
        Err(Error::Damaged { path, offset: 0, indexes: None, reason })
    }

    fn damaged(&self, field: &'static str, expected: u64, got: u64) -> Error {
        self.inner.damaged(None, Damage::Field { field, expected, got })
    }
}

impl Read for GroupFileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let part =
            self.left().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let part = part.unwrap_or_default();
        let room = part.len().min(buffer.len());
        let (to, _) = buffer.split_at_mut(room);
        to.copy_from_slice(part.get(..room).unwrap_or_default());
        self.taken += room;
        Ok(room)
    }
}

fn part_of<'a>(part: &'a [u8], member: &Member, file: u64) -> Option<&'a [u8]> {
    let record = Record::decode(part)?;
    match record.event {
        Event::Part { file: found, bytes, .. } if found == file && record.group == member.id => {
            Some(bytes)
        }
        _ => None,
    }
}
