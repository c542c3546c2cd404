//! What the nodes of the examples agree on, how it becomes bytes, and who they are.

use indelible::codec::{Codec, CodecError};
use omnipaxos::storage::{Entry, NoSnapshot};
use omnipaxos::{ClusterConfig, OmniPaxosConfig, ServerConfig};

/// A command.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Command(pub(crate) Vec<u8>);

impl Entry for Command {
    type Snapshot = NoSnapshot;
}

/// The bytes of a command are the command.
pub(crate) struct Bytes;

impl Codec<Command> for Bytes {
    fn encode(command: &Command, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(&command.0);
        Ok(())
    }
    fn decode(bytes: &[u8]) -> Result<Command, CodecError> {
        Ok(Command(bytes.to_vec()))
    }
}

impl Codec<NoSnapshot> for Bytes {
    fn encode(_: &NoSnapshot, _: &mut Vec<u8>) -> Result<(), CodecError> {
        Ok(())
    }
    fn decode(_: &[u8]) -> Result<NoSnapshot, CodecError> {
        Ok(NoSnapshot)
    }
}

/// One of three nodes.
pub(crate) fn one_of_three(pid: u64) -> OmniPaxosConfig {
    let server_config = ServerConfig { pid, ..ServerConfig::default() };
    let cluster_config =
        ClusterConfig { configuration_id: 1, nodes: vec![1, 2, 3], flexible_quorum: None };
    OmniPaxosConfig { cluster_config, server_config }
}
