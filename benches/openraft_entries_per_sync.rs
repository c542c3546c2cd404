//! How many entries one sync makes durable, by the number of clients: a single node each of
//! openraft 0.9, which waits for every append before it takes the next, and of 0.10, which does not.
//!
//! `cargo bench -p indelible-benches --bench openraft_entries_per_sync`
//! The directory is a temporary one; `TMPDIR` chooses the disk.

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

type Failed = Box<dyn std::error::Error + Send + Sync>;

const CLIENTS: [u64; 4] = [1, 16, 64, 256];
const SECONDS: u64 = 2;
const VALUE_BYTES: usize = 256;

#[tokio::main]
async fn main() -> Result<(), Failed> {
    println!("{VALUE_BYTES}-byte values, one node, {SECONDS} s each");
    println!(
        "{:<14}{:>8}{:>12}{:>10}{:>18}",
        "openraft", "clients", "entries/s", "syncs/s", "entries per sync"
    );
    for clients in CLIENTS {
        let directory = tempfile::tempdir()?;
        let cluster = cluster::Cluster::new(directory.path(), u64::MAX)?;
        let node = cluster.start(0).await?;
        cluster.initialize().await?;
        cluster.leader().await?;
        let raft = node.raft.clone();
        let write = move |key, value| {
            let raft = raft.clone();
            async move {
                raft.client_write(kv_09::Set { key, value }).await?;
                Ok(())
            }
        };
        measure("0.9", clients, &node.log, write).await?;
        cluster.stop(0).await?;
    }
    for clients in CLIENTS {
        let directory = tempfile::tempdir()?;
        let (raft, log) = start(directory.path()).await?;
        let writer = raft.clone();
        let write = move |key, value| {
            let raft = writer.clone();
            async move {
                raft.client_write(kv_010::Set { key, value }).await?;
                Ok(())
            }
        };
        measure("0.10 alpha.37", clients, &log, write).await?;
        raft.shutdown().await?;
        log.close()?;
    }
    Ok(())
}

/// Lets so many clients write one value after the other, and prints what that took.
async fn measure<W, F>(host: &str, clients: u64, log: &Log, write: W) -> Result<(), Failed>
where
    W: Fn(String, String) -> F,
    F: Future<Output = Result<(), Failed>>,
{
    let (entries, syncs, start) = (log.next(), log.stats().syncs, Instant::now());
    let until = start + Duration::from_secs(SECONDS);
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
    let milliseconds = u64::try_from(start.elapsed().as_millis())?.max(1);
    let (entries, syncs) = (log.next() - entries, (log.stats().syncs - syncs).max(1));
    let tenths = entries * 10 / syncs;
    println!(
        "{host:<14}{clients:>8}{:>12}{:>10}{:>16}.{}",
        entries * 1000 / milliseconds,
        syncs * 1000 / milliseconds,
        tenths / 10,
        tenths % 10
    );
    Ok(())
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
