//! A log whose entries and state cells are values, not bytes (feature `serde`): what the store of a
//! Raft host is made of.
//!
//! Owns: the way through the codec, the conversion of inclusive bounds. Does not own: any word of a
//! host.
//!
//! Invariant: an entry lies at the index it states itself, so no convention needs an offset. One that
//! states another is not handed out.

use std::io;
use std::marker::PhantomData;
use std::ops::{Bound, Range, RangeBounds};

use crate::codec::{Codec, CodecError, Postcard};
use crate::store::{Store, StoreEntries};
use crate::{Batch, Error, Log, Ticket};

/// Why a store could not do what its host asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The engine refused.
    #[error(transparent)]
    Log(#[from] Error),
    /// The codec refused. If it was reading, the log was written by another codec or for other
    /// types: its bytes are sound, their meaning is not known here.
    #[error("cannot {op} {what}: {source}")]
    Codec {
        /// `"encode"` or `"decode"`.
        op: &'static str,
        /// What it was given.
        what: &'static str,
        /// What the codec said.
        source: CodecError,
    },
    /// A snapshot could not be written, read or restored, or is not what it was announced to be.
    #[error("cannot {op} the snapshot: {source}")]
    Snapshot {
        /// What was attempted, as a verb.
        op: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Log(error) => error.into(),
            other => Self::new(io::ErrorKind::InvalidData, other),
        }
    }
}

/// As many hosts want it: with the kind of the system's error if that was the cause.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Io { source, .. } => source.kind(),
            Error::DiskFull { .. } => io::ErrorKind::StorageFull,
            Error::Damaged { .. } | Error::MalformedCell { .. } => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// The first index after an inclusive end: of a purge "up to and including", of a truncation
/// "after". The only place where an inclusive bound becomes the engine's half-open one.
pub const fn after(last: u64) -> u64 {
    last.saturating_add(1)
}

/// A [`Log`], or another [`Store`], whose entries are values that the codec `K` turns into bytes,
/// and whose state cells are values in [`Postcard`]. Clones share the log.
pub struct TypedLog<K, S = Log> {
    log: S,
    codec: PhantomData<fn() -> K>,
}

impl<K, S: Clone> Clone for TypedLog<K, S> {
    fn clone(&self) -> Self {
        Self { log: self.log.clone(), codec: PhantomData }
    }
}

impl<K, S: std::fmt::Debug> std::fmt::Debug for TypedLog<K, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TypedLog").field(&self.log).finish()
    }
}

impl<K, S: Store> TypedLog<K, S> {
    /// A typed view of a log.
    pub fn new(log: S) -> Self {
        Self { log, codec: PhantomData }
    }

    /// The log below.
    pub fn log(&self) -> &S {
        &self.log
    }

    /// Makes an empty log one of this host, beginning at `first`, and refuses any other host's. The
    /// cell states the version of all that the adapter writes. Durable with the next sync.
    ///
    /// # Errors
    ///
    /// [`Error::UnsupportedVersion`]: the cell states another version. [`Error::InvalidArgument`]: the
    /// log is not empty, and the cell is not there; or changes of its state may be lost.
    pub fn claim(&self, cell: &'static str, version: u32, first: u64) -> Result<(), Failure> {
        self.log.check_state()?;
        match self.load::<u32>(cell)? {
            Some(found) if found == version => Ok(()),
            Some(found) => {
                let path = self.log.log().path().to_path_buf();
                Err(Error::UnsupportedVersion { path, found, supported: version }.into())
            }
            None if self.log.next() > 0 || !self.log.cells().is_empty() => {
                Err(Error::InvalidArgument { what: "log", reason: "it is another host's" }.into())
            }
            None => {
                let mut batch = Batch::new();
                if first > 0 {
                    batch.reset(first);
                }
                batch.set(cell, encode::<Postcard, u32>(cell, &version)?);
                Ok(self.log.submit(&batch).map(drop)?)
            }
        }
    }

    /// Drops every entry from `from` on; durable when the ticket says so. Nothing to drop: no I/O.
    ///
    /// # Errors
    ///
    /// As [`Log::submit`].
    pub fn truncate(&self, from: u64) -> Result<Ticket, Failure> {
        let mut batch = Batch::new();
        if from < self.log.next() {
            batch.truncate(from.max(self.log.first()));
        }
        Ok(self.log.submit(&batch)?)
    }

    /// Sets or clears a cell, ordered after everything submitted before; durable when the ticket says
    /// so.
    ///
    /// # Errors
    ///
    /// [`Failure::Codec`] if the value cannot be encoded; else as [`Log::submit`].
    pub fn save<T>(&self, cell: &'static str, value: Option<&T>) -> Result<Ticket, Failure>
    where
        Postcard: Codec<T>,
    {
        let mut batch = Batch::new();
        match value {
            Some(value) => batch.set(cell, encode::<Postcard, T>(cell, value)?),
            None => batch.clear(cell),
        };
        Ok(self.log.submit(&batch)?)
    }

    /// Sets a cell that the host can do without: it goes along with what is saved next
    /// ([`Log::set_lazily`]).
    ///
    /// # Errors
    ///
    /// As [`Self::save`].
    pub fn save_lazily<T>(&self, cell: &'static str, value: Option<&T>) -> Result<(), Failure>
    where
        Postcard: Codec<T>,
    {
        match value {
            Some(value) => Ok(self.log.set_lazily(cell, &encode::<Postcard, T>(cell, value)?)?),
            None => self.save(cell, value).map(drop),
        }
    }

    /// The value of a cell, `None` if it is not set.
    ///
    /// # Errors
    ///
    /// [`Failure::Codec`] if its bytes are no such value.
    pub fn load<T>(&self, cell: &'static str) -> Result<Option<T>, Failure>
    where
        Postcard: Codec<T>,
    {
        self.log.cell(cell).map(|bytes| decode::<Postcard, T>(cell, &bytes)).transpose()
    }

    /// The entries of a range that the log has, up to `bytes_max` bytes of them but at least one.
    /// `index_of` says which index an entry states.
    ///
    /// # Errors
    ///
    /// [`Failure::Codec`] if an entry cannot be decoded or states another index; else as
    /// [`Log::read`].
    pub fn read<E>(
        &self,
        range: impl RangeBounds<u64> + Clone,
        bytes_max: usize,
        index_of: impl Fn(&E) -> u64,
    ) -> Result<Vec<E>, Failure>
    where
        K: Codec<E>,
    {
        let mut bytes = 0_usize;
        let entries = self.view(range)?;
        let indexed = (entries.first()..=u64::MAX).zip(entries.iter()).enumerate();
        indexed
            .take_while(|(i, (_, entry))| {
                bytes = bytes.saturating_add(entry.len());
                *i == 0 || bytes <= bytes_max
            })
            .map(|(_, (index, entry))| decode_entry::<K, E>(index, entry, &index_of))
            .collect()
    }

    /// As [`Self::read`], but each entry is decoded when it is asked for. What the log does in the
    /// meantime does not show.
    ///
    /// # Errors
    ///
    /// As [`Log::read`]; the items, as [`Self::read`].
    pub fn read_lazily<E, RB: RangeBounds<u64> + Clone>(
        &self,
        range: RB,
        index_of: fn(&E) -> u64,
    ) -> Result<impl Iterator<Item = Result<E, Failure>> + use<E, RB, K, S>, Failure>
    where
        K: Codec<E>,
    {
        let entries = self.view(range)?;
        Ok((entries.first()..=u64::MAX).zip(0..entries.len()).map_while(move |(index, i)| {
            entries.get(i).map(|entry| decode_entry::<K, E>(index, entry, &index_of))
        }))
    }

    /// The entries of a range that the log has, not decoded.
    fn view(&self, range: impl RangeBounds<u64> + Clone) -> Result<S::Entries, Failure> {
        loop {
            match self.log.read(self.present(range.clone())) {
                // Another task trimmed or truncated in between: what is left is asked for.
                Err(Error::Trimmed { .. } | Error::BeyondEnd { .. }) => {}
                result => return Ok(result?),
            }
        }
    }

    /// The part of a host's range that the log holds.
    fn present(&self, range: impl RangeBounds<u64>) -> Range<u64> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => after(*before),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => after(*last),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        let first = self.log.first();
        let next = self.log.next().max(first);
        let start = start.clamp(first, next);
        start..end.clamp(start, next)
    }
}

/// The bytes of an entry, for a batch.
///
/// # Errors
///
/// [`Failure::Codec`] if it cannot be encoded.
pub fn encode_entry<K: Codec<E>, E>(entry: &E) -> Result<Vec<u8>, Failure> {
    encode::<K, E>(ENTRY, entry)
}

/// The entry at `index`, out of its bytes.
fn decode_entry<K: Codec<E>, E>(
    index: u64,
    bytes: &[u8],
    index_of: &impl Fn(&E) -> u64,
) -> Result<E, Failure> {
    let entry = decode::<K, E>(ENTRY, bytes)?;
    match index_of(&entry) {
        got if got == index => Ok(entry),
        got => {
            let source = CodecError::Value { field: "its index", got };
            Err(Failure::Codec { op: "decode", what: ENTRY, source })
        }
    }
}

/// What the codec calls an entry in its errors.
const ENTRY: &str = "an entry";

/// The bytes of a value; `what` it is called in an error.
///
/// # Errors
///
/// [`Failure::Codec`] if it cannot be encoded.
pub fn encode<K: Codec<T>, T>(what: &'static str, value: &T) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    match K::encode(value, &mut bytes) {
        Ok(()) => Ok(bytes),
        Err(source) => Err(Failure::Codec { op: "encode", what, source }),
    }
}

/// The value of some bytes; `what` it is called in an error.
///
/// # Errors
///
/// [`Failure::Codec`] if they are no such value.
pub fn decode<K: Codec<T>, T>(what: &'static str, bytes: &[u8]) -> Result<T, Failure> {
    K::decode(bytes).map_err(|source| Failure::Codec { op: "decode", what, source })
}
