//! Which process this is, told without a system call.
//!
//! Owns: telling a forked child from the process that opened a log. Does not own: what a child may
//! not do (`log::shared`).
//!
//! A child that was forked has a copy of every handle and none of the threads behind it, and shares
//! the files and their locks with its parent. So a log remembers who opened it. The number of a
//! process would do but for its cost, a system call each time it is asked, and but for its being
//! given again; instead a page of memory that the kernel wipes in a forked child holds a number that
//! no other process of this family has had.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::io::map::Wiped;

/// Numbers given so far, inherited by a child: it goes on above those of its parents.
static GIVEN: AtomicU64 = AtomicU64::new(0);

/// A process, as one of its threads saw itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process(u64);

impl Process {
    /// The one that runs this.
    pub(crate) fn this() -> Self {
        let Some(page) = Wiped::page() else { return Self(u64::from(std::process::id())) };
        match page.load() {
            0 => Self(page.store_if_wiped(GIVEN.fetch_add(1, Ordering::Relaxed) + 1)),
            number => Self(number),
        }
    }

    /// One that does not run this.
    #[cfg(test)]
    pub(crate) const fn other() -> Self {
        Self(u64::MAX)
    }

    /// Whether it is the one that runs this.
    #[inline]
    pub(crate) fn is_this(self) -> bool {
        match Wiped::page() {
            Some(page) => page.load() == self.0,
            None => u64::from(std::process::id()) == self.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_is_the_same_in_all_its_threads() {
        let this = Process::this();
        assert!(this.is_this());
        std::thread::spawn(move || assert_eq!(this, Process::this())).join().unwrap();
    }
}
