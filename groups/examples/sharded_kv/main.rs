//! A sharded key-value store: 64 OmniPaxos groups on three processes over three shared logs.
//!
//! ```text
//! cargo run --release -p indelible-groups --example sharded_kv
//! cargo run --release -p indelible-groups --example sharded_kv -- --entries 50000 --kills 20 --seed 7
//! ```
//!
//! Each process keeps its replicas of all shards in one log, as groups, and makes a turn of all of them
//! durable with one sync. Processes are killed with SIGKILL while commands are in flight, and started
//! again from their logs. Half way one shard moves to a new group, in the next configuration: the
//! atomic batch over both groups is its commit point. Another shard lags: for half of the run node 3
//! gets nothing of it, and nobody drops its entries, so that the logs carry them forward.
//!
//! At the end everything is killed once more, and what the logs hold is compared: every acknowledged
//! command on every node, at the index that was acknowledged, with the bytes that were sent. The last
//! line is `acknowledged N, lost 0, diverged 0`; the exit status is 1 if it says anything else.
//!
//! The processes talk through pipes to the one that started them, which is their network: it hands
//! messages on, or loses them. What to copy: `shard.rs` (OmniPaxos on a group, and the move), `node.rs`
//! (the turn: handle, apply, sync once, only then send).

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people to watch")]
#![expect(clippy::disallowed_methods, reason = "a host, not the log")]

// What `kv_cluster` has already: commands, the map, messages, and what has to be mended in them.
#[path = "../../../examples/kv_cluster/bytes.rs"]
mod bytes;
#[path = "../../../examples/kv_cluster/kv.rs"]
#[expect(dead_code, reason = "`kv_cluster` uses all of it")]
mod kv;
#[path = "../../../examples/kv_cluster/mend.rs"]
mod mend;
#[path = "../../../examples/kv_cluster/wire.rs"]
mod wire;

mod check;
mod cluster;
mod frames;
mod node;
mod run;
mod shard;

use std::path::PathBuf;
use std::process::ExitCode;

/// Groups at the beginning; the group of a shard in its `n`th configuration is `shard + n * SHARDS`.
const SHARDS: u64 = 64;
/// The processes.
const NODES: [u64; 3] = [1, 2, 3];

/// What may go wrong, told to a person.
type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// What a run is to do.
#[derive(Debug)]
struct Choices {
    entries: u64,
    kills: u64,
    seed: u64,
    /// Where the logs go, and stay; a temporary directory if there is none.
    dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["node", id, dir, how] => {
            node::serve(id.parse().unwrap_or_default(), dir.as_ref(), how == "new").map(|()| true)
        }
        _ => choices(&words).and_then(|choices| run::run(&choices)),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn choices(words: &[&str]) -> Outcome<Choices> {
    let mut choices = Choices { entries: 20_000, kills: 6, seed: 1, dir: None };
    for pair in words.chunks(2) {
        let [word, value] = *pair else {
            return Err(format!("{pair:?} needs a value").into());
        };
        match word {
            "--entries" => choices.entries = value.parse()?,
            "--kills" => choices.kills = value.parse()?,
            "--seed" => choices.seed = value.parse()?,
            "--dir" => choices.dir = Some(value.into()),
            _ => {
                let known = "--entries N, --kills N, --seed N, --dir DIR";
                return Err(format!("`{word}` is none of {known}").into());
            }
        }
    }
    Ok(choices)
}
