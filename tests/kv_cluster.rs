//! The example `kv_cluster` as it is built: a run with kills, the commands a person types, and the
//! unit tests of its modules.

#![expect(clippy::print_stderr, reason = "a test says that it could not run")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "a host, not the log")]

// An example's own tests do not run with `cargo test`; its modules that stand by themselves are
// compiled here, so that theirs do.
#[path = "../examples/kv_cluster/bytes.rs"]
mod bytes;
#[path = "../examples/kv_cluster/check.rs"]
mod check;
#[path = "../examples/kv_cluster/decode.rs"]
mod decode;
#[path = "../examples/kv_cluster/failure.rs"]
#[expect(dead_code, reason = "the example uses all of it")]
mod failure;
#[path = "../examples/kv_cluster/history.rs"]
mod history;
#[path = "../examples/kv_cluster/input.rs"]
#[expect(dead_code, reason = "the example uses all of it")]
mod input;
#[path = "../examples/kv_cluster/kv.rs"]
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

/// Where the executables of this build are: TARGET/PROFILE, as this test is
/// TARGET/PROFILE/deps/kv_cluster-HASH.
fn profile() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned()
}

fn build(what: &[&str]) {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--quiet"]).args(what);
    cargo.arg("--target-dir").arg(profile().parent().unwrap());
    if profile().ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success(), "cannot build {what:?}");
}

/// The example's executable, built like this test.
fn example() -> &'static Path {
    static EXAMPLE: OnceLock<PathBuf> = OnceLock::new();
    EXAMPLE.get_or_init(|| {
        // With the features of this test cargo finds everything built already.
        let features = [
            ("serde", cfg!(feature = "serde")),
            ("lz4", cfg!(feature = "lz4")),
            ("testing", cfg!(feature = "testing")),
        ];
        let features = features.iter().filter(|(_, on)| *on);
        let features: Vec<&str> = features.flat_map(|(name, _)| ["--features", name]).collect();
        build(&[&["--example", "kv_cluster"], features.as_slice()].concat());
        profile().join("examples/kv_cluster")
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

/// Returns what it said.
fn assert_nothing_lost(args: &[&str], entries: u64) -> String {
    let output = run(args);
    let said = text(&output.stdout);
    let last = format!("acknowledged {entries}, lost 0, diverged 0");
    assert_eq!(said.lines().last(), Some(last.as_str()), "{said}\n{}", text(&output.stderr));
    assert!(output.status.success(), "{said}");
    said
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

#[test]
fn leader_that_is_cut_off_loses_nothing_and_answers_nothing_stale() {
    let args = ["--entries", "2000", "--kills", "0", "--partition", "--seed", "2"];
    let said = assert_nothing_lost(&args, 2000);
    assert!(said.contains("is cut off") && said.contains("the partition heals"), "{said}");
    assert!(said.contains("2000 commands on 216 keys"), "{said}");
    assert!(said.contains("linearizable as seen by their clients"), "{said}");
}

#[test]
fn node_without_room_votes_and_accepts_nothing_until_a_trim() {
    let place = tempfile::tempdir().unwrap();
    let may = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        command.args(args).arg(place.path()).output().is_ok_and(|it| it.status.success())
    };
    if !may("mount", &["-t", "tmpfs", "tmpfs"]) {
        eprintln!("SKIPPED: a tmpfs needs root");
        return;
    }
    assert!(may("umount", &["--lazy"]));
    let said =
        assert_nothing_lost(&["--entries", "4300", "--kills", "0", "--full-disk", "2"], 4300);
    assert!(said.contains("node 2 has no room on its disk, a tmpfs"), "{said}");
    assert!(said.contains("node 2 trims its log, accepts again"), "{said}");
}

#[test]
fn rot_is_refused_repaired_and_refilled_and_the_log_can_be_looked_into() {
    let dir = tempfile::tempdir().unwrap();
    let (logs, page) = (dir.path().join("logs"), dir.path().join("run.html"));
    let (logs, page) = (logs.to_str().unwrap(), page.to_str().unwrap());
    let args = ["--entries", "6000", "--kills", "1", "--rot", "2", "--dir", logs, "--html", page];
    let said = assert_nothing_lost(&args, 6000);
    for step in ["rot: node 2 is down", "refuses to start", "marked as missing", "none missing"] {
        assert!(said.contains(step), "{step}: {said}");
    }
    let drawn = std::fs::read_to_string(page).unwrap();
    for part in ["<svg", "class=\"leads\"", "refuses to start", "acknowledged 6000, lost 0"] {
        assert!(drawn.contains(part), "the page lacks {part}");
    }
    build(&["-p", "indelible-cli"]);
    let (_, command) = said.split_once("look inside:").unwrap();
    let (command, _) = command.split_once('\n').unwrap();
    let shell = Command::new("sh")
        .args(["-c", command])
        .env("PATH", format!("{}:{}", profile().display(), std::env::var("PATH").unwrap()))
        .output()
        .unwrap();
    let shown = text(&shell.stdout);
    assert!(shell.status.success() && shown.contains("put \"line "), "{shown}\n{shell:?}");
    assert!(!shown.contains("no command"), "{shown}");
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
    refused(&["--entries", "many"], "invalid value 'many'");
    refused(&["dance"], "'dance'");
}

/// Three addresses, from this process's block of ports: the example takes those of its own.
fn free_addresses() -> String {
    let block = std::process::id() % 2_500 * 8;
    let free = (0..1_000)
        .map(|step| format!("127.0.0.1:{}", 10_000 + (block + step) % 20_000))
        .filter(|address| std::net::TcpListener::bind(address).is_ok());
    free.take(3).collect::<Vec<_>>().join(",")
}
