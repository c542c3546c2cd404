//! The checkpoint slot: the summary from which recovery starts (docs/FORMAT.md, "Slot").
//!
//! Owns: the 4096 bytes of one slot. Does not own: which of the two is used, and when they are
//! written (`metadata`).
//!
//! Invariants of a decoded checkpoint: `first <= next`; the runs ascend, do not touch the numbers
//! of each other, and end with the tail; names ascend and are valid; every length is bounded by the
//! slot itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use byteorder::{ByteOrder, LittleEndian};

use super::cell::{CellValue, SIDE_FILE_REF_BYTES, SideFileRef, cell_name, is_cell_name};
use super::error::StructureError;
use super::frame::{FRAME_ALIGN, FRAME_HEADER_BYTES};
use super::number::{to_u32, to_u64, to_usize};
use super::{
    BLOCK_BYTES, VERSION, check_checksum, check_features, check_offset, check_segment_bytes,
    check_version, checksum_around, start,
};
use crate::error::{Error, Result};
use crate::options::CELL_VALUE_BYTES_MAX;
pub use crate::options::CELLS_BYTES_MAX;
use crate::planted::{Bug, planted};

/// Bytes of one slot: one block, which a disk replaces at once.
pub const SLOT_BYTES: usize = BLOCK_BYTES;
/// Bytes of the metadata file: two slots.
pub const METADATA_BYTES: usize = 2 * SLOT_BYTES;
/// The first bytes of every slot.
pub const SLOT_MAGIC: [u8; 8] = *b"INDLMETA";
/// Bytes of a slot before its runs.
pub const SLOT_FIXED_BYTES: usize = 128;
/// Most runs of segment numbers that a slot lists.
pub const RUNS_MAX: usize = 16;
/// Bytes of one run.
pub const RUN_BYTES: usize = 16;
/// Bytes of a cell before its name.
pub const CELL_FIXED_BYTES: usize = 4;
/// Checkpoints, batches and segments are numbered below this: no log counts so far, so what says
/// otherwise was forged, and the next number always exists.
pub const NUMBERS_END: u64 = 1 << 63;
/// Flag: the log was closed after this checkpoint; nothing is written after it.
pub const SLOT_CLEAN: u8 = 1;
/// Flag: the log is being created; its first segment may not exist yet.
pub const SLOT_CREATING: u8 = 2;

const STRUCTURE: &str = "metadata slot";
const CELL_INLINE: u8 = 0;
const CELL_SIDE_FILE: u8 = 1;

// However many runs there are.
const _: () = assert!(CELLS_BYTES_MAX == SLOT_BYTES - SLOT_FIXED_BYTES - RUNS_MAX * RUN_BYTES);
const _: () = assert!(CELLS_BYTES_MAX >= CELL_FIXED_BYTES + 32 + CELL_VALUE_BYTES_MAX);

/// A durable summary of the log: the contents of one slot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checkpoint {
    /// The log.
    pub uuid: [u8; 16],
    /// Number of the checkpoint; the newest valid slot wins.
    pub generation: u64,
    /// Every batch up to this one is durable and summarised here.
    pub sequence: u64,
    /// First entry.
    pub first: u64,
    /// Exclusive end of the entries.
    pub next: u64,
    /// Number of the tail segment.
    pub tail_number: u64,
    /// Generation of the tail segment.
    pub tail_generation: u64,
    /// Where in the tail the first frame of batch `sequence + 1` goes.
    pub tail_offset: u64,
    /// No frame of the tail is written at or past this offset under this checkpoint.
    pub reach: u64,
    /// Where in the tail the last frame before `tail_offset` starts; 0 if that is not stated.
    pub last_frame: u64,
    /// Length of every segment file, in bytes.
    pub segment_bytes: u64,
    /// The log was closed after this checkpoint.
    pub clean: bool,
    /// The log is being created; its first segment may not exist yet.
    pub creating: bool,
    /// Entries that are missing since a repair.
    pub holes: u64,
    /// The segment numbers that exist, as (first, last), ascending, ending with the tail.
    pub runs: Vec<(u64, u64)>,
    /// The state cells by name.
    pub cells: BTreeMap<String, CellValue>,
}

/// Bytes that the cells take in a slot; at most [`CELLS_BYTES_MAX`] fit.
pub fn cells_bytes(cells: &BTreeMap<String, CellValue>) -> usize {
    cells.iter().map(|(name, value)| cell_bytes(name, value)).sum()
}

/// Bytes that one cell takes in a slot.
pub fn cell_bytes(name: &str, value: &CellValue) -> usize {
    let value = match value {
        CellValue::Inline(bytes) => bytes.len(),
        CellValue::SideFile(_) => SIDE_FILE_REF_BYTES,
    };
    CELL_FIXED_BYTES + name.len() + value
}

impl Checkpoint {
    /// The bytes of the slot.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if runs or cells do not fit, [`Error::InvalidArgument`] for a name that
    /// no cell can have.
    pub fn encode(&self) -> Result<Box<[u8; SLOT_BYTES]>> {
        self.check_limits()?;
        let mut bytes = [0; SLOT_BYTES];
        bytes[0..8].copy_from_slice(&SLOT_MAGIC);
        LittleEndian::write_u32(&mut bytes[8..12], VERSION);
        bytes[16..32].copy_from_slice(&self.uuid);
        LittleEndian::write_u64(&mut bytes[32..40], self.generation);
        LittleEndian::write_u64(&mut bytes[40..48], self.sequence);
        LittleEndian::write_u64(&mut bytes[48..56], self.first);
        LittleEndian::write_u64(&mut bytes[56..64], self.next);
        LittleEndian::write_u64(&mut bytes[64..72], self.tail_number);
        LittleEndian::write_u64(&mut bytes[72..80], self.tail_generation);
        LittleEndian::write_u64(&mut bytes[80..88], self.tail_offset);
        LittleEndian::write_u64(&mut bytes[88..96], self.reach);
        LittleEndian::write_u64(&mut bytes[96..104], self.segment_bytes);
        let clean = if self.clean { SLOT_CLEAN } else { 0 };
        let creating = if self.creating { SLOT_CREATING } else { 0 };
        bytes[104] = clean | creating;
        bytes[105] = to_u8(self.runs.len());
        LittleEndian::write_u16(&mut bytes[106..108], to_u16(self.cells.len()));
        let units = self.last_frame / to_u64(FRAME_ALIGN);
        LittleEndian::write_u32(&mut bytes[108..112], to_u32(to_usize(units)));
        LittleEndian::write_u64(&mut bytes[112..120], self.holes);
        let lists = self.encode_lists();
        if let Some(room) = bytes.get_mut(SLOT_FIXED_BYTES..SLOT_FIXED_BYTES + lists.len()) {
            room.copy_from_slice(&lists);
        }
        let crc = checksum_around(&bytes);
        LittleEndian::write_u32(&mut bytes[12..16], crc);
        debug_assert_eq!(Self::decode(&bytes).as_ref(), Ok(self));
        Ok(Box::new(bytes))
    }

    /// Whether it names a segment of this number.
    pub fn names(&self, number: u64) -> bool {
        self.runs.iter().any(|(first, last)| (*first..=*last).contains(&number))
    }

    fn check_limits(&self) -> Result<()> {
        let limited = |what, got: usize, limit: usize| {
            if got <= limit {
                return Ok(());
            }
            Err(Error::TooLarge { what, got: to_u64(got), limit: to_u64(limit) })
        };
        limited("number of runs of segments", self.runs.len(), RUNS_MAX)?;
        for (what, got) in self.numbers() {
            if got >= NUMBERS_END {
                return Err(Error::TooLarge { what, got, limit: NUMBERS_END - 1 });
            }
        }
        for (name, value) in &self.cells {
            if !is_cell_name(name.as_bytes()) {
                let reason = "must be 1 to 32 bytes of a-z, 0-9, '.', '_' and '-'";
                return Err(Error::InvalidArgument { what: "cell name", reason });
            }
            if let CellValue::Inline(bytes) = value {
                limited("length of a cell value", bytes.len(), CELL_VALUE_BYTES_MAX)?;
            }
        }
        limited("length of all state cells", cells_bytes(&self.cells), CELLS_BYTES_MAX)
    }

    /// What is numbered from 0 on, one by one.
    fn numbers(&self) -> [(&'static str, u64); 3] {
        [
            ("checkpoint generation", self.generation),
            ("sequence", self.sequence),
            ("tail number", self.tail_number),
        ]
    }

    /// Runs, then cells.
    fn encode_lists(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SLOT_BYTES - SLOT_FIXED_BYTES);
        for &(first, last) in &self.runs {
            let mut run = [0; RUN_BYTES];
            LittleEndian::write_u64(&mut run[0..8], first);
            LittleEndian::write_u64(&mut run[8..16], last);
            out.extend_from_slice(&run);
        }
        for (name, value) in &self.cells {
            let side_file;
            let (kind, value) = match value {
                CellValue::Inline(bytes) => (CELL_INLINE, &**bytes),
                CellValue::SideFile(file) => {
                    side_file = file.encode();
                    (CELL_SIDE_FILE, side_file.as_slice())
                }
            };
            let mut fixed = [u8::try_from(name.len()).unwrap_or(u8::MAX), kind, 0, 0];
            LittleEndian::write_u16(&mut fixed[2..4], to_u16(value.len()));
            out.extend_from_slice(&fixed);
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(value);
        }
        out
    }

    /// Reads a slot.
    ///
    /// # Errors
    /// Why the bytes are no slot that this build reads.
    pub fn decode(bytes: &[u8]) -> std::result::Result<Self, StructureError> {
        let raw = start::<SLOT_BYTES>(STRUCTURE, SLOT_MAGIC, bytes)?;
        if !planted(Bug::SlotsNotChecked) {
            let stated = LittleEndian::read_u32(&raw[12..16]);
            check_checksum(STRUCTURE, checksum_around(raw), stated)?;
        }
        check_version(LittleEndian::read_u32(&raw[8..12]))?;
        check_features(LittleEndian::read_u64(&raw[120..128]))?;
        let flags = raw[104];
        if flags & !(SLOT_CLEAN | SLOT_CREATING) != 0 {
            let (field, got) = ("slot flags", u64::from(flags));
            return Err(StructureError::Field { field, expected: got & 3, got });
        }
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&raw[16..32]);
        let mut lists = Lists { rest: raw.get(SLOT_FIXED_BYTES..).unwrap_or(&[]) };
        let checkpoint = Self {
            uuid,
            generation: LittleEndian::read_u64(&raw[32..40]),
            sequence: LittleEndian::read_u64(&raw[40..48]),
            first: LittleEndian::read_u64(&raw[48..56]),
            next: LittleEndian::read_u64(&raw[56..64]),
            tail_number: LittleEndian::read_u64(&raw[64..72]),
            tail_generation: LittleEndian::read_u64(&raw[72..80]),
            tail_offset: LittleEndian::read_u64(&raw[80..88]),
            reach: LittleEndian::read_u64(&raw[88..96]),
            segment_bytes: LittleEndian::read_u64(&raw[96..104]),
            clean: flags & SLOT_CLEAN != 0,
            creating: flags & SLOT_CREATING != 0,
            last_frame: u64::from(LittleEndian::read_u32(&raw[108..112])) * to_u64(FRAME_ALIGN),
            holes: LittleEndian::read_u64(&raw[112..120]),
            runs: lists.runs(raw[105])?,
            cells: lists.cells(LittleEndian::read_u16(&raw[106..108]))?,
        };
        checkpoint.validate()?;
        Ok(checkpoint)
    }

    fn validate(&self) -> std::result::Result<(), StructureError> {
        let refuse = |field, expected, got| Err(StructureError::Field { field, expected, got });
        check_segment_bytes(self.segment_bytes)?;
        check_offset("tail_offset", self.tail_offset, self.segment_bytes)?;
        check_offset("reach", self.reach, self.segment_bytes)?;
        if self.reach < self.tail_offset {
            return refuse("reach", self.tail_offset, self.reach);
        }
        if self.last_frame != 0 {
            let latest = self.tail_offset.saturating_sub(to_u64(FRAME_HEADER_BYTES));
            check_offset("last_frame", self.last_frame, latest)?;
        }
        for (field, number) in self.numbers() {
            if number >= NUMBERS_END {
                return refuse(field, NUMBERS_END - 1, number);
            }
        }
        if self.next < self.first {
            return refuse("next", self.first, self.next);
        }
        if self.creating && self.next != self.first {
            return refuse("next of a new log", self.first, self.next);
        }
        // With few runs there is room for more, but such a slot could not be written again.
        let cells = cells_bytes(&self.cells);
        if cells > CELLS_BYTES_MAX {
            return refuse("length of all state cells", to_u64(CELLS_BYTES_MAX), to_u64(cells));
        }
        let mut above: Option<u64> = None;
        for &(first, last) in &self.runs {
            if above.is_some_and(|above| first <= above) {
                return refuse(
                    "first of a run",
                    above.map_or(0, |above| above.saturating_add(1)),
                    first,
                );
            }
            if last < first {
                return refuse("last of a run", first, last);
            }
            above = Some(last);
        }
        if above != Some(self.tail_number) {
            return refuse("last of the last run", self.tail_number, above.unwrap_or(0));
        }
        Ok(())
    }
}

fn to_u8(size: usize) -> u8 {
    u8::try_from(size).unwrap_or(u8::MAX)
}

fn to_u16(size: usize) -> u16 {
    u16::try_from(size).unwrap_or(u16::MAX)
}

/// What is left of the lists after the fixed fields.
struct Lists<'a> {
    rest: &'a [u8],
}

impl<'a> Lists<'a> {
    fn take(
        &mut self,
        field: &'static str,
        count: usize,
    ) -> std::result::Result<&'a [u8], StructureError> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            let (expected, got) = (to_u64(self.rest.len()), to_u64(count));
            return Err(StructureError::Field { field, expected, got });
        };
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> std::result::Result<[u8; N], StructureError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(field, N)?);
        Ok(array)
    }

    fn runs(&mut self, count: u8) -> std::result::Result<Vec<(u64, u64)>, StructureError> {
        if usize::from(count) > RUNS_MAX {
            let (expected, got) = (to_u64(RUNS_MAX), u64::from(count));
            return Err(StructureError::Field { field: "run_count", expected, got });
        }
        let mut runs = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let run = self.array::<RUN_BYTES>("run_count")?;
            runs.push((LittleEndian::read_u64(&run[0..8]), LittleEndian::read_u64(&run[8..16])));
        }
        Ok(runs)
    }

    fn cells(
        &mut self,
        count: u16,
    ) -> std::result::Result<BTreeMap<String, CellValue>, StructureError> {
        let mut cells = BTreeMap::new();
        for at in 0..count {
            let fixed = self.array::<CELL_FIXED_BYTES>("cell_count")?;
            let name = cell_name(self.take("cell name length", usize::from(fixed[0]))?)?;
            let length = usize::from(LittleEndian::read_u16(&fixed[2..4]));
            let value = match fixed[1] {
                CELL_INLINE if length <= CELL_VALUE_BYTES_MAX => {
                    CellValue::Inline(Arc::from(self.take("cell value length", length)?))
                }
                CELL_SIDE_FILE if length == SIDE_FILE_REF_BYTES => {
                    let file = self.array("cell value length")?;
                    CellValue::SideFile(SideFileRef::decode(&file))
                }
                CELL_INLINE | CELL_SIDE_FILE => {
                    let field = "cell value length";
                    let limit = if fixed[1] == CELL_INLINE {
                        CELL_VALUE_BYTES_MAX
                    } else {
                        SIDE_FILE_REF_BYTES
                    };
                    return Err(StructureError::Field {
                        field,
                        expected: to_u64(limit),
                        got: to_u64(length),
                    });
                }
                kind => {
                    let (field, got) = ("cell kind", u64::from(kind));
                    return Err(StructureError::Field { field, expected: 0, got });
                }
            };
            let ascends =
                cells.last_key_value().is_none_or(|(last, _): (&String, _)| last.as_str() < name);
            if !ascends {
                let (field, got) = ("order of cell names", u64::from(at));
                return Err(StructureError::Field { field, expected: 0, got });
            }
            cells.insert(name.to_owned(), value);
        }
        Ok(cells)
    }
}
