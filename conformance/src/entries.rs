//! Checks of the log itself: appending, reading, replacing a suffix.

use omnipaxos::storage::Storage;

use super::{Compared, Conformance, Outcome, refused, same, stopsign};

/// Entries in the logs that are checked index by index.
const COUNT: usize = 8;

pub(super) fn fresh_store_is_empty<T: Compared, S: Storage<T>>(
    kit: &mut Conformance<T, S>,
) -> Outcome {
    let storage = kit.fresh();
    same!(storage.get_promise()?, None, "promise");
    same!(storage.get_accepted_round()?, None, "accepted round");
    same!(storage.get_decided_idx()?, 0, "decided index");
    same!(storage.get_compacted_idx()?, 0, "compacted index");
    same!(storage.get_log_len()?, 0, "log length");
    same!(storage.get_stopsign()?, None, "stop sign");
    same!(storage.get_snapshot()?, None, "snapshot");
    same!(storage.get_entries(0, 0)?, vec![], "entries 0..0");
    same!(storage.get_entries(0, 1)?, vec![], "entries 0..1");
    same!(storage.get_suffix(0)?, vec![], "suffix from 0");
    Ok(())
}

pub(super) fn entries_are_appended_one_by_one<T: Compared, S: Storage<T>>(
    kit: &mut Conformance<T, S>,
) -> Outcome {
    let mut storage = kit.fresh();
    let entries = kit.entries(0..COUNT as u64);
    for (index, entry) in entries.iter().enumerate() {
        storage.append_entry(entry.clone())?;
        same!(storage.get_log_len()?, index + 1, "log length");
        same!(storage.get_suffix(index)?, vec![entry.clone()], "suffix from {index}");
    }
    same!(storage.get_suffix(0)?, entries, "suffix from 0");
    Ok(())
}

pub(super) fn entries_are_appended_together<T: Compared, S: Storage<T>>(
    kit: &mut Conformance<T, S>,
) -> Outcome {
    let (mut storage, mut entries) = kit.filled(3)?;
    let more = kit.entries(3..COUNT as u64);
    storage.append_entries(more.clone())?;
    entries.extend(more);
    same!(storage.get_log_len()?, COUNT, "log length");
    same!(storage.get_suffix(0)?, entries, "suffix from 0");
    Ok(())
}

pub(super) fn append_of_nothing_changes_nothing<T: Compared, S: Storage<T>>(
    kit: &mut Conformance<T, S>,
) -> Outcome {
    let mut storage = kit.fresh();
    storage.append_entries(vec![])?;
    same!(storage.get_log_len()?, 0, "log length");
    let (mut storage, entries) = kit.filled(3)?;
    storage.append_entries(vec![])?;
    same!(storage.get_suffix(0)?, entries, "suffix from 0");
    Ok(())
}

pub(super) fn entries_between_any_two_indexes<T: Compared, S: Storage<T>>(
    kit: &mut Conformance<T, S>,
) -> Outcome {
    let (storage, entries) = kit.filled(COUNT as u64)?;
    for from in 0..COUNT + 3 {
        for to in 0..COUNT + 3 {
            // All of them or none, never a part; an empty or reversed range has none.
            let expected = entries.get(from..to).unwrap_or_default();
            same!(storage.get_entries(from, to)?, expected, "entries {from}..{to}");
        }
    }
    Ok(())
}

pub(super) fn suffix_from_any_index<T: Compared, S: Storage<T>>(
    kit: &mut Conformance<T, S>,
) -> Outcome {
    let (storage, entries) = kit.filled(COUNT as u64)?;
    for from in 0..COUNT + 3 {
        let expected = entries.get(from..).unwrap_or_default();
        same!(storage.get_suffix(from)?, expected, "suffix from {from}");
    }
    Ok(())
}

pub(super) fn append_on_prefix_at_every_index<T: Compared, S: Storage<T>>(
    kit: &mut Conformance<T, S>,
) -> Outcome {
    for from in 0..=COUNT {
        for count in 0..=COUNT as u64 {
            let (mut storage, mut entries) = kit.filled(COUNT as u64)?;
            let suffix = kit.entries(100..100 + count);
            storage.append_on_prefix(from, suffix.clone())?;
            entries.truncate(from);
            entries.extend(suffix);
            same!(storage.get_log_len()?, entries.len(), "log length after {count} at {from}");
            same!(storage.get_suffix(0)?, entries, "log after {count} at {from}");
            storage.append_entry(kit.entry(200))?;
            entries.push(kit.entry(200));
            same!(storage.get_suffix(0)?, entries, "log after one more");
        }
    }
    Ok(())
}

pub(super) fn append_on_prefix_of_nothing_at_the_end<T: Compared, S: Storage<T>>(
    kit: &mut Conformance<T, S>,
) -> Outcome {
    for count in [0, 1, COUNT] {
        let (mut storage, entries) = kit.filled(count as u64)?;
        storage.append_on_prefix(count, vec![])?;
        same!(storage.get_suffix(0)?, entries, "log of {count}");
    }
    Ok(())
}

pub(super) fn append_on_prefix_of_nothing_after_a_stopsign<T: Compared, S: Storage<T>>(
    kit: &mut Conformance<T, S>,
) -> Outcome {
    let (mut storage, entries) = kit.filled(COUNT as u64)?;
    storage.set_stopsign(Some(stopsign()))?;
    storage.append_on_prefix(COUNT + 1, vec![])?;
    same!(storage.get_log_len()?, COUNT, "log length");
    same!(storage.get_suffix(0)?, entries, "log");
    same!(storage.get_suffix(COUNT + 1)?, vec![], "suffix after the stop sign");
    Ok(())
}

pub(super) fn append_on_prefix_beyond_the_end_is_refused<T: Compared, S: Storage<T>>(
    kit: &mut Conformance<T, S>,
) -> Outcome {
    for from in [COUNT + 1, COUNT + 2, COUNT + 100] {
        let (mut storage, entries) = kit.filled(COUNT as u64)?;
        refused!(storage.append_on_prefix(from, kit.entries(0..1)), "an entry at {from}");
        same!(storage.get_suffix(0)?, entries, "log after an entry at {from}");
    }
    Ok(())
}

pub(super) fn append_on_prefix_below_the_start_is_refused<T: Compared, S: Storage<T>>(
    kit: &mut Conformance<T, S>,
) -> Outcome {
    let (mut storage, entries) = kit.filled(COUNT as u64)?;
    storage.trim(4)?;
    storage.set_compacted_idx(4)?;
    for from in 0..4 {
        refused!(storage.append_on_prefix(from, kit.entries(0..1)), "an entry at {from}");
    }
    same!(storage.get_suffix(4)?, entries.get(4..).unwrap_or_default(), "suffix from 4");
    Ok(())
}
