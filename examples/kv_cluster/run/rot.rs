//! Bits of a sealed segment flip while its node is down, and what an operator does about it.
//!
//! Owns: the damage, and each step of mending it. Does not own: how a log is mended
//! (`indelible::repair`).

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use indelible::inspect::{Health, Role, decided, inspect, verify};
use indelible::repair::{self, FromPeer};
use omnipaxos::util::NodeId;

use super::Run;
use crate::args::Start;
use crate::failure::{Failure, Outcome, Why};
use crate::kills::Dice;

/// Bits that flip.
const BITS: u64 = 3;
/// The header of a segment takes the first page; frames follow it.
const FRAMES: u64 = 4096;

impl Run {
    /// Lets a node's medium decay while it is down: it must not start, until it has been repaired and
    /// refilled from a peer.
    pub(super) fn rot(&mut self, node: NodeId, base: u64, share: u64) -> Outcome<()> {
        self.ledger.lock().quota = base + share / 2;
        self.await_acknowledged(base + share / 2)?;
        self.cluster.survey();
        let peer = self.cluster.running().into_iter().find(|id| *id != node);
        let peer = peer.ok_or_else(|| Failure::new("no peer is left to mend the node from"))?;
        self.cluster.kill(&[node])?;
        let (log, theirs) = (self.cluster.log_of(node), self.cluster.log_of(peer));
        let place = flip(&log, &theirs, &mut self.dice)?;
        self.report.event(format!("rot: node {node} is down, {BITS} bits of its {place} flip"));
        self.ledger.lock().quota = base + share;
        self.cluster.start(node, Start::Again)?;
        let said = self.cluster.await_end(node, "damaged")?;
        self.report.event(format!("node {node} refuses to start: {said}"));
        let found = verify(&log, &mut |_| ()).why(|| "cannot verify the log")?;
        if found.health != Health::Damaged {
            return Err(Failure::new(format!("verify finds nothing wrong: {found:?}")));
        }
        let (plan, kept) = repair::apply(&log).why(|| "cannot repair the log")?;
        let kept = kept.map(|path| path.display().to_string()).unwrap_or_default();
        let marked = repair::missing(&log).why(|| "cannot look for what is missing")?;
        let marked: u64 = marked.iter().map(|range| range.end - range.start).sum();
        self.report.event(format!(
            "verify: {} damaged places; repair: {} steps, {marked} entries marked as missing, the \
             old files kept in {kept}",
            found.findings.len(),
            plan.steps.len(),
        ));
        let filled = repair::refill_from(&log, &theirs, &FromPeer::new(), &mut |_| ())
            .why(|| format!("cannot refill the log from node {peer}"))?;
        if !filled.missing.is_empty() || filled.filled != marked {
            return Err(Failure::new(format!("the refill left holes: {filled:?}")));
        }
        let goal = usize::try_from(self.progress().0).unwrap_or(usize::MAX);
        let (restarts, caught_up) = self.restart(&[node], goal)?;
        for restart in &restarts {
            self.report.recovered(restart, Some(caught_up));
        }
        self.report.event(format!(
            "refill: {} entries from node {peer}, none missing; node {node} starts and catches up",
            filled.filled
        ));
        self.await_acknowledged(base + share)
    }
}

/// Flips bits of one sealed segment whose entries the peer states as decided: no others could be had
/// from it. Returns which segment, in words.
fn flip(log: &Path, peer: &Path, dice: &mut Dice) -> Outcome<String> {
    let seen = inspect(log).why(|| "cannot look into the log")?;
    let theirs = inspect(peer).why(|| "cannot look into the log of the peer")?;
    let decided = theirs.state.as_ref().and_then(decided).unwrap_or(0);
    let sealed: Vec<_> = seen
        .segments
        .iter()
        .filter(|it| it.role == Role::Sealed && !it.live.is_empty() && it.live.end <= decided)
        .collect();
    let pick = usize::try_from(dice.below(sealed.len() as u64)).unwrap_or(0);
    let segment = *sealed.get(pick).ok_or_else(|| {
        Failure::new("no sealed segment of decided entries to damage").hint("more --entries")
    })?;
    let path = log.join(&segment.name);
    let file = OpenOptions::new().read(true).write(true).open(&path);
    let file = file.why(|| format!("cannot damage {}", path.display()))?;
    for _ in 0..BITS {
        let offset = FRAMES + segment.trimmed + dice.below(segment.in_use);
        let mut byte = [0];
        let flipped = file.read_exact_at(&mut byte, offset).and_then(|()| {
            let [byte] = byte;
            file.write_all_at(&[byte ^ (1 << dice.below(8))], offset)
        });
        flipped.why(|| format!("cannot damage {}", path.display()))?;
    }
    Ok(format!("sealed segment {} ({} entries)", segment.name, segment.live.clone().count()))
}
