//! Runs `indelible_fuzz::metadata_slots`, whose header lists the invariants.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| indelible_fuzz::metadata_slots::run(bytes));
