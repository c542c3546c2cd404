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
) -> Result<EmbeddedEngine, Box<dyn Error>> {
    std::fs::create_dir_all(scratch)?;
    let file = scratch.join("node.toml");
    std::fs::write(&file, config(id, port, scratch))?;
    // An example is started by hand the first time and every time; a service would `create` once
    // and `open` from then on.
    let storage = DEngineStorage::open_or_create(logs.join(format!("{id}")), &Options::new())?;
    println!("node {id}: {:?}", storage.log().recovery().verdict);
    let machine = FileStateMachine::new(scratch.join("machine")).await?;
    let file = file.to_str().ok_or("the path of the configuration is not text")?;
    let node = EmbeddedEngine::start_custom(Arc::new(storage), Arc::new(machine), Some(file));
    Ok(node.await?)
}

async fn leader(nodes: &[EmbeddedEngine]) -> &EmbeddedEngine {
    loop {
        if let Some(node) = nodes.iter().find(|node| node.is_leader()) {
            return node;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let logs = std::env::args_os().nth(1).ok_or("usage: replicated_counter DIRECTORY")?;
    let scratch = tempfile::tempdir()?;
    let mut nodes = Vec::new();
    for (id, port) in (1..).zip(PORTS) {
        let scratch = scratch.path().join(format!("{id}"));
        nodes.push(start(id, port, Path::new(&logs), &scratch).await?);
    }
    for node in &nodes {
        node.wait_ready(Duration::from_secs(30)).await?;
    }

    let client = leader(&nodes).await.client();
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

    for node in &nodes {
        node.stop().await?;
    }
    Ok(())
}
