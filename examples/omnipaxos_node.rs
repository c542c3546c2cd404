//! Three nodes of `OmniPaxos`, each on a log of its own, in one thread: `cargo run --example
//! omnipaxos_node`.

#[path = "support/command.rs"]
mod command;

use std::collections::BTreeMap;
use std::path::Path;

use command::{Bytes, Command, one_of_three};
use indelible::omnipaxos::{LogStorage, StorageConfig, Synced};

type Failed = Box<dyn std::error::Error>;

fn node(directory: &Path, pid: u64) -> Result<Synced<Command, Bytes>, Failed> {
    let config = StorageConfig::with_path(directory.join(pid.to_string()));
    let storage = LogStorage::create(&config)?; // `open` after that
    Ok(Synced::build(one_of_three(pid), storage)?)
}

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
fn main() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let mut nodes = BTreeMap::new();
    for pid in 1..=3 {
        nodes.insert(pid, node(directory.path(), pid)?);
    }
    let (mut outbox, mut proposed) = (Vec::new(), false);
    while nodes.values().any(|node| node.get_decided_idx() < 1) {
        for node in nodes.values_mut() {
            node.tick();
            if !proposed && node.get_current_leader().is_some() {
                proposed = node.append(Command(b"x = 1".to_vec())).is_ok();
            }
            node.take_outgoing_messages(&mut outbox)?; // syncs first, once for all of it
        }
        for message in outbox.drain(..) {
            if let Some(node) = nodes.get_mut(&message.get_receiver()) {
                node.handle_incoming(message);
            }
        }
    }
    println!("decided by all: {:?}", nodes.values().next().and_then(|node| node.read(0)));
    Ok(())
}
