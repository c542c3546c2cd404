//! The verdict at the end of a run.
//!
//! Lost: an acknowledged command that some node does not have, or not at the index that was
//! acknowledged. Diverged: a replica of a shard whose commands, their order, their bytes, the resulting
//! map or whose group differ from those of the other nodes, or from what was sent.

use std::collections::BTreeMap;

use crate::frames::Held;
use crate::kv::{Command, Machine};

/// What one node holds: of each shard its group, and what is in it.
pub(crate) type Dump = BTreeMap<u64, (u64, Held)>;

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) acknowledged: u64,
    pub(crate) lost: u64,
    pub(crate) diverged: u64,
    /// What was found, for a person.
    pub(crate) notes: Vec<String>,
}

/// Compares what nodes hold with what was acknowledged: shard, id of the command, index.
pub(crate) fn check(
    dumps: &BTreeMap<u64, Dump>,
    acknowledged: &[(u64, u64, u64)],
    sent: impl Fn(u64) -> Command,
) -> Verdict {
    let mut verdict = Verdict::default();
    for (shard, id, index) in acknowledged {
        verdict.acknowledged += 1;
        let position = usize::try_from(*index).unwrap_or(usize::MAX);
        let has = |dump: &Dump| {
            dump.get(shard).is_some_and(|(_, held)| held.history.get(position) == Some(id))
        };
        let lacking: Vec<_> = dumps.iter().filter(|(_, dump)| !has(dump)).collect();
        if !lacking.is_empty() || dumps.is_empty() {
            verdict.lost += 1;
            let nodes: Vec<_> = lacking.iter().map(|(node, _)| **node).collect();
            verdict
                .notes
                .push(format!("command {id} of shard {shard} is not at {index} on {nodes:?}"));
        }
    }
    let shards = dumps.values().flat_map(|dump| dump.keys().copied());
    for shard in shards.collect::<std::collections::BTreeSet<u64>>() {
        let replicas = dumps.iter().map(|(node, dump)| (node, dump.get(&shard)));
        let longest = replicas.clone().filter_map(|(_, replica)| replica);
        let longest = longest.max_by_key(|(group, held)| (*group, held.history.len()));
        let Some((group, longest)) = longest else { continue };
        let mut machine = Machine::default();
        longest.history.iter().for_each(|id| machine.apply(&sent(*id)));
        let expected = Held {
            digest: machine.digest(),
            map_digest: machine.map_digest(),
            history: longest.history.clone(),
        };
        for (node, replica) in replicas {
            if replica.is_none_or(|(found, held)| found != group || *held != expected) {
                verdict.diverged += 1;
                verdict.notes.push(format!("shard {shard} of node {node} differs"));
            }
        }
    }
    verdict
}
