//! File names: how each is built, and what a name found in the directory is.
//!
//! Invariant: a name is recognised only if building it again gives the very same name.

use std::fmt;

/// The checkpoint file.
pub const METADATA: &str = "metadata";
/// The lock file.
pub const LOCK: &str = "lock";

const SEGMENT_SUFFIX: &str = ".seg";
const SPARE_SUFFIX: &str = ".spare";
const SIDE_SUFFIX: &str = ".side";
const TEMPORARY_SUFFIX: &str = ".tmp";
const HEX_DIGITS: usize = 16;

/// What the name of a segment file states: `{number:016x}-{base:016x}.seg`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    /// The segment's number, ascending in the order of writing.
    pub number: u64,
    /// The index of its first entry.
    pub base: u64,
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}{SEGMENT_SUFFIX}", self.number, self.base)
    }
}

/// The name of a prepared segment file.
pub fn spare(random: u64) -> String {
    format!("{random:016x}{SPARE_SUFFIX}")
}

/// The name of a side file.
pub fn side_file(id: u64) -> String {
    format!("{id:016x}{SIDE_SUFFIX}")
}

/// The name of a file that is not finished.
pub fn temporary(random: u64) -> String {
    format!("{random:016x}{TEMPORARY_SUFFIX}")
}

/// What a name in a log's directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileName {
    /// The checkpoint file.
    Metadata,
    /// The lock file.
    Lock,
    /// A segment.
    Segment(SegmentName),
    /// A prepared segment file, with its random number.
    Spare(u64),
    /// A side file, with its id.
    Side(u64),
    /// A file that was never finished: junk when a log is opened.
    Temporary,
    /// None of this crate's files; it is left alone.
    Foreign,
}

impl FileName {
    /// Tells what a name is.
    pub fn classify(name: &str) -> Self {
        if name == METADATA {
            return Self::Metadata;
        }
        if name == LOCK {
            return Self::Lock;
        }
        if name.strip_suffix(TEMPORARY_SUFFIX).is_some_and(|stem| hex(stem).is_some()) {
            return Self::Temporary;
        }
        if let Some((number, base)) =
            name.strip_suffix(SEGMENT_SUFFIX).and_then(|stem| stem.split_once('-'))
            && let (Some(number), Some(base)) = (hex(number), hex(base))
        {
            return Self::Segment(SegmentName { number, base });
        }
        if let Some(random) = name.strip_suffix(SPARE_SUFFIX).and_then(hex) {
            return Self::Spare(random);
        }
        if let Some(id) = name.strip_suffix(SIDE_SUFFIX).and_then(hex) {
            return Self::Side(id);
        }
        Self::Foreign
    }
}

/// Exactly sixteen lower-case hexadecimal digits.
fn hex(digits: &str) -> Option<u64> {
    let canonical = digits.len() == HEX_DIGITS
        && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if canonical { u64::from_str_radix(digits, 16).ok() } else { None }
}
/// Most bytes that a lock file holds: a number and the end of its line.
pub(crate) const LOCK_BYTES_MAX: usize = 21;

/// Whether a file called [`LOCK`] is one, by all that is in it: nothing, or the number of a process, of
/// which a power cut may have left nothing but the length.
pub(crate) fn is_lock(bytes: &[u8]) -> bool {
    let digits = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.len() <= LOCK_BYTES_MAX && digits.iter().all(|byte| byte.is_ascii_digit() || *byte == 0)
}
