//! Threads on groups of one log: each group sees its own order, whatever the others, the carries and
//! the checkpoints do meanwhile, and nobody waits for ever.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use indelible::io::sim::{Op, SimDisk};
use indelible::testing::tap::Tap;
use indelible::{Batch, Durability, Error, Log, Options, WriteMode};
use indelible_groups::{Group, GroupBatch, Groups, GroupsOptions};

const ROUNDS: u64 = 160;

/// What is done in the middle of a call of the disk.
type Act = Box<dyn FnOnce() + Send>;

fn entry(group: u64, index: u64) -> Vec<u8> {
    format!("{group}:{index};").repeat(30).into_bytes()
}

fn options(durability: Durability) -> GroupsOptions {
    let log = Options::new().tiny_segments(32 * 1024).durability(durability);
    GroupsOptions::new().log(log).checkpoint_bytes(16 * 1024)
}

/// Appends and trims; a slow one keeps all of it.
fn write(group: &Group, slow: bool) {
    for index in 0..ROUNDS {
        let mut batch = Batch::new();
        batch.append(entry(group.id(), index));
        if index % 8 == 0 && !slow {
            batch.trim(index);
        }
        let ticket = group.commit(&batch).unwrap();
        assert_eq!(ticket.next(), index + 1);
        group.set_lazily("decided", &index.to_le_bytes()).unwrap();
        if slow {
            thread::yield_now();
        }
    }
}

/// Reads what there is until it is told to stop.
fn read(group: &Group, stop: &AtomicBool) -> u64 {
    let mut reads = 0;
    while !stop.load(Ordering::Relaxed) {
        let (first, next) = (group.first(), group.next());
        // A trim may come in between.
        if let Ok(entries) = group.read(first..next) {
            for (found, index) in entries.iter().zip(first..) {
                assert_eq!(found, entry(group.id(), index));
            }
            reads += 1;
        }
        assert!(group.durable() <= group.next());
    }
    reads
}

#[test]
fn groups_keep_their_order_under_threads() {
    let directory = tempfile::tempdir().unwrap();
    for (name, durability) in
        [("os", Durability::Os), ("barrier", Durability::Barrier), ("always", Durability::Always)]
    {
        let path = directory.path().join(name);
        let groups = Groups::create(&path, &options(durability)).unwrap();
        let handles: Vec<Group> = (0..6).map(|id| groups.create_group(id).unwrap()).collect();
        let stop = AtomicBool::new(false);
        let reads = thread::scope(|scope| {
            let readers: Vec<_> =
                handles.iter().map(|group| scope.spawn(|| read(group, &stop))).collect();
            let writers: Vec<_> =
                handles.iter().map(|group| scope.spawn(|| write(group, group.id() == 0))).collect();
            for round in 0..6 {
                let mut both = GroupBatch::new();
                both.create(100 + round);
                if round > 0 {
                    both.remove(99 + round);
                }
                groups.submit(&both).unwrap();
                groups.maintain().unwrap();
                let _looked = groups.stats();
            }
            for writer in writers {
                writer.join().unwrap();
            }
            stop.store(true, Ordering::Relaxed);
            readers.into_iter().map(|reader| reader.join().unwrap()).sum::<u64>()
        });
        assert!(reads > 0);
        groups.close().unwrap();
        drop((handles, groups));
        let groups = Groups::open(&path, &options(durability)).unwrap();
        assert_eq!(groups.ids(), [0, 1, 2, 3, 4, 5, 105]);
        for id in 0..6 {
            let group = groups.group(id).unwrap();
            let first = if id == 0 { 0 } else { ROUNDS - 8 };
            assert_eq!((group.first(), group.next()), (first, ROUNDS));
            for found in group.iter(first) {
                let (index, bytes) = found.unwrap();
                assert_eq!(bytes, entry(id, index));
            }
            let decided = group.cell("decided").unwrap();
            assert_eq!(decided.as_ref(), (ROUNDS - 1).to_le_bytes());
        }
    }
}

/// While a batch is being written, another thread sets a cell lazily. Either fits beside what was there,
/// but not both.
#[test]
fn cells_set_lazily_beside_a_commit_stay_within_the_limit() {
    let disk = SimDisk::new(1);
    let act: Arc<Mutex<Option<Act>>> = Arc::default();
    let planned = Arc::clone(&act);
    let look = move |_: &SimDisk, op: Op| {
        let due = planned.lock().unwrap().take_if(|_| op == Op::Write);
        if let Some(act) = due {
            act();
        }
    };
    let log = Options::new()
        .background(false)
        .tiny_segments(32 * 1024)
        .write_mode(WriteMode::Pwrite)
        .durability(Durability::Barrier);
    let door = Tap::new(&disk, Arc::new(look));
    let groups =
        Groups::from_log(Log::create_in(Arc::new(door), &log).unwrap(), &GroupsOptions::new());
    let groups = groups.unwrap();
    let group = groups.create_group(1).unwrap();
    let mut batch = Batch::new();
    batch.set("a", vec![1; 1000]).set("b", vec![2; 1000]);
    group.commit(&batch).unwrap();

    let (done, result) = channel();
    let other = group.clone();
    *act.lock().unwrap() = Some(Box::new(move || {
        thread::spawn(move || done.send(other.set_lazily("d", &[4; 1000])));
        // Time for it to come as far as it can beside the batch.
        thread::sleep(Duration::from_millis(100));
    }));
    let mut batch = Batch::new();
    // It takes effect record by record, the cell last.
    for _ in 0..2000 {
        batch.append(b"");
    }
    batch.set("c", vec![3; 1000]);
    group.commit(&batch).unwrap();
    let refused = result.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
    groups.close().unwrap();
    let (log, _) = Log::open_in(Arc::new(disk), &log).unwrap();
    let groups = Groups::from_log(log, &GroupsOptions::new()).unwrap();
    assert_eq!(groups.group(1).unwrap().cells().len(), 3);
}
