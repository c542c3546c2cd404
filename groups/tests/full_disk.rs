//! A full disk: promises and trims of every group go on, entries are refused and come back.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::io::Write as _;
use std::sync::Arc;

use indelible::io::sim::{Persistence, SimDisk};
use indelible::store::Store as _;
use indelible::{Batch, Error, Log, Options};
use indelible_groups::{Group, Groups, GroupsOptions};

const GROUPS: u64 = 60;

fn open(disk: &SimDisk) -> Groups {
    let log = Options::new().background(false).tiny_segments(16 * 1024);
    let (log, _) = Log::open_or_create_in(Arc::new(disk.clone()), &log).unwrap();
    Groups::from_log(log, &GroupsOptions::new().checkpoint_bytes(16 * 1024)).unwrap()
}

/// Groups of which the last has appended until the disk was full.
fn full(disk: &SimDisk) -> (Groups, Vec<Group>) {
    let groups = open(disk);
    let handles: Vec<Group> = (0..GROUPS).map(|id| groups.create_group(id).unwrap()).collect();
    let busy = handles.last().unwrap();
    for _ in 0..100 {
        busy.append(&[1; 300]).unwrap();
    }
    disk.set_capacity(Some(disk.used() + 40 * 1024));
    loop {
        match busy.append(&[1; 300]) {
            Ok(_) => {}
            Err(Error::DiskFull { .. }) => break,
            Err(error) => panic!("{error}"),
        }
    }
    // Whatever is left of the tail is used up by state as well.
    for round in 0_u16..400 {
        promise(busy, round);
    }
    (groups, handles)
}

fn promise(group: &Group, round: u16) {
    let mut batch = Batch::new();
    batch.set("omnipaxos.promise", vec![u8::try_from(round % 251).unwrap(); 20]);
    group.commit(&batch).unwrap();
}

fn check(groups: &Groups, round: u16, first: u64) {
    let value = [u8::try_from(round % 251).unwrap(); 20];
    for id in groups.ids() {
        let found = groups.group(id).unwrap().cell("omnipaxos.promise");
        assert_eq!(found.as_deref(), Some(&value[..]), "group {id}");
    }
    assert_eq!(groups.group(GROUPS - 1).unwrap().first(), first);
}

#[test]
fn promises_and_trims_go_on_and_survive() {
    let disk = SimDisk::new(5);
    let (groups, handles) = full(&disk);
    let busy = handles.last().unwrap();
    let next = busy.next();
    for round in 0..5 {
        for group in &handles {
            promise(group, round);
        }
    }
    let mut batch = Batch::new();
    batch.trim(7);
    busy.commit(&batch).unwrap();
    check(&groups, 4, 7);
    assert!(matches!(busy.append(&[1; 300]), Err(Error::DiskFull { .. })));
    assert_eq!(busy.next(), next);
    for persistence in [Persistence::Nothing, Persistence::Everything, Persistence::Random(1)] {
        let crashed = disk.crash_copy(persistence);
        check(&open(&crashed), 4, 7);
        // Space is back: the next batch takes along what was put aside.
        crashed.set_capacity(None);
        let groups = open(&crashed);
        groups.group(0).unwrap().append(b"again").unwrap();
        assert!(groups.log().cell("groups.pending.0").is_none());
        groups.close().unwrap();
        let groups = open(&crashed);
        check(&groups, 4, 7);
        assert_eq!(groups.stats().replayed, 0);
        assert_eq!(groups.group(0).unwrap().entry(0).unwrap(), b"again");
    }
}

#[test]
fn space_of_a_snapshot_that_did_not_fit_comes_back() {
    let disk = SimDisk::new(7);
    let groups = open(&disk);
    let handles: Vec<Group> = (0..GROUPS).map(|id| groups.create_group(id).unwrap()).collect();
    let busy = handles.last().unwrap();
    disk.set_capacity(Some(disk.used() + 400 * 1024));
    let mut file = busy.side_file_writer().unwrap();
    while file.write_all(&[2; 1024]).is_ok() {}
    // Whatever is left of the tail is used up by state, and the rest is put aside.
    (0..400).for_each(|round| promise(busy, round));
    assert!(groups.log().cell("groups.pending.0").is_some());
    assert!(matches!(busy.append(&[1; 300]), Err(Error::DiskFull { .. })));
    drop(file);
    // There is no room for a checkpoint before some of it was given back.
    groups.maintain().unwrap();
    assert!(groups.log().cell("groups.pending.0").is_none());
    busy.append(&[1; 300]).unwrap();
    assert!(groups.log().cell("groups.pending.0").is_none());
    assert_eq!(busy.entry(0).unwrap(), [1; 300]);
}

#[test]
fn space_of_trimmed_entries_comes_back_on_a_full_disk() {
    let disk = SimDisk::new(6);
    let (groups, handles) = full(&disk);
    let busy = handles.last().unwrap();
    let first = groups.log().first();
    let mut batch = Batch::new();
    batch.trim(busy.next());
    busy.commit(&batch).unwrap();
    for round in 0..4 {
        promise(busy, round);
    }
    assert!(groups.log().first() > first);
    busy.append(&[1; 300]).unwrap();
    groups.close().unwrap();
    drop((groups, handles));
    let busy = open(&disk).group(GROUPS - 1).unwrap();
    assert_eq!(busy.entry(busy.next() - 1).unwrap(), [1; 300]);
}

/// Of several records for one cell the newest is kept, where it came: so they are not in the order
/// in which each of them was fine.
#[test]
fn records_that_were_put_aside_count_together() {
    let disk = SimDisk::new(7);
    let (groups, handles) = full(&disk);
    let group = handles.first().unwrap();
    disk.set_capacity(None);
    let mut batch = Batch::new();
    for cell in ["a", "b", "c"] {
        batch.set(cell, vec![1; 1000]);
    }
    let [old, new] = [[2; 10], [3; 10]].map(|bytes| group.write_side_file(&bytes).unwrap());
    batch.attach("old", old.clone()).attach("new", new.clone());
    group.commit(&batch).unwrap();
    let busy = handles.last().unwrap();
    disk.set_capacity(Some(disk.used()));
    while busy.append(&[1; 300]).is_ok() {}
    for round in 0_u16.. {
        promise(busy, round);
        if groups.log().cell("groups.pending.0").is_some() {
            break;
        }
    }
    let step = |change: &dyn Fn(&mut Batch<'_>)| {
        let mut batch = Batch::new();
        change(&mut batch);
        group.commit(&batch).unwrap();
    };
    step(&|batch| {
        batch.set("a", b"short");
    });
    step(&|batch| {
        batch.set("d", vec![1; 1000]);
    });
    step(&|batch| {
        batch.set("a", b"shorter");
    });
    // `old` keeps its file over a cell that is cleared in the end.
    step(&|batch| {
        batch.attach("e", old.clone());
    });
    step(&|batch| {
        batch.attach("old", new.clone());
    });
    step(&|batch| {
        batch.attach("f", old.clone());
    });
    step(&|batch| {
        batch.clear("e");
    });
    for persistence in [Persistence::Nothing, Persistence::Everything] {
        let groups = open(&disk.crash_copy(persistence));
        let found = groups.group(0).unwrap();
        assert_eq!(found.cell("a").as_deref(), Some(&b"shorter"[..]));
        assert_eq!(found.cell("d").as_deref(), Some(&[1; 1000][..]));
        assert_eq!(found.read_side_file("f").unwrap(), Some(vec![2; 10]));
        assert_eq!(found.cells(), group.cells());
    }
}
