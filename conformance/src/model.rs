//! Random histories of the writes that OmniPaxos makes, compared after every write with a model.

use std::error::Error;

use omnipaxos::ballot_leader_election::Ballot;
use omnipaxos::storage::{StopSign, Storage, StorageOp};

use super::{Compared, Conformance, Outcome, ballot, same, stopsigns};

const HISTORIES: u64 = 20;
const WRITES: u64 = 60;

/// What a storage must hold.
#[derive(Debug, Clone)]
pub(super) struct Model<T> {
    start: usize,
    entries: Vec<T>,
    promise: Option<Ballot>,
    accepted: Option<Ballot>,
    decided: usize,
    stopsign: Option<StopSign>,
    next_entry: u64,
}

pub(super) fn random_histories_match_the_model<T: Compared, S: Storage<T>>(
    kit: &mut Conformance<T, S>,
) -> Outcome {
    for history in 0..HISTORIES {
        let seed = kit.seed.wrapping_add(history);
        let mut random = Random(seed);
        let (mut storage, mut model) = (kit.fresh(), Model::new());
        for write in 0..WRITES {
            let step = step(kit, &mut random, &mut storage, &mut model)
                .and_then(|()| model.compare(&storage));
            step.map_err(|error| format!("seed {seed}, write {write}: {error}"))?;
        }
    }
    Ok(())
}

/// Makes one random write, to the storage and to the model.
pub(super) fn step<T: Compared, S: Storage<T>>(
    kit: &Conformance<T, S>,
    random: &mut Random,
    storage: &mut S,
    model: &mut Model<T>,
) -> Outcome {
    let round = ballot(random.u32());
    match random.below(7) {
        0 | 1 => {
            let entries = model.new_entries(kit, random.below(5));
            if model.stopsign.is_none() {
                storage.append_entries(entries.clone())?;
                model.entries.extend(entries);
            }
        }
        2 => {
            storage.set_promise(round)?;
            model.promise = Some(round);
        }
        3 => {
            let most = model.end() - model.decided.min(model.end());
            model.decided += random.below(most + 1);
            storage.set_decided_idx(model.decided)?;
        }
        4 => accept_sync(kit, random, storage, model, round)?,
        5 => compact(random, storage, model)?,
        _ => {
            let stopsign = stopsigns().into_iter().nth(random.below(8));
            if model.decided <= model.next() {
                storage.set_stopsign(stopsign.clone())?;
                model.stopsign = stopsign;
            }
        }
    }
    Ok(())
}

/// What a follower writes when a leader brings it up to date.
fn accept_sync<T: Compared, S: Storage<T>>(
    kit: &Conformance<T, S>,
    random: &mut Random,
    storage: &mut S,
    model: &mut Model<T>,
    round: Ballot,
) -> Outcome {
    if model.decided > model.next() {
        return Ok(());
    }
    let mut operations = vec![StorageOp::SetAcceptedRound(round)];
    let mut from = model.decided + random.below(model.next() - model.decided + 1);
    let jump = random.below(4) == 0;
    if jump {
        // A snapshot that is ahead of everything decided, often beyond the end of the log.
        from = model.decided + random.below(10);
    }
    let suffix = model.new_entries(kit, random.below(4));
    let decided = from + random.below(suffix.len() + 1);
    operations.push(StorageOp::SetDecidedIndex(decided));
    if jump {
        operations.push(StorageOp::Trim(from));
        operations.push(StorageOp::SetCompactedIdx(from));
        model.trim(from);
    }
    operations.push(StorageOp::AppendOnPrefix(from, suffix.clone()));
    operations.push(StorageOp::SetStopsign(None));
    storage.write_atomically(operations)?;
    model.entries.truncate(from - model.start);
    model.entries.extend(suffix);
    (model.accepted, model.decided, model.stopsign) = (Some(round), decided, None);
    Ok(())
}

fn compact<T: Compared, S: Storage<T>>(
    random: &mut Random,
    storage: &mut S,
    model: &mut Model<T>,
) -> Outcome {
    let decided = model.decided.min(model.next());
    let to = model.start + random.below(decided - model.start + 1);
    storage.write_atomically(vec![StorageOp::Trim(to), StorageOp::SetCompactedIdx(to)])?;
    model.trim(to);
    Ok(())
}

impl<T: Compared> Model<T> {
    pub(super) const fn new() -> Self {
        Self {
            start: 0,
            entries: Vec::new(),
            promise: None,
            accepted: None,
            decided: 0,
            stopsign: None,
            next_entry: 0,
        }
    }

    fn next(&self) -> usize {
        self.start + self.entries.len()
    }

    /// The end as OmniPaxos counts it: a stop sign is one more.
    fn end(&self) -> usize {
        self.next() + usize::from(self.stopsign.is_some())
    }

    fn trim(&mut self, to: usize) {
        self.entries.drain(..(to - self.start).min(self.entries.len()));
        self.start = to;
    }

    fn new_entries<S: Storage<T>>(&mut self, kit: &Conformance<T, S>, count: usize) -> Vec<T> {
        let from = self.next_entry;
        self.next_entry += count as u64;
        kit.entries(from..self.next_entry)
    }

    pub(super) fn compare<S: Storage<T>>(&self, storage: &S) -> Result<(), Box<dyn Error>> {
        same!(storage.get_promise()?, self.promise, "promise");
        same!(storage.get_accepted_round()?, self.accepted, "accepted round");
        same!(storage.get_decided_idx()?, self.decided, "decided index");
        same!(storage.get_compacted_idx()?, self.start, "compacted index");
        same!(storage.get_log_len()?, self.entries.len(), "log length");
        same!(storage.get_stopsign()?, self.stopsign, "stop sign");
        same!(storage.get_suffix(self.start)?, self.entries, "log");
        let (middle, next) = (self.start + self.entries.len() / 2, self.next());
        let expected = self.entries.get(middle - self.start..).unwrap_or_default();
        same!(storage.get_entries(middle, next)?, expected, "entries {middle}..{next}");
        same!(storage.get_entries(middle, next + 1)?, vec![], "entries {middle}..{next} and one");
        Ok(())
    }
}

/// A small generator (`SplitMix64`), so that a seed gives one history on every platform.
#[derive(Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap_or(0)
    }

    fn u32(&mut self) -> u32 {
        u32::try_from(self.next() >> 32).unwrap_or(0)
    }
}
