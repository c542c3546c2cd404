//! Three nodes of `OmniPaxos` as tasks of tokio, none of which holds up an executor while its disk
//! syncs: `cargo run -p indelible-lab --example omnipaxos_tokio`.

#[path = "../support/command.rs"]
mod command;

use std::collections::{BTreeSet, HashMap};

use command::{Bytes, Command, one_of_three};
use indelible::Durability::Barrier;
use indelible::omnipaxos::{LogStorage, StorageConfig};
use omnipaxos::messages::Message;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

type Failed = Box<dyn std::error::Error + Send + Sync>;
type Peers = HashMap<u64, UnboundedSender<Message<Command>>>;
type Links = (Peers, UnboundedReceiver<Message<Command>>, UnboundedSender<u64>);

/// Proposes a hundred commands if it leads, and says when all are decided.
async fn node(pid: u64, log: StorageConfig, links: Links) -> Result<(), Failed> {
    let storage: LogStorage<Command, Bytes> = LogStorage::create(&log)?; // `open` after that
    let handle = storage.handle();
    let mut paxos = one_of_three(pid).build(storage)?;
    let mut clock = tokio::time::interval(std::time::Duration::from_millis(10));
    let ((peers, mut inbox, done), mut outbox, mut commands) = (links, Vec::new(), 0..100);
    while paxos.get_decided_idx() < 100 || done.send(pid).is_ok() {
        tokio::select! {
            Some(message) = inbox.recv() => paxos.handle_incoming(message),
            _ = clock.tick() => paxos.tick(),
        }
        let leads = paxos.get_current_leader() == Some((pid, true));
        if leads && let Some(number) = commands.next() {
            paxos.append(Command(vec![number])).map_err(|error| format!("{error:?}"))?;
        }
        if let Some(binding) = handle.binding() {
            binding.await?; // nothing is handled until the taking: what leaves is durable
        }
        paxos.take_outgoing_messages(&mut outbox);
        for message in outbox.drain(..) {
            peers.get(&message.get_receiver()).ok_or("no such node")?.send(message)?;
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let (senders, inboxes): (Vec<_>, Vec<_>) = (0..3).map(|_| unbounded_channel()).unzip();
    let (peers, (done, mut decided)) = ((1..).zip(senders).collect::<Peers>(), unbounded_channel());
    for (pid, inbox) in (1..).zip(inboxes) {
        let config = StorageConfig::with_path(directory.path().join(format!("{pid}")));
        tokio::spawn(node(pid, config.durability(Barrier), (peers.clone(), inbox, done.clone())));
    }
    let mut all = BTreeSet::new();
    while all.len() < 3 {
        all.insert(decided.recv().await.ok_or("every node has ended")?);
    }
    Ok(())
}
