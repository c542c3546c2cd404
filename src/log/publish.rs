//! Publishing a batch: from here on the writer and the readers go on with what it changed.
//!
//! Owns: every effect of a batch outside its frames, each once, whichever way it was committed. Does
//! not own: those ways (`write`, `in_slots`). Nothing here can fail.

use std::sync::atomic::Ordering;

use super::plan::{Load, Plan};
use super::shared::{Shared, Writer};
use super::view::Draft;
use crate::format::SideFileRef;
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
        {
            let mut view = self.view.write();
            view.swap_in(draft, plan.bounds, &mut writer.dead);
            if self.options.volatile && plan.rolls > 0 {
                // There is no medium: nothing waits for a sync, which might never come.
                view.footers_durable(u64::MAX);
                writer.dirty.clear();
            }
        }
        writer.units = draft.take_space(UNITS_KEPT);
        self.publish_cells(writer, load, plan);
        if plan.lowest < u64::MAX && !planted(Bug::DurableEndNotLowered) {
            writer.lowest = writer.lowest.min(plan.lowest);
            self.bounds.durable.fetch_min(plan.lowest, Ordering::AcqRel);
        }
        if plan.trims {
            self.bounds.first.store(writer.state.first, Ordering::Release);
            crate::telemetry::trace::trimmed(self.dir.path(), writer.state.first);
        }
        writer.sequence = sequence;
        writer.unstated += plan.bytes;
        self.group.written(sequence);
        self.bounds.next.store(writer.state.next, Ordering::Release);
        if self.options.volatile {
            self.group.is_durable(sequence);
            self.bounds.durable.store(writer.state.next, Ordering::Release);
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
            if !planted(Bug::LazyValueOutlivesItsBatch) {
                lazy.taken();
            }
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
            let shared = state.cells.side_files().any(|it| it == file);
            if shared && !planted(Bug::SideFileRemovedWhileShared) {
                continue;
            }
            // From now on nothing can refer to it again: it goes with the next checkpoint.
            let known = self.side_files.forget(file.id);
            if known && planted(Bug::SideFileRemovedAtOnce) {
                let _gone = self.dir.remove(&file.file_name());
            } else if known {
                writer.dead_files.push(file);
            }
        }
    }
}
