//! One segment file: fixed size, a header, frames one behind the other, and, once sealed, an offset
//! table with a footer.
//!
//! Owns: finding and checking an entry inside the file. Does not own: which segments a log has
//! (`log::view`), writing (`tail`), or what a bad frame says about a crash (`recovery`).
//!
//! INV-1: `base` never changes; the live entries of a segment are `base..end`, where `end` is the
//! base of the next segment that holds entries, or the end of the log for the tail.
//! INV-2: bytes below `Region::published` never change while the segment is in use.

pub(crate) mod durable_part;
pub(crate) mod offsets;
pub(crate) mod probe;
pub(crate) mod read;
pub(crate) mod rebuilt;
pub(crate) mod space;
pub(crate) mod tail;
pub(crate) mod walk;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use byteorder::{ByteOrder, LittleEndian};
use parking_lot::Mutex;

use self::rebuilt::Rebuilt;
use crate::dir::Dir;
use crate::error::{Damage, Error, Result};
use crate::format::footer::{FOOTER_BYTES, FOOTER_COMPRESSED, FOOTER_HOLES, TABLE_ENTRY_BYTES};
use crate::format::frame::Salt;
use crate::format::header::SEGMENT_HEADER_BYTES;
use crate::format::number::{to_u32, to_u64, to_usize};
use crate::format::{Footer, SegmentHeader, SegmentName};
use crate::identity::Uuid;
use crate::io::{Access, Region};

/// Where the first frame of a segment starts.
pub(crate) const FRAMES_START: u64 = SEGMENT_HEADER_BYTES as u64;

/// Offsets are stored in units of eight bytes.
pub(crate) const OFFSET_UNIT: u64 = 8;

/// Bytes of one bit in [`Verified`].
const BLOCK_SHIFT: u32 = 16;

/// One segment file of the log. Its map stays valid as long as anything refers to it, whatever
/// becomes of the file's name.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) name: SegmentName,
    pub(crate) bytes: u64,
    dir: Dir,
    uuid: Uuid,
    opened: OnceLock<Opened>,
    opening: Mutex<()>,
    /// Everything before this has its space, as far as this process knows: it wrote it.
    ready: AtomicU64,
}

/// What is known of a segment once its header was read.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) region: Region,
    pub(crate) salt: Salt,
    /// Unset while the segment is the tail, whose offsets are in the view.
    table: OnceLock<Table>,
    /// Frames from here on were checked or written by this process.
    trusted_from: u64,
    verified: Verified,
    pub(crate) compressed: AtomicBool,
    pub(crate) holes: AtomicBool,
}

/// Where the offsets of a sealed segment's entries are.
#[derive(Debug)]
enum Table {
    /// In the footer, read through the map.
    Footer { start: usize, count: u64 },
    /// In memory, because the footer was unreadable.
    Rebuilt(Rebuilt),
}

impl Segment {
    /// A sealed segment that is read when it is first needed.
    pub(crate) fn sealed(dir: &Dir, uuid: Uuid, name: SegmentName, bytes: u64) -> Self {
        let (opened, opening) = (OnceLock::new(), Mutex::new(()));
        let ready = AtomicU64::new(0);
        Self { name, bytes, dir: dir.clone(), uuid, opened, opening, ready }
    }

    /// A segment whose map is at hand; frames from `trusted_from` on are known to be good.
    pub(crate) fn with_region(
        dir: &Dir,
        uuid: Uuid,
        name: SegmentName,
        region: Region,
        salt: Salt,
        trusted_from: u64,
    ) -> Self {
        let segment = Self::sealed(dir, uuid, name, to_u64(region.len()));
        let _first = segment.opened.set(Opened::new(region, salt, trusted_from));
        segment
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(&self.name.to_string())
    }

    /// An error that names this file.
    pub(crate) fn damaged(
        &self,
        offset: u64,
        indexes: Option<Range<u64>>,
        reason: Damage,
    ) -> Error {
        Error::Damaged { path: self.path(), offset, indexes, reason }
    }

    /// How much of the file had its space when it was sealed by this process; else 0.
    pub(crate) fn ready(&self) -> u64 {
        self.ready.load(Ordering::Relaxed)
    }

    /// The map, if the segment was opened already.
    pub(crate) fn opened(&self) -> Option<&Opened> {
        self.opened.get()
    }

    /// Lets readers see the bytes below `end`, which never change again (INV-2).
    pub(crate) fn publish(&self, end: u64) {
        if let Some(opened) = self.opened() {
            opened.region.publish(to_usize(end));
        }
    }

    /// The map, the header and footer checked, for a look at the entries `wanted`; those that count
    /// here end at `live_end`.
    pub(crate) fn open(&self, wanted: &Range<u64>, live_end: u64) -> Result<&Opened> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let _one_at_a_time = self.opening.lock();
        if self.opened.get().is_none() {
            let opened = self.read_structure(wanted, live_end)?;
            let _first = self.opened.set(opened);
        }
        self.opened.get().ok_or(Error::Closed)
    }

    fn read_structure(&self, wanted: &Range<u64>, live_end: u64) -> Result<Opened> {
        let name = self.name.to_string();
        let io = |op| move |source| Error::io(op, self.path(), source);
        let file = self.dir.open(&name, Access::Read)?;
        let mut block = [0; SEGMENT_HEADER_BYTES];
        file.read_at(0, &mut block).map_err(io("read"))?;
        let header = self.check_header(&block).map_err(|error| with_indexes(error, wanted))?;
        let region = file.map(self.bytes, false).map_err(io("map"))?;
        region.publish(region.len());
        let opened = Opened::new(region, Salt::new(header.generation), self.bytes);
        let table = match self.read_footer(&opened, live_end) {
            Some(table) => table,
            None => Table::Rebuilt(Rebuilt::of(self, &opened, live_end)?),
        };
        let _first = opened.table.set(table);
        Ok(opened)
    }

    /// The header, if it is that of this very segment.
    pub(crate) fn check_header(&self, block: &[u8]) -> Result<SegmentHeader> {
        let header =
            SegmentHeader::decode(block).map_err(|error| error.into_error(self.path(), 0))?;
        let wrong = |field, expected, got| {
            Err(self.damaged(0, None, Damage::Field { field, expected, got }))
        };
        if header.uuid != *self.uuid.as_bytes() {
            let low = |bytes: &[u8; 16]| LittleEndian::read_u64(bytes);
            return wrong("log identity", low(self.uuid.as_bytes()), low(&header.uuid));
        }
        if header.number != self.name.number {
            return wrong("segment number", self.name.number, header.number);
        }
        if header.base != self.name.base {
            return wrong("base index", self.name.base, header.base);
        }
        if header.segment_bytes != self.bytes {
            return wrong("segment bytes", self.bytes, header.segment_bytes);
        }
        Ok(header)
    }

    /// The offset table the footer describes, or nothing if either is not to be believed.
    fn read_footer(&self, opened: &Opened, live_end: u64) -> Option<Table> {
        let end = to_usize(self.bytes);
        let start = end.checked_sub(FOOTER_BYTES)?;
        opened.region.populate_read(start..end).ok()?;
        let bytes = opened.region.bytes(start..end)?;
        let footer = Footer::decode(bytes, &opened.salt, self.bytes).ok()?;
        let count = footer.count;
        if footer.base != self.name.base || self.name.base + count < live_end {
            return None;
        }
        opened.compressed.store(footer.flags & FOOTER_COMPRESSED != 0, Ordering::Relaxed);
        opened.holes.store(footer.flags & FOOTER_HOLES != 0, Ordering::Relaxed);
        let table_end = start;
        let start = start.checked_sub(to_usize(footer.count) * TABLE_ENTRY_BYTES)?;
        opened.region.populate_read(start..table_end).ok()?;
        let table = opened.region.bytes(start..table_end)?;
        (crc32fast::hash(table) == footer.table_crc).then_some(Table::Footer { start, count })
    }
}

impl Opened {
    fn new(region: Region, salt: Salt, trusted_from: u64) -> Self {
        let verified = Verified::new(to_u64(region.len()).min(trusted_from));
        let (compressed, holes) = (AtomicBool::new(false), AtomicBool::new(false));
        let table = OnceLock::new();
        Self { region, salt, table, trusted_from, verified, compressed, holes }
    }

    /// Declares that the footer just written holds the offsets. Called once, at the seal.
    pub(crate) fn sealed_with(&self, count: usize) {
        let start = self.region.len().saturating_sub(FOOTER_BYTES + count * TABLE_ENTRY_BYTES);
        let _first = self.table.set(Table::Footer { start, count: to_u64(count) });
    }

    /// Offset of the entry `nth` after the base, of a sealed segment.
    #[inline]
    pub(crate) fn offset(&self, nth: u64) -> Option<u64> {
        let unit = match self.table.get()? {
            Table::Footer { start, count } => {
                if nth >= *count {
                    return None;
                }
                let at = start + to_usize(nth) * TABLE_ENTRY_BYTES;
                LittleEndian::read_u32(self.region.bytes(at..at + TABLE_ENTRY_BYTES)?)
            }
            Table::Rebuilt(rebuilt) => rebuilt.unit(nth)?,
        };
        Some(u64::from(unit) * OFFSET_UNIT)
    }

    /// From where on entries are unknown, counted from the base, and where and why that is so.
    pub(crate) fn unknown(&self) -> (u64, u64, Damage) {
        match self.table.get() {
            Some(Table::Rebuilt(rebuilt)) => rebuilt.unknown(),
            Some(Table::Footer { start, count }) => {
                let (field, expected, got) = ("footer count", count.saturating_add(1), *count);
                (*count, to_u64(*start), Damage::Field { field, expected, got })
            }
            None => (0, FRAMES_START, Damage::UnknownEnd),
        }
    }

    /// Whether the frame at `offset` needs no further check.
    #[inline]
    pub(crate) fn is_trusted(&self, offset: u64) -> bool {
        offset >= self.trusted_from || self.verified.is_set(offset)
    }

    /// Remembers that every live frame that starts in the block of `offset` was checked.
    pub(crate) fn trust_block_of(&self, offset: u64) {
        self.verified.set(offset);
    }
}

/// Which blocks of 64 KiB had all their live frames checked: one bit each.
#[derive(Debug)]
struct Verified(Box<[AtomicU64]>);

impl Verified {
    fn new(bytes: u64) -> Self {
        let words = (bytes >> BLOCK_SHIFT) / 64 + 1;
        Self((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    fn place(offset: u64) -> (usize, u64) {
        let block = offset >> BLOCK_SHIFT;
        (to_usize(block / 64), 1 << (block % 64))
    }

    fn is_set(&self, offset: u64) -> bool {
        let (word, bit) = Self::place(offset);
        self.0.get(word).is_some_and(|word| word.load(Ordering::Acquire) & bit != 0)
    }

    fn set(&self, offset: u64) {
        let (word, bit) = Self::place(offset);
        if let Some(word) = self.0.get(word) {
            word.fetch_or(bit, Ordering::Release);
        }
    }
}

/// The number of the 64 KiB block that holds `offset`.
pub(crate) const fn block_of(offset: u64) -> u64 {
    offset >> BLOCK_SHIFT
}

/// Where a 64 KiB block starts.
pub(crate) const fn block_start(block: u64) -> u64 {
    block << BLOCK_SHIFT
}

/// An offset as the tables store it.
pub(crate) fn in_units(offset: u64) -> u32 {
    to_u32(to_usize(offset / OFFSET_UNIT))
}

/// Adds the entries that a damage affects to an error that does not know them.
pub(crate) fn with_indexes(error: Error, live: &Range<u64>) -> Error {
    match error {
        Error::Damaged { path, offset, indexes: None, reason } => {
            Error::Damaged { path, offset, indexes: Some(live.clone()), reason }
        }
        other => other,
    }
}
