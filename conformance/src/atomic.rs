//! Checks of `write_atomically`: order, and all or nothing.

use omnipaxos::storage::{Storage, StorageOp};

use super::{Compared, Conformance, Outcome, ballot, refused, same, stopsign};

pub(super) fn operations_apply_in_order<T: Compared, S: Storage<T>>(
    kit: &mut Conformance<T, S>,
) -> Outcome {
    let mut storage = kit.fresh();
    storage.write_atomically(vec![
        StorageOp::AppendEntry(kit.entry(0)),
        StorageOp::AppendEntries(kit.entries(1..6)),
        StorageOp::AppendOnPrefix(3, kit.entries(10..12)),
        StorageOp::Trim(2),
        StorageOp::SetCompactedIdx(2),
        StorageOp::AppendEntry(kit.entry(12)),
        StorageOp::SetPromise(ballot(1)),
        StorageOp::SetPromise(ballot(2)),
        StorageOp::SetAcceptedRound(ballot(3)),
        StorageOp::SetDecidedIndex(2),
        StorageOp::SetDecidedIndex(4),
        StorageOp::SetStopsign(Some(stopsign())),
        StorageOp::SetStopsign(None),
    ])?;
    let expected = [kit.entries(2..3), kit.entries(10..13)].concat();
    same!(storage.get_suffix(2)?, expected, "suffix from 2");
    same!(storage.get_promise()?, Some(ballot(2)), "promise");
    same!(storage.get_accepted_round()?, Some(ballot(3)), "accepted round");
    same!(storage.get_decided_idx()?, 4, "decided index");
    same!(storage.get_stopsign()?, None, "stop sign");
    Ok(())
}

pub(super) fn nothing_may_be_written<T: Compared, S: Storage<T>>(
    kit: &mut Conformance<T, S>,
) -> Outcome {
    let (mut storage, entries) = kit.filled(3)?;
    storage.write_atomically(vec![])?;
    storage.write_atomically(vec![
        StorageOp::AppendEntries(vec![]),
        StorageOp::AppendOnPrefix(3, vec![]),
        StorageOp::Trim(0),
    ])?;
    same!(storage.get_suffix(0)?, entries, "log");
    Ok(())
}

pub(super) fn accept_sync_replaces_the_suffix<T: Compared, S: Storage<T>>(
    kit: &mut Conformance<T, S>,
) -> Outcome {
    let (mut storage, _) = kit.filled(6)?;
    storage.write_atomically(vec![
        StorageOp::SetAcceptedRound(ballot(9)),
        StorageOp::SetDecidedIndex(4),
        StorageOp::AppendOnPrefix(4, kit.entries(20..21)),
        StorageOp::SetStopsign(Some(stopsign())),
    ])?;
    let expected = [kit.entries(0..4), kit.entries(20..21)].concat();
    same!(storage.get_suffix(0)?, expected, "log");
    same!(storage.get_log_len()?, 5, "log length");
    same!(storage.get_accepted_round()?, Some(ballot(9)), "accepted round");
    same!(storage.get_stopsign()?, Some(stopsign()), "stop sign");
    Ok(())
}

pub(super) fn accept_sync_installs_a_snapshot<T: Compared, S: Storage<T>>(
    kit: &mut Conformance<T, S>,
) -> Outcome {
    // Inside the log, at its end, and beyond it.
    for start in [2, 6, 40] {
        let (mut storage, _) = kit.filled(6)?;
        let mut operations = vec![
            StorageOp::SetAcceptedRound(ballot(9)),
            StorageOp::SetDecidedIndex(start + 1),
            StorageOp::Trim(start),
            StorageOp::SetCompactedIdx(start),
        ];
        operations.push(StorageOp::SetSnapshot(kit.snapshot(3)));
        operations.push(StorageOp::AppendOnPrefix(start, kit.entries(30..32)));
        storage.write_atomically(operations)?;
        same!(storage.get_compacted_idx()?, start, "compacted index");
        same!(storage.get_decided_idx()?, start + 1, "decided index");
        same!(storage.get_snapshot()?, kit.snapshot(3), "snapshot");
        same!(storage.get_suffix(start)?, kit.entries(30..32), "suffix from {start}");
        same!(storage.get_log_len()?, 2, "log length");
    }
    Ok(())
}

pub(super) fn refused_operations_change_nothing<T: Compared, S: Storage<T>>(
    kit: &mut Conformance<T, S>,
) -> Outcome {
    let (mut storage, entries) = kit.filled(6)?;
    storage.set_promise(ballot(1))?;
    let operations = vec![
        StorageOp::SetPromise(ballot(2)),
        StorageOp::SetAcceptedRound(ballot(2)),
        StorageOp::SetDecidedIndex(3),
        StorageOp::AppendOnPrefix(2, kit.entries(40..42)),
        StorageOp::Trim(1),
        StorageOp::SetCompactedIdx(1),
        StorageOp::SetStopsign(Some(stopsign())),
        StorageOp::AppendOnPrefix(50, kit.entries(42..43)),
    ];
    refused!(storage.write_atomically(operations), "an entry beyond the end");
    same!(storage.get_promise()?, Some(ballot(1)), "promise");
    same!(storage.get_accepted_round()?, None, "accepted round");
    same!(storage.get_decided_idx()?, 0, "decided index");
    same!(storage.get_compacted_idx()?, 0, "compacted index");
    same!(storage.get_stopsign()?, None, "stop sign");
    same!(storage.get_suffix(0)?, entries, "log");
    storage.append_entry(kit.entry(6))?;
    same!(storage.get_suffix(0)?, kit.entries(0..7), "log after an append");
    Ok(())
}
