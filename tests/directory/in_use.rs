//! Who has a log open: not who has one of the same inode number on another file system, and also who
//! is outside of the container.
#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use indelible::{Backup, Log};

use super::{is_locked, itself, options};

/// Where the process with namespaces of its own finds a directory to work in.
const PLACE: &str = "INDELIBLE_TEST_PLACE";

/// Runs a test again in a process with namespaces of its own; says so and does nothing where that
/// cannot be had. `place` is what it finds as [`PLACE`].
fn apart(namespaces: &[&str], test: &str, place: &Path) {
    let own = || {
        let mut command = Command::new("unshare");
        command.arg("--map-root-user").args(namespaces);
        command
    };
    if !own().arg("true").output().is_ok_and(|ended| ended.status.success()) {
        println!("skipped: no {namespaces:?} for a process of its own");
        return;
    }
    let test = itself(module_path!(), test);
    let mut command = own();
    let ended = command.arg(test.get_program()).args(test.get_args()).env(PLACE, place).output();
    let ended = ended.unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    let complained = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success() && said.contains("1 passed"), "{said}\n{complained}");
}

/// Found by two fresh XFS volumes, where a first directory always has the number 131.
#[test]
fn closed_log_is_not_in_use_by_one_with_the_same_number_on_another_file_system() {
    let test = "closed_log_is_not_in_use_by_one_with_the_same_number_on_another_file_system";
    if let Some(place) = std::env::var_os(PLACE) {
        return closed_and_open(Path::new(&place));
    }
    apart(&["--mount"], test, tempfile::tempdir().unwrap().path());
}

fn closed_and_open(place: &Path) {
    let [open, closed] = ["open", "closed"].map(|name| {
        let volume = place.join(name);
        fs::create_dir(&volume).unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&volume).status();
        assert!(mount.unwrap().success());
        volume.join("log")
    });
    let log = Log::create(&open, &options()).unwrap();
    Log::create(&closed, &options()).unwrap().close().unwrap();
    let [one, two] = [&open, &closed].map(|path| fs::metadata(path).unwrap().ino());
    assert_eq!(one, two);
    assert!(is_locked(&open) && !is_locked(&closed));
    Backup::of_stopped(&closed, place.join("copy"), false, &mut |_| {}).unwrap();
    log.append(b"undisturbed").unwrap();
}

/// Found by reading. The kernel's list of locks leaves out those of processes outside a container, so
/// a log that one of them had open was not in use.
#[test]
fn log_that_is_open_outside_the_container_is_in_use() {
    if let Some(place) = std::env::var_os(PLACE) {
        let place = Path::new(&place);
        assert!(is_locked(&place.join("open")) && !is_locked(&place.join("closed")));
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let log = Log::create(place.path().join("open"), &options()).unwrap();
    Log::create(place.path().join("closed"), &options()).unwrap().close().unwrap();
    let namespaces = ["--mount", "--pid", "--fork", "--mount-proc"];
    apart(&namespaces, "log_that_is_open_outside_the_container_is_in_use", place.path());
    log.append(b"undisturbed").unwrap();
}
