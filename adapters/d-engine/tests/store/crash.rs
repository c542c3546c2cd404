//! Crashes and failures at every call of the I/O door, on the simulated disk.
//!
//! Every call of the host is one batch, so what a storage holds after a crash must be what it held
//! after one of its calls: none earlier than the last that was durable, none later than the one in
//! progress. That one sentence says that hard state and purge boundary never regress, that truncated
//! entries never return, that acknowledged entries never vanish, and that no call is half done.

use std::io::ErrorKind;
use std::sync::Arc;

use d_engine_core::{Error, LogStore, MetaStore, StorageEngine};
use d_engine_proto::common::LogId;
use indelible::Log;
use indelible::io::sim::{Fault, Moment, Op, Persistence, Repeat, SimDisk};
use indelible_d_engine::{DEngineStorage, Options, cause};
use tempfile::TempDir;

use crate::contents::{Contents, contents, entries, vote};
use crate::contract::kind;
use crate::model::{Call, Random};

const STEPS: u64 = 40;
/// Fewest calls of the door that a run of that many steps must give to stop at.
const CALLS_MIN: u64 = 100;

fn options() -> Options {
    Options::new().tiny_segments(8 * 1024).background(false)
}

fn term(step: u64) -> u64 {
    1 + step / 6
}

fn create_on(disk: &SimDisk) -> Result<DEngineStorage, Error> {
    let log = Log::create_in(Arc::new(disk.clone()), &options());
    DEngineStorage::from_log(log.map_err(|error| Error::Fatal(error.to_string()))?)
}

fn open_on(disk: &SimDisk) -> DEngineStorage {
    let (log, _report) = Log::open_in(Arc::new(disk.clone()), &options()).unwrap();
    DEngineStorage::from_log(log).unwrap()
}

/// How many calls of the door the seeded sequence of calls makes if nothing goes wrong.
async fn calls_of(seed: u64) -> u64 {
    let disk = SimDisk::new(seed);
    let run = Run::on(&disk, seed).await;
    assert_eq!(
        run.states.len(),
        usize::try_from(STEPS).unwrap() + 1,
        "seed {seed} failed by itself"
    );
    assert!(disk.calls() >= CALLS_MIN, "{} calls", disk.calls());
    disk.calls()
}

/// What a run did before its disk stopped.
struct Run {
    /// What was held at first and after every call that was begun.
    states: Vec<Contents>,
    /// The state of the last call that was durable.
    durable: usize,
    /// Whether the storage was there at all before the disk stopped.
    created: bool,
}

impl Run {
    /// Makes a seeded sequence of calls on an empty disk, until one fails.
    async fn on(disk: &SimDisk, seed: u64) -> Self {
        let mut run = Self { states: vec![Contents::default()], durable: 0, created: false };
        let Ok(storage) = create_on(disk) else { return run };
        run.created = true;
        let mut random = Random::new(seed);
        for step in 0..STEPS {
            let now = run.states.last().unwrap();
            let call = Call::random(&mut random, now, term(step));
            run.states.push(call.apply(now));
            if call.make(&storage).await.is_err() {
                break;
            }
            if call.is_durable_on_return() {
                run.durable = run.states.len() - 1;
            }
        }
        run
    }

    fn summaries(&self, least: usize) -> Vec<String> {
        self.states.iter().skip(least).map(Contents::summary).collect()
    }

    /// Opens what is left, checks it against the states from `least` on, and goes on from there.
    async fn check(&self, left: &SimDisk, least: usize, what: &str) {
        if !self.created {
            let opened = Log::open_or_create_in(Arc::new(left.clone()), &options());
            let storage = DEngineStorage::from_log(opened.unwrap().0).unwrap();
            assert_eq!(contents(&storage), Contents::default(), "{what}");
            return;
        }
        let storage = open_on(left);
        let mut found = contents(&storage);
        let known = self.states.get(least..).unwrap().contains(&found);
        assert!(known, "{what}: {} is none of {:?}", found.summary(), self.summaries(least));

        let mut random = Random::new(1);
        for step in 0..3 {
            let call = Call::random(&mut random, &found, term(STEPS + step));
            call.make(&storage).await.unwrap();
            found = call.apply(&found);
        }
        storage.log_store().flush().unwrap();
        drop(storage);
        let again = left.crash_with(Persistence::Nothing);
        assert_eq!(contents(&open_on(&again)), found, "{what}, three calls on");
    }
}

#[tokio::test]
async fn power_cut_at_every_call_leaves_a_state_since_the_last_durable_one() {
    for seed in 0..4 {
        for call in 1..=calls_of(seed).await {
            for moment in [Moment::Before, Moment::Within] {
                let disk = SimDisk::new(seed);
                disk.crash_at_call(call, moment);
                let run = Run::on(&disk, seed).await;
                assert!(disk.is_down(), "call {call} was never made");
                for left in
                    [Persistence::Nothing, Persistence::Everything, Persistence::Random(call)]
                {
                    let what = format!("seed {seed}, call {call}, {moment:?}, {left:?}");
                    run.check(&disk.crash_with(left), run.durable, &what).await;
                }
            }
        }
    }
}

/// What is not flushed is in the memory of the process (`WriteMode::Buffered`).
#[tokio::test]
async fn killed_process_loses_nothing_that_was_durable() {
    for seed in 10..14 {
        for call in 1..=calls_of(seed).await {
            let disk = SimDisk::new(seed);
            disk.crash_at_call(call, Moment::Within);
            let run = Run::on(&disk, seed).await;
            run.check(&disk.kill(), run.durable, &format!("seed {seed}, call {call}")).await;
        }
    }
}

#[tokio::test]
async fn failed_call_of_the_disk_leaves_a_state_since_the_last_durable_one() {
    for seed in 20..24 {
        for call in 1..=calls_of(seed).await {
            for fault in [Fault::Io, Fault::IoPartial, Fault::ReadOnly] {
                let disk = SimDisk::new(seed);
                disk.fail_call(call, fault, Repeat::Once);
                let run = Run::on(&disk, seed).await;
                let what = format!("seed {seed}, call {call}, {fault:?}");
                run.check(&disk.crash_with(Persistence::Nothing), run.durable, &what).await;
                disk.clear_faults();
                run.check(&disk.kill(), run.durable, &what).await;
            }
        }
    }
}

#[tokio::test]
async fn after_a_failed_flush_every_write_is_refused_as_fatal() {
    let disk = SimDisk::new(1);
    let storage = create_on(&disk).unwrap();
    let log = storage.log_store();
    log.persist_entries(entries(1..=5, 1)).await.unwrap();
    log.flush().unwrap();
    log.persist_entries(entries(6..=9, 1)).await.unwrap();
    disk.fail_next(Op::Sync, Fault::Io, Repeat::Once);
    assert!(log.flush().unwrap_err().is_fatal());
    assert!(log.flush().unwrap_err().is_fatal(), "the kernel would say ok now");
    assert!(log.persist_entries(entries(10..=10, 1)).await.unwrap_err().is_fatal());
    assert!(storage.meta_store().save_hard_state(&vote(1, 1)).unwrap_err().is_fatal());
    drop((log, storage));
    let last = open_on(&disk.kill()).log_store().last_index();
    assert!((5..=9).contains(&last), "{last}");
}

#[tokio::test]
async fn full_disk_is_retried_and_leaves_hard_state_and_purge_working() {
    let disk = SimDisk::new(2);
    let storage = create_on(&disk).unwrap();
    let log = storage.log_store();
    disk.set_capacity(Some(disk.used()));
    let mut last = 0;
    let refused = loop {
        match log.persist_entries(entries(last + 1..=last + 10, 1)).await {
            Ok(()) => last += 10,
            Err(error) => break error,
        }
    };
    assert_eq!(kind(&refused), Some(ErrorKind::StorageFull), "{refused:?}");
    assert!(matches!(cause(&refused), Some(indelible::Error::DiskFull { .. })));
    assert!(!refused.is_fatal());
    assert_eq!(log.last_index(), last);
    storage.meta_store().save_hard_state(&vote(3, 1)).unwrap();
    log.purge(LogId { index: last / 2, term: 1 }).await.unwrap();
    disk.set_capacity(None);
    log.persist_entries(entries(last + 1..=last + 10, 1)).await.unwrap();
    log.flush().unwrap();
    drop((log, storage));
    let found = contents(&open_on(&disk.crash_with(Persistence::Nothing)));
    assert_eq!(found.entries, entries(last / 2 + 1..=last + 10, 1));
    assert_eq!(found.hard_state, Some((3, vote(3, 1).voted_for)));
}

#[tokio::test]
async fn calls_do_what_the_model_says() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let storage = DEngineStorage::from_log(Log::in_memory(&options()).unwrap()).unwrap();
        let mut expected = Contents::default();
        for step in 0..150 {
            let call = Call::random(&mut random, &expected, term(step));
            call.make(&storage).await.unwrap();
            expected = call.apply(&expected);
            assert_eq!(contents(&storage), expected, "seed {seed}, step {step}: {call:?}");
        }
    }
}

#[tokio::test]
async fn reopening_after_every_call_changes_nothing() {
    let directory = TempDir::new().unwrap();
    let mut random = Random::new(7);
    let mut expected = Contents::default();
    for step in 0..120 {
        let storage = DEngineStorage::open_or_create(directory.path(), &options()).unwrap();
        assert_eq!(contents(&storage), expected, "step {step}");
        let call = Call::random(&mut random, &expected, term(step));
        call.make(&storage).await.unwrap();
        expected = call.apply(&expected);
        assert_eq!(contents(&storage), expected, "step {step}: {call:?}");
    }
}
