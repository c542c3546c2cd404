//! The common batch: entries alone, that fit the tail as it is.
//!
//! Owns: writing it without a plan, which is what a log does most, with the lazily set cells that
//! ride along. The frames, and every effect, are those that `plan` and `write` have for the same
//! batch; whatever they might refuse, or do in more than one step, is left to them.

use std::sync::Arc;

use super::shared::{Shared, Writer};
use super::write::Written;
use crate::batch::Record;
use crate::error::Result;
use crate::format::cell::{CellRecord, encode_cell};
use crate::format::frame::{Flags, FrameHeader, Kind, encode_frame, frame_bytes, payload_length};
use crate::format::number::to_u64;
use crate::options::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX};
use crate::planted::{Bug, planted};
use crate::segment::in_units;
use crate::segment::tail::footer_space;

/// What a batch of entries comes to.
struct Entries {
    count: u64,
    /// Bytes of the entries, and of their frames.
    payload: u64,
    bytes: u64,
}

impl Shared {
    /// Writes a batch of entries that needs no plan; nothing if it needs one.
    pub(super) fn append_entries(
        &self,
        writer: &mut Writer,
        records: &[Record<'_>],
    ) -> Option<Result<Written>> {
        let batch = self.as_entries(writer, records)?;
        Some(self.append_batch(writer, records, &batch))
    }

    fn as_entries(&self, writer: &Writer, records: &[Record<'_>]) -> Option<Entries> {
        let known = (1..=BATCH_RECORDS_MAX).contains(&records.len());
        if !known || self.options.compress_above.is_some() {
            return None;
        }
        let mut batch = Entries { count: to_u64(records.len()), payload: 0, bytes: 0 };
        for (name, value) in writer.lazy.iter() {
            batch.bytes += to_u64(frame_bytes(CellRecord::Set { name, value }.payload_bytes()));
        }
        for record in records {
            let Record::Append(entry) = record else { return None };
            batch.payload = batch.payload.saturating_add(to_u64(entry.len()));
            batch.bytes = batch.bytes.saturating_add(to_u64(frame_bytes(entry.len())));
        }
        let next = writer.state.next.checked_add(batch.count)?;
        let end = writer.tail.position().saturating_add(batch.bytes);
        let footer = footer_space(next - writer.tail.base());
        let fits = end.saturating_add(footer) <= self.segment_bytes
            && end <= writer.reach
            && (end <= writer.tail.space.ready() || planted(Bug::SpaceNotAwaited))
            && batch.bytes <= BATCH_BYTES_MAX;
        fits.then_some(batch)
    }

    fn append_batch(
        &self,
        writer: &mut Writer,
        records: &[Record<'_>],
        batch: &Entries,
    ) -> Result<Written> {
        let (sequence, lag) = self.next_number(writer);
        writer.dirty_from.get_or_insert(writer.tail.position());
        let Writer { tail, lazy, state, .. } = writer;
        let (kind, flags) = (Kind::Entry, Flags::FIRST);
        let mut header = FrameHeader { length: 0, sequence, index: state.next, lag, kind, flags };
        for (name, value) in lazy.iter() {
            if planted(Bug::LazyValueDropped) {
                continue;
            }
            let record = CellRecord::Set { name, value };
            encode_cell(&mut tail.pending, &tail.salt, &header, &record);
            header.flags = 0;
        }
        let mut offset = tail.position();
        let last = records.len() - 1;
        for (at, entry) in entries(records).enumerate() {
            header.length = payload_length(entry);
            if at == last {
                header.flags |= Flags::LAST;
            }
            tail.frame_at(tail.position());
            encode_frame(&mut tail.pending, &tail.salt, &header, &[entry]);
            header.flags = 0;
            header.index += 1;
        }
        self.flush_unless_pending(writer)?;
        let mut view = self.view.write();
        for entry in entries(records) {
            view.tail_units.push(in_units(offset));
            offset += to_u64(frame_bytes(entry.len()));
        }
        if !writer.lazy.is_empty() {
            writer.lazy.merge_into(Arc::make_mut(&mut writer.state.cells));
            writer.lazy.taken();
        }
        writer.state.next += batch.count;
        view.next = writer.state.next;
        self.count(writer, sequence, batch.count, batch.payload, batch.bytes);
        Ok(Written { sequence, next: writer.state.next })
    }
}

/// The entries of a batch that has nothing else.
fn entries<'a>(records: &'a [Record<'_>]) -> impl Iterator<Item = &'a [u8]> {
    records.iter().filter_map(|record| match record {
        Record::Append(entry) => Some(entry.as_ref()),
        _ => None,
    })
}
