//! The cluster of the example `kv_cluster` on disks of our own: all power fails at once, a disk is
//! full, a disk hangs.
//!
//! Owns: running it, and what it must have said. Does not own: what happens in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::fuse::missing;

/// No run takes so long.
const PATIENCE: Duration = Duration::from_secs(400);

/// What was acknowledged is there after all nodes lost what they had not synced.
pub(crate) fn power() -> Outcome {
    let args = ["--entries", "6000", "--kills", "1", "--power-cut"];
    lane(&args, &["power cut: all nodes are off", "power is back: node 3:", "sectors lost"])
}

/// A node without room votes and accepts nothing, and goes on after a trim.
pub(crate) fn full() -> Outcome {
    let steps = ["has no room on its disk", "node 2 votes for", "trims its log, accepts again"];
    lane(&["--entries", "6000", "--kills", "0", "--full-disk", "2"], &steps)
}

/// A leader whose syncs hang asks another node to lead.
pub(crate) fn slow() -> Outcome {
    let steps = ["node 3 leads, and its syncs take", "node 3 has asked another node to lead"];
    lane(&["--entries", "6000", "--kills", "0", "--slow-disk", "3"], &steps)
}

fn lane(args: &[&str], steps: &[&str]) -> Outcome {
    if let Some(why) = missing() {
        return Outcome::Skipped(why);
    }
    let mut child = Command::new(example())
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > PATIENCE {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().unwrap_or_default();
    assert!(output.status.success(), "{args:?}: {}\n{said}\n{errors}", output.status);
    assert_eq!(last, "acknowledged 6000, lost 0, diverged 0", "{said}\n{errors}");
    for step in steps {
        assert!(said.contains(step), "{step}: {said}");
    }
    Outcome::Passed(last.to_owned())
}

/// The example of the engine's package, beside the program `lossy` of this one.
fn example() -> PathBuf {
    let profile = Path::new(env!("CARGO_BIN_EXE_lossy")).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap());
    // The features with which the check has built it.
    cargo.args(["build", "--quiet", "--example", "kv_cluster", "--features", "testing,serde,lz4"]);
    cargo.arg("--target-dir").arg(profile.parent().unwrap());
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success(), "cannot build the example");
    profile.join("examples/kv_cluster")
}
