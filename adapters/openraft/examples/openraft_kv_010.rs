//! A replicated key-value store on openraft 0.10: three nodes in one process, each on a log of its own.
//! Writes, loses a node, goes on, takes snapshots, stops everything, and reads it all back.
//!
//! `cargo run -p indelible-openraft --features v010 --example openraft_kv_010 [-- DIRECTORY]`

#[path = "hosts/cluster_010.rs"]
mod cluster;
#[path = "hosts/openraft_010.rs"]
mod kv_010;
#[path = "hosts/story.rs"]
mod story;

#[tokio::main]
async fn main() -> Result<(), story::Failed> {
    story::run().await
}
