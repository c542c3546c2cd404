//! The operator's side of `indelible`: look inside a log, check it, back it up, repair it.
//!
//! Owns: the command line. Does not own: anything it does; each subcommand is a call of the
//! library, so a host program can do the same. No subcommand but `repair --apply`, `refill` and
//! `backup` writes a byte into the log's directory.
//!
//! What an exit code says is in `exit`.

mod backup;
mod bench;
mod compare;
mod decode;
mod dump;
mod exit;
mod groups;
mod inspect;
mod interrupt;
mod json;
mod manual;
mod page;
mod payload;
mod progress;
mod refill;
mod repair;
#[cfg(test)]
mod said;
mod text;
mod verify;

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use self::exit::Exit;

/// Looks inside the write-ahead logs of the `indelible` engine, checks and mends them.
#[derive(Debug, Parser)]
#[command(name = "indelible", version, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    how: How,
    #[command(subcommand)]
    command: Command,
}

/// How everything is said.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct How {
    /// Prints JSON instead: one document, or one per line (docs/schema of the repository). Errors too.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Says nothing about progress.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows what a log is: identity, bounds, state cells, slots, segments, disk use, and what an
    /// open would do. Writes nothing; safe beside a running process.
    Inspect(inspect::Args),
    /// Prints entries, raw frames or state cells. Writes nothing; safe beside a running process.
    Dump(dump::Args),
    /// Reads and checks every byte, and says of each damage what it means. Writes nothing; safe
    /// beside a running process.
    Verify(verify::Args),
    /// Compares two logs of one group: checksums range by range, and the first difference. Writes
    /// nothing; safe beside running processes.
    Compare(compare::Args),
    /// Copies a log that no process has open into a new directory, and verifies the copy. Changes
    /// nothing in the log, which may be on a read-only mount.
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

/// Why a subcommand did not come to its end.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The library refused or failed.
    Log(indelible::Error),
    /// It was refused here: what, what to do about it, and the exit code.
    Refused(String, Option<&'static str>, Exit),
    /// The output could not be written.
    Output(io::Error),
    /// The user had enough of it.
    Interrupted,
}

impl Failure {
    fn exit(&self) -> Exit {
        match self {
            Self::Log(error) => Exit::of(error),
            Self::Refused(_, _, exit) => *exit,
            // Whoever reads our output has enough of it.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Sound,
            Self::Output(_) => Exit::Unreadable,
            Self::Interrupted => Exit::Interrupted,
        }
    }
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

pub(crate) type Outcome = Result<Exit, Failure>;

/// The command line, with the table of exit codes below the help of every command.
pub(crate) fn command() -> clap::Command {
    let table = format!("Exit codes:\n{}", Exit::table());
    let mut command = Cli::command().after_help(table.clone());
    let names: Vec<String> = command.get_subcommands().map(|it| it.get_name().to_owned()).collect();
    for name in names {
        command = command.mut_subcommand(name, |it| it.after_help(table.clone()));
    }
    command
}

fn main() -> ExitCode {
    let parsed = command().try_get_matches();
    match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => {
            let mut out = BufWriter::new(io::stdout().lock());
            let outcome = run(&cli.command, cli.how, &mut out);
            // What was printed so far comes before the reason for stopping.
            let flushed = out.flush().map_err(Failure::Output);
            ended(outcome.and_then(|exit| flushed.map(|()| exit)), cli.how.json)
        }
        Err(error) if error.use_stderr() => misused(&error),
        Err(help) => {
            let shown = help.print().and_then(|()| io::stdout().flush());
            ended(shown.map(|()| Exit::Sound).map_err(Failure::Output), asks_for_json())
        }
    }
}

fn ended(outcome: Outcome, as_json: bool) -> ExitCode {
    outcome
        .unwrap_or_else(|failure| {
            complain(&failure, as_json);
            failure.exit()
        })
        .into()
}

/// Says what is wrong with the command line.
fn misused(error: &clap::Error) -> ExitCode {
    if asks_for_json() {
        let message = error.to_string().trim_end().to_owned();
        say_json(&json::Failed::new(message, None, Exit::Usage));
    } else {
        // The terminal may be gone.
        let _unheard = error.print();
    }
    Exit::Usage.into()
}

/// Whether JSON is asked for, on a command line that was not parsed.
fn asks_for_json() -> bool {
    std::env::args_os().any(|argument| argument == "--json")
}

fn run(command: &Command, how: How, out: &mut dyn Write) -> Outcome {
    match command {
        Command::Inspect(args) => inspect::run(args, how, out),
        Command::Dump(args) => dump::run(args, how, out),
        Command::Verify(args) => verify::run(args, how, out),
        Command::Compare(args) => compare::run(args, how, out),
        Command::Backup(args) => backup::run(args, how, out),
        Command::Bench(args) => bench::run(args, how, out),
        Command::Repair(args) => repair::run(args, how, out),
        Command::Refill(args) => refill::run(args, how, out),
        Command::Completions { shell } => manual::completions(*shell, out),
        Command::Man => manual::page(out),
    }
}

/// One line of standard error. If even this cannot be written, there is nobody to tell.
fn say(text: &str) {
    let _unheard = writeln!(io::stderr().lock(), "indelible: {text}");
}

/// What belongs beside the output and is no reason to stop.
pub(crate) fn note(how: How, text: &str, exit: Exit) {
    if how.json {
        return say_json(&json::Failed::new(text.to_owned(), None, exit));
    }
    say(text);
}

fn say_json(failed: &json::Failed) {
    let _unheard = json::print(&mut io::stderr().lock(), json::Body::Error(failed.clone()));
}

/// The reason on standard error, and what to do about it.
fn complain(failure: &Failure, as_json: bool) {
    let Some((message, advice)) = reason(failure) else { return };
    match failure {
        Failure::Log(error) if as_json => return say_json(&json::Failed::from(error)),
        _ if as_json => {
            return say_json(&json::Failed::new(message, advice.as_deref(), failure.exit()));
        }
        _ => say(&message),
    }
    if let Some(advice) = advice {
        let _unheard = writeln!(io::stderr().lock(), "  {advice}");
    }
}

/// In words: the reason, and what to do about it. Nothing if nobody listens.
fn reason(failure: &Failure) -> Option<(String, Option<String>)> {
    Some(match failure {
        Failure::Log(error) => (error.to_string(), advice_for(error)),
        Failure::Refused(message, advice, _) => (message.clone(), advice.map(str::to_owned)),
        Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return None,
        Failure::Output(error) => (format!("cannot write the output: {error}"), None),
        Failure::Interrupted => ("interrupted; everything is as it was".to_owned(), None),
    })
}

/// What the operator can do, with what a look around shows.
fn advice_for(error: &indelible::Error) -> Option<String> {
    if let indelible::Error::Missing { path } = error
        && let Some(below) = text::log_below(path)
    {
        return Some(format!("there is one in {}", below.display()));
    }
    advice(error).map(str::to_owned)
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
        Error::DiskFull { .. } => "free space and run it again",
        Error::AlreadyExists { .. } => "choose a directory that holds no log",
        Error::Io { source, .. } => match source.kind() {
            io::ErrorKind::NotADirectory => "name a directory, not a file",
            io::ErrorKind::PermissionDenied => "run it as the user that the node runs as",
            io::ErrorKind::ReadOnlyFilesystem => "the file system is mounted read-only",
            _ => return None,
        },
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
