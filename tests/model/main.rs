//! Sequences of operations against a plain model, in memory and on the simulated disk. proptest
//! shrinks what fails.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::sync::Arc;

use indelible::io::Directory;
use indelible::io::mem::MemDirectory;
use indelible::io::sim::SimDisk;
use indelible::{Batch, Durability, Error, Log, Options, SyncMethod, WriteMode};
use proptest::prelude::*;

mod operations;
mod strategies;

#[derive(Debug, Clone)]
enum Operation {
    Commit(Vec<Change>),
    SetLazily(u8, u8),
    Sync,
    Maintain,
    Reopen,
    Kill,
}

/// One of the changes that a batch mixes.
#[derive(Debug, Clone)]
enum Change {
    Append(u16),
    Truncate(u64),
    Trim(u64),
    Reset(u64),
    Set(u8, u8),
    Clear(u8),
    Attach(u8, u16),
}

fn change() -> impl Strategy<Value = Change> {
    use Change as C;
    prop_oneof![
        8 => (0..3000_u16).prop_map(C::Append),
        2 => (0..40_u64).prop_map(C::Truncate),
        2 => (0..40_u64).prop_map(C::Trim),
        1 => (0..60_u64).prop_map(C::Reset),
        // Few values, so that they come back.
        2 => (0..3_u8, 0..4_u8).prop_map(|(cell, value)| C::Set(cell, value)),
        1 => (0..3_u8).prop_map(C::Clear),
        1 => (0..3_u8, 0..3000_u16).prop_map(|(cell, bytes)| C::Attach(cell, bytes)),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation as O;
    prop_oneof![
        8 => change().prop_map(|change| O::Commit(vec![change])),
        8 => prop::collection::vec(change(), 2..7).prop_map(O::Commit),
        3 => (0..3_u8, 0..4_u8).prop_map(|(cell, value)| O::SetLazily(cell, value)),
        1 => Just(O::Sync),
        1 => Just(O::Maintain),
        1 => Just(O::Reopen),
        1 => Just(O::Kill),
    ]
}

/// What a cell holds.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Inline(Vec<u8>),
    SideFile(Vec<u8>),
}

/// The model: what the documentation says, in the fewest words.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Model {
    first: u64,
    entries: Vec<Vec<u8>>,
    cells: BTreeMap<String, Value>,
}

impl Model {
    /// What a log says it is.
    fn of(log: &Log) -> Self {
        let (first, next) = (log.first(), log.next());
        let cells = log.cells().into_iter().map(|(name, _)| {
            let mut bytes = Vec::new();
            let value = match log.side_file(&name).unwrap() {
                Some(mut file) => {
                    file.read_to_end(&mut bytes).unwrap();
                    Value::SideFile(bytes)
                }
                None => Value::Inline(log.cell(&name).unwrap().to_vec()),
            };
            (name, value)
        });
        Self { first, entries: log.read_to_vec(first..next).unwrap(), cells: cells.collect() }
    }

    fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Makes a change, in the model and in a batch. Nothing if it must be refused.
    fn apply(&mut self, change: &Change, log: &Log, batch: &mut Batch<'static>) -> Option<()> {
        // Whatever is appended differs from all that was there before.
        let number = u8::try_from(log.newest_ticket().sequence() % 256).unwrap();
        let content = |bytes: u16| vec![number; usize::from(bytes)];
        match *change {
            Change::Append(bytes) => {
                batch.append(content(bytes));
                self.entries.push(content(bytes));
            }
            Change::Truncate(to) => {
                batch.truncate(to);
                let kept = to.checked_sub(self.first).filter(|_| to <= self.next())?;
                self.entries.truncate(usize::try_from(kept).unwrap());
            }
            Change::Trim(to) => {
                batch.trim(to);
                if to > self.next() {
                    return None;
                }
                if to > self.first {
                    self.entries.drain(..usize::try_from(to - self.first).unwrap());
                    self.first = to;
                }
            }
            Change::Reset(base) => {
                batch.reset(base);
                self.first = base;
                self.entries.clear();
            }
            Change::Set(cell, value) => {
                batch.set(name(cell), vec![value]);
                self.cells.insert(name(cell), Value::Inline(vec![value]));
            }
            Change::Clear(cell) => {
                batch.clear(name(cell));
                self.cells.remove(&name(cell));
            }
            Change::Attach(cell, bytes) => {
                let mut file = log.side_file_writer().unwrap();
                file.write_all(&content(bytes)).unwrap();
                batch.attach(name(cell), file.finish().unwrap());
                self.cells.insert(name(cell), Value::SideFile(content(bytes)));
            }
        }
        Some(())
    }

    fn check(&self, log: &Log) {
        assert_eq!(Self::of(log), *self);
        let walked: Vec<_> = log.iter(self.first).map(|it| it.unwrap().1).collect();
        assert_eq!(walked, self.entries);
        if let Some(before) = self.first.checked_sub(1) {
            assert!(matches!(log.entry(before), Err(Error::Trimmed { .. })));
        }
        assert!(matches!(log.entry(self.next()), Err(Error::BeyondEnd { .. })));
    }
}

fn name(cell: u8) -> String {
    format!("cell{cell}")
}

/// A directory whose process can be killed.
enum Place {
    Memory(MemDirectory),
    Disk(SimDisk),
}

impl Place {
    fn door(&self) -> Arc<dyn Directory> {
        match self {
            Self::Memory(directory) => Arc::new(directory.clone()),
            Self::Disk(disk) => Arc::new(disk.clone()),
        }
    }
}

fn run(mut place: Place, options: &Options, durability: Durability, operations: &[Operation]) {
    let options = &options.clone().durability(durability);
    // Whether what is not synced goes with a killed process.
    let forgets = matches!(options.write_mode_in_force(), WriteMode::Buffered | WriteMode::Direct)
        && durability == Durability::Barrier;
    let mut log = Log::create_in(place.door(), options).unwrap();
    // What a kill may lead back to, the newest last: what was there when all was in the file, and
    // after each change since.
    let mut past = vec![Model::default()];
    for operation in operations {
        let mut model = past.last().unwrap().clone();
        match operation {
            Operation::Commit(changes) => {
                let mut batch = Batch::new();
                let newest = log.newest_ticket().sequence();
                let mut after = model.clone();
                let mut changes = changes.iter();
                let fits = changes.try_for_each(|it| after.apply(it, &log, &mut batch)).is_some();
                let result = log.commit(&batch);
                assert_eq!(result.is_ok(), fits, "{operation:?}: {result:?}");
                if fits {
                    model = after;
                }
                if !forgets && log.newest_ticket().sequence() > newest {
                    past.clear();
                }
            }
            Operation::SetLazily(cell, value) => {
                let attached = matches!(model.cells.get(&name(*cell)), Some(Value::SideFile(_)));
                let result = log.set_lazily(&name(*cell), &[*value]);
                assert_eq!(result.is_err(), attached, "{operation:?}: {result:?}");
                if !attached {
                    model.cells.insert(name(*cell), Value::Inline(vec![*value]));
                }
            }
            Operation::Sync | Operation::Maintain => {
                let whole =
                    if matches!(operation, Operation::Sync) { Log::sync } else { Log::maintain };
                whole(&log).unwrap();
                past.clear();
            }
            Operation::Reopen | Operation::Kill => {
                let killed = matches!(operation, Operation::Kill);
                match &mut place {
                    Place::Disk(disk) if killed => *disk = disk.kill(),
                    _ => log.close().unwrap(),
                }
                log = Log::open_in(place.door(), options).unwrap().0;
                if killed {
                    let found = Model::of(&log);
                    assert!(past.contains(&found), "{found:?} is none of {past:?}");
                    model = found;
                }
                past.clear();
            }
        }
        model.check(&log);
        past.push(model);
    }
}

fn options() -> Options {
    Options::new().background(false).tiny_segments(8 * 1024)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn log_in_memory_is_the_model(operations in prop::collection::vec(operation(), 1..24)) {
        run(Place::Memory(MemDirectory::new()), &options(), Durability::Always, &operations);
    }

    #[test]
    fn log_on_a_disk_is_the_model(
        seed in any::<u64>(),
        mode in 0..4_u8,
        barrier in any::<bool>(),
        operations in prop::collection::vec(operation(), 1..24),
    ) {
        let options = options()
            .write_mode(match mode {
                0 => WriteMode::Mmap,
                1 => WriteMode::Pwrite,
                2 => WriteMode::Direct,
                _ => WriteMode::Buffered,
            })
            .sync_method(match mode {
                0 => SyncMethod::Msync,
                1 | 2 => SyncMethod::Dsync,
                _ => SyncMethod::Fdatasync,
            });
        let durability = if barrier { Durability::Barrier } else { Durability::Always };
        run(Place::Disk(SimDisk::new(seed)), &options, durability, &operations);
    }
}
