//! Codecs: how a host's own types become the bytes of an entry or a snapshot.
//!
//! Owns: the trait, its errors, a checked reader for codecs written by hand, and a codec for types
//! that implement serde's traits (feature `serde`). Does not own: framing and checksums, which the
//! log puts around the bytes.
//!
//! Invariant: decoding is total. Any bytes give a value or a [`CodecError`], never a panic, and
//! allocate no more than a small multiple of their length.

use std::error::Error;
use std::sync::Arc;

/// Turns values into bytes and back. Implemented by marker types, so that one type may have several
/// codecs and a foreign type may have one.
///
/// `encode` must be a function of the value alone, and `decode` must give back an equal value. Once
/// a log holds entries, the codec must go on reading them: put a version into the bytes if the type
/// is going to change.
///
/// ```
/// use indelible::codec::{Codec, CodecError, Fields};
///
/// #[derive(Debug, Clone, PartialEq)]
/// struct Put { key: String, value: u64 }
///
/// struct PutCodec;
///
/// impl Codec<Put> for PutCodec {
///     fn encode(put: &Put, out: &mut Vec<u8>) -> Result<(), CodecError> {
///         out.push(1); // the version of this encoding
///         out.extend_from_slice(&put.value.to_le_bytes());
///         out.extend_from_slice(put.key.as_bytes());
///         Ok(())
///     }
///
///     fn decode(bytes: &[u8]) -> Result<Put, CodecError> {
///         let mut fields = Fields::new(bytes);
///         match fields.u8("version")? {
///             1 => {}
///             got => return Err(CodecError::Value { field: "version", got: got.into() }),
///         }
///         let value = fields.u64("value")?;
///         let key = fields.text("key", fields.left())?.to_owned();
///         Ok(Put { key, value })
///     }
/// }
///
/// let put = Put { key: "ink".into(), value: 7 };
/// let mut bytes = Vec::new();
/// PutCodec::encode(&put, &mut bytes)?;
/// assert_eq!(PutCodec::decode(&bytes)?, put);
/// assert!(PutCodec::decode(&bytes[..5]).is_err());
/// # Ok::<(), CodecError>(())
/// ```
pub trait Codec<V> {
    /// Appends the encoded value to `out`, whose earlier bytes it must leave alone.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if the value cannot be encoded; nothing is written to the log then.
    fn encode(value: &V, out: &mut Vec<u8>) -> Result<(), CodecError>;

    /// The value whose encoding `bytes` is, all of it.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if `bytes` is no encoding of a value. The bytes are those that were written,
    /// their checksum held: they were written by another codec, or by another version of it.
    fn decode(bytes: &[u8]) -> Result<V, CodecError>;
}

/// Why a value could not be encoded or decoded.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The bytes end inside a field.
    #[error("{field} needs {needed} bytes, {left} are left")]
    Short {
        /// The field.
        field: &'static str,
        /// The bytes it needs.
        needed: u64,
        /// The bytes that are left.
        left: u64,
    },
    /// Bytes follow the end of the value.
    #[error("{left} bytes follow the end of the value")]
    Trailing {
        /// How many.
        left: u64,
    },
    /// A field has a value it cannot have.
    #[error("{field} is {got}, which it cannot be")]
    Value {
        /// The field.
        field: &'static str,
        /// What it is.
        got: u64,
    },
    /// A field that should be text is not UTF-8.
    #[error("{field} is not UTF-8")]
    Text {
        /// The field.
        field: &'static str,
    },
    /// The error of the library that a codec is built on.
    #[error("{source}")]
    Library {
        /// What it said.
        source: Arc<dyn Error + Send + Sync>,
    },
}

impl CodecError {
    /// Wraps the error of the library that a codec is built on.
    pub fn library(source: impl Error + Send + Sync + 'static) -> Self {
        Self::Library { source: Arc::new(source) }
    }
}

/// Reads little-endian fields from bytes, in order, each checked: what a codec written by hand needs
/// to be total.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Starts at the first byte.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// How many bytes are left.
    pub const fn left(&self) -> usize {
        self.bytes.len()
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    ///
    /// [`CodecError::Short`] if fewer are left.
    pub fn bytes(&mut self, field: &'static str, count: usize) -> Result<&'a [u8], CodecError> {
        let Some((taken, rest)) = self.bytes.split_at_checked(count) else {
            return Err(CodecError::Short {
                field,
                needed: count as u64,
                left: self.bytes.len() as u64,
            });
        };
        self.bytes = rest;
        Ok(taken)
    }

    /// The next `count` bytes as text.
    ///
    /// # Errors
    ///
    /// [`CodecError::Short`], or [`CodecError::Text`] if they are not UTF-8.
    pub fn text(&mut self, field: &'static str, count: usize) -> Result<&'a str, CodecError> {
        let bytes = self.bytes(field, count)?;
        std::str::from_utf8(bytes).map_err(|_| CodecError::Text { field })
    }

    /// The next byte.
    ///
    /// # Errors
    ///
    /// [`CodecError::Short`] if none is left.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, CodecError> {
        self.array::<1>(field).map(u8::from_le_bytes)
    }

    /// The next four bytes as a number.
    ///
    /// # Errors
    ///
    /// [`CodecError::Short`] if fewer are left.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, CodecError> {
        self.array(field).map(u32::from_le_bytes)
    }

    /// The next eight bytes as a number.
    ///
    /// # Errors
    ///
    /// [`CodecError::Short`] if fewer are left.
    pub fn u64(&mut self, field: &'static str) -> Result<u64, CodecError> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// The next eight bytes as a number of things in memory.
    ///
    /// # Errors
    ///
    /// [`CodecError::Short`], or [`CodecError::Value`] if it exceeds this machine's `usize`.
    pub fn length(&mut self, field: &'static str) -> Result<usize, CodecError> {
        let got = self.u64(field)?;
        usize::try_from(got).map_err(|_| CodecError::Value { field, got })
    }

    /// Ends the value.
    ///
    /// # Errors
    ///
    /// [`CodecError::Trailing`] if bytes are left.
    pub const fn finish(self) -> Result<(), CodecError> {
        match self.bytes.len() {
            0 => Ok(()),
            left => Err(CodecError::Trailing { left: left as u64 }),
        }
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], CodecError> {
        let bytes = self.bytes(field, N)?;
        let mut array = [0; N];
        array.copy_from_slice(bytes);
        Ok(array)
    }
}

/// The codec of every type that implements serde's `Serialize` and `Deserialize`, in the
/// [postcard](https://postcard.jamesmunns.com/wire-format) format: compact, stable, specified.
///
/// A type cannot gain, lose or reorder fields once entries are written; variants may be added at
/// the end of an enum. Three kinds of fields are not total on hostile bytes; avoid them. Sequences of
/// zero-sized types cost time in proportion to a length that the bytes choose. Hash maps are allocated
/// for such a length too, up to serde's limit of a megabyte; B-tree maps are not. Types that contain
/// themselves nest as deep as the bytes say, and overflow the stack.
#[cfg(feature = "serde")]
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::exhaustive_structs, reason = "a marker without fields")]
pub struct Postcard;

#[cfg(feature = "serde")]
impl<V: serde::Serialize + serde::de::DeserializeOwned> Codec<V> for Postcard {
    fn encode(value: &V, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let kept = out.len();
        match postcard::to_extend(value, std::mem::take(out)) {
            Ok(written) => *out = written,
            Err(error) => return Err(CodecError::library(error)),
        }
        debug_assert!(out.len() >= kept, "postcard only extends");
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<V, CodecError> {
        match postcard::take_from_bytes(bytes) {
            Ok((value, [])) => Ok(value),
            Ok((_, rest)) => Err(CodecError::Trailing { left: rest.len() as u64 }),
            Err(error) => Err(CodecError::library(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_in_order_and_to_the_end() {
        let mut fields = Fields::new(&[1, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, b'h', b'i']);
        assert_eq!(fields.u8("a").unwrap(), 1);
        assert_eq!(fields.u32("b").unwrap(), 2);
        assert_eq!(fields.u64("c").unwrap(), 3);
        assert_eq!(fields.text("d", 2).unwrap(), "hi");
        fields.finish().unwrap();
    }

    #[test]
    fn missing_bytes_name_the_field() {
        let error = Fields::new(&[1, 2, 3]).u32("round").unwrap_err();
        assert_eq!(error.to_string(), "round needs 4 bytes, 3 are left");
    }

    #[test]
    fn bytes_after_the_value_are_refused() {
        assert!(matches!(Fields::new(&[0]).finish(), Err(CodecError::Trailing { left: 1 })));
    }

    #[test]
    fn a_length_beyond_memory_allocates_nothing() {
        let mut fields = Fields::new(&[0xff; 9]);
        let length = fields.length("metadata").unwrap_or(usize::MAX);
        assert!(fields.bytes("metadata", length).is_err());
    }

    #[cfg(feature = "serde")]
    #[test]
    fn postcard_keeps_earlier_bytes_and_round_trips() {
        let mut out = vec![9];
        Postcard::encode(&(7_u64, String::from("ink")), &mut out).unwrap();
        assert_eq!(out.first(), Some(&9));
        let back: (u64, String) = Postcard::decode(&out[1..]).unwrap();
        assert_eq!(back, (7, String::from("ink")));
    }

    #[cfg(feature = "serde")]
    #[test]
    fn postcard_refuses_short_and_trailing_bytes() {
        let mut out = Vec::new();
        Postcard::encode(&vec![1_u32, 2, 3], &mut out).unwrap();
        out.push(0);
        let trailing: Result<Vec<u32>, _> = Postcard::decode(&out);
        assert!(matches!(trailing, Err(CodecError::Trailing { left: 1 })));
        let short: Result<Vec<u32>, _> = Postcard::decode(&out[..2]);
        assert!(matches!(short, Err(CodecError::Library { .. })));
        let hostile: Result<Vec<u64>, _> = Postcard::decode(&[0xff, 0xff, 0xff, 0xff, 0x7f]);
        assert!(hostile.is_err());
    }
}
