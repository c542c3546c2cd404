//! The real binary on real disks: killed at random, killed at every system call, on full disks, with
//! the device's own count of what was written, on a file system of our own that loses, tears, fails
//! and fills up, alone and under a whole cluster, and on what power cuts would have left of ext4, XFS
//! and btrfs.
//!
//! `cargo test -p indelible-lab --features real-disk --test real_disk [-- LANE…]`. Lanes that need
//! root, FUSE, loop devices, a file system or `strace` that are not there say SKIPPED and are
//! counted apart: a skip is no pass, and with `INDELIBLE_REQUIRE_ALL=1` it is a failure. A lane
//! that ran but injected nothing fails. `INDELIBLE_KILLS=2000` sets the number of kills; `fuse` and
//! `blocks` have numbers of their own. With the feature `sabotage` there are lanes that plant bugs
//! and must notice them.
#![expect(clippy::print_stdout, reason = "the report is what it is for")]
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test, on real files")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test without the harness"
)]

mod blocks;
mod child;
mod cluster;
mod fuse;
mod kill;
mod known;
#[path = "../../src/lossy/mod.rs"]
#[expect(dead_code, reason = "the program `lossy` uses the rest")]
mod lossy;
mod mounted;
mod oracle;
mod reclaimed;

use std::process::ExitCode;

/// How a lane ended.
pub(crate) enum Outcome {
    /// What it did, in numbers.
    Passed(String),
    /// Why it could not run.
    Skipped(String),
}

type Lane = (&'static str, fn() -> Outcome);

const LANES: &[Lane] = &[
    ("kill_at_random", kill::at_random),
    ("kill_at_every_call", kill::at_every_call),
    ("ext4_writes", || mounted::writes(mounted::System::Ext4)),
    ("xfs_writes", || mounted::writes(mounted::System::Xfs)),
    ("btrfs_writes", || mounted::writes(mounted::System::Btrfs)),
    ("overlay_writes", || mounted::writes(mounted::System::Overlay)),
    ("ext2_full", || mounted::full(mounted::System::Ext2)),
    ("ext4_full", || mounted::full(mounted::System::Ext4)),
    ("xfs_full", || mounted::full(mounted::System::Xfs)),
    ("btrfs_full", || mounted::full(mounted::System::Btrfs)),
    ("overlay_full", || mounted::full(mounted::System::Overlay)),
    ("reclaimed", reclaimed::ways),
    ("fuse_power", fuse::power),
    ("fuse_errors", fuse::errors),
    ("fuse_full", fuse::full),
    ("cluster_power", cluster::power),
    ("cluster_full", cluster::full),
    ("cluster_slow", cluster::slow),
    ("blocks_ext4", || blocks::replay(mounted::System::Ext4)),
    ("blocks_xfs", || blocks::replay(mounted::System::Xfs)),
    ("blocks_btrfs", || blocks::replay(mounted::System::Btrfs)),
    #[cfg(feature = "sabotage")]
    ("fuse_planted", fuse::planted),
    #[cfg(feature = "sabotage")]
    ("blocks_planted", blocks::planted),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "child") {
        child::run(&words[1..]);
        return ExitCode::SUCCESS;
    }
    if words.first().is_some_and(|word| word == "reclaimed") && words.len() > 1 {
        reclaimed::child(&words[1..]);
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<_> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let (mut passed, mut skipped, mut failed) = (0, 0, 0);
    for (name, lane) in LANES {
        if !wanted.is_empty() && !wanted.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        match std::panic::catch_unwind(lane) {
            Ok(Outcome::Passed(what)) => {
                passed += 1;
                println!("real disk: {name} passed: {what}");
            }
            Ok(Outcome::Skipped(why)) => {
                skipped += 1;
                println!("real disk: {name} SKIPPED: {why}");
            }
            Err(_) => {
                failed += 1;
                println!("real disk: {name} FAILED");
            }
        }
    }
    println!("real disk: {passed} passed, {skipped} skipped (not passed), {failed} failed");
    let required = std::env::var_os("INDELIBLE_REQUIRE_ALL").is_some();
    if failed > 0 || (required && skipped > 0) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
