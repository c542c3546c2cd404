//! Pages: the places of older entries, as records of the log underneath instead of in memory.
//!
//! Owns: the bytes of a page, reading one, and when entries get one. Does not own: which entries of a
//! group have which page (`index`).
//!
//! A page has places of one group in one region, and comes into the log after that region is
//! complete and durable. The log is trimmed oldest first, and a region goes when nothing in it is
//! live: so a page is there as long as one of its entries is, and nobody has to carry it forward.

use std::ops::Range;
use std::sync::Arc;

use indelible::{Damage, Error, Log, Result};

use crate::commit::{For, Inner};
use crate::envelope::{ENVELOPE_BYTES_MAX, Event, Record};
use crate::index::{Place, Stretch};
use crate::maintenance::Maintenance;
use crate::number::{to_u32, to_u64, to_usize, u32_to_usize};
use crate::plan::Planned;
use crate::regions::Regions;
use crate::state::Member;

/// Bytes of a place in a page: its distance from the start of the region, and its size.
pub(crate) const PLACE_BYTES: usize = 8;
/// Most places of a page: what has to be read for one of them.
const PLACES_MAX: usize = 1024;
/// Fewer stay in memory: a page would take as much.
const PLACES_MIN: usize = 8;
/// Bytes of pages after which a step of spilling ends.
const SPILL_BYTES: usize = 256 * 1024;

/// Entries of a group whose places are in a page, or in a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    /// Index of the first entry in the group.
    pub(crate) first: u64,
    /// Entries.
    pub(crate) count: u32,
    /// Places of the page that come before that of the first entry.
    pub(crate) skip: u32,
    /// The entry of the log underneath that is the page.
    pub(crate) at: u64,
    /// Where the region of the entries starts.
    pub(crate) base: u64,
    /// Bytes of their frames.
    pub(crate) bytes: u64,
}

/// Where the pages of a group are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pages<'l> {
    pub(crate) log: &'l Log,
    pub(crate) group: u64,
}

impl Page {
    /// A whole page that is at `at` of the log.
    pub(crate) fn new(first: u64, base: u64, at: u64, places: &[u8]) -> Self {
        let count = to_u32(places.len() / PLACE_BYTES);
        let bytes = decode(base, places).map(|place| u64::from(place.bytes)).sum();
        Self { first, count, skip: 0, at, base, bytes }
    }

    /// The indexes of its entries.
    pub(crate) fn range(&self) -> Range<u64> {
        self.first..self.first.saturating_add(self.count.into())
    }

    /// The same for a range within it, but for the bytes.
    pub(crate) fn part(&self, range: Range<u64>) -> Self {
        let skipped = to_u32(to_usize(range.start.saturating_sub(self.first)));
        let count = to_u32(to_usize(range.end.saturating_sub(range.start)));
        Self { first: range.start, count, skip: self.skip.saturating_add(skipped), ..*self }
    }

    /// The entries before `index`, and those from it on. If the page cannot be read, each entry counts
    /// for as many bytes as the others: their sum is right, and a region with nothing live has none.
    pub(crate) fn split(&self, index: u64, pages: Pages<'_>) -> (Self, Self) {
        let range = self.range();
        let index = index.clamp(range.start, range.end);
        let (mut head, mut tail) = (self.part(range.start..index), self.part(index..range.end));
        head.bytes = if head.count == 0 {
            0
        } else if tail.count == 0 {
            self.bytes
        } else {
            let exact = head.places(pages);
            let exact = exact.map(|places| places.iter().map(|place| u64::from(place.bytes)).sum());
            let bytes = exact.unwrap_or(self.bytes / u64::from(self.count) * u64::from(head.count));
            // A split without the page may have left few bytes here: what lives counts all the same.
            let most = self.bytes.saturating_sub(tail.count.into());
            bytes.clamp(u64::from(head.count).min(most), most)
        };
        tail.bytes = self.bytes - head.bytes;
        (head, tail)
    }

    /// Reads the places of its entries.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if what is at its place is not this page; those of [`Log::entry`].
    pub(crate) fn places(&self, pages: Pages<'_>) -> Result<Vec<Place>> {
        let found = pages.log.entry(self.at)?;
        let record = Record::decode(&found);
        let first = self.first.checked_sub(self.skip.into());
        let places = match record {
            Some(Record { group, event: Event::Page { first: found, base, places } })
                if group == pages.group && Some(found) == first && base == self.base =>
            {
                let start = u32_to_usize(self.skip).saturating_mul(PLACE_BYTES);
                let bytes = u32_to_usize(self.count).saturating_mul(PLACE_BYTES);
                places.get(start..start.saturating_add(bytes))
            }
            _ => None,
        };
        let places = places.ok_or_else(|| Error::Damaged {
            path: pages.log.path().to_owned(),
            offset: 0,
            indexes: Some(self.range()),
            reason: Damage::Misplaced { expected: self.at },
        })?;
        Ok(decode(self.base, places).collect())
    }
}

/// The places that these bytes are.
pub(crate) fn decode(base: u64, places: &[u8]) -> impl Iterator<Item = Place> {
    let (places, _) = places.as_chunks::<PLACE_BYTES>();
    places.iter().map(move |[a, b, c, d, e, f, g, h]| Place {
        at: base.saturating_add(u32::from_le_bytes([*a, *b, *c, *d]).into()),
        bytes: u32::from_le_bytes([*e, *f, *g, *h]),
    })
}

impl Inner {
    /// Moves what groups have in regions that are complete and durable out of memory, into pages. A
    /// crash on the way leaves those that were written; the rest stays in memory.
    pub(crate) fn spill(&self, maintenance: &mut Maintenance) -> Result<()> {
        let durable = self.log.durable();
        let end = self.writer()?.ledger.regions.newest_start(durable);
        if maintenance.spilled >= end {
            return Ok(());
        }
        let mut members: Vec<Arc<Member>> = self.table.read().values().cloned().collect();
        members.sort_unstable_by_key(|member| member.id);
        let mut members = members.into_iter().peekable();
        while members.peek().is_some() {
            let mut writer = self.writer()?;
            writer.usable()?;
            writer.planned.clear();
            let mut tried = Vec::new();
            while writer.planned.bytes.len() < SPILL_BYTES
                && let Some(member) = members.next()
            {
                let writer = &mut *writer;
                let to = self.plan_pages(&mut writer.planned, &writer.ledger.regions, &member, end);
                tried.push((member, to));
            }
            if !writer.planned.is_empty() {
                // Durable on return. A crash before leaves the places where they were.
                self.write_planned(&mut writer, For::Index)?;
            }
            // Nothing was put elsewhere meanwhile: the writer is held.
            for (member, to) in tried {
                member.state.write().index.tried = to;
            }
        }
        maintenance.spilled = end;
        Ok(())
    }

    /// Plans pages for the entries of a group that are before `end` in the log and were not tried
    /// before, up to the first that comes after it. Returns where it is to go on.
    fn plan_pages(
        &self,
        planned: &mut Planned,
        regions: &Regions,
        member: &Member,
        end: u64,
    ) -> u64 {
        let room = to_usize(self.log.entry_bytes_max()).saturating_sub(ENVELOPE_BYTES_MAX + 10);
        let places_max = (room / PLACE_BYTES).min(PLACES_MAX);
        let state = member.state.read();
        let region = |place: &Place| {
            let base = regions.start_of(place.at);
            base.filter(|base| u32::try_from(place.at - base).is_ok())
        };
        let mut tried = state.index.tried;
        for stretch in state.index.stretches_from(tried) {
            tried = tried.max(stretch.range().start);
            let Stretch::Slots(first, slots) = stretch else { continue };
            let mut index = tried;
            let slots = slots.range(to_usize(index - first)..);
            let all = slots.len();
            let places = slots.map(|slot| Place::from(*slot));
            let places: Vec<Place> =
                places.take_while(|place| place.at < end || place.is_lost()).collect();
            for run in places.chunk_by(|a, b| region(a) == region(b)) {
                if let Some(base) = run.first().and_then(region) {
                    for (nth, run) in run.chunks(places_max.max(1)).enumerate() {
                        let first = index + to_u64(nth * places_max);
                        plan_page(planned, member.id, first, base, run);
                    }
                }
                index += to_u64(run.len());
            }
            tried = index;
            if places.len() < all {
                break;
            }
        }
        tried
    }
}

fn plan_page(planned: &mut Planned, group: u64, first: u64, base: u64, run: &[Place]) {
    if run.len() < PLACES_MIN {
        return;
    }
    let mut places = Vec::with_capacity(run.len() * PLACE_BYTES);
    for place in run {
        places.extend_from_slice(&to_u32(to_usize(place.at - base)).to_le_bytes());
        places.extend_from_slice(&place.bytes.to_le_bytes());
    }
    planned.push(&Record { group, event: Event::Page { first, base, places: &places } });
}

#[cfg(test)]
mod tests {
    use indelible::Options;

    use super::*;

    /// A page that was split while it could not be read has its bytes where they may not be.
    #[test]
    fn what_lives_in_a_page_always_has_bytes() {
        let log = Log::in_memory(&Options::new().segment_bytes(64 * 1024)).unwrap();
        let places: Vec<u8> = (0..16_u32)
            .flat_map(|nth| [nth.to_le_bytes(), if nth < 8 { 10_u32 } else { 1000 }.to_le_bytes()])
            .flatten()
            .collect();
        let mut bytes = Vec::new();
        Record { group: 7, event: Event::Page { first: 0, base: 0, places: &places } }
            .encode(&mut bytes);
        log.append(&bytes).unwrap();
        let page = Page::new(0, 0, 0, &places);
        assert_eq!(page.bytes, 8080);
        // It is no page of this group.
        let (_, tail) = page.split(8, Pages { log: &log, group: 8 });
        assert_eq!(tail.bytes, 4040);
        let pages = Pages { log: &log, group: 7 };
        let (head, tail) = tail.split(13, pages);
        assert_eq!((head.count, tail.count), (5, 3));
        assert_eq!((head.bytes, tail.bytes), (4037, 3));
        assert_eq!(page.split(0, pages).0.bytes, 0);
        assert_eq!(page.split(8, pages).0.bytes, 80);
        assert_eq!(page.split(16, pages).0.bytes, 8080);
    }
}
