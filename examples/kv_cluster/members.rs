//! Who is in the cluster: the configuration's number, its nodes, their addresses.
//!
//! Owns: the text form people type, the bytes that travel in a stop sign, and the `members` file in
//! a node's directory. Does not own: when a configuration changes (`node`).
//!
//! The file is replaced whole (written beside, synced, renamed, directory synced), so it is the old
//! one or the new one.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use omnipaxos::ClusterConfig;
use omnipaxos::util::NodeId;

use crate::bytes::{In, Out, Read};
use crate::failure::{Failure, Outcome, Why};

/// One configuration of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Members {
    /// Counts up from 1; 0 is what a node that has yet to join knows.
    pub(crate) config: u32,
    pub(crate) nodes: BTreeMap<NodeId, String>,
}

impl Members {
    /// Reads `1=host:port,2=host:port`, or `host:port,host:port` for nodes 1, 2 and so on.
    pub(crate) fn parse(text: &str) -> Outcome<Self> {
        let mut nodes = BTreeMap::new();
        for (position, part) in text.split(',').map(str::trim).enumerate() {
            let (id, address) = match part.split_once('=') {
                Some((id, address)) => (id.trim().parse().ok(), address.trim()),
                None => (Some(position as u64 + 1), part),
            };
            let id = id.filter(|id| *id > 0).ok_or_else(|| {
                Failure::new(format!("`{part}`: expected ID=HOST:PORT with an ID from 1 up"))
            })?;
            if !address.contains(':') {
                return Err(Failure::new(format!("`{address}` is no address: expected HOST:PORT")));
            }
            if nodes.insert(id, address.to_owned()).is_some() {
                return Err(Failure::new(format!("node {id} is listed twice in `{text}`")));
            }
        }
        Ok(Self { config: 1, nodes })
    }

    pub(crate) fn contains(&self, id: NodeId) -> bool {
        self.nodes.contains_key(&id)
    }

    pub(crate) fn cluster_config(&self) -> ClusterConfig {
        ClusterConfig {
            configuration_id: self.config,
            nodes: self.nodes.keys().copied().collect(),
            flexible_quorum: None,
        }
    }

    /// The next configuration: `new` in the place of `old`.
    pub(crate) fn replacing(&self, old: NodeId, new: NodeId, address: &str) -> Outcome<Self> {
        let mut next = self.clone();
        next.config += 1;
        if next.nodes.remove(&old).is_none() {
            return Err(Failure::new(format!("node {old} is no member of {self}")));
        }
        if next.nodes.insert(new, address.to_owned()).is_some() {
            return Err(Failure::new(format!("node {new} is a member already: {self}")));
        }
        Ok(next)
    }

    pub(crate) fn encode(&self, out: &mut Out) {
        out.u32(self.config).count(self.nodes.len());
        for (id, address) in &self.nodes {
            out.u64(*id).text(address);
        }
    }

    pub(crate) fn decode(bytes: &mut In<'_>) -> Read<Self> {
        let config = bytes.u32()?;
        let nodes = bytes.list(|bytes| Ok((bytes.u64()?, bytes.text()?)))?;
        Ok(Self { config, nodes: nodes.into_iter().collect() })
    }
}

impl fmt::Display for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "configuration {} (", self.config)?;
        for (position, (id, address)) in self.nodes.iter().enumerate() {
            let comma = if position == 0 { "" } else { ", " };
            write!(f, "{comma}{id}={address}")?;
        }
        f.write_str(")")
    }
}

/// What a node remembers about its place in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) members: Members,
    /// The node is to be given the decided entries by another before it may vote.
    pub(crate) joining: bool,
}

impl Place {
    fn path(dir: &Path) -> PathBuf {
        dir.join("members")
    }

    pub(crate) fn load(dir: &Path) -> Outcome<Option<Self>> {
        let path = Self::path(dir);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).why(|| format!("cannot read {}", path.display())),
        };
        let (sum, rest) = bytes.split_first_chunk().ok_or_else(|| damaged(&path))?;
        if u32::from_le_bytes(*sum) != crc32fast::hash(rest) {
            return Err(damaged(&path));
        }
        let mut read = In::new(rest);
        let place = (|| Ok(Self { joining: read.flag()?, members: Members::decode(&mut read)? }))();
        place.map(Some).map_err(|_: crate::bytes::BadBytes| damaged(&path))
    }

    /// Durable on return.
    pub(crate) fn save(&self, dir: &Path) -> Outcome<()> {
        let mut out = Out::new();
        out.flag(self.joining);
        self.members.encode(&mut out);
        let body = out.finish();
        let path = Self::path(dir);
        let fresh = dir.join("members.tmp");
        let replace = || {
            let mut file = File::create(&fresh)?;
            file.write_all(&crc32fast::hash(&body).to_le_bytes())?;
            file.write_all(&body)?;
            // Makes the content durable before the name: a crash in between leaves the old file.
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            // Makes the name durable: without it a crash may bring the old file back.
            File::open(dir)?.sync_all()
        };
        replace().why(|| format!("cannot write {}", path.display()))
    }
}

fn damaged(path: &Path) -> Failure {
    Failure::new(format!("{} is damaged: this node no longer knows its cluster", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Place::load(dir.path()).unwrap(), None);
        let members = Members::parse("a:1,b:2,c:3").unwrap().replacing(2, 4, "d:4").unwrap();
        let place = Place { members, joining: true };
        place.save(dir.path()).unwrap();
        assert_eq!(Place::load(dir.path()).unwrap(), Some(place));
        fs::write(dir.path().join("members"), b"rubbish").unwrap();
        assert!(Place::load(dir.path()).is_err());
    }

    #[test]
    fn lists_of_nodes_are_checked() {
        assert_eq!(Members::parse("2=a:1,1=b:2").unwrap().nodes.len(), 2);
        for bad in ["", "a", "0=a:1", "x=a:1", "1=a:1,1=b:2"] {
            assert!(Members::parse(bad).is_err(), "{bad}");
        }
    }
}
