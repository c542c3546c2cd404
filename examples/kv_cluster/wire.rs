//! OmniPaxos messages as bytes.
//!
//! Owns: one function each way for every message of OmniPaxos 0.2; all their fields are public, so
//! no serialization framework is needed. Does not own: what travels around them (`protocol`).

use omnipaxos::ClusterConfig;
use omnipaxos::ballot_leader_election::Ballot;
use omnipaxos::messages::Message;
use omnipaxos::messages::ballot_leader_election::{
    BLEMessage, HeartbeatMsg, HeartbeatReply, HeartbeatRequest,
};
use omnipaxos::messages::sequence_paxos::{
    AcceptDecide, AcceptStopSign, AcceptSync, Accepted, Compaction, Decide, NotAccepted,
    PaxosMessage, PaxosMsg, Prepare, PrepareReq, Promise,
};
use omnipaxos::storage::{SnapshotType, StopSign};
use omnipaxos::util::{FlexibleQuorum, LogSync, SequenceNumber};

use crate::bytes::{BadBytes, In, Out, Read};
use crate::kv::{Command, KvSnapshot};

/// A message between two nodes.
pub(crate) type Paxos = Message<Command>;

pub(crate) fn put_message(out: &mut Out, message: &Paxos) {
    match message {
        Message::SequencePaxos(PaxosMessage { from, to, msg }) => {
            out.u8(1).u64(*from).u64(*to);
            put_paxos(out, msg);
        }
        Message::BLE(BLEMessage { from, to, msg }) => {
            out.u8(2).u64(*from).u64(*to);
            match msg {
                HeartbeatMsg::Request(request) => {
                    out.u8(1).u32(request.round);
                }
                HeartbeatMsg::Reply(reply) => {
                    out.u8(2).u32(reply.round);
                    put_ballot(out, &reply.ballot);
                    put_ballot(out, &reply.leader);
                    out.flag(reply.happy);
                }
            }
        }
    }
}

pub(crate) fn get_message(bytes: &mut In<'_>) -> Read<Paxos> {
    let kind = bytes.u8()?;
    let (from, to) = (bytes.u64()?, bytes.u64()?);
    match kind {
        1 => Ok(Message::SequencePaxos(PaxosMessage { from, to, msg: get_paxos(bytes)? })),
        2 => {
            let msg = match bytes.u8()? {
                1 => HeartbeatMsg::Request(HeartbeatRequest { round: bytes.u32()? }),
                2 => HeartbeatMsg::Reply(HeartbeatReply {
                    round: bytes.u32()?,
                    ballot: get_ballot(bytes)?,
                    leader: get_ballot(bytes)?,
                    happy: bytes.flag()?,
                }),
                _ => return Err(BadBytes("heartbeat")),
            };
            Ok(Message::BLE(BLEMessage { from, to, msg }))
        }
        _ => Err(BadBytes("message")),
    }
}

fn put_paxos(out: &mut Out, msg: &PaxosMsg<Command>) {
    match msg {
        PaxosMsg::PrepareReq(m) => put_ballot(out.u8(1), &m.n),
        PaxosMsg::Prepare(m) => {
            put_ballot(out.u8(2), &m.n);
            out.count(m.decided_idx);
            put_ballot(out, &m.n_accepted);
            out.count(m.accepted_idx);
        }
        PaxosMsg::Promise(m) => {
            put_ballot(out.u8(3), &m.n);
            put_ballot(out, &m.n_accepted);
            out.count(m.decided_idx).count(m.accepted_idx);
            out.option(m.log_sync.as_ref(), put_log_sync);
        }
        PaxosMsg::AcceptSync(m) => {
            put_ballot(out.u8(4), &m.n);
            put_sequence(out, m.seq_num);
            out.count(m.decided_idx);
            put_log_sync(out, &m.log_sync);
        }
        PaxosMsg::AcceptDecide(m) => {
            put_ballot(out.u8(5), &m.n);
            put_sequence(out, m.seq_num);
            out.count(m.decided_idx);
            put_commands(out, &m.entries);
        }
        PaxosMsg::Accepted(m) => {
            put_ballot(out.u8(6), &m.n);
            out.count(m.accepted_idx);
        }
        PaxosMsg::NotAccepted(m) => put_ballot(out.u8(7), &m.n),
        PaxosMsg::Decide(m) => {
            put_ballot(out.u8(8), &m.n);
            put_sequence(out, m.seq_num);
            out.count(m.decided_idx);
        }
        PaxosMsg::ProposalForward(commands) => put_commands(out.u8(9), commands),
        PaxosMsg::Compaction(Compaction::Trim(index)) => {
            out.u8(10).count(*index);
        }
        PaxosMsg::Compaction(Compaction::Snapshot(index)) => {
            out.u8(11).option(index.as_ref(), |out, index| {
                out.count(*index);
            });
        }
        PaxosMsg::AcceptStopSign(m) => {
            put_ballot(out.u8(12), &m.n);
            put_sequence(out, m.seq_num);
            put_stop_sign(out, &m.ss);
        }
        PaxosMsg::ForwardStopSign(stop_sign) => put_stop_sign(out.u8(13), stop_sign),
    }
}

fn get_paxos(bytes: &mut In<'_>) -> Read<PaxosMsg<Command>> {
    Ok(match bytes.u8()? {
        1 => PaxosMsg::PrepareReq(PrepareReq { n: get_ballot(bytes)? }),
        2 => PaxosMsg::Prepare(Prepare {
            n: get_ballot(bytes)?,
            decided_idx: bytes.count()?,
            n_accepted: get_ballot(bytes)?,
            accepted_idx: bytes.count()?,
        }),
        3 => PaxosMsg::Promise(Promise {
            n: get_ballot(bytes)?,
            n_accepted: get_ballot(bytes)?,
            decided_idx: bytes.count()?,
            accepted_idx: bytes.count()?,
            log_sync: bytes.option(get_log_sync)?,
        }),
        4 => PaxosMsg::AcceptSync(AcceptSync {
            n: get_ballot(bytes)?,
            seq_num: get_sequence(bytes)?,
            decided_idx: bytes.count()?,
            log_sync: get_log_sync(bytes)?,
            #[cfg(feature = "omnipaxos-unicache")]
            unicache: crate::kv::NoCache,
        }),
        5 => PaxosMsg::AcceptDecide(AcceptDecide {
            n: get_ballot(bytes)?,
            seq_num: get_sequence(bytes)?,
            decided_idx: bytes.count()?,
            entries: bytes.list(Command::decode)?,
        }),
        6 => PaxosMsg::Accepted(Accepted { n: get_ballot(bytes)?, accepted_idx: bytes.count()? }),
        7 => PaxosMsg::NotAccepted(NotAccepted { n: get_ballot(bytes)? }),
        8 => PaxosMsg::Decide(Decide {
            n: get_ballot(bytes)?,
            seq_num: get_sequence(bytes)?,
            decided_idx: bytes.count()?,
        }),
        9 => PaxosMsg::ProposalForward(bytes.list(Command::decode)?),
        10 => PaxosMsg::Compaction(Compaction::Trim(bytes.count()?)),
        11 => PaxosMsg::Compaction(Compaction::Snapshot(bytes.option(In::count)?)),
        12 => PaxosMsg::AcceptStopSign(AcceptStopSign {
            n: get_ballot(bytes)?,
            seq_num: get_sequence(bytes)?,
            ss: get_stop_sign(bytes)?,
        }),
        13 => PaxosMsg::ForwardStopSign(get_stop_sign(bytes)?),
        _ => return Err(BadBytes("Paxos message")),
    })
}

fn put_log_sync(out: &mut Out, sync: &LogSync<Command>) {
    out.option(sync.decided_snapshot.as_ref(), |out, snapshot| match snapshot {
        SnapshotType::Complete(snapshot) => snapshot.encode(out.u8(1)),
        SnapshotType::Delta(snapshot) => snapshot.encode(out.u8(2)),
    });
    put_commands(out, &sync.suffix);
    out.count(sync.sync_idx);
    out.option(sync.stopsign.as_ref(), put_stop_sign);
}

fn get_log_sync(bytes: &mut In<'_>) -> Read<LogSync<Command>> {
    Ok(LogSync {
        decided_snapshot: bytes.option(|bytes| match bytes.u8()? {
            1 => KvSnapshot::decode(bytes).map(SnapshotType::Complete),
            2 => KvSnapshot::decode(bytes).map(SnapshotType::Delta),
            _ => Err(BadBytes("snapshot")),
        })?,
        suffix: bytes.list(Command::decode)?,
        sync_idx: bytes.count()?,
        stopsign: bytes.option(get_stop_sign)?,
    })
}

fn put_stop_sign(out: &mut Out, stop_sign: &StopSign) {
    out.u32(stop_sign.next_config.configuration_id);
    out.list(stop_sign.next_config.nodes.iter(), |out, node| {
        out.u64(*node);
    });
    out.option(stop_sign.next_config.flexible_quorum.as_ref(), |out, quorum| {
        out.count(quorum.read_quorum_size).count(quorum.write_quorum_size);
    });
    out.option(stop_sign.metadata.as_ref(), |out, metadata| {
        out.bytes(metadata);
    });
}

fn get_stop_sign(bytes: &mut In<'_>) -> Read<StopSign> {
    let next_config = ClusterConfig {
        configuration_id: bytes.u32()?,
        nodes: bytes.list(In::u64)?,
        flexible_quorum: bytes.option(|bytes| {
            Ok(FlexibleQuorum {
                read_quorum_size: bytes.count()?,
                write_quorum_size: bytes.count()?,
            })
        })?,
    };
    let metadata = bytes.option(In::bytes)?.map(<[u8]>::to_vec);
    Ok(StopSign::with(next_config, metadata))
}

pub(crate) fn put_ballot(out: &mut Out, ballot: &Ballot) {
    out.u32(ballot.config_id).u32(ballot.n).u32(ballot.priority).u64(ballot.pid);
}

pub(crate) fn get_ballot(bytes: &mut In<'_>) -> Read<Ballot> {
    Ok(Ballot {
        config_id: bytes.u32()?,
        n: bytes.u32()?,
        priority: bytes.u32()?,
        pid: bytes.u64()?,
    })
}

fn put_sequence(out: &mut Out, sequence: SequenceNumber) {
    out.u64(sequence.session).u64(sequence.counter);
}

fn get_sequence(bytes: &mut In<'_>) -> Read<SequenceNumber> {
    Ok(SequenceNumber { session: bytes.u64()?, counter: bytes.u64()? })
}

fn put_commands(out: &mut Out, commands: &[Command]) {
    out.list(commands.iter(), |out, command| command.encode(out));
}

#[cfg(test)]
mod tests {
    use super::*;
    use omnipaxos::storage::Snapshot;

    const BALLOT: Ballot = Ballot { config_id: 2, n: 7, priority: 1, pid: 3 };
    const SEQUENCE: SequenceNumber = SequenceNumber { session: 4, counter: 9 };

    fn commands() -> Vec<Command> {
        vec![
            Command::Put { id: 1, key: "k".into(), value: "v".into() },
            Command::Look { id: 2, key: "k".into() },
        ]
    }

    fn stop_sign() -> StopSign {
        let quorum = FlexibleQuorum { read_quorum_size: 3, write_quorum_size: 2 };
        let config = ClusterConfig {
            configuration_id: 2,
            nodes: vec![1, 2, 4],
            flexible_quorum: Some(quorum),
        };
        StopSign::with(config, Some(b"addresses".to_vec()))
    }

    fn log_sync(snapshot: Option<SnapshotType<Command>>) -> LogSync<Command> {
        LogSync {
            decided_snapshot: snapshot,
            suffix: commands(),
            sync_idx: 5,
            stopsign: Some(stop_sign()),
        }
    }

    fn every_message() -> Vec<Paxos> {
        let snapshot = KvSnapshot::create(&commands());
        let accepts = |log_sync| {
            PaxosMsg::AcceptSync(AcceptSync {
                n: BALLOT,
                seq_num: SEQUENCE,
                decided_idx: 8,
                log_sync,
                #[cfg(feature = "omnipaxos-unicache")]
                unicache: crate::kv::NoCache,
            })
        };
        let promise = |log_sync| {
            PaxosMsg::Promise(Promise {
                n: BALLOT,
                n_accepted: BALLOT,
                decided_idx: 3,
                accepted_idx: 4,
                log_sync,
            })
        };
        let paxos = vec![
            PaxosMsg::PrepareReq(PrepareReq { n: BALLOT }),
            PaxosMsg::Prepare(Prepare {
                n: BALLOT,
                decided_idx: 1,
                n_accepted: BALLOT,
                accepted_idx: 2,
            }),
            promise(None),
            promise(Some(log_sync(Some(SnapshotType::Delta(snapshot.clone()))))),
            accepts(log_sync(None)),
            accepts(log_sync(Some(SnapshotType::Complete(snapshot)))),
            PaxosMsg::AcceptDecide(AcceptDecide {
                n: BALLOT,
                seq_num: SEQUENCE,
                decided_idx: 6,
                entries: commands(),
            }),
            PaxosMsg::Accepted(Accepted { n: BALLOT, accepted_idx: 11 }),
            PaxosMsg::NotAccepted(NotAccepted { n: BALLOT }),
            PaxosMsg::Decide(Decide { n: BALLOT, seq_num: SEQUENCE, decided_idx: 12 }),
            PaxosMsg::ProposalForward(commands()),
            PaxosMsg::Compaction(Compaction::Trim(13)),
            PaxosMsg::Compaction(Compaction::Snapshot(None)),
            PaxosMsg::Compaction(Compaction::Snapshot(Some(14))),
            PaxosMsg::AcceptStopSign(AcceptStopSign {
                n: BALLOT,
                seq_num: SEQUENCE,
                ss: stop_sign(),
            }),
            PaxosMsg::ForwardStopSign(stop_sign()),
        ];
        let heartbeats = [
            HeartbeatMsg::Request(HeartbeatRequest { round: 5 }),
            HeartbeatMsg::Reply(HeartbeatReply {
                round: 5,
                ballot: BALLOT,
                leader: BALLOT,
                happy: true,
            }),
        ];
        let paxos = paxos
            .into_iter()
            .map(|msg| Message::SequencePaxos(PaxosMessage { from: 1, to: 2, msg }));
        let heartbeats =
            heartbeats.into_iter().map(|msg| Message::BLE(BLEMessage { from: 1, to: 2, msg }));
        paxos.chain(heartbeats).collect()
    }

    #[test]
    fn every_message_survives_the_wire() {
        for message in every_message() {
            let mut out = Out::new();
            put_message(&mut out, &message);
            let bytes = out.finish();
            let mut read = In::new(&bytes);
            let back = get_message(&mut read).unwrap();
            read.end().unwrap();
            let mut again = Out::new();
            put_message(&mut again, &back);
            assert_eq!(again.finish(), bytes, "{message:?}");
        }
    }

    #[test]
    fn message_cut_short_is_refused() {
        for message in every_message() {
            let mut out = Out::new();
            put_message(&mut out, &message);
            let bytes = out.finish();
            for end in 0..bytes.len() {
                let mut read = In::new(&bytes[..end]);
                assert!(get_message(&mut read).is_err(), "{message:?} cut at {end}");
            }
        }
    }
}
