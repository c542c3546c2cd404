//! The example `kv_cluster` as it is built: a run with kills, the commands a person types, and the
//! unit tests of its modules.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "a host, not the log")]

// An example's own tests do not run with `cargo test`; its modules that stand by themselves are
// compiled here, so that theirs do.
#[path = "../examples/kv_cluster/bytes.rs"]
mod bytes;
#[path = "../examples/kv_cluster/check.rs"]
mod check;
#[path = "../examples/kv_cluster/failure.rs"]
#[expect(dead_code, reason = "the example uses all of it")]
mod failure;
#[path = "../examples/kv_cluster/input.rs"]
#[expect(dead_code, reason = "the example uses all of it")]
mod input;
#[path = "../examples/kv_cluster/kv.rs"]
#[expect(dead_code, reason = "the example uses all of it")]
mod kv;
#[path = "../examples/kv_cluster/members.rs"]
#[expect(dead_code, reason = "the example uses all of it")]
mod members;
#[path = "../examples/kv_cluster/mend.rs"]
mod mend;
#[path = "../examples/kv_cluster/protocol.rs"]
#[expect(dead_code, reason = "the example uses all of it")]
mod protocol;
#[path = "../examples/kv_cluster/wire.rs"]
mod wire;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The example's executable, built like this test.
fn example() -> &'static Path {
    static EXAMPLE: OnceLock<PathBuf> = OnceLock::new();
    EXAMPLE.get_or_init(|| {
        // This test is TARGET/PROFILE/deps/kv_cluster-HASH.
        let test = std::env::current_exe().unwrap();
        let profile = test.ancestors().nth(2).unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
        cargo.args(["build", "--quiet", "--example", "kv_cluster", "--target-dir"]);
        cargo.arg(profile.parent().unwrap());
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        // With the features of this test cargo finds everything built already.
        let features = [
            ("serde", cfg!(feature = "serde")),
            ("lz4", cfg!(feature = "lz4")),
            ("testing", cfg!(feature = "testing")),
        ];
        for (name, _) in features.iter().filter(|(_, on)| *on) {
            cargo.args(["--features", name]);
        }
        assert!(cargo.status().unwrap().success(), "cannot build the example");
        profile.join("examples/kv_cluster")
    })
}

/// Runs the example to its end, which must come.
fn run(args: &[&str]) -> Output {
    let mut child = Command::new(example())
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > Duration::from_secs(300) {
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            panic!("{args:?} does not end: {output:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn assert_nothing_lost(args: &[&str], entries: u64) {
    let output = run(args);
    let said = text(&output.stdout);
    let last = format!("acknowledged {entries}, lost 0, diverged 0");
    assert_eq!(said.lines().last(), Some(last.as_str()), "{said}\n{}", text(&output.stderr));
    assert!(output.status.success());
}

#[test]
fn killed_nodes_lose_nothing() {
    assert_nothing_lost(&["--entries", "2000", "--kills", "5", "--seed", "3"], 2000);
}

#[test]
fn replaced_node_loses_nothing() {
    let args = ["--entries", "1000", "--kills", "2", "--reconfigure", "--durability", "always"];
    assert_nothing_lost(&args, 1000);
}

#[test]
fn input_file_is_replicated() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("words");
    std::fs::write(&input, "one\n\ntwo\nthree\n").unwrap();
    let logs = dir.path().join("logs");
    let paths = [input.to_str().unwrap(), logs.to_str().unwrap()];
    let args = ["run", "--entries", "300", "--kills", "0", "--input", paths[0], "--dir", paths[1]];
    assert_nothing_lost(&args, 300);
    assert!(logs.join("node-1/log").is_dir());
    let again = run(&args);
    assert!(!again.status.success());
    assert!(text(&again.stderr).contains("is not empty"), "{}", text(&again.stderr));
}

/// Nodes started by hand; none outlives the test.
struct Nodes(Vec<Child>);

impl Drop for Nodes {
    fn drop(&mut self) {
        for child in &mut self.0 {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

#[test]
fn nodes_can_be_started_and_poked_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let list = free_addresses();
    let home = |id: &str| dir.path().join(id).to_str().unwrap().to_owned();
    let start = |id: &str, how: Option<&str>| {
        let mut node = Command::new(example());
        node.args(["serve", id, "--nodes", &list, "--dir", &home(id)]).args(how);
        node.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut nodes = Nodes(["1", "2", "3"].map(|id| start(id, Some("--new"))).into());
    let ask = |args: &[&str]| {
        let output = run(&[args, &["--nodes", &list]].concat());
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    assert!(ask(&["put", "ink", "indelible"]).starts_with("decided at index"));
    nodes.0[0].kill().unwrap();
    assert_eq!(ask(&["get", "ink"]).trim(), "indelible");
    nodes.0[0].wait().unwrap();
    nodes.0[0] = start("1", None);
    assert_eq!(ask(&["get", "ink"]).trim(), "indelible");
    assert_eq!(ask(&["status"]).lines().count(), 3);
    let again = run(&["serve", "2", "--new", "--nodes", &list, "--dir", &home("2")]);
    assert!(text(&again.stderr).contains("holds the log of a node already"), "{again:?}");
}

#[test]
fn mistakes_are_explained() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node").to_str().unwrap().to_owned();
    let refused = |args: &[&str], words: &str| {
        let output = run(args);
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains(words), "{args:?}: {said}");
    };
    refused(&["serve", "1", "--dir", &path], "`serve 1 --new` starts a new cluster");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nodes = format!("{},127.0.0.1:1,127.0.0.1:2", taken.local_addr().unwrap());
    refused(&["serve", "1", "--new", "--dir", &path, "--nodes", &nodes], "in use");
    refused(&["serve", "1", "--new", "--dir", "/proc/nowhere"], "cannot create the directory");
    refused(&["--dir", "/proc/nowhere"], "cannot create the directory");
    refused(&["--entries", "many"], "`many` is not a number");
    refused(&["dance"], "`dance` is not understood");
}

/// Three addresses, from this process's block of ports: the example takes those of its own.
fn free_addresses() -> String {
    let block = std::process::id() % 2_500 * 8;
    let free = (0..1_000)
        .map(|step| format!("127.0.0.1:{}", 10_000 + (block + step) % 20_000))
        .filter(|address| std::net::TcpListener::bind(address).is_ok());
    free.take(3).collect::<Vec<_>>().join(",")
}
