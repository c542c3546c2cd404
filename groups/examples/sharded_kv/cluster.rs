//! The processes, and the pipes between them.
//!
//! Owns: starting and killing, handing messages on, losing those of a shard that lags. Does not own:
//! when (`run`).

use std::collections::BTreeMap;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use crate::frames::{self, Body, Frame};
use crate::node::LAGGING;
use crate::{NODES, Outcome, SHARDS};

/// A node that runs.
struct Running {
    child: Child,
    input: ChildStdin,
    /// Which of the processes of this node it is.
    epoch: u64,
}

/// What a node says, or nothing if it has ended.
struct Said {
    node: u64,
    epoch: u64,
    frame: Option<Vec<u8>>,
}

pub(crate) struct Cluster {
    dir: PathBuf,
    running: BTreeMap<u64, Running>,
    epochs: u64,
    said: (Sender<Said>, Receiver<Said>),
    /// The node that gets nothing of the lagging shard, and from which nothing of it gets out.
    pub(crate) lags: Option<u64>,
}

impl Cluster {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir, running: BTreeMap::new(), epochs: 0, said: channel(), lags: None }
    }

    pub(crate) fn start(&mut self, node: u64, new: bool) -> Outcome<()> {
        let how = if new { "new" } else { "again" };
        let mut child = Command::new(std::env::current_exe()?)
            .args(["node", &node.to_string()])
            .arg(self.dir.join(format!("node-{node}")))
            .arg(how)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a process without pipes".into());
        };
        self.epochs += 1;
        let (epoch, said) = (self.epochs, self.said.0.clone());
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            loop {
                let frame = frames::read(&mut output).ok();
                let ended = frame.is_none();
                if said.send(Said { node, epoch, frame }).is_err() || ended {
                    return;
                }
            }
        });
        self.running.insert(node, Running { child, input, epoch });
        // Messages to and from it were lost while it was down.
        for peer in NODES.into_iter().filter(|peer| *peer != node) {
            self.tell(peer, 0, Body::Reconnected(node));
            self.tell(node, 0, Body::Reconnected(peer));
        }
        Ok(())
    }

    /// Kills a node with SIGKILL.
    pub(crate) fn kill(&mut self, node: u64) -> Outcome<()> {
        if let Some(mut running) = self.running.remove(&node) {
            running.child.kill()?;
            running.child.wait()?;
        }
        Ok(())
    }

    pub(crate) fn is_up(&self, node: u64) -> bool {
        self.running.contains_key(&node)
    }

    /// Sends a frame to a node, if it is up.
    pub(crate) fn tell(&mut self, to: u64, group: u64, body: Body) {
        self.hand_on(to, &Frame { to, group, body }.to_bytes());
    }

    fn hand_on(&mut self, to: u64, frame: &[u8]) {
        if let Some(running) = self.running.get_mut(&to) {
            // It was killed, or has ended, which its output says.
            let _lost = frames::write(&mut running.input, frame);
        }
    }

    /// The lagging shard is reached again.
    pub(crate) fn heal(&mut self) {
        if let Some(node) = self.lags.take() {
            for peer in NODES.into_iter().filter(|peer| *peer != node) {
                self.tell(peer, 0, Body::Reconnected(node));
                self.tell(node, 0, Body::Reconnected(peer));
            }
        }
    }

    /// Hands on what nodes say to each other, until one says something to us or `wait` is over.
    pub(crate) fn next(&mut self, wait: Duration) -> Outcome<Option<(u64, Frame)>> {
        while let Ok(Said { node, epoch, frame }) = self.said.1.recv_timeout(wait) {
            if self.running.get(&node).is_none_or(|running| running.epoch != epoch) {
                continue;
            }
            let Some(frame) = frame else {
                return Err(format!("node {node} has ended by itself").into());
            };
            match frames::route(&frame) {
                Some((0, _)) => return Ok(Some((node, Frame::decode(&frame)?))),
                Some((to, group)) => {
                    let lags = self.lags.is_some_and(|lags| lags == to || lags == node);
                    if !(lags && group % SHARDS == LAGGING) {
                        self.hand_on(to, &frame);
                    }
                }
                None => return Err(format!("node {node} says what nobody understands").into()),
            }
        }
        Ok(None)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for mut running in std::mem::take(&mut self.running).into_values() {
            // It may have ended already.
            let _gone = running.child.kill();
            let _gone = running.child.wait();
        }
    }
}
