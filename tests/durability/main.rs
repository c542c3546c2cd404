//! What is durable when: policies, shared syncs, tickets, callbacks, futures, and failure.

#![expect(
    clippy::unwrap_used,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "helpers of tests fail as tests do"
)]

use std::future::IntoFuture;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use indelible::io::sim::{Fault, Op, Persistence, Repeat, SimDisk};
use indelible::testing::slow::SlowDirectory;
use indelible::testing::tap::Tap;
use indelible::{Batch, Durability, Error, Log, Options, WriteMode};

pub(crate) mod lazily;
pub(crate) mod promises;

fn options(durability: Durability) -> Options {
    Options::new().tiny_segments(8192).durability(durability).background(false)
}

fn reopened_after_power_cut(disk: &SimDisk) -> Log {
    let disk = disk.crash_with(Persistence::Nothing);
    Log::open_in(Arc::new(disk), &options(Durability::Always)).unwrap().0
}

#[test]
pub(crate) fn always_is_durable_on_return() {
    let disk = SimDisk::new(1);
    let log = Log::create_in(Arc::new(disk.clone()), &options(Durability::Always)).unwrap();
    let ticket = log.append(b"kept").unwrap();
    assert!(ticket.is_durable());
    assert_eq!(log.durable(), 1);
    assert_eq!(reopened_after_power_cut(&disk).entry(0).unwrap(), b"kept");
}

#[test]
pub(crate) fn barrier_is_durable_after_sync_and_costs_one() {
    let disk = SimDisk::new(2);
    let log = Log::create_in(Arc::new(disk.clone()), &options(Durability::Barrier)).unwrap();
    for _ in 0..20 {
        log.append(b"entry").unwrap();
        log.commit(Batch::new().set("decided", log.next().to_le_bytes().to_vec())).unwrap();
    }
    assert_eq!((log.durable(), log.next(), log.stats().syncs), (0, 20, 0));
    log.sync().unwrap();
    log.sync().unwrap();
    assert_eq!((log.durable(), log.stats().syncs), (20, 1));
    log.append(b"not synced").unwrap();
    let log = reopened_after_power_cut(&disk);
    assert_eq!(log.next(), 20);
    assert_eq!(log.cell("decided").as_deref(), Some(&20_u64.to_le_bytes()[..]));
}

#[test]
fn submitted_batch_rides_along_with_the_next_sync() {
    let disk = SimDisk::new(3);
    let log = Log::create_in(Arc::new(disk.clone()), &options(Durability::Always)).unwrap();
    let ticket = log.submit(Batch::new().set("decided", b"7")).unwrap();
    assert!(!ticket.is_durable());
    assert_eq!(log.stats().syncs, 0);
    drop(ticket.clone());
    log.append(b"entry").unwrap();
    assert!(ticket.is_durable());
    assert_eq!(log.stats().syncs, 1);
}

#[test]
fn batch_that_changes_nothing_costs_nothing() {
    let disk = SimDisk::new(4);
    let log = Log::create_in(Arc::new(disk.clone()), &options(Durability::Always)).unwrap();
    log.commit(Batch::new().set("promise", b"p").append(b"entry")).unwrap();
    let calls = disk.calls();
    log.commit(Batch::new().set("promise", b"p").truncate(1).trim(0).clear("nothing")).unwrap();
    log.commit(&Batch::new()).unwrap();
    log.sync().unwrap();
    assert_eq!(disk.calls(), calls);
}

#[test]
pub(crate) fn durable_end_follows_truncation() {
    let disk = SimDisk::new(5);
    let log = Log::create_in(Arc::new(disk), &options(Durability::Barrier)).unwrap();
    for _ in 0..10 {
        log.append(b"old").unwrap();
    }
    log.sync().unwrap();
    log.commit(Batch::new().truncate(4).append(b"new").append(b"new")).unwrap();
    assert_eq!((log.durable(), log.next()), (4, 6));
    log.sync().unwrap();
    assert_eq!(log.durable(), 6);
}

#[test]
fn interval_makes_durable_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new()
        .segment_bytes(64 * 1024)
        .durability(Durability::Interval(Duration::from_millis(5)));
    let log = Log::create(directory.path().join("log"), &options).unwrap();
    let (sender, receiver) = mpsc::channel();
    log.append(b"soon").unwrap().on_durable(move |result| sender.send(result).unwrap());
    receiver.recv_timeout(Duration::from_secs(20)).unwrap().unwrap();
    assert_eq!(log.durable(), 1);
}

/// Syncs that take as long as those of a fast disk: where they cost nothing, there is nothing to share.
fn log_with_slow_syncs(options: &Options) -> Log {
    let directory = SlowDirectory::new(Duration::from_millis(1));
    Log::create_in(Arc::new(directory), options).unwrap()
}

#[test]
fn callbacks_come_once_and_in_order() {
    let log = log_with_slow_syncs(&Options::new().segment_bytes(64 * 1024));
    let (sender, receiver) = mpsc::channel();
    for number in 0..500_u32 {
        let sender = sender.clone();
        let ticket = log.submit(Batch::new().append(b"entry")).unwrap();
        ticket.on_durable(move |result| sender.send((number, result.is_ok())).unwrap());
    }
    drop(sender);
    let mut seen: Vec<_> = Vec::new();
    while let Ok(answer) = receiver.recv_timeout(Duration::from_secs(20)) {
        seen.push(answer);
    }
    assert_eq!(seen.len(), 500);
    assert!(seen.iter().all(|(_, ok)| *ok));
    assert!(log.stats().syncs < 500, "callbacks share syncs");
    let in_order = seen.windows(2).filter(|pair| pair[0].0 < pair[1].0).count();
    // One that is due already is called by its own thread, beside those the flusher calls.
    assert!(in_order > 480, "{in_order} of 499 in order");
}

#[test]
fn close_completes_callbacks() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new()
        .segment_bytes(64 * 1024)
        .durability(Durability::Interval(Duration::from_secs(1000)));
    let log = Log::create(directory.path().join("log"), &options).unwrap();
    let done = Arc::new(AtomicUsize::new(0));
    for _ in 0..3 {
        let done = Arc::clone(&done);
        log.append(b"entry").unwrap().on_durable(move |result| {
            result.unwrap();
            done.fetch_add(1, Ordering::SeqCst);
        });
    }
    assert_eq!(done.load(Ordering::SeqCst), 0);
    log.close().unwrap();
    assert_eq!(done.load(Ordering::SeqCst), 3);
}

/// An executor of one future: parks its thread.
fn block_on<F: IntoFuture>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future.into_future());
    loop {
        match Future::poll(future.as_mut(), &mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park_timeout(Duration::from_secs(20)),
        }
    }
}

#[test]
fn ticket_can_be_awaited_on_any_executor() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new().segment_bytes(64 * 1024).durability(Durability::Barrier);
    let log = Log::create(directory.path().join("log"), &options).unwrap();
    for index in 0..20 {
        let ticket = log.append(b"awaited").unwrap();
        block_on(ticket).unwrap();
        assert_eq!(log.durable(), index + 1);
    }
}

#[test]
fn batches_are_written_while_a_sync_takes_long_and_share_the_next() {
    const FOR_EVER: Duration = Duration::from_secs(20);
    let (begun, has_begun) = mpsc::channel();
    let (end, may_end) = mpsc::channel();
    let held = Mutex::new(Some((begun, may_end)));
    // Holds up the first sync that is an append's own: nothing else syncs in that thread.
    let look = move |_: &SimDisk, op| {
        if op == Op::Sync
            && std::thread::current().name() == Some("slow")
            && let Some((begun, may_end)) = held.lock().unwrap().take()
        {
            begun.send(()).unwrap();
            may_end.recv_timeout(FOR_EVER).unwrap();
        }
    };
    let door = Tap::new(&SimDisk::new(1), Arc::new(look));
    let log = Log::create_in(Arc::new(door), &options(Durability::Always)).unwrap();
    std::thread::scope(|scope| {
        let slow = std::thread::Builder::new().name("slow".into());
        slow.spawn_scoped(scope, || log.append(b"synced slowly").unwrap()).unwrap();
        has_begun.recv_timeout(FOR_EVER).unwrap();
        let submit = |_| log.submit(Batch::new().append(b"meanwhile")).unwrap();
        let tickets: Vec<_> = (0..8).map(submit).collect();
        assert_eq!((log.durable(), log.next()), (0, 9), "the sync still runs");
        end.send(()).unwrap();
        for ticket in &tickets {
            ticket.wait().unwrap();
        }
    });
    assert_eq!((log.durable(), log.stats().syncs), (9, 2));
}

#[test]
fn threads_share_syncs() {
    let log = log_with_slow_syncs(&Options::new().segment_bytes(1 << 20));
    std::thread::scope(|scope| {
        for thread in 0..16_u64 {
            let log = &log;
            scope.spawn(move || {
                for number in 0..50_u64 {
                    let entry = (thread << 32 | number).to_le_bytes();
                    let ticket = log.append(&entry).unwrap();
                    assert!(ticket.is_durable());
                    assert!(log.durable() >= ticket.next());
                }
            });
        }
    });
    assert_eq!(log.durable(), 800);
    assert!(log.stats().syncs < 700, "{} syncs for 800 appends", log.stats().syncs);
    let mut last = [None; 16];
    for entry in &log.read(0..800).unwrap() {
        let value = u64::from_le_bytes(entry.try_into().unwrap());
        let (thread, number) = ((value >> 32) as usize, value & 0xffff_ffff);
        assert!(last[thread] < Some(number), "each thread's entries are in its order");
        last[thread] = Some(number);
    }
}

#[test]
pub(crate) fn failed_sync_poisons_and_only_a_reopen_clears_it() {
    for (seed, mode) in [(7, WriteMode::Mmap), (8, WriteMode::Pwrite), (11, WriteMode::Buffered)] {
        let disk = SimDisk::new(seed);
        let options = options(Durability::Always).write_mode(mode);
        let log = Log::create_in(Arc::new(disk.clone()), &options).unwrap();
        log.append(b"durable").unwrap();
        disk.fail_next(Op::Sync, Fault::Io, Repeat::Once);
        assert!(matches!(log.append(b"lost"), Err(Error::Io { op: "sync", .. })));
        // The next sync would report success; the log does not ask it.
        for _ in 0..2 {
            assert!(matches!(log.append(b"refused"), Err(Error::Poisoned { .. })));
            assert!(matches!(log.sync(), Err(Error::Poisoned { .. })));
        }
        assert!(log.stats().poisoned);
        assert_eq!(log.entry(0).unwrap(), b"durable", "what is durable can still be read");
        assert!(matches!(log.entry(1), Err(Error::Poisoned { .. })));
        assert!(matches!(log.close(), Err(Error::Poisoned { .. })));
        let (log, _) = Log::open_in(Arc::new(disk.kill()), &options).unwrap();
        assert_eq!(log.next(), 1, "the page cache was not believed");
        log.append(b"goes on").unwrap();
        assert_eq!(log.entry(1).unwrap(), b"goes on");
    }
}

#[test]
pub(crate) fn failed_sync_fails_everyone_who_waits_for_it() {
    let disk = SimDisk::new(9);
    let log = Log::create_in(Arc::new(disk.clone()), &options(Durability::Barrier)).unwrap();
    let answers = Arc::new(Mutex::new(Vec::new()));
    let tickets: Vec<_> = (0..4).map(|_| log.append(b"entry").unwrap()).collect();
    disk.fail_next(Op::Sync, Fault::Io, Repeat::Once);
    for ticket in &tickets {
        let answers = Arc::clone(&answers);
        ticket.clone().on_durable(move |result| answers.lock().unwrap().push(result));
    }
    assert!(log.sync().is_err());
    assert!(tickets.iter().all(|ticket| ticket.wait().is_err() && !ticket.is_durable()));
    let answers = answers.lock().unwrap();
    assert!(answers.len() == 4 && answers.iter().all(Result::is_err));
}

#[test]
pub(crate) fn watermark_moves_on_disk() {
    // Each frame states the newest batch that was durable when it was written.
    let disk = SimDisk::new(10);
    let log = Log::create_in(Arc::new(disk.clone()), &options(Durability::Always)).unwrap();
    for _ in 0..20 {
        log.append(b"entry").unwrap();
    }
    let image = disk.durable_image();
    let (_, segment) = image.iter().find(|(name, _)| name.ends_with(".seg")).unwrap();
    let header = indelible::format::SegmentHeader::decode(segment).unwrap();
    let salt = indelible::format::Salt::new(header.generation);
    let (mut at, mut stated) = (4096, Vec::new());
    let frame =
        |at: usize| indelible::format::frame::decode_frame(&segment[at..], &salt, at as u64).ok();
    while let Some((header, _, bytes)) = frame(at) {
        assert_eq!(header.durable_sequence(), header.sequence - 1);
        stated.push(header.durable_sequence());
        at += bytes;
    }
    assert_eq!(stated, (0..20).collect::<Vec<_>>());
}

/// A frame that cannot say how far it is ahead of what is durable states nothing.
#[test]
pub(crate) fn frame_far_ahead_of_what_is_durable_states_nothing() {
    const BATCHES: u64 = 65_540;
    let disk = SimDisk::new(11);
    let options = options(Durability::Barrier).segment_bytes(8 << 20).checkpoint_bytes(8 << 20);
    let log = Log::create_in(Arc::new(disk.clone()), &options).unwrap();
    for _ in 0..BATCHES {
        log.append(b"").unwrap();
    }
    log.hand_over().unwrap();
    let image = disk.image();
    let (_, segment) = image.iter().find(|(name, _)| name.ends_with(".seg")).unwrap();
    let header = indelible::format::SegmentHeader::decode(segment).unwrap();
    let salt = indelible::format::Salt::new(header.generation);
    let (mut at, mut seen) = (4096, 0);
    while let Ok(frame) = indelible::format::frame::peek_header(&segment[at..], &salt, at as u64) {
        assert_eq!(frame.durable_sequence(), 0, "batch {}", frame.sequence);
        (at, seen) = (at + frame.frame_bytes(), frame.sequence);
    }
    assert_eq!(seen, BATCHES);
}

/// Nothing is durable that a failed close could not make durable, however often it is asked.
#[test]
fn close_answers_what_the_first_one_did() {
    let disk = SimDisk::new(1);
    let log = Log::create_in(Arc::new(disk.clone()), &options(Durability::Barrier)).unwrap();
    log.append(b"lost").unwrap();
    disk.fail_next(Op::Sync, Fault::Io, Repeat::Once);
    assert!(matches!(log.close(), Err(Error::Io { .. })));
    assert!(matches!(log.close(), Err(Error::Io { .. })));
    assert_eq!(reopened_after_power_cut(&disk).next(), 0);

    let log = Log::in_memory(&options(Durability::Barrier)).unwrap();
    log.close().unwrap();
    log.close().unwrap();
}

/// What a commit in the slots made durable on its way is read like anything that is.
#[test]
fn entries_after_a_commit_in_the_slots_are_read_from_a_poisoned_log() {
    let disk = SimDisk::new(1);
    let options = options(Durability::Barrier).write_mode(WriteMode::Buffered);
    let log = Log::create_in(Arc::new(disk.clone()), &options).unwrap();
    log.append(&[1; 3000]).unwrap();
    log.sync().unwrap();
    log.append(&[2; 300]).unwrap();
    disk.set_capacity(Some(disk.used()));
    log.commit(Batch::new().set("promise", vec![7; 1000])).unwrap();
    assert_eq!((log.stats().slot_commits, log.durable()), (1, 2));
    disk.set_capacity(None);
    disk.fail_next(Op::Create, Fault::Io, Repeat::Once);
    log.append(&[3; 2000]).unwrap_err();
    assert!(log.stats().poisoned);
    assert_eq!(log.read_to_vec(0..2).unwrap(), [vec![1; 3000], vec![2; 300]]);
}

/// A callback is outside every lock: it may do what any caller may, and be the last who has the log.
#[test]
fn callback_may_use_the_log_and_drop_it() {
    let uses: [fn(Log); 4] = [
        |log| log.maintain().unwrap(),
        |log| log.append(&[1; 3000]).unwrap().wait().unwrap(),
        |log| log.close().unwrap(),
        drop,
    ];
    for act in uses {
        let options = Options::new()
            .tiny_segments(8192)
            .durability(Durability::Interval(Duration::from_secs(3600)))
            .idle_checkpoint(Duration::from_millis(20));
        let log = Log::create_in(Arc::new(SimDisk::new(1)), &options).unwrap();
        let ticket = log.append(b"first").unwrap();
        let (called, call) = mpsc::channel();
        // The checkpoint of the idle log calls back.
        ticket.on_durable(move |result| {
            result.unwrap();
            act(log);
            called.send(()).unwrap();
        });
        call.recv_timeout(Duration::from_secs(20)).unwrap();
    }
}

#[test]
fn callback_that_panics_keeps_no_other_from_being_called() {
    let disk = SimDisk::new(1);
    let options = options(Durability::Interval(Duration::from_millis(50))).background(true);
    let log = Log::create_in(Arc::new(disk), &options).unwrap();
    let (called, call) = mpsc::channel();
    for number in 0..3 {
        let called = called.clone();
        log.append(b"x").unwrap().on_durable(move |_| {
            assert!(number > 0, "a callback that panics, as it has to in this test");
            called.send(number).unwrap();
        });
    }
    let next = || call.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!((next(), next()), (1, 2));
    while !log.stats().poisoned {
        std::thread::yield_now();
    }
    // A host that did not take in what became durable goes on from a reopen.
    let refused = log.append(b"y").map(drop).unwrap_err();
    assert!(matches!(refused, Error::Poisoned { .. }), "{refused}");
}

/// Whoever syncs goes on, and so does the next callback.
#[test]
pub(crate) fn callback_that_panics_in_a_sync_poisons_the_log() {
    let options = options(Durability::Barrier);
    let log = Log::create_in(Arc::new(SimDisk::new(1)), &options).unwrap();
    let (called, call) = mpsc::channel();
    let ticket = log.append(b"x").unwrap();
    ticket.clone().on_durable(|_| panic!("a callback that panics, as it has to in this test"));
    ticket.on_durable(move |result| called.send(result.is_ok()).unwrap());
    let _synced = log.sync();
    assert!(call.try_recv().unwrap());
    assert!(matches!(log.append(b"y"), Err(Error::Poisoned { .. })));
}

/// Nobody waits for this batch but its callback, and nobody syncs for an hour.
#[test]
fn callback_hears_of_a_failure_that_a_reader_met() {
    let disk = SimDisk::new(1);
    let options = Options::new()
        .tiny_segments(8192)
        .write_mode(WriteMode::Buffered)
        .durability(Durability::Interval(Duration::from_secs(3600)))
        .idle_checkpoint(Duration::from_secs(3600));
    let log = Log::create_in(Arc::new(disk.clone()), &options).unwrap();
    while log.stats().spares == 0 {
        std::thread::yield_now();
    }
    let (called, call) = mpsc::channel();
    log.append(b"x").unwrap().on_durable(move |result| called.send(result).unwrap());
    disk.fail_next(Op::Write, Fault::Io, Repeat::Once);
    log.read(0..1).unwrap_err();
    let heard = call.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(matches!(heard, Err(Error::Poisoned { .. })), "{heard:?}");
}

/// They are registered the other way round.
#[test]
fn callbacks_hear_of_a_failure_in_the_order_of_their_batches() {
    let hour = Duration::from_secs(3600);
    let options = options(Durability::Interval(hour)).background(true).idle_checkpoint(hour);
    for _ in 0..100 {
        let disk = SimDisk::new(1);
        let log = Log::create_in(Arc::new(disk.clone()), &options).unwrap();
        while log.stats().spares == 0 {
            std::thread::yield_now();
        }
        let (first, second) = (log.append(b"x").unwrap(), log.append(b"y").unwrap());
        let (called, call) = mpsc::channel();
        for ticket in [second, first] {
            let (called, sequence) = (called.clone(), ticket.sequence());
            ticket.on_durable(move |result| called.send((sequence, result.is_ok())).unwrap());
        }
        disk.fail_next(Op::Sync, Fault::Io, Repeat::Once);
        drop(called);
        // The flusher looks once when it starts. Where that was late, there is nothing to sync.
        if log.sync().is_err() && log.stats().syncs == 0 {
            assert_eq!(call.iter().collect::<Vec<_>>(), [(1, false), (2, false)]);
            return;
        }
    }
    panic!("the flusher was late a hundred times");
}

#[test]
fn all_of_a_log_in_memory_is_durable_whoever_maintains_it() {
    let log = Log::in_memory(&Options::new()).unwrap();
    std::thread::scope(|scope| {
        let (log, stop) = (&log, Arc::new(AtomicUsize::new(0)));
        let stopped = Arc::clone(&stop);
        scope.spawn(move || {
            while stopped.load(Ordering::Relaxed) == 0 {
                log.maintain().unwrap();
            }
        });
        for _ in 0..20_000 {
            log.append(b"x").unwrap();
            assert_eq!(log.durable(), log.next());
        }
        stop.store(1, Ordering::Relaxed);
    });
}

/// Frames and the witness that goes with their sync stand in different blocks, and are one write.
#[test]
fn synced_append_is_one_write_and_one_sync() {
    let disk = SimDisk::new(1);
    let options = Options::new().background(false).write_mode(WriteMode::Buffered);
    let log = Log::create_in(Arc::new(disk.clone()), &options).unwrap();
    log.append(&[1; 300]).unwrap();
    let before = disk.counts();
    for _ in 0..40 {
        log.append(&[1; 300]).unwrap();
    }
    let after = disk.counts();
    assert_eq!((after.writes - before.writes, after.syncs - before.syncs), (40, 40));
}
