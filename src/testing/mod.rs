//! Tools for tests of your own: a kit that checks any storage against the contract of its host.

#[cfg(feature = "omnipaxos")]
pub mod conformance;
