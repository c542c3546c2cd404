//! Checks of trimming. OmniPaxos always trims and sets the compacted index in one atomic write.

use omnipaxos::storage::{Storage, StorageOp};

use super::{Compared, Conformance, Outcome, refused, same};

/// Entries in the logs that are checked index by index.
const COUNT: usize = 8;

fn compact<T: Compared, S: Storage<T>>(storage: &mut S, to: usize) -> Outcome {
    storage.write_atomically(vec![StorageOp::Trim(to), StorageOp::SetCompactedIdx(to)])
}

pub(super) fn trim_at_every_index<T: Compared, S: Storage<T>>(
    kit: &mut Conformance<T, S>,
) -> Outcome {
    for start in 0..=COUNT {
        let (mut storage, entries) = kit.filled(COUNT as u64)?;
        compact(&mut storage, start)?;
        same!(storage.get_compacted_idx()?, start, "compacted index");
        same!(storage.get_log_len()?, COUNT - start, "log length after trim to {start}");
        for from in start..COUNT + 3 {
            let expected = entries.get(from..).unwrap_or_default();
            same!(storage.get_suffix(from)?, expected, "suffix from {from}, start {start}");
            for to in start..COUNT + 3 {
                let expected = entries.get(from..to).unwrap_or_default();
                same!(storage.get_entries(from, to)?, expected, "{from}..{to}, start {start}");
            }
        }
    }
    Ok(())
}

pub(super) fn trim_at_or_below_the_start_is_ignored<T: Compared, S: Storage<T>>(
    kit: &mut Conformance<T, S>,
) -> Outcome {
    let (mut storage, entries) = kit.filled(COUNT as u64)?;
    compact(&mut storage, 5)?;
    for to in 0..=5 {
        storage.trim(to)?;
        same!(storage.get_suffix(5)?, entries.get(5..).unwrap_or_default(), "after trim to {to}");
        same!(storage.get_log_len()?, COUNT - 5, "log length after trim to {to}");
    }
    Ok(())
}

pub(super) fn trim_of_everything_keeps_the_next_index<T: Compared, S: Storage<T>>(
    kit: &mut Conformance<T, S>,
) -> Outcome {
    let (mut storage, _) = kit.filled(COUNT as u64)?;
    compact(&mut storage, COUNT)?;
    same!(storage.get_log_len()?, 0, "log length");
    same!(storage.get_suffix(COUNT)?, vec![], "suffix of the empty log");
    storage.append_entry(kit.entry(50))?;
    same!(storage.get_log_len()?, 1, "log length after an append");
    same!(storage.get_suffix(COUNT)?, kit.entries(50..51), "suffix from the next index");
    storage.append_on_prefix(COUNT, kit.entries(60..63))?;
    same!(storage.get_suffix(COUNT)?, kit.entries(60..63), "suffix replaced from the start");
    Ok(())
}

pub(super) fn trim_beyond_the_end_moves_the_log<T: Compared, S: Storage<T>>(
    kit: &mut Conformance<T, S>,
) -> Outcome {
    for (filled, start) in [(0, 1), (0, 9), (COUNT, COUNT + 1), (COUNT, COUNT + 90)] {
        let (mut storage, _) = kit.filled(filled as u64)?;
        let suffix = kit.entries(70..73);
        storage.write_atomically(vec![
            StorageOp::Trim(start),
            StorageOp::SetCompactedIdx(start),
            StorageOp::AppendOnPrefix(start, suffix.clone()),
        ])?;
        same!(storage.get_compacted_idx()?, start, "compacted index");
        same!(storage.get_log_len()?, 3, "log length");
        same!(storage.get_suffix(start)?, suffix, "suffix from {start}");
        storage.append_entry(kit.entry(73))?;
        same!(storage.get_entries(start, start + 4)?, kit.entries(70..74), "after an append");
    }
    Ok(())
}

pub(super) fn entries_below_the_compacted_index_are_refused<T: Compared, S: Storage<T>>(
    kit: &mut Conformance<T, S>,
) -> Outcome {
    let (mut storage, _) = kit.filled(COUNT as u64)?;
    compact(&mut storage, 5)?;
    for from in 0..5 {
        for to in (from + 1)..=COUNT {
            refused!(storage.get_entries(from, to), "entries {from}..{to}, start 5");
        }
    }
    Ok(())
}

pub(super) fn suffix_from_below_the_compacted_index_is_refused<T: Compared, S: Storage<T>>(
    kit: &mut Conformance<T, S>,
) -> Outcome {
    for start in [5, COUNT] {
        let (mut storage, _) = kit.filled(COUNT as u64)?;
        compact(&mut storage, start)?;
        for from in 0..start {
            // An empty answer would make the host truncate another node's log.
            refused!(storage.get_suffix(from), "suffix from {from}, start {start}");
        }
    }
    Ok(())
}

pub(super) fn log_len_counts_from_the_compacted_index<T: Compared, S: Storage<T>>(
    kit: &mut Conformance<T, S>,
) -> Outcome {
    let (mut storage, _) = kit.filled(COUNT as u64)?;
    let mut end = COUNT;
    for start in [2, 3, 7, 8] {
        compact(&mut storage, start)?;
        storage.append_entry(kit.entry(300))?;
        end += 1;
        same!(storage.get_log_len()? + storage.get_compacted_idx()?, end, "end after {start}");
    }
    Ok(())
}
