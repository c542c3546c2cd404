//! Rot: what is hurt is named group by group, the others go on, and a peer heals it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

use std::sync::Arc;

use indelible::io::sim::{Persistence, SimDisk};
use indelible::store::Store;
use indelible::{Batch, Error, Log, Options};
use indelible_groups::{Group, Groups, GroupsOptions, copy};

fn open_log(disk: &SimDisk) -> Log {
    let log = Options::new().background(false).tiny_segments(16 * 1024);
    Log::open_or_create_in(Arc::new(disk.clone()), &log).unwrap().0
}

fn open(disk: &SimDisk) -> Groups {
    Groups::from_log(open_log(disk), &GroupsOptions::new().checkpoint_bytes(64 * 1024)).unwrap()
}

fn entry(group: u64, index: u64) -> Vec<u8> {
    format!("{group}:{index};").repeat(20).into_bytes()
}

/// Three groups that take turns over several segments, closed.
fn filled() -> SimDisk {
    let disk = SimDisk::new(8);
    let groups = open(&disk);
    let handles: Vec<Group> = (0..3).map(|id| groups.create_group(id).unwrap()).collect();
    let snapshot = handles[2].write_side_file(&[5; 3000]).unwrap();
    let mut batch = Batch::new();
    batch.attach("snapshot", snapshot);
    handles[2].commit(&batch).unwrap();
    for index in 0..200 {
        for group in &handles {
            group.append(&entry(group.id(), index)).unwrap();
        }
    }
    groups.close().unwrap();
    disk
}

/// Inverts a byte of everything that looks like `what`, on the medium.
fn rot(disk: &SimDisk, what: &[u8]) -> SimDisk {
    let mut image = disk.durable_image();
    let mut hits = 0;
    for (_, bytes) in &mut image {
        while let Some(at) = bytes.windows(what.len()).position(|window| window == what) {
            bytes[at] ^= 0xff;
            hits += 1;
        }
    }
    assert!(hits > 0, "nothing to rot");
    SimDisk::from_image(1, &image)
}

/// What can be done about a log that is refused: what is lost becomes holes of it.
fn repair(disk: &SimDisk) {
    let kept = Arc::new(indelible::io::mem::MemDirectory::new());
    indelible::repair::apply_in(Arc::new(disk.clone()), kept).unwrap();
}

fn open_with_holes(disk: &SimDisk) -> Log {
    let options = Options::new().background(false).tiny_segments(16 * 1024).allow_holes(true);
    Log::open_in(Arc::new(disk.clone()), &options).unwrap().0
}

#[test]
fn damage_is_named_by_group_and_refilled_by_group() {
    let disk = rot(&rot(&filled(), &entry(1, 60)), &entry(2, 61));
    let groups = open(&disk);
    let group = groups.group(1).unwrap();
    let Err(Error::Damaged { indexes, .. }) = group.read(50..70) else {
        panic!("it is not damaged")
    };
    assert_eq!(indexes, Some(60..61));
    assert_eq!(groups.group(0).unwrap().read(0..200).unwrap().len(), 200);
    assert_eq!(group.entry(61).unwrap(), entry(1, 61));
    let damage = groups.verify().unwrap();
    let named: Vec<_> =
        damage.iter().map(|damage| (damage.group, damage.entries[0].0.clone())).collect();
    assert_eq!(named, [(1, 60..61), (2, 61..62)]);
    assert!(damage.iter().all(|damage| damage.entries.len() == 1 && damage.side_files.is_empty()));

    // A peer of another history is refused, and changes nothing.
    let others: Vec<_> = (59..62).map(|index| entry(9, index)).collect();
    assert!(matches!(group.refill(59, &others), Err(Error::InvalidArgument { .. })));
    let peer: Vec<_> = (59..62).map(|index| entry(1, index)).collect();
    group.refill(59, &peer).unwrap();
    let peer: Vec<_> = (61..62).map(|index| entry(2, index)).collect();
    groups.group(2).unwrap().refill(61, &peer).unwrap();
    groups.close().unwrap();
    let groups = open(&disk);
    assert!(groups.verify().unwrap().is_empty());
    for (index, found) in groups.group(1).unwrap().iter(0).map(Result::unwrap) {
        assert_eq!(found, entry(1, index));
    }
}

/// An entry that a peer hands over late: something happens before.
struct Late(Vec<u8>, Option<Box<dyn Fn()>>);

impl AsRef<[u8]> for Late {
    fn as_ref(&self) -> &[u8] {
        self.1.iter().for_each(|meanwhile| meanwhile());
        &self.0
    }
}

#[test]
fn entry_that_took_the_place_of_a_damaged_one_meanwhile_is_not_overwritten() {
    let groups = open(&rot(&filled(), &entry(1, 60)));
    let group = groups.group(1).unwrap();
    let other_thread = group.clone();
    let replace = move || {
        let mut batch = Batch::new();
        batch.truncate(60).append(b"acknowledged").append(entry(1, 61));
        other_thread.commit(&batch).unwrap();
    };
    // By then the damaged entry was looked at.
    let peer = [Late(entry(1, 60), None), Late(entry(1, 61), Some(Box::new(replace)))];
    let refused = group.refill(60, &peer);
    assert_eq!(group.entry(60).unwrap(), b"acknowledged");
    assert!(matches!(refused, Err(Error::InvalidArgument { what: "refill", .. })), "{refused:?}");
    assert_eq!(group.entry(61).unwrap(), entry(1, 61));
}

#[test]
fn damaged_range_stays_until_its_group_lets_go_of_it() {
    let disk = rot(&filled(), &entry(1, 3));
    let groups = open(&disk);
    for id in [0, 2] {
        let group = groups.group(id).unwrap();
        let mut batch = Batch::new();
        batch.trim(150).clear("snapshot");
        group.commit(&batch).unwrap();
    }
    let mut batch = Batch::new();
    batch.truncate(4);
    let group = groups.group(1).unwrap();
    group.commit(&batch).unwrap();
    for _ in 0..3 {
        groups.maintain().unwrap();
    }
    let place_of_the_damage = 3 * 3 + 4;
    assert!(groups.log().first() <= place_of_the_damage);
    assert!(
        matches!(group.entry(3), Err(Error::Damaged { indexes: Some(range), .. }) if range == (3..4))
    );
    group.refill(3, &[entry(1, 3)]).unwrap();
    for _ in 0..3 {
        groups.maintain().unwrap();
    }
    assert!(groups.log().first() > 150, "{}", groups.log().first());
    assert_eq!(group.entry(3).unwrap(), entry(1, 3));
}

#[test]
fn what_a_replay_cannot_read_is_refused_and_after_a_repair_a_hole_of_its_group() {
    // Killed before any checkpoint, so all of it is to be replayed.
    let disk = SimDisk::new(9);
    let options = GroupsOptions::new().checkpoint_bytes(1 << 30);
    let groups = Groups::from_log(open_log(&disk), &options).unwrap();
    for id in 0..3 {
        groups.create_group(id).unwrap();
    }
    for index in 0..200 {
        for id in 0..3 {
            groups.group(id).unwrap().append(&entry(id, index)).unwrap();
        }
    }
    let killed = disk.kill();
    drop(groups);
    let disk = rot(&rot(&killed, &entry(1, 60)), &entry(2, 60));
    let refused = Groups::from_log(open_log(&disk), &options);
    assert!(matches!(refused, Err(Error::Damaged { .. })), "{refused:?}");
    repair(&disk);
    let groups = Groups::from_log(open_with_holes(&disk), &options).unwrap();
    for id in 0..3 {
        let group = groups.group(id).unwrap();
        assert_eq!((group.first(), group.next()), (0, 200));
        assert_eq!(group.entry(61).unwrap(), entry(id, 61));
    }
    let damage = groups.verify().unwrap();
    let named: Vec<_> =
        damage.iter().map(|damage| (damage.group, damage.entries[0].0.clone())).collect();
    assert_eq!(named, [(1, 60..61), (2, 60..61)]);
    for id in [1, 2] {
        let group = groups.group(id).unwrap();
        let Err(Error::Hole { wanted: 60, range }) = group.entry(60) else { panic!("it is none") };
        assert_eq!(range, 60..61);
        group.refill(60, &[entry(id, 60)]).unwrap();
    }
    assert!(groups.verify().unwrap().is_empty());
    groups.close().unwrap();
    let groups = Groups::from_log(open_with_holes(&disk), &options).unwrap();
    assert!(groups.verify().unwrap().is_empty());
    assert_eq!(groups.group(2).unwrap().entry(60).unwrap(), entry(2, 60));
}

#[test]
fn damaged_side_file_is_named() {
    let groups = open(&rot(&filled(), &[5; 2000]));
    let damage = groups.verify().unwrap();
    let named: Vec<_> =
        damage.iter().map(|damage| (damage.group, damage.side_files[0].0.as_str())).collect();
    assert_eq!(named, [(2, "snapshot")]);
}

#[test]
fn older_checkpoint_serves_if_the_newest_is_damaged() {
    let disk = filled();
    let groups = open(&disk);
    groups.maintain().unwrap();
    groups.group(0).unwrap().append(&entry(0, 200)).unwrap();
    groups.close().unwrap();
    let side_files: Vec<String> = disk
        .image()
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| name.ends_with("side"))
        .collect();
    assert_eq!(side_files.len(), 2);
    for name in &side_files {
        let mut image = disk.durable_image();
        let (_, bytes) = image.iter_mut().find(|(found, _)| found == name).unwrap();
        bytes[20] ^= 1;
        let groups = open(&SimDisk::from_image(2, &image));
        assert_eq!(groups.group(0).unwrap().entry(200).unwrap(), entry(0, 200));
        assert!(groups.verify().unwrap().is_empty());
    }
    let mut image = disk.durable_image();
    for (_, bytes) in image.iter_mut().filter(|(name, _)| side_files.contains(name)) {
        bytes[20] ^= 1;
    }
    let refused =
        Groups::from_log(open_log(&SimDisk::from_image(3, &image)), &GroupsOptions::new());
    assert!(matches!(refused, Err(Error::Damaged { .. })), "{refused:?}");
}

#[test]
fn checkpoint_of_what_a_log_has_no_more_is_never_taken() {
    let disk = filled();
    let groups = open(&disk);
    groups.maintain().unwrap();
    let group = groups.group(0).unwrap();
    for index in 200..210 {
        group.append(&entry(0, index)).unwrap();
    }
    groups.close().unwrap();
    drop((groups, group));
    // A repair may take the end of a log: here, the last two records of the newest checkpoint.
    let log = open_log(&disk);
    let mut batch = Batch::new();
    batch.truncate(log.next() - 2);
    log.commit(&batch).unwrap();
    log.close().unwrap();
    let groups = open(&disk);
    let group = groups.group(0).unwrap();
    assert_eq!(group.next(), 208);
    let mut batch = Batch::new();
    batch.set("vote", b"new").append(entry(0, 208)).append(entry(0, 209)).append(entry(0, 210));
    group.commit(&batch).unwrap();
    let groups = open(&disk.crash_copy(Persistence::Nothing));
    let group = groups.group(0).unwrap();
    assert_eq!(group.cell("vote").as_deref(), Some(&b"new"[..]));
    assert_eq!(group.next(), 211);
    assert!(groups.verify().unwrap().is_empty());
}

#[test]
fn groups_move_out_and_in_entry_for_entry() {
    let groups = open(&filled());
    let group = groups.group(2).unwrap();
    let mut batch = Batch::new();
    batch.trim(7).set("vote", b"v");
    group.commit(&batch).unwrap();
    let log = Log::in_memory(&Options::new()).unwrap();
    let copied = copy(&group, &log).unwrap();
    assert_eq!((copied.first, copied.next, copied.cells), (7, 200, 2));
    assert!(matches!(copy(&group, &log), Err(Error::InvalidArgument { what: "target", .. })));
    let back = groups.create_group(22).unwrap();
    copy(&log, &back).unwrap();
    assert_eq!(back.read_side_file("snapshot").unwrap().unwrap(), [5; 3000]);
    assert_eq!(back.cell("vote").as_deref(), Some(&b"v"[..]));
    let both =
        [group.iter(7), back.iter(7)].map(|iter| iter.map(Result::unwrap).collect::<Vec<_>>());
    assert_eq!(both[0], both[1]);
    assert_eq!(both[0].len(), 193);
}
