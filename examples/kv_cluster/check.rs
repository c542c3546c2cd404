//! The verdict at the end of a run.
//!
//! Owns: what counts as lost and as diverged. Does not own: collecting what the nodes hold (`run`).
//!
//! Lost: an acknowledged entry that some node does not have, or does not have at the index that was
//! acknowledged. Diverged: a node whose entries, their order, their bytes or the resulting map
//! differ from those of the others, or from what was sent.

use omnipaxos::util::NodeId;

use crate::input::Input;
use crate::kv::Machine;
use crate::protocol::Dump;

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) acknowledged: u64,
    pub(crate) lost: u64,
    pub(crate) diverged: u64,
    /// Entries in the log of which the nodes hold more than one copy: sent again, applied once.
    pub(crate) repeated: usize,
    /// What was found, for a person.
    pub(crate) notes: Vec<String>,
}

/// Most findings that are spelled out.
const NOTES_MAX: usize = 10;

pub(crate) fn check(dumps: &[(NodeId, Dump)], input: &Input, index_of: &[Option<u64>]) -> Verdict {
    let mut verdict = Verdict::default();
    for (entry, index) in index_of.iter().enumerate() {
        let Some(index) = index else { continue };
        verdict.acknowledged += 1;
        let id = entry as u64 + 1;
        let position = usize::try_from(*index).unwrap_or(usize::MAX);
        let lacks = |dump: &Dump| dump.history.get(position) != Some(&id);
        let lacking: Vec<NodeId> =
            dumps.iter().filter(|(_, dump)| lacks(dump)).map(|(node, _)| *node).collect();
        if !lacking.is_empty() {
            verdict.lost += 1;
            note(&mut verdict, || {
                format!("entry {entry}, acknowledged at index {index}, is not there on {lacking:?}")
            });
        }
    }
    let longest = dumps.iter().max_by_key(|(_, dump)| dump.history.len());
    let expected = longest.and_then(|(_, dump)| replay(&dump.history, input));
    for (node, dump) in dumps {
        if expected.as_ref() != Some(dump) {
            verdict.diverged += 1;
            let found = difference(dump, expected.as_ref());
            note(&mut verdict, || format!("node {node} differs: {found}"));
        }
    }
    if let Some(expected) = &expected {
        let mut ids = expected.history.clone();
        ids.sort_unstable();
        ids.dedup();
        verdict.repeated = expected.history.len() - ids.len();
    }
    verdict
}

fn note(verdict: &mut Verdict, text: impl FnOnce() -> String) {
    if verdict.notes.len() < NOTES_MAX {
        verdict.notes.push(text());
    }
}

/// What a node should hold that applied these commands, as they were sent, in this order.
fn replay(history: &[u64], input: &Input) -> Option<Dump> {
    let mut machine = Machine::default();
    for id in history {
        machine.apply(&input.command(Input::entry_of(*id)?));
    }
    Some(Dump {
        digest: machine.digest(),
        map_digest: machine.map_digest(),
        keys: machine.keys(),
        history: history.to_vec(),
    })
}

fn difference(dump: &Dump, expected: Option<&Dump>) -> String {
    let Some(expected) = expected else {
        return "it holds an entry that was never sent".to_owned();
    };
    let common = dump.history.iter().zip(&expected.history).take_while(|(a, b)| a == b).count();
    if common < dump.history.len().max(expected.history.len()) {
        format!(
            "{} entries, the longest log has {}; they part at index {common}",
            dump.history.len(),
            expected.history.len()
        )
    } else if dump.digest == expected.digest {
        "the entries are equal, the map is not".to_owned()
    } else {
        "the bytes of its entries are not those that were sent".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(ids: &[u64]) -> Dump {
        replay(ids, &Input::load(None).unwrap()).unwrap()
    }

    fn verdict(dumps: &[Dump], index_of: &[Option<u64>]) -> (u64, u64, u64) {
        let dumps: Vec<_> = (1..).zip(dumps.iter().cloned()).collect();
        let verdict = check(&dumps, &Input::load(None).unwrap(), index_of);
        (verdict.acknowledged, verdict.lost, verdict.diverged)
    }

    #[test]
    fn equal_nodes_pass() {
        let whole = dump(&[1, 2, 1, 3]);
        assert_eq!(verdict(&[whole.clone(), whole], &[Some(0), Some(1), Some(3)]), (3, 0, 0));
    }

    #[test]
    fn entry_missing_on_one_node_is_lost() {
        let nodes = [dump(&[1, 2, 3]), dump(&[1, 2])];
        assert_eq!(verdict(&nodes, &[Some(0), Some(1), Some(2)]), (3, 1, 1));
    }

    #[test]
    fn entry_at_another_index_is_lost() {
        let nodes = [dump(&[1, 2]), dump(&[2, 1])];
        assert_eq!(verdict(&nodes, &[Some(0), Some(1)]).1, 2);
    }

    #[test]
    fn changed_bytes_diverge() {
        let mut wrong = dump(&[1, 2]);
        wrong.digest ^= 1;
        assert_eq!(verdict(&[dump(&[1, 2]), wrong], &[]), (0, 0, 1));
    }
}
