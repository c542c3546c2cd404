//! A replicated key-value store on openraft 0.9: three nodes in one process, each on a log of its own.
//! Writes, loses a node, goes on, takes snapshots, stops everything, and reads it all back.
//!
//! `cargo run -p indelible-openraft --example openraft_kv [-- DIRECTORY]`

#[path = "hosts/cluster_09.rs"]
mod cluster;
#[path = "hosts/openraft_09.rs"]
mod kv_09;
#[path = "hosts/story.rs"]
mod story;

#[tokio::main]
async fn main() -> Result<(), story::Failed> {
    story::run().await
}
