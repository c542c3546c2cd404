//! The nodes of a run, as operating-system processes.
//!
//! Owns: starting, killing and asking them; what each has let others see, to be held against it
//! after a restart; that none outlives the run. Does not own: when they are killed (`run`).

use std::collections::BTreeMap;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use omnipaxos::util::NodeId;

use crate::args::Start;
use crate::client;
use crate::disks::Disk;
use crate::failure::{Failure, Outcome, Why};
use crate::members::Members;
use crate::protocol::{Oath, Status};
use crate::replica::StoreChoices;

const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a process may take from its start to its first answer.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Outside the range from which systems take the local ports of outgoing connections.
const PORTS: std::ops::Range<u16> = 10_000..30_000;
/// Twice what a cluster takes, as some may be in use.
const PORTS_PER_PROCESS: u16 = 8;

/// One node's process, or the place for it while it is down.
#[derive(Debug)]
struct Seat {
    address: String,
    child: Option<Child>,
    /// The highest this node has let anyone see.
    oath: Oath,
}

#[derive(Debug)]
pub(crate) struct Cluster {
    dir: PathBuf,
    store: StoreChoices,
    snapshot_every: u64,
    /// Node N serves its figures at this port + N.
    metrics: Option<u16>,
    seats: BTreeMap<NodeId, Seat>,
    /// Disks of nodes that are on none of the system's.
    disks: BTreeMap<NodeId, Disk>,
    /// What new nodes are told.
    pub(crate) members: Members,
}

/// How a restart went.
#[derive(Debug, Clone)]
pub(crate) struct Restart {
    pub(crate) status: Status,
    /// From the start of the process to its first answer.
    pub(crate) answered: Duration,
    /// What the node forgot, if anything.
    pub(crate) forgotten: Option<String>,
}

impl Cluster {
    pub(crate) fn new(
        dir: &Path,
        store: StoreChoices,
        snapshot_every: u64,
        metrics: Option<u16>,
    ) -> Outcome<Self> {
        let ports = free_ports(4)?;
        let address = |port: &u16| format!("127.0.0.1:{port}");
        let seats = (1..).zip(&ports).map(|(id, port)| {
            (id, Seat { address: address(port), child: None, oath: Oath::default() })
        });
        let nodes = (1..=3).zip(ports.iter().map(address)).collect();
        Ok(Self {
            dir: dir.to_owned(),
            store,
            snapshot_every,
            metrics,
            seats: seats.collect(),
            disks: BTreeMap::new(),
            members: Members { config: 1, nodes },
        })
    }

    /// Nodes whose processes run.
    pub(crate) fn running(&self) -> Vec<NodeId> {
        self.seats.iter().filter(|(_, seat)| seat.child.is_some()).map(|(id, _)| *id).collect()
    }

    pub(crate) fn address(&self, id: NodeId) -> String {
        self.seats.get(&id).map(|seat| seat.address.clone()).unwrap_or_default()
    }

    pub(crate) fn addresses(&self) -> Vec<(NodeId, String)> {
        self.seats.iter().map(|(id, seat)| (*id, seat.address.clone())).collect()
    }

    /// Gives a node, which has not started yet, a disk that can be disturbed; a small one can be full.
    pub(crate) fn mount(&mut self, id: NodeId, seed: u64, small: bool) -> Outcome<()> {
        let place = self.dir.join(format!("disk-{id}"));
        let disk =
            if small { Disk::mount_small(&place, seed)? } else { Disk::mount(&place, seed)? };
        self.disks.insert(id, disk);
        Ok(())
    }

    pub(crate) fn disk(&mut self, id: NodeId) -> Outcome<&mut Disk> {
        let none = || Failure::new(format!("the disk of node {id} cannot be disturbed"));
        self.disks.get_mut(&id).ok_or_else(none)
    }

    /// Kills every node, and copies what would go with the disks to where it stays.
    pub(crate) fn keep(&mut self) -> Outcome<()> {
        let running = self.running();
        self.kill(&running)?;
        for (id, disk) in std::mem::take(&mut self.disks) {
            disk.copy_to(&self.home_of(id))?;
        }
        Ok(())
    }

    fn home_of(&self, id: NodeId) -> PathBuf {
        match self.disks.get(&id) {
            Some(disk) => disk.place.clone(),
            None => self.dir.join(format!("node-{id}")),
        }
    }

    pub(crate) fn log_of(&self, id: NodeId) -> PathBuf {
        self.home_of(id).join("log")
    }

    pub(crate) fn errors_of(&self, id: NodeId) -> PathBuf {
        self.dir.join(format!("node-{id}.err"))
    }

    pub(crate) fn start(&mut self, id: NodeId, start: Start) -> Outcome<()> {
        let exe = std::env::current_exe().why(|| "cannot find this program")?;
        let errors = self.errors_of(id);
        let stderr = File::options()
            .create(true)
            .append(true)
            .open(&errors)
            .why(|| format!("cannot write {}", errors.display()))?;
        let list: Vec<String> =
            self.members.nodes.iter().map(|(id, address)| format!("{id}={address}")).collect();
        let mut process = Process::new(exe);
        process.args(["serve", &id.to_string(), "--supervised", "--nodes", &list.join(",")]);
        process.args(["--listen", &self.address(id)]);
        process.arg("--dir").arg(self.home_of(id));
        process.args(["--snapshot-every", &self.snapshot_every.to_string()]);
        process.args(["--durability", if self.store.always { "always" } else { "barrier" }]);
        if let Some(port) = self.metrics {
            process.args(["--metrics", &format!("127.0.0.1:{}", u64::from(port) + id)]);
        }
        match start {
            Start::Again => {}
            Start::New => {
                process.arg("--new");
            }
            Start::Join => {
                process.arg("--join");
            }
        }
        // The node ends when its standard input does: it cannot outlive this process, however that
        // ends.
        process.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(stderr);
        let child = process.spawn().why(|| format!("cannot start node {id}"))?;
        if let Some(seat) = self.seats.get_mut(&id) {
            seat.child = Some(child);
        }
        Ok(())
    }

    /// Waits for the first answer of a node that has been started.
    pub(crate) fn await_answer(&mut self, id: NodeId, started: Instant) -> Outcome<Restart> {
        let (address, oath) = match self.seats.get(&id) {
            Some(seat) => (seat.address.clone(), seat.oath),
            None => return Err(Failure::new(format!("there is no node {id}"))),
        };
        loop {
            if let Ok(status) = client::status(&address, ASK_TIMEOUT)
                && status.id == id
            {
                let forgotten = oath.forgotten_by(&status.recovered.oath);
                return Ok(Restart { status, answered: started.elapsed(), forgotten });
            }
            self.check_alive(id)?;
            if started.elapsed() > START_TIMEOUT {
                return Err(Failure::new(format!("node {id} does not answer after its start")));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// An error if the process has ended though nobody killed it.
    pub(crate) fn check_alive(&mut self, id: NodeId) -> Outcome<()> {
        let Some(child) = self.seats.get_mut(&id).and_then(|seat| seat.child.as_mut()) else {
            return Ok(());
        };
        match child.try_wait().why(|| "cannot wait for a node")? {
            None => Ok(()),
            Some(code) => {
                let said = tail(&self.errors_of(id));
                Err(Failure::new(format!("node {id} ended by itself ({code}); it said:\n{said}")))
            }
        }
    }

    /// Waits for a node that has to end by itself. Returns the last line that it said with this word.
    pub(crate) fn await_end(&mut self, id: NodeId, word: &str) -> Outcome<String> {
        let started = Instant::now();
        let Some(mut child) = self.seats.get_mut(&id).and_then(|seat| seat.child.take()) else {
            return Err(Failure::new(format!("node {id} does not run")));
        };
        while child.try_wait().why(|| "cannot wait for a node")?.is_none() {
            if started.elapsed() > START_TIMEOUT {
                child.kill().why(|| format!("cannot kill node {id}"))?;
                child.wait().why(|| "cannot wait for a killed node")?;
                return Err(Failure::new(format!("node {id} goes on, though it should not")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let said = std::fs::read(self.errors_of(id)).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let line = said.lines().rev().find(|line| line.contains(word)).map(str::trim);
        line.map(str::to_owned).ok_or_else(|| {
            Failure::new(format!("node {id} ended and did not say why ({word}); it said:\n{said}"))
        })
    }

    pub(crate) fn check_all_alive(&mut self) -> Outcome<()> {
        self.running().into_iter().try_for_each(|id| self.check_alive(id))
    }

    /// SIGKILL; returns once the process is gone.
    pub(crate) fn kill(&mut self, ids: &[NodeId]) -> Outcome<()> {
        let mut dying = Vec::new();
        for id in ids {
            if let Some(mut child) = self.seats.get_mut(id).and_then(|seat| seat.child.take()) {
                child.kill().why(|| format!("cannot kill node {id}"))?;
                dying.push(child);
            }
        }
        for mut child in dying {
            child.wait().why(|| "cannot wait for a killed node")?;
        }
        Ok(())
    }

    /// Asks every running node, and notes what each has seen of the others.
    pub(crate) fn survey(&mut self) -> Vec<Status> {
        let running = self.running();
        self.survey_of(&running)
    }

    /// Asks these nodes, as [`survey`](Self::survey).
    pub(crate) fn survey_of(&mut self, ids: &[NodeId]) -> Vec<Status> {
        let addresses: Vec<String> = ids.iter().map(|id| self.address(*id)).collect();
        let statuses: Vec<Status> = addresses
            .iter()
            .filter_map(|address| client::status(address, ASK_TIMEOUT).ok())
            .collect();
        for status in &statuses {
            for (id, oath) in status.seen.iter().chain([&(status.id, status.oath)]) {
                if let Some(seat) = self.seats.get_mut(id) {
                    seat.oath.raise(oath);
                }
            }
        }
        statuses
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let running = self.running();
        let _nothing_else_to_do = self.kill(&running);
    }
}

/// The last lines of a file.
pub(crate) fn tail(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.get(lines.len().saturating_sub(12)..).unwrap_or_default();
    last.iter().flat_map(|line| ["    ", line, "\n"]).collect()
}

/// Free ports, from a block of this process's own: between the look and the start of the nodes another
/// cluster may look as well.
fn free_ports(count: usize) -> Outcome<Vec<u16>> {
    let blocks = u32::from((PORTS.end - PORTS.start) / PORTS_PER_PROCESS);
    let offset = std::process::id() % blocks * u32::from(PORTS_PER_PROCESS);
    let candidates = (PORTS.start..PORTS.end).cycle().skip(usize::try_from(offset).unwrap_or(0));
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let ports: Vec<u16> = candidates.take(2_000).filter(free).take(count).collect();
    if ports.len() < count {
        return Err(Failure::new("no free ports from 10000 to 30000 on 127.0.0.1"));
    }
    Ok(ports)
}
