//! Two faults of OmniPaxos 0.2.4 that a host with snapshots and reconfiguration has to mend on the
//! way.
//!
//! Owns: what is changed in messages, and why that is sound. Does not own: when (`node`).
//!
//! 1. A node that is behind is sent a *delta* snapshot: the entries from its decided index on.
//!    OmniPaxos merges it into a snapshot that it makes of the receiver's log up to the *sender's*
//!    decided index. The receiver has not got that far, the range is empty, and whatever it held
//!    between its own snapshot and its decided index is lost. So the delta is merged here, into the
//!    state machine at the receiver's decided index, which is where the delta starts, and handed on
//!    as a complete snapshot.
//! 2. A node that already holds the stop sign is told to synchronize from the index after it, and
//!    then counts the stop sign twice; from then on nobody agrees on where the log ends. The stop
//!    sign is always the last entry, so a synchronization never starts after it.

use omnipaxos::messages::Message;
use omnipaxos::messages::sequence_paxos::PaxosMsg;
use omnipaxos::storage::{Snapshot, SnapshotType};
use omnipaxos::util::LogSync;

use crate::kv::{Command, KvSnapshot, Machine};
use crate::wire::Paxos;

fn log_sync(message: &mut Paxos) -> Option<&mut LogSync<Command>> {
    match message {
        Message::SequencePaxos(paxos) => match &mut paxos.msg {
            PaxosMsg::AcceptSync(accept) => Some(&mut accept.log_sync),
            PaxosMsg::Promise(promise) => promise.log_sync.as_mut(),
            _ => None,
        },
        Message::BLE(_) => None,
    }
}

/// Whether the message must be mended against a machine that has applied everything decided.
pub(crate) fn has_snapshot(message: &mut Paxos) -> bool {
    log_sync(message).is_some_and(|sync| sync.decided_snapshot.is_some())
}

/// Makes snapshots complete. False if the snapshot does not end where the message says: the message
/// answers an older state of this node and must not be delivered.
pub(crate) fn incoming(message: &mut Paxos, machine: &Machine) -> bool {
    let Some(sync) = log_sync(message) else {
        return true;
    };
    let whole = match sync.decided_snapshot.take() {
        None => return true,
        Some(SnapshotType::Complete(snapshot)) => snapshot,
        Some(SnapshotType::Delta(delta)) => {
            let mut whole = KvSnapshot::from(machine.clone());
            whole.merge(delta);
            whole
        }
    };
    let fits = whole.len() == sync.sync_idx && sync.sync_idx >= machine.len();
    sync.decided_snapshot = Some(SnapshotType::Complete(whole));
    fits
}

/// Never lets a synchronization start after the stop sign; `accepted` is the sender's log end.
pub(crate) fn outgoing(message: &mut Paxos, accepted: usize) {
    if let Some(sync) = log_sync(message)
        && sync.stopsign.is_some()
    {
        sync.sync_idx = sync.sync_idx.min(accepted.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use omnipaxos::ballot_leader_election::Ballot;
    use omnipaxos::messages::sequence_paxos::{PaxosMessage, Promise};
    use omnipaxos::storage::StopSign;

    fn put(id: u64) -> Command {
        Command::Put { id, key: format!("key {id}"), value: "v".into() }
    }

    fn promise(sync_idx: usize, snapshot: SnapshotType<Command>) -> Paxos {
        let log_sync = LogSync {
            decided_snapshot: Some(snapshot),
            suffix: Vec::new(),
            sync_idx,
            stopsign: Some(StopSign::with(omnipaxos::ClusterConfig::default(), None)),
        };
        let msg = PaxosMsg::Promise(Promise {
            n: Ballot::default(),
            n_accepted: Ballot::default(),
            decided_idx: 0,
            accepted_idx: 0,
            log_sync: Some(log_sync),
        });
        Message::SequencePaxos(PaxosMessage { from: 1, to: 2, msg })
    }

    #[test]
    fn delta_is_merged_into_what_the_receiver_decided() {
        let mut machine = Machine::default();
        (1..=3).for_each(|id| machine.apply(&put(id)));
        let delta = SnapshotType::Delta(KvSnapshot::create(&[put(4), put(5)]));
        let mut message = promise(5, delta.clone());
        assert!(has_snapshot(&mut message) && incoming(&mut message, &machine));
        let Some(SnapshotType::Complete(whole)) =
            log_sync(&mut message).unwrap().decided_snapshot.take()
        else {
            panic!("still a delta");
        };
        assert_eq!(whole.into_machine().history(), [1, 2, 3, 4, 5]);
        assert!(!incoming(&mut promise(6, delta), &machine), "made for another state");
    }

    #[test]
    fn synchronization_never_starts_after_the_stop_sign() {
        let mut message = promise(9, SnapshotType::Complete(KvSnapshot::default()));
        outgoing(&mut message, 9);
        assert_eq!(log_sync(&mut message).unwrap().sync_idx, 8);
    }
}
