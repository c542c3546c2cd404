//! Three nodes of `OmniPaxos` as tasks of tokio, none of which holds up an executor while its disk syncs:
//! `cargo run -p indelible-lab --example omnipaxos_tokio`.

#[path = "../../examples/support/command.rs"]
mod command;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use command::{Bytes, Command, one_of_three};
use indelible::Durability;
use indelible::omnipaxos::{LogStorage, StorageConfig};
use omnipaxos::messages::Message;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

type Failed = Box<dyn std::error::Error + Send + Sync>;
type Inbox = UnboundedReceiver<Message<Command>>;
type Peers = HashMap<u64, UnboundedSender<Message<Command>>>;

/// Proposes a hundred commands if it leads, and says when all are decided.
async fn node(
    (pid, path): (u64, PathBuf),
    (mut inbox, peers): (Inbox, Peers),
    done: UnboundedSender<u64>,
) -> Result<(), Failed> {
    let config = StorageConfig::with_path(path).durability(Durability::Barrier);
    let storage: LogStorage<Command, Bytes> = LogStorage::create(&config)?; // `open` after that
    let handle = storage.handle();
    let mut paxos = one_of_three(pid).build(storage)?;
    let mut clock = tokio::time::interval(Duration::from_millis(10));
    let (mut outbox, mut proposed) = (Vec::new(), 0);
    while paxos.get_decided_idx() < 100 || done.send(pid).is_ok() {
        tokio::select! {
            Some(message) = inbox.recv() => paxos.handle_incoming(message),
            _ = clock.tick() => paxos.tick(),
        }
        if paxos.get_current_leader() == Some((pid, true)) && proposed < 100 {
            proposed += 1;
            paxos.append(Command(vec![proposed])).map_err(|error| format!("{error:?}"))?;
        }
        // Nothing is handled between this and the taking: what leaves is durable.
        if let Some(binding) = handle.binding() {
            binding.await?;
        }
        paxos.take_outgoing_messages(&mut outbox);
        for message in outbox.drain(..) {
            if let Some(peer) = peers.get(&message.get_receiver()) {
                peer.send(message).map_err(|_| "the other node has ended")?;
            }
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let (peers, inboxes): (HashMap<_, _>, Vec<_>) = (1..=3)
        .map(|pid| (pid, unbounded_channel()))
        .map(|(pid, (sender, inbox))| ((pid, sender), (pid, inbox)))
        .unzip();
    let (done, mut decided) = unbounded_channel();
    for (pid, inbox) in inboxes {
        let place = (pid, directory.path().join(pid.to_string()));
        tokio::spawn(node(place, (inbox, peers.clone()), done.clone()));
    }
    let mut all = BTreeSet::new();
    while all.len() < 3 {
        all.insert(decided.recv().await.ok_or("a node has ended")?);
    }
    Ok(())
}
