//! What the examples do with a cluster: write, lose a node, go on, take snapshots, stop everything,
//! and read it all back.

use std::path::PathBuf;

use super::cluster::Cluster;

pub(crate) type Failed = Box<dyn std::error::Error + Send + Sync>;

const NODES: u64 = 3;
const KEYS: u64 = 200;

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
pub(crate) async fn run() -> Result<(), Failed> {
    let temporary = tempfile::tempdir()?;
    let directory =
        std::env::args_os().nth(1).map_or_else(|| temporary.path().to_path_buf(), PathBuf::from);

    let cluster = Cluster::new(&directory, 100)?;
    for id in 0..NODES {
        cluster.start(id).await?;
    }
    if cluster.initialize().await.is_ok() {
        println!("new cluster of {NODES} nodes in {}", directory.display());
    } else {
        println!("cluster in {} goes on", directory.display());
    }

    for key in 0..KEYS / 2 {
        cluster.set(&format!("key {key}"), "before").await?;
    }
    let lost = NODES - 1;
    cluster.stop(lost).await?;
    for key in 0..KEYS {
        cluster.set(&format!("key {key}"), "after").await?;
    }
    println!("{KEYS} keys written, most of them without node {lost}");
    cluster.start(lost).await?;

    for id in 0..NODES {
        let log = cluster.node(id)?.log;
        println!("node {id}: entries {}..{}, {} syncs", log.first(), log.next(), log.stats().syncs);
        cluster.stop(id).await?;
    }

    println!("all nodes stopped; starting them from disk");
    for id in 0..NODES {
        cluster.start(id).await?;
    }
    let leader = cluster.up_to_date_leader().await?;
    let found = (0..KEYS)
        .filter(|key| leader.machine.get(&format!("key {key}")).as_deref() == Some("after"))
        .count();
    println!("the new leader has {found} of {KEYS} keys");
    for id in 0..NODES {
        cluster.stop(id).await?;
    }
    if found == usize::try_from(KEYS)? { Ok(()) } else { Err("keys were lost".into()) }
}
