//! The operator's side of `indelible`: look inside a log, check it, back it up, repair it.
//!
//! Owns: the command line. Does not own: anything it does; each subcommand is a call of the
//! library, so a host program can do the same. No subcommand but `repair --apply`, `refill` and
//! `backup` writes a byte into the log's directory.
//!
//! Exit codes: 0 all is well, 1 something is wrong with the log or the call failed, 2 wrong usage, 130
//! interrupted.

mod backup;
mod bench;
mod dump;
mod inspect;
mod json;
mod manual;
mod refill;
mod repair;
mod text;
mod verify;

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Looks inside the write-ahead logs of the `indelible` engine, checks and mends them.
#[derive(Debug, Parser)]
#[command(name = "indelible", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows what a log is: identity, bounds, state cells, slots, segments, disk use, and what an
    /// open would do. Writes nothing; safe beside a running process.
    Inspect(inspect::Args),
    /// Prints entries, raw frames or state cells. Writes nothing; safe beside a running process.
    Dump(dump::Args),
    /// Reads and checks every byte. Exit code 0 for a clean log or a torn tail, 1 for damage.
    /// Writes nothing; safe beside a running process.
    Verify(verify::Args),
    /// Copies a log that no process has open into a new directory, and verifies the copy.
    Backup(backup::Args),
    /// Measures what a durable append costs on a disk, strategy by strategy, and recommends one.
    Bench(bench::Args),
    /// Says what a repair would do and lose, or does it. Never needed after a mere crash.
    Repair(repair::Args),
    /// Puts entries that a repair marked as missing back, from another node's log.
    Refill(refill::Args),
    /// Prints a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Prints the manual page, in roff.
    Man,
}

/// Why a subcommand did not end well.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The library refused or failed.
    Log(indelible::Error),
    /// The output could not be written.
    Output(io::Error),
    /// It was said already: only the exit code is left.
    Said,
    /// The user had enough of it.
    Interrupted,
}

impl From<indelible::Error> for Failure {
    fn from(error: indelible::Error) -> Self {
        Self::Log(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// What shells say of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

pub(crate) type Outcome = Result<(), Failure>;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = BufWriter::new(io::stdout().lock());
    let outcome = run(&cli.command, &mut out).and_then(|()| Ok(out.flush()?));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads our output has enough of it.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(failure) => {
            // What was printed so far comes before the reason for stopping.
            let _unheard = out.flush();
            complain(&failure);
            match failure {
                Failure::Interrupted => ExitCode::from(INTERRUPTED),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn run(command: &Command, out: &mut dyn Write) -> Outcome {
    match command {
        Command::Inspect(args) => inspect::run(args, out),
        Command::Dump(args) => dump::run(args, out),
        Command::Verify(args) => verify::run(args, out),
        Command::Backup(args) => backup::run(args, out),
        Command::Bench(args) => bench::run(args, out),
        Command::Repair(args) => repair::run(args, out),
        Command::Refill(args) => refill::run(args, out),
        Command::Completions { shell } => manual::completions(*shell, out),
        Command::Man => manual::page(out),
    }
}

/// The reason on standard error, and what to do about it.
fn complain(failure: &Failure) {
    let mut err = io::stderr().lock();
    // If even this cannot be written, there is nobody to tell.
    let _unheard = match failure {
        Failure::Log(error) => {
            let advice = advice(error).map(|line| format!("  {line}\n")).unwrap_or_default();
            write!(err, "indelible: {error}\n{advice}")
        }
        Failure::Output(error) => writeln!(err, "indelible: cannot write the output: {error}"),
        Failure::Interrupted => writeln!(err, "indelible: interrupted; everything is as it was"),
        Failure::Said => Ok(()),
    };
}

/// What the operator can do, in one line.
pub(crate) fn advice(error: &indelible::Error) -> Option<&'static str> {
    use indelible::Error;
    Some(match error {
        Error::Damaged { .. } => "run `indelible verify`, then `indelible repair --plan`",
        Error::UnsupportedVersion { .. } => "nothing is wrong with the log: use that build",
        Error::UnsupportedFeature { .. } => {
            "nothing is wrong with the log: use a build that has it"
        }
        Error::Missing { .. } => "check the path; an empty disk in its place is a lost node",
        Error::Locked { .. } => "stop that process first",
        Error::Incomplete { .. } => "run `indelible refill` with the log of a peer",
        Error::DiskFull { .. } => "free space and run it again; nothing was changed",
        Error::AlreadyExists { .. } => "choose a directory that holds no log",
        _ => return None,
    })
}

/// The directory of a log.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Dir {
    /// The directory of the log.
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
}
