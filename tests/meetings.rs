//! Moments in which two threads meet, each brought about on the simulated disk: one is stopped inside
//! a call of the disk, and the other does what must wait for it, or must not.
//!
//! Every order in which threads can meet is loom's to try (docs/TESTING.md).
#![cfg(feature = "testing")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use indelible::io::sim::{Fault, Op, Persistence, Repeat, Rot, SimDisk};
use indelible::testing::tap::Tap;
use indelible::{Batch, Durability, Error, Log, Options, WriteMode};

/// Long enough for a thread that need not wait to be done.
const A_WHILE: Duration = Duration::from_millis(100);
/// Long enough to be sure that a thread waits for ever.
const FOR_EVER: Duration = Duration::from_secs(20);

fn options() -> Options {
    Options::new()
        .background(false)
        .tiny_segments(8 * 1024)
        .write_mode(WriteMode::Buffered)
        .durability(Durability::Barrier)
}

/// What is done in the middle of the next call of one kind.
type Act = Box<dyn FnOnce() + Send>;

/// A log in which something can be done in the middle of its next call of one kind.
struct Scene {
    log: Log,
    disk: SimDisk,
    act: Arc<Mutex<Option<(Op, Act)>>>,
}

impl Scene {
    fn new(options: &Options) -> Self {
        let act: Arc<Mutex<Option<(Op, Act)>>> = Arc::default();
        let planned = Arc::clone(&act);
        let look = move |_: &SimDisk, op: Op| {
            let due = planned.lock().unwrap().take_if(|(wanted, _)| *wanted == op);
            if let Some((_, act)) = due {
                act();
            }
        };
        let disk = SimDisk::new(1);
        let door = Tap::new(&disk, Arc::new(look));
        Self { log: Log::create_in(Arc::new(door), options).unwrap(), disk, act }
    }

    fn within(&self, op: Op, act: impl FnOnce() + Send + 'static) {
        *self.act.lock().unwrap() = Some((op, Box::new(act)));
    }
}

/// Runs something on a thread of its own; what comes back arrives when it is done.
fn aside<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (done, result) = channel();
    thread::spawn(move || done.send(run()));
    result
}

/// While a thread hands frames to the file, another one asks for them. It gets them when they are
/// there.
#[test]
pub(crate) fn frames_are_read_once_they_are_in_the_file() {
    let scene = Scene::new(&options());
    let log = scene.log.clone();
    log.append(&[1; 300]).unwrap();
    let early = Arc::new(Mutex::new(None));
    let (reader, came) = (log.clone(), Arc::clone(&early));
    scene.within(Op::Write, move || {
        let other = aside(move || reader.read_to_vec(0..1));
        let answer = other.recv_timeout(A_WHILE);
        *came.lock().unwrap() = Some((answer, other));
    });
    assert_eq!(log.entry(0).unwrap(), [1; 300]);
    let (answer, other) = early.lock().unwrap().take().unwrap();
    assert!(matches!(answer, Err(RecvTimeoutError::Timeout)), "it comes early: {answer:?}");
    assert_eq!(other.recv_timeout(FOR_EVER).unwrap().unwrap(), [[1; 300]]);
}

/// While a thread hands frames to the file, another one seals the segment. It must not be done before:
/// the seal says that they are there.
#[test]
pub(crate) fn roll_waits_for_frames_on_their_way() {
    let scene = Scene::new(&options());
    let log = scene.log.clone();
    log.append(&[1; 300]).unwrap();
    let (reader, is_done) = (log.clone(), Arc::new(AtomicBool::new(false)));
    let (seen, before) = (Arc::clone(&is_done), Arc::new(AtomicBool::new(false)));
    let (started, start) = channel();
    let early = Arc::clone(&before);
    scene.within(Op::Write, move || {
        started.send(()).unwrap();
        for _ in 0..20 {
            thread::sleep(A_WHILE / 20);
            early.fetch_or(seen.load(Ordering::SeqCst), Ordering::SeqCst);
        }
    });
    let other = aside(move || reader.read_to_vec(0..1));
    start.recv_timeout(FOR_EVER).unwrap();
    log.append(&[2; 3800]).unwrap();
    is_done.store(true, Ordering::SeqCst);
    assert_eq!(log.stats().rolls, 1);
    assert_eq!(other.recv_timeout(FOR_EVER).unwrap().unwrap(), [[1; 300]]);
    assert!(!before.load(Ordering::SeqCst), "it does not");
    assert_eq!(log.entry(1).unwrap(), [2; 3800]);
}

/// A batch that is written while a sync runs is not covered by it; its writer leads the next sync as
/// soon as this one is over.
#[test]
pub(crate) fn writer_behind_a_sync_is_woken_by_its_end() {
    let scene = Scene::new(&options());
    let log = scene.log.clone();
    log.append(b"first").unwrap();
    let behind = Arc::new(Mutex::new(None));
    let (writer, waits) = (log.clone(), Arc::clone(&behind));
    scene.within(Op::Sync, move || {
        let other = aside(move || writer.append(b"second").unwrap().wait());
        // So that it waits when the sync ends.
        assert!(other.recv_timeout(A_WHILE).is_err());
        *waits.lock().unwrap() = Some(other);
    });
    log.sync().unwrap();
    let other = behind.lock().unwrap().take().unwrap();
    assert!(other.recv_timeout(FOR_EVER).is_ok_and(|ended| ended.is_ok()), "it is not");
    assert_eq!(log.durable(), 2);
}

/// The offsets of a reopened tail are looked up by whoever needs them first. If a frame is unreadable,
/// no seal may state them: every later open would believe it.
#[test]
pub(crate) fn tail_that_cannot_be_looked_up_is_never_sealed() {
    let options = options().write_mode(WriteMode::Pwrite).checkpoint_bytes(4096);
    let disk = SimDisk::new(1);
    let log = Log::create_in(Arc::new(disk.clone()), &options).unwrap();
    for byte in 0..6 {
        log.append(&[byte; 480]).unwrap();
    }
    log.maintain().unwrap();
    let disk = disk.crash_with(Persistence::Nothing);
    let names = disk.image().into_iter().map(|(name, _)| name);
    let tail = names.into_iter().find(|name| name.contains(".seg")).unwrap();
    disk.rot(&tail, Rot::FlipBit { offset: 4096 + 512 * 2 + 16, bit: 1 }).unwrap();
    let log = Log::open_in(Arc::new(disk.clone()), &options).unwrap().0;
    // Two of them: the first one fits the tail as it is.
    let outcome = (0..2).try_for_each(|_| log.commit(Batch::new().append(vec![7; 2500])).map(drop));
    assert!(matches!(outcome, Err(Error::Damaged { .. })), "it is: {outcome:?}");
    assert_eq!((log.stats().rolls, log.stats().poisoned), (0, true));
    for index in 0..6 {
        assert!(matches!(log.entry(index), Err(Error::Damaged { .. })), "entry {index}");
    }
}

/// Found by review. A batch is written between the checkpoint of a backup and its stock, and cannot be
/// handed to the file. Its frames were gone and the log went on: a sync called them durable.
#[test]
fn backup_that_cannot_hand_frames_over_poisons_the_log() {
    let scene = Scene::new(&options());
    let (log, disk) = (scene.log.clone(), scene.disk.clone());
    log.append(b"first").unwrap();
    log.sync().unwrap();
    let (writer, act) = (log.clone(), Arc::clone(&scene.act));
    // The checkpoint syncs one slot, then the other.
    scene.within(Op::Sync, move || {
        let last: Act = Box::new(move || {
            let written = aside(move || writer.append(b"second").map(drop));
            written.recv_timeout(FOR_EVER).unwrap().unwrap();
            disk.fail_next(Op::Write, Fault::Io, Repeat::Once);
        });
        *act.lock().unwrap() = Some((Op::Sync, last));
    });
    let backup = log.backup_in(Arc::new(SimDisk::new(2)));
    assert!(matches!(backup, Err(Error::Io { .. })), "{backup:?}");
    assert!(log.stats().poisoned);
    assert!(matches!(log.sync(), Err(Error::Poisoned { .. })));
    assert_eq!(log.durable(), 1);
}

/// A backup copies the log of one moment. While it does, the log goes on, drops every file that is still
/// to be copied, and would use each again.
#[test]
fn writers_go_on_while_a_backup_copies() {
    let log = Scene::new(&options()).log;
    for byte in 0..20 {
        log.append(&[byte; 1000]).unwrap();
    }
    let mut writer = log.side_file_writer().unwrap();
    std::io::Write::write_all(&mut writer, &[7; 5000]).unwrap();
    log.commit(Batch::new().attach("snapshot", writer.finish().unwrap())).unwrap();
    let (other, meets) = (log.clone(), AtomicBool::new(true));
    let look = move |_: &SimDisk, op: Op| {
        if op != Op::Write || !meets.swap(false, Ordering::SeqCst) {
            return;
        }
        let other = other.clone();
        let gone_on = aside(move || {
            other.commit(Batch::new().trim(other.next()).clear("snapshot")).unwrap();
            other.maintain().unwrap();
            for _ in 0..40 {
                other.append(&[0xff; 1000]).unwrap();
            }
            other.commit(Batch::new().trim(other.next())).unwrap();
            other.maintain().unwrap();
        });
        assert!(gone_on.recv_timeout(FOR_EVER).is_ok(), "they wait");
    };
    let disk = SimDisk::new(2);
    let backup = log.backup_in(Arc::new(Tap::new(&disk, Arc::new(look)))).unwrap();
    assert_eq!((backup.entries_verified, log.first()), (20, 60));
    assert!(log.stats().rolls > 10);
    let copy = Log::open_in(Arc::new(disk), &options()).unwrap().0;
    for byte in 0..20 {
        assert_eq!(copy.entry(byte.into()).unwrap(), [byte; 1000]);
    }
    let snapshot = copy.side_file("snapshot").unwrap().unwrap();
    assert_eq!(snapshot.read_all().unwrap(), [7; 5000]);
}
