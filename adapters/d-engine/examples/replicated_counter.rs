//! Three d-engine nodes in one process, each with its log on indelible, stopped and started again.
//!
//! `cargo run --example replicated_counter -- DIRECTORY`: every run adds ten to a counter that lives
//! in DIRECTORY. The state machines start empty each time; the counter comes out of the logs.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use d_engine_server::{EmbeddedEngine, FileStateMachine};
use indelible::Log;
use indelible_d_engine::{DEngineStorage, Options};

const PORTS: [u16; 3] = [27181, 27182, 27183];
const KEY: &str = "counter";

/// What d-engine wants to know about one node, as a file.
fn config(id: usize, port: u16, scratch: &Path) -> String {
    let nodes: Vec<String> = (1..)
        .zip(PORTS)
        .map(|(id, port)| {
            format!("{{ id = {id}, address = '127.0.0.1:{port}', role = 1, status = 3 }}")
        })
        .collect();
    let (nodes, scratch) = (nodes.join(", "), scratch.display());
    format!(
        "[cluster]\n\
         node_id = {id}\n\
         listen_address = '127.0.0.1:{port}'\n\
         initial_cluster = [{nodes}]\n\
         db_root_dir = '{scratch}/db'\n\
         log_dir = '{scratch}/text'\n\
         [raft.snapshot]\n\
         enable = false\n\
         snapshots_dir = '{scratch}/snapshots'\n"
    )
}

async fn start(
    id: usize,
    port: u16,
    logs: &Path,
    scratch: &Path,
) -> Result<(EmbeddedEngine, Log), Box<dyn Error>> {
    std::fs::create_dir_all(scratch)?;
    let file = scratch.join("node.toml");
    std::fs::write(&file, config(id, port, scratch))?;
    // An example is started by hand the first time and every time; a service would `create` once
    // and `open` from then on.
    let storage = DEngineStorage::open_or_create(logs.join(format!("{id}")), &Options::new())?;
    let log = storage.log().clone();
    println!("node {id}: {:?}", log.recovery().verdict);
    let machine = FileStateMachine::new(scratch.join("machine")).await?;
    let file = file.to_str().ok_or("the path of the configuration is not text")?;
    let node = EmbeddedEngine::start_custom(Arc::new(storage), Arc::new(machine), Some(file));
    Ok((node.await?, log))
}

async fn leader(nodes: &[EmbeddedEngine]) -> &EmbeddedEngine {
    loop {
        if let Some(node) = nodes.iter().find(|node| node.is_leader()) {
            return node;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits for a log to fail. d-engine only notes that in its own log and goes on from memory, so the
/// process has to end.
async fn poisoned(logs: &[Log]) -> String {
    loop {
        if let Some(log) = logs.iter().find(|log| log.stats().poisoned) {
            return format!("the log in {} has failed", log.path().display());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).ok_or("usage: replicated_counter DIRECTORY")?;
    let scratch = tempfile::tempdir()?;
    let (mut nodes, mut logs) = (Vec::new(), Vec::new());
    for (id, port) in (1..).zip(PORTS) {
        let scratch = scratch.path().join(format!("{id}"));
        let (node, log) = start(id, port, Path::new(&directory), &scratch).await?;
        nodes.push(node);
        logs.push(log);
    }
    tokio::select! {
        counted = count(&nodes) => counted?,
        failed = poisoned(&logs) => return Err(failed.into()),
    }
    for node in &nodes {
        node.stop().await?;
    }
    Ok(())
}

/// Adds ten to the counter.
async fn count(nodes: &[EmbeddedEngine]) -> Result<(), Box<dyn Error>> {
    for node in nodes {
        node.wait_ready(Duration::from_secs(30)).await?;
    }

    let client = leader(nodes).await.client();
    let found = client.get_linearizable(KEY).await?;
    let mut counter: u64 = match &found {
        Some(bytes) => std::str::from_utf8(bytes)?.parse()?,
        None => 0,
    };
    println!("the counter was {counter}");
    for _ in 0..10 {
        counter += 1;
        client.put(KEY, counter.to_string()).await?;
    }
    println!("the counter is {counter}");
    Ok(())
}
