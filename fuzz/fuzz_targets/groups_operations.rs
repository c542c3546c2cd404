//! Runs `indelible_fuzz::groups_operations`, whose header lists the invariants.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| indelible_fuzz::groups_operations::run(bytes));
