//! What groups take: disk use whatever single groups do, and what is written again for it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::Write as _;
use std::sync::Arc;

use indelible::io::sim::SimDisk;
use indelible::store::Store as _;
use indelible::{Batch, Durability, Log, Options};
use indelible_groups::{Group, Groups, GroupsOptions};

const SEGMENT_BYTES: u64 = 128 * 1024;

fn open() -> Groups {
    let log = Options::new()
        .background(false)
        .segment_bytes(SEGMENT_BYTES)
        .durability(Durability::Barrier);
    let (log, _) = Log::open_or_create_in(Arc::new(SimDisk::new(1)), &log).unwrap();
    Groups::from_log(log, &GroupsOptions::new()).unwrap()
}

/// What a group does in each of the rounds.
type Habit = fn(&Groups, u64, u64);

fn append(group: &Group, count: usize, bytes: usize) {
    let mut batch = Batch::new();
    for _ in 0..count {
        batch.append(vec![7; bytes]);
    }
    group.commit(&batch).unwrap();
}

fn trim_to(group: &Group, kept: u64) {
    let mut batch = Batch::new();
    batch.trim(group.next().saturating_sub(kept).max(group.first()));
    group.commit(&batch).unwrap();
}

/// Appends and trims at once.
fn busy(groups: &Groups, id: u64, _: u64) {
    let group = groups.group(id).unwrap();
    append(&group, 8, 300);
    trim_to(&group, 20);
}

/// Wrote once, and keeps it.
fn slow(groups: &Groups, id: u64, round: u64) {
    if round == 0 {
        append(&groups.group(id).unwrap(), 200, 100);
    }
}

/// Keeps all of it.
fn hoards(groups: &Groups, id: u64, _: u64) {
    append(&groups.group(id).unwrap(), 1, 200);
}

/// Takes back what it wrote.
fn truncates(groups: &Groups, id: u64, round: u64) {
    let group = groups.group(id).unwrap();
    let mut batch = Batch::new();
    batch.truncate(group.next().saturating_sub(4).max(group.first()));
    group.commit(&batch).unwrap();
    append(&group, 5, 20 + usize::try_from(round % 90).unwrap() * 10);
    if round % 64 == 63 {
        let mut batch = Batch::new();
        batch.reset(group.next() + 10);
        group.commit(&batch).unwrap();
    }
}

/// Writes a snapshot now and then, and drops what it covers.
fn snapshots(groups: &Groups, id: u64, round: u64) {
    let group = groups.group(id).unwrap();
    append(&group, 3, 150);
    if round % 32 == 31 {
        let file = group.write_side_file(&vec![9; 20_000]).unwrap();
        let mut batch = Batch::new();
        batch.attach("snapshot", file).trim(group.next());
        group.commit(&batch).unwrap();
    }
}

/// Is dropped and begun again.
fn comes_and_goes(groups: &Groups, id: u64, round: u64) {
    append(&groups.group(id).unwrap(), 2, 400);
    if round % 50 == 49 {
        groups.remove_group(id).unwrap();
        groups.create_group(id).unwrap();
    }
}

#[test]
fn disk_use_is_bounded_whatever_single_groups_do() {
    let habits: [Habit; 6] = [busy, slow, hoards, truncates, snapshots, comes_and_goes];
    // All of them together, and each beside a busy one.
    let alone = habits.iter().map(|habit| vec![*habit, busy]);
    for (number, habits) in alone.chain([habits.to_vec()]).enumerate() {
        let groups = open();
        (0..).zip(&habits).for_each(|(id, _)| drop(groups.create_group(id).unwrap()));
        for round in 0..800 {
            for (id, habit) in (0..).zip(&habits) {
                habit(&groups, id, round);
            }
            check_disk_use(&groups, &format!("{number}, round {round}"));
        }
        assert!(groups.log().first() > 0, "{number}: nothing was given back");
    }
}

/// Checks the disk use, of which spare segments are the log's own, and used next.
fn check_disk_use(groups: &Groups, when: &str) {
    let stats = groups.stats();
    let limit = 2 * stats.live_bytes + 4 * SEGMENT_BYTES;
    let used = stats.log.disk_bytes - stats.log.spares * SEGMENT_BYTES;
    assert!(used <= limit, "{when}: {used} of {limit} bytes, {stats:?}");
}

#[test]
fn disk_use_is_bounded_with_batches_of_many_entries() {
    let groups = open();
    let (large, hoarder) = (groups.create_group(1).unwrap(), groups.create_group(2).unwrap());
    for round in 0..60 {
        append(&hoarder, 1, 20);
        append(&large, 2000, 20);
        trim_to(&large, 0);
        check_disk_use(&groups, &format!("round {round}"));
    }
    assert_eq!(hoarder.read(0..60).unwrap().len(), 60);
}

#[test]
fn disk_use_is_bounded_with_one_batch_of_many_segments() {
    let groups = open();
    let group = groups.create_group(1).unwrap();
    for round in 0..4 {
        let mut batch = Batch::new();
        for _ in 0..200 {
            batch.append(vec![7; 8000]);
        }
        batch.trim(group.next() + 200);
        group.commit(&batch).unwrap();
        check_disk_use(&groups, &format!("round {round}"));
    }
}

#[test]
fn disk_use_is_bounded_with_snapshots_of_many_segments() {
    let groups = open();
    let group = groups.create_group(1).unwrap();
    for round in 0..50 {
        let length = usize::try_from(4 * SEGMENT_BYTES).unwrap();
        let file = group.write_side_file(&vec![round; length]).unwrap();
        check_disk_use(&groups, &format!("snapshot {round}"));
        let mut batch = Batch::new();
        batch.attach("snapshot", file);
        group.commit(&batch).unwrap();
        check_disk_use(&groups, &format!("snapshot {round}, attached"));
    }
}

#[test]
fn side_file_that_nobody_can_attach_any_more_takes_no_space() {
    let groups = open();
    let group = groups.create_group(1).unwrap();
    let file = group.write_side_file(&[7; 5000]).unwrap();
    let mut refused = Batch::new();
    refused.attach("snapshot", file.clone()).truncate(9);
    assert!(group.commit(&refused).is_err());
    drop(refused);
    assert!(groups.stats().live_bytes > 5000, "it may still be attached");
    drop(file);
    assert_eq!((groups.stats().live_bytes, group.stats().side_files), (0, 0));
    // One that a cell refers to stays as long as it does.
    let file = group.write_side_file(&[8; 5000]).unwrap();
    let mut batch = Batch::new();
    batch.attach("snapshot", file);
    group.commit(&batch).unwrap();
    drop(batch);
    append(&group, 1, 20);
    assert_eq!(group.read_side_file("snapshot").unwrap(), Some(vec![8; 5000]));
    let mut unfinished = group.side_file_writer().unwrap();
    unfinished.write_all(&vec![9; 300_000]).unwrap();
    assert_eq!(group.stats().side_files, 2);
    drop(unfinished);
    assert!(groups.stats().live_bytes < 6000);
}

#[test]
fn mixed_load_is_written_one_and_a_half_times_at_most() {
    let groups = open();
    let handles: Vec<Group> = (0..32).map(|id| groups.create_group(id).unwrap()).collect();
    for round in 0..1500_u64 {
        for group in &handles {
            // One in sixteen writes rarely and trims rarely; the others keep fifty entries.
            let lags = group.id() % 16 == 0;
            if lags && round % 32 > 0 {
                continue;
            }
            append(group, 1, 256);
            if round % 16 == 0 {
                trim_to(group, if lags { 200 } else { 50 });
            }
        }
    }
    let stats = groups.stats();
    assert!(stats.carried_records > 0, "{stats:?}");
    let amplification = stats.write_amplification();
    assert!(amplification <= 1.5, "{amplification}: {stats:?}");
}
