//! Links between nodes: each keeps its order, may be slow, and loses what it carries when it breaks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use omnipaxos::messages::Message;

use super::node::Value;

/// Everything that is on its way.
#[derive(Default)]
pub(crate) struct Network {
    links: BTreeMap<(u64, u64), VecDeque<Message<Value>>>,
    broken: BTreeSet<(u64, u64)>,
}

fn ends(one: u64, other: u64) -> (u64, u64) {
    (one.min(other), one.max(other))
}

impl Network {
    pub(crate) fn send(&mut self, message: Message<Value>) {
        let (from, to) = (message.get_sender(), message.get_receiver());
        if !self.broken.contains(&ends(from, to)) {
            self.links.entry((from, to)).or_default().push_back(message);
        }
    }

    /// The links that carry something.
    pub(crate) fn busy(&self) -> Vec<(u64, u64)> {
        self.links.iter().filter(|(_, queue)| !queue.is_empty()).map(|(&link, _)| link).collect()
    }

    /// The oldest message of a link.
    pub(crate) fn take(&mut self, link: (u64, u64)) -> Option<Message<Value>> {
        self.links.get_mut(&link)?.pop_front()
    }

    /// Breaks the connection of two nodes; what was on its way is lost.
    pub(crate) fn cut(&mut self, one: u64, other: u64) {
        self.broken.insert(ends(one, other));
        self.links.remove(&(one, other));
        self.links.remove(&(other, one));
    }

    /// What a node that went down had sent, and what was on its way to it, is lost.
    pub(crate) fn forget(&mut self, node: u64) {
        self.links.retain(|&(from, to), _| from != node && to != node);
    }

    pub(crate) fn heal(&mut self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.broken).into_iter().collect()
    }

    pub(crate) fn is_broken(&self, one: u64, other: u64) -> bool {
        self.broken.contains(&ends(one, other))
    }
}
