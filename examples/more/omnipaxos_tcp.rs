//! One of three nodes, each a process: a line of standard input is proposed, every decided line printed.
//! Kill one (`kill -9`), and start it again without `new`. (`serde`: of this crate and of `omnipaxos`.)
//! `cargo run -p indelible-lab --features omnipaxos-serde --example omnipaxos_tcp -- PID DIR [new]`

#[path = "../support/tcp.rs"]
mod tcp;

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use indelible::codec::Postcard;
use indelible::omnipaxos::{LogStorage, StorageConfig, Synced};
use omnipaxos::storage::{Entry, NoSnapshot};
use omnipaxos::util::LogEntry;
use omnipaxos::{ClusterConfig, OmniPaxosConfig, ServerConfig};
use tcp::{Event, Failed};

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Line(String);

impl Entry for Line {
    type Snapshot = NoSnapshot;
}

#[expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a program, with a clock")]
fn main() -> Result<(), Failed> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [pid, directory, new @ ..] = &arguments[..] else { return Err("PID DIR [new]".into()) };
    let log = StorageConfig::with_path(directory); // created the first time, and never again
    let storage = if new == ["new"] { LogStorage::create(&log)? } else { LogStorage::open(&log)? };
    let server_config = ServerConfig { pid: pid.parse()?, ..Default::default() };
    let nodes = vec![1, 2, 3];
    let cluster_config = ClusterConfig { configuration_id: 1, nodes, ..Default::default() };
    let (events, inbox) = channel();
    let links = tcp::Links::new(server_config.pid, &cluster_config.nodes, &events)?;
    tcp::propose_lines(events);
    let config = OmniPaxosConfig { cluster_config, server_config };
    let mut paxos: Synced<Line, Postcard> = Synced::build(config, storage)?;
    let (mut outbox, mut printed, mut tick) = (Vec::new(), 0, Instant::now());
    loop {
        let first = inbox.recv_timeout(tick.saturating_duration_since(Instant::now())).ok();
        for event in first.into_iter().chain(inbox.try_iter().take(1000)) {
            match event {
                Event::Session(peer) => paxos.reconnected(peer),
                Event::Message(message) => paxos.handle_incoming(message),
                Event::Proposal(line) => paxos.append(line).map_err(|no| format!("{no:?}"))?,
            }
        }
        if tick <= Instant::now() {
            paxos.tick(); // a leader of whom nothing is heard for a few of them is replaced
            tick = Instant::now() + Duration::from_millis(50);
        }
        paxos.take_outgoing_messages(&mut outbox)?; // syncs first, once for all of the turn
        outbox.drain(..).for_each(|message| links.send(message));
        while let Some(LogEntry::Decided(line)) = paxos.read(printed) {
            println!("{}", line.0);
            printed += 1;
        }
    }
}
