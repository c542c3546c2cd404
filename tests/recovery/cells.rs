//! State cells that nearly fill a slot: what a batch leaves has to fit, and nothing else.

use std::sync::Arc;

use indelible::io::mem::MemDirectory;
use indelible::io::sim::{Persistence, Rot, SimDisk};
use indelible::options::CELLS_PER_BATCH_MAX;
use indelible::repair::{Obstacle, apply_in, plan_in};
use indelible::{Batch, Error, Log, Options, WriteMode};

fn options() -> Options {
    Options::new().background(false).tiny_segments(64 * 1024).write_mode(WriteMode::Pwrite)
}

/// Found by reading. What a batch leaves has to fit a slot, and so has nothing else that it comes
/// by: an open that counted after every frame refused the log as damaged, with all that was
/// acknowledged.
#[test]
pub(crate) fn batch_whose_cells_are_too_many_on_its_way_only_is_replayed() {
    let set = |log: &Log, cells: &[&'static str]| {
        let mut batch = Batch::new();
        for cell in cells {
            batch.set(*cell, vec![1; 1000]);
        }
        log.commit(&batch).map(drop)
    };
    let disk = SimDisk::new(1);
    // All of it stays in one segment, after one checkpoint.
    let options = options();
    let log = Log::create_in(Arc::new(disk.clone()), &options).unwrap();
    set(&log, &["a", "b", "c"]).unwrap();
    let refused = set(&log, &["d"]);
    assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
    // One that is set takes the place of one that is cleared, in a batch and beside what waits.
    log.commit(Batch::new().set("d", vec![2; 1000]).clear("a")).unwrap();
    log.set_lazily("decided", &[3; 600]).unwrap();
    log.commit(Batch::new().set("a", vec![4; 1000]).clear("d").append(b"entry".as_slice()))
        .unwrap();
    let mut all = Batch::new();
    for cell in ["e", "f", "g", "h", "i", "j"] {
        all.set(cell, vec![5; 1000]).clear(cell);
    }
    log.commit(&all).unwrap();
    let cells = log.cells();
    assert_eq!(cells.len(), 4);
    for disk in [disk.crash_copy(Persistence::Nothing), disk.kill()] {
        let (found, report) = Log::open_in(Arc::new(disk), &options).unwrap();
        assert_eq!((found.cells(), report.batches_replayed), (cells.clone(), 4));
    }
}

/// With the one above. The frame that cleared a cell is unreadable, in a batch that was durable:
/// all that is left fits no slot. A repair that left out what came last would bring an older
/// promise back.
#[test]
fn repair_never_drops_a_cell_that_has_no_room() {
    let disk = SimDisk::new(1);
    let log = Log::create_in(Arc::new(disk.clone()), &options()).unwrap();
    let mut batch = Batch::new();
    for cell in ["a", "b", "c"] {
        batch.set(cell, vec![1; 1000]);
    }
    log.commit(&batch).unwrap();
    log.commit(Batch::new().clear("a").set("d", vec![2; 1000])).unwrap();
    log.append(b"that one was durable").unwrap();
    let disk = disk.crash_with(Persistence::Nothing);
    let tail = disk.image().into_iter().map(|(name, _)| name).find(|name| name.contains(".seg"));
    // Three frames of 32 + 1002 bytes stand before it, each padded to eight bytes.
    let rot = Rot::FlipBit { offset: 4096 + 3 * 1040 + 16, bit: 1 };
    disk.rot(&tail.unwrap(), rot).unwrap();
    let refused = Log::open_in(Arc::new(disk.clone()), &options());
    assert!(matches!(refused, Err(Error::Damaged { .. })), "{refused:?}");
    let before = disk.image();
    let plan = plan_in(Arc::new(disk.clone())).unwrap();
    assert!(matches!(plan.obstacle, Some(Obstacle::Tail(Error::Damaged { .. }))), "{plan:?}");
    assert!(apply_in(Arc::new(disk.clone()), Arc::new(MemDirectory::new())).is_err());
    assert_eq!(disk.image(), before);
}

/// Found by review. What a batch comes by on its way had no bound, so an open could be kept busy for
/// hours by cells that are set and cleared again.
#[test]
fn batch_changes_so_many_cells_and_no_more() {
    let disk = SimDisk::new(1);
    let options = options();
    let log = Log::create_in(Arc::new(disk.clone()), &options).unwrap();
    let turned = |count: usize| {
        let mut batch = Batch::new();
        for cell in 0..count {
            batch.set(format!("c{cell:06}"), vec![1]);
        }
        for cell in 0..count {
            batch.clear(format!("c{cell:06}"));
        }
        batch
    };
    let most = CELLS_PER_BATCH_MAX;
    let refused = log.commit(&turned(most + 1));
    let Err(Error::TooLarge { what: "cells of a batch", got, limit }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!((got, limit), (most as u64 + 1, most as u64));
    log.commit(Batch::new().set("kept", vec![7])).unwrap();
    log.commit(&turned(most)).unwrap();
    let (found, _) = Log::open_in(Arc::new(disk.kill()), &options).unwrap();
    assert_eq!((found.cells(), found.cells().len()), (log.cells(), 1));
}
