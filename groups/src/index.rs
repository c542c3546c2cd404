//! Where the entries of one group are in the log underneath: twelve bytes for each.
//!
//! Owns: the places of `first..next`. Does not own: what is there (`envelope`), nor how much of a
//! region is live (`regions`), which its callers tell from what is dropped here.

use std::collections::VecDeque;
use std::ops::Range;

use indelible::format::number::to_usize;

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

    pub(crate) fn is_lost(self) -> bool {
        self.at == u64::MAX
    }
}

/// A place without the padding that eight-byte alignment costs.
#[derive(Debug, Clone, Copy)]
struct Slot {
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

/// The places of the entries of a group, in their order.
#[derive(Debug, Default)]
pub(crate) struct Index {
    first: u64,
    slots: VecDeque<Slot>,
}

impl Index {
    /// No entries, the next of which is `first`.
    pub(crate) fn new(first: u64) -> Self {
        Self { first, slots: VecDeque::new() }
    }

    /// Makes room for so many entries, and for no more.
    pub(crate) fn reserve(&mut self, count: usize) {
        self.slots.reserve_exact(count);
    }

    pub(crate) fn get(&self, index: u64) -> Option<Place> {
        let nth = to_usize(index.checked_sub(self.first)?);
        self.slots.get(nth).map(|slot| (*slot).into())
    }

    /// The places of a range that is within the index.
    pub(crate) fn range(&self, range: &Range<u64>) -> impl Iterator<Item = Place> {
        let nth = |index: u64| to_usize(index.saturating_sub(self.first)).min(self.slots.len());
        self.slots
            .range(nth(range.start)..nth(range.end).max(nth(range.start)))
            .map(|slot| (*slot).into())
    }

    pub(crate) fn push(&mut self, place: Place) {
        if self.slots.len() == self.slots.capacity() {
            // Growing by half as much again would leave a third of the memory unused.
            self.slots.reserve_exact(self.slots.len() / 8 + 4);
        }
        self.slots.push_back(place.into());
    }

    /// Puts an entry that is in the index somewhere else. Returns where it was.
    pub(crate) fn replace(&mut self, index: u64, place: Place) -> Option<Place> {
        let nth = to_usize(index.checked_sub(self.first)?);
        self.slots.get_mut(nth).map(|slot| std::mem::replace(slot, place.into()).into())
    }

    /// Drops the entries from `to` on, and tells of each.
    pub(crate) fn truncate(&mut self, to: u64, dropped: impl FnMut(Place)) {
        let kept = to_usize(to.saturating_sub(self.first)).min(self.slots.len());
        self.slots.drain(kept..).map(Place::from).for_each(dropped);
        self.shrink();
    }

    /// Drops the entries before `to`, and tells of each.
    pub(crate) fn trim(&mut self, to: u64, dropped: impl FnMut(Place)) {
        let gone = to_usize(to.saturating_sub(self.first)).min(self.slots.len());
        self.slots.drain(..gone).map(Place::from).for_each(dropped);
        self.first = self.first.max(to);
        self.shrink();
    }

    /// Drops every entry, and tells of each; the next is `base`.
    pub(crate) fn reset(&mut self, base: u64, dropped: impl FnMut(Place)) {
        self.slots.drain(..).map(Place::from).for_each(dropped);
        self.first = base;
        self.shrink();
    }

    /// How many of the newest entries are at or past `at` without one before it in between.
    pub(crate) fn newest_from(&self, at: u64) -> usize {
        self.slots.iter().rev().take_while(|slot| Place::from(**slot).at >= at).count()
    }

    /// Bytes that the index takes in memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }

    fn shrink(&mut self) {
        if self.slots.len() < self.slots.capacity() / 2 {
            self.slots.shrink_to(self.slots.len() + 4);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(at: u64) -> Place {
        Place { at, bytes: 64 }
    }

    fn index(first: u64, places: Range<u64>) -> Index {
        let mut index = Index::new(first);
        places.for_each(|at| index.push(place(at)));
        index
    }

    #[test]
    fn places_are_found_by_index_whatever_was_dropped() {
        let mut index = index(10, 100..110);
        let mut dropped = Vec::new();
        index.trim(12, |place| dropped.push(place.at));
        index.truncate(18, |place| dropped.push(place.at));
        assert_eq!(dropped, [100, 101, 108, 109]);
        assert_eq!(index.get(11), None);
        assert_eq!(index.get(12), Some(place(102)));
        assert_eq!(index.get(18), None);
        assert_eq!(index.replace(13, place(1 << 40)), Some(place(103)));
        let range: Vec<u64> = index.range(&(13..15)).map(|place| place.at).collect();
        assert_eq!(range, [1 << 40, 104]);
        index.reset(50, |_| ());
        index.push(place(7));
        assert_eq!(index.get(50), Some(place(7)));
    }

    #[test]
    fn entry_takes_no_more_than_twelve_bytes_and_an_eighth() {
        let index = index(0, 0..10_000);
        assert!(index.memory_bytes() <= 10_000 * 12 * 9 / 8 + 48, "{}", index.memory_bytes());
    }

    #[test]
    fn newest_are_counted_from_the_end() {
        let mut index = index(0, 0..10);
        assert_eq!(index.newest_from(7), 3);
        index.replace(2, place(11));
        assert_eq!(index.newest_from(7), 3);
        assert_eq!(index.newest_from(10), 0);
    }
}
