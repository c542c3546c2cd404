//! The bytes of numbers, texts and lists: little-endian, every length in front of what it counts.
//!
//! Owns: how a primitive value is written and read back. Does not own: what messages consist of
//! (`wire`, `kv`) nor how long a frame may be (`net`). Reading never panics and never allocates
//! more than the bytes at hand can fill.

use std::fmt;

/// Bytes that are not what they should be; says which field could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadBytes(pub(crate) &'static str);

impl fmt::Display for BadBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bytes that are no valid {}", self.0)
    }
}

impl std::error::Error for BadBytes {}

/// Values on their way into bytes.
#[derive(Debug, Default)]
pub(crate) struct Out {
    bytes: Vec<u8>,
}

impl Out {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes.push(value);
        self
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// An index or a count.
    pub(crate) fn count(&mut self, value: usize) -> &mut Self {
        self.u64(value as u64)
    }

    pub(crate) fn flag(&mut self, value: bool) -> &mut Self {
        self.u8(u8::from(value))
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.count(value.len());
        self.bytes.extend_from_slice(value);
        self
    }

    pub(crate) fn text(&mut self, value: &str) -> &mut Self {
        self.bytes(value.as_bytes())
    }

    pub(crate) fn option<T>(&mut self, value: Option<&T>, put: impl FnOnce(&mut Self, &T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            put(self, value);
        }
    }

    pub(crate) fn list<'a, T: 'a>(
        &mut self,
        values: impl ExactSizeIterator<Item = &'a T>,
        mut put: impl FnMut(&mut Self, &T),
    ) {
        self.count(values.len());
        for value in values {
            put(self, value);
        }
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Values on their way out of bytes.
#[derive(Debug)]
pub(crate) struct In<'a> {
    rest: &'a [u8],
}

pub(crate) type Read<T> = Result<T, BadBytes>;

impl<'a> In<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn u8(&mut self) -> Read<u8> {
        let (value, rest) = self.rest.split_first().ok_or(BadBytes("byte"))?;
        self.rest = rest;
        Ok(*value)
    }

    pub(crate) fn u32(&mut self) -> Read<u32> {
        let (value, rest) = self.rest.split_first_chunk().ok_or(BadBytes("32-bit number"))?;
        self.rest = rest;
        Ok(u32::from_le_bytes(*value))
    }

    pub(crate) fn u64(&mut self) -> Read<u64> {
        let (value, rest) = self.rest.split_first_chunk().ok_or(BadBytes("64-bit number"))?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*value))
    }

    /// An index or a count.
    pub(crate) fn count(&mut self) -> Read<usize> {
        usize::try_from(self.u64()?).map_err(|_| BadBytes("count"))
    }

    pub(crate) fn flag(&mut self) -> Read<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(BadBytes("flag")),
        }
    }

    pub(crate) fn bytes(&mut self) -> Read<&'a [u8]> {
        let length = self.count()?;
        let (value, rest) = self.rest.split_at_checked(length).ok_or(BadBytes("byte string"))?;
        self.rest = rest;
        Ok(value)
    }

    pub(crate) fn text(&mut self) -> Read<String> {
        let bytes = self.bytes()?;
        String::from_utf8(bytes.to_vec()).map_err(|_| BadBytes("text"))
    }

    pub(crate) fn option<T>(&mut self, get: impl FnOnce(&mut Self) -> Read<T>) -> Read<Option<T>> {
        if self.flag()? { get(self).map(Some) } else { Ok(None) }
    }

    pub(crate) fn list<T>(&mut self, mut get: impl FnMut(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        let count = self.count()?;
        // Every element takes at least one byte: a count beyond that is a lie, not a reason to
        // reserve memory.
        if count > self.rest.len() {
            return Err(BadBytes("list"));
        }
        (0..count).map(|_| get(self)).collect()
    }

    /// Refuses bytes left over.
    pub(crate) fn end(self) -> Read<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(BadBytes("end of message")) }
    }
}
