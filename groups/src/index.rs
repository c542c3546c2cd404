//! Where the entries of one group are in the log underneath: twelve bytes of memory for each of the
//! newest, and a page in that log for older ones.
//!
//! Owns: the places of `first..next`, as stretches that follow one after the other. Does not own:
//! what is there (`envelope`), the bytes of a page (`page`), nor how much of a region is live
//! (`regions`), which its callers tell from what is dropped here.

use std::collections::VecDeque;
use std::ops::Range;

use crate::number::{to_u32, to_u64, to_usize, u32_to_usize};
use crate::page::{Page, Pages};
use crate::planted::{Bug, planted};

/// What a frame of the log underneath has beside the record, and what its size is a multiple of
/// (docs/FORMAT.md, Frame).
const FRAME_HEADER_BYTES: usize = 32;
const FRAME_ALIGN: usize = 8;

/// Where a record is in the log underneath, and what it costs there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Index of the entry of the log underneath.
    pub(crate) at: u64,
    /// Bytes of its frame.
    pub(crate) bytes: u32,
}

impl Place {
    /// The place of an entry that was lost with a damaged range of the log.
    pub(crate) const LOST: Self = Self { at: u64::MAX, bytes: 0 };

    /// The place of a record that is an entry of the log underneath.
    pub(crate) fn of(at: u64, record: &[u8]) -> Self {
        let frame = FRAME_HEADER_BYTES.saturating_add(record.len());
        Self {
            at,
            bytes: to_u32(frame.checked_next_multiple_of(FRAME_ALIGN).unwrap_or(usize::MAX)),
        }
    }

    pub(crate) fn is_lost(self) -> bool {
        self.at == u64::MAX
    }
}

/// A place without the padding that eight-byte alignment costs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    at: [u8; 8],
    bytes: u32,
}

const _: () = assert!(size_of::<Slot>() == 12);

impl From<Place> for Slot {
    fn from(place: Place) -> Self {
        Self { at: place.at.to_le_bytes(), bytes: place.bytes }
    }
}

impl From<Slot> for Place {
    fn from(slot: Slot) -> Self {
        Self { at: u64::from_le_bytes(slot.at), bytes: slot.bytes }
    }
}

/// Entries that follow one after the other. There is one at least.
#[derive(Debug)]
pub(crate) enum Stretch {
    /// The index of the first, and the place of each.
    Slots(u64, VecDeque<Slot>),
    /// Their places are in a page.
    Page(Page),
}

const _: () = assert!(size_of::<Stretch>() <= 48);

/// What the index says of a range: places, or the page that has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Places(Vec<Place>),
    Page(Page),
}

/// Takes the place of entries that are dropped: an entry of the log underneath in their region, and
/// the bytes of their frames.
pub(crate) trait Dropped: FnMut(u64, u64) {}
impl<F: FnMut(u64, u64)> Dropped for F {}

/// The places of the entries of a group, in their order.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// The next entry, while there are none.
    base: u64,
    /// No two follow one another of which both are in memory: a page may span all that are, and what
    /// it may span must not depend on how they got there.
    stretches: VecDeque<Stretch>,
    /// What can be in pages of the entries before this one is, until one of them is put elsewhere.
    pub(crate) tried: u64,
}

impl Index {
    /// No entries, the next of which is `first`.
    pub(crate) fn new(first: u64) -> Self {
        Self { base: first, stretches: VecDeque::new(), tried: first }
    }

    fn next(&self) -> u64 {
        self.stretches.back().map_or(self.base, |last| last.range().end)
    }

    /// The stretches, oldest first.
    pub(crate) fn stretches(&self) -> impl Iterator<Item = &Stretch> {
        self.stretches.iter()
    }

    /// The stretches from the one with this entry on.
    pub(crate) fn stretches_from(&self, index: u64) -> impl Iterator<Item = &Stretch> {
        let from = self.stretches.partition_point(|stretch| stretch.range().end <= index);
        self.stretches.range(from..)
    }

    /// What is known of a range that is within the index.
    pub(crate) fn pieces(&self, range: &Range<u64>) -> Vec<Piece> {
        let from = self.stretches.partition_point(|stretch| stretch.range().end <= range.start);
        let within = self.stretches.range(from..);
        let within = within.take_while(|stretch| stretch.range().start < range.end);
        within.map(|stretch| stretch.piece(range)).collect()
    }

    /// Makes room for so many places, one at least of which has to follow, and for no more.
    pub(crate) fn reserve(&mut self, count: usize) {
        if let Some(Stretch::Slots(_, slots)) = self.stretches.back_mut() {
            return slots.reserve_exact(count);
        }
        let (nth, next) = (self.stretches.len(), self.next());
        self.insert(nth, Stretch::Slots(next, VecDeque::with_capacity(count)));
    }

    pub(crate) fn push(&mut self, place: Place) {
        if let Some(Stretch::Slots(_, slots)) = self.stretches.back_mut() {
            return push(slots, place);
        }
        let (nth, next) = (self.stretches.len(), self.next());
        self.insert(nth, Stretch::Slots(next, VecDeque::from([place.into()])));
    }

    /// Adds entries whose places are in a page.
    pub(crate) fn push_page(&mut self, page: Page) {
        let nth = self.stretches.len();
        self.insert(nth, Stretch::Page(page));
    }

    /// Puts an entry that is in the index somewhere else, and tells of where it was.
    pub(crate) fn replace(
        &mut self,
        index: u64,
        place: Place,
        pages: Pages<'_>,
        mut dropped: impl Dropped,
    ) {
        self.tried = self.tried.min(index);
        let nth = self.stretches.partition_point(|stretch| stretch.range().end <= index);
        let (before, one, after) = match self.stretches.get_mut(nth) {
            Some(Stretch::Slots(first, slots)) => {
                if let Some(slot) = slots.get_mut(to_usize(index.saturating_sub(*first))) {
                    let old = Place::from(std::mem::replace(slot, place.into()));
                    dropped(old.at, old.bytes.into());
                }
                return;
            }
            Some(Stretch::Page(page)) => {
                let (before, rest) = page.split(index, pages);
                let (one, after) = rest.split(index.saturating_add(1), pages);
                (before, one, after)
            }
            None => return,
        };
        dropped(one.base, one.bytes);
        if planted(Bug::PageKept) {
            return;
        }
        self.stretches.remove(nth);
        if after.count > 0 {
            self.insert(nth, Stretch::Page(after));
        }
        self.insert(nth, Stretch::Slots(index, VecDeque::from([place.into()])));
        if before.count > 0 {
            self.insert(nth, Stretch::Page(before));
        }
        // The places are at `nth` now, or one further.
        (nth.saturating_sub(1)..nth + 2).rev().for_each(|nth| self.join(nth));
    }

    /// Makes one stretch of this one and the next, if the places of both are in memory.
    fn join(&mut self, nth: usize) {
        if nth + 1 >= self.stretches.len() {
            return;
        }
        let mut rest = self.stretches.range_mut(nth..);
        let (Some(Stretch::Slots(_, one)), Some(Stretch::Slots(_, next))) =
            (rest.next(), rest.next())
        else {
            return;
        };
        let mut next = std::mem::take(next);
        if one.len() < next.len() {
            make_room(&mut next, one.len());
            one.drain(..).rev().for_each(|slot| next.push_front(slot));
            *one = next;
        } else {
            make_room(one, next.len());
            one.append(&mut next);
        }
        self.stretches.remove(nth + 1);
    }

    /// Leaves the places of entries to a page that says the same of them. Returns whether they are
    /// these, and in memory.
    pub(crate) fn spill(&mut self, page: Page, places: impl Iterator<Item = Place>) -> bool {
        let nth = self.stretches.partition_point(|stretch| stretch.range().end <= page.first);
        let Some(Stretch::Slots(first, slots)) = self.stretches.get_mut(nth) else { return false };
        let (first, count) = (*first, u32_to_usize(page.count));
        let Some(skip) = page.first.checked_sub(first).map(to_usize) else { return false };
        if slots.len() < skip.saturating_add(count) {
            return false;
        }
        let known = slots.range(skip..skip + count).map(|slot| Place::from(*slot));
        if !known.eq(places) {
            return false;
        }
        let end = page.range().end;
        let mut before = std::mem::take(slots);
        let mut after =
            if skip == 0 { std::mem::take(&mut before) } else { before.split_off(skip) };
        after.drain(..count);
        self.stretches.remove(nth);
        for (first, mut slots) in [(end, after), (first, before)] {
            if !slots.is_empty() {
                shrink(&mut slots);
                self.insert(nth, Stretch::Slots(first, slots));
            }
            if first == end {
                self.insert(nth, Stretch::Page(page));
            }
        }
        true
    }

    /// Drops the entries from `to` on, and tells of each.
    pub(crate) fn truncate(&mut self, to: u64, pages: Pages<'_>, mut dropped: impl Dropped) {
        self.tried = self.tried.min(to);
        while let Some(last) = self.stretches.back_mut()
            && last.range().end > to
        {
            let first = last.range().start;
            match last {
                _ if first >= to => {
                    last.drop_all(&mut dropped);
                    self.stretches.pop_back();
                    self.base = first;
                }
                Stretch::Slots(_, slots) => {
                    let kept = to_usize(to - first);
                    slots
                        .drain(kept..)
                        .map(Place::from)
                        .for_each(|place| tell(place, &mut dropped));
                    shrink(slots);
                }
                Stretch::Page(page) => {
                    let (kept, gone) = page.split(to, pages);
                    dropped(gone.base, gone.bytes);
                    *page = kept;
                }
            }
        }
    }

    /// Drops the entries before `to`, and tells of each.
    pub(crate) fn trim(&mut self, to: u64, pages: Pages<'_>, mut dropped: impl Dropped) {
        while let Some(oldest) = self.stretches.front_mut()
            && oldest.range().start < to
        {
            let end = oldest.range().end;
            match oldest {
                _ if end <= to => {
                    oldest.drop_all(&mut dropped);
                    self.stretches.pop_front();
                    self.base = end;
                }
                Stretch::Slots(first, slots) => {
                    let gone = to_usize(to - *first);
                    slots
                        .drain(..gone)
                        .map(Place::from)
                        .for_each(|place| tell(place, &mut dropped));
                    *first = to;
                    shrink(slots);
                }
                Stretch::Page(page) => {
                    let (gone, kept) = page.split(to, pages);
                    dropped(gone.base, gone.bytes);
                    *page = kept;
                }
            }
        }
        self.base = self.base.max(to);
    }

    /// Drops every entry, and tells of each; the next is `base`.
    pub(crate) fn reset(&mut self, base: u64, mut dropped: impl Dropped) {
        self.stretches.iter().for_each(|stretch| stretch.drop_all(&mut dropped));
        *self = Self::new(base);
    }

    /// How many of the newest entries are at or past `at` without one before it in between. What a
    /// page has is on media.
    pub(crate) fn newest_from(&self, at: u64) -> u64 {
        let mut count = 0;
        for stretch in self.stretches.iter().rev() {
            let Stretch::Slots(_, slots) = stretch else { break };
            let newest = slots.iter().rev().take_while(|slot| Place::from(**slot).at >= at).count();
            count += newest;
            if newest < slots.len() {
                break;
            }
        }
        to_u64(count)
    }

    /// Bytes of the frames of all entries.
    pub(crate) fn live_bytes(&self) -> u64 {
        let mut sum = 0_u64;
        let mut add = |_, bytes| sum = sum.saturating_add(bytes);
        self.stretches.iter().for_each(|stretch| stretch.drop_all(&mut add));
        sum
    }

    /// Bytes that the index takes in memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        let slots = self.stretches.iter().map(|stretch| match stretch {
            Stretch::Slots(_, slots) => slots.capacity() * size_of::<Slot>(),
            Stretch::Page(_) => 0,
        });
        slots.sum::<usize>() + self.stretches.capacity() * size_of::<Stretch>()
    }

    fn insert(&mut self, nth: usize, stretch: Stretch) {
        if self.stretches.len() == self.stretches.capacity() {
            self.stretches.reserve_exact(self.stretches.len() / 8 + 1);
        }
        self.stretches.insert(nth, stretch);
    }
}

impl Stretch {
    /// The indexes of its entries.
    pub(crate) fn range(&self) -> Range<u64> {
        match self {
            Self::Slots(first, slots) => *first..first.saturating_add(to_u64(slots.len())),
            Self::Page(page) => page.range(),
        }
    }

    fn piece(&self, range: &Range<u64>) -> Piece {
        let own = self.range();
        let (start, end) = (range.start.max(own.start), range.end.min(own.end));
        match self {
            Self::Slots(first, slots) => {
                let nth = |index: u64| to_usize(index.saturating_sub(*first));
                let places = slots.range(nth(start)..nth(end.max(start)));
                Piece::Places(places.map(|slot| (*slot).into()).collect())
            }
            Self::Page(page) => Piece::Page(page.part(start..end)),
        }
    }

    fn drop_all(&self, dropped: &mut impl Dropped) {
        match self {
            Self::Slots(_, slots) => slots.iter().for_each(|slot| tell((*slot).into(), dropped)),
            Self::Page(page) => dropped(page.base, page.bytes),
        }
    }
}

fn tell(place: Place, dropped: &mut impl Dropped) {
    dropped(place.at, place.bytes.into());
}

fn push(slots: &mut VecDeque<Slot>, place: Place) {
    make_room(slots, 1);
    slots.push_back(place.into());
}

fn make_room(slots: &mut VecDeque<Slot>, more: usize) {
    if slots.capacity() - slots.len() < more {
        // Growing by half as much again would leave a third of the memory unused.
        slots.reserve_exact(more.max(slots.len() / 8 + 4));
    }
}

fn shrink(slots: &mut VecDeque<Slot>) {
    if slots.len() < slots.capacity() / 2 {
        slots.shrink_to(slots.len() + 4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Event, Record};
    use crate::page::decode;
    use indelible::{Log, Options};

    fn place(at: u64) -> Place {
        Place { at, bytes: 64 }
    }

    fn index(first: u64, places: Range<u64>) -> Index {
        let mut index = Index::new(first);
        places.for_each(|at| index.push(place(at)));
        index
    }

    /// A log of which entry 0 is the page of entries 10 to 20, the nth of which is at `100 + nth`
    /// and has `1 + nth` bytes.
    fn paged() -> (Log, Index) {
        let log = Log::in_memory(&Options::new().segment_bytes(64 * 1024)).unwrap();
        let places: Vec<u8> = (0..10_u32)
            .flat_map(|nth| [nth.to_le_bytes(), (1 + nth).to_le_bytes()])
            .flatten()
            .collect();
        let mut bytes = Vec::new();
        let event = Event::Page { first: 10, base: 100, places: &places };
        Record { group: 7, event }.encode(&mut bytes);
        log.append(&bytes).unwrap();
        let mut index = Index::new(5);
        (0..20_u32).for_each(|nth| {
            index.push(Place { at: u64::from(95 + nth), bytes: 1 + (nth + 5) % 10 });
        });
        let page = Page::new(10, 100, 0, &places);
        assert!(index.spill(page, decode(100, &places)));
        (log, index)
    }

    /// Where every entry is.
    fn all(index: &Index, pages: Pages<'_>) -> Vec<u64> {
        let pieces = index.pieces(&(0..u64::MAX)).into_iter();
        let places = pieces.flat_map(|piece| match piece {
            Piece::Places(places) => places,
            Piece::Page(page) => page.places(pages).unwrap(),
        });
        places.map(|place| place.at).collect()
    }

    #[test]
    fn places_are_found_by_index_whatever_was_dropped() {
        let log = Log::in_memory(&Options::new().segment_bytes(64 * 1024)).unwrap();
        let pages = Pages { log: &log, group: 7 };
        let mut index = index(10, 100..110);
        let mut dropped = Vec::new();
        index.trim(12, pages, |at, _| dropped.push(at));
        index.truncate(18, pages, |at, _| dropped.push(at));
        assert_eq!(dropped, [100, 101, 108, 109]);
        assert_eq!(index.pieces(&(11..12)), []);
        assert_eq!(index.pieces(&(12..13)), [Piece::Places(vec![place(102)])]);
        assert_eq!(index.pieces(&(18..19)), []);
        index.replace(13, place(1 << 40), pages, |at, _| dropped.push(at));
        assert_eq!(dropped.last(), Some(&103));
        assert_eq!(index.pieces(&(13..15)), [Piece::Places(vec![place(1 << 40), place(104)])]);
        index.reset(50, |_, _| ());
        index.push(place(7));
        assert_eq!(index.pieces(&(50..51)), [Piece::Places(vec![place(7)])]);
    }

    #[test]
    fn entry_takes_no_more_than_twelve_bytes_and_an_eighth() {
        let index = index(0, 0..10_000);
        let most = 10_000 * 12 * 9 / 8 + 48 + size_of::<Stretch>();
        assert!(index.memory_bytes() <= most, "{}", index.memory_bytes());
    }

    #[test]
    fn newest_are_counted_from_the_end() {
        let log = Log::in_memory(&Options::new().segment_bytes(64 * 1024)).unwrap();
        let mut index = index(0, 0..10);
        assert_eq!(index.newest_from(7), 3);
        index.replace(2, place(11), Pages { log: &log, group: 7 }, |_, _| ());
        assert_eq!(index.newest_from(7), 3);
        assert_eq!(index.newest_from(10), 0);
    }

    #[test]
    fn page_takes_the_place_of_places() {
        let (log, index) = paged();
        let pages = Pages { log: &log, group: 7 };
        assert_eq!(all(&index, pages), (95..115).collect::<Vec<u64>>());
        assert_eq!(index.live_bytes(), 2 * 55);
        let most = 4 * size_of::<Stretch>() + 2 * 12 * 10;
        assert!(index.memory_bytes() <= most, "{}", index.memory_bytes());
        let other = Pages { log: &log, group: 8 };
        let Some(Piece::Page(page)) = index.pieces(&(12..13)).pop() else { panic!("no page") };
        assert!(matches!(page.places(other), Err(indelible::Error::Damaged { .. })));
    }

    #[test]
    fn page_that_says_something_else_is_not_taken() {
        let (_, mut index) = paged();
        let places = [1_u32, 7, 2, 8].map(u32::to_le_bytes).concat();
        for (first, base) in [(5, 95), (4, 94), (24, 113), (9, 98)] {
            let page = Page::new(first, base, 0, &places);
            assert!(!index.spill(page, decode(base, &places)), "{first}");
        }
        let page = Page::new(6, 95, 0, &places);
        assert!(index.spill(page, decode(95, &places)), "a page within");
    }

    #[test]
    fn entries_of_a_page_are_dropped_one_by_one_as_in_memory() {
        let (log, mut index) = paged();
        let pages = Pages { log: &log, group: 7 };
        let mut dropped = Vec::new();
        let mut tell = |at, bytes| dropped.push((at, bytes));
        index.trim(12, pages, &mut tell);
        index.truncate(19, pages, &mut tell);
        index.replace(15, place(500), pages, &mut tell);
        index.replace(12, place(501), pages, &mut tell);
        index.replace(13, place(502), pages, &mut tell);
        let of_the_page: u64 =
            dropped.iter().filter(|(at, _)| *at == 100).map(|(_, bytes)| bytes).sum();
        // Entries 10, 11, 12, 13, 15 and 19; 100 is also where entry 10 was.
        assert_eq!(of_the_page, 1 + 2 + 3 + 4 + 6 + 10);
        assert_eq!(all(&index, pages), [501, 502, 104, 500, 106, 107, 108]);
        assert_eq!(index.live_bytes(), 64 * 3 + 5 + 7 + 8 + 9);
    }

    /// As a checkpoint writes them, and as a page may span them.
    #[test]
    fn places_in_memory_are_one_stretch_in_whatever_order_they_left_a_page() {
        let orders: [&[u64]; 4] = [
            &[10, 11, 12, 13, 14, 15, 16, 17, 18, 19],
            &[19, 18, 17, 16, 15, 14, 13, 12, 11, 10],
            &[12, 19, 11, 18, 15, 10, 16, 13, 17, 14],
            &[19, 10],
        ];
        for order in orders {
            let (log, mut index) = paged();
            let pages = Pages { log: &log, group: 7 };
            for entry in order {
                index.replace(*entry, place(500 + entry), pages, |_, _| ());
                let both: Vec<_> = index.stretches().zip(index.stretches().skip(1)).collect();
                let slots = |stretch: &Stretch| matches!(stretch, Stretch::Slots(..));
                assert!(!both.iter().any(|(one, next)| slots(one) && slots(next)), "{both:?}");
            }
            let expected =
                (5..25).map(|entry| if order.contains(&entry) { 500 + entry } else { 90 + entry });
            assert!(expected.eq(all(&index, pages)), "{order:?}");
        }
    }

    #[test]
    fn bytes_of_a_page_that_cannot_be_read_add_up() {
        let (log, mut index) = paged();
        let lost = Pages { log: &log, group: 8 };
        let mut sum = 0;
        index.trim(10, lost, |_, _| ());
        index.truncate(20, lost, |_, _| ());
        index.trim(17, lost, |_, bytes| sum += bytes);
        index.replace(18, place(500), lost, |_, bytes| sum += bytes);
        assert_eq!((sum, index.live_bytes()), (35 + 7, 55 - 35 - 7 + 64));
        index.truncate(17, lost, |_, bytes| sum += bytes);
        assert_eq!((sum, index.live_bytes()), (55 + 64, 0));
    }
}
