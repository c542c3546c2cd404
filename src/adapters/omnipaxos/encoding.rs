//! How OmniPaxos' own state is encoded in state cells: ballots, indexes, stop signs.
//!
//! Owns: the bytes. Does not own: where they are kept (`state`). serde is not needed: every field of
//! these types is public. All numbers are little-endian.
//!
//! - ballot, 20 bytes: `config_id` u32, `n` u32, `priority` u32, `pid` u64. All four, because two
//!   ballots that differ in `config_id` alone compare as equal in order but are not equal.
//! - index, 8 bytes: u64.
//! - stop sign: `configuration_id` u32, count of nodes u64, nodes u64 each, flag u8 and if 1 the two
//!   quorum sizes u64, flag u8 and if 1 the length u64 and bytes of the metadata.

use omnipaxos::ClusterConfig;
use omnipaxos::ballot_leader_election::Ballot;
use omnipaxos::storage::StopSign;
use omnipaxos::util::FlexibleQuorum;

use crate::codec::{CodecError, Fields};

pub(super) const BALLOT_BYTES: usize = 20;
const NODE_BYTES: usize = 8;

pub(super) fn ballot(ballot: &Ballot) -> [u8; BALLOT_BYTES] {
    let mut bytes = [0; BALLOT_BYTES];
    let fields = ballot
        .config_id
        .to_le_bytes()
        .into_iter()
        .chain(ballot.n.to_le_bytes())
        .chain(ballot.priority.to_le_bytes())
        .chain(ballot.pid.to_le_bytes());
    for (to, from) in bytes.iter_mut().zip(fields) {
        *to = from;
    }
    bytes
}

pub(super) fn ballot_from(bytes: &[u8]) -> Result<Ballot, CodecError> {
    let mut fields = Fields::new(bytes);
    let config_id = fields.u32("config_id")?;
    let n = fields.u32("n")?;
    let priority = fields.u32("priority")?;
    let pid = fields.u64("pid")?;
    fields.finish()?;
    Ok(Ballot { config_id, n, priority, pid })
}

pub(super) fn index_from(bytes: &[u8]) -> Result<u64, CodecError> {
    let mut fields = Fields::new(bytes);
    let index = fields.u64("index")?;
    fields.finish()?;
    Ok(index)
}

pub(super) fn stopsign(stopsign: &StopSign, out: &mut Vec<u8>) {
    let StopSign { next_config, metadata } = stopsign;
    out.extend_from_slice(&next_config.configuration_id.to_le_bytes());
    out.extend_from_slice(&(next_config.nodes.len() as u64).to_le_bytes());
    for node in &next_config.nodes {
        out.extend_from_slice(&node.to_le_bytes());
    }
    match &next_config.flexible_quorum {
        None => out.push(0),
        Some(quorum) => {
            out.push(1);
            out.extend_from_slice(&(quorum.read_quorum_size as u64).to_le_bytes());
            out.extend_from_slice(&(quorum.write_quorum_size as u64).to_le_bytes());
        }
    }
    match metadata {
        None => out.push(0),
        Some(metadata) => {
            out.push(1);
            out.extend_from_slice(&(metadata.len() as u64).to_le_bytes());
            out.extend_from_slice(metadata);
        }
    }
}

pub(super) fn stopsign_from(bytes: &[u8]) -> Result<StopSign, CodecError> {
    let mut fields = Fields::new(bytes);
    let configuration_id = fields.u32("configuration_id")?;
    let count = fields.length("node count")?;
    let nodes = fields.bytes("nodes", count.saturating_mul(NODE_BYTES))?;
    let nodes = nodes
        .chunks_exact(NODE_BYTES)
        .map(|node| Fields::new(node).u64("node"))
        .collect::<Result<_, _>>()?;
    let mut flexible_quorum = None;
    if flag(&mut fields, "quorum flag")? {
        flexible_quorum = Some(FlexibleQuorum {
            read_quorum_size: fields.length("read quorum")?,
            write_quorum_size: fields.length("write quorum")?,
        });
    }
    let mut metadata = None;
    if flag(&mut fields, "metadata flag")? {
        let length = fields.length("metadata length")?;
        metadata = Some(fields.bytes("metadata", length)?.to_vec());
    }
    fields.finish()?;
    let next_config = ClusterConfig { configuration_id, nodes, flexible_quorum };
    Ok(StopSign { next_config, metadata })
}

fn flag(fields: &mut Fields<'_>, field: &'static str) -> Result<bool, CodecError> {
    match fields.u8(field)? {
        0 => Ok(false),
        1 => Ok(true),
        got => Err(CodecError::Value { field, got: got.into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_stopsign() -> Vec<StopSign> {
        let quorum = FlexibleQuorum { read_quorum_size: 4, write_quorum_size: 2 };
        let mut all = Vec::new();
        for nodes in [vec![], vec![1], vec![1, u64::MAX, 3]] {
            for flexible_quorum in [None, Some(quorum)] {
                for metadata in [None, Some(vec![]), Some(vec![7; 300])] {
                    let next_config = ClusterConfig {
                        configuration_id: 9,
                        nodes: nodes.clone(),
                        flexible_quorum,
                    };
                    all.push(StopSign { next_config, metadata });
                }
            }
        }
        all
    }

    #[test]
    fn ballots_keep_all_four_fields() {
        let before = Ballot { config_id: 1, n: u32::MAX, priority: 3, pid: u64::MAX - 1 };
        assert_eq!(ballot_from(&ballot(&before)).unwrap(), before);
    }

    #[test]
    fn stopsigns_round_trip() {
        for before in every_stopsign() {
            let mut bytes = Vec::new();
            stopsign(&before, &mut bytes);
            assert_eq!(stopsign_from(&bytes).unwrap(), before);
        }
    }

    #[test]
    fn every_prefix_and_every_changed_byte_is_refused_or_read_without_a_panic() {
        for before in every_stopsign() {
            let mut bytes = Vec::new();
            stopsign(&before, &mut bytes);
            for end in 0..bytes.len() {
                assert!(stopsign_from(&bytes[..end]).is_err(), "{before:?} cut at {end}");
            }
            for at in 0..bytes.len() {
                for value in [0, 1, 2, 0x7f, 0x80, 0xff] {
                    let mut changed = bytes.clone();
                    changed[at] = value;
                    let _any = stopsign_from(&changed);
                }
            }
            bytes.push(0);
            assert!(stopsign_from(&bytes).is_err());
        }
    }
}
