//! Three OmniPaxos nodes on `indelible` logs, as three processes to which everything happens that
//! happens to nodes: kills, partitions, power cuts, disks that rot, hang or are full.
//!
//! ```text
//! cargo run --release --example kv_cluster
//! ```
//!
//! starts three nodes as operating-system processes that talk TCP on loopback, each with its own
//! log; replicates the lines of a text into a key-value map, and reads them back; kills nodes with
//! SIGKILL while entries are in flight, the leader first, sometimes all of them; restarts them from
//! their logs; takes snapshots and trims the logs under way; and at the end kills everything once more
//! and checks what the logs hold: every acknowledged entry on every node, at the index that was
//! acknowledged, with the bytes that were sent, and no node that knows less about its promises and
//! accepted entries than its peers had seen before it died. What the clients saw has to be
//! linearizable. The last line is `acknowledged N, lost 0, diverged 0`; the exit status is 1 if it
//! says anything else, or if the history of the clients cannot be explained.
//!
//! ```text
//! cargo run --release --example kv_cluster -- --kills 50 --entries 100000 --seed 7
//! cargo run --release --example kv_cluster -- --input /usr/share/dict/words --dir /mnt/disk/logs
//! cargo run --release --example kv_cluster -- --reconfigure --durability always
//! cargo run --release --example kv_cluster -- --partition --rot 2 --dir logs --html run.html
//! ```
//!
//! A SIGKILL takes the process and leaves the page cache: it shows recovery of a process, of
//! OmniPaxos' state, of a cluster. `--partition` cuts the leader off from the others. `--rot NODE`
//! flips bits in a sealed segment: the node must refuse to start, is repaired, is refilled from a
//! peer, and goes on. `--power-cut` takes what was not synced away from all nodes at once;
//! `--full-disk NODE` leaves a node no room, so that it votes and accepts nothing until a trim;
//! `--slow-disk NODE` lets the syncs of a leader hang, so that it asks another node to lead. A disk
//! that is only to be full is a small tmpfs, which needs root; the others are a file system of our
//! own (the program `lossy`), need root and FUSE, and say how to build it. `--html FILE` draws all of
//! it on one page. With `--dir` the logs stay, and the run ends with the command that shows what is in
//! one of them.
//!
//! # By hand
//!
//! The program is `target/release/examples/kv_cluster`. In three terminals `kv_cluster serve 1
//! --new`, `serve 2 --new`, `serve 3 --new`; in a fourth:
//!
//! ```text
//! kv_cluster put ink indelible
//! kv_cluster get ink
//! kv_cluster status
//! ```
//!
//! Stop one with Ctrl-C or `kill -9`, start it again with `serve ID` (without `--new`: a node that
//! has lost its log must not pretend to be itself). To replace node 3 by a node 4, `serve 4 --join
//! --listen 127.0.0.1:7464`, then `kv_cluster replace 3 4 127.0.0.1:7464`. `--help` lists every
//! option.
//!
//! # What to copy
//!
//! `replica.rs` (OmniPaxos on a log), `node.rs` (the turn: apply, sync, only then send), `fitness.rs`
//! (a leader whose disk hangs, a node whose disk is full), `net.rs`
//! (what `reconnected` needs), `mend.rs` (two faults of OmniPaxos 0.2.4 that a host with snapshots
//! meets), `node/moving.rs` (the same log under the next configuration).

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people to watch")]
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "a host, not the log")]

mod args;
mod bytes;
mod check;
mod client;
mod cluster;
mod decode;
mod disks;
#[cfg(feature = "prometheus")]
mod export;
mod failure;
mod fitness;
mod history;
mod input;
mod kills;
mod kv;
mod load;
mod members;
mod mend;
mod net;
mod node;
mod page;
mod protocol;
mod replica;
mod report;
mod run;
mod serve;
mod timeline;
mod wire;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::Job;
use crate::failure::Outcome;
use crate::kv::Command;

fn main() -> ExitCode {
    match carry_out(args::Words::parse().job()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(job: Job) -> Outcome<bool> {
    match job {
        Job::Run(choices) => return run::run(choices),
        Job::Serve(choices) => serve::serve(&choices, |text| println!("{text}"))?,
        Job::Put { key, value, nodes } => {
            let command = Command::Put { id: client::fresh_id()?, key, value };
            let (index, _) = client::submit(&nodes.members, &command)?;
            println!("decided at index {index}");
        }
        Job::Get { key, nodes } => {
            let command = Command::Look { id: client::fresh_id()?, key };
            let (index, value) = client::submit(&nodes.members, &command)?;
            match value {
                Some(value) => println!("{value}"),
                None => println!("(nothing under this key as of index {index})"),
            }
        }
        Job::Status { nodes } => {
            for (id, address) in &nodes.members.nodes {
                println!("{}", client::describe(*id, address));
            }
        }
        Job::Replace { old, new, address, nodes } => {
            let request = protocol::Request::Replace { old, new, address };
            println!("{}", client::replace(&nodes.members, &request)?);
        }
        Job::Decode => decode::lines(std::io::stdin().lock(), std::io::stdout().lock())?,
    }
    Ok(true)
}
