//! The example `sharded_kv` in small: kills, a move and a lagging shard, and nothing is lost.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// Where the executables of this build are: TARGET/PROFILE, as this test is
/// TARGET/PROFILE/deps/sharded_kv-HASH.
fn profile() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned()
}

/// Runs the example, built like this test.
fn run(args: &[&str]) -> Output {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    cargo.args(["build", "--quiet", "--example", "sharded_kv", "--target-dir"]);
    cargo.arg(profile().parent().unwrap());
    if profile().ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success());
    let mut example = Command::new(profile().join("examples/sharded_kv"));
    example.args(args).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn kills_a_move_and_a_lagging_shard_lose_nothing() {
    let output = run(&["--entries", "640", "--kills", "2", "--seed", "3"]);
    let said = String::from_utf8_lossy(&output.stdout);
    let last = "acknowledged 640, lost 0, diverged 0";
    assert_eq!(said.lines().last(), Some(last), "{output:?}");
    assert!(output.status.success(), "{output:?}");
    for step in ["is killed", "is cut off from shard 7", "shard 5 has moved on every node"] {
        assert!(said.contains(step), "{step}: {said}");
    }
}

#[test]
fn mistakes_are_explained() {
    let output = run(&["--dance", "3"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("`--dance` is none of"), "{said}");
}
