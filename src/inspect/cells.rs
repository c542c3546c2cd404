//! State cells as text for people: what the adapters of this crate keep in them.
//!
//! Owns: telling a ballot from an index by the cell's name. Does not own: the encodings, which the
//! adapters document; what does not fit is shown as it is.

use byteorder::{ByteOrder, LittleEndian};

/// Bytes of a value that are shown in hexadecimal.
const SHOWN_BYTES: usize = 64;

/// The value of a cell for people: decoded where the name says how, else as text or hexadecimal.
pub fn describe_cell(name: &str, value: &[u8]) -> String {
    let decoded = match name {
        "omnipaxos.promise" | "omnipaxos.accepted" => ballot(value),
        "omnipaxos.decided" | "omnipaxos.compacted" => number(value),
        "omnipaxos.stopsign" => stop_sign(value),
        "omnipaxos.format" | "groups.format" => small_number(value),
        "openraft.vote" => openraft_vote(value),
        "openraft.committed" | "openraft.purged" => openraft_log_id(value),
        "openraft.format" | "async-raft.format" | "async-raft.node" | "async-raft.applied" => {
            varints::<1>(value).map(|[number]| number.to_string())
        }
        "hard-state" => d_engine_hard_state(value),
        "purged" => d_engine_boundary(value),
        _ => None,
    };
    decoded.or_else(|| text(value)).unwrap_or_else(|| hex(value))
}

/// Cells in which hosts state up to where their entries are decided, or committed.
pub(super) const STATED: [&str; 4] =
    ["omnipaxos.decided", "openraft.committed", "async-raft.applied", "raft.hard-state"];

/// What one of [`STATED`] says: the exclusive end of the entries that are the same on every node.
pub(super) fn stated_end(name: &str, value: &[u8]) -> Option<u64> {
    match name {
        "omnipaxos.decided" => (value.len() == 8).then(|| LittleEndian::read_u64(value)),
        "openraft.committed" => varints(value).and_then(|[_, _, index]| index.checked_add(1)),
        "async-raft.applied" => varints(value).and_then(|[index]| index.checked_add(1)),
        "raft.hard-state" => raft_commit(value)?.checked_add(1),
        _ => None,
    }
}

/// The commit index in a hard state: field 3 of three numbers in protobuf. Zero if it is not there.
fn raft_commit(value: &[u8]) -> Option<u64> {
    let (mut commit, mut bytes) = (0, value.iter());
    while let Some(key) = bytes.next() {
        let number = varint(&mut bytes)?;
        match key {
            0x08 | 0x10 => {}
            0x18 => commit = number,
            _ => return None,
        }
    }
    Some(commit)
}

/// Exactly so many numbers in postcard's encoding.
fn varints<const COUNT: usize>(value: &[u8]) -> Option<[u64; COUNT]> {
    let (mut numbers, mut bytes) = ([0; COUNT], value.iter());
    for number in &mut numbers {
        *number = varint(&mut bytes)?;
    }
    bytes.next().is_none().then_some(numbers)
}

/// A number of seven bits a byte, the lowest first.
fn varint(bytes: &mut std::slice::Iter<'_, u8>) -> Option<u64> {
    let (mut number, mut shift) = (0, 0);
    loop {
        let byte = bytes.next()?;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        shift += 7;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
}

fn openraft_vote(value: &[u8]) -> Option<String> {
    let [term, node, committed] = varints(value)?;
    let committed = if committed == 1 { ", committed" } else { "" };
    Some(format!("vote for node {node} in term {term}{committed}"))
}

fn openraft_log_id(value: &[u8]) -> Option<String> {
    let [term, node, index] = varints(value)?;
    Some(format!("log id {term}-{node}-{index}"))
}

fn d_engine_hard_state(value: &[u8]) -> Option<String> {
    let term = LittleEndian::read_u64(value.get(..8)?);
    match value.len() {
        8 => Some(format!("term {term}, no vote")),
        21 => {
            let node = LittleEndian::read_u32(value.get(8..12)?);
            let voted = LittleEndian::read_u64(value.get(12..20)?);
            Some(format!("term {term}, vote for node {node} in term {voted}"))
        }
        _ => None,
    }
}

fn d_engine_boundary(value: &[u8]) -> Option<String> {
    let value = value.first_chunk::<16>().filter(|all| all.len() == value.len())?;
    let (index, term) = value.split_at(8);
    let (index, term) = (LittleEndian::read_u64(index), LittleEndian::read_u64(term));
    Some(format!("entries up to {index} of term {term}"))
}

fn number(value: &[u8]) -> Option<String> {
    (value.len() == 8).then(|| LittleEndian::read_u64(value).to_string())
}

fn small_number(value: &[u8]) -> Option<String> {
    (value.len() == 4).then(|| LittleEndian::read_u32(value).to_string())
}

fn ballot(value: &[u8]) -> Option<String> {
    let value = value.first_chunk::<20>().filter(|all| all.len() == value.len())?;
    let config = LittleEndian::read_u32(value.get(0..4)?);
    let n = LittleEndian::read_u32(value.get(4..8)?);
    let priority = LittleEndian::read_u32(value.get(8..12)?);
    let pid = LittleEndian::read_u64(value.get(12..20)?);
    Some(format!("ballot {n} of node {pid} (configuration {config}, priority {priority})"))
}

fn stop_sign(value: &[u8]) -> Option<String> {
    let config = LittleEndian::read_u32(value.get(0..4)?);
    let count = LittleEndian::read_u64(value.get(4..12)?);
    let mut nodes = Vec::new();
    for nth in 0..usize::try_from(count).ok()? {
        let at = nth.checked_mul(8)?.checked_add(12)?;
        let node = value.get(at..at.checked_add(8)?)?;
        nodes.push(LittleEndian::read_u64(node).to_string());
    }
    Some(format!("stop sign: configuration {config} of nodes {}", nodes.join(", ")))
}

/// Printable text, quoted.
fn text(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok().filter(|text| !text.is_empty())?;
    (!text.chars().any(char::is_control)).then(|| format!("{text:?}"))
}

fn hex(value: &[u8]) -> String {
    use std::fmt::Write;
    let mut out = String::new();
    for byte in value.iter().take(SHOWN_BYTES) {
        let _infallible = write!(out, "{byte:02x}");
    }
    match value.len() {
        0 => "(empty)".to_owned(),
        length if length > SHOWN_BYTES => format!("{out}... ({length} bytes)"),
        _ => out,
    }
}

#[cfg(test)]
mod tests {
    use super::{describe_cell, stated_end};

    #[test]
    fn each_host_states_its_committed_entries_in_its_own_way() {
        assert_eq!(stated_end("omnipaxos.decided", &7_u64.to_le_bytes()), Some(7));
        assert_eq!(stated_end("omnipaxos.decided", &[7]), None);
        assert_eq!(stated_end("openraft.committed", &[3, 2, 0xac, 2]), Some(301));
        assert_eq!(stated_end("openraft.committed", &[3, 2]), None);
        assert_eq!(stated_end("async-raft.applied", &[9]), Some(10));
        // Term 3, vote 2, commit 300; then what has no commit, and what is no hard state.
        assert_eq!(stated_end("raft.hard-state", &[8, 3, 16, 2, 24, 0xac, 2]), Some(301));
        assert_eq!(stated_end("raft.hard-state", &[8, 3]), Some(1));
        for hostile in [&[24][..], &[0xff; 30], &[24, 0xff, 0xff], &[26, 1, 1]] {
            assert_eq!(stated_end("raft.hard-state", hostile), None, "{hostile:?}");
        }
        let most = [&[0xff; 9][..], &[1]].concat();
        assert_eq!(stated_end("async-raft.applied", &most), None);
    }

    #[test]
    fn cells_are_shown_by_what_their_names_say() {
        let mut ballot = Vec::new();
        ballot.extend([1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
        ballot.extend([3, 0, 0, 0, 0, 0, 0, 0]);
        let shown = describe_cell("omnipaxos.promise", &ballot);
        assert_eq!(shown, "ballot 7 of node 3 (configuration 1, priority 0)");
        assert_eq!(describe_cell("omnipaxos.decided", &[5, 0, 0, 0, 0, 0, 0, 0]), "5");
        assert_eq!(describe_cell("vote", b"abc"), "\"abc\"");
        assert_eq!(describe_cell("vote", &[0xff, 0]), "ff00");
        assert_eq!(describe_cell("omnipaxos.promise", &[0]), "00");
        assert_eq!(describe_cell("x", &[]), "(empty)");
        let vote = "vote for node 2 in term 300, committed";
        assert_eq!(describe_cell("openraft.vote", &[0xac, 2, 2, 1]), vote);
        assert_eq!(describe_cell("openraft.purged", &[3, 2, 9]), "log id 3-2-9");
        assert_eq!(describe_cell("openraft.purged", &[0xff; 30]), "ff".repeat(30));
        let boundary = [7_u64.to_le_bytes(), 3_u64.to_le_bytes()].concat();
        assert_eq!(describe_cell("purged", &boundary), "entries up to 7 of term 3");
    }
}
