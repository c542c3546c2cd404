//! Moments in which two threads meet, each brought about on the simulated disk: one is stopped inside
//! a call of the disk, and the other does what must wait for it, or must not.
//!
//! Every order in which threads can meet is loom's to try (docs/TESTING.md).
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use indelible::inspect::Meaning;
use indelible::io::mem::MemDirectory;
use indelible::io::sim::{Fault, Op, Persistence, Repeat, Rot, SimDisk};
use indelible::io::{Access, Directory, DirectoryEntry, File, Lock, LockRefused};
use indelible::testing::tap::Tap;
use indelible::{Batch, Durability, Error, Log, Options, Verdict, WriteMode, repair};

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

/// What is done in the middle of a call.
type Act = Box<dyn FnOnce(&SimDisk) + Send>;

/// What is done in the middle of which calls, in this order.
type Acts = Arc<Mutex<VecDeque<(Op, Act)>>>;

/// A log in which something can be done in the middle of its calls.
struct Scene {
    log: Log,
    disk: SimDisk,
    acts: Acts,
}

impl Scene {
    fn new(options: &Options) -> Self {
        Self::on(SimDisk::new(1), options)
    }

    fn on(disk: SimDisk, options: &Options) -> Self {
        let (door, acts) = Self::door(&disk);
        Self { log: Log::create_in(Arc::new(door), options).unwrap(), disk, acts }
    }

    /// A door to a disk, and what is to be done in the middle of its calls.
    fn door(disk: &SimDisk) -> (Tap, Acts) {
        let acts = Acts::default();
        let planned = Arc::clone(&acts);
        let look = move |disk: &SimDisk, op: Op| {
            let due = {
                let mut planned = planned.lock().unwrap();
                let is_next = planned.front().is_some_and(|(wanted, _)| *wanted == op);
                if is_next { planned.pop_front() } else { None }
            };
            if let Some((_, act)) = due {
                act(disk);
            }
        };
        (Tap::new(disk, Arc::new(look)), acts)
    }

    /// Plans something for the middle of the next call of one kind, after what is planned already.
    fn within(&self, op: Op, act: impl FnOnce(&SimDisk) + Send + 'static) {
        self.acts.lock().unwrap().push_back((op, Box::new(act)));
    }
}

/// A door that does something once before it lists its files, or opens one.
#[derive(Clone)]
struct Door {
    disk: SimDisk,
    act: Arc<Mutex<Option<Act>>>,
}

impl Door {
    fn new(disk: &SimDisk) -> Self {
        Self { disk: disk.clone(), act: Arc::default() }
    }

    fn before_the_next_call(&self, act: impl FnOnce(&SimDisk) + Send + 'static) {
        *self.act.lock().unwrap() = Some(Box::new(act));
    }

    fn act(&self) {
        let act = self.act.lock().unwrap().take();
        if let Some(act) = act {
            act(&self.disk);
        }
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").finish_non_exhaustive()
    }
}

impl Directory for Door {
    fn list(&self) -> io::Result<Vec<DirectoryEntry>> {
        self.act();
        self.disk.list()
    }

    fn lock(&self) -> Result<Box<dyn Lock>, LockRefused> {
        self.disk.lock()
    }

    fn create(&self, bytes: u64, allocate: bool) -> io::Result<(String, Arc<dyn File>)> {
        self.disk.create(bytes, allocate)
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        self.act();
        self.disk.open(name, access)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        Directory::sync(&self.disk)
    }

    fn random(&self) -> u64 {
        self.disk.random()
    }
}

/// Runs something on a thread of its own, which has started on return; what comes back arrives when
/// it is done.
fn aside<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (started, start) = channel();
    let (done, result) = channel();
    thread::spawn(move || {
        started.send(()).unwrap();
        done.send(run())
    });
    start.recv_timeout(FOR_EVER).unwrap();
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
    scene.within(Op::Write, move |_| {
        let other = aside(move || reader.read_to_vec(0..1));
        let answer = other.recv_timeout(A_WHILE);
        *came.lock().unwrap() = Some((answer, other));
    });
    assert_eq!(log.read(0..1).unwrap().get(0), Some(&[1; 300][..]));
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
    scene.within(Op::Write, move |_| {
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
pub(crate) fn writer_after_a_sync_is_woken_by_its_end() {
    let scene = Scene::new(&options());
    let log = scene.log.clone();
    log.append(b"first").unwrap();
    let behind = Arc::new(Mutex::new(None));
    let (writer, waits) = (log.clone(), Arc::clone(&behind));
    scene.within(Op::Sync, move |_| {
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
    // Two of them: the first one fits the tail as it is, and would not be found by the next open.
    for batch in 0..2 {
        let outcome = log.commit(Batch::new().append(vec![7; 2500]));
        assert!(matches!(outcome, Err(Error::Damaged { .. })), "{batch}: {outcome:?}");
    }
    assert_eq!((log.stats().rolls, log.stats().poisoned, log.next()), (0, false, 6));
    assert!(matches!(log.set_lazily("decided", b"1"), Ok(())));
    for index in 0..6 {
        assert!(matches!(log.entry(index), Err(Error::Damaged { .. })), "entry {index}");
    }
}

/// The same where the tail holds no entry that counts: cells alone, or entries that were dropped. What
/// was appended there was acknowledged, and unreadable after the next open.
#[test]
pub(crate) fn tail_without_entries_that_cannot_be_looked_up_takes_none() {
    let options = options().write_mode(WriteMode::Pwrite).checkpoint_bytes(4096);
    for cells in [true, false] {
        let disk = SimDisk::new(1);
        let log = Log::create_in(Arc::new(disk.clone()), &options).unwrap();
        for byte in 0..6 {
            let mut batch = Batch::new();
            let value = vec![byte; 472];
            log.commit(if cells { batch.set("promise", value) } else { batch.append(value) })
                .unwrap();
        }
        log.commit(Batch::new().truncate(0).set("vote", b"1")).unwrap();
        log.maintain().unwrap();
        let image = disk.image();
        let disk = disk.crash_with(Persistence::Nothing);
        let tail = image.into_iter().map(|(name, _)| name).find(|name| name.contains(".seg"));
        let rot = Rot::FlipBit { offset: 4096 + 512 + 16, bit: 1 };
        disk.rot(&tail.unwrap(), rot).unwrap();
        let log = Log::open_in(Arc::new(disk.clone()), &options).unwrap().0;
        for batch in 0..2 {
            let outcome = log.append(b"entry");
            let refused = matches!(outcome, Err(Error::Damaged { indexes: None, .. }));
            assert!(refused, "{cells}, {batch}: {outcome:?}");
        }
        assert_eq!((log.stats().poisoned, log.next()), (false, 0));
        log.close().unwrap();
        let seen = indelible::inspect::verify_in(Arc::new(disk.clone()), &mut |_| ()).unwrap();
        assert!(seen.findings.iter().any(|it| it.meaning == Meaning::Blocking), "{seen:?}");
        repair::apply_in(Arc::new(disk.clone()), Arc::new(MemDirectory::new())).unwrap();
        let log = Log::open_in(Arc::new(disk), &options).unwrap().0;
        log.append(b"entry").unwrap();
        let promise = cells.then_some(&[5; 472][..]);
        assert_eq!(
            (log.entry(0).unwrap(), log.cell("promise").as_deref()),
            (b"entry".to_vec(), promise)
        );
    }
}

/// A refused batch has widened how far frames may go; the next checkpoint states less. While it is
/// being written a frame must not go beyond what it will state, or no open would look there.
#[test]
pub(crate) fn frames_stay_within_what_the_next_checkpoint_states() {
    let options = Options::new()
        .background(false)
        .tiny_segments(64 * 1024)
        .checkpoint_bytes(4096)
        .write_mode(WriteMode::Pwrite);
    let scene = Scene::new(&options);
    let log = scene.log.clone();
    log.append(b"first").unwrap();
    scene.disk.set_capacity(Some(scene.disk.used()));
    let full = log.commit(Batch::new().append(vec![1; 40_000]).append(vec![2; 40_000]));
    assert!(matches!(full, Err(Error::DiskFull { .. })), "{full:?}");
    scene.disk.set_capacity(None);
    let (writer, appended) = (log.clone(), Arc::new(Mutex::new(None)));
    let waits = Arc::clone(&appended);
    scene.within(Op::Sync, move |_| {
        let other = aside(move || writer.append(&vec![7; 20_000]).map(drop));
        // It has to wait for the checkpoint, or is done by now.
        let early = other.recv_timeout(A_WHILE);
        *waits.lock().unwrap() = Some((early, other));
    });
    log.maintain().unwrap();
    let (early, other) = appended.lock().unwrap().take().unwrap();
    early.or_else(|_| other.recv_timeout(FOR_EVER)).unwrap().unwrap();
    assert_eq!(log.durable(), 2);
    let disk = scene.disk.crash_with(Persistence::Nothing);
    let (found, report) = Log::open_in(Arc::new(disk), &options).unwrap();
    assert_eq!((found.next(), report.verdict), (2, Verdict::Recovered));
}

/// A batch is refused while a checkpoint is being written that does not know of it. Nothing may go
/// after it until another checkpoint says that its number is used up.
#[test]
pub(crate) fn number_of_a_refused_batch_is_recorded_before_anything_follows() {
    let options = options().write_mode(WriteMode::Pwrite).durability(Durability::Always);
    let options = options.recycle(false);
    let scene = Scene::new(&options);
    let log = scene.log.clone();
    for byte in 0..6 {
        log.append(&[byte; 900]).unwrap();
    }
    let (refused, third) = (log.clone(), log.clone());
    scene.within(Op::Sync, move |disk| {
        disk.fail_next(Op::Write, Fault::Full, Repeat::Once);
        let other = aside(move || refused.append(&[9; 100]).map(drop));
        // Its caller hears of it when that checkpoint is written.
        assert!(other.recv_timeout(A_WHILE).is_err());
    });
    let (outcome, result) = channel();
    // The checkpoint is durable; now it removes the segment that the trim has freed.
    scene.within(Op::Remove, move |disk| {
        let other = aside(move || third.append(&[8; 120]).map(drop));
        let acknowledged = matches!(other.recv_timeout(A_WHILE), Ok(Ok(())));
        outcome.send((acknowledged, disk.crash_copy(Persistence::Nothing))).unwrap();
    });
    log.submit(Batch::new().trim(5)).unwrap();
    let (acknowledged, disk) = result.recv_timeout(FOR_EVER).unwrap();
    let found = Log::open_in(Arc::new(disk), &options).unwrap().0;
    assert!(!acknowledged || found.next() == 7, "an acknowledged entry is lost");
}

/// A log is poisoned and closed while another thread writes a checkpoint of it. Whoever opens the
/// directory next must find nobody writing to it.
#[test]
pub(crate) fn poisoned_log_keeps_its_directory_while_it_is_being_written() {
    let options = options().write_mode(WriteMode::Pwrite).durability(Durability::Always);
    let scene = Scene::new(&options);
    let log = scene.log.clone();
    log.append(b"first").unwrap();
    let (started, start) = channel();
    let (resume, resumed) = channel();
    // The first slot of a checkpoint.
    scene.within(Op::Write, move |_| {
        started.send(()).unwrap();
        let _either_way = resumed.recv_timeout(A_WHILE);
    });
    let other = log.clone();
    let maintained = aside(move || other.maintain());
    start.recv_timeout(FOR_EVER).unwrap();
    scene.disk.fail_next(Op::Write, Fault::IoPartial, Repeat::Once);
    log.append(&[1; 700]).unwrap_err();
    assert!(matches!(log.close(), Err(Error::Poisoned { .. })));
    let next = Log::open_in(Arc::new(scene.disk.clone()), &options).unwrap().0;
    next.commit(Batch::new().set("promise", b"7")).unwrap();
    next.append(b"acknowledged").unwrap();
    // Too late, if all is well.
    let _nobody_waits = resume.send(());
    drop(maintained.recv_timeout(FOR_EVER).unwrap());
    let disk = scene.disk.crash_with(Persistence::Nothing);
    let found = Log::open_in(Arc::new(disk), &options).unwrap().0;
    assert_eq!((found.next(), found.cell("promise")), (next.next(), next.cell("promise")));
}

/// A backup has begun when the log is closed, and the directory is opened and trimmed by somebody
/// else. It must not write a checkpoint of the log it was begun on.
#[test]
pub(crate) fn nothing_is_written_after_a_close() {
    let disk = SimDisk::new(1);
    let options = options().durability(Durability::Always);
    let log = Log::create_in(Arc::new(disk.clone()), &options).unwrap();
    for byte in 0..6 {
        log.append(&[byte; 1500]).unwrap();
    }
    let target = Door::new(&SimDisk::new(2));
    let (closer, source, reopens) = (log.clone(), disk.clone(), options.clone());
    let (kept, opened) = channel();
    target.before_the_next_call(move |_| {
        closer.close().unwrap();
        let next = Log::open_in(Arc::new(source), &reopens).unwrap().0;
        for byte in 0..12 {
            next.append(&[byte; 1500]).unwrap();
        }
        next.commit(Batch::new().trim(next.next() - 1).set("promise", b"7")).unwrap();
        next.maintain().unwrap();
        kept.send(next).unwrap();
    });
    assert!(matches!(log.backup_in(Arc::new(target)), Err(Error::Closed)));
    let next = opened.try_recv().unwrap();
    let found = Log::open_in(Arc::new(disk.crash_with(Persistence::Everything)), &options);
    let found = found.unwrap().0;
    assert_eq!((found.first(), found.next()), (next.first(), next.next()));
    assert_eq!(found.cell("promise"), next.cell("promise"));
}

/// The system tells of a failed write-back once. Here a roll is told of it, which syncs the oldest of
/// many segments, and not the sync whose frames it is about.
#[test]
pub(crate) fn failure_that_a_roll_was_told_of_is_no_durable_batch() {
    let scene = Scene::new(&options());
    let writer = scene.log.clone();
    scene.within(Op::Sync, move |disk| {
        disk.fail_next(Op::Sync, Fault::Io, Repeat::Once);
        let mut many = Batch::new();
        for _ in 0..40 {
            many.append(vec![2; 3000]);
        }
        let rolled = aside(move || writer.submit(&many).map(drop));
        assert!(matches!(rolled.recv_timeout(FOR_EVER).unwrap(), Err(Error::Io { .. })));
    });
    assert_not_durable(&scene.log, Batch::new().append([1; 300].as_slice()));
}

/// The same; somebody is told of it who makes space ready, or gives a side file its name, and has not
/// passed it on when the sync ends.
#[test]
pub(crate) fn failure_that_somebody_else_is_being_told_of_is_no_durable_batch() {
    let options = options().tiny_segments(1024 * 1024).checkpoint_bytes(1024 * 1024);
    // Both slots are synced before space is made ready. A batch that rolls, and asks for no checkpoint.
    for (op, before, bytes) in [(Op::Sync, 2, 100 * 1024), (Op::SyncDirectory, 0, 720 * 1024)] {
        let (disk, syncs) = (SimDisk::new(1), Arc::new(AtomicI64::new(i64::MAX)));
        let [(other, other_came), (leader, leader_came), (failed, failure), (done, is_done)] =
            [(); 4].map(|()| channel::<()>());
        let [leader_came, failure, is_done] = [leader_came, failure, is_done].map(Mutex::new);
        let await_it = |what: &Mutex<Receiver<()>>| what.lock().unwrap().recv_timeout(FOR_EVER);
        let left = Arc::clone(&syncs);
        let look = move |disk: &SimDisk, is: Op| match (is == op, left.load(Ordering::SeqCst)) {
            (true, 0) => {
                left.store(-1, Ordering::SeqCst);
                other.send(()).unwrap();
                await_it(&leader_came).unwrap();
                disk.fail_next(op, Fault::Io, Repeat::Once);
            }
            (true, -1) => {
                left.store(-2, Ordering::SeqCst);
                leader.send(()).unwrap();
                await_it(&failure).unwrap();
            }
            (true, more) => left.store(more - 1, Ordering::SeqCst),
            (false, _) => {}
        };
        let ended = move |_: &SimDisk, is: Op, synced: &io::Result<()>| {
            if is == op && synced.is_err() {
                failed.send(()).unwrap();
                // Too late, if all is well.
                let _either_way = is_done.lock().unwrap().recv_timeout(A_WHILE);
            }
        };
        let tap = Tap::new(&disk, Arc::new(look)).after_syncs(Arc::new(ended));
        let log = Log::create_in(Arc::new(tap), &options).unwrap();
        log.append(&vec![1; 300 * 1024]).unwrap();
        log.sync().unwrap();
        let mut writer = log.side_file_writer().unwrap();
        writer.write_all(&[7; 100]).unwrap();
        syncs.store(before, Ordering::SeqCst);
        let maintained = log.clone();
        let told = aside(move || match op {
            Op::Sync => maintained.maintain(),
            _ => writer.finish().map(drop),
        });
        other_came.recv_timeout(FOR_EVER).unwrap();
        assert_not_durable(&log, Batch::new().append(vec![1; bytes]));
        let _nobody_waits = done.send(());
        assert!(told.recv_timeout(FOR_EVER).unwrap().is_err());
    }
}

/// Whoever waits for the batch, in whatever way, hears that it may be lost.
fn assert_not_durable(log: &Log, batch: &Batch<'_>) {
    let (called, call) = channel();
    let ticket = log.submit(batch).unwrap();
    let waits = ticket.clone();
    // This thread leads the sync: the log has none of its own.
    ticket.on_durable(move |result| called.send(result).unwrap());
    let heard = call.recv_timeout(FOR_EVER).unwrap();
    assert!(matches!(heard, Err(Error::Poisoned { .. })) && !waits.is_durable(), "{heard:?}");
    assert!(matches!(waits.wait(), Err(Error::Poisoned { .. })));
}

/// Space is being made ready when the log is closed and the directory is opened by somebody else, who
/// writes there.
#[test]
pub(crate) fn space_is_not_made_ready_after_a_close() {
    let options = options().tiny_segments(1024 * 1024).durability(Durability::Always);
    let scene = Scene::new(&options);
    scene.log.append(b"first").unwrap();
    let (started, start) = channel();
    let (resume, resumed) = channel();
    // The checkpoint comes before, with both slots.
    scene.within(Op::Sync, |_| ());
    scene.within(Op::Sync, |_| ());
    scene.within(Op::Write, move |_| {
        started.send(()).unwrap();
        // Too late, if all is well: a close waits.
        let _either_way = resumed.recv_timeout(A_WHILE);
    });
    let other = scene.log.clone();
    let maintained = aside(move || other.maintain());
    start.recv_timeout(FOR_EVER).unwrap();
    scene.log.close().unwrap();
    let next = Log::open_in(Arc::new(scene.disk.clone()), &options).unwrap().0;
    let entries: Vec<_> = (0..8).map(|byte| vec![byte; 60 * 1024]).collect();
    for entry in &entries {
        next.append(entry).unwrap();
    }
    let _nobody_waits = resume.send(());
    // The simulated disk refuses to let published bytes change.
    maintained.recv_timeout(FOR_EVER).unwrap().unwrap();
    let disk = scene.disk.crash_with(Persistence::Everything);
    let found = Log::open_in(Arc::new(disk), &options).unwrap().0;
    assert!(found.read_to_vec(1..found.next()).unwrap() == entries);
}

/// A segment is replaced between the moment in which a reader finds out that it needs it and the one
/// in which it opens it.
#[test]
fn read_finds_what_a_truncation_has_put_in_place() {
    let options = options().write_mode(WriteMode::Pwrite).recycle(false);
    let options = options.durability(Durability::Always);
    let disk = SimDisk::new(1);
    let log = Log::create_in(Arc::new(disk.clone()), &options).unwrap();
    for byte in 0..9 {
        log.append(&[byte; 1500]).unwrap();
    }
    log.close().unwrap();
    let door = Door::new(&disk);
    let log = Log::open_in(Arc::new(door.clone()), &options).unwrap().0;
    let writer = log.clone();
    door.before_the_next_call(move |_| {
        let replace = move || {
            let mut batch = Batch::new();
            batch.truncate(1);
            for _ in 0..8 {
                batch.append(vec![77; 1500]);
            }
            writer.commit(&batch).unwrap();
            writer.maintain().unwrap();
        };
        aside(replace).recv_timeout(FOR_EVER).unwrap();
    });
    assert_eq!(log.entry(4).unwrap(), [77; 1500]);
}

/// Found by review. A batch is written between the checkpoint of a backup and its stock, and cannot be
/// handed to the file. Its frames were gone and the log went on: a sync called them durable.
#[test]
fn backup_that_cannot_hand_frames_over_poisons_the_log() {
    let scene = Scene::new(&options());
    let log = scene.log.clone();
    log.append(b"first").unwrap();
    log.sync().unwrap();
    let writer = log.clone();
    // The checkpoint syncs one slot, then the other.
    scene.within(Op::Sync, |_| ());
    scene.within(Op::Sync, move |disk| {
        let written = aside(move || writer.append(b"second").map(drop));
        written.recv_timeout(FOR_EVER).unwrap().unwrap();
        disk.fail_next(Op::Write, Fault::Io, Repeat::Once);
    });
    let backup = log.backup_in(Arc::new(SimDisk::new(2)));
    assert!(matches!(backup, Err(Error::Io { .. })), "{backup:?}");
    assert!(log.stats().poisoned);
    assert!(matches!(log.sync(), Err(Error::Poisoned { .. })));
    assert_eq!(log.durable(), 1);
}

/// A backup copies the log of one moment. While it does, the log goes on, drops every file that is
/// still to be copied, and would use each again.
#[test]
fn writers_go_on_while_a_backup_copies() {
    let log = Scene::new(&options()).log;
    for byte in 0..20 {
        log.append(&[byte; 1000]).unwrap();
    }
    let mut writer = log.side_file_writer().unwrap();
    io::Write::write_all(&mut writer, &[7; 5000]).unwrap();
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

/// A batch without entries waits for its turn to be committed in the slots, because the disk is
/// full. Meanwhile another one lets the side file go that it attaches: it is refused then, and
/// nothing refers to a file that is gone.
#[test]
fn side_file_that_went_meanwhile_is_not_attached_in_the_slots() {
    let scene = Scene::new(&options());
    let log = scene.log.clone();
    let mut writer = log.side_file_writer().unwrap();
    writer.write_all(&[7; 5000]).unwrap();
    let file = writer.finish().unwrap();
    log.commit(Batch::new().attach("x", file.clone())).unwrap();
    log.append(&[1; 3200]).unwrap();
    log.sync().unwrap();
    scene.disk.set_capacity(Some(scene.disk.used()));
    log.append(b"something to sync").unwrap();
    let (first, second) = (log.clone(), log.clone());
    let (waits, waiting) = channel();
    scene.within(Op::Sync, move |_| {
        let attached = aside(move || {
            let mut batch = Batch::new();
            batch.set("big", vec![3; 1000]).attach("y", file);
            first.commit(&batch).map(drop)
        });
        assert!(attached.recv_timeout(A_WHILE).is_err(), "it did not wait for its turn");
        // It is written at once, and then wants a checkpoint, which has to wait.
        let cleared = aside(move || second.submit(Batch::new().clear("x")).map(drop));
        assert!(cleared.recv_timeout(A_WHILE).is_err() && attached.try_recv().is_err());
        waits.send(attached).unwrap();
    });
    log.sync().unwrap();
    let attached = waiting.recv().unwrap().recv_timeout(FOR_EVER).unwrap();
    assert!(matches!(attached, Err(Error::InvalidArgument { .. })), "{attached:?}");
    assert!(log.cells().is_empty());
    let disk = scene.disk.crash_with(Persistence::Everything);
    Log::open_in(Arc::new(disk), &options()).unwrap();
}

/// A plain write is refused by a full disk, perhaps with all of its bytes in the file, so the batch
/// waits for its turn to be committed in the slots. There it is refused for another reason. Either
/// way its number is used up, and a crash does not bring it back.
#[test]
fn batch_that_the_slots_refuse_never_comes_back() {
    for seed in 0..40 {
        let options = options().write_mode(WriteMode::Pwrite);
        let scene = Scene::on(SimDisk::new(seed), &options);
        let log = scene.log.clone();
        log.append(b"first").unwrap();
        let (first, second) = (log.clone(), log.clone());
        let (waits, waiting) = channel();
        scene.within(Op::Sync, move |disk| {
            disk.fail_next(Op::Write, Fault::Full, Repeat::Once);
            let refused = aside(move || first.commit(Batch::new().set("a", [3; 1000].as_slice())));
            assert!(refused.recv_timeout(Duration::from_millis(20)).is_err());
            for cell in ["b", "c", "d"] {
                second.set_lazily(cell, &[1; 1024]).unwrap();
            }
            waits.send(refused).unwrap();
        });
        log.newest_ticket().wait().unwrap();
        let refused = waiting.recv().unwrap().recv_timeout(FOR_EVER).unwrap();
        assert!(matches!(refused, Err(Error::TooLarge { .. })), "seed {seed}: {refused:?}");
        let disk = scene.disk.crash_with(Persistence::Everything);
        let found = Log::open_in(Arc::new(disk), &options).unwrap().0;
        assert_eq!(found.cell("a"), None, "seed {seed}");
    }
}

/// A backup is about to write a checkpoint when the log is closed. The checkpoint of the close is the
/// last one all the same: it says that nothing follows it.
#[test]
pub(crate) fn close_writes_the_last_checkpoint() {
    let scene = Scene::new(&options());
    let log = scene.log.clone();
    log.append(b"first").unwrap();
    log.sync().unwrap();
    let (started, start) = channel();
    // The first slot of the checkpoint of the close.
    scene.within(Op::Sync, move |_| {
        started.send(()).unwrap();
        thread::sleep(A_WHILE);
    });
    let (other, closed) = (log.clone(), Arc::new(Mutex::new(None)));
    let closing = Arc::clone(&closed);
    let door = Door::new(&SimDisk::new(2));
    door.before_the_next_call(move |_| {
        *closing.lock().unwrap() = Some(aside(move || other.close()));
        start.recv_timeout(FOR_EVER).unwrap();
    });
    let backup = log.backup_in(Arc::new(door));
    let closed = closed.lock().unwrap().take().unwrap();
    closed.recv_timeout(FOR_EVER).unwrap().unwrap();
    let (_, report) = Log::open_in(Arc::new(scene.disk.clone()), &options()).unwrap();
    assert_eq!(report.verdict, Verdict::Clean);
    assert!(matches!(backup, Err(Error::Closed)), "{backup:?}");
}

/// A writer of a side file lives longer than its log, and takes its unfinished file away while the
/// next open does the same.
#[test]
fn writer_of_a_side_file_may_outlive_its_log() {
    let scene = Scene::new(&options());
    let mut writer = scene.log.side_file_writer().unwrap();
    writer.write_all(&[7; 100]).unwrap();
    scene.log.close().unwrap();
    let next = Scene::door(&scene.disk);
    next.1.lock().unwrap().push_back((Op::Remove, Box::new(move |_| drop(writer))));
    let (log, _) = Log::open_in(Arc::new(next.0), &options()).unwrap();
    assert!(next.1.lock().unwrap().is_empty(), "the open removed nothing");
    log.append(b"goes on").unwrap();
}

/// A door that panics, in whatever call: the log is poisoned, whoever waits hears of it, and what was
/// durable is there after a reopen.
#[test]
fn door_that_panics_poisons_the_log_and_leaves_nobody_waiting() {
    for background in [false, true] {
        for op in [Op::Write, Op::Sync, Op::SyncDirectory, Op::Create, Op::Rename] {
            let scene = Scene::new(&options().background(background));
            let log = scene.log.clone();
            log.append(&[1; 300]).unwrap();
            log.sync().unwrap();
            scene.within(op, |_| panic!("the door panics, as it has to in this test"));
            let (called, call) = channel();
            let (appender, other) = (log.clone(), log.clone());
            let panicked = aside(move || {
                let run = move || {
                    let ticket = appender.append(&[2; 300])?;
                    ticket.on_durable(move |result| called.send(result).unwrap());
                    // Rolls: each call that a door has comes to be made.
                    for _ in 0..40 {
                        appender.append(&[3; 1000])?;
                    }
                    appender.sync()
                };
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(run))
            });
            let outcome = panicked.recv_timeout(FOR_EVER).unwrap();
            // A thread of the log may be the one that meets it, and be a little later than we are.
            let mut looks = if background { 10_000 } else { 0 };
            while looks > 0 && !log.stats().poisoned {
                thread::sleep(Duration::from_millis(1));
                looks -= 1;
            }
            let waited = aside(move || other.append(&[4; 300]).and_then(|ticket| ticket.wait()));
            let waited = waited.recv_timeout(FOR_EVER).unwrap();
            // Unless a thread of the log met it before.
            let heard = call.recv_timeout(FOR_EVER);
            assert!(!matches!(heard, Err(RecvTimeoutError::Timeout)), "{op:?}: nobody called back");
            let case = format!("{op:?}, {background}: {outcome:?}, {waited:?}, {heard:?}");
            assert!(matches!(waited, Err(Error::Poisoned { .. })), "{case}");
            assert!(background || outcome.map_or(true, |result| result.is_err()), "{case}");
            assert!(log.stats().poisoned, "{case}");
            assert_eq!(log.entry(0).unwrap(), [1; 300], "{case}");
            let closed = aside(move || log.close());
            closed.recv_timeout(FOR_EVER).unwrap().unwrap_err();
            let Scene { log, disk, .. } = scene;
            drop(log);
            let (log, _) = Log::open_in(Arc::new(disk), &options()).unwrap();
            assert_eq!(log.entry(0).unwrap(), [1; 300], "{case}");
        }
    }
}
