//! How much of each stretch of the log underneath is still needed.
//!
//! Owns: the regions, oldest first, and their sums. Does not own: what is in them, nor when one is
//! given back (`maintenance`).

use std::collections::VecDeque;

use crate::index::Place;

/// A stretch of the log underneath, from `start` to the start of the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) start: u64,
    /// Bytes of all frames.
    pub(crate) bytes: u64,
    /// Bytes of those that hold an entry, or a part of a side file, that some group still has.
    pub(crate) live: u64,
}

#[derive(Debug)]
pub(crate) struct Regions {
    list: VecDeque<Region>,
    /// Bytes of all regions, and of what is live in them.
    sums: (u64, u64),
    /// A region that has so many bytes is followed by another one.
    region_bytes: u64,
}

impl Regions {
    pub(crate) fn new(start: u64, region_bytes: u64) -> Self {
        let list = VecDeque::from([Region { start, bytes: 0, live: 0 }]);
        Self { list, sums: (0, 0), region_bytes }
    }

    /// Regions that were written down; nothing if they do not ascend.
    pub(crate) fn from_list(list: VecDeque<Region>, region_bytes: u64) -> Option<Self> {
        let ascending = list.iter().zip(list.iter().skip(1)).all(|(a, b)| a.start < b.start);
        let sums = list.iter().fold((0_u64, 0_u64), |(bytes, live), region| {
            (bytes.saturating_add(region.bytes), live.saturating_add(region.live))
        });
        (ascending && !list.is_empty()).then_some(Self { list, sums, region_bytes })
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &Region> {
        self.list.iter()
    }

    /// The oldest region, and where the next one starts; nothing if there is but one.
    pub(crate) fn oldest(&self) -> Option<(Region, u64)> {
        Some((*self.list.front()?, self.list.get(1)?.start))
    }

    /// A record was written.
    pub(crate) fn wrote(&mut self, place: Place) {
        if self.list.back().is_some_and(|last| last.bytes >= self.region_bytes) {
            self.list.push_back(Region { start: place.at, bytes: 0, live: 0 });
        }
        if let Some(last) = self.list.back_mut() {
            last.bytes = last.bytes.saturating_add(place.bytes.into());
            self.sums.0 = self.sums.0.saturating_add(place.bytes.into());
        }
    }

    /// What is there is needed from now on.
    pub(crate) fn live(&mut self, place: Place) {
        if let Some(region) = self.of(place.at) {
            region.live = region.live.saturating_add(place.bytes.into());
            self.sums.1 = self.sums.1.saturating_add(place.bytes.into());
        }
    }

    /// What is there is not needed any more.
    pub(crate) fn dead(&mut self, place: Place) {
        self.gone(place.at, place.bytes.into());
    }

    /// So many bytes are not needed any more in the region that `at` is in.
    pub(crate) fn gone(&mut self, at: u64, bytes: u64) {
        if let Some(region) = self.of(at) {
            let gone = bytes.min(region.live);
            region.live -= gone;
            self.sums.1 = self.sums.1.saturating_sub(gone);
        }
    }

    /// Where the region starts that `at` is in.
    pub(crate) fn start_of(&self, at: u64) -> Option<u64> {
        let after = self.list.partition_point(|region| region.start <= at);
        self.list.get(after.checked_sub(1)?).map(|region| region.start)
    }

    /// Where the newest of the regions starts that start at `at` at most, and zero if none does.
    pub(crate) fn newest_start(&self, at: u64) -> u64 {
        self.start_of(at).unwrap_or(0)
    }

    /// The log underneath was trimmed to `first`.
    pub(crate) fn trimmed(&mut self, first: u64) {
        while self.list.get(1).is_some_and(|second| second.start <= first)
            && let Some(Region { bytes, live, .. }) = self.list.pop_front()
        {
            self.sums = (self.sums.0.saturating_sub(bytes), self.sums.1.saturating_sub(live));
        }
    }

    /// Bytes of all regions, and of what is live in them.
    pub(crate) const fn sums(&self) -> (u64, u64) {
        self.sums
    }

    fn of(&mut self, at: u64) -> Option<&mut Region> {
        let after = self.list.partition_point(|region| region.start <= at);
        self.list.get_mut(after.checked_sub(1)?).filter(|_| at != Place::LOST.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_where_they_are() {
        let mut regions = Regions::new(0, 100);
        for at in 0..5 {
            regions.wrote(Place { at, bytes: 60 });
            regions.live(Place { at, bytes: 60 });
        }
        let starts: Vec<u64> = regions.iter().map(|region| region.start).collect();
        assert_eq!(starts, [0, 2, 4]);
        regions.dead(Place { at: 1, bytes: 60 });
        regions.dead(Place::LOST);
        assert_eq!(regions.oldest(), Some((Region { start: 0, bytes: 120, live: 60 }, 2)));
        assert_eq!(regions.sums(), (300, 240));
        regions.trimmed(3);
        assert_eq!(regions.oldest().map(|(region, _)| region.start), Some(2));
        assert_eq!(regions.sums(), (180, 180));
        regions.dead(Place { at: 2, bytes: 200 });
        assert_eq!(regions.sums(), (180, 60), "no more goes than is there");
        let again = Regions::from_list(regions.iter().copied().collect(), 100).unwrap();
        assert_eq!(again.sums(), regions.sums());
    }
}
