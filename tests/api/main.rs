//! The engine through its public API, on a real directory and in memory.

use indelible::{Batch, Error, Log, Options, Verdict};

mod concurrency;
mod limits;
#[path = "../support/process.rs"]
mod process;
mod refusals;
mod truncation;

fn options() -> Options {
    Options::new().segment_bytes(64 * 1024)
}

#[test]
fn what_was_appended_is_read_back_after_close_and_open() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let log = Log::create(&path, &options()).unwrap();
    for index in 0..1000_u64 {
        log.append(format!("entry {index}").as_bytes()).unwrap();
    }
    assert_eq!((log.first(), log.next(), log.durable()), (0, 1000, 1000));
    log.close().unwrap();
    assert!(matches!(log.append(b"x"), Err(Error::Closed)));
    let (log, report) = Log::open(&path, &options()).unwrap();
    assert_eq!(report.verdict, Verdict::Clean);
    let entries = log.read(0..1000).unwrap();
    for (index, entry) in entries.iter().enumerate() {
        assert_eq!(entry, format!("entry {index}").as_bytes());
    }
    assert_eq!(entries.iter().count(), 1000);
}

#[test]
fn a_dropped_log_is_closed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let log = Log::create(&path, &options()).unwrap();
    log.append(b"one").unwrap();
    assert!(matches!(Log::open(&path, &options()), Err(Error::Locked { .. })));
    drop(log);
    let (log, report) = Log::open(&path, &options()).unwrap();
    assert_eq!(report.verdict, Verdict::Clean);
    assert_eq!(log.entry(0).unwrap(), b"one");
}

#[test]
fn a_batch_larger_than_a_segment_commits_as_one() {
    for options in [options(), options().background(false)] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let log = Log::create(&path, &options).unwrap();
        let entry = vec![7; 10_000];
        let mut batch = Batch::new();
        batch.set("promise", b"p1");
        for _ in 0..100 {
            batch.append(&entry);
        }
        log.commit(&batch).unwrap();
        assert!(log.stats().rolls > 10);
        assert_eq!(log.stats().syncs, 1);
        let mut batch = Batch::new();
        batch.truncate(3).append(b"three");
        log.commit(&batch).unwrap();
        assert_eq!(log.next(), 4);
        assert_eq!(log.entry(3).unwrap(), b"three");
        assert_eq!(log.entry(2).unwrap(), entry);
        drop(log);
        let (log, _) = Log::open(&path, &options).unwrap();
        assert_eq!(log.read_to_vec(0..4).unwrap()[3], b"three");
        assert_eq!(log.cell("promise").as_deref(), Some(&b"p1"[..]));
    }
}

#[test]
fn a_log_in_memory_behaves_the_same() {
    let log = Log::in_memory(&Options::new().segment_bytes(64 * 1024)).unwrap();
    let mut batch = Batch::new();
    batch.reset(10).append(b"ten").append(b"eleven");
    log.commit(&batch).unwrap();
    assert_eq!((log.first(), log.next()), (10, 12));
    assert_eq!(log.read_to_vec(10..12).unwrap(), [b"ten".to_vec(), b"eleven".to_vec()]);
    for _ in 0..1000 {
        log.append(&[0; 500]).unwrap();
    }
    let mut batch = Batch::new();
    batch.trim(1000);
    log.commit(&batch).unwrap();
    assert_eq!(log.entry(1000).unwrap().len(), 500);
}

#[test]
fn a_callback_comes_without_threads_too() {
    for options in [options(), options().background(false)] {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::create(directory.path().join("log"), &options).unwrap();
        let mut batch = Batch::new();
        batch.append(b"later");
        let ticket = log.submit(&batch).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        ticket.clone().on_durable(move |result| sender.send(result).unwrap());
        receiver.recv().unwrap().unwrap();
        assert!(ticket.is_durable());
    }
}
