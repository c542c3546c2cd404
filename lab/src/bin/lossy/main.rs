//! A file system that forgets what was not synced, for whatever runs on it: `kv_cluster` does.
//!
//! ```text
//! lossy DIRECTORY [--seed N]
//! ```
//!
//! mounts an empty one, kept in memory, says `mounted`, and then does what it reads, a line at a
//! time, and says so. `off`: the power fails, nothing changes any more and every request is
//! refused. `on`, once no process uses it: power comes back; what was not synced is gone, or torn,
//! or there, as the seed decides. `slow MS`: from now on a sync takes so many milliseconds longer.
//! `room [BYTES]`: from now on there is room for so many more bytes, or for any. It is unmounted
//! when its standard input ends. Needs root and FUSE.
#![expect(clippy::print_stdout, reason = "whoever started it listens")]
#![expect(clippy::print_stderr, reason = "errors are for people")]
#![expect(clippy::disallowed_methods, reason = "a program, not the log")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "shared with tests, which fail so"
)]

#[path = "../../lossy/mod.rs"]
#[expect(dead_code, reason = "the lanes of `real_disk` use the rest")]
mod lossy;

use std::io::BufRead;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use parking_lot::Mutex;

use self::lossy::contents::PAGE_BYTES;
use self::lossy::dice::Dice;
use self::lossy::injected::Injected;
use self::lossy::mount::Mount;
use self::lossy::state::State;

/// A file system that forgets what was not synced.
#[derive(Debug, Parser)]
struct Args {
    /// Where to mount it.
    directory: PathBuf,
    /// Of what becomes of bytes that were not synced.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What it is told.
#[derive(Debug, Parser)]
#[command(no_binary_name = true)]
enum Order {
    Off,
    On,
    Slow { millis: u64 },
    Room { bytes: Option<usize> },
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    let state = Arc::new(Mutex::new(State::new(Dice::new(args.seed))));
    // Writes come here at once: what a process has not synced is lost with the power, not before.
    let mut mount = Mount::new(&args.directory, Arc::clone(&state), false)?;
    println!("mounted");
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| error.to_string())?;
        match Order::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())? {
            Order::Off => {
                state.lock().switch_off();
                println!("off");
            }
            Order::On => {
                mount.end()?;
                let lost = {
                    let mut state = state.lock();
                    state.injected = Injected::default();
                    state.cut_power();
                    describe(&state.injected)
                };
                mount.begin()?;
                println!("{lost}");
            }
            Order::Slow { millis } => {
                state.lock().sync_delay = Duration::from_millis(millis);
                println!("slow");
            }
            Order::Room { bytes } => {
                let medium = &mut state.lock().medium;
                medium.capacity = bytes.map(|bytes| medium.used() + bytes / PAGE_BYTES);
                println!("room");
            }
        }
    }
    mount.end()
}

fn describe(it: &Injected) -> String {
    format!(
        "{} sectors lost, {} torn, {} kept; {} file lengths and {} changes of names lost",
        it.sectors_lost,
        it.sectors_torn,
        it.sectors_new + it.sectors_between,
        it.lengths_lost,
        it.names_lost
    )
}
