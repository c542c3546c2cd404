//! What happens to a cluster in a run, one act after the other.
//!
//! Owns: the order of the acts, and what belongs to no node alone: kills, a change of the
//! configuration, a partition. Does not own: disks (`disks`, `rot`).

use std::time::{Duration, Instant};

use omnipaxos::util::NodeId;

use super::{Run, STALL};
use crate::args::{RunChoices, Start};
use crate::client;
use crate::cluster::Restart;
use crate::failure::{Failure, Outcome};
use crate::kills::{Kill, Kind, choose, plan};
use crate::protocol::{Reply, Request, Status};

/// How long a partition lasts, at least.
const APART: Duration = Duration::from_millis(1_500);

#[derive(Debug, Clone, Copy)]
enum Act {
    Kill(Kind),
    Replace,
    Partition,
    Rot(NodeId),
    FullDisk(NodeId),
    SlowDisk(NodeId),
    PowerCut,
}

impl Run {
    fn acts(&mut self) -> Vec<Act> {
        let RunChoices { kills, reconfigure, partition, power_cut, .. } = self.choices;
        let RunChoices { rot, full_disk, slow_disk, .. } = self.choices;
        // First: whoever is brought up to date after a kill may have nothing but a snapshot.
        let mut acts: Vec<Act> = rot.map(Act::Rot).into_iter().collect();
        acts.extend(full_disk.map(Act::FullDisk));
        acts.extend(slow_disk.map(Act::SlowDisk));
        acts.extend(partition.then_some(Act::Partition));
        acts.extend(power_cut.then_some(Act::PowerCut));
        let plan = plan(&mut self.dice, kills);
        let half = acts.len() + plan.len() / 2;
        acts.extend(plan.into_iter().map(Act::Kill));
        if reconfigure {
            acts.insert(half, Act::Replace);
        }
        acts
    }

    pub(super) fn disturbed(&mut self, done: u64) -> Outcome<()> {
        let acts = self.acts();
        let share = (self.choices.entries - done) / (acts.len() as u64 + 1);
        let mut killed = 0;
        for (act, step) in acts.into_iter().zip(0..) {
            let base = done + share * step;
            match act {
                Act::Kill(kind) => killed += self.kill_and_restart(kind, killed, base, share)?,
                Act::Replace => {
                    self.ledger.lock().quota = base + share / 4;
                    self.replace_a_node()?;
                }
                Act::Partition => self.cut_off_the_leader(base, share)?,
                Act::Rot(node) => self.rot(node, base, share)?,
                Act::FullDisk(node) => self.fill_the_disk(node, base, share)?,
                Act::SlowDisk(node) => self.slow_the_disk(node, base, share)?,
                Act::PowerCut => self.cut_the_power(base, share)?,
            }
        }
        self.ledger.lock().quota = self.choices.entries;
        self.await_acknowledged(self.choices.entries)
    }

    /// Lets entries `base..base + share` be written, kills in the midst of them, waits a little,
    /// restarts, and holds each victim against what it had let others see.
    fn kill_and_restart(&mut self, kind: Kind, killed: u64, base: u64, share: u64) -> Outcome<u64> {
        let members: Vec<NodeId> = self.cluster.members.nodes.keys().copied().collect();
        let leader = self.leader();
        let victims = choose(&mut self.dice, kind, &members, leader);
        let survey = self.cluster.survey();
        let moment = base + share * self.dice.below(60) / 100 + 1;
        self.ledger.lock().quota = moment;
        self.await_acknowledged(moment)?;
        self.ledger.lock().quota = base + share;
        self.await_in_flight(base + share)?;
        std::thread::sleep(Duration::from_micros(self.dice.below(1_000)));
        let at = Instant::now();
        self.cluster.kill(&victims)?;
        let (acknowledged, in_flight) = self.progress();
        std::thread::sleep(Duration::from_millis(self.dice.below(400)));
        // Whatever others have seen of the victims by now, they have seen before their death.
        self.cluster.survey();
        let goal = survey.iter().map(|status| status.applied).max().unwrap_or(0);
        let (restarts, caught_up) = self.restart(&victims, goal)?;
        let count = victims.len() as u64;
        self.report.kill(&Kill {
            at,
            number: killed + count,
            of: self.choices.kills,
            victims,
            leader,
            acknowledged,
            in_flight,
            restarts,
            caught_up,
        });
        self.prefer_leader();
        Ok(count)
    }

    /// Starts nodes from their logs, holds each against what it had let others see, and waits until
    /// they have applied so much. Returns how long all of it took.
    pub(super) fn restart(
        &mut self,
        ids: &[NodeId],
        goal: usize,
    ) -> Outcome<(Vec<Restart>, Duration)> {
        let started = Instant::now();
        for id in ids {
            self.cluster.start(*id, Start::Again)?;
        }
        let mut restarts = Vec::new();
        for id in ids {
            restarts.push(self.cluster.await_answer(*id, started)?);
        }
        self.await_applied(ids, goal)?;
        let took = started.elapsed();
        for restart in &restarts {
            self.note_restart(restart);
        }
        Ok((restarts, took))
    }

    /// Kills a node for good and puts a new one into its place, by a stop sign; kills and restarts
    /// one more in the midst of it.
    fn replace_a_node(&mut self) -> Outcome<()> {
        let started = Instant::now();
        let old = self.dice.pick(&[1, 2, 3]).unwrap_or(3);
        let new = 4;
        self.cluster.start(new, Start::Join)?;
        self.cluster.await_answer(new, started)?;
        self.cluster.survey();
        self.cluster.kill(&[old])?;
        let address = self.cluster.address(new);
        let next = self.cluster.members.replacing(old, new, &address)?;
        let request = Request::Replace { old, new, address };
        let survivors: Vec<NodeId> =
            self.cluster.members.nodes.keys().copied().filter(|id| *id != old).collect();
        let mut asked = Instant::now();
        let mut turn = 0;
        let reached = |statuses: &[Status]| {
            let there =
                |status: &&Status| status.members.config >= next.config && status.role != "joining";
            statuses.iter().filter(there).count() == next.nodes.len()
        };
        while !reached(&self.cluster.survey()) {
            self.within_bounds(started, "the change of configuration")?;
            // A stop sign proposed to a node that loses touch with its leader is lost: ask again,
            // elsewhere.
            if asked.elapsed() > Duration::from_millis(500) || turn == 0 {
                let id = survivors.get(turn % survivors.len().max(1)).copied().unwrap_or(new);
                let address = self.cluster.address(id);
                let _asked_again_later = client::ask(&address, &request, Duration::from_secs(1));
                if turn == 0 {
                    self.kill_in_between(&[survivors.as_slice(), &[new]].concat())?;
                }
                (asked, turn) = (Instant::now(), turn + 1);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.cluster.members = next;
        self.report.replaced(old, new, &self.cluster.members.to_string(), started.elapsed());
        self.prefer_leader();
        Ok(())
    }

    fn kill_in_between(&mut self, candidates: &[NodeId]) -> Outcome<()> {
        std::thread::sleep(Duration::from_millis(self.dice.below(60)));
        let Some(victim) = self.dice.pick(candidates) else {
            return Ok(());
        };
        self.cluster.kill(&[victim])?;
        self.cluster.survey();
        let started = Instant::now();
        self.cluster.start(victim, Start::Again)?;
        let restart = self.cluster.await_answer(victim, started)?;
        self.note_restart(&restart);
        self.report.recovered(&restart, None);
        self.report
            .event(format!("node {victim} killed and restarted while the configuration changes"));
        Ok(())
    }

    /// Cuts the network between the leader and the others while clients still reach all of them: the
    /// others must choose a leader, and the old one must not answer from what it holds.
    fn cut_off_the_leader(&mut self, base: u64, share: u64) -> Outcome<()> {
        self.ledger.lock().quota = base + share / 4;
        self.await_acknowledged(base + share / 4)?;
        let old = self.await_a_leader(|_| true)?;
        let others: Vec<NodeId> =
            self.cluster.members.nodes.keys().copied().filter(|id| *id != old).collect();
        self.isolate(old, &others)?;
        for id in &others {
            self.isolate(*id, &[old])?;
        }
        self.report.event(format!("partition: node {old}, the leader, is cut off from the others"));
        let started = Instant::now();
        self.flow(base + share / 4, base + share * 3 / 4, APART);
        let new = self.await_a_leader(|id| id != old)?;
        let took = started.elapsed();
        for id in others.iter().chain([&old]) {
            self.isolate(*id, &[])?;
        }
        let (acknowledged, in_flight) = self.progress();
        self.report.event(format!(
            "the partition heals after {:.1} s: node {new} leads, {acknowledged} acknowledged, \
             {in_flight} in flight",
            took.as_secs_f64()
        ));
        self.ledger.lock().quota = base + share;
        self.await_acknowledged(base + share)?;
        self.prefer_leader();
        Ok(())
    }

    fn isolate(&self, id: NodeId, from: &[NodeId]) -> Outcome<()> {
        self.demand(id, &Request::Isolate(from.to_vec()))
    }

    /// Has a node do something.
    pub(super) fn demand(&self, id: NodeId, request: &Request) -> Outcome<()> {
        match client::ask(&self.cluster.address(id), request, STALL)? {
            Reply::Said(said) if said == "done" => Ok(()),
            other => Err(Failure::new(format!("node {id} does not do {request:?}: {other:?}"))),
        }
    }

    /// Raises the quota from one count to another, evenly over some time.
    pub(super) fn flow(&self, from: u64, to: u64, time: Duration) {
        const STEPS: u32 = 100;
        for step in 1..=STEPS {
            std::thread::sleep(time / STEPS);
            self.ledger.lock().quota = from + (to - from) * u64::from(step) / u64::from(STEPS);
        }
    }

    /// Waits for a leader of this kind, and asks no others.
    pub(super) fn await_a_leader(&mut self, which: impl Fn(NodeId) -> bool) -> Outcome<NodeId> {
        let started = Instant::now();
        let ids: Vec<NodeId> = self.cluster.running().into_iter().filter(|id| which(*id)).collect();
        loop {
            if let Some(id) = self.leader_among(&ids) {
                return Ok(id);
            }
            if started.elapsed() > STALL {
                return Err(Failure::new(format!(
                    "none of {ids:?} leads, though most nodes are up"
                )));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
