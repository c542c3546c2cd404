//! `indelible repair` and `indelible refill`, from damage to an ordinary log.

use std::fs;

use indelible::{Batch, Error, Log, Options};

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
        &["refill", "--to", "14", "--force", "--from", peer.to_str().unwrap()],
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
    repair_and_refill(&place, "repair_segment", 6..12);
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
fn an_acknowledged_batch_after_the_checkpoint_is_counted_as_lost() {
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
fn a_renamed_segment_gets_its_name_back_and_costs_nothing() {
    for (name, snapshot) in [
        // Its base is taken for one entry more, and for one less.
        ("0000000000000002-0000000000000007.seg", "repair_renamed_up"),
        ("0000000000000002-0000000000000005.seg", "repair_renamed_down"),
        // An open would remove what has a number after that of the tail.
        ("0000000000000009-0000000000000006.seg", "repair_renumbered"),
    ] {
        let place = Place::new();
        place.closed();
        let wrong = place.log().join(name);
        fs::rename(place.segment(2), &wrong).unwrap();
        check_untouched(&place, &format!("{snapshot}_inspect"), &["inspect"], &[&place.log()]);
        check_untouched(&place, &format!("{snapshot}_verify"), &["verify"], &[&place.log()]);
        check_untouched(
            &place,
            &format!("{snapshot}_plan"),
            &["repair", "--plan"],
            &[&place.log()],
        );
        check(&place, &format!("{snapshot}_apply"), &["repair", "--apply"], &[&place.log()]);
        let (log, _) = Log::open(place.log(), &options()).unwrap();
        for index in 2..14 {
            assert_eq!(log.entry(index).unwrap(), entry(index), "{index}");
        }
        log.close().unwrap();
    }
}

#[test]
fn a_renamed_segment_beside_damage_costs_no_more_than_the_damage() {
    let place = Place::new();
    place.closed();
    let sealed = place.segment(1);
    flip(&sealed, find(&sealed, "entry 4 ") + 5000);
    let wrong = place.log().join("0000000000000002-0000000000000007.seg");
    fs::rename(place.segment(2), &wrong).unwrap();
    check(&place, "repair_renamed_damaged", &["repair", "--apply"], &[&place.log()]);
    let (log, _) = Log::open(place.log(), &options().allow_holes(true)).unwrap();
    for index in 2..14 {
        assert_eq!(log.entry(index).is_ok(), index != 4, "{index}");
    }
    log.close().unwrap();
}

/// A repair that does nothing leaves nothing but the lock it took.
fn check_but_lock(place: &Place, snapshot: &str) {
    let lock = place.log().join("lock");
    let mut before = bytes_of(&place.log());
    check(place, snapshot, &["repair", "--apply"], &[&place.log()]);
    let mut after = bytes_of(&place.log());
    before.remove(&lock);
    after.remove(&lock);
    assert!(before == after, "{snapshot} changed the log");
}

#[test]
fn what_cannot_be_repaired_is_explained() {
    let place = Place::new();
    place.closed();
    let metadata = place.log().join("metadata");
    let sound = fs::read(&metadata).unwrap();
    flip(&metadata, 100);
    flip(&metadata, 5000);
    check_but_lock(&place, "repair_both_slots");
    fs::write(&metadata, sound).unwrap();
    let tail = place.segment(3);
    fs::remove_file(&tail).unwrap();
    check_but_lock(&place, "repair_tail_gone");
}

#[test]
fn a_tail_that_may_have_gone_further_is_told() {
    let place = Place::new();
    place.killed();
    let tail = place.segment(3);
    let mut bytes = fs::read(&tail).unwrap();
    bytes[4096..].fill(0);
    fs::write(&tail, bytes).unwrap();
    check_untouched(&place, "repair_older_tail_plan", &["repair", "--plan"], &[&place.log()]);
    check(&place, "repair_older_tail_apply", &["repair", "--apply"], &[&place.log()]);
}

#[test]
fn a_sound_log_is_left_alone() {
    let place = Place::new();
    place.killed();
    let tail = place.segment(3);
    flip(&tail, find(&tail, "the last one"));
    check_untouched(&place, "repair_torn", &["repair", "--plan"], &[&place.log()]);
    check_but_lock(&place, "repair_torn_apply");
}

#[test]
fn a_repair_that_loses_nothing_says_what_the_log_still_lacks() {
    let place = Place::new();
    place.closed();
    let sealed = place.segment(2);
    flip(&sealed, find(&sealed, "entry 8 ") + 5000);
    assert_eq!(indelible(&["repair", "--apply"], &[&place.log()]).status.code(), Some(3));
    flip(&place.segment(1), 40);
    check(&place, "repair_again", &["repair", "--apply"], &[&place.log()]);
}

#[test]
fn a_repair_before_a_torn_end_leaves_it_to_the_next_open() {
    let place = Place::new();
    place.killed();
    let tail = place.segment(3);
    flip(&tail, find(&tail, "the last one"));
    flip(&place.segment(1), 40);
    check(&place, "repair_beside_torn", &["repair", "--apply"], &[&place.log()]);
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
    assert_eq!(indelible(&["repair", "--apply"], &[&place.log()]).status.code(), Some(3));
    let peer = place.path("peer");
    build(&peer).close().unwrap();
    let from = ["refill", "--to", "9", "--from", peer.to_str().unwrap()];
    check(&place, "refill_part", &from, &[&place.log()]);
    // The rest by what the peer states as decided.
    check(&place, "refill_rest", &["refill", "--from", peer.to_str().unwrap()], &[&place.log()]);
    check(&place, "refill_nothing", &["refill", "--from", peer.to_str().unwrap()], &[&place.log()]);
}

#[test]
fn a_refill_that_stops_half_way_says_what_it_did_and_goes_on() {
    let place = Place::new();
    place.closed();
    let apply = || indelible(&["repair", "--apply"], &[&place.log()]).status.code();
    let flip_at = |number, text| flip(&place.segment(number), find(&place.segment(number), text));
    flip_at(1, "entry 4 ");
    flip_at(2, "entry 8 ");
    assert_eq!(apply(), Some(3));
    flip_at(2, "entry 10 ");
    let peer = place.path("peer");
    build(&peer).close().unwrap();
    let from = ["refill", "--from", peer.to_str().unwrap()];
    check(&place, "refill_stopped", &from, &[&place.log()]);
    assert_eq!(apply(), Some(3));
    check(&place, "refill_goes_on", &from, &[&place.log()]);
}

#[test]
fn nothing_is_taken_from_a_log_that_is_not_of_the_group() {
    let place = Place::new();
    place.closed();
    let sealed = place.segment(2);
    flip(&sealed, find(&sealed, "entry 8 ") + 5000);
    assert_eq!(indelible(&["repair", "--apply"], &[&place.log()]).status.code(), Some(3));
    // Other bytes at the same indexes.
    let other = place.path("other");
    let log = Log::create(&other, &options()).unwrap();
    for index in 0..14_u64 {
        log.append(&[7; 32]).unwrap();
        let mut batch = Batch::new();
        batch.set("omnipaxos.decided", index.to_le_bytes().to_vec());
        log.commit(&batch).unwrap();
    }
    log.close().unwrap();
    let from = other.to_str().unwrap();
    check_untouched(&place, "refill_foreign", &["refill", "--from", from], &[&place.log()]);
    let forced = ["refill", "--force", "--from", from];
    check_untouched(&place, "refill_foreign_forced", &forced, &[&place.log()]);
    // Nothing in common, and nothing decided.
    let short = place.path("short");
    Log::create(&short, &options()).unwrap().close().unwrap();
    let from = short.to_str().unwrap();
    check_untouched(&place, "refill_unstated", &["refill", "--from", from], &[&place.log()]);
    let peer = place.path("peer");
    build(&peer).close().unwrap();
    let from = peer.to_str().unwrap();
    let beyond = ["refill", "--to", "14", "--from", from];
    check_untouched(&place, "refill_undecided", &beyond, &[&place.log()]);
}

/// A log of d-engine, as its adapter writes one: entries with their terms, and nothing that states what
/// is committed.
fn build_d_engine(path: &std::path::Path, entries: u64) {
    let log = Log::create(path, &options()).unwrap();
    let mut batch = Batch::new();
    batch.reset(1).set("d-engine", vec![1]);
    for index in 1..=entries {
        let mut entry = vec![1];
        entry.extend(index.to_le_bytes());
        entry.extend(3_u64.to_le_bytes());
        entry.extend(format!("command {index} ").as_bytes());
        entry.resize(10_000, b'.');
        batch.append(entry);
    }
    log.commit(&batch).unwrap();
    log.close().unwrap();
}

/// What shows that its entries are right is one that follows the hole, which has the same term.
#[test]
fn a_peer_that_states_nothing_as_committed_must_have_an_entry_that_follows() {
    let place = Place::new();
    let (log, peer, short) = (place.log(), place.path("peer"), place.path("short"));
    for path in [&log, &peer] {
        build_d_engine(path, 14);
    }
    build_d_engine(&short, 8);
    // A reset begins a segment.
    let sealed = place.segment(3);
    flip(&sealed, find(&sealed, "command 8 ") + 5000);
    assert_eq!(indelible(&["repair", "--apply"], &[&log]).status.code(), Some(3));
    let (peer, short) = (peer.to_str().unwrap(), short.to_str().unwrap());
    check_untouched(&place, "refill_no_end", &["refill", "--from", peer], &[&log]);
    let without_proof = ["refill", "--to", "9", "--from", short];
    check_untouched(&place, "refill_nothing_after", &without_proof, &[&log]);
    check(&place, "refill_d_engine", &["refill", "--to", "9", "--from", peer], &[&log]);
    let decoded = ["dump", "--decode", "--from", "7", "--to", "9"];
    check_untouched(&place, "refill_d_engine_decoded", &decoded, &[&log]);
}

#[test]
fn any_number_of_neighbouring_segments_is_refilled() {
    let small = options();
    lose_and_refill(&small, 12_000, 0);
    // Ten segments of the smallest size that anybody uses.
    lose_and_refill(&small.segment_bytes(1024 * 1024), 12_000, 800);
}

/// One, two and six adjacent segments, of a log with entries of at least so many bytes.
fn lose_and_refill(options: &Options, entries: u64, bytes: usize) {
    let entry = |index: u64| {
        let mut entry = format!("entry number {index}").into_bytes();
        entry.resize(entry.len().max(bytes), b'.');
        entry
    };
    for lost in [1_u64, 2, 6] {
        let place = Place::new();
        let peer = place.path("peer");
        let log = Log::create(&peer, options).unwrap();
        let mut batch = Batch::new();
        // Of small entries the offset tables take more than one segment has room for.
        for index in 0..entries {
            batch.append(entry(index));
        }
        batch.set("omnipaxos.decided", entries.to_le_bytes().to_vec());
        log.commit(&batch).unwrap();
        log.close().unwrap();
        super::copy(&peer, &place.log());
        for number in 3..3 + lost {
            fs::remove_file(place.segment(number)).unwrap();
        }
        let plan = indelible(&["repair", "--plan", "--json"], &[&place.log()]);
        let verified = indelible(&["verify", "--json"], &[&place.log()]);
        assert_eq!((plan.status.code(), verified.status.code()), (Some(3), Some(3)));
        assert_eq!(indelible(&["repair", "--apply"], &[&place.log()]).status.code(), Some(3));
        let refilled = indelible(&["refill", "--from", peer.to_str().unwrap()], &[&place.log()]);
        let said = String::from_utf8(refilled.stdout).unwrap();
        assert!(said.contains("the log is whole"), "{lost}: {said}{:?}", refilled.stderr);
        assert_eq!(indelible(&["verify"], &[&place.log()]).status.code(), Some(0), "{lost}");
        assert_eq!(
            indelible(&["compare"], &[&place.log(), &peer]).status.code(),
            Some(0),
            "{lost}"
        );
        let (log, _) = Log::open(place.log(), options).unwrap();
        for index in (0..entries).step_by(7) {
            assert_eq!(log.entry(index).unwrap(), entry(index));
        }
        log.close().unwrap();
    }
}
