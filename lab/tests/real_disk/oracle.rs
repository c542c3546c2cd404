//! What a log must hold, as the parent knows it: the operations that were acknowledged, and at most
//! one that was begun.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

use indelible::{Batch, Log, SideFileReader};

/// Entries of one batch, at most.
pub(crate) const BATCH_MAX: u64 = 12;

/// One operation, as text on the pipe between child and parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    /// Appends entries of so many bytes; their contents follow from the first number.
    Append { number: u64, count: u64, bytes: u64 },
    /// Replaces the last entries by as many new ones, in one batch.
    Replace { number: u64, back: u64, bytes: u64 },
    /// Drops from the front.
    Trim { to: u64 },
    /// Drops from the back.
    Truncate { to: u64 },
    /// Sets the promise.
    Promise { number: u64 },
    /// Puts so many bytes into a side file, and attaches it.
    Snapshot { number: u64, bytes: u64 },
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Append { number, count, bytes } => write!(f, "append {number} {count} {bytes}"),
            Self::Replace { number, back, bytes } => write!(f, "replace {number} {back} {bytes}"),
            Self::Trim { to } => write!(f, "trim {to} 0 0"),
            Self::Truncate { to } => write!(f, "truncate {to} 0 0"),
            Self::Promise { number } => write!(f, "promise {number} 0 0"),
            Self::Snapshot { number, bytes } => write!(f, "snapshot {number} {bytes} 0"),
        }
    }
}

impl FromStr for Op {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let words: Vec<&str> = text.split(' ').collect();
        let [kind, rest @ ..] = &words[..] else { return Err(()) };
        let numbers: Vec<u64> = rest.iter().map_while(|word| word.parse().ok()).collect();
        let &[a, b, c] = &numbers[..] else { return Err(()) };
        Ok(match *kind {
            "append" => Self::Append { number: a, count: b, bytes: c },
            "replace" => Self::Replace { number: a, back: b, bytes: c },
            "trim" => Self::Trim { to: a },
            "truncate" => Self::Truncate { to: a },
            "promise" => Self::Promise { number: a },
            "snapshot" => Self::Snapshot { number: a, bytes: b },
            _ => return Err(()),
        })
    }
}

/// The entry with a number: no other has the same bytes.
pub(crate) fn entry(number: u64, bytes: u64) -> Vec<u8> {
    let fill = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    let length = usize::try_from(bytes).unwrap().max(8);
    let mut entry: Vec<u8> = number.to_le_bytes().to_vec();
    entry.extend(fill.iter().cycle().take(length - 8));
    entry
}

impl Op {
    /// Whether it may be refused on a full disk: everything else needs no space of its own.
    pub(crate) fn needs_space(self) -> bool {
        matches!(self, Self::Append { .. } | Self::Replace { .. } | Self::Snapshot { .. })
    }

    /// The batch that does it to a log that ends at `next`, without the side file.
    pub(crate) fn batch(self, next: u64) -> Batch<'static> {
        let mut batch = Batch::new();
        match self {
            Self::Append { number, count, bytes } => {
                for at in 0..count {
                    batch.append(entry(number + at, bytes));
                }
            }
            Self::Replace { number, back, bytes } => {
                batch.truncate(next - back);
                for at in 0..back {
                    batch.append(entry(number + at, bytes));
                }
            }
            Self::Trim { to } => {
                batch.trim(to);
            }
            Self::Truncate { to } => {
                batch.truncate(to);
            }
            Self::Promise { number } => {
                batch.set("promise", number.to_le_bytes().to_vec());
            }
            Self::Snapshot { .. } => {}
        }
        batch
    }
}

/// The contents of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    first: u64,
    entries: VecDeque<(u64, u64)>,
    promise: Option<u64>,
    snapshot: Option<(u64, u64)>,
}

impl Contents {
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    pub(crate) fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    pub(crate) fn apply(&mut self, op: Op) {
        match op {
            Op::Append { number, count, bytes } => {
                self.entries.extend((0..count).map(|at| (number + at, bytes)));
            }
            Op::Replace { number, back, bytes } => {
                let kept = self.entries.len() - usize::try_from(back).unwrap();
                self.entries.truncate(kept);
                self.entries.extend((0..back).map(|at| (number + at, bytes)));
            }
            Op::Trim { to } => {
                while self.first < to {
                    self.entries.pop_front();
                    self.first += 1;
                }
            }
            Op::Truncate { to } => {
                self.entries.truncate(usize::try_from(to - self.first).unwrap());
            }
            Op::Promise { number } => {
                self.promise = Some(number);
            }
            Op::Snapshot { number, bytes } => self.snapshot = Some((number, bytes)),
        }
    }

    /// The same digest as [`digest`] of a log with these contents.
    pub(crate) fn digest(&self) -> u64 {
        let mut digest = Digest::new(self.first, self.next());
        digest.add(&self.promise.map(u64::to_le_bytes).unwrap_or_default());
        digest.add(&self.snapshot.map(|(number, bytes)| entry(number, bytes)).unwrap_or_default());
        self.entries.iter().for_each(|(number, bytes)| digest.add(&entry(*number, *bytes)));
        digest.0
    }
}

/// A digest of bounds, promise, side file and every entry of a log, read back.
pub(crate) fn digest(log: &Log) -> indelible::Result<u64> {
    let mut digest = Digest::new(log.first(), log.next());
    let promise = log.cell("promise");
    digest.add(&promise.map_or([0_u8; 8], |it| it[..].try_into().unwrap()));
    let snapshot = log.side_file("snapshot")?.map(SideFileReader::read_all).transpose()?;
    digest.add(&snapshot.unwrap_or_default());
    let entries = log.read(log.first()..log.next())?;
    entries.iter().for_each(|entry| digest.add(entry));
    Ok(digest.0)
}

struct Digest(u64);

impl Digest {
    fn new(first: u64, next: u64) -> Self {
        let mut digest = Self(0xcbf2_9ce4_8422_2325);
        digest.add(&first.to_le_bytes());
        digest.add(&next.to_le_bytes());
        digest
    }

    fn add(&mut self, bytes: &[u8]) {
        for word in bytes.chunks(8) {
            let mut padded = [0; 8];
            padded[..word.len()].copy_from_slice(word);
            self.0 = (self.0 ^ u64::from_le_bytes(padded)).wrapping_mul(0x0100_0000_01b3);
            self.0 ^= self.0 >> 29;
        }
        self.0 = self.0.wrapping_mul(31).wrapping_add(bytes.len() as u64);
    }
}
