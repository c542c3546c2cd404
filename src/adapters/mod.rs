//! One foreign storage trait each. An adapter owns the names of its state cells, their encodings
//! and the mapping of its host's indexes; everything durable goes through [`crate::Log`].

#[cfg(feature = "omnipaxos")]
pub mod omnipaxos;

#[cfg(any(feature = "openraft-09", feature = "openraft-010", feature = "async-raft"))]
mod raft;

#[cfg(any(feature = "openraft-09", feature = "openraft-010"))]
mod openraft;

#[cfg(feature = "openraft-09")]
pub mod openraft_09;

#[cfg(feature = "openraft-010")]
pub mod openraft_010;

#[cfg(feature = "async-raft")]
pub mod async_raft;
