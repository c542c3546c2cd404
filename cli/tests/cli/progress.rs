//! Long work shows how far it is, on a terminal as a bar.

#![expect(clippy::disallowed_types, reason = "a terminal is no file of a log")]

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use indelible::{Batch, Log};
use indelible_groups::{Groups, GroupsOptions};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::damage::{find, flip};
use super::{Place, copy, options, program};

/// What a command writes to the terminal that its standard error is.
fn shown(arguments: &[&str], paths: &[&Path], exit: i32) -> String {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let size = Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&master, size).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let terminal = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let mut child = program(arguments, paths)
        .env("TERM", "xterm")
        .stdout(Stdio::null())
        .stderr(terminal)
        .spawn()
        .unwrap();
    let mut shown = Vec::new();
    // It ends with an error when nobody has the terminal open any more.
    let _end = File::from(master).read_to_end(&mut shown);
    assert_eq!(child.wait().unwrap().code(), Some(exit), "{arguments:?}");
    String::from_utf8_lossy(&shown).into_owned()
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
    let bar = |name: &str, unit: &str, arguments: &[&str], paths: &[&Path], exit: i32| {
        let shown = shown(arguments, paths, exit);
        let is_bar =
            |part: &str| part.contains(name) && part.contains(unit) && part.contains(" left");
        assert!(shown.split('\r').any(is_bar), "{arguments:?}: {shown:?}");
    };
    bar("verify", "KiB of ", &["verify"], &[&log], 0);
    bar("verify", "KiB of ", &html, &[&log], 0);
    bar("backup", "KiB of ", &["backup", "--copy"], &[&log, &place.path("copy")], 0);
    bar("compare", "of 6,000 entries", &["compare", "--step", "100"], &[&log, &peer], 0);
    std::fs::remove_file(place.segment(2)).unwrap();
    bar("reading", "KiB of ", &["repair", "--plan"], &[&log], 3);
    bar("writing", "KiB of ", &["repair", "--apply"], &[&log], 3);
    bar("refill", "entries", &["refill", "--from", from], &[&log], 0);
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
    let has_bar = |name: &str, arguments: &[&str], exit: i32| {
        let shown = shown(arguments, &[&log], exit);
        let is_bar = |part: &str| part.contains(name) && part.contains(" entries, ");
        assert!(shown.split('\r').any(is_bar), "{arguments:?}: {shown:?}");
    };
    has_bar("groups", &["verify"], 3);
    has_bar("groups", &["repair", "--plan"], 3);
    has_bar("refill", &["refill", "--group", "7", "--from", peer.to_str().unwrap()], 0);
}
