//! Nothing: this package exists for its tests, which need upstream's storage crate.
//!
//! `cargo test` runs them on the newest OmniPaxos that is supported. For the oldest:
//! `cargo update -p omnipaxos_storage --precise 0.2.3 && cargo update -p omnipaxos --precise 0.2.3`.
