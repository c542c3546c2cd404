//! The stores for openraft 0.9 and 0.10: the hosts' own suites on files and in memory, and what
//! those suites do not ask: reopening, power cuts, restarts of a cluster, limits.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "../../examples/hosts/cluster_09.rs"]
mod cluster;
mod crash;
#[path = "../../examples/hosts/openraft_010.rs"]
#[expect(dead_code, reason = "an example uses all of it")]
mod kv_010;
#[path = "../../examples/hosts/openraft_09.rs"]
mod kv_09;
mod v010;
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
