//! Long work shows how far it is, on a terminal as a bar.

#![expect(clippy::disallowed_types, reason = "a terminal is no file of a log")]

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Stdio};

use indelible::{Batch, Log};
use indelible_groups::{Groups, GroupsOptions};
use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Action, Winsize, tcflow, tcsetwinsize};

use super::damage::{find, flip};
use super::snapshot::compare;
use super::{Place, bytes_of, copy, indelible, normal, options, program};

/// What a command writes to the terminal that its standard error is.
fn shown(arguments: &[&str], paths: &[&Path], exit: i32) -> String {
    let (master, terminal) = terminal();
    let mut child = spawn(arguments, paths, terminal);
    let shown = read(master);
    assert_eq!(child.wait().unwrap().code(), Some(exit), "{arguments:?}");
    shown
}

/// A command shows a bar of this name, in this unit.
fn check_bar(name: &str, unit: &str, arguments: &[&str], paths: &[&Path], exit: i32) {
    let shown = shown(arguments, paths, exit);
    let is_bar = |part: &str| part.contains(name) && part.contains(unit) && part.contains(" left");
    assert!(shown.split('\r').any(is_bar), "{arguments:?}: {shown:?}");
}

/// Both ends of a terminal.
fn terminal() -> (OwnedFd, File) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let size = Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&master, size).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let mut options = File::options();
    let options = options.read(true).write(true).custom_flags(OFlags::NOCTTY.bits().cast_signed());
    (master, options.open(name.to_str().unwrap()).unwrap())
}

/// Starts a command with a terminal as its standard error.
fn spawn(arguments: &[&str], paths: &[&Path], terminal: File) -> Child {
    let mut command = program(arguments, paths);
    command.env("TERM", "xterm").stdout(Stdio::null()).stderr(terminal).spawn().unwrap()
}

/// What was written to a terminal until nobody has it open any more.
fn read(master: OwnedFd) -> String {
    let mut shown = Vec::new();
    // It ends with an error then.
    let _end = File::from(master).read_to_end(&mut shown);
    String::from_utf8_lossy(&shown).into_owned()
}

/// What a command says that is interrupted while its terminal takes nothing.
fn check_interrupted(place: &Place, snapshot: &str, arguments: &[&str], paths: &[&Path]) {
    let (master, terminal) = terminal();
    let stopped = terminal.try_clone().unwrap();
    tcflow(&stopped, Action::OOff).unwrap();
    let mut child = spawn(arguments, paths, terminal);
    let pid = Pid::from_child(&child);
    let status = format!("/proc/{}/status", pid.as_raw_nonzero());
    let is_ready = || {
        let status = std::fs::read_to_string(&status).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(caught.trim(), 16).unwrap() >> (Signal::INT.as_raw() - 1) & 1 == 1
    };
    while !is_ready() {
        std::thread::yield_now();
    }
    kill_process(pid, Signal::INT).unwrap();
    tcflow(&stopped, Action::OOn).unwrap();
    drop(stopped);
    let shown = read(master);
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::INT.as_raw()), "{arguments:?}");
    let (_, said) = shown.rsplit_once("indelible: ").unwrap();
    compare(snapshot, &normal(&said.replace('\r', ""), place.directory.path()));
}

/// Many small entries over several segments.
fn build(path: &Path) {
    let log = Log::create(path, &options()).unwrap();
    let mut batch = Batch::new();
    for index in 0..6_000_u64 {
        batch.append(format!("entry number {index} ").into_bytes());
    }
    batch.set("omnipaxos.decided", 6_000_u64.to_le_bytes().to_vec());
    log.commit(&batch).unwrap();
    log.close().unwrap();
}

#[test]
fn long_work_shows_how_far_it_is() {
    let place = Place::new();
    let (log, peer, page) = (place.log(), place.path("peer"), place.path("page.html"));
    build(&log);
    copy(&log, &peer);
    let from = peer.to_str().unwrap();
    let html = ["inspect", "--html", page.to_str().unwrap()];
    check_bar("verify", "KiB of ", &["verify"], &[&log], 0);
    check_bar("verify", "KiB of ", &html, &[&log], 0);
    check_bar("backup", "KiB of ", &["backup", "--copy"], &[&log, &place.path("copy")], 0);
    check_bar("compare", "of 6,000 entries", &["compare", "--step", "100"], &[&log, &peer], 0);
    std::fs::remove_file(place.segment(2)).unwrap();
    check_bar("reading", "KiB of ", &["repair", "--plan"], &[&log], 3);
    check_bar("writing", "KiB of ", &["repair", "--apply"], &[&log], 3);
    check_bar("refill", "entries", &["refill", "--from", from], &[&log], 0);
    assert_eq!(shown(&["--quiet", "verify"], &[&log], 0), "");
}

#[test]
fn work_on_groups_shows_how_far_it_is() {
    let place = Place::new();
    let (log, peer) = (place.log(), place.path("peer"));
    let groups = Groups::create(&log, &GroupsOptions::new().log(options())).unwrap();
    let group = groups.create_group(7).unwrap();
    for index in 0..100_u64 {
        let mut batch = Batch::new();
        batch.append([format!("entry {index} ").as_bytes(), &[b'.'; 1000]].concat());
        batch.set("omnipaxos.decided", index.to_le_bytes().to_vec());
        group.submit(&batch).unwrap();
    }
    groups.close().unwrap();
    copy(&log, &peer);
    let sealed = place.segment(1);
    flip(&sealed, find(&sealed, "entry 20 "));
    let refill = ["refill", "--group", "7", "--from", peer.to_str().unwrap()];
    check_bar("groups", " entries, ", &["verify"], &[&log], 3);
    check_bar("groups", " entries, ", &["repair", "--plan"], &[&log], 3);
    check_bar("refill", " entries, ", &refill, &[&log], 0);
}

#[test]
fn interrupted_work_says_what_it_leaves_and_can_be_run_again() {
    let place = Place::new();
    let (log, peer, part) = (place.log(), place.path("peer"), place.path("part"));
    build(&log);
    copy(&log, &peer);
    let (before, page) = (bytes_of(place.directory.path()), place.path("page.html"));
    let html = ["inspect", "--html", page.to_str().unwrap()];
    for (arguments, paths) in [
        (&["verify"][..], &[&*log][..]),
        (&["compare", "--step", "100"], &[&*log, &*peer]),
        (&["repair", "--plan"], &[&*log]),
        (&html, &[&*log]),
    ] {
        check_interrupted(&place, "interrupted", arguments, paths);
        assert!(before == bytes_of(place.directory.path()), "{arguments:?} changed something");
    }
    check_interrupted(&place, "interrupted_backup", &["backup", "--copy"], &[&log, &part]);
    assert!(!part.join("metadata").exists(), "a part looks like a log");
    std::fs::remove_dir_all(&part).unwrap();
    assert!(indelible(&["backup", "--copy"], &[&log, &part]).status.success());
    std::fs::remove_file(place.segment(2)).unwrap();
    check_interrupted(&place, "interrupted", &["repair", "--apply"], &[&log]);
    assert_eq!(indelible(&["repair", "--apply"], &[&log]).status.code(), Some(3));
    let refill = ["refill", "--from", peer.to_str().unwrap()];
    check_interrupted(&place, "interrupted_refill", &refill, &[&log]);
    assert!(indelible(&refill, &[&log]).status.success());
    assert!(indelible(&["verify"], &[&log]).status.success());
}
