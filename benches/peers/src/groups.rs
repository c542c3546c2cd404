//! Many consensus groups in one log: ours beside raft-engine, which keeps them natively.
//!
//! Owns: the works on groups. Does not own: turns and medians (`grid`).
//!
//! - durable: single entries, one group after the other, by 1, 16 and 64 threads over 1, 16, 256 and
//!   4 096 groups; and how many syncs of the log a commit takes, which does not depend on what else the
//!   machine does;
//! - turn: one durable batch with an entry for each of so many groups;
//! - unsynced: one thread over 256 groups;
//! - mixed: 256 groups that trim, one in sixteen of which lags; then space, and what an open takes.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

use indelible::{Batch, Durability, Options};
use indelible_groups::{Group, GroupBatch, Groups, GroupsOptions};
use protobuf::well_known_types::BytesValue;
use raft_engine::{Config, Engine, LogBatch};

use crate::grid::{Grid, Table, order};
use crate::peer::Outcome;
use crate::peers::raft_engine::Indexed;
use crate::work::{Payloads, Plan, files, remove};

const GROUPS: [usize; 4] = [1, 16, 256, 4096];
const THREADS: [usize; 3] = [1, 16, 64];
const OURS: &str = "indelible groups";
const THEIRS: &str = "raft-engine";
/// Entries that a group keeps in the mixed work, and that one keeps that lags.
const KEPT: u64 = 100;
const KEPT_LAGGING: u64 = 1000;

/// Groups in one log. Any thread appends to any of them.
trait Many: Sync {
    /// Appends an entry to a group.
    fn append(&self, group: usize, entry: &[u8], durable: bool) -> Outcome<()>;
    /// Appends an entry to each of the first groups, durably, at once.
    fn turn(&self, groups: usize, entry: &[u8]) -> Outcome<()>;
    /// Leaves so many entries in a group.
    fn keep(&self, group: usize, entries: u64) -> Outcome<()>;
    /// What a host has to call now and then so that space comes back.
    fn purge(&self) -> Outcome<()>;
    /// Gives back what can be given back.
    fn maintain(&self) -> Outcome<()>;
    /// Syncs of the log so far.
    fn syncs(&self) -> u64;
}

struct Ours {
    groups: Groups,
    handles: Vec<Group>,
}

impl Ours {
    fn open(dir: &Path) -> Outcome<Self> {
        let log = Options::new().durability(Durability::Barrier);
        let groups = Groups::open_or_create(dir.join("log"), &GroupsOptions::new().log(log))?;
        let count = *GROUPS.iter().max().unwrap_or(&1) as u64;
        let handles = (0..count).map(|id| groups.open_or_create_group(id));
        let handles = handles.collect::<indelible::Result<_>>()?;
        groups.sync()?;
        Ok(Self { groups, handles })
    }
}

impl Many for Ours {
    fn append(&self, group: usize, entry: &[u8], durable: bool) -> Outcome<()> {
        let ticket = self.handles[group].append(entry)?;
        if durable {
            ticket.wait()?;
        }
        Ok(())
    }

    fn turn(&self, groups: usize, entry: &[u8]) -> Outcome<()> {
        let mut one = Batch::new();
        one.append(entry);
        let mut all = GroupBatch::new();
        for group in 0..groups as u64 {
            all.change(group, &one);
        }
        Ok(self.groups.submit(&all)?.wait()?)
    }

    fn keep(&self, group: usize, entries: u64) -> Outcome<()> {
        let group = &self.handles[group];
        let mut batch = Batch::new();
        batch.trim(group.next().saturating_sub(entries).max(group.first()));
        group.submit(&batch)?;
        Ok(())
    }

    fn purge(&self) -> Outcome<()> {
        // Beside writes, by themselves.
        Ok(())
    }

    fn maintain(&self) -> Outcome<()> {
        Ok(self.groups.maintain()?)
    }

    fn syncs(&self) -> u64 {
        self.groups.stats().log.syncs
    }
}

struct Theirs {
    engine: Engine,
    next: Vec<AtomicU64>,
    /// Its caller gives an entry its index. So the caller has to see to it that two threads do not write
    /// to one group out of order: one after the other. A group of ours gives the index itself.
    turns: Vec<Mutex<()>>,
}

impl Theirs {
    fn open(dir: &Path) -> Outcome<Self> {
        let config = Config { dir: dir.to_string_lossy().into_owned(), ..Config::default() };
        let engine = Engine::open(config)?;
        let count = *GROUPS.iter().max().unwrap_or(&1) as u64;
        let next = |group| AtomicU64::new(engine.last_index(group).map_or(0, |last| last + 1));
        let next = (0..count).map(next).collect();
        let turns = (0..count).map(|_| Mutex::new(())).collect();
        Ok(Self { engine, next, turns })
    }

    fn add(&self, batch: &mut LogBatch, group: usize, entry: &[u8]) -> Outcome<()> {
        let index = self.next[group].fetch_add(1, Ordering::Relaxed);
        let mut value = entry.to_vec();
        value[..8].copy_from_slice(&index.to_le_bytes());
        let message = BytesValue { value, ..BytesValue::default() };
        Ok(batch.add_entries::<Indexed>(group as u64, &[message])?)
    }
}

impl Many for Theirs {
    fn append(&self, group: usize, entry: &[u8], durable: bool) -> Outcome<()> {
        // Where nothing is synced one thread writes.
        let turn = durable.then(|| self.turns[group].lock());
        let _turn = turn.transpose().map_err(|_| "a writer panicked")?;
        let mut batch = LogBatch::with_capacity(1);
        self.add(&mut batch, group, entry)?;
        self.engine.write(&mut batch, durable)?;
        Ok(())
    }

    fn turn(&self, groups: usize, entry: &[u8]) -> Outcome<()> {
        let mut batch = LogBatch::with_capacity(groups);
        for group in 0..groups {
            self.add(&mut batch, group, entry)?;
        }
        self.engine.write(&mut batch, true)?;
        Ok(())
    }

    fn keep(&self, group: usize, entries: u64) -> Outcome<()> {
        let next = self.next[group].load(Ordering::Relaxed);
        self.engine.compact_to(group as u64, next.saturating_sub(entries));
        Ok(())
    }

    fn purge(&self) -> Outcome<()> {
        self.engine.purge_expired_files()?;
        Ok(())
    }

    fn maintain(&self) -> Outcome<()> {
        self.engine.sync()?;
        self.purge()
    }

    fn syncs(&self) -> u64 {
        // It counts them for Prometheus, for all engines of the process; there is one.
        let families = prometheus::gather();
        let syncs = families
            .iter()
            .filter(|family| family.get_name() == "raft_engine_sync_log_duration_seconds");
        let counts = syncs.flat_map(prometheus::proto::MetricFamily::get_metric);
        counts.map(|metric| metric.get_histogram().get_sample_count()).sum()
    }
}

type Open = fn(&Path) -> Outcome<Box<dyn Many>>;

const BOTH: [(&str, Open); 2] = [
    (OURS, |dir| Ok(Box::new(Ours::open(dir)?))),
    (THEIRS, |dir| Ok(Box::new(Theirs::open(dir)?))),
];

/// The tables of all works on groups.
pub fn run(plan: &Plan) -> Outcome<Vec<Table>> {
    let dirs = [plan.fresh("groups", "ours")?, plan.fresh("groups", "theirs")?];
    let payloads = Payloads::new();
    let mut tables = appends(plan, &dirs, &payloads)?;
    tables.extend(mixed(plan, &dirs, &payloads)?);
    dirs.iter().try_for_each(|dir| remove(dir))?;
    Ok(tables)
}

fn appends(plan: &Plan, dirs: &[PathBuf; 2], payloads: &Payloads) -> Outcome<Vec<Table>> {
    let open = |at: usize| BOTH[at].1(&dirs[at]);
    let both = [open(0)?, open(1)?];
    plan.settle()?;
    let grid = |title, unit, more| Grid::new(title, unit, more, THEIRS);
    let mut rates = grid("groups: durable append", "entries/s", true);
    let mut syncs = grid("groups: syncs of the log per durable append", "syncs", false);
    let mut turns = grid("groups: a durable batch over so many groups", "us", false);
    let mut unsynced = grid("groups: unsynced append", "entries/s", true);
    let slice = Duration::from_millis(if plan.quick { 40 } else { 150 });
    for round in 0..=plan.rounds {
        for grid in [&mut rates, &mut syncs, &mut turns, &mut unsynced] {
            grid.next_round();
        }
        let measured = round > 0;
        for groups in GROUPS {
            for at in order(2, round) {
                let (many, name) = (&*both[at], BOTH[at].0);
                let start = Instant::now();
                many.turn(groups, payloads.get(round))?;
                if measured {
                    let micros = start.elapsed().as_secs_f64() * 1e6;
                    turns.record(name, &format!("{groups} groups"), vec![micros]);
                }
            }
            for threads in THREADS {
                let column = format!("{groups} groups, {threads} threads");
                for at in order(2, round) {
                    let (many, name) = (&*both[at], BOTH[at].0);
                    let before = many.syncs();
                    let (rate, count) = together(many, payloads, groups, threads, slice)?;
                    let each = (many.syncs() - before) as f64 / count.max(1) as f64;
                    if measured {
                        rates.record(name, &column, vec![rate]);
                        syncs.record(name, &column, vec![each]);
                    }
                }
            }
        }
        for at in order(2, round) {
            let (many, name) = (&*both[at], BOTH[at].0);
            let (start, mut count) = (Instant::now(), 0_usize);
            while start.elapsed() < slice {
                many.append(count % 256, payloads.get(count), false)?;
                count += 1;
            }
            let rate = count as f64 / start.elapsed().as_secs_f64();
            if measured {
                unsynced.record(name, "256 groups, 1 thread", vec![rate]);
            }
            many.maintain()?;
        }
    }
    Ok([rates, syncs, turns, unsynced].iter().map(|grid| grid.table(&[OURS, THEIRS])).collect())
}

/// Entries a second, and how many, of threads that append one after another, each to one group after
/// another.
fn together(
    many: &dyn Many,
    payloads: &Payloads,
    groups: usize,
    threads: usize,
    slice: Duration,
) -> Outcome<(f64, usize)> {
    let start_line = Barrier::new(threads + 1);
    let write = |lane: usize| -> Outcome<usize> {
        start_line.wait();
        let (start, mut count) = (Instant::now(), 0);
        while start.elapsed() < slice {
            let group = (lane + count * threads) % groups;
            many.append(group, payloads.get(lane + count), true)?;
            count += 1;
        }
        Ok(count)
    };
    let write = &write;
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..threads).map(|lane| scope.spawn(move || write(lane))).collect();
        start_line.wait();
        let (start, mut total) = (Instant::now(), 0);
        for writer in writers {
            total += writer.join().map_err(|_| "a writer panicked")??;
        }
        Ok((total as f64 / start.elapsed().as_secs_f64(), total))
    })
}

/// Groups that trim beside lagging ones; then what is on disk, and an open.
fn mixed(plan: &Plan, dirs: &[PathBuf; 2], payloads: &Payloads) -> Outcome<Vec<Table>> {
    let grid = |title, unit, more| Grid::new(title, unit, more, THEIRS);
    let mut rates = grid("groups: mixed load, one in sixteen lags", "entries/s", true);
    let mut space = grid("groups: after the mixed load", "bytes on disk per live byte", false);
    let mut opens = grid("groups: open after the mixed load", "ms", false);
    let mut memory = grid("groups: memory of the open", "KiB", false);
    let appends = if plan.quick { 20_000 } else { 200_000 };
    let lags = |group: usize| group.is_multiple_of(16);
    for round in 0..=plan.rounds.min(5) {
        for grid in [&mut rates, &mut space, &mut opens, &mut memory] {
            grid.next_round();
        }
        for at in order(2, round) {
            let (name, open) = BOTH[at];
            remove(&dirs[at])?;
            std::fs::create_dir_all(&dirs[at])?;
            let many = open(&dirs[at])?;
            let start = Instant::now();
            for count in 0..appends {
                let group = count % 256;
                many.append(group, payloads.get(count), count % 256 == 255)?;
                if count % (256 * 50) < 256 {
                    many.keep(group, if lags(group) { KEPT_LAGGING } else { KEPT })?;
                }
                if count % 50_000 == 49_999 {
                    many.purge()?;
                }
            }
            let rate = appends as f64 / start.elapsed().as_secs_f64();
            many.maintain()?;
            drop(many);
            let kept = (appends / 256) as u64;
            let live = 240 * kept.min(KEPT + 50) + 16 * kept.min(KEPT_LAGGING + 50);
            let live = live as f64 * crate::ENTRY_BYTES as f64;
            let (before, start) = (anonymous_kib(), Instant::now());
            let many = open(&dirs[at])?;
            let elapsed = start.elapsed().as_secs_f64() * 1e3;
            let taken = anonymous_kib().saturating_sub(before);
            drop(many);
            if round > 0 {
                rates.record(name, "256 groups", vec![rate]);
                space.record(name, "256 groups", vec![disk_bytes(&dirs[at])? as f64 / live]);
                opens.record(name, "256 groups", vec![elapsed]);
                memory.record(name, "256 groups", vec![taken as f64]);
            }
        }
    }
    Ok([rates, space, opens, memory].iter().map(|grid| grid.table(&[OURS, THEIRS])).collect())
}

/// Bytes that the files of a directory take.
fn disk_bytes(dir: &Path) -> Outcome<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes = 0;
    for path in files(dir)? {
        bytes += std::fs::metadata(path).map_or(0, |metadata| metadata.blocks() * 512);
    }
    Ok(bytes)
}

/// Memory of this process that is no file's.
fn anonymous_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
