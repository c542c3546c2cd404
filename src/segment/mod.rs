//! One segment file: fixed size, a header, frames one after the other, and, once sealed, an offset
//! table with a footer.
//!
//! Owns: what is known of one file while it is open, and finding an entry inside it. Does not own:
//! which segments a log has (`log::reader`), which are open (`log::reader::opened`), writing
//! (`tail`), or what a bad frame says about a crash (`recovery`).
//!
//! Header, footer and table are read by position into memory, and checked there; so are entries that
//! are copied. The map is for entries that are lent, and for stores to the tail: no page of it is
//! touched that was not brought in by the same call.
//!
//! INV-1: `base` never changes; the live entries of a segment are `base..end`, where `end` is the
//! base of the next segment that holds entries, or the end of the log for the tail.
//! INV-2: bytes below `Region::published` never change while the segment is in use, but for the
//! witnesses in the block of the header, which is never lent.

pub(crate) mod durable_part;
pub(crate) mod edge;
pub(crate) mod entries;
pub(crate) mod offsets;
pub(crate) mod reach;
pub(crate) mod read;
pub(crate) mod rebuilt;
pub(crate) mod space;
pub(crate) mod tail;
pub(crate) mod walk;
pub(crate) mod warm;
pub(crate) mod witness;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use byteorder::{ByteOrder, LittleEndian};
use parking_lot::Mutex;

use self::rebuilt::Rebuilt;
use crate::directory::Dir;
use crate::directory::identity::Uuid;
use crate::error::{Damage, Error, Result};
use crate::format::footer::{FOOTER_BYTES, FOOTER_COMPRESSED, FOOTER_HOLES, TABLE_ENTRY_BYTES};
use crate::format::frame::{FRAME_HEADER_BYTES, Salt};
use crate::format::header::{SEGMENT_HEADER_BYTES, SEGMENT_HEADER_USED_BYTES};
use crate::format::number::{to_u32, to_u64, to_usize};
use crate::format::{Footer, SegmentHeader, SegmentName};
use crate::io::{Access, File, Region};
use crate::planted::{Bug, planted};

/// Where the first frame of a segment starts.
pub(crate) const FRAMES_START: u64 = SEGMENT_HEADER_BYTES as u64;

/// Offsets are stored in units of eight bytes.
pub(crate) const OFFSET_UNIT: u64 = 8;

/// One segment file of the log. Whoever has its map keeps it valid, whatever becomes of the file's
/// name and of what is known of it here.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) name: SegmentName,
    pub(crate) bytes: u64,
    /// By the log that is open now.
    begun: bool,
    /// Some entry is compressed. Set by the writer, or when the footer is read.
    pub(crate) compressed: AtomicBool,
    /// Some entry is missing. Set as `compressed` is.
    pub(crate) holes: AtomicBool,
    dir: Dir,
    uuid: Uuid,
    opened: Mutex<Option<Arc<Opened>>>,
    /// Somebody read from it since it was last asked.
    used: AtomicBool,
    /// Everything before this has its space, as far as this process knows: it wrote it.
    ready: AtomicU64,
}

/// A segment that is open: its file, and what was read of it.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) salt: Salt,
    pub(crate) file: Arc<dyn File>,
    /// Made when somebody borrows; that of the tail is there from the beginning.
    map: OnceLock<Region>,
    /// Read when somebody asks for an offset; never for the tail, whose offsets are in the view.
    table: OnceLock<Table>,
    verified: Verified,
    /// Generation of the segment in whose place a repair wrote this one; 0 if none did.
    replaces: u64,
    /// Number of the segment whose header was found to agree with where entries end here.
    bounded_by: AtomicU64,
    /// Held while the map is made or the table is read.
    reading: Mutex<()>,
}

/// The offsets of a sealed segment's entries.
#[derive(Debug)]
enum Table {
    /// As the footer has them, which says that they start at `start`, and frames end at `data_end`.
    Footer { units: Box<[u32]>, start: u64, data_end: u64 },
    /// As the frames have them, because the footer was unreadable.
    Rebuilt(Rebuilt),
}

impl Segment {
    /// A sealed segment that is read when it is first needed.
    pub(crate) fn sealed(dir: &Dir, uuid: Uuid, name: SegmentName, bytes: u64) -> Self {
        let flag = || AtomicBool::new(false);
        let (compressed, holes, used, opened) = (flag(), flag(), flag(), Mutex::default());
        let ready = AtomicU64::new(0);
        let (dir, begun) = (dir.clone(), false);
        Self { name, bytes, begun, compressed, holes, dir, uuid, opened, used, ready }
    }

    /// A segment whose file and map are at hand.
    pub(crate) fn with_region(
        dir: &Dir,
        uuid: Uuid,
        name: SegmentName,
        (file, region): (Arc<dyn File>, Region),
        salt: Salt,
    ) -> Self {
        let mut segment = Self::sealed(dir, uuid, name, to_u64(region.len()));
        let opened = Opened::new(file, salt, segment.bytes);
        let _first = opened.map.set(region);
        *segment.opened.get_mut() = Some(Arc::new(opened));
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

    /// The error of a failed call on this file.
    pub(crate) fn io(&self, op: &'static str) -> impl FnOnce(std::io::Error) -> Error + '_ {
        move |source| Error::io(op, self.path(), source)
    }

    /// What is open of it, if it is.
    pub(crate) fn opened(&self) -> Option<Arc<Opened>> {
        self.opened.lock().clone()
    }

    /// Lets go of file, map and table; they are opened again when they are needed. Who has them keeps
    /// them.
    pub(crate) fn shut(&self) {
        if !planted(Bug::SegmentsStayOpen) {
            self.opened.lock().take();
        }
    }

    /// Whether its file may be used again once nothing refers to it. What was there when the log was
    /// opened may be held by reads of the life before, in this process.
    pub(crate) fn may_be_used_again(&self) -> bool {
        self.begun || planted(Bug::OldSegmentRecycled)
    }

    /// Whether a footer may stand in it already, of a seal that a crash dropped.
    pub(crate) fn may_have_a_footer(&self) -> bool {
        !self.begun
    }

    /// As a segment that this very log began.
    pub(crate) fn begun(self) -> Self {
        Self { begun: true, ..self }
    }

    /// Takes note that somebody reads from it.
    fn note_use(&self) {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// Whether somebody opened it or read from it since this was last asked.
    pub(crate) fn was_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    /// The open file, its header checked, for a look at the entries `wanted`, and whether it had to be
    /// opened for that.
    pub(crate) fn open(&self, wanted: &Range<u64>) -> Result<(Arc<Opened>, bool)> {
        self.note_use();
        let mut opened = self.opened.lock();
        if let Some(opened) = &*opened {
            return Ok((Arc::clone(opened), false));
        }
        let file = self.dir.open(&self.name.to_string(), Access::Read)?;
        let mut block = [0; SEGMENT_HEADER_USED_BYTES];
        file.read_at(0, &mut block).map_err(self.io("read"))?;
        let header = self.check_header(&block).map_err(|error| with_indexes(error, wanted))?;
        let mut now = Opened::new(file, Salt::new(header.generation), self.bytes);
        now.replaces = header.replaces;
        let now = Arc::new(now);
        *opened = Some(Arc::clone(&now));
        Ok((now, true))
    }

    /// The map of the file.
    pub(crate) fn region<'a>(&self, opened: &'a Opened) -> Result<&'a Region> {
        if let Some(region) = opened.map.get() {
            return Ok(region);
        }
        let _one_at_a_time = opened.reading.lock();
        if let Some(region) = opened.map.get() {
            return Ok(region);
        }
        let region = opened.file.map(self.bytes, false).map_err(self.io("map"))?;
        region.keep_back(SEGMENT_HEADER_BYTES);
        region.publish(region.len());
        Ok(opened.map.get_or_init(|| region))
    }

    /// Sees that the offsets of a sealed segment are known, of which the entries before `live_end`
    /// count. Whether they had to be read for that.
    pub(crate) fn look_up(&self, opened: &Opened, live_end: u64) -> Result<bool> {
        if opened.table.get().is_some() {
            return Ok(false);
        }
        let _one_at_a_time = opened.reading.lock();
        if opened.table.get().is_none() {
            let table = match self.read_footer(opened, live_end) {
                Ok(Some(table)) => table,
                footer => Table::Rebuilt(Rebuilt::of(self, opened, live_end, footer.err())?),
            };
            let _first = opened.table.set(table);
        }
        Ok(true)
    }

    /// Sees that entries of this segment end where `after` begins: its name alone may lie. A header
    /// that cannot be read says nothing; then it is enough that the entries end there anyway.
    pub(crate) fn check_bound(
        &self,
        opened: &Opened,
        after: &Self,
        wanted: &Range<u64>,
    ) -> Result<()> {
        let number = after.name.number;
        if opened.bounded_by.load(Ordering::Relaxed) == number || planted(Bug::NamesBelieved) {
            return Ok(());
        }
        let header = match self.dir.segment_header(&after.name.to_string()) {
            // Dropped by a truncation meanwhile: whoever reads looks again.
            Err(error) if error.is_not_found() => return Ok(()),
            header => header?,
        };
        match header {
            Ok(header) => {
                after.compare(&header).map_err(|error| with_indexes(error, wanted))?;
                let (expected, got) = (header.previous_generation, opened.salt.generation());
                let adjoins = self.name.number.checked_add(1) == Some(number) && expected != 0;
                if adjoins && expected != got && opened.replaces == 0 {
                    // Written in another life of this number: an older copy.
                    let reason = Damage::Field { field: "generation", expected, got };
                    return Err(self.damaged(0, Some(wanted.clone()), reason));
                }
            }
            Err(_) if opened.entries() == Some(after.name.base - self.name.base) => {}
            Err(error) => {
                return Err(with_indexes(error.into_error(after.path(), 0), wanted));
            }
        }
        opened.bounded_by.store(number, Ordering::Relaxed);
        Ok(())
    }

    /// The header, if it is that of this very segment.
    pub(crate) fn check_header(&self, block: &[u8]) -> Result<SegmentHeader> {
        let header =
            SegmentHeader::decode(block).map_err(|error| error.into_error(self.path(), 0))?;
        self.compare(&header)?;
        Ok(header)
    }

    /// Refuses a header of another segment than the name says.
    pub(crate) fn compare(&self, header: &SegmentHeader) -> Result<()> {
        let wrong = |field, expected, got| {
            Err(self.damaged(0, None, Damage::Field { field, expected, got }))
        };
        if header.uuid != *self.uuid.as_bytes() {
            let (expected, got) = (self.uuid, Uuid::from_bytes(header.uuid));
            return Err(self.damaged(0, None, Damage::Identity { expected, got }));
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
        Ok(())
    }

    /// The offset table the footer describes, or nothing if either is not to be believed.
    fn read_footer(&self, opened: &Opened, live_end: u64) -> Result<Option<Table>> {
        let Some(end) = self.bytes.checked_sub(to_u64(FOOTER_BYTES)) else { return Ok(None) };
        let mut footer = [0; FOOTER_BYTES];
        opened.file.read_at(end, &mut footer).map_err(self.io("read"))?;
        let Ok(footer) = Footer::decode(&footer, &opened.salt, self.bytes) else { return Ok(None) };
        if footer.base != self.name.base || self.name.base + footer.count < live_end {
            return Ok(None);
        }
        let start = footer.table_start(self.bytes);
        let mut table = vec![0; to_usize(end.saturating_sub(start))];
        opened.file.read_at(start, &mut table).map_err(self.io("read"))?;
        if footer.verify_table(&table).is_err() {
            return Ok(None);
        }
        self.compressed.store(footer.flags & FOOTER_COMPRESSED != 0, Ordering::Relaxed);
        self.holes.store(footer.flags & FOOTER_HOLES != 0, Ordering::Relaxed);
        let units = table.chunks_exact(TABLE_ENTRY_BYTES).map(LittleEndian::read_u32).collect();
        Ok(Some(Table::Footer { units, start, data_end: footer.data_end }))
    }
}

impl Opened {
    fn new(file: Arc<dyn File>, salt: Salt, bytes: u64) -> Self {
        let (map, table, reading) = (OnceLock::new(), OnceLock::new(), Mutex::default());
        let (verified, bounded_by) = (Verified::new(bytes), AtomicU64::new(0));
        Self { salt, file, map, table, verified, replaces: 0, bounded_by, reading }
    }

    /// How many entries the offset table of a sealed segment has, if it is certain of all.
    fn entries(&self) -> Option<u64> {
        match self.table.get()? {
            Table::Footer { units, .. } => Some(to_u64(units.len())),
            Table::Rebuilt(rebuilt) => rebuilt.entries(),
        }
    }

    /// The map, if there is one.
    pub(crate) fn map(&self) -> Option<&Region> {
        self.map.get()
    }

    /// Lets readers see the bytes below `end`, which never change again (INV-2).
    pub(crate) fn publish(&self, end: u64) {
        if let Some(region) = self.map() {
            region.publish(to_usize(end));
        }
    }

    /// Bytes of memory that the offsets take.
    pub(crate) fn table_bytes(&self) -> usize {
        let units = match self.table.get() {
            Some(Table::Footer { units, .. }) => units.len(),
            Some(Table::Rebuilt(rebuilt)) => rebuilt.units.len(),
            None => 0,
        };
        units * TABLE_ENTRY_BYTES
    }

    /// Place, in units, of the entry `nth` after the base, of a sealed segment.
    #[inline]
    pub(crate) fn unit(&self, nth: u64) -> Option<u32> {
        match self.table.get()? {
            Table::Footer { units, .. } => units.get(to_usize(nth)).copied(),
            Table::Rebuilt(rebuilt) => rebuilt.unit(nth),
        }
    }

    /// Whether the offsets are in memory, because the footer was unreadable.
    pub(crate) fn is_rebuilt(&self) -> bool {
        matches!(self.table.get(), Some(Table::Rebuilt(_)))
    }

    /// Where the frames of a sealed segment end.
    pub(crate) fn data_end(&self) -> Option<u64> {
        match self.table.get()? {
            Table::Footer { data_end, .. } => Some(*data_end),
            Table::Rebuilt(rebuilt) => Some(rebuilt.end()),
        }
    }

    /// What the read of the footer failed with, where the offsets are those of the frames.
    pub(crate) fn footer_failure(&self) -> Option<Error> {
        match self.table.get()? {
            Table::Footer { .. } => None,
            Table::Rebuilt(rebuilt) => rebuilt.footer.clone(),
        }
    }

    /// From where on entries are unknown, counted from the base, and where and why that is so.
    pub(crate) fn unknown(&self) -> (u64, u64, Damage) {
        match self.table.get() {
            Some(Table::Rebuilt(rebuilt)) => rebuilt.unknown(),
            Some(Table::Footer { units, start, .. }) => {
                let count = to_u64(units.len());
                let (field, expected, got) = ("footer count", count.saturating_add(1), count);
                (count, *start, Damage::Field { field, expected, got })
            }
            None => (0, FRAMES_START, Damage::UnknownEnd),
        }
    }

    /// Whether the frame at `offset` was checked, and no page of the file was seen to be gone since.
    #[inline]
    pub(crate) fn is_trusted(&self, offset: u64) -> bool {
        self.verified.is_set(offset)
    }

    /// The same of all frames at these places in units.
    pub(crate) fn are_trusted(&self, units: &[u32]) -> bool {
        self.verified.are_set(units.iter().map(|unit| u64::from(*unit) * OFFSET_UNIT))
    }

    /// Remembers that the frame at `offset` was checked, of which the bytes were looked at after there
    /// had been so many [`Self::distrusts`]. If there are more by now, they may be others since.
    pub(crate) fn trust(&self, offset: u64, distrusts: u64) {
        self.verified.set(offset, distrusts);
    }

    /// Reads a range of the file by position. Returns what the read does, whether all of the range is
    /// known to have been in memory, so that what was checked there still counts, and the distrusts
    /// for [`Self::trust`]. Pages that such a read brings in are not told apart from those that were
    /// there: if any may be new, nothing is believed any more.
    pub(crate) fn reading<T>(
        &self,
        range: Range<u64>,
        read: impl FnOnce() -> T,
    ) -> (T, bool, Option<u64>) {
        let range = to_usize(range.start)..to_usize(range.end);
        let is_there = self.verified.is_any_set()
            && (self.map().is_some_and(|region| region.is_resident(range))
                || planted(Bug::TrustedForEver));
        if is_there {
            let distrusts = self.distrusts();
            return (read(), true, Some(distrusts));
        }
        let begun = self.distrust();
        let read = read();
        (read, false, self.end_distrust(begun))
    }

    /// Begins a read by which any frame may come from the medium again. No mark of a check before is
    /// left: whoever finds its page in memory does not believe it. Nor is any set before
    /// [`Self::end_distrust`], which takes what this returns.
    pub(crate) fn distrust(&self) -> u64 {
        self.verified.begin()
    }

    /// Ends such a read. Returns the distrusts for [`Self::trust`] of what it read itself; nothing if
    /// another one began or ended meanwhile, which may have had other bytes.
    pub(crate) fn end_distrust(&self, begun: u64) -> Option<u64> {
        self.verified.end(begun)
    }

    /// How often a read by which anything may have come again began or ended.
    pub(crate) fn distrusts(&self) -> u64 {
        self.verified.distrusts.load(Ordering::Acquire)
    }
}

/// Bytes of which the bits are allocated together, when the first of them is set.
const BLOCK_BYTES: u64 = 64 * 1024;

/// Bytes of one bit: no frame is shorter, so no two start within.
const SLOT_BYTES: u64 = 32;
const _: () = assert!(FRAME_HEADER_BYTES as u64 >= SLOT_BYTES);

const WORDS: usize = (BLOCK_BYTES / SLOT_BYTES / 64) as usize;

/// Which frames were checked: one bit for each place where one can start.
#[derive(Debug)]
struct Verified {
    blocks: Box<[OnceLock<Box<[AtomicU64; WORDS]>>]>,
    any: AtomicBool,
    /// How often a read began or ended by which any page may come from the medium again.
    distrusts: AtomicU64,
    /// Those that have not ended. Locked while bits change.
    coming: Mutex<u64>,
}

impl Verified {
    fn new(bytes: u64) -> Self {
        let blocks = (0..bytes.div_ceil(BLOCK_BYTES)).map(|_| OnceLock::new()).collect();
        let (any, distrusts, coming) =
            (AtomicBool::new(false), AtomicU64::new(0), Mutex::default());
        Self { blocks, any, distrusts, coming }
    }

    /// Block, word and bit of a frame.
    #[inline]
    fn place(offset: u64) -> (usize, usize, u64) {
        let slot = offset % BLOCK_BYTES / SLOT_BYTES;
        (to_usize(offset / BLOCK_BYTES), to_usize(slot / 64), 1 << (slot % 64))
    }

    #[inline]
    fn is_set(&self, offset: u64) -> bool {
        self.are_set(std::iter::once(offset))
    }

    #[inline]
    fn are_set(&self, mut offsets: impl Iterator<Item = u64>) -> bool {
        // Most are in the block of the one before.
        let (mut looked_up, mut words) = (usize::MAX, None);
        offsets.all(|offset| {
            let (block, word, bit) = Self::place(offset);
            if block != looked_up {
                (looked_up, words) = (block, self.blocks.get(block).and_then(OnceLock::get));
            }
            let word = words.and_then(|words| words.get(word));
            word.is_some_and(|word| word.load(Ordering::Acquire) & bit != 0)
        })
    }

    /// Sets the bit of a frame, unless its page may have come again since there were `distrusts`, or is
    /// just coming.
    fn set(&self, offset: u64, distrusts: u64) {
        let (block, word, bit) = Self::place(offset);
        let coming = self.coming.lock();
        if let Some(block) = self.blocks.get(block)
            && *coming == 0
            && self.distrusts.load(Ordering::Relaxed) == distrusts
        {
            let zeros = || Box::new([const { AtomicU64::new(0) }; WORDS]);
            if let Some(word) = block.get_or_init(zeros).get(word) {
                word.fetch_or(bit, Ordering::Release);
                self.any.store(true, Ordering::Release);
            }
        }
    }

    fn is_any_set(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Clears all bits, and has none set before the end.
    fn begin(&self) -> u64 {
        let mut coming = self.coming.lock();
        let begun = self.distrusts.fetch_add(1, Ordering::Release) + 1;
        *coming += 1;
        if self.any.load(Ordering::Relaxed) && !planted(Bug::TrustedForEver) {
            self.any.store(false, Ordering::Release);
            for words in self.blocks.iter().filter_map(OnceLock::get) {
                words.iter().for_each(|word| word.store(0, Ordering::Release));
            }
        }
        begun
    }

    fn end(&self, begun: u64) -> Option<u64> {
        let mut coming = self.coming.lock();
        *coming = coming.saturating_sub(1);
        let before = self.distrusts.fetch_add(1, Ordering::Release);
        (before == begun).then_some(before + 1)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_from_before_a_distrust_or_during_one_leaves_no_mark() {
        let verified = Verified::new(BLOCK_BYTES);
        verified.set(64, 0);
        assert!(verified.is_set(64) && !verified.is_set(96));
        let begun = verified.begin();
        assert!(!verified.is_set(64) && !verified.is_any_set());
        // Of a page that was there then, and may come again before the end.
        verified.set(64, begun);
        let own = verified.end(begun).unwrap();
        verified.set(96, begun);
        assert!(!verified.is_set(64) && !verified.is_set(96) && !verified.is_any_set());
        verified.set(96, own);
        assert!(verified.is_set(96) && verified.is_any_set());
        // Two at once: neither knows whose bytes stay.
        let (one, other) = (verified.begin(), verified.begin());
        assert_eq!((verified.end(one), verified.end(other)), (None, None));
    }
}
