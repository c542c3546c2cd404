//! Runs `indelible_fuzz::stores_raft`, whose header lists the invariants.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| indelible_fuzz::stores_raft::run(bytes));
