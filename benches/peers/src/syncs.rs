//! Who really reaches the device: the sync calls of each peer, counted from outside by strace.
//!
//! Owns: running one peer alone under strace, attributing each call to a file, the verdict. A peer
//! is run twice, with no append and with `n`; the difference is what `n` durable appends cost. The
//! files that hold the entries are found by looking for a payload's bytes in them, so that syncing
//! some other file (an index, a manifest) is not mistaken for syncing the entries.
//!
//! What counts: fsync, fdatasync and msync, and writes through a descriptor opened with `O_SYNC` or
//! `O_DSYNC`. What does not: `sync_file_range`, which starts and awaits writes but neither flushes
//! the device's cache nor writes the metadata that finds the blocks again (its manual page says
//! so). Syncs through `io_uring` are not seen by strace; entering it is counted, to notice.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::peer::{FLOOR, Kind, Mode, Outcome};
use crate::work::{Payloads, Plan, files, remove};

const TRACED: &str = "fsync,fdatasync,msync,sync_file_range,openat,mmap,munmap,write,writev,pwrite64,pwritev,io_uring_enter";
/// What of a payload is looked for. raft-engine writes an index over the first eight bytes.
const MARK: std::ops::Range<usize> = 64..128;

/// What one peer did for each durable append.
#[derive(Serialize)]
pub struct Syncs {
    pub name: &'static str,
    pub appends: usize,
    /// Calls an append, by name.
    pub calls: BTreeMap<String, f64>,
    /// Those of them that put the file with the entries on the device.
    pub on_entries: f64,
    /// The files synced, and whether they hold the entries.
    pub files: Vec<(String, bool)>,
    pub verdict: &'static str,
}

/// What a trace shows: how often each call was made on each file.
type Calls = BTreeMap<(String, String), usize>;

/// Traces every peer of the plan.
pub fn run(plan: &Plan, appends: usize) -> Outcome<Vec<Syncs>> {
    plan.kinds(Mode::Synced).iter().map(|kind| one_peer(plan, kind, appends)).collect()
}

/// The traced child: `appends` durable appends of one entry, then an orderly close.
pub fn child(kind: &Kind, dir: &Path, appends: usize) -> Outcome<()> {
    let payloads = Payloads::new();
    let peer = (kind.open)(dir, Mode::Synced)?;
    (0..appends).try_for_each(|index| peer.append(0, &[payloads.get(index)]))
}

fn one_peer(plan: &Plan, kind: &Kind, appends: usize) -> Outcome<Syncs> {
    let (idle, _) = traced(plan, kind, 0)?;
    let (busy, holders) = traced(plan, kind, appends)?;
    let holds = |file: &str| holders.contains(file);
    let mut syncs = Syncs {
        name: kind.name,
        appends,
        calls: BTreeMap::new(),
        on_entries: 0.0,
        files: Vec::new(),
        verdict: "",
    };
    for ((call, file), count) in busy {
        let before = idle.get(&(call.clone(), file.clone())).copied().unwrap_or(0);
        let each = count.saturating_sub(before) as f64 / appends as f64;
        // Now and then is not for each append: a roll, a checkpoint.
        if each < 0.05 {
            continue;
        }
        *syncs.calls.entry(call.clone()).or_default() += each;
        if call != "sync_file_range" && holds(&file) {
            syncs.on_entries += each;
        }
        let seen = (file.clone(), holds(&file));
        if !file.is_empty() && !syncs.files.contains(&seen) {
            syncs.files.push(seen);
        }
    }
    syncs.verdict = verdict(&syncs);
    Ok(syncs)
}

impl Syncs {
    /// What an entry survives once its append has returned.
    pub fn survives(&self) -> &'static str {
        if self.on_device() { "a power cut" } else { "no power cut" }
    }

    /// Whether each durable append waits for the device to have its entry.
    pub fn on_device(&self) -> bool {
        self.on_entries >= 0.9
    }
}

fn verdict(syncs: &Syncs) -> &'static str {
    if syncs.on_device() {
        "on the device"
    } else if syncs.calls.contains_key("sync_file_range") {
        "NOT on the device: sync_file_range flushes no cache"
    } else if syncs.calls.contains_key("io_uring_enter") {
        "unknown: io_uring"
    } else if syncs.calls.is_empty() {
        "NOT on the device: no sync at all"
    } else {
        "NOT on the device: other files are synced, not the entries'"
    }
}

/// The calls of one run, and the files that hold entries after it.
fn traced(plan: &Plan, kind: &Kind, appends: usize) -> Outcome<(Calls, BTreeSet<String>)> {
    let dir = plan.fresh("syncs", kind.name)?;
    let trace = plan.dir.join("syncs.trace");
    let status = Command::new("strace")
        .args(["-f", "-y", "-s", "0", "-e", &format!("trace={TRACED}"), "-o"])
        .arg(&trace)
        .arg(std::env::current_exe()?)
        .arg("child")
        .args(["--only", kind.name, "--appends", &appends.to_string()])
        .arg("--dir")
        .arg(&plan.dir)
        .arg(&dir)
        .status()
        .map_err(|error| format!("strace: {error}"))?;
    if !status.success() {
        return Err(format!("{} under strace ended with {status}", kind.name).into());
    }
    let calls = count(&std::fs::read_to_string(&trace)?, &dir);
    let holders = holders(&dir)?;
    std::fs::remove_file(trace)?;
    remove(&dir)?;
    Ok((calls, holders))
}

/// Counts the sync calls of a trace by file below `dir`.
fn count(trace: &str, dir: &Path) -> Calls {
    let root = format!("{}/", dir.display());
    let name = |path: &str| path.strip_prefix(&root).map(pattern);
    let mut calls = Calls::new();
    let mut maps: Vec<(u64, u64, String)> = Vec::new();
    let mut synchronous = BTreeSet::new();
    for line in trace.lines() {
        let Some((_, call)) = line.split_once(' ') else {
            continue;
        };
        let Some((call, rest)) = call.trim_start().split_once('(') else {
            continue;
        };
        let path = rest.split_once('<').and_then(|(_, path)| path.split_once('>'));
        let path = path.and_then(|(path, _)| name(path));
        match call {
            "fsync" | "fdatasync" | "sync_file_range" => {
                let file = path.unwrap_or_default();
                *calls.entry((call.to_owned(), file)).or_default() += 1;
            }
            "mmap" => {
                if let (Some((start, length)), Some(file)) = (mapped(rest), path) {
                    maps.push((start, start + length, file));
                }
            }
            "msync" => {
                let at = number(rest);
                let file = maps.iter().rev().find(|(start, end, _)| (*start..*end).contains(&at));
                let file = file.map_or(String::new(), |(.., file)| file.clone());
                *calls.entry((call.to_owned(), file)).or_default() += 1;
            }
            "openat" if rest.contains("O_SYNC") || rest.contains("O_DSYNC") => {
                // The path that strace resolved stands behind the result.
                let opened = rest.rsplit_once("= ").and_then(|(_, result)| result.split_once('<'));
                let opened = opened.and_then(|(_, path)| name(path.trim_end_matches('>')));
                synchronous.extend(opened);
            }
            "write" | "writev" | "pwrite64" | "pwritev" => {
                if let Some(file) = path.filter(|file| synchronous.contains(file)) {
                    *calls.entry(("O_SYNC write".to_owned(), file)).or_default() += 1;
                }
            }
            "io_uring_enter" => {
                *calls.entry((call.to_owned(), String::new())).or_default() += 1;
            }
            _ => {}
        }
    }
    calls
}

/// The name of a file without what makes it the only one of its kind: long stems are numbers and
/// random words, which differ from run to run.
fn pattern(name: &str) -> String {
    match name.rsplit_once('.') {
        Some((stem, extension)) if stem.len() >= 12 => format!("*.{extension}"),
        None if name.len() >= 12 => "*".to_owned(),
        _ => name.to_owned(),
    }
}

/// Start and length of the map that an mmap line made.
fn mapped(rest: &str) -> Option<(u64, u64)> {
    let start = number(rest.rsplit_once("= ")?.1);
    let length = number(rest.split(',').nth(1)?.trim());
    Some((start, length))
}

/// The number, decimal or hexadecimal, that `text` begins with; zero if none.
fn number(text: &str) -> u64 {
    let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |hex| (hex, 16));
    let end = digits.find(|digit: char| !digit.is_digit(radix)).unwrap_or(digits.len());
    u64::from_str_radix(&digits[..end], radix).unwrap_or(0)
}

/// The files below `dir` in which the first payload is found.
fn holders(dir: &Path) -> Outcome<BTreeSet<String>> {
    let payloads = Payloads::new();
    let mark = &payloads.get(0)[MARK];
    let mut found = BTreeSet::new();
    for path in files(dir)? {
        if contains(&path, mark)? {
            found.insert(pattern(&path.strip_prefix(dir)?.to_string_lossy()));
        }
    }
    Ok(found)
}

/// Whether `mark` occurs in the file, read piece by piece.
fn contains(path: &Path, mark: &[u8]) -> Outcome<bool> {
    const PIECE: usize = 1024 * 1024;
    let mut file = File::open(path)?;
    let mut piece = vec![0; PIECE];
    let mut kept = 0;
    loop {
        let read = file.read(&mut piece[kept..])?;
        if read == 0 {
            return Ok(false);
        }
        let filled = &piece[..kept + read];
        if filled.windows(mark.len()).any(|window| window[0] == mark[0] && window == mark) {
            return Ok(true);
        }
        let keep = filled.len().min(mark.len() - 1);
        let end = filled.len();
        piece.copy_within(end - keep..end, 0);
        kept = keep;
    }
}

/// The lines that say it.
pub fn text(all: &[Syncs]) -> String {
    let mut text = String::from("sync calls a durable append of one entry\n\n");
    text.push_str(
        "| peer | calls an append | files synced | the entries are |\n|---|---|---|---|\n",
    );
    for syncs in all {
        let calls: Vec<String> =
            syncs.calls.iter().map(|(call, each)| format!("{each:.2} {call}")).collect();
        let file = |(file, holds): &(String, bool)| {
            format!("{file}{}", if *holds { " (entries)" } else { "" })
        };
        let files: Vec<String> = syncs.files.iter().map(file).collect();
        let name = if syncs.name == FLOOR { "*floor*" } else { syncs.name };
        let none = |list: String| {
            if list.is_empty() { "none".to_owned() } else { list }
        };
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} |",
            none(calls.join(", ")),
            none(files.join(", ")),
            syncs.verdict
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_attributed_to_their_files() {
        let trace = "\
7 openat(AT_FDCWD</x>, \"\"..., O_RDWR|O_SYNC|O_CLOEXEC) = 4</d/log>
7 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 5</d/log.index>, 0) = 0x7f0000001000
7 pwrite64(4</d/log>, \"\"..., 256, 0) = 256
8 fsync(4</d/log> <unfinished ...>
7 msync(0x7f0000001000, 4096, MS_SYNC) = 0
8 <... fsync resumed>) = 0
";
        let calls = count(trace, Path::new("/d"));
        let of = |call: &str, file: &str| {
            calls.get(&(call.to_owned(), file.to_owned())).copied().unwrap_or(0)
        };
        assert_eq!(of("fsync", "log"), 1);
        assert_eq!(of("msync", "log.index"), 1);
        assert_eq!(of("O_SYNC write", "log"), 1);
        assert_eq!(calls.len(), 3);
    }

    #[test]
    fn syncing_only_an_index_is_not_durable() {
        let syncs = Syncs {
            name: "x",
            appends: 1,
            calls: BTreeMap::from([("msync".to_owned(), 1.0)]),
            on_entries: 0.0,
            files: vec![("log.index".to_owned(), false)],
            verdict: "",
        };
        assert!(verdict(&syncs).starts_with("NOT"));
    }
}
