//! The real binary against directories in every condition: whole outputs are compared with the
//! texts in `snapshots/`. `INDELIBLE_BLESS=1` writes them anew; read the difference.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::panic,
    reason = "a test fails by panicking, and damages files behind the engine's back"
)]

mod backup;
mod bench;
mod compare;
mod damage;
mod groups;
mod limits;
mod looking;
mod messages;
mod progress;
mod repair;
mod schema;
mod snapshot;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use indelible::{Batch, Log, Options};
use tempfile::TempDir;

use self::snapshot::compare;

/// A directory for one test, with a log in `log`.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn log(&self) -> PathBuf {
        self.path("log")
    }

    /// A closed log of three segments: two sealed, and the tail. Entries 0..2 are trimmed.
    fn closed(&self) -> PathBuf {
        build(&self.log()).close().unwrap();
        self.log()
    }

    /// The same, as a killed process leaves it: everything acknowledged, nothing closed.
    fn killed(&self) -> PathBuf {
        let live = self.path("live");
        let log = build(&live);
        log.append(b"the last one").unwrap();
        copy(&live, &self.log());
        drop(log);
        fs::remove_dir_all(&live).unwrap();
        fs::remove_file(self.log().join("lock")).unwrap();
        self.log()
    }

    /// The segment file with a number.
    fn segment(&self, number: u64) -> PathBuf {
        let prefix = format!("{number:016x}-");
        let mut files = fs::read_dir(self.log()).unwrap().map(|entry| entry.unwrap());
        let found = files.find(|entry| entry.file_name().to_str().unwrap().starts_with(&prefix));
        found.unwrap().path()
    }
}

fn options() -> Options {
    Options::new().segment_bytes(64 * 1024).background(false)
}

fn entry(index: u64) -> Vec<u8> {
    let mut entry = format!("entry {index} ").into_bytes();
    entry.resize(10_000, b'.');
    entry
}

/// Fourteen entries over three segments, some state, a snapshot.
fn build(path: &Path) -> Log {
    let log = Log::create(path, &options()).unwrap();
    let mut ballot = Vec::new();
    for field in [1_u32, 7, 0] {
        ballot.extend(field.to_le_bytes());
    }
    ballot.extend(3_u64.to_le_bytes());
    let mut batch = Batch::new();
    batch.set("omnipaxos.promise", ballot).set("omnipaxos.decided", 12_u64.to_le_bytes().to_vec());
    log.commit(&batch).unwrap();
    for index in 0..14 {
        log.append(&entry(index)).unwrap();
    }
    let mut writer = log.side_file_writer().unwrap();
    std::io::Write::write_all(&mut writer, b"all that came before").unwrap();
    let mut batch = Batch::new();
    batch.attach("snapshot", writer.finish().unwrap()).trim(2);
    log.commit(&batch).unwrap();
    log
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// Every file below a directory with its bytes.
fn bytes_of(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(bytes_of(&path));
        } else {
            files.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    files
}

fn indelible(arguments: &[&str], paths: &[&Path]) -> Output {
    program(arguments, paths).output().unwrap()
}

fn program(arguments: &[&str], paths: &[&Path]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_indelible"));
    command.args(arguments).args(paths).env("COLUMNS", "80");
    command
}

/// Runs the binary and compares all it says, and its exit code, with a snapshot.
fn check(place: &Place, snapshot: &str, arguments: &[&str], paths: &[&Path]) {
    // A machine that stalls would have progress shown.
    let command = program(&[&["--quiet"], arguments].concat(), paths);
    check_said(place, snapshot, command, arguments, paths);
}

/// The same of a command that was made ready in another way.
fn check_said(
    place: &Place,
    snapshot: &str,
    mut command: Command,
    arguments: &[&str],
    paths: &[&Path],
) {
    let output = command.output().unwrap();
    let shown = format!(
        "$ indelible {}\n{}{}exit {}\n",
        arguments
            .iter()
            .map(|&argument| argument.to_owned())
            .chain(paths.iter().map(|path| path.display().to_string()))
            .collect::<Vec<_>>()
            .join(" "),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
        output.status.code().unwrap(),
    );
    compare(snapshot, &normal(&shown, place.directory.path()));
}

/// The same, where nothing in the directory may change by it.
fn check_untouched(place: &Place, snapshot: &str, arguments: &[&str], paths: &[&Path]) {
    let before = bytes_of(place.directory.path());
    check(place, snapshot, arguments, paths);
    assert!(before == bytes_of(place.directory.path()), "{snapshot} changed the directory");
}

/// The text without what is random: the path, identities, generations, checksums, processes.
fn normal(text: &str, path: &Path) -> String {
    let text = text.replace(path.to_str().unwrap(), "PLACE");
    let text = replace_runs(&text, |run| {
        let hex = |c: char| c.is_ascii_hexdigit() && !c.is_ascii_uppercase();
        if run.len() == 36 && run.split('-').map(str::len).eq([8, 4, 4, 4, 12]) {
            return Some("UUID".to_owned());
        }
        if let Some(digits) = run.strip_prefix("0x")
            && digits.chars().all(hex)
        {
            return Some("0xCRC".to_owned());
        }
        // Segment names are predictable: short numbers. Spares and side files are not.
        let random = run.len() == 16 && run.chars().all(hex) && !run.starts_with("00000");
        random.then(|| "RANDOM".to_owned())
    });
    let mut lines = String::new();
    for line in text.lines() {
        let line = match line.split_once("by process ") {
            Some((before, after)) => {
                let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
                format!("{before}by process PID{after}")
            }
            None => line.to_owned(),
        };
        lines.push_str(line.trim_end());
        lines.push('\n');
    }
    lines
}

/// Replaces runs of letters, digits and hyphens.
fn replace_runs(text: &str, replace: impl Fn(&str) -> Option<String>) -> String {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let mut out = String::new();
    let mut run = String::new();
    for c in text.chars().chain(['\n']) {
        if part(c) {
            run.push(c);
            continue;
        }
        out.push_str(&replace(&run).unwrap_or_else(|| run.clone()));
        run.clear();
        out.push(c);
    }
    out.pop();
    out
}
