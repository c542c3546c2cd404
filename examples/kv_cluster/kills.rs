//! The plan of a run's kills: whom, in which order, from a seed.
//!
//! Owns: the choice of victims, the record of one kill. Does not own: carrying it out (`run`).

use std::time::{Duration, Instant};

use omnipaxos::util::NodeId;

use crate::cluster::Restart;
use crate::report::millis;

/// One event of the plan, as it went.
#[derive(Debug)]
pub(crate) struct Kill {
    pub(crate) at: Instant,
    pub(crate) number: u64,
    pub(crate) of: u64,
    pub(crate) victims: Vec<NodeId>,
    pub(crate) leader: Option<NodeId>,
    pub(crate) acknowledged: u64,
    pub(crate) in_flight: usize,
    pub(crate) restarts: Vec<Restart>,
    /// From the restart until every victim had applied what was applied when it died.
    pub(crate) caught_up: Duration,
}

impl Kill {
    pub(crate) fn describe(&self) -> String {
        let name = |id: &NodeId| {
            let title = if Some(*id) == self.leader { " (leader)" } else { "" };
            format!("{id}{title}")
        };
        let victims: Vec<String> = self.victims.iter().map(name).collect();
        let open = self.restarts.iter().map(|r| r.status.recovered.open_us).max().unwrap_or(0);
        let answered = self.restarts.iter().map(|r| r.answered).max().unwrap_or_default();
        format!(
            "kill {}/{}: node {}, {} acknowledged, {} in flight; \
             log open {}, answers {}, caught up {}",
            self.number,
            self.of,
            victims.join(" and "),
            self.acknowledged,
            self.in_flight,
            millis(Duration::from_micros(open)),
            millis(answered),
            millis(self.caught_up),
        )
    }
}

/// Whom a kill hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Leader,
    Follower,
    /// The leader and one more: no majority is left.
    Two,
    All,
}

pub(crate) fn plan(dice: &mut Dice, kills: u64) -> Vec<Kind> {
    let mut plan = Vec::new();
    let mut left = kills;
    while left > 0 {
        // The first is the leader, whatever the seed.
        let (kind, count) = match dice.below(100) {
            _ if plan.is_empty() => (Kind::Leader, 1),
            0..10 if left >= 3 => (Kind::All, 3),
            10..25 if left >= 2 => (Kind::Two, 2),
            25..60 => (Kind::Leader, 1),
            _ => (Kind::Follower, 1),
        };
        plan.push(kind);
        left -= count;
    }
    plan
}

/// The victims of one kill.
pub(crate) fn choose(
    dice: &mut Dice,
    kind: Kind,
    members: &[NodeId],
    leader: Option<NodeId>,
) -> Vec<NodeId> {
    let leader = leader.filter(|id| members.contains(id));
    let others: Vec<NodeId> = members.iter().copied().filter(|id| Some(*id) != leader).collect();
    let other = dice.pick(&others);
    match kind {
        Kind::Leader => leader.or(other).into_iter().collect(),
        Kind::Follower => other.into_iter().collect(),
        Kind::Two if leader.is_some() => leader.into_iter().chain(other).collect(),
        Kind::Two => others.into_iter().take(2).collect(),
        Kind::All => members.to_vec(),
    }
}

/// Numbers that depend on the seed alone (splitmix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub(crate) fn pick(&mut self, of: &[NodeId]) -> Option<NodeId> {
        let position = usize::try_from(self.below(of.len() as u64)).ok()?;
        of.get(position).copied()
    }
}
