//! A medium that gives other bytes the second time: a repair puts no checksum on what it did not check,
//! and marks nothing as missing that its plan did not count. And a system that is short of descriptors:
//! no tool takes that for damage.

use std::sync::Arc;

use indelible::inspect::{inspect_in, verify_in};
use indelible::io::Directory;
use indelible::io::sim::{Fault, Op, Repeat, Rot, SimDisk};
use indelible::repair::{Plan, apply_in, plan_in, refill_in};
use indelible::store::Store as _;
use indelible::testing::tap::Tap;
use indelible::{Batch, Damage, Error, Log, Result};

use super::crashes::{LAST, check_honest, check_whole, image_of, options};
use super::entry;

/// A repair of a log in whose file a byte changes once it was planned: when the copies are durable.
fn repair_while_it_rots(disk: &SimDisk, name: &str, offset: u64) -> Result<Plan> {
    let (rotting, name) = (disk.clone(), name.to_owned());
    let copied = move |_: &SimDisk, op: Op| {
        if op == Op::SyncDirectory {
            rotting.rot(&name, Rot::FlipBit { offset, bit: 0 }).unwrap();
        }
    };
    let kept = Tap::new(&SimDisk::new(2), Arc::new(copied));
    apply_in(Arc::new(disk.clone()), Arc::new(kept))
}

/// Where the payload of an entry starts in a file.
fn place_of(image: &[(String, Vec<u8>)], name: &str, index: u64) -> usize {
    let text = format!("entry {index} ").into_bytes();
    let (_, bytes) = image.iter().find(|(found, _)| found == name).unwrap();
    bytes.windows(text.len()).position(|it| it == text).unwrap()
}

/// Entries of a segment, by what is in it.
fn entries_in(image: &[(String, Vec<u8>)], name: &str) -> Vec<u64> {
    let (_, bytes) = image.iter().find(|(found, _)| found == name).unwrap();
    let held = |index: &u64| {
        let text = format!("entry {index} ").into_bytes();
        bytes.windows(text.len()).any(|it| it == text)
    };
    (0..LAST).filter(held).collect()
}

/// Damages a file by `before`, and repairs the log while a byte `at` the payload of an entry rots.
fn check(which: fn(&[String]) -> String, before: impl Fn(&mut [u8]), at: i64) {
    let mut image = image_of();
    let names: Vec<String> = image.iter().map(|(name, _)| name.clone()).collect();
    let name = which(&names);
    let held = entries_in(&image, &name);
    let index = held[held.len() / 2];
    let offset = i64::try_from(place_of(&image, &name, index)).unwrap() + at;
    let offset = u64::try_from(offset).unwrap();
    let file = image.iter_mut().find(|(found, _)| *found == name).unwrap();
    before(&mut file.1);
    let disk = SimDisk::from_image(3, &image);
    match repair_while_it_rots(&disk, &name, offset) {
        Err(Error::Damaged { path, indexes, reason: Damage::Unsteady, .. }) => {
            assert_eq!(path.to_str(), Some(&*name));
            // Without its table, what comes before it in the segment is in doubt as well.
            assert!(indexes.is_some_and(|range| range.contains(&index)), "{name}");
        }
        other => panic!("{name}: {other:?}"),
    }
    check_honest(&disk, &name);
    if let Ok((log, _)) = Log::open_in(Arc::new(disk.kill_copy()), &options()) {
        assert!(matches!(log.entry(index), Err(Error::Damaged { .. })), "{name}");
    }
    apply_in(Arc::new(disk.clone()), Arc::new(SimDisk::new(4))).unwrap();
    check_honest(&disk, &name);
    refill_in(Arc::new(disk.clone()), &mut |index| Ok(Some(entry(index)))).unwrap();
    check_whole(&disk, &name);
}

fn sealed(names: &[String]) -> String {
    names.iter().find(|name| name.starts_with("0000000000000002-")).unwrap().clone()
}

fn tail(names: &[String]) -> String {
    names.iter().rfind(|name| name.strip_suffix(".seg").is_some()).unwrap().clone()
}

/// Only the header is unreadable: the plan counts no entry as missing.
fn header(bytes: &mut [u8]) {
    bytes[40] ^= 1;
}

/// As above, by the footer.
fn footer(bytes: &mut [u8]) {
    let at = bytes.len() - 30;
    bytes[at] ^= 1;
}

#[test]
fn bytes_that_rot_under_a_repair_of_the_tail_get_no_right_checksum() {
    check(tail, header, 100);
}

#[test]
fn frame_that_rots_under_a_repair_of_the_tail_is_no_hole_that_nobody_counted() {
    // The kind in the frame's header.
    check(tail, header, -2);
}

#[test]
fn bytes_that_rot_under_a_repair_of_a_sealed_segment_get_no_right_checksum() {
    check(sealed, header, 100);
    check(sealed, footer, 100);
}

#[test]
fn frame_that_rots_under_a_repair_of_a_sealed_segment_is_no_hole_that_nobody_counted() {
    check(sealed, header, -2);
    check(sealed, footer, -2);
}

/// Found from outside: where the side file could not be opened, there was "no repair" of a sound log.
#[test]
fn shortage_is_an_error_of_the_tool_and_no_damage() {
    type Tool = fn(Arc<dyn Directory>) -> Result<String>;
    let tools: [Tool; 3] = [
        |dir| plan_in(dir).map(|plan| format!("{plan:?}")),
        |dir| verify_in(dir, &mut |_| ()).map(|found| format!("{:?}", found.findings)),
        |dir| inspect_in(dir).map(|seen| format!("{:?}", seen.outcome)),
    ];
    let disk = SimDisk::from_image(1, &image_of());
    let (log, _) = Log::open_in(Arc::new(disk.clone()), &options()).unwrap();
    let mut batch = Batch::new();
    batch.attach("snapshot", log.write_side_file(&[7; 5000]).unwrap());
    log.commit(&batch).unwrap();
    log.close().unwrap();
    for (nth, tool) in tools.into_iter().enumerate() {
        let sound = tool(Arc::new(disk.clone())).unwrap();
        let mut refused = 0;
        loop {
            disk.fail_from(disk.calls() + refused, Op::Open, Fault::Shortage, Repeat::Once);
            let before = disk.counts().faults;
            match tool(Arc::new(disk.clone())) {
                Err(Error::Exhausted { .. }) => {}
                told => assert_eq!(told.unwrap(), sound, "tool {nth}, call {refused}"),
            }
            if disk.counts().faults == before {
                break;
            }
            refused += 1;
        }
        disk.clear_faults();
        assert!(refused > 3, "tool {nth}: {refused} calls");
    }
}
