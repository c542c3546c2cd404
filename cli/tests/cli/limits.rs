//! What a command may take, and what it may write: little, and nothing.

use std::fs;
use std::path::Path;
use std::process::Command;

use indelible::{Batch, Durability, Log, Options, Preparation, WriteMode};

use super::{Place, build, bytes_of, copy, indelible};

/// The most that a command may have in memory, in KiB, and what is in the log, which is four times that.
const MOST_KIB: u64 = 64 * 1024;
const SEGMENTS: u64 = 4;

/// Runs a command under a program that says what it took. Returns its exit code, and the most memory
/// that was in use at a time, in KiB.
fn memory(arguments: &[&str], paths: &[&Path]) -> (i32, u64) {
    const MEASURE: &str = "import resource, subprocess, sys\n\
        code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n\
        print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n\
        sys.exit(code)";
    let output = Command::new("python3")
        .args(["-c", MEASURE, env!("CARGO_BIN_EXE_indelible")])
        .args(arguments)
        .args(paths)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), said.trim().parse().unwrap())
}

#[test]
fn memory_does_not_grow_with_what_is_lost() {
    let place = Place::new();
    let (log, peer) = (place.log(), place.path("peer"));
    let options = Options::new()
        .segment_bytes(64 * 1024 * 1024)
        .write_mode(WriteMode::Pwrite)
        .preparation(Preparation::Sparse)
        .durability(Durability::Barrier)
        .background(false);
    let written = Log::create(&peer, &options).unwrap();
    let entry = vec![b'.'; 128 * 1024];
    // The last segment is nearly empty.
    for _ in 0..SEGMENTS * 512 {
        written.append(&entry).unwrap();
    }
    let decided = written.next().to_le_bytes().to_vec();
    written.commit(Batch::new().set("omnipaxos.decided", decided)).unwrap();
    written.close().unwrap();
    copy(&peer, &log);
    fs::remove_file(place.segment(2)).unwrap();
    fs::remove_file(place.segment(3)).unwrap();
    let from = ["refill", "--from", peer.to_str().unwrap()];
    let copied = place.path("copied");
    for (arguments, paths, code) in [
        (&["verify"][..], &[&*log][..], 3),
        (&["repair", "--plan"], &[&*log], 3),
        (&["repair", "--apply"], &[&*log], 3),
        (&from, &[&*log], 0),
        (&["verify"], &[&*log], 0),
        (&["compare"], &[&*log, &*peer], 0),
        (&["backup", "--copy"], &[&*log, &*copied], 0),
    ] {
        let (exit, most) = memory(arguments, paths);
        assert_eq!(exit, code, "{arguments:?}");
        assert!(most < MOST_KIB, "{arguments:?} took {most} KiB");
    }
}

/// Every command there is but those that are to write, and all of their options.
#[test]
fn whatever_only_looks_writes_nothing() {
    const WRITE: [&str; 4] = ["backup", "repair", "refill", "bench"];
    let place = Place::new();
    let (log, peer, page) = (place.closed(), place.path("peer"), place.path("page.html"));
    build(&peer).close().unwrap();
    // So that there is something to find.
    fs::remove_file(place.segment(2)).unwrap();
    let html = ["inspect", "--html", page.to_str().unwrap()];
    let looks: [(&[&str], &[&Path]); 18] = [
        (&["inspect"], &[&log]),
        (&["inspect", "--json"], &[&log]),
        (&html, &[&log]),
        (&["verify"], &[&log]),
        (&["verify", "--json"], &[&log]),
        (&["dump"], &[&log]),
        (&["dump", "--hex"], &[&log]),
        (&["dump", "--json"], &[&log]),
        (&["dump", "--frames"], &[&log]),
        (&["dump", "--state"], &[&log]),
        (&["dump", "--decode"], &[&log]),
        (&["dump", "--decode", "--payload", "cat"], &[&log]),
        (&["dump", "--group", "1"], &[&log]),
        (&["compare", "--sums"], &[&log, &peer]),
        (&["repair", "--plan"], &[&log]),
        (&["completions", "bash"], &[]),
        (&["man"], &[]),
        (&["help"], &[]),
    ];
    let help = String::from_utf8(indelible(&["--help"], &[]).stdout).unwrap();
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands = commands.take_while(|line| line.starts_with("  "));
    let name = |line| str::strip_prefix(line, "  ")?.split(' ').next().filter(|it| !it.is_empty());
    for name in commands.filter_map(name).filter(|name| !WRITE.contains(name)) {
        assert!(looks.iter().any(|(arguments, _)| arguments[0] == name), "{name} is not tried");
    }
    let before = bytes_of(place.directory.path());
    for (arguments, paths) in looks {
        let output = indelible(arguments, paths);
        assert_ne!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        let mut after = bytes_of(place.directory.path());
        // The one file that it was told to write.
        assert_eq!(after.remove(&page).is_some(), page.exists());
        assert!(before == after, "{arguments:?} changed something");
    }
    assert!(page.exists());
    let mut before = bytes_of(place.directory.path());
    let measured = ["bench", "--seconds", "5"];
    assert_eq!(indelible(&measured, &[&log]).status.code(), Some(0));
    let after = bytes_of(place.directory.path());
    before.retain(|path, bytes| after.get(path) != Some(bytes));
    assert!(before.is_empty(), "bench changed {:?}", before.keys());
    assert_eq!(fs::read_dir(place.directory.path()).unwrap().count(), 3);
}

/// With few descriptors a command says which file it wanted one for, and takes nothing for damaged.
#[test]
fn whoever_has_few_descriptors_says_so_and_finds_no_damage() {
    let place = Place::new();
    let (log, to) = (place.closed(), place.path("copied"));
    let commands: [(&[&str], &[&Path]); 3] = [
        (&["verify"], &[&log]),
        (&["repair", "--plan"], &[&log]),
        (&["backup", "--copy"], &[&log, &to]),
    ];
    for (arguments, paths) in commands {
        let mut refused = 0;
        for limit in 4..64 {
            let output = Command::new("sh")
                .args(["-c", &format!("ulimit -n {limit}; exec \"$@\""), "sh"])
                .arg(env!("CARGO_BIN_EXE_indelible"))
                .args(arguments)
                .args(paths)
                .output()
                .unwrap();
            if output.status.success() {
                break;
            }
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(4), "{arguments:?}, {limit}: {said}");
            let named = said.contains(place.directory.path().to_str().unwrap());
            assert!(named && said.contains("ulimit -n"), "{arguments:?}, {limit}: {said}");
            refused += 1;
        }
        assert!((1..60).contains(&refused), "{arguments:?} was refused {refused} times");
    }
}
