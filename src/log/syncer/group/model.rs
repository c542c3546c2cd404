//! Group commit under loom: every order in which a few threads can write, lead, wait, call back
//! and fail. The disk is two numbers: what was written, and what is on media.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --lib --target-dir target/loom model`
//!
//! Checked: nobody hears that its batch is durable before it is on media (INV-6), with no help from
//! any other lock; nobody waits for ever (loom reports a deadlock); callbacks run once each, in the
//! order of their batches; after a failure everybody is told.

use std::time::Duration;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use super::{Group, Next};
use crate::error::{Error, Result};
use crate::primitives::Mutex;

struct Disk {
    group: Group,
    writer: Mutex<u64>,
    /// Relaxed on purpose: what a thread may rely on has to come through the group.
    media: AtomicU64,
    broken: bool,
}

impl Disk {
    fn new(broken: bool) -> Arc<Self> {
        let (writer, media) = (Mutex::new(0), AtomicU64::new(0));
        Arc::new(Self { group: Group::new(0), writer, media, broken })
    }

    fn write(&self) -> u64 {
        let mut writer = self.writer.lock();
        *writer += 1;
        self.group.note_written(*writer);
        *writer
    }

    /// As `Shared::lead`.
    fn lead(&self, turn: super::Turn<'_>) -> Result<()> {
        let stock = *self.writer.lock();
        turn.took_stock(stock);
        if self.broken {
            self.group.wake_everyone();
            drop(turn);
            self.group.fail_all(&Error::Closed);
            self.group.call_back();
            return Err(Error::Closed);
        }
        self.media.store(stock, Ordering::Relaxed);
        turn.finish(stock, Duration::ZERO);
        self.group.call_back();
        Ok(())
    }

    /// As `Shared::wait_durable`.
    fn wait(&self, sequence: u64) -> Result<()> {
        loop {
            match self.group.wait(sequence) {
                Next::Durable => break,
                Next::Lead(turn) => self.lead(turn)?,
                Next::LookAgain if self.broken => return Err(Error::Closed),
                Next::LookAgain => {}
            }
        }
        assert!(self.media.load(Ordering::Relaxed) >= sequence, "{sequence} is not on media");
        Ok(())
    }
}

fn explore(threads: usize, act: fn(&Disk)) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let disk = Disk::new(false);
        let others: Vec<_> = (1..threads)
            .map(|_| {
                let disk = Arc::clone(&disk);
                thread::spawn(move || act(&disk))
            })
            .collect();
        act(&disk);
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

fn commit(disk: &Disk) {
    let sequence = disk.write();
    disk.wait(sequence).unwrap();
}

#[test]
fn two_threads_that_commit_twice_are_told_the_truth() {
    explore(2, |disk| {
        commit(disk);
        commit(disk);
    });
}

#[test]
fn three_threads_that_commit_are_told_the_truth() {
    explore(3, commit);
}

#[test]
fn checkpoint_takes_its_turn_among_those_who_wait() {
    loom::model(|| {
        let disk = Disk::new(false);
        let other = {
            let disk = Arc::clone(&disk);
            thread::spawn(move || {
                let turn = disk.group.turn();
                disk.lead(turn).unwrap();
            })
        };
        commit(&disk);
        other.join().unwrap();
    });
}

#[test]
fn callbacks_run_once_each_in_order() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(|| {
        let disk = Disk::new(false);
        let called = Arc::new(Mutex::new(Vec::new()));
        let act = |disk: &Disk, called: &Arc<Mutex<Vec<u64>>>| {
            let sequence = {
                let mut writer = disk.writer.lock();
                *writer += 1;
                let sequence = *writer;
                disk.group.note_written(sequence);
                let called = Arc::clone(called);
                let note = Box::new(move |result: Result<()>| {
                    result.unwrap();
                    called.lock().push(sequence);
                });
                assert!(disk.group.register(sequence, note, || Ok(())), "nobody synced it yet");
                sequence
            };
            disk.wait(sequence).unwrap();
        };
        let other = {
            let (disk, called) = (Arc::clone(&disk), Arc::clone(&called));
            thread::spawn(move || act(&disk, &called))
        };
        act(&disk, &called);
        other.join().unwrap();
        assert_eq!(*called.lock(), [1, 2]);
    });
}

#[test]
fn everybody_hears_of_a_failure() {
    loom::model(|| {
        let disk = Disk::new(true);
        let other = {
            let disk = Arc::clone(&disk);
            thread::spawn(move || {
                let sequence = disk.write();
                assert!(disk.wait(sequence).is_err());
            })
        };
        let sequence = disk.write();
        assert!(disk.wait(sequence).is_err());
        other.join().unwrap();
    });
}
