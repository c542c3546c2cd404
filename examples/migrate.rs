//! Moves the state of an OmniPaxos node from any other `Storage<T>` into a log of ours, and checks
//! what arrived: `cargo run --example migrate -- NEW_DIRECTORY`.
//!
//! The source here is filled by the example itself. For a node that has used upstream's RocksDB
//! storage copy [`move_node`] and the codec into a program of your own that depends on
//! `omnipaxos_storage` with its feature `persistent_storage`, and give it
//! `PersistentStorage::<Command>::open(config)`; docs/MIGRATION.md has the steps.

#![expect(clippy::print_stdout, reason = "an example talks to a person")]

use std::error::Error;
use std::path::Path;

use indelible::Options;
use indelible::codec::{Codec, CodecError, Fields};
use indelible::omnipaxos::{LogStorage, Migrated, StorageConfig, migrate};
use omnipaxos::ballot_leader_election::Ballot;
use omnipaxos::storage::{Entry, NoSnapshot, Storage, StorageOp};

/// The entry type of the node: the one its OmniPaxos was built with.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "omnipaxos-serde", derive(serde::Serialize, serde::Deserialize))]
struct Command {
    key: String,
    value: u64,
}

impl Entry for Command {
    type Snapshot = NoSnapshot;
    #[cfg(feature = "omnipaxos-unicache")]
    type Encoded = u64;
    #[cfg(feature = "omnipaxos-unicache")]
    type Encodable = String;
    #[cfg(feature = "omnipaxos-unicache")]
    type NotEncodable = u64;
    #[cfg(feature = "omnipaxos-unicache")]
    type EncodeResult = Command;
    #[cfg(feature = "omnipaxos-unicache")]
    type UniCache = Uncached;
}

#[cfg(feature = "omnipaxos-unicache")]
#[derive(Debug, Clone)]
#[cfg_attr(feature = "omnipaxos-serde", derive(serde::Serialize, serde::Deserialize))]
struct Uncached;

#[cfg(feature = "omnipaxos-unicache")]
impl omnipaxos::unicache::UniCache for Uncached {
    type T = Command;
    fn new() -> Self {
        Self
    }
    fn try_encode(&mut self, command: &Command) -> Command {
        command.clone()
    }
    fn decode(&mut self, command: Command) -> Command {
        command
    }
}

/// How commands are written from now on: no derives, a version in front.
struct CommandCodec;

const COMMAND_VERSION: u8 = 1;

impl Codec<Command> for CommandCodec {
    fn encode(command: &Command, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.push(COMMAND_VERSION);
        out.extend_from_slice(&command.value.to_le_bytes());
        out.extend_from_slice(command.key.as_bytes());
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<Command, CodecError> {
        let mut fields = Fields::new(bytes);
        match fields.u8("version")? {
            COMMAND_VERSION => {}
            got => return Err(CodecError::Value { field: "version", got: got.into() }),
        }
        let value = fields.u64("value")?;
        let key = fields.text("key", fields.left())?.to_owned();
        Ok(Command { key, value })
    }
}

impl Codec<NoSnapshot> for CommandCodec {
    fn encode(_: &NoSnapshot, _: &mut Vec<u8>) -> Result<(), CodecError> {
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<NoSnapshot, CodecError> {
        Fields::new(bytes).finish()?;
        Ok(NoSnapshot)
    }
}

/// Creates a log in `directory` and moves everything that `from` holds into it.
fn move_node<S: Storage<Command>>(from: &S, directory: &Path) -> Result<Migrated, Box<dyn Error>> {
    let config = StorageConfig::with_path(directory);
    let mut to: LogStorage<Command, CommandCodec> = LogStorage::create(&config)?;
    let migrated = migrate(from, &mut to)?;
    to.handle().close()?;
    Ok(migrated)
}

/// Opens the log and compares all that OmniPaxos will ask it for.
fn check<S: Storage<Command>>(from: &S, directory: &Path) -> Result<bool, Box<dyn Error>> {
    let to: LogStorage<Command, CommandCodec> =
        LogStorage::open(&StorageConfig::with_path(directory))?;
    let start = from.get_compacted_idx()?;
    let same = to.get_compacted_idx()? == start
        && to.get_suffix(start)? == from.get_suffix(start)?
        && to.get_promise()? == from.get_promise()?
        && to.get_accepted_round()? == from.get_accepted_round()?
        && to.get_decided_idx()? == from.get_decided_idx()?
        && to.get_stopsign()? == from.get_stopsign()?;
    to.handle().close()?;
    Ok(same)
}

/// Stands in for the node's old storage.
fn old_storage() -> Result<impl Storage<Command>, Box<dyn Error>> {
    let mut storage: LogStorage<Command, CommandCodec> = LogStorage::in_memory(&Options::new())?;
    let commands = (0..10_000).map(|value| Command { key: format!("key {}", value % 100), value });
    let round = Ballot { config_id: 1, n: 4, priority: 0, pid: 2 };
    storage.write_atomically(vec![
        StorageOp::SetPromise(round),
        StorageOp::SetAcceptedRound(round),
        StorageOp::AppendEntries(commands.collect()),
        StorageOp::SetDecidedIndex(9_990),
        StorageOp::Trim(2_000),
        StorageOp::SetCompactedIdx(2_000),
    ])?;
    Ok(storage)
}

fn main() -> Result<(), Box<dyn Error>> {
    let temporary = tempfile::tempdir()?;
    let directory = match std::env::args_os().nth(1) {
        Some(directory) => directory.into(),
        None => temporary.path().join("node-1"),
    };
    let from = old_storage()?;
    let migrated = move_node(&from, &directory)?;
    println!(
        "moved entries {}..{} (decided {}) to {}",
        migrated.first,
        migrated.next,
        migrated.decided,
        directory.display()
    );
    if !check(&from, &directory)? {
        return Err("the copy differs from its source".into());
    }
    println!("read back: the same");
    Ok(())
}
