//! The storages that OmniPaxos is run on.

use std::path::Path;

use indelible::codec::{Codec, CodecError};
use indelible::omnipaxos::{LogStorage, StorageConfig};
use indelible::{Durability, Options};
use omnipaxos::storage::NoSnapshot;
use omnipaxos_storage::memory_storage::MemoryStorage;

use super::{BeforeSend, Cluster, Command, NODES, Nodes, Store};
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
fn nothing() -> BeforeSend {
    Box::new(|| Ok(()))
}

fn memory(_dir: &Path, batch_size: usize) -> Outcome<Box<dyn Cluster>> {
    let storages = NODES.map(|_| (MemoryStorage::default(), nothing()));
    Ok(Box::new(Nodes::new(storages.into(), batch_size)?))
}

#[cfg(feature = "rocksdb")]
fn upstream_sync(dir: &Path, batch_size: usize) -> Outcome<Box<dyn Cluster>> {
    upstream(dir, batch_size, true)
}

#[cfg(feature = "rocksdb")]
fn upstream_no_sync(dir: &Path, batch_size: usize) -> Outcome<Box<dyn Cluster>> {
    upstream(dir, batch_size, false)
}

#[cfg(feature = "rocksdb")]
fn upstream(dir: &Path, batch_size: usize, sync: bool) -> Outcome<Box<dyn Cluster>> {
    use omnipaxos_storage::persistent_storage::{PersistentStorage, PersistentStorageConfig};
    let storages = NODES.map(|pid| {
        let path = dir.join(pid.to_string()).to_string_lossy().into_owned();
        let mut config = PersistentStorageConfig::with_path(path);
        config.set_sync_writes(sync);
        (PersistentStorage::new(config), nothing())
    });
    Ok(Box::new(Nodes::new(storages.into(), batch_size)?))
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

fn always(dir: &Path, batch_size: usize) -> Outcome<Box<dyn Cluster>> {
    on_disk(dir, batch_size, Durability::Always)
}

fn barrier(dir: &Path, batch_size: usize) -> Outcome<Box<dyn Cluster>> {
    on_disk(dir, batch_size, Durability::Barrier)
}

fn os(dir: &Path, batch_size: usize) -> Outcome<Box<dyn Cluster>> {
    on_disk(dir, batch_size, Durability::Os)
}

fn on_disk(dir: &Path, batch_size: usize, durability: Durability) -> Outcome<Box<dyn Cluster>> {
    let mut storages = Vec::new();
    for pid in NODES {
        let path = dir.join(pid.to_string());
        let config = StorageConfig::with_path(&path).durability(durability);
        let storage: LogStorage<Command, Plain> = LogStorage::create(&config)?;
        let handle = storage.handle();
        let before_send: BeforeSend = match durability {
            // What `indelible::omnipaxos::Synced` does before it hands out messages.
            Durability::Barrier => Box::new(move || Ok(handle.barrier()?)),
            _ => nothing(),
        };
        storages.push((storage, before_send));
    }
    Ok(Box::new(Nodes::new(storages, batch_size)?))
}

fn in_memory(_dir: &Path, batch_size: usize) -> Outcome<Box<dyn Cluster>> {
    let mut storages = Vec::new();
    // There is nothing to sync.
    let options = Options::new().durability(Durability::Os);
    for _ in NODES {
        let storage: LogStorage<Command, Plain> = LogStorage::in_memory(&options)?;
        storages.push((storage, nothing()));
    }
    Ok(Box::new(Nodes::new(storages, batch_size)?))
}
