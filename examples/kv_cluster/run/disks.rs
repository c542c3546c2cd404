//! Disks that lose power, fill up, or hang.
//!
//! Owns: what is done to them, and what the cluster must do about it. Does not own: the disks
//! (`crate::disks`).

use std::time::{Duration, Instant};

use omnipaxos::util::NodeId;

use super::Run;
use crate::failure::{Failure, Outcome};
use crate::protocol::{Request, Status};

/// How long entries flow while a disk is disturbed.
const FLOW: Duration = Duration::from_millis(1_500);
/// How long nothing must be decided where no majority can write.
const NOTHING: Duration = Duration::from_millis(500);
/// Room for what a trim needs, and, with a spare segment, for less than the six segments that a node
/// wants before it accepts again. The trim gives back more than is missing.
const A_LITTLE_BYTES: u64 = 300 * 1024;

impl Run {
    /// The power of all nodes fails in the midst of writes. What they had synced is all that is left.
    pub(super) fn cut_the_power(&mut self, base: u64, share: u64) -> Outcome<()> {
        let moment = base + share / 2;
        self.ledger.lock().quota = moment;
        self.await_acknowledged(moment)?;
        self.ledger.lock().quota = base + share;
        self.await_in_flight(base + share)?;
        self.cluster.survey();
        let everyone = self.cluster.running();
        let on_disks: Vec<NodeId> =
            everyone.iter().copied().filter(|id| self.cluster.disk(*id).is_ok()).collect();
        for id in &on_disks {
            self.cluster.disk(*id)?.order("off")?;
        }
        self.cluster.kill(&everyone)?;
        let (acknowledged, in_flight) = self.progress();
        self.report.event(format!(
            "power cut: all nodes are off, {acknowledged} acknowledged, {in_flight} in flight"
        ));
        for id in &on_disks {
            let lost = self.cluster.disk(*id)?.order("on")?;
            self.report.event(format!("power is back: node {id}: {lost}"));
        }
        let goal = usize::try_from(acknowledged).unwrap_or(usize::MAX);
        let (restarts, caught_up) = self.restart(&everyone, goal)?;
        for restart in &restarts {
            self.report.recovered(restart, Some(caught_up));
        }
        self.report.event("all nodes are up again from what they had synced".to_owned());
        self.prefer_leader();
        self.await_acknowledged(base + share)
    }

    /// Leaves a node no room: it must go on voting and accept nothing, until a trim made room.
    pub(super) fn fill_the_disk(&mut self, node: NodeId, base: u64, share: u64) -> Outcome<()> {
        self.ledger.lock().quota = base + share / 2;
        self.await_acknowledged(base + share / 2)?;
        // There must be something to trim on this very node, which may be slower than the others.
        let goal = usize::try_from(base + share / 2).unwrap_or(usize::MAX);
        self.await_applied(&[node], goal)?;
        let what = self.cluster.disk(node)?.what();
        self.cluster.disk(node)?.order("room 0")?;
        self.flow(base + share / 2, base + share * 3 / 4, FLOW);
        self.await_status(node, "its disk to be full", |status| status.full)?;
        let leader = self.await_a_leader(|id| id != node)?;
        self.report.event(format!(
            "node {node} has no room on its disk, {what}, and accepts nothing; node {leader} leads"
        ));
        self.await_acknowledged(base + share * 3 / 4)?;
        self.cluster.survey();
        self.cluster.kill(&[leader])?;
        let elected = self.await_a_leader(|id| id != leader && id != node)?;
        self.await_status(node, "it to vote", |it| it.oath.promise.pid == elected)?;
        let before = self.progress().0;
        self.ledger.lock().quota = base + share;
        std::thread::sleep(NOTHING);
        let after = self.progress().0;
        if after != before {
            return Err(Failure::new(format!(
                "{before} acknowledged, then {after}, while only one node could accept anything"
            )));
        }
        self.report.event(format!(
            "node {leader}, the leader, is killed: node {node} votes for node {elected}, and nothing is \
             decided without a majority that accepts"
        ));
        let (restarts, caught_up) = self.restart(&[leader], 0)?;
        for restart in &restarts {
            self.report.recovered(restart, Some(caught_up));
        }
        self.report.event(format!("node {leader} is back"));
        self.await_acknowledged(base + share)?;
        self.cluster.disk(node)?.order(&format!("room {A_LITTLE_BYTES}"))?;
        self.demand(node, &Request::Trim)?;
        self.await_status(node, "room after the trim", |status| !status.full)?;
        // What it missed may be more than the trim made room for: clients that got no answer in time
        // have sent again.
        self.cluster.disk(node)?.order("room")?;
        let goal = usize::try_from(self.progress().0).unwrap_or(usize::MAX);
        self.await_applied(&[node], goal)?;
        self.report.event(format!("node {node} trims its log, accepts again, and has caught up"));
        self.prefer_leader();
        Ok(())
    }

    /// Lets the syncs of the leader hang: its stall watch must ask another node to lead.
    pub(super) fn slow_the_disk(&mut self, node: NodeId, base: u64, share: u64) -> Outcome<()> {
        self.ledger.lock().quota = base + share / 4;
        self.await_acknowledged(base + share / 4)?;
        let hang = self.choices.hang;
        let (started, mut quota) = (Instant::now(), base + share / 4);
        loop {
            self.have_it_lead(node, started)?;
            let before = self.await_status(node, "an answer", |_| true)?.handed_over;
            self.cluster.disk(node)?.order(&format!("slow {hang}"))?;
            self.report.event(format!("node {node} leads, and its syncs take {hang} ms longer"));
            let slow = Instant::now();
            quota += 1;
            self.ledger.lock().quota = quota;
            let new = self.await_a_leader(|id| id != node)?;
            let took = slow.elapsed().as_millis();
            if self.await_status(node, "an answer", |_| true)?.handed_over > before {
                self.report.event(format!(
                    "node {node} has asked another node to lead: node {new} does, after {took} ms"
                ));
                break;
            }
            // On a slow machine there are elections with which the disk has nothing to do.
            self.within_bounds(started, &format!("node {node} to ask anybody to lead instead"))?;
            self.cluster.disk(node)?.order("slow 0")?;
        }
        self.flow(quota, base + share, FLOW);
        self.cluster.disk(node)?.order("slow 0")?;
        self.report.event(format!("the disk of node {node} is as fast as before"));
        self.prefer_leader();
        self.await_acknowledged(base + share)
    }

    /// Asks a node to lead until it does, and sends the load there.
    fn have_it_lead(&mut self, node: NodeId, started: Instant) -> Outcome<()> {
        while self.leader() != Some(node) {
            self.within_bounds(started, &format!("node {node} to lead"))?;
            self.demand(node, &Request::Lead)?;
            std::thread::sleep(Duration::from_millis(300));
        }
        self.prefer_leader();
        Ok(())
    }

    /// Waits until a node is in some state.
    fn await_status(
        &mut self,
        node: NodeId,
        what: &str,
        is: impl Fn(&Status) -> bool,
    ) -> Outcome<Status> {
        let started = Instant::now();
        loop {
            let statuses = self.cluster.survey();
            if let Some(status) = statuses.into_iter().find(|it| it.id == node && is(it)) {
                return Ok(status);
            }
            self.cluster.check_all_alive()?;
            self.within_bounds(started, &format!("node {node}: {what}"))?;
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
