//! How a node moves from one configuration of the cluster to the next.
//!
//! Owns: the order of the steps and what a restart between them finds. Does not own: the log
//! (`replica`), the file that remembers the place (`members`).
//!
//! A node moves when it decides a stop sign, or when another node that has moved already tells it:
//! then it is given the other's decided state first, because its own may be short of what the old
//! configuration decided, and only then votes in the new one. A new node joins the same way.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use omnipaxos::ProposeErr;
use omnipaxos::util::NodeId;

use super::Node;
use crate::bytes::{In, Out};
use crate::failure::{Failure, Outcome};
use crate::kv::KvSnapshot;
use crate::members::{Members, Place};
use crate::protocol::PeerFrame;
use crate::replica::Replica;

/// How often a node that is behind asks for the present configuration.
const WANT_EVERY: Duration = Duration::from_millis(300);

impl Node {
    pub(super) fn propose_replacement(
        &mut self,
        old: NodeId,
        new: NodeId,
        address: &str,
    ) -> Outcome<String> {
        let next = self.place.members.replacing(old, new, address)?;
        let Some(replica) = &mut self.replica else {
            return Err(Failure::new("this node is not in the cluster"));
        };
        let mut out = Out::new();
        next.encode(&mut out);
        match replica.paxos().reconfigure(next.cluster_config(), Some(out.finish())) {
            Ok(()) => Ok(format!("proposed {next}")),
            Err(ProposeErr::PendingReconfigConfig(..)) => Ok("a change is under way".to_owned()),
            Err(error) => Err(Failure::new(format!("refused: {error:?}"))),
        }
    }

    /// Acts upon a decided stop sign: the log goes on in the next configuration.
    pub(super) fn change_configuration(&mut self) -> Outcome<()> {
        let Some(replica) = &mut self.replica else {
            return Ok(());
        };
        let Some(stop_sign) = replica.paxos().is_reconfigured() else {
            return Ok(());
        };
        self.apply()?;
        let metadata = stop_sign.metadata.unwrap_or_default();
        let members = Members::decode(&mut In::new(&metadata))
            .map_err(|error| Failure::new(format!("the stop sign holds {error}")))?;
        self.enter(Place { members, joining: false }, None)
    }

    /// Takes over what another node has decided, and its configuration.
    pub(super) fn install(
        &mut self,
        members: Members,
        snapshot: Option<KvSnapshot>,
    ) -> Outcome<()> {
        let known = &self.place.members;
        let news =
            members.config > known.config || (members.config == known.config && self.place.joining);
        let behind = snapshot.as_ref().is_some_and(|snapshot| snapshot.len() < self.machine.len());
        if !news || behind {
            return Ok(());
        }
        if !members.contains(self.choices.id) {
            return self.enter(Place { members, joining: false }, None);
        }
        let Some(snapshot) = snapshot else {
            return Ok(());
        };
        self.enter(Place { members, joining: true }, Some(snapshot))
    }

    /// Moves to another configuration. Each step leaves a state that a restart can go on from: the
    /// place is durable before the log is touched, and a place that says `joining` does not vote.
    fn enter(&mut self, mut place: Place, snapshot: Option<KvSnapshot>) -> Outcome<()> {
        place.save(&self.choices.dir)?;
        if let Some(replica) = self.replica.take() {
            self.syncs += replica.handle().stats().log.syncs;
            #[cfg(feature = "prometheus")]
            self.choices.export.show(None);
            replica.close()?;
        }
        self.config.store(place.members.config, Ordering::Relaxed);
        self.place = place.clone();
        if self.is_member() {
            let log = self.choices.dir.join("log");
            if let Some(snapshot) = snapshot {
                Replica::install(&log, self.choices.store, snapshot)?;
                place.joining = false;
                place.save(&self.choices.dir)?;
                self.place = place;
            }
            let (id, store) = (self.choices.id, self.choices.store);
            let (members, deputy) = (&self.place.members, &self.deputy);
            let (replica, machine) = Replica::open(&log, id, members, store, false, deputy)?;
            if machine.len() > self.machine.len() {
                self.machine = machine;
                self.answer_from_snapshot();
            }
            #[cfg(feature = "prometheus")]
            self.choices.export.show(Some(replica.handle().log()));
            self.replica = Some(replica);
        }
        self.connect();
        Ok(())
    }

    pub(super) fn want(&mut self, peer: NodeId) {
        let waited = self.wanted.is_none_or(|at| at.elapsed() >= WANT_EVERY);
        if waited && let Some(link) = self.links.get(&peer) {
            link.send(PeerFrame::Want.to_bytes());
            self.wanted = Some(Instant::now());
        }
    }

    pub(super) fn transfer_to(&mut self, peer: NodeId) {
        if self.place.joining || self.place.members.config == 0 {
            return;
        }
        let member = self.place.members.contains(peer) && self.replica.is_some();
        let snapshot = member.then(|| KvSnapshot::from(self.machine.clone()));
        if let Some(link) = self.links.get(&peer) {
            let members = self.place.members.clone();
            link.send(PeerFrame::Transfer { members, snapshot }.to_bytes());
        }
    }
}
