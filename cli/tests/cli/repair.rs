//! `indelible repair` and `indelible refill`, from damage to an ordinary log.

use std::fs;

use indelible::{Batch, Error, Log};

use super::damage::{find, flip};
use super::{Place, build, bytes_of, check, check_untouched, entry, indelible, options};

/// The whole way: plan, apply, refused without leave, refilled from a copy, ordinary again.
fn repair_and_refill(place: &Place, condition: &str, missing: std::ops::Range<u64>) {
    let log = place.log();
    let damaged = bytes_of(&log);
    check_untouched(place, &format!("{condition}_plan"), &["repair", "--plan"], &[&log]);
    check(place, &format!("{condition}_apply"), &["repair", "--apply"], &[&log]);
    for (path, bytes) in bytes_of(&log.join("repair-1")) {
        let name = path.file_name().unwrap();
        assert!(damaged[&log.join(name)] == bytes, "{} was not kept", name.display());
    }
    check_untouched(place, &format!("{condition}_verify"), &["verify"], &[&log]);
    let count = missing.end - missing.start;
    match Log::open(&log, &options()) {
        Err(Error::Incomplete { count: stated, .. }) => assert_eq!(stated, count),
        other => panic!("{other:?}"),
    }
    let (holed, _) = Log::open(&log, &options().allow_holes(true)).unwrap();
    assert!(matches!(
        holed.entry(missing.start),
        Err(Error::Hole { wanted, range }) if wanted == missing.start && range.start == wanted
    ));
    holed.append(&entry(14)).unwrap();
    holed.close().unwrap();
    let peer = place.path("peer");
    build(&peer).close().unwrap();
    check(
        place,
        &format!("{condition}_refill"),
        &["refill", "--to", "14", "--from", peer.to_str().unwrap()],
        &[&log],
    );
    let (whole, report) = Log::open(&log, &options()).unwrap();
    assert_eq!(report.verdict, indelible::Verdict::Clean);
    assert_eq!((whole.first(), whole.next()), (2, 15));
    for index in 2..15 {
        assert_eq!(whole.entry(index).unwrap(), entry(index), "{index}");
    }
    assert!(whole.cell("omnipaxos.promise").is_some());
    for index in 15..40 {
        whole.append(&entry(index)).unwrap();
    }
    whole.close().unwrap();
    let output = indelible(&["verify"], &[&log]);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_damaged_entry_becomes_a_hole_and_is_refilled() {
    let place = Place::new();
    place.closed();
    let sealed = place.segment(2);
    flip(&sealed, find(&sealed, "entry 8 ") + 5000);
    repair_and_refill(&place, "repair_entry", 8..9);
}

#[test]
fn a_missing_segment_becomes_a_hole_and_is_refilled() {
    let place = Place::new();
    place.closed();
    fs::remove_file(place.segment(2)).unwrap();
    // Only the first entry of the segment before is certain not to have been replaced.
    repair_and_refill(&place, "repair_segment", 3..12);
}

#[test]
fn a_damaged_tail_goes_on_under_another_number() {
    let place = Place::new();
    place.closed();
    let tail = place.segment(3);
    flip(&tail, find(&tail, "entry 13 ") + 5000);
    repair_and_refill(&place, "repair_tail", 13..14);
}

#[test]
fn an_acknowledged_batch_behind_the_checkpoint_is_counted_as_lost() {
    let place = Place::new();
    place.killed();
    let tail = place.segment(3);
    // The checkpoint covers entry 12; entry 13 was acknowledged before the batches that follow it.
    flip(&tail, find(&tail, "entry 13 ") + 5000);
    check_untouched(&place, "repair_batch_before", &["verify"], &[&place.log()]);
    check_untouched(&place, "repair_batch_plan", &["repair", "--plan"], &[&place.log()]);
    check(&place, "repair_batch_apply", &["repair", "--apply"], &[&place.log()]);
    let (log, _) = Log::open(place.log(), &options().allow_holes(true)).unwrap();
    assert_eq!((log.first(), log.next()), (2, 15));
    assert_eq!(log.entry(14).unwrap(), b"the last one");
    assert!(matches!(log.entry(13), Err(Error::Hole { .. })));
    assert!(log.side_file("snapshot").unwrap().is_some());
    log.close().unwrap();
}

#[test]
fn a_damaged_header_or_footer_costs_nothing() {
    let place = Place::new();
    place.closed();
    flip(&place.segment(1), 40);
    flip(&place.segment(2), 64 * 1024 - 30);
    flip(&place.segment(3), 40);
    check_untouched(&place, "repair_headers_plan", &["repair", "--plan"], &[&place.log()]);
    check(&place, "repair_headers_apply", &["repair", "--apply"], &[&place.log()]);
    let (log, _) = Log::open(place.log(), &options()).unwrap();
    for index in 2..14 {
        assert_eq!(log.entry(index).unwrap(), entry(index), "{index}");
    }
    log.close().unwrap();
}

#[test]
fn what_cannot_be_repaired_is_explained() {
    let place = Place::new();
    place.closed();
    let metadata = place.log().join("metadata");
    let sound = fs::read(&metadata).unwrap();
    flip(&metadata, 100);
    flip(&metadata, 5000);
    check_untouched(&place, "repair_both_slots", &["repair", "--apply"], &[&place.log()]);
    fs::write(&metadata, sound).unwrap();
    let tail = place.segment(3);
    fs::remove_file(&tail).unwrap();
    check_untouched(&place, "repair_tail_gone", &["repair", "--apply"], &[&place.log()]);
}

#[test]
fn a_sound_log_is_left_alone() {
    let place = Place::new();
    place.killed();
    let tail = place.segment(3);
    flip(&tail, find(&tail, "the last one"));
    check_untouched(&place, "repair_torn", &["repair", "--plan"], &[&place.log()]);
    let before = bytes_of(&place.log());
    check(&place, "repair_torn_apply", &["repair", "--apply"], &[&place.log()]);
    let mut after = bytes_of(&place.log());
    after.remove(&place.log().join("lock"));
    assert!(before == after);
}

#[test]
fn a_log_in_use_is_not_repaired() {
    let place = Place::new();
    let log = build(&place.log());
    check_untouched(&place, "repair_locked", &["repair", "--apply"], &[&place.log()]);
    let mut batch = Batch::new();
    batch.set("x", b"y");
    log.commit(&batch).unwrap();
    log.close().unwrap();
}

#[test]
fn refill_says_what_it_still_lacks() {
    let place = Place::new();
    place.closed();
    let sealed = place.segment(2);
    flip(&sealed, find(&sealed, "entry 8 ") + 5000);
    flip(&sealed, find(&sealed, "entry 10 ") + 5000);
    assert!(indelible(&["repair", "--apply"], &[&place.log()]).status.success());
    let peer = place.path("peer");
    build(&peer).close().unwrap();
    let from = ["refill", "--to", "9", "--from", peer.to_str().unwrap()];
    check(&place, "refill_part", &from, &[&place.log()]);
    // The rest by what the peer states as decided.
    check(&place, "refill_rest", &["refill", "--from", peer.to_str().unwrap()], &[&place.log()]);
    check(&place, "refill_nothing", &["refill", "--from", peer.to_str().unwrap()], &[&place.log()]);
}
