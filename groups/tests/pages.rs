//! Older parts of the index are pages in the log instead of memory, and nobody notices.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeMap;
use std::sync::Arc;

use indelible::io::sim::{Persistence, SimDisk};
use indelible::{Batch, Error, Log, Options};
use indelible_groups::{Group, Groups, GroupsOptions};

const GROUPS: u64 = 4;

fn open(disk: &SimDisk) -> Groups {
    let log = Options::new().background(false).tiny_segments(32 * 1024);
    let (log, _) = Log::open_or_create_in(Arc::new(disk.clone()), &log).unwrap();
    Groups::from_log(log, &GroupsOptions::new().checkpoint_bytes(32 * 1024)).unwrap()
}

fn entry(group: u64, index: u64, round: u64) -> Vec<u8> {
    let length = usize::try_from((group * 7 + index * 13) % 50).unwrap();
    [format!("{group}:{index}:{round};").into_bytes(), vec![b'.'; length]].concat()
}

/// Entry by index, of each group.
type Model = Vec<BTreeMap<u64, Vec<u8>>>;

/// Groups that take turns over many segments.
fn filled(entries: u64) -> (SimDisk, Groups, Vec<Group>, Model) {
    let disk = SimDisk::new(8);
    let groups = open(&disk);
    let handles: Vec<Group> = (0..GROUPS).map(|id| groups.create_group(id).unwrap()).collect();
    let mut model: Model = (0..GROUPS).map(|_| BTreeMap::new()).collect();
    for index in 0..entries {
        for (group, model) in handles.iter().zip(&mut model) {
            let entry = entry(group.id(), index, 0);
            group.append(&entry).unwrap();
            model.insert(index, entry);
        }
    }
    (disk, groups, handles, model)
}

fn check(groups: &Groups, model: &Model) {
    for (id, model) in (0..).zip(model) {
        let group = groups.group(id).unwrap();
        assert!(group.iter(group.first()).map(Result::unwrap).eq(model.clone()), "group {id}");
    }
    let live: u64 =
        groups.ids().iter().map(|id| groups.group(*id).unwrap().stats().live_bytes).sum();
    assert_eq!(groups.stats().live_bytes, live);
}

#[test]
fn index_of_older_segments_is_not_in_memory() {
    let (disk, groups, handles, model) = filled(3000);
    groups.maintain().unwrap();
    let stats = groups.stats();
    // The newest region, and one that was not durable when the last checkpoint was made.
    let newest = 12 * 2 * (32 * 1024 / 40);
    let limit = newest + GROUPS * 3000;
    assert!(stats.index_bytes < limit, "{} bytes, {limit} allowed", stats.index_bytes);
    assert!(stats.page_bytes < 9 * GROUPS * 3000 + stats.bytes / 20, "{stats:?}");
    check(&groups, &model);
    let killed = open(&disk.crash_copy(Persistence::Everything));
    check(&killed, &model);
    let again = killed.stats().index_bytes;
    assert!(again < limit, "{again} bytes after a kill, {limit} allowed");
    groups.close().unwrap();
    drop((groups, handles));
    let groups = open(&disk);
    assert_eq!(groups.stats().replayed, 0);
    assert!(groups.stats().index_bytes < limit, "{:?}", groups.stats());
    check(&groups, &model);
}

#[test]
fn trims_truncations_and_carries_go_through_pages() {
    let (mut disk, mut groups, mut handles, mut model) = filled(1000);
    groups.maintain().unwrap();
    for round in 1..30 {
        for (group, model) in handles.iter().zip(&mut model) {
            let mut batch = Batch::new();
            match group.id() {
                // Lags: it is carried forward.
                0 if round < 20 => continue,
                1 => {
                    let to = group.next() - 17;
                    batch.truncate(to);
                    model.split_off(&to);
                    (0..12).for_each(|nth| {
                        let entry = entry(1, to + nth, round);
                        batch.append(entry.clone());
                        model.insert(to + nth, entry);
                    });
                }
                _ => {
                    let to = group.first() + 31;
                    batch.trim(to);
                    *model = model.split_off(&to);
                    (0..60).for_each(|_| {
                        let next = model.last_key_value().map_or(to, |(last, _)| last + 1);
                        let entry = entry(group.id(), next, round);
                        batch.append(entry.clone());
                        model.insert(next, entry);
                    });
                }
            }
            group.commit(&batch).unwrap();
        }
        groups.maintain().unwrap();
        check(&groups, &model);
        if round % 4 == 0 {
            drop(handles);
            if round % 8 == 0 {
                groups.close().unwrap();
            } else {
                disk = disk.kill();
            }
            drop(groups);
            groups = open(&disk);
            check(&groups, &model);
            handles = (0..GROUPS).map(|id| groups.group(id).unwrap()).collect();
        }
    }
    assert!(groups.log().first() > 0);
}

#[test]
fn page_that_cannot_be_read_hurts_its_entries_until_they_are_refilled() {
    let (disk, groups, handles, model) = filled(1000);
    groups.maintain().unwrap();
    let pages: Vec<Vec<u8>> = groups
        .log()
        .iter(0)
        .filter_map(|entry| Some(entry.ok()?.1).filter(|record| record.starts_with(&[11, 2])))
        .collect();
    groups.close().unwrap();
    drop((groups, handles));
    let mut image = disk.durable_image();
    let page = pages.first().unwrap();
    let mut hits = 0;
    for (_, bytes) in &mut image {
        while let Some(at) = bytes.windows(page.len()).position(|window| window == page) {
            bytes.get_mut(at + 9).into_iter().for_each(|byte| *byte ^= 0xff);
            hits += 1;
        }
    }
    assert_eq!(hits, 1);
    let disk = SimDisk::from_image(1, &image);
    let groups = open(&disk);
    let group = groups.group(2).unwrap();
    let Err(Error::Damaged { indexes: Some(hurt), .. }) = group.read(0..1000) else {
        panic!("it is not damaged")
    };
    assert_eq!((hurt.start, hurt.end), (0, u64::try_from((page.len() - 4) / 8).unwrap()));
    let damage = groups.verify().unwrap();
    assert_eq!(damage.len(), 1);
    let found: Vec<_> = damage.iter().flat_map(|found| &found.entries).collect();
    assert!(matches!(&found[..], [(range, _)] if *range == hurt), "{damage:?}");
    // What only the page can find is not given away for dead.
    groups.maintain().unwrap();
    assert_eq!(groups.log().first(), 0);
    let peer: Vec<Vec<u8>> = hurt.map(|index| entry(2, index, 0)).collect();
    group.refill(0, &peer).unwrap();
    assert!(groups.verify().unwrap().is_empty());
    check(&groups, &model);
    groups.close().unwrap();
    drop((groups, group));
    check(&open(&disk), &model);
}
