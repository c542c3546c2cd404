//! Checks of what is kept beside the log: rounds, the decided index, stop sign, snapshot.

use omnipaxos::ballot_leader_election::Ballot;
use omnipaxos::storage::Storage;

use super::{Compared, Conformance, Outcome, ballot, same, stopsign, stopsigns};

pub(super) fn promise_is_kept<T: Compared, S: Storage<T>>(kit: &mut Conformance<T, S>) -> Outcome {
    let mut storage = kit.fresh();
    for ballot in ballots() {
        storage.set_promise(ballot)?;
        same!(storage.get_promise()?, Some(ballot), "promise");
        storage.set_promise(ballot)?;
        same!(storage.get_promise()?, Some(ballot), "the same promise again");
    }
    same!(storage.get_accepted_round()?, None, "accepted round");
    Ok(())
}

pub(super) fn accepted_round_is_kept<T: Compared, S: Storage<T>>(
    kit: &mut Conformance<T, S>,
) -> Outcome {
    let mut storage = kit.fresh();
    for ballot in ballots() {
        storage.set_accepted_round(ballot)?;
        same!(storage.get_accepted_round()?, Some(ballot), "accepted round");
    }
    same!(storage.get_promise()?, None, "promise");
    Ok(())
}

pub(super) fn decided_index_is_kept<T: Compared, S: Storage<T>>(
    kit: &mut Conformance<T, S>,
) -> Outcome {
    let (mut storage, entries) = kit.filled(5)?;
    for index in 0..=5 {
        storage.set_decided_idx(index)?;
        same!(storage.get_decided_idx()?, index, "decided index");
    }
    same!(storage.get_suffix(0)?, entries, "log");
    Ok(())
}

pub(super) fn decided_index_counts_the_stopsign<T: Compared, S: Storage<T>>(
    kit: &mut Conformance<T, S>,
) -> Outcome {
    let (mut storage, _) = kit.filled(5)?;
    storage.set_stopsign(Some(stopsign()))?;
    // One more for the stop sign itself, and one more for each time upstream counts it again.
    for index in [6, 7] {
        storage.set_decided_idx(index)?;
        same!(storage.get_decided_idx()?, index, "decided index");
    }
    same!(storage.get_log_len()?, 5, "log length");
    Ok(())
}

pub(super) fn stopsign_is_kept_and_cleared<T: Compared, S: Storage<T>>(
    kit: &mut Conformance<T, S>,
) -> Outcome {
    let (mut storage, entries) = kit.filled(2)?;
    for stopsign in stopsigns() {
        storage.set_stopsign(Some(stopsign.clone()))?;
        same!(storage.get_stopsign()?, Some(stopsign), "stop sign");
        same!(storage.get_log_len()?, 2, "log length");
    }
    for _ in 0..2 {
        storage.set_stopsign(None)?;
        same!(storage.get_stopsign()?, None, "cleared stop sign");
    }
    same!(storage.get_suffix(0)?, entries, "log");
    Ok(())
}

pub(super) fn snapshot_is_kept_and_cleared<T: Compared, S: Storage<T>>(
    kit: &mut Conformance<T, S>,
) -> Outcome {
    let mut storage = kit.fresh();
    for number in 0..4 {
        storage.set_snapshot(kit.snapshot(number))?;
        same!(storage.get_snapshot()?, kit.snapshot(number), "snapshot");
    }
    for _ in 0..2 {
        storage.set_snapshot(None)?;
        same!(storage.get_snapshot()?, None, "cleared snapshot");
    }
    Ok(())
}

/// Ballots that differ from the one before in a single field.
fn ballots() -> Vec<Ballot> {
    let first = ballot(7);
    vec![
        Ballot::default(),
        first,
        Ballot { config_id: first.config_id + 1, ..first },
        Ballot { n: u32::MAX, ..first },
        Ballot { priority: u32::MAX, ..first },
        Ballot { pid: u64::MAX, ..first },
    ]
}
