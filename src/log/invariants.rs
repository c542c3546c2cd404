//! The invariants of an open log that can be looked at while it runs, by their numbers in
//! docs/DESIGN.md.
//!
//! Owns: the look, with the writer's lock held. Debug builds look after every batch and every
//! checkpoint, the explorer after every step. Does not own: INV-4 and INV-8, which are about what
//! a crash leaves on the medium: the explorer opens that.

use std::sync::atomic::Ordering;

use super::shared::{Shared, Writer};
use crate::error::{Error, Result};
use crate::format::number::to_u64;
use crate::options::CELLS_BYTES_MAX;

impl Shared {
    /// What must hold between two batches. What does not is the log's own fault, and poisons it.
    pub(crate) fn check_invariants(&self, writer: &Writer) -> Result<()> {
        match self.broken_invariant(writer) {
            Some(what) if self.poison.get().is_none() => {
                Err(self.poisoned_by(Error::Internal { what }))
            }
            _ => Ok(()),
        }
    }

    /// The same in debug builds; nothing in others.
    pub(super) fn check_invariants_in_debug(&self, writer: &Writer) -> Result<()> {
        if cfg!(debug_assertions) { self.check_invariants(writer) } else { Ok(()) }
    }

    fn broken_invariant(&self, writer: &Writer) -> Option<&'static str> {
        let (state, tail) = (&writer.state, &writer.tail);
        let view = self.view.read();
        let broken = |holds: bool, what| (!holds).then_some(what);
        let in_tail = state.next.checked_sub(tail.base());
        let opened = tail.segment.opened();
        let map = opened.as_ref().and_then(|opened| opened.map());
        let published = map.map_or(0, |map| to_u64(map.published()));
        let durable = self.bounds.durable.load(Ordering::Acquire);
        broken(
            in_tail == Some(to_u64(view.tail_units.len())),
            "INV-1: the tail does not hold the entries from its base on",
        )
        .or_else(|| {
            let what = "INV-1: readers and the writer differ in their bounds";
            let bounds = (self.bounds.first.load(Ordering::Acquire), view.first);
            let next = (self.bounds.next.load(Ordering::Acquire), view.next);
            broken(bounds == (state.first, state.first) && next == (state.next, state.next), what)
        })
        .or_else(|| {
            let what = "INV-2: bytes are published that may still change";
            broken(published <= tail.position(), what)
        })
        .or_else(|| {
            let ends_with_it = view.tail().is_some_and(|last| last.name == tail.segment.name);
            broken(ends_with_it && view.ascends(), "INV-3: the bases in the view do not ascend")
        })
        .or_else(|| {
            let what = "INV-5: a frame is past the reach of the checkpoint";
            broken(tail.position() <= writer.reach, what)
        })
        .or_else(|| {
            let acknowledged = self.group.durable() <= writer.sequence && durable <= state.next;
            broken(acknowledged, "INV-6: more is durable than was written")
        })
        .or_else(|| {
            let what = "INV-7: the runs are not those of the segments";
            broken(view.runs_are_right(), what)
        })
        .or_else(|| {
            let what = "INV-9: a frame is where the file has no space";
            broken(tail.position() <= tail.space.ready(), what)
        })
        .or_else(|| {
            let what = "the cells are larger than a slot has room for";
            broken(state.cells.bytes() <= CELLS_BYTES_MAX, what)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Log, Options};

    fn log() -> Log {
        let log = Log::in_memory(&Options::new().tiny_segments(8192)).unwrap();
        for _ in 0..20 {
            log.append(&[1; 1000]).unwrap();
        }
        log
    }

    /// Breaks something in an open log, and sees that the look at it names what.
    fn breaks(invariant: &str, breaking: impl FnOnce(&Shared, &mut Writer)) {
        let log = log();
        let shared = log.shared();
        let mut writer = shared.writer();
        assert_eq!(shared.broken_invariant(&writer), None);
        breaking(shared, &mut writer);
        let what = shared.broken_invariant(&writer).unwrap();
        assert!(what.starts_with(invariant), "{what}");
        let error = shared.check_invariants(&writer).unwrap_err();
        assert!(matches!(error, Error::Internal { .. }), "{error}");
        assert!(matches!(shared.usable(), Err(Error::Poisoned { .. })));
    }

    #[test]
    fn inv_1_tail_holds_the_entries_from_its_base_on() {
        breaks("INV-1", |shared, _| shared.view.write().tail_units.push(1));
        breaks("INV-1", |shared, _| shared.view.write().next += 1);
    }

    #[test]
    fn inv_3_bases_ascend() {
        breaks("INV-3", |shared, _| {
            let mut view = shared.view.write();
            let first = std::sync::Arc::clone(view.segments().next().unwrap());
            view.push_unchecked(first);
        });
    }

    #[test]
    fn inv_5_frames_end_before_the_reach() {
        breaks("INV-5", |_, writer| writer.reach = writer.tail.position() - 1);
    }

    #[test]
    fn inv_6_nothing_is_durable_before_it_is_written() {
        breaks("INV-6", |shared, writer| shared.group.is_durable(writer.sequence + 1));
    }

    #[test]
    fn inv_7_runs_are_those_of_the_segments() {
        breaks("INV-7", |shared, _| shared.view.write().forget_a_run());
    }
}
