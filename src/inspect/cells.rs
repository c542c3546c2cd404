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
        "omnipaxos.decided" | "omnipaxos.compacted" => number(value).map(|it| it.to_string()),
        "omnipaxos.stopsign" => stop_sign(value),
        "omnipaxos.format" | "groups.format" | "raft.format" => small_number(value),
        "openraft.vote" => openraft_vote(value),
        "openraft.committed" | "openraft.purged" => openraft_log_id(value),
        "openraft.format" | "async-raft.format" | "async-raft.node" | "async-raft.applied" => {
            varints::<1>(value).map(|[number]| number.to_string())
        }
        "raft.hard-state" => raft_hard_state(value),
        "raft.conf-state" => raft_members(value),
        "hard-state" => d_engine_hard_state(value),
        "raft.boundary" | "purged" => boundary(value),
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
        "omnipaxos.decided" => number(value),
        "openraft.committed" => varints(value).and_then(|[_, _, index]| index.checked_add(1)),
        "async-raft.applied" => varints(value).and_then(|[index]| index.checked_add(1)),
        "raft.hard-state" => raft_numbers(value).map(|[_, _, commit]| commit)?.checked_add(1),
        _ => None,
    }
}

/// Term, vote and commit index of a hard state: fields 1 to 3 in protobuf, each zero if it is not there.
fn raft_numbers(value: &[u8]) -> Option<[u64; 3]> {
    let (mut numbers, mut bytes) = ([0; 3], value.iter());
    while let Some(key) = bytes.next() {
        let number = varint(&mut bytes)?;
        let [term, vote, commit] = &mut numbers;
        match key {
            0x08 => *term = number,
            0x10 => *vote = number,
            0x18 => *commit = number,
            _ => return None,
        }
    }
    Some(numbers)
}

fn raft_hard_state(value: &[u8]) -> Option<String> {
    let [term, vote, commit] = raft_numbers(value)?;
    let vote = if vote == 0 { "no vote".to_owned() } else { format!("vote for node {vote}") };
    Some(format!("term {term}, {vote}, committed up to {commit}"))
}

/// A configuration in protobuf: fields 1 to 4 are packed numbers of nodes, field 5 is a flag.
fn raft_members(value: &[u8]) -> Option<String> {
    const ROLES: [&str; 4] = ["voters", "learners", "outgoing voters", "learners to be"];
    let (mut said, mut bytes) = (Vec::new(), value.iter());
    while let Some(key) = bytes.next() {
        let number = varint(&mut bytes)?;
        if *key == 0x28 {
            continue;
        }
        let role = key.checked_sub(0x0a).filter(|it| it % 8 == 0).map(|it| usize::from(it / 8))?;
        let (packed, rest) = bytes.as_slice().split_at_checked(usize::try_from(number).ok()?)?;
        let (mut packed, mut nodes) = (packed.iter(), Vec::new());
        while !packed.as_slice().is_empty() {
            nodes.push(varint(&mut packed)?.to_string());
        }
        said.push(format!("{} {}", ROLES.get(role)?, nodes.join(", ")));
        bytes = rest.iter();
    }
    (!said.is_empty()).then(|| said.join("; "))
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

fn boundary(value: &[u8]) -> Option<String> {
    let value = value.first_chunk::<16>().filter(|all| all.len() == value.len())?;
    let (index, term) = value.split_at(8);
    let (index, term) = (LittleEndian::read_u64(index), LittleEndian::read_u64(term));
    Some(format!("entries up to {index} of term {term}"))
}

fn number(value: &[u8]) -> Option<u64> {
    (value.len() == 8).then(|| LittleEndian::read_u64(value))
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
        for name in ["purged", "raft.boundary"] {
            assert_eq!(describe_cell(name, &boundary), "entries up to 7 of term 3");
        }
    }

    #[test]
    fn cells_of_tikv_raft_are_read_as_its_messages() {
        let state = describe_cell("raft.hard-state", &[8, 3, 16, 2, 24, 0xac, 2]);
        assert_eq!(state, "term 3, vote for node 2, committed up to 300");
        assert_eq!(describe_cell("raft.hard-state", &[8, 3]), "term 3, no vote, committed up to 0");
        let members = [10, 3, 1, 0xac, 2, 18, 1, 4, 40, 1];
        assert_eq!(describe_cell("raft.conf-state", &members), "voters 1, 300; learners 4");
        for hostile in
            [&[10, 200, 1][..], &[10, 0xff, 0xff], &[10, 1, 0xff], &[42, 1, 1], &[9, 1, 1]]
        {
            assert_eq!(describe_cell("raft.conf-state", hostile), super::hex(hostile));
        }
    }
}
