//! Checks of what a restart finds.

use omnipaxos::storage::{Storage, StorageOp};

use super::model::{Model, Random, step};
use super::{Compared, Conformance, Outcome, ballot, same, stopsign, stopsigns};

const HISTORIES: u64 = 5;
const WRITES: u64 = 30;

pub(super) fn every_kind_of_write_survives<T: Compared, S: Storage<T>>(
    kit: &mut Conformance<T, S>,
) -> Outcome {
    let mut storage = kit.fresh();
    storage = kit.reopened(storage);
    same!(storage.get_promise()?, None, "promise of a fresh store");
    storage.append_entry(kit.entry(0))?;
    storage = kit.reopened(storage);
    same!(storage.get_suffix(0)?, kit.entries(0..1), "append_entry");
    storage.append_entries(kit.entries(1..6))?;
    storage = kit.reopened(storage);
    same!(storage.get_suffix(0)?, kit.entries(0..6), "append_entries");
    storage.append_on_prefix(4, kit.entries(10..11))?;
    storage = kit.reopened(storage);
    let expected = [kit.entries(0..4), kit.entries(10..11)].concat();
    same!(storage.get_suffix(0)?, expected, "append_on_prefix");
    storage.set_promise(ballot(5))?;
    storage = kit.reopened(storage);
    same!(storage.get_promise()?, Some(ballot(5)), "set_promise");
    storage.set_accepted_round(ballot(4))?;
    storage = kit.reopened(storage);
    same!(storage.get_accepted_round()?, Some(ballot(4)), "set_accepted_round");
    storage.set_decided_idx(3)?;
    storage = kit.reopened(storage);
    same!(storage.get_decided_idx()?, 3, "set_decided_idx");
    storage.write_atomically(vec![StorageOp::Trim(2), StorageOp::SetCompactedIdx(2)])?;
    storage = kit.reopened(storage);
    same!(storage.get_compacted_idx()?, 2, "set_compacted_idx");
    same!(storage.get_suffix(2)?, expected.get(2..).unwrap_or_default(), "trim");
    same!(storage.get_log_len()?, 3, "log length");
    for stopsign in stopsigns() {
        storage.set_stopsign(Some(stopsign.clone()))?;
        storage = kit.reopened(storage);
        same!(storage.get_stopsign()?, Some(stopsign), "set_stopsign");
    }
    storage.set_decided_idx(6)?;
    storage = kit.reopened(storage);
    same!(storage.get_decided_idx()?, 6, "decided stop sign");
    same!(storage.get_promise()?, Some(ballot(5)), "promise at the end");
    same!(storage.get_accepted_round()?, Some(ballot(4)), "accepted round at the end");
    Ok(())
}

pub(super) fn snapshots_survive<T: Compared, S: Storage<T>>(
    kit: &mut Conformance<T, S>,
) -> Outcome {
    let (mut storage, _) = kit.filled(4)?;
    for (number, start) in [(1, 2), (2, 30)] {
        let snapshot = kit.snapshot(number);
        storage.write_atomically(vec![
            StorageOp::SetDecidedIndex(start),
            StorageOp::Trim(start),
            StorageOp::SetCompactedIdx(start),
            StorageOp::SetSnapshot(snapshot.clone()),
            StorageOp::AppendOnPrefix(start, kit.entries(50..52)),
        ])?;
        storage = kit.reopened(storage);
        same!(storage.get_snapshot()?, snapshot, "snapshot");
        same!(storage.get_compacted_idx()?, start, "compacted index");
        same!(storage.get_suffix(start)?, kit.entries(50..52), "suffix from {start}");
    }
    storage.set_snapshot(None)?;
    storage = kit.reopened(storage);
    same!(storage.get_snapshot()?, None, "cleared snapshot");
    Ok(())
}

pub(super) fn clearing_survives<T: Compared, S: Storage<T>>(
    kit: &mut Conformance<T, S>,
) -> Outcome {
    let mut storage = kit.fresh();
    storage.set_stopsign(Some(stopsign()))?;
    storage.set_stopsign(None)?;
    storage = kit.reopened(storage);
    same!(storage.get_stopsign()?, None, "cleared stop sign");
    Ok(())
}

pub(super) fn the_next_index_survives_trimming_everything<T: Compared, S: Storage<T>>(
    kit: &mut Conformance<T, S>,
) -> Outcome {
    let (mut storage, _) = kit.filled(9)?;
    storage.write_atomically(vec![
        StorageOp::SetDecidedIndex(9),
        StorageOp::Trim(9),
        StorageOp::SetCompactedIdx(9),
    ])?;
    storage = kit.reopened(storage);
    same!(storage.get_log_len()?, 0, "log length");
    same!(storage.get_suffix(9)?, vec![], "suffix of the empty log");
    storage.append_entry(kit.entry(90))?;
    storage = kit.reopened(storage);
    same!(storage.get_suffix(9)?, kit.entries(90..91), "suffix from the next index");
    Ok(())
}

pub(super) fn random_histories_survive<T: Compared, S: Storage<T>>(
    kit: &mut Conformance<T, S>,
) -> Outcome {
    for history in 0..HISTORIES {
        let seed = kit.seed.wrapping_add(1_000_000 + history);
        let mut random = Random(seed);
        let (mut storage, mut model) = (kit.fresh(), Model::new());
        for write in 0..WRITES {
            step(kit, &mut random, &mut storage, &mut model)?;
            if random.below(3) == 0 {
                storage = kit.reopened(storage);
            }
            let compared = model.compare(&storage);
            compared.map_err(|error| format!("seed {seed}, write {write}: {error}"))?;
        }
    }
    Ok(())
}
