//! `bench`: what it says, that its time is bounded, and that nothing is left of it, however it ends.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Place, check_untouched, indelible, schema};

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
        "Buffered, fdatasync *",
        "Mmap, msync",
        "Pwrite, O_DSYNC",
        "fallocate, not zero-filled",
        "log, a batch of 100",
        "log, 64 threads",
        "Barrier, one sync per 16",
        "scheduler",
        "begins a segment",
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
    let arguments = ["bench", "--seconds", "1", "--json", "--quiet", "--neighbour"];
    let names = schema::checked(&arguments, &[place.directory.path()]);
    assert_eq!(names.iter().filter(|name| *name == "bench").count(), 1, "{names:?}");
    let output = indelible(&["bench", "--seconds", "1", "--json"], &[place.directory.path()]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["version"], 1);
    let value = &value["bench"];
    for field in ["program", "date", "host", "kernel"] {
        assert!(value[field].as_str().is_some_and(|text| !text.is_empty()), "{field}");
    }
    let measured = &value["places"][0];
    let rows = measured["rows"].as_array().unwrap();
    let role = |role| rows.iter().filter(move |row| row["role"] == role);
    assert_eq!(role("default").count(), 1);
    assert_eq!(role("default").next().unwrap()["options"], "");
    assert!(role("strategy").count() > 10);
    assert_eq!(role("policy").next().unwrap()["options"], ".durability(Durability::Barrier)");
    assert!(role("floor").all(|row| row["p50_ns"].as_u64().unwrap() > 0));
    assert!(measured["advice"].as_array().is_some_and(|lines| !lines.is_empty()));
    assert!(measured["ground"]["file_system"].is_string());
    assert!(is_empty(place.directory.path()));
}

#[test]
fn a_bench_says_how_far_it_is_unless_it_is_to_be_quiet() {
    let place = Place::new();
    let said = |more: &[&str]| {
        let arguments = [&["bench", "--seconds", "5"], more].concat();
        let started = Instant::now();
        let output = indelible(&arguments, &[place.directory.path()]);
        assert!(output.status.success());
        let said = String::from_utf8(output.stderr).unwrap();
        let about = |line: &&str| line.starts_with("measuring ") && line.contains(" %, about ");
        (said.lines().filter(about).count(), started.elapsed())
    };
    let (lines, took) = said(&[]);
    // On a disk that is fast and steady it ends before there is anything to say.
    assert!(lines > 0 || took < Duration::from_secs(4), "{took:?}");
    assert_eq!(said(&["--quiet"]).0, 0);
}

#[test]
fn an_older_run_is_compared_with_and_a_page_is_written() {
    let place = Place::new();
    let (old, page, dir) = (place.path("old.json"), place.path("page.html"), place.path("dir"));
    fs::create_dir(&dir).unwrap();
    fs::write(&old, indelible(&["bench", "--seconds", "1", "--json"], &[&dir]).stdout).unwrap();
    let (old, html) = (old.to_str().unwrap(), page.to_str().unwrap());
    let arguments = ["bench", "--seconds", "1", "--compare", old, "--html", html];
    let output = indelible(&arguments, &[&dir]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("compared with the run of"), "{shown}");
    assert!(shown.lines().filter(|line| line.contains(" x ")).count() > 20, "{shown}");
    let page = fs::read_to_string(&page).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("<svg"));
    assert!(!page.contains("http://") || page.contains("www.w3.org"), "nothing is loaded");
}

#[test]
fn a_run_that_is_no_report_is_not_compared_with() {
    let place = Place::new();
    let old = place.path("old.json");
    for text in ["", "{}", "{\"version\": 9}", "{\"version\": 1}", "[1, 2"] {
        fs::write(&old, text).unwrap();
        let arguments = ["bench", "--compare", old.to_str().unwrap()];
        let started = Instant::now();
        let output = indelible(&arguments, &[place.directory.path()]);
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("cannot compare with"), "{said}");
        // Said at once, not after half a minute of measuring.
        assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    }
}

#[test]
fn a_bench_in_memory_recommends_no_strategy() {
    let memory = Path::new("/dev/shm");
    if !memory.is_dir() {
        eprintln!("bench in memory: SKIPPED: there is no /dev/shm");
        return;
    }
    let directory = tempfile::tempdir_in(memory).unwrap();
    for _ in 0..2 {
        let output = indelible(&["bench", "--seconds", "1"], &[directory.path()]);
        let shown = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{shown}");
        assert!(shown.contains("WARNING  This is memory"), "{shown}");
        assert!(!shown.contains("Recommendation: Options::new()."), "{shown}");
    }
}

#[test]
fn two_directories_are_put_in_order_and_a_report_is_markdown() {
    let place = Place::new();
    let (one, two) = (place.path("one"), place.path("two"));
    let output = indelible(&["bench", "--seconds", "1"], &[&one, &two]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("of these directories"), "{shown}");
    let output = indelible(&["bench", "--seconds", "1", "--report"], &[&one]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.starts_with("### ") && shown.contains("|---|--:|"), "{shown}");
}

#[test]
fn what_a_killed_bench_left_is_named_and_removed_when_asked() {
    let place = Place::new();
    let left = place.path("indelible-bench-killed");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("running"), "").unwrap();
    let output = indelible(&["bench", "--seconds", "1"], &[place.directory.path()]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("--remove-leftovers"));
    assert!(left.exists(), "nothing is removed unasked");
    let output = indelible(&["bench", "--remove-leftovers"], &[place.directory.path()]);
    assert!(output.status.success());
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
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot write into"));
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
