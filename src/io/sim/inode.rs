//! One simulated file: what the cache holds, what it held when it was last written back, and what
//! the medium holds.
//!
//! Owns: the three lives of a file's bytes and of its length. Does not own: names, calls, faults.
//!
//! Invariants:
//! - A sector is dirty if and only if the cache differs from `clean`. A write-back, whether it
//!   succeeds or not, makes it clean; only one that succeeds puts it on the medium. So after a
//!   failed sync there are clean sectors that the medium does not have, and the next sync, which
//!   has nothing to write, succeeds.
//! - The length is metadata: a failed sync leaves it to the next one.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::contents::{Contents, SECTOR_BYTES};
use super::rot::Rot;
use crate::io::map::{Heap, Region};
use crate::io::mem::grown;

/// What a power cut does to one unit of what was not yet durable.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    Old,
    New,
    /// New up to this byte of the sector, old from there; or the other way round.
    Torn {
        cut: usize,
        new_first: bool,
    },
}

#[derive(Debug)]
pub(super) struct Inode {
    /// The name it has, or had last.
    pub(super) name: Arc<str>,
    /// Open handles.
    pub(super) handles: usize,
    /// Length as reads see it.
    pub(super) len: usize,
    /// Bytes of the medium it takes up.
    pub(super) reserved: u64,
    /// A write-back failed in the background; the next sync reports it, once.
    pub(super) latched: bool,
    /// Syncs that succeeded.
    pub(super) syncs: u64,
    /// Sectors that were stored through a map where there was no space.
    pub(super) stray: u64,
    /// What reads and maps see; `None` is the same as `clean`.
    cache: Option<Arc<Heap>>,
    clean: Contents,
    media: Contents,
    media_len: usize,
    /// What each sector of the medium held before it was last written.
    older: Contents,
}

impl Inode {
    /// A file that is not on the medium at all.
    pub(super) fn new(name: Arc<str>, len: usize, reserved: u64) -> Self {
        Self {
            name,
            handles: 0,
            len,
            reserved,
            latched: false,
            syncs: 0,
            stray: 0,
            cache: None,
            clean: Contents::default(),
            media: Contents::default(),
            media_len: 0,
            older: Contents::default(),
        }
    }

    /// A file that is durable as it is.
    pub(super) fn durable(name: Arc<str>, bytes: &[u8]) -> Self {
        let media = Contents::from_bytes(bytes);
        Self {
            clean: media.clone(),
            media,
            media_len: bytes.len(),
            ..Self::new(name, bytes.len(), bytes.len() as u64)
        }
    }

    pub(super) fn read(&self, offset: usize, buffer: &mut [u8]) -> io::Result<()> {
        if offset.checked_add(buffer.len()).is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(heap) = &self.cache {
            return heap.read(offset, buffer);
        }
        self.clean.read(offset, buffer);
        Ok(())
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let end = offset.checked_add(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        let mut heap = self.heap()?;
        if end > heap.len() {
            heap = grown(&heap, self.len, end)?;
            self.cache = Some(Arc::clone(&heap));
        }
        heap.write(offset, bytes)?;
        self.len = self.len.max(end);
        Ok(())
    }

    pub(super) fn map(&mut self, len: usize, write: bool) -> io::Result<Region> {
        if len > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.heap()?.region(len, write)
    }

    /// The cache as memory, filled from the medium's side if it is not there yet.
    fn heap(&mut self) -> io::Result<Arc<Heap>> {
        if let Some(heap) = &self.cache {
            return Ok(Arc::clone(heap));
        }
        let heap = Heap::new(self.len)?;
        for (offset, bytes) in self.clean.written() {
            let len = bytes.len().min(self.len.saturating_sub(offset));
            heap.write(offset.min(self.len), bytes.get(..len).unwrap_or_default())?;
        }
        heap.touched(true);
        self.cache = Some(Arc::clone(&heap));
        Ok(heap)
    }

    /// Shows `act` every dirty sector that overlaps `range`, as the cache and as `clean` has it.
    fn for_dirty(&self, range: &Range<usize>, reset: bool, mut act: impl FnMut(usize, &[u8])) {
        let Some(heap) = &self.cache else {
            return;
        };
        // Taken before the bytes are looked at: a store after that is noticed the next time.
        let Some(touched) = heap.touched(reset) else {
            return;
        };
        let first = touched.start.max(range.start) / SECTOR_BYTES;
        let end = touched.end.min(range.end).div_ceil(SECTOR_BYTES);
        heap.with_bytes(|all| {
            for sector in first..end {
                let new = sector_of(all, sector);
                if self.clean.sector(sector).get(..new.len()) != Some(new) {
                    act(sector, new);
                }
            }
        });
    }

    pub(super) fn dirty_sectors(&self) -> Vec<usize> {
        let mut sectors = Vec::new();
        self.for_dirty(&(0..usize::MAX), false, |sector, _| sectors.push(sector));
        sectors
    }

    /// Whether the medium has another length.
    pub(super) fn length_is_dirty(&self) -> bool {
        self.len != self.media_len
    }

    /// Tries to put the dirty sectors of a range on the medium; `reaches` says which ones get there.
    /// Afterwards all of them are clean.
    pub(super) fn write_back(&mut self, range: &Range<usize>, mut reaches: impl FnMut() -> bool) {
        let mut dirty = Vec::new();
        let whole = range.start == 0 && range.end >= self.len;
        self.for_dirty(range, whole, |sector, new| {
            dirty.push((sector, new.to_vec()));
        });
        for (sector, new) in dirty {
            self.stray += u64::from((sector * SECTOR_BYTES) as u64 >= self.reserved);
            if reaches() {
                self.older.write_sector(sector, self.media.sector(sector));
                self.media.write_sector(sector, &new);
            }
            self.clean.write_sector(sector, &new);
        }
    }

    /// Puts some dirty sectors of a range on the medium before the machine stops; the others stay
    /// dirty.
    pub(super) fn write_back_some(
        &mut self,
        range: &Range<usize>,
        mut reaches: impl FnMut() -> bool,
    ) {
        let mut dirty = Vec::new();
        self.for_dirty(range, false, |sector, new| {
            dirty.push((sector, new.to_vec()));
        });
        for (sector, new) in dirty.into_iter().filter(|_| reaches()) {
            self.older.write_sector(sector, self.media.sector(sector));
            self.media.write_sector(sector, &new);
            self.clean.write_sector(sector, &new);
        }
    }

    /// Makes the length durable.
    pub(super) fn settle_length(&mut self) {
        self.media_len = self.len;
    }

    /// Drops what the cache holds of the pages of `range`, so that reads see the medium; where a
    /// map keeps the pages in place, puts them on the medium instead.
    pub(super) fn distrust(&mut self, range: Range<usize>) -> io::Result<()> {
        let sectors = 4096 / SECTOR_BYTES;
        let (first, end) = (range.start / 4096 * sectors, range.end.div_ceil(4096) * sectors);
        let mut lies = self.clean.differing(&self.media, first);
        lies.retain(|&sector| sector < end);
        let mapped = self.cache.as_ref().is_some_and(|heap| heap.is_mapped());
        for sector in lies {
            if mapped {
                self.media.write_sector(sector, self.clean.sector(sector));
                continue;
            }
            self.clean.write_sector(sector, self.media.sector(sector));
            if let Some(heap) = &self.cache {
                let at = sector * SECTOR_BYTES;
                let len = heap.len().saturating_sub(at).min(SECTOR_BYTES);
                heap.write(at, self.clean.sector(sector).get(..len).unwrap_or_default())?;
            }
        }
        Ok(())
    }

    /// The file as the next process finds it, in memory of its own.
    pub(super) fn after_kill(&self) -> io::Result<Self> {
        let cache = match &self.cache {
            Some(heap) if heap.touched(false).is_some() => Some(heap.duplicate()?),
            _ => None,
        };
        Ok(Self { cache, latched: self.latched, len: self.len, ..self.on_media(self.media_len) })
    }

    /// The file as a machine finds it after a power cut. `fate` is asked about the length, if that
    /// is dirty, and about every dirty sector in ascending order.
    pub(super) fn after_power_cut(&self, fate: &mut dyn FnMut() -> Fate) -> Self {
        let len = if self.length_is_dirty() {
            let (low, high) = (self.len.min(self.media_len), self.len.max(self.media_len));
            match fate() {
                Fate::Old => self.media_len,
                Fate::New => self.len,
                Fate::Torn { cut, .. } => low + (high - low) * cut / SECTOR_BYTES,
            }
        } else {
            self.len
        };
        let mut after = self.on_media(len);
        self.for_dirty(&(0..usize::MAX), false, |sector, new| {
            after.media.write_sector(sector, &survivor(self.media.sector(sector), new, fate()));
        });
        after.media.cut(len);
        after.clean = after.media.clone();
        after
    }

    fn on_media(&self, len: usize) -> Self {
        Self {
            name: Arc::clone(&self.name),
            handles: 0,
            len,
            reserved: self.reserved,
            latched: false,
            syncs: 0,
            stray: 0,
            cache: None,
            clean: self.clean.clone(),
            media: self.media.clone(),
            media_len: len,
            older: self.older.clone(),
        }
    }

    pub(super) fn freeze(&self) {
        if let Some(heap) = &self.cache {
            heap.freeze();
        }
    }

    /// Ends the file early, on the medium and for reads alike.
    fn cut(&mut self, len: usize) -> io::Result<()> {
        if len > self.media_len {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "past the end of the file"));
        }
        self.media.cut(len);
        self.clean.cut(len);
        (self.media_len, self.len, self.cache) = (len, len, None);
        Ok(())
    }

    /// Everything, as reads see it.
    pub(super) fn cached_bytes(&self) -> Vec<u8> {
        match &self.cache {
            Some(heap) => heap.with_bytes(|all| all.get(..self.len).unwrap_or(all).to_vec()),
            None => self.clean.to_vec(self.len),
        }
    }

    /// Everything, as the medium has it.
    pub(super) fn media_bytes(&self) -> Vec<u8> {
        self.media.to_vec(self.media_len)
    }

    /// Lets the medium decay. Where the cache holds the sector and nobody borrows it, reads see the
    /// decay at once, as if the page had been evicted.
    pub(super) fn rot(&mut self, rot: Rot) -> io::Result<()> {
        let (sector, mut bytes) = match rot {
            Rot::FlipBit { offset, .. } => {
                let offset = position(offset)?;
                (offset / SECTOR_BYTES, self.media.sector(offset / SECTOR_BYTES).to_vec())
            }
            Rot::ZeroSector { sector } => (position(sector)?, vec![0; SECTOR_BYTES]),
            Rot::StaleSector { sector } => {
                let sector = position(sector)?;
                (sector, self.older.sector(sector).to_vec())
            }
            Rot::Misdirected { from, to } => {
                (position(to)?, self.media.sector(position(from)?).to_vec())
            }
            Rot::Cut { bytes } => return self.cut(position(bytes)?),
            Rot::Remove => return Ok(()),
        };
        if sector >= self.media_len.div_ceil(SECTOR_BYTES) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "past the end of the file"));
        }
        if let Rot::FlipBit { offset, bit } = rot
            && let Some(byte) = bytes.get_mut(position(offset)? % SECTOR_BYTES)
        {
            *byte ^= 1_u8.rotate_left(u32::from(bit));
        }
        bytes.truncate(self.media_len - sector * SECTOR_BYTES);
        let mut dirty = false;
        let at = sector * SECTOR_BYTES;
        self.for_dirty(&(at..at + 1), false, |_, _| dirty = true);
        self.media.write_sector(sector, &bytes);
        let evicted = match &self.cache {
            Some(_) if dirty => false,
            Some(heap) => heap.write(at, &bytes).is_ok(),
            None => true,
        };
        if evicted {
            self.clean.write_sector(sector, &bytes);
        }
        Ok(())
    }
}

/// The part of a sector that the memory has; all of it except at the end of the file.
fn sector_of(all: &[u8], sector: usize) -> &[u8] {
    let from = (sector * SECTOR_BYTES).min(all.len());
    let end = (from + SECTOR_BYTES).min(all.len());
    all.get(from..end).unwrap_or_default()
}

fn survivor(old: &[u8], new: &[u8], fate: Fate) -> Vec<u8> {
    let pairs = old.iter().zip(new);
    match fate {
        Fate::Old => old.get(..new.len()).unwrap_or_default().to_vec(),
        Fate::New => new.to_vec(),
        Fate::Torn { cut, new_first } => pairs
            .enumerate()
            .map(|(at, (old, new))| if (at < cut) == new_first { *new } else { *old })
            .collect(),
    }
}

fn position(value: u64) -> io::Result<usize> {
    usize::try_from(value).map_err(|_| io::ErrorKind::InvalidInput.into())
}
