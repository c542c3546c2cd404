//! The storages that OmniPaxos is run on.

use std::path::Path;

use indelible::codec::{Codec, CodecError};
use indelible::omnipaxos::{LogStorage, StorageConfig};
use indelible::{Durability, Options, Stats};
use omnipaxos::storage::NoSnapshot;
use omnipaxos_storage::memory_storage::MemoryStorage;

use super::{Binding, Cluster, Command, NODES, Node, Nodes, Setting, Store};
use crate::peer::Outcome;

pub const MEMORY: &str = "MemoryStorage";
#[cfg(feature = "rocksdb")]
pub const UPSTREAM_SYNC: &str = "PersistentStorage, sync on";
#[cfg(feature = "rocksdb")]
const UPSTREAM_NO_SYNC: &str = "PersistentStorage, sync off";

pub fn all() -> Vec<Store> {
    vec![
        Store { name: MEMORY, cluster: memory },
        #[cfg(feature = "rocksdb")]
        Store { name: UPSTREAM_SYNC, cluster: upstream_sync },
        #[cfg(feature = "rocksdb")]
        Store { name: UPSTREAM_NO_SYNC, cluster: upstream_no_sync },
        Store { name: "indelible, Always", cluster: always },
        Store { name: "indelible, Barrier", cluster: barrier },
        Store { name: "indelible, Os", cluster: os },
        Store { name: "indelible, in memory", cluster: in_memory },
    ]
}

/// For storages that are as durable as they get when a call returns.
fn nothing() -> Binding {
    Box::new(|| None)
}

fn memory(_dir: &Path, setting: Setting) -> Outcome<Box<dyn Cluster>> {
    let node =
        || Node { storage: MemoryStorage::default(), binding: nothing(), syncs: Box::new(|| 0) };
    Ok(Box::new(Nodes::new(NODES.map(|_| node()).into(), setting.batch_size)?))
}

#[cfg(feature = "rocksdb")]
fn upstream_sync(dir: &Path, setting: Setting) -> Outcome<Box<dyn Cluster>> {
    upstream(dir, setting, true)
}

#[cfg(feature = "rocksdb")]
fn upstream_no_sync(dir: &Path, setting: Setting) -> Outcome<Box<dyn Cluster>> {
    upstream(dir, setting, false)
}

#[cfg(feature = "rocksdb")]
fn upstream(dir: &Path, setting: Setting, sync: bool) -> Outcome<Box<dyn Cluster>> {
    use omnipaxos_storage::persistent_storage::{PersistentStorage, PersistentStorageConfig};
    let nodes = NODES.map(|pid| {
        let path = dir.join(pid.to_string()).to_string_lossy().into_owned();
        let mut config = PersistentStorageConfig::with_path(path);
        config.set_sync_writes(sync);
        let mut options = config.get_database_options();
        if setting.counted {
            options.enable_statistics();
        }
        config.set_database_options(options.clone());
        Node {
            storage: PersistentStorage::new(config),
            binding: nothing(),
            syncs: Box::new(move || {
                synced_by_rocksdb(&options.get_statistics().unwrap_or_default())
            }),
        }
    });
    Ok(Box::new(Nodes::new(nodes.into(), setting.batch_size)?))
}

/// How often the database has synced its log, from its own statistics.
#[cfg(feature = "rocksdb")]
fn synced_by_rocksdb(statistics: &str) -> u64 {
    let line = statistics.lines().find_map(|line| line.strip_prefix("rocksdb.wal.synced COUNT : "));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// The bytes are the entry.
pub struct Plain;

impl Codec<Command> for Plain {
    fn encode(command: &Command, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(&command.0);
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<Command, CodecError> {
        Ok(Command(bytes.to_vec()))
    }
}

impl Codec<NoSnapshot> for Plain {
    fn encode(_: &NoSnapshot, _: &mut Vec<u8>) -> Result<(), CodecError> {
        Ok(())
    }

    fn decode(_: &[u8]) -> Result<NoSnapshot, CodecError> {
        Ok(NoSnapshot)
    }
}

fn always(dir: &Path, setting: Setting) -> Outcome<Box<dyn Cluster>> {
    on_disk(dir, setting, Durability::Always)
}

fn barrier(dir: &Path, setting: Setting) -> Outcome<Box<dyn Cluster>> {
    on_disk(dir, setting, Durability::Barrier)
}

fn os(dir: &Path, setting: Setting) -> Outcome<Box<dyn Cluster>> {
    on_disk(dir, setting, Durability::Os)
}

fn on_disk(dir: &Path, setting: Setting, durability: Durability) -> Outcome<Box<dyn Cluster>> {
    let mut nodes = Vec::new();
    for pid in NODES {
        let path = dir.join(pid.to_string());
        let config = StorageConfig::with_path(&path).durability(durability);
        let storage: LogStorage<Command, Plain> = LogStorage::create(&config)?;
        let handle = storage.handle();
        let binding: Binding = match durability {
            // What `indelible::omnipaxos::Synced` waits for before it hands out messages.
            Durability::Barrier => Box::new(move || handle.binding()),
            _ => nothing(),
        };
        let handle = storage.handle();
        let syncs = Box::new(move || synced_by_log(&handle.stats().log));
        nodes.push(Node { storage, binding, syncs });
    }
    Ok(Box::new(Nodes::new(nodes, setting.batch_size)?))
}

/// How often a log has synced anything, the two slots of each checkpoint included.
fn synced_by_log(stats: &Stats) -> u64 {
    stats.syncs + 2 * stats.checkpoints
}

fn in_memory(_dir: &Path, setting: Setting) -> Outcome<Box<dyn Cluster>> {
    let mut nodes = Vec::new();
    for _ in NODES {
        let storage: LogStorage<Command, Plain> = LogStorage::in_memory(&Options::new())?;
        nodes.push(Node { storage, binding: nothing(), syncs: Box::new(|| 0) });
    }
    Ok(Box::new(Nodes::new(nodes, setting.batch_size)?))
}

#[cfg(all(test, feature = "rocksdb"))]
mod tests {
    use super::synced_by_rocksdb;

    #[test]
    fn syncs_are_read_from_the_statistics() {
        let said = "rocksdb.block.cache.miss COUNT : 9\nrocksdb.wal.synced COUNT : 12\n";
        assert_eq!(synced_by_rocksdb(said), 12);
    }
}
