//! The dashboard of OmniPaxos, drawn from the state of a node on our storage after three nodes have
//! decided seven entries. It needs a terminal (`../run`).

use indelible::Options;
use indelible::codec::Postcard;
use indelible::omnipaxos::{LogStorage, Synced};
use omnipaxos::storage::{Entry, NoSnapshot};
use omnipaxos::{ClusterConfig, OmniPaxosConfig, ServerConfig};
use omnipaxos_ui::OmniPaxosUI;

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Number(u64);

impl Entry for Number {
    type Snapshot = NoSnapshot;
}

fn config(pid: u64) -> OmniPaxosConfig {
    let server_config = ServerConfig { pid, ..Default::default() };
    let nodes = vec![1, 2, 3];
    let cluster_config = ClusterConfig { configuration_id: 1, nodes, ..Default::default() };
    OmniPaxosConfig { cluster_config, server_config }
}

fn main() {
    let node = |pid| {
        let storage = LogStorage::in_memory(&Options::new()).unwrap();
        Synced::build(config(pid), storage).unwrap()
    };
    let mut nodes: [Synced<Number, Postcard>; 3] = [1, 2, 3].map(node);
    let (mut outbox, mut numbers) = (Vec::new(), 0..7);
    while nodes.iter().any(|node| node.get_decided_idx() < 7) {
        for node in &mut nodes {
            node.tick();
            if node.get_current_leader().is_some()
                && let Some(number) = numbers.next()
            {
                node.append(Number(number)).unwrap();
            }
            node.take_outgoing_messages(&mut outbox).unwrap();
        }
        for message in outbox.drain(..) {
            nodes[message.get_receiver() as usize - 1].handle_incoming(message);
        }
    }
    let mut dashboard = OmniPaxosUI::with(config(1).into());
    dashboard.start();
    dashboard.tick(nodes[0].get_ui_states());
    dashboard.stop();
}
