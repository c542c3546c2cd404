//! A node's replica of the log: OmniPaxos on top of `indelible`, in one configuration of the
//! cluster.
//!
//! Owns: opening the log and starting OmniPaxos on it, what of a stop sign is put aside so that the
//! same log serves the next configuration, and taking over a log from another node. Does not own:
//! when to do so (`node`).

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use indelible::codec::{Codec, CodecError};
use indelible::omnipaxos::{LogStorage, StorageConfig, StorageHandle, Synced};
use indelible::{Durability, Error, Options, Stall};
use omnipaxos::storage::{Storage, StorageOp, StorageResult};
use omnipaxos::util::NodeId;
use omnipaxos::{OmniPaxosConfig, ServerConfig};

use crate::bytes::{BadBytes, In, Out};
use crate::failure::{Failure, Outcome, Why};
use crate::fitness::{Deputy, HANGS};
use crate::kv::{Command, KvSnapshot, Machine};
use crate::members::Members;
use crate::protocol::{Oath, Recovered};

/// Ticks without a heartbeat before a node looks for a new leader.
const ELECTION_TICKS: u64 = 15;
/// Ticks before a message that got no answer is sent again.
const RESEND_TICKS: u64 = 30;
/// Small segments, so that a run of some seconds fills, trims and recycles some.
pub(crate) const SEGMENT_BYTES: u64 = 64 * 1024;

/// OmniPaxos' storage: commands and snapshots in an `indelible` log.
type Disk = LogStorage<Command, KvCodec>;

/// Gives the log the bytes that also go over the wire.
#[derive(Debug)]
pub(crate) struct KvCodec;

impl Codec<Command> for KvCodec {
    fn encode(command: &Command, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(&command.to_bytes());
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<Command, CodecError> {
        let mut read = In::new(bytes);
        let command = Command::decode(&mut read).map_err(CodecError::library)?;
        read.end().map_err(CodecError::library)?;
        Ok(command)
    }
}

impl Codec<KvSnapshot> for KvCodec {
    fn encode(snapshot: &KvSnapshot, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let mut bytes = Out::new();
        // One that is stored covers the log from index 0 on, so its commands can act: what they leave
        // is much smaller than they are.
        KvSnapshot::from(snapshot.clone().into_machine()).encode(&mut bytes);
        out.extend_from_slice(&bytes.finish());
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<KvSnapshot, CodecError> {
        let mut read = In::new(bytes);
        let snapshot: Result<_, BadBytes> = KvSnapshot::decode(&mut read);
        let snapshot = snapshot.map_err(CodecError::library)?;
        read.end().map_err(CodecError::library)?;
        Ok(snapshot)
    }
}

/// How the log is run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StoreChoices {
    /// Every write is durable on return; otherwise one sync makes a whole turn durable.
    pub(crate) always: bool,
}

pub(crate) struct Replica {
    synced: Synced<Command, KvCodec>,
    id: NodeId,
    recovered: Recovered,
}

impl Replica {
    /// Opens the log (creates it if `fresh`), starts OmniPaxos on it, and returns the state machine
    /// at the last snapshot.
    pub(crate) fn open(
        log: &Path,
        id: NodeId,
        members: &Members,
        choices: StoreChoices,
        fresh: bool,
        deputy: &Arc<Deputy>,
    ) -> Outcome<(Self, Machine)> {
        let started = Instant::now();
        let mut disk = open(log, choices, fresh, deputy)?;
        check(&disk)?;
        let open_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let verdict = format!("{:?}", disk.handle().recovery().verdict);
        let oath = oath(&disk, members).why(|| "cannot read the log")?;
        put_stop_sign_aside(&mut disk, members).why(|| "cannot start the new configuration")?;
        let snapshot = disk.get_snapshot().why(|| "cannot read the snapshot")?;
        let machine = snapshot.map(KvSnapshot::into_machine).unwrap_or_default();
        let config = OmniPaxosConfig {
            cluster_config: members.cluster_config(),
            server_config: ServerConfig {
                pid: id,
                election_tick_timeout: ELECTION_TICKS,
                resend_message_tick_timeout: RESEND_TICKS,
                ..ServerConfig::default()
            },
        };
        let synced = Synced::build(config, disk).why(|| format!("OmniPaxos refuses {members}"))?;
        let recovered = Recovered { open_us, verdict, oath };
        Ok((Self { synced, id, recovered }, machine))
    }

    /// Makes a log hold what another node has decided, and nothing else: the next configuration
    /// starts from there.
    pub(crate) fn install(log: &Path, choices: StoreChoices, snapshot: KvSnapshot) -> Outcome<()> {
        let mut disk = open(log, choices, !log.exists(), &Arc::default())?;
        install(&mut disk, snapshot).why(|| "cannot take over the log of another node")?;
        close(&disk.handle())
    }

    pub(crate) fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// OmniPaxos, with the one way to its messages that syncs first.
    pub(crate) fn paxos(&mut self) -> &mut Synced<Command, KvCodec> {
        &mut self.synced
    }

    /// Whether this node leads and may decide.
    pub(crate) fn leads(&self) -> bool {
        self.synced.get_current_leader() == Some((self.id, true))
    }

    pub(crate) fn handle(&self) -> &StorageHandle {
        self.synced.handle()
    }

    pub(crate) fn close(self) -> Outcome<()> {
        let (paxos, handle) = self.synced.into_inner();
        drop(paxos);
        close(&handle)
    }
}

fn open(log: &Path, choices: StoreChoices, fresh: bool, deputy: &Arc<Deputy>) -> Outcome<Disk> {
    let durability = if choices.always { Durability::Always } else { Durability::Barrier };
    let deputy = Arc::clone(deputy);
    let options = Options::new().durability(durability).segment_bytes(SEGMENT_BYTES).stall(
        HANGS,
        move |stall| {
            if matches!(stall, Stall::Began(_)) {
                deputy.ask();
            }
        },
    );
    let config = StorageConfig::with(log, options);
    let opened = if fresh { Disk::create(&config) } else { Disk::open(&config) };
    opened.map_err(|error| {
        let failure = Failure::new(format!("cannot open the log in {}: {error}", log.display()));
        match error {
            Error::Missing { .. } => failure.hint(
                "find it: a node that forgets what it promised can make the cluster lose entries",
            ),
            Error::Locked { .. } => failure.hint("is this node running already?"),
            _ => failure,
        }
    })
}

/// Reads every sealed segment. An open looks at the ends of the log only; what this node is about to
/// replay has to be readable, and a host that finds out later can but panic.
fn check(disk: &Disk) -> Outcome<()> {
    let handle = disk.handle();
    let found = handle.log().scrub(None, &mut |_| ControlFlow::Continue(()));
    match found.why(|| "cannot read the log")?.findings.first() {
        None => Ok(()),
        Some(error) => Err(Failure::new(format!("{error}"))
            .hint("`indelible verify`, `indelible repair`, then `indelible refill` from a peer")),
    }
}

fn close(handle: &StorageHandle) -> Outcome<()> {
    handle.close().why(|| format!("cannot close the log in {}", handle.log().path().display()))
}

/// What the log says this node has promised and accepted.
fn oath(disk: &Disk, members: &Members) -> StorageResult<Oath> {
    let accepted = disk.get_accepted_round()?.unwrap_or_default();
    let mut end = disk.get_compacted_idx()? + disk.get_log_len()?;
    // The stop sign is the last entry; it still was one when it was accepted.
    if disk.get_stopsign()?.is_some() || accepted.config_id < members.config {
        end += 1;
    }
    Ok(Oath { promise: disk.get_promise()?.unwrap_or_default(), accepted, accepted_end: end })
}

/// OmniPaxos counts a decided stop sign as an entry and refuses more. Once the next configuration
/// is settled the log goes on in the stop sign's place. Promise and accepted round stay: rounds
/// only grow, over all configurations.
fn put_stop_sign_aside(disk: &mut Disk, members: &Members) -> StorageResult<()> {
    let Some(stop_sign) = disk.get_stopsign()? else {
        return Ok(());
    };
    if stop_sign.next_config.configuration_id > members.config {
        return Ok(());
    }
    // A node learns of the next configuration only when the stop sign is decided, and with it all
    // before it.
    let end = disk.get_compacted_idx()? + disk.get_log_len()?;
    disk.write_atomically(vec![StorageOp::SetStopsign(None), StorageOp::SetDecidedIndex(end)])
}

fn install(disk: &mut Disk, snapshot: KvSnapshot) -> StorageResult<()> {
    let compacted = disk.get_compacted_idx()?;
    let index = snapshot.len().max(compacted);
    let mut operations = vec![StorageOp::SetDecidedIndex(index)];
    if snapshot.len() > compacted {
        operations.extend([
            StorageOp::Trim(index),
            StorageOp::SetCompactedIdx(index),
            StorageOp::SetSnapshot(Some(snapshot)),
        ]);
    }
    // Whatever is accepted after this was never decided: the stop sign stands before it.
    operations.extend([StorageOp::AppendOnPrefix(index, Vec::new()), StorageOp::SetStopsign(None)]);
    disk.write_atomically(operations)
}
