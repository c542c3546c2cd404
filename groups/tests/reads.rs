//! Reads of a group in bad times: each is an error of the call, never a signal and never "sound".

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "helpers of tests fail as tests do, and cut files short"
)]

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use indelible::io::sim::{Fault, Op, Repeat, SimDisk};
use indelible::store::Store as _;
use indelible::{Batch, Error, Log, Options};
use indelible_groups::{Group, Groups, GroupsOptions};

fn log_options() -> Options {
    Options::new().background(false).tiny_segments(16 * 1024)
}

/// Forty entries and a side file in several segments, closed.
fn fill(groups: &Groups) {
    let group = groups.create_group(7).unwrap();
    let snapshot = group.write_side_file(&vec![5; 20_000]).unwrap();
    let mut batch = Batch::new();
    batch.attach("snapshot", snapshot);
    group.commit(&batch).unwrap();
    for index in 0..40_u8 {
        group.append(&[index; 1000]).unwrap();
    }
    groups.close().unwrap();
}

fn open(path: &Path) -> (Groups, Group) {
    let options = GroupsOptions::new().log(log_options());
    let groups = Groups::open(path, &options).unwrap();
    let group = groups.group(7).unwrap();
    (groups, group)
}

/// Files that are cut short stand for a medium that gives a page no more once it was reclaimed: what
/// is read through a map ends the process.
fn cut_segments(path: &Path) {
    for file in fs::read_dir(path).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|end| end == "seg") {
            fs::OpenOptions::new().write(true).open(path).unwrap().set_len(4096).unwrap();
        }
    }
}

/// Found from outside: both held borrowed entries between two calls, and a process that went on got
/// SIGBUS.
#[test]
fn going_on_over_files_that_were_cut_ends_no_process() {
    let place = tempfile::tempdir().unwrap();
    fill(&Groups::open_or_create(place.path(), &GroupsOptions::new().log(log_options())).unwrap());
    let (_groups, group) = open(place.path());
    let mut entries = group.iter(0);
    assert_eq!(entries.next().unwrap().unwrap(), (0, vec![0; 1000]));
    let mut file = group.side_file("snapshot").unwrap().unwrap();
    let mut some = [0; 10];
    file.read_exact(&mut some).unwrap();
    cut_segments(place.path());
    let refused = entries.find_map(Result::err).unwrap();
    assert!(matches!(refused, Error::Io { .. } | Error::Damaged { .. }), "{refused}");
    assert!(entries.next().is_none(), "it ends with an error");
    let refused = file.read_to_end(&mut Vec::new());
    assert!(refused.is_err(), "{refused:?}");
}

#[test]
fn iterator_gives_what_is_appended_meanwhile_and_ends_with_a_truncation() {
    let disk = SimDisk::new(3);
    let (log, _) = Log::open_or_create_in(Arc::new(disk), &log_options()).unwrap();
    let groups = Groups::from_log(log, &GroupsOptions::new()).unwrap();
    let group = groups.create_group(7).unwrap();
    for index in 0..3_u8 {
        group.append(&[index]).unwrap();
    }
    let mut entries = group.iter(1);
    assert_eq!(entries.next().unwrap().unwrap(), (1, vec![1]));
    group.append(&[3]).unwrap();
    assert_eq!(entries.next().unwrap().unwrap(), (2, vec![2]));
    assert_eq!(entries.next().unwrap().unwrap(), (3, vec![3]));
    assert!(entries.next().is_none());
    let mut entries = group.iter(2);
    let mut batch = Batch::new();
    batch.truncate(2);
    group.commit(&batch).unwrap();
    assert!(entries.next().is_none());
    batch.trim(2);
    group.commit(&batch).unwrap();
    assert!(matches!(group.iter(1).next(), Some(Err(Error::Trimmed { .. }))));
}

/// Found from outside: it returned that everything is sound, of which it had read nothing.
#[test]
fn verify_that_cannot_read_for_want_of_descriptors_says_so() {
    let disk = SimDisk::new(3);
    let open = || {
        let (log, _) = Log::open_or_create_in(Arc::new(disk.clone()), &log_options()).unwrap();
        Groups::from_log(log, &GroupsOptions::new()).unwrap()
    };
    fill(&open());
    let groups = open();
    disk.fail_next(Op::Open, Fault::Shortage, Repeat::Forever);
    let refused = groups.verify();
    assert!(matches!(refused, Err(Error::Exhausted { .. })), "{refused:?}");
    disk.clear_faults();
    assert!(groups.verify().unwrap().is_empty());
}
