//! Runs `indelible_fuzz::operations`, whose header lists the invariants.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| indelible_fuzz::operations::run(bytes));
