//! `indelible backup`, and what the copy and its log may do to each other: nothing.

use std::fs;

use indelible::{Batch, Log};

use super::{Place, build, bytes_of, check, entry, indelible, options};

#[test]
fn a_backup_is_a_closed_log_of_its_own() {
    let place = Place::new();
    place.closed();
    check(&place, "backup", &["backup"], &[&place.log(), &place.path("copy")]);
    let (log, report) = Log::open(place.path("copy"), &options()).unwrap();
    assert_eq!(report.verdict, indelible::Verdict::Clean);
    assert_eq!((log.first(), log.next()), (2, 14));
    assert_eq!(log.entry(7).unwrap(), entry(7));
    assert!(log.side_file("snapshot").unwrap().is_some());
    log.close().unwrap();
    check(&place, "backup_again", &["backup"], &[&place.log(), &place.path("copy")]);
}

#[test]
fn a_log_in_use_is_not_copied_from_outside() {
    let place = Place::new();
    let log = build(&place.log());
    check(&place, "backup_locked", &["backup"], &[&place.log(), &place.path("copy")]);
    log.close().unwrap();
}

#[test]
fn a_live_log_is_copied_as_of_one_batch_and_goes_on() {
    let place = Place::new();
    let log = build(&place.log());
    let mut batch = Batch::new();
    batch.append(entry(14)).set("vote", b"v");
    log.submit(&batch).unwrap();
    let copy = log.backup(place.path("copy")).unwrap();
    assert_eq!((copy.first, copy.next, copy.entries_verified), (2, 15, 13));
    assert!(copy.linked >= 3 && copy.copied == 1, "{copy:?}");
    let before = bytes_of(&place.path("copy"));
    // Trims everything that is linked, and writes until its space would be used again.
    for index in 15..60 {
        log.append(&entry(index)).unwrap();
        let mut batch = Batch::new();
        batch.trim(index - 2);
        log.commit(&batch).unwrap();
    }
    log.maintain().unwrap();
    assert!(log.stats().recycled > 0);
    assert!(before == bytes_of(&place.path("copy")), "the log wrote into its backup");
    // And the other way round.
    let (copy, _) = Log::open(place.path("copy"), &options()).unwrap();
    for index in 15..40 {
        assert_eq!(copy.append(&entry(index)).unwrap().next(), index + 1);
    }
    assert_eq!(copy.entry(6).unwrap(), entry(6));
    copy.close().unwrap();
    log.close().unwrap();
    let output = indelible(&["verify"], &[&place.log()]);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_backup_of_a_damaged_log_is_refused() {
    let place = Place::new();
    place.closed();
    let sealed = place.segment(2);
    super::damage::flip(&sealed, super::damage::find(&sealed, "entry 8 ") + 5000);
    check(&place, "backup_damaged", &["backup"], &[&place.log(), &place.path("copy")]);
    assert!(fs::read_dir(place.path("copy")).is_ok());
}
