//! A replicated key-value store on async-raft: three nodes in one process, each on a log of its own.
//! Writes, stops everything, starts again from disk, and reads it all back.
//!
//! `cargo run -p indelible-async-raft --example async_raft_kv [-- DIRECTORY]`

#[path = "hosts/kv.rs"]
mod kv;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use async_raft::raft::ClientWriteRequest;
use async_raft::{Config, NodeId, SnapshotPolicy};
use indelible::{Log, Options};
use kv::{Network, Set};

const NODES: NodeId = 3;
const KEYS: usize = 200;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "an example shows what it does")]
async fn main() -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let directory =
        std::env::args_os().nth(1).map_or_else(|| temporary.path().to_path_buf(), PathBuf::from);

    let network = start(&directory)?;
    if network.node(0)?.initialize((0..NODES).collect()).await.is_ok() {
        println!("new cluster of {NODES} nodes in {}", directory.display());
    } else {
        println!("cluster in {} goes on", directory.display());
    }
    let first = leader(&network).await?;
    write(&network, first, 0..KEYS / 2).await?;
    network.isolate(first);
    let second = leader(&network).await?;
    write(&network, second, KEYS / 2..KEYS).await?;
    network.restore(first);
    println!(
        "{KEYS} keys written, half through node {first}, half through node {second} without it"
    );
    stop(&network).await?;

    println!("all nodes stopped; starting them from disk (async-raft elects after half a minute)");
    let network = start(&directory)?;
    for id in 0..NODES {
        let store = network.store(id)?;
        let log = store.log();
        let known = store.with_machine(|machine| machine.data.len()).await;
        println!("node {id}: entries {}..{}, {known} keys", log.first(), log.next());
    }
    let third = leader(&network).await?;
    let set = Set { key: "one".into(), value: "more".into() };
    network.node(third)?.client_write(ClientWriteRequest::new(set)).await?;
    let known = network.store(third)?.with_machine(|machine| machine.data.len()).await;
    println!("node {third} leads and has {known} keys");
    stop(&network).await?;
    if known < KEYS {
        bail!("keys were lost");
    }
    Ok(())
}

fn start(directory: &Path) -> Result<Arc<Network>> {
    let config = Config::build("kv".into())
        .heartbeat_interval(100)
        .election_timeout_min(500)
        .election_timeout_max(1000)
        .snapshot_policy(SnapshotPolicy::LogsSinceLast(150))
        .validate()?;
    let (network, config) = (Arc::new(Network::default()), Arc::new(config));
    let options = Options::new().segment_bytes(1024 * 1024);
    // Its nodes are started here the first time and every time; a service would `create` its log once,
    // and `open` it from then on.
    for id in 0..NODES {
        let (log, _) = Log::open_or_create(directory.join(id.to_string()), &options)?;
        network.start(id, &config, log)?;
    }
    Ok(network)
}

async fn write(network: &Network, leader: NodeId, keys: std::ops::Range<usize>) -> Result<()> {
    for key in keys {
        let set = Set { key: key.to_string(), value: format!("value of {key}") };
        network.node(leader)?.client_write(ClientWriteRequest::new(set)).await?;
    }
    Ok(())
}

async fn stop(network: &Network) -> Result<()> {
    for id in 0..NODES {
        network.stop(id).await?;
    }
    Ok(())
}

/// Waits for a leader that can be reached.
async fn leader(network: &Network) -> Result<NodeId> {
    for _ in 0..1200 {
        if let Some(leader) = network.leader() {
            return Ok(leader);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("no leader was elected")
}
