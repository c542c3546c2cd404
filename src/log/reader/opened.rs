//! Which sealed segments are open: their files, maps and offsets in memory.
//!
//! Owns: the bound on them, whatever the length of the log. Does not own: what an open segment holds
//! (`segment`), or maps that are lent: those stay as long as somebody has them.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::segment::Segment;

/// Most segments that are open at a time, the tail aside: one descriptor each, and at most one map.
pub(crate) const OPEN_SEGMENTS_MAX: usize = 16;

/// Bytes of offsets in memory, four an entry, above which fewer segments are open; one always may.
const OFFSET_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The open segments, those opened first in front.
#[derive(Debug, Default)]
pub(crate) struct OpenSegments {
    queue: Mutex<VecDeque<Weak<Segment>>>,
}

impl OpenSegments {
    /// Takes note of a segment that was just opened. Shuts those that nobody read from for the
    /// longest time, about, until there are few enough.
    pub(crate) fn note(&self, segment: &Arc<Segment>) {
        let mut queue = self.queue.lock();
        queue.retain(|open| {
            open.upgrade().is_some_and(|it| !Arc::ptr_eq(&it, segment) && it.opened().is_some())
        });
        queue.push_back(Arc::downgrade(segment));
        // Each is passed over once if it was used since it was last asked; the newest always is.
        let mut looks = queue.len();
        while queue.len() > 1 && is_too_much(&queue) {
            let Some(oldest) = queue.pop_front().and_then(|open| open.upgrade()) else { continue };
            if looks > 0 && oldest.was_used() || Arc::ptr_eq(&oldest, segment) {
                queue.push_back(Arc::downgrade(&oldest));
            } else {
                oldest.shut();
            }
            looks = looks.saturating_sub(1);
        }
    }
}

fn is_too_much(queue: &VecDeque<Weak<Segment>>) -> bool {
    let bytes = |open: &Weak<Segment>| {
        open.upgrade().and_then(|segment| segment.opened()).map_or(0, |it| it.table_bytes())
    };
    queue.len() > OPEN_SEGMENTS_MAX || queue.iter().map(bytes).sum::<usize>() > OFFSET_BYTES_MAX
}
