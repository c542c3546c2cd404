//! Runs `indelible_fuzz::segment_scan`, whose header lists the invariants.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| indelible_fuzz::segment_scan::run(bytes));
