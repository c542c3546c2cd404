//! The command line.
//!
//! Owns: which words are understood, and their defaults. Does not own: what they make the program do.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use omnipaxos::util::NodeId;

use crate::members::Members;
use crate::replica::StoreChoices;

const NODES_DEFAULT: &str = "1=127.0.0.1:7461,2=127.0.0.1:7462,3=127.0.0.1:7463";

/// Three OmniPaxos nodes on `indelible` logs, as three processes, whom everything happens to that
/// happens to nodes. Without a command: `run`.
#[derive(Debug, Parser)]
#[command(name = "kv_cluster", args_conflicts_with_subcommands = true)]
pub(crate) struct Words {
    #[command(subcommand)]
    job: Option<Job>,
    #[command(flatten)]
    run: RunChoices,
}

impl Words {
    pub(crate) fn job(self) -> Job {
        self.job.unwrap_or(Job::Run(self.run))
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Job {
    /// Starts a cluster, writes and reads, disturbs it, checks.
    Run(RunChoices),
    /// Runs one node.
    Serve(ServeChoices),
    /// Sets a key.
    Put {
        key: String,
        value: String,
        #[command(flatten)]
        nodes: Nodes,
    },
    /// Reads a key.
    Get {
        key: String,
        #[command(flatten)]
        nodes: Nodes,
    },
    /// Says how every node is.
    Status {
        #[command(flatten)]
        nodes: Nodes,
    },
    /// Puts a new node, which was started with `serve --join`, into the place of an old one.
    Replace {
        #[arg(value_name = "OLD_ID")]
        old: NodeId,
        #[arg(value_name = "NEW_ID")]
        new: NodeId,
        address: String,
        #[command(flatten)]
        nodes: Nodes,
    },
    /// Shows commands of a log: reads one per line, in hexadecimal, and writes a line for each, as
    /// `indelible dump DIR --decode=omnipaxos --payload COMMAND` wants it.
    Decode,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Nodes {
    /// Who is in the cluster: ID=HOST:PORT,ID=HOST:PORT,...
    #[arg(
        id = "nodes",
        long = "nodes",
        value_name = "LIST",
        default_value = NODES_DEFAULT,
        value_parser = Members::parse
    )]
    pub(crate) members: Members,
}

/// When a write is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum When {
    /// One sync per turn of a node's loop.
    Barrier,
    /// One sync per write.
    Always,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Durability {
    /// When a write is durable.
    #[arg(id = "durability", long = "durability", value_enum, default_value_t = When::Barrier)]
    when: When,
}

impl Durability {
    pub(crate) fn store(&self) -> StoreChoices {
        StoreChoices { always: self.when == When::Always }
    }
}

/// One of the three nodes that a run begins with.
fn first_node() -> impl clap::builder::TypedValueParser<Value = NodeId> {
    clap::value_parser!(NodeId).range(1..=3)
}

#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct RunChoices {
    /// Commands to replicate; every fourth reads a key.
    #[arg(long, default_value_t = 20_000)]
    pub(crate) entries: u64,
    /// Processes to kill with SIGKILL.
    #[arg(long, default_value_t = 5)]
    pub(crate) kills: u64,
    /// Replace a dead node by a new one half way.
    #[arg(long)]
    pub(crate) reconfigure: bool,
    /// Cut the leader off from the other nodes for a while.
    #[arg(long)]
    pub(crate) partition: bool,
    /// Flip bits in a sealed segment of this node, and mend it from a peer.
    #[arg(long, value_name = "NODE", value_parser = first_node())]
    pub(crate) rot: Option<NodeId>,
    /// Cut the power of all nodes at once: what was not synced is gone. This and --slow-disk need
    /// root, FUSE and the program `lossy`.
    #[arg(long)]
    pub(crate) power_cut: bool,
    /// Leave no room on the disk of this node for a while: it votes, and accepts nothing. The disk is
    /// a small tmpfs, which needs root.
    #[arg(long, value_name = "NODE", value_parser = first_node())]
    pub(crate) full_disk: Option<NodeId>,
    /// Let this node lead, then let its syncs hang: it asks another one to lead.
    #[arg(long, value_name = "NODE", value_parser = first_node())]
    pub(crate) slow_disk: Option<NodeId>,
    /// How much longer a sync takes then, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 600, requires = "slow_disk")]
    pub(crate) hang: u64,
    /// Node N serves its figures to Prometheus at 127.0.0.1, this port + N.
    #[cfg_attr(feature = "prometheus", arg(long, value_name = "PORT"))]
    #[cfg_attr(not(feature = "prometheus"), arg(skip))]
    pub(crate) metrics: Option<u16>,
    /// One page with everything that happened.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// One value per line, cycled [default: a text that comes along].
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// Where the logs go, and stay [default: a temporary directory].
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Of the choice of victims and moments.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) durability: Durability,
    /// Commands in flight.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=16_384))]
    pub(crate) window: u64,
    /// Give up after so many seconds [default: from the above].
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u64>,
    /// Only the summary.
    #[arg(long)]
    pub(crate) quiet: bool,
}

impl RunChoices {
    /// How often something happens to the disk of a node.
    pub(crate) fn disks(&self) -> u64 {
        let nodes = [self.rot, self.full_disk, self.slow_disk];
        nodes.iter().map(|node| u64::from(node.is_some())).sum::<u64>() + u64::from(self.power_cut)
    }

    /// Whether something happens to the disk of this node that no ordinary disk does on demand.
    pub(crate) fn wants_disk(&self, id: NodeId) -> bool {
        self.power_cut || [self.full_disk, self.slow_disk].contains(&Some(id))
    }

    /// Whether the disk of this node need do nothing but be full.
    pub(crate) fn only_fills(&self, id: NodeId) -> bool {
        !self.power_cut && self.slow_disk != Some(id)
    }

    /// How often anything happens at all.
    pub(crate) fn disturbances(&self) -> u64 {
        self.kills + self.disks() + u64::from(self.partition) + u64::from(self.reconfigure)
    }
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ServeChoices {
    #[arg(value_parser = clap::value_parser!(NodeId).range(1..))]
    pub(crate) id: NodeId,
    /// The first time.
    #[arg(long, conflicts_with = "join")]
    new: bool,
    /// To enter an existing cluster after `replace`.
    #[arg(long)]
    join: bool,
    #[command(flatten)]
    pub(crate) nodes: Nodes,
    /// Where the log is [default: below the system's temporary directory].
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Where to listen, for a node that is not in the list.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    #[command(flatten)]
    pub(crate) durability: Durability,
    /// Entries between two snapshots, at least.
    #[arg(long, default_value_t = 2_000, value_name = "ENTRIES")]
    pub(crate) snapshot_every: usize,
    /// Serve the figures of the log to Prometheus here.
    #[cfg(feature = "prometheus")]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) metrics: Option<String>,
    /// Ends when standard input does: for nodes that a run started.
    #[arg(long, hide = true)]
    pub(crate) supervised: bool,
}

impl ServeChoices {
    pub(crate) fn start(&self) -> Start {
        match (self.new, self.join) {
            (true, _) => Start::New,
            (_, true) => Start::Join,
            _ => Start::Again,
        }
    }
}

/// How a node comes to its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// It has one.
    Again,
    /// It creates one: the cluster is new.
    New,
    /// It is given the entries by the others.
    Join,
}
