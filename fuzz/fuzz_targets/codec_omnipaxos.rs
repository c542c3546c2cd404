//! Runs `indelible_fuzz::codec_omnipaxos`, whose header lists the invariants.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| indelible_fuzz::codec_omnipaxos::run(bytes));
