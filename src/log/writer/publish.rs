//! Publishing a batch: from here on the writer and the readers go on with what it changed.
//!
//! Owns: every effect of a batch outside its frames, each once, whichever way it was committed. Does
//! not own: those ways (`write`, `in_slots`). Nothing here can fail.

use super::Writer;
use super::frames::FOOTERS_AWAITED_MAX;
use super::plan::{Load, Plan};
use crate::format::SideFileRef;
use crate::log::reader::Draft;
use crate::log::shared::Shared;
use crate::planted::{Bug, planted};
use crate::telemetry::stats::add_alone;

/// Offsets that are kept room for from one batch to the next.
const UNITS_KEPT: usize = 4096;

impl Shared {
    /// Takes over what the batch changed, for writers and for readers.
    pub(super) fn publish(
        &self,
        writer: &mut Writer,
        load: &Load<'_>,
        plan: &Plan,
        draft: &mut Draft,
        sequence: u64,
    ) {
        writer.state.set_bounds(plan.bounds);
        self.reader.show(draft, plan.bounds, &mut writer.dead);
        if self.options.volatile && plan.rolls > 0 {
            // There is no medium: nothing waits for a sync, which might never come.
            self.reader.footers_durable(u64::MAX);
            writer.unsynced.clear();
        }
        writer.units = draft.take_space(UNITS_KEPT);
        self.publish_cells(writer, load, plan);
        if plan.lowest < u64::MAX && !planted(Bug::DurableEndNotLowered) {
            writer.lowest = writer.lowest.min(plan.lowest);
            self.reader.durable_ends_at(plan.lowest);
        }
        if plan.trims {
            self.reader.first_is(writer.state.first);
            crate::telemetry::trace::trimmed(self.dir.path(), writer.state.first);
        }
        writer.sequence = sequence;
        writer.unstated += plan.bytes;
        self.syncer.note_written(sequence);
        self.reader.next_is(writer.state.next);
        if self.options.volatile {
            self.syncer.is_durable(sequence);
            self.reader.durable_is(writer.state.next);
        }
        self.ask_for_maintenance(writer);
        add_alone(&self.counters.trims, u64::from(plan.trims));
        add_alone(&self.counters.truncations, u64::from(plan.truncates));
        add_alone(&self.counters.batches, 1);
        self.counters.wrote_batch(plan.entries);
        add_alone(&self.counters.appends, plan.entries);
        add_alone(&self.counters.bytes_appended, plan.entry_bytes);
        add_alone(&self.counters.bytes_written, plan.bytes);
    }

    /// Sets the cells: first those that rode along, then the batch's own.
    fn publish_cells(&self, writer: &mut Writer, load: &Load<'_>, plan: &Plan) {
        let Writer { state, lazy, .. } = writer;
        if !lazy.is_empty() {
            lazy.merge_into(&mut state.cells);
            lazy.taken();
        }
        if !plan.sets_cells() {
            return;
        }
        let before: Vec<SideFileRef> = state.cells.side_files().collect();
        for (name, value) in (0..load.records().len()).filter_map(|at| load.cell(at)) {
            state.cells.put(name, value);
        }
        self.side_files.attached(state.cells.side_files());
        for file in before {
            if state.cells.refer_to(file) {
                continue;
            }
            // From now on nothing can refer to it again: it goes with the next checkpoint.
            if self.side_files.forget(file.id) {
                writer.dead_files.push(file);
            }
            if planted(Bug::SideFileRemovedAtOnce) {
                let _gone = self.dir.remove(&file.file_name());
            }
        }
    }

    /// Notes, with the writer's lock held, what a batch leaves to be done.
    fn ask_for_maintenance(&self, writer: &mut Writer) {
        let step = self.options.checkpoint_bytes_in_force(self.segment_bytes);
        // A tail that is near its end is stated with the roll; but if it was begun since the newest
        // checkpoint, perhaps no sync comes.
        let comes_anyway = writer.reach.includes(self.segment_bytes) && writer.begun == 0;
        let due = writer.unstated > step && !comes_anyway && !self.options.volatile;
        let leftover = !writer.dead.is_empty()
            || !writer.dead_files.is_empty()
            || writer.footers.len() >= FOOTERS_AWAITED_MAX / 2;
        if due || leftover || self.side_files.any_unused() {
            self.signals.want_checkpoint();
        }
        let short = writer.tail.space.is_short(writer.tail.position());
        if (writer.tail.comes_near_a_roll() || short) && self.options.background {
            self.signals.want_space();
        }
    }
}
