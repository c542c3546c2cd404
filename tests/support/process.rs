//! A test that runs itself in a process of its own.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::process::Command;

/// The command that runs the test of this name in `module`, which is the caller's `module_path!()`.
pub(crate) fn itself(module: &str, test: &str) -> Command {
    // The first part is the name of the binary, which may be one that this file is a module of.
    let test = match module.split_once("::") {
        Some((_, module)) => format!("{module}::{test}"),
        None => test.to_owned(),
    };
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &test, "--nocapture"]);
    command
}
