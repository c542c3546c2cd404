//! The invariants of an open log that can be looked at while it runs, by their numbers in
//! docs/DESIGN.md.
//!
//! Owns: the look, with the writer's lock held. Debug builds look after every batch and every
//! checkpoint, the explorer after every step. Does not own: INV-4 and INV-8, which are about what
//! a crash leaves on the medium: the explorer opens that.

use super::shared::Shared;
use super::writer::Writer;
use crate::error::{Error, Result};
use crate::format::number::to_u64;

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
        let (state, tail) = (writer.state(), writer.tail());
        let broken = |holds: bool, what| (!holds).then_some(what);
        let opened = tail.segment.opened();
        let map = opened.as_ref().and_then(|opened| opened.map());
        let published = map.map_or(0, |map| to_u64(map.published()));
        let durable = self.reader.durable() <= state.next;
        self.reader
            .broken_invariant(state, &tail.segment)
            .or_else(|| {
                let what = "INV-2: bytes are published that may still change";
                broken(published <= tail.position(), what)
            })
            .or_else(|| writer.broken_invariant())
            .or_else(|| {
                let acknowledged = self.syncer.durable() <= writer.sequence() && durable;
                broken(acknowledged, "INV-6: more is durable than was written")
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::reader::View;
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
        breaks("INV-1", |shared, _| shared.reader.break_view(View::forget_an_offset));
        breaks("INV-1", |shared, _| shared.reader.break_view(View::invent_an_entry));
    }

    #[test]
    fn inv_2_nothing_is_published_past_the_frames() {
        breaks("INV-2", |_, writer| {
            let opened = writer.tail().segment.opened();
            let map = opened.as_ref().and_then(|opened| opened.map()).unwrap();
            map.publish(
                map.published().max(usize::try_from(writer.tail().position()).unwrap()) + 8,
            );
        });
    }

    #[test]
    fn inv_3_bases_ascend() {
        breaks("INV-3", |shared, _| {
            shared.reader.break_view(View::repeat_the_first_segment);
        });
    }

    #[test]
    fn inv_5_frames_end_before_the_reach() {
        breaks("INV-5", |_, writer| writer.lower_reach(writer.tail().position() - 1));
    }

    #[test]
    fn inv_6_nothing_is_durable_before_it_is_written() {
        breaks("INV-6", |shared, writer| shared.syncer.is_durable(writer.sequence() + 1));
    }

    #[test]
    fn inv_7_runs_are_those_of_the_segments() {
        breaks("INV-7", |shared, _| shared.reader.break_view(View::forget_a_run));
    }

    #[test]
    fn inv_9_frames_are_where_the_file_has_space() {
        breaks("INV-9", |_, writer| {
            let tail = writer.tail();
            tail.space.lower(tail.position() - 1);
        });
    }
}
