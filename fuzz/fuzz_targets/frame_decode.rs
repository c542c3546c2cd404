//! Runs `indelible_fuzz::frame_decode`, whose header lists the invariants.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| indelible_fuzz::frame_decode::run(bytes));
