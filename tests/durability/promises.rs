//! Promises that need one exact moment: a crash that keeps these sectors and loses those, a call
//! that comes between two steps of another, a look at what was acknowledged when it was.
//!
//! Each runs on the simulated disk without threads, so that `tests/planted.rs` can ask which of
//! them notices a bug.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
#![expect(
    clippy::case_sensitive_file_extension_comparisons,
    reason = "the engine's own names have one case"
)]

use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock};

use indelible::format::frame::{Salt, decode_frame, encode_frame, peek_header};
use indelible::format::{FrameHeader, Kind};
use indelible::io::Directory;
use indelible::io::sim::{Fault, Moment, Op, Persistence, Repeat, Rot, SimDisk, Unit};
use indelible::testing::tap::Tap;
use indelible::{Batch, Damage, Durability, Error, Log, Options, Preparation, Verdict, WriteMode};

fn options() -> Options {
    // Written at once, so that a crash may keep what was not synced.
    Options::new().background(false).tiny_segments(8 * 1024).write_mode(WriteMode::Pwrite)
}

fn door(disk: &SimDisk) -> Arc<dyn Directory> {
    Arc::new(disk.clone())
}

fn create(disk: &SimDisk) -> Log {
    Log::create_in(door(disk), &options()).unwrap()
}

fn open(disk: &SimDisk) -> Log {
    Log::open_in(door(disk), &options()).unwrap().0
}

#[test]
pub(crate) fn second_handle_is_refused() {
    let disk = SimDisk::new(1);
    let _log = create(&disk);
    let second = Log::open_in(door(&disk), &options());
    assert!(matches!(second, Err(Error::Locked { .. })), "it is not");
}

/// A full disk is met before the first frame of a batch, in every mode: a write there would fail
/// half way, and a store would kill the process.
#[test]
pub(crate) fn nothing_goes_where_there_is_no_space() {
    let modes = [WriteMode::Buffered, WriteMode::Mmap, WriteMode::Pwrite, WriteMode::Direct];
    for mode in modes {
        let disk = SimDisk::new(1);
        let options =
            Options::new().background(false).segment_bytes(4 * 1024 * 1024).write_mode(mode);
        let log = Log::create_in(door(&disk), &options).unwrap();
        disk.set_capacity(Some(disk.used() + 500_000));
        let refused = loop {
            if let Err(refused) = log.append(&[7; 4000]) {
                break refused;
            }
        };
        assert!(matches!(refused, Error::DiskFull { .. }), "{mode:?}: {refused}");
        assert!(!log.stats().poisoned, "{mode:?}");
        assert!(log.next() > 180, "{mode:?}: {}", log.next());
        log.sync().unwrap();
        assert_eq!(disk.stray_stores(), 0, "{mode:?}");
        disk.set_capacity(None);
        log.append(&[7; 4000]).unwrap();
    }
}

/// A file that was begun as the next segment lost its name in a power cut and kept its bytes. Named
/// again as the next segment, it must not bring back the batch that was dropped, whatever becomes of
/// its new bytes. (Where a spare is zero-filled before it is used, its old bytes are gone anyway.)
#[test]
pub(crate) fn dropped_batch_never_comes_back_in_a_spare() {
    let options = || options().preparation(Preparation::Sparse);
    let start = || {
        let disk = SimDisk::new(1);
        let log = Log::create_in(door(&disk), &options()).unwrap();
        // The next one of this size needs another segment.
        log.append(&[1; 1500]).unwrap();
        log.append(&[1; 1500]).unwrap();
        log.maintain().unwrap();
        (disk, log)
    };
    let rolls = |disk: &SimDisk, log: &Log, payload: u8, call: u64| {
        disk.crash_at_call(disk.calls() + call, Moment::Before);
        let _cut = log.append(&[payload; 1500]);
        disk.is_down()
    };
    let mut cuts = 0;
    for first in 1..40 {
        let (disk, log) = start();
        if !rolls(&disk, &log, 2, first) {
            break;
        }
        drop(log);
        // Every byte is on the medium, and no name of a segment.
        let named = |unit: &Unit| matches!(unit, Unit::Link { .. } | Unit::Unlink { .. });
        let segment = |unit: &Unit| matches!(unit, Unit::Link { name } if name.ends_with(".seg"));
        let disk = disk.crash_keeping(|unit| !segment(unit));
        let Ok((log, _)) = Log::open_in(door(&disk), &options()) else { continue };
        if log.next() != 2 {
            continue;
        }
        drop(log);
        for second in 1..40 {
            let disk = disk.crash_copy(Persistence::Everything);
            let (log, _) = Log::open_in(door(&disk), &options()).unwrap();
            if !rolls(&disk, &log, 3, second) {
                break;
            }
            drop(log);
            cuts += 1;
            // Every name is on the medium, and no byte.
            let disk = disk.crash_keeping(named);
            let (log, _) = Log::open_in(door(&disk), &options()).unwrap();
            for index in 2..log.next() {
                assert_eq!(
                    log.entry(index).unwrap(),
                    [3; 1500],
                    "after {first} and {second} calls"
                );
            }
        }
    }
    assert!(cuts > 20, "{cuts}");
}

#[test]
pub(crate) fn log_is_never_created_over_another_one() {
    let disk = SimDisk::new(1);
    create(&disk).close().unwrap();
    let again = Log::create_in(door(&disk), &options());
    assert!(matches!(again, Err(Error::AlreadyExists { .. })), "it is");
}

#[test]
pub(crate) fn unchanged_promise_costs_no_call() {
    let disk = SimDisk::new(1);
    let log = create(&disk);
    log.commit(Batch::new().set("promise", b"7".as_slice())).unwrap();
    let calls = disk.calls();
    log.commit(Batch::new().set("promise", b"7".as_slice())).unwrap();
    assert_eq!(disk.calls() - calls, 0, "calls for nothing");
}

#[test]
pub(crate) fn frame_of_another_generation_is_not_read() {
    let header =
        FrameHeader { length: 3, sequence: 1, index: 0, lag: 0, kind: Kind::Entry, flags: 3 };
    let mut bytes = Vec::new();
    encode_frame(&mut bytes, &Salt::new(1), 4096, &header, &[b"ink"]);
    assert!(decode_frame(&bytes, &Salt::new(1), 4096).is_ok());
    assert!(decode_frame(&bytes, &Salt::new(2), 4096).is_err(), "it is read");
}

#[test]
pub(crate) fn frame_in_another_place_is_none() {
    let header =
        FrameHeader { length: 3, sequence: 1, index: 0, lag: 0, kind: Kind::Entry, flags: 3 };
    let mut bytes = Vec::new();
    encode_frame(&mut bytes, &Salt::new(1), 4096, &header, &[b"ink"]);
    for place in [0, 4096 - 8, 4096 + 8, 4096 + 512, 2 * 4096, 1 << 30] {
        assert!(peek_header(&bytes, &Salt::new(1), place).is_err(), "its header counts at {place}");
        assert!(decode_frame(&bytes, &Salt::new(1), place).is_err(), "it is read at {place}");
    }
}

/// A batch that a crash dropped stands whole after the place where the next one is written. If
/// that one has just the length of what was lost, both touch. The number tells them apart.
#[test]
pub(crate) fn dropped_batch_that_touches_the_next_one_stays_dropped() {
    const FRAME: usize = 512 - 32;
    let disk = SimDisk::new(1);
    let log = create(&disk);
    log.append(&[1; FRAME]).unwrap();
    log.submit(Batch::new().append(vec![2; FRAME])).unwrap();
    log.submit(Batch::new().append(vec![3; FRAME])).unwrap();
    let third = (4096 + 2 * 512) / 512;
    let disk =
        disk.crash_keeping(|unit| matches!(unit, Unit::Sector { sector, .. } if *sector == third));
    let log = open(&disk);
    assert!(matches!(log.recovery().verdict, Verdict::TornTail { .. }));
    assert_eq!(log.next(), 1);
    log.append(&[4; FRAME]).unwrap();
    let log = open(&disk.crash_with(Persistence::Nothing));
    assert_eq!(log.next(), 2, "entries; a dropped batch came back");
    assert_eq!(log.entry(1).unwrap(), [4; FRAME]);
}

/// Two frames of one batch, each a sector long, and the first sector was written over with the
/// second: frames in order as far as their numbers go, but the batch has lost its first change.
#[test]
pub(crate) fn batch_without_its_first_frame_is_not_whole() {
    let disk = SimDisk::new(1);
    let log = create(&disk);
    let value = |byte| vec![byte; 512 - 32 - 8];
    log.commit(Batch::new().set("promise", value(1)).set("decided", value(2))).unwrap();
    log.append(b"states that the batch before was durable").unwrap();
    let disk = disk.crash_with(Persistence::Nothing);
    let name = segments(&disk).remove(0);
    disk.rot(&name, Rot::Misdirected { from: 4096 / 512 + 1, to: 4096 / 512 }).unwrap();
    match Log::open_in(door(&disk), &options()) {
        Err(Error::Damaged { .. }) => {}
        Err(other) => panic!("the open answers {other}"),
        Ok((_, report)) => panic!("it is taken for whole: {:?}", report.verdict),
    }
}

fn segments(disk: &SimDisk) -> Vec<String> {
    let names = disk.image().into_iter().map(|(name, _)| name);
    names.filter(|name| name.ends_with(".seg")).collect()
}

/// What the log calls durable survives a power cut in that very moment, whatever it is doing. A
/// batch goes past the reach that the checkpoint states: it is not to be called durable, by whoever
/// syncs it, before another checkpoint reaches as far.
#[test]
pub(crate) fn what_is_called_durable_survives_at_every_call() {
    let options = options().tiny_segments(16 * 1024).checkpoint_bytes(4096);
    let disk = SimDisk::new(1);
    let watched = Arc::new(Mutex::new(None::<Log>));
    let (looking, same) = (Arc::clone(&watched), options.clone());
    let looks = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&looks);
    let look = move |disk: &SimDisk, _: Op| {
        let Some(durable) = looking.lock().unwrap().as_ref().map(Log::durable) else { return };
        let after = disk.crash_copy(Persistence::Nothing);
        let found = Log::open_in(door(&after), &same).unwrap().0;
        assert!(found.next() >= durable, "{durable} entries are durable, {} survive", found.next());
        *counted.lock().unwrap() += 1;
    };
    let log = Log::create_in(Arc::new(Tap::new(&disk, Arc::new(look))), &options).unwrap();
    *watched.lock().unwrap() = Some(log.clone());
    for _ in 0..4 {
        let mut batch = Batch::new();
        (0..7).for_each(|byte| {
            batch.append(vec![byte; 1300]);
        });
        log.commit(&batch).unwrap();
    }
    // The log leads to the door, the door to the look, and the look to the log.
    *watched.lock().unwrap() = None;
    assert!(*looks.lock().unwrap() > 20);
    let log = Log::open_in(door(&disk.crash_with(Persistence::Nothing)), &options).unwrap().0;
    assert_eq!(log.next(), 28);
}

/// The moment of an acknowledgement, as a callback sees it: from then on a segment that the batch
/// began must be missed if it is gone. Nobody but a checkpoint says that it was ever there.
#[test]
pub(crate) fn segment_is_missed_from_the_acknowledgement_on() {
    for mode in [WriteMode::Mmap, WriteMode::Pwrite] {
        let options = options().write_mode(mode);
        let disk = SimDisk::new(1);
        let log = Log::create_in(door(&disk), &options).unwrap();
        log.append(&[1; 3000]).unwrap();
        let ticket = log.submit(Batch::new().append(vec![2; 3000])).unwrap();
        assert_eq!(log.stats().rolls, 1);
        let then = Arc::new(OnceLock::new());
        let (noted, at) = (Arc::clone(&then), disk.clone());
        ticket.on_durable(move |result| {
            result.unwrap();
            noted.set(at.crash_copy(Persistence::Nothing)).unwrap();
        });
        let then = then.get().unwrap();
        let found = then.crash_copy(Persistence::Nothing);
        assert_eq!(Log::open_in(door(&found), &options).unwrap().0.next(), 2);
        for name in segments(then) {
            let disk = then.crash_copy(Persistence::Nothing);
            disk.rot(&name, Rot::Remove).unwrap();
            match Log::open_in(door(&disk), &options) {
                Err(Error::Damaged { reason: Damage::MissingFile, .. }) => {}
                Err(other) => panic!("without {name} the open answers {other}"),
                Ok((log, _)) => panic!("without {name} the log ends at {}", log.next()),
            }
        }
    }
}

/// A sync that has taken stock covers what was written before, and nothing that came while it ran.
#[test]
pub(crate) fn batch_written_while_a_sync_runs_is_not_acknowledged_by_it() {
    let disk = SimDisk::new(1);
    let late = Arc::new(Mutex::new((None::<Log>, None)));
    let meddler = Arc::clone(&late);
    // A roll syncs the directory after its segments: what is written at that moment came too late.
    let look = move |_: &SimDisk, op: Op| {
        if op == Op::SyncDirectory {
            let log = meddler.lock().unwrap().0.take();
            // Its own calls come by here again.
            if let Some(log) = log {
                let ticket = log.submit(Batch::new().append(b"late".as_slice())).unwrap();
                meddler.lock().unwrap().1 = Some(ticket);
            }
        }
    };
    let options = options().durability(Durability::Barrier).write_mode(WriteMode::Pwrite);
    let log = Log::create_in(Arc::new(Tap::new(&disk, Arc::new(look))), &options).unwrap();
    log.append(&[1; 3000]).unwrap();
    log.sync().unwrap();
    log.maintain().unwrap();
    let ticket = log.append(&[2; 3000]).unwrap();
    late.lock().unwrap().0 = Some(log.clone());
    log.sync().unwrap();
    let later = late.lock().unwrap().1.take().unwrap();
    assert!(ticket.is_durable());
    let found = Log::open_in(door(&disk.crash_copy(Persistence::Nothing)), &options).unwrap().0;
    assert_eq!(found.next(), 2, "entries are durable");
    assert!(!later.is_durable(), "the sync acknowledges what it did not cover");
    assert_eq!(log.durable(), 2, "the durable end");
    later.wait().unwrap();
    let found = Log::open_in(door(&disk.crash_copy(Persistence::Nothing)), &options).unwrap().0;
    assert_eq!(found.next(), 3);
}

/// On a full disk a promise is committed in the metadata file alone. If its sync fails, it is not.
#[test]
pub(crate) fn promise_in_a_slot_whose_sync_failed_is_not_acknowledged() {
    for repeat in [Repeat::Once, Repeat::Forever] {
        let disk = SimDisk::new(1);
        let log = create(&disk);
        disk.set_capacity(Some(disk.used()));
        while log.commit(Batch::new().append(vec![1; 900])).is_ok() {}
        // As many as the tail still takes, then one that it does not.
        let before = log.stats().slot_commits;
        let mut promise = 0_u64;
        while log.stats().slot_commits == before {
            promise += 1;
            log.commit(Batch::new().set("promise", promise.to_le_bytes().to_vec())).unwrap();
        }
        disk.fail_next(Op::Sync, Fault::Io, repeat);
        let outcome = log.commit(Batch::new().set("promise", b"later".as_slice()));
        assert!(outcome.is_err(), "it is, {repeat:?}");
        assert!(log.stats().poisoned);
        let found = open(&disk.crash_with(Persistence::Nothing));
        let promised = found.cell("promise").unwrap();
        assert_eq!(promised[..], promise.to_le_bytes(), "{repeat:?}");
    }
}

/// The directory cannot be synced for the name of a side file. With that failure the name of a new
/// segment may be lost as well, whatever the next sync says: nothing in it is acknowledged by that.
#[test]
pub(crate) fn lost_names_of_a_side_file_poison_the_log() {
    let disk = SimDisk::new(1);
    let log = Log::create_in(door(&disk), &options().durability(Durability::Barrier)).unwrap();
    log.append(&[1; 3000]).unwrap();
    log.append(&[1; 3000]).unwrap();
    assert_eq!(log.stats().rolls, 1);
    let mut writer = log.side_file_writer().unwrap();
    writer.write_all(&[7; 100]).unwrap();
    disk.fail_next(Op::SyncDirectory, Fault::Io, Repeat::Once);
    assert!(matches!(writer.finish(), Err(Error::Io { .. })));
    assert!(matches!(log.sync(), Err(Error::Poisoned { .. })));
}
