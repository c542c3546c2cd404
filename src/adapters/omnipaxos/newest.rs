//! The newest entries as the host gave them: reading back what was just written decodes nothing.
//!
//! Owns: a bounded run of consecutive entries that ends with the newest one written. Does not own: the
//! log, which says what entries there are; here may be more of them after its end, after a truncation,
//! until the next write.

use std::collections::VecDeque;
use std::ops::Range;

/// Most entries that are kept, and most bytes that they take together in the log.
const ENTRIES_MAX: usize = 16 * 1024;
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// An entry that is being written: its index, and the bytes that it takes in the log.
#[derive(Debug)]
pub(super) struct Fresh<T> {
    pub(super) index: u64,
    pub(super) bytes: usize,
    pub(super) entry: T,
}

/// The newest entries of one log.
#[derive(Debug)]
pub(super) struct Newest<T> {
    /// Index of the first one.
    first: u64,
    entries: VecDeque<(T, usize)>,
    bytes: usize,
}

impl<T> Default for Newest<T> {
    fn default() -> Self {
        Self { first: 0, entries: VecDeque::new(), bytes: 0 }
    }
}

impl<T> Newest<T> {
    fn next(&self) -> u64 {
        self.first.saturating_add(self.entries.len() as u64)
    }

    /// Takes in entries that were written, in order. One that was written to an index again takes the
    /// place of that entry and of all after it.
    pub(super) fn take_in(&mut self, fresh: impl IntoIterator<Item = Fresh<T>>) {
        for Fresh { index, bytes, entry } in fresh {
            let kept = index.checked_sub(self.first).and_then(|kept| usize::try_from(kept).ok());
            let kept = kept.filter(|&kept| kept <= self.entries.len()).unwrap_or(0);
            while self.entries.len() > kept {
                self.bytes -= self.entries.pop_back().map_or(0, |(_, bytes)| bytes);
            }
            if kept == 0 {
                self.first = index;
            }
            self.entries.push_back((entry, bytes));
            self.bytes += bytes;
            while self.entries.len() > ENTRIES_MAX || self.bytes > BYTES_MAX {
                self.bytes -= self.entries.pop_front().map_or(0, |(_, bytes)| bytes);
                self.first += 1;
            }
        }
    }

    /// Where in a range of entries of the log those begin that are here.
    pub(super) fn split(&self, range: &Range<u64>) -> u64 {
        if range.end <= self.next() { self.first.clamp(range.start, range.end) } else { range.end }
    }

    /// The entries of a range that lies after its [`Self::split`].
    pub(super) fn entries(&self, range: &Range<u64>) -> impl Iterator<Item = &T> {
        let skipped = usize::try_from(range.start.saturating_sub(self.first));
        let count = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(0);
        self.entries.iter().skip(skipped.unwrap_or(usize::MAX)).take(count).map(|(entry, _)| entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh(index: u64, bytes: usize) -> Fresh<u64> {
        Fresh { index, bytes, entry: index }
    }

    fn found(newest: &Newest<u64>, range: Range<u64>) -> (u64, Vec<u64>) {
        let from = newest.split(&range);
        (from, newest.entries(&(from..range.end)).copied().collect())
    }

    #[test]
    fn newest_entries_are_there_up_to_a_bound() {
        let mut newest = Newest::default();
        newest.take_in((0..100).map(|index| fresh(index, BYTES_MAX / 10)));
        assert_eq!(found(&newest, 95..100), (95, (95..100).collect()));
        assert_eq!(found(&newest, 0..100), (90, (90..100).collect()));
        assert_eq!(found(&newest, 0..90), (90, vec![]));
        assert_eq!(found(&newest, 20..50), (50, vec![]));
        newest.take_in([fresh(100, BYTES_MAX + 1)]);
        assert_eq!((newest.entries.len(), newest.bytes), (0, 0));
        newest.take_in((0..3 * ENTRIES_MAX as u64).map(|index| fresh(index, 1)));
        assert_eq!(newest.entries.len(), ENTRIES_MAX);
    }

    #[test]
    fn entry_written_again_takes_the_place_of_all_after_it() {
        let mut newest = Newest::default();
        newest.take_in((10..20).map(|index| fresh(index, 8)));
        newest.take_in([Fresh { index: 15, bytes: 8, entry: 1000 }]);
        assert_eq!(found(&newest, 13..16), (13, vec![13, 14, 1000]));
        assert_eq!(found(&newest, 13..17), (17, vec![]));
        for elsewhere in [3, 40] {
            newest.take_in([fresh(elsewhere, 8)]);
            assert_eq!(found(&newest, elsewhere..elsewhere + 1), (elsewhere, vec![elsewhere]));
            assert_eq!((newest.entries.len(), newest.bytes), (1, 8));
        }
    }
}
