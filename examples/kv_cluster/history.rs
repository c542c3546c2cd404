//! What the clients of a run saw, and whether it can be explained by commands that act one at a time.
//!
//! Owns: the check that the history of a map is linearizable. Does not own: collecting it (`load`).
//!
//! A map is linearizable if each of its keys is, so each key is checked by itself, as porcupine does.
//! No value is written twice to a key, so every read names the write it saw, and no search is needed:
//! a write and its reads stand together in any order of the whole (Gibbons and Korach, "Testing Shared
//! Memories", 1997). Some operation of such a group has returned first, at `returned`, and some was
//! begun last, at `begun`. One group stands before another if it has an operation that returned before
//! one of the other was begun. There is an order unless two groups each have to stand before the
//! other, or a read returned before its write was begun. A test holds this against a search.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::input::Input;
use crate::kv::Command;

/// One command of a client, with times since the start of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) entry: u64,
    pub(crate) begun: Duration,
    pub(crate) returned: Duration,
    /// What a read found.
    pub(crate) value: Option<String>,
}

/// Checks everything that clients saw, key by key. Returns how many keys there are.
///
/// # Errors
/// The first key whose history cannot be explained, and why.
pub(crate) fn check(seen: &[Seen], input: &Input) -> Result<usize, String> {
    let mut ids = HashMap::new();
    for it in seen {
        if let Command::Put { id, key, value } = input.command(it.entry) {
            ids.insert((key, value), id);
        }
    }
    let mut registers: BTreeMap<String, Vec<Operation>> = BTreeMap::new();
    for it in seen {
        let (key, act) = match input.command(it.entry) {
            Command::Put { id, key, .. } => (key, Act::Write(id)),
            Command::Look { key, .. } => {
                let found = match &it.value {
                    None => 0,
                    Some(value) => *ids
                        .get(&(key.clone(), value.clone()))
                        .ok_or_else(|| format!("{key}: `{value}` was read, which nobody wrote"))?,
                };
                (key, Act::Read(found))
            }
        };
        let (begun, returned) = (clock(it.begun), clock(it.returned));
        registers.entry(key).or_default().push(Operation { begun, returned, act });
    }
    for (key, operations) in &registers {
        linearizable(operations).map_err(|why| format!("{key}: {why}"))?;
    }
    Ok(registers.len())
}

/// Nanoseconds, above 0.
fn clock(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).saturating_add(1)
}

/// One operation on a register, from when it was begun to when its answer came, on any clock that
/// starts above 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) begun: u64,
    pub(crate) returned: u64,
    pub(crate) act: Act,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Each write of a register has a value of its own, above 0.
    Write(u64),
    /// What was read; 0 if nothing had been written yet.
    Read(u64),
}

/// A write and the reads that saw it.
#[derive(Debug, Clone, Copy)]
struct Group {
    value: u64,
    /// When the first operation of it returned.
    returned: u64,
    /// When the last one was begun.
    begun: u64,
    /// When its write was begun, if it has one.
    written: Option<u64>,
}

impl Group {
    fn stands_before(&self, other: &Self) -> bool {
        self.returned < other.begun
    }

    /// Whether one operation of it ended before another was begun: nothing else can stand between them.
    fn is_stretch(&self) -> bool {
        self.returned < self.begun
    }
}

/// # Errors
/// What cannot be explained, in words.
pub(crate) fn linearizable(operations: &[Operation]) -> Result<(), String> {
    let groups = groups(operations)?;
    let (mut stretches, moments): (Vec<Group>, Vec<Group>) =
        groups.into_iter().partition(Group::is_stretch);
    stretches.sort_by_key(|group| group.returned);
    // If any two stretches meet, two neighbours do.
    for pair in stretches.windows(2) {
        if let [one, other] = pair {
            apart(one, other)?;
        }
    }
    for moment in &moments {
        // They are apart by now, so the last one that the moment may stand in is the one to look at.
        let before = stretches.partition_point(|stretch| stretch.stands_before(moment));
        if let Some(stretch) = before.checked_sub(1).and_then(|last| stretches.get(last)) {
            apart(stretch, moment)?;
        }
    }
    Ok(())
}

fn groups(operations: &[Operation]) -> Result<Vec<Group>, String> {
    // What was there at first is as if written before everything.
    let nothing = Group { value: 0, returned: 0, begun: 0, written: Some(0) };
    let mut groups = BTreeMap::from([(0, nothing)]);
    for operation in operations {
        let (Act::Write(value) | Act::Read(value)) = operation.act;
        let group = groups.entry(value).or_insert(Group {
            value,
            returned: operation.returned,
            begun: operation.begun,
            written: None,
        });
        group.returned = group.returned.min(operation.returned);
        group.begun = group.begun.max(operation.begun);
        if matches!(operation.act, Act::Write(_))
            && group.written.replace(operation.begun).is_some()
        {
            return Err(format!("value {value} was written twice"));
        }
    }
    for group in groups.values() {
        match group.written {
            None => return Err(format!("value {} was read and never written", group.value)),
            Some(written) if group.returned < written => {
                return Err(format!("value {} was read before it was written", group.value));
            }
            Some(_) => {}
        }
    }
    Ok(groups.into_values().collect())
}

fn apart(one: &Group, other: &Group) -> Result<(), String> {
    if one.stands_before(other) && other.stands_before(one) {
        return Err(format!(
            "values {} and {} would each have to be older than the other",
            one.value, other.value
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use todc_utils::linearizability::WGLChecker;
    use todc_utils::linearizability::history::{Action, History};
    use todc_utils::specifications::register::{
        RegisterOperation, RegisterSpecification as Register,
    };

    const fn write(begun: u64, returned: u64, value: u64) -> Operation {
        Operation { begun, returned, act: Act::Write(value) }
    }

    const fn read(begun: u64, returned: u64, value: u64) -> Operation {
        Operation { begun, returned, act: Act::Read(value) }
    }

    #[test]
    fn reads_beside_a_write_may_see_either_value() {
        for seen in [0, 1] {
            assert_eq!(linearizable(&[write(2, 9, 1), read(3, 4, seen)]), Ok(()));
        }
        let reversed = [write(1, 20, 1), write(2, 21, 2), read(3, 4, 2), read(5, 6, 1)];
        assert_eq!(linearizable(&reversed), Ok(()));
    }

    #[test]
    fn lost_write_is_rejected() {
        assert!(linearizable(&[write(1, 2, 1), read(3, 4, 0)]).is_err());
        assert!(linearizable(&[write(1, 2, 1), write(3, 4, 2), read(5, 6, 1)]).is_err());
    }

    #[test]
    fn value_that_goes_back_is_rejected() {
        let history = [write(1, 20, 1), read(2, 3, 1), read(4, 5, 0)];
        assert!(linearizable(&history).is_err());
        let history = [write(1, 20, 1), write(2, 19, 2), read(3, 4, 1), read(5, 6, 2)];
        assert_eq!(linearizable(&history), Ok(()));
        assert!(linearizable(&[&history[..], &[read(7, 8, 1)]].concat()).is_err());
    }

    #[test]
    fn value_from_nowhere_is_rejected() {
        assert!(linearizable(&[read(1, 2, 7)]).is_err());
        assert!(linearizable(&[read(1, 2, 7), write(3, 4, 7)]).is_err());
        assert!(linearizable(&[write(1, 2, 7), write(3, 4, 7)]).is_err());
    }

    fn seen(entry: u64, begun: u64, returned: u64, value: Option<&str>) -> Seen {
        let (begun, returned) = (Duration::from_secs(begun), Duration::from_secs(returned));
        Seen { entry, begun, returned, value: value.map(str::to_owned) }
    }

    #[test]
    fn stale_read_of_a_client_is_rejected() {
        let input = Input::load(None).unwrap();
        // Entry 3 reads the key that entry 0 writes.
        let Command::Put { key, value, .. } = input.command(0) else { panic!("a write") };
        assert_eq!(input.command(3), Command::Look { id: 4, key: key.clone() });
        let write = seen(0, 1, 2, None);
        let check = |read: Seen| check(&[write.clone(), read], &input);
        assert_eq!(check(seen(3, 3, 4, Some(&value))), Ok(1));
        assert!(check(seen(3, 3, 4, None)).is_err());
        assert!(check(seen(3, 3, 4, Some("of nobody"))).is_err());
        assert_eq!(check(seen(3, 1, 4, None)), Ok(1));
    }

    /// What the search of Wing, Gong and Lowe says, as porcupine implements it.
    fn found_by_search(operations: &[Operation]) -> bool {
        let mut ends = Vec::new();
        for (client, operation) in operations.iter().enumerate() {
            let act = match operation.act {
                Act::Write(value) => RegisterOperation::Write(value),
                Act::Read(value) => RegisterOperation::Read(Some(value)),
            };
            ends.push((operation.begun, client, Action::Call(act)));
            ends.push((operation.returned, client, Action::Response(act)));
        }
        ends.sort_by_key(|end| end.0);
        let actions = ends.into_iter().map(|(_, client, action)| (client, action)).collect();
        WGLChecker::<Register<u64>>::is_linearizable(History::from_actions(actions))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..Default::default() })]

        #[test]
        fn verdict_is_that_of_a_search(
            writes in 1_u64..4,
            reads in proptest::collection::vec(0_u64..4, 1..5),
            order in Just((1..=16_u64).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let acts = (1..=writes)
                .map(Act::Write)
                .chain(reads.iter().map(|seen| Act::Read(seen % (writes + 1))));
            let operations: Vec<Operation> = acts
                .zip(order.chunks(2))
                .map(|(act, ends)| Operation {
                    begun: ends[0].min(ends[1]),
                    returned: ends[0].max(ends[1]),
                    act,
                })
                .collect();
            prop_assert_eq!(linearizable(&operations).is_ok(), found_by_search(&operations));
        }
    }
}
