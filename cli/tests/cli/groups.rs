//! Logs that hold groups: what every command says of them, and that one group is mended by itself.

use std::fs;
use std::path::{Path, PathBuf};

use indelible::{Batch, CellValue, Options};
use indelible_groups::{Groups, GroupsOptions};

use super::damage::{find, flip};
use super::{Place, check, check_untouched, indelible, options, schema};

/// Three groups over four segments; what is lost of one of them is not lost of the others.
fn build(path: &Path) {
    let options = GroupsOptions::new().log(options()).checkpoint_bytes(16 * 1024);
    let groups = Groups::create(path, &options).unwrap();
    let all: Vec<_> = [7, 9, 300].iter().map(|id| groups.create_group(*id).unwrap()).collect();
    for index in 0..60_u64 {
        for group in &all {
            let mut entry = format!("group {} entry {index} ", group.id()).into_bytes();
            entry.resize(1000, b'.');
            let mut batch = Batch::new();
            batch.append(entry).set("omnipaxos.decided", (index + 1).to_le_bytes().to_vec());
            group.commit(&batch).unwrap();
        }
    }
    all[1].commit(Batch::new().trim(5)).unwrap();
    groups.close().unwrap();
}

#[test]
fn groups_are_named_with_their_bounds_and_entries() {
    let place = Place::new();
    let log = place.log();
    build(&log);
    check_untouched(&place, "groups_inspect", &["inspect"], &[&log]);
    check_untouched(&place, "groups_verify", &["verify"], &[&log]);
    check_untouched(&place, "groups_records", &["dump", "--from", "362"], &[&log]);
    let entries = ["dump", "--group", "9", "--from", "56"];
    check_untouched(&place, "groups_entries", &entries, &[&log]);
    check_untouched(&place, "groups_state", &["dump", "--group", "9", "--state"], &[&log]);
    check_untouched(&place, "groups_beyond", &["dump", "--group", "9", "--to", "5"], &[&log]);
    check_untouched(&place, "groups_unknown", &["dump", "--group", "8"], &[&log]);
    // Beside the process that has it open.
    let running = Groups::open(&log, &GroupsOptions::new().log(options())).unwrap();
    check_untouched(&place, "groups_running", &entries, &[&log]);
    running.group(9).unwrap().append(b"goes on").unwrap();
    running.close().unwrap();
    let other = place.path("other");
    super::build(&other).close().unwrap();
    check_untouched(&place, "groups_none", &["dump", "--group", "8"], &[&other]);
    let page = place.path("page.html");
    let arguments = ["inspect", "--html", page.to_str().unwrap()];
    assert!(indelible(&arguments, &[&log]).status.success());
    assert!(fs::read_to_string(page).unwrap().contains("entries 5..61 (56 entries), 1 cell"));
}

/// The files of the cells whose names begin so, by the names of the cells.
fn side_files(log: &Path, prefix: &str) -> Vec<PathBuf> {
    let groups = Groups::preview(log).unwrap();
    let cells = groups.log().cells().into_iter().filter(|(cell, _)| cell.starts_with(prefix));
    let files = cells.filter_map(|(_, value)| match value {
        CellValue::SideFile(file) => Some(log.join(file.file_name())),
        CellValue::Inline(_) => None,
    });
    files.collect()
}

#[test]
fn what_groups_keep_for_themselves_is_told_from_what_they_hold() {
    let place = Place::new();
    let log = place.log();
    build(&log);
    let plan = ["repair", "--plan"];
    let reserve = side_files(&log, "groups.reserve.").remove(0);
    let checkpoints = side_files(&log, "groups.checkpoint.");
    flip(&reserve, 5);
    check_untouched(&place, "groups_reserve_damaged", &["verify"], &[&log]);
    check_untouched(&place, "groups_reserve_leisure", &plan, &[&log]);
    fs::remove_file(&reserve).unwrap();
    check_untouched(&place, "groups_reserve_verify", &["verify"], &[&log]);
    check_untouched(&place, "groups_reserve_plan", &plan, &[&log]);
    check(&place, "groups_reserve_repair", &["repair", "--apply"], &[&log]);
    fs::remove_file(&checkpoints[0]).unwrap();
    check_untouched(&place, "groups_checkpoint_verify", &["verify"], &[&log]);
    check_untouched(&place, "groups_checkpoint_plan", &plan, &[&log]);
    check(&place, "groups_checkpoint_repair", &["repair", "--apply"], &[&log]);
    check_untouched(&place, "groups_checkpoint_again", &plan, &[&log]);
    flip(&checkpoints[1], 20);
    check_untouched(&place, "groups_checkpoints_verify", &["verify"], &[&log]);
    check_untouched(&place, "groups_checkpoints_plan", &plan, &[&log]);
    flip(&checkpoints[1], 20);
    Groups::open(&log, &GroupsOptions::new().log(options())).unwrap().close().unwrap();
    assert!(indelible(&["verify"], &[&log]).status.success());
}

#[test]
fn a_damaged_range_names_the_groups_it_hurts_and_each_is_refilled_by_itself() {
    let place = Place::new();
    let (log, peer) = (place.log(), place.path("peer"));
    build(&log);
    build(&peer);
    let from = peer.to_str().unwrap();
    let sealed = place.segment(2);
    flip(&sealed, find(&sealed, "group 9 entry 20 "));
    flip(&sealed, find(&sealed, "group 300 entry 30 "));
    check_untouched(&place, "groups_hurt_verify", &["verify"], &[&log]);
    check_untouched(&place, "groups_hurt_plan", &["repair", "--plan"], &[&log]);
    let entries = ["dump", "--group", "9", "--from", "19", "--to", "22"];
    check_untouched(&place, "groups_hurt_entries", &entries, &[&log]);
    check_untouched(&place, "groups_hurt_compare", &["compare", "--group", "9"], &[&log, &peer]);
    // A group is refilled without a repair as long as the log opens.
    check(&place, "groups_hurt_refill", &["refill", "--group", "9", "--from", from], &[&log]);
    check_untouched(&place, "groups_hurt_other", &["verify"], &[&log]);
    let same = ["compare", "--group", "9"];
    assert_eq!(indelible(&same, &[&log, &peer]).status.code(), Some(0));
    check_untouched(&place, "groups_as_a_whole", &["refill", "--from", from], &[&log]);
}

#[test]
fn a_lost_segment_is_repaired_and_refilled_group_by_group() {
    let place = Place::new();
    let (log, peer) = (place.log(), place.path("peer"));
    build(&log);
    build(&peer);
    let from = peer.to_str().unwrap();
    fs::remove_file(place.segment(2)).unwrap();
    check_untouched(&place, "groups_lost_inspect", &["inspect"], &[&log]);
    check_untouched(&place, "groups_lost_verify", &["verify"], &[&log]);
    check(&place, "groups_lost_refill", &["refill", "--group", "7", "--from", from], &[&log]);
    check(&place, "groups_lost_apply", &["repair", "--apply"], &[&log]);
    check_untouched(&place, "groups_lost_dump", &["dump", "--group", "7", "--to", "38"], &[&log]);
    // What follows the gap, beyond `--to`, shows that the peer is the same group.
    let part = ["refill", "--group", "7", "--to", "20", "--from", from];
    check(&place, "groups_lost_part", &part, &[&log]);
    for group in ["7", "9", "300"] {
        let rest = ["refill", "--group", group, "--from", from];
        assert_eq!(indelible(&rest, &[&log]).status.code(), Some(0), "{group}");
        let same = ["compare", "--group", group];
        assert_eq!(indelible(&same, &[&log, &peer]).status.code(), Some(0), "{group}");
    }
    check_untouched(&place, "groups_lost_refilled", &["verify"], &[&log]);
    let options = GroupsOptions::new().log(Options::new().allow_holes(true).background(false));
    let groups = Groups::open(&log, &options).unwrap();
    for (id, first) in [(7, 0), (9, 5), (300, 0)] {
        let group = groups.group(id).unwrap();
        for index in first..60 {
            let entry = group.entry(index).unwrap();
            assert!(entry.starts_with(format!("group {id} entry {index} ").as_bytes()));
        }
    }
    groups.close().unwrap();
}

#[test]
fn nothing_is_taken_into_a_group_that_its_peer_does_not_show_to_be_right() {
    let place = Place::new();
    let (log, peer) = (place.log(), place.path("peer"));
    build(&log);
    build(&peer);
    let sealed = place.segment(2);
    flip(&sealed, find(&sealed, "group 9 entry 20 "));
    // Another history at the same indexes: that of another group.
    let groups = Groups::open(&peer, &GroupsOptions::new().log(options())).unwrap();
    let out = place.path("out");
    let other = indelible::Log::create(&out, &options()).unwrap();
    indelible_groups::copy(&groups.group(7).unwrap(), &other).unwrap();
    other.close().unwrap();
    let own = place.path("own");
    let right = indelible::Log::create(&own, &options()).unwrap();
    indelible_groups::copy(&groups.group(9).unwrap(), &right).unwrap();
    right.close().unwrap();
    groups.close().unwrap();
    let refill = |from: &Path| {
        ["refill", "--group", "9", "--from", from.to_str().unwrap()].map(str::to_owned)
    };
    let arguments = refill(&out);
    let output = indelible(&arguments.each_ref().map(String::as_str), &[&log]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("is not the same in both logs"), "{said}");
    assert_eq!(output.status.code(), Some(3));
    let beyond = ["refill", "--group", "9", "--to", "61", "--from", peer.to_str().unwrap()];
    let output = indelible(&beyond, &[&log]);
    assert_eq!(output.status.code(), Some(2));
    // A group that was taken out into a log of its own is a peer as well.
    let arguments = refill(&own);
    let output = indelible(&arguments.each_ref().map(String::as_str), &[&log]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

/// A repair took the end of the log, and every byte of what is left is sound.
#[test]
fn a_group_that_may_have_forgotten_something_is_named_though_the_log_is_whole() {
    let place = Place::new();
    let (log, peer) = (place.log(), place.path("peer"));
    build(&log);
    build(&peer);
    let cut = indelible::Log::open(&log, &options()).unwrap().0;
    let end = cut.next() - 1;
    cut.commit(Batch::new().truncate(end)).unwrap();
    cut.close().unwrap();
    check_untouched(&place, "groups_marked_before", &["verify"], &[&log]);
    Groups::open(&log, &GroupsOptions::new().log(options())).unwrap().close().unwrap();
    check_untouched(&place, "groups_marked_verify", &["verify"], &[&log]);
    let page = place.path("page.html");
    let output = indelible(&["inspect", "--html", page.to_str().unwrap()], &[&log]);
    assert_eq!(output.status.code(), Some(3));
    let sealed = place.segment(2);
    flip(&sealed, find(&sealed, "group 9 entry 20 "));
    let refill = ["refill", "--group", "9", "--from", peer.to_str().unwrap()];
    assert_eq!(schema::checked(&["verify", "--json"], &[&log]), ["verification"]);
    check(&place, "groups_marked_refill", &refill, &[&log]);
    check(&place, "groups_marked_refilled", &refill, &[&log]);
    let json = [&refill[..], &["--json"]].concat();
    assert_eq!(schema::checked(&json, &[&log]), ["refill"]);
}

#[test]
fn documents_about_groups_are_of_the_schema() {
    let place = Place::new();
    let (log, peer) = (place.log(), place.path("peer"));
    build(&log);
    build(&peer);
    let sealed = place.segment(2);
    flip(&sealed, find(&sealed, "group 9 entry 20 "));
    let named = |arguments: &[&str]| schema::checked(arguments, &[&log]);
    assert_eq!(named(&["inspect", "--json"]), ["inspection"]);
    assert_eq!(named(&["verify", "--json"]), ["verification"]);
    assert_eq!(named(&["repair", "--plan", "--json"]), ["plan"]);
    let entries = named(&["dump", "--group", "9", "--json"]);
    assert_eq!(entries.iter().filter(|name| *name == "entry").count(), 54);
    let from = peer.to_str().unwrap();
    assert_eq!(named(&["refill", "--group", "9", "--from", from, "--json"]), ["refill"]);
}
