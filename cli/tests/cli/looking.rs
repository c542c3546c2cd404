//! Subcommands that only look: `inspect`, `dump`, `verify`. None may change a byte.

use std::fs;

use indelible::{Batch, Log};

use super::damage::{find, flip, restate_version};
use super::{Place, build, check, check_untouched, indelible};

const LOOKS: [(&str, &[&str]); 3] =
    [("inspect", &["inspect"]), ("dump", &["dump"]), ("verify", &["verify"])];

fn look(place: &Place, condition: &str) {
    for (name, arguments) in LOOKS {
        check_untouched(place, &format!("{condition}_{name}"), arguments, &[&place.log()]);
    }
}

#[test]
fn a_closed_log_is_clean() {
    let place = Place::new();
    place.closed();
    look(&place, "closed");
    let log = place.log();
    check_untouched(&place, "closed_frames", &["dump", "--frames"], &[&log]);
    check_untouched(&place, "closed_state", &["dump", "--state"], &[&log]);
    check_untouched(&place, "closed_range", &["dump", "--from", "5", "--to", "7"], &[&log]);
}

#[test]
fn a_killed_log_recovers() {
    let place = Place::new();
    place.killed();
    look(&place, "killed");
}

#[test]
fn a_torn_tail_is_told_from_damage() {
    let place = Place::new();
    place.killed();
    let tail = place.segment(3);
    flip(&tail, find(&tail, "the last one"));
    look(&place, "torn");
}

#[test]
fn a_damaged_entry_is_named() {
    let place = Place::new();
    place.closed();
    let sealed = place.segment(2);
    flip(&sealed, find(&sealed, "entry 8 ") + 5000);
    look(&place, "damaged_entry");
}

#[test]
fn a_damaged_end_after_a_close_is_no_torn_tail() {
    let place = Place::new();
    place.closed();
    let tail = place.segment(3);
    flip(&tail, find(&tail, "entry 13 ") - 20);
    look(&place, "damaged_tail");
}

#[test]
fn a_damaged_footer_loses_nothing() {
    let place = Place::new();
    place.closed();
    flip(&place.segment(2), 64 * 1024 - 30);
    look(&place, "damaged_footer");
}

#[test]
fn one_unreadable_slot_loses_nothing() {
    let place = Place::new();
    place.closed();
    flip(&place.log().join("metadata"), 100);
    look(&place, "one_slot");
}

#[test]
fn two_unreadable_slots_are_no_new_log() {
    let place = Place::new();
    place.closed();
    flip(&place.log().join("metadata"), 100);
    flip(&place.log().join("metadata"), 5000);
    look(&place, "both_slots");
}

#[test]
fn a_missing_segment_is_named() {
    let place = Place::new();
    place.closed();
    fs::remove_file(place.segment(2)).unwrap();
    look(&place, "missing_segment");
}

/// Cuts a file, or makes it longer.
fn set_length(path: &std::path::Path, bytes: u64) {
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(bytes).unwrap();
}

#[test]
fn a_file_that_was_cut_short_is_named_with_its_length() {
    let place = Place::new();
    place.closed();
    set_length(&place.segment(2), 30_000);
    look(&place, "cut_segment");
    set_length(&place.segment(2), 64 * 1024 + 1);
    check_untouched(&place, "long_segment_verify", &["verify"], &[&place.log()]);
    let place = Place::new();
    place.closed();
    // Between two frames: nothing that is left looks wrong by itself.
    let tail = place.segment(3);
    set_length(&tail, find(&tail, "entry 13 ") as u64 - 32);
    look(&place, "cut_tail");
    let place = Place::new();
    place.closed();
    set_length(&place.log().join("metadata"), 5000);
    look(&place, "cut_metadata");
}

#[test]
fn files_that_claim_to_be_one_segment_are_named() {
    let place = Place::new();
    place.closed();
    let twin = place.log().join("0000000000000002-0000000000000005.seg");
    fs::copy(place.segment(2), twin).unwrap();
    look(&place, "twins");
    check_untouched(&place, "twins_frames", &["dump", "--frames"], &[&place.log()]);
    check_untouched(&place, "twins_plan", &["repair", "--plan"], &[&place.log()]);
}

#[test]
fn a_missing_snapshot_is_named() {
    let place = Place::new();
    place.closed();
    for file in fs::read_dir(place.log()).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|end| end == "side") {
            fs::remove_file(path).unwrap();
        }
    }
    look(&place, "missing_snapshot");
    let log = [&*place.log()];
    check_untouched(&place, "missing_snapshot_plan", &["repair", "--plan"], &log);
    check(&place, "missing_snapshot_repair", &["repair", "--apply"], &log);
    check(&place, "missing_snapshot_again", &["repair", "--apply"], &log);
}

#[test]
fn a_damaged_snapshot_is_damage_to_verify_and_to_repair() {
    let place = Place::new();
    place.closed();
    for file in fs::read_dir(place.log()).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|end| end == "side") {
            flip(&path, 3);
        }
    }
    check_untouched(&place, "damaged_snapshot_verify", &["verify"], &[&place.log()]);
    check_untouched(&place, "damaged_snapshot_plan", &["repair", "--plan"], &[&place.log()]);
}

#[test]
fn a_future_version_in_one_segment_is_told_as_such() {
    let place = Place::new();
    place.closed();
    restate_version(&place.segment(2), 0, 128, 2);
    look(&place, "future_segment");
    check_untouched(&place, "future_segment_plan", &["repair", "--plan"], &[&place.log()]);
}

#[test]
fn damage_before_the_checkpoint_hides_nothing_after_it() {
    let place = Place::new();
    let live = place.path("live");
    let log = Log::create(&live, &super::options()).unwrap();
    for index in 0..10 {
        log.append(format!("old entry {index}").as_bytes()).unwrap();
    }
    log.maintain().unwrap();
    let mut batch = Batch::new();
    batch.truncate(5);
    for index in 5..12 {
        batch.append(format!("new entry {index}").into_bytes());
    }
    log.commit(&batch).unwrap();
    super::copy(&live, &place.log());
    drop(log);
    fs::remove_dir_all(&live).unwrap();
    fs::remove_file(place.log().join("lock")).unwrap();
    flip(&place.segment(1), 4120);
    look(&place, "stale");
}

#[test]
fn a_future_version_is_not_damage() {
    let place = Place::new();
    place.closed();
    restate_version(&place.log().join("metadata"), 0, 4096, 2);
    restate_version(&place.log().join("metadata"), 4096, 4096, 2);
    look(&place, "future");
}

#[test]
fn a_log_in_use_can_be_looked_at() {
    let place = Place::new();
    let log = build(&place.log());
    look(&place, "locked");
    assert_eq!(log.entry(2).unwrap(), super::entry(2));
    log.close().unwrap();
}

#[test]
fn a_directory_without_a_log_is_said_to_have_none() {
    let place = Place::new();
    fs::create_dir(place.log()).unwrap();
    look(&place, "empty");
    check_untouched(&place, "absent_inspect", &["inspect"], &[&place.path("nowhere")]);
}

#[test]
fn the_help_of_every_command_and_the_manual_state_every_exit_code() {
    let page =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/OPERATIONS.md")).unwrap();
    let rows = page.lines().skip_while(|line| !line.starts_with("| exit code")).skip(2);
    let rows: Vec<Vec<&str>> = rows
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert_eq!(rows.len(), 6);
    let said = |arguments: &[&str]| {
        let output = indelible(arguments, &[]);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.starts_with('.') || said.lines().all(|line| line.len() <= 80), "{said}");
        said
    };
    super::compare("help", &said(&["--help"]));
    super::compare("help_refill", &said(&["refill", "--help"]));
    let help = said(&["--help"]);
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands = commands.take_while(|line| line.starts_with("  "));
    let name = |line| str::strip_prefix(line, "  ")?.split(' ').next().filter(|it| !it.is_empty());
    let names: Vec<&str> = commands.filter_map(name).collect();
    assert!(names.len() > 9, "{names:?}");
    let one_line = |page: &str| page.split_whitespace().collect::<Vec<_>>().join(" ");
    let pages = names.iter().filter(|name| **name != "help").map(|name| said(&[name, "--help"]));
    for page in pages.chain([help.clone(), said(&["man"])]) {
        for row in &rows {
            assert!(row.iter().all(|cell| one_line(&page).contains(cell)), "{row:?}\n{page}");
        }
    }
}

#[test]
fn a_file_is_no_directory_of_a_log() {
    let place = Place::new();
    place.closed();
    check_untouched(&place, "file_inspect", &["inspect"], &[&place.log().join("metadata")]);
}

#[test]
fn a_log_one_level_down_is_pointed_at() {
    let place = Place::new();
    place.closed();
    check_untouched(&place, "one_level_down", &["inspect"], &[place.directory.path()]);
}

#[test]
fn ranges_that_do_not_exist_are_named() {
    let place = Place::new();
    let log = place.closed();
    check_untouched(&place, "range_partly", &["dump", "--from", "12", "--to", "20"], &[&log]);
    check_untouched(&place, "range_beyond", &["dump", "--from", "20"], &[&log]);
    check_untouched(&place, "range_backwards", &["dump", "--from", "7", "--to", "5"], &[&log]);
}

#[test]
fn entries_are_shown_as_their_host_wrote_them() {
    let place = Place::new();
    let log = Log::create(place.log(), &super::options()).unwrap();
    // As the adapter for openraft has it: a log id, a kind, and the rest.
    let mut batch = Batch::new();
    batch.set("openraft.vote", vec![3, 2, 1]).reset(1);
    batch
        .append(vec![3, 2, 1, 0])
        .append([&[3, 2, 2, 1][..], b"x=1"].concat())
        .append(b"?".to_vec());
    log.commit(&batch).unwrap();
    log.close().unwrap();
    let log = place.log();
    check_untouched(&place, "decode", &["dump", "--decode"], &[&log]);
    check_untouched(&place, "decode_state", &["dump", "--state"], &[&log]);
    let shout = "while read line; do echo \"payload $line\"; done";
    check_untouched(&place, "decode_program", &["dump", "--decode", "--payload", shout], &[&log]);
    let broken = ["dump", "--decode=openraft", "--payload", "true"];
    check_untouched(&place, "decode_broken", &broken, &[&log]);
    // As the adapter for tikv raft has it: messages in protobuf.
    let raft = place.path("raft");
    let log = Log::create(&raft, &super::options()).unwrap();
    let mut batch = Batch::new();
    batch.reset(1).set("raft.hard-state", vec![8, 3, 16, 2, 24, 2]);
    batch.set("raft.conf-state", vec![10, 3, 1, 2, 3]).set("raft.format", vec![1, 0, 0, 0]);
    batch.append(vec![16, 3, 24, 1]).append([&[16, 3, 24, 2, 34, 3][..], b"x=1"].concat());
    log.commit(&batch).unwrap();
    log.close().unwrap();
    check_untouched(&place, "decode_raft", &["dump", "--decode"], &[&raft]);
    check_untouched(&place, "decode_raft_state", &["dump", "--state"], &[&raft]);
    // Nothing tells whose these are.
    let other = place.path("other");
    Log::create(&other, &super::options()).unwrap().close().unwrap();
    check_untouched(&place, "decode_unknown", &["dump", "--decode"], &[&other]);
}

#[test]
fn a_page_shows_everything_and_needs_nothing_beside_itself() {
    let place = Place::new();
    let log = place.closed();
    let file = place.path("page.html");
    let page = |expected: i32| {
        let arguments = ["inspect", "--html", file.to_str().unwrap()];
        assert_eq!(indelible(&arguments, &[&log]).status.code(), Some(expected));
        fs::read_to_string(&file).unwrap()
    };
    let sound = page(0);
    for shown in [">sound<", "omnipaxos.promise", "ballot 7 of node 3", "12..14", "slot B"] {
        assert!(sound.contains(shown), "{shown} is not on the page");
    }
    assert!(!sound.contains("src=") && !sound.contains("href="), "it is not self-contained");
    let sealed = place.segment(2);
    flip(&sealed, find(&sealed, "entry 8 ") + 5000);
    let damaged = page(3);
    assert!(damaged.contains(">damaged<") && damaged.contains("(entries 8..9)"));
    assert!(
        damaged.contains("class=\"damage\" style=") && !sound.contains("class=\"damage\" style=")
    );
    let torn = Place::new();
    torn.killed();
    let tail = torn.segment(3);
    flip(&tail, find(&tail, "the last one"));
    let page = |expected: i32| {
        let arguments = ["inspect", "--html", file.to_str().unwrap()];
        assert_eq!(indelible(&arguments, &[&torn.log()]).status.code(), Some(expected));
        fs::read_to_string(&file).unwrap()
    };
    assert!(page(1).contains(">a torn end<"));
    // Damage that an open does not notice.
    let sealed = torn.segment(2);
    flip(&sealed, find(&sealed, "entry 8 ") + 5000);
    assert!(page(3).contains(">damaged<"));
    let nowhere = place.path("nowhere/page.html");
    let output = indelible(&["inspect", "--html", nowhere.to_str().unwrap()], &[&log]);
    assert_eq!(output.status.code(), Some(4));
}

#[test]
fn exit_codes_are_one_table() {
    let place = Place::new();
    let log = place.closed();
    let code = |arguments: &[&str], paths: &[&std::path::Path]| {
        indelible(arguments, paths).status.code().unwrap()
    };
    for command in [&["inspect"][..], &["verify"], &["dump"], &["repair", "--plan"]] {
        assert_eq!(code(command, &[&log]), 0, "{command:?}");
        assert_eq!(code(command, &[&place.path("nowhere")]), 4, "{command:?}");
        assert_eq!(code(&[command, &["--nonsense"]].concat(), &[&log]), 2, "{command:?}");
        let help = indelible(&[command, &["--help"]].concat(), &[]);
        let help = String::from_utf8(help.stdout).unwrap();
        assert!(help.contains("Exit codes:") && help.contains("130  interrupted"), "{help}");
    }
    super::copy(&log, &place.path("copy"));
    assert_eq!(code(&["compare"], &[&log, &place.path("copy")]), 0);
    assert_eq!(code(&["compare"], &[&log, &place.path("nowhere")]), 4);
    let sealed = place.segment(2);
    // A table that repeats what the frames say.
    flip(&sealed, 64 * 1024 - 30);
    for command in [&["inspect"][..], &["verify"], &["dump"], &["repair", "--plan"]] {
        assert_eq!(code(command, &[&log]), 0, "{command:?}");
    }
    flip(&sealed, find(&sealed, "entry 8 ") + 5000);
    for command in [&["verify"][..], &["dump"], &["repair", "--plan"]] {
        assert_eq!(code(command, &[&log]), 3, "{command:?}");
    }
}

#[test]
fn completions_and_the_manual_are_made() {
    for shell in ["bash", "zsh", "fish"] {
        let output = indelible(&["completions", shell], &[]);
        assert!(String::from_utf8(output.stdout).unwrap().contains("inspect"), "{shell}");
    }
    let page = String::from_utf8(indelible(&["man"], &[]).stdout).unwrap();
    for part in [".SH INDELIBLE REPAIR", ".SH EXIT STATUS", ".SH EXAMPLES"] {
        assert!(page.contains(part), "{part} is not in\n{page}");
    }
    // Pages that do not exist.
    assert!(!page.contains("(1)"), "{page}");
}

#[test]
fn the_logs_that_version_1_wrote_can_be_looked_at() {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1");
    for directory in fs::read_dir(golden).unwrap() {
        let directory = directory.unwrap();
        let place = Place::new();
        super::copy(&directory.path(), &place.log());
        look(&place, &format!("golden_{}", directory.file_name().to_str().unwrap()));
    }
}
