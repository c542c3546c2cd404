//! `bench`: what it says, that its time is bounded, and that nothing is left of it, however it ends.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Place, check_untouched, indelible};

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().next().is_none()
}

#[test]
fn a_bench_names_what_to_set_and_leaves_nothing_behind() {
    let place = Place::new();
    let (directory, picture) = (place.path("new"), place.path("picture.svg"));
    let arguments = ["bench", "--seconds", "1", "--svg", picture.to_str().unwrap()];
    let started = Instant::now();
    let output = indelible(&arguments, &[&directory]);
    // Set-up and the last round come on top, on a machine that does other things as well.
    assert!(started.elapsed() < Duration::from_secs(180), "{:?}", started.elapsed());
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{shown}");
    for expected in [
        "floor: pwrite + fdatasync",
        "Buffered, fdatasync (the default)",
        "Mmap, msync",
        "Pwrite, O_DSYNC",
        "fallocate only",
        "Barrier, a sync after 16",
        "16 threads that share syncs",
        "Recommendation: ",
    ] {
        assert!(shown.contains(expected), "{expected:?} is not in:\n{shown}");
    }
    assert!(!directory.exists(), "it was not there before");
    assert!(fs::read_to_string(&picture).unwrap().starts_with("<svg"));
}

#[test]
fn a_bench_is_one_json_object() {
    let place = Place::new();
    let output = indelible(&["bench", "--seconds", "1", "--json"], &[place.directory.path()]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["strategies"][0]["options"], "", "the default comes first");
    assert!(value["strategies"].as_array().unwrap().len() > 10);
    assert_eq!(value["policies"][0]["options"], ".durability(Durability::Barrier)");
    assert!(value["floor"]["p50_ns"].as_u64().unwrap() > 0);
    assert!(value["recommendation"].as_array().is_some_and(|lines| !lines.is_empty()));
    assert!(is_empty(place.directory.path()));
}

#[test]
fn a_bench_of_what_is_no_directory_is_refused() {
    let place = Place::new();
    fs::write(place.path("file"), "").unwrap();
    check_untouched(&place, "bench_file", &["bench"], &[&place.path("file")]);
    let picture = place.path("nowhere/picture.svg");
    let arguments = ["bench", "--svg", picture.to_str().unwrap()];
    // Said at once, not after ten seconds of measuring.
    let started = Instant::now();
    let output = indelible(&arguments, &[place.directory.path()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot draw into"));
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
}

#[test]
fn an_interrupted_bench_leaves_nothing_behind() {
    let place = Place::new();
    let directory = place.path("new");
    fs::create_dir(&directory).unwrap();
    let mut bench = Command::new(env!("CARGO_BIN_EXE_indelible"))
        .args(["bench", "--seconds", "600"])
        .arg(&directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until(&mut bench, || !is_empty(&directory));
    // The shell's own: not every system has a program of that name.
    let kill = format!("kill -INT {}", bench.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    assert_eq!(bench.wait().unwrap().code(), Some(130));
    assert!(is_empty(&directory));
}

/// Waits for something that a process does.
fn wait_until(process: &mut Child, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(process.try_wait().unwrap().is_none(), "it ended by itself");
        assert!(started.elapsed() < Duration::from_secs(60), "it never began");
        std::thread::sleep(Duration::from_millis(20));
    }
}
