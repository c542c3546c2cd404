//! A full disk: promises and trims of every group go on, entries are refused and come back.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]
#![expect(clippy::print_stderr, reason = "says what was not tried")]

use std::io::Write as _;
use std::process::Command;
use std::sync::Arc;

use indelible::io::sim::{Moment, Persistence, SimDisk};
use indelible::store::Store as _;
use indelible::{Batch, Error, Log, Options};
use indelible_groups::{Group, Groups, GroupsOptions, STATE_LOST};

const GROUPS: u64 = 60;

fn log_options() -> Options {
    Options::new().background(false).tiny_segments(16 * 1024)
}

fn options() -> GroupsOptions {
    GroupsOptions::new().checkpoint_bytes(16 * 1024)
}

fn open(disk: &SimDisk) -> Groups {
    let (log, _) = Log::open_or_create_in(Arc::new(disk.clone()), &log_options()).unwrap();
    Groups::from_log(log, &options()).unwrap()
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
    append_until_full(busy);
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
    append_until_full(busy);
    drop(file);
    // There is no room for a checkpoint before some of it was given back.
    groups.maintain().unwrap();
    assert!(groups.log().cell("groups.pending.0").is_none());
    busy.append(&[1; 300]).unwrap();
    assert!(groups.log().cell("groups.pending.0").is_none());
    assert_eq!(busy.entry(busy.next() - 1).unwrap(), [1; 300]);
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

/// Many groups, of which the first has an early entry that it keeps, and the last has appended until the
/// disk was full.
fn many_full(groups: &Groups, fill: impl Fn()) -> Vec<Group> {
    let handles: Vec<Group> = (0..256).map(|id| groups.create_group(id).unwrap()).collect();
    handles.first().unwrap().append(b"early").unwrap();
    let busy = handles.last().unwrap();
    for _ in 0..100 {
        busy.append(&[1; 300]).unwrap();
    }
    fill();
    append_until_full(busy);
    handles
}

fn append_until_full(group: &Group) {
    loop {
        match group.append(&[1; 300]) {
            Ok(_) => {}
            Err(Error::DiskFull { .. }) => break,
            Err(error) => panic!("{error}"),
        }
    }
}

fn check_many(groups: &Groups, round: u16) {
    for id in groups.ids() {
        let found = groups.group(id).unwrap().cell("omnipaxos.promise");
        assert_eq!(found.as_deref(), Some(&[u8::try_from(round % 251).unwrap(); 20][..]));
    }
    assert_eq!(groups.group(0).unwrap().entry(0).unwrap(), b"early");
}

/// Trims every group but the first, and appends to every one, less than went.
fn trim_and_go_on(groups: &Groups, handles: &[Group]) {
    for group in handles.iter().skip(1) {
        let mut batch = Batch::new();
        batch.trim(group.next());
        group.commit(&batch).unwrap();
    }
    for group in handles {
        group.append(&[3; 40]).unwrap();
    }
    assert_eq!(handles.first().unwrap().entry(0).unwrap(), b"early");
    // It stood at the very beginning.
    let stats = groups.stats();
    assert!(stats.carried_records > 0 && groups.log().first() > 0, "{stats:?}");
}

#[test]
fn promises_of_many_groups_go_on_for_as_long_as_it_is_full() {
    const ROUNDS: u16 = 20;
    let disk = SimDisk::new(8);
    let groups = open(&disk);
    let handles = many_full(&groups, || disk.set_capacity(Some(disk.used() + 40 * 1024)));
    for round in 0..ROUNDS {
        for group in &handles {
            promise(group, round);
        }
        append_until_full(handles.last().unwrap());
    }
    assert!(groups.stats().log.slot_commits > 256, "state found space in the log");
    check_many(&groups, ROUNDS - 1);
    for persistence in [Persistence::Nothing, Persistence::Everything, Persistence::Random(1)] {
        let crashed = disk.crash_copy(persistence);
        let groups = open(&crashed);
        check_many(&groups, ROUNDS - 1);
        let handles: Vec<_> =
            groups.ids().into_iter().map(|id| groups.group(id).unwrap()).collect();
        for group in &handles {
            promise(group, ROUNDS);
        }
        trim_and_go_on(&groups, &handles);
        check_many(&groups, ROUNDS);
    }
    trim_and_go_on(&groups, &handles);
    check_many(&groups, ROUNDS - 1);
    groups.close().unwrap();
    drop((groups, handles));
    check_many(&open(&disk), ROUNDS - 1);
}

/// Fills a disk and goes on until it is cut off. Returns for each group the last round of promises that
/// was acknowledged, and how many commits there were in slots.
fn program(disk: &SimDisk) -> (Vec<Option<u16>>, u64) {
    let mut promised = vec![None; 100];
    let mut run = || -> indelible::Result<u64> {
        let (log, _) = Log::open_or_create_in(Arc::new(disk.clone()), &log_options())?;
        let groups = Groups::from_log(log, &options())?;
        let handles: indelible::Result<Vec<Group>> =
            (0..promised.len()).map(|id| groups.create_group(id as u64)).collect();
        let handles = handles?;
        handles.first().unwrap().append(b"early")?;
        let busy = handles.last().unwrap();
        for _ in 0..100 {
            busy.append(&[1; 300])?;
        }
        disk.set_capacity(Some(disk.used() + 8 * 1024));
        let fill = || loop {
            match busy.append(&[1; 300]) {
                Ok(_) => {}
                Err(Error::DiskFull { .. }) => return Ok(()),
                Err(error) => return Err(error),
            }
        };
        fill()?;
        for round in 0..3 {
            for (group, promised) in handles.iter().zip(&mut promised) {
                let mut batch = Batch::new();
                batch.set("omnipaxos.promise", vec![u8::try_from(round).unwrap(); 20]);
                group.commit(&batch)?;
                *promised = Some(round);
            }
        }
        let mut batch = Batch::new();
        batch.trim(busy.next() - 1);
        busy.commit(&batch)?;
        fill()?;
        groups.close()?;
        Ok(groups.stats().log.slot_commits)
    };
    let commits = run().unwrap_or(0);
    (promised, commits)
}

/// What was put aside is taken over by the checkpoints; then space is back, and more is promised.
#[test]
fn promise_after_a_take_over_is_the_one_that_counts() {
    let disk = SimDisk::new(10);
    let (groups, handles) = full(&disk);
    promise(handles.last().unwrap(), 1);
    assert!(groups.log().cell("groups.pending.0").is_some());
    disk.set_capacity(None);
    groups.maintain().unwrap();
    promise(handles.last().unwrap(), 2);
    groups.log().sync().unwrap();
    let groups = open(&disk.crash_copy(Persistence::Nothing));
    let found = groups.group(GROUPS - 1).unwrap().cell("omnipaxos.promise");
    assert_eq!(found.as_deref(), Some(&[2; 20][..]));
}

/// Takes so many records off the end of a log, as a repair may.
fn cut(disk: &SimDisk, count: u64) {
    let (log, _) = Log::open_in(Arc::new(disk.clone()), &log_options()).unwrap();
    let mut batch = Batch::new();
    batch.truncate(log.next() - count);
    log.commit(&batch).unwrap();
    log.close().unwrap();
}

#[test]
fn checkpoints_past_the_end_of_a_log_are_done_without_or_say_what_to_do() {
    let disk = SimDisk::new(11);
    let groups = open(&disk);
    let handles: Vec<Group> = (0..3).map(|id| groups.create_group(id).unwrap()).collect();
    let busy = handles.last().unwrap();
    for _ in 0..5 {
        busy.append(&[1; 300]).unwrap();
    }
    // Both are at the end of the log.
    groups.maintain().unwrap();
    groups.close().unwrap();
    let whole = disk.crash_copy(Persistence::Nothing);
    cut(&whole, 2);
    for _ in 0..2 {
        let groups = open(&whole);
        for id in 0..3 {
            assert!(groups.group(id).unwrap().cell(STATE_LOST).is_some(), "group {id}");
        }
        assert_eq!(groups.group(2).unwrap().next(), 3);
        groups.close().unwrap();
    }
    // What came before is in the checkpoints alone.
    let groups = open(&disk);
    let busy = groups.group(2).unwrap();
    for _ in 0..200 {
        busy.append(&[1; 300]).unwrap();
    }
    let mut batch = Batch::new();
    batch.trim(busy.next());
    busy.commit(&batch).unwrap();
    groups.maintain().unwrap();
    assert!(groups.log().first() > 0);
    groups.close().unwrap();
    cut(&disk, 1);
    let (log, _) = Log::open_in(Arc::new(disk.clone()), &log_options()).unwrap();
    let refused = Groups::from_log(log, &options()).unwrap_err();
    assert!(refused.to_string().contains("restore a backup"), "{refused}");
}

/// A trim, a promise of a group that had just begun, put aside: records that came before are gone.
#[test]
fn what_was_put_aside_counts_though_records_before_it_are_gone() {
    let disk = SimDisk::new(12);
    let (groups, handles) = full(&disk);
    let busy = handles.last().unwrap();
    let mut batch = Batch::new();
    batch.trim(7);
    busy.commit(&batch).unwrap();
    groups.create_group(GROUPS).unwrap();
    promise(busy, 9);
    promise(&groups.group(GROUPS).unwrap(), 9);
    assert!(groups.log().cell("groups.pending.0").is_some());
    // All but the beginning of two groups, and with it both checkpoints.
    let gone = groups.log().next() - 2;
    let disk = disk.kill();
    disk.set_capacity(None);
    cut(&disk, gone);
    for _ in 0..2 {
        let groups = open(&disk);
        // Nothing of the one that begins there is gone.
        let mark = |id| groups.group(id).unwrap().cell(STATE_LOST);
        assert!([0, 1, GROUPS - 1].iter().all(|id| mark(*id).is_some()));
        assert!(mark(GROUPS).is_none());
        let busy = groups.group(GROUPS - 1).unwrap();
        assert_eq!((busy.first(), busy.next()), (7, 7));
        for id in [GROUPS - 1, GROUPS] {
            let found = groups.group(id).unwrap().cell("omnipaxos.promise");
            assert_eq!(found.as_deref(), Some(&[9; 20][..]), "group {id}");
        }
        groups.close().unwrap();
    }
}

#[test]
fn power_cut_at_any_call_on_a_full_disk_loses_no_promise() {
    let rehearsal = SimDisk::new(9);
    let (promised, commits) = program(&rehearsal);
    assert!(commits > 200 && promised.iter().all(|round| *round == Some(2)), "{commits}");
    for call in (1..=rehearsal.calls()).step_by(37) {
        let disk = SimDisk::new(9);
        let moment = if call % 2 == 0 { Moment::Before } else { Moment::Within };
        disk.crash_at_call(call, moment);
        let (promised, _) = program(&disk);
        for persistence in
            [Persistence::Nothing, Persistence::Everything, Persistence::Random(call)]
        {
            let groups = open(&disk.crash_copy(persistence));
            for (id, round) in (0..).zip(&promised) {
                let Some(round) = round else { continue };
                let found = groups.group(id).unwrap().cell("omnipaxos.promise");
                let found = found.and_then(|value| value.first().copied().map(u16::from));
                // The next one may have been written.
                assert!(
                    found == Some(*round) || found == Some(*round + 1),
                    "{moment:?} call {call}, {persistence:?}, group {id}: {found:?} for {round}"
                );
            }
            if promised[0].is_some() {
                assert_eq!(groups.group(0).unwrap().entry(0).unwrap(), b"early");
            }
        }
    }
}

/// With the threads of the log, which make space ready ahead of need where they can.
#[test]
fn promises_of_many_groups_go_on_on_a_small_file_system() {
    let Some(small) = Small::mount("4m") else {
        eprintln!("SKIPPED: needs the right to mount a tmpfs");
        return;
    };
    let log = Options::new().segment_bytes(256 * 1024);
    let options = GroupsOptions::new().log(log);
    let path = small.0.path().join("log");
    let groups = Groups::create(&path, &options).unwrap();
    let handles = many_full(&groups, || ());
    for round in 0..20 {
        for group in &handles {
            promise(group, round);
        }
        append_until_full(handles.last().unwrap());
    }
    check_many(&groups, 19);
    trim_and_go_on(&groups, &handles);
    check_many(&groups, 19);
    drop((handles, groups));
    let groups = Groups::open(&path, &options).unwrap();
    check_many(&groups, 19);
}

/// A small file system, if this machine lets us mount one.
struct Small(tempfile::TempDir);

impl Small {
    fn mount(size: &str) -> Option<Self> {
        let place = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "small"])
            .arg(place.path())
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then_some(Self(place))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _best_effort = Command::new("umount").arg(self.0.path()).output();
    }
}

/// A log that was created and cannot be claimed for groups would be in the way of the next try.
#[test]
fn groups_begin_in_a_new_log_although_the_disk_is_full() {
    let disk = SimDisk::new(1);
    let (log, _) = Log::open_or_create_in(Arc::new(disk.clone()), &log_options()).unwrap();
    disk.set_capacity(Some(disk.used()));
    let groups = Groups::from_log(log, &options()).unwrap();
    let group = groups.create_group(1).unwrap();
    promise(&group, 1);
    append_until_full(&group);
}
