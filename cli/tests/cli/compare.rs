//! `indelible compare`: two logs of one group, or not.

use std::fs;

use indelible::inspect::{compare, range_sums};
use indelible::{Batch, Log};

use super::damage::{find, flip};
use super::{Place, build, check_untouched, entry, options};

#[test]
fn logs_of_one_group_are_the_same_and_stay_so_while_they_are_used() {
    let place = Place::new();
    place.closed();
    let peer = place.path("peer");
    build(&peer).close().unwrap();
    check_untouched(&place, "compare_same", &["compare", "--sums"], &[&place.log(), &peer]);
    let (running, _) = Log::open(&peer, &options()).unwrap();
    running.append(&entry(14)).unwrap();
    check_untouched(&place, "compare_running", &["compare", "--step", "4"], &[&place.log(), &peer]);
    running.close().unwrap();
}

#[test]
fn logs_with_nothing_to_compare_are_not_called_the_same() {
    let place = Place::new();
    place.closed();
    let fresh = place.path("fresh");
    Log::create(&fresh, &options()).unwrap().close().unwrap();
    check_untouched(&place, "compare_nothing", &["compare"], &[&place.log(), &fresh]);
    let beyond = ["compare", "--from", "12"];
    super::copy(&place.log(), &place.path("copy"));
    check_untouched(&place, "compare_beyond", &beyond, &[&place.log(), &place.path("copy")]);
}

#[test]
fn the_first_difference_is_named() {
    let place = Place::new();
    place.closed();
    let peer = place.path("peer");
    let other = build(&peer);
    let mut batch = Batch::new();
    batch.truncate(9);
    for index in 9..14 {
        let mut bytes = entry(index);
        bytes[7] = b'?';
        batch.append(bytes);
    }
    other.commit(&batch).unwrap();
    other.close().unwrap();
    let both = [&*place.log(), &*peer];
    check_untouched(&place, "compare_different", &["compare", "--step", "4"], &both);
    check_untouched(&place, "compare_before", &["compare", "--to", "9"], &both);
    check_untouched(&place, "compare_backwards", &["compare", "--from", "9", "--to", "3"], &both);
    let seen = compare(both[0], both[1], (None, None), 4, &mut |_| ()).unwrap();
    assert_eq!(seen.difference.unwrap().index, 9);
    // The same by an exchange of sums.
    let sums = both.map(|path| range_sums(path, 2..12, 4).unwrap());
    let same: Vec<bool> = sums[0].iter().zip(&sums[1]).map(|(a, b)| a == b).collect();
    assert_eq!(same, [true, false, false]);
    assert_eq!(sums[0][2].entries, 10..12);
}

/// Two logs of fourteen entries that differ from entry 9 on, as a deposed leader leaves one.
fn with_another_end(place: &Place, cell: Option<(&str, &[u8])>) -> [std::path::PathBuf; 2] {
    ["log", "peer"].map(|name| {
        let log = Log::create(place.path(name), &options()).unwrap();
        let mut batch = Batch::new();
        for index in 0..14 {
            let word = if index < 9 { "both" } else { name };
            batch.append(format!("{word} {index}").into_bytes());
        }
        if let Some((cell, value)) = cell {
            batch.set(cell, value.to_vec());
        }
        log.commit(&batch).unwrap();
        log.close().unwrap();
        place.path(name)
    })
}

#[test]
fn entries_that_no_raft_host_committed_may_differ() {
    let place = Place::new();
    // Term 3, node 2, index 8.
    let [a, b] = with_another_end(&place, Some(("openraft.committed", &[3, 2, 8])));
    check_untouched(&place, "compare_committed", &["compare"], &[&a, &b]);
    check_untouched(&place, "compare_uncommitted", &["compare", "--to", "14"], &[&a, &b]);
    let place = Place::new();
    let [a, b] = with_another_end(&place, None);
    check_untouched(&place, "compare_unstated", &["compare"], &[&a, &b]);
    check_untouched(&place, "compare_to", &["compare", "--to", "14"], &[&a, &b]);
}

#[test]
fn what_cannot_be_read_is_not_called_the_same() {
    let place = Place::new();
    place.closed();
    let peer = place.path("peer");
    super::copy(&place.log(), &peer);
    let sealed = place.segment(2);
    flip(&sealed, find(&sealed, "entry 8 ") + 5000);
    fs::remove_file(place.segment(1)).unwrap();
    check_untouched(&place, "compare_damaged", &["compare"], &[&place.log(), &peer]);
}

#[test]
fn a_log_is_not_held_against_itself() {
    let place = Place::new();
    let log = place.closed();
    check_untouched(&place, "compare_no_step", &["compare", "--step", "0"], &[&log, &log]);
    check_untouched(&place, "compare_itself", &["compare"], &[&log, &log]);
    let link = place.path("link");
    std::os::unix::fs::symlink(&log, &link).unwrap();
    let from = ["refill", "--to", "9", "--force", "--from", link.to_str().unwrap()];
    check_untouched(&place, "refill_itself", &from, &[&log]);
}
