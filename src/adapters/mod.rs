//! One foreign storage trait each. An adapter owns the names of its state cells, their encodings
//! and the mapping of its host's indexes; everything durable goes through [`crate::Log`]. Hosts with
//! dependencies of their own are packages of their own, in `adapters/`.

#[cfg(feature = "omnipaxos")]
pub mod omnipaxos;
