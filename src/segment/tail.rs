//! The tail: the one segment that is being written.
//!
//! Owns: putting encoded frames one after another, in memory first and then in the file, and the
//! seal. Does not own: when pending frames are handed to the file (`log::writer::hand_over`) and
//! what is durable (`log::syncer`); nothing here survives a crash until a sync says so.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::edge::Edge;
use super::space::Space;
use super::warm::Warm;
use super::witness::{Encoded, Testimony, place};
use super::{FRAMES_START, Segment};
use crate::directory::Dir;
use crate::directory::spares::Spare;
use crate::error::{Error, Result};
use crate::format::footer::{
    FOOTER_BYTES, FOOTER_COMPRESSED, FOOTER_HOLES, TABLE_ENTRY_BYTES, encode_table,
};
use crate::format::frame::{FRAME_HEADER_BYTES, FrameHeader, Salt, read_header_unchecked};
use crate::format::header::SEGMENT_HEADER_BYTES;
use crate::format::number::{to_u64, to_usize, u32_to_usize};
use crate::format::{Footer, SegmentHeader};
use crate::io::{File, Way};
use crate::options::{Options, SyncMethod, WriteMode};
use crate::planted::{Bug, planted};

/// Writes of this many bytes and more go through the file also where small ones are stored through
/// the map: one call costs less than the page faults. Both meet in the page cache.
const STORE_BYTES_MAX: usize = 8 * 1024;

/// Most bytes of memory that are kept for pending frames while there are none.
const PENDING_KEPT: usize = 2 * 1024 * 1024;

/// A roll is near when this part of the segment is left, or this many bytes.
const NEAR_PART: u64 = 8;
const NEAR_BYTES_MIN: u64 = 512 * 1024;

/// The tail segment and the place where the next frame goes.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) segment: Arc<Segment>,
    pub(crate) file: Arc<dyn File>,
    pub(crate) space: Arc<Space>,
    /// Where whole blocks are put together, if frames are written directly.
    edge: Option<Arc<Edge>>,
    pub(crate) salt: Salt,
    /// Frames that the file does not have yet: they go after `handed`.
    pub(crate) pending: Vec<u8>,
    /// What the file has, or what another thread is just handing to it, ends here.
    handed: u64,
    /// Where the newest frame starts; 0 if there is none.
    last_frame: u64,
    /// Which of the two places the next witness takes.
    witness_turn: bool,
    /// The newest one, with its offset.
    last_witness: Option<(u64, Encoded)>,
    mode: WriteMode,
    /// Somebody was told that a roll comes near.
    spare_asked: bool,
    /// Something in it takes entries of it back, or was taken back itself.
    cut: bool,
}

impl Tail {
    /// A tail whose frames end at `position`.
    pub(crate) fn new(
        segment: Arc<Segment>,
        space: Arc<Space>,
        salt: Salt,
        position: u64,
        options: &Options,
    ) -> Result<Self> {
        let mode = options.write_mode_in_force();
        let edge = (mode == WriteMode::Direct)
            .then(|| Edge::new(space.file(), position).map(Arc::new))
            .transpose()
            .map_err(segment.io("read"))?;
        let (file, pending, handed) = (Arc::clone(space.file()), Vec::new(), position);
        let (last_frame, witness_turn, spare_asked, cut) = (0, false, false, false);
        Ok(Self {
            segment,
            file,
            space,
            edge,
            salt,
            pending,
            handed,
            last_frame,
            witness_turn,
            last_witness: None,
            mode,
            spare_asked,
            cut,
        })
    }

    /// Takes note of where the newest frame starts.
    pub(crate) fn frame_at(&mut self, offset: u64) {
        self.last_frame = offset;
    }

    /// Where the next frame goes, which is the newest one from here on.
    #[inline]
    pub(crate) fn next_frame(&mut self) -> u64 {
        self.last_frame = self.position();
        self.last_frame
    }

    /// Where the newest frame starts; 0 if there is none.
    pub(crate) fn last_frame(&self) -> u64 {
        self.last_frame
    }

    /// Where the next frame goes.
    #[inline]
    pub(crate) fn position(&self) -> u64 {
        self.handed + to_u64(self.pending.len())
    }

    /// Where what is not durable ends: pending frames will be in the file by then.
    pub(crate) fn unsynced_end(&self) -> u64 {
        if planted(Bug::PendingNotDirty) { self.handed } else { self.position() }
    }

    pub(crate) fn base(&self) -> u64 {
        self.segment.name.base
    }

    /// Where the pending frames go.
    pub(crate) fn pending_range(&self) -> Range<u64> {
        self.handed..self.position()
    }

    /// The witness that goes with a sync of everything up to here.
    pub(crate) fn testify(&mut self, sequence: u64, lag: u16, apart: bool) -> Testimony {
        let turn = self.witness_turn;
        self.witness_turn = !turn;
        // What is not ready may be filled with zeros at any moment.
        let ready = self.space.ready().min(self.segment.bytes);
        let offset = place(self.position(), turn, ready, apart);
        let witness = Testimony::new(offset, &self.salt, sequence, lag);
        let before = self.last_witness.replace((offset, witness.bytes));
        Testimony { before, ..witness }
    }

    /// Hands the pending frames to the file, here and now. On an error the frames are gone, and any
    /// part of them may be in the file.
    pub(crate) fn flush(&mut self, warm: &Warm) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut bytes = std::mem::take(&mut self.pending);
        let offset = self.handed;
        let written = self.write(&bytes);
        if written.is_ok() {
            warm.push(self.segment.name.number, offset, &bytes);
        }
        clear(&mut bytes);
        self.pending = bytes;
        written
    }

    /// Takes the pending frames out, to be handed to the file by the caller; `empty` takes the
    /// next ones.
    pub(crate) fn take_pending(&mut self, empty: Vec<u8>) -> Pending {
        let (segment, file) = (Arc::clone(&self.segment), Arc::clone(&self.file));
        let bytes = std::mem::replace(&mut self.pending, empty);
        let offset = self.handed;
        self.handed += to_u64(bytes.len());
        Pending { segment, file, edge: self.edge.clone(), offset, bytes }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let end = self.handed + to_u64(bytes.len());
        self.put(self.handed, bytes)?;
        self.handed = end;
        Ok(())
    }

    /// Whether a roll has come so near that a spare is wanted: once.
    pub(crate) fn comes_near_a_roll(&mut self) -> bool {
        let near = !self.spare_asked && self.is_near_a_roll();
        self.spare_asked |= near;
        near
    }

    /// Whether a roll is near enough for a spare to be made.
    pub(crate) fn is_near_a_roll(&self) -> bool {
        let near = (self.segment.bytes / NEAR_PART).max(NEAR_BYTES_MIN);
        self.segment.bytes - self.position() <= near
    }

    /// A pending frame of this segment; nothing if none starts at this offset of the file.
    pub(crate) fn pending_frame(
        &self,
        segment: u64,
        offset: u64,
    ) -> Option<(FrameHeader, Vec<u8>)> {
        let at = to_usize(offset.checked_sub(self.handed)?);
        let bytes = self.pending.get(at..).filter(|_| segment == self.segment.name.number)?;
        let header = read_header_unchecked(bytes)?;
        let end = FRAME_HEADER_BYTES + u32_to_usize(header.length);
        Some((header, bytes.get(FRAME_HEADER_BYTES..end)?.to_vec()))
    }

    /// Takes note that entries of this segment were taken back.
    pub(crate) fn note_cut(&mut self) {
        self.cut = true;
    }

    /// Whether a walk of its frames may leave in doubt which of them count, unless the footer or the
    /// header of the next segment says where they end. Not if each only adds to those before it.
    pub(crate) fn needs_its_footer(&self) -> bool {
        self.segment.may_have_a_footer() || self.cut && !planted(Bug::FooterOfCutsLeft)
    }

    /// Takes back what was written since the frames ended at `position`, before any of it was
    /// published; of what may be in the file by then the caller takes note.
    pub(crate) fn rewind(&mut self, position: u64, last_frame: u64) {
        self.handed = self.handed.min(position);
        self.pending.truncate(to_usize(position - self.handed));
        self.last_frame = last_frame;
    }

    /// Lets readers see everything that was handed to the file by this tail.
    pub(crate) fn publish(&self) {
        publish(&self.segment, self.handed);
    }

    /// Writes the offset table and the footer. Returns the range they take. Nothing of this is
    /// durable before the sync of the batch that rolled.
    pub(crate) fn seal(&self, units: &[u32], next_sequence: u64) -> Result<Range<u64>> {
        self.space.seal();
        self.segment.ready.store(self.space.ready(), std::sync::atomic::Ordering::Relaxed);
        let order = std::sync::atomic::Ordering::Relaxed;
        let bytes = Seal {
            salt: &self.salt,
            base: self.base(),
            units,
            data_end: self.position(),
            next_sequence,
            compressed: self.segment.compressed.load(order),
            holes: self.segment.holes.load(order),
        }
        .encode();
        let range = self.segment.bytes.saturating_sub(to_u64(bytes.len()))..self.segment.bytes;
        self.put(range.start, &bytes).map_err(self.segment.io("write"))?;
        publish(&self.segment, self.segment.bytes);
        Ok(range)
    }

    fn is_stored(&self, bytes: &[u8]) -> bool {
        self.mode == WriteMode::Mmap && bytes.len() < STORE_BYTES_MAX
    }

    fn put(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let opened = self.segment.opened().filter(|_| self.is_stored(bytes));
        match opened.as_ref().and_then(|opened| opened.map()) {
            Some(region) => region.store(to_usize(offset), bytes),
            None => match &self.edge {
                Some(edge) => edge.put(offset, bytes, None, false),
                None => self.file.write_at(offset, bytes),
            },
        }
    }
}

/// Lets readers see the bytes of a segment below `end`.
fn publish(segment: &Segment, end: u64) {
    if let Some(opened) = segment.opened() {
        opened.publish(end);
    }
}

/// Frames on their way from memory to the file of the tail.
#[derive(Debug)]
pub(crate) struct Pending {
    segment: Arc<Segment>,
    file: Arc<dyn File>,
    edge: Option<Arc<Edge>>,
    offset: u64,
    bytes: Vec<u8>,
}

impl Pending {
    /// Hands the frames over and lets readers see them, and `witness` after them. Returns the
    /// buffer, empty, and how it went: on an error any part of the frames may be in the file. With
    /// `through` they are durable on return, else nothing is yet.
    pub(crate) fn hand_over(
        mut self,
        warm: &Warm,
        witness: Option<&Testimony>,
        through: bool,
    ) -> (Vec<u8>, Result<()>) {
        if planted(Bug::ShownBeforeWritten) {
            publish(&self.segment, self.offset + to_u64(self.bytes.len()));
        }
        let (len, is_buffered) = (self.bytes.len(), self.edge.is_none());
        let range = self.offset..self.offset + to_u64(len);
        let along = witness.is_some_and(|witness| is_buffered && self.take_along(witness));
        // A witness that stands apart is one write more, and a sync is cheaper for two.
        let at_once = through && (along || witness.is_none()) && !planted(Bug::NotWrittenThrough);
        let written = match &self.edge {
            Some(edge) => edge.put(self.offset, &self.bytes, witness, through),
            None if self.bytes.is_empty() => Ok(()),
            None if at_once => self.file.write_by(Way::Through, self.offset, &self.bytes),
            None => self.file.write_at(self.offset, &self.bytes),
        };
        self.bytes.truncate(len);
        if written.is_ok() {
            warm.push(self.segment.name.number, self.offset, &self.bytes);
            publish(&self.segment, self.offset + to_u64(self.bytes.len()));
        }
        let written = written.and_then(|()| match witness {
            Some(witness) if is_buffered && !along => {
                write_witness(self.file.as_ref(), witness)?;
                // Makes frames and witness durable. A crash before it loses any part of frames that
                // nobody was told of.
                if through { self.file.sync(range, SyncMethod::Fdatasync) } else { Ok(()) }
            }
            _ => Ok(()),
        });
        clear(&mut self.bytes);
        let failed = |source| Error::io("write", self.segment.path(), source);
        let forgotten = planted(Bug::HandOverFailureForgotten);
        (self.bytes, if forgotten { Ok(()) } else { written.map_err(failed) })
    }

    /// Adds to frames the witness that stands in the block after them, so that one write has both,
    /// and what is between: the witness before, if it is there, and else zeros. That one is
    /// repeated because it may be all that a torn write leaves; its sector has the same bytes then,
    /// whatever becomes of it (docs/RECOVERY.md, M2). Returns whether it did.
    fn take_along(&mut self, witness: &Testimony) -> bool {
        let end = self.offset + to_u64(self.bytes.len());
        if self.bytes.is_empty() || witness.offset < end {
            return false;
        }
        let at = |offset: u64| to_usize(offset - self.offset);
        let (start, before) = (at(witness.offset), witness.before.filter(|it| it.0 >= end));
        let before = before.map(|(offset, bytes)| (at(offset), bytes));
        self.bytes.resize(start, 0);
        if let Some((from, bytes)) = before
            && let Some(room) = self.bytes.get_mut(from..from + bytes.len())
        {
            room.copy_from_slice(&bytes);
        }
        self.bytes.extend_from_slice(&witness.bytes);
        true
    }
}

/// Writes a witness. A full disk, where space is not allocated ahead, goes without one.
pub(crate) fn write_witness(file: &dyn File, witness: &Testimony) -> io::Result<()> {
    match file.write_at(witness.offset, &witness.bytes) {
        Err(error) if crate::directory::is_full(&error) => Ok(()),
        written => written,
    }
}

/// Empties a buffer for the next frames; the memory of a very large batch is given back.
fn clear(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(PENDING_KEPT);
}

/// What a seal states of a segment.
#[derive(Debug)]
pub(crate) struct Seal<'a> {
    pub(crate) salt: &'a Salt,
    pub(crate) base: u64,
    /// Offsets of the entries, in units.
    pub(crate) units: &'a [u32],
    pub(crate) data_end: u64,
    pub(crate) next_sequence: u64,
    pub(crate) compressed: bool,
    pub(crate) holes: bool,
}

impl Seal<'_> {
    /// The offset table and the footer: the last bytes of the file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let table = encode_table(self.units);
        let flag = |set: bool, flag: u32| if set { flag } else { 0 };
        let footer = Footer {
            generation: self.salt.generation(),
            base: self.base,
            count: to_u64(self.units.len()),
            data_end: self.data_end,
            next_sequence: self.next_sequence,
            flags: flag(self.compressed, FOOTER_COMPRESSED) | flag(self.holes, FOOTER_HOLES),
            table_crc: crc32fast::hash(&table),
        };
        let mut bytes = table;
        bytes.extend_from_slice(&footer.encode(self.salt));
        bytes
    }
}

/// Turns a prepared file into a new segment: its header is written, its name given. Neither is
/// durable before the next sync of the log.
pub(crate) fn begin(
    dir: &Dir,
    spare: &Spare,
    header: &SegmentHeader,
    options: &Options,
) -> Result<Tail> {
    write_header(dir, spare, header)?;
    take_name(dir, spare, header, options)
}

/// Writes the header of a new segment into a prepared file.
pub(crate) fn write_header(dir: &Dir, spare: &Spare, header: &SegmentHeader) -> Result<()> {
    let mut block = [0; SEGMENT_HEADER_BYTES];
    let encoded = header.encode();
    let (used, _) = block.split_at_mut(encoded.len());
    used.copy_from_slice(&encoded);
    let file = spare.space.file();
    file.write_at(0, &block).map_err(|source| dir.full_or_io("write", &spare.name, 0, source))
}

/// Gives a prepared file the name of the segment that its header says or is going to say.
pub(crate) fn take_name(
    dir: &Dir,
    spare: &Spare,
    header: &SegmentHeader,
    options: &Options,
) -> Result<Tail> {
    let name = crate::format::SegmentName { number: header.number, base: header.base };
    let salt = Salt::new(header.generation);
    let write = options.write_mode_in_force() == WriteMode::Mmap;
    let region = spare.region(dir, header.segment_bytes, write)?.clone();
    region.keep_back(SEGMENT_HEADER_BYTES);
    region.publish(SEGMENT_HEADER_BYTES);
    dir.rename(&spare.name, &name.to_string())?;
    let uuid = crate::directory::identity::Uuid::from_bytes(header.uuid);
    let mapped = (Arc::clone(spare.space.file()), region);
    let segment = Segment::with_region(dir, uuid, name, mapped, salt.clone()).begun();
    Tail::new(Arc::new(segment), Arc::clone(&spare.space), salt, FRAMES_START, options)
}

/// Bytes a sealed segment needs after its frames.
pub(crate) const fn footer_space(entries: u64) -> u64 {
    FOOTER_BYTES as u64 + entries * TABLE_ENTRY_BYTES as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::sim::{Persistence, SimDisk};
    use crate::io::{Access, Directory};
    use crate::{Log, Options};

    /// Hands frames of a new log over with witnesses, and looks at what a crash leaves of both. Returns
    /// how often a witness before was there after a torn write.
    fn handed_over(through: bool, apart: bool) -> usize {
        let disk = SimDisk::new(1);
        let options = Options::new().background(false).write_mode(WriteMode::Buffered);
        let log = Log::create_in(Arc::new(disk.clone()), &options).unwrap();
        let warm = Warm::new(0);
        let mut writer = log.shared().writer();
        let tail = writer.tail_mut();
        let file = Arc::clone(&tail.file);
        let name = tail.segment.name.to_string();
        let (mut repeated, mut before) = (0, None::<(u64, Encoded)>);
        for (sequence, len) in [8, 304, 3704, 40, 600, 96, 4096, 8, 504].into_iter().enumerate() {
            tail.pending.extend(vec![7; len]);
            let witness = tail.testify(to_u64(sequence), 1, apart);
            let end = tail.position();
            tail.take_pending(Vec::new()).hand_over(&warm, Some(&witness), through).1.unwrap();
            for seed in 0..20 {
                let torn = disk.crash_copy(Persistence::Random(seed));
                let torn = torn.open(&name, Access::Read).unwrap();
                if let Some((offset, bytes)) = before.filter(|it| it.0 >= end) {
                    let mut found = Encoded::default();
                    torn.read_at(offset, &mut found).unwrap();
                    assert_eq!(found, bytes, "{sequence}, {seed}");
                    repeated += 1;
                }
            }
            if !through {
                file.sync(0..end, SyncMethod::Fdatasync).unwrap();
            }
            let after = disk.crash_copy(Persistence::Nothing).open(&name, Access::Read).unwrap();
            let mut found = Encoded::default();
            after.read_at(witness.offset, &mut found).unwrap();
            assert_eq!(found, witness.bytes, "{sequence}");
            let mut found = vec![0; to_usize(end - FRAMES_START)];
            after.read_at(FRAMES_START, &mut found).unwrap();
            assert!(found.iter().all(|&byte| byte == 7), "{sequence}");
            before = Some((witness.offset, witness.bytes));
        }
        repeated
    }

    /// Frames and witness are one write; torn in any way it leaves the witness before, unless
    /// frames came over that one.
    #[test]
    fn witness_before_outlives_the_write_that_takes_the_next_one_along() {
        assert!(handed_over(false, false) > 40);
    }

    #[test]
    fn what_is_written_through_is_durable_with_its_witness_wherever_that_stands() {
        for apart in [false, true] {
            handed_over(true, apart);
        }
    }
}
