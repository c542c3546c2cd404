//! How many entries one sync makes durable, by the number of clients: a single node each of
//! openraft 0.9, which waits for every append before it takes the next, and of 0.10, which does not,
//! beside a bare write of as many entries with one sync.
//!
//! `cargo bench -p indelible-benches --bench openraft_entries_per_sync`
//! `INDELIBLE_BENCH_DIR` chooses the disk; the target directory by default.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

#[path = "../adapters/openraft/examples/hosts/cluster_09.rs"]
#[expect(dead_code, reason = "one node needs no more")]
mod cluster;
#[path = "../adapters/openraft/examples/hosts/openraft_010.rs"]
#[expect(dead_code, reason = "nothing is read back")]
mod kv_010;
#[path = "../adapters/openraft/examples/hosts/openraft_09.rs"]
#[expect(dead_code, reason = "nothing is read back")]
mod kv_09;
#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use indelible::{Log, Options};
use indelible_openraft::v010::LogStore;
use openraft_010::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft_010::network::RPCOption;
use openraft_010::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft_010::type_config::alias::{SnapshotOf, VoteOf};
use openraft_010::{Config, Raft, RaftNetworkFactory, RaftNetworkV2, SnapshotPolicy};
use support::{is_test, median};

type Failed = Box<dyn std::error::Error + Send + Sync>;

const CLIENTS: [usize; 4] = [1, 16, 64, 256];
const ROUNDS: usize = 5;
const TURN: Duration = Duration::from_secs(1);
const VALUE_BYTES: usize = 256;
/// What an entry of so many bytes takes in a log.
const FRAME_BYTES: usize = VALUE_BYTES + 32;
const CONTENDERS: [&str; 3] = ["pwrite and fdatasync", "openraft 0.9", "openraft 0.10 alpha.37"];

/// What one contender did while it had its turn.
#[derive(Debug, Clone, Copy)]
struct Turn {
    entries_per_second: f64,
    entries_per_sync: f64,
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let (rounds, turn) = if is_test() { (1, TURN / 50) } else { (ROUNDS, TURN) };
    println!("{VALUE_BYTES}-byte values, one node, {turn:?} each, {rounds} rounds; medians");
    println!("The first of each three writes an entry of every client at once, without a host.");
    println!("{:<24}{:>8}{:>12}{:>18}", "", "clients", "entries/s", "entries per sync");
    for clients in CLIENTS {
        let mut turns = [const { Vec::new() }; 3];
        for _ in 0..rounds {
            turns[0].push(floor(clients, turn)?);
            turns[1].push(openraft_09(clients, turn).await?);
            turns[2].push(openraft_010(clients, turn).await?);
        }
        for (name, turns) in CONTENDERS.iter().zip(&turns) {
            let rates = turns.iter().map(|turn: &Turn| turn.entries_per_second).collect();
            let shared = turns.iter().map(|turn: &Turn| turn.entries_per_sync).collect();
            println!("{name:<24}{clients:>8}{:>12.0}{:>18.1}", median(rates), median(shared));
        }
    }
    Ok(())
}

/// The most that a sync for the entries of all clients allows: one write and one `fdatasync`.
fn floor(clients: usize, turn: Duration) -> Result<Turn, Failed> {
    let directory = support::directory();
    let mut floor = support::Floor::new(directory.path(), 64 << 20);
    let frames = vec![7; clients * FRAME_BYTES];
    let (start, mut syncs) = (Instant::now(), 0_u32);
    while start.elapsed() < turn {
        floor.append(&frames);
        syncs += 1;
    }
    let entries_per_sync = f64::from(u32::try_from(clients)?);
    let syncs_per_second = f64::from(syncs) / start.elapsed().as_secs_f64();
    Ok(Turn { entries_per_second: entries_per_sync * syncs_per_second, entries_per_sync })
}

async fn openraft_09(clients: usize, turn: Duration) -> Result<Turn, Failed> {
    let directory = support::directory();
    let cluster = cluster::Cluster::new(directory.path(), u64::MAX)?;
    let node = cluster.start(0).await?;
    cluster.initialize().await?;
    cluster.leader().await?;
    let write = |key, value| {
        let raft = node.raft.clone();
        async move {
            raft.client_write(kv_09::Set { key, value }).await?;
            Ok(())
        }
    };
    let turn = measure(clients, turn, &node.log, write).await?;
    cluster.stop(0).await?;
    Ok(turn)
}

async fn openraft_010(clients: usize, turn: Duration) -> Result<Turn, Failed> {
    let directory = support::directory();
    let (raft, log) = start(directory.path()).await?;
    let write = |key, value| {
        let raft = raft.clone();
        async move {
            raft.client_write(kv_010::Set { key, value }).await?;
            Ok(())
        }
    };
    let turn = measure(clients, turn, &log, write).await?;
    raft.shutdown().await?;
    log.close()?;
    Ok(turn)
}

/// Lets so many clients write one value after the other.
async fn measure<W, F>(clients: usize, turn: Duration, log: &Log, write: W) -> Result<Turn, Failed>
where
    W: Fn(String, String) -> F,
    F: Future<Output = Result<(), Failed>>,
{
    let (entries, syncs, start) = (log.next(), log.stats().syncs, Instant::now());
    let until = start + turn;
    try_join_all((0..clients).map(|client| {
        let write = &write;
        async move {
            while Instant::now() < until {
                write(client.to_string(), "x".repeat(VALUE_BYTES)).await?;
            }
            Ok::<(), Failed>(())
        }
    }))
    .await?;
    let entries = f64::from(u32::try_from(log.next() - entries)?);
    let syncs = f64::from(u32::try_from(log.stats().syncs - syncs)?.max(1));
    Ok(Turn {
        entries_per_second: entries / start.elapsed().as_secs_f64(),
        entries_per_sync: entries / syncs,
    })
}

/// A cluster of one node of openraft 0.10.
async fn start(directory: &Path) -> Result<(Raft<kv_010::Types, kv_010::Machine>, Log), Failed> {
    let config = Config { snapshot_policy: SnapshotPolicy::Never, ..Config::default() };
    let log = Log::create(directory.join("log"), &Options::new())?;
    let (store, machine) =
        (LogStore::<kv_010::Types>::open(log.clone())?, kv_010::Machine::open(log.clone())?);
    let raft = Raft::new(0, Arc::new(config.validate()?), Alone, store, machine).await?;
    raft.initialize(BTreeSet::from([0])).await?;
    raft.wait(Some(Duration::from_secs(10))).current_leader(0, "leads itself").await?;
    Ok((raft, log))
}

/// The network of a node without peers.
struct Alone;

fn nobody() -> Unreachable<kv_010::Types> {
    Unreachable::new(&io::Error::other("there is no other node"))
}

impl RaftNetworkFactory<kv_010::Types> for Alone {
    type Network = Self;

    async fn new_client(&mut self, _target: u64, (): &()) -> Self {
        Self
    }
}

impl RaftNetworkV2<kv_010::Types> for Alone {
    type SnapshotData = io::Cursor<Vec<u8>>;

    async fn append_entries(
        &mut self,
        _rpc: AppendEntriesRequest<kv_010::Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<kv_010::Types>, RPCError<kv_010::Types>> {
        Err(nobody().into())
    }

    async fn vote(
        &mut self,
        _rpc: VoteRequest<kv_010::Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<kv_010::Types>, RPCError<kv_010::Types>> {
        Err(nobody().into())
    }

    async fn full_snapshot(
        &mut self,
        _vote: VoteOf<kv_010::Types>,
        _snapshot: SnapshotOf<kv_010::Types, io::Cursor<Vec<u8>>>,
        _cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<kv_010::Types>, StreamingError<kv_010::Types>> {
        Err(nobody().into())
    }
}
