//! What is said on ways that the other tests do not take: every message stands in a snapshot
//! (`tests/tidy.rs` of the repository sees to that).

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;

use indelible::format::frame::{FRAME_HEADER_BYTES, encode_frame, read_header_unchecked};
use indelible::format::{Checkpoint, Flags, Kind, Salt, SegmentHeader};
use indelible::store::Store as _;
use indelible::{Batch, Log};
use indelible_groups::{Groups, GroupsOptions};
use rustix::process::{Pid, Signal, kill_process};

use super::damage::{find, flip};
use super::{Place, bytes_of, check, check_said, check_untouched, indelible, options, program};

#[test]
fn the_manual_is_one_page() {
    let place = Place::new();
    check(&place, "man", &["man"], &[]);
    check(&place, "completions_unknown", &["completions", "tcsh"], &[]);
}

#[test]
fn output_that_cannot_be_written_is_no_success() {
    let place = Place::new();
    let log = place.closed();
    let commands: [&[&str]; 8] = [
        &["--help"],
        &["--version"],
        &["help", "dump"],
        &["dump", "--help"],
        &["man"],
        &["completions", "bash"],
        &["dump"],
        &["inspect", "--json"],
    ];
    for (nth, arguments) in commands.into_iter().enumerate() {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let paths: &[&Path] = if nth < 6 { &[] } else { &[&log] };
        let output = program(arguments, paths).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(4), "{arguments:?}: {output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("cannot write the output: No space left"), "{arguments:?}: {said}");
    }
}

#[test]
fn a_page_is_not_written_among_the_files_of_a_log() {
    let place = Place::new();
    let log = place.closed();
    let page = log.join("metadata");
    let html = ["inspect", "--html", page.to_str().unwrap()];
    check_untouched(&place, "html_in_log", &html, &[&log]);
    let link = place.path("page.html");
    std::os::unix::fs::symlink(&page, &link).unwrap();
    let before = bytes_of(place.directory.path());
    for option in ["--html", "--svg"] {
        let drawn = ["bench", "--seconds", "1", option, link.to_str().unwrap()];
        let output = indelible(&drawn, &[place.directory.path()]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
    assert!(before == bytes_of(place.directory.path()), "a page replaced something");
}

/// Found by review. A log was known by its metadata file alone, and a link to no file was followed.
#[test]
fn a_page_is_not_written_among_what_is_left_of_a_log() {
    let place = Place::new();
    let (log, link) = (place.closed(), place.path("page.html"));
    std::os::unix::fs::symlink(log.join("new.html"), &link).unwrap();
    let before = bytes_of(&log);
    check(&place, "html_dangling", &["inspect", "--html", link.to_str().unwrap()], &[&log]);
    assert!(before == bytes_of(&log), "a link was followed");
    fs::remove_file(&link).unwrap();
    fs::remove_file(log.join("metadata")).unwrap();
    let sound = place.path("sound");
    Log::create(&sound, &options()).unwrap().close().unwrap();
    let refused = |given: &Path, page: &Path| {
        let before = bytes_of(place.directory.path());
        let output = indelible(&["inspect", "--html", page.to_str().unwrap()], &[given]);
        assert_eq!(output.status.code(), Some(2), "{}: {output:?}", page.display());
        assert!(before == bytes_of(place.directory.path()), "{} was written", page.display());
    };
    let left: Vec<_> = fs::read_dir(&log).unwrap().map(|file| file.unwrap().path()).collect();
    let segment = left.iter().find(|path| path.extension().is_some_and(|end| end == "seg"));
    refused(&sound, segment.unwrap());
    for path in &left {
        fs::remove_file(path).unwrap();
    }
    // Nothing here has the name of a log's file.
    refused(&log, &log.join("page.html"));
    std::os::unix::fs::symlink(&log, place.path("alias")).unwrap();
    refused(&log, &place.path("alias").join("page.html"));
}

#[test]
fn entries_of_every_kind_are_named_by_their_kind() {
    let place = Place::new();
    let log = Log::create(place.log(), &options()).unwrap();
    let mut batch = Batch::new();
    batch.reset(1).set("async-raft.format", vec![1]);
    for (index, kind) in [(1, 0), (2, 1), (3, 2), (4, 3)] {
        batch.append(vec![7, index, kind, b'x']);
    }
    log.commit(&batch).unwrap();
    log.close().unwrap();
    check_untouched(&place, "decode_async_raft", &["dump", "--decode"], &[&place.log()]);
    let raft = place.path("raft");
    let log = Log::create(&raft, &options()).unwrap();
    let mut batch = Batch::new();
    batch.reset(1);
    batch.append(vec![8, 1, 16, 3, 24, 1]).append(vec![8, 2, 16, 3, 24, 2, 50, 1, b'c']);
    log.commit(&batch).unwrap();
    log.close().unwrap();
    check_untouched(&place, "decode_raft_changes", &["dump", "--decode=raft"], &[&raft]);
}

#[test]
fn a_program_that_does_not_decode_is_named() {
    let place = Place::new();
    let log = place.closed();
    let no_text = "while read line; do printf '\\377\\n'; done";
    let arguments = ["dump", "--decode", "--to", "3", "--payload", no_text];
    check_untouched(&place, "decode_no_text", &arguments, &[&log]);
    let arguments = ["dump", "--decode", "--payload", "cat"];
    let mut command = program(&arguments, &[&log]);
    command.env("PATH", place.path("nowhere"));
    check_said(&place, "decode_no_shell", command, &arguments, &[&log]);
}

#[test]
fn frames_of_every_kind_are_shown_and_places_without_any_are_named() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1");
    for name in ["compressed", "killed", "holes"] {
        let place = Place::new();
        super::copy(&golden.join(name), &place.log());
        let frames = ["dump", "--frames"];
        check_untouched(&place, &format!("golden_{name}_frames"), &frames, &[&place.log()]);
    }
    let place = Place::new();
    let log = place.closed();
    let sealed = place.segment(2);
    flip(&sealed, 40);
    flip(&sealed, 64 * 1024 - 30);
    check_untouched(&place, "illegible_frames", &["dump", "--frames"], &[&log]);
    let place = Place::new();
    let log = Log::create(place.log(), &options()).unwrap();
    for index in 0..30 {
        log.append(&super::entry(index)).unwrap();
    }
    log.close().unwrap();
    fs::remove_file(place.segment(2)).unwrap();
    fs::remove_file(place.segment(3)).unwrap();
    check_untouched(&place, "two_missing_frames", &["dump", "--frames"], &[&place.log()]);
}

/// Checksums that are right, over what no engine wrote.
#[test]
fn frames_that_no_log_writes_are_shown_for_what_they_are() {
    let place = Place::new();
    let log = place.closed();
    let sealed = place.segment(2);
    let mut bytes = fs::read(&sealed).unwrap();
    let salt = Salt::new(SegmentHeader::decode(&bytes).unwrap().generation);
    for (entry, kind, flags, length) in
        [(8, Kind::Entry, Flags::LZ4, 10_000), (9, Kind::Set, 0, 100)]
    {
        let at = find(&sealed, &format!("entry {entry} ")) - FRAME_HEADER_BYTES;
        let mut header = read_header_unchecked(&bytes[at..]).unwrap();
        (header.kind, header.flags, header.length) = (kind, header.flags | flags, length);
        let mut frame = Vec::new();
        encode_frame(&mut frame, &salt, at as u64, &header, &[&vec![0xff; length as usize]]);
        bytes[at..at + frame.len()].copy_from_slice(&frame);
    }
    fs::write(&sealed, bytes).unwrap();
    check_untouched(&place, "crafted_dump", &["dump"], &[&log]);
    check_untouched(&place, "crafted_frames", &["dump", "--frames"], &[&log]);
}

#[test]
fn what_lies_beside_a_log_is_told_apart() {
    let place = Place::new();
    let log = place.closed();
    fs::write(log.join("00000000000000ff.side"), "nobody's").unwrap();
    fs::write(log.join("thesis.txt"), "somebody's").unwrap();
    check_untouched(&place, "beside_inspect", &["inspect"], &[&log]);
    let nowhere = place.path("nowhere/page.html");
    let html = ["inspect", "--html", nowhere.to_str().unwrap()];
    check_untouched(&place, "html_nowhere", &html, &[&log]);
}

#[test]
fn a_creation_that_was_cut_short_is_told_as_such() {
    let place = Place::new();
    Log::create(place.log(), &options()).unwrap().close().unwrap();
    let metadata = place.log().join("metadata");
    let bytes = fs::read(&metadata).unwrap();
    let mut slots = Vec::new();
    for slot in bytes.chunks(4096) {
        let mut checkpoint = Checkpoint::decode(slot).unwrap();
        (checkpoint.creating, checkpoint.clean) = (true, false);
        slots.extend_from_slice(&*checkpoint.encode().unwrap());
    }
    fs::write(&metadata, slots).unwrap();
    check_untouched(&place, "creating_inspect", &["inspect"], &[&place.log()]);
    check_untouched(&place, "creating_verify", &["verify"], &[&place.log()]);
}

#[test]
fn one_entry_is_one_entry() {
    let place = Place::new();
    let log = Log::create(place.log(), &options()).unwrap();
    log.append(b"the only one").unwrap();
    log.close().unwrap();
    check_untouched(&place, "one_entry_verify", &["verify"], &[&place.log()]);
}

#[test]
fn a_plan_for_what_a_repair_left_points_to_the_refill() {
    let place = Place::new();
    let log = place.closed();
    let sealed = place.segment(2);
    flip(&sealed, find(&sealed, "entry 8 ") + 5000);
    assert_eq!(indelible(&["repair", "--apply"], &[&log]).status.code(), Some(3));
    check_untouched(&place, "plan_after_repair", &["repair", "--plan"], &[&log]);
}

#[test]
fn what_groups_lose_and_what_is_no_group_s_any_more_is_told() {
    let place = Place::new();
    let log = place.log();
    let options = GroupsOptions::new().log(options().allow_holes(true));
    let groups = Groups::create(&log, &options).unwrap();
    let group = groups.create_group(7).unwrap();
    for index in 0..30_u64 {
        group.append(&super::entry(index)).unwrap();
    }
    groups.close().unwrap();
    let sealed = place.segment(2);
    flip(&sealed, find(&sealed, "entry 8 ") + 5000);
    assert_eq!(indelible(&["repair", "--apply"], &[&log]).status.code(), Some(3));
    let groups = Groups::open(&log, &options).unwrap();
    let group = groups.group(7).unwrap();
    let file = group.write_side_file(b"all that came before").unwrap();
    group.commit(Batch::new().trim(10).attach("snapshot", file)).unwrap();
    groups.close().unwrap();
    check_untouched(&place, "groups_holes_of_nobody", &["verify"], &[&log]);
    // Values of groups are entries of the log.
    let mut all = fs::read_dir(&log).unwrap().map(|file| file.unwrap().path());
    let is_in = |path: &std::path::PathBuf| {
        let bytes = fs::read(path).unwrap_or_default();
        path.is_file() && bytes.windows(11).any(|it| it == b"came before")
    };
    let segment = all.find(is_in).unwrap();
    flip(&segment, find(&segment, "came before"));
    check_untouched(&place, "groups_side_file", &["verify"], &[&log]);
}

/// A program that writes while it still reads, and a payload longer than what a pipe holds.
#[test]
fn a_long_payload_goes_through_a_program_that_writes_as_it_reads() {
    let place = Place::new();
    let log = Log::create(place.log(), &options().segment_bytes(2 * 1024 * 1024)).unwrap();
    log.append(&vec![0xab; 400_000]).unwrap();
    log.append(b"short").unwrap();
    log.close().unwrap();
    let arguments = ["dump", "--decode=omnipaxos", "--payload", "cat"];
    let output = indelible(&arguments, &[&place.log()]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(
        shown.starts_with(&format!("0  entry  {}\n1  entry  73686f7274", "ab".repeat(400_000)))
    );
    // One that never ends a line is not waited for.
    let endless =
        "while true; do printf xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done";
    let arguments = ["dump", "--decode=omnipaxos", "--payload", endless];
    check_untouched(&place, "decode_endless", &arguments, &[&place.log()]);
}

/// What a pipeline has started keeps the pipes, and its standard error is this test's.
#[test]
fn nothing_that_a_program_started_outlives_the_dump() {
    let place = Place::new();
    let log = Log::create(place.log(), &options().segment_bytes(2 * 1024 * 1024)).unwrap();
    log.append(&vec![0xab; 600_000]).unwrap();
    log.close().unwrap();
    let pipeline = ["dump", "--decode=omnipaxos", "--payload", "cat | tr a b"];
    check_untouched(&place, "decode_pipeline", &pipeline, &[&place.log()]);
    let left = "(sleep 30; echo survived >&2) & read line; echo shown";
    let arguments = ["--quiet", "dump", "--decode=omnipaxos", "--payload", left];
    let output = indelible(&arguments, &[&place.log()]);
    assert_eq!((&*output.stdout, &*output.stderr), (&b"0  entry  shown\n"[..], &b""[..]));
    let lasting = "echo started >&2; sleep 30 | cat; echo survived >&2";
    let arguments = ["--quiet", "dump", "--decode=omnipaxos", "--payload", lasting];
    for (signal, ignored) in [(Signal::INT, "HUP"), (Signal::TERM, "HUP"), (Signal::HUP, "QUIT")] {
        // As `nohup` has it.
        let script = format!("trap '' {ignored}; exec \"$@\"");
        let binary = env!("CARGO_BIN_EXE_indelible");
        let mut command = std::process::Command::new("env");
        // These tests may run where that is ignored.
        command
            .args(["--default-signal=HUP", "sh", "-c", &script, "sh", binary])
            .args(arguments)
            .arg(place.log());
        let mut dump = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(dump.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "started\n");
        if ignored == "HUP" {
            kill_process(Pid::from_child(&dump), Signal::HUP).unwrap();
        }
        kill_process(Pid::from_child(&dump), signal).unwrap();
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "started\n");
        assert_eq!(dump.wait().unwrap().signal(), Some(signal.as_raw()));
    }
}

#[test]
fn a_range_of_entries_that_no_frame_is_of_is_named() {
    let place = Place::new();
    let log = place.closed();
    let beyond = ["dump", "--frames", "--from", "99", "--to", "100"];
    check_untouched(&place, "frames_beyond", &beyond, &[&log]);
}

#[test]
fn nothing_is_left_in_a_directory_that_holds_no_log() {
    let place = Place::new();
    let empty = place.path("empty");
    fs::create_dir(&empty).unwrap();
    let other = place.closed();
    check_untouched(&place, "repair_empty", &["repair", "--apply"], &[&empty]);
    let from = ["refill", "--from", other.to_str().unwrap()];
    check_untouched(&place, "refill_empty", &from, &[&empty]);
    let group = ["refill", "--group", "7", "--from", other.to_str().unwrap()];
    check_untouched(&place, "refill_group_empty", &group, &[&empty]);
    check_untouched(&place, "backup_empty", &["backup"], &[&empty, &place.path("copy")]);
}
