//! How every node of a run was, moment by moment.
//!
//! Owns: asking each node over and over, from a thread of its own, so that one that hangs hides
//! nothing of the others. Does not own: how it is shown (`page`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use omnipaxos::util::NodeId;
use parking_lot::Mutex;

use crate::client;

const EVERY: Duration = Duration::from_millis(50);
/// A node that takes longer to say how it is does not answer.
const PATIENCE: Duration = Duration::from_millis(400);

/// How a node was from some moment on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// No process, or one that does not answer.
    Silent,
    Leads,
    Follows,
    /// Not in the cluster yet, or any more.
    Outside,
}

/// When the condition of one node changed, and to what.
pub(crate) type Lane = Vec<(Duration, Condition)>;

pub(crate) struct Timeline {
    lanes: Vec<(NodeId, Arc<Mutex<Lane>>)>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Timeline {
    pub(crate) fn start(nodes: Vec<(NodeId, String)>, started: Instant) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut lanes, mut threads) = (Vec::new(), Vec::new());
        for (id, address) in nodes {
            let lane = Arc::new(Mutex::new(Lane::new()));
            lanes.push((id, Arc::clone(&lane)));
            let stop = Arc::clone(&stop);
            threads.push(thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let (at, now) = (started.elapsed(), condition(&address));
                    let mut lane = lane.lock();
                    if lane.last().is_none_or(|(_, last)| *last != now) {
                        lane.push((at, now));
                    }
                    drop(lane);
                    thread::sleep(EVERY);
                }
            }));
        }
        Self { lanes, stop, threads }
    }

    /// Ends the watch. The lanes of nodes that never answered are left out; what did not answer yet at
    /// first had not been started.
    pub(crate) fn finish(mut self) -> Vec<(NodeId, Lane)> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _panicked = thread.join();
        }
        let begun = |lane: &Arc<Mutex<Lane>>| {
            let mut lane = lane.lock().clone();
            if let Some((_, first @ Condition::Silent)) = lane.first_mut() {
                *first = Condition::Outside;
            }
            lane
        };
        let lanes = self.lanes.iter().map(|(id, lane)| (*id, begun(lane)));
        lanes.filter(|(_, lane)| lane.len() > 1).collect()
    }
}

impl Drop for Timeline {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn condition(address: &str) -> Condition {
    match client::status(address, PATIENCE) {
        Err(_) => Condition::Silent,
        Ok(status) => match status.role.as_str() {
            "leader" => Condition::Leads,
            "follower" => Condition::Follows,
            _ => Condition::Outside,
        },
    }
}
