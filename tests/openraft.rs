//! The stores for openraft 0.9 and 0.10: the hosts' own suites on files and in memory, and what
//! those suites do not ask: reopening, power cuts, restarts of a cluster, limits.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

#[path = "../examples/raft_hosts/cluster_09.rs"]
mod cluster;
#[path = "raft_support/crash.rs"]
mod crash;
#[path = "openraft/crash.rs"]
mod crashes;
#[path = "../examples/raft_hosts/openraft_010.rs"]
#[expect(dead_code, reason = "an example uses all of it")]
mod kv_010;
#[path = "../examples/raft_hosts/openraft_09.rs"]
mod kv_09;
#[path = "openraft/v010.rs"]
mod v010;
#[path = "openraft/v09.rs"]
mod v09;

use std::path::Path;

use indelible::{Log, Options};

/// Segments so small that the hosts' suites roll them.
fn small() -> Options {
    Options::new().tiny_segments(16 * 1024)
}

fn open_in(directory: &Path) -> Log {
    Log::open_or_create(directory.join("log"), &small()).unwrap().0
}
