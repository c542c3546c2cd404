//! A person's way into the cluster: `put`, `get`, `status`, `replace`.
//!
//! Owns: one question on one connection, and trying the next node when one does not answer. Does
//! not own: the load of a run (`load`).

use std::time::{Duration, Instant};

use crate::failure::{Failure, Outcome, Why};
use crate::kv::Command;
use crate::members::Members;
use crate::net::dial;
use crate::protocol::{CLIENT_GREETING, Reply, Request, Status, read_frame, write_frame};

/// How long a command may take, elections included.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks one node one thing.
pub(crate) fn ask(address: &str, request: &Request, timeout: Duration) -> Outcome<Reply> {
    let answer = || {
        let mut stream = dial(address, timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        write_frame(&mut stream, CLIENT_GREETING)?;
        write_frame(&mut stream, &request.to_bytes())?;
        read_frame(&mut stream)
    };
    let bytes = answer().why(|| format!("no answer from {address}"))?;
    Reply::from_bytes(&bytes).why(|| format!("{address} is no node of this program"))
}

pub(crate) fn status(address: &str, timeout: Duration) -> Outcome<Status> {
    match ask(address, &Request::Status, timeout)? {
        Reply::Status(status) => Ok(*status),
        _ => Err(Failure::new(format!("{address} is no node of this program"))),
    }
}

/// Submits a command to one node after the other until one has it decided. The identifier stays the
/// same, so the command acts once however often it is sent.
pub(crate) fn submit(nodes: &Members, command: &Command) -> Outcome<(u64, Option<String>)> {
    let give_up = Instant::now() + PATIENCE;
    let mut last = Failure::new("no nodes");
    while Instant::now() < give_up {
        for address in nodes.nodes.values() {
            let request = Request::Submit(command.clone());
            match ask(address, &request, Duration::from_secs(2)) {
                Ok(Reply::Done { index, value, .. }) => return Ok((index, value)),
                Ok(Reply::Refused { reason, .. }) => last = Failure::new(reason),
                Ok(_) => last = Failure::new(format!("{address} is no node of this program")),
                Err(failure) => last = failure,
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(Failure::new(format!("the cluster did not answer within {PATIENCE:?}; last: {last}"))
        .hint("two of three nodes must run; start them with `serve`, see --help"))
}

/// An identifier that no other client is likely to choose.
pub(crate) fn fresh_id() -> Outcome<u64> {
    // The upper half is never that of a run's load, which counts from a small number.
    getrandom::u64().map(|id| id | 1 << 63).why(|| "no randomness")
}

pub(crate) fn replace(nodes: &Members, request: &Request) -> Outcome<String> {
    let mut last = Failure::new("no nodes");
    for address in nodes.nodes.values() {
        match ask(address, request, Duration::from_secs(2)) {
            Ok(Reply::Said(text)) => return Ok(text),
            Ok(_) => last = Failure::new(format!("{address} is no node of this program")),
            Err(failure) => last = failure,
        }
    }
    Err(last)
}

/// One line a node.
pub(crate) fn describe(id: u64, address: &str) -> String {
    match status(address, Duration::from_secs(2)) {
        Err(failure) => format!("node {id} {address:<21} down ({failure})"),
        Ok(s) => format!(
            "node {id} {address:<21} {:<8} config {} leader {} promise n={} pid={} decided {} \
             applied {} trimmed {} syncs {} snapshots {} segments {} up {} s",
            s.role,
            s.members.config,
            s.leader,
            s.oath.promise.n,
            s.oath.promise.pid,
            s.decided,
            s.applied,
            s.compacted,
            s.syncs,
            s.snapshots,
            s.segments,
            s.uptime_ms / 1000,
        ),
    }
}
