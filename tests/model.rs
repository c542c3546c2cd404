//! Sequences of operations against a plain model, in memory and on the simulated disk. proptest
//! shrinks what fails.
#![cfg(feature = "testing")]
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::BTreeMap;
use std::sync::Arc;

use indelible::io::Directory;
use indelible::io::mem::MemDirectory;
use indelible::io::sim::SimDisk;
use indelible::{Batch, Durability, Error, Log, Options, SyncMethod, WriteMode};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Operation {
    Append(Vec<u16>),
    Truncate(u64),
    Trim(u64),
    Reset(u64),
    Set(u8, u8),
    SetLazily(u8, u8),
    Clear(u8),
    TruncateAndAppend(u64, u16),
    Sync,
    Maintain,
    Reopen,
    Kill,
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation as O;
    prop_oneof![
        6 => prop::collection::vec(0..3000_u16, 1..6).prop_map(O::Append),
        2 => (0..40_u64).prop_map(O::Truncate),
        2 => (0..40_u64).prop_map(O::Trim),
        1 => (0..60_u64).prop_map(O::Reset),
        2 => (0..3_u8, 0..4_u8).prop_map(|(cell, value)| O::Set(cell, value)),
        // Few values, so that they come back.
        3 => (0..3_u8, 0..4_u8).prop_map(|(cell, value)| O::SetLazily(cell, value)),
        1 => (0..3_u8).prop_map(O::Clear),
        2 => (0..40_u64, 0..3000_u16).prop_map(|(to, bytes)| O::TruncateAndAppend(to, bytes)),
        1 => Just(O::Sync),
        1 => Just(O::Maintain),
        1 => Just(O::Reopen),
        1 => Just(O::Kill),
    ]
}

/// The model: what the documentation says, in the fewest words.
#[derive(Debug, Default, Clone)]
struct Model {
    first: u64,
    entries: Vec<Vec<u8>>,
    cells: BTreeMap<String, Vec<u8>>,
    counter: u8,
}

impl Model {
    fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    fn entry(&mut self, bytes: u16) -> Vec<u8> {
        self.counter = self.counter.wrapping_add(1);
        vec![self.counter; usize::from(bytes)]
    }

    /// The batch for an operation, and whether it must be refused.
    fn batch(&mut self, operation: &Operation) -> (Batch<'static>, bool) {
        let mut batch = Batch::new();
        let mut refused = false;
        match operation {
            Operation::Append(lengths) => {
                for bytes in lengths {
                    let entry = self.entry(*bytes);
                    batch.append(entry.clone());
                    self.entries.push(entry);
                }
            }
            Operation::Truncate(to) => refused = self.truncate(*to, &mut batch),
            Operation::TruncateAndAppend(to, bytes) => {
                let entry = self.entry(*bytes);
                refused = self.truncate(*to, &mut batch);
                batch.append(entry.clone());
                if !refused {
                    self.entries.push(entry);
                }
            }
            Operation::Trim(to) => {
                batch.trim(*to);
                refused = *to > self.next();
                if !refused && *to > self.first {
                    self.entries.drain(..usize::try_from(to - self.first).unwrap());
                    self.first = *to;
                }
            }
            Operation::Reset(base) => {
                batch.reset(*base);
                self.first = *base;
                self.entries.clear();
            }
            Operation::Set(cell, value) => {
                batch.set(format!("cell{cell}"), vec![*value]);
                self.cells.insert(format!("cell{cell}"), vec![*value]);
            }
            Operation::Clear(cell) => {
                batch.clear(format!("cell{cell}"));
                self.cells.remove(&format!("cell{cell}"));
            }
            _ => {}
        }
        (batch, refused)
    }

    fn truncate(&mut self, to: u64, batch: &mut Batch<'static>) -> bool {
        batch.truncate(to);
        if to < self.first || to > self.next() {
            return true;
        }
        self.entries.truncate(usize::try_from(to - self.first).unwrap());
        false
    }

    fn check(&self, log: &Log) {
        assert_eq!((log.first(), log.next()), (self.first, self.next()));
        assert_eq!(log.read_to_vec(self.first..self.next()).unwrap(), self.entries);
        let walked: Vec<_> = log.iter(self.first).map(|it| it.unwrap().1).collect();
        assert_eq!(walked, self.entries);
        for cell in 0..3 {
            let name = format!("cell{cell}");
            assert_eq!(log.cell(&name).as_deref(), self.cells.get(&name).map(Vec::as_slice));
        }
        if let Some(before) = self.first.checked_sub(1) {
            assert!(matches!(log.entry(before), Err(Error::Trimmed { .. })));
        }
        assert!(matches!(log.entry(self.next()), Err(Error::BeyondEnd { .. })));
    }
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

fn run(mut place: Place, options: &Options, operations: &[Operation]) {
    let mut model = Model::default();
    let mut log = Log::create_in(place.door(), options).unwrap();
    // The cells before each time one was set lazily since the last batch.
    let mut lazy: Vec<BTreeMap<String, Vec<u8>>> = Vec::new();
    for operation in operations {
        let mut killed = false;
        match operation {
            Operation::Sync | Operation::Maintain => {
                let whole =
                    if matches!(operation, Operation::Sync) { Log::sync } else { Log::maintain };
                whole(&log).unwrap();
                lazy.clear();
            }
            Operation::Reopen | Operation::Kill => {
                match (&mut place, operation) {
                    (Place::Disk(disk), Operation::Kill) => {
                        if options.write_mode_in_force() == WriteMode::Buffered {
                            // What is not synced goes with the process.
                            log.sync().unwrap();
                            lazy.clear();
                        }
                        *disk = disk.kill();
                        killed = true;
                    }
                    _ => log.close().unwrap(),
                }
                log = Log::open_in(place.door(), options).unwrap().0;
                if killed {
                    // Of what was set lazily since the last batch, the newest values may be gone.
                    let all = lazy.iter().chain([&model.cells]);
                    let found = all.rev().find(|cells| cells_of(&log) == **cells);
                    model.cells = found.unwrap_or(&model.cells).clone();
                }
                lazy.clear();
            }
            Operation::SetLazily(cell, value) => {
                let name = format!("cell{cell}");
                log.set_lazily(&name, &[*value]).unwrap();
                lazy.push(model.cells.clone());
                model.cells.insert(name, vec![*value]);
            }
            _ => {
                let before = model.clone();
                let (batch, refused) = model.batch(operation);
                let newest = log.newest_ticket().sequence();
                let result = log.commit(&batch);
                if log.newest_ticket().sequence() > newest {
                    lazy.clear();
                }
                assert_eq!(result.is_err(), refused, "{operation:?}: {result:?}");
                if refused {
                    model = Model { counter: model.counter, ..before };
                }
            }
        }
        model.check(&log);
    }
}

fn cells_of(log: &Log) -> BTreeMap<String, Vec<u8>> {
    let cells = log.cells().into_iter().map(|(name, _)| name);
    cells.map(|name| (name.clone(), log.cell(&name).unwrap().to_vec())).collect()
}

fn options() -> Options {
    Options::new().background(false).tiny_segments(8 * 1024)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn log_in_memory_is_the_model(operations in prop::collection::vec(operation(), 1..24)) {
        run(Place::Memory(MemDirectory::new()), &options(), &operations);
    }

    #[test]
    fn log_on_a_disk_is_the_model(
        seed in any::<u64>(),
        mode in 0..3_u8,
        barrier in any::<bool>(),
        operations in prop::collection::vec(operation(), 1..24),
    ) {
        let options = options()
            .write_mode(match mode {
                0 => WriteMode::Mmap,
                1 => WriteMode::Pwrite,
                _ => WriteMode::Buffered,
            })
            .sync_method(match mode {
                0 => SyncMethod::Msync,
                1 => SyncMethod::Dsync,
                _ => SyncMethod::Fdatasync,
            })
            .durability(if barrier { Durability::Barrier } else { Durability::Always });
        run(Place::Disk(SimDisk::new(seed)), &options, &operations);
    }
}
