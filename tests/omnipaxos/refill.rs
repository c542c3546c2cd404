//! A damaged node is repaired, refilled from another node's log, and rejoins: nothing is lost.

use std::fs;
use std::path::{Path, PathBuf};

use indelible::inspect::{Health, verify};
use indelible::omnipaxos::{LogStorage, StorageConfig, Synced};
use indelible::repair::{apply, missing, refill};
use indelible::{Error, Log, Options};
use omnipaxos::util::LogEntry;
use omnipaxos::{ClusterConfig, OmniPaxosConfig, ServerConfig};

use super::support::{Value, ValueCodec};

type Node = Synced<Value, ValueCodec>;

const NODES: u64 = 3;

fn options() -> Options {
    Options::new().segment_bytes(64 * 1024).background(false)
}

fn long(number: u64) -> Value {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(2000, b'.');
    Value(bytes)
}

fn start(place: &Path) -> Vec<Node> {
    (1..=NODES)
        .map(|pid| {
            let config = StorageConfig::with(path(place, pid), options());
            let storage = LogStorage::open_or_create(&config).unwrap();
            let paxos = OmniPaxosConfig {
                cluster_config: ClusterConfig {
                    configuration_id: 1,
                    nodes: (1..=NODES).collect(),
                    flexible_quorum: None,
                },
                server_config: ServerConfig {
                    pid,
                    election_tick_timeout: 5,
                    resend_message_tick_timeout: 5,
                    ..ServerConfig::default()
                },
            };
            Synced::build(paxos, storage).unwrap()
        })
        .collect()
}

fn path(place: &Path, pid: u64) -> PathBuf {
    place.join(format!("node-{pid}"))
}

/// Ticks and hands messages over until all nodes have decided `count` entries.
fn run(nodes: &mut [Node], count: usize) {
    for _ in 0..1000 {
        for node in nodes.iter_mut() {
            node.tick();
        }
        let mut messages = Vec::new();
        for node in nodes.iter_mut() {
            let mut buffer = Vec::new();
            node.take_outgoing_messages(&mut buffer).unwrap();
            messages.append(&mut buffer);
        }
        for message in messages {
            let at = usize::try_from(message.get_receiver()).unwrap() - 1;
            nodes[at].handle_incoming(message);
        }
        let led = nodes.iter().any(|node| node.get_current_leader().is_some_and(|(_, ok)| ok));
        if led && nodes.iter().all(|node| node.get_decided_idx() >= count) {
            return;
        }
    }
    panic!("no decision of {count} entries");
}

fn propose(nodes: &mut [Node], numbers: std::ops::Range<u64>) {
    let (leader, _) = nodes[0].get_current_leader().unwrap();
    let at = usize::try_from(leader).unwrap() - 1;
    for number in numbers {
        nodes[at].append(long(number)).unwrap();
    }
}

fn stop(nodes: Vec<Node>) {
    for node in nodes {
        node.handle().clone().close().unwrap();
    }
}

#[test]
fn a_damaged_node_is_refilled_from_another_and_rejoins() {
    let place = tempfile::tempdir().unwrap();
    let mut nodes = start(place.path());
    run(&mut nodes, 0);
    propose(&mut nodes, 0..120);
    run(&mut nodes, 120);
    stop(nodes);

    let hurt = path(place.path(), 2);
    let mut segments: Vec<_> = fs::read_dir(&hurt)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|file| file.extension().is_some_and(|end| end == "seg"))
        .collect();
    segments.sort();
    assert!(segments.len() >= 3, "{segments:?}");
    let mut bytes = fs::read(&segments[1]).unwrap();
    for at in [9000, 20_000, 40_001] {
        bytes[at] ^= 1;
    }
    fs::write(&segments[1], bytes).unwrap();
    assert_eq!(verify(&hurt, &mut |_| ()).unwrap().health, Health::Damaged);

    let (plan, kept) = apply(&hurt).unwrap();
    assert!(!plan.losses.is_empty() && kept.unwrap().join("metadata").exists());
    let holes = missing(&hurt).unwrap();
    assert_eq!(holes.iter().map(|hole| hole.end - hole.start).sum::<u64>(), 3, "{holes:?}");
    assert!(matches!(Log::open(&hurt, &options()), Err(Error::Incomplete { count: 3, .. })));

    let (peer, _) = Log::open(path(place.path(), 1), &options()).unwrap();
    let refilled = refill(&hurt, &mut |index| peer.entry(index).map(Some)).unwrap();
    assert_eq!((refilled.filled, refilled.missing.len()), (3, 0));
    peer.close().unwrap();
    assert_eq!(verify(&hurt, &mut |_| ()).unwrap().health, Health::Clean);

    let mut nodes = start(place.path());
    run(&mut nodes, 120);
    propose(&mut nodes, 120..140);
    run(&mut nodes, 140);
    for node in &nodes {
        let decided: Vec<Value> = node
            .read_decided_suffix(0)
            .unwrap()
            .into_iter()
            .map(|entry| match entry {
                LogEntry::Decided(value) => value,
                other => panic!("unexpected {other:?}"),
            })
            .collect();
        assert!(decided == (0..140).map(long).collect::<Vec<_>>());
    }
    stop(nodes);
}
