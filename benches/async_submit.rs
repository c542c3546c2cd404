//! How long a call that writes holds up an executor's thread, and what it ever waits for there: what
//! async hosts call for each entry of 256 bytes, through many rolls.
//!
//! - the log: so many tasks, each of which submits an entry and awaits its ticket;
//! - the store for openraft 0.10: one task, so many appends whose callbacks have not come yet;
//! - the storage of `OmniPaxos`: one task, so many entries per turn, then `StorageHandle::binding`.
//!
//! `cargo bench -p indelible-benches --bench async_submit`

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

#[path = "../examples/support/command.rs"]
#[expect(dead_code, reason = "no node is built here")]
mod command;
#[path = "../adapters/openraft/examples/hosts/openraft_010.rs"]
#[expect(dead_code, reason = "no node is built here")]
mod kv_010;
mod support;

use std::collections::VecDeque;
use std::future::{Future, IntoFuture, poll_fn};
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use indelible::omnipaxos::LogStorage;
use indelible::{Batch, Durability, Log, Options};
use indelible_openraft::v010::LogStore;
use omnipaxos::storage::Storage as _;
use openraft_010::storage::{IOFlushed, RaftLogStorage as _};
use openraft_010::type_config::TypeConfigExt as _;
use openraft_010::type_config::alias::LogIdOf;
use openraft_010::vote::RaftLeaderIdExt as _;
use openraft_010::{EntryPayload, RaftTypeConfig};

type Failed = Box<dyn std::error::Error + Send + Sync>;

const ENTRY_BYTES: usize = 256;
const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;

/// How long an executor's thread was held up.
#[derive(Default)]
struct Held {
    /// By each call that writes.
    calls: Vec<Duration>,
    /// By the longest poll of what is awaited after it.
    poll: Duration,
}

impl Held {
    fn add(&mut self, other: Self) {
        self.calls.extend(other.calls);
        self.poll = self.poll.max(other.poll);
    }

    fn call<T>(&mut self, write: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let written = write();
        self.calls.push(start.elapsed());
        written
    }

    async fn wait<F: IntoFuture>(&mut self, awaited: F) -> F::Output {
        let mut awaited = pin!(awaited.into_future());
        poll_fn(|context| {
            let start = Instant::now();
            let polled = awaited.as_mut().poll(context);
            self.poll = self.poll.max(start.elapsed());
            polled
        })
        .await
    }
}

/// Submits and awaits so many entries, one after the other.
async fn submit(log: Log, entries: usize) -> Result<Held, Failed> {
    let mut held = Held::default();
    for _ in 0..entries {
        let mut batch = Batch::new();
        batch.append([7; ENTRY_BYTES].as_slice());
        let ticket = held.call(|| log.submit(&batch))?;
        held.wait(ticket).await?;
    }
    Ok(held)
}

async fn log(log: Log, tasks: usize, entries: usize) -> Result<Held, Failed> {
    let mut held = Held::default();
    let all = (0..tasks).map(|_| tokio::spawn(submit(log.clone(), entries)));
    for task in try_join_all(all).await? {
        held.add(task?);
    }
    Ok(held)
}

async fn openraft(log: Log, pending_max: usize, entries: usize) -> Result<Held, Failed> {
    let mut store = LogStore::<kv_010::Types>::open(log)?;
    let (mut held, mut pending) = (Held::default(), VecDeque::new());
    for index in 0..u64::try_from(entries * pending_max)? {
        let leader = <kv_010::Types as RaftTypeConfig>::LeaderId::new_committed(1, 0);
        let set = kv_010::Set { key: String::new(), value: "x".repeat(ENTRY_BYTES) };
        let log_id = LogIdOf::<kv_010::Types>::new(leader, index);
        let entry = openraft_010::Entry { log_id, payload: EntryPayload::Normal(set) };
        let (durable, callback) = kv_010::Types::oneshot();
        // It awaits nothing, so all of it is one poll.
        let start = Instant::now();
        store.append([entry], IOFlushed::signal(durable)).await?;
        held.calls.push(start.elapsed());
        pending.push_back(callback);
        if pending.len() == pending_max
            && let Some(oldest) = pending.pop_front()
        {
            held.wait(oldest).await??;
        }
    }
    for callback in pending {
        held.wait(callback).await??;
    }
    Ok(held)
}

async fn omnipaxos(log: Log, per_turn: usize, turns: usize) -> Result<Held, Failed> {
    let mut storage: LogStorage<command::Command, command::Bytes> = LogStorage::from_log(log)?;
    let (mut held, handle) = (Held::default(), storage.handle());
    for _ in 0..turns {
        for _ in 0..per_turn {
            let entry = command::Command(vec![7; ENTRY_BYTES]);
            held.call(|| storage.append_entry(entry)).map_err(|error| error.to_string())?;
        }
        if let Some(binding) = handle.binding() {
            held.wait(binding).await?;
        }
    }
    Ok(held)
}

fn print(name: &str, tasks: usize, held: Held, log: &Log) {
    let mut calls = held.calls;
    calls.sort_unstable();
    let at = |per_mille: usize| {
        let at = (calls.len() * per_mille / 1000).min(calls.len() - 1);
        format!("{:.1?}", calls.get(at).copied().unwrap_or_default())
    };
    let (p50, p99, p999, longest) = (at(500), at(990), at(999), at(1000));
    let (poll, stats) = (format!("{:.1?}", held.poll), log.stats());
    println!(
        "{name:<14}{tasks:>6}{:>10}{p50:>10}{p99:>10}{p999:>10}{longest:>10}{poll:>14}{:>8}{:>15}",
        calls.len(),
        stats.rolls,
        stats.preparer_behind
    );
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failed> {
    let entries = if support::is_test() { 16 } else { 2000 };
    println!(
        "{:<14}{:>6}{:>10}{:>10}{:>10}{:>10}{:>10}{:>14}{:>8}{:>15}",
        "", "tasks", "calls", "p50", "p99", "p99.9", "longest", "longest poll", "rolls", "in line"
    );
    for tasks in [1, 16, 128] {
        for host in ["log", "openraft 0.10", "OmniPaxos"] {
            let directory = support::directory();
            let options = Options::new().segment_bytes(SEGMENT_BYTES);
            let options = match host {
                "OmniPaxos" => options.durability(Durability::Barrier),
                _ => options,
            };
            let log = Log::create(directory.path().join("log"), &options)?;
            let held = match host {
                "log" => self::log(log.clone(), tasks, entries).await?,
                "OmniPaxos" => omnipaxos(log.clone(), tasks, entries).await?,
                _ => openraft(log.clone(), tasks, entries).await?,
            };
            print(host, tasks, held, &log);
        }
    }
    Ok(())
}
