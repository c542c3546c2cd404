//! The storage of OmniPaxos: every row of the edge table, restarts, syncs, crashes, large values,
//! clusters.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

mod cluster;
mod conformance;
mod crash;
mod edges;
mod large;
mod migration;
mod newest;
mod open;
mod refill;
mod restart;
mod support;
mod syncs;
