//! What groups promise to their callers, one situation a test.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::Write as _;
use std::sync::Arc;

use indelible::io::sim::{Persistence, SimDisk};
use indelible::repair::LOST_BATCHES;
use indelible::store::Store as _;
use indelible::{Batch, CellValue, Durability, Error, Log, Options, SideFile};
use indelible_groups::{Group, GroupBatch, Groups, GroupsOptions};

fn options() -> GroupsOptions {
    let log = Options::new().background(false).tiny_segments(16 * 1024);
    GroupsOptions::new().log(log).checkpoint_bytes(8 * 1024)
}

fn open(disk: &SimDisk, options: &GroupsOptions) -> Groups {
    let log = Options::new().background(false).tiny_segments(16 * 1024);
    let (log, _) = Log::open_or_create_in(Arc::new(disk.clone()), &log).unwrap();
    Groups::from_log(log, options).unwrap()
}

fn all(group: &Group) -> Vec<(u64, Vec<u8>)> {
    group.iter(group.first()).map(Result::unwrap).collect()
}

#[test]
fn groups_have_index_spaces_of_their_own() {
    let groups = Groups::in_memory(&options()).unwrap();
    let (a, b) = (groups.create_group(1).unwrap(), groups.create_group(u64::MAX).unwrap());
    a.append(b"a0").unwrap();
    b.append(b"b0").unwrap();
    let ticket = a.append(b"a1").unwrap();
    assert_eq!(ticket.next(), 2);
    let mut batch = Batch::new();
    batch.set("vote", b"7").truncate(0).append(b"B0").append(b"B1");
    b.commit(&batch).unwrap();
    assert_eq!(all(&a), [(0, b"a0".to_vec()), (1, b"a1".to_vec())]);
    assert_eq!(all(&b), [(0, b"B0".to_vec()), (1, b"B1".to_vec())]);
    assert_eq!((a.cell("vote"), b.cell("vote").as_deref()), (None, Some(&b"7"[..])));
    assert_eq!(groups.ids(), [1, u64::MAX]);
    let entries = a.read(0..2).unwrap();
    assert_eq!((entries.len(), entries.get(1), entries.get(2)), (2, Some(&b"a1"[..]), None));
}

#[test]
fn refused_batch_changes_no_group() {
    let groups = Groups::in_memory(&options()).unwrap();
    let a = groups.create_group(1).unwrap();
    a.append(b"kept").unwrap();
    let mut good = Batch::new();
    good.truncate(0).append(b"never");
    let mut bad = Batch::new();
    bad.truncate(5);
    let mut both = GroupBatch::new();
    both.change(1, &good).create(2).change(2, &bad);
    let refused = groups.commit(&both);
    assert!(matches!(refused, Err(Error::BeyondEnd { wanted: 5, next: 0 })), "{refused:?}");
    let mut unknown = GroupBatch::new();
    unknown.change(1, &good).change(3, &good);
    assert!(matches!(groups.commit(&unknown), Err(Error::InvalidArgument { .. })));
    assert_eq!(groups.ids(), [1]);
    assert_eq!(all(&a), [(0, b"kept".to_vec())]);
    assert!(matches!(groups.create_group(1), Err(Error::InvalidArgument { .. })));
    let large = vec![0; usize::try_from(groups.log().entry_bytes_max()).unwrap()];
    assert!(matches!(a.append(&large), Err(Error::TooLarge { .. })));
    a.append(&large[21..]).unwrap();
}

#[test]
fn removed_group_is_gone_and_its_id_free() {
    let groups = Groups::in_memory(&options()).unwrap();
    let old = groups.create_group(5).unwrap();
    old.append(b"old").unwrap();
    groups.remove_group(5).unwrap();
    assert_eq!(groups.stats().live_bytes, 0);
    assert!(matches!(groups.group(5), Err(Error::InvalidArgument { .. })));
    let new = groups.create_group(5).unwrap();
    new.append(b"new").unwrap();
    for answer in [old.append(b"x").map(drop), old.entry(0).map(drop), old.set_lazily("c", b"v")] {
        assert!(matches!(answer, Err(Error::InvalidArgument { .. })), "{answer:?}");
    }
    assert_eq!(all(&new), [(0, b"new".to_vec())]);
}

#[test]
fn commits_of_all_groups_in_one_batch_cost_one_sync() {
    let disk = SimDisk::new(1);
    let groups = open(&disk, &options());
    let handles: Vec<Group> = (0..64).map(|id| groups.create_group(id).unwrap()).collect();
    let before = groups.stats().log.syncs;
    let mut batch = Batch::new();
    batch.append(b"x");
    let mut tickets = Vec::new();
    for group in &handles {
        tickets.push(group.submit(&batch).unwrap());
        assert_eq!(group.durable(), 0);
    }
    for ticket in &tickets {
        ticket.wait().unwrap();
    }
    assert_eq!(groups.stats().log.syncs, before + 1);
    assert!(handles.iter().all(|group| group.durable() == 1));
}

#[test]
fn everything_is_there_after_a_close_and_after_a_kill() {
    for killed in [false, true] {
        let disk = SimDisk::new(2);
        let groups = open(&disk, &options());
        let group = groups.create_group(9).unwrap();
        let mut batch = Batch::new();
        batch.reset(100).append(vec![1; 300]).append(vec![2; 300]).set("vote", b"v");
        group.commit(&batch).unwrap();
        let mut file = group.side_file_writer().unwrap();
        file.write_all(&vec![3; 40_000]).unwrap();
        let mut batch = Batch::new();
        batch.attach("snapshot", file.finish().unwrap()).trim(101);
        group.commit(&batch).unwrap();
        let mut batch = Batch::new();
        batch.set("term", b"t");
        group.commit(&batch).unwrap();
        group.set_lazily("decided", b"101").unwrap();
        let disk = if killed {
            let disk = disk.kill();
            drop((group, groups));
            disk
        } else {
            groups.close().unwrap();
            disk
        };
        let groups = open(&disk, &options());
        assert_eq!(groups.stats().replayed > 0, killed);
        let group = groups.group(9).unwrap();
        assert_eq!(all(&group), [(101, vec![2; 300])]);
        assert_eq!(group.cell("vote").as_deref(), Some(&b"v"[..]));
        assert_eq!(group.cell("decided").is_some(), !killed);
        assert_eq!((group.durable(), group.next()), (102, 102));
        let file = group.side_file("snapshot").unwrap().unwrap();
        assert_eq!(file.bytes(), 40_000);
        assert_eq!(file.read_all().unwrap(), vec![3; 40_000]);
        let mut streamed = Vec::new();
        let mut file = group.side_file("snapshot").unwrap().unwrap();
        std::io::copy(&mut file, &mut streamed).unwrap();
        assert_eq!(streamed, vec![3; 40_000]);
    }
}

#[test]
fn lazily_set_cell_goes_along_with_the_next_batch_of_its_group_only() {
    let disk = SimDisk::new(3);
    let groups = open(&disk, &options());
    let (a, b) = (groups.create_group(1).unwrap(), groups.create_group(2).unwrap());
    a.set_lazily("decided", b"1").unwrap();
    b.set_lazily("decided", b"2").unwrap();
    a.append(b"x").unwrap();
    let reopened = open(&disk.crash_copy(Persistence::Everything), &options());
    let cell = |id: u64| reopened.group(id).unwrap().cell("decided");
    assert_eq!((cell(1).as_deref(), cell(2)), (Some(&b"1"[..]), None));
    b.sync().unwrap();
    let reopened = open(&disk.crash_copy(Persistence::Nothing), &options());
    let cell = reopened.group(2).unwrap().cell("decided");
    assert_eq!(cell.as_deref(), Some(&b"2"[..]));
}

#[test]
fn sync_of_all_groups_takes_along_what_was_set_lazily_in_any() {
    let disk = SimDisk::new(3);
    let groups = open(&disk, &options());
    let handles: Vec<Group> = (0..4).map(|id| groups.create_group(id).unwrap()).collect();
    for group in &handles {
        group.set_lazily("decided", b"1").unwrap();
    }
    // One is written with a batch of its own, and one is gone.
    groups.group(1).unwrap().append(b"x").unwrap();
    groups.remove_group(3).unwrap();
    groups.sync().unwrap();
    let reopened = open(&disk.crash_copy(Persistence::Nothing), &options());
    for id in 0..3 {
        let cell = reopened.group(id).unwrap().cell("decided");
        assert_eq!(cell.as_deref(), Some(&b"1"[..]), "group {id}");
    }
    let next = groups.log().next();
    groups.sync().unwrap();
    assert_eq!(groups.log().next(), next, "nothing waits any more");
    groups.group(0).unwrap().set_lazily("decided", b"2").unwrap();
    groups.sync().unwrap();
    let reopened = open(&disk.crash_copy(Persistence::Nothing), &options());
    assert_eq!(reopened.group(0).unwrap().cell("decided").as_deref(), Some(&b"2"[..]));
}

#[test]
fn log_of_one_host_is_refused() {
    let log = Log::in_memory(&Options::new().durability(Durability::Barrier)).unwrap();
    log.append(b"of a host").unwrap();
    let refused = Groups::from_log(log, &GroupsOptions::new());
    assert!(matches!(refused, Err(Error::InvalidArgument { what: "log", .. })), "{refused:?}");
}

#[test]
fn slow_group_is_carried_forward_and_space_comes_back() {
    let disk = SimDisk::new(4);
    let groups = open(&disk, &options());
    let (slow, busy) = (groups.create_group(1).unwrap(), groups.create_group(2).unwrap());
    slow.append(&[7; 200]).unwrap();
    let mut file = slow.side_file_writer().unwrap();
    file.write_all(&[8; 500]).unwrap();
    let mut batch = Batch::new();
    batch.attach("snapshot", file.finish().unwrap());
    slow.commit(&batch).unwrap();
    let borrowed = slow.read(0..1).unwrap();
    for index in 1..2000 {
        busy.append(&[9; 200]).unwrap();
        let mut batch = Batch::new();
        batch.trim(index);
        busy.commit(&batch).unwrap();
    }
    let stats = groups.stats();
    assert!(groups.log().first() > 1000, "{stats:?}");
    let limit = 2 * stats.live_bytes + 4 * groups.log().segment_bytes();
    assert!(stats.bytes <= limit, "{} bytes, {limit} allowed", stats.bytes);
    assert!(
        stats.carried_records > 0 && stats.carried_bytes * 2 < stats.written_bytes,
        "{stats:?}"
    );
    assert_eq!(borrowed.get(0), Some(&[7; 200][..]));
    assert_eq!((slow.entry(0).unwrap(), slow.durable()), (vec![7; 200], 1));
    groups.close().unwrap();
    drop((groups, slow, busy));
    let slow = open(&disk, &options()).group(1).unwrap();
    assert_eq!(slow.entry(0).unwrap(), [7; 200]);
    let file = slow.side_file("snapshot").unwrap().unwrap();
    assert_eq!(file.read_all().unwrap(), [8; 500]);
}

/// Attaches a side file with these bytes.
fn attach(group: &Group, cell: &str, bytes: &[u8]) {
    let file = group.write_side_file(bytes).unwrap();
    let mut batch = Batch::new();
    batch.attach(cell, file);
    group.commit(&batch).unwrap();
}

#[test]
fn empty_side_file_is_there_after_a_kill_and_its_number_taken() {
    let disk = SimDisk::new(5);
    let group = open(&disk, &options()).create_group(1).unwrap();
    attach(&group, "empty", &[]);
    let disk = disk.kill();
    let group = open(&disk, &options()).group(1).unwrap();
    assert_eq!(group.read_side_file("empty").unwrap().as_deref(), Some(&[][..]));
    attach(&group, "snapshot", &[7; 100]);
    for disk in [disk.kill_copy(), disk.crash_copy(Persistence::Nothing)] {
        let group = open(&disk, &options()).group(1).unwrap();
        assert_eq!(group.read_side_file("empty").unwrap().as_deref(), Some(&[][..]));
        assert_eq!(group.read_side_file("snapshot").unwrap(), Some(vec![7; 100]));
    }
}

#[test]
fn cells_may_be_too_large_within_a_batch_but_not_after_it() {
    let disk = SimDisk::new(6);
    let groups = open(&disk, &options());
    let group = groups.create_group(1).unwrap();
    let mut batch = Batch::new();
    for cell in ["a", "b", "c"] {
        batch.set(cell, vec![1; 1000]);
    }
    group.commit(&batch).unwrap();
    let mut batch = Batch::new();
    batch.set("d", vec![2; 1000]);
    let refused = group.commit(&batch);
    assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
    batch.clear("a");
    group.commit(&batch).unwrap();
    for disk in [disk.kill_copy(), disk.crash_copy(Persistence::Nothing)] {
        let group = open(&disk, &options()).group(1).unwrap();
        let names: Vec<String> = group.cells().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["b", "c", "d"]);
    }
}

#[test]
fn side_file_that_a_batch_lets_go_of_and_takes_again_stays() {
    let disk = SimDisk::new(7);
    let groups = open(&disk, &options());
    let group = groups.create_group(1).unwrap();
    attach(&group, "snapshot", &[1; 100]);
    let known = group.cells().pop().unwrap().1;
    let CellValue::SideFile(known) = known else { panic!("{known:?}") };
    let mut batch = Batch::new();
    batch.clear("snapshot").attach("snapshot", SideFile::from_reference(known));
    group.commit(&batch).unwrap();
    let [first, second] = [[2; 50], [3; 50]].map(|bytes| group.write_side_file(&bytes).unwrap());
    let mut batch = Batch::new();
    batch.attach("a", first.clone()).attach("a", second).attach("b", first);
    group.commit(&batch).unwrap();
    for disk in [disk.kill_copy(), disk.crash_copy(Persistence::Nothing)] {
        let group = open(&disk, &options()).group(1).unwrap();
        for (cell, bytes) in [("snapshot", vec![1; 100]), ("a", vec![3; 50]), ("b", vec![2; 50])] {
            assert_eq!(group.read_side_file(cell).unwrap(), Some(bytes), "{cell}");
        }
    }
    let mut batch = Batch::new();
    batch.clear("snapshot").clear("a").clear("b");
    group.commit(&batch).unwrap();
    assert_eq!((group.stats().side_files, groups.stats().live_bytes), (0, 0));
}

#[test]
fn handle_prints_as_one_line_whatever_the_groups_hold() {
    let groups = Groups::in_memory(&GroupsOptions::new()).unwrap();
    let group = groups.create_group(7).unwrap();
    let ticket = group.append(&[1; 10_000]).unwrap();
    for printed in [
        format!("{groups:?}"),
        format!("{group:?}"),
        format!("{ticket:?}"),
        format!("{:?}", groups.log()),
    ] {
        assert!(printed.len() < 300, "{printed}");
    }
}

/// Found from outside: the log was said to be a host's, and was one of groups until one bit was lost.
#[test]
fn log_that_lost_what_made_it_one_of_groups_says_so() {
    let log = Log::in_memory(&Options::new().background(false)).unwrap();
    let mut batch = Batch::new();
    batch.set(LOST_BATCHES, vec![0; 16]);
    log.commit(&batch).unwrap();
    let refused = Groups::from_log(log, &GroupsOptions::new()).err().unwrap();
    assert!(refused.to_string().contains("lost before a repair"), "{refused}");
}
