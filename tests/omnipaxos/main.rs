//! The storage of OmniPaxos: every row of the edge table, restarts, syncs, crashes, large values,
//! clusters.

#![cfg(feature = "omnipaxos")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

#[cfg(feature = "testing")]
mod cluster;
#[cfg(feature = "testing")]
mod conformance;
#[cfg(feature = "testing")]
mod crash;
mod edges;
mod large;
mod migration;
mod open;
mod refill;
mod restart;
mod support;
mod syncs;
